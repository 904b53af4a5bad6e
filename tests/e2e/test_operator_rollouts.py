from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.operators import (
    DEPLOYMENT,
    POD,
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
    world_of,
)

from chronik.errors import ServerBusy
from chronik.manifest import ObjectRef
from chronik.operator.reconcile import reconcile

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

ORDER = (("StatefulSet", "controller"), ("StatefulSet", "ingest"), ("Deployment", "search"))
NEW_IMAGES = {part: f"chronik/{part}:2.0" for _, part in ORDER}


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


def ref_of(place, component):
    """Return the workload of a component."""
    return ObjectRef("Deployment" if component == "search" else "StatefulSet", place.name, f"c-{component}")


async def updated(place):
    """Return the components whose workloads have the new image."""
    found = []
    for kind, component in ORDER:
        live = await place.get(DEPLOYMENT if kind == "Deployment" else STATEFUL_SET, f"c-{component}")
        if live and live["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2.0"):
            found.append(component)
    return found


def reaching(place, *components):
    """Return whether exactly these components have the new image, as a question."""

    async def question():
        return await updated(place) == list(components)

    return question


async def test_components_roll_one_after_the_other(place, monkeypatch):
    """Controllers roll fully before ingest nodes, and those before search nodes; meanwhile the cluster is not Ready."""
    async with running(place.server, place.name):
        await place.launch(searchNodes=1)
        with passes(monkeypatch) as ended:
            await place.change("c", image=NEW_IMAGES)
            for done in (["controller"], ["controller", "ingest"], ["controller", "ingest", "search"]):
                await eventually(reaching(place, *done))
                await quiet(ended, 0.2)
                assert await updated(place) == done
                cluster = await place.cluster("c")
                assert cluster["status"]["phase"] == "Updating"
                assert condition(cluster, "Ready")["status"] == "False"
                await place.roll_out(ref_of(place, done[-1]))
            await in_phase(place, "c", "Running")


async def test_a_blocked_step_is_told(place):
    """While ingest nodes wait for controllers, Reconciling says so."""
    async with running(place.server, place.name):
        await place.launch()
        await place.change("c", image=NEW_IMAGES)
        found = await with_condition(place, "c", "Reconciling", "True", "Waiting")

    assert condition(found, "Reconciling")["message"] == (
        f"StatefulSet/{place.name}/c-ingest waits for StatefulSet/{place.name}/c-controller"
    )


@pytest.mark.parametrize("how", ["terminating", "unready"])
async def test_pods_count_more_than_counters(how, place, monkeypatch):
    """A controller pod that is being deleted, or new and not ready, holds the next step back, whatever counters say."""
    async with running(place.server, place.name):
        await place.launch()
        pod = await place.pod("controller", 0, ready=how == "terminating", held=True)
        if how == "terminating":
            await place.delete(POD, pod)
        with passes(monkeypatch) as ended:
            await place.change("c", image={"ingest": NEW_IMAGES["ingest"]})
            await with_condition(place, "c", "Reconciling", "True", "Waiting")
            await quiet(ended)
            assert await updated(place) == []
        await place.edit(POD, pod, {"metadata": {"finalizers": None}})
        if how == "unready":
            await place.delete(POD, pod)

        assert await eventually(reaching(place, "ingest"))


async def test_a_roll_survives_the_operator(place):
    """An operator that is started in the middle of a roll goes on with it, where the cluster says it was."""
    async with running(place.server, place.name):
        await place.launch(searchNodes=1)
        await place.change("c", image=NEW_IMAGES)
        await eventually(reaching(place, "controller"))
    await place.roll_out(ref_of(place, "controller"), ready=0)
    async with running(place.server, place.name):
        await asyncio.sleep(0.7)
        assert await updated(place) == ["controller"]
        await place.roll_out(ref_of(place, "controller"))
        await eventually(reaching(place, "controller", "ingest"))
    await place.roll_out(ref_of(place, "ingest"))
    async with running(place.server, place.name):
        await eventually(reaching(place, "controller", "ingest", "search"))
        await place.roll_out(ref_of(place, "search"))
        await in_phase(place, "c", "Running")


STAGES = {
    "generation": {"observedGeneration": 0},
    "revision": {"updatedReplicas": 0, "currentRevision": "old"},
    "readiness": {"readyReplicas": 0, "availableReplicas": 0},
    "surplus": {"replicas": 2},
}


@pytest.mark.both
async def test_ready_means_the_new_revision_is(place):
    """Ready needs all pods, and no others, ready in the newest revision of the spec that the controller has seen."""
    async with running(place.server, place.name):
        await place.launch()
        path = place.path(STATEFUL_SET, "c-ingest", "status")
        for stage in STAGES.values():
            options = {"patch": "merge", "fieldManager": "kube-controller-manager"}
            await place.call("PATCH", path, {"status": stage}, **options)
            found = await with_condition(place, "c", "Ready", "False", "ComponentsNotReady")
            assert condition(found, "IngestNodesReady")["status"] == "False"
            await place.roll_out(ref_of(place, "ingest"))
            await with_condition(place, "c", "Ready", "True")


async def test_a_crash_is_no_roll(place):
    """A running cluster that loses a pod is Updating and not Ready, and Progressing says that nothing is rolled out."""
    async with running(place.server, place.name):
        await place.launch()
        await place.roll_out(ref_of(place, "ingest"), ready=0)
        found = await in_phase(place, "c", "Updating")
    progressing = condition(found, "Progressing")

    assert (progressing["status"], progressing["reason"]) == ("False", "ComponentsNotReady")
    assert condition(found, "Ready")["reason"] == "ComponentsNotReady"


async def test_no_ready_before_the_spec_has_arrived(place, fail_writes):
    """If the change of a spec cannot be written yet, the cluster is Updating and not Ready, though all its pods are."""
    async with running(place.server, place.name):
        cluster = await place.launch()
    async with world_of(place) as world:
        await place.change("c", image=NEW_IMAGES)

        async def seen():
            return world.cache.cluster(key_of(cluster))["metadata"]["generation"] == 2

        await eventually(seen)
        outcome = await reconcile(key_of(cluster), fail_writes(world))
    found = await place.cluster("c")

    assert (outcome.result, outcome.retry) == ("waiting", "transient")
    assert (found["status"]["phase"], condition(found, "Ready")["status"]) == ("Updating", "False")
    assert condition(found, "Reconciling")["reason"] == "ApiServerBusy"


async def test_a_hiccup_keeps_the_phase(place, fail_writes):
    """A repair that cannot be written now leaves a running cluster Running: only Reconciling tells."""
    async with running(place.server, place.name):
        cluster = await place.launch()
    async with world_of(place) as world:
        await place.edit(STATEFUL_SET, "c-ingest", {"spec": {"minReadySeconds": 9, "replicas": 1}})
        await place.edit(STATEFUL_SET, "c-ingest", {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}})
        await place.roll_out_all()
        await asyncio.sleep(0.3)
        outcome = await reconcile(key_of(cluster), fail_writes(world))
    found = await place.cluster("c")

    assert outcome.retry == "transient"
    assert (found["status"]["phase"], condition(found, "Ready")["status"]) == ("Running", "True")
    assert condition(found, "Reconciling")["status"] == "True"


class Busy:
    """An API server that takes no apply now."""

    def __init__(self, kube):
        self.kube = kube

    def __getattr__(self, name):
        return getattr(self.kube, name)

    async def apply(self, manifest, **_):
        """Refuse."""
        raise ServerBusy("too many requests", subject=manifest["metadata"]["name"])


@pytest.fixture
def fail_writes():
    """Return how to make a world in which the server is too busy to take any object but a cluster."""
    return lambda world: replace(world, execution=replace(world.execution, kube=Busy(world.kube)))


# --- with the controller of StatefulSets ------------------------------------------------------------------------------


@pytest.mark.real  # what a StatefulSet's controller does is for it to say
@pytest.mark.parametrize("ill", [0, 2], ids=["lowest", "highest"])
async def test_an_ill_pod_stops_no_fix(ill, real_cluster):
    """A pod that is not ready does not hold up a roll, at whichever ordinal it is: StatefulSets roll from the top."""
    place = Namespace(real_cluster, real_cluster.new_namespace())
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create(small(place.name, ingestNodes=3))
        await eventually(lambda: kubelet(place))
        await in_phase(place, "c", "Running")
        before = await uids(place)
        await say(place, f"c-ingest-{ill}", "False")
        await in_phase(place, "c", "Updating")
        await place.change("c", image={"ingest": NEW_IMAGES["ingest"]})

        async def rolled():
            await kubelet(place, ":2.0")
            return (await place.cluster("c"))["status"]["phase"] == "Running"

        await eventually(rolled)
        after = await uids(place)

    assert {name for name in before if after[name] != before[name]} == {f"c-ingest-{ordinal}" for ordinal in range(3)}


async def kubelet(place, image=""):
    """Have all pods of an image ready, as a kubelet would, and tell whether there are some and were before."""
    pods = await place.list(POD)
    for pod in pods:
        if pod["spec"]["containers"][0]["image"].endswith(image) and not _is_ready(pod):
            await say(place, pod["metadata"]["name"], "True")
    return len(pods) == 4 and all(map(_is_ready, pods))


def _is_ready(pod):
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def say(place, pod, ready):
    """Say of a pod whether it is ready."""
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}
    path = place.path(POD, pod, "status")
    await asyncio.to_thread(place.server.call, "PATCH", path, status, patch="merge")


async def uids(place):
    """Return the pods by name."""
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await place.list(POD)}
