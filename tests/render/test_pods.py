"""Settings of single components: which value wins, how each comes out, and that chronik's own names are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.spec_generator import Generator

from chronik.api.components import COMPONENTS
from chronik.manifest import ObjectRef
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.render.filters import reprobed
from chronik.render.kubernetes import FieldTable
from chronik.render.pods import canonical

ROOT = Path(__file__).parents[2]
RULES = {rule.name: rule for rule in offline.validator().rules.rules}
FIELDS = FieldTable(assets.kubernetes_fields())
LOAD_BALANCER = {"serviceType": "LoadBalancer"}
CONTAINER = {"name": "extra", "image": "busybox:1.37"}


def document(components: Any = None, **spec: Any) -> dict[str, Any]:
    """Return a document of a cluster with all components."""
    connection = {"host": "pg", "database": "d", "credentialsSecret": "pg"}
    whole = {"storage": {"backend": "local"}, "metastore": {"connection": connection}, "searchNodes": 1, **spec}
    if components is not None:
        whole["components"] = components
    metadata = {"name": "c", "namespace": "ns"}
    return {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": metadata, "spec": whole}


def rendered(components: Any = None, **spec: Any) -> dict[str, Any]:
    """Return the manifests of a valid cluster by `Kind/name`."""
    validated = offline.validator().validate(document(components, **spec))
    assert validated.cluster, validated.problems
    refs = [(ObjectRef.of(each), each) for each in offline.render_clusters([validated.cluster])]
    return {f"{ref.kind}/{ref.name}": each for ref, each in refs}


def changes(before: Any, after: Any, path: str = "") -> dict[str, Any]:
    """Return what differs between two values, by path; new items of a list have the key +."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, Any] = {}
        for key in {**before, **after}:
            found |= changes(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        return found
    if isinstance(before, list) and isinstance(after, list) and len(after) >= len(before):
        found = {f"{path}[+]": after[len(before) :]} if len(after) > len(before) else {}
        for number, (old, new) in enumerate(zip(before, after, strict=False)):
            found |= changes(old, new, f"{path}[{number}]")
        return found
    return {} if before == after else {path: after}


SET, POD = "StatefulSet/c-ingest", "spec.template.spec"
MAIN = f"{POD}.containers[0]"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "env": (
        {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {},
        {f"{SET} {MAIN}.env[+]": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
    ),
    "args": ({"args": ["--verbose"]}, {}, {f"{SET} {MAIN}.args": ["--verbose"]}),
    "resources": (
        {"resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": "2048Mi"}}},
        {"resources": {"ingest": {"cpu": "2", "memoryLimit": "1Gi"}}},
        {f"{SET} {MAIN}.resources.requests.cpu": "1", f"{SET} {MAIN}.resources.limits.memory": "2Gi"},
    ),
    "resources-none": (
        {"resources": {}},
        {"resources": {"ingest": {"cpu": "2"}}},
        {f"{SET} {MAIN}.resources": None},
    ),
    "storage": (
        {"storage": {"size": "1024Gi", "storageClass": "fast"}},
        {"storage": {"backend": "local", "size": "10Gi", "storageClass": "slow"}},
        {
            f"{SET} spec.volumeClaimTemplates[0].spec.storageClassName": "fast",
            f"{SET} spec.volumeClaimTemplates[0].spec.resources.requests.storage": "1Ti",
        },
    ),
    "nodeSelector": (
        {"nodeSelector": {"a": "b"}},
        {"nodeSelector": {"c": "d"}},
        {f"{SET} {POD}.nodeSelector.a": "b", f"{SET} {POD}.nodeSelector.c": None},
    ),
    "nodeSelector-none": ({"nodeSelector": {}}, {"nodeSelector": {"c": "d"}}, {f"{SET} {POD}.nodeSelector": None}),
    "tolerations": (
        {"tolerations": [{"operator": "Exists"}]},
        {"tolerations": [{"key": "a", "operator": "Exists"}]},
        {f"{SET} {POD}.tolerations[0].key": None},
    ),
    "affinity": (
        {"affinity": {"podAntiAffinity": {}}},
        {"affinity": {"nodeAffinity": {}}},
        {f"{SET} {POD}.affinity.podAntiAffinity": {}, f"{SET} {POD}.affinity.nodeAffinity": None},
    ),
    "topologySpreadConstraints": (
        {"topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]},
        {},
        {
            f"{SET} {POD}.topologySpreadConstraints[0].maxSkew": 2,
            f"{SET} {POD}.topologySpreadConstraints[0].topologyKey": "zone",
            f"{SET} {POD}.topologySpreadConstraints[0].whenUnsatisfiable": "DoNotSchedule",
        },
    ),
    "priorityClassName": ({"priorityClassName": "high"}, {}, {f"{SET} {POD}.priorityClassName": "high"}),
    "runtimeClassName": ({"runtimeClassName": "gvisor"}, {}, {f"{SET} {POD}.runtimeClassName": "gvisor"}),
    "terminationGracePeriodSeconds": (
        {"terminationGracePeriodSeconds": 0},
        {},
        {f"{SET} {POD}.terminationGracePeriodSeconds": 0},
    ),
    "podAnnotations": (
        {"podAnnotations": {"a": "own", "prometheus.io/path": "/all"}},
        {"podAnnotations": {"a": "all", "b": "all"}, "monitoring": {"prometheus": True}},
        {
            f"{SET} spec.template.metadata.annotations.a": "own",
            f"{SET} spec.template.metadata.annotations.prometheus.io/path": "/all",
        },
    ),
    "podLabels": (
        {"podLabels": {"a": "own"}},
        {"podLabels": {"a": "all", "b": "all"}},
        {f"{SET} spec.template.metadata.labels.a": "own"},
    ),
    "serviceAccount-annotations": (
        {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}}},
        {},
        {"ServiceAccount/c-ingest metadata.annotations": {"eks.amazonaws.com/role-arn": "arn"}},
    ),
    "serviceAccount-name": (
        {"serviceAccount": {"create": False, "name": "mine"}},
        {},
        {
            "ServiceAccount/c-ingest ": None,
            f"{SET} {POD}.serviceAccountName": "mine",
            "RoleBinding/c-ingest subjects[0].name": "mine",
        },
    ),
    "service": (
        {
            "service": {
                "annotations": {"a": "b"},
                "labels": {"c": "d"},
                "loadBalancerClass": "service.k8s.aws/nlb",
                "externalTrafficPolicy": "Local",
                "nodePort": 30992,
            }
        },
        {"network": LOAD_BALANCER},
        {
            "Service/c-ingest-client metadata.annotations": {"a": "b"},
            "Service/c-ingest-client metadata.labels.c": "d",
            "Service/c-ingest-client spec.loadBalancerClass": "service.k8s.aws/nlb",
            "Service/c-ingest-client spec.externalTrafficPolicy": "Local",
            "Service/c-ingest-client spec.ports[0].nodePort": 30992,
        },
    ),
    "probes": (
        {
            "probes": {
                "startup": {"failureThreshold": 240},
                "liveness": {"exec": {"command": ["alive"]}},
                "readiness": {"httpGet": {"path": "/", "port": 80}, "timeoutSeconds": 9},
            }
        },
        {},
        {
            f"{SET} {MAIN}.startupProbe.failureThreshold": 240,
            f"{SET} {MAIN}.livenessProbe.httpGet": None,
            f"{SET} {MAIN}.livenessProbe.exec": {"command": ["alive"]},
            f"{SET} {MAIN}.readinessProbe.httpGet.path": "/",
            f"{SET} {MAIN}.readinessProbe.httpGet.port": 80,
            f"{SET} {MAIN}.readinessProbe.timeoutSeconds": 9,
        },
    ),
    "lifecycle": (
        {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
        {},
        {f"{SET} {MAIN}.lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
    ),
    "volumes": (
        {
            "volumes": [{"name": "logs", "emptyDir": {"sizeLimit": "1024Mi"}}],
            "volumeMounts": [{"name": "logs", "mountPath": "/logs"}],
        },
        {},
        {
            f"{SET} {POD}.volumes[+]": [{"name": "logs", "emptyDir": {"sizeLimit": "1Gi"}}],
            f"{SET} {MAIN}.volumeMounts[+]": [{"name": "logs", "mountPath": "/logs"}],
        },
    ),
    "initContainers": ({"initContainers": [CONTAINER]}, {}, {f"{SET} {POD}.initContainers": [CONTAINER]}),
    "sidecars": (
        {"sidecars": [{**CONTAINER, "resources": {"limits": {"cpu": "0.5"}}}]},
        {},
        {f"{SET} {POD}.containers[+]": [{**CONTAINER, "resources": {"limits": {"cpu": "500m"}}}]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_field_changes_its_component_alone(name: str):
    """Each field changes its lines of its component's objects, wins over the one for all, and changes nothing else."""
    own, spec, expected = CASES[name]
    before, after = rendered(**spec), rendered({"ingest": own}, **spec)
    found = {}
    for key in {**before, **after}:
        found |= {f"{key} {path}": value for path, value in changes(before.get(key), after.get(key)).items()}

    assert found == expected


def test_every_field_has_a_case():
    """Each field of a component is in a case above."""
    used = {field for own, _, _ in CASES.values() for field in own}

    assert used == {*assets.schema()["$defs"]["component"]["properties"]}


def test_nodes_have_settings_too():
    """The nodes of topology Unified have settings as other components have; arguments come behind chronik's."""
    validated = offline.validator().validate(
        {
            **document(),
            "spec": {
                "topology": "Unified",
                "nodes": 1,
                "storage": {"backend": "local"},
                "components": {"node": {"args": ["--verbose"], "storage": {"size": "1Ti"}}},
            },
        }
    )
    assert validated.cluster, validated.problems
    (workload,) = [each for each in offline.render_clusters([validated.cluster]) if each["kind"] == "StatefulSet"]

    assert workload["spec"]["template"]["spec"]["containers"][0]["args"] == ["start", "--bind", "0.0.0.0", "--verbose"]
    assert workload["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "1Ti"


def test_search_nodes_have_storage_too():
    """The volume of a search node, which lives as long as its pod, has a size and a class of its own."""
    workload = rendered({"search": {"storage": {"size": "1Ti", "storageClass": ""}}})["Deployment/c-search"]
    (claim,) = [each for each in workload["spec"]["template"]["spec"]["volumes"] if each["name"] == "data"]

    assert claim["ephemeral"]["volumeClaimTemplate"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "resources": {"requests": {"storage": "1Ti"}},
    }


def test_empty_sections_change_nothing():
    """A component with no settings, and a section without components, are as if they were not there."""
    plain = rendered()

    assert rendered({}) == rendered({"ingest": {}, "controller": {}, "search": {}}) == plain


# Chronik's own names


def every_pod() -> list[dict[str, Any]]:
    """Return pods of all examples and of clusters that use what brings variables, volumes and mounts."""
    secured = {"security": {"tlsEnabled": True, "tlsSecret": "t", "mtlsEnabled": True}}
    stores = [
        {"backend": "s3", "s3": {"bucket": "bucket", "region": "r", "endpoint": "http://s3", "credentialsSecret": "s"}},
        {"backend": "gcs", "gcs": {"bucket": "bucket", "credentialsSecret": "s"}},
        {"backend": "azure", "azure": {"account": "account", "container": "container", "credentialsSecret": "s"}},
        {"backend": "local"},
    ]
    made = [each for store in stores for each in rendered(storage=store, **secured).values()]
    by_url = {"existingUrlSecret": "url", "sslMode": "verify-full", "sslRootCertSecret": "root"}
    made += rendered(metastore={"connection": by_url}).values()
    for path in sorted((ROOT / "examples").glob("unified*.yaml")):
        clusters, _ = offline.load_clusters([str(path)])
        made += offline.render_clusters(clusters)
    return [each["spec"]["template"]["spec"] for each in made if each["kind"] in {"StatefulSet", "Deployment"}]


def names_in(rule: str) -> set[str]:
    """Return the texts in single quotes of a rule."""
    return {*re.findall(r"'([^']+)'", RULES[rule].rule)}


def test_own_names_are_refused():
    """What chronik itself calls variables, volumes, ports and containers is what the rules refuse, and no more."""
    pods = every_pod()
    containers = [each for pod in pods for each in pod["containers"]]
    credentials = {name for name in names_in("component-env-credentials") if name.isupper()}

    assert {item["name"] for each in containers for item in each["env"]} == names_in("component-env-own") | credentials
    assert {item["name"] for pod in pods for item in pod["volumes"]} == names_in("component-volume-own")
    assert {each["name"] for each in containers} == names_in("component-container-own")
    assert {port["name"] for each in containers for port in each["ports"]} == names_in("component-port-name-own")
    for each in COMPONENTS.values():
        ports = ", ".join(str(port.number) for port in each.ports)
        assert f"'{each.name}': [{ports}]" in RULES["component-port-own"].rule


def test_own_paths_are_refused():
    """Each path at which chronik mounts a volume is one that the rule refuses, with slashes behind it, too."""
    paths = {item["mountPath"] for pod in every_pod() for item in pod["containers"][0]["volumeMounts"]}

    for path in sorted(paths):
        for spelling in (path, f"{path}/", f"/{path}//"):
            mount = {"name": "temp", "mountPath": spelling}
            problems = offline.validator().validate(document({"ingest": {"volumeMounts": [mount]}})).problems
            assert [each.code for each in problems if each.severity == "error"] == ["component-mount-own"], spelling


# Pieces


def test_probes_are_laid_over():
    """A field of a probe takes the place of the same one; a handler that of any handler."""
    ours = {"httpGet": {"path": "/", "port": 1}, "periodSeconds": 5}

    assert reprobed(ours, {}) == ours
    assert reprobed(ours, {"periodSeconds": 9}) == {**ours, "periodSeconds": 9}
    assert reprobed(ours, {"grpc": {"port": 2}}) == {"periodSeconds": 5, "grpc": {"port": 2}}


def test_quantities_alone_are_respelt():
    """Only what is a quantity in a pod is spelt anew, whatever keys a driver's attributes have."""
    attributes = {"sizeLimit": "1024Mi", "requests": {"cpu": "1000m"}}
    volumes = [{"name": "a", "csi": {"driver": "d", "volumeAttributes": attributes}}, {"emptyDir": {"sizeLimit": 1024}}]

    assert canonical(volumes) == [volumes[0], {"emptyDir": {"sizeLimit": "1024"}}]


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 10**6), likely=st.sampled_from((0.15, 0.4, 0.7)))
def test_whatever_is_valid_makes_pods_that_kubernetes_knows(seed: int, likely: float):
    """Of any valid settings, each object has fields of Kubernetes' types alone, and parses from its own YAML."""
    generator = Generator(assets.schema(), offline.validator().rules, seed)
    made = generator.with_components(document(network=LOAD_BALANCER), likely)
    cluster = offline.validator().validate(made).cluster
    for manifest in offline.render_clusters([cluster]) if cluster else ():
        assert [*FIELDS.problems(manifest)] == []


def test_example_is_what_the_guide_shows():
    """The guide's pieces of YAML are valid settings."""
    text = (ROOT / "docs" / "components.md").read_text("utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        section = yaml.safe_load(block)["spec"]
        validated = offline.validator().validate({**document(), "spec": {**document()["spec"], **section}})
        assert not [each for each in validated.problems if each.severity == "error"], block
