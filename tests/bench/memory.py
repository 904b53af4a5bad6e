# ruff: noqa: T201  # a benchmark prints
"""How much memory the operator's caches take, for a fleet of 1,000 clusters: the whole process, held to its budget.

    python tests/bench/memory.py [--clusters 1000] [--example production]

One cluster is applied to the stand-in server, so its objects have defaults and owners of fields as real ones do; the
status of controllers is added, and pods and claims as the StatefulSet controller and a kubelet would make them. Then
the fleet is served, page by page, as so many copies of it, to a process of its own that runs nothing but the caches.
What that process takes at last, and took at most, is what counts; the caches' imports are told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BUDGET = 300  # MiB
PAGE = 500

sys.path.insert(0, str(ROOT / "tests"))

from support.fake_server.server import FakeServer  # noqa: E402  # found only now
from support.stub_server import StubServer  # noqa: E402

from chronik.api.crd import crd  # noqa: E402
from chronik.kube import ConnectOptions, connect  # noqa: E402
from chronik.manifest import CLAIM, CLUSTER, KINDS, POD, Kind  # noqa: E402
from chronik.offline import loading as offline  # noqa: E402

NAME, NAMESPACE, UID = "templatecluster", "templatenamespace", "00000000-aaaa-bbbb-cccc-"
TIME = "2026-01-01T00:00:00Z"
Object = dict[str, Any]


def one_cluster(example: str) -> dict[str, list[Object]]:
    """Return the live objects of one cluster by plural, as a server has them."""
    server = FakeServer.start()
    server.install([crd(offline.assets.schema(), offline.validator().rules)])
    server.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    try:
        document = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
        document["metadata"] |= {"name": NAME, "namespace": NAMESPACE}
        live = _applied(server, document, CLUSTER)
        cluster = offline.validator().validate(live).cluster
        assert cluster is not None
        objects = {CLUSTER.plural: [live | {"status": _cluster_status()}]}
        for manifest in offline.render_clusters([cluster]):
            kind = next(kind for kind in KINDS if kind.name == manifest["kind"])
            objects.setdefault(kind.plural, []).append(_settled(_applied(server, manifest, kind)))
    finally:
        server.stop()
    workloads = [*objects["statefulsets"], *objects.get("deployments", ())]
    replicas = [(workload, number) for workload in workloads for number in range(workload["spec"].get("replicas", 3))]
    objects[POD.plural] = [_pod(workload, number) for workload, number in replicas]
    objects[CLAIM.plural] = [_claim(workload, number) for workload, number in replicas]
    return objects


def _applied(server: FakeServer, manifest: Object, kind: Kind) -> Object:
    root = "apis" if "/" in kind.api_version else "api"
    path = f"/{root}/{kind.api_version}/namespaces/{NAMESPACE}/{kind.plural}/{manifest['metadata']['name']}"
    answer = server.call("PATCH", path, manifest, fieldManager="chronik-operator", force=True)
    assert answer.code in {200, 201}, answer.body
    return answer.body


def _owned(fields: Any) -> Any:
    return {f"f:{key}": _owned(part) for key, part in fields.items()} if isinstance(fields, dict) else {}


def _with_status(manifest: Object, manager: str, status: Object) -> Object:
    metadata = manifest["metadata"]
    entry = {"manager": manager, "operation": "Update", "apiVersion": manifest["apiVersion"], "time": TIME}
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": {"f:status": _owned(status)}, "subresource": "status"}
    return manifest | {"metadata": metadata | {"managedFields": [*metadata["managedFields"], entry]}, "status": status}


def _settled(manifest: Object) -> Object:
    """Add what a controller writes once all is well."""
    if manifest["kind"] not in {"StatefulSet", "Deployment"}:
        return manifest
    count, name = manifest["spec"].get("replicas", 3), manifest["metadata"]["name"]
    status: Object = {"observedGeneration": 1, "collisionCount": 0}
    status |= dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), count)
    revision = dict.fromkeys(("currentRevision", "updateRevision"), f"{name}-5d8c7bb7f9")
    return _with_status(manifest, "kube-controller-manager", status | revision)


def _cluster_status() -> Object:
    names = ("Ready", "ControllersReady", "IngestNodesReady", "SearchNodesReady", "Reconciling", "Stalled")
    moment = {
        "lastTransitionTime": TIME,
        "observedGeneration": 1,
        "message": "All Chronik Stream components are running",
    }
    conditions = [{"type": name, "status": "True", "reason": "AllComponentsReady", **moment} for name in names]
    nodes = [f"{NAME}-ingest-{number}.{NAME}-ingest.{NAMESPACE}.svc.cluster.local:9092" for number in range(3)]
    status = {"phase": "Running", "observedGeneration": 1, "lastUpdated": TIME, "controllers": nodes}
    return status | {"ingestNodes": nodes, "searchNodes": nodes[:1], "conditions": conditions}


def _made(workload: Object, name: str, kind: Kind, fields: Object) -> Object:
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": UID + "0" * 12,
        "resourceVersion": "77",
        **fields["metadata"],
    }
    metadata |= {"creationTimestamp": TIME}
    entry = {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": TIME}
    metadata["managedFields"] = [entry | {"fieldsType": "FieldsV1", "fieldsV1": _owned(fields)}]
    owner = {
        "apiVersion": "apps/v1",
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
        "controller": True,
    }
    metadata["ownerReferences"] = [owner | {"uid": UID + "1" * 12, "blockOwnerDeletion": True}]
    return {"apiVersion": kind.api_version, "kind": kind.name, **fields, "metadata": metadata}


def _pod(workload: Object, number: int) -> Object:
    name, template = f"{workload['metadata']['name']}-{number}", workload["spec"]["template"]
    labels = template["metadata"]["labels"] | {
        "controller-revision-hash": "c-5d8c7bb7f9",
        "apps.kubernetes.io/pod-index": "0",
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{name}"}}
    spec = template["spec"] | {"nodeName": f"node-{number}", "volumes": [*template["spec"]["volumes"], volume]}
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    conditions = [{"type": each, "status": "True", "lastProbeTime": None, "lastTransitionTime": TIME} for each in types]
    container = {"name": "a", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": TIME}}}
    status = {"phase": "Running", "startTime": TIME, "podIP": "10.1.2.3", "conditions": conditions}
    pod = _made(workload, name, POD, {"metadata": template["metadata"] | {"labels": labels}, "spec": spec})
    return _with_status(pod, "kubelet", status | {"containerStatuses": [container]})


def _claim(workload: Object, number: int) -> Object:
    labels = workload["spec"]["selector"]["matchLabels"]
    size = {"storage": "10Gi"}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "storageClassName": "fast"}
    fields = {"metadata": {"labels": labels}, "spec": spec | {"volumeMode": "Filesystem", "volumeName": UID}}
    claim = _made(workload, f"data-{workload['metadata']['name']}-{number}", CLAIM, fields)
    return _with_status(claim, "kube-controller-manager", {"phase": "Bound", "capacity": size})


class Fleet:
    """So many copies of a cluster, as pages of lists and as watches in which nothing happens."""

    def __init__(self, template: dict[str, list[Object]], clusters: int) -> None:
        self.count = clusters * sum(map(len, template.values()))
        self._texts = {plural: [json.dumps(each) for each in objects] for plural, objects in template.items()}
        self._clusters = clusters
        self.forever = asyncio.Event()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a page of a list, or a watch."""
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            await self.forever.wait()
            return response
        texts = self._texts.get(request.path.rpartition("/")[2], [])
        start, total = int(request.query.get("continue", "0")), len(texts) * self._clusters
        end = min(start + PAGE, total)
        items = ",".join(self._object(texts, number) for number in range(start, end))
        more = f',"continue":"{end}"' if end < total else ""
        return web.Response(text=f'{{"metadata":{{"resourceVersion":"99"{more}}},"items":[{items}]}}')

    def _object(self, texts: list[str], number: int) -> str:
        cluster, which = divmod(number, len(texts))
        text = texts[which].replace(NAME, f"cluster-{cluster:04}").replace(NAMESPACE, f"team-{cluster % 50:02}")
        return text.replace('"uid": "', f'"uid": "{cluster:04}-{which:02}-')


def resident() -> Iterator[tuple[str, float]]:
    """Yield what this process takes now, and took at most, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in {"VmRSS", "VmHWM"}:
            yield name, int(value.split()[0]) / 1024


async def cached(kubeconfig: str) -> None:
    """Run the caches until they are synced, and print what that took, as JSON."""
    from chronik.operator.cache.cache import Cache, Selection  # noqa: PLC0415  # counted from here

    async with connect(ConnectOptions(kubeconfig=kubeconfig)) as kube:
        cache = Cache(kube, Selection(), wake=lambda _: None)
        found: dict[str, Any] = {"before": dict(resident())["VmRSS"]}
        began, cpu = time.perf_counter(), time.process_time()
        task = asyncio.create_task(cache.run())
        await cache.wait_synced()
        found |= {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu} | dict(resident())
        keys = cache.clusters()
        began = time.perf_counter()
        views = [cache.view(key) for key in keys[:200]]
        found["view"] = (time.perf_counter() - began) / len(views) * 1000
        began = time.perf_counter()
        for key in keys:
            cache.fingerprint(key)
        found["fingerprint"] = (time.perf_counter() - began) / len(keys) * 1e6
        found["packed"] = (
            sum(len(each.packed) for kind in cache._store._records.values() for each in kind.values()) / 2**20
        )  # its own
        found["records"] = sum(map(len, cache._store._records.values()))
        task.cancel()
        await asyncio.wait([task])
    print(json.dumps(found))


async def measure(template: dict[str, list[Object]], clusters: int, folder: Path) -> dict[str, Any]:
    """Serve a fleet to another process, and return what that said of itself."""
    fleet = Fleet(template, clusters)
    async with StubServer(fleet.answer) as stub:
        kubeconfig = folder / "memory.kubeconfig"
        context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
        users = [{"name": "c", "user": {"token": "t"}}]
        config = {"current-context": "c", "contexts": [context], "users": users}
        kubeconfig.write_text(json.dumps(config | {"clusters": [{"name": "c", "cluster": {"server": stub.url}}]}))
        command = [sys.executable, __file__, "--cache", str(kubeconfig)]
        child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        output, _ = await child.communicate()
        fleet.forever.set()
    found: dict[str, Any] = json.loads(output)
    assert found["records"] == fleet.count, (found["records"], fleet.count)
    return found


def main() -> None:
    """Measure, print, and exit with 1 if the budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--example", default="production")
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cache:
        asyncio.run(cached(options.cache))
        return
    import tempfile  # noqa: PLC0415

    template = one_cluster(options.example)
    sizes = {plural: sum(len(json.dumps(each)) for each in objects) for plural, objects in template.items()}
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(template, options.clusters, Path(folder)))
    raw = options.clusters * sum(sizes.values()) / 2**20
    print(f"  {options.clusters} clusters like examples/{options.example}.yaml: {found['records']} objects")
    print(f"  as JSON {raw:,.0f} MiB, packed {found['packed']:,.1f} MiB")
    now, peak = found["VmRSS"], found["VmHWM"]
    print(f"  process before {found['before']:,.0f} MiB, synced {now:,.0f} MiB, at most {peak:,.0f} MiB")
    print(f"  synced in {found['seconds']:.1f} s ({found['cpu']:.1f} s of CPU)")
    print(f"  view of a cluster {found['view']:.2f} ms, fingerprint {found['fingerprint']:.1f} µs")
    within = peak <= BUDGET
    print(f"  budget {BUDGET} MiB: {'kept' if within else 'EXCEEDED'}, {peak / BUDGET:.2f} of it at most")
    sys.exit(not within)


if __name__ == "__main__":
    main()
