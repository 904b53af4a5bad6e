"""Clusters for tests that render: as small as they can be, and what a test says on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronik.offline import loading

if TYPE_CHECKING:
    from chronik.api.spec import Cluster

_TEMPLATES = Path(__file__).parents[2] / "templates"


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


def changeable_configuration(folder: Path) -> str:
    """Write an override by which a configuration is one object that may change; return its folder.

    The object is `<cluster>-settings`. The server lets others add keys to it, as to that of topology Unified.
    """
    text = (_TEMPLATES / "configmap.yaml.j2").read_text("utf-8").replace("immutable: true\n", "")
    place = folder / "changeable"
    place.mkdir(exist_ok=True)
    named = text.replace('part("metadata")', 'part("metadata", name=cluster.name ~ "-settings")')
    assert named != text
    (place / "configmap.yaml.j2").write_text(named, "utf-8")
    return str(place)
