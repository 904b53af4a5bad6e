"""A hub that is killed anywhere, and members that are: the end is the undisturbed one, and nobody is overtaken."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_server.server import FakeServer
from support.federations import Hub
from support.operator_process import OperatorProcess

from chronik.federation.document import revision_of
from chronik.manifest import CLUSTER
from chronik.offline import loading

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def hub_process(hub: Hub, folder: Path) -> OperatorProcess:
    """Start a hub of its own process."""
    arguments = ("--federation", "-n", hub.place.name, "--no-leader-elect", "--federation-poll", "0.4")
    environ = {"CHRONIK_LOG": "info", "HOME": str(folder)}
    return OperatorProcess(
        hub.place.server.kubeconfig, folder / "hub.log", *arguments, "--log-format", "json", environ=environ
    )


async def check_kills(server: Any, members: dict[str, FakeServer], folder: Path, kills: int) -> None:
    """Change the template, kill the hub at a random moment, again and again; then let one bring it to an end."""
    chance = random.Random(kills)
    hub = await Hub.of(server, await asyncio.to_thread(server.new_namespace), members)
    async with hub.playing():
        for number in range(kills):
            if number % 3 == 0:
                await hub.apply(spec={"ingestNodes": number + 1})
            with await asyncio.to_thread(hub_process, hub, folder) as process:
                until = time.monotonic() + 30
                while not (process.runs and "reconciles" in process.text) and time.monotonic() < until:
                    await asyncio.sleep(0.02)
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


@pytest.mark.slow
async def test_two_hundred_members_on_one_hub(fake_server, tmp_path):
    """200 members take under 300 MiB, one that does not answer delays no other, and a hub at rest writes nothing."""
    server = FakeServer.start()
    server.install(loading.definitions())
    names = [f"m{number:03}" for number in range(200)]
    hub = await Hub.of(fake_server, await asyncio.to_thread(fake_server.new_namespace), dict.fromkeys(names, server))
    dead = hub.members[7]
    groups = [names[start : start + 50] for start in range(0, 200, 50)]

    async def apply(spec: dict[str, Any]) -> None:
        for number, group in enumerate(groups):
            document = hub.document(*group, spec=spec, rollout={"maxConcurrent": 64, "failureBudget": 1})
            document["metadata"]["name"] = f"f{number}"
            for each in document["spec"]["members"]:
                each["cluster"] = "orders"
            await hub.place.create(document)

    async def complete(revisions: int) -> dict[str, float]:
        begun, came = time.monotonic(), {}
        while len(came) < 199 and time.monotonic() < begun + 120:
            for each in hub.members:
                path = f"/apis/{CLUSTER.api_version}/namespaces/{each.place.name}/{CLUSTER.plural}/orders"
                del path
                if each.name not in came and each is not dead and len(each.got) >= revisions:
                    came[each.name] = time.monotonic() - begun
            await asyncio.sleep(0.02)
        return came

    from support.federations import kubeconfig  # noqa: PLC0415  # as below

    await hub.secret(dead.name, kubeconfig(server, url="http://192.0.2.1:6443"))  # nobody answers there
    async with hub.playing():
        with await asyncio.to_thread(hub_process, hub, tmp_path) as process:
            await apply({"ingestNodes": 1})
            first = await complete(1)
            await asyncio.sleep(15)
            before = len(
                [
                    each
                    for each in server.requests()
                    if each.writes and "federation" in each.query.get("fieldManager", "")
                ]
            )
            await apply({"ingestNodes": 2})
            second = await complete(2)
            await asyncio.sleep(20)
            after = [
                each for each in server.requests() if each.writes and "federation" in each.query.get("fieldManager", "")
            ]
            memory = (
                int(
                    next(
                        line
                        for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
                        if line.startswith("VmHWM")
                    ).split()[1]
                )
                / 1024
            )
            await asyncio.sleep(20)
            rest = [
                each for each in server.requests() if each.writes and "federation" in each.query.get("fieldManager", "")
            ]
    server.stop()
    times = sorted(second.values())
    print(
        json.dumps(
            {
                "first": len(first),
                "second": len(second),
                "p50": times[len(times) // 2],
                "p99": times[int(len(times) * 0.99)],
                "MiB": memory,
                "writes": [before, len(after), len(rest)],
            }
        )
    )
    assert len(second) == 199
    assert len(rest) == len(after) == 2 * 199
    assert memory <= 300
