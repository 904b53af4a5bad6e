from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from chronik.manifest import COMPONENT_LABEL, ClusterKey, ObjectRef
from chronik.offline.loading import load_clusters
from chronik.operator.rollout import Rollout
from chronik.plan.actions import Apply, Create

EXAMPLE = Path(__file__).parents[2] / "examples" / "standard.yaml"
KINDS = {"controller": "StatefulSet", "ingest": "StatefulSet", "search": "Deployment"}
COUNTS = {"controller": 3, "ingest": 3, "search": 2}


@cache
def cluster():
    """Return three controllers, three ingest nodes and two search nodes, named `standard`."""
    return load_clusters([str(EXAMPLE)])[0][0]


def ref(component):
    """Return the workload of a component."""
    return ObjectRef(KINDS[component], "default", f"standard-{component}")


def objects(**status):
    """Return workloads that have rolled out, of which some have another status."""
    found = {}
    for component, count in COUNTS.items():
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
        found[ref(component)] = {
            "kind": KINDS[component],
            "metadata": {"name": f"standard-{component}", "namespace": "default", "generation": 1},
            "spec": {"replicas": count},
            "status": {"observedGeneration": 1, **counts, **status.get(component, {})},
        }
    return found


def pod(component, *, ready=True, phase="Running", **metadata):
    """Return a pod of a component."""
    metadata |= {"name": f"standard-{component}-0", "labels": {COMPONENT_LABEL: component}}
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": metadata, "status": status}


def restart(component, manifest=None):
    """Return an apply that restarts a component's pods."""
    return Apply(ref=ref(component), manifest=manifest or {}, changes=(), uid="", resource_version="1")


CASES = {
    "all well": (objects(), [pod("controller")], "search", None),
    "first of all": (objects(controller={"readyReplicas": 0}), [], "controller", None),
    "unready": (objects(controller={"readyReplicas": 2}), [], "ingest", "controller"),
    "the one before the last": (objects(ingest={"updatedReplicas": 1}), [], "search", "ingest"),
    "not seen yet": (objects(controller={"observedGeneration": 0}), [], "search", "controller"),
    "old revision": (objects(controller={"currentRevision": "a", "updateRevision": "b"}), [], "ingest", "controller"),
    "terminating": (objects(), [pod("controller", deletionTimestamp="now")], "ingest", "controller"),
    "just replaced": (objects(), [pod("controller", ready=False)], "search", "controller"),
    "evicted": (objects(), [pod("controller", ready=False, phase="Failed")], "ingest", None),
    "a later one": (objects(), [pod("search", ready=False)], "ingest", None),
    "missing": ({}, [], "ingest", "controller"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_before(case):
    """The pods of a component restart when all pods of those before it are there, ready, and none is on its way out."""
    live, pods, component, blocker = CASES[case]

    assert Rollout(cluster(), live, pods).gate(restart(component), ()) == (ref(blocker) if blocker else None)


def test_new_workloads_wait_for_nobody():
    """A workload that is made for the first time restarts nothing."""
    rollout = Rollout(cluster(), {}, [])

    assert rollout.gate(Create(ref=ref("search"), manifest={}), (ref("controller"),)) is None


@pytest.mark.parametrize("how", ["plan", "earlier plan", "caller"])
def test_one_restart_in_a_pass(how):
    """What this pass restarts is as good as not ready, whichever plan of the pass it was in."""
    rollout = Rollout(cluster(), objects(), [])
    if how == "earlier plan":
        assert rollout.gate(restart("controller"), ()) is None
        assert rollout.is_restarting(ref("controller"))
        assert rollout.gate(restart("controller"), ()) is None
    started = () if how == "earlier plan" else (ref("controller"),)
    blocker = rollout.before(ref("ingest"), started) if how == "caller" else rollout.gate(restart("ingest"), started)

    assert blocker == ref("controller")


def test_turns_come_last():
    """Another cluster is waited for only where nothing in this one has to be."""
    other = ClusterKey("default", "other")
    asked = []

    def turn():
        asked.append(1)
        return other

    rollout = Rollout(cluster(), objects(controller={"readyReplicas": 0}), [], turn)
    assert rollout.gate(restart("ingest"), ()) == ref("controller")
    assert asked == []
    assert rollout.gate(restart("controller"), ()) == ObjectRef("ChronikCluster", "default", "other")
    assert not rollout.is_restarting(ref("controller"))


def test_pods_that_would_not_start_again():
    """Pods do not restart while a Secret that they need is missing."""
    rollout = Rollout(cluster(), objects(), [], missing=lambda manifest: manifest.get("needs"))

    assert rollout.gate(restart("ingest", {"needs": "s"}), ()) == ObjectRef("Secret", "default", "s")
    assert rollout.gate(Create(ref=ref("ingest"), manifest={"needs": "s"}), ()) is None
