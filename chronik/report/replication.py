"""What `chronik replication status` shows: a line for each mirror, or the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.report.page import BOLD, GREEN, RED, YELLOW, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.manifest import ClusterKey
    from chronik.status.replication import MirrorStatus

_HEAD = ("NAMESPACE", "CLUSTER", "SOURCE", "STATE", "PODS", "MESSAGE")
_COLOURS = {"Replicating": GREEN, "Paused": "", "MirrorFailed": RED}


class ClusterMirrors(NamedTuple):
    """The mirrors of one cluster."""

    key: ClusterKey
    mirrors: tuple[MirrorStatus, ...]


def replicates(clusters: Sequence[ClusterMirrors]) -> bool:
    """Return whether there are mirrors, and all that are not paused replicate."""
    states = [mirror.state for each in clusters for mirror in each.mirrors]
    return bool(states) and all(state in {"Replicating", "Paused"} for state in states)


def replication_table(clusters: Sequence[ClusterMirrors], *, width: int | None, color: bool) -> str:
    """Return a table for people, a line for each mirror."""
    page = Page(width, color=color)
    rows = [[(cell, BOLD) for cell in _HEAD]]
    for each in clusters:
        for mirror in each.mirrors:
            pods = f"{mirror.ready}/{mirror.wanted}"
            cells = (each.key.namespace, each.key.name, mirror.source, mirror.state, pods, mirror.message or "-")
            rows.append([(cell, _COLOURS.get(mirror.state, YELLOW)) for cell in cells])
    page.columns(rows, cut=True)
    return page.text


def replication_data(clusters: Sequence[ClusterMirrors]) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "clusters": [
            {
                "namespace": each.key.namespace,
                "name": each.key.name,
                "mirrors": [
                    {
                        "source": mirror.source,
                        "state": mirror.state,
                        "ready": mirror.ready,
                        "wanted": mirror.wanted,
                        "message": mirror.message,
                    }
                    for mirror in each.mirrors
                ],
            }
            for each in clusters
        ]
    }
