"""A hub that is killed anywhere, and members that are: the end is the undisturbed one, and nobody is overtaken."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_server.server import FakeServer
from support.federations import Hub, hub_process

from chronik.federation.document import revision_of
from chronik.offline import loading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("east", "west", "south")


@pytest.fixture
def members() -> Iterator[dict[str, FakeServer]]:
    """Yield the API servers of three members."""
    servers = {name: FakeServer.start() for name in NAMES}
    for each in servers.values():
        each.install(loading.definitions())
    yield servers
    for each in servers.values():
        each.stop()


async def check_kills(server: Any, members: dict[str, FakeServer], folder: Path, kills: int) -> None:
    """Change the template, kill the hub at a random moment, again and again; then let one bring it to an end."""
    chance = random.Random(kills)
    hub = await Hub.of(server, await asyncio.to_thread(server.new_namespace), members)
    async with hub.playing():
        for number in range(kills):
            if number % 3 == 0:
                await hub.apply(spec={"ingestNodes": number + 1})
            with await asyncio.to_thread(hub_process, hub, folder) as process:
                await asyncio.to_thread(process.wait_said, "reconciles")
                await asyncio.sleep(chance.choice([0, 0.1, 0.3, 0.6, 1.0]) * chance.random())
        with await asyncio.to_thread(hub_process, hub, folder) as process:
            await hub.until(phase="Complete", ready="3/3", seconds=60)
            await asyncio.to_thread(process.terminate)
    wanted = 3 * ((kills - 1) // 3) + 1
    calm = await Hub.of(server, await asyncio.to_thread(server.new_namespace), members)
    async with calm.playing(), calm.running():
        await calm.apply(spec={"ingestNodes": wanted})
        await calm.until(phase="Complete", ready="3/3")

    assert hub.overtaken == []
    assert list(hub.strays()) == []
    killed, undisturbed = [[await end(each) for each in some.members] for some in (hub, calm)]
    assert killed == undisturbed
    assert [each["spec"]["ingestNodes"] for each in killed] == [wanted] * 3


async def end(member: Any) -> dict[str, Any]:
    """Return what a member has in the end, but for what tells one cluster from another."""
    live = await member.live()
    annotations = {key: text for key, text in live["metadata"]["annotations"].items() if key.count("/") == 1}
    annotations.pop("chronik.stream/federation")
    managers = sorted((each["manager"], each["operation"]) for each in live["metadata"]["managedFields"])
    return {"spec": live["spec"], "annotations": annotations, "managers": managers, "revision": revision_of(live)}


async def test_a_hub_that_is_killed_leaves_no_trace(fake_server, members, tmp_path):
    """After some kills at random moments the members have what they would have had, in order, and nothing else."""
    await check_kills(fake_server, members, tmp_path, kills=4)


@pytest.mark.slow
async def test_a_hub_that_is_killed_forty_times_leaves_no_trace(fake_server, members, tmp_path):
    """So it is after forty kills."""
    await check_kills(fake_server, members, tmp_path, kills=40)


@pytest.mark.slow
async def test_a_hub_that_is_killed_takes_a_failed_change_back(fake_server, members, tmp_path):
    """Killed at any moment of a change that fails, or while it is taken back, the hub gives members what they had."""
    chance, rollout = random.Random(7), {"onFailure": "Revert"}
    hub = await Hub.of(fake_server, await asyncio.to_thread(fake_server.new_namespace), members)
    hub["west"].fails_with = 3
    async with hub.playing():
        with await asyncio.to_thread(hub_process, hub, tmp_path):
            await hub.apply(rollout=rollout)
            await hub.until(phase="Complete", seconds=60)
        good = [await end(each) for each in hub.members]
        for number in range(12):
            if number % 4 == 0:
                await hub.apply(rollout=rollout, spec={"ingestNodes": 3, "searchNodes": number})
            with await asyncio.to_thread(hub_process, hub, tmp_path) as process:
                await asyncio.to_thread(process.wait_said, "reconciles")
                await asyncio.sleep(1.5 * chance.random())
        with await asyncio.to_thread(hub_process, hub, tmp_path):
            await hub.until(phase="Reverted", ready="3/3", seconds=60)

    assert len(hub["south"].got) == 1, "it was never sent what failed in front of it"
    assert [await end(each) for each in hub.members] == good
    assert list(hub.strays()) == []


async def test_a_member_that_dies_in_the_middle_of_a_roll(fake_server, members):
    """A member whose API server goes down while it is on its way halts the roll, which goes on when it is back."""
    hub = await Hub.of(fake_server, await asyncio.to_thread(fake_server.new_namespace), members)
    async with hub.playing(), hub.running():
        hub["west"].held = True
        await hub.apply()
        await hub.until(west="Updating")
        await asyncio.to_thread(members["west"].restart, 4.0)
        hub["west"].held = False
        await hub.until(phase="Complete", ready="3/3")
    assert (hub.order, hub.overtaken) == ([*NAMES], [])
    assert (await fake_events(hub)).get("MemberUnreachable", "Warning").startswith("Warning")


async def fake_events(hub: Hub) -> dict[str, str]:
    """Return the hub's Events."""
    return await hub.place.events()
