"""Run the operator in the test's own process, and play the controllers that a bare API server lacks."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.pace import Pace

from chronik.apply.executor import Execution
from chronik.kube import ConnectOptions, connect
from chronik.manifest import (
    CLUSTER,
    EVENT,
    KIND_BY_NAME,
    KINDS,
    OTHER_KINDS,
    POD,
    ClusterKey,
    Kind,
    ObjectRef,
    lasting_name,
)
from chronik.offline import loading as offline
from chronik.operator import worker
from chronik.operator.app import Operator, Options, timestamp
from chronik.operator.cache.cache import Cache, Selection
from chronik.operator.context import ReconcileContext
from chronik.operator.reconcile import reconcile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    import pytest
    from support.api import ApiServer

    from chronik.api.spec import Cluster
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileResult

STATEFUL_SET, DEPLOYMENT = KIND_BY_NAME["StatefulSet"], KIND_BY_NAME["Deployment"]
SERVICE, SERVICE_ACCOUNT, CONFIG_MAP = (KIND_BY_NAME[name] for name in ("Service", "ServiceAccount", "ConfigMap"))
RESYNC = 600.0
_BY_NAME = {kind.name: kind for kind in (*KINDS, *OTHER_KINDS)}
CLAIM, SECRET, STORAGE_CLASS = (_BY_NAME[name] for name in ("PersistentVolumeClaim", "Secret", "StorageClass"))

PAUSE, MOST_PAUSE = 0.05, 0.15
"""Seconds between two looks at what is waited for: the longer it takes, the more seldom."""


@asynccontextmanager
async def running(server: ApiServer, namespace: str, **options: Any) -> AsyncIterator[Operator]:
    """Run an operator for one namespace while the block does, and end it as SIGTERM would.

    By itself it looks again after ten minutes only: what a test waits for has to come by an event.
    """
    defaults: dict[str, Any] = {
        "connect": ConnectOptions(kubeconfig=str(server.kubeconfig)),
        "selection": Selection(namespaces=(namespace,)),
        "namespace": namespace,
        "elect": False,
        "host": "127.0.0.1",
        "health_port": 0,
        "metrics_port": 0,
        "resync": RESYNC,
    }
    operator = Operator(Options(**(defaults | options)))
    task = asyncio.create_task(operator.run())
    try:
        yield operator
    finally:
        operator.stop.set()
        await asyncio.wait_for(task, 90)


def document(path: Path, namespace: str, **spec: Any) -> Manifest:
    """Return the ChronikCluster of an example, in a namespace, with some fields of its spec set."""
    import yaml  # noqa: PLC0415  # most tests have a document of their own

    found = yaml.safe_load(path.read_text("utf-8"))
    found["metadata"]["namespace"] = namespace
    found["spec"] |= spec
    return dict(found)


def small(namespace: str, name: str = "c", **spec: Any) -> Manifest:
    """Return a ChronikCluster of one controller and one ingest node, with some fields of its spec set."""
    base = {
        "controllers": 1,
        "ingestNodes": 1,
        "image": {part: f"chronik/{part}:1.0" for part in ("controller", "ingest", "search")},
        "storage": {"backend": "local", "size": "1Gi", "storageClass": "growing"},
        "metastore": {
            "database": "postgres",
            "connection": {"host": "db", "database": "chronik", "credentialsSecret": "credentials"},
        },
    }
    return {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "metadata": {"name": name, "namespace": namespace},
        "spec": base | spec,
    }


def newer(cluster: Cluster) -> list[Manifest]:
    """Render as a newer chronik does, whose templates would restart the pods of StatefulSets."""
    found = offline.renderer()(cluster)
    for each in found:
        if each["kind"] == STATEFUL_SET.name:
            each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 99
    return found


def earlier(cluster: Cluster) -> list[Manifest]:
    """Render as chronik did when all versions of a configuration were one ConfigMap, which changed."""
    found = offline.renderer()(cluster)
    (config,) = (each for each in found if each["kind"] == CONFIG_MAP.name)
    config.pop("immutable", None)
    text = json.dumps(found).replace(json.dumps(config["metadata"]["name"]), json.dumps(lasting_name(config)))
    return list(json.loads(text))


class Namespace:
    """A namespace as a person sees it who has one cluster in it; every call is one request."""

    def __init__(self, server: ApiServer, name: str) -> None:
        self.server = server
        self.name = name

    def path(self, kind: Kind, name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of the collection."""
        group = "apis" if "/" in kind.api_version else "api"
        parts = [f"/{group}/{kind.api_version}/namespaces/{self.name}/{kind.plural}", name, subresource]
        return "/".join(filter(None, parts))

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send a request beside the event loop that the operator runs in; return the body of a good answer."""
        answer = await asyncio.to_thread(self.server.call, method, path, body, **options)
        assert answer.code < 300, (method, path, answer.body)
        return answer.body

    async def create(self, manifest: Manifest) -> Manifest:
        """Apply a manifest as kubectl would."""
        kind = _BY_NAME[manifest["kind"]]
        path = self.path(kind, manifest["metadata"]["name"])
        return dict(await self.call("PATCH", path, manifest, fieldManager="kubectl", force=True))

    async def get(self, kind: Kind, name: str) -> Manifest | None:
        """Return an object, or None."""
        answer = await asyncio.to_thread(self.server.call, "GET", self.path(kind, name))
        return answer.body if answer.code == 200 else None

    async def cluster(self, name: str) -> Manifest:
        """Return a ChronikCluster."""
        found = await self.get(CLUSTER, name)
        assert found is not None
        return found

    async def edit(self, kind: Kind, name: str, patch: Any, *, manager: str = "kubectl-edit") -> Any:
        """Change an object as a person does, with a merge patch."""
        return await self.call("PATCH", self.path(kind, name), patch, patch="merge", fieldManager=manager)

    async def delete(self, kind: Kind, name: str, propagation: str = "Background") -> None:
        """Delete an object."""
        await self.call("DELETE", self.path(kind, name), {"propagationPolicy": propagation})

    async def list(self, kind: Kind) -> list[Manifest]:
        """Return all objects of a kind."""
        return list((await self.call("GET", self.path(kind)))["items"])

    async def change(self, name: str, **spec: Any) -> Manifest:
        """Change fields of a ChronikCluster's spec; None takes one away."""
        return dict(await self.edit(CLUSTER, name, {"spec": spec}))

    async def secret(self, value: str, name: str = "credentials") -> None:
        """Write a Secret."""
        data = {key: base64.b64encode(value.encode()).decode() for key in ("username", "password")}
        metadata = {"name": name, "namespace": self.name}
        await self.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    async def launch(self, manifest: Manifest | None = None, **spec: Any) -> Manifest:
        """Create a cluster, by default a small one, and have it Running: an operator must be there."""
        manifest = manifest or small(self.name, **spec)
        name = manifest["metadata"]["name"]
        await self.secret("first")
        await self.create(manifest)
        await in_phase(self, name, "Creating")
        await self.roll_out_all()
        return await in_phase(self, name, "Running")

    async def events(self) -> dict[str, str]:
        """Return the Events by reason, with their type and message."""
        return {each["reason"]: f"{each['type']}: {each['message']}" for each in await self.list(EVENT)}

    async def pod(self, component: str, ordinal: int, *, ready: bool = True, held: bool = False) -> str:
        """Create a pod as its workload's controller would, or say whether it is ready; `held` by a finalizer."""
        workload = DEPLOYMENT if component == "search" else STATEFUL_SET
        owner = await self.get(workload, f"c-{component}")
        assert owner is not None
        name = f"c-{component}-{ordinal}"
        labels = owner["spec"]["template"]["metadata"]["labels"]
        finalizers = ["example.com/kubelet"] if held else []
        metadata = {"name": name, "namespace": self.name, "labels": labels, "finalizers": finalizers}
        spec = {"containers": [{"name": component, "image": "x"}]}
        await self.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"status": {"phase": "Running", "conditions": conditions}}
        await self.call("PATCH", self.path(POD, name, "status"), status, patch="merge")
        return name

    async def asked(self) -> list[tuple[str, str]]:
        """Return what the operator has asked so far, as verb and resource, but for Events, oldest first."""
        return [(each.verb, each.resource) for each in await asyncio.to_thread(self._asked)]

    async def written(self) -> list[tuple[str, str, str]]:
        """Return what the operator has written so far, Events aside: resource, name and subresource."""
        found = await asyncio.to_thread(self._asked)
        return [(each.resource, each.name, each.subresource) for each in found if each.writes]

    def _asked(self) -> list[Any]:
        found = self.server.requests_of(self.name)
        people = ("suite", "kubectl")
        return [each for each in found if not each.user_agent.startswith(people) and each.resource != "events"]

    async def objects(self) -> dict[ObjectRef, Manifest]:
        """Return everything of the kinds that chronik renders."""
        found = {}
        for kind in KIND_BY_NAME.values():
            answer = await asyncio.to_thread(self.server.call, "GET", self.path(kind))
            assert answer.code == 200 or (answer.code == 404 and kind.optional), answer.body
            for item in answer.body["items"] if answer.code == 200 else ():
                manifest = {"apiVersion": kind.api_version, "kind": kind.name} | item
                found[ObjectRef.of(manifest)] = manifest
        return {ref: each for ref, each in found.items() if ref.name not in {"default", "kube-root-ca.crt"}}

    async def versions(self) -> dict[str, str]:
        """Return the resource version of everything, the clusters included: equal means that nothing was written."""
        clusters = (await self.call("GET", self.path(CLUSTER)))["items"]
        found = [*(await self.objects()).values(), *clusters]
        return {f"{each.get('kind')}/{each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in found}

    async def roll_out(self, ref: ObjectRef, *, ready: int | None = None, updated: int | None = None) -> None:
        """Say, as its controller would, how far a workload is: by default, all pods are there and ready."""
        kind = KIND_BY_NAME[ref.kind]
        live = await self.get(kind, ref.name)
        assert live is not None
        count = live["spec"].get("replicas", 1)
        revision = f"{ref.name}-{live['metadata']['generation']}"
        ready = count if ready is None else ready
        done = ready == count and updated is None
        status: dict[str, Any] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": count,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": count if updated is None else updated,
        }
        if ref.kind == "StatefulSet":
            earlier = (live.get("status") or {}).get("currentRevision") or revision
            status |= {"updateRevision": revision, "currentRevision": revision if done else earlier}
        path = self.path(kind, ref.name, "status")
        await self.call("PATCH", path, {"status": status}, patch="merge", fieldManager="kube-controller-manager")

    async def roll_out_all(self) -> None:
        """Bring all workloads to where their controllers would."""
        for ref in await self.workloads():
            await self.roll_out(ref)

    async def workloads(self) -> dict[ObjectRef, Manifest]:
        """Return all StatefulSets and Deployments."""
        found = {}
        for kind in (STATEFUL_SET, DEPLOYMENT):
            for each in await self.list(kind):
                found[ObjectRef(kind.name, self.name, each["metadata"]["name"])] = each
        return found


async def eventually(holds: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Wait until an awaitable question is answered with something true, and return that."""
    began = time.monotonic()
    while True:
        found = await holds()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s"
        await asyncio.sleep(min(MOST_PAUSE, PAUSE + waited / 10))  # a real server works 6 ms for each question


async def in_phase(namespace: Namespace, name: str, phase: str, seconds: float = 90.0) -> Manifest:
    """Wait until a cluster is in a phase, and return it."""
    status: Manifest = {}

    async def there() -> Manifest | None:
        found = await namespace.get(CLUSTER, name)
        status.clear()
        status.update((found or {}).get("status") or {})
        return found if status.get("phase") == phase else None

    try:
        return dict(await eventually(there, seconds))
    except AssertionError as error:
        raise AssertionError(f"{error} {phase}: {status}") from None


@contextmanager
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[ClusterKey, ReconcileResult]]]:
    """List the passes that operators of this process end while the block runs, with how they ended."""
    ended: list[tuple[ClusterKey, ReconcileResult]] = []

    async def listed(key: ClusterKey, context: Any) -> ReconcileResult:
        outcome = await reconcile(key, context)
        ended.append((key, outcome))
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(worker, "reconcile", listed)
        yield ended


@asynccontextmanager
async def world_of(
    place: Namespace, *, selection: Selection | None = None, **parts: Any
) -> AsyncIterator[ReconcileContext]:
    """Give a world to call `reconcile` in by hand, with caches that are kept up to date; `parts` replace its own."""
    async with connect(ConnectOptions(kubeconfig=str(place.server.kubeconfig))) as kube:
        cache = Cache(kube, selection or Selection(namespaces=(place.name,)), wake=lambda _key: None)
        following = asyncio.create_task(cache.run())
        await cache.wait_synced()
        world = ReconcileContext(
            kube=kube,
            cache=cache,
            validator=offline.validator(),
            render=offline.renderer(),
            now=timestamp,
            execution=Execution(kube=kube),
        )
        try:
            yield replace(world, **parts)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def quiet(ended: list[Any], seconds: float = 0.25) -> None:
    """Wait until no pass has ended for some time."""
    count = -1
    while count != len(ended):
        count = len(ended)
        await asyncio.sleep(seconds)


@asynccontextmanager
async def controllers(place: Namespace) -> AsyncIterator[None]:
    """Roll out whatever is new, as the controllers of workloads would, while the block runs."""

    async def play() -> None:
        pace = Pace()
        while True:
            found = await place.workloads()
            for ref, live in found.items():
                if (live.get("status") or {}).get("observedGeneration") != live["metadata"]["generation"]:
                    with suppress(AssertionError):  # it was deleted a moment ago
                        await place.roll_out(ref)
            await pace.rest(found.values())

    playing = asyncio.create_task(play())
    try:
        yield
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


@asynccontextmanager
async def watched(place: Namespace, kind: Kind) -> AsyncIterator[list[Manifest]]:
    """List every state that objects of a kind are in from here to the end of the block, as a watch tells it."""
    states: list[Manifest] = []

    async def follow(kube: Kube, version: str) -> None:
        async for event in kube.watch(kind, place.name, resource_version=version):
            states.extend([event.object] if event.type in {"ADDED", "MODIFIED"} else [])

    async with connect(ConnectOptions(kubeconfig=str(place.server.kubeconfig))) as kube:
        listing = await kube.list(kind, place.name)
        following = asyncio.create_task(follow(kube, listing.resource_version))
        try:
            yield states
            await asyncio.sleep(0.2)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def condition(cluster: Manifest, kind: str) -> Manifest:
    """Return a condition of a cluster, or an empty one."""
    found = (cluster.get("status") or {}).get("conditions") or ()
    return next((dict(each) for each in found if each["type"] == kind), {})


async def with_condition(place: Namespace, name: str, kind: str, *said: str) -> Manifest:
    """Wait until a condition has this status and, if given, this reason, and return the cluster."""

    async def there() -> Manifest | None:
        found = await place.get(CLUSTER, name)
        now = condition(found or {}, kind)
        return found if (now.get("status"), now.get("reason"))[: len(said)] == said else None

    return dict(await eventually(there))


def rendered(manifest: Manifest) -> dict[ObjectRef, Manifest]:
    """Return what a ChronikCluster renders to."""
    validated = offline.validator().validate(manifest)
    assert validated.cluster, validated.problems
    return {ObjectRef.of(each): each for each in offline.renderer()(validated.cluster)}


def key_of(manifest: Manifest) -> ClusterKey:
    """Return how the operator names a cluster."""
    return ClusterKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
