"""Loops between clusters: copies of copies, without end. They show only where several documents are seen together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from chronik.api.replication.mirrors import alias_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.api.sections.replication import ReplicationSource
    from chronik.api.spec import Cluster

_LITERAL = re.compile("[A-Za-z0-9_-]+")
"""A name of a topic that is no expression for several."""


class Loop(NamedTuple):
    """Clusters that copy from each other without end. `path` leads to the source whose naming lets it happen."""

    cluster: Cluster
    path: tuple[str | int, ...]
    around: tuple[str, ...]


def loops(clusters: Iterable[Cluster]) -> Iterator[Loop]:
    """Yield the loops among clusters, each once: ways back to where they began, on which a source has naming Identity.

    Where all copies bear the name of their source, mirrors see by it what came from themselves. Which cluster a source
    is, is told by its name or by the addresses that are known here. Ways that share no topic are no loop, as far as
    their topics are plain names.
    """
    flows = list(_flows(list(clusters)))
    told: set[frozenset[str]] = set()
    for flow in flows:
        if flow.source["naming"] != "Identity":
            continue
        way = _way_back(flow, flows)
        around = frozenset(str(each.to.key) for each in way)
        if way and around not in told:
            told.add(around)
            path = ("spec", "replication", "sources", flow.number, "naming")
            yield Loop(flow.to, path, tuple(str(each.to.key) for each in way))


class _Flow(NamedTuple):
    origin: Cluster
    to: Cluster
    number: int
    source: ReplicationSource


def _flows(clusters: list[Cluster]) -> Iterator[_Flow]:
    for to in clusters:
        for index, source in enumerate((to.spec["replication"] or {"sources": []})["sources"]):
            yield from (_Flow(origin, to, index, source) for origin in clusters if _is(source, origin, to))


def _is(source: ReplicationSource, origin: Cluster, to: Cluster) -> bool:
    """Return whether a source of the cluster `to` is the cluster `origin`, as far as documents tell."""
    if origin is to:
        return False
    hosts = {server.rpartition(":")[0] for server in source["bootstrapServers"]}
    return source["name"] == alias_of(origin) or any(_leads_to(host, origin, to) for host in hosts)


def _leads_to(host: str, origin: Cluster, to: Cluster) -> bool:
    name, *rest = host.split(".")
    namespace = rest[0] if rest else to.namespace
    if len(rest) > 1 and rest[1] != "svc":
        return False
    return name.startswith(f"{origin.name}-") and namespace == origin.namespace


def _way_back(flow: _Flow, flows: list[_Flow]) -> tuple[_Flow, ...]:
    """Return the shortest way from where a flow ends to where it begins, itself first; nothing if there is none."""
    ways: list[tuple[_Flow, ...]] = [(flow,)]
    seen = {flow.to.key}
    while ways:
        way = ways.pop(0)
        if way[-1].to.key == flow.origin.key:
            return way
        for onward in flows:
            if onward.origin.key == way[-1].to.key and onward.to.key not in seen and _share(flow, onward):
                seen.add(onward.to.key)
                ways.append((*way, onward))
    return ()


def _share(one: _Flow, other: _Flow) -> bool:
    """Return whether two flows may copy the same topic; only of plain names that is known."""
    names = [set(each.source["topics"]["include"]) for each in (one, other)]
    return any(not _LITERAL.fullmatch(name) for each in names for name in each) or bool(names[0] & names[1])
