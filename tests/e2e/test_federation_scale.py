"""200 members on one hub: what it takes, whom one that does not answer delays, and what a hub at rest writes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_server.server import FakeServer
from support.federations import Hub, hub_process, kubeconfig

from chronik.federation.document import FEDERATION_MANAGER, revision_of
from chronik.manifest import CLUSTER
from chronik.offline import loading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import Watch

MEMBERS, OF_ONE = 200, 50
PATH = f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}"


class Arrivals:
    """When each member's ChronikCluster first had each revision, by a watch of all of them."""

    def __init__(self, server: FakeServer) -> None:
        self.times: dict[tuple[str, str], float] = {}
        self._server = server
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with self._server.watch(PATH) as events, suppress(OSError, ValueError):
            self._note(events)

    def _note(self, events: Watch) -> None:
        for event in events:
            live = event["object"]
            if revision_of(live):
                self.times.setdefault((live["metadata"]["namespace"], revision_of(live)), time.monotonic())

    def since(self, begun: float) -> list[float]:
        """Return how long each arrival after a moment took, in order."""
        return sorted(at - begun for at in self.times.values() if at >= begun)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Yield the API server that plays all members."""
    started = FakeServer.start()
    started.install(loading.definitions())
    yield started
    started.stop()


def writes(server: FakeServer) -> int:
    """Return how often the hub has written to members."""
    return sum(each.writes and each.query.get("fieldManager") == FEDERATION_MANAGER for each in server.requests())


async def apply(hub: Hub, **spec: Any) -> None:
    """Apply four federations of fifty members each, all of which may be under way at a time."""
    for number in range(0, MEMBERS, OF_ONE):
        names = [each.name for each in hub.members[number : number + OF_ONE]]
        document = hub.document(*names, spec=spec, rollout={"maxConcurrent": OF_ONE, "failureBudget": 1})
        document["metadata"]["name"] = f"f{number}"
        for each in document["spec"]["members"]:
            each["cluster"] = "orders"
        await hub.place.create(document)


@pytest.mark.slow
async def test_two_hundred_members_on_one_hub(fake_server, server, tmp_path):
    """They take under 300 MiB; one that does not answer delays no other; and a hub at rest writes nothing."""
    names = [f"m{number:03}" for number in range(MEMBERS)]
    hub = await Hub.of(fake_server, await asyncio.to_thread(fake_server.new_namespace), dict.fromkeys(names, server))
    await hub.secret(names[7], kubeconfig(server, url="http://192.0.2.1:6443"))  # an address where nobody answers
    arrivals = Arrivals(server)
    with await asyncio.to_thread(hub_process, hub, tmp_path, poll=30) as process:
        async with hub.playing():
            await apply(hub, ingestNodes=1)
            await until(lambda: sum(bool(each.ready) for each in hub.members) == MEMBERS - 1)
            await asyncio.sleep(10)
        before, begun = writes(server), time.monotonic()
        await apply(hub, ingestNodes=2)
        await until(lambda: len(arrivals.since(begun)) == MEMBERS - 1)
        took = arrivals.since(begun)
        memory = peak(process.process.pid)
        after = writes(server)
        await asyncio.sleep(40)
        rest = writes(server)
    figures = {
        "writes": [before, after, rest],
        "p50": round(took[len(took) // 2], 2),
        "p99": round(took[int(len(took) * 0.99)], 2),
        "MiB": round(memory),
    }
    (tmp_path / "figures.json").write_text(json.dumps(figures))

    assert figures["writes"] == [MEMBERS - 1, 2 * (MEMBERS - 1), 2 * (MEMBERS - 1)], figures
    assert figures["p99"] <= 2, figures
    assert figures["MiB"] <= 300, figures


def peak(pid: int) -> float:
    """Return the most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


async def until(holds: Any, seconds: float = 180.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
