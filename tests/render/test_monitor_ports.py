"""What monitors ask for is there: Prometheus finds ports by name, and says nothing of one that no pod has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chronik.offline import loading as offline

if TYPE_CHECKING:
    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

EXAMPLES = Path(__file__).parents[2] / "examples"
MONITOR = {"enabled": True, "interval": "30s", "labels": {}}
NAMES = ("minimal", "production", "unified")


def monitored(name: str) -> Cluster:
    """Return the cluster of an example, with all monitors that its topology can have."""
    [cluster, *_], _ = offline.load_clusters([str(EXAMPLES / f"{name}.yaml")])
    kinds = {"podMonitor": MONITOR}
    if cluster.spec["topology"] == "Roles":
        kinds["serviceMonitor"] = MONITOR
    spec: Any = {**cluster.spec, "monitoring": {**cluster.spec["monitoring"], **kinds}}
    return replace(cluster, spec=spec)


def pods(manifests: list[Manifest], selector: dict[str, str]) -> list[Manifest]:
    """Return the pod templates that a selector selects."""
    templates = [each["spec"]["template"] for each in manifests if each["kind"] in {"StatefulSet", "Deployment"}]
    return [each for each in templates if selector.items() <= each["metadata"]["labels"].items()]


def ports(pod: Manifest) -> dict[str, int]:
    """Return the ports of a pod by name."""
    found = (port for container in pod["spec"]["containers"] for port in container.get("ports", ()))
    return {port["name"]: port["containerPort"] for port in found}


@pytest.mark.parametrize("name", NAMES)
def test_pod_monitors_name_ports_that_pods_have(name):
    """Each endpoint of a PodMonitor is a port of every pod that it selects, and it selects some."""
    manifests = offline.renderer()(monitored(name))
    monitors = [each for each in manifests if each["kind"] == "PodMonitor"]

    assert monitors
    for monitor in monitors:
        selected = pods(manifests, monitor["spec"]["selector"]["matchLabels"])
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert selected
        assert all(endpoint["port"] in ports(pod) for pod in selected)


@pytest.mark.parametrize("name", NAMES[:2])
def test_service_monitors_name_ports_that_lead_to_pods(name):
    """Each endpoint of a ServiceMonitor is a port of a Service that it selects, and leads to a port of its pods."""
    manifests = offline.renderer()(monitored(name))
    services = [each for each in manifests if each["kind"] == "Service"]
    monitors = [each for each in manifests if each["kind"] == "ServiceMonitor"]

    assert monitors
    for monitor in monitors:
        wanted, (endpoint,) = monitor["spec"]["selector"]["matchLabels"], monitor["spec"]["endpoints"]
        found = [
            (service, port)
            for service in services
            if wanted.items() <= service["metadata"]["labels"].items()
            for port in service["spec"]["ports"]
            if port["name"] == endpoint["port"]
        ]
        assert found
        for service, port in found:
            selected = pods(manifests, service["spec"]["selector"])
            target = port.get("targetPort", port["port"])
            assert selected
            assert all(target in {*ports(pod), *ports(pod).values()} for pod in selected)
