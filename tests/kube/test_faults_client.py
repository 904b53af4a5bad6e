"""What the client makes of a bad network and a busy server: it gets over what passes, and never does a thing twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.clock import FakeClock
from support.fault_proxy import PASSING, FaultProxy
from support.kube_clients import client, kubeconfig_for
from support.stub_server import StubServer, refusal, stored

from chronik.errors import (
    ApiError,
    FieldConflict,
    ObjectChanged,
    ServerBusy,
    ServerFailure,
    Unreachable,
)
from chronik.kube import ConnectOptions, Kube, connect
from chronik.kube.retry import RetryPolicy
from chronik.manifest import KIND_BY_NAME, ObjectRef

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
POLICY = RetryPolicy()
AMBIGUOUS = ("failure", "leader changed", "reset", "reset after", "half", "hang up")
UNPROCESSED = ("too many", "unavailable")
LOSSES = (*AMBIGUOUS, *UNPROCESSED, "slow", "goodbye")


def config_map(name: str = "a", **metadata: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", **metadata}}


class Store:
    """A stub of an API server that keeps what is applied, and counts how often."""

    def __init__(self) -> None:
        self.objects: dict[str, dict] = {}
        self.writes: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        """Do what the request says."""
        path = request.path
        if request.method in {"PATCH", "POST"}:
            self.writes[path] += 1
            self.objects[path] = json.loads(await request.read())
            return web.json_response(stored(self.objects[path]))
        found = self.objects.pop(path, None) if request.method == "DELETE" else self.objects.get(path)
        if found is None:
            return refusal(404, "NotFound", 'configmaps "a" not found', name="a", kind="configmaps")
        return web.json_response(stored(found))


@asynccontextmanager
async def faulty(time: FakeClock | None = None, **faults):
    """Give a client, the faulty proxy it talks to, and the store behind that."""
    store = Store()
    async with (
        StubServer(store.answer) as stub,
        FaultProxy(stub.url, **faults) as proxy,
        client(proxy.url, time) as kube,
    ):
        yield kube, proxy, store


@pytest.mark.parametrize("fault", PASSING)
async def test_apply_gets_over(fault):
    """Server-side apply is repeated after every fault that passes, and ends as if there had been none."""
    async with faulty(script=[fault]) as (kube, proxy, store):
        assert await kube.apply(config_map()) == stored(config_map())

    assert len(proxy.seen) == (1 if fault in {"slow", "goodbye"} else 2)
    assert list(store.objects.values()) == [config_map()]


async def test_field_conflict_is_not_repeated():
    """A conflict with another field manager is no accident: it is raised at once, with the owners."""
    async with faulty(script=["conflict"]) as (kube, proxy, _):
        with pytest.raises(FieldConflict) as caught:
            await kube.apply(config_map())

    assert [(owner.path, owner.manager) for owner in caught.value.answer.owners] == [(".spec.replicas", "kubectl")]
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_create_is_not_repeated_when_in_doubt(fault):
    """A creation that may have happened is reported and not repeated."""
    async with faulty(script=[fault]) as (kube, proxy, store):
        with pytest.raises((Unreachable, ServerFailure)):
            await kube.create(config_map())

    assert len(proxy.seen) == 1
    assert store.writes.total() <= 1


@pytest.mark.parametrize("fault", UNPROCESSED)
async def test_create_is_repeated_when_nothing_was_done(fault):
    """A creation that the server refused to look at is repeated."""
    async with faulty(script=[fault]) as (kube, proxy, store):
        await kube.create(config_map())

    assert len(proxy.seen) == 2
    assert store.writes.total() == 1


@pytest.mark.parametrize("fault", ["reset after", "half", "leader changed"])
async def test_delete_by_uid_is_repeated(fault):
    """A deletion bound to a uid is repeated; that the object is gone by then is the wanted end."""
    async with faulty() as (kube, proxy, store):
        await kube.apply(config_map())
        proxy._script = iter([fault])

        await kube.delete(CONFIG_MAP, ObjectRef.of(config_map()), uid="u")

    assert len(proxy.forwarded("DELETE")) == 2
    assert store.objects == {}


async def test_delete_by_name_is_not_repeated_when_in_doubt():
    """A deletion by name alone is not repeated: the second might hit a new object of that name."""
    async with faulty(script=["reset after"]) as (kube, proxy, _):
        with pytest.raises(Unreachable):
            await kube.delete(CONFIG_MAP, ObjectRef.of(config_map()))

    assert len(proxy.seen) == 1


async def test_lost_races_are_repeated_a_few_times():
    """Another 409 than a field conflict is a lost race: repeated, five times in all."""
    async with faulty(script=["stale"] * 9) as (kube, proxy, _):
        with pytest.raises(ObjectChanged, match="after 5 attempts"):
            await kube.apply(config_map())

    assert len(proxy.seen) == POLICY.conflicts


@pytest.mark.parametrize("condition", ["resourceVersion", "uid"])
async def test_lost_race_with_a_condition_is_not_repeated(condition):
    """Who names a version or uid wants to know that it is outdated, at once."""
    async with faulty(script=["stale"]) as (kube, proxy, _):
        with pytest.raises(ObjectChanged):
            await kube.apply(config_map(**{condition: "1"}))

    assert len(proxy.seen) == 1


async def test_retry_after_stops_the_whole_client():
    """After a 429 with Retry-After nothing is sent until that time is over, by nobody."""
    time = FakeClock(frozen=True)

    async def answer(_: web.Request) -> web.Response:
        first = len(stub.requests) == 1
        return (
            refusal(429, "TooManyRequests", "later", retry_after=5)
            if first
            else web.json_response(stored(config_map()))
        )

    async with StubServer(answer) as stub, client(stub.url, time, in_flight=2) as kube:
        applies = [asyncio.create_task(kube.apply(config_map(f"a{number}"))) for number in range(20)]
        await asyncio.sleep(0.1)
        assert len(stub.requests) <= 2  # the one other that was under way already

        await time.advance(4.9)
        await asyncio.sleep(0.1)
        assert len(stub.requests) <= 2

        await time.advance(1)
        await asyncio.wait_for(asyncio.gather(*applies), 5)

    assert len(stub.requests) == 21


async def test_pause_that_is_too_long_is_an_error_at_once():
    """If the server wants to be left alone for longer than a request may take, nobody waits for that."""
    time = FakeClock()

    async def answer(_: web.Request) -> web.Response:
        return refusal(503, "ServiceUnavailable", "upgrade", retry_after=600)

    async with StubServer(answer) as stub, client(stub.url, time) as kube:
        with pytest.raises(ServerBusy, match="come back in 600 s"):
            await kube.apply(config_map())
        with pytest.raises(ServerBusy, match="wait for 600 s more") as caught:
            await kube.apply(config_map("b"))

    assert len(stub.requests) == 1
    assert time.slept == []
    assert caught.value.answer.retry_after == 600


async def test_patience_ends():
    """Attempts and pauses are bounded, pauses double up to that, and the error says how often it was tried."""
    time = FakeClock()
    async with faulty(time, script=["failure"] * 99) as (kube, proxy, _):
        with pytest.raises(ServerFailure, match=f"after {POLICY.attempts} attempts"):
            await kube.apply(config_map())

    assert len(proxy.seen) == POLICY.attempts
    assert all(0.1 * 2**n <= pause <= 0.2 * 2**n for n, pause in enumerate(time.slept))
    assert sum(time.slept) <= POLICY.budget


async def test_late_answer_is_an_error():
    """An attempt has a deadline, and what a server does after it is not waited for."""
    async with (
        StubServer(lambda _: asyncio.sleep(0.3, web.Response())) as stub,
        client(stub.url, request_timeout=0.05, retry=RetryPolicy(attempts=1)) as kube,
    ):
        with pytest.raises(Unreachable, match="did not answer: no answer in time"):
            await kube.get(CONFIG_MAP, "n", "a")


async def test_wrong_address_is_not_repeated():
    """Where nobody has ever listened, waiting is no use: the error names the address and what to check."""
    time = FakeClock()
    async with client("http://127.0.0.1:9", time) as kube:
        with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9: .*: Connection refused\n.* a test names the"):
            await kube.get(CONFIG_MAP, "n", "a")

    assert time.slept == []


async def test_server_that_went_away_is_waited_for():
    """A server that was there and refuses connections now is being restarted: it is tried again."""
    time = FakeClock()
    async with faulty(time) as (kube, proxy, _):
        await kube.apply(config_map())
        await proxy._runner.cleanup()

        with pytest.raises(Unreachable, match=f"after {POLICY.attempts} attempts"):
            await kube.apply(config_map())

    assert len(time.slept) == POLICY.attempts - 1


async def test_answer_that_is_no_json_is_an_error():
    """A web page instead of an object: that address is no API server."""
    async with (
        StubServer(lambda _: asyncio.sleep(0, web.Response(text="<html>welcome</html>"))) as stub,
        client(stub.url) as kube,
    ):
        with pytest.raises(ApiError, match="names a Kubernetes API server"):
            await kube.get(CONFIG_MAP, "n", "a")


@pytest.mark.parametrize("seed", range(5))
async def test_hundreds_of_applies_through_a_bad_network(seed):
    """With every third request failing, all objects arrive, and the client's own count is what was on the wire."""
    attempts = []
    store = Store()
    async with (
        StubServer(store.answer) as stub,
        FaultProxy(stub.url, rate=0.33, seed=seed) as proxy,
        client(proxy.url, FakeClock(seed=seed), on_request=lambda *about: attempts.append(about)) as kube,
    ):
        await asyncio.gather(*(kube.apply(config_map(f"a{number}")) for number in range(200)))

    assert len(store.objects) == 200
    assert len(attempts) == len(proxy.seen)
    assert {attempt[:2] for attempt in attempts} == {("patch", "ConfigMap")}
    assert Counter(seen.fault for seen in proxy.seen).keys() == {None, *PASSING}


@pytest.mark.real
@pytest.mark.parametrize("seed", range(2))
async def test_real_server_behind_a_bad_network(real_server, seed, tmp_path):
    """On a real server too, repeated applies leave one version of each object: repeating changed nothing."""
    namespace = real_server.new_namespace()
    async with FaultProxy(real_server.url, ca=real_server.ca, rate=0.3, seed=seed, faults=LOSSES) as proxy:
        options = ConnectOptions(
            kubeconfig=kubeconfig_for(proxy.url, tmp_path, {"token": real_server.token}),
            clock=FakeClock(seed=seed).clock,
        )
        async with connect(options) as kube:
            await asyncio.gather(*(apply_and_delete_some(kube, namespace, number) for number in range(60)))
            listed = await kube.list(CONFIG_MAP, namespace, label_selector="test=faults")

    assert {item["metadata"]["name"] for item in listed.items} == {f"a{number}" for number in range(60) if number % 3}
    assert all(len(item["metadata"]["managedFields"]) == 1 for item in listed.items)
    assert sum(seen.fault is not None for seen in proxy.seen) > 10


async def apply_and_delete_some(kube: Kube, namespace: str, number: int) -> None:
    """Apply an object, and delete every third again, by its uid."""
    manifest = config_map(f"a{number}", namespace=namespace)
    manifest["metadata"]["labels"] = {"test": "faults"}
    live = await kube.apply(manifest)
    if number % 3 == 0:
        await kube.delete(CONFIG_MAP, ObjectRef.of(manifest), uid=live["metadata"]["uid"])
