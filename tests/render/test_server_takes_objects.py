"""What chronik renders, kube-apiserver takes: every object of generated documents, by a dry run with strict fields."""

from __future__ import annotations

import os
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.spec_generator import Generator

from chronik.manifest import FIELD_MANAGER, KIND_BY_NAME
from chronik.offline import assets
from chronik.offline import loading as offline

DOCUMENTS = int(os.environ.get("CHRONIK_DOCUMENTS", "60"))
FEW = DOCUMENTS // 3
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
UNPRIVILEGED = [path for path in EXAMPLES if path.stem != "storage-local"]  # that one uses the host's network
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.real  # only the real server has Kubernetes' own validation of every field
@pytest.mark.parametrize("documents", [FEW, pytest.param(DOCUMENTS, marks=pytest.mark.slow)])
def test_objects_of_generated_documents_are_accepted(real_server, documents):
    """Whatever document is valid, each of its objects passes a dry run with strict field validation."""
    namespace = real_server.new_namespace()
    generator = Generator(assets.schema(), offline.validator().rules, seed=36)
    refused, taken = [], 0
    for _ in range(documents):
        document = generator.good()
        document["spec"].pop("patches", None)  # made by chance, they fit nothing
        cluster = offline.validator().validate(document, namespace=namespace).cluster
        if cluster is None:
            continue
        for manifest in offline.render_clusters([cluster]):
            if manifest["kind"] in {"ServiceMonitor", "PodMonitor"}:  # which the server does not have
                continue
            answer = dry_run(real_server, manifest)
            taken += answer.code in {200, 201}
            if answer.code not in {200, 201}:
                refused.append((manifest["kind"], answer.body.get("message"), document["spec"]))

    assert refused[:3] == []
    assert taken > documents * 5  # many documents were valid, so the check was one


@pytest.mark.real  # as above
@pytest.mark.parametrize("documents", [FEW, pytest.param(DOCUMENTS, marks=pytest.mark.slow)])
def test_settings_of_components_are_accepted(real_server, documents):
    """Whatever settings of components are valid, each object that has them can be created on a server."""
    namespace = real_server.new_namespace()
    generator = Generator(assets.schema(), offline.validator().rules, seed=12)
    refused, used = [], Counter()
    for number in range(documents):
        document = generator.with_components(named("demo"), likely=(0.15, 0.4, 0.7)[number % 3])
        cluster = offline.validator().validate(document, namespace=namespace).cluster
        if cluster is None:
            continue
        for own in document["spec"].get("components", {}).values():
            used.update(own.keys())
        for manifest in offline.render_clusters([cluster]):
            kind = KIND_BY_NAME[manifest["kind"]]
            root = "apis" if "/" in kind.api_version else "api"
            path = f"/{root}/{kind.api_version}/namespaces/{namespace}/{kind.plural}"
            answer = real_server.call("POST", path, manifest, dryRun="All", fieldValidation="Strict")
            if answer.code != HTTPStatus.CREATED:
                refused.append((manifest["kind"], answer.body.get("message"), document["spec"]["components"]))

    assert refused[:3] == []
    assert used.keys() == {*assets.schema()["$defs"]["component"]["properties"]}


def named(name: str) -> dict[str, Any]:
    """Return a document of a cluster with all components and a load balancer."""
    connection = {"host": "postgres", "database": "chronik", "credentialsSecret": "chronik-postgres"}
    spec = {"storage": {"backend": "local"}, "metastore": {"connection": connection}, "searchNodes": 1}
    spec["network"] = {"serviceType": "LoadBalancer"}
    return {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.mark.real  # admission by Pod Security is the server's
@pytest.mark.parametrize("path", UNPRIVILEGED, ids=lambda path: path.stem)
def test_pods_of_examples_pass_restricted(path, real_server):
    """The pods of every example that keeps off the host's network are admitted where `restricted` is enforced."""
    namespace = real_server.new_namespace(RESTRICTED)
    clusters, _ = offline.load_clusters([str(path)])
    for manifest in offline.render_clusters(clusters):
        if manifest["kind"] in {"StatefulSet", "Deployment"}:
            answer = dry_run(real_server, pod_of(manifest, namespace))

            assert answer.code == 201, answer.body


def pod_of(workload: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return a pod as the workload's controller would make it, with a claim for a volume of the template's name."""
    template = workload["spec"]["template"]
    claims = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    classes = {"priorityClassName", "runtimeClassName"}  # the test's server has none
    spec = {key: value for key, value in template["spec"].items() if key not in classes}
    if workload["kind"] == "StatefulSet":
        spec["volumes"] = [*spec["volumes"], *claims]
    metadata = {**template["metadata"], "name": "probe", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def dry_run(server: Any, manifest: dict[str, Any]) -> Any:
    """Apply a manifest on the server without keeping it."""
    metadata = manifest["metadata"]
    plural = KIND_BY_NAME[manifest["kind"]].plural if manifest["kind"] in KIND_BY_NAME else "pods"
    version = manifest["apiVersion"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    path = f"{base}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"
    return server.call(
        "PATCH", path, manifest, fieldManager=FIELD_MANAGER, force=True, dryRun="All", fieldValidation="Strict"
    )
