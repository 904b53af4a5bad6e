"""What no watch tells the operator: that a foreign object has gone, why pods are not created, that rights are back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from support.clock import FakeClock, pass_time
from support.operators import (
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    running,
    small,
    with_condition,
)
from support.rights import granted, rule

from chronik.manifest import CLUSTER, ClusterKey
from chronik.operator.rights import MissingRights

QUOTA = 'pods "c-ingest-0" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0'


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


async def _refuse(place: Namespace, message: str = QUOTA) -> None:
    """Say as the StatefulSet controller does that it has seen the newest spec and could create no pod."""
    live = await place.get(STATEFUL_SET, "c-ingest")
    assert live is not None
    status = {"observedGeneration": live["metadata"]["generation"], "replicas": 0}
    await place.call("PATCH", place.path(STATEFUL_SET, "c-ingest", "status"), {"status": status}, patch="merge")
    about = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "c-ingest", "namespace": place.name}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"c-ingest.{time.monotonic_ns():x}", "namespace": place.name},
        "involvedObject": about | {"uid": live["metadata"]["uid"]},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": f"create Pod c-ingest-0 in StatefulSet c-ingest failed error: {message}",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    await place.call("POST", f"/api/v1/namespaces/{place.name}/events", event)


async def test_why_pods_are_not_created(place):
    """What the StatefulSet's Event says of a quota is in the conditions, for as long as pods are missing."""
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Creating")
        await _refuse(place)

        async def told() -> bool:
            now = await place.cluster("c")
            texts = [condition(now, kind).get("message", "") for kind in ("Ready", "Reconciling")]
            return all(f"ingest nodes: 0 of 1 pods exist: {QUOTA}" in text for text in texts)

        await eventually(told)
        await place.roll_out_all()
        assert QUOTA not in str((await in_phase(place, "c", "Running"))["status"])


async def test_a_foreign_object_that_goes_is_noticed(place):
    """When a foreign object that was in the way is deleted, the operator makes its own within 10 seconds."""
    metadata = {"name": "c-ingest", "namespace": place.name}
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        await place.create(small(place.name))
        await with_condition(place, "c", "Stalled", "True", "ResourceConflict")
        await place.delete(SERVICE_ACCOUNT, "c-ingest")

        async def ours() -> bool:
            found = await place.get(SERVICE_ACCOUNT, "c-ingest")
            return bool(found and found["metadata"].get("ownerReferences"))

        await eventually(ours)
        await in_phase(place, "c", "Creating")


async def test_a_foreign_object_costs_one_read_at_a_time(place):
    """While a foreign object stays in the way, it is read every few seconds, and nothing is written."""
    metadata = {"name": "c-ingest", "namespace": place.name}
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        await place.create(small(place.name))
        await with_condition(place, "c", "Stalled", "True", "ResourceConflict")
        await asyncio.sleep(1.0)
        before = len(await place.asked())

        async def read() -> bool:
            return len(await place.asked()) - before >= 2

        await eventually(read)
        assert set((await place.asked())[before:]) == {("get", "serviceaccounts")}


async def test_a_status_that_was_wiped_comes_back_at_once(place):
    """When somebody takes a cluster's status away, it is written anew within seconds, not with the next look round."""
    async with running(place.server, place.name):
        await place.launch()
        await asyncio.sleep(1.0)
        path = place.path(CLUSTER, "c", "status")
        await place.call("PATCH", path, {"status": None}, patch="merge", fieldManager="somebody")
        await in_phase(place, "c", "Running")


async def test_an_owner_that_was_taken_off(place):
    """An object whose owner reference was removed by hand gets it back within seconds."""
    async with running(place.server, place.name):
        await place.launch()
        with_owner = await place.get(SERVICE_ACCOUNT, "c-ingest")
        await place.edit(SERVICE_ACCOUNT, "c-ingest", {"metadata": {"ownerReferences": None}})

        async def back() -> bool:
            found = await place.get(SERVICE_ACCOUNT, "c-ingest")
            return found["metadata"].get("ownerReferences") == with_owner["metadata"]["ownerReferences"]

        await eventually(back)


async def test_rights_that_come_back(place, caplog):
    """When rights that were missing are back, the operator works again within 30 seconds, as it has said."""
    caplog.set_level("INFO", "chronik.operator")
    clock = FakeClock(frozen=True)
    connect = granted(place, "reads", rule(("get", "list", "watch")), rule(("patch",), ("chronikclusters",)))
    async with running(place.server, place.name, connect=replace(connect, clock=clock.clock)) as operator:
        passing = asyncio.create_task(pass_time(clock))
        await place.secret("first")
        await place.create(small(place.name))

        async def refused() -> bool:
            return "may not" in caplog.text and "tries again in" in caplog.text

        await eventually(refused)
        granted(place, "rest", rule(("create", "delete", "update", "patch")))
        asked = clock.time
        await in_phase(place, "c", "Creating")
        passing.cancel()
        text = operator.metrics.expose()[0].decode()

    assert clock.time - asked < 32
    assert 'chronik_reconcile_errors_total{class="permanent",reason="Forbidden"}' in text


def test_one_cluster_tries_for_its_namespace():
    """Of the clusters of a namespace that lack rights one tries soon, and the others follow when it is through."""
    a, b, other = ClusterKey("n", "a"), ClusterKey("n", "b"), ClusterKey("m", "c")
    rights = MissingRights()
    for key in (a, b, other):
        assert rights.note(key, refused=True) == []
    assert [rights.tries(key) for key in (a, b, other)] == [True, False, True]

    assert rights.note(b, refused=False) == []
    assert rights.note(b, refused=True) == []
    assert rights.note(a, refused=False) == [b]
    assert rights.tries(b)
    assert rights.note(b, refused=False) == []
    assert not rights.has(b)
