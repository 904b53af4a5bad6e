from __future__ import annotations

import asyncio
import random
from copy import deepcopy

import pytest
from support.clusters import changeable_configuration
from support.fake_server.server import FakeServer
from support.operators import (
    CONFIG_MAP,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    key_of,
    passes,
    quiet,
    rendered,
    running,
    small,
    with_condition,
    world_of,
)
from support.recorded import at

from chronik.manifest import KIND_BY_NAME, KINDS, MANAGED_BY, ClusterKey, ObjectRef
from chronik.operator import queue
from chronik.operator.reconcile import reconcile
from chronik.plan.drift import applied_fields, walk
from chronik.plan.managed_fields import leaves

LARGE = {"StatefulSet", "Deployment"}  # so many fields take long on a real server


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


HAND_EDITS = {
    "image": (
        STATEFUL_SET,
        "c-ingest",
        {"spec": {"template": {"spec": {"containers": [{"name": "x", "image": "y"}]}}}},
    ),
    "count": (STATEFUL_SET, "c-ingest", {"spec": {"replicas": 7}}),
    "label": (SERVICE, "c-ingest", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    "port": (SERVICE, "c-ingest-client", {"spec": {"ports": [{"name": "kafka", "port": 1}]}}),
    "owner": (SERVICE, "c-ingest", {"metadata": {"ownerReferences": None}}),
}


async def test_edits_by_hand_are_reverted(place):
    """What a person changes in a field of ours is put right at once, whatever it is."""
    async with running(place.server, place.name):
        desired = rendered(await place.launch())
        for kind, name, patch in HAND_EDITS.values():
            wanted = desired[ObjectRef(kind.name, place.name, name)]
            edited = await place.edit(kind, name, patch)
            assert walk(wanted, edited, applied_fields(edited))
            await eventually(lambda args=(kind, name, wanted): _is_right(place, *args))


async def _is_right(place, kind, name, wanted):
    live = await place.get(kind, name)
    return not walk(wanted, live, applied_fields(live))


async def test_people_are_told(place):
    """A field that is taken back from a person is named in an Event, with whose it was."""
    async with running(place.server, place.name):
        await place.launch()
        await place.edit(STATEFUL_SET, "c-ingest", {"spec": {"replicas": 7}})

        async def told():
            return (await place.events()).get("FieldsTakenBack")

        note = await eventually(told)

    assert note == f"Warning: StatefulSet/{place.name}/c-ingest: took back spec.replicas (from kubectl-edit)"


async def test_fields_of_others_stay(place, monkeypatch):
    """What others add beside our fields stays, through a change of ours as well, and starts no tug of war."""
    theirs = {"metadata": {"annotations": {"note": "x"}, "labels": {"team": "a"}}}
    injected = {"spec": {"template": {"metadata": {"annotations": {"injected": "yes"}}}}}
    async with running(place.server, place.name):
        await place.launch()
        before = await place.get(SERVICE, "c-ingest-client")
        await place.edit(STATEFUL_SET, "c-ingest", theirs | injected, manager="injector")
        await place.edit(SERVICE, "c-ingest-client", theirs, manager="cloud")
        with passes(monkeypatch) as ended:
            await quiet(ended)
            assert not any(outcome.wrote for _, outcome in ended if outcome.report.written)
        await place.change("c", network={"loadBalancerSourceRanges": ["10.0.0.0/8"], "serviceType": "LoadBalancer"})

        async def changed():
            found = await place.get(SERVICE, "c-ingest-client")
            return found if found["spec"].get("loadBalancerSourceRanges") else None

        service, workload = await eventually(changed), await place.get(STATEFUL_SET, "c-ingest")

    for live in (service, workload):
        assert live["metadata"]["annotations"].items() >= {"note": "x"}.items()
        assert live["metadata"]["labels"]["team"] == "a"
    assert workload["spec"]["template"]["metadata"]["annotations"]["injected"] == "yes"
    assert service["spec"]["clusterIP"] == before["spec"]["clusterIP"]


async def test_keys_that_are_added_to_the_configuration_go(place, monkeypatch, tmp_path):
    """A file that a person adds to the configuration of pods is removed, with an Event that says whose it was."""
    async with running(place.server, place.name, templates=changeable_configuration(tmp_path)):
        await place.launch()
        await place.edit(CONFIG_MAP, "c-settings", {"data": {"extra.conf": "x"}}, manager="kubectl-patch")

        async def gone():
            return "extra.conf" not in (await place.get(CONFIG_MAP, "c-settings"))["data"]

        async def told():
            return (await place.events()).get("KeysRemoved")

        await eventually(gone)
        note = await eventually(told)
        with passes(monkeypatch) as ended:
            await quiet(ended)
            assert not any(outcome.wrote for _, outcome in ended)

    assert note == f"Warning: ConfigMap/{place.name}/c-settings: removed data.extra.conf (set by kubectl-patch)"


async def test_keys_of_other_controllers_are_a_conflict(place, tmp_path):
    """A key that another controller keeps is not fought over: the cluster says what it is, and whose."""
    async with running(place.server, place.name, templates=changeable_configuration(tmp_path)):
        await place.launch()
        await place.edit(CONFIG_MAP, "c-settings", {"data": {"extra": "x"}}, manager="argocd-controller")
        failed = await in_phase(place, "c", "Failed")

    ready = next(each for each in failed["status"]["conditions"] if each["type"] == "Ready")
    assert ready["reason"] == "FieldConflict"
    assert "data.extra is held by argocd-controller." in ready["message"]


@pytest.mark.parametrize("key", ["extra.conf", "metastore.host"])
async def test_a_configuration_never_changes(place, key):
    """The server itself refuses what people would add to a configuration, or change in it."""
    async with running(place.server, place.name):
        await place.launch()
        (config,) = [each for ref, each in (await place.objects()).items() if ref.kind == "ConfigMap"]
        path = place.path(CONFIG_MAP, config["metadata"]["name"])
        answer = await asyncio.to_thread(place.server.call, "PATCH", path, {"data": {key: "x"}}, patch="merge")

    assert answer.code == 422
    assert "immutable" in answer.body["message"]


async def test_amounts_are_compared_by_amount(place, monkeypatch):
    """Another way to write the same quantity changes no object, and restarts no pod."""
    resources = {"ingest": {"cpu": "500m", "memory": "1Gi"}}
    async with running(place.server, place.name):
        await place.launch(resources=resources)
        before = {ref: each["metadata"]["resourceVersion"] for ref, each in (await place.objects()).items()}
        with passes(monkeypatch) as ended:
            await place.change("c", resources={"ingest": {"cpu": "0.5", "memory": "1024Mi"}})
            await eventually(lambda: _of_generation(place, 2))
            await quiet(ended)

    assert {ref: each["metadata"]["resourceVersion"] for ref, each in (await place.objects()).items()} == before


async def _of_generation(place, generation):
    return (await place.cluster("c"))["status"]["observedGeneration"] == generation


# --- every field ------------------------------------------------------------------------------------------------------

EVERYTHING = {
    "searchNodes": 1,
    "podDisruptionBudget": {"maxUnavailable": 1},
    "networkPolicy": {"enabled": True},
    "autoscaling": {"ingestNodes": {"minReplicas": 1, "maxReplicas": 4, "targetCpuUtilizationPercentage": 70}},
    "security": {"tlsEnabled": True, "tlsSecret": "credentials"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "resources": {"ingest": {"cpu": "500m", "memory": "1Gi", "memoryLimit": "2Gi"}},
}
AT_A_TIME = 12
"""Fields that are edited before a pass has to put all of them right."""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind.name, marks=[pytest.mark.stand_in] if kind.name in LARGE else [])
        for kind in KINDS
        if "monitoring" not in kind.api_version
    ],
)
async def test_every_field_is_repaired(kind, server, namespace):
    """Whichever fields of ours somebody edits in whichever object, a pass puts all of them right and keeps the rest."""
    place, cluster = Namespace(server, namespace), small(namespace, **EVERYTHING)
    await place.secret("first")
    await place.create(cluster)
    async with world_of(place) as world:
        key = key_of(cluster)
        for _ in range(2):
            await reconcile(key, world)
        desired = next(each for ref, each in rendered(await place.cluster("c")).items() if ref.kind == kind)
        edited = 0
        todo = [leaf for leaf in leaves(applied_fields(await _live(place, desired))) if _is_a_value(leaf)]
        random.Random(kind).shuffle(todo)
        if isinstance(server, FakeServer):  # the real one is the judge
            del todo[AT_A_TIME:]
        while todo:
            batch = [todo.pop() for _ in range(min(AT_A_TIME, len(todo)))]
            edited += sum([await _edit(place, desired, leaf) for leaf in batch])
            await place.edit(KIND_BY_NAME[kind], desired["metadata"]["name"], {"metadata": {"labels": {"team": "a"}}})
            await _seen(place, desired, world)
            await eventually(lambda: _repaired(place, desired, world))
    assert edited >= 3


async def _repaired(place, desired, world):
    """Pass over the cluster, whose workloads have settled, and tell whether an object is as it should be."""
    if desired["kind"] == "Deployment":  # waits for the others
        await place.roll_out_all()
    await reconcile(ClusterKey(place.name, "c"), world)
    live = await _live(place, desired)
    return not walk(desired, live, applied_fields(live)) and live["metadata"]["labels"]["team"] == "a"


def _is_a_value(leaf):
    return leaf[-1].startswith("f:") and leaf[-1] not in {"f:uid", "f:kind", "f:apiVersion", "f:controller"}


async def _live(place, desired):
    return await place.get(KIND_BY_NAME[desired["kind"]], desired["metadata"]["name"])


async def _edit(place, desired, leaf):
    """Set one field to something else, as a person; return whether the server took it and it made a difference."""
    live = await _live(place, desired)
    if (found := _found(live, leaf)) is None:
        return False
    value, where = found
    path = place.path(KIND_BY_NAME[desired["kind"]], desired["metadata"]["name"])
    for other in _others(value):
        patch = [{"op": "replace", "path": where, "value": other}]
        options = {"patch": "json", "fieldManager": "kubectl-edit"}
        answer = await asyncio.to_thread(place.server.call, "PATCH", path, patch, **options)
        if answer.code == 200 and answer.body["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            return bool(walk(desired, answer.body, applied_fields(answer.body)))
    return False


def _found(live, leaf):
    """Return a field's value and its JSON pointer, or None if an earlier edit has taken it away."""
    try:
        return at(live, leaf), _pointer(live, leaf)
    except (LookupError, StopIteration):
        return None


def _others(value):
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, str):
        yield from (value + "x", "7", "9Gi", "Always", "Exists", "None")
    elif isinstance(value, list) and value:
        yield deepcopy(value[:-1])


def _pointer(live, leaf):
    parts = []
    for depth, key in enumerate(leaf):
        if key.startswith("f:"):
            parts.append(key[2:].replace("~", "~0").replace("/", "~1"))
        else:
            item = at(live, leaf[: depth + 1])
            parts.append(str(next(i for i, each in enumerate(at(live, leaf[:depth])) if each == item)))
    return "/" + "/".join(parts)


async def _seen(place, desired, world):
    """Wait until the cache has the latest state of an object, or has lost it with the label that it watches for."""
    latest = (await _live(place, desired))["metadata"]
    watched = MANAGED_BY.items() <= latest["labels"].items()

    async def told():
        found = world.cache._store.get(ObjectRef.of(desired))
        return found and found.version == int(latest["resourceVersion"]) if watched else found is None

    await eventually(told)


# --- objects of others ------------------------------------------------------------------------------------------------


async def test_foreign_objects_are_left_alone(place, monkeypatch):
    """An object that has a wanted name and is somebody else's is named and not touched; all the rest is made."""
    monkeypatch.setitem(queue.RETRY_SECONDS, "transient", (0.2, 0.3))
    metadata = {"name": "c-ingest", "namespace": place.name, "annotations": {"mine": "x"}}
    foreign = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    before = await place.create(foreign)
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create(small(place.name))
        failed = await in_phase(place, "c", "Failed")
        after = await place.get(SERVICE_ACCOUNT, "c-ingest")
        made = await place.objects()
        events = await eventually(place.events)
        await place.delete(SERVICE_ACCOUNT, "c-ingest")
        await in_phase(place, "c", "Creating")
        await place.roll_out_all()
        await in_phase(place, "c", "Running")
        mine = await place.get(SERVICE_ACCOUNT, "c-ingest")
    ready = condition(failed, "Ready")

    assert (ready["status"], ready["reason"]) == ("False", "ResourceConflict")
    assert f"ServiceAccount/{place.name}/c-ingest" in ready["message"]
    assert events["ResourceConflict"] == f"Warning: {ready['message']}"
    assert after == before
    assert made.keys() == rendered(failed).keys()
    assert mine["metadata"]["ownerReferences"][0]["name"] == "c"


async def test_other_controllers_conflict(place):
    """A field that another controller has taken is not fought over: a condition names it and its owner."""
    async with running(place.server, place.name):
        await place.launch()
        await place.edit(SERVICE, "c-ingest-client", {"spec": {"type": "NodePort"}}, manager="mesh")
        found = await with_condition(place, "c", "FieldConflict", "True", "OwnedByOthers")

    assert condition(found, "FieldConflict")["message"].endswith(" spec.type is held by mesh")
    assert found["status"]["phase"] == "Failed"


async def test_prune_is_for_our_own(place):
    """What only bears the cluster's labels, but was not made by chronik for it, survives a prune."""
    async with running(place.server, place.name):
        cluster = await place.launch(podDisruptionBudget={"maxUnavailable": 1})
        labels = (await place.get(SERVICE, "c-ingest"))["metadata"]["labels"]
        metadata = {"name": "bystander", "namespace": place.name, "labels": labels}
        await place.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        await place.change("c", podDisruptionBudget=None)

        async def pruned():
            found = await place.objects()
            return found if not any(ref.kind == "PodDisruptionBudget" for ref in found) else None

        left = await eventually(pruned)

    cluster["spec"].pop("podDisruptionBudget")
    assert left.keys() == rendered(cluster).keys() | {ObjectRef("ConfigMap", place.name, "bystander")}
