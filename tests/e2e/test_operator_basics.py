from __future__ import annotations

import asyncio
import re

import pytest
from support import real_server as real
from support.fake_server.server import FakeServer
from support.operators import (
    CLUSTER,
    SERVICE,
    STATEFUL_SET,
    Namespace,
    condition,
    controllers,
    eventually,
    in_phase,
    key_of,
    passes,
    quiet,
    rendered,
    running,
    small,
    watched,
    with_condition,
    world_of,
)

from chronik.api.crd import crd
from chronik.api.rules import RuleBook
from chronik.manifest import KINDS, ObjectRef
from chronik.offline import assets
from chronik.operator.reconcile import reconcile

UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


# --- from nothing to Running ------------------------------------------------------------------------------------------


async def test_a_cluster_comes_up(place):
    """A new cluster comes to run, with the children that `render` prints, each labelled and owned."""
    async with running(place.server, place.name):
        cluster = await place.launch(searchNodes=1)
        live = await place.objects()
    owner = {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "name": "c",
        "uid": cluster["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }

    assert live.keys() == rendered(cluster).keys()
    assert {ref.kind for ref in live} >= {
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "StatefulSet",
        "Deployment",
    }
    for each in live.values():
        assert each["metadata"]["ownerReferences"] == [owner]
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "chronik-operator"
        assert {"chronik-operator": "Apply"}.items() <= managers(each).items()


def managers(manifest):
    """Return who has written an object, and how; status aside."""
    entries = manifest["metadata"]["managedFields"]
    return {each["manager"]: each["operation"] for each in entries if not each.get("subresource")}


async def test_phases(place):
    """A cluster is Pending, Creating, Running, Updating after a change, and Running again."""
    async with watched(place, CLUSTER) as states, running(place.server, place.name):
        await place.launch()
        await place.change("c", image={"ingest": "chronik/ingest:2.0"})
        await in_phase(place, "c", "Updating")
        await place.roll_out_all()
        await in_phase(place, "c", "Running")
    phases = [(each.get("status") or {}).get("phase") for each in states]

    assert list(dict.fromkeys(phases)) == [None, "Pending", "Creating", "Running", "Updating"]
    assert phases[-1] == "Running"


async def test_status_of_a_running_cluster(place):
    """The status has the seed's fields: generation, time, endpoints of ready pods, counts and conditions."""
    async with running(place.server, place.name):
        await place.launch(searchNodes=1)
        for component in ("controller", "ingest", "search"):
            await place.pod(component, 0)

        async def listed():
            found = (await place.cluster("c"))["status"]
            return found if found["controllers"] and found["ingestNodes"] else None

        status = await eventually(listed)
    domain = f"{place.name}.svc.cluster.local"
    ready = condition({"status": status}, "Ready")

    assert status["observedGeneration"] == 1
    assert UTC.fullmatch(status["lastUpdated"])
    assert status["controllers"] == [f"c-controller-0.c-controller.{domain}:9090"]
    assert status["ingestNodes"] == [f"c-ingest-0.c-ingest.{domain}:9092"]
    assert status["searchNodes"] == [f"c-search.{domain}:9093"]
    assert status["readyReplicas"] == {"controllers": 1, "ingestNodes": 1, "searchNodes": 1} == status["replicas"]
    assert {name: status["images"][name] for name in ("controllers", "ingestNodes")} == {
        "controllers": ["x"],
        "ingestNodes": ["x"],
    }
    assert (ready["status"], ready["reason"]) == ("True", "AllComponentsReady")
    assert ready["message"] == "All Chronik Stream components are running"
    assert UTC.fullmatch(ready["lastTransitionTime"])


async def test_even_controllers_are_warned_of(place, caplog):
    """What is allowed but unwise is a condition, an Event and a line in the log, and stops nothing."""
    async with running(place.server, place.name):
        await place.launch(controllers=2)
        warned = condition(await place.cluster("c"), "SpecWarnings")
        events = await eventually(place.events)

    assert warned["status"] == "True"
    assert "controllers" in warned["message"]
    assert events["SpecHasWarnings"] == f"Warning: {warned['message']}"
    assert f"SpecHasWarnings: {warned['message']}" in caplog.messages


async def test_events_tell_a_story(place):
    """Every phase is an Event about the cluster."""
    async with running(place.server, place.name):
        await place.launch()

        async def told():
            found = await place.events()
            return found if {"Creating", "Running"} <= found.keys() else None

        events = await eventually(told)

    assert events["Running"] == "Normal: All Chronik Stream components are running"


# --- conditions -------------------------------------------------------------------------------------------------------


async def test_transition_times_move_with_the_status(place, monkeypatch):
    """A condition keeps its transition time while only its message changes, and names the generation it is about."""
    ticks = iter(f"2026-01-01T00:{minute:02}:00Z" for minute in range(60))
    monkeypatch.setattr("chronik.operator.app.timestamp", lambda: next(ticks))
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create(small(place.name, controllers=2))
        first = condition(await with_condition(place, "c", "Ready", "False", "ComponentsNotReady"), "Ready")
        ingest, controller = sorted(await place.workloads())[::-1]
        await place.roll_out(ingest)

        async def moved():
            found = condition(await place.cluster("c"), "Ready")
            return found if found["message"] != first["message"] else None

        second = await eventually(moved)
        await place.roll_out(controller)
        third = condition(await with_condition(place, "c", "Ready", "True"), "Ready")

    assert second["lastTransitionTime"] == first["lastTransitionTime"]
    assert third["lastTransitionTime"] > second["lastTransitionTime"]
    assert third["observedGeneration"] == 1


@pytest.mark.real  # kubectl wants discovery
async def test_kubectl_waits(real_server):
    """`kubectl wait --for=condition=Ready` returns when the cluster is ready, and not before."""
    place = Namespace(real_server, real_server.new_namespace())
    wait = ("wait", "--for=condition=Ready", "chronikcluster/c", "-n", place.name)
    async with running(place.server, place.name):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Creating")
        waiting = asyncio.create_task(asyncio.to_thread(real_server.kubectl, *wait, "--timeout=20s"))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await place.roll_out_all()

        assert "condition met" in await waiting


# --- quiet ------------------------------------------------------------------------------------------------------------


async def test_steady_state_writes_nothing(place):
    """Ten passes over an unchanged Ready cluster write nothing: every resource version stays."""
    async with running(place.server, place.name):
        cluster = await place.launch(searchNodes=1, autoscaling={"ingestNodes": {"minReplicas": 1, "maxReplicas": 3}})
    async with world_of(place) as world:
        await reconcile(key_of(cluster), world)
        before, asked = await place.versions(), await place.asked()
        outcomes = [await reconcile(key_of(cluster), world) for _ in range(10)]

        assert await place.versions() == before
        assert await place.asked() == asked
    assert {(each.result, each.wrote, each.phase) for each in outcomes} == {("ok", False, "Running")}


async def test_a_restart_asks_for_lists_only(place):
    """A new operator over an unchanged cluster lists each kind once, watches what is installed, and that is all."""
    async with running(place.server, place.name):
        await place.launch()
    before, asked = await place.versions(), len(await place.asked())
    missing = {kind.plural for kind in KINDS if kind.api_version == "monitoring.coreos.com/v1"}
    kinds = {kind.plural for kind in KINDS} | {"chronikclusters", "pods", "persistentvolumeclaims", "secrets"}
    expected = [("list", kind) for kind in kinds] + [("watch", kind) for kind in kinds - missing]
    async with running(place.server, place.name):

        async def all_asked():
            return len(await place.asked()) - asked >= len(expected)

        await eventually(all_asked)
        await asyncio.sleep(0.5)
        new = (await place.asked())[asked:]

    assert await place.versions() == before
    assert sorted(new) == sorted(expected)


async def test_own_writes_of_status_wake_nobody(place, monkeypatch):
    """One event from outside takes one pass and one write of status, and no pass follows from that."""
    async with running(place.server, place.name):
        await place.launch()
        ingest = ObjectRef("StatefulSet", place.name, "c-ingest")
        with passes(monkeypatch) as ended:
            await quiet(ended)
            ended.clear()
            count = len(await place.written())
            await place.roll_out(ingest, ready=0)
            await in_phase(place, "c", "Updating")
            await quiet(ended)

    assert len(ended) == 1
    assert (await place.written())[count:] == [("chronikclusters", "c", "status")]


async def test_a_pass_writes_status_once(place, monkeypatch):
    """A changed spec takes one write for each object that it changes and one of status; what follows writes nothing."""
    async with running(place.server, place.name):
        await place.launch()
        with passes(monkeypatch) as ended:
            await quiet(ended)
            ended.clear()
            count = len(await place.written())
            await place.change("c", podDisruptionBudget={"maxUnavailable": 1}, network={"serviceType": "NodePort"})
            await quiet(ended)
            written = (await place.written())[count:]

    assert sorted(written) == [
        ("chronikclusters", "c", "status"),
        ("poddisruptionbudgets", "c-controller-pdb", ""),
        ("poddisruptionbudgets", "c-ingest-pdb", ""),
        ("services", "c-ingest-client", ""),
    ]
    assert [outcome.wrote for _, outcome in ended if outcome.wrote] == [True]


async def test_children_come_back(place):
    """A deleted Service is back at once, without waiting for a resync."""
    async with running(place.server, place.name):
        await place.launch()
        before = await place.get(SERVICE, "c-ingest")
        await place.delete(SERVICE, "c-ingest")

        async def back():
            found = await place.get(SERVICE, "c-ingest")
            return found and found["metadata"]["uid"] != before["metadata"]["uid"]

        assert await eventually(back)


async def test_removed_fields_go(place):
    """What is taken out of the spec goes from the children: nobody else owns it."""
    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name, tolerations=[{"key": "x", "operator": "Exists"}], podLabels={"team": "a"}))
        await in_phase(place, "c", "Running")
        assert (await template(place))["spec"]["tolerations"]
        await place.change("c", tolerations=None, podLabels=None)

        async def gone():
            found = await template(place)
            return "tolerations" not in found["spec"] and "team" not in found["metadata"]["labels"]

        assert await eventually(gone)


async def template(place):
    """Return the ingest nodes' pod template."""
    found = await place.get(STATEFUL_SET, "c-ingest")
    return found["spec"]["template"]


async def test_user_labels_select_nothing(place):
    """Labels for pods reach the pods, never a selector, and cannot replace those that chronik selects by."""
    async with running(place.server, place.name):
        await place.launch(podLabels={"team": "a", "app.kubernetes.io/component": "mine"})
        live = await place.get(STATEFUL_SET, "c-ingest")

    assert live["spec"]["selector"]["matchLabels"].keys() == {
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
    }
    assert live["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "ingest"
    assert live["spec"]["template"]["metadata"]["labels"]["team"] == "a"


# --- specs that cannot be used ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["in-process", "kube-apiserver"])
def lax(request):
    """Yield a server that takes any spec, as one with an older or a newer definition would."""
    if request.param == "kube-apiserver" and not real.available():
        pytest.skip(real.MISSING)
    server = FakeServer.start() if request.param == "in-process" else real.RealServer.start()
    definition = crd(assets.schema(), RuleBook(assets.rules_text()))
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    spec["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].pop("x-kubernetes-validations", None)
    server.install([definition])
    server.wait_served(f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}")
    yield server
    server.stop()


async def test_invalid_specs_make_nothing(lax):
    """A spec in error makes nothing but a Failed cluster that tells every error; corrected, it comes up at once."""
    place = Namespace(lax, lax.new_namespace())
    async with running(lax, place.name):
        await place.secret("first")
        await place.create(small(place.name, controllers=0, searchNodes=-1, storage={"backend": "s3"}))
        failed = await in_phase(place, "c", "Failed")
        children = await place.objects()
        events = await eventually(place.events)
        await place.edit(CLUSTER, "c", {"spec": small(place.name)["spec"] | {"searchNodes": None}})
        await in_phase(place, "c", "Creating")
    ready, stalled = condition(failed, "Ready"), condition(failed, "Stalled")

    assert children == {}
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    for path in ("spec.controllers", "spec.searchNodes", "spec.storage"):
        assert path in ready["message"]
    assert events["InvalidSpec"] == f"Warning: {ready['message']}"


async def test_invalid_specs_keep_what_runs(lax):
    """A spec that turns invalid changes nothing of what runs, and the cluster can still be deleted."""
    place = Namespace(lax, lax.new_namespace())
    async with running(lax, place.name):
        await place.launch()
        before = (await place.objects()).keys()
        await place.change("c", controllers=0, storage=None)
        await in_phase(place, "c", "Failed")
        assert (await place.objects()).keys() == before
        await place.delete(CLUSTER, "c")

        async def gone():
            return await place.get(CLUSTER, "c") is None

        assert await eventually(gone)
