"""`Kube` against both API servers: what is sent, what comes back, and which error a refusal is."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from support.kube_clients import client, config_map, options_for
from support.stub_server import StubServer, answering, refusal, stored

from chronik import __version__, errors
from chronik.kube import connect
from chronik.manifest import FIELD_MANAGER, KIND_BY_NAME, Kind, ObjectRef

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
GADGET = Kind("test.example.com/v1", "Gadget", "gadgets", stage=-1)


@pytest.fixture
async def kube(server):
    """Give admin's access to the server, for a test that runs against both servers."""
    async with connect(options_for(server)) as access:
        yield access


async def test_apply_sends_the_manifest_and_nothing_else(kube, server, namespace):
    """One PATCH carries the manifest as it is, under our field manager, strictly validated, and does not force."""
    manifest = config_map(namespace, key="value")

    live = await kube.apply(manifest)

    (request,) = server.requests_of(namespace)
    assert (request.method, request.path) == ("PATCH", f"/api/v1/namespaces/{namespace}/configmaps/a")
    assert request.query == {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "false"}
    assert request.body == manifest
    assert request.user_agent == f"chronik/{__version__}"
    assert [entry["manager"] for entry in live["metadata"]["managedFields"]] == [FIELD_MANAGER]


async def test_dry_run_writes_nothing(kube, namespace):
    """A dry run answers what would be, and leaves nothing behind."""
    assert (await kube.apply(config_map(namespace, key="value"), dry_run=True))["data"] == {"key": "value"}

    assert await kube.get(CONFIG_MAP, namespace, "a") is None


async def test_conflict_names_fields_and_owners(kube, namespace):
    """A field of another manager is a conflict that names both; force takes it."""
    await kube.apply(config_map(namespace, one="1", two="2", three="3"), manager="somebody")
    mine = config_map(namespace, one="x", two="y", three="3")

    with pytest.raises(errors.FieldConflict) as caught:
        await kube.apply(mine)

    owners = {(owner.path, owner.manager, owner.operation) for owner in caught.value.answer.owners}
    assert owners == {(".data.one", "somebody", "Apply"), (".data.two", "somebody", "Apply")}
    assert (await kube.apply(mine, force=True))["data"]["one"] == "x"


async def test_apply_to_a_subresource(kube, namespace):
    """Status is applied to its own subresource, and the rest of the object stays as it is."""
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    }
    await kube.apply(budget)
    counts = {"disruptionsAllowed": 3, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    status = {key: budget[key] for key in ("apiVersion", "kind", "metadata")} | {"status": counts}

    live = await kube.apply(status, subresource="status", manager="watcher")

    assert (live["status"]["disruptionsAllowed"], live["spec"]["maxUnavailable"]) == (3, 1)


async def test_list_selects_by_label(kube, namespace):
    """A list has what the selector names, each item complete with apiVersion and kind."""
    for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
        manifest = config_map(namespace, name)
        manifest["metadata"]["labels"] = {"which": label}
        await kube.apply(manifest)

    listed = await kube.list(CONFIG_MAP, namespace, label_selector="which=x")

    assert [str(ObjectRef.of(item)) for item in listed.items] == [f"ConfigMap/{namespace}/{name}" for name in "ac"]
    assert {item["apiVersion"] for item in listed.items} == {"v1"}
    assert int(listed.resource_version) > 0


async def test_delete_is_bound_to_a_uid(kube, namespace):
    """An object is deleted if it is still the one meant; another one of that name is left alone; none is fine."""
    live = await kube.apply(config_map(namespace))
    ref, uid = ObjectRef.of(live), live["metadata"]["uid"]

    with pytest.raises(errors.ObjectChanged):
        await kube.delete(CONFIG_MAP, ref, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(errors.ObjectChanged):
        await kube.delete(CONFIG_MAP, ref, uid=uid, resource_version="1")
    await kube.delete(CONFIG_MAP, ref, uid=uid, dry_run=True)
    assert await kube.get(CONFIG_MAP, namespace, "a") is not None

    await kube.delete(CONFIG_MAP, ref, uid=uid)
    assert await kube.get(CONFIG_MAP, namespace, "a") is None
    await kube.delete(CONFIG_MAP, ref, uid=uid)


async def test_merge_sends_the_patch_and_nothing_else(kube, server, namespace):
    """One PATCH carries the patch as it is, strictly validated, and what it sets is our field manager's, updated."""
    live = await kube.apply(config_map(namespace, mine="1", theirs="1"), manager="somebody")
    patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "data": {"mine": "2"}}

    merged = await kube.merge(CONFIG_MAP, ObjectRef.of(live), patch)

    request = server.requests_of(namespace)[-1]
    assert (request.method, request.path) == ("PATCH", f"/api/v1/namespaces/{namespace}/configmaps/a")
    assert request.query == {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
    assert request.body == patch
    assert merged["data"] == {"mine": "2", "theirs": "1"}
    assert _owned(merged) == {("somebody", "Apply"): ["theirs"], (FIELD_MANAGER, "Update"): ["mine"]}


async def test_merge_takes_away(kube, namespace):
    """What is null in a patch goes, whoever owns it, and nothing else changes hands."""
    await kube.apply(config_map(namespace, mine="1"))
    live = await kube.apply(config_map(namespace, going="1", staying="1"), manager="somebody")

    merged = await kube.merge(CONFIG_MAP, ObjectRef.of(live), {"data": {"going": None}})

    assert merged["data"] == {"mine": "1", "staying": "1"}
    assert _owned(merged) == {(FIELD_MANAGER, "Apply"): ["mine"], ("somebody", "Apply"): ["staying"]}


def _owned(live):
    """Return the keys of a ConfigMap's data by manager and operation."""
    return {
        (each["manager"], each["operation"]): sorted(key[2:] for key in each["fieldsV1"]["f:data"] if key != ".")
        for each in live["metadata"]["managedFields"]
    }


async def test_merge_into_what_has_changed(kube, server, namespace):
    """A patch bound to a version that is past is refused, changes nothing and is not sent again."""
    stale = await kube.apply(config_map(namespace, key="1"))
    await kube.apply(config_map(namespace, key="2"))
    patch = {"metadata": {"resourceVersion": stale["metadata"]["resourceVersion"]}, "data": {"key": "3"}}
    before = len(server.requests_of(namespace))

    with pytest.raises(errors.ObjectChanged, match=f"ConfigMap/{namespace}/a"):
        await kube.merge(CONFIG_MAP, ObjectRef.of(stale), patch)

    assert [each.code for each in server.requests_of(namespace)[before:]] == [409]
    assert (await kube.get(CONFIG_MAP, namespace, "a"))["data"] == {"key": "2"}


async def test_merge_into_what_is_not_there(kube, namespace):
    """A patch makes nothing: an object that is missing, and a kind that is, are two errors."""
    with pytest.raises(errors.ObjectMissing, match=f"ConfigMap/{namespace}/nope"):
        await kube.merge(CONFIG_MAP, ObjectRef("ConfigMap", namespace, "nope"), {"data": {"key": "1"}})
    with pytest.raises(errors.KindMissing, match="Gadget"):
        await kube.merge(GADGET, ObjectRef("Gadget", namespace, "nope"), {"data": {"key": "1"}})

    assert await kube.get(CONFIG_MAP, namespace, "nope") is None


async def test_merge_of_an_unknown_field(kube, namespace):
    """A field that the kind does not have is refused, not dropped in silence."""
    live = await kube.apply(config_map(namespace, key="1"))

    with pytest.raises(errors.InvalidObject, match="colour"):
        await kube.merge(CONFIG_MAP, ObjectRef.of(live), {"colour": "blue"})


@pytest.mark.parametrize(
    ("patch", "sent"),
    [({"data": {"key": "1"}}, 2), ({"metadata": {"resourceVersion": "7"}, "data": {"key": "1"}}, 1)],
    ids=["unbound", "bound"],
)
async def test_merge_is_repeated_unless_it_is_bound(patch, sent):
    """A merge patch is sent as one; when somebody else was faster it is repeated, unless it is bound to a version."""
    conflict = refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
    async with StubServer(answering(conflict, stored(config_map("n")))) as stub, client(stub.url) as kube:
        with suppress(errors.ObjectChanged):
            await kube.merge(CONFIG_MAP, ObjectRef("ConfigMap", "n", "a"), patch)

    assert [each["Content-Type"] for each in stub.headers] == ["application/merge-patch+json"] * sent
    assert [json.loads(each) for each in stub.bodies] == [patch] * sent


async def test_created_twice(kube, namespace):
    """A creation of what is there already says so."""
    await kube.create(config_map(namespace))

    with pytest.raises(errors.AlreadyExists, match=f"ConfigMap/{namespace}/a: .*already exists"):
        await kube.create(config_map(namespace))


async def test_unknown_field_is_refused(kube, namespace):
    """A field that the kind does not have is an error of the document, not of the server."""
    with pytest.raises(errors.InvalidObject, match="colour"):
        await kube.apply({**config_map(namespace), "colour": "blue"})


async def test_missing_namespace(kube):
    """An apply into a namespace that does not exist says how to make it."""
    with pytest.raises(errors.NamespaceMissing, match="kubectl create namespace nowhere"):
        await kube.apply(config_map("nowhere"))


async def test_missing_kind_is_no_missing_object(kube, namespace):
    """A kind that the server does not have is an error, though an object that does not exist is none."""
    assert await kube.get(CONFIG_MAP, namespace, "nope") is None

    with pytest.raises(errors.KindMissing, match="Gadget"):
        await kube.get(GADGET, namespace, "nope")
    await kube.delete(GADGET, ObjectRef("Gadget", namespace, "nope"), uid="x")


async def test_watch_goes_on_from_a_list(kube, namespace):
    """A watch from a list's version sees every later change, once, in order."""
    await kube.apply(config_map(namespace, "before"))
    listed = await kube.list(CONFIG_MAP, namespace)

    seen = []

    async def watch() -> None:
        async for change in kube.watch(CONFIG_MAP, namespace, resource_version=listed.resource_version):
            seen.append((change.type, change.object["metadata"]["name"], change.object["kind"]))
            if change.type == "DELETED":
                return

    watching = asyncio.create_task(watch())
    await kube.apply(config_map(namespace, "after"))
    await kube.apply(config_map(namespace, "after", more="1"))
    await kube.delete(CONFIG_MAP, ObjectRef("ConfigMap", namespace, "after"))
    await asyncio.wait_for(watching, 10)

    assert [kind for kind, name, _ in seen if name == "after"] == ["ADDED", "MODIFIED", "DELETED"]
    assert {kind for _, _, kind in seen} == {"ConfigMap"}
