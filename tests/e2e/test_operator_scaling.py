from __future__ import annotations

import pytest
from support.operators import (
    DEPLOYMENT,
    STATEFUL_SET,
    Namespace,
    controllers,
    eventually,
    in_phase,
    passes,
    quiet,
    rendered,
    running,
    small,
    watched,
)

from chronik.manifest import KIND_BY_NAME

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

AUTOSCALER = KIND_BY_NAME["HorizontalPodAutoscaler"]
SCALED = {"ingestNodes": {"minReplicas": 2, "maxReplicas": 9}}


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


async def count(place):
    """Return how many ingest nodes there are to be."""
    return (await place.get(STATEFUL_SET, "c-ingest"))["spec"]["replicas"]


async def autoscale(place, replicas):
    """Do what an autoscaler does."""
    path = place.path(STATEFUL_SET, "c-ingest", "scale")
    options = {"patch": "merge", "fieldManager": "kube-controller-manager"}
    await place.call("PATCH", path, {"spec": {"replicas": replicas}}, **options)


@pytest.mark.both
async def test_replicas_never_dip(place):
    """Autoscaling switched on, at work, and off again: there are never fewer ingest nodes than somebody wanted."""
    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name, ingestNodes=5))
        await in_phase(place, "c", "Running")
        async with watched(place, STATEFUL_SET) as states:
            await place.change("c", autoscaling=SCALED)
            await eventually(lambda: place.get(AUTOSCALER, "c-ingest-hpa"))
            await autoscale(place, 8)
            await eventually(lambda: _released(place))
            await place.change("c", autoscaling=None, ingestNodes=6)
            await eventually(lambda: _counts(place, 6))
            await in_phase(place, "c", "Running")
    seen = [each["spec"]["replicas"] for each in states if each["metadata"]["name"] == "c-ingest"]

    assert list(dict.fromkeys(seen)) == [5, 8, 6]
    assert await place.get(AUTOSCALER, "c-ingest-hpa") is None
    assert not await _told(place, "FieldsTakenBack"), "that was asked for"


async def _released(place):
    """Tell whether the autoscaler alone has the count."""
    live = await place.get(STATEFUL_SET, "c-ingest")
    entries = live["metadata"]["managedFields"]
    owners = [each["manager"] for each in entries if "f:replicas" in each["fieldsV1"].get("f:spec", {})]
    return owners == ["kube-controller-manager"]


async def _counts(place, wanted):
    return await count(place) == wanted


async def test_a_last_word_of_the_autoscaler_is_taken_back(place):
    """An autoscaler that scales in the moment of its deletion leaves a count that nobody looks after any more."""
    async with running(place.server, place.name), controllers(place):
        await place.launch(ingestNodes=3)
        await autoscale(place, 7)
        await eventually(lambda: _counts(place, 3))
        await in_phase(place, "c", "Running")

    assert "c-ingest: took back spec.replicas (from kube-controller-manager)" in await _told(place, "FieldsTakenBack")


async def test_an_autoscaler_of_somebody_else_is_no_quarrel(place, monkeypatch):
    """A count that somebody's own autoscaler keeps is left to it, and told of; once that is gone it is the spec's."""
    with passes(monkeypatch) as ended:
        async with running(place.server, place.name), controllers(place):
            await _quarrel(place, ended)


async def _quarrel(place, ended):
    await place.launch(ingestNodes=3)
    target = {"apiVersion": "apps/v1", "kind": STATEFUL_SET.name, "name": "c-ingest"}
    metadata = {"name": "mine", "namespace": place.name}
    identity = {"apiVersion": AUTOSCALER.api_version, "kind": AUTOSCALER.name, "metadata": metadata}
    await place.create(identity | {"spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}})
    await autoscale(place, 7)
    failed = await in_phase(place, "c", "Failed")
    await quiet(ended)
    ready = failed["status"]["conditions"][0]

    assert ready["reason"] == "FieldConflict"
    assert "A HorizontalPodAutoscaler that is not chronik's scales it." in ready["message"]
    assert await count(place) == 7

    await place.delete(AUTOSCALER, "mine")
    await place.change("c", podLabels={"any": "change"})
    await in_phase(place, "c", "Running")

    assert await count(place) == 3


async def _told(place, reason):
    return (await place.events()).get(reason, "")


async def test_an_autoscaled_cluster_starts_with_its_minimum(place):
    """A new autoscaled component starts with its least count, and what the autoscaler does then is left alone."""
    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name, autoscaling=SCALED))
        await in_phase(place, "c", "Running")
        assert await count(place) == 2
        await autoscale(place, 7)

        async def ready():
            return (await place.cluster("c"))["status"]["readyReplicas"]["ingestNodes"] == 7

        await eventually(ready)
        assert await count(place) == 7


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"targetMemoryUtilizationPercentage": 80, "targetCpuUtilizationPercentage": 70},
        {
            "targetCpuUtilizationPercentage": 70,
            "customMetrics": [
                {"name": "z", "targetType": "AverageValue", "targetValue": "1k"},
                {"name": "a", "targetType": "AverageValue", "targetValue": "0.5"},
            ],
        },
    ],
    ids=["defaulted", "resources", "custom"],
)
async def test_metrics_are_no_drift(metrics, place, monkeypatch):
    """Metrics that the server defaults, orders or writes otherwise are not applied again."""
    async with running(place.server, place.name, resync=0.2):
        await place.launch(autoscaling={"ingestNodes": SCALED["ingestNodes"] | metrics})
        before = await place.get(AUTOSCALER, "c-ingest-hpa")
        with passes(monkeypatch) as ended:
            await place.roll_out_all()
            await quiet(ended)

    assert await place.get(AUTOSCALER, "c-ingest-hpa") == before
    assert before["spec"]["metrics"]


@pytest.mark.parametrize(
    "part",
    [
        {"searchNodes": 2},
        {"autoscaling": {"ingestNodes": {"minReplicas": 1, "maxReplicas": 4}}},
        {"podDisruptionBudget": {"maxUnavailable": 1}},
    ],
    ids=lambda part: next(iter(part)),
)
async def test_what_is_switched_off_is_pruned(part, place):
    """A component, autoscaler or budget that the spec no longer has goes with all its objects, and nothing else."""
    async with running(place.server, place.name), controllers(place):
        cluster = small(place.name, **part)
        await place.secret("first")
        await place.create(cluster)
        await in_phase(place, "c", "Running")
        before = (await place.objects()).keys()
        await place.change("c", **dict.fromkeys(part))
        less = rendered(await place.cluster("c")).keys()

        async def pruned():
            return (await place.objects()).keys() == less

        await eventually(pruned)
        await in_phase(place, "c", "Running")
    gone = {(ref.kind, ref.name) for ref in before - less}

    assert before > less
    if "searchNodes" in part:
        assert gone >= {("Deployment", "c-search"), ("Service", "c-search"), ("ServiceAccount", "c-search")}
        assert await place.get(DEPLOYMENT, "c-search") is None


async def test_scaling_by_the_spec(place):
    """Another count in the spec reaches the workload, and the cluster is Updating until those pods are ready."""
    async with running(place.server, place.name):
        await place.launch()
        await place.change("c", ingestNodes=3)
        found = await in_phase(place, "c", "Updating")
        assert await count(place) == 3
        assert found["status"]["observedGeneration"] == 2
        await place.roll_out_all()
        assert (await in_phase(place, "c", "Running"))["status"]["readyReplicas"]["ingestNodes"] == 3
