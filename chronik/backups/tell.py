"""What a backup says of itself to people: its conditions, what it waits for, and what was not well with its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.status.compute import Reason, condition, merge_conditions
from chronik.wording import MOST_NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.manifest import Manifest
    from chronik.status.compute import Condition

SNAPSHOTS_UNAVAILABLE = (
    "This Kubernetes has no VolumeSnapshots. Install the CRDs and the snapshot controller of "
    "github.com/kubernetes-csi/external-snapshotter, and a CSI driver that makes snapshots; or set "
    "spec.backup.volumes.method to None, if the volumes are backed up by others"
)


def conditions(
    status: Mapping[str, Any], old: Iterable[Condition], why: Reason | None, now: str, generation: int
) -> list[Condition]:
    """Return the conditions of a backup; `why` is what it waits for before its beginning, or why it failed."""
    found = [_completed(status, why), *_of_parts(status)]
    return merge_conditions(old, found, now, generation)


def _completed(status: Mapping[str, Any], why: Reason | None) -> Condition:
    phase = str(status["phase"])
    ill = (status.get("cluster") or {}).get("unhealthy")
    beside = f". The cluster was not healthy when it began: {ill}" if ill else ""
    if phase == "Completed":
        return condition("Completed", met=True, reason="Completed", message=f"All parts are there{beside}")
    if why is not None:
        return condition("Completed", met=False, reason=why.reason, message=why.message + beside)
    return condition("Completed", met=False, reason=phase, message=progress_of(status) + beside)


def _of_parts(status: Mapping[str, Any]) -> list[Condition]:
    found = []
    volumes, metastore = status.get("volumes") or (), status.get("metastore")
    if volumes:
        ready = all(each.get("ready") for each in volumes)
        reason = "AllReady" if ready else "NotReady"
        message = "; ".join([*_of_group(status), _snapshots(volumes)])
        found.append(condition("SnapshotsReady", met=ready, reason=reason, message=message))
    if metastore is not None:
        done, error = bool(metastore["ready"]), str(metastore.get("error", ""))
        reason = "Dumped" if done else "NotDumped"
        found.append(condition("MetastoreDumped", met=done, reason=reason, message=error))
        found += [_verified(metastore, status.get("verification") or {}), *_recorded(status.get("record") or {})]
    return found


def _verified(metastore: Mapping[str, Any], check: Mapping[str, Any]) -> Condition:
    """Return what the last check found, if there was one since the dump was read back."""
    if check.get("result") == "Failed":
        return condition("Verified", met=False, reason="Damaged", message=str(check.get("message", "")))
    if check.get("result") == "Passed" and check.get("restoreTest"):
        rows = f"{check['rows']:,} rows were restored" if "rows" in check else ""
        return condition("Verified", met=True, reason="RestoreTested", message=rows)
    read = bool(metastore.get("verified"))
    return condition("Verified", met=read, reason="ReadBack" if read else "NotReadBack", message="")


def _recorded(record: Mapping[str, Any]) -> list[Condition]:
    """Return whether the store has the description of the backup, once that is decided."""
    if not record:
        return []
    if "error" not in record:
        return [condition("Recorded", met=True, reason="Recorded", message=str(record.get("object", "")))]
    text = f"backup.json is not beside the dump, so only this Kubernetes knows the snapshots: {record['error']}"
    return [condition("Recorded", met=False, reason="NotRecorded", message=text)]


def progress_of(status: Mapping[str, Any]) -> str:
    """Return what is missing of a backup, part by part."""
    metastore, volumes = status.get("metastore"), status.get("volumes") or ()
    parts = []
    if metastore is not None and not metastore["ready"]:
        error = metastore.get("error")
        parts.append(f"the metastore is not dumped yet{f' ({error})' if error else ''}")
    parts += _of_group(status)
    if not all(each.get("ready") for each in volumes):
        parts.append(_snapshots(volumes))
    return "; ".join(parts) or "all parts are there"


def _of_group(status: Mapping[str, Any]) -> list[str]:
    group = status.get("group") or {}
    return [f"the VolumeGroupSnapshot {group['name']}: {group['error']}"] if group.get("error") else []


def _snapshots(volumes: Iterable[Mapping[str, Any]]) -> str:
    every = [*volumes]
    missing = [each for each in every if not each.get("ready")]
    text = f"{len(every) - len(missing)} of {len(every)} snapshots are ready"
    named = [f"{each['claim']} {_how(each)}" for each in missing[:MOST_NAMED]]
    more = [f"{len(missing) - MOST_NAMED} more"] if len(missing) > MOST_NAMED else []
    return f"{text}: {', '.join([*named, *more])}" if named else text


def _how(volume: Mapping[str, Any]) -> str:
    if volume.get("error"):
        return f"({volume['error']})"
    return "is cut, and not ready yet" if "createdAt" in volume else "is not cut yet"


def unhealthy(document: Manifest) -> str:
    """Return what is not well with a cluster, as its Ready condition says; empty if all is."""
    found = {each["type"]: each for each in (document.get("status") or {}).get("conditions") or ()}
    ready = found.get("Ready")
    if ready is None:
        return "nothing is known of it yet"
    return "" if ready["status"] == "True" else str(ready["message"])
