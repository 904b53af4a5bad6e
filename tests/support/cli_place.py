"""A namespace of a test server, and the command line pointed at it: what tests of cluster commands are made of."""

from __future__ import annotations

import json
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from chronik.cli import main as cli
from chronik.manifest import CLUSTER_LABEL, FIELD_MANAGER, KIND_BY_NAME, KINDS, ObjectRef
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from support.api import Answer, ApiServer, Request

    from chronik.manifest import Manifest

SPEC: dict[str, Any] = {
    "controllers": 1,
    "ingestNodes": 2,
    "searchNodes": 1,
    "image": {component: f"chronik/{component}:1.4.2" for component in ("controller", "ingest", "search")},
    "resources": {
        component: {"cpu": "100m", "memory": "1Gi", "memoryLimit": "1Gi"}
        for component in ("controller", "ingest", "search")
    },
    "storage": {"backend": "local", "size": "10Gi"},
    "metastore": {"database": "postgres", "connection": {"host": "pg", "database": "d", "credentialsSecret": "pg"}},
}
"""A cluster that no rule warns about."""


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as data."""
        return json.loads(self.out)


def run(*arguments: str) -> Done:
    """Run a command in this process."""
    streams = [TextIOWrapper(BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        code = cli.run(arguments)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]  # as made above
    return Done(code, out, err)


@dataclass
class Place:
    """A namespace of a server, where a cluster `c` is applied from a file in `folder`."""

    server: ApiServer
    namespace: str
    folder: Path
    name: str = "c"
    context: str = "admin"
    _numbers: list[int] = field(default_factory=list)

    def document(self, **spec: Any) -> str:
        """Write the cluster's document, with some fields of its spec set, and return the file's name."""
        whole = {
            "apiVersion": "chronik.stream/v1alpha1",
            "kind": "ChronikCluster",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": SPEC | spec,
        }
        self._numbers.append(1)
        file = self.folder / f"{self.namespace}-{self.name}-{len(self._numbers)}.yaml"
        file.write_text(yaml.safe_dump(whole))
        return str(file)

    def rendered(self, **spec: Any) -> list[Manifest]:
        """Return the manifests of the cluster."""
        clusters, _ = offline.load_clusters([self.document(**spec)])
        return offline.render_clusters(clusters)

    def flags(self) -> list[str]:
        """Return the flags that lead to the server."""
        return ["--kubeconfig", str(self.server.kubeconfig), "--context", self.context]

    def apply(self, *arguments: str, **spec: Any) -> Done:
        """Run `chronik apply` on the cluster."""
        return run("apply", "-f", self.document(**spec), *self.flags(), *arguments)

    def diff(self, *arguments: str, **spec: Any) -> Done:
        """Run `chronik diff` on the cluster."""
        return run("diff", "-f", self.document(**spec), *self.flags(), *arguments)

    def operate(self, **spec: Any) -> None:
        """Leave the namespace as an operator would: with a ChronikCluster, and its objects below it."""
        document = yaml.safe_load(Path(self.document(**spec)).read_text())
        path = f"/apis/{document['apiVersion']}/namespaces/{self.namespace}/chronikclusters"
        answer = self.server.call("POST", path, document)
        assert answer.code == 201, answer.body
        (cluster,), _ = offline.load_clusters([self.document(**spec)])
        for manifest in offline.render_clusters([replace(cluster, uid=answer.body["metadata"]["uid"])]):
            name = manifest["metadata"]["name"]
            sent = self.call("PATCH", manifest["kind"], name, manifest, fieldManager=FIELD_MANAGER)
            assert sent.code == 201, sent.body

    def url(self, kind: str, name: str = "") -> str:
        """Return the path of an object of the namespace, or of a collection."""
        known = KIND_BY_NAME.get(kind)
        version, plural = (known.api_version, known.plural) if known else ("v1", f"{kind.lower()}s")
        base = f"{'/apis' if '/' in version else '/api'}/{version}/namespaces/{self.namespace}/{plural}"
        return f"{base}/{name}" if name else base

    def call(self, method: str, kind: str, name: str = "", body: Any = None, **options: Any) -> Answer:
        """Send one request as the admin."""
        return self.server.call(method, self.url(kind, name), body, **options)

    def edit(self, kind: str, name: str, patch: Any, manager: str = "kubectl-edit") -> None:
        """Merge a patch into an object, as somebody."""
        answer = self.call("PATCH", kind, name, patch, patch="merge", fieldManager=manager)
        assert answer.code == 200, answer.body

    def live(self) -> dict[ObjectRef, Manifest]:
        """Return the cluster's objects."""
        found = {}
        for kind in KINDS:
            answer = self.call("GET", kind.name, labelSelector=f"{CLUSTER_LABEL}={self.name}")
            for item in () if answer.code == 404 and kind.optional else answer.body["items"]:
                manifest = {"apiVersion": kind.api_version, "kind": kind.name} | item
                found[ObjectRef.of(manifest)] = manifest
        return found

    def asked(self) -> list[Request]:
        """Return the requests of chronik about the namespace."""
        return [each for each in self.server.requests_of(self.namespace) if each.user_agent.startswith("chronik")]

    def grant(self, user: str, *rules: dict[str, list[str]], proof: str) -> None:
        """Give a user rights, and wait until the proof, a path that is read, is allowed."""
        role = {"metadata": {"name": f"for-{user}"}, "rules": list(rules)}
        binding = {
            "metadata": {"name": f"for-{user}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"for-{user}"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        for kind, body in (("Role", role), ("RoleBinding", binding)):
            answer = self.call("POST", kind, body=body)
            assert answer.code == 201, answer.body
        deadline = time.monotonic() + 20
        while self.server.call("GET", proof, token=user).code == 403:
            assert time.monotonic() < deadline, "the rights were not granted in time"
            time.sleep(0.05)


def without_volatile(manifest: Manifest) -> Manifest:
    """Return a live object without what two servers, or two moments, always have differently."""
    metadata = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in {"uid", "resourceVersion", "creationTimestamp", "namespace"}
    }
    metadata["managedFields"] = sorted(
        ({key: value for key, value in entry.items() if key != "time"} for entry in metadata["managedFields"]),
        key=json.dumps,
    )
    return {**manifest, "metadata": metadata}


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command in a process of its own."""
    return {**os.environ, **more}
