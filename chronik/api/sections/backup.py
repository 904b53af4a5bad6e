"""The shape of `spec.backup`, with all defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict


class BackupVolumes(TypedDict):
    """`spec.backup.volumes`."""

    method: Literal["VolumeSnapshot", "None"]
    snapshotClass: str | None
    components: list[str] | None


class BackupMetastore(TypedDict):
    """`spec.backup.metastore`."""

    method: Literal["Dump", "None"]
    image: str | None


class BackupBucket(TypedDict):
    """`spec.backup.destination.s3`."""

    bucket: str
    prefix: str | None
    region: str
    endpoint: str | None
    credentialsSecret: str | None


class BackupClaim(TypedDict):
    """`spec.backup.destination.claim`."""

    name: str


class BackupDestination(TypedDict):
    """`spec.backup.destination`."""

    s3: BackupBucket | None
    claim: BackupClaim | None


class BackupKeep(TypedDict):
    """`spec.backup.schedules[].keep`."""

    last: int
    maxAge: str | None


class BackupSchedule(TypedDict):
    """`spec.backup.schedules[]`."""

    name: str
    cron: str
    timeZone: str
    suspend: bool
    startingDeadline: str
    keep: BackupKeep


class Backup(TypedDict):
    """`spec.backup`."""

    volumes: BackupVolumes
    metastore: BackupMetastore
    destination: BackupDestination | None
    schedules: list[BackupSchedule]
    onClusterDeletion: Literal["Keep", "Delete"]
