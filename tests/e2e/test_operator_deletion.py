from __future__ import annotations

import asyncio

import pytest
from support.operators import (
    CLAIM,
    CLUSTER,
    POD,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Namespace,
    eventually,
    in_phase,
    passes,
    quiet,
    rendered,
    running,
    small,
    watched,
)

from chronik.manifest import ObjectRef

FINALIZER = "chronik.stream/finalizer"


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


def gone(place):
    """Return whether the cluster is gone, as a question for `eventually`."""

    async def question():
        return await place.get(CLUSTER, "c") is None

    return question


async def claim(place, name, labels, **metadata):
    """Create a PersistentVolumeClaim as a StatefulSet's controller does."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata |= {"name": name, "namespace": place.name, "labels": labels}
    return await place.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})


CLAIM_LABELS = {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": "ingest"}


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_everything_goes(propagation, place):
    """A deleted cluster is Deleting, then gone with all its children; volumes stay, unless the spec says otherwise."""
    async with watched(place, CLUSTER) as states, running(place.server, place.name):
        await place.launch()
        await claim(place, "data-c-ingest-0", CLAIM_LABELS)
        await place.delete(CLUSTER, "c", propagation)
        await eventually(gone(place))

        async def collected():
            return not await place.objects()

        await eventually(collected)

    assert "Deleting" in {(each.get("status") or {}).get("phase") for each in states}
    assert [each["metadata"]["name"] for each in await place.list(CLAIM)] == ["data-c-ingest-0"]


@pytest.mark.stand_in  # the orphans of a deleted StatefulSet are a controller's work
async def test_pods_whose_set_is_gone_go_too(place):
    """Pods of a StatefulSet that was being created anew when its cluster was deleted do not run for ever."""
    async with running(place.server, place.name):
        await place.launch()
    live = await place.get(STATEFUL_SET, "c-ingest")
    metadata = {"name": "c-ingest-0", "namespace": place.name} | live["spec"]["template"]["metadata"]
    spec = {"containers": [{"name": "x", "image": "x"}]}
    await place.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    await place.delete(CLUSTER, "c")
    await place.delete(STATEFUL_SET, "c-ingest", "Orphan")
    async with running(place.server, place.name):
        await eventually(gone(place))

    assert await place.get(POD, "c-ingest-0") is None


async def test_orphans_stay(place):
    """With --cascade=orphan the cluster goes, and all children stay, without it as their owner."""
    async with running(place.server, place.name):
        await place.launch(storage={"backend": "local", "retention": {"whenDeleted": "Delete"}})
        await claim(place, "data-c-ingest-0", CLAIM_LABELS)
        before = (await place.objects()).keys()
        await place.delete(CLUSTER, "c", "Orphan")
        await eventually(gone(place))
        left = await place.objects()

    assert left.keys() == before
    assert not any(each["metadata"].get("ownerReferences") for each in left.values())
    assert len(await place.list(CLAIM)) == 1


async def test_volumes_go_if_wanted(place):
    """With retention Delete, claims that no StatefulSet owns go with the cluster; claims of others stay."""
    async with running(place.server, place.name):
        await place.launch(storage={"backend": "local", "retention": {"whenDeleted": "Delete"}})
        await claim(place, "data-c-ingest-0", CLAIM_LABELS)
        await claim(place, "data-d-ingest-0", CLAIM_LABELS | {"app.kubernetes.io/instance": "d"})

        await asyncio.sleep(0.3)
        await place.delete(CLUSTER, "c")
        await eventually(gone(place))

        async def one_left():
            return [each["metadata"]["name"] for each in await place.list(CLAIM)] == ["data-d-ingest-0"]

        await eventually(one_left)


async def test_finalizers_of_others_stay(place):
    """Only our own finalizer is taken off, be it that somebody who applied an exported document owns it too."""
    exported = small(place.name)
    exported["metadata"]["finalizers"] = [FINALIZER, "example.com/backup"]
    async with running(place.server, place.name):
        await place.launch()
        both = await place.create(exported)
        assert both["metadata"]["finalizers"] == [FINALIZER, "example.com/backup"]
        await place.delete(CLUSTER, "c")

        async def let_go():
            found = (await place.cluster("c"))["metadata"]["finalizers"]
            return found == ["example.com/backup"]

        await eventually(let_go)
        await place.edit(CLUSTER, "c", {"metadata": {"finalizers": None}})
        await eventually(gone(place))


async def test_a_cluster_that_is_going_makes_nothing(place, monkeypatch):
    """While a finalizer of somebody else's holds a deleted cluster, what is missing is not made again."""
    async with running(place.server, place.name):
        await place.launch()
        await place.edit(CLUSTER, "c", {"metadata": {"finalizers": [FINALIZER, "example.com/backup"]}})
        await place.delete(CLUSTER, "c")
        with passes(monkeypatch) as ended:
            await place.delete(SERVICE_ACCOUNT, "c-ingest")
            await quiet(ended)
        assert await place.get(SERVICE_ACCOUNT, "c-ingest") is None
        await place.edit(CLUSTER, "c", {"metadata": {"finalizers": None}})
        await eventually(gone(place))


async def test_a_namespace_goes(place):
    """The deletion of the whole namespace is not held up, and ends with nothing in it."""
    async with running(place.server, place.name):
        await place.launch()
        await place.call("DELETE", f"/api/v1/namespaces/{place.name}")

        async def ended():
            answer = await asyncio.to_thread(place.server.call, "GET", f"/api/v1/namespaces/{place.name}")
            return answer.code == 404

        await eventually(ended)


async def test_a_new_cluster_of_the_same_name(place):
    """A new cluster of a deleted one's name waits for its children to go, makes its own, and finds the volumes."""
    async with running(place.server, place.name):
        cluster = await place.launch()
        await claim(place, "data-c-ingest-0", CLAIM_LABELS)
        before = {ref: each["metadata"]["uid"] for ref, each in (await place.objects()).items()}
        held = ObjectRef("ServiceAccount", place.name, "c-ingest")
        await place.edit(SERVICE_ACCOUNT, held.name, {"metadata": {"finalizers": ["example.com/slow"]}})
        await place.delete(CLUSTER, "c")
        await eventually(gone(place))
        await place.create(small(place.name))

        async def waits():
            found = await place.cluster("c")
            return "c-ingest is being deleted" in str((found.get("status") or {}).get("conditions"))

        await eventually(waits)
        old = await place.get(SERVICE_ACCOUNT, held.name)
        assert old["metadata"]["uid"] == before[held]
        assert old["metadata"]["ownerReferences"][0]["uid"] == cluster["metadata"]["uid"]
        await place.edit(SERVICE_ACCOUNT, held.name, {"metadata": {"finalizers": None}})

        async def anew():
            found = await place.objects()
            uids = {each["metadata"]["uid"] for each in found.values()}
            return found.keys() == rendered(cluster).keys() and uids.isdisjoint(before.values())

        await eventually(anew)
        await place.roll_out_all()
        await in_phase(place, "c", "Running")

    assert [each["metadata"]["name"] for each in await place.list(CLAIM)] == ["data-c-ingest-0"]
