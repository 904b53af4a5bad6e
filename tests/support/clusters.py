"""Clusters for tests that render: as small as they can be, and what a test says on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.offline import loading

if TYPE_CHECKING:
    from chronik.api.spec import Cluster


def small_cluster(name: str = "c", namespace: str = "default", **spec: Any) -> Cluster:
    """Return the smallest cluster that is valid, with parts of a spec of one's own."""
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "storage": {"backend": "local"},
            "metastore": {"connection": {"host": "pg", "database": "c", "credentialsSecret": "c-pg"}},
            **spec,
        },
    }
    validated = loading.validator().validate(document)
    assert validated.cluster, validated.problems
    return validated.cluster
