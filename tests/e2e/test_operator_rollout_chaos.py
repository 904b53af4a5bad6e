"""Canaries of all components while operators are killed after each of their writes, and the API server with them."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from support import real_server as real
from support.kubelet import image_of, is_ready, say, twice
from support.operator_process import OperatorProcess
from support.operators import DEPLOYMENT, STATEFUL_SET, Namespace, eventually, small

from chronik.manifest import CLUSTER, POD, ROLLOUT_ANNOTATION
from chronik.offline import loading
from chronik.plan.drift import applied_fields

pytestmark = [pytest.mark.real, pytest.mark.slow]

STEPS = [{"pods": 1, "pause": {"duration": "1s"}}, {"pods": "50%", "pause": {}}]
WORKLOADS = {"c-controller": STATEFUL_SET, "c-ingest": STATEFUL_SET, "c-search": DEPLOYMENT}
ELECTION = ("--lease-duration", "3", "--renew-deadline", "2", "--retry-period", "0.4")


@pytest.fixture
def place():
    """Return a namespace of a cluster of its own, which may be restarted."""
    if not real.available() or not real.find_binary("kube-controller-manager"):
        pytest.skip(real.MISSING)
    server = real.RealServer.start()
    server.install(loading.definitions())
    server.wait_served(f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}")
    server.start_controllers()
    yield Namespace(server, server.new_namespace())
    server.stop()


class Chaos:
    """Operators that are killed whenever they have written something, until `most` kills are done."""

    def __init__(self, place, log, operators, arguments):
        self.place, self.log, self.count, self.arguments = place, log, operators, arguments
        self.running = []
        self.kills, self.seen, self.armed = 0, 0, False
        self.down = {}
        self.steps = []

    def writes(self):
        """Return all that operators wrote of workloads, pods and Services: verb, resource, name, manager, body."""
        found = []
        for each in self.place.server.requests_of(self.place.name):
            if not each.writes or not each.user_agent.startswith("chronik") or each.code >= 300:
                continue
            if each.resource in {"statefulsets", "deployments", "pods", "services"}:
                metadata = {**(each.body or {}).get("metadata", {}), "resourceVersion": None}
                body = repr({**(each.body or {}), "metadata": metadata})
                found.append((each.verb, each.resource, each.name, each.query.get("fieldManager", ""), body))
        return found

    async def look(self):
        """Play the kubelet, count which pods are down, and kill whoever has written."""
        pods = [pod for pod in await self.place.list(POD) if "deletionTimestamp" not in pod["metadata"]]
        for workload, wanted in (("c-controller", 3), ("c-ingest", 3), ("c-search", 4)):
            ready = sum(is_ready(pod) for pod in pods if pod["metadata"]["name"].startswith(workload))
            self.down[workload] = max(self.down.get(workload, 0), wanted - ready)
        for pod in pods:
            if not is_ready(pod):
                await say(self.place, pod["metadata"]["name"], "True")
        self.running = [each for each in self.running if each.runs]
        written = len(await asyncio.to_thread(self.writes))
        if self.armed and written > self.seen:
            for each in self.running:
                each.kill()
                self.kills += 1
        self.seen = written
        self.running = [each for each in self.running if each.runs]
        while len(self.running) < self.count:
            self.running.append(OperatorProcess(self.place.server.kubeconfig, self.log, *self.arguments))

    async def until(self, phase, step=None, seconds=300):
        """Go on until the rollout is in a phase, at a step; return it."""
        deadline = time.monotonic() + seconds
        while True:
            assert time.monotonic() < deadline, (phase, self.steps[-5:], [each.text[-1500:] for each in self.running])
            await self.look()
            rollout = ((await self.place.cluster("c")).get("status") or {}).get("rollout") or {}
            now = rollout.get("candidate"), rollout.get("attempt"), rollout.get("step"), rollout.get("phase")
            if not self.steps or self.steps[-1] != now:
                self.steps.append(now)
            if rollout.get("phase") == phase and step in {None, rollout.get("step")}:
                return rollout
            await asyncio.sleep(0.05)

    async def free(self):
        """Go on until nothing is held, and the cluster runs."""

        async def is_free():
            await self.look()
            lives = [await self.place.get(kind, name) for name, kind in WORKLOADS.items()]
            held = any(applied_fields(live, "chronik-operator-rollout") is not None for live in lives)
            return not held and (await self.place.cluster("c"))["status"]["phase"] == "Running"

        await eventually(is_free, 120)

    async def runs(self, version):
        """Return whether all pods run a version."""
        return {image_of(pod).rpartition(":")[2] for pod in await self.place.list(POD)} == {version}

    def end(self):
        """End all operators."""
        for each in self.running:
            each.kill()


async def command(place, text):
    """Ask for something, as `kubectl annotate` does."""
    await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: text}}})


def images(version):
    """Return the images of a version."""
    return {part: f"chronik/{part}:{version}" for part in ("controller", "ingest", "search")}


async def lived(chaos, rounds, kills):
    """Have a cluster run, and take canaries through or back, round after round; the API server dies in every third."""
    place = chaos.place
    await place.secret("first")
    rollout = {"strategy": "Canary", "canary": {"steps": STEPS}}
    counts = {"controllers": 3, "ingestNodes": 3, "searchNodes": 4}
    await place.create(small(place.name, **counts, rollout=rollout))
    await chaos.until("Complete")
    await chaos.free()
    chaos.down.clear()
    begun, chaos.armed, version = len(chaos.writes()), True, "1.0"
    for number in range(rounds):
        if chaos.kills >= kills:
            break
        following = f"{number + 2}.0"
        await place.change("c", image=images(following))
        await chaos.until("Progressing")
        if number % 3 == 1:
            await asyncio.to_thread(place.server.restart)
        found = await chaos.until("Paused", 2)
        if number % 3 == 2:
            await command(place, f"abort@{found['candidate']}")
            await chaos.until("Aborted")
        else:
            await command(place, f"promote@{found['candidate']}/2")
            await chaos.until("Complete")
            version = following
        assert await chaos.runs(version)
    chaos.armed = False
    if version != following:
        await place.change("c", image=images(version))
        await chaos.until("Complete")
    await chaos.free()
    return chaos.writes()[begun:]


def check(chaos, done):
    """Hold what was seen to what the document promises."""
    assert chaos.down == {"c-controller": 1, "c-ingest": 1, "c-search": 0}
    staged = [each for each in twice(done) if each[3] == "chronik-operator-rollout"]
    assert staged == [], "each hold is written once"
    deleted = [each[-1] for each in done if each[0] == "delete" and each[1] == "pods"]
    assert len(deleted) == len(set(deleted)), "no pod is deleted twice"
    for (candidate, attempt, before, _), (after_candidate, after_attempt, after, phase) in pairwise(chaos.steps):
        if (candidate, attempt) == (after_candidate, after_attempt) and before and after and phase != "Complete":
            assert after in {before, before + 1}, chaos.steps


async def test_fifty_kills(place, tmp_path):
    """Fifty kills, each right after a write, and an API server that dies: each step is done once, in order."""
    chaos = Chaos(place, tmp_path / "log", 1, ("-n", place.name, "--no-leader-elect", "--features", "rollouts"))
    try:
        done = await lived(chaos, 20, 50)
    finally:
        chaos.end()

    assert chaos.kills >= 50
    check(chaos, done)


async def test_two_operators(place, tmp_path):
    """Two operators of which both die after each write: only the one that leads writes, and each step is done once."""
    arguments = ("-n", place.name, "--lease-namespace", place.name, *ELECTION, "--features", "rollouts")
    chaos = Chaos(place, tmp_path / "log", 2, arguments)
    try:
        done = await lived(chaos, 3, 40)
    finally:
        chaos.end()

    assert chaos.kills >= 20
    check(chaos, done)
