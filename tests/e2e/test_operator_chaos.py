from __future__ import annotations

import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from support import real_server as real
from support.chaos import Controllers, Fleet, claims, difference, end_state, operator_writes, orphans, path, quiet
from support.cli_place import SPEC
from support.fake_server.server import FakeServer
from support.fault_proxy import FaultProxy, beside
from support.kube_clients import kubeconfig_for
from support.operator_process import OperatorProcess, until

from chronik.manifest import CLUSTER, KIND_BY_NAME
from chronik.offline import loading as offline
from chronik.plan.deletion import when_deleted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from support.api import ApiServer

NAMES = ("c0", "c1", "c2", "c3")
FEW = NAMES[:2]


class Kills:
    """Runs an operator of one namespace again and again, and kills it at moments that a seed decides."""

    def __init__(self, fleet: Fleet, names: Sequence[str], log: Path, seed: int) -> None:
        """Kill the operator of the last namespace of the fleet."""
        self.arguments = (fleet.server.kubeconfig, log, "-n", fleet.namespaces[-1], "--no-leader-elect")
        self._fleet, self._names = fleet, names
        self._random = random.Random(seed)
        self.cut = 0

    def one(self) -> None:
        """Start it, edit clusters, and kill it between there and when it has nothing left to do."""
        with OperatorProcess(*self.arguments) as operator:
            for _ in range(self._random.randint(1, 3)):
                self._fleet.step(self._names)
            if self._random.random() < 0.9:
                operator.wait_said("reconciles")
            self._fleet.step(self._names)
            time.sleep(self._random.uniform(0, 0.5) ** 2 * 2)
        self.cut += not self._is_done()

    def rotation(self, secret: str, state: str, times: int) -> None:
        """Change a Secret while it is up or about to be, and kill it so often while that is going round."""
        for number in range(times):
            with OperatorProcess(*self.arguments) as operator:
                if self._random.random() < 0.8:
                    operator.wait_said("reconciles")
                if number == 0:
                    self._fleet.rotate(state, secret)
                time.sleep(self._random.uniform(0, 0.4))
            self.cut += not self._is_done()

    def _is_done(self) -> bool:
        """Tell whether a cluster had all that its last spec asks for when the operator was killed."""
        return self._fleet.all_running(self._fleet.namespaces[-1])

    def last(self) -> OperatorProcess:
        """Start it once more, to be left alone."""
        return OperatorProcess(*self.arguments)


def wait_alike(fleet: Fleet, seconds: float = 60) -> None:
    """Wait until all clusters run in all namespaces, and these are alike, and stay so; fail with what differs."""
    server, (first, *others) = fleet.server, fleet.namespaces

    def differences() -> list[str]:
        found = [f"{each} is not Running" for each in fleet.namespaces if not fleet.all_running(each)]
        found += [orphan for each in fleet.namespaces for orphan in orphans(server, each)]
        expected = end_state(server, first)
        for other in others:
            found += difference(expected, end_state(server, other))
        return found

    def running() -> bool:
        return all(fleet.all_running(each) for each in fleet.namespaces)

    def told() -> str:
        return "\n".join(line[:300] for line in differences()[:10])

    until(lambda: running() and not differences(), seconds, told)
    until(lambda: quiet(server, fleet.namespaces), seconds)  # an Event, or a status that met a fault, may still come
    assert differences() == []


def check_kills(server: ApiServer, folder: Path, kills: int, names: Sequence[str]) -> dict[str, int]:
    """Kill an operator many times, and compare the end with that of one that nobody disturbed."""
    calm, killed = server.new_namespace(), server.new_namespace()
    fleet = Fleet(server, (calm, killed), seed=kills)
    undisturbed = OperatorProcess(server.kubeconfig, folder / "calm.log", "-n", calm, "--no-leader-elect")
    with Controllers.playing(server, calm, killed), undisturbed, ExitStack() as stack:
        for name in names:
            fleet.create(name)
        rounds = Kills(fleet, names, folder / "killed.log", seed=kills)
        for _ in range(kills):
            rounds.one()
        stack.enter_context(rounds.last())
        wait_alike(fleet)
        writes = len(operator_writes(server, calm)), len(operator_writes(server, killed))
        check_deletion(fleet)
    return {"kills": kills, "with work left": rounds.cut, "writes": writes[1], "writes of the other": writes[0]}


def check_deletion(fleet: Fleet) -> None:
    """Delete everything: nothing stays but the volumes that are to be kept."""
    server = fleet.server
    kept = {}
    for namespace in fleet.namespaces:
        clusters = fleet.clusters(namespace)
        going = {name for name, each in clusters.items() if when_deleted(each) == "Delete"}
        doomed = set().union(*(claims(server, namespace, name) for name in going))
        kept[namespace] = claims(server, namespace) - doomed
    fleet.delete_all()
    for namespace in fleet.namespaces:
        until(lambda: not fleet.clusters(namespace))  # noqa: B023  # asked within the turn of the loop
        until(lambda: not orphans(server, namespace), 90, lambda: str(orphans(server, namespace)))  # noqa: B023
        until(lambda: claims(server, namespace) == kept[namespace])  # noqa: B023


def check_faults(server: ApiServer, folder: Path, rate: float, names: Sequence[str]) -> dict[str, float]:
    """Let an operator work through a proxy that fails requests, and compare the end with that of one without."""
    calm, faulty = server.new_namespace(), server.new_namespace()
    fleet = Fleet(server, (calm, faulty), seed=5)
    proxy = FaultProxy(server.url, ca=server.ca, rate=rate, seed=5)
    with Controllers.playing(server, calm, faulty), beside(proxy), ExitStack() as stack:
        through = kubeconfig_for(proxy.url, folder, {"token": server.token})
        for namespace, kubeconfig in ((calm, server.kubeconfig), (faulty, through)):
            arguments = ("-n", namespace, "--no-leader-elect")
            user = "admin" if namespace == calm else "c"
            log = folder / f"{user}.log"
            operator = stack.enter_context(OperatorProcess(kubeconfig, log, *arguments, user=user))
        for name in names:
            fleet.create(name)
        for _ in range(5 * len(names)):
            fleet.step(names)
            time.sleep(0.2)
        wait_alike(fleet, 200)
        assert operator.runs
        counts = [most_writes(server, namespace) for namespace in fleet.namespaces]
        check_deletion(fleet)
    failed = sum(seen.fault is not None for seen in proxy.seen)
    return {"rate": rate, "requests": len(proxy.seen), "faults": failed, "calm": counts[0], "faulty": counts[1]}


def most_writes(server: ApiServer, namespace: str) -> int:
    """Return how many writes succeeded on the object that was written most, Events and the clusters left out."""
    done = [each for each in operator_writes(server, namespace) if each.code < 300]
    paths = Counter(each.path for each in done if each.resource not in {"events", CLUSTER.plural})
    return max(paths.values())


def check_restarts(server: ApiServer, folder: Path, restarts: int) -> int:
    """Restart the API server while clusters change; return how many lists the operator has asked for, by kind."""
    namespace = server.new_namespace()
    fleet = Fleet(server, [namespace], seed=9)
    arguments = (server.kubeconfig, folder / "operator.log", "-n", namespace, "--no-leader-elect")
    with Controllers.playing(server, namespace), OperatorProcess(*arguments) as operator:
        for name in NAMES:
            fleet.create(name)
        for _ in range(restarts):
            for _ in range(4):
                fleet.step(NAMES)
            server.restart()
            for _ in range(2):
                fleet.step(NAMES)
        until(lambda: fleet.all_running(namespace), 90, lambda: operator.text[-3000:])
        until(lambda: quiet(server, [namespace]))
        assert operator.runs
        assert "Traceback" not in operator.text
        lists = [each for each in server.requests_of(namespace) if each.verb == "list"]
        lists = [each for each in lists if each.user_agent.startswith("chronik")]
    before = len(operator_writes(server, namespace))
    with OperatorProcess(*arguments, "--once") as fresh:
        assert fresh.process.wait(30) == 0
    assert operator_writes(server, namespace)[before:] == [], "the operator had missed something"
    assert orphans(server, namespace) == []
    return max(Counter(each.path for each in lists).values())


STORE = {**SPEC["storage"], "backend": "s3", "s3": {"bucket": "data", "region": "eu", "credentialsSecret": "store"}}
OTHER = {**SPEC["metastore"], "connection": {**SPEC["metastore"]["connection"], "credentialsSecret": "other"}}
CLUSTERS_OF = {"pg": ("c0", "c1"), "store": ("c1",), "other": ("c2",)}
USERS_OF = {
    secret: {f"{name}-{part}" for name in names for part in ("controller", "ingest", "search")}
    for secret, names in CLUSTERS_OF.items()
}


def check_rotations(server: ApiServer, folder: Path, rounds: int, kills: int) -> int:
    """Change Secrets while an operator is killed again and again; return how often that was with work left."""
    fleet = Fleet(server, [namespace := server.new_namespace()], seed=kills)
    killer = Kills(fleet, NAMES, folder / "killed.log", seed=kills)
    with Controllers.playing(server, namespace):
        for name in ("other", "store"):
            fleet.secret(name)
        for name, spec in {"c0": {}, "c1": {"storage": STORE}, "c2": {"metastore": OTHER}}.items():
            fleet.create(name, **spec)
        with killer.last():
            until(lambda: fleet.all_running(namespace))
        for number in range(rounds):
            secret = ("pg", "store", "other")[number % 3]
            before = generations(server, namespace)
            killer.rotation(secret, "first" if number // 3 % 2 else "second", kills)
            with killer.last():
                until(lambda: restarted(server, namespace, before) >= USERS_OF[secret])  # noqa: B023  # in this turn
                until(lambda: fleet.all_running(namespace) and quiet(server, [namespace]))
            after = generations(server, namespace)
            assert {name: after[name] - before[name] for name in before} == {
                name: int(name in USERS_OF[secret]) for name in before
            }
        with OperatorProcess(*killer.arguments, "--once") as fresh:  # nothing was forgotten
            assert fresh.process.wait(30) == 0
        assert generations(server, namespace) == after
    return killer.cut


def generations(server: ApiServer, namespace: str) -> dict[str, int]:
    """Return the generation of each workload, which any change of its spec moves."""
    kinds = (KIND_BY_NAME[name] for name in ("StatefulSet", "Deployment"))
    items = [each for kind in kinds for each in server.call("GET", path(kind, namespace)).body["items"]]
    return {each["metadata"]["name"]: each["metadata"]["generation"] for each in items}


def restarted(server: ApiServer, namespace: str, before: dict[str, int]) -> set[str]:
    """Return the workloads whose generation has moved."""
    now = generations(server, namespace)
    return {name for name, generation in before.items() if now[name] > generation}


@pytest.fixture(params=["in-process", "kube-apiserver"])
def own_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """Yield a server that no other test uses, so that it may be restarted."""
    if request.param == "kube-apiserver" and not real.available():
        pytest.skip(real.MISSING)
    server = FakeServer.start() if request.param == "in-process" else real.RealServer.start()
    server.install(offline.definitions())
    server.wait_served(f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}")
    yield server
    server.stop()


def test_kills_leave_no_trace(fake_server, tmp_path):
    """An operator that is killed again and again ends where one does that was left alone, object for object."""
    check_kills(fake_server, tmp_path, kills=4, names=FEW)


@pytest.mark.slow
def test_secrets_change_under_kills(fake_server, tmp_path):
    """A changed Secret restarts the pods that use it, and no others, once, however often the operator is killed."""
    check_rotations(fake_server, tmp_path, rounds=1, kills=2)


@pytest.mark.slow
def test_secrets_change_under_many_kills(server, tmp_path):
    """So it is after nine changes of three Secrets, with six kills each, on either server."""
    cut = check_rotations(server, tmp_path, rounds=9, kills=6)
    sys.stdout.write(f"{cut} kills with work left\n")  # pytest -rP shows it

    assert cut >= 9


@pytest.mark.slow
@pytest.mark.real
def test_many_kills_leave_no_trace(real_server, tmp_path):
    """Two hundred kills on a real API server change nothing about the end."""
    figures = check_kills(real_server, tmp_path, kills=200, names=NAMES)
    sys.stdout.write(f"{figures}\n")  # pytest -rP shows it

    assert figures["with work left"] >= 60


def test_faults_leave_no_trace(fake_server, tmp_path):
    """An operator whose every seventh request fails ends where one does that was left alone."""
    figures = check_faults(fake_server, tmp_path, rate=0.15, names=FEW)

    assert figures["faulty"] <= figures["calm"] + 4


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.3])
def test_more_faults_leave_no_trace(server, tmp_path, rate):
    """Up to a third of all requests may fail, on either server."""
    figures = check_faults(server, tmp_path, rate, names=NAMES)
    sys.stdout.write(f"{figures}\n")  # pytest -rP shows it

    assert figures["faulty"] <= figures["calm"] + 6


@pytest.mark.parametrize("own_server", ["in-process"], indirect=True)
def test_the_server_is_restarted(own_server, tmp_path):
    """The operator outlives a restart of the API server, misses no change, and lists each kind once more."""
    assert check_restarts(own_server, tmp_path, restarts=1) <= 3


@pytest.mark.slow
def test_the_server_is_restarted_often(own_server, tmp_path):
    """Five restarts cost five lists of each kind, or a few more."""
    assert check_restarts(own_server, tmp_path, restarts=5) <= 8
