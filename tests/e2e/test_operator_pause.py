from __future__ import annotations

import pytest
from support.operators import (
    CLUSTER,
    SERVICE,
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    passes,
    quiet,
    running,
    watched,
    with_condition,
)

from chronik.manifest import ObjectRef

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


def pausing(value):
    """Return the patch that pauses a cluster, or no longer does."""
    return {"metadata": {"annotations": {"chronik.stream/paused": value}}}


async def test_hands_off(place, monkeypatch):
    """A paused cluster has no child written, whatever happens, while its status goes on telling how it is."""
    async with running(place.server, place.name):
        await place.launch()
        await place.edit(CLUSTER, "c", pausing("true"))
        paused = await with_condition(place, "c", "Paused", "True", "PausedByAnnotation")
        before = {ref: each["metadata"]["resourceVersion"] for ref, each in (await place.objects()).items()}
        del before[ObjectRef("Service", place.name, "c-ingest")]
        with passes(monkeypatch) as ended:
            await place.delete(SERVICE, "c-ingest")
            await place.secret("second")
            await place.change("c", image={"ingest": "chronik/ingest:2.0"})
            await quiet(ended)
            after = {ref: each["metadata"]["resourceVersion"] for ref, each in (await place.objects()).items()}
        await place.roll_out(ObjectRef("StatefulSet", place.name, "c-ingest"), ready=0)
        ill = await in_phase(place, "c", "Updating")
        events = await place.events()

    assert after == before
    assert paused["status"]["phase"] == "Running"
    assert ill["status"]["observedGeneration"] == 1
    assert condition(ill, "Ready")["status"] == "False"
    assert events["PausedByAnnotation"].startswith("Normal: ")


@pytest.mark.both
async def test_one_roll_afterwards(place):
    """What has come together during a pause is applied as one roll, and the condition goes."""
    async with running(place.server, place.name):
        await place.launch()
        await place.edit(CLUSTER, "c", pausing("true"))
        await with_condition(place, "c", "Paused", "True")
        await place.change("c", image={"controller": "chronik/controller:2.0"})
        await place.change("c", image={"controller": "chronik/controller:3.0"}, podAnnotations={"note": "x"})
        await place.secret("second")
        async with watched(place, STATEFUL_SET) as states:
            await place.edit(CLUSTER, "c", pausing(None))
            await in_phase(place, "c", "Updating")
        found = await place.cluster("c")
        live = await place.get(STATEFUL_SET, "c-controller")
    images = {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in states}

    assert condition(found, "Paused") == {}
    assert "chronik/controller:2.0" not in images
    assert live["spec"]["template"]["metadata"]["annotations"].keys() >= {"note", "chronik.stream/secrets"}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


async def test_a_paused_cluster_can_go(place):
    """A paused cluster can be deleted."""
    async with running(place.server, place.name):
        await place.launch()
        await place.edit(CLUSTER, "c", pausing("true"))
        await with_condition(place, "c", "Paused", "True")
        await place.delete(CLUSTER, "c")

        async def gone():
            return await place.get(CLUSTER, "c") is None

        assert await eventually(gone)
