"""What `chronik replication status` shows: a line for each mirror, or the same as JSON."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.report.page import BOLD, GREEN, RED, YELLOW, Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.replication.copies import CopyState
    from chronik.manifest import ClusterKey
    from chronik.status.replication import MirrorStatus

_HEAD = ("NAMESPACE", "CLUSTER", "SOURCE", "STATE", "PODS", "LAG", "MESSAGE")
_COLOURS = {"Replicating": GREEN, "Paused": "", "MirrorFailed": RED}


class ClusterMirrors(NamedTuple):
    """The mirrors of one cluster, and what their probes know of the copies, by source."""

    key: ClusterKey
    mirrors: tuple[MirrorStatus, ...]
    copies: Mapping[str, CopyState] = MappingProxyType({})


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
            cells = (each.key.namespace, each.key.name, *_cells(mirror, each.copies.get(mirror.source)))
            rows.append([(cell, _COLOURS.get(mirror.state, YELLOW)) for cell in cells])
    page.columns(rows, cut=True)
    return page.text


def _cells(mirror: MirrorStatus, copy: CopyState | None) -> tuple[str, ...]:
    lag = "-" if copy is None or copy.lag is None else f"{copy.lag:.0f}s"
    message = mirror.message or (copy.words if copy else "")
    return mirror.source, mirror.state, f"{mirror.ready}/{mirror.wanted}", lag, message or "-"


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
                        "copy": each.copies[mirror.source].as_data() if mirror.source in each.copies else None,
                    }
                    for mirror in each.mirrors
                ],
            }
            for each in clusters
        ]
    }
