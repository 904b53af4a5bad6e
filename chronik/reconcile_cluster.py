"""What the operator does to a ChronikCluster itself: claim it, write its status, and let it go.

`reconcile` calls these. Each writes with a server-side apply that holds only for the very object that was read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chronik.apply import carry_out
from chronik.errors import ObjectChanged, ObjectMissing
from chronik.manifest import CLUSTER, ClusterKey
from chronik.reconcile_world import Outcome, World, status_of
from chronik.retention import leftovers
from chronik.status import deleting, pending, refused
from chronik.verdict import NOTHING_DONE, announcements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chronik.manifest import Manifest
    from chronik.status import Trouble

FINALIZER = "chronik.stream/finalizer"
PAUSED = "chronik.stream/paused"


def is_paused(document: Manifest) -> bool:
    """Tell whether somebody wants the operator to keep its hands off."""
    return (document["metadata"].get("annotations") or {}).get(PAUSED) == "true"


def is_claimed(document: Manifest) -> bool:
    """Tell whether the operator has announced itself: with its finalizer, and with a first status."""
    return FINALIZER in (document["metadata"].get("finalizers") or ()) and bool(status_of(document).get("phase"))


async def claim(document: Manifest, world: World) -> Outcome:
    """Hold a cluster that is new, so that its deletion waits for us, and say that it was seen."""
    if FINALIZER not in (document["metadata"].get("finalizers") or ()):
        held = _identity(document)
        held["metadata"]["finalizers"] = [FINALIZER]
        world.cache.wrote(await world.kube.apply(held))
    if not status_of(document).get("phase"):
        await write_status(document, pending({}, world.now(), document["metadata"]["generation"]), world)
    return Outcome("claimed", phase="Pending")


async def refuse(document: Manifest, failure: Trouble, world: World) -> Outcome:
    """Say that a spec cannot be used; nothing is created or changed for it."""
    status = refused(status_of(document), failure, world.now(), document["metadata"]["generation"])
    wrote = await write_status(document, status, world)
    for news in announcements(NOTHING_DONE, status_of(document), status):
        world.announce(document, news)
    return Outcome("failed", "permanent", "Failed", trouble=failure, wrote=wrote)


async def finalize(document: Manifest, world: World) -> Outcome:
    """Do what the garbage collector cannot when a cluster goes, then let it go. The spec need not be valid."""
    if FINALIZER not in (document["metadata"].get("finalizers") or ()):
        return Outcome("deleted", phase="Deleting")
    if status_of(document).get("phase") != "Deleting":
        status = deleting(status_of(document), world.now(), document["metadata"]["generation"])
        await write_status(document, status, world)
    key = ClusterKey(document["metadata"]["namespace"], document["metadata"]["name"])
    report = await carry_out(leftovers(document, world.cache.view(key).claims), world.execution)
    error = report.error()
    if error is not None:
        raise error
    with suppress(ObjectMissing, ObjectChanged):  # an event is on its way that says what became of it
        world.cache.wrote(await world.kube.apply(_identity(document)))
    return Outcome("deleted", phase="Deleting", report=report)


def _identity(document: Manifest) -> Manifest:
    """Return an apply of nothing to a cluster, if it still is the same one."""
    metadata = document["metadata"]
    return {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
    }


async def write_status(document: Manifest, status: Mapping[str, Any], world: World) -> bool:
    """Write a status, if it says anything new, and tell whether it did."""
    if status == status_of(document):
        return False
    try:
        answer = await world.kube.apply(_identity(document) | {"status": status}, force=True, subresource="status")
    except (ObjectMissing, ObjectChanged):
        return True  # the cluster has gone, and an event is on its way that says so
    world.cache.wrote(answer)
    return True
