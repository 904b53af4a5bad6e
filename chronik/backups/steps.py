"""What a backup is planned by and what a plan says: what is there of it, and what is to be made and removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.backups.parts import Volume
    from chronik.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there of a backup, and of its cluster.

    `document` is its ChronikCluster, and `cluster` the valid cluster in it. `other` is the name of a backup that goes
    first, `result` what the container of the dump's Job said at its end, and `recorded` what that of the record's did.
    `contents` are the snapshots' contents by name; one that may not be read is not in it. `group` is the one snapshot
    of all volumes, `group_content` what it is bound to, and `members` are the snapshots that belong to it;
    `persistent_volumes` are looked at only if a member does not say of which claim it is.
    """

    document: Manifest | None = None
    cluster: Cluster | None = None
    claims: Sequence[Manifest] = ()
    other: str = ""
    job: Manifest | None = None
    result: Mapping[str, Any] | None = None
    record: Manifest | None = None
    recorded: Mapping[str, Any] | None = None
    group: Manifest | None = None
    group_content: Manifest | None = None
    members: Sequence[Manifest] = ()
    persistent_volumes: Sequence[Manifest] = ()
    snapshots: Mapping[str, Manifest] = field(default_factory=dict)
    contents: Mapping[str, Manifest] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    """Why parts could not be made, by their names."""
    has_snapshots: bool = True
    has_groups: bool = True
    image: str = ""


@dataclass(frozen=True, slots=True)
class Make:
    """Make a part: the snapshot of a volume, or a Job. `text` is what a Job that records puts into the store.

    A group is one snapshot of all volumes; a member of it is there, and is labelled if it still is the one with `uid`.
    """

    part: Literal["job", "snapshot", "group", "member", "record", "verify"]
    name: str
    volume: Volume | None = None
    text: str = ""
    restore_test: bool = False
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an object that is needed no longer, if it still is this one."""

    kind: Literal["Job", "VolumeSnapshot", "VolumeGroupSnapshot"]
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What to do now, in this order: make parts, write the status, remove what is needed no longer.

    `waits`: nothing changes but by time or by others, so it is looked at again after a while.
    """

    status: dict[str, Any]
    makes: tuple[Make, ...] = ()
    removes: tuple[Remove, ...] = ()
    waits: bool = True
