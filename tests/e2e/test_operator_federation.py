"""A hub and three members, each an API server of its own: order, isolation, removal, secrets, and what goes wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import real_server as real
from support.fake_server.server import FakeServer
from support.fault_proxy import FaultProxy
from support.federations import RUNS, Hub, kubeconfig
from support.kubeconfigs import EXEC_API
from support.operators import Namespace, eventually, running

from chronik.federation.document import FEDERATION_MANAGER, revision_of
from chronik.kube import ConnectOptions
from chronik.manifest import CLUSTER, EVENT, FEDERATION, FINALIZER
from chronik.offline import loading
from chronik.offline.template_sets import template_reader
from chronik.plan.drift import applied_fields
from chronik.render.install import InstallOptions, install_manifests, member_manifests
from chronik.render.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import ApiServer

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

NAMES = ("east", "west", "south")
RUNS_TOLD = {name: value for name, value in RUNS.items() if name != "operatorVersion"}


def _started(kind: type[ApiServer]) -> ApiServer:
    started = kind.start()  # type: ignore[attr-defined]  # both sorts have it
    started.install(loading.definitions())
    started.wait_served(f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}")
    return started


@pytest.fixture(
    scope="module",
    params=["in-process", "kube-apiserver", pytest.param("four kube-apiservers", marks=pytest.mark.slow)],
)
def servers(request: pytest.FixtureRequest) -> Iterator[list[ApiServer]]:
    """Yield the API servers of a hub, and of three members: these are played, but for proof."""
    if request.param != "in-process" and not real.available():
        pytest.skip(real.MISSING)
    hub = request.getfixturevalue("fake_server" if request.param == "in-process" else "real_server")
    kind: Any = real.RealServer if request.param == "four kube-apiservers" else FakeServer
    members = [_started(kind) for _ in NAMES]
    yield [hub, *members]
    for each in members:
        each.stop()


@pytest.fixture
async def hub(servers: list[ApiServer]) -> Hub:
    """Return a hub in a fresh namespace, with three members in fresh namespaces."""
    namespace = await asyncio.to_thread(servers[0].new_namespace)
    return await Hub.of(servers[0], namespace, dict(zip(NAMES, servers[1:], strict=True)))


@pytest.mark.both
async def test_members_get_it_one_after_the_other(hub):
    """Each member gets its ChronikCluster when the one in front is Ready, and a hub at rest writes nothing.

    What runs at the members is told as their operators tell it.
    """
    async with hub.playing(), hub.running():
        await hub.apply()
        status = await hub.until(phase="Complete", ready="3/3")
        before = [len(each.writes()) for each in hub.members]
        version = (await hub.place.get(FEDERATION, "orders"))["metadata"]["resourceVersion"]
        await asyncio.sleep(3)

        assert [len(each.writes()) for each in hub.members] == before == [1, 1, 1]
        assert (await hub.place.get(FEDERATION, "orders"))["metadata"]["resourceVersion"] == version
    assert (hub.order, hub.overtaken) == ([*NAMES], [])
    assert list(hub.strays()) == []
    live = await hub["east"].live()
    assert live is not None
    assert status["members"][0]["revision"] == revision_of(live)
    assert [{name: each[name] for name in RUNS if name in each} for each in status["members"]] == [RUNS_TOLD] * 3
    assert {each["version"] for each in status["members"]} == {RUNS["operatorVersion"]}
    assert applied_fields(live, FEDERATION_MANAGER)
    events = await hub.place.events()
    assert {"RolloutStarted", "RolloutComplete", "MemberUpdating"} <= events.keys()


async def test_a_change_goes_through_in_order_and_a_failed_member_halts_it(hub):
    """A second change waits at a member that fails, and goes on once it is mended."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        hub["west"].failing = True
        await hub.apply(spec={"ingestNodes": 2})
        await hub.until(phase="Halted", west="Failed", south="Pending")
        hub["west"].failing = False
        await hub.until(phase="Complete", ready="3/3")
    assert hub.order == [*NAMES, *NAMES]
    assert hub.overtaken == []


async def test_a_failed_change_is_taken_back(hub):
    """With onFailure Revert the members that got it get the last good one."""
    rollout = {"onFailure": "Revert"}
    async with hub.playing(), hub.running():
        await hub.apply(rollout=rollout)
        await hub.until(phase="Complete")
        good = hub["east"].got[-1]
        hub["west"].failing = True
        await hub.apply(rollout=rollout, spec={"ingestNodes": 2})
        await hub.until(west="Failed", phase="Reverting")
        hub["west"].failing = False
        await hub.until(phase="Reverted", ready="3/3")
    assert [revision_of(await each.live()) for each in hub.members] == [good] * 3
    assert len(hub["south"].got) == 1


async def test_a_person_at_a_member_is_told_of_and_not_overruled(hub):
    """What somebody changed at a member stays, with a condition that names who owns it, until they give it up."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        east = hub["east"]
        await east.place.change("orders", ingestNodes=5)
        status = await hub.until(east="Blocked")
        told = {each["type"]: each for each in status["conditions"]}
        assert told["MembersBlocked"]["reason"] == "MemberConflict"
        assert "ingestNodes (kubectl-edit)" in told["MembersBlocked"]["message"]
        assert (await east.live())["spec"]["ingestNodes"] == 5
        assert (await hub.place.events())["MemberConflict"].startswith("Warning")
        await east.place.change("orders", ingestNodes=1)
        await hub.until(east="Ready")


async def test_a_field_that_the_template_does_not_set_is_the_members_own(hub):
    """The hub leaves alone what only the member sets."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        await hub["east"].place.change("orders", podLabels={"site": "east"})
        await hub.apply(spec={"ingestNodes": 2})
        await hub.until(phase="Complete")
        await asyncio.sleep(1.5)
        live = await hub["east"].live()
    assert (live["spec"]["podLabels"], live["spec"]["ingestNodes"]) == ({"site": "east"}, 2)


async def test_a_member_that_leaves_keeps_its_cluster(hub):
    """Orphan leaves the ChronikCluster as it is, and nothing of it is the hub's any more."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        before = await hub["south"].live()
        await hub.apply("east", "west")
        await hub.until(ready="2/2")

        async def gone() -> bool:
            return len((await hub.status())["members"]) == 2

        await eventually(gone)
        after = await hub["south"].live()
    assert after["spec"] == before["spec"]
    assert applied_fields(after, FEDERATION_MANAGER) is None
    assert revision_of(after) == ""


@pytest.mark.both
async def test_a_deleted_federation_deletes_what_it_may(hub):
    """With onDelete Delete the members' ChronikClusters go first, and then the federation."""
    async with hub.playing(), hub.running():
        await hub.apply(onDelete="Delete")
        await hub.until(phase="Complete")
        await hub.place.delete(FEDERATION, "orders")

        async def gone() -> bool:
            return await hub.place.get(FEDERATION, "orders") is None

        await eventually(gone)
        assert [await each.live() for each in hub.members] == [None, None, None]
    assert list(hub.strays()) == [] or {each.verb for _, each in hub.strays()} == {"delete"}


async def test_a_member_out_of_reach_holds_a_deletion_until_it_is_forgotten(hub):
    """The federation stays, names the member, and goes once a person lets go of that."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        await hub.secret("south", kubeconfig(hub["south"].place.server, url="http://127.0.0.1:9"))
        await hub.until(south="Unreachable")
        await hub.place.delete(FEDERATION, "orders")
        status = await hub.until(phase="Deleting")

        async def alone() -> bool:
            return [each["name"] for each in (await hub.status())["members"]] == ["south"]

        await eventually(alone)
        status = await hub.status()
        stalled = next(each for each in status["conditions"] if each["type"] == "Stalled")
        assert "chronik.stream/forget=south" in stalled["message"]
        await hub.place.edit(FEDERATION, "orders", {"metadata": {"annotations": {"chronik.stream/forget": "south"}}})

        async def gone() -> bool:
            return await hub.place.get(FEDERATION, "orders") is None

        await eventually(gone)
    assert await hub["south"].live() is not None


async def test_an_expired_token_and_a_new_one(hub):
    """A token that is refused is told within a look, and a rotated kubeconfig is used at once."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        await hub.secret("west", kubeconfig(hub["west"].place.server, token="used-up-9f"))
        status = await hub.until(west="Unreachable")
        assert status["members"][1]["reason"] == "Unauthorized"
        assert "used-up" not in json.dumps(status)
        await hub.apply(spec={"ingestNodes": 2})
        await hub.until(phase="Halted", east="Ready", south="Pending")
        await hub.secret("west", kubeconfig(hub["west"].place.server))
        await hub.until(phase="Complete", ready="3/3")
    assert hub.overtaken == []


BROKEN = {
    "no Secret": (None, "NotFound", "there is no such Secret"),
    "no key": ({"other": "x"}, "InvalidKubeconfig", "it has no key kubeconfig"),
    "no kubeconfig": ({"kubeconfig": "s3cret: ["}, "InvalidKubeconfig", "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_secret_that_is_no_kubeconfig_is_told_without_its_content(hub, name):
    """What is wrong with the Secret is in the status, and nothing of what it says."""
    data, reason, words = BROKEN[name]
    if data is None:
        await hub.place.call("DELETE", f"/api/v1/namespaces/{hub.place.name}/secrets/west-kubeconfig")
    else:
        await hub.place.call("DELETE", f"/api/v1/namespaces/{hub.place.name}/secrets/west-kubeconfig")
        for key, text in data.items():
            await hub.secret("west", text, key)
    async with hub.playing(), hub.running():
        await hub.apply()
        status = await hub.until(west="Unreachable", east="Ready")
    west = status["members"][1]
    assert west["reason"] == reason
    assert words in west["message"]
    assert "s3cret" not in json.dumps(status)


async def test_a_kubeconfig_that_would_run_a_program_or_read_a_file_is_refused(hub, tmp_path):
    """Exec plugins, auth providers and paths are refused, and no plugin was run: it would have left a file."""
    trace = tmp_path / "it-ran"
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\ntouch {trace}\n")
    plugin.chmod(0o755)
    token = tmp_path / "token"
    token.write_text(hub["east"].place.server.token)
    hostile = {
        "east": {"exec": {"apiVersion": EXEC_API, "command": str(plugin), "interactiveMode": "Never"}},
        "west": {"auth-provider": {"name": "oidc", "config": {}}},
        "south": {"tokenFile": str(token)},
    }
    for name, user in hostile.items():
        await hub.secret(name, kubeconfig(hub[name].place.server, **user))
    async with hub.playing(), hub.running():
        await hub.apply(rollout={"maxConcurrent": 3, "failureBudget": 3})
        status = await hub.until(**dict.fromkeys(NAMES, "Unreachable"))
    assert [each["reason"] for each in status["members"]] == ["InvalidKubeconfig"] * 3
    assert [
        word in each["message"]
        for each, word in zip(status["members"], ("exec", "auth-provider", "tokenFile"), strict=True)
    ] == [True] * 3
    assert not trace.exists()
    assert [await each.live() for each in hub.members] == [None] * 3


async def test_a_namespace_that_is_missing_and_comes(hub):
    """A member without the namespace is told so, and gets its cluster once the namespace is there."""
    document = hub.document("east", "west")
    document["spec"]["members"][0]["namespace"] = "not-there"
    async with hub.playing(), hub.running():
        await hub.place.create(document)
        status = await hub.until(east="Blocked", phase="Halted")
        assert status["members"][0]["reason"] == "NamespaceNotFound"
        assert status["members"][1]["phase"] == "Pending"


async def test_a_definition_that_is_missing_or_older_is_told(hub, servers):
    """A member without the kind, or whose kind lacks a field, says so and is not half changed; others pass it."""
    bare = type(servers[1]).start()
    older = type(servers[1]).start()
    definitions = copy.deepcopy(loading.definitions())
    spec = definitions[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["podLabels"]
    older.install(definitions)
    older.wait_served(f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}")
    try:
        for name, server in (("east", bare), ("west", older)):
            hub[name].away = True
            hub[name].place = Namespace(server, await asyncio.to_thread(server.new_namespace))
            await hub.secret(name, kubeconfig(server))
        async with hub.playing(), hub.running():
            await hub.apply(spec={"podLabels": {"site": "x"}}, rollout={"failureBudget": 2})
            status = await hub.until(east="Blocked", west="Blocked", south="Ready")
            assert [each.get("reason") for each in status["members"]] == ["KindNotInstalled", "InvalidObject", None]
            assert "podLabels" in status["members"][1]["message"]
            assert await hub["west"].live() is None
            await asyncio.to_thread(bare.install, loading.definitions())
            await hub.until(east="Ready")
    finally:
        bare.stop()
        older.stop()


async def test_nulls_in_overrides_reach_the_server_as_they_are(hub):
    """An override that takes a field away does so, though it has been to an API server."""
    document = hub.document("east", spec={"podLabels": {"site": "x"}})
    document["spec"]["members"][0]["overrides"] = {"podLabels": None, "ingestNodes": 2}
    async with hub.playing(), hub.running():
        await hub.place.create(document)
        await hub.until(phase="Complete")
        live = await hub["east"].live()
    assert (live["spec"].get("podLabels") or {}, live["spec"]["ingestNodes"]) == ({}, 2)


async def test_a_member_that_answers_late_delays_no_other(hub):
    """A slow member gets its change late; the others, which need not wait for it, have theirs long before."""
    hub["east"].away = True
    async with FaultProxy(
        hub["east"].place.server.url, ca=hub["east"].place.server.ca, rate=1.0, faults=("slow",)
    ) as proxy:
        proxy.slow = 3.0
        proxied = json.loads(kubeconfig(hub["east"].place.server, url=proxy.url))
        proxied["clusters"][0]["cluster"].pop("certificate-authority-data", None)
        await hub.secret("east", json.dumps(proxied))
        async with hub.playing(), hub.running():
            await hub.apply(rollout={"maxConcurrent": 3})
            status = await hub.until(west="Ready", south="Ready")
            assert {each["name"]: each["phase"] for each in status["members"]}["east"] != "Ready"
            await hub.until(phase="Complete", seconds=60)


async def test_members_that_come_go_and_change_places_during_a_roll(hub):
    """The list may change at any moment: who is in it gets the change in the new order, and who left is let go."""
    async with hub.playing(), hub.running():
        hub["east"].held = True
        await hub.apply("east", "west")
        await hub.until(east="Updating", west="Pending")
        hub["west"].away = True
        await hub.apply("east", "south", "west")
        await hub.until(south="Pending")
        hub["east"].held = False
        await hub.until(phase="Complete", ready="3/3")
        assert hub.order == ["east", "south", "west"]
        hub["south"].held = hub["south"].away = True
        await hub.apply("east", "south", "west", spec={"ingestNodes": 2})
        await hub.until(east="Ready", south="Updating", west="Pending")
        await hub.apply("east", "west", spec={"ingestNodes": 2})
        await hub.until(phase="Complete", ready="2/2")
    assert hub.order == ["east", "south", "west"] * 2


async def test_an_invalid_federation_changes_nothing(hub):
    """A template that is no valid ChronikCluster is refused with the place, and members keep what they have."""
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete")
        await hub.apply(spec={"controllers": 0})
        status = await hub.until(phase="Invalid")
        assert "spec.template.spec.controllers" in status["conditions"][0]["message"]
        await asyncio.sleep(0.5)
        assert [len(each.got) for each in hub.members] == [1, 1, 1]
        await hub.apply()
        await hub.until(phase="Complete")


async def test_a_paused_federation_sends_nothing(hub):
    """With chronik.stream/paused nothing is sent, and the roll begins when that goes."""
    document = hub.document()
    document["metadata"]["annotations"] = {"chronik.stream/paused": "true"}
    async with hub.playing(), hub.running():
        await hub.place.create(document)
        await hub.until(phase="Paused")
        await asyncio.sleep(1.5)
        assert [await each.live() for each in hub.members] == [None] * 3
        await hub.place.edit(FEDERATION, "orders", {"metadata": {"annotations": {"chronik.stream/paused": None}}})
        await hub.until(phase="Complete")


async def test_what_happens_at_a_member_is_seen_at_once(hub):
    """A member is watched: drift and illness are in the status within seconds, though the next look is far away."""
    async with hub.playing(), hub.running(federation_poll=600.0):
        await hub.apply()
        await hub.until(phase="Complete", ready="3/3")
        began = time.monotonic()
        await hub["east"].place.change("orders", ingestNodes=5)
        hub["west"].failing = True
        await hub["west"].place.change("orders", podLabels={"a": "b"})
        await hub.until(east="Blocked", west="NotReady")
        assert time.monotonic() - began < 60


async def test_a_member_that_refuses_a_watch_is_polled(hub):
    """Without the right to watch, as members of older releases give it, all goes on at the pace of the polls."""
    rules = [{"apiGroups": ["chronik.stream"], "resources": [CLUSTER.plural], "verbs": ["create", "get", "patch"]}]
    for member in hub.members:
        await grant(member.place, "bob", rules)
        await hub.secret(member.name, kubeconfig(member.place.server, token="bob"))
    async with hub.playing(), hub.running():
        await hub.apply()
        await hub.until(phase="Complete", ready="3/3")
        await hub["east"].place.change("orders", ingestNodes=5)
        await hub.until(east="Blocked")


async def test_the_hubs_own_cluster_is_a_member_and_one_is_paused(hub, servers):
    """A member that is inCluster is reached without a Secret; one that is paused is passed, and gets it afterwards."""
    east, west = hub["east"], hub["west"]
    east.place = Namespace(servers[0], await asyncio.to_thread(servers[0].new_namespace))
    west.away = True
    document = hub.document()
    document["spec"]["members"][0] = {"name": "east", "inCluster": True, "namespace": east.place.name}
    document["spec"]["members"][1]["paused"] = True
    async with hub.playing(), hub.running():
        await hub.place.create(document)
        status = await hub.until(phase="Complete", ready="2/3", west="Paused")
        assert status["members"][0]["at"]["inCluster"] is True
        assert await west.live() is None
        del document["spec"]["members"][1]["paused"]
        await hub.place.create(document)
        await hub.until(ready="3/3")
    assert hub.order == ["east", "south", "west"]


async def test_another_federations_cluster_is_not_taken_over(hub):
    """A ChronikCluster that belongs to another federation stays as it is."""
    async with hub.playing(), hub.running():
        await hub.apply("east")
        await hub.until(phase="Complete")
        other = hub.document("east", spec={"ingestNodes": 3})
        other["metadata"]["name"] = "second"
        other["spec"]["members"][0]["cluster"] = "orders"
        await hub.place.create(other)

        async def told() -> bool:
            found = await hub.place.get(FEDERATION, "second")
            return "belongs to the federation" in json.dumps((found or {}).get("status") or {})

        await eventually(told)
        assert (await hub["east"].live())["spec"]["ingestNodes"] == 1


async def grant(place: Namespace, user: str, rules: list[Any]) -> None:
    """Give a user some rights in a namespace."""
    group, name = "rbac.authorization.k8s.io", f"of-{user}"
    metadata = {"name": name, "namespace": place.name}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    binding = role | {
        "kind": "RoleBinding",
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        "roleRef": {"kind": "Role", "name": name, "apiGroup": group},
    }
    del binding["rules"]
    for plural, manifest in (("roles", role), ("rolebindings", binding)):
        path = f"/apis/{group}/v1/namespaces/{place.name}/{plural}/{name}"
        await place.call("PATCH", path, manifest, fieldManager="suite")


@pytest.mark.both
async def test_rights_as_they_are_installed_are_enough(hub):
    """A hub with the rights of `install --features federation` works, by accounts of `install --member`."""
    templates = Templates(template_reader())
    options = InstallOptions(watch=(hub.place.name,), features=("federation",))
    made = install_manifests(options, templates, [])
    rules = next(each["rules"] for each in made if each["metadata"].get("namespace") == hub.place.name)
    await grant(hub.place, "alice", rules)
    for member in hub.members:
        options = InstallOptions(namespace=member.place.name)
        role = member_manifests(options, templates, deletes=True)[1]
        await grant(member.place, "bob", role["rules"])
        await hub.secret(member.name, kubeconfig(member.place.server, token="bob"))
    connect = ConnectOptions(kubeconfig=str(hub.place.server.kubeconfig), context="alice")
    async with hub.playing(), hub.running(connect=connect):
        await hub.apply(onDelete="Delete")
        await hub.until(phase="Complete", ready="3/3")
        await hub.apply("east", "west", onDelete="Delete")
        await hub.until(ready="2/2")

        async def gone() -> bool:
            return await hub["south"].live() is None

        await eventually(gone)
    users = {each.user for member in hub.members for each in member.writes()}
    assert users == {"bob"}


async def test_nothing_of_a_kubeconfig_is_to_be_seen(hub, caplog):
    """Tokens are in no status, Event, log line, or object at a member."""
    caplog.set_level(logging.DEBUG)
    token = hub["east"].place.server.token
    secret = "s3cr3t-t0ken" if token == "admin" else token  # the stand-in's tokens are the names of users
    await hub.secret("west", kubeconfig(hub["west"].place.server, token=f"{secret}-b"))
    await hub.secret("south", "users: [{name: x, user: {token: s3cr3t-t0ken")
    async with hub.playing(), hub.running():
        await hub.apply(rollout={"failureBudget": 2})
        await hub.until(west="Unreachable", south="Unreachable", east="Ready")
    seen = [
        json.dumps(await hub.place.list(EVENT)),
        json.dumps(await hub.place.get(FEDERATION, "orders")),
        json.dumps(await hub["east"].live()),
        caplog.text,
    ]
    assert [secret in each or "s3cr3t" in each for each in seen] == [False] * 4


async def test_an_operator_without_the_feature_leaves_federations_alone(hub):
    """Without the feature there is no request about federations, and no finalizer."""
    async with running(hub.place.server, hub.place.name):
        await hub.apply()
        await asyncio.sleep(1)
    found = await hub.place.get(FEDERATION, "orders")
    assert FINALIZER not in (found["metadata"].get("finalizers") or ())
    asked = [each for each in hub.place.server.requests_of(hub.place.name) if each.resource == FEDERATION.plural]
    assert {each.query.get("fieldManager", "") for each in asked if each.writes} == {"kubectl"}
