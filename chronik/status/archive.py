"""How the archive of a cluster's metastore is, from its Deployment and pod alone.

The receiver's container says it by its probes: it is started once it has stored anything, and ready while the store has
what the server had written a moment ago. So the operator opens no connection to either.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from chronik.api.components import workload_name
from chronik.api.sections.backup import archives
from chronik.manifest import ARCHIVE, ObjectRef, component_of
from chronik.status.health import pod_ready, pod_trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

    class Seen(Protocol):
        """The objects of a cluster by their references, and its pods."""

        @property
        def objects(self) -> Mapping[ObjectRef, Manifest]:
            """The objects."""

        @property
        def pods(self) -> Sequence[Manifest]:
            """The pods."""


SLOT_LEFT = "SlotLeft"
"""The reason of condition Archiving if all goes well, and a server that the archive was on before may have a slot."""
GOES_WELL = frozenset({"Archiving", SLOT_LEFT})

_BEHIND = (
    "the store does not have what the server has written: it, or the database, cannot be reached, or is too slow. "
    "Meanwhile the server keeps its log: watch its disk"
)


def archive_state(cluster: Cluster, seen: Seen) -> tuple[str, str] | None:
    """Return in one word and in sentences how the archive of a cluster is, None if it is to have none."""
    if not archives(cluster.spec["backup"]):
        return None
    name = workload_name(cluster.name, ARCHIVE)
    if ObjectRef("Deployment", cluster.namespace, name) not in seen.objects:
        return "Starting", f"Deployment {name} does not exist"
    own = [pod for pod in seen.pods if component_of(pod) == ARCHIVE and "deletionTimestamp" not in pod["metadata"]]
    left = next((text for pod in own if (text := _slot_left(pod))), "")
    reason, message = _receiving(own)
    if left and reason == "Archiving":
        return SLOT_LEFT, left
    return reason, ". ".join(filter(None, (message, left)))


def _receiving(own: Sequence[Manifest]) -> tuple[str, str]:
    if any(map(pod_ready, own)):
        return "Archiving", ""
    trouble = next((text for pod in own if (text := pod_trouble(pod))), "")
    if trouble:
        return "ArchiveFailed", f"the receiver cannot run: {trouble}"
    if any(map(_started, own)):
        return "ArchiveBehind", _BEHIND
    return "Starting", "the receiver starts"


def _slot_left(pod: Manifest) -> str:
    """Return what a receiver said before it went on at another server: where its slot may be left, and what drops it.

    It stands in the pod's status as long as there is the pod.
    """
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (each.get("lastState") or {}).get("terminated") or {}
        if each.get("name") == "receiver" and SLOT_LEFT in ended.get("message", ""):
            with suppress(ValueError):
                said = json.loads(ended["message"])
                if said.get("reason") == SLOT_LEFT:
                    return f"{said['message']}. {said['hint']}"
    return ""


def _started(pod: Manifest) -> bool:
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(each.get("name") == "receiver" and each.get("started") for each in found)
