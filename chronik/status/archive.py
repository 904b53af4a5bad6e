"""How the archive of a cluster's metastore is, from its Deployment and pod alone.

The receiver's container says it by its probes: it is started once it has stored anything, and ready while the store has
what the server had written a moment ago. So the operator opens no connection to either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.api.components import workload_name
from chronik.api.sections.backup import archives
from chronik.manifest import ARCHIVE, ObjectRef, component_of
from chronik.status.health import pod_ready, pod_trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

_BEHIND = (
    "the store does not have what the server has written: it, or the database, cannot be reached, or is too slow. "
    "Meanwhile the server keeps its log: watch its disk"
)


def archive_state(
    cluster: Cluster, objects: Mapping[ObjectRef, Manifest], pods: Sequence[Manifest]
) -> tuple[str, str] | None:
    """Return in one word and in sentences how the archive of a cluster is, None if it is to have none."""
    if not archives(cluster.spec["backup"]):
        return None
    name = workload_name(cluster.name, ARCHIVE)
    if ObjectRef("Deployment", cluster.namespace, name) not in objects:
        return "Starting", f"Deployment {name} does not exist"
    own = [pod for pod in pods if component_of(pod) == ARCHIVE and "deletionTimestamp" not in pod["metadata"]]
    if any(map(pod_ready, own)):
        return "Archiving", ""
    trouble = next((text for pod in own if (text := pod_trouble(pod))), "")
    if trouble:
        return "ArchiveFailed", f"the receiver cannot run: {trouble}"
    if any(map(_started, own)):
        return "ArchiveBehind", _BEHIND
    return "Starting", "the receiver starts"


def _started(pod: Manifest) -> bool:
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(each.get("name") == "receiver" and each.get("started") for each in found)
