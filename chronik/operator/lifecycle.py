"""What the operator does to a ChronikCluster itself: claim it, write its status, and let it go.

Each writes with a server-side apply that holds only for the very object that was read.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from chronik.apply.executor import execute
from chronik.errors import ApiError, ChronikError, Forbidden, ObjectChanged, ObjectMissing
from chronik.manifest import (
    BACKUP,
    CLUSTER,
    CLUSTER_LABEL,
    FINALIZER,
    KIND_BY_NAME,
    POD,
    SECRET,
    ClusterKey,
    ObjectRef,
    is_paused,
)
from chronik.operator.aliases.tend import end_aliases
from chronik.operator.context import ReconcileContext, ReconcileResult, status_of
from chronik.operator.deadline import is_overdue
from chronik.plan.deletion import backups_go, is_orphaned, is_orphaning, left_behind, leftovers, when_deleted
from chronik.status.assess import NOTHING_DONE, describe_error, pause
from chronik.status.events import Announcement, announcements
from chronik.status.health import is_rolling
from chronik.status.outcomes import deleting, pending, refused
from chronik.status.own import template_conditions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chronik.manifest import Kind, Manifest
    from chronik.plan.results import Report
    from chronik.status.compute import Reason

_log = logging.getLogger("chronik.operator")

_TRIES = 5


def is_deleting(document: Manifest) -> bool:
    """Return whether a cluster is being deleted."""
    return "deletionTimestamp" in document["metadata"]


def is_claimed(document: Manifest) -> bool:
    """Return whether the operator has announced itself: with its finalizer, and with a first status."""
    return FINALIZER in (document["metadata"].get("finalizers") or ()) and bool(status_of(document).get("phase"))


def forget(key: ClusterKey, context: ReconcileContext) -> ReconcileResult:
    """Forget a cluster that is gone."""
    context.flapping.pop(key, None)
    context.creation.pop(key, None)
    context.deadlines.forget(key)
    if context.analyst is not None:
        context.analyst.forget(key)
    for known in [each for each in context.revisions if each[0] == key]:
        del context.revisions[known]
    for kind in (SECRET, KIND_BY_NAME["Service"]):
        context.cache.uses(key, kind, ())
    context.cache.waits_for(key, ())
    return ReconcileResult("gone")


async def claim(document: Manifest, secrets: Mapping[str, str], context: ReconcileContext) -> ReconcileResult:
    """Claim a new cluster: with a finalizer, so that its deletion waits for us, and a first status with its Secrets."""
    await hold(document, context, CLUSTER)
    if not status_of(document).get("phase"):
        digests = {"secretDigests": dict(secrets)} if secrets else {}
        await write_status(document, pending(digests, context.now(), _generation(document)), context)
    now = context.cache.cluster(ClusterKey.of(document))
    done = now is not None and is_claimed(now)  # if not, it has gone, and an event is on its way that says so
    return ReconcileResult("claimed" if done else "waiting", phase="Pending")


async def reject(document: Manifest, failure: Reason, context: ReconcileContext) -> ReconcileResult:
    """Say in the status that a spec cannot be used; nothing is created or changed for it."""
    told = [*pause(paused=is_paused(document)), *template_conditions(context.templates_trouble())]
    status = refused(status_of(document), failure, context.now(), _generation(document), told)
    wrote = await write_status(document, status, context)
    record_events(document, NOTHING_DONE, status, context)
    return ReconcileResult("failed", "permanent", "Failed", reason=failure, wrote=wrote)


def record_events(document: Manifest, report: Report, status: Mapping[str, Any], context: ReconcileContext) -> None:
    """Record announcements as Events and in the log; how the pass itself ends is logged elsewhere."""
    for event in announcements(report, status_of(document), status):
        if event.type == "Warning" and event.reason != status["conditions"][0]["reason"]:
            _log.warning("%s: %s", event.reason, event.note)
        context.announce(document, event)


async def finalize(document: Manifest, context: ReconcileContext) -> ReconcileResult:
    """Do what the garbage collector cannot when a cluster goes, then let it go. The spec need not be valid."""
    if FINALIZER not in (document["metadata"].get("finalizers") or ()):
        return ReconcileResult("deleted", phase="Deleting")
    if status_of(document).get("phase") != "Deleting":
        await write_if_possible(document, deleting(status_of(document), context.now(), _generation(document)), context)
    try:
        report = await _cleared(document, context)
    except ChronikError as error:
        failure = describe_error(error)
        await write_if_possible(
            document, deleting(status_of(document), context.now(), _generation(document), failure), context
        )
        context.announce(document, Announcement("Warning", *failure))
        raise
    await let_go(document, context, CLUSTER)
    _log.info("lets the cluster go; the garbage collector deletes its objects")
    return ReconcileResult("deleted", phase="Deleting", report=report)


async def write_if_possible(document: Manifest, status: Mapping[str, Any], context: ReconcileContext) -> None:
    """Write a status if possible: a document that the server accepts no apply for any more has to go, too."""
    try:
        await write_status(document, status, context)
    except ApiError as error:
        _log.warning("its status cannot be written: %s", describe_error(error).message)


async def _cleared(document: Manifest, context: ReconcileContext) -> Report:
    """Delete the volumes that are to go with a cluster and that nothing else would take along."""
    key = ClusterKey.of(document)
    for backup in context.cache.backups(key) if backups_go(document) else ():
        await context.kube.delete(BACKUP, ObjectRef.of(backup), uid=backup["metadata"]["uid"])
    children = await _children(key, context) if when_deleted(document) == "Delete" else []
    await _end_pods(document, context)
    await end_aliases(document, context)
    report = await execute(leftovers(document, context.cache.view(key, document).claims, children), context.execution)
    error = report.error()
    if error is not None:
        raise error
    return report


async def _end_pods(document: Manifest, context: ReconcileContext) -> None:
    """Delete the pods that no StatefulSet takes along, because it was being created anew when the cluster was deleted.

    Without the right to do so they are told of, and stay.
    """
    key, uid = ClusterKey.of(document), document["metadata"]["uid"]
    pods = left_behind(context.cache.view(key, document))
    if not pods or is_orphaning(document) or is_orphaned(await _children(key, context), uid):
        return
    for each in pods:
        ref = ObjectRef(POD.name, key.namespace, each["metadata"]["name"])
        try:
            await context.kube.delete(POD, ref, uid=each["metadata"]["uid"])
        except (ObjectMissing, ObjectChanged):
            continue  # it has gone, or another has its name
        except Forbidden as error:
            note = f"Pods are left whose StatefulSet is gone, {ref} among them: {describe_error(error).message}"
            _log.warning("PodsLeft: %s", note)
            context.announce(document, Announcement("Warning", "PodsLeft", note))
            return


def _generation(document: Manifest) -> int:
    return int(document["metadata"]["generation"])


async def hold(document: Manifest, context: ReconcileContext, kind: Kind) -> None:
    """Add our finalizer, if it is not there yet."""
    if FINALIZER in (document["metadata"].get("finalizers") or ()):
        return
    held = _identity(document, kind)
    held["metadata"]["finalizers"] = [FINALIZER]
    context.cache.observe_write(await context.kube.apply(held))


async def let_go(document: Manifest, context: ReconcileContext, kind: Kind) -> None:
    """Remove our finalizer, even if others own it too, and leave those of others.

    An apply without it is not enough: a person who once applied an exported document owns it as well.
    """
    ref = ObjectRef.of(document)
    for _ in range(_TRIES):
        live = await context.kube.get(kind, ref.namespace, ref.name)
        if live is None or live["metadata"]["uid"] != document["metadata"]["uid"]:
            return
        finalizers = live["metadata"].get("finalizers") or ()
        if FINALIZER not in finalizers:
            return
        kept = [each for each in finalizers if each != FINALIZER]
        version = live["metadata"]["resourceVersion"]
        with suppress(ObjectMissing, ObjectChanged):
            patch = {"metadata": {"resourceVersion": version, "finalizers": kept}}
            context.cache.observe_write(await context.kube.merge(kind, ref, patch))
            return
    raise ObjectChanged("keeps being changed by others, so it could not be let go of", subject=str(ref))


def _identity(document: Manifest, kind: Kind) -> Manifest:
    """Return an apply of nothing to a document, if it still is the same one."""
    metadata = document["metadata"]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
    }


async def _children(key: ClusterKey, context: ReconcileContext) -> list[Manifest]:
    """Return what a cluster has, asked of the server itself: before data is deleted, a cache is not good enough."""
    kinds = (KIND_BY_NAME[name] for name in ("ConfigMap", "StatefulSet"))
    selector = f"{CLUSTER_LABEL}={key.name}"
    return [
        child
        for kind in kinds
        for child in (await context.kube.list(kind, key.namespace, label_selector=selector)).items
    ]


async def write_status(
    document: Manifest, status: Mapping[str, Any], context: ReconcileContext, kind: Kind = CLUSTER
) -> bool:
    """Write a status, if it says anything new, and return whether it did.

    Raises:
        ObjectChanged: others write to the document all the time; the server gave up each time.
    """
    if status == status_of(document):
        return False
    wanted, key = _identity(document, kind) | {"status": status}, ClusterKey.of(document)
    for left in reversed(range(_TRIES)):
        try:
            answer = await context.kube.apply(wanted, force=True, subresource="status")
        except ObjectMissing:
            return True  # an event is on its way that says so
        except ObjectChanged:
            live = await context.kube.get(kind, key.namespace, key.name)
            if live is None or live["metadata"]["uid"] != document["metadata"]["uid"]:
                return True  # likewise
            if not left:
                raise
        else:
            context.cache.observe_write(answer)
            break
    return True


def other_upgrade(document: Manifest, context: ReconcileContext) -> ClusterKey | None:
    """Return another cluster that is being updated, if this one's pods would restart for no reason but a new chronik.

    A person who changed the spec does not wait for others.
    """
    status = status_of(document)
    if status.get("operatorVersion") in {None, context.version}:
        return None
    if status.get("observedGeneration") != _generation(document):
        return None
    mine = ClusterKey.of(document)
    for other in (*sorted(context.upgrading), *sorted(context.cache.clusters())):
        if other != mine and _is_updating(other, context):
            return other
    context.upgrading.add(mine)
    return None


def _is_updating(key: ClusterKey, context: ReconcileContext) -> bool:
    document = context.cache.cluster(key)
    if document is None or is_paused(document):  # a paused one stays as it is for as long as a person wants
        return False
    status = status_of(document)
    if is_overdue(status):  # what does not come further must not keep all others from the new version
        return False
    if status.get("pendingRestarts"):  # until its window opens
        return False
    if (status.get("rollout") or {}).get("phase") == "Paused":  # for as long as a person wants, too
        return False
    if status.get("phase") != "Running" or status.get("operatorVersion") == context.version:
        return status.get("phase") == "Updating"
    # A process that was killed may have begun the roll before any status told of it.
    return key in context.upgrading or any(map(is_rolling, context.cache.workloads(key)))
