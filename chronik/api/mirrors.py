"""The mirrors of a cluster: for each source of `spec.replication`, what copies from it, and where loops would be.

A mirror is no component: no pod of it holds data, and a cluster is ready without it. Templates see one as `component`,
as they see those, and as `mirror`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from chronik import __version__
from chronik.api.components import component_types, workload_name
from chronik.manifest import MIRROR_PREFIX, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.api.spec import Cluster, DisruptionBudget, ReplicationSource, Resources
    from chronik.manifest import ClusterKey

PROBE_IMAGE = f"chronik/operator:{__version__}"
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MOST_REPLICAS = 3
"""Of the topics that a mirror makes, as far as there are as many brokers."""
_LITERAL = re.compile("[A-Za-z0-9_-]+")
"""A name of a topic that is no expression for several."""


class Mirror(NamedTuple):
    """What copies from one source into one cluster.

    `alias` is what the cluster is called there, `target` the address of its brokers. `replicas` is 0 while it is
    paused. `factor` is how many brokers keep each copied topic. `lag` is in seconds.
    """

    source: ReplicationSource
    alias: str
    target: str
    image: str
    probeImage: str  # noqa: N815  # templates see API spellings only
    replicas: int
    factor: int

    @property
    def name(self) -> str:
        """What its objects and pods have in the place of a component."""
        return mirror_component(self.source["name"])

    @property
    def resources(self) -> Resources | None:
        """What its container asks for."""
        return self.source["resources"]

    @property
    def budget(self) -> DisruptionBudget:
        """How many of its pods a drain may take at once."""
        return {"minAvailable": None, "maxUnavailable": 1}

    @property
    def metrics(self) -> int:
        """The port of its metrics, which are the probe's."""
        return 8080

    @property
    def lag(self) -> int:
        """How many seconds the copy may be behind."""
        text = self.source["maxLag"]
        return int(text[:-1]) * _SECONDS[text[-1]]

    @property
    def protocol(self) -> str:
        """How the source is spoken to, in Kafka's words."""
        tls, sasl = self.source["tls"] is not None, self.source["sasl"] is not None
        return {(False, False): "PLAINTEXT", (True, False): "SSL", (False, True): "SASL_PLAINTEXT"}.get(
            (tls, sasl), "SASL_SSL"
        )


def mirror_component(source: str) -> str:
    """Return what objects and pods of a mirror have in their component label."""
    return f"{MIRROR_PREFIX}{source}"


def mirror_ref(key: ClusterKey, source: str) -> ObjectRef:
    """Return which Deployment a mirror runs as."""
    return ObjectRef("Deployment", key.namespace, workload_name(key.name, mirror_component(source)))


def alias_of(cluster: Cluster) -> str:
    """Return what a cluster is called in replication."""
    replication = cluster.spec["replication"]
    return (replication["alias"] if replication else None) or cluster.name


def mirrors(cluster: Cluster) -> list[Mirror]:
    """Return the mirrors of a cluster, in the order of the document."""
    replication = cluster.spec["replication"]
    if replication is None:
        return []
    type_ = next(each for each in component_types(cluster.spec["topology"]) if each.serves_clients)
    service = f"{workload_name(cluster.name, type_.name)}-client.{cluster.namespace}.svc.{cluster.domain}"
    return [
        Mirror(
            source=source,
            alias=alias_of(cluster),
            target=f"{service}:{type_.port}",
            image=replication["image"],
            probeImage=replication["probeImage"] or PROBE_IMAGE,
            replicas=0 if source["paused"] else source["replicas"],
            factor=min(_MOST_REPLICAS, cluster.spec[type_.count_field] or 1),
        )
        for source in replication["sources"]
    ]


# --- loops -----------------------------------------------------------------------------------------------------------


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
