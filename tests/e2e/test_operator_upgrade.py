from __future__ import annotations

import asyncio

import pytest
from support.dying import configurations, killed_pass, lost_mounts, mounted, replace_pods
from support.operators import (
    STATEFUL_SET,
    Namespace,
    condition,
    earlier,
    eventually,
    newer,
    running,
    small,
    world_of,
)

from chronik import __version__
from chronik.manifest import ClusterKey, ObjectRef
from chronik.operator.deadline import PROGRESS_DEADLINE, Deadlines
from chronik.operator.reconcile import reconcile

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


NAMES = ("a", "b", "c")


async def launch_all(place):
    """Have three clusters Running, by the operator of today."""
    async with running(place.server, place.name):
        await asyncio.gather(*(place.launch(small(place.name, name)) for name in NAMES))


async def restarted(place):
    """Return the clusters whose controllers restart, or have."""
    live = await place.list(STATEFUL_SET)
    return {
        each["metadata"]["name"].partition("-")[0]
        for each in live
        if each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 99
    }


async def test_an_upgrade_with_the_same_templates_restarts_nothing(place):
    """A newer chronik that renders the same changes nothing but the version in the status."""
    await launch_all(place)
    before = {ref: each["metadata"]["resourceVersion"] for ref, each in (await place.objects()).items()}
    async with world_of(place, version="99.0.0") as world:
        for name in NAMES:
            await reconcile(ClusterKey(place.name, name), world)

    assert {ref: each["metadata"]["resourceVersion"] for ref, each in (await place.objects()).items()} == before
    assert {(await place.cluster(name))["status"]["operatorVersion"] for name in NAMES} == {"99.0.0"}


async def test_an_upgrade_restarts_one_cluster_at_a_time(place):
    """A newer chronik whose templates restart pods updates one cluster after the other, even in passes side by side."""
    await launch_all(place)
    seen = []
    async with world_of(place, version="99.0.0", render=newer) as world:

        async def round_of_passes():
            keys = [ClusterKey(place.name, name) for name in NAMES]
            await asyncio.gather(*(reconcile(key, world) for key in keys))
            seen.append(await restarted(place))
            phases = {name: (await place.cluster(name))["status"]["phase"] for name in NAMES}
            assert sum(phase == "Updating" for phase in phases.values()) <= 1
            await place.roll_out_all()
            await asyncio.sleep(0.1)
            return set(phases.values()) == {"Running"} and seen[-1] == set(NAMES)

        await eventually(round_of_passes)

    assert [len(each) for each in seen[:1]] == [1]
    assert {len(each) for each in seen} == {1, 2, 3}


@pytest.mark.both
async def test_an_upgrade_goes_on_where_it_was(place):
    """An upgrade that is cut off is not begun anew with another cluster: the one that is Updating comes first."""
    await launch_all(place)
    key = {name: ClusterKey(place.name, name) for name in NAMES}
    async with world_of(place, version="99.0.0", render=newer) as world:
        await reconcile(key["b"], world)
    async with world_of(place, version="99.0.0", render=newer) as world:
        outcome = await reconcile(key["a"], world)

    assert await restarted(place) == {"b"}
    assert outcome.result == "waiting"
    assert outcome.reason.message.endswith(f"waits for ChronikCluster/{place.name}/b")
    assert outcome.phase == "Running"


async def test_people_do_not_wait_for_an_upgrade(place):
    """A changed spec is carried out at once, though another cluster is being updated."""
    await launch_all(place)
    key = {name: ClusterKey(place.name, name) for name in NAMES}
    async with world_of(place, version="99.0.0", render=newer) as world:
        await reconcile(key["a"], world)
        await place.change("b", image={"controller": "chronik/controller:2.0"})

        async def seen():
            return world.cache.cluster(key["b"])["metadata"]["generation"] == 2

        await eventually(seen)
        await reconcile(key["b"], world)

    assert await restarted(place) == {"a", "b"}


async def test_the_version_is_in_the_status(place):
    """The status tells which chronik has brought the cluster to where it is."""
    async with running(place.server, place.name):
        found = await place.launch()

    assert found["status"]["operatorVersion"] == __version__


async def seen_in(world, key, ref):
    """Tell whether the caches know that the controller has seen a workload's newest spec."""
    live = world.cache.view(key).objects[ref]
    return live["status"].get("observedGeneration") == live["metadata"]["generation"]


async def test_a_roll_without_progress_holds_back_others_for_ten_minutes(place):
    """A cluster whose pods have come no further for ten minutes says so, and the next one is upgraded."""
    await launch_all(place)
    now = 0.0
    key = {name: ClusterKey(place.name, name) for name in NAMES}
    async with world_of(place, version="99.0.0", render=newer, monotonic=lambda: now) as world:

        async def passes_at(seconds):
            nonlocal now
            now = seconds
            for name in ("a", "a", "b"):
                await reconcile(key[name], world)
            return await restarted(place)

        ref = ObjectRef(STATEFUL_SET.name, place.name, "a-controller")
        assert await passes_at(0.0) == {"a"}
        await place.roll_out(ref, ready=0, updated=1)
        await eventually(lambda: seen_in(world, key["a"], ref))
        assert await passes_at(1.0) == {"a"}
        assert await passes_at(PROGRESS_DEADLINE) == {"a"}
        assert await passes_at(PROGRESS_DEADLINE + 60.0) == {"a", "b"}

    found = condition(await place.cluster("a"), "Progressing")
    assert (found["status"], found["reason"]) == ("False", "ProgressDeadlineExceeded")


def test_progress_is_to_come_further_than_ever():
    """A pod that becomes ready again, as one that crashes does, is no progress; another revision is a new roll."""
    ref, deadlines = ObjectRef("StatefulSet", "n", "c-ingest"), Deadlines()
    key = ClusterKey("n", "c")

    def exceeded(now, ready, generation=1, previous=None):
        status = {"observedGeneration": generation, "updatedReplicas": 1, "readyReplicas": ready}
        live = {"metadata": {"generation": generation}, "status": status}
        return deadlines.exceeded(key, {ref: live}, previous or {}, now)

    assert not exceeded(0, 1)
    assert not exceeded(300, 2)
    assert not exceeded(500, 1)
    assert not exceeded(700, 2)
    assert exceeded(900, 2)
    assert exceeded(901, 1)
    assert not exceeded(902, 3)
    assert not exceeded(1600, 1, generation=2)

    deadlines.forget(key)
    overdue = {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}
    assert exceeded(0, 1, previous=overdue)
    assert not exceeded(1, 2)


async def reading_their_own(place):
    """Return the clusters all of whose pods mount a configuration that is named for its content."""
    found = {name: [] for name in NAMES}
    for live in await place.list(STATEFUL_SET):
        (name,) = mounted(live["spec"]["template"]["spec"])
        cluster = live["metadata"]["name"].partition("-")[0]
        found[cluster].append(name != f"{cluster}-config")
    return {name for name, own in found.items() if all(own)}


@pytest.mark.parametrize("killed_after", [None, *(pytest.param(writes) for writes in (0, 3, 4))])
async def test_an_upgrade_from_one_configuration_for_all_revisions(place, killed_after):
    """From `<cluster>-config` clusters are rolled once each, by turns; the old one goes when no pod reads it."""
    keys = [ClusterKey(place.name, name) for name in NAMES]
    await place.secret("first")
    for name in NAMES:
        await place.create(small(place.name, name))
    async with world_of(place, version="0.1.0", render=earlier) as world:

        async def runs():
            phases = {(await reconcile(key, world)).phase for key in keys}
            await replace_pods(place)
            return phases == {"Running"}

        await eventually(runs)
    before = {ref: live["metadata"]["generation"] for ref, live in (await place.workloads()).items()}
    assert (await configurations(place)).keys() == {f"{name}-config" for name in NAMES}
    if killed_after is not None:
        assert await killed_pass(place, keys[0], killed_after, arrives=True, version="99.0.0")
        assert await lost_mounts(place) == set()

    seen = []
    async with world_of(place, version="99.0.0") as world:

        async def upgraded():
            await asyncio.gather(*(reconcile(key, world) for key in keys))
            assert await lost_mounts(place) == set()
            phases = [(await place.cluster(name))["status"]["phase"] for name in NAMES]
            assert phases.count("Updating") <= 1
            seen.append(await reading_their_own(place))
            await replace_pods(place)
            assert await lost_mounts(place) == set()
            await asyncio.sleep(0.1)
            return seen[-1] == set(NAMES) and len(await configurations(place)) == len(NAMES)

        await eventually(upgraded)

    after = {ref: live["metadata"]["generation"] for ref, live in (await place.workloads()).items()}
    assert after == {ref: count + 1 for ref, count in before.items()}, "each rolled once"
    assert {len(each) for each in seen} >= {1, 2, 3}
    assert {name.rpartition("-")[0] for name in await configurations(place)} == {f"{name}-config" for name in NAMES}
