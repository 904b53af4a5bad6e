"""Which pod of a StatefulSet is replaced first, with the real controller of StatefulSets, and operators that die."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.kubelet import image_of, is_ready, say, with_rights, writes
from support.operator_process import OperatorProcess
from support.operators import STATEFUL_SET, Namespace, eventually, in_phase, running, small
from support.played_nodes import PlayedNodes

from chronik.manifest import CLUSTER, POD

pytestmark = pytest.mark.real  # what a StatefulSet's controller does is for it to say

NEW = {"image": {"ingest": "chronik/ingest:2.0", "controller": "chronik/controller:1.0"}}


@pytest.fixture
def place(real_cluster) -> Namespace:
    """Return a fresh namespace of a cluster that has controllers, but no nodes."""
    return Namespace(real_cluster, real_cluster.new_namespace())


class Kubelet:
    """Has pods ready, those of a certain image only; `born` lists the ingest pods of the new image as they come."""

    def __init__(self, place, image=""):
        self.place, self.image = place, image
        self.born = []
        self.most_down = 0

    async def look(self):
        """Look once; return whether all pods are ready and were before."""
        pods = await self.place.list(POD)
        mine = [pod for pod in pods if pod["metadata"]["name"].startswith("c-ingest")]
        self.most_down = max(self.most_down, 3 - sum(map(is_ready, mine)))
        for pod in mine:
            name = pod["metadata"]["name"]
            if image_of(pod).endswith(":2.0") and name not in self.born:
                self.born.append(name)
        for pod in pods:
            if not is_ready(pod) and image_of(pod).endswith(self.image) and "deletionTimestamp" not in pod["metadata"]:
                await say(self.place, pod["metadata"]["name"], "True")
        return len(pods) == 4 and all(map(is_ready, pods))


async def launched(place):
    """Create a cluster of three ingest nodes, all ready."""
    await place.secret("first")
    await place.create(small(place.name, ingestNodes=3))
    await eventually(Kubelet(place).look)
    await in_phase(place, "c", "Running")


async def until_rolled(place, kubelet, seconds=60):
    """Play the kubelet until the cluster runs on the new image."""

    async def rolled():
        await kubelet.look()
        ready = (await place.cluster("c"))["status"]["phase"] == "Running"
        return ready and len(kubelet.born) == 3

    await eventually(rolled, seconds)


def strategy_of(live):
    """Return how a StatefulSet rolls, and who of ours holds that."""
    held = [each for each in live["metadata"]["managedFields"] if each["manager"] == "chronik-operator-rollout"]
    return live["spec"]["updateStrategy"]["type"], bool(held)


@pytest.mark.parametrize("ill", [1, *(pytest.param(ordinal, marks=pytest.mark.slow) for ordinal in (0, 2))])
async def test_the_ill_pod_goes_first(ill, place):
    """The ill pod is replaced before the others, and none that is well while one is down; then all is as ever."""
    async with with_rights(place):
        await launched(place)
        await say(place, f"c-ingest-{ill}", "False")
        await in_phase(place, "c", "Updating")
        kubelet = Kubelet(place, ":2.0")
        await place.change("c", **NEW)
        await until_rolled(place, kubelet)
        await eventually(lambda: released(place))
        events = await place.events()

    assert kubelet.born[0] == f"c-ingest-{ill}"
    assert kubelet.most_down == 1
    assert ("PodReplaced" in events) == (ill != 2)


async def released(place):
    """Return whether the set rolls by itself, and says so to everyone."""
    live = await place.get(STATEFUL_SET, "c-ingest")
    ours = [each for each in live["metadata"]["managedFields"] if each["manager"] == "chronik-operator"]
    owned = any("f:type" in each["fieldsV1"].get("f:spec", {}).get("f:updateStrategy", {}) for each in ours)
    return strategy_of(live) == ("RollingUpdate", False) and owned


async def test_another_operator_goes_on(place):
    """An operator that dies while it holds a set leaves pods alone; the next one goes on, and lets go."""
    async with with_rights(place):
        await launched(place)
        await say(place, "c-ingest-0", "False")
        await in_phase(place, "c", "Updating")
        await place.change("c", **NEW)
        kubelet = Kubelet(place, ":none")

        async def replaced():
            await kubelet.look()
            return kubelet.born

        await eventually(replaced)
    live = await place.get(STATEFUL_SET, "c-ingest")
    assert strategy_of(live) == ("OnDelete", True)
    await asyncio.sleep(1)
    assert kubelet.born == ["c-ingest-0"]
    async with with_rights(place):
        await asyncio.sleep(1)
        await kubelet.look()
        assert kubelet.born == ["c-ingest-0"], "the one that is being replaced has to be ready first"
        kubelet.image = ":2.0"
        await until_rolled(place, kubelet)
        await eventually(lambda: released(place))

    assert kubelet.most_down == 1


async def test_without_the_right(place):
    """Without the feature pods are replaced from the top, as ever, and an Event says what would change that."""
    async with running(place.server, place.name):
        await launched(place)
        await say(place, "c-ingest-0", "False")
        await in_phase(place, "c", "Updating")
        await place.change("c", **NEW)
        kubelet = Kubelet(place, ":2.0")
        await until_rolled(place, kubelet)
        events = await place.events()

    assert kubelet.born[0] == "c-ingest-2"
    assert "chronik install --features rollouts" in events["RollsFromTheTop"]
    assert "RollHeld" not in events


@pytest.mark.parametrize("most", [2, pytest.param(100, marks=pytest.mark.slow)])
async def test_killed_at_every_step(place, tmp_path, most):
    """An operator that is killed at every write of a held roll goes on where it was.

    Nothing is written twice, but for what was on its way when the operator was killed, which the next may not see yet.
    """
    arguments = (place.server.kubeconfig, tmp_path / "log", "-n", place.name, "--no-leader-elect")
    process = OperatorProcess(*arguments, "--features", "rollouts")
    kills = 0
    try:
        await launched(place)
        await say(place, "c-ingest-0", "False")
        await in_phase(place, "c", "Updating")
        kubelet = Kubelet(place, ":2.0")
        seen = len(writes(place))
        await place.change("c", **NEW)
        deadline = time.monotonic() + 150
        while not (len(kubelet.born) == 3 and (await place.cluster("c"))["status"]["phase"] == "Running"):
            assert time.monotonic() < deadline, process.text[-2000:]
            await kubelet.look()
            now = len(writes(place))
            if now > seen and process.runs and kills < most:
                seen = now
                process.kill()
                kills += 1
            if not process.runs:
                process = OperatorProcess(*arguments, "--features", "rollouts")
            await asyncio.sleep(0.02)
        assert await eventually(lambda: released(place))
    finally:
        process.kill()

    assert kills >= min(most, 4)
    assert kubelet.born[0] == "c-ingest-0"
    assert kubelet.most_down == 1
    again = len(writes(place)) - len({*writes(place)})
    assert again <= kills


UNIFIED = {"topology": "Unified", "nodes": 3, "storage": {"backend": "local"}, "image": {"node": "chronik:1.0"}}


class Voters:
    """Plays the kubelet of three nodes that vote, of which one leads: another one as soon as it is down."""

    def __init__(self, place, nodes):
        self.place, self.nodes = place, nodes
        self.born = []
        self.led_at = []

    async def look(self):
        """Look once; return how many are ready."""
        pods = {int(pod["metadata"]["name"][-1]): pod for pod in await self.place.list(POD)}
        self.nodes.up = {number for number, pod in pods.items() if is_ready(pod)}
        for number, pod in pods.items():
            if image_of(pod).endswith(":2.0") and number not in self.born:
                self.born.append(number)
                self.led_at.append(self.nodes.leader)
        if self.nodes.leader not in self.nodes.up and self.nodes.up:
            self.nodes.leader = min(self.nodes.up)
        for pod in pods.values():
            if not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]:
                await say(self.place, pod["metadata"]["name"], "True")
        return len(self.nodes.up)


async def test_the_leader_goes_last(place, monkeypatch):
    """The node that leads is replaced after all others, so that a leader is elected once in a roll."""
    nodes = PlayedNodes(3, leader=3)
    voters = Voters(place, nodes)
    with nodes.playing() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with with_rights(place):
            metadata = {"name": "u", "namespace": place.name}
            await place.create(
                {"apiVersion": CLUSTER.api_version, "kind": CLUSTER.name, "metadata": metadata, "spec": UNIFIED}
            )

            async def running_with(image):
                await voters.look()
                status = (await place.cluster("u")).get("status") or {}
                ready = all(image_of(pod).endswith(image) for pod in await place.list(POD))
                return ready and status.get("phase") == "Running" and status.get("members") == [1, 2, 3]

            await eventually(lambda: running_with(":1.0"))
            nodes.leader = 3
            await place.change("u", image={"node": "chronik:2.0"})
            await eventually(lambda: running_with(":2.0"))

    assert voters.born == [2, 1, 3]
    assert nodes.faults == []
