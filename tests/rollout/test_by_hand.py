"""A canary without an operator: what is applied at a step, and which step is under way."""

from __future__ import annotations

from functools import cache

import pytest
from support.cli_place import SPEC

from chronik.errors import InputError
from chronik.manifest import ObjectRef
from chronik.offline.loading import renderer, validator
from chronik.rollout.by_hand import at_step, step_under_way

STEPS = [{"pods": 1, "pause": {"duration": "1m"}}, {"pods": "50%", "pause": {}}]
COUNTS = {"controllers": 3, "ingestNodes": 4, "searchNodes": 4}


@cache
def rendered(search="RollingUpdate", steps=2, **spec):
    """Return a valid cluster with a canary, and its manifests."""
    rollout = {"strategy": "Canary", "canary": {"steps": STEPS[:steps]}}
    rollout |= {"search": search} if search == "BlueGreen" else {}
    found = {**SPEC, **COUNTS, **spec, "rollout": rollout if steps else None}
    metadata = {"name": "c", "namespace": "n"}
    document = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": metadata}
    validated = validator().validate({**document, "spec": {name: value for name, value in found.items() if value}})
    assert validated.cluster is not None, validated.problems
    return validated.cluster, renderer()(validated.cluster)


def workloads(manifests):
    """Return the workloads by their names."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in {"StatefulSet", "Deployment"}}


@pytest.mark.parametrize(("step", "partitions", "surge"), [(1, (2, 3), 1), (2, (1, 2), 2)])
def test_a_step(step, partitions, surge):
    """At a step StatefulSets have a partition, and a Deployment so many pods more of which none is ever available."""
    cluster, manifests = rendered()
    found = workloads(at_step(cluster, manifests, step))
    sets = [
        found[name]["spec"]["updateStrategy"]["rollingUpdate"]["partition"] for name in ("c-controller", "c-ingest")
    ]
    search = found["c-search"]["spec"]

    assert tuple(sets) == partitions
    assert search["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}}
    assert (search["paused"], search["minReadySeconds"] > 10**9) == (False, True)
    assert step_under_way(cluster, manifests, {ObjectRef.of(each): each for each in found.values()}) == step


def test_what_is_not_live_is_as_ever():
    """A workload that is made only now is not held, and nothing else than workloads is changed."""
    cluster, manifests = rendered()
    assert at_step(cluster, manifests, 1, {}) == manifests
    assert step_under_way(cluster, manifests, {}) == 0
    others = [each for each in at_step(cluster, manifests, 1) if each["kind"] not in {"StatefulSet", "Deployment"}]
    assert all(each in manifests for each in others)


def test_counts_of_an_autoscaler_are_asked_for():
    """The count of what is autoscaled is that of the live object; without one a step cannot be rendered."""
    cluster, manifests = rendered()
    bare = [
        each | {"spec": {name: value for name, value in each["spec"].items() if name != "replicas"}}
        if each["metadata"]["name"] == "c-ingest" and each["kind"] == "StatefulSet"
        else each
        for each in manifests
    ]
    with pytest.raises(InputError, match="as many pods as its autoscaler says"):
        at_step(cluster, bare, 1)
    live = {ObjectRef.of(each): each | {"spec": each["spec"] | {"replicas": 7}} for each in workloads(bare).values()}
    found = workloads(at_step(cluster, bare, 1, live))
    assert found["c-ingest"]["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 6


def test_what_follows_at_the_end():
    """Blue-green search nodes and single pods get nothing new at any step, and are known to be held."""
    cluster, manifests = rendered(search="BlueGreen", ingestNodes=1)
    found = workloads(at_step(cluster, manifests, 2))
    assert found["c-search"]["spec"]["paused"]
    assert found["c-ingest"]["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 1
    assert step_under_way(cluster, manifests, {ObjectRef.of(found["c-search"]): found["c-search"]}) == 1


@pytest.mark.parametrize(("steps", "step", "text"), [(0, 1, "has no canary"), (2, 3, "has no step 3")])
def test_no_such_step(steps, step, text):
    """A step that the document does not have is an error."""
    cluster, manifests = rendered(steps=steps)
    with pytest.raises(InputError, match=text):
        at_step(cluster, manifests, step)
