"""The shape of `spec.replication`, with all defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict


if TYPE_CHECKING:
    from chronik.api.sections.resources import Resources


class SourceTls(TypedDict):
    """`spec.replication.sources[].tls`."""

    caSecret: str | None
    certSecret: str | None


class SourceSasl(TypedDict):
    """`spec.replication.sources[].sasl`."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    secret: str


class SourceTopics(TypedDict):
    """`spec.replication.sources[].topics`."""

    include: list[str]
    exclude: list[str]


class SourceGroups(TypedDict):
    """`spec.replication.sources[].groups`."""

    include: list[str]
    exclude: list[str]
    syncOffsets: bool


class ReplicationSource(TypedDict):
    """An item of `spec.replication.sources`: a cluster to copy from."""

    name: str
    bootstrapServers: list[str]
    tls: SourceTls | None
    sasl: SourceSasl | None
    topics: SourceTopics
    groups: SourceGroups
    naming: Literal["Prefixed", "Identity"]
    heartbeats: bool
    tasks: int
    replicas: int
    maxLag: str
    paused: bool
    resources: Resources | None
    config: dict[str, str]


class Replication(TypedDict):
    """`spec.replication`."""

    alias: str | None
    image: str
    probeImage: str | None
    exporterImage: str | None
    sources: list[ReplicationSource]
