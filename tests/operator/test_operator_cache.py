"""The operator's caches: always as the server has it, whatever breaks, and never behind what we have just written."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kmock
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.api import ADMIN
from support.clock import FakeClock
from support.examples import examples
from support.fake_server.server import FakeServer
from support.kube_clients import options_for
from support.scripted_kube import ScriptedKube

from chronik.api.crd import crd
from chronik.apply.observe import observe
from chronik.errors import Forbidden, KindMissing, Unreachable
from chronik.kube import Kube, connect
from chronik.manifest import (
    CLAIM,
    CLUSTER,
    KIND_BY_NAME,
    POD,
    SECRET,
    STORAGE_CLASS,
    ClusterKey,
    ObjectRef,
)
from chronik.offline import loading as offline
from chronik.operator.cache.cache import Cache, Selection
from chronik.operator.cache.packing import Packer
from chronik.plan.planner import PlanContext, plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

POD_MONITOR = KIND_BY_NAME["PodMonitor"]
EXAMPLES = Path(__file__).parents[2] / "examples"
LABELS = {"app.kubernetes.io/managed-by": "chronik-operator"}
STEP_SECONDS = 10
EVERYTHING = Selection()


@dataclass
class Running:
    """A cache that runs: what it woke, why it listed again, and what it is connected with."""

    cache: Cache
    kube: Any
    woken: list[ClusterKey] = field(default_factory=list)
    relists: list[tuple[str, str]] = field(default_factory=list)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(STEP_SECONDS):
            while not condition():  # noqa: ASYNC110  # any condition at all
                await asyncio.sleep(0.002)


@asynccontextmanager
async def running(
    kube: Kube | ScriptedKube, scope: Selection = EVERYTHING, *, synced: bool = True
) -> AsyncIterator[Running]:
    """Run a cache until the block ends."""
    found = Running(None, kube)  # type: ignore[arg-type]  # it is there in the next line
    found.cache = Cache(
        kube,  # type: ignore[arg-type]  # what is missing is not asked for
        scope,
        wake=lambda key: found.woken.append(key.place),
        clock=FakeClock().clock,
        on_relist=lambda kind, why: found.relists.append((kind, why)),
    )
    task = asyncio.create_task(found.cache.run())
    try:
        if synced:
            async with asyncio.timeout(30):
                await found.cache.wait_synced()
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def connected(server, user: str = ADMIN) -> AsyncIterator[Kube]:
    async with connect(options_for(server, user)) as kube:
        yield kube
    await asyncio.sleep(0.2 if server.ca else 0)  # TLS takes leave of the server before the loop may end


@asynccontextmanager
async def on_server(server, namespace: str) -> AsyncIterator[Running]:
    async with connected(server) as kube, running(kube, Selection((namespace,))) as found:
        yield found


def cluster_document(namespace: str, name: str = "c", example: str = "minimal") -> dict[str, Any]:
    document = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
    document["metadata"] |= {"name": name, "namespace": namespace}
    return document


def child(namespace: str, name: str = "c-config", cluster: str = "c", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": LABELS | {"chronik.stream/cluster": cluster}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def path_of(manifest: dict[str, Any], kind=None) -> str:
    kind = kind or KIND_BY_NAME.get(manifest["kind"]) or {"ChronikCluster": CLUSTER, "Secret": SECRET}[manifest["kind"]]
    metadata = manifest["metadata"]
    root = f"/api{'s' if '/' in kind.api_version else ''}/{kind.api_version}"
    return f"{root}/namespaces/{metadata['namespace']}/{kind.plural}/{metadata['name']}"


def applied(server, manifest, manager="chronik-operator", path="", **options) -> dict[str, Any]:
    answer = server.call(
        "PATCH", path or path_of(manifest), manifest, fieldManager=manager, **{"force": True} | options
    )
    assert answer.code in {200, 201}, answer.body
    return answer.body


def deleted(server, manifest) -> None:
    assert server.call("DELETE", path_of(manifest)).code == 200


async def past(found: Running, server, namespace: str) -> None:
    """Wait until the cache has come past everything that happened to ConfigMaps so far."""
    marker = child(namespace, "marker", "nobody")
    version = applied(server, marker | {"data": {"x": str(len(server.requests()))}})["metadata"]["resourceVersion"]
    ref = ObjectRef.of(marker)
    await found.until(lambda: (record := found.cache._store.get(ref)) and str(record.version) == version)


# --- what is known ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["minimal", "production"])
async def test_plans_from_the_cache_are_plans_from_the_server(server, namespace, example):
    """A plan from the cache is, action for action, the plan from what the server lists: at first, and of drift."""
    document = applied(server, cluster_document(namespace, example=example))
    cluster = offline.validator().validate(document).cluster
    desired = offline.render_clusters([cluster])
    for manifest in desired:
        applied(server, manifest)
    context = PlanContext(cluster="c", namespace=namespace, owner_uid=cluster.uid, prune=True)
    async with on_server(server, namespace) as found:
        key = ClusterKey(namespace, "c")
        before = (await observe(found.kube, cluster, desired)).objects
        assert plan(desired, found.cache.view(key).objects, context) == plan(desired, before, context)

        drifted = next(each for each in desired if each["kind"] == "StatefulSet")
        metadata = {"name": drifted["metadata"]["name"], "namespace": namespace}
        drift = {"spec": {"replicas": 7, "template": {"metadata": {"labels": {"x": "y"}}}}, "metadata": metadata}
        server.call("PATCH", path_of(drifted), drift, patch="merge", fieldManager="kubectl-edit")
        deleted(server, next(each for each in desired if each["kind"] == "Role"))
        applied(server, child(namespace, "c-left-over") | {"data": {"a": "b"}})
        observed = await observe(found.kube, cluster, desired)
        await found.until(lambda: _live(found.cache.view(key).objects) == _live(observed.objects))

        assert observed.objects.keys() != before.keys()
        assert plan(desired, observed.objects, context) != plan(desired, before, context)
        assert plan(desired, found.cache.view(key).objects, context) == plan(desired, observed.objects, context)


def _live(objects: Any) -> set[tuple[str, str]]:
    return {(manifest["metadata"]["uid"], manifest["metadata"]["resourceVersion"]) for manifest in objects.values()}


async def test_what_belongs_to_a_cluster(server, namespace):
    """A cluster's view has what it controls, even if a label says otherwise, what its label names, and nothing else."""
    uid = applied(server, cluster_document(namespace))["metadata"]["uid"]
    owned = child(namespace, "owned", "other")
    owner = {"apiVersion": CLUSTER.api_version, "kind": CLUSTER.name, "name": "c", "uid": uid, "controller": True}
    owned["metadata"]["ownerReferences"] = [owner]
    foreign = child(namespace, "foreign")
    foreign["metadata"]["labels"] = {"chronik.stream/cluster": "c"}
    for manifest in (owned, foreign, child(namespace, "labelled"), child(namespace, "others", "d")):
        applied(server, manifest)
    async with on_server(server, namespace) as found:
        assert found.cache.clusters() == [ClusterKey(namespace, "c")]
        view = found.cache.view(ClusterKey(namespace, "c"))
        assert [ref.name for ref in view.objects] == ["labelled", "owned"]
        assert view.document == found.cache.cluster(ClusterKey(namespace, "c"))
        assert found.cache.cluster(ClusterKey(namespace, "c"))["metadata"]["uid"] == uid
        assert found.cache.cluster(ClusterKey(namespace, "d")) is None


async def test_pods_and_claims(server, namespace):
    """Pods are found by their label, claims also by the labels that a StatefulSet gives them."""
    applied(server, cluster_document(namespace))
    names = {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": "ingest"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "c-ingest-0", "namespace": namespace, "labels": LABELS | {"chronik.stream/cluster": "c"}},
        "spec": {
            "containers": [{"name": "a", "image": "b", "env": [{"name": "LONG", "value": "x" * 999}]}],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data-c-ingest-0"}},
                {"name": "temp", "emptyDir": {}},
            ],
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-c-ingest-0", "namespace": namespace, "labels": names},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    assert server.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    answer = server.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    assert answer.code == 201, answer.body
    applied(server, claim, path=path_of(claim, CLAIM))
    async with on_server(server, namespace) as found:
        view = found.cache.view(ClusterKey(namespace, "c"))

        assert [each["metadata"]["name"] for each in view.claims] == ["data-c-ingest-0"]
        assert view.claims[0]["spec"]["resources"]["requests"]["storage"] == "1Gi"
        kept = {"containers": [{"name": "a", "image": "b"}], "volumes": pod["spec"]["volumes"][:1]}
        assert view.pods[0]["spec"] == kept
        server.call(
            "PATCH",
            path_of(pod, POD) + "/status",
            {"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": None}]}},
            patch="merge",
        )
        await found.until(lambda: found.woken[-1:] == [ClusterKey(namespace, "c")])
        await found.until(lambda: found.cache.view(ClusterKey(namespace, "c")).pods[0]["status"].get("conditions"))


async def test_secrets_are_digests(server, namespace):
    """Of a Secret there is only a digest, which changes with its data; it wakes the clusters that name it."""
    document = cluster_document(namespace)
    name = document["spec"]["metastore"]["connection"]["credentialsSecret"]
    applied(server, document)
    applied(server, cluster_document(namespace, "d") | {"spec": document["spec"] | {"metastore": _metastore("else")}})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"password": "hunter2-hunter2", "username": "u"},
    }
    release = {**secret, "metadata": {"name": "helm", "namespace": namespace}, "type": "helm.sh/release.v1"}
    applied(server, secret)
    applied(server, release)
    key = ClusterKey(namespace, "c")
    async with on_server(server, namespace) as found:
        first, fingerprint = found.cache.secret_digest(namespace, name), found.cache.fingerprint(key)
        assert first
        assert "hunter2" not in repr(found.cache._store.get(ObjectRef("Secret", namespace, name)))
        assert found.cache.secret_digest(namespace, "helm") is None
        await found.until(lambda: len(found.woken) >= 2)
        found.woken.clear()

        applied(server, secret | {"metadata": secret["metadata"] | {"labels": {"a": "b"}}})
        applied(server, secret | {"stringData": {"password": "x", "username": "u"}})
        await found.until(lambda: found.woken)

        assert found.woken == [key]
        assert found.cache.secret_digest(namespace, name) != first
        assert found.cache.fingerprint(key) != fingerprint
        deleted(server, secret)
        await found.until(lambda: len(found.woken) == 2)
        assert found.cache.secret_digest(namespace, name) is None


def _metastore(secret: str) -> dict[str, Any]:
    return {"database": "postgres", "connection": {"host": "h", "database": "d", "credentialsSecret": secret}}


# --- who is woken -----------------------------------------------------------------------------------------------------


async def test_changes_wake_their_cluster(server, namespace):
    """Whatever happens to a cluster or to a part of it wakes it: created, changed, deleted."""
    key = ClusterKey(namespace, "c")
    async with on_server(server, namespace) as found:

        async def wakes(change: Callable[[], Any]) -> None:
            found.woken.clear()
            before = found.cache.fingerprint(key)
            change()
            await found.until(lambda: found.woken)
            assert set(found.woken) == {key}
            assert found.cache.fingerprint(key) != before

        document = cluster_document(namespace)
        await wakes(lambda: applied(server, document, "kubectl"))
        await wakes(lambda: applied(server, document | {"spec": document["spec"] | {"controllers": 5}}, "kubectl"))
        metadata = document["metadata"] | {"annotations": {"chronik.stream/paused": "true"}}
        await wakes(lambda: applied(server, document | {"metadata": metadata}, "kubectl"))
        await wakes(lambda: applied(server, child(namespace, a="1")))
        await wakes(lambda: applied(server, child(namespace, a="2"), "somebody"))
        await wakes(lambda: deleted(server, child(namespace)))
        await wakes(lambda: deleted(server, document))
        assert found.cache.cluster(key) is None
        assert found.cache.clusters() == []


async def test_own_status_wakes_nobody(server, namespace):
    """A status write changes what is known of the cluster, but neither its fingerprint nor anybody's sleep."""
    key = ClusterKey(namespace, "c")
    document = applied(server, cluster_document(namespace))
    async with on_server(server, namespace) as found:
        found.woken.clear()
        before = found.cache.fingerprint(key)
        status = {"phase": "Pending", "lastUpdated": "2026-01-01T00:00:00Z", "controllers": []}
        status |= {"ingestNodes": [], "searchNodes": [], "conditions": []}
        body = {**{name: document[name] for name in ("apiVersion", "kind")}, "status": status}
        body["metadata"] = {"name": "c", "namespace": namespace}
        applied(server, body, path=path_of(document) + "/status")
        await found.until(lambda: (found.cache.cluster(key).get("status") or {}).get("phase") == "Pending")

        assert found.woken == []
        assert found.cache.fingerprint(key) == before


async def test_own_writes_are_there_at_once_and_wake_nobody(server, namespace):
    """What we wrote is in the next view without waiting for its event, and the event wakes nobody when it comes."""
    applied(server, cluster_document(namespace))
    key, ref = ClusterKey(namespace, "c"), ObjectRef.of(child(namespace))
    async with on_server(server, namespace) as found:
        found.woken.clear()
        for value in ("1", "2"):
            found.cache.observe_write(applied(server, child(namespace, a=value)))
            assert found.cache.view(key).objects[ref]["data"] == {"a": value}
        await past(found, server, namespace)
        uid = found.cache.view(key).objects[ref]["metadata"]["uid"]
        deleted(server, child(namespace))
        found.cache.observe_delete(ref, uid)
        assert found.cache.view(key).objects == {}
        await past(found, server, namespace)

        assert found.woken == []
        assert found.cache.view(key).objects == {}


async def test_a_deletion_that_is_held_up_comes_back(server, namespace):
    """What a finalizer keeps after our delete is known again, as being deleted, and wakes its cluster."""
    applied(server, cluster_document(namespace))
    held = child(namespace)
    held["metadata"]["finalizers"] = ["example.com/wait"]
    live = applied(server, held)
    key, ref = ClusterKey(namespace, "c"), ObjectRef.of(held)
    async with on_server(server, namespace) as found:
        found.woken.clear()
        server.call("DELETE", path_of(held))
        found.cache.observe_delete(ref, live["metadata"]["uid"])
        await found.until(lambda: found.woken)

        assert "deletionTimestamp" in found.cache.view(key).objects[ref]["metadata"]
        found.woken.clear()
        server.call("PATCH", path_of(held), {"metadata": {"finalizers": None}}, patch="merge")
        await found.until(lambda: found.woken)
        assert found.cache.view(key).objects == {}


async def test_shards_keep_to_themselves():
    """With a selector, a part of a cluster of another shard wakes nobody."""
    kube = ScriptedKube()
    async with running(kube) as found:
        kube.put(child("n", cluster="elsewhere"))
        kube.put(cluster_document("n"))
        await found.until(lambda: found.woken)

        assert found.woken == [ClusterKey("n", "c")]


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        (
            Selection(selector="shard=a"),
            {(None, "shard=a"), (None, OURS := "app.kubernetes.io/managed-by=chronik-operator")},
        ),
        (Selection(("a", "b")), {("a", ""), ("a", OURS), ("b", ""), ("b", OURS)}),
    ],
)
async def test_what_is_asked_for(scope, asked):
    """Each kind is asked for in each namespace by our label, clusters by the shard's, and nothing beyond the scope."""
    lists = []

    class Noting(ScriptedKube):
        async def list(self, kind, namespace, *, label_selector="", field_selector="", **more):
            lists.append((kind.name, namespace, label_selector, field_selector))
            return await super().list(kind, namespace, **more)

    async with running(Noting(), scope):
        pass

    ours = {(namespace, labels) for kind, namespace, labels, _ in lists if kind in {"ChronikCluster", "ConfigMap"}}
    assert ours == asked
    assert len(lists) == len(set(lists))
    assert {fields for kind, _, _, fields in lists if kind == "Secret"} == {"type!=helm.sh/release.v1"}
    assert [kind for kind, namespace, _, _ in lists if namespace is None and scope.namespaces] == []
    assert any(kind == STORAGE_CLASS.name for kind, *_ in lists) == (not scope.namespaces)


async def test_storage_classes():
    """Which StorageClasses expand is known cluster-wide, and a change of that wakes everybody."""
    kube = ScriptedKube()
    slow = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"}}
    kube.put(slow)
    kube.put(cluster_document("n"))
    key = ClusterKey("n", "c")
    async with running(kube) as found:
        before = found.cache.fingerprint(key)
        assert found.cache.expandable() == {"slow": False}
        found.woken.clear()
        kube.put(slow | {"allowVolumeExpansion": True})
        await found.until(lambda: found.woken)

        assert found.cache.expandable() == found.cache.view(key).expandable == {"slow": True}
        assert found.cache.fingerprint(key) != before


# --- what breaks ------------------------------------------------------------------------------------------------------


async def test_a_watch_that_expired_is_listed_again():
    """After 410, what vanished and what changed meanwhile is found by listing again, and wakes its cluster."""
    server = FakeServer.start()
    server.install([crd(offline.assets.schema(), offline.validator().rules)])
    namespace = server.new_namespace()
    try:
        for name in ("c", "d", "e"):
            applied(server, cluster_document(namespace, name))
            applied(server, child(namespace, f"{name}-config", name, a="1"))
        async with on_server(server, namespace) as found:
            await found.until(lambda: len(found.woken) >= 3)
            found.woken.clear()
            store, kind = server.api.store, server.api.store.kinds["", "configmaps"]

            def behind_its_back() -> None:
                store.cut_watches()
                store.drop(kind, store.get(kind, namespace, "c-config"))
                changed = store.get(kind, namespace, "d-config")
                store.put(kind, changed | {"data": {"a": "2"}})
                store.compact()

            server._in_loop(behind_its_back)
            await found.until(lambda: len(set(found.woken)) == 2)
            await past(found, server, namespace)

            assert set(found.woken) == {ClusterKey(namespace, "c"), ClusterKey(namespace, "d")}
            assert found.cache.view(ClusterKey(namespace, "c")).objects == {}
            assert found.relists.count(("ConfigMap", "expired")) == 1
    finally:
        server.stop()


async def test_a_broken_watch_goes_on_where_it_was():
    """After a broken watch nothing is listed again, and nothing is missed."""
    kube = ScriptedKube()
    kube.put(cluster_document("n"))
    async with running(kube) as found:
        listed = len(kube.lists)
        kube.break_off()
        first = kube.put(child("n", a="1"))
        await found.until(lambda: _data(found))
        kube.cut(None)
        kube.put(child("n", a="2"))
        await found.until(lambda: _data(found) == {"a": "2"})

        assert len(kube.lists) == listed
        assert found.relists == []
        assert ("ConfigMap", int(first["metadata"]["resourceVersion"])) in kube.watched_from


async def test_no_relist_storm():
    """A server that always says 410 is asked ever less often."""

    class Forgetful(ScriptedKube):
        async def watch(self, kind, namespace, **_):
            async for event in super().watch(kind, namespace, resource_version="0"):
                yield event

    time = FakeClock()
    cache = Cache(Forgetful(), Selection(("n",)), wake=lambda _: None, clock=time.clock)
    task = asyncio.create_task(cache.run())
    await cache.wait_synced()
    async with asyncio.timeout(STEP_SECONDS):
        while time.time < 600:  # noqa: ASYNC110
            await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert len(time.slept) / 13 < 60
    assert max(time.slept) > 15


@pytest.mark.parametrize("resource", ["v1/secrets", "storage.k8s.io/v1/storageclasses"])
async def test_forbidden_kinds_are_done_without(resource, caplog):
    """If Secrets or StorageClasses may not be listed, that is said once, and the operator does without them."""
    server = FakeServer.start()
    server.install([crd(offline.assets.schema(), offline.validator().rules)])
    server.fail_next("list", kmock.resource(resource), code=403, reason="Forbidden", times=3)
    try:
        async with connected(server) as kube:
            with caplog.at_level(logging.INFO, "chronik.operator.cache"):
                async with running(kube) as found:
                    assert found.cache.expandable() == {}
                    assert found.cache.secret_digest("n", "a") is None
                    await found.until(lambda: "listed again" in caplog.text)
    finally:
        server.stop()

    told = [record.message for record in caplog.records if "done without" in record.message]
    assert len(told) == 1
    assert resource.rpartition("/")[2] in told[0]


async def test_secrets_that_may_no_longer_be_seen():
    """Whether Secrets may be seen is told apart from whether there are any, and what was known stays known."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "data": {}}
    allowed = False

    class Strict(ScriptedKube):
        async def list(self, kind, namespace, **more):
            if kind == SECRET and not allowed:
                raise Forbidden("you may not", subject="Secret")
            return await super().list(kind, namespace, **more)

    kube = Strict()
    kube.put(secret)
    async with running(kube) as found:
        assert not found.cache.sees_secrets("n")
        allowed = True
        await found.until(lambda: found.cache.sees_secrets("n"))
        assert found.cache.secret_digest("n", "s")
        assert found.cache.secret_digest("n", "t") is None
        allowed = False
        kube.break_off()
        kube.put(secret)
        kube.compact()
        await found.until(lambda: not found.cache.sees_secrets("n"))
        assert found.cache.secret_digest("n", "s")


class Installing(ScriptedKube):
    """A server that knows no PodMonitors until they are installed."""

    installed = False

    async def list(self, kind, namespace, **more):
        """Refuse the kind until it is there."""
        if kind == POD_MONITOR and not self.installed:
            self.lists.append(kind.name)
            raise KindMissing("no such kind")
        return await super().list(kind, namespace, **more)


async def test_a_kind_that_is_not_installed_is_looked_for_while_a_cluster_waits_for_it(caplog):
    """Nobody wants it: it is asked for once. A cluster waits for it: it is found, and wakes everybody. Gone: known."""
    kube, key = Installing(), ClusterKey("n", "c")
    kube.put(cluster_document("n"))
    with caplog.at_level(logging.INFO, "chronik.operator.cache"):
        async with running(kube, Selection(("n",))) as found:
            assert found.cache.view(key).missing.keys() == {POD_MONITOR.id}
            assert not found.cache.trouble
            before = found.cache.fingerprint(key)
            for _ in range(200):
                await asyncio.sleep(0)
            assert kube.lists.count("PodMonitor") == 1

            found.cache.waits_for(key, {POD_MONITOR.id})
            await found.until(lambda: kube.lists.count("PodMonitor") > 3)
            kube.installed = True
            found.woken.clear()
            await found.until(lambda: found.woken)
            assert found.woken == [key]
            assert not found.cache.view(key).missing
            assert found.cache.fingerprint(key) != before

            kube.put(child("n") | {"apiVersion": POD_MONITOR.api_version, "kind": "PodMonitor"})
            await found.until(lambda: found.cache.view(key).objects)
            kube.installed = False
            kube.cut(KindMissing("no such kind"))
            await found.until(lambda: found.cache.view(key).missing)
            assert not found.cache.view(key).objects

    assert [each.message for each in caplog.records if "podmonitors" in each.message] == [
        "podmonitors in n are installed now",
        "podmonitors in n are listed again: KindNotInstalled",
    ]


async def test_no_answer_is_no_permission():
    """Secrets that may not be seen may not be seen either when the next list is not answered at all."""
    seen: list[bool] = []

    class Strict(ScriptedKube):
        async def list(self, kind, namespace, **more):
            if kind == SECRET:
                seen.append(found.cache.sees_secrets("n"))
                raise Forbidden("you may not") if len(seen) == 1 else Unreachable("no answer")
            return await super().list(kind, namespace, **more)

    async with running(Strict(), synced=False) as found:
        await found.until(lambda: len(seen) > 3)

    assert not any(seen)


async def test_a_forbidden_kind_is_waited_for(server, namespace, caplog):
    """Somebody who may list nothing has no caches, and is told so once, of the clusters: they come before the rest."""
    with caplog.at_level(logging.INFO, "chronik.operator.cache"):
        async with (
            connected(server, "nobody") as kube,
            running(kube, Selection((namespace,)), synced=False) as found,
        ):
            if not _refuses(server, namespace):
                pytest.skip("this server lets everybody in")
            await found.until(lambda: "cannot be listed" in caplog.text)
            await asyncio.sleep(0.3)

            assert not found.cache.synced
            assert "may not list chronikclusters" in found.cache.trouble
    told = [record.message for record in caplog.records if "cannot be listed" in record.message]
    assert len(told) == 1
    assert "may not list chronikclusters" in told[0]


def _refuses(server, namespace: str) -> bool:
    return server.call("GET", f"/api/v1/namespaces/{namespace}/configmaps", token="nobody").code == 403


async def test_a_missing_definition_is_waited_for(caplog):
    """Until its CRD is installed the operator says so, once, and then finds its clusters by itself."""
    server = FakeServer.start()
    try:
        namespace = server.new_namespace()
        async with connected(server) as kube, running(kube, Selection((namespace,)), synced=False) as found:
            await found.until(lambda: "waited for" in caplog.text)
            assert not found.cache.synced
            server.install([crd(offline.assets.schema(), offline.validator().rules)])
            await found.until(lambda: found.cache.synced)
            applied(server, cluster_document(namespace))
            await found.until(lambda: found.woken == [ClusterKey(namespace, "c")])
    finally:
        server.stop()

    assert len([record for record in caplog.records if "waited for" in record.message]) == 1


async def test_a_namespace_that_does_not_exist(server):
    """A namespace that is not there is empty; when it comes, its clusters are found."""
    name = "not-there-yet-" + server.new_namespace()
    async with connected(server) as kube, running(kube, Selection((name,))) as found:
        assert found.cache.clusters() == []
        assert server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).code == 201
        applied(server, cluster_document(name))
        await found.until(lambda: found.woken == [ClusterKey(name, "c")])


# --- our own writes, and others at the same time ----------------------------------------------------------------------


def _data(found: Running) -> Any:
    objects = found.cache.view(ClusterKey("n", "c")).objects
    return next((manifest["data"] for manifest in objects.values()), None)


async def test_a_write_that_carries_somebody_elses_change_wakes():
    """If the answer to our write shows what another did meanwhile, whose event will be ignored, the cluster wakes."""
    kube = ScriptedKube()
    document = kube.put(cluster_document("n"))
    kube.put(child("n", a="1"))
    async with running(kube) as found:
        found.woken.clear()
        edited = document | {"metadata": document["metadata"] | {"generation": 2}}
        kube.put(edited)
        found.cache.observe_write(kube.put(edited | {"status": {"phase": "Running"}}))
        assert found.woken == [ClusterKey("n", "c")]

        found.woken.clear()
        theirs = child("n", a="3")
        theirs["metadata"]["managedFields"] = [
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {}}}
        ]
        kube.put(theirs)
        found.cache.observe_write(kube.put(theirs | {"data": {"a": "1", "b": "2"}}))
        assert found.woken == [ClusterKey("n", "c")]


async def test_what_we_wrote_during_a_list_is_newer():
    """A list that was taken before our write, and comes after it, does not take the object away again."""
    kube = ScriptedKube()
    kube.put(cluster_document("n"))
    async with running(kube) as found:
        listed = kube.lists.count("ConfigMap")
        kube.put(cluster_document("n", "d"))  # so that the past has a beginning
        kube.compact()
        kube.break_off()
        while kube.lists.count("ConfigMap") == listed:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        found.cache.observe_write(kube.put(child("n", a="1")))
        for _ in range(50):
            assert _data(found) == {"a": "1"}
            await asyncio.sleep(0)

        assert ("ConfigMap", "expired") in found.relists


async def test_late_events_do_not_bring_back_what_we_deleted():
    """Between our delete and its event, events from before it come in: the object stays deleted, nobody wakes."""
    kube = ScriptedKube()
    kube.put(cluster_document("n"))
    first = kube.put(child("n", a="1"))
    async with running(kube) as found:
        found.woken.clear()
        kube.put(child("n", a="2"))
        found.cache.observe_delete(ObjectRef.of(first), first["metadata"]["uid"])
        for _ in range(50):
            assert _data(found) is None
            await asyncio.sleep(0)
        kube.drop(ObjectRef.of(first))
        kube.put(child("n", a="3"))
        await found.until(lambda: _data(found) == {"a": "3"})

        assert found.woken == [ClusterKey("n", "c")]


async def test_a_late_answer_does_not_bring_back_the_dead():
    """If somebody deleted what we wrote, and that was told before our answer came, it stays deleted."""
    kube = ScriptedKube()
    kube.put(cluster_document("n"))
    async with running(kube) as found:
        answer = kube.put(child("n", a="1"))
        await found.until(lambda: _data(found))
        kube.drop(ObjectRef.of(answer))
        await found.until(lambda: not _data(found))
        found.cache.observe_write(answer)

        assert _data(found) is None


async def test_events_of_an_earlier_object_are_ignored():
    """After we deleted and made an object anew, late events of the first one change nothing."""
    kube = ScriptedKube()
    kube.put(cluster_document("n"))
    first = kube.put(child("n", a="1"))
    async with running(kube) as found:
        found.woken.clear()
        kube.put(child("n", a="2"))
        uid = kube.drop(ObjectRef.of(first))
        found.cache.observe_delete(ObjectRef.of(first), uid)
        assert _data(found) is None
        found.cache.observe_write(kube.put(child("n", a="3")))
        for _ in range(50):
            await asyncio.sleep(0)
            assert _data(found) == {"a": "3"}

        assert found.woken == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["create", "update", "delete", "write", "remove", "snap", "end", "expire", "forget", "turn", "cluster"]
        ),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(max_examples=examples(150))
@given(STEPS)
def test_any_sequence_ends_as_a_fresh_list(steps):
    """Whatever happens and whatever breaks: in the end the cache is as a fresh one, and everybody was told."""
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int]]) -> None:
    kube = ScriptedKube()
    async with running(kube) as found:
        world = _World(kube, found.cache)
        for serial, (verb, number) in enumerate(steps):
            await getattr(world, verb)(number, serial)
            await _turns(number)
        await _turns(100)
        async with running(kube) as fresh:
            assert _versions(found.cache) == _versions(fresh.cache)
            assert sorted(found.cache.clusters()) == sorted(fresh.cache.clusters())
            for key in fresh.cache.clusters():
                assert found.cache.fingerprint(key) == fresh.cache.fingerprint(key) == world.seen[key]
                assert found.cache.view(key) == fresh.cache.view(key)


class _World:
    """What happens to a server, to its connections and to an operator that writes; `seen` is what was last told.

    Each method is a verb of `STEPS`.
    """

    def __init__(self, kube: ScriptedKube, cache: Cache) -> None:
        self.kube = kube
        self.cache = cache
        self.seen: dict[ClusterKey, Any] = {}
        cache._store._wake = lambda key: self.seen.__setitem__(key.place, cache.fingerprint(key.place))

    def _object(self, number: int, serial: int) -> tuple[ClusterKey, dict[str, Any]]:
        name = "cd"[number % 2]
        return ClusterKey("n", name), child("n", f"x{number}", name, a=str(serial))

    async def create(self, number: int, serial: int) -> None:
        _, manifest = self._object(number, serial)
        theirs = {"manager": "them", "operation": "Update", "fieldsV1": {"f:data": {f"f:{serial}": {}}}}
        manifest["metadata"]["managedFields"] = [theirs]
        self.kube.put(manifest)

    update = create

    async def delete(self, number: int, serial: int) -> None:
        ref = ObjectRef.of(self._object(number, serial)[1])
        if ref in self.kube.objects:
            self.kube.drop(ref)

    async def write(self, number: int, serial: int) -> None:
        """Write as the operator does; the answer takes a while, and others' fields stay theirs."""
        key, manifest = self._object(number, serial)
        known = self.kube.objects.get(ObjectRef.of(manifest), {"metadata": {}})
        manifest["metadata"]["managedFields"] = known["metadata"].get("managedFields", [])
        answer = self.kube.put(manifest)
        await _turns(number)
        informed = self.seen.get(key) == self.cache.fingerprint(key)
        self.cache.observe_write(answer)
        if informed:
            self.seen[key] = self.cache.fingerprint(key)

    async def remove(self, number: int, serial: int) -> None:
        """Delete as the operator does."""
        key, manifest = self._object(number, serial)
        ref = ObjectRef.of(manifest)
        if ref in self.kube.objects:
            uid = self.kube.drop(ref)
            await _turns(number)
            informed = self.seen.get(key) == self.cache.fingerprint(key)
            self.cache.observe_delete(ref, uid)
            if informed:
                self.seen[key] = self.cache.fingerprint(key)

    async def cluster(self, number: int, serial: int) -> None:
        document = cluster_document("n", "cd"[number % 2])
        ref = ObjectRef.of(document)
        if ref in self.kube.objects and number > 1:
            self.kube.drop(ref)
        else:
            document["metadata"]["generation"] = serial
            self.kube.put(document)

    async def snap(self, _number: int, _serial: int) -> None:
        self.kube.break_off()

    async def end(self, _number: int, _serial: int) -> None:
        self.kube.cut(None)

    async def expire(self, _number: int, _serial: int) -> None:
        self.kube.break_off()
        self.kube.compact()

    async def forget(self, _number: int, _serial: int) -> None:
        self.kube.compact()

    async def turn(self, _number: int, _serial: int) -> None:
        """Let time pass."""


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def _versions(cache: Cache) -> dict[ObjectRef, tuple[str, int]]:
    return {
        ref: (record.uid, record.version)
        for records in cache._store._records.values()
        for ref, record in records.items()
    }


@pytest.mark.parametrize("depth", [90, 150, 260, 1000])
def test_a_cluster_of_any_depth_is_kept(depth):
    """A ChronikCluster whose free values are nested as deep as can be read is kept, and is as valid as it was."""
    values: Any = {}
    for _ in range(depth - 1):
        values = {"a": values}
    document = yaml.safe_load((Path(__file__).parents[2] / "examples" / "minimal.yaml").read_text("utf-8"))
    document["metadata"] |= {"uid": "u", "resourceVersion": "1", "namespace": "default"}
    document["spec"]["templateValues"] = values
    kept = Packer(CLUSTER).pack(document).manifest
    problems = offline.validator().validate(kept, stored=True).problems

    assert [problem.path for problem in problems if problem.severity == "error"] == (
        [] if depth <= 100 else [("spec", "templateValues")]
    )
