"""What the Prometheus operator makes of monitors: a scrape configuration, and what Kubernetes tells Prometheus of pods.

The rules are those that it writes for `podMonitor/…` and `serviceMonitor/…` jobs, and the `__meta_` labels those of
Prometheus' discovery of pods and endpoints. Sources: prometheus-operator.dev/docs/developer/scrapeconfig and
prometheus.io/docs/prometheus/latest/configuration/configuration, section kubernetes_sd_config.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.manifest import Manifest


class PlayedPod(NamedTuple):
    """A pod that runs: what its workload says, its name, its address, and its labels with those of the controller."""

    name: str
    address: str
    labels: dict[str, str]
    template: dict[str, Any]
    namespace: str

    def ports(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield its ports, each with the container that has it."""
        for container in self.template["spec"]["containers"]:
            for port in container.get("ports", ()):
                yield container["name"], port


def pods_of(workloads: Iterable[Manifest], first_address: int = 11) -> list[PlayedPod]:
    """Return the pods of workloads, each with an address of its own on loopback."""
    found: list[PlayedPod] = []
    for workload in workloads:
        spec, metadata = workload["spec"], workload["metadata"]
        start = (spec.get("ordinals") or {}).get("start", 0)
        for number in range(start, start + spec.get("replicas", 1)):
            index = {"apps.kubernetes.io/pod-index": str(number)} if workload["kind"] == "StatefulSet" else {}
            labels = spec["template"]["metadata"]["labels"] | index
            name, address = f"{metadata['name']}-{number}", f"127.0.0.{first_address + len(found)}"
            found.append(PlayedPod(name, address, labels, spec["template"], metadata["namespace"]))
    return found


def scrape_configs(monitor: Manifest, pods: Iterable[PlayedPod], services: Iterable[Manifest]) -> list[dict[str, Any]]:
    """Return the jobs of a monitor, with what is discovered as their targets."""
    metadata, spec = monitor["metadata"], monitor["spec"]
    by_pods = monitor["kind"] == "PodMonitor"
    made = []
    for number, endpoint in enumerate(spec["podMetricsEndpoints" if by_pods else "endpoints"]):
        targets = _pod_targets(pods) if by_pods else _endpoint_targets(pods, services)
        of = "pod" if by_pods else "service"
        named = "__meta_kubernetes_pod_container_port_name" if by_pods else "__meta_kubernetes_endpoint_port_name"
        rules = [
            *(
                _keep([f"__meta_kubernetes_{of}_label_{_name(key)}"], value)
                for key, value in sorted(spec["selector"]["matchLabels"].items())
            ),
            _keep([named], endpoint["port"]),
            _copy("__meta_kubernetes_namespace", "namespace"),
            _copy("__meta_kubernetes_pod_container_name", "container"),
            _copy("__meta_kubernetes_pod_name", "pod"),
            *(
                _copy(f"__meta_kubernetes_pod_label_{_name(key)}", _name(key))
                for key in spec.get("podTargetLabels", ())
            ),
            {"target_label": "job", "replacement": f"{metadata['namespace']}/{metadata['name']}"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(_relabeling(each) for each in endpoint.get("relabelings", ())),
        ]
        name = f"{monitor['kind'][0].lower()}{monitor['kind'][1:]}/{metadata['namespace']}/{metadata['name']}/{number}"
        made.append(
            {
                "job_name": name,
                "metrics_path": endpoint["path"],
                "relabel_configs": rules,
                "static_configs": [{"targets": [address], "labels": labels} for address, labels in targets],
            }
        )
    return made


def _pod_targets(pods: Iterable[PlayedPod]) -> Iterator[tuple[str, dict[str, str]]]:
    for pod in pods:
        for container, port in pod.ports():
            about = {"pod_container_name": container, "pod_container_port_name": port["name"]}
            yield f"{pod.address}:{port['containerPort']}", _meta(pod, about)


def _endpoint_targets(pods: Iterable[PlayedPod], services: Iterable[Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    for service in services:
        selector = service["spec"]["selector"].items()
        labels = {f"service_label_{_name(key)}": each for key, each in service["metadata"]["labels"].items()}
        for pod in [each for each in pods if selector <= each.labels.items()]:
            numbers = {port["name"]: (container, port["containerPort"]) for container, port in pod.ports()}
            for port in service["spec"]["ports"]:
                container, number = numbers[port["targetPort"]]
                about = {"endpoint_port_name": port["name"], "pod_container_name": container, **labels}
                yield f"{pod.address}:{number}", _meta(pod, about)


def _meta(pod: PlayedPod, about: dict[str, str]) -> dict[str, str]:
    labels = {f"pod_label_{_name(key)}": value for key, value in pod.labels.items()}
    found = {"namespace": pod.namespace, "pod_name": pod.name, "pod_phase": "Running", **labels, **about}
    return {f"__meta_kubernetes_{key}": value for key, value in found.items()}


def _name(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _keep(sources: list[str], value: str) -> dict[str, Any]:
    return {"action": "keep", "source_labels": sources, "regex": re.escape(value)}


def _copy(source: str, target: str) -> dict[str, Any]:
    return {"source_labels": [source], "regex": "(.+)", "target_label": target, "replacement": "$1"}


def _relabeling(rule: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in rule.items()}
