"""200 members on one hub: what it takes, whom one that does not answer delays, and what a hub at rest writes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.federations import Hub, PlayedMember, hub_process, kubeconfig
from support.operators import Namespace
from support.played_members import PlayedMembers

from chronik.federation.document import FEDERATION_MANAGER

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS, OF_ONE = 200, 50


@pytest.fixture
def played() -> Iterator[PlayedMembers]:
    """Yield the process that plays all members."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with PlayedMembers(port) as members:
        yield members


async def apply(hub: Hub, ingest: int) -> dict[str, float]:
    """Apply four federations of fifty members each, all of which may be under way at a time.

    Return when the hub's API server had each, by the namespaces of its members.
    """
    begun: dict[str, float] = {}
    for number in range(0, MEMBERS, OF_ONE):
        names = [each.name for each in hub.members[number : number + OF_ONE]]
        spec = {"ingestNodes": ingest}
        document = hub.document(*names, spec=spec, rollout={"maxConcurrent": OF_ONE, "failureBudget": 1})
        document["metadata"]["name"] = f"f{number}"
        await hub.place.create(document)
        begun |= dict.fromkeys([each["namespace"] for each in document["spec"]["members"]], time.monotonic())
    return begun


async def arrived(played: PlayedMembers, count: int) -> list[tuple[str, float]]:
    """Wait until so much was written at members, and return where and when, in order."""
    deadline = time.monotonic() + 120
    while True:
        found = await asyncio.to_thread(played.writes)
        if len(found) >= count:
            assert {manager for _, manager, _ in found} == {FEDERATION_MANAGER}
            return [(path.split("/")[5], at) for path, _, at in found]
        assert time.monotonic() < deadline, len(found)
        await asyncio.sleep(0.5)


@pytest.mark.slow
async def test_two_hundred_members_on_one_hub(fake_server, played, tmp_path):
    """They take under 300 MiB; one that does not answer delays no other; and a hub at rest writes nothing.

    Two seconds are what 99 of 100 changes may take on a machine that has nothing else to do.
    """
    hub = Hub(Namespace(fake_server, await asyncio.to_thread(fake_server.new_namespace)), [])
    for number in range(MEMBERS):
        place: Any = Namespace(played, f"ns{number}")  # type: ignore[arg-type]  # no more of a server than is asked for
        hub.members.append(PlayedMember(f"m{number:03}", place))
        await hub.secret(f"m{number:03}", kubeconfig(played))  # type: ignore[arg-type]  # as above
    dead = kubeconfig(played, url="http://192.0.2.1:6443")  # type: ignore[arg-type]  # as above; nobody answers there
    await hub.secret("m007", dead)
    others = MEMBERS - 1
    with await asyncio.to_thread(hub_process, hub, tmp_path, poll=30) as process:
        await apply(hub, 1)
        await arrived(played, others)
        await asyncio.sleep(20)
        begun = await apply(hub, 2)
        times = (await arrived(played, 2 * others))[others:]
        memory = await asyncio.to_thread(peak, process.process.pid)
        await asyncio.sleep(40)
        rest = len(await asyncio.to_thread(played.writes))
        watches = await asyncio.to_thread(played.watches)
    took = sorted(at - begun[namespace] for namespace, at in times)
    beside_it = sorted(at - begun[namespace] for namespace, at in times if int(namespace[2:]) < OF_ONE)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    figures = {
        "writes": [len(times) + others, rest],
        "p50": round(took[len(took) // 2], 2),
        "p99": round(took[int(len(took) * 0.99)], 2),
        "p99 beside the dead one": round(beside_it[-1], 2),
        "MiB": round(memory),
        "watches": watches,
        "load of a CPU": round(load, 1),
    }
    await asyncio.to_thread((tmp_path / "figures.json").write_text, json.dumps(figures))

    assert figures["writes"] == [2 * others, 2 * others], figures
    assert figures["MiB"] <= 300, figures
    assert figures["watches"] == others, figures
    assert figures["p99"] <= 2 * max(1.0, load), figures


def peak(pid: int) -> float:
    """Return the most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
