"""What is said of mirrors: by their Deployments and pods, and apart from whether the cluster is ready."""

from __future__ import annotations

from typing import Any

import pytest
from support.clusters import small_cluster

from chronik.manifest import ObjectRef
from chronik.plan.results import Report
from chronik.status.compute import Observation, derive
from chronik.status.events import announcements
from chronik.status.own import own_conditions, own_health
from chronik.status.replication import live_mirror_statuses, mirror_statuses, summary

NOW = "2026-01-01T12:00:00Z"


def source(name: str = "east", **more: Any) -> dict[str, Any]:
    """Return a source of replication."""
    return {"name": name, "bootstrapServers": [f"{name}:9092"], "topics": {"include": ["orders"]}, **more}


def cluster(*sources: dict[str, Any]):
    """Return a cluster that copies from these."""
    return small_cluster(replication={"sources": list(sources) or [source()]})


def deployment(name: str = "east") -> dict[ObjectRef, dict[str, Any]]:
    """Return the Deployment of a mirror, by its name."""
    ref = ObjectRef("Deployment", "default", f"c-mirror-{name}")
    return {ref: {"kind": "Deployment", "metadata": {"name": ref.name}, "spec": {"replicas": 2}, "status": {}}}


def pod(
    name: str = "east",
    *,
    mirror: tuple[bool, bool] = (True, True),
    probe: tuple[bool, bool] = (True, True),
    waiting: str = "",
    **metadata: Any,
) -> dict[str, Any]:
    """Return a pod of a mirror; of each container it is told whether it has started and is ready."""
    containers = [
        {"name": each, "started": started, "ready": ready, "state": {"waiting": {"reason": waiting}} if waiting else {}}
        for each, (started, ready) in (("mirror", mirror), ("probe", probe))
    ]
    ready = mirror[1] and probe[1]
    return {
        "metadata": {
            "name": f"c-mirror-{name}-x",
            "labels": {"chronik.stream/component": f"mirror-{name}"},
            **metadata,
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": containers,
        },
    }


DOWN, BEHIND, NEW = (True, False), (True, False), (False, False)
CASES = {
    "replicates": ([pod()], "Replicating", 1),
    "one of two is enough": ([pod(mirror=DOWN, probe=BEHIND), pod()], "Replicating", 1),
    "the source is down": ([pod(mirror=DOWN, probe=BEHIND)], "SourceUnreachable", 0),
    "the source was never there": ([pod(mirror=DOWN, probe=NEW)], "SourceUnreachable", 0),
    "the copy is behind": ([pod(probe=BEHIND)], "Lagging", 0),
    "no heartbeat has come yet": ([pod(probe=NEW)], "Starting", 0),
    "the mirror starts": ([pod(mirror=NEW, probe=NEW)], "Starting", 0),
    "no pod yet": ([], "Starting", 0),
    "cannot run": ([pod(mirror=NEW, probe=NEW, waiting="CrashLoopBackOff")], "MirrorFailed", 0),
    "only one that goes": ([pod(deletionTimestamp=NOW)], "Starting", 0),
    "another mirror's": ([pod("west")], "Starting", 0),
}


@pytest.mark.parametrize("case", CASES)
def test_states(case):
    """Which container of a mirror's pods is ready says what is wrong."""
    pods, state, ready = CASES[case]
    (found,) = mirror_statuses(cluster(), deployment(), pods)

    assert (found.state, found.ready, found.wanted) == (state, ready, 2)


def test_a_mirror_without_its_deployment_starts():
    """A Deployment that is not there yet is named."""
    (found,) = mirror_statuses(cluster(), {}, [])

    assert (found.state, found.words) == ("Starting", "east: Deployment c-mirror-east does not exist")


def test_a_paused_mirror_wants_no_pods():
    """A mirror that is paused is as it should be without pods, and is no fault of the others."""
    both = cluster(source(paused=True), source("west"))
    found = mirror_statuses(both, deployment() | deployment("west"), [pod("west")])

    assert [(each.state, each.wanted) for each in found] == [("Paused", 0), ("Replicating", 2)]
    assert summary(found) == ("Replicating", "east: paused; west: replicating")
    assert summary(found[:1]) == ("Paused", "east: paused")


def test_without_a_document_deployments_tell_of_mirrors():
    """A cluster that was applied from a file has the mirrors that it has Deployments of."""
    live = deployment() | deployment("west")
    for ref, each in live.items():
        each["metadata"]["labels"] = {"chronik.stream/component": ref.name.removeprefix("c-")}
    live[ObjectRef("Deployment", "default", "c-mirror-west")]["spec"]["replicas"] = 0
    found = live_mirror_statuses(live, [pod()])

    assert [(each.source, each.state) for each in found] == [("east", "Replicating"), ("west", "Paused")]


def test_the_worst_mirror_gives_the_reason():
    """The condition's reason is that of the mirror that is worst off, and its message tells of each."""
    both = cluster(source(), source("west"))
    found = mirror_statuses(both, deployment() | deployment("west"), [pod(probe=BEHIND), pod("west")])

    assert summary(found) == ("Lagging", "east: the copy is further behind than maxLag; west: replicating")


@pytest.mark.parametrize("component", ["mirror-east", "archive"])
def test_what_runs_beside_is_none_of_the_users_own_objects(component):
    """Mirrors and the archive have conditions of their own; nothing else waits for them."""
    (live,) = deployment().values()
    live["metadata"] |= {"namespace": "default", "labels": {"chronik.stream/component": component}}
    found = {ObjectRef.of(live): live}

    assert own_conditions(cluster(), [live], found) == []
    assert own_health(cluster(), found) == {}


def test_ready_is_without_mirrors():
    """A mirror that fails changes neither Ready nor Progressing nor the phase, and has a condition of its own."""
    with_one, without = cluster(), small_cluster()
    observed = Observation(deployment(), [pod(probe=BEHIND)], generation=1)
    status, plain = derive(with_one, observed, NOW), derive(without, observed, NOW)
    (extra,) = (each for each in status["conditions"] if each["type"] == "Replicating")

    assert [each for each in status["conditions"] if each != extra] == plain["conditions"]
    assert status["phase"] == plain["phase"]
    assert (extra["status"], extra["reason"]) == ("False", "Lagging")


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([pod(probe=BEHIND)], [("Warning", "Lagging", "east: the copy is further behind than maxLag")]),
        ([pod(probe=NEW)], [("Normal", "Starting", "east: the mirror starts")]),
        ([pod()], []),
    ],
)
def test_events_tell_of_mirrors(pods, expected):
    """A mirror that falls behind is warned of once; that one starts is news, and that all is well is none."""
    before = derive(cluster(), Observation(deployment(), [pod()], generation=1), NOW)
    after = derive(cluster(), Observation(deployment(), pods, previous=before, generation=1), NOW)

    assert [tuple(each) for each in announcements(Report(()), before, after)] == expected
    assert announcements(Report(()), after, after) == []
