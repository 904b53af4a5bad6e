"""The operator, and commands, under a definition that is not their own: an older, a newer, or a stricter one."""

from __future__ import annotations

import asyncio
import copy
import logging
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from support import real_server as real
from support.cli_place import Place, run
from support.fake_server.server import FakeServer
from support.operator_process import until
from support.operators import (
    CLAIM,
    CLUSTER,
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

from chronik.offline import loading as offline
from chronik.operator import definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.api import ApiServer

CLUSTERS = f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}"
MARKS = count()
Schema = dict[str, Any]

pytestmark = pytest.mark.stand_in  # a real server takes seconds for definitions that are replaced


def define(server: ApiServer, edit: Callable[[Schema], None] = lambda _spec: None) -> None:
    """Give a server chronik's definition with the schema of the spec edited, and wait until it goes by it.

    Each definition has another field at its root, so that a dry run tells which one is served.
    """
    edited = copy.deepcopy(offline.definitions()[0])
    root = edited["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    edit(root["properties"]["spec"])
    if "properties" not in root["properties"]["spec"]:
        del root["x-kubernetes-validations"]  # they speak of fields of the spec
    mark = f"mark{next(MARKS)}"
    root["properties"][mark] = {"type": "string"}
    server.install([edited])
    place = f"/apis/{CLUSTER.api_version}/namespaces/default/{CLUSTER.plural}"
    probe = small("default", "probe") | {mark: "x"}
    until(lambda: server.call("POST", place, probe, dryRun="All", fieldValidation="Strict").code == 201)


@pytest.fixture(scope="module", params=["in-process", "kube-apiserver"])
def own_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """Yield a server that no other module uses, so that its definition may be replaced."""
    if request.param == "kube-apiserver" and not real.available():
        pytest.skip(real.MISSING)
    server = FakeServer.start() if request.param == "in-process" else real.RealServer.start()
    yield server
    server.stop()


@pytest.fixture
def place(own_server: ApiServer) -> Namespace:
    """Return a fresh namespace on a server with chronik's own definition."""
    define(own_server)
    return Namespace(own_server, own_server.new_namespace())


def without_comparisons(spec: Schema) -> None:
    """Take the rules that compare with the document before out of a schema, as in a definition of old."""
    for part in (spec, spec["properties"]["storage"]):
        rules = part["x-kubernetes-validations"]
        rules[:] = [rule for rule in rules if "oldSelf" not in rule["rule"]]


def anything(spec: Schema) -> None:
    """Let a spec be anything."""
    spec.clear()
    spec |= {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def with_tiering(spec: Schema) -> None:
    """Add a field as a newer version has it."""
    tier = {"type": "object", "properties": {"bucket": {"type": "string"}}}
    spec["properties"]["tiering"] = {"type": "object", "properties": {"after": {"type": "string"}, "to": tier}}


def of_old(spec: Schema) -> None:
    """Take a field out of a schema, as in a definition of old."""
    del spec["properties"]["topologySpreadConstraints"]


OUTDATED = "the CRD in the cluster is older than this chronik: it does not know spec.topologySpreadConstraints, so the "


def publish(server: ApiServer, edit: Callable[[Schema], None] = lambda _spec: None) -> None:
    """Give a server a definition, and wait until it publishes it: some time after it goes by it."""
    define(server, edit)
    path, mark = f"/openapi/v3/apis/{CLUSTER.api_version}", f"mark{next(MARKS) - 1}"
    until(lambda: mark in str(server.call("GET", path).body))


async def make_claim(place: Namespace, size: str) -> None:
    """Make a bound claim of the first ingest node."""
    labels = {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": "ingest"}
    metadata = {"name": "data-c-ingest-0", "namespace": place.name, "labels": labels}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    await place.create(body | {"spec": spec | {"storageClassName": "growing"}})
    status = {"status": {"phase": "Bound", "capacity": {"storage": size}}}
    await place.call("PATCH", place.path(CLAIM, "data-c-ingest-0", "status"), status, patch="merge")


async def sizes(place: Namespace) -> dict[str, tuple[str, str]]:
    """Return uid and size of claims and of claim templates, by name."""
    claims = [(each, each["spec"]) for each in await place.list(CLAIM)]
    workloads = await place.list(STATEFUL_SET)
    templates = [(each, each["spec"]["volumeClaimTemplates"][0]["spec"]) for each in workloads]
    return {
        each["metadata"]["name"]: (each["metadata"]["uid"], spec["resources"]["requests"]["storage"])
        for each, spec in (*claims, *templates)
    }


def storage(size: str) -> dict[str, str]:
    """Return the storage of a spec."""
    return {"backend": "local", "size": size, "storageClass": "growing"}


async def test_a_smaller_size_changes_nothing(place, monkeypatch):
    """A size made smaller is refused; where no rule refuses it, no volume changes, a condition says so, once."""
    smaller = {"spec": {"storage": storage("1Gi"), "image": {"ingest": "chronik/ingest:2.0"}}}
    path = place.path(CLUSTER, "c")
    async with running(place.server, place.name, resync=0.1) as operator:
        await place.launch(storage=storage("2Gi"))
        await make_claim(place, "2Gi")
        before = await sizes(place)
        refused = await asyncio.to_thread(place.server.call, "PATCH", path, smaller, patch="merge")
        await asyncio.to_thread(define, place.server, without_comparisons)
        with passes(monkeypatch) as ended:
            await place.edit(CLUSTER, "c", smaller)
            found = await with_condition(place, "c", "StorageResizable", "False", "StorageShrink")
            await place.roll_out_all()
            done = await in_phase(place, "c", "Running")
            await quiet(ended)
            asked = await asked_by(place)
            avoided = avoided_by(operator)
            await eventually(lambda: _is(avoided_by(operator) >= avoided + 5))  # it has looked five times since
        live = await place.get(STATEFUL_SET, "c-ingest")
        events = await place.events()

        assert await asked_by(place) == asked
    async with running(place.server, place.name, resync=0.1) as fresh:  # to it, this is an object of old
        await eventually(lambda: _is(avoided_by(fresh) >= 5))

    assert refused.code == 422
    assert "a volume can grow, but never shrink" in refused.body["message"]
    assert await sizes(place) == before
    assert {size for _, size in before.values()} == {"2Gi"}
    assert "from 2Gi to 1Gi, and volumes never shrink" in condition(found, "StorageResizable")["message"]
    assert condition(done, "StorageResizable")["reason"] == "StorageShrink"
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "chronik/ingest:2.0"
    assert events["StorageShrink"].startswith("Warning: ")
    assert await asked_by(place) == asked


async def asked_by(place: Namespace) -> list[tuple[str, str]]:
    """Return what operators have asked, but for what fills their caches: a server ends watches of old definitions."""
    return [each for each in await place.asked() if each[0] not in {"list", "watch"}]


async def _is(holds: bool) -> bool:  # noqa: FBT001  # an answer to give to `eventually`
    return holds


def avoided_by(operator: Any) -> float:
    """Return how often an operator has found that there is nothing to do."""
    found = operator.metrics.registry.get_sample_value("chronik_writes_avoided_total")
    return float(found or 0)


TIERING = {"after": "7d", "to": {"bucket": "cold"}}


@pytest.mark.parametrize("edit", [with_tiering, anything])
@pytest.mark.parametrize("live", [True, False], ids=["was-running", "was-new"])
async def test_a_newer_document_can_be_deleted(place, live, edit):
    """A cluster whose document has fields of a newer version goes when it is deleted, and keeps them until then."""
    newer = {"tiering": TIERING, "storage": storage("1Gi") | {"retention": {"whenDeleted": "Delete"}}}
    if live:
        async with running(place.server, place.name):
            await place.launch()
    await asyncio.to_thread(define, place.server, edit)
    async with running(place.server, place.name):  # a watch of before would go on without what is new
        await (place.change("c", **newer) if live else place.create(small(place.name, **newer)))
        failed = await in_phase(place, "c", "Failed")
        await make_claim(place, "1Gi")
        await place.edit(CLUSTER, "c", {"metadata": {"finalizers": ["example.com/backup", *finalizers(failed)]}})
        await place.delete(CLUSTER, "c")
        going = await eventually(lambda: _let_go(place))
        claims = await place.list(CLAIM)
        await place.edit(CLUSTER, "c", {"metadata": {"finalizers": None}})
        await eventually(lambda: _gone(place))

    assert "tiering" in condition(failed, "Ready")["message"]
    assert going["status"]["phase"] == "Deleting"
    assert going["spec"]["tiering"] == TIERING
    assert [each["metadata"]["name"] for each in claims if "deletionTimestamp" not in each["metadata"]] == []


def finalizers(cluster: dict[str, Any]) -> list[str]:
    """Return what holds a cluster: the operator's own finalizer, if it has claimed it."""
    assert cluster["metadata"]["finalizers"] == ["chronik.stream/finalizer"]
    return list(cluster["metadata"]["finalizers"])


async def _let_go(place: Namespace) -> dict[str, Any] | None:
    found = await place.cluster("c")
    return found if found["metadata"]["finalizers"] == ["example.com/backup"] else None


async def _gone(place: Namespace) -> bool:
    return await place.get(CLUSTER, "c") is None


KEPT = {"whenDeleted": "Retain", "whenScaled": "Retain"}
NO_BUCKET = {"backend": "s3", "size": "1Gi", "retention": KEPT}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"ingestNodes": 0}, id="too-few"),
        pytest.param({"searchNodes": "many"}, id="another-type"),
        pytest.param({"metastore": None}, id="missing", marks=pytest.mark.both),
        pytest.param({"storage": NO_BUCKET}, id="broken-rule"),
        pytest.param({"components": {"ingest": {"nodeSelector": {"a": "b"}}}, "ingestNodes": 0}, id="of-a-component"),
    ],
)
async def test_a_document_that_became_invalid_can_be_deleted(place, spec):
    """A cluster goes when it is deleted, though its spec is one that the server would not take any more."""
    async with running(place.server, place.name):
        await place.launch()
        await asyncio.to_thread(define, place.server, anything)
        await place.change("c", storage=None)  # a patch of what it was would be merged with it
        await place.change("c", **spec)
        await asyncio.to_thread(define, place.server)
        again = {**small(place.name, "other")["spec"], **spec}
        refused = await asyncio.to_thread(_created, place, "other", again)
        await in_phase(place, "c", "Failed")
        await place.delete(CLUSTER, "c")
        await eventually(lambda: _gone(place))

    assert refused == 422


def _created(place: Namespace, name: str, spec: dict[str, Any]) -> int:
    document = small(place.name, name) | {"spec": {key: value for key, value in spec.items() if value is not None}}
    return place.server.call("POST", place.path(CLUSTER), document).code


@pytest.mark.parametrize("command", ["status", "diff", "apply"])
def test_commands_tell_of_an_older_definition(own_server, tmp_path, command):
    """About an operator's cluster a command says which fields the definition lacks, and what to apply; else nothing."""
    place = Place(own_server, own_server.new_namespace(), tmp_path)
    publish(own_server)
    place.operate()
    arguments = ["-n", place.namespace, "c"] if command == "status" else ["-f", place.document()]
    same = run(command, *place.flags(), *arguments)
    publish(own_server, of_old)
    older = run(command, *place.flags(), *arguments)
    publish(own_server, anything)
    free = run(command, *place.flags(), *arguments)

    assert OUTDATED not in same.err + free.err
    assert f"note: {OUTDATED}API server refuses or drops them." in older.err
    assert "`chronik schema crd | kubectl apply --server-side -f -`\n" in older.err
    assert same.code == older.code


def test_without_an_operator_the_definition_does_not_matter(own_server, tmp_path):
    """A cluster that is applied from the command line needs no definition, so nothing is said of one."""
    place = Place(own_server, own_server.new_namespace(), tmp_path)
    publish(own_server, of_old)
    applied, differs = place.apply(), place.diff()

    assert (applied.code, applied.err) == (0, "")
    assert (differs.code, differs.err) == (0, "")


@pytest.mark.both
async def test_the_operator_tells_of_an_older_definition(place, monkeypatch, caplog):
    """The operator logs once which fields the definition lacks, and once more when it lacks none any longer."""
    monkeypatch.setattr(definition, "EVERY", 0.1)
    caplog.set_level(logging.INFO, "chronik.operator")
    await asyncio.to_thread(publish, place.server, of_old)
    async with running(place.server, place.name):
        await eventually(lambda: _is(OUTDATED in caplog.text))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(publish, place.server)
        await eventually(lambda: _is("the CRD in the cluster knows all fields of this version now" in caplog.text))
        asked = caplog.text.count(OUTDATED)
    async with running(place.server, place.name):
        await asyncio.sleep(0.3)

    assert asked == 1
    assert caplog.text.count(OUTDATED) == 1
