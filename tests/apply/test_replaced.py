"""What live objects say of the document that they were made from, so that a change of it can be refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli_place import SPEC
from support.document_pairs import pairs

from chronik.apply.replaced import document_that_runs
from chronik.manifest import ObjectRef
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.offline.played import played

SAMPLE, MANY = 15, 80
UNIFIED = yaml.safe_load((Path(assets.TEMPLATES).parent / "examples/unified.yaml").read_text("utf-8"))["spec"]
GCS = {"backend": "gcs", "gcs": {"bucket": "data"}, "size": "20Gi"}
BALANCED = {"network": {"serviceType": "LoadBalancer"}}


def of_class(name: str, component: str = "ingest") -> dict[str, Any]:
    """Return what gives a cluster a load balancer of some class."""
    return BALANCED | {"components": {component: {"service": {"loadBalancerClass": name}}}}


def sized(size: str, **components: str) -> dict[str, Any]:
    """Return what gives volumes their size, and those of some components another."""
    own = {name: {"storage": {"size": each}} for name, each in components.items()}
    return {"storage": {"backend": "local", "size": size}} | ({"components": own} if own else {})


def source(naming: str = "Prefixed", **more: Any) -> dict[str, Any]:
    """Return what copies from another cluster."""
    west = {
        "name": "west",
        "bootstrapServers": ["west:9092"],
        "topics": {"include": [".*"]},
        "groups": {"include": [".*"]},
        "naming": naming,
    }
    return {"replication": {"image": "apache/kafka:4.1.0", "sources": [west]} | more}


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": (SPEC, SPEC, []),
    "counts": (SPEC, SPEC | {"ingestNodes": 5, "controllers": 3}, []),
    "class": (SPEC | of_class("a/b"), SPEC | of_class("c/d"), ["service-class-changes"]),
    "class set": (SPEC | BALANCED, SPEC | of_class("c/d"), ["service-class-changes"]),
    "class gone": (SPEC | of_class("a/b"), SPEC | BALANCED, ["service-class-changes"]),
    "class of nodes": (
        UNIFIED | of_class("a/b", "node"),
        UNIFIED | of_class("c/d", "node"),
        ["service-class-changes"],
    ),
    "another type": (SPEC | of_class("a/b"), SPEC, []),
    "to a balancer": (SPEC, SPEC | of_class("a/b"), []),
    "larger": (SPEC | sized("20Gi"), SPEC | sized("30Gi"), []),
    "smaller": (SPEC | sized("20Gi"), SPEC | sized("10Gi"), ["storage-shrinks"]),
    "smaller nodes": (UNIFIED | sized("20Gi"), UNIFIED | sized("10Gi"), ["storage-shrinks"]),
    "own size gone": (SPEC | sized("10Gi", ingest="20Gi"), SPEC | sized("10Gi"), ["component-storage-shrinks"]),
    "own size less": (SPEC, SPEC | sized("10Gi", controller="5Gi"), ["component-storage-shrinks"]),
    "size of none": (
        SPEC | sized("20Gi", controller="5Gi", ingest="5Gi"),
        SPEC | sized("10Gi", controller="5Gi", ingest="5Gi"),
        [],
    ),
    "storage class": (SPEC, SPEC | {"storage": SPEC["storage"] | {"storageClass": "fast"}}, []),
    "backend": (SPEC, SPEC | {"storage": GCS}, ["backend-changes"]),
    "backend of nodes": (UNIFIED, UNIFIED | {"storage": GCS}, ["backend-changes"]),
    "topology": (SPEC, UNIFIED, ["topology-changes"]),
    "alone no more": (UNIFIED | {"nodes": 1}, UNIFIED, ["nodes-alone"]),
    "alone": (UNIFIED, UNIFIED | {"nodes": 1}, ["nodes-alone"]),
    "more nodes": (UNIFIED, UNIFIED | {"nodes": 5}, []),
    "replication": (SPEC, SPEC | source(), []),
    "alias": (SPEC | source(alias="east"), SPEC | source(alias="north"), ["replication-alias-changes"]),
    "alias gone": (SPEC | source(alias="east"), SPEC | source(), ["replication-alias-changes"]),
    "naming": (SPEC | source(), SPEC | source("Identity"), ["source-naming-changes"]),
}
"""Two specs, and the rules that refuse the second in place of the first."""


def cluster(spec: dict[str, Any], folder: Path) -> Any:
    """Return a cluster, and its document."""
    metadata = {"name": "c", "namespace": "demo"}
    document = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": metadata, "spec": spec}
    file = folder / "document.json"
    file.write_text(json.dumps(document))
    return offline.load_clusters([str(file)])[0][0], document


def refusals(new: Any, old: dict[str, Any]) -> list[str]:
    """Return the rules that refuse a cluster in place of a document."""
    return sorted(each.code for each in offline.validator().transition(new, old))


def running(old: Any, new: Any) -> dict[str, Any]:
    """Return the document that a cluster says it runs by."""
    return document_that_runs(new, played(old, offline.render_clusters([old])).objects)


@pytest.mark.parametrize(("before", "after", "rules"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_refused_with_the_old_document_or_without(tmp_path, before, after, rules):
    """The rules about changes say the same of what runs as of the document that it was made from."""
    (old, document), (new, _) = (cluster(each, tmp_path) for each in (before, after))

    assert refusals(new, document) == rules
    assert refusals(new, running(old, new)) == rules


def differing(count: int, folder: Path, seed: int) -> tuple[list[Any], int]:
    """Return pairs of documents of which both ways do not say the same, and how many changes were refused."""
    wrong, refused = [], 0
    for pair in pairs(count, "demo", folder, seed):
        new = offline.load_clusters([pair.new])[0][0]
        old = json.loads(Path(pair.old).read_text("utf-8"))
        told = [refusals(new, each) for each in (old, running(pair.cluster, new))]
        wrong += [] if bool(told[0]) == bool(told[1]) else [(pair, told)]
        refused += bool(told[0])
    return wrong, refused


def test_generated_changes(tmp_path):
    """Generated changes are refused with the old document exactly where they are refused without."""
    wrong, refused = differing(SAMPLE, tmp_path, 5)

    assert wrong == []
    assert refused


@pytest.mark.slow
def test_many_generated_changes(tmp_path):
    """So are many of them."""
    wrong, refused = differing(MANY, tmp_path, 4)

    assert wrong == []
    assert refused > MANY / 20


@pytest.mark.parametrize(
    ("kind", "name", "edit"),
    [
        ("StatefulSet", "c-node", {"replicas": 1}),
        ("Service", "c-node-client", {"type": "LoadBalancer", "loadBalancerClass": "a/b"}),
    ],
)
def test_edits_of_others_are_not_what_was_asked_for(tmp_path, kind, name, edit):
    """What another manager has set refuses nothing: an apply takes it back."""
    found, _ = cluster(UNIFIED, tmp_path)
    objects = dict(played(found, offline.render_clusters([found])).objects)
    live = deepcopy(objects[ref := ObjectRef(kind, "demo", name)])
    live["spec"] |= edit
    for entry in live["metadata"]["managedFields"]:
        entry["manager"] = "kubectl-edit"
    objects[ref] = live

    assert refusals(found, document_that_runs(found, objects)) == []


def test_nothing_runs_yet(tmp_path):
    """Of a cluster without objects nothing is known, so nothing is refused."""
    found, _ = cluster(SPEC | of_class("a/b"), tmp_path)

    assert refusals(found, document_that_runs(found, {})) == []
