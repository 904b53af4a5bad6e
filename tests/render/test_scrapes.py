"""A real Prometheus scrapes what the rendered monitors name, and takes the rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.prometheus import Exporter, PrometheusServer, needs_prometheus
from support.scrapes import pods_of, scrape_configs

from chronik.offline import loading as offline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.manifest import Manifest

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheusrule.yaml").read_text("utf-8"))["spec"]
PROMTOOL = shutil.which("promtool")
MONITOR = {"enabled": True, "interval": "1s", "labels": {}}
LAG = 'chronik_replication_lag_seconds{source="east",target="west"}'


def rendered(example: str, **monitoring: Any) -> list[Manifest]:
    """Return the objects of an example with monitors."""
    [cluster], _ = offline.load_clusters([str(ROOT / "examples" / f"{example}.yaml")])
    spec = {**cluster.spec, "monitoring": {**cluster.spec["monitoring"], **monitoring}}
    return offline.render_clusters([replace(cluster, spec=spec)])


def of_kinds(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Return the objects of some kinds."""
    return [each for each in manifests if each["kind"] in kinds]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_rules_are_valid(tmp_path):
    """Prometheus' own tool finds no fault in the alerts."""
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps(RULES))
    done = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert f"{sum(len(each['rules']) for each in RULES['groups'])} rules found" in done.stdout


@contextmanager
def scraping(folder: Path, jobs: list[dict[str, Any]], ports: dict[str, str]) -> Iterator[PrometheusServer]:
    """Give a Prometheus with jobs and the alerts, and exporters on addresses, each with a line of its own."""
    with ExitStack() as stack:
        for address, line in ports.items():
            exporter = Exporter(address)
            stack.callback(exporter.close)
            exporter.series[line] = 1
        rules = folder / "rules.yaml"
        rules.write_text(json.dumps(RULES))
        interval = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
        config = {"global": interval, "rule_files": [str(rules)], "scrape_configs": jobs}
        server = PrometheusServer(folder, config)
        stack.callback(server.close)
        yield server


def targets(server: PrometheusServer) -> list[dict[str, Any]]:
    """Return what Prometheus scrapes."""
    with urllib.request.urlopen(f"{server.url}/api/v1/targets?state=active", timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
    return found


@needs_prometheus
@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "kind", "field", "ports"),
    [
        ("unified-production", "PodMonitor", "podMonitor", lambda number: 13001 + number),
        ("standard", "PodMonitor", "podMonitor", lambda _number: 8080),
        ("standard", "ServiceMonitor", "serviceMonitor", lambda _number: 8080),
    ],
)
def test_every_pod_is_scraped_once(tmp_path, example, kind, field, ports):
    """Each pod's metrics are up, once, on the port that it has them on, with labels that say whose they are."""
    manifests = rendered(example, **{field: MONITOR})
    pods = pods_of(of_kinds(manifests, "StatefulSet", "Deployment"))
    monitors, services = of_kinds(manifests, kind), of_kinds(manifests, "Service")
    jobs = [job for each in monitors for job in scrape_configs(each, pods, services)]
    addresses = {f"{pod.address}:{ports(number)}": "own" for number, pod in enumerate(pods)}
    with scraping(tmp_path, jobs, addresses) as server:
        server.until("count(up == 1)", str(len(pods)))
        found = targets(server)

    assert {each["labels"]["instance"] for each in found} == addresses.keys()
    assert sorted(each["labels"]["pod"] for each in found) == sorted(pod.name for pod in pods)
    for each in found:
        assert each["labels"]["chronik_stream_cluster"] == manifests[0]["metadata"]["labels"]["chronik.stream/cluster"]
        assert f"-{each['labels']['chronik_stream_component']}-" in each["labels"]["pod"]
        assert each["labels"]["namespace"] == manifests[0]["metadata"]["namespace"]


@needs_prometheus
@pytest.mark.slow
def test_mirrors_have_the_labels_that_alerts_speak_of(tmp_path):
    """The lag of a mirror is scraped by its PodMonitor, and the alert about it says namespace, target and source."""
    manifests = rendered("replication", podMonitor=MONITOR)
    mirrors = [each for each in of_kinds(manifests, "Deployment") if "-mirror-" in each["metadata"]["name"]]
    pods = pods_of(mirrors)
    monitors = [each for each in of_kinds(manifests, "PodMonitor") if "-mirror-" in each["metadata"]["name"]]
    jobs = [job for each in monitors for job in scrape_configs(each, pods, [])]
    metrics = [port["containerPort"] for _, port in pods[0].ports() if port["name"] == "metrics"]
    addresses = {f"{pod.address}:{metrics[0]}": LAG for pod in pods}
    with scraping(tmp_path, jobs, addresses) as server:
        alert = next(each for group in RULES["groups"] for each in group["rules"] if "lag_seconds" in each["expr"])
        spoken_of = alert["expr"].split(">")[0]
        server.until(f"count({spoken_of})", "1")
        labels = server.labels(spoken_of)

    namespace = manifests[0]["metadata"]["namespace"]
    assert labels == [{"namespace": namespace, "target": "west", "source": "east"}]
