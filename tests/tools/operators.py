"""Run the operator in the test's own process, and play the controllers that a bare API server lacks."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from chronik import offline
from chronik.kube import ConnectOptions
from chronik.manifest import CLUSTER, KIND_BY_NAME, POD, ClusterKey, Kind, ObjectRef
from chronik.operator import Operator, Options
from chronik.operator_cache import Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tools.api import ApiServer

    from chronik.manifest import Manifest

EXAMPLES = "examples"


@asynccontextmanager
async def running(server: ApiServer, namespace: str, **options: Any) -> AsyncIterator[Operator]:
    """Run an operator for one namespace while the block does, and end it as SIGTERM would."""
    defaults: dict[str, Any] = {
        "connect": ConnectOptions(kubeconfig=str(server.kubeconfig)),
        "scope": Scope(namespaces=(namespace,)),
        "namespace": namespace,
        "elect": False,
        "host": "127.0.0.1",
        "health_port": 0,
        "metrics_port": 0,
    }
    operator = Operator(Options(**(defaults | options)))
    task = asyncio.create_task(operator.run())
    try:
        yield operator
    finally:
        operator.stop.set()
        await asyncio.wait_for(task, 30)


def document(path: Path, namespace: str, **spec: Any) -> Manifest:
    """Return the ChronikCluster of an example, in a namespace, with some fields of its spec set."""
    import yaml  # noqa: PLC0415

    found = yaml.safe_load(path.read_text("utf-8"))
    found["metadata"]["namespace"] = namespace
    found["spec"] |= spec
    return dict(found)


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
        kind = next(
            each
            for each in (CLUSTER, POD, *KIND_BY_NAME.values(), Kind("v1", "Secret", "secrets", -1))
            if each.name == manifest["kind"]
        )
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

    async def edit(self, kind: Kind, name: str, patch: Any, *, how: str = "merge", manager: str = "kubectl-edit") -> Any:
        """Change an object as a person does."""
        return await self.call("PATCH", self.path(kind, name), patch, patch=how, fieldManager=manager)

    async def objects(self) -> dict[ObjectRef, Manifest]:
        """Return everything of the kinds that chronik renders."""
        found = {}
        for kind in KIND_BY_NAME.values():
            for item in (await self.call("GET", self.path(kind)))["items"]:
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
        for ref in await self.objects():
            if ref.kind in {"StatefulSet", "Deployment"}:
                await self.roll_out(ref)


async def eventually(holds: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Wait until an awaitable question is answered with something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = await holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)


async def in_phase(namespace: Namespace, name: str, phase: str, seconds: float = 15.0) -> Manifest:
    """Wait until a cluster is in a phase, and return it."""

    async def there() -> Manifest | None:
        found = await namespace.get(CLUSTER, name)
        return found if found and (found.get("status") or {}).get("phase") == phase else None

    return dict(await eventually(there, seconds))


def rendered(manifest: Manifest) -> dict[ObjectRef, Manifest]:
    """Return what a ChronikCluster renders to."""
    parsed = offline.law().parse(manifest)
    assert parsed.cluster, parsed.problems
    return {ObjectRef.of(each): each for each in offline.renderer()(parsed.cluster)}


def key_of(manifest: Manifest) -> ClusterKey:
    """Return how the operator names a cluster."""
    return ClusterKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
