from __future__ import annotations

import asyncio

import pytest
from support.dying import killed_pass
from support.operators import (
    CLAIM,
    POD,
    SERVICE,
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    key_of,
    passes,
    quiet,
    running,
    small,
    with_condition,
)
from support.storage import everywhere, make_claim, make_class

from chronik.apply import executor
from chronik.errors import Unreachable

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


def storage(size, storage_class="growing"):
    """Return the storage of a spec."""
    return {"backend": "local", "size": size, "storageClass": storage_class}


async def sizes(place):
    """Return what claims and claim templates ask for, by name."""
    claims = {each["metadata"]["name"]: each["spec"] for each in await place.list(CLAIM)}
    live = await place.list(STATEFUL_SET)
    templates = {each["metadata"]["name"]: each["spec"]["volumeClaimTemplates"][0]["spec"] for each in live}
    return {name: spec["resources"]["requests"]["storage"] for name, spec in (claims | templates).items()}


async def test_what_cannot_grow_is_told(place):
    """Volumes of a class that expands none stay as they are, a condition says so, and the rest of a change goes on."""
    options, labels = await everywhere(place)
    await make_class(place, "rigid", expands=False)
    async with running(place.server, place.name, **options):
        manifest = small(place.name, storage=storage("1Gi", "rigid"))
        manifest["metadata"] |= labels["metadata"]
        await place.launch(manifest)
        await make_claim(place, "ingest", "1Gi", "rigid")
        before = await sizes(place)
        await place.change("c", storage=storage("2Gi", "rigid"), image={"controller": "chronik/controller:2.0"})
        found = await with_condition(place, "c", "StorageResizable", "False", "StorageNotExpandable")
        live = await place.get(STATEFUL_SET, "c-controller")
        await place.roll_out_all()
        await in_phase(place, "c", "Running")
        events = await place.events()

    assert await sizes(place) == before
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "chronik/controller:2.0"
    assert "'rigid' allows no expansion" in condition(found, "StorageResizable")["message"]
    assert events["StorageNotExpandable"].startswith("Warning: ")


@pytest.mark.both
async def test_what_the_server_will_not_grow_is_told(place, monkeypatch):
    """An operator that sees no StorageClass learns from the refusal: the rest goes on, and it does not try for ever."""
    await make_class(place, "rigid", expands=False)
    async with running(place.server, place.name, resync=0.2):
        await place.launch(storage=storage("1Gi", "rigid"))
        await make_claim(place, "controller", "1Gi", "rigid")
        with passes(monkeypatch) as ended:
            await place.change("c", storage=storage("2Gi", "rigid"), image={"controller": "chronik/controller:2.0"})
            await with_condition(place, "c", "StorageResizable", "False", "StorageNotExpandable")
            await place.roll_out_all()
            await in_phase(place, "c", "Running")
            await quiet(ended, 1.0)
            asked = await place.asked()
            await asyncio.sleep(1.0)
        live = await place.get(STATEFUL_SET, "c-controller")

    assert await place.asked() == asked
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "chronik/controller:2.0"
    assert (await sizes(place))["c-controller"] == "1Gi"


async def test_volumes_that_are_larger_are_left_alone(place, monkeypatch):
    """A claim that somebody else has grown beyond the spec is not touched, and nothing is tried again and again."""
    async with running(place.server, place.name, resync=0.2):
        await place.launch()
        await make_claim(place, "ingest", "5Gi", "growing")
        with passes(monkeypatch) as ended:
            await quiet(ended)
            written = await place.written()
            await place.roll_out_all()
            await quiet(ended)

    assert (await sizes(place))["data-c-ingest-0"] == "5Gi"
    assert await place.written() == written


async def test_volumes_grow(place):
    """A larger size grows the claims and makes the StatefulSet anew; a new image beside it is no deadlock."""
    await make_class(place, "growing", expands=True)
    async with running(place.server, place.name):
        await place.launch()
        await make_claim(place, "controller", "1Gi", "growing")
        before = await place.get(STATEFUL_SET, "c-controller")
        await place.change("c", storage=storage("2Gi"), image={"controller": "chronik/controller:2.0"})

        async def grown():
            found = await sizes(place)
            return found.get("c-controller") == found["data-c-controller-0"] == "2Gi"

        await eventually(grown)
        await place.roll_out_all()
        await eventually(lambda: _all_have(place, "2Gi"))
        await place.roll_out_all()
        await in_phase(place, "c", "Running")
        after = await place.get(STATEFUL_SET, "c-controller")
        events = await place.events()

    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "chronik/controller:2.0"
    assert {"VolumeGrows", "Recreated"} <= events.keys()


async def _all_have(place, size):
    return set((await sizes(place)).values()) == {size}


@pytest.mark.real  # the controller of StatefulSets has to take the pods over
@pytest.mark.parametrize("cut", [0, pytest.param(2, marks=pytest.mark.slow)], ids=["undisturbed", "cut off"])
async def test_volumes_grow_under_running_pods(real_cluster, monkeypatch, cut):
    """Volumes grow while every pod stays the very same one, even if we are cut off with no StatefulSet there."""
    place = Namespace(real_cluster, real_cluster.new_namespace())
    options, labels = await everywhere(place)
    own = f"growing-{place.name}"  # claims of other tests wait for volumes, too
    await make_class(place, own, expands=True)
    await make_volumes(place, 2, own)
    async with running(place.server, place.name, **options):
        await place.secret("first")
        manifest = small(place.name, storage=storage("1Gi", own))
        manifest["metadata"] |= labels["metadata"]
        await place.create(manifest)
        await eventually(lambda: _ready(place))
        await in_phase(place, "c", "Running")
        await place.edit(STATEFUL_SET, "c-controller", RESTART, manager="kubectl-rollout")
        await eventually(lambda: _restarted(place))
        await in_phase(place, "c", "Running")
        before = await _pods(place)
        workloads = {each["metadata"]["uid"] for each in await place.list(STATEFUL_SET)}
        left = cut_off(monkeypatch, cut)
        await place.change("c", storage=storage("2Gi", own))
        await eventually(lambda: _all_have(place, "2Gi"))
        await eventually(lambda: _adopted(place))
        await in_phase(place, "c", "Running")

        assert list(left) == []
        assert await _pods(place) == before
        assert workloads.isdisjoint({each["metadata"]["uid"] for each in await place.list(STATEFUL_SET)})


@pytest.mark.real  # the controller of StatefulSets has to take the pods over
@pytest.mark.slow
@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "lost"])
async def test_a_kill_at_any_write_of_growing_volumes_restarts_no_pod(real_cluster, arrives):
    """An operator that is killed at each of its writes in turn: volumes have grown, and every pod is the same one."""
    place = Namespace(real_cluster, real_cluster.new_namespace())
    own = f"growing-{place.name}"
    await make_class(place, own, expands=True)
    await make_volumes(place, 2, own)
    async with running(place.server, place.name):
        await place.secret("first")
        key = key_of(await place.create(small(place.name, storage=storage("1Gi", own))))
        await eventually(lambda: _ready(place))
        await in_phase(place, "c", "Running")
        await place.edit(STATEFUL_SET, "c-controller", EDITED, manager="kubectl-edit")
        await eventually(lambda: _restarted(place))
        await in_phase(place, "c", "Running")
    before = await _pods(place)
    for after in range(30):
        size = f"{1025 + after}Mi"
        await place.change("c", storage=storage(size, own))
        killed = await killed_pass(place, key, after, arrives=arrives)
        async with running(place.server, place.name):
            await eventually(lambda now=size: _all_have(place, now))
            await eventually(lambda: _adopted(place))
            await eventually(lambda: _unnoted(place))
            await in_phase(place, "c", "Running")
        assert await _pods(place) == before
        if not killed:
            break

    live = await place.get(STATEFUL_SET, "c-controller")
    assert after > 8  # two claims grow, two sets are deleted and created, a Service says of one what it gets back
    assert live["spec"]["minReadySeconds"] == 1
    assert "example.com/by" in live["spec"]["template"]["metadata"]["annotations"]


RESTART = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01"}}}}}
EDITED = {
    "spec": {
        "minReadySeconds": 1,
        "template": {
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "x", "example.com/by": "people"}}
        },
    }
}


def cut_off(monkeypatch, times):
    """Lose the server that often, each time that a StatefulSet has just gone; return what is left of that."""
    left = iter(range(times))
    until_gone = executor._until_gone

    async def until_gone_and_lost(kube, action):
        await until_gone(kube, action)
        if next(left, None) is not None:
            raise Unreachable("was cut off", subject="the API server")

    monkeypatch.setattr(executor, "_until_gone", until_gone_and_lost)
    return left


async def _restarted(place):
    """Tell whether the pods that were to restart have done so, and are ready."""
    name = "kubectl.kubernetes.io/restartedAt"
    pods = [each for each in await place.list(POD) if each["metadata"]["name"] == "c-controller-0"]
    return all(name in (each["metadata"].get("annotations") or {}) for each in pods) and await _ready(place)


async def _adopted(place):
    """Tell whether all pods have a StatefulSet again, which has nothing left to roll."""
    found = await place.list(STATEFUL_SET)
    owned = {owner["uid"] for pod in await place.list(POD) for owner in pod["metadata"].get("ownerReferences", ())}
    done = [each["status"].get("updatedReplicas") == each["spec"]["replicas"] for each in found]
    return done == [True, True] and owned == {each["metadata"]["uid"] for each in found}


async def _unnoted(place):
    """Tell whether neither StatefulSets nor Services say any more what others get back."""
    found = [*await place.list(STATEFUL_SET), *await place.list(SERVICE)]
    return not any("chronik.stream/handover" in (each["metadata"].get("annotations") or {}) for each in found)


async def make_volumes(place, count, storage_class):
    """Make volumes for claims of a class."""
    for _ in range(count):
        body = {
            "metadata": {"generateName": f"{storage_class}-"},
            "spec": {
                "capacity": {"storage": "9Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": storage_class,
                "hostPath": {"path": "/none"},
            },
        }
        await place.call("POST", "/api/v1/persistentvolumes", body)


async def _pods(place):
    return {(each["metadata"]["name"], each["metadata"]["uid"]) for each in await place.list(POD)}


async def _ready(place):
    """Have all pods ready, as a kubelet would, and tell whether all are there with bound claims."""
    pods, claims = await place.list(POD), await place.list(CLAIM)
    for pod in pods:
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        path = place.path(POD, pod["metadata"]["name"], "status")
        await asyncio.to_thread(place.server.call, "PATCH", path, status, patch="merge")
    return len(pods) == 2 and [each["status"]["phase"] for each in claims] == ["Bound", "Bound"]
