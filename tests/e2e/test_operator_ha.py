from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Self

import pytest
from support.api import USERS
from support.chaos import Controllers, Fleet, operator_writes, orphans, path
from support.kube_clients import ScriptedGuard, config_map
from support.operator_process import OperatorProcess, until
from support.operators import Namespace, eventually, running

from chronik.errors import ApiError
from chronik.kube import ConnectOptions, connect
from chronik.manifest import KIND_BY_NAME, LEASE, SECRET
from chronik.operator import app
from chronik.operator.fence import NotLeading
from chronik.operator.lease import LEASE_NAME, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.api import ApiServer, Request

    from chronik.operator.worker import Workers

DURATION = 3
TERMS = ("--lease-duration", str(DURATION), "--renew-deadline", "2", "--retry-period", "0.4")
NAMES = ("c0", "c1", "c2")
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


class Replicas:
    """Operators of one namespace that elect a leader, each with a user of its own, so that the server's log tells."""

    def __init__(self, server: ApiServer, folder: Path, users: Sequence[str]) -> None:
        self.server, self.folder = server, folder
        self.namespace = server.new_namespace()
        self.users = users
        self.fleet = Fleet(server, [self.namespace])
        self.running: dict[str, OperatorProcess] = {}
        self.stack = ExitStack()
        for user in users:
            self._grant(user)

    def __enter__(self) -> Self:
        self.stack.enter_context(Controllers.playing(self.server, self.namespace))
        for user in self.users:
            self.start(user)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start(self, user: str) -> None:
        """Start a replica."""
        arguments = ("-n", self.namespace, *TERMS)
        environ = {"OPERATOR_NAMESPACE": self.namespace}
        log = self.folder / f"{user}.log"
        process = OperatorProcess(self.server.kubeconfig, log, *arguments, user=user, environ=environ)
        self.running[user] = self.stack.enter_context(process)

    def leader(self, *, but: str = "", seconds: float = 20) -> str:
        """Wait until a replica other than that one has the lease, and return its user."""

        def holder() -> str:
            lease = self.server.call("GET", path(LEASE, self.namespace, LEASE_NAME))
            found = lease.body["spec"].get("holderIdentity", "").partition("_")[0] if lease.code == 200 else ""
            return "" if found == but else found

        return str(until(holder, seconds, lambda: "\n".join(each.text for each in self.running.values())))

    def writes_of(self, user: str) -> int:
        """Return how much a replica has written so far, the lease left out."""
        return sum(
            each.user == user and each.resource != "leases" for each in operator_writes(self.server, self.namespace)
        )

    def settled(self, seconds: float = 40) -> None:
        """Wait until all clusters run as their last spec says."""
        until(lambda: self.fleet.all_running(self.namespace), seconds, lambda: str(self.fleet.clusters(self.namespace)))

    def _grant(self, user: str) -> None:
        for kind, body in (
            ("roles", {"rules": [EVERYTHING]}),
            (
                "rolebindings",
                {
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"of-{user}"},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
                },
            ),
        ):
            where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/{kind}"
            assert self.server.call("POST", where, {"metadata": {"name": f"of-{user}"}, **body}).code == 201
        until(lambda: self.server.call("GET", path(LEASE, self.namespace), token=user).code == 200)


def writes_out_of_turn(requests: Sequence[Request]) -> list[str]:
    """Return the writes of operators that did not hold the lease when the server answered them, from its log."""
    holder, wrong = "", []
    for each in requests:
        if each.resource == "leases" and each.writes:
            if each.code < 300:
                holder = each.body["spec"]["holderIdentity"].partition("_")[0]
        elif each.writes and each.user_agent.startswith("chronik") and each.code < 300 and each.user != holder:
            wrong.append(f"{each.user} wrote {each.path} while {holder or 'nobody'} had the lease")
    return wrong


def terms(requests: Sequence[Request]) -> list[str]:
    """Return who wrote, in turns."""
    users = [each.user for each in requests if each.resource != "leases" and each.code < 300]
    return [user for number, user in enumerate(users) if number == 0 or users[number - 1] != user]


@pytest.fixture
def pair(server: ApiServer, tmp_path: Path) -> Replicas:
    """Return two replicas, not started yet."""
    return Replicas(server, tmp_path, USERS[:2])


def test_a_standby_takes_over(pair):
    """A standby is ready, does not lead and writes nothing; soon after the leader's SIGTERM it leads."""
    with pair as replicas:
        leader = replicas.leader()
        ending, standby = replicas.running[leader], replicas.running[next(user for user in USERS if user != leader)]
        until(lambda: standby.ready().code == 200)
        assert (standby.metrics()["chronik_leader"], ending.metrics()["chronik_leader"]) == (0, 1)
        for name in NAMES:
            replicas.fleet.create(name)
        until(lambda: replicas.writes_of(leader))  # so it is told to stop in the midst of work
        assert terms(operator_writes(replicas.server, replicas.namespace)) == [leader]

        took = ending.terminate()
        replicas.leader(but=leader)
        replicas.settled()

        assert took < 20
        assert ending.process.returncode == 0
        assert "Traceback" not in ending.text
        assert writes_out_of_turn(operator_writes(replicas.server, replicas.namespace)) == []
        assert orphans(replicas.server, replicas.namespace) == []


def check_turns(replicas: Replicas, rounds: int) -> Counter[str]:
    """Kill, suspend and stop leaders while clusters change, and return how often each was done."""
    done: Counter[str] = Counter()
    with replicas:
        for name in NAMES:
            replicas.fleet.create(name)
        for number in range(rounds):
            leader = replicas.leader()
            process = replicas.running[leader]
            before = replicas.writes_of(leader)
            for _ in range(3):
                replicas.fleet.step(NAMES)
            until(lambda: replicas.writes_of(leader) > before)  # noqa: B023  # asked within the turn of the loop
            how = ("kill", "suspend", "stop")[number % 3]
            done[how] += 1
            if how == "suspend":
                process.pause()
                replicas.leader(but=leader, seconds=DURATION + 10)
                replicas.fleet.step(NAMES)
                process.wake()
                replicas.fleet.step(NAMES)
                continue
            process.kill() if how == "kill" else process.terminate()
            replicas.fleet.step(NAMES)
            replicas.leader(but=leader, seconds=DURATION + 10)
            replicas.start(leader)
        replicas.settled()
        writes = operator_writes(replicas.server, replicas.namespace)
        assert all(each.runs for each in replicas.running.values())
        assert not any("Traceback" in each.text for each in replicas.running.values())
    assert writes_out_of_turn(writes) == []
    until(lambda: not orphans(replicas.server, replicas.namespace))  # clusters were deleted until the very end
    assert len(terms(writes)) > 1
    done["writes"], done["terms"] = len(writes), len(terms(writes))
    return done


@pytest.mark.stand_in
def test_leaders_take_turns(pair):
    """No two operators ever write side by side, be the leader killed, or suspended and woken when another leads."""
    check_turns(pair, rounds=2)


async def test_what_may_not_be_written_any_more_is_held_back(fake_server):
    """A write that was allowed when it was asked for, and is not when it would go out, does not reach the server."""
    namespace, guard = fake_server.new_namespace(), ScriptedGuard(ApiError("held back"))
    async with connect(ConnectOptions(kubeconfig=str(fake_server.kubeconfig), guard=guard)) as kube:
        assert await kube.get(SECRET, namespace, "a") is None
        with pytest.raises(ApiError, match="held back"):
            await kube.apply(config_map(namespace))

    asked = await asyncio.to_thread(fake_server.requests_of, namespace)
    assert [each.verb for each in asked] == ["get"]


async def test_a_term_that_ends_takes_its_writes_along(fake_server, monkeypatch):
    """What goes on writing when the lease is another's, as a pass that hears of it late, is refused from then on."""
    namespace, told, refused = fake_server.new_namespace(), asyncio.Event(), asyncio.Event()

    async def writing(workers: Workers, *_: object) -> None:
        for number in count():
            try:
                await workers.context.kube.apply(config_map(namespace, "a", number=str(number)), force=True)
            except NotLeading:
                assert told.is_set(), "it was the leader"
                refused.set()
                await workers.context.kube.apply(config_map(namespace, "dry"), dry_run=True)
                return
            await asyncio.sleep(0.01)

    monkeypatch.setattr(app, "run_workers", writing)
    lease = path(LEASE, namespace, LEASE_NAME)
    async with running(fake_server, namespace, elect=True, terms=Terms(DURATION, 2.0, 0.4)):
        place = Namespace(fake_server, namespace)
        await eventually(lambda: place.get(KIND_BY_NAME["ConfigMap"], "a"))
        told.set()
        spec = {"holderIdentity": "somebody", "leaseDurationSeconds": 60}
        await place.call("PATCH", lease, {"spec": spec}, patch="merge")
        await asyncio.wait_for(refused.wait(), 5)
        seen = await asyncio.to_thread(fake_server.requests_of, namespace)

    writes = [each for each in seen if each.resource == "configmaps" and each.writes]
    renewed = [each for each in seen if each.resource == "leases" and each.user_agent.startswith("chronik")]
    assert writes
    assert {each.code for each in writes} <= {200, 201}
    assert len(renewed) > 1  # by a connection that is not guarded, or there had never been a leader


@pytest.mark.slow
def test_many_leaders_take_turns(server, tmp_path):
    """Three operators whose leaders are killed, suspended and stopped thirty times never write side by side."""
    done = check_turns(Replicas(server, tmp_path, USERS), rounds=30)
    sys.stdout.write(f"{dict(done)}\n")  # pytest -rP shows it

    assert done["kill"] + done["suspend"] + done["stop"] == 30
