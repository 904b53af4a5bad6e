"""Leader election: of several operators never two may write, and there is soon one again."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from itertools import count, groupby
from typing import TYPE_CHECKING

import pytest
from support.candidates import TERMS, Candidate, Etcd, holders, named, two, until_held
from support.fault_proxy import FaultProxy
from support.kube_clients import kubeconfig_for
from support.virtual_time import simulate

from chronik.kube import ConnectOptions, connect
from chronik.operator.lease import Leadership, Terms

if TYPE_CHECKING:
    from pathlib import Path

BRISK = Terms(duration=3, renew_deadline=2.0, retry=0.4)
"""For tests on servers, where time is real."""


# --- in virtual time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_take_over_after_release(seed):
    """A lease that is given away has a new holder in less than three seconds."""

    async def scenario() -> float:
        _, leader, standby = await two(seed)
        await leader.leadership.release()
        assert not leader.leadership.holds
        return await until_held([standby])

    assert simulate(scenario()) < 3


@pytest.mark.parametrize("seed", range(8))
def test_take_over_after_crash(seed):
    """The lease of an operator that died is taken over when it has lapsed, not before, and one retry later at most."""

    async def scenario() -> float:
        etcd, leader, standby = await two(seed)
        leader.kill()
        await until_held([standby])
        return etcd.writes[-1][0] - etcd.writes[-2][0]

    assert TERMS.duration <= simulate(scenario()) <= TERMS.duration + TERMS.retry + 0.1


@pytest.mark.parametrize("way", ["there", "back"])
def test_partition_ends_leadership_before_the_lease_lapses(way):
    """Who cannot reach the server stops at its own deadline, says so, and is a standby when the server is back."""

    async def scenario() -> None:
        etcd, leader, standby = await two()
        loop = asyncio.get_running_loop()
        leader.link.cut = way
        renewed = max(when for when, who in etcd.writes if who == "a")
        await leader.leadership.lost()
        lost = loop.time()
        assert TERMS.renew_deadline - 0.1 <= lost - renewed <= TERMS.duration
        await until_held([standby])
        assert loop.time() - lost > 3
        leader.link.cut = ""
        await asyncio.sleep(30)
        assert holders([leader, standby]) == ["b"]
        assert leader.leadership.holder == standby.leadership.identity
        standby.kill()
        await asyncio.wait_for(leader.leadership.acquired(), 20)

    simulate(scenario())


def test_one_slow_answer_costs_nothing():
    """One renewal that hangs does not end a leadership: there is time for another."""

    async def scenario() -> None:
        _, leader, standby = await two()
        leader.link.cut, leader.link.hangs = "there", (60.0,)
        await asyncio.sleep(TERMS.attempt)
        leader.link.cut = ""
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert holders([leader, standby]) == ["a"]

    simulate(scenario())


def test_deleted_lease_is_not_free():
    """Deleting the Lease makes nobody leader beside the one that there is."""

    async def scenario() -> None:
        etcd, leader, standby = await two()
        for _ in range(20):
            etcd.lease = None
            for _ in range(25):
                await asyncio.sleep(0.1)
                assert holders([leader, standby]) == ["a"]

    simulate(scenario())


def test_evicted_leader_stops_when_it_sees_so():
    """A leader that reads another's name in the Lease stops at once, however that name came there."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        etcd.lease["metadata"]["resourceVersion"] = "5000"
        etcd.lease["spec"]["holderIdentity"] = "somebody"
        await asyncio.sleep(TERMS.retry + 0.1)
        assert not leader.leadership.holds
        assert leader.leadership.holder == "somebody"

    simulate(scenario())


def test_lost_sees_a_gap():
    """Who waits for the loss hears of it though the lease was won again a moment later."""

    async def scenario() -> None:
        _, leader, standby = await two()
        standby.kill()
        waiting = asyncio.ensure_future(leader.leadership.lost())
        leader.link.cut = "there"
        await asyncio.sleep(TERMS.renew_deadline + 0.5)
        leader.link.cut = ""
        await asyncio.wait_for(waiting, 5)
        await until_held([leader])

    simulate(scenario())


def test_surprise_does_not_end_the_loop(caplog):
    """An error that nobody thought of is logged, and the lease is still renewed when it has passed."""

    async def scenario() -> None:
        etcd, leader, standby = await two()
        lease, etcd.lease = etcd.lease, {"metadata": None}
        await asyncio.sleep(TERMS.retry * 2)
        etcd.lease = lease
        await asyncio.sleep(TERMS.duration)
        assert holders([leader, standby]) == ["a"]

    simulate(scenario())
    assert "a bug in chronik" in caplog.text


def test_gain_and_loss_are_logged(caplog):
    """The log says when a process begins and ceases to lead."""
    caplog.set_level("INFO")

    async def scenario() -> None:
        _, leader, _ = await two()
        leader.link.cut = "there"
        await asyncio.sleep(60)

    simulate(scenario())
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if re.match(r"this process, a_\S+, has the lease", line)]) == 1
    assert said.count("this process no longer has the lease") == 1


def test_transitions_are_counted():
    """The record says how often the lease changed hands, and keeps the time it was taken while it is renewed."""

    async def scenario() -> list[dict]:
        etcd, leader, standby = await two()
        records = [etcd.lease["spec"]]
        await asyncio.sleep(5)
        records.append(etcd.lease["spec"])
        await leader.leadership.release()
        records.append(etcd.lease["spec"])
        await until_held([standby])
        return [*records, etcd.lease["spec"]]

    first, renewed, released, taken = simulate(scenario())
    assert [one["leaseTransitions"] for one in (first, renewed, released, taken)] == [0, 0, 0, 1]
    assert first["acquireTime"] == renewed["acquireTime"] < taken["acquireTime"]
    assert first["renewTime"] < renewed["renewTime"]
    assert (released["holderIdentity"], released["leaseDurationSeconds"]) == ("", 1)


@pytest.mark.parametrize("seed", range(25))
def test_never_two_under_chaos(seed):
    """Whatever is cut, killed, released or slow, on machines whose clocks differ: never do two hold the lease.

    And when the trouble is over, one does within the lease's duration and a retry.
    """

    async def scenario() -> int:
        etcd, chance = Etcd(), random.Random(seed)
        candidates = [Candidate(etcd, chance, f"c{number}", drift=0.05) for number in range(3)]
        seen = set()
        for step in range(1500):
            await asyncio.sleep(0.2)
            now_holding = holders(candidates)
            assert len(now_holding) <= 1, f"at step {step}: {now_holding}"
            seen.update(now_holding)
            if chance.random() < 0.03:
                await disturb(candidates, etcd, chance, f"d{step}")
        for each in candidates:
            each.link.cut, each.link.slow = "", 0.01
        await asyncio.sleep(0.1)
        assert await until_held(candidates) <= TERMS.duration * 1.06 + 2 * TERMS.retry
        return len(seen)

    assert simulate(scenario()) >= 3


async def disturb(candidates: list[Candidate], etcd: Etcd, chance: random.Random, name: str) -> None:
    """Do something bad to one of them, mostly to the leader."""
    number = chance.randrange(len(candidates))
    victim = next((each for each in candidates if each.leadership.holds and chance.random() < 0.7), candidates[number])
    what = chance.choice(["there", "back", "heal", "heal", "slow", "kill", "release"])
    if what in {"there", "back"}:
        victim.link.cut = what
    elif what == "heal":
        victim.link.cut, victim.link.slow = "", 0.01
    elif what == "slow":
        victim.link.slow = chance.choice((0.5, 2.0, 6.0))
    else:
        if what == "release":
            await victim.leadership.release()
        victim.kill()
        candidates[candidates.index(victim)] = Candidate(etcd, chance, name, drift=0.05)


@pytest.mark.parametrize("values", [(10, 10.0, 2.0), (15, 10.0, 10.0), (15, 10.0, 0.0)])
def test_terms_must_fit(values):
    """Terms that leave no time to stop in are refused."""
    with pytest.raises(ValueError, match="retry < renew_deadline < duration"):
        Terms(*values)


# --- on servers -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(kube, namespace: str, identity: str):
    """Give a leadership that runs, and dies without a word at the end."""
    leadership = Leadership(kube, namespace=namespace, identity=identity, terms=BRISK)
    task = asyncio.ensure_future(leadership.run())
    yield leadership
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def watching(*leaderships: Leadership):
    """Look every two milliseconds how many hold the lease: never two."""
    counts = set()

    async def look() -> None:
        while True:
            counts.add(sum(each.holds for each in leaderships))
            await asyncio.sleep(0.002)

    task = asyncio.ensure_future(look())
    yield
    task.cancel()
    assert counts <= {0, 1}
    assert 1 in counts


@pytest.fixture
async def kube(server):
    """Give admin's access to either server, in real time."""
    async with connect(ConnectOptions(kubeconfig=str(server.kubeconfig))) as access:
        yield access


def lease_of(server, namespace: str) -> dict:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/chronik-operator"
    return server.call("GET", path).body["spec"]


async def test_release_on_a_server(server, namespace, kube):
    """Both servers take the records: taken, renewed, given away and taken over within a second."""
    async with running(kube, namespace, "a") as first:
        await asyncio.wait_for(first.acquired(), 5)
        async with running(kube, namespace, "b") as second, watching(first, second):
            await asyncio.sleep(1)
            spec = lease_of(server, namespace)
            assert (named(spec["holderIdentity"]), spec["leaseTransitions"]) == ("a", 0)
            assert spec["leaseDurationSeconds"] == BRISK.duration
            assert spec["acquireTime"] < spec["renewTime"]
            await first.release()
            await asyncio.wait_for(second.acquired(), 1)
            spec = lease_of(server, namespace)
            assert (named(spec["holderIdentity"]), spec["leaseTransitions"]) == ("b", 1)


async def test_renewal_is_one_request(server, namespace, kube):
    """Leading costs one PATCH for each renewal, and no read."""
    async with running(kube, namespace, "a") as leadership:
        await asyncio.wait_for(leadership.acquired(), 5)
        before = len(server.requests_of(namespace))
        await asyncio.sleep(1)
        asked = server.requests_of(namespace)[before:]

    assert 1 <= len(asked) <= 4
    assert {request.verb for request in asked} == {"patch"}


async def test_crash_on_a_server(namespace, kube):
    """A leader that dies is followed by the standby, when its lease has lapsed."""
    async with running(kube, namespace, "b") as second:
        async with running(kube, namespace, "a") as first:
            await asyncio.wait({asyncio.ensure_future(each.acquired()) for each in (first, second)}, timeout=1)
            held = first if first.holds else second
            assert first.holds != second.holds
            assert held.holder == held.identity
        if held is first:
            await asyncio.wait_for(second.acquired(), BRISK.duration + 2 * BRISK.retry)


async def test_many_begin_at_once(namespace, kube):
    """Of ten that begin at the same moment on an empty namespace exactly one wins."""
    every = [Leadership(kube, namespace=namespace, identity=f"c{number}", terms=BRISK) for number in range(10)]
    tasks = [asyncio.ensure_future(each.run()) for each in every]
    await asyncio.sleep(1)

    assert [each.holds for each in every].count(True) == 1
    for task in tasks:
        task.cancel()


async def test_partition_on_a_server(server, namespace, kube, tmp_path):
    """A leader cut off from the server has stopped before the standby begins, and learns who leads when it is back."""
    cut = asyncio.Event()
    script = ("hang up" if cut.is_set() else None for _ in count())
    async with FaultProxy(server.url, ca=server.ca, script=script) as proxy:
        path = kubeconfig_for(proxy.url, tmp_path, {"token": server.token})
        async with connect(ConnectOptions(kubeconfig=path)) as far, running(far, namespace, "a") as first:
            await asyncio.wait_for(first.acquired(), 5)
            async with running(kube, namespace, "b") as second, watching(first, second):
                await asyncio.sleep(BRISK.retry * 2)
                cut.set()
                await asyncio.wait_for(first.lost(), BRISK.duration)
                assert not second.holds
                await asyncio.wait_for(second.acquired(), BRISK.duration)
                cut.clear()
                await asyncio.sleep(2)
                assert (first.holds, first.holder) == (False, second.identity)


OPERATOR = """
import asyncio, sys, time
from chronik.kube import ConnectOptions, connect
from chronik.operator.fence import NotLeading
from chronik.operator.lease import Leadership, Terms

async def main(kubeconfig, namespace, name):
    async with connect(ConnectOptions(kubeconfig=kubeconfig)) as own:
        leadership = Leadership(own, namespace=namespace, identity=name, terms=Terms(3, 2.0, 0.4))
        running = asyncio.ensure_future(leadership.run())
        async with connect(ConnectOptions(kubeconfig=kubeconfig, guard=leadership)) as kube:
            asyncio.ensure_future(write(kube, namespace, name))
            while not running.done():
                now = time.monotonic()
                print(now, leadership.holds, flush=True)
                await asyncio.sleep(0.002)

async def write(kube, namespace, name):
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "written", "namespace": namespace}}
    for number in range(10**9):
        try:
            await kube.apply(config_map | {"data": {"writer": name, "number": str(number)}}, force=True)
        except NotLeading:
            pass
        await asyncio.sleep(0.01)

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def processes(server, namespace: str, folder: Path, names: str):
    """Give operators that are processes, by name, each of which writes all the time while it leads."""
    with ExitStack() as stack:
        started = {}
        for name in names:
            out = stack.enter_context((folder / name).open("w"))
            command = [sys.executable, "-c", OPERATOR, str(server.kubeconfig), namespace, name]
            process = started[name] = subprocess.Popen(command, stdout=out)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield started


def beliefs(folder: Path, name: str) -> list[tuple[float, bool]]:
    """Return what a process believed, moment by moment, on the clock that all processes share."""
    lines = [line.split() for line in (folder / name).read_text().splitlines() if line.endswith(("True", "False"))]
    return [(float(when), holds == "True") for when, holds in lines]


async def test_paused_process(server, namespace, kube, tmp_path):
    """A leader that is stopped, and goes on after another took over, never believes that it still leads."""
    with processes(server, namespace, tmp_path, "p") as started:
        while not any(holds for _, holds in beliefs(tmp_path, "p")):
            await asyncio.sleep(0.02)
            assert started["p"].poll() is None
        async with running(kube, namespace, "b") as second:
            await asyncio.sleep(BRISK.retry * 2)
            started["p"].send_signal(signal.SIGSTOP)
            await asyncio.wait_for(second.acquired(), 8)
            began = time.monotonic()
            started["p"].send_signal(signal.SIGCONT)
            await asyncio.sleep(1)
            assert second.holds
    after = [holds for when, holds in beliefs(tmp_path, "p") if when >= began]
    assert len(after) > 20
    assert not any(after)


def writes_of(server, namespace: str) -> list[str]:
    """Return who wrote, in the order in which the server did it."""
    done = [each for each in server.requests_of(namespace) if each.resource == "configmaps" and each.code < 300]
    return [each.body["data"]["writer"] for each in done if each.verb == "patch"]


async def test_no_two_ever_write(server, namespace, tmp_path):
    """While leaders are killed and stopped and wake up again, the server sees one writer after the other, never two."""
    leaders: list[str] = []
    with processes(server, namespace, tmp_path, "abc") as started:
        for number in (signal.SIGKILL, signal.SIGSTOP, None):
            before = len(writes_of(server, namespace))
            deadline = time.monotonic() + 60
            while len(writes_of(server, namespace)) < before + 10:
                await asyncio.sleep(0.1)
                assert time.monotonic() < deadline
            leaders.append(writes_of(server, namespace)[-1])
            if number:
                started[leaders[-1]].send_signal(number)
        started[leaders[1]].send_signal(signal.SIGCONT)
        await asyncio.sleep(1)
        assert started[leaders[1]].poll() is None

    assert sorted(leaders) == ["a", "b", "c"]
    assert [writer for writer, _ in groupby(writes_of(server, namespace))] == leaders
