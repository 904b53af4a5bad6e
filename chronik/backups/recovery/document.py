"""The document of a cluster that is made from a backup: the spec that was backed up, and where it begins."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.backups.document import status_of
from chronik.manifest import API_VERSION, CLUSTER_KIND, CLUSTER_LABEL, SCHEDULE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest


class NewCluster(NamedTuple):
    """What is asked of a new cluster: `source` is `spec.bootstrap.recovery.from`.

    `database` is the name of its metastore's database; None leaves it as it was.
    """

    name: str
    source: Mapping[str, str]
    metastore: str = "Restore"
    nodes: str = "Same"
    database: str | None = None


def document_of(backup: Manifest, wanted: NewCluster) -> Manifest:
    """Return the ChronikCluster that is made from a backup; it differs from the one backed up by what is asked."""
    spec: dict[str, Any] = copy.deepcopy(dict(status_of(backup)["cluster"]["spec"]))
    if wanted.database is not None:
        spec["metastore"]["connection"]["database"] = wanted.database
    recovery: dict[str, Any] = {"from": dict(wanted.source)}
    recovery |= {"metastore": wanted.metastore} if wanted.metastore != "Restore" else {}
    recovery |= {"nodes": wanted.nodes} if wanted.nodes != "Same" else {}
    spec["bootstrap"] = {"recovery": recovery}
    labels = {
        key: value
        for key, value in (backup["metadata"].get("labels") or {}).items()
        if key not in {CLUSTER_LABEL, SCHEDULE_LABEL}  # what is left is the cluster's own: its operator goes by it
    }
    metadata = {"name": wanted.name, "namespace": backup["metadata"]["namespace"]}
    return {
        "apiVersion": API_VERSION,
        "kind": CLUSTER_KIND,
        "metadata": {**metadata, **({"labels": labels} if labels else {})},
        "spec": spec,
    }


def has_database(backup: Manifest) -> bool:
    """Return whether the cluster that was backed up names the database of its metastore."""
    metastore = status_of(backup)["cluster"]["spec"].get("metastore") or {}
    return "database" in (metastore.get("connection") or {})
