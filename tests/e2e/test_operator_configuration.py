from __future__ import annotations

import asyncio

import pytest
from support.dying import Dying, configurations, lost_mounts, pass_until, replace_pods
from support.operators import Namespace, controllers, eventually, in_phase, running, small, world_of

from chronik.manifest import ClusterKey
from chronik.operator.reconcile import reconcile


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a namespace to keep a cluster in."""
    return Namespace(server, namespace)


async def test_the_operator_keeps_it_until_the_roll_is_over(place):
    """While pods are replaced both configurations are there; once all are, the earlier one goes."""

    async def configurations():
        return {ref for ref in await place.objects() if ref.kind == "ConfigMap"}

    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Running")
        before = await configurations()
        await place.change("c", metastore={"connection": {"host": "elsewhere"}})
        await in_phase(place, "c", "Updating")
        during = await configurations()
        await in_phase(place, "c", "Running")

        async def only_the_new_one():
            return await configurations() == during - before

        await eventually(only_the_new_one)

    assert len(before) == 1
    assert before < during
    assert len(during) == 2


@pytest.mark.stand_in
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "each"])
@pytest.mark.parametrize("arrives", [False, True], ids=["lost", "arrives"])
async def test_kills_at_each_write_of_a_change(place, arrives, step):
    """Killed at any write of a change, which the server got or not, the next operator ends as one left alone does."""
    key = ClusterKey(place.name, "c")
    await running_by_hand(place, key)
    kills, number = 0, 0
    while number < 20:
        before = await generations(place)
        await place.change("c", metastore={"connection": {"host": f"db-{number}"}})
        killed = await change_with_a_kill(place, key, number, arrives=arrives)
        (config,) = (await configurations(place)).values()
        assert config["data"]["metastore.host"] == f"db-{number}"
        assert await generations(place) == {name: count + 1 for name, count in before.items()}, "each rolled once"
        if not killed:
            break
        kills, number = kills + 1, number + step

    assert 8 / step <= kills < 20 / step, "the ConfigMap, two Roles, two StatefulSets, statuses, and the prune"


async def running_by_hand(place, key):
    """Have a cluster Running by passes that are called one by one, with pods that mount its configuration."""
    await place.secret("first")
    await place.create(small(place.name, key.name))
    async with world_of(place) as world:
        await settled(place, key, world)


async def settled(place, key, world, passes=30):
    """Run passes, and roll pods out between them, until one writes nothing; at no moment is a mount lost."""
    for _ in range(passes):
        outcome = await reconcile(key, world)
        assert await lost_mounts(place) == set()
        if not outcome.wrote and outcome.phase == "Running":
            return
        await replace_pods(place)
        assert await lost_mounts(place) == set()
        await asyncio.sleep(0.1)
    pytest.fail("it never settles")


async def change_with_a_kill(place, key, after, *, arrives):
    """Bring a change to its end by an operator that is killed once, after so many writes, and by its successor."""
    async with world_of(place) as world:
        dying = Dying(world.kube, after, arrives=arrives)
        for _ in range(12):
            await pass_until(key, world, dying)
            assert await lost_mounts(place) == set()
            if dying.killed:
                break
            await replace_pods(place)
            await asyncio.sleep(0.1)
    async with world_of(place) as world:
        await settled(place, key, world)
    return dying.killed


async def generations(place):
    """Return how often each workload's spec was changed."""
    return {ref.name: live["metadata"]["generation"] for ref, live in (await place.workloads()).items()}
