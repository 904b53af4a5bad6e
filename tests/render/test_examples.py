"""The examples are tests: each must be valid, render to what its snapshots say, and be taken by Kubernetes' schemas.

Adding an example is adding a file and running `pytest --snapshot-update`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import kubernetes_schemas

from chronik.manifest import COMPONENT_NAMES
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.testing import snapshot_name

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SNAPSHOTS = Path(__file__).parent / "__snapshots__" / "test_examples"
BACKENDS = {"local", "s3", "gcs", "azure"}

per_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


@per_example
def test_example(path, render_cluster, assert_manifests):
    """Every object of an example is what its snapshot says."""
    assert_manifests(render_cluster(path))


def test_no_snapshot_is_left_over(render_cluster):
    """Every snapshot is of an object that an example still has."""
    names = {
        f"test_example-{path.stem}/{each['metadata']['namespace']}/{snapshot_name(each)}.yaml"
        for path in EXAMPLES
        for each in render_cluster(path)
    }

    assert {path.relative_to(SNAPSHOTS).as_posix() for path in SNAPSHOTS.rglob("*.*")} == names


@pytest.mark.parametrize("path", [*EXAMPLES, ROOT / "examples" / "quickstart"], ids=lambda path: path.stem)
def test_examples_are_models(path):
    """An example is what people copy: nothing about it is warned of."""
    _, warnings = offline.load_clusters([str(path / "cluster.yaml" if path.is_dir() else path)])

    assert warnings == []


@per_example
def test_example_fits_kubernetes_schemas(path, render_cluster):
    """Every object of an example passes the strict schema of its kind."""
    for manifest in render_cluster(path):
        if not manifest["apiVersion"].startswith("monitoring.coreos.com/"):  # test_monitors holds those to their CRDs
            kubernetes_schemas.check(manifest)


@per_example
def test_example_is_owned_when_it_has_a_uid(path):
    """With a uid, every object has the cluster as its controller, and is otherwise the same."""
    clusters, _ = offline.load_clusters([str(path)])
    plain = offline.render_clusters(clusters)
    owned = offline.render_clusters([replace(cluster, uid="4b7d9a0c") for cluster in clusters])
    for before, after in zip(plain, owned, strict=True):
        (reference,) = after["metadata"].pop("ownerReferences")

        assert (reference["kind"], reference["uid"], reference["controller"]) == ("ChronikCluster", "4b7d9a0c", True)
        assert before == after


@per_example
def test_pods_are_restricted(path, render_cluster):
    """Every pod asks for what the restricted Pod Security Standard wants."""
    for pod in pods_of(render_cluster(path)):
        (own,) = (each for each in pod["containers"] if each["name"] in {*COMPONENT_NAMES, "mirror", "receiver"})

        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["securityContext"]["readOnlyRootFilesystem"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["automountServiceAccountToken"] is False


@per_example
def test_selectors_select_their_pods(path, render_cluster):
    """Selectors hold instance and component alone, and match the pod labels of their workload."""
    for manifest in render_cluster(path):
        if manifest["kind"] in {"StatefulSet", "Deployment"}:
            selector = manifest["spec"]["selector"]["matchLabels"]

            assert set(selector) == {"app.kubernetes.io/instance", "app.kubernetes.io/component"}
            assert selector.items() <= manifest["spec"]["template"]["metadata"]["labels"].items()


def test_there_is_an_example_for_every_backend():
    """Each storage backend has an example of its own."""
    assert {yaml.safe_load(path.read_text())["spec"]["storage"]["backend"] for path in EXAMPLES} == BACKENDS


def test_every_field_appears_in_an_example():
    """No field of the spec is without an example, but for those that chronik warns of whenever they are used."""
    used: set[str] = set()
    for path in EXAMPLES:
        used |= set(_field_paths(yaml.safe_load(path.read_text())["spec"], ""))
    schema = assets.schema()
    declared = set(_declared(schema, schema["properties"]["spec"], ""))

    assert {field for field in declared - used if not field.startswith(".autoscaling.controllers")} == set()


def test_every_field_of_a_component_appears_in_an_example():
    """No field of `spec.components.*` is without an example."""
    documents = [yaml.safe_load(path.read_text()) for path in EXAMPLES]
    used = {key for each in documents for own in each["spec"].get("components", {}).values() for key in own}

    assert used == {*assets.schema()["$defs"]["component"]["properties"]}


def pods_of(manifests):
    """Return the pod specs of all workloads."""
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] in {"StatefulSet", "Deployment"}]


def _field_paths(value: Any, path: str):
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}.{key}"
            yield from _field_paths(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _field_paths(item, f"{path}[]")


OPAQUE = {".affinity", ".tolerations", ".topologySpreadConstraints"}  # pod fields, which Kubernetes documents


def _declared(root: dict[str, Any], node: dict[str, Any], path: str):
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        node = {**root["$defs"][name], **{key: value for key, value in node.items() if key != "$ref"}}
    if path in OPAQUE or json.dumps(node) == "{}":
        return
    for key, child in node.get("properties", {}).items():
        yield f"{path}.{key}"
        yield from _declared(root, child, f"{path}.{key}")
    if "items" in node:
        yield from _declared(root, node["items"], f"{path}[]")
