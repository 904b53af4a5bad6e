from __future__ import annotations

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chronik.api.schema import Schema
from chronik.manifest import COMPONENT_LABEL, Manifest, ObjectRef
from chronik.offline import assets
from chronik.offline.loading import load_clusters
from chronik.status.compute import (
    OWN_CONDITIONS,
    Observation,
    Reason,
    component_statuses,
    derive,
    merge_conditions,
    own,
)
from chronik.status.outcomes import deleting, pending, refused

if TYPE_CHECKING:
    from chronik.api.spec import Cluster

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "standard.yaml"
EARLIER, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
KINDS = {"controller": "StatefulSet", "ingest": "StatefulSet", "search": "Deployment"}
COUNTS = {"controller": 3, "ingest": 3, "search": 2}
NOBODY = {"controllers": 0, "ingestNodes": 0, "searchNodes": 0}
REFUSED = Reason("Forbidden", "the quota is used up")
"""The reason and message of a permanent error."""


@cache
def cluster() -> Cluster:
    """Return three controllers, three ingest nodes and two search nodes, named `standard`."""
    return load_clusters([str(EXAMPLE)])[0][0]


def with_spec(**fields: Any) -> Cluster:
    """Return the cluster with other fields in its spec."""
    return replace(cluster(), spec={**cluster().spec, **fields})


def workload(component: str, ready: int, wanted: int | None = None) -> Manifest:
    """Return a workload that has rolled out, of whose pods some are ready."""
    count = COUNTS[component] if wanted is None else wanted
    counts = dict.fromkeys(("replicas", "updatedReplicas"), count)
    return {
        "kind": KINDS[component],
        "metadata": {"name": f"standard-{component}", "namespace": "default", "generation": 1},
        "spec": {"replicas": count},
        "status": {"observedGeneration": 1, **counts, "readyReplicas": ready, "availableReplicas": ready},
    }


def pod(component: str, ordinal: int, *, ready: bool = True) -> Manifest:
    """Return a pod of a component."""
    return {
        "metadata": {"name": f"standard-{component}-{ordinal}", "labels": {COMPONENT_LABEL: component}},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def objects(*workloads: Manifest) -> dict[ObjectRef, Manifest]:
    """Return the live objects of a healthy cluster, with some workloads in place of its own."""
    healthy = (workload(component, count) for component, count in COUNTS.items())
    return {ObjectRef.of(each): each for each in (*healthy, *workloads)}


ILL = objects(workload("ingest", 2))


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return one condition of a status."""
    return next(each for each in status["conditions"] if each["type"] == kind)


@pytest.mark.parametrize(
    ("live", "previous", "failure", "phase"),
    [
        ({}, {}, None, "Creating"),
        ({}, {"phase": "Pending"}, None, "Creating"),
        (ILL, {"phase": "Creating", "readyReplicas": {"ingestNodes": 2}}, None, "Creating"),
        (objects(), {"phase": "Creating"}, None, "Running"),
        (objects(), {}, None, "Running"),
        (ILL, {"phase": "Running"}, None, "Updating"),
        ({}, {"phase": "Running"}, None, "Updating"),
        (ILL, {"phase": "Updating"}, None, "Updating"),
        (objects(), {"phase": "Updating"}, None, "Running"),
        (objects(), {"phase": "Running"}, REFUSED, "Failed"),
        (ILL, {"phase": "Failed", "readyReplicas": {**NOBODY, "ingestNodes": 1}}, None, "Updating"),
        (ILL, {"phase": "Failed", "readyReplicas": NOBODY}, None, "Creating"),
        (ILL, {"phase": "Failed"}, None, "Creating"),
        (objects(), {"phase": "Failed"}, None, "Running"),
    ],
)
def test_phase(live, previous, failure, phase):
    """A cluster is created once, runs when all is healthy, and from then on is updating when it is not."""
    assert derive(cluster(), Observation(live, previous=previous, failure=failure), NOW)["phase"] == phase


BUSY = Reason("ApiServerBusy", "too many requests")
"""The reason and message of what passes."""
RUNNING = {"phase": "Running", "observedGeneration": 1}


@pytest.mark.parametrize(
    ("live", "previous", "generation", "phase"),
    [
        (objects(), RUNNING, 1, "Running"),
        (objects(), RUNNING, 2, "Updating"),
        (objects(), {"phase": "Updating", "observedGeneration": 2}, 2, "Updating"),
        (objects(), {"phase": "Creating", "observedGeneration": 1}, 1, "Creating"),
        (objects(), {"phase": "Failed", "readyReplicas": {"ingestNodes": 3}}, 1, "Updating"),
        (ILL, RUNNING, 1, "Updating"),
    ],
)
def test_what_waits_is_not_ready(live, previous, generation, phase):
    """While part of a new spec cannot be written, healthy pods are the old spec's; a repair that waits is no matter."""
    observed = Observation(live, previous=previous, generation=generation, waiting=BUSY)
    status = derive(cluster(), observed, NOW)
    reconciling = condition(status, "Reconciling")

    assert status["phase"] == phase
    assert (condition(status, "Ready")["status"] == "True") == (phase == "Running")
    assert (reconciling["status"], reconciling["reason"], reconciling["message"]) == ("True", *BUSY)


@pytest.mark.parametrize(
    ("live", "previous", "failure", "expected"),
    [
        (objects(), RUNNING, None, ("True", "RolloutComplete")),
        (ILL, RUNNING, None, ("False", "ComponentsNotReady")),
        (ILL, {"phase": "Creating"}, None, ("True", "RolloutInProgress")),
        ({}, RUNNING, None, ("True", "RolloutInProgress")),
        (ILL, RUNNING, REFUSED, ("False", REFUSED.reason)),
    ],
)
def test_progress_tells_a_crash_from_a_roll(live, previous, failure, expected):
    """A cluster that ran and lost pods is rolling nothing out; one whose pods come up for the first time is."""
    status = derive(cluster(), Observation(live, previous=previous, failure=failure), NOW)
    found = condition(status, "Progressing")

    assert (found["status"], found["reason"]) == expected


def test_extra_conditions_and_details_are_shown():
    """What else a pass has found out is in the status as it is, with times of its own."""
    extra = {"type": "Paused", "status": "True", "reason": "PausedByAnnotation", "message": "x"}
    status = derive(cluster(), Observation(objects(), extra=[extra], details={"operatorVersion": "1.2.3"}), NOW)

    assert condition(status, "Paused") == {**extra, "lastTransitionTime": NOW}
    assert status["operatorVersion"] == "1.2.3"


@pytest.mark.parametrize(
    ("made", "phase", "reason"),
    [
        (lambda before: pending(before, NOW, 2), "Pending", "Pending"),
        (lambda before: refused(before, REFUSED, NOW, 2), "Failed", REFUSED.reason),
        (lambda before: deleting(before, NOW, 2), "Deleting", "Deleting"),
    ],
    ids=["pending", "refused", "deleting"],
)
@pytest.mark.parametrize("before", [{}, None], ids=["new", "known"])
def test_statuses_without_a_look(made, phase, reason, before):
    """A cluster of which nothing was looked at has a phase and Ready=False; what was known of its pods stays known."""
    known = derive(cluster(), Observation(objects(), [pod("ingest", 0)], generation=1), EARLIER)
    status = made(known if before is None else before)
    problems = Schema(assets.schema()).schema_problems({"status": status})

    assert (status["phase"], status["observedGeneration"], status["lastUpdated"]) == (phase, 2, NOW)
    assert (condition(status, "Ready")["status"], condition(status, "Ready")["reason"]) == ("False", reason)
    assert condition(status, "Reconciling")["status"] != condition(status, "Stalled")["status"]
    assert [problem for problem in problems if problem.path[:1] == ("status",)] == []
    if before is None:
        assert status["ingestNodes"] == known["ingestNodes"]
        assert condition(status, "IngestNodesReady") == condition(known, "IngestNodesReady")
    assert made(status) == status


def test_a_refused_document_is_not_what_an_earlier_one_was():
    """What was said of an earlier document goes with it, and a pause that goes on keeps its time."""
    paused = {"type": "Paused", "status": "True", "reason": "PausedByAnnotation", "message": "x"}
    warned = {"type": "SpecWarnings", "status": "True", "reason": "SpecHasWarnings", "message": "y"}
    known = derive(cluster(), Observation(objects(), extra=[paused, warned]), EARLIER)
    still = refused(known, REFUSED, NOW, 2, [paused])
    no_more = refused(known, REFUSED, NOW, 2)

    assert condition(still, "Paused")["lastTransitionTime"] == EARLIER
    assert "SpecWarnings" not in {each["type"] for each in still["conditions"]}
    assert {"Paused", "SpecWarnings"}.isdisjoint({each["type"] for each in no_more["conditions"]})
    assert condition(no_more, "IngestNodesReady") == condition(known, "IngestNodesReady")


def test_failed_while_running_and_ill_after():
    """A cluster that ran, failed for two passes and is ill after that, is updating: no pass forgets that it ran."""
    status: dict[str, Any] = {}
    phases = []
    for live, failure in ((objects(), None), (ILL, REFUSED), (ILL, REFUSED), (ILL, None), (objects(), None)):
        status = derive(cluster(), Observation(live, previous=status, failure=failure), NOW)
        phases.append(status["phase"])

    assert phases == ["Running", "Failed", "Failed", "Updating", "Running"]


@pytest.mark.parametrize(("now", "count"), [(3, 5), (3, 1)], ids=["out", "in"])
def test_scaling_is_no_running(now, count):
    """Until its workload has the spec's count, a component is not ready, in whichever direction it goes."""
    live = objects(workload("ingest", now, now))

    status = derive(with_spec(ingestNodes=count), Observation(live, previous={"phase": "Running"}), NOW)

    assert status["phase"] == "Updating"
    assert condition(status, "IngestNodesReady")["status"] == "False"
    assert condition(status, "Ready")["message"] == f"ingest nodes: {now} of {count} ready"


def test_the_images_are_those_that_pods_run():
    """While pods are replaced there are two; what others put beside, and pods that go or have ended, do not count."""

    def pod(number: int, image: str, **more: Any) -> Manifest:
        metadata = {"name": f"standard-ingest-{number}", "labels": {COMPONENT_LABEL: "ingest"}}
        containers = [{"name": "mesh", "image": "mesh:3"}, {"name": "ingest", "image": image}]
        going = {"deletionTimestamp": EARLIER} if more.pop("going", False) else {}
        return {"metadata": metadata | going, "spec": {"containers": containers}, "status": more}

    pods = [pod(0, "i:1"), pod(1, "i:2"), pod(2, "i:0", going=True), pod(3, "i:0", phase="Failed")]
    status = derive(cluster(), Observation(objects(), pods), NOW)

    assert status["images"] == {"ingestNodes": ["i:1", "i:2"]}
    assert status["replicas"] == {"controllers": 3, "ingestNodes": 3, "searchNodes": 2}
    assert "images" not in derive(cluster(), Observation(objects()), NOW)


def test_all_is_well():
    """A healthy cluster says what the seed says, and has nothing under way."""
    status = derive(cluster(), Observation(objects(), generation=7), NOW)

    assert status["readyReplicas"] == {"controllers": 3, "ingestNodes": 3, "searchNodes": 2}
    assert status["observedGeneration"] == 7
    assert [(each["type"], each["status"], each["reason"], each["message"]) for each in status["conditions"]] == [
        ("Ready", "True", "AllComponentsReady", "All Chronik Stream components are running"),
        ("ControllersReady", "True", "AllControllersReady", "3/3 controllers ready"),
        ("IngestNodesReady", "True", "AllIngestNodesReady", "3/3 ingest nodes ready"),
        ("SearchNodesReady", "True", "AllSearchNodesReady", "2/2 search nodes ready"),
        ("Reconciling", "False", "Settled", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("Progressing", "True", "RolloutComplete", ""),
    ]
    assert {each["observedGeneration"] for each in status["conditions"]} == {7}


def test_what_is_missing_is_named():
    """Conditions say which components are not ready, and why."""
    live = objects(workload("ingest", 1))
    del live[ObjectRef("Deployment", "default", "standard-search")]
    why = "ingest nodes: 1 of 3 pods ready; search nodes: Deployment standard-search does not exist"

    status = derive(cluster(), Observation(live), NOW)

    assert [(each["type"], each["status"], each["reason"], each["message"]) for each in status["conditions"]] == [
        ("Ready", "False", "ComponentsNotReady", why),
        ("ControllersReady", "True", "AllControllersReady", "3/3 controllers ready"),
        ("IngestNodesReady", "False", "IngestNodesNotReady", "1/3 ingest nodes ready"),
        ("SearchNodesReady", "False", "SearchNodesNotReady", "0/2 search nodes ready"),
        ("Reconciling", "True", "RolloutInProgress", why),
        ("Stalled", "False", "NotStalled", ""),
        ("Progressing", "True", "RolloutInProgress", ""),
    ]


def test_a_permanent_error_stalls():
    """After a permanent error nothing is under way: Ready and Stalled carry the error, Reconciling points there."""
    status = derive(cluster(), Observation(ILL, failure=REFUSED), NOW)
    found = {each["type"]: (each["status"], each["reason"], each["message"]) for each in status["conditions"]}

    assert found["Ready"] == ("False", *REFUSED)
    assert found["Stalled"] == ("True", *REFUSED)
    assert found["Reconciling"] == ("False", "Stalled", "")


def test_no_search_nodes():
    """Without search nodes nothing waits for them, and no condition speaks of them."""
    live = objects()
    del live[ObjectRef("Deployment", "default", "standard-search")]

    status = derive(with_spec(searchNodes=0), Observation(live), NOW)

    assert (status["phase"], status["searchNodes"], status["readyReplicas"]["searchNodes"]) == ("Running", [], 0)
    assert "SearchNodesReady" not in {each["type"] for each in status["conditions"]}


def test_troubles_of_pods():
    """What a pod cannot run for is in the message of its cluster, and only of its own component."""
    broken = pod("ingest", 0, ready=False)
    broken["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": "ErrImagePull"}}}]

    status = derive(cluster(), Observation(objects(workload("controller", 2), workload("ingest", 2)), [broken]), NOW)

    said = "controllers: 2 of 3 pods ready; ingest nodes: standard-ingest-0: ErrImagePull"
    assert condition(status, "Ready")["message"] == said


def test_addresses_of_ready_pods():
    """Addresses are of the pods that are ready, whichever those are, in the order of their ordinals."""
    pods = [pod("ingest", ordinal, ready=ordinal != 0) for ordinal in (10, 2, 0, 1)]
    leaving = pod("ingest", 3)
    leaving["metadata"]["deletionTimestamp"] = NOW

    status = derive(cluster(), Observation(objects(), [*pods, leaving, pod("controller", 0)]), NOW)

    service = "standard-ingest.default.svc.cluster.local:9092"
    assert status["ingestNodes"] == [f"standard-ingest-{ordinal}.{service}" for ordinal in (1, 2, 10)]
    assert status["controllers"] == ["standard-controller-0.standard-controller.default.svc.cluster.local:9090"]


@pytest.mark.parametrize(("ready", "addresses"), [(0, 0), (1, 1), (2, 1)])
def test_search_nodes_share_an_address(ready, addresses):
    """Search nodes have one address between them, as soon as one of them is ready."""
    status = derive(cluster(), Observation(objects(workload("search", ready)), [pod("search", 0)]), NOW)

    assert status["searchNodes"] == ["standard-search.default.svc.cluster.local:9093"] * addresses


def test_cluster_domain():
    """Addresses end in the cluster's own domain."""
    elsewhere = replace(cluster(), domain="example.test")

    status = derive(elsewhere, Observation(objects()), NOW)

    assert status["searchNodes"] == ["standard-search.default.svc.example.test:9093"]


def test_the_autoscaler_says_how_many():
    """With an autoscaler the wanted count is the workload's, whatever the spec says."""
    bounds = {"minReplicas": 2, "maxReplicas": 9, "metrics": []}
    scaled = with_spec(autoscaling={"controllers": None, "ingestNodes": bounds, "searchNodes": None})
    observed = Observation(objects(workload("ingest", 5, 5)))

    assert [each.wanted for each in component_statuses(scaled, observed)] == [3, 5, 2]
    assert derive(scaled, observed, NOW)["phase"] == "Running"


def test_transition_times():
    """A condition keeps its time as long as its status stays, whatever becomes of its reason and message."""
    old = [
        {"type": "Kept", "status": "False", "reason": "Before", "message": "", "lastTransitionTime": EARLIER},
        {"type": "Turned", "status": "False", "reason": "Before", "message": "", "lastTransitionTime": EARLIER},
        {"type": "Gone", "status": "True", "reason": "Before", "message": "", "lastTransitionTime": EARLIER},
    ]
    new = [
        {"type": "Kept", "status": "False", "reason": "After", "message": "other"},
        {"type": "Turned", "status": "True", "reason": "After", "message": ""},
        {"type": "New", "status": "True", "reason": "After", "message": ""},
    ]

    merged = merge_conditions(old, new, NOW, None)

    times = [EARLIER, NOW, NOW]
    assert merged == [{**each, "lastTransitionTime": time} for each, time in zip(new, times, strict=True)]


def test_conditions_of_an_older_operator():
    """Conditions that an older operator wrote, without `type`, are replaced and not stumbled over."""
    old = [{"conditionType": "Ready", "status": "True"}, {"type": "Ready", "status": "True"}]
    new = [{"type": "Ready", "status": "True", "reason": "After", "message": ""}]

    assert merge_conditions(old, new, NOW, None) == [{**new[0], "lastTransitionTime": NOW}]


def test_nothing_moves_without_a_change():
    """The status of an unchanged cluster is the same to the last character, however much later."""
    before = derive(cluster(), Observation(ILL, generation=1, previous={"phase": "Updating"}), EARLIER)

    assert derive(cluster(), Observation(ILL, generation=1, previous=before), NOW) == before


@pytest.mark.parametrize(
    "change",
    [{"objects": objects()}, {"pods": [pod("ingest", 0)]}, {"generation": 2}, {"failure": REFUSED}],
    ids=lambda change: next(iter(change)),
)
def test_last_updated_moves_with_anything_else(change):
    """Whatever else changes in a status, `lastUpdated` tells."""
    observed = Observation(ILL, generation=1, previous={"phase": "Updating"})
    before = derive(cluster(), observed, EARLIER)

    after = derive(cluster(), replace(observed, previous=before, **change), NOW)

    assert (before["lastUpdated"], after["lastUpdated"]) == (EARLIER, NOW)


def test_messages_fit():
    """A message longer than a condition holds is cut, so that the API server takes the status."""
    status = derive(cluster(), Observation(ILL, failure=Reason("Invalid", "x" * 40_000)), NOW)

    assert max(len(each["message"]) for each in status["conditions"]) == 32_768


@pytest.mark.parametrize("failure", [None, REFUSED])
@pytest.mark.parametrize("live", [{}, ILL, objects()], ids=["nothing", "ill", "healthy"])
def test_the_schema_takes_it(live, failure):
    """Every status, the first one too, fits the schema of a ChronikCluster."""
    status = derive(cluster(), Observation(live, [pod("ingest", 0)], generation=1, failure=failure), NOW)

    problems = Schema(assets.schema()).schema_problems({"status": status})
    assert [problem for problem in problems if problem.path[:1] == ("status",)] == []


def test_the_schema_is_asked():
    """The check above can fail: a status that does not fit is found."""
    problems = Schema(assets.schema()).schema_problems({"status": {"phase": "Flying"}})

    assert ("status", "phase") in {problem.path for problem in problems}


OF_OTHER_KINDS = {"backups", "federation"}
"""Packages whose conditions are those of other kinds, but for a `cluster.py`."""


def types_written() -> set[str]:
    """Return the types of all conditions that the code makes; one call makes those that have components' names."""
    calls = [
        node
        for path in (ROOT / "chronik").rglob("*.py")
        if path.name == "cluster.py" or path.parent.name not in OF_OTHER_KINDS
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "condition"
    ]
    kinds = [call.args[0] for call in calls]
    fixed = {kind.value for kind in kinds if isinstance(kind, ast.Constant)}
    composed = {ast.unparse(kind) for kind in kinds if not isinstance(kind, ast.Constant)}
    assert composed == {"f'{title}Ready'"}
    [unified], _ = load_clusters([str(EXAMPLE.parent / "unified.yaml")])
    found = (derive(each, Observation(objects()), NOW)["conditions"] for each in (cluster(), unified))
    return fixed | {each["type"] for conditions in found for each in conditions}


def types_listed() -> set[str]:
    """Return the types of the conditions in the table that people read."""
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    section = text.partition("\n## Conditions\n")[2].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {kind for first in firsts for kind in re.findall(r"`(\w+)`", first)}


def test_own_conditions_are_those_that_are_written():
    """Each condition that the code makes is known as ours, in the documentation too, and no other is."""
    assert types_written() == OWN_CONDITIONS
    assert types_listed() == OWN_CONDITIONS


def test_conditions_of_others_are_no_news():
    """What somebody else keeps in a status is left out of it, and everything that is ours stays."""
    status = derive(cluster(), Observation(objects(), generation=1), NOW)
    theirs = {"type": "BackedUp", "status": "True"}
    mixed = [theirs, *status["conditions"], {"status": "True"}]

    assert own({**status, "conditions": mixed}) == status
    assert own(status) == status
    assert own({"phase": "Pending"}) == {"phase": "Pending"}
    assert own({}) == {}
