"""Canaries by their metrics, with the real controller of StatefulSets and a real Prometheus that a test steers."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import datetime
from itertools import pairwise

import pytest
from support.canaries import ALL, NEW, command, launched, uids
from support.kubelet import with_rights
from support.operator_process import OperatorProcess
from support.operators import Namespace, condition, with_condition
from support.prometheus import needs_prometheus, prometheus_server

from chronik.manifest import POD
from chronik.operator.analysis.prometheus import Prometheus

pytestmark = [pytest.mark.real, needs_prometheus]  # what the controllers do is for them to say

STEPS = [{"pods": 1, "pause": {"duration": "12s"}}, {"pods": "50%", "pause": {"duration": "12s"}}]
METRIC = {"name": "errors", "query": 'max(errors{namespace="$namespace", pod=~"$canary"})', "max": "0.01"}


@pytest.fixture
def place(real_cluster) -> Namespace:
    """Return a fresh namespace of a cluster that has controllers, but no nodes."""
    return Namespace(real_cluster, real_cluster.new_namespace())


@pytest.fixture
def prometheus(tmp_path):
    """Give a Prometheus."""
    with prometheus_server(tmp_path) as server:
        yield server


def analysis(**how):
    """Return an analysis that asks as often as it may."""
    return {"interval": "10s", "failureLimit": 1, "metrics": [METRIC], **how}


def errors(prometheus, place, value, names=ALL):
    """Have pods tell how many errors they have, and wait until that is known."""
    for name in sorted(names):
        prometheus.exporter.series[f'errors{{namespace="{place.name}",pod="{name}"}}'] = value
        prometheus.until(f'errors{{namespace="{place.name}",pod="{name}"}}', f"{value:g}")


async def test_a_metric_turns_bad_at_half(place, prometheus):
    """A candidate whose metrics are good with one pod and bad with half of them goes back, and no other pod moves."""
    errors(prometheus, place, 0)
    async with with_rights(place, analysis=Prometheus(prometheus.url)):
        kubelet = await launched(place, steps=STEPS, analysis=analysis())
        before = await uids(place)
        await place.change("c", image=NEW)
        _, new = await kubelet.until("Paused", 2, 120)
        assert new == ALL - {"c-controller-0", "c-ingest-0"}
        errors(prometheus, place, 0.5, new)
        rollout, new = await kubelet.until("Aborted", None, 120)
        assert new == set()
        found = await with_condition(place, "c", "RolloutHalted", "True", "RolloutAborted")
        events = await place.events()

    assert rollout["message"] == "errors is 0.5, more than 0.01, once"
    assert "errors is 0.5, more than 0.01" in condition(found, "Stalled")["message"]
    assert events["MetricBreached"] == "Warning: errors is 0.5, more than 0.01"
    after = await uids(place)
    assert all(after[name] == before[name] for name in ("c-controller-0", "c-ingest-0"))
    assert kubelet.down == {"controller": 1, "ingest": 1}


@pytest.mark.slow  # so does the one below, with an operator that is killed
async def test_good_metrics_promote(place, prometheus):
    """A candidate whose metrics are good comes through by itself; other pods' metrics are not its own."""
    errors(prometheus, place, 0)
    errors(prometheus, place, 1, ["c-controller-0", "c-ingest-0"])  # which no step takes
    async with with_rights(place, analysis=Prometheus(prometheus.url)):
        kubelet = await launched(place, steps=STEPS, analysis=analysis())
        await place.change("c", image=NEW)
        await kubelet.until("Paused", 1)
        _, new = await kubelet.until("Complete", None, 180)

    assert new == ALL


@pytest.mark.slow
async def test_a_prometheus_that_is_away(place, prometheus):
    """While Prometheus hangs or has no data nothing is promoted or taken back, which is told; after that it goes on."""
    async with with_rights(place, analysis=Prometheus(prometheus.url, deadline=1.0)):
        kubelet = await launched(place, steps=STEPS[:1], analysis=analysis())
        await place.change("c", image=NEW)
        await kubelet.until("Paused", 1)
        await with_condition(place, "c", "AnalysisConclusive", "False", "NoData")
        prometheus.send(signal.SIGSTOP)
        found = await with_condition(place, "c", "AnalysisConclusive", "False", "NoAnswer")
        assert "Prometheus does not answer within 1 s" in condition(found, "AnalysisConclusive")["message"]
        await asyncio.sleep(15)
        rollout, new = await kubelet.until("Paused", 1)
        assert (new, rollout["analysis"][0]["failures"]) == ({"c-controller-2", "c-ingest-2"}, 0)
        prometheus.send(signal.SIGCONT)
        errors(prometheus, place, 0)
        await kubelet.until("Complete", None, 120)


@pytest.mark.slow
async def test_a_pod_of_the_candidate_crashes(place, prometheus):
    """A container that restarts after all pods of the step were ready takes the candidate back at once."""
    errors(prometheus, place, 0)
    steps = [{"pods": 1, "pause": {}}]
    async with with_rights(place, analysis=Prometheus(prometheus.url)):
        kubelet = await launched(place, steps=steps, analysis=analysis(interval="1h"))
        await place.change("c", image=NEW)
        rollout, _ = await kubelet.until("Paused", 1)
        assert [each["restarts"] for each in rollout["components"]] == [0, 0]
        container = {"name": "ingest", "ready": True, "restartCount": 1, "image": "x", "imageID": "x"}
        status = {"status": {"containerStatuses": [container]}}
        await place.call("PATCH", place.path(POD, "c-ingest-2", "status"), status, patch="merge")
        rollout, new = await kubelet.until("Aborted")

    assert (rollout["message"], new) == ("a pod of the candidate has crashed, of component ingest", set())


@pytest.mark.slow
async def test_without_an_address(place):
    """Without --analysis-url a canary with metrics stands still after its first step, and says why."""
    async with with_rights(place):
        kubelet = await launched(place, steps=[{"pods": 1}], analysis=analysis())
        await place.change("c", image=NEW)
        rollout, _ = await kubelet.until("Paused", 1)
        found = await with_condition(place, "c", "AnalysisConclusive", "False", "NoAnswer")
        assert "without --analysis-url" in condition(found, "AnalysisConclusive")["message"]
        await command(place, f"promote@{rollout['candidate']}/1")
        await kubelet.until("Complete")


@pytest.mark.slow
@pytest.mark.parametrize("most", [2, 100])
async def test_killed_while_it_asks(place, prometheus, tmp_path, most):
    """An operator that is killed again and again in the middle of a canary takes each step once, by good metrics."""
    errors(prometheus, place, 0)
    arguments = ("-n", place.name, "--no-leader-elect", "--features", "rollouts", "--analysis-url", prometheus.url)
    process = OperatorProcess(place.server.kubeconfig, tmp_path / "log", *arguments)
    seen = []
    kills = 0
    try:
        kubelet = await launched(place, steps=STEPS, analysis=analysis())
        before = (await place.cluster("c"))["status"]["rollout"]["candidate"]
        await place.change("c", image=NEW)
        began, known = time.monotonic(), None
        while True:
            await asyncio.sleep(0.1)
            await kubelet.look()
            rollout = (await place.cluster("c"))["status"]["rollout"]
            now = rollout["candidate"], rollout.get("step"), rollout["phase"]
            if not seen or seen[-1] != now:
                seen.append(now)
            if rollout["phase"] == "Complete" and rollout["candidate"] != before:
                break
            assert rollout["phase"] not in {"Aborting", "Aborted", "Halted"}
            assert time.monotonic() < began + 240, process.text[-2000:]
            if kills < most and known != (now, rollout.get("analysis")):  # each time that it has come further
                known = now, rollout.get("analysis")
                process.kill()
                kills += 1
                process = OperatorProcess(place.server.kubeconfig, tmp_path / "log", *arguments)
    finally:
        process.kill()
    steps = [step for candidate, step, _ in seen if candidate == seen[-1][0] and step]
    assert kills >= min(most, 3)
    assert steps == sorted(steps)
    assert {1, 2, 3} == {*steps}


ELECTION = ("--lease-duration", "3", "--renew-deadline", "2", "--retry-period", "0.4")


@pytest.mark.slow
async def test_leaders_change_while_it_asks(place, prometheus, tmp_path):
    """Of two operators the leader dies after each answer: each breach counts once, and as many as asked for fail."""
    errors(prometheus, place, 0.5)
    arguments = ("-n", place.name, "--lease-namespace", place.name, *ELECTION, "--features", "rollouts")
    arguments = (*arguments, "--analysis-url", prometheus.url)
    log = tmp_path / "log"
    pair = [OperatorProcess(place.server.kubeconfig, log, *arguments) for _ in range(2)]
    counted, kills = [], 0
    try:
        kubelet = await launched(place, steps=STEPS[:1], analysis=analysis(failureLimit=3))
        await place.change("c", image=NEW)
        began = time.monotonic()
        while True:
            await kubelet.look()
            rollout = (await place.cluster("c"))["status"]["rollout"]
            (metric,) = rollout.get("analysis") or [{}]
            now = metric.get("at", ""), metric.get("failures", 0)
            if metric and (not counted or counted[-1] != now):
                counted.append(now)
                if rollout["phase"] == "Paused":  # whoever of the two leads: the other has to take over
                    pair.pop(0).kill()
                    kills += 1
                    pair.append(OperatorProcess(place.server.kubeconfig, log, *arguments))
            if rollout["phase"] == "Aborted":
                break
            assert time.monotonic() < began + 240, (counted, rollout)
    finally:
        for each in pair:
            each.kill()
    assert rollout["message"] == "errors is 0.5, more than 0.01, 3 times in a row"
    assert [failures for _, failures in counted] == [1, 2, 3]
    times = [datetime.fromisoformat(at) for at, _ in counted]
    assert all((after - before).total_seconds() >= 10 for before, after in pairwise(times))
    assert kills >= 2
