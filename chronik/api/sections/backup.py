"""The shape of `spec.backup`, with all defaults filled in, and the receiver that it asks for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, NamedTuple

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict

if TYPE_CHECKING:
    from chronik.api.sections.resources import Resources
    from chronik.manifest import ClusterKey


class BackupVolumes(TypedDict):
    """`spec.backup.volumes`."""

    method: Literal["VolumeSnapshot", "VolumeGroupSnapshot", "None"]
    snapshotClass: str | None
    components: list[str] | None


class BackupArchive(TypedDict):
    """`spec.backup.metastore.archive`."""

    enabled: bool
    interval: str
    resources: Resources | None


class BackupMetastore(TypedDict):
    """`spec.backup.metastore`."""

    method: Literal["Dump", "None"]
    image: str | None
    archive: BackupArchive


class BackupEncryption(TypedDict):
    """`spec.backup.encryption`."""

    secret: str
    keys: list[str]


class BackupBucket(TypedDict):
    """`spec.backup.destination.s3`."""

    bucket: str
    prefix: str | None
    region: str
    endpoint: str | None
    credentialsSecret: str | None


class BackupGcs(TypedDict):
    """`spec.backup.destination.gcs`."""

    bucket: str
    prefix: str | None
    credentialsSecret: str | None


class BackupAzure(TypedDict):
    """`spec.backup.destination.azure`."""

    container: str
    account: str
    prefix: str | None
    credentialsSecret: str | None


class BackupClaim(TypedDict):
    """`spec.backup.destination.claim`."""

    name: str


class BackupDestination(TypedDict):
    """`spec.backup.destination`."""

    s3: BackupBucket | None
    gcs: BackupGcs | None
    azure: BackupAzure | None
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
    immediate: bool
    startingDeadline: str
    keep: BackupKeep


class Backup(TypedDict):
    """`spec.backup`."""

    volumes: BackupVolumes
    metastore: BackupMetastore
    destination: BackupDestination | None
    encryption: BackupEncryption | None
    schedules: list[BackupSchedule]
    onClusterDeletion: Literal["Keep", "Delete"]


def archives(backup: Backup | None) -> bool:
    """Return whether the write-ahead log of the metastore is received, so that backups of it are whole copies."""
    return backup is not None and backup["metastore"]["method"] == "Dump" and backup["metastore"]["archive"]["enabled"]


_SLACK = 60
"""Seconds that a receiver may be behind beyond two of its intervals."""


class Receiver(NamedTuple):
    """What receives the write-ahead log of a metastore; templates see it as `receiver`, and as `component`."""

    slot: str
    interval: str
    resources: Resources

    @property
    def late(self) -> int:
        """After how many seconds without progress it is not ready."""
        return 2 * int(self.interval[:-1]) + _SLACK


_RESOURCES: Resources = {"cpu": "100m", "memory": "128Mi", "cpuLimit": None, "memoryLimit": "512Mi"}


def receiver(backup: Backup | None, key: ClusterKey) -> Receiver | None:
    """Return the receiver of a cluster, if it is to have one.

    Its replication slot is named for the cluster: several may share a server, and two of one name be in two namespaces.
    """
    if backup is None or not archives(backup):
        return None
    archive = backup["metastore"]["archive"]
    digest = hashlib.sha256(str(key).encode()).hexdigest()[:8]
    slot = f"chronik_{key.name.replace('-', '_')}_{digest}"
    return Receiver(slot, archive["interval"], archive["resources"] or _RESOURCES)
