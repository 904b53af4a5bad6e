"""Where fields belong that people write at other places, or as others call them."""

from __future__ import annotations

from typing import Any

import pytest

from chronik.api.schema import Schema
from chronik.offline import assets

SCHEMA = Schema(assets.schema())
CONNECTION = {"host": "postgres", "database": "chronik", "credentialsSecret": "chronik-postgres"}
SPEC: dict[str, Any] = {"storage": {"backend": "local"}, "metastore": {"connection": CONNECTION}}
ONE = "spec.components.<component>"

AT_THE_TOP = {
    "service": f"Its type is spec.network.serviceType; all else is {ONE}.service.",
    "serviceType": "It is spec.network.serviceType.",
    "imagePullSecrets": "It is spec.image.pullSecrets, a list of names.",
    "storageClass": f"It is spec.storage.storageClass; for one component, {ONE}.storage.storageClass.",
    "persistence": f"It is spec.storage; for one component, {ONE}.storage.",
    "replicaCount": (
        "Each component has its own count: controllers, ingestNodes, searchNodes; in topology Unified it is nodes."
    ),
    "env": f"Each component has its own: {ONE}.env.",
    "extraEnv": f"It is {ONE}.env.",
    "containers": f"It is {ONE}.sidecars.",
    "volumes": f"Each component has its own: {ONE}.volumes.",
    "serviceAccountName": f"It is {ONE}.serviceAccount.name, with create: false.",
    "podTemplate": f"What pods have is in {ONE}. A patch sets what has no field there: spec.patches.",
    "serviceMonitor": "It belongs in spec.monitoring.",
    "tlsSecret": "It belongs in spec.security.",
    "controller": "Did you mean controllers?",
}
OF_A_COMPONENT = {
    "replicas": "It is spec.ingestNodes.",
    "image": "It is spec.image.ingest.",
    "envFrom": (
        "Each variable has an item of its own in spec.components.ingest.env, with valueFrom.secretKeyRef or"
        " configMapKeyRef. All of a Secret at once takes a patch: spec.patches."
    ),
    "containers": "Here it is sidecars.",
    "extraVolumeMounts": "Here it is volumeMounts.",
    "storageClassName": "Here it is storage.storageClass.",
    "livenessProbe": "Here it is probes.liveness.",
    "securityContext": "It is spec.security.podSecurityContext.",
    "command": "No field says this. A patch can: spec.patches.",
    "loadBalancerClass": "It belongs in spec.components.ingest.service.",
    "hostNetwork": "It belongs in spec.network.",
    "sidecar": "Here it is sidecars.",
    "priorityClassNam": "Did you mean priorityClassName?",
}
BELOW = {
    "a type": ({"service": {"type": "LoadBalancer"}}, "It is spec.network.serviceType."),
    "an annotation": ({"serviceAccount": {"example.com/role": "a"}}, "Write it below annotations."),
    "a class": ({"storage": {"class": "fast"}}, "Did you mean storageClass?"),
    "a source": ({"env": [{"name": "A", "secretKeyRef": {}}]}, "It belongs in spec.components.ingest.env[].valueFrom."),
    "a path": (
        {"volumeMounts": [{"name": "data", "mountPath": "/a", "path": "/b"}]},
        "Did you mean mountPath?",
    ),
    "a command": (
        {"initContainers": [{"name": "a", "image": "b:1", "command": "sleep 1"}]},
        "Write a list of texts: [sh, -c, …].",
    ),
    "a name": ({"volumes": [{"name": "a", "secret": {"secretName": "b", "name": "b"}}]}, "Did you mean secretName?"),
}
SHAPES = {
    "a switch": ({"networkPolicy": True}, "Write {enabled: true}."),
    "a text": ({"image": "chronik:1"}, "It has controller, ingest, search, node, pullPolicy, pullSecrets."),
    "variables": ({"components": {"ingest": {"env": {"A": "b"}}}}, "Write a list of maps with name and value."),
    "a plural": ({"components": {"ingestNodes": {}}}, "Did you mean ingest?"),
    "no component": ({"components": {"env": []}}, f"It belongs in {ONE}."),
    "one image": (
        {"image": {"tag": "1"}},
        "Each component has one text: `<component>: registry.example.com/image:1.2.3`.",
    ),
    "monitoring": (
        {"monitoring": {"enabled": True}},
        "It belongs in spec.monitoring.serviceMonitor or spec.monitoring.podMonitor.",
    ),
    "a target": ({"patches": [{"target": {"kind": "Service"}, "patch": {}, "name": "a"}]}, "spec.patches[].target"),
}


def hints(**fields: Any) -> list[str]:
    """Return the hints of all errors of a document."""
    document = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": {"name": "a"}}
    return [each.hint for each in SCHEMA.admit({**document, "spec": SPEC | fields}).problems]


@pytest.mark.parametrize(("name", "hint"), AT_THE_TOP.items(), ids=AT_THE_TOP)
def test_at_the_top(name, hint):
    """What others have at the top of their documents leads to where it is here."""
    assert hints(**{name: {}}) == [hint]


@pytest.mark.parametrize(("name", "hint"), OF_A_COMPONENT.items(), ids=OF_A_COMPONENT)
def test_of_a_component(name, hint):
    """What others have in a section of a component leads to where it is here."""
    assert hints(components={"ingest": {name: {}}}) == [hint]


@pytest.mark.parametrize(("fields", "hint"), BELOW.values(), ids=BELOW)
def test_below_a_field_of_a_component(fields, hint):
    """In what has the shape of Kubernetes, no other section of the spec is suggested."""
    assert hints(components={"ingest": fields}) == [hint]


@pytest.mark.parametrize(("fields", "hint"), SHAPES.values(), ids=SHAPES)
def test_wrong_shapes(fields, hint):
    """A value of another shape, or a key that is none, is one error, and says how to write it."""
    (found,) = hints(**fields)

    assert hint in found
