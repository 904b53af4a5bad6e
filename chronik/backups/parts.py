"""The parts of a backup: which volumes, and what their snapshots and the Jobs are called.

Names are made from the backup's, always the same, so that a second attempt finds what the first one made.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from chronik.api.components import claim_name_pattern, component_types, workload_name
from chronik.manifest import BACKUP_LABEL, CLUSTER_LABEL, COMPONENT_LABEL, GROUP_SNAPSHOTS
from chronik.quantity import parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

Volume = dict[str, Any]
"""One entry of `status.volumes`."""

_LONGEST_LABEL = 63
_GIB = 1024**3


def job_name(backup: str, what: str) -> str:
    """Return the name of a Job of a backup: at most 63 characters, since its pods bear it in a label."""
    name = f"{backup}-{what}"
    if len(name) <= _LONGEST_LABEL:
        return name
    digest = hashlib.sha256(backup.encode()).hexdigest()[:10]
    return f"{backup[: _LONGEST_LABEL - len(what) - 12].rstrip('-')}-{digest}-{what}"


def labels(backup: Manifest, component: str) -> dict[str, str]:
    """Return the labels of a part of a backup.

    Not managed-by: what bears that label is the cluster's, and would go with it. The backup's uid stands for its name,
    which can be longer than a label.
    """
    return {
        "app.kubernetes.io/name": "chronik-stream",
        "app.kubernetes.io/part-of": "chronik",
        BACKUP_LABEL: backup["metadata"]["uid"],
        CLUSTER_LABEL: backup["spec"]["cluster"],
        COMPONENT_LABEL: component,
    }


def snapshot_name(backup: str, component: str, ordinal: int) -> str:
    """Return the name of the snapshot of a node's volume in a backup."""
    return f"{backup}-{component}-{ordinal}"


def volumes_of(backup: str, cluster: Cluster, claims: Iterable[Manifest]) -> list[Volume]:
    """Return the volumes that a backup of a cluster is to have, in the order in which they are cut."""
    settings = cluster.spec["backup"]
    if settings is None or settings["volumes"]["method"] == "None":
        return []
    wanted, grouped = settings["volumes"]["components"], settings["volumes"]["method"] == GROUP_SNAPSHOTS[0].name
    names = [claim["metadata"]["name"] for claim in claims if "deletionTimestamp" not in claim["metadata"]]
    return [
        {
            "claim": claim,
            "component": each.name,
            "ordinal": ordinal,
            # Those of a group get their names from the snapshot controller.
            **({} if grouped else {"snapshot": snapshot_name(backup, each.name, ordinal)}),
        }
        for each in component_types(cluster.spec["topology"])
        if each.stateful and (wanted is None or each.name in wanted)
        for ordinal, claim in _claims_of(workload_name(cluster.name, each.name), names)
    ]


def _claims_of(workload: str, claims: Iterable[str]) -> Iterator[tuple[int, str]]:
    pattern = claim_name_pattern(workload, "data")
    found = ((pattern.fullmatch(name), name) for name in claims)
    yield from sorted((int(match[1]), name) for match, name in found if match)


def stages(volumes: Iterable[Volume]) -> list[list[Volume]]:
    """Return volumes by component: each stage is cut whole before the next one begins."""
    found: dict[str, list[Volume]] = {}
    for volume in volumes:
        found.setdefault(volume["component"], []).append(volume)
    return [*found.values()]


def size_of(volumes: Iterable[Volume]) -> str:
    """Return how much snapshots hold in all, in whole GiB, rounded up; empty if no driver says so."""
    total = sum(int(parse_quantity(each["restoreSize"])) for each in volumes if each.get("restoreSize"))
    return f"{-(-total // _GIB)}Gi" if total else ""
