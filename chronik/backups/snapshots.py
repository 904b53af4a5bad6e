"""What a VolumeSnapshot says of a volume's copy: when it was cut, and whether a volume can be made from it.

A snapshot and its content have to name each other, since anybody can write a content that names a snapshot. Fields:
https://kubernetes.io/docs/concepts/storage/volume-snapshots/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chronik.manifest import BACKUP_LABEL
from chronik.times import from_nanoseconds, moment, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.backups.parts import Volume
    from chronik.manifest import Manifest

    class Seen(Protocol):
        """The snapshots of a backup and their contents, by their names."""

        @property
        def snapshots(self) -> Mapping[str, Manifest]:
            """The VolumeSnapshots."""

        @property
        def contents(self) -> Mapping[str, Manifest]:
            """The VolumeSnapshotContents that may be read."""


class Lost(Exception):  # it is how a part is, and ends a plan, not the program
    """A snapshot that was there is gone, or is none of this backup's; the text says which."""


def with_snapshot(volume: Volume, backup: Manifest, seen: Seen) -> Volume:
    """Return a volume of a backup with what is known of its snapshot by now.

    Raises:
        Lost: the snapshot is gone after it was cut, or the one of its name belongs to something else.
    """
    snapshot = seen.snapshots.get(volume["snapshot"])
    if snapshot is None:
        if "createdAt" in volume:
            raise Lost(f"The VolumeSnapshot {volume['snapshot']} was cut, and is gone")
        return volume
    labels = snapshot["metadata"].get("labels") or {}
    if labels.get(BACKUP_LABEL) != backup["metadata"]["uid"]:
        raise Lost(f"The VolumeSnapshot {volume['snapshot']} is there already, and is not of this backup")
    known = {key: value for key, value in volume.items() if key not in {"error", "ready"}}
    status = snapshot.get("status") or {}
    bound = status.get("boundVolumeSnapshotContentName")
    content = seen.contents.get(bound) if bound else None
    strange = _mismatch(snapshot, content) if bound and content is not None else ""
    found: dict[str, Any] = {
        "content": bound,
        "createdAt": _cut_at(status, content),
        "restoreSize": status.get("restoreSize"),
        **(_of_content(content) if content and not strange else {}),
    }
    error = strange or str((status.get("error") or {}).get("message", ""))
    ready = bool(status.get("readyToUse")) and bool(bound) and not strange
    return {
        **known,
        **{key: value for key, value in found.items() if value},
        **({"error": error[:4096]} if error and not ready else {}),
        "ready": ready,
    }


def _mismatch(snapshot: Manifest, content: Manifest) -> str:
    """Return how a content and the snapshot that names it do not fit; empty if they do."""
    metadata, ref = snapshot["metadata"], content.get("spec", {}).get("volumeSnapshotRef") or {}
    wanted = {"namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
    if all(ref.get(key) == value for key, value in wanted.items()):
        return ""
    other = f"{ref.get('namespace')}/{ref.get('name')}"
    name = content["metadata"]["name"]
    return (
        f"the content {name} that it is bound to names another snapshot, {other}, so its data may be of something else"
    )


def _cut_at(status: Mapping[str, Any], content: Manifest | None) -> str:
    if status.get("creationTime"):
        return written(moment(status["creationTime"]))
    cut = (content or {}).get("status", {}).get("creationTime")
    return from_nanoseconds(int(cut)) if cut and status.get("readyToUse") else ""


def _of_content(content: Manifest) -> dict[str, Any]:
    return {
        "driver": content.get("spec", {}).get("driver"),
        "handle": (content.get("status") or {}).get("snapshotHandle"),
    }
