"""The mirrors of a cluster: for each source of `spec.replication`, what copies from it.

A mirror is no component: no pod of it holds data, and a cluster is ready without it. Templates see one as `component`,
as they see those, and as `mirror`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chronik import __version__
from chronik.api.components import client_service_name, component_types, workload_name
from chronik.manifest import MIRROR_PREFIX, ObjectRef

if TYPE_CHECKING:
    from chronik.api.sections.replication import ReplicationSource
    from chronik.api.sections.resources import Resources
    from chronik.api.spec import Cluster, DisruptionBudget
    from chronik.manifest import ClusterKey

PROBE_IMAGE = f"chronik/operator:{__version__}"
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MOST_REPLICAS = 3
"""Of the topics that a mirror makes, as far as there are as many brokers."""


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
    exporterImage: str | None  # noqa: N815  # as above
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
    service = f"{client_service_name(cluster)}.{cluster.namespace}.svc.{cluster.domain}"
    return [
        Mirror(
            source=source,
            alias=alias_of(cluster),
            target=f"{service}:{type_.port}",
            image=replication["image"],
            probeImage=replication["probeImage"] or PROBE_IMAGE,
            exporterImage=replication["exporterImage"],
            replicas=0 if source["paused"] else source["replicas"],
            factor=min(_MOST_REPLICAS, cluster.spec[type_.count_field] or 1),
        )
        for source in replication["sources"]
    ]
