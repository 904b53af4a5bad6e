"""Metrics: what is counted is given out, and alerts and dashboard ask for nothing else."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chronik import __version__
from chronik.errors import Forbidden, Unreachable
from chronik.manifest import ClusterKey
from chronik.operator.telemetry.metrics import PHASES, Metrics
from chronik.probe.measure import Measure
from chronik.probe.server import Lag

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMES = re.compile(r"\b(?:chronik|process)_[a-z0-9_]+\b")


@dataclass
class Time:
    """A wall clock that the test sets."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def exposed(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return all samples as a scraper reads them, by name and label values, sorted by the labels' names."""
    text = metrics.expose()[0].decode()
    families = text_string_to_metric_families(text)
    return {
        (one.name, tuple(value for _, value in sorted(one.labels.items()))): one.value
        for each in families
        for one in each.samples
    }


def used() -> Metrics:
    """Return metrics in which everything has happened once."""
    metrics = Metrics()
    metrics.reconciled("ok", 0.2)
    metrics.failed(Forbidden("no"))
    metrics.requested("patch", "ConfigMap", 200, 0.03)
    metrics.wrote("created")
    metrics.avoided()
    metrics.relisted("Service", "expired")
    metrics.cluster(ClusterKey("n", "a"), "Running")
    metrics.federation(ClusterKey("n", "f"), "Complete", ["Ready"])
    metrics.leads(yes=True)
    return metrics


def test_reconciles_are_counted_by_result():
    """A reconcile counts once under its result, and its seconds go into the histogram."""
    metrics = Metrics()
    metrics.reconciled("ok", 0.2)
    metrics.reconciled("ok", 0.4)
    metrics.reconciled("waiting", 0.1)

    found = exposed(metrics)
    assert found["chronik_reconcile_total", ("ok",)] == 2
    assert found["chronik_reconcile_total", ("waiting",)] == 1
    assert found["chronik_reconcile_total", ("failed",)] == 0
    assert found["chronik_reconcile_duration_seconds_count", ()] == 3
    assert found["chronik_reconcile_duration_seconds_sum", ()] == pytest.approx(0.7)


def test_errors_are_counted_by_class_and_reason():
    """An error counts under the class that decides when it is tried again; a bug is of class unknown."""
    metrics = Metrics()
    for error in (Forbidden("no"), Unreachable("gone"), Unreachable("gone"), KeyError("spec")):
        metrics.failed(error)

    found = exposed(metrics)
    assert found["chronik_reconcile_errors_total", ("permanent", "Forbidden")] == 1
    assert found["chronik_reconcile_errors_total", ("transient", "ApiServerUnreachable")] == 2
    assert found["chronik_reconcile_errors_total", ("unknown", "KeyError")] == 1


def test_requests_are_counted():
    """Requests count by verb, kind and code, an unanswered one under 0."""
    metrics = Metrics()
    metrics.requested("list", "Service", 200, 0.03)
    metrics.requested("list", "Service", 0, 30.0)

    found = exposed(metrics)
    assert found["chronik_api_requests_total", ("200", "Service", "list")] == 1
    assert found["chronik_api_requests_total", ("0", "Service", "list")] == 1
    assert found["chronik_api_request_duration_seconds_count", ("list",)] == 2


def test_writes_and_lists_are_counted():
    """Writes count by action, avoided ones together, lists by kind and cause."""
    metrics = Metrics()
    metrics.wrote("created", 22)
    metrics.avoided(5)
    metrics.avoided()
    metrics.relisted("Service", "expired")

    found = exposed(metrics)
    assert found["chronik_writes_total", ("created",)] == 22
    assert found["chronik_writes_avoided_total", ()] == 6
    assert found["chronik_cache_relists_total", ("Service", "expired")] == 1


def test_clusters_by_phase():
    """Every phase has its count, 0 included, and how long the cluster that is longest in it has been there."""
    time = Time()
    metrics = Metrics(time)
    a, b, c = (ClusterKey("n", name) for name in "abc")
    metrics.cluster(a, "Creating")
    time.seconds += 100
    metrics.cluster(a, "Creating")
    metrics.cluster(b, "Creating")
    metrics.cluster(c, "Running", since=time.seconds - 5000)
    time.seconds += 20

    found = exposed(metrics)
    assert [found["chronik_clusters", (phase,)] for phase in PHASES] == [0, 2, 1, 0, 0, 0]
    assert found["chronik_clusters_longest_seconds", ("Creating",)] == 120
    assert found["chronik_clusters_longest_seconds", ("Running",)] == 5020
    metrics.cluster(a, "Running")
    metrics.cluster_gone(c)
    found = exposed(metrics)
    assert found["chronik_clusters_longest_seconds", ("Creating",)] == 20
    assert found["chronik_clusters", ("Running",)] == 1


def test_archives_that_stand_still():
    """Clusters without a whole archive are counted, and how long that has been so; none of those that are gone."""
    time = Time()
    metrics = Metrics(time)
    a, b = (ClusterKey("n", name) for name in "ab")
    assert exposed(metrics)["chronik_clusters_not_archiving_longest_seconds", ()] == 0
    metrics.not_archiving(a, time.seconds - 60)
    metrics.not_archiving(b, time.seconds - 900)

    found = exposed(metrics)
    assert found["chronik_clusters_not_archiving", ()] == 2
    assert found["chronik_clusters_not_archiving_longest_seconds", ()] == 900
    metrics.not_archiving(a, None)
    metrics.cluster_gone(b)
    assert exposed(metrics)["chronik_clusters_not_archiving", ()] == 0


def test_canaries_by_phase():
    """Canaries are counted by phase, and each end of one once, by how it ended; one that pauses gets no older."""
    now = [0.0]
    metrics = Metrics(lambda: now[0])
    one, two = ClusterKey("n", "one"), ClusterKey("n", "two")
    for phase in ("Progressing", "Paused", "Paused", "Halted", "Halted", "Aborting", "Aborted"):
        metrics.rollout(one, phase)
        metrics.cluster(one, "Updating", None)
        if phase == "Paused":
            now[0] += 5000
    metrics.rollout(two, "Complete")
    found = exposed(metrics)

    assert (found["chronik_rollouts", ("Aborted",)], found["chronik_rollouts", ("Complete",)]) == (1, 1)
    ends = [found["chronik_rollouts_ended_total", (result,)] for result in ("complete", "halted", "aborted")]
    assert ends == [0, 1, 1]
    assert found["chronik_clusters_longest_seconds", ("Updating",)] == 5000
    metrics.rollout(one, "Paused")
    metrics.cluster(one, "Updating", None)
    assert exposed(metrics)["chronik_clusters_longest_seconds", ("Updating",)] == 0
    metrics.cluster_gone(two)
    assert exposed(metrics)["chronik_rollouts", ("Complete",)] == 0


def test_standby_has_no_clusters():
    """Who no longer leads tells nothing of clusters, so that two replicas do not count them twice."""
    metrics = used()
    assert (exposed(metrics)["chronik_leader", ()], exposed(metrics)["chronik_clusters", ("Running",)]) == (1, 1)

    metrics.leads(yes=False)
    assert (exposed(metrics)["chronik_leader", ()], exposed(metrics)["chronik_clusters", ("Running",)]) == (0, 0)


def test_queue_is_asked_when_metrics_are_read():
    """Depth and age of the queue are as they are at that moment."""
    metrics, waiting = Metrics(), [3.0, 4.0]
    metrics.watch(depth=lambda: len(waiting), oldest=lambda: max(waiting, default=0))
    assert exposed(metrics)["chronik_queue_oldest_seconds", ()] == 4

    waiting.clear()
    assert exposed(metrics)["chronik_queue_depth", ()] == 0


def test_two_operators_share_nothing():
    """Metrics of one operator in a process are not those of another."""
    one, other = Metrics(), Metrics()
    one.avoided()

    assert exposed(other)["chronik_writes_avoided_total", ()] == 0


def test_build_and_process():
    """The version and the process's own figures are there from the beginning."""
    found = exposed(Metrics())

    assert found["chronik_build_info", (platform.python_version(), __version__)] == 1
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_open_metrics_on_request():
    """Prometheus gets OpenMetrics if it asks for it, and the plain text format otherwise."""
    metrics = used()

    assert metrics.expose("application/openmetrics-text;version=1.0.0")[1].startswith("application/openmetrics-text")
    assert metrics.expose("*/*")[1].startswith("text/plain")


# --- alerts and dashboard ---------------------------------------------------------------------------------------------


def alerts() -> list[dict]:
    rules = yaml.safe_load((DEPLOY / "prometheusrule.yaml").read_text())
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"]]


def dashboard() -> dict:
    return json.loads((DEPLOY / "grafana-dashboard.json").read_text())


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return every PromQL expression of both files, Grafana's variables filled in."""
    found = [rule["expr"] for rule in alerts()]
    found += [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [annotation["expr"] for annotation in dashboard()["annotations"]["list"]]
    return [re.sub(r"\$\{?(\w+)\}?", "x", each.replace("$__rate_interval", "5m")) for each in found]


def names_of(metrics: Metrics) -> set[str]:
    return {name for name, _ in exposed(metrics)}


def of_mirrors() -> dict[str, set[str]]:
    """Return the labels of each metric that the probe of a mirror gives out."""
    measure = Measure("east", 60, Time())
    measure.compared((), ())
    return {sample.name: set(sample.labels) for family in Lag(measure).collect() for sample in family.samples}


@pytest.mark.parametrize("expression", expressions())
def test_expressions_are_promql(expression):
    """Every expression of alerts and dashboard can be parsed."""
    parser = pytest.importorskip("promql_parser", reason="promql-parser is not installed: chronik[test] has it")

    assert parser.parse(expression)


@pytest.mark.parametrize("expression", expressions())
def test_expressions_ask_for_metrics_that_exist(expression):
    """Every expression names metrics, and all of them are given out by the operator, or by the probe of a mirror."""
    assert NAMES.findall(expression)
    assert set(NAMES.findall(expression)) <= {*names_of(used()), *of_mirrors()}


@pytest.mark.parametrize("expression", expressions())
def test_expressions_ask_for_labels_that_exist(expression):
    """Every label in an expression is one of a metric in it, or one that scraping adds."""
    scraped = {"namespace", "job", "pod", "instance", "le"}
    text = used().expose()[0].decode()
    known = scraped.union(*(labels for name, labels in of_mirrors().items() if name in NAMES.findall(expression)))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            known |= set(sample.labels) if sample.name in NAMES.findall(expression) else set()
    asked = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression))
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        asked |= {label.strip() for label in grouped.split(",")}

    assert asked <= known


def test_dashboard_shows_everything():
    """Every metric of the operator's own has its place on the dashboard."""
    shown = {name for panel in panels() for target in panel["targets"] for name in NAMES.findall(target["expr"])}
    families = {
        family.name
        for family in text_string_to_metric_families(used().expose()[0].decode())
        if "_created" not in family.name
    }

    assert {
        name for name in families if name.startswith("chronik_") and not any(each.startswith(name) for each in shown)
    } == set()


def test_panels_do_not_overlap():
    """Every panel has a place of its own, within the width, an id of its own, and says what it shows."""
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells

    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["description"] for panel in panels())


def test_alerts_say_what_to_do():
    """Every alert has a name of its own, a severity, and annotations that use only labels that its expression keeps."""
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        labels = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
        if kept:
            assert set(labels) <= {label.strip() for group in kept for label in group.split(",")}, rule["alert"]


def test_issue_alerts_are_there():
    """What somebody is to be woken for: errors, stuck rollouts, failed clusters, no leader, a growing queue."""
    assert {
        "ChronikReconcileErrors",
        "ChronikRolloutStuck",
        "ChronikClustersFailed",
        "ChronikNoLeader",
        "ChronikQueueGrowing",
        "ChronikApiErrors",
    } <= {rule["alert"] for rule in alerts()}
