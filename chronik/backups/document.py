"""What a ChronikBackup says of itself: its phase, its cluster, its schedule, and its times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.manifest import SCHEDULE_LABEL, ClusterKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest

PHASES = ("Pending", "Running", "Finalizing", "Completed", "Failed", "Deleting")
DONE = frozenset({"Completed", "Failed"})
SCHEDULED_AT = "chronik.stream/scheduled-at"
"""The annotation that says which due time of its schedule a backup was made for."""
IMPORTED = "chronik.stream/imported-from"
"""The annotation of a backup of another Kubernetes: its id in the store, which was its uid there."""
LEAVE_DATA = "chronik.stream/leave-data"
"""The annotation that lets a deleted backup go though its data cannot be deleted, with the value "true"."""


def stored_id(backup: Manifest) -> str:
    """Return the id under which a backup lies in its store."""
    metadata = backup["metadata"]
    return str((metadata.get("annotations") or {}).get(IMPORTED) or metadata["uid"])


def is_being_imported(backup: Manifest) -> bool:
    """Return whether a command is at work that makes a backup of another Kubernetes known: nothing is made for it."""
    return IMPORTED in (backup["metadata"].get("annotations") or {}) and not status_of(backup).get("phase")


def status_of(backup: Manifest) -> Mapping[str, Any]:
    """Return what the operator has written of a backup; of a new one, nothing."""
    return backup.get("status") or {}


def phase_of(backup: Manifest) -> str:
    """Return the phase of a backup: a new one is Pending, and one that is being deleted is Deleting."""
    if "deletionTimestamp" in backup["metadata"]:
        return "Deleting"
    return str(status_of(backup).get("phase") or "Pending")


def is_usable(backup: Manifest) -> bool:
    """Return whether a cluster can be made from a backup, and will be for as long as nobody deletes it."""
    return phase_of(backup) == "Completed" and bool(status_of(backup).get("usable"))


def cluster_of(backup: Manifest) -> ClusterKey:
    """Return which cluster a backup is of."""
    return ClusterKey(backup["metadata"]["namespace"], backup["spec"]["cluster"])


def schedule_of(backup: Manifest) -> str:
    """Return the name of the schedule that made a backup; empty if a person did."""
    return str((backup["metadata"].get("labels") or {}).get(SCHEDULE_LABEL, ""))


def scheduled_at(backup: Manifest) -> str:
    """Return when a backup was due, or else when it was made."""
    metadata = backup["metadata"]
    return str((metadata.get("annotations") or {}).get(SCHEDULED_AT) or metadata.get("creationTimestamp", ""))


def ended_at(backup: Manifest) -> str:
    """Return when a backup was cut, or had failed; else when it was made."""
    status = status_of(backup)
    return str(status.get("cutAt") or status.get("completedAt") or backup["metadata"].get("creationTimestamp", ""))
