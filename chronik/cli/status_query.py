"""What `chronik status` was asked: about which clusters, what has to be read for that, and what of it belongs to which.

Without an operator, a cluster is what bears its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik.apply.observe import own_kind
from chronik.apply.wait import cluster_selector
from chronik.errors import ApiError
from chronik.kube.reflector import KindSelector
from chronik.manifest import (
    CLAIM,
    CLUSTER,
    CLUSTER_LABEL,
    INSTANCE_LABEL,
    KIND_BY_NAME,
    POD,
    WORKLOAD_KINDS,
    ClusterKey,
    ObjectRef,
    own_kinds,
)
from chronik.plan.live import LiveCluster

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.api.spec import Cluster
    from chronik.kube import Kube
    from chronik.kube.informer import Informer
    from chronik.manifest import Manifest

_OPTIONAL = ("Service", "HorizontalPodAutoscaler")
_CONFIG = KIND_BY_NAME["ConfigMap"]


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """Which clusters the user asked about: by name, from files, or all of a namespace (None: of all namespaces).

    A cluster from a file comes with what the file says of it.
    """

    namespace: str | None
    clusters: Mapping[ClusterKey, Cluster | None]
    domain: str

    def __str__(self) -> str:
        if self.clusters:
            return ", ".join(map(str, self.clusters))
        return f"namespace {self.namespace}" if self.namespace else "any namespace"

    def scopes(self) -> list[KindSelector]:
        """Return what to read: what clusters are made of, as far as the question is about it."""
        scopes = []
        namespaces: list[str | None] = [*sorted({key.namespace for key in self.clusters})]
        for namespace in namespaces or [self.namespace]:
            selector = cluster_selector([key.name for key in self.clusters if key.namespace == namespace])
            instances = selector.replace(CLUSTER_LABEL, INSTANCE_LABEL)
            scopes += [KindSelector(KIND_BY_NAME[kind], namespace, selector) for kind in WORKLOAD_KINDS]
            scopes += [KindSelector(KIND_BY_NAME[kind], namespace, selector, optional=True) for kind in _OPTIONAL]
            scopes.append(KindSelector(_CONFIG, namespace, selector, optional=True))
            scopes.append(KindSelector(POD, namespace, selector, optional=True))
            scopes.append(KindSelector(CLAIM, namespace, instances, optional=True))
            scopes.append(KindSelector(CLUSTER, namespace, optional=True))
        return scopes

    async def follow_own(self, live: Informer, kube: Kube) -> None:
        """Have the objects read as well that templates of the user's make, as far as they can be."""
        configs = _by_cluster(live.of(_CONFIG), CLUSTER_LABEL).items()
        wanted = {(key.namespace, kind) for key, found in configs for kind in own_kinds(found)}
        selectors = []
        for namespace, name in sorted(wanted):
            try:
                kind = await own_kind(kube, name)
            except ApiError:
                continue  # the operator's condition says so, and an apply
            selectors.append(KindSelector(kind, namespace, CLUSTER_LABEL, optional=True))
        await live.extend(selectors)

    def found(self, live: Informer) -> dict[ClusterKey, LiveCluster]:
        """Sort what was read by cluster: those that were asked for and exist, or all."""
        documents = {ClusterKey.of(each): each for each in live.of(CLUSTER)}
        parts = [manifest for kind in (*WORKLOAD_KINDS, *_OPTIONAL) for manifest in live.of(KIND_BY_NAME[kind])]
        objects = _by_cluster(parts, CLUSTER_LABEL)
        for key, configs in _by_cluster(live.of(_CONFIG), CLUSTER_LABEL).items():
            if key in objects:  # by themselves they make no cluster
                objects[key] += configs
        for key, own in _by_cluster(live.extended, CLUSTER_LABEL).items():
            if key in objects:
                objects[key] += own
        pods = _by_cluster(live.of(POD), CLUSTER_LABEL)
        claims = _by_cluster(live.of(CLAIM), INSTANCE_LABEL)
        every = {
            key: LiveCluster(
                documents.get(key),
                {ObjectRef.of(manifest): manifest for manifest in objects.get(key, ())},
                pods.get(key, ()),
                claims.get(key, ()),
            )
            for key in self.clusters or sorted({*documents, *objects})
        }
        return {key: found for key, found in every.items() if found.exists}

    def missing(self, found: Iterable[ClusterKey]) -> set[ClusterKey]:
        """Return the clusters that were asked for and were not found."""
        return self.clusters.keys() - {*found}


def _by_cluster(manifests: Iterable[Manifest], label: str) -> dict[ClusterKey, list[Manifest]]:
    """Sort objects by the cluster that their label names."""
    found: dict[ClusterKey, list[Manifest]] = {}
    for manifest in manifests:
        metadata = manifest["metadata"]
        key = ClusterKey(metadata["namespace"], (metadata.get("labels") or {}).get(label, ""))
        found.setdefault(key, []).append(manifest)
    return found
