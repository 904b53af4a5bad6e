"""`chronik apply` through a network and a server that fail at random: right in the end, truthful, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from support import fault_proxy
from support.cli_place import SPEC, Done, Place, environment, without_volatile
from support.fault_proxy import PASSING, FaultProxy
from support.kube_clients import kubeconfig_for

from chronik.manifest import KINDS as ALL_KINDS
from chronik.manifest import ObjectRef

GIVEN_BY_THE_SERVER = {"clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort"}
KINDS = tuple(kind for kind in ALL_KINDS if not kind.optional)
LISTS = len(ALL_KINDS) + 1
LATER = {"ingestNodes": 4, "searchNodes": 0, "image": {**SPEC["image"], "controller": "chronik/controller:1.5.0"}}


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Have the server ask for no pauses: what the client makes of them is tested elsewhere."""
    monkeypatch.setattr(fault_proxy, "RETRY_AFTER_SECONDS", 0)


@asynccontextmanager
async def behind(place, **faults):
    """Give a function that runs `chronik apply` in a process of its own, through a proxy with faults; and the proxy."""
    async with FaultProxy(place.server.url, ca=place.server.ca, **faults) as proxy:
        kubeconfig = kubeconfig_for(proxy.url, place.folder, {"token": place.server.token})

        async def apply(*flags, **spec):
            arguments = ("apply", "-f", place.document(**spec), "--kubeconfig", kubeconfig, "-o", "json", *flags)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chronik", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
            )
            out, err = await asyncio.wait_for(process.communicate(), 120)
            return Done(process.returncode, out.decode(), err.decode())

        yield apply, proxy


def versions(place):
    """Return the version of each kind's collection."""
    return {kind: place.call("GET", kind.name).body["metadata"]["resourceVersion"] for kind in KINDS}


async def writes_since(place, since):
    """Return how often each object has changed since then, as watches tell it: a write without effect is none."""

    def of_kind(kind):
        found = Counter()
        query = {"resourceVersion": since[kind], "timeoutSeconds": "1"}
        with place.server.watch(place.url(kind.name), **query) as events:
            for event in events:
                if event["type"] != "BOOKMARK":
                    found[ObjectRef(kind.name, place.namespace, event["object"]["metadata"]["name"])] += 1
        return found

    with ThreadPoolExecutor(len(KINDS)) as pool:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(loop.run_in_executor(pool, of_kind, kind) for kind in KINDS))
    return sum(found, Counter())


def state(place):
    """Return what is in a namespace, in a form that two namespaces can be compared by."""

    def stripped(value):
        if isinstance(value, dict):
            return {key: stripped(part) for key, part in value.items() if key not in GIVEN_BY_THE_SERVER}
        return [stripped(part) for part in value] if isinstance(value, list) else value

    live = {f"{ref.kind}/{ref.name}": stripped(without_volatile(each)) for ref, each in place.live().items()}
    return json.loads(json.dumps(live).replace(place.namespace, "NAMESPACE"))


def told(done, *names):
    """Return the objects of which the report says one of these."""
    (cluster,) = done.json["clusters"]
    return {
        ObjectRef(each["kind"], each["namespace"], each["name"])
        for each in cluster["objects"]
        if each["outcome"] in names
    }


def undisturbed(place):
    """Apply the same in another namespace with nothing in the way, and return what is there before and after."""
    other = Place(place.server, place.server.new_namespace(), place.folder)
    assert other.apply().code == 0
    first = state(other)
    assert other.apply("--prune", **LATER).code == 0
    return first, state(other)


@pytest.mark.parametrize(
    ("rate", "seed"),
    [(0.15, 2), pytest.param(0.05, 1, marks=pytest.mark.slow), pytest.param(0.3, 3, marks=pytest.mark.slow)],
)
async def test_whole_applies_through_faults(place, rate, seed):
    """A new cluster, then a change with a prune, both end as if there had been no fault, with each object written once.

    A request that is repeated because its answer was lost may arrive twice, but changes nothing the second time. The
    reports name exactly what was written.
    """
    first, second = await asyncio.to_thread(undisturbed, place)
    async with behind(place, rate=rate, seed=seed, faults=PASSING) as (apply, proxy):
        before = versions(place)
        done = await apply()
        assert (done.code, done.err) == (0, "")
        assert state(place) == first
        assert told(done, "created") == set(place.live())
        assert await writes_since(place, before) == dict.fromkeys(place.live(), 1)

        before = versions(place)
        done = await apply("--prune", **LATER)
        assert (done.code, done.err) == (0, "")
        assert state(place) == second
        written = await writes_since(place, before)
        assert told(done, "changed", "pruned") == set(written)
        assert set(written.values()) == {1}

        before = versions(place)
        done = await apply(**LATER)
        assert done.code == 0
        assert await writes_since(place, before) == {}
    assert {seen.fault for seen in proxy.seen} > {None}


async def test_conflicts_that_nobody_foresaw(place):
    """A change that the server answers a field conflict for is reported as such; the next apply makes it, alone."""
    assert (await asyncio.to_thread(place.apply)).code == 0
    async with behind(place) as (apply, proxy):
        proxy._script = iter([None] * LISTS + ["conflict", None])
        done = await apply(controllers=3, ingestNodes=4)
    (failed,) = told(done, "failed")

    assert done.code == 5
    assert told(done, "changed") == {
        ObjectRef("StatefulSet", place.namespace, name) for name in ("c-controller", "c-ingest")
    } - {failed}
    assert "FieldConflict" in done.out
    before = versions(place)
    assert (await asyncio.to_thread(place.apply, controllers=3, ingestNodes=4)).code == 0
    assert await writes_since(place, before) == {failed: 1}


async def test_conflicts_where_nothing_is(place):
    """A conflict about an object that does not exist is looked into, and the object is created, once."""
    async with behind(place) as (apply, proxy):
        proxy._script = iter([None] * LISTS + ["conflict", None] * 4)
        before = versions(place)
        done = await apply()

    assert done.code == 0
    assert told(done, "created") == set(place.live())
    assert await writes_since(place, before) == dict.fromkeys(place.live(), 1)


@pytest.mark.parametrize("fault", ["reset after", "half", "leader changed"])
async def test_answer_that_was_lost_is_no_failure(place, fault):
    """If an object was created but the answer got lost, the report says created, and it was created once."""
    async with behind(place) as (apply, proxy):
        proxy._script = iter([None] * LISTS + [fault] * 3)
        before = versions(place)
        done = await apply()

    assert done.code == 0
    assert told(done, "created") == set(place.live())
    assert set((await writes_since(place, before)).values()) == {1}
