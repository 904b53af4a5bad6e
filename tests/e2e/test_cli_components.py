"""Wishes for one component, from the document alone: shown by `diff`, applied, and there on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import SPEC, Place

from chronik.manifest import ObjectRef

if TYPE_CHECKING:
    from pathlib import Path

    from support.api import ApiServer

CONTAINER = 'spec.template.spec.containers[name="ingest"]'
NETWORK = {"serviceType": "LoadBalancer"}
WISHES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "env-from-a-secret": (
        {"env": [{"name": "LOG_TOKEN", "valueFrom": {"secretKeyRef": {"name": "shipper", "key": "token"}}}]},
        "StatefulSet/c-ingest",
        [f'{CONTAINER}.env[name="LOG_TOKEN"]'],
    ),
    "sidecar-with-its-volume": (
        {
            "volumes": [{"name": "logs", "emptyDir": {}}],
            "volumeMounts": [{"name": "logs", "mountPath": "/var/log/chronik"}],
            "sidecars": [
                {
                    "name": "shipper",
                    "image": "fluent/fluent-bit:3.2.1",
                    "resources": {"requests": {"cpu": "0.05"}},
                    "volumeMounts": [{"name": "logs", "mountPath": "/logs"}],
                }
            ],
        },
        "StatefulSet/c-ingest",
        [
            'containers[name="shipper"]',
            f'{CONTAINER}.volumeMounts[mountPath="/var/log/chronik"]',
            'volumes[name="logs"]',
        ],
    ),
    "role-in-aws": (
        {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/streaming"}}},
        "ServiceAccount/c-ingest",
        ["eks.amazonaws.com/role-arn", "arn:aws:iam::1:role/streaming"],
    ),
    "load-balancer-of-aws": (
        {
            "service": {
                "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
                "externalTrafficPolicy": "Local",
            }
        },
        "Service/c-ingest-client",
        ["service.beta.kubernetes.io/aws-load-balancer-scheme", "spec.externalTrafficPolicy: Cluster -> Local"],
    ),
    "init-container-that-waits": (
        {"initContainers": [{"name": "wait", "image": "busybox:1.37", "command": ["sleep", "1"]}]},
        "StatefulSet/c-ingest",
        ["spec.template.spec.initContainers", "name: wait"],
    ),
    "service-account-that-is-there": (
        {"serviceAccount": {"create": False, "name": "mine"}},
        "StatefulSet/c-ingest",
        ["spec.template.spec.serviceAccountName: c-ingest -> mine"],
    ),
}


@pytest.fixture
def place(server: ApiServer, namespace: str, tmp_path: Path) -> Place:
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


@pytest.mark.parametrize("wish", WISHES)
def test_wishes_come_true(place: Place, wish: str):
    """A wish is shown by `diff`, applied, and then as wanted; taken back, all is as before."""
    own, changed, words = WISHES[wish]
    components = {"ingest": own}
    assert place.apply(network=NETWORK).code == 0
    shown = place.diff(network=NETWORK, components=components)

    assert (shown.code, shown.err) == (1, "")
    kind, name = changed.split("/")
    assert f"~ {kind}/{place.namespace}/{name}\n" in shown.out
    for each in words:
        assert each in shown.out, shown.out

    assert place.apply(network=NETWORK, components=components).code == 0
    assert place.diff(network=NETWORK, components=components).code == 0, "it does not rest"
    assert place.apply("--prune", network=NETWORK).code == 0
    assert place.diff(network=NETWORK).code == 0


def test_another_storage_class_for_ingest_only(place: Place):
    """Ingest nodes have a class and a size of their own, and the others those for all."""
    assert place.apply(components={"ingest": {"storage": {"size": "500Gi", "storageClass": "fast"}}}).code == 0
    live = place.live()

    assert claim(live, place, "c-ingest") == ("fast", "500Gi")
    assert claim(live, place, "c-controller")[1] == "10Gi"

    done = place.diff(components={"ingest": {"storage": {"size": "500Gi", "storageClass": "other"}}})

    assert done.code == 1
    assert "storageClassName: fast -> other" in done.out


def claim(live: dict[ObjectRef, Any], place: Place, name: str) -> tuple[str | None, str]:
    """Return class and size of the volumes of a StatefulSet."""
    (template,) = live[ObjectRef("StatefulSet", place.namespace, name)]["spec"]["volumeClaimTemplates"]
    return template["spec"].get("storageClassName"), template["spec"]["resources"]["requests"]["storage"]


def test_volumes_of_one_component_grow(place: Place):
    """To say for a component what it has changes nothing; more grows its volumes alone, and less is refused."""
    assert place.apply().code == 0

    assert place.diff(components={"ingest": {"storage": {"size": "10240Mi"}}}).code == 0

    larger = {"ingest": {"storage": {"size": "20Gi"}}}
    shown = place.diff(components=larger)
    assert shown.code == 1
    assert "c-ingest" in shown.out
    assert "c-controller" not in shown.out
    assert place.apply(components=larger).code == 0
    live = place.live()
    assert claim(live, place, "c-ingest")[1] == "20Gi"
    assert claim(live, place, "c-controller")[1] == "10Gi"
    assert place.diff(components=larger).code == 0

    smaller = place.diff(components={"ingest": {"storage": {"size": "15Gi"}}})
    assert smaller.code == 2
    assert "would have to shrink from 20Gi to 15Gi, and volumes never shrink" in smaller.out
    assert "spec.components: the volumes of a component can grow, but never shrink" in smaller.err


def test_server_refuses_what_chronik_refuses(place: Place):
    """A document with a name of chronik's own is refused by the server, in the words of `validate`, with its path."""
    path = f"/apis/chronik.stream/v1alpha1/namespaces/{place.namespace}/chronikclusters"
    spec = {**SPEC, "components": {"ingest": {"env": [{"name": "CHRONIK_ROLE", "value": "x"}]}}}
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c"},
        "spec": spec,
    }
    answer = place.server.call("POST", path, document)

    assert answer.code == 422
    assert "env[0].name" in answer.body["message"]
    assert "chronik sets a variable of this name itself" in answer.body["message"]
