# ruff: noqa: T201  # a benchmark prints
"""How fast the operator is, beside a bare loop of the same PATCHes, on a real kube-apiserver; each in the same run.

    nox -s bench            or: python tests/bench/fleet.py [--clusters 300] [--fleet 500] [--edits 100]

The operator runs as a process of its own, as in a pod. The bare loop is aiohttp with as many requests in flight,
and has nothing else to do: it is what this machine and this API server can take. Both begin with an empty namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from chronik.api.crd import crd
from chronik.api.rules import RuleBook
from chronik.manifest import CLUSTER, CLUSTER_LABEL, KIND_BY_NAME
from chronik.offline import assets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.real_server import RealServer

    from chronik.manifest import Manifest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

EXAMPLE = ROOT / "examples" / "standard.yaml"
IN_FLIGHT = 32
CLUSTERS = f"/apis/{CLUSTER.api_version}"


@dataclass(frozen=True)
class Patch:
    """One server-side apply."""

    path: str
    query: dict[str, str]
    body: str


def documents(namespace: str, count: int) -> list[Manifest]:
    """Return ChronikClusters that differ in their names only."""
    base = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    return [base | {"metadata": {"name": f"c{number}", "namespace": namespace}} for number in range(count)]


def path_of(manifest: Manifest) -> str:
    """Return where a manifest is applied."""
    kind = CLUSTER if manifest["kind"] == CLUSTER.name else KIND_BY_NAME[manifest["kind"]]
    base = "apis" if "/" in kind.api_version else "api"
    metadata = manifest["metadata"]
    return f"/{base}/{kind.api_version}/namespaces/{metadata['namespace']}/{kind.plural}/{metadata['name']}"


def applies(manifests: list[Manifest]) -> list[Patch]:
    """Return the PATCHes that apply manifests."""
    return [Patch(path_of(each), {"fieldManager": "kubectl", "force": "true"}, json.dumps(each)) for each in manifests]


async def patch_all(server: RealServer, patches: list[Patch]) -> float:
    """Send PATCHes as fast as it goes, and return how many seconds it took."""
    todo = iter(patches)
    trust = ssl.create_default_context(cafile=str(server.ca))
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/apply-patch+yaml"}
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT, ssl=trust)
    async with aiohttp.ClientSession(server.url, connector=connector, headers=headers) as session:

        async def work() -> None:
            for patch in todo:
                async with session.patch(patch.path, data=patch.body, params=patch.query) as answer:
                    text = await answer.read()
                    assert answer.status < 300, text
                    json.loads(text)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return time.perf_counter() - began


class Watched:
    """What happens to the objects of a kind, and when: read beside everything else."""

    def __init__(self, server: RealServer, namespace: str, path: str) -> None:
        self.events: list[tuple[float, str, Manifest]] = []
        self._server, self._path = server, path.format(namespace=namespace)
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError), self._server.watch(self._path) as watch:  # a quiet one times out
            for event in watch:
                if event["type"] == "BOOKMARK":
                    continue
                with self._news:
                    self.events.append((time.perf_counter(), event["type"], event["object"]))
                    self._news.notify_all()

    def until(self, holds: Any, seconds: float = 300) -> float:
        """Wait until something holds of the events, and return when the last of them came."""
        with self._news:
            assert self._news.wait_for(lambda: holds(self.events), seconds), "it takes too long"
            return self.events[-1][0]


@contextmanager
def operator(server: RealServer, namespace: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the operator as a process."""
    options = ["--kubeconfig", str(server.kubeconfig), "--context", "admin", "--no-leader-elect", "-n", namespace]
    options += ["--health-port", "0", "--metrics-port", "0", "--host", "127.0.0.1"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with (Path("/tmp") / "chronik-bench.log").open("wb") as log:
        command = [sys.executable, "-m", "chronik", "reconcile", *options]
        process = subprocess.Popen(command, env=environment | {"CHRONIK_LOG": "warn"}, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def memory(process: subprocess.Popen[bytes]) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def seconds_of_cpu(process: subprocess.Popen[bytes]) -> float:
    """Return how much processor time a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Bench:
    """One server, and what is measured on it."""

    server: RealServer

    def first_apply(self, count: int) -> None:
        """Measure the first apply of many clusters by the operator, and by a bare loop that sends what it sent.

        The operator has more to do than to send: Events, and its watches, which the server serves with the same CPUs.
        """
        mine, bare = self._fleet(count), self._fleet(count)
        seen = Watched(self.server, mine, f"{CLUSTERS}/namespaces/{{namespace}}/{CLUSTER.plural}")
        with operator(self.server, mine) as process:
            ended = seen.until(lambda events: _in_phase(events, "Creating") >= count)
            used = seconds_of_cpu(process)
        took = ended - next(at for at, what, _ in seen.events if what == "MODIFIED")
        sent = self._sent(mine, bare)
        loop = asyncio.run(patch_all(self.server, sent))
        children = len([patch for patch in sent if CLUSTERS not in patch.path])
        print(f"  operator:  {children:,} objects, {len(sent):,} PATCHes in {took:.1f} s, {used:.1f} s of CPU")
        print(f"  bare loop: the same PATCHes in {loop:.1f} s, {len(sent) / loop:,.0f}/s")
        verdict("first apply", loop / took, 0.7)

    def _fleet(self, count: int) -> str:
        """Create clusters in a namespace of their own, and return its name."""
        namespace = self.server.new_namespace()
        self._secret(namespace)
        asyncio.run(patch_all(self.server, applies(documents(namespace, count))))
        return namespace

    def _sent(self, by: str, to: str) -> list[Patch]:
        """Return what the operator has sent to the objects of one namespace, as if it were for those of another."""
        uids = {ours: theirs for (_, ours), (_, theirs) in zip(self._uids(by), self._uids(to), strict=True)}
        ours = [each for each in self.server.requests_of(by) if each.user_agent.startswith("chronik")]

        def moved(text: str) -> str:
            return re.sub(r"[0-9a-f-]{36}", lambda found: uids.get(found[0], found[0]), text.replace(by, to))

        patches = [each for each in ours if each.verb == "patch"]
        return [Patch(moved(each.path), each.query, moved(json.dumps(each.body))) for each in patches]

    def _uids(self, namespace: str) -> list[tuple[str, str]]:
        found = self.server.call("GET", f"{CLUSTERS}/namespaces/{namespace}/{CLUSTER.plural}").body["items"]
        return sorted((each["metadata"]["name"], each["metadata"]["uid"]) for each in found)

    def steady(self, fleet: int, edits: int) -> None:
        """Measure an idle fleet, an edit of one of its clusters, and the repair of drift."""
        place = self._fleet(fleet)
        seen = Watched(self.server, place, f"{CLUSTERS}/namespaces/{{namespace}}/{CLUSTER.plural}")
        with operator(self.server, place):
            seen.until(lambda events: _in_phase(events, "Creating") >= fleet)
        before = len(self.server.requests_of(place))
        with operator(self.server, place) as process:
            time.sleep(10)
            used = seconds_of_cpu(process)
            time.sleep(75)
            idle = seconds_of_cpu(process) - used
            requests = self.server.requests_of(place)[before:]
            writes = [each for each in requests if each.writes]
            reads = sorted({(each.verb, each.resource) for each in requests if not each.writes})
            print(f"  restart over {fleet} clusters, and 85 s: {len(writes)} writes, {len(requests)} requests,")
            print(f"    of {len(reads)} sorts; start {used:.1f} s of CPU, then {100 * idle / 75:.1f} % of one core")
            print(f"  memory: {memory(process):.0f} MiB for {fleet} clusters, {20 * fleet:,} objects")
            spans = [self._edited(place, number % fleet) for number in range(edits)]
            report("edit of a spec to the last PATCH", spans, (0.1, 0.5))
            spans = [self._drifted(place, number % fleet) for number in range(edits)]
            report("drift to its repair", spans, (None, 1.0))

    def _edited(self, place: str, number: int) -> float:
        """Change the image of all components, and return the seconds until the last object has been written."""
        configs = f"/api/v1/namespaces/{place}/configmaps"
        selector = {"labelSelector": f"{CLUSTER_LABEL}=c{number}"}
        database = f"db-{time.monotonic_ns()}"
        change = {"spec": {"metastore": {"connection": {"database": database}}}}
        path = f"{CLUSTERS}/namespaces/{place}/{CLUSTER.plural}/c{number}"
        began = time.perf_counter()
        self.server.call("PATCH", path, change, patch="merge", fieldManager="kubectl")
        while database not in json.dumps(self.server.call("GET", configs, **selector).body):
            time.sleep(0.002)
        return time.perf_counter() - began

    def _drifted(self, place: str, number: int) -> float:
        path = f"/api/v1/namespaces/{place}/services/c{number}-ingest"
        uid = self.server.call("GET", path).body["metadata"]["uid"]
        began = time.perf_counter()
        self.server.call("DELETE", path)
        while self.server.call("GET", path).body.get("metadata", {}).get("uid") in {None, uid}:
            time.sleep(0.002)
        return time.perf_counter() - began

    def _secret(self, namespace: str) -> None:
        """Make the Secret that the example names; without it each cluster would have something to complain about."""
        secret = {"metadata": {"name": "chronik-postgres"}, "stringData": {"username": "u", "password": "p"}}
        self.server.call("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)


def _in_phase(events: list[tuple[float, str, Manifest]], phase: str) -> int:
    phases = {each["metadata"]["name"]: (each.get("status") or {}).get("phase") for _, _, each in events}
    return sum(each == phase for each in phases.values())


def report(what: str, spans: list[float], budgets: tuple[float | None, float | None]) -> None:
    """Print percentiles in milliseconds, and hold them against budgets in seconds."""
    cuts = quantiles(spans, n=100, method="inclusive")
    found = {"p50": cuts[49], "p99": cuts[98]}
    print(f"  {what}: " + ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in found.items()))
    for (name, value), budget in zip(found.items(), budgets, strict=True):
        if budget is not None:
            print(f"    {name} <= {1000 * budget:.0f} ms: {'met' if value <= budget else 'MISSED'}")


def verdict(what: str, ratio: float, budget: float) -> None:
    """Print a ratio beside the budget."""
    print(f"  {what}: {ratio:.2f} of the bare loop (budget {budget}): {'met' if ratio >= budget else 'MISSED'}")


def main() -> None:
    """Measure everything, if there is a server to measure on."""
    parser = argparse.ArgumentParser(description="How fast the operator is.")
    parser.add_argument("--clusters", type=int, default=300)
    parser.add_argument("--fleet", type=int, default=500)
    parser.add_argument("--edits", type=int, default=100)
    arguments = parser.parse_args()
    from support import real_server as real  # noqa: PLC0415  # the suite's tools are found only now

    if not real.available():
        print(f"operator: not measured: {real.MISSING}")
        return
    server = real.RealServer.start()
    try:
        server.install([crd(assets.schema(), RuleBook(assets.rules_text()))])
        server.wait_served(f"{CLUSTERS}/{CLUSTER.plural}")
        bench = Bench(server)
        bench.first_apply(arguments.clusters)
        bench.steady(arguments.fleet, arguments.edits)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
