"""Restart windows: what waits for one, what does not, what is told, and that the operator comes back in time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support import canaries
from support.canaries import Clock, launched, uids
from support.kubelet import is_ready, say, with_rights
from support.operators import (
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    passes,
    quiet,
    running,
    small,
    with_condition,
)
from support.storage import everywhere, make_claim, make_class

from chronik.manifest import CLAIM, CLUSTER, POD, ROLLOUT_NOW_ANNOTATION
from chronik.operator import app

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

NIGHT = {"schedule": "0 3 * * *", "duration": "2h", "timeZone": "Etc/UTC"}
NEW = {"ingest": "chronik/ingest:2.0"}
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """Have it be noon for the operator."""
    clock = Clock(NOON)
    monkeypatch.setattr(app, "timestamp", clock)
    return clock


async def image(place) -> str:
    """Return what the ingest nodes are to run."""
    live = await place.get(STATEFUL_SET, "c-ingest")
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"])


async def is_new(place) -> bool:
    """Return whether the new template has been written."""
    return await image(place) == NEW["ingest"]


@pytest.mark.usefixtures("clock")
@pytest.mark.both
async def test_a_changed_template_waits_for_the_night(place, monkeypatch):
    """A new image waits, and is told; counts do not; no pass is made until the window opens, and then it rolls."""
    async with running(place.server, place.name):
        await place.launch(rollout={"windows": [NIGHT]})
        with passes(monkeypatch) as ended:
            await place.change("c", image=NEW, ingestNodes=2)
            found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
            live = await place.get(STATEFUL_SET, "c-ingest")
            assert (await image(place), live["spec"]["replicas"]) == ("chronik/ingest:1.0", 2)
            await place.roll_out_all()
            found = await with_condition(place, "c", "IngestNodesReady", "True", "AllIngestNodesReady")
            assert found["status"]["phase"] == "Updating"
            assert found["status"]["pendingRestarts"] == {"opensAt": "2026-11-26T03:00:00Z", "workloads": ["c-ingest"]}
            for kind in ("Ready", "Reconciling", "Progressing"):
                assert condition(found, kind)["reason"] == "RestartPending"
            assert "the next one opens at 2026-11-26T03:00:00Z" in condition(found, "Reconciling")["message"]
            assert "StorageResizable" not in {each["type"] for each in found["status"]["conditions"]}
            await quiet(ended)
            assert ended[-1][1].again_at == "2026-11-26T03:00:00Z"

        events = await place.events()
        assert events["OutsideWindow"].startswith("Normal: StatefulSet/")
        assert not await is_new(place)


async def test_the_operator_comes_back_when_the_window_opens(place, clock, monkeypatch):
    """What waits begins within a second or two of the opening, without a look in between."""
    clock.set(datetime(2026, 11, 26, 2, 59, 48, tzinfo=UTC))
    async with running(place.server, place.name, resync=3600):
        await place.launch(rollout={"windows": [NIGHT]})
        with passes(monkeypatch) as ended:
            await place.change("c", image=NEW)
            await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
            await quiet(ended, 1)
            count = len(ended)
            assert clock() < "2026-11-26T03:00:00Z", "this machine is too slow for this test"
            await eventually(lambda: is_new(place))
            assert len(ended) <= count + 2
        assert "2026-11-26T03:00:00Z" <= clock() < "2026-11-26T03:00:05Z"
        await place.roll_out_all()
        found = await in_phase(place, "c", "Running")

    assert "pendingRestarts" not in found["status"]
    assert "RestartPending" not in {each["type"] for each in found["status"]["conditions"]}


async def test_a_changed_secret_waits_and_the_cluster_is_ready(place, clock):
    """A restart for a new Secret waits for the window; the spec is what runs, so the cluster stays Ready."""
    async with running(place.server, place.name):
        await place.launch(rollout={"windows": [NIGHT]})
        before = (await place.get(STATEFUL_SET, "c-ingest"))["metadata"]["generation"]
        await place.secret("second")
        found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        assert found["status"]["pendingRestarts"]["workloads"] == ["c-controller", "c-ingest"]
        assert (found["status"]["phase"], condition(found, "Ready")["status"]) == ("Running", "True")
        assert (await place.get(STATEFUL_SET, "c-ingest"))["metadata"]["generation"] == before
        clock.set(datetime(2026, 11, 26, 4, 59, tzinfo=UTC))
        await place.edit(CLUSTER, "c", {"metadata": {"labels": {"look": "again"}}})

        async def restarts():
            await place.roll_out_all()
            live = await place.get(STATEFUL_SET, "c-ingest")
            return "chronik.stream/secrets" in live["spec"]["template"]["metadata"].get("annotations", {})

        await eventually(restarts)


@pytest.mark.usefixtures("clock")
async def test_a_person_has_it_begin_now(place):
    """The annotation opens a window up to its time; one that has passed does nothing, what is no time is told."""
    async with running(place.server, place.name):
        await place.launch(rollout={"windows": [NIGHT]})
        await place.change("c", image=NEW)
        await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        for text in ("2026-11-25T11:00:00Z", "now"):
            await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_NOW_ANNOTATION: text}}})
        await with_condition(place, "c", "WindowsUsable", "False", "InvalidWindow")
        assert not await is_new(place)
        until = "2026-11-25T14:00:00+01:00"
        await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_NOW_ANNOTATION: until}}})
        await eventually(lambda: is_new(place))


@pytest.mark.usefixtures("clock")
async def test_pods_that_are_ill_do_not_wait(place):
    """A workload none of whose pods is ready gets its new template at once: a restart takes nothing from it."""
    async with running(place.server, place.name):
        await place.launch(rollout={"windows": [NIGHT]})
        for ref in await place.workloads():
            if ref.name == "c-ingest":
                await place.roll_out(ref, ready=0)
        await in_phase(place, "c", "Updating")
        await place.change("c", image={**NEW, "controller": "chronik/controller:2.0"})
        await eventually(lambda: is_new(place))
        found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")

    assert found["status"]["pendingRestarts"]["workloads"] == ["c-controller"]


async def test_volumes_grow_and_their_set_waits(place, clock):
    """Claims grow at once, since a full volume waits for nobody; the StatefulSet is created anew in the window."""
    options, labels = await everywhere(place)
    await make_class(place, "growing", expands=True)
    async with running(place.server, place.name, **options):
        manifest = small(place.name, rollout={"windows": [NIGHT]})
        manifest["metadata"] |= labels["metadata"]
        await place.launch(manifest)
        await make_claim(place, "ingest", "1Gi", "growing")
        uid = (await place.get(STATEFUL_SET, "c-ingest"))["metadata"]["uid"]
        await place.change("c", storage={"size": "2Gi"})

        async def grown():
            claim = await place.get(CLAIM, "data-c-ingest-0")
            return claim["spec"]["resources"]["requests"]["storage"] == "2Gi"

        await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        await eventually(grown)
        assert (await place.get(STATEFUL_SET, "c-ingest"))["metadata"]["uid"] == uid
        clock.set(datetime(2026, 11, 26, 3, 30, tzinfo=UTC))
        await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"look": "again"}}})

        async def anew():
            live = await place.get(STATEFUL_SET, "c-ingest")
            return live and live["metadata"]["uid"] != uid

        await eventually(anew)


@pytest.mark.usefixtures("clock")
async def test_a_window_that_cannot_be_read_is_told(place):
    """A time zone that nobody knows opens nothing, and is told at once, before anything waits."""
    async with running(place.server, place.name):
        await place.launch(rollout={"windows": [{**NIGHT, "timeZone": "Europe/Nowhere"}]})
        found = await with_condition(place, "c", "WindowsUsable", "False", "InvalidWindow")
        assert "there is no time zone 'Europe/Nowhere'" in condition(found, "WindowsUsable")["message"]
        assert condition(found, "Ready")["status"] == "True"
        await place.change("c", image=NEW)
        found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        assert "none of spec.rollout.windows ever opens" in condition(found, "RestartPending")["message"]
        assert "opensAt" not in found["status"]["pendingRestarts"]
        assert not await is_new(place)


@pytest.mark.usefixtures("clock")
async def test_a_new_cluster_waits_for_nothing(place):
    """Windows are about restarts: the first pods of a cluster start at once, and so does a set that was deleted."""
    async with running(place.server, place.name):
        await place.launch(rollout={"windows": [NIGHT]})
        await place.delete(STATEFUL_SET, "c-ingest")

        async def back():
            return await place.get(STATEFUL_SET, "c-ingest") is not None

        await eventually(back)


@pytest.mark.slow
@pytest.mark.real  # what a StatefulSet's controller does is for it to say
@pytest.mark.usefixtures("clock")
async def test_an_ill_pod_is_repaired_and_the_others_wait(real_cluster):
    """A fix outside of windows replaces the pods that are ill, and no other; those follow in the window."""
    place = Namespace(real_cluster, real_cluster.new_namespace())

    async def looked():
        pods = {each["metadata"]["name"]: each for each in await place.list(POD)}
        for name, each in pods.items():
            if not is_ready(each) and "deletionTimestamp" not in each["metadata"] and name not in ill:
                await say(place, name, "True")
        return pods

    async def moved():
        pods = await looked()
        return {name for name, each in pods.items() if each["metadata"]["uid"] != before.get(name)}

    async def ready():
        pods = await looked()
        return len(pods) == 4 and all(map(is_ready, pods.values()))

    ill: set[str] = set()
    async with with_rights(place):
        await place.secret("first")
        await place.create(small(place.name, ingestNodes=3, rollout={"windows": [NIGHT]}))
        await eventually(ready)
        await in_phase(place, "c", "Running")
        before = await uids(place)
        ill.add("c-ingest-1")
        await say(place, "c-ingest-1", "False")
        await in_phase(place, "c", "Updating")
        await place.change("c", image={**NEW, "controller": "chronik/controller:1.0"})

        async def replaced():
            return await moved() == {"c-ingest-1"}

        await eventually(replaced)
        ill.clear()
        await eventually(ready)
        found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        assert found["status"]["pendingRestarts"]["workloads"] == ["c-ingest"]
        assert condition(found, "Ready")["reason"] == "RestartPending"
        assert await moved() == {"c-ingest-1"}
        now = {ROLLOUT_NOW_ANNOTATION: "2026-11-25T14:00:00Z"}
        await place.edit(CLUSTER, "c", {"metadata": {"annotations": now}})

        async def rolled():
            return await moved() == {"c-ingest-0", "c-ingest-1", "c-ingest-2"} and await ready()

        await eventually(rolled)
        await in_phase(place, "c", "Running")
        live = await place.get(STATEFUL_SET, "c-ingest")

    assert live["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert "chronik.stream/repairs-only" not in live["metadata"].get("annotations", {})


@pytest.mark.real  # what a StatefulSet's controller does is for it to say
@pytest.mark.usefixtures("clock")
async def test_steps_of_a_canary_wait(real_cluster):
    """A canary begins, and takes each step, in a window; what is taken back does not wait."""
    place = Namespace(real_cluster, real_cluster.new_namespace())
    async with with_rights(place):
        kubelet = await launched(place, windows=[NIGHT])
        before = await uids(place)
        await place.change("c", image=canaries.NEW)
        found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")

        async def told():
            rollout, new = await kubelet.until("Progressing", 1)
            assert new == set()
            return "the next one opens at 2026-11-26T03:00:00Z" in rollout["message"]

        await eventually(told)
        assert found["status"]["pendingRestarts"]["workloads"] == ["c-controller", "c-ingest"]
        now = {ROLLOUT_NOW_ANNOTATION: "2026-11-25T14:00:00Z"}
        await place.edit(CLUSTER, "c", {"metadata": {"annotations": now}})
        rollout, new = await kubelet.until("Paused", 1)
        assert new == {"c-controller-2", "c-ingest-2"}
        await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_NOW_ANNOTATION: None}}})
        await canaries.command(place, f"promote@{rollout['candidate']}/1")
        await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        _, new = await kubelet.until("Progressing", 2)
        assert new == {"c-controller-2", "c-ingest-2"}
        await canaries.command(place, f"abort@{rollout['candidate']}")
        _, new = await kubelet.until("Aborted")
        assert new == set()
    after = await uids(place)
    moved = {name for name in before if after[name] != before[name]}
    assert moved == {"c-controller-2", "c-ingest-2"}
