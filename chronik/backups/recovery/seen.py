"""What is there for a recovery, and what of it is checked: the facts that decisions are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.backups.recovery.claims import Node
    from chronik.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there for a recovery, as the server has it now.

    `backups` are those that the document may mean. `recorded` is the cluster that was backed up, as it was then; None
    if its spec cannot be read. `contents` are the snapshots' contents by name, `volumes` the PersistentVolumes,
    `claims` those of the namespace by name. `result` is what the Job's container said at its end. `base` is the backup
    with the copy of the metastore's server, if a moment is asked for, and `base_recorded` the cluster as it was then.
    """

    backups: Sequence[Manifest] = ()
    recorded: Cluster | None = None
    base: Manifest | None = None
    base_recorded: Cluster | None = None
    snapshots: Mapping[str, Manifest] = field(default_factory=dict)
    contents: Mapping[str, Manifest] = field(default_factory=dict)
    classes: Sequence[Manifest] = ()
    volumes: Sequence[Manifest] = ()
    claims: Mapping[str, Manifest] = field(default_factory=dict)
    job: Manifest | None = None
    result: Mapping[str, Any] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    """Why parts could not be made, by their names."""
    has_snapshots: bool = True
    image: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What is checked: the new cluster, its nodes, the backup, and what is there.

    `target` is the moment that the metastore is to be recovered to, by the log; empty if it is the backup's own.
    """

    cluster: Cluster
    nodes: list[Node]
    backup: Manifest
    seen: Seen
    target: str = ""

    @property
    def restored(self) -> list[Node]:
        """The nodes whose volumes are to be made from snapshots."""
        return [each for each in self.nodes if each.volume]

    @property
    def missing(self) -> list[Node]:
        """Those of them whose claims are not there yet."""
        return [each for each in self.restored if each.claim not in self.seen.claims]

    @property
    def uid(self) -> str:
        """The uid of the backup."""
        return str(self.backup["metadata"]["uid"])

    @property
    def wants_metastore(self) -> bool:
        """Whether a dump is to be restored; nodes of topology Unified keep the metadata themselves."""
        bootstrap = self.cluster.spec["bootstrap"]
        assert bootstrap
        return self.cluster.spec["topology"] == "Roles" and bootstrap["recovery"]["metastore"] != "Skip"
