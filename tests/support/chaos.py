"""Clusters that live the same life in several namespaces, and how that ended, so that ends can be compared.

Tests break the operator of one namespace meanwhile, and leave another's alone. `Controllers` plays what a bare API
server lacks: StatefulSets and Deployments that roll, autoscalers that scale, and claims for volumes.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.cli_place import SPEC
from support.operators import rendered

from chronik.manifest import CLAIM, CLUSTER, CLUSTER_LABEL, KIND_BY_NAME, KINDS, MANAGED_BY, SECRET, Kind
from chronik.operator.cache.packing import data_digest
from chronik.plan.rotation import rotation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.api import Answer, ApiServer, Request

    from chronik.manifest import Manifest

SCALER = {"minReplicas": 2, "maxReplicas": 5, "targetCpuUtilizationPercentage": 70}
SCALER_KIND = KIND_BY_NAME["HorizontalPodAutoscaler"]
SECRETS = {"first": {"password": "cA=="}, "second": {"password": "cQ=="}}
OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
CONFIG_HASH = "chronik.stream/config-hash"


def path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """Return the path of an object, or of a collection."""
    group = "apis" if "/" in kind.api_version else "api"
    parts = [f"/{group}/{kind.api_version}/namespaces/{namespace}/{kind.plural}", name, subresource]
    return "/".join(filter(None, parts))


class Fleet:
    """The same clusters in each of some namespaces, always edited alike."""

    def __init__(self, server: ApiServer, namespaces: Sequence[str], seed: int = 0) -> None:
        self.server = server
        self.namespaces = tuple(namespaces)
        self._random = random.Random(seed)
        self._serial = 0
        self.secret("pg")

    def secret(self, name: str) -> None:
        """Create a Secret in all namespaces."""
        for namespace in self.namespaces:
            secret = {"metadata": {"name": name}, "data": SECRETS["first"]}
            self._all_well(self.server.call("POST", path(SECRET, namespace), secret))

    def create(self, name: str, **spec: Any) -> None:
        """Create a cluster in all namespaces."""
        for namespace in self.namespaces:
            cluster = {
                "apiVersion": CLUSTER.api_version,
                "kind": CLUSTER.name,
                "metadata": {"name": name, "namespace": namespace},
                "spec": SPEC | spec,
            }
            self._all_well(self.server.call("PATCH", path(CLUSTER, namespace, name), cluster, fieldManager="kubectl"))

    def edit(self, name: str, spec: dict[str, Any]) -> None:
        """Change the spec of a cluster in all namespaces."""
        for namespace in self.namespaces:
            where = path(CLUSTER, namespace, name)
            self._all_well(self.server.call("PATCH", where, {"spec": spec}, patch="merge", fieldManager="kubectl-edit"))

    def rotate(self, state: str = "second", name: str = "pg") -> None:
        """Change a Secret in all namespaces, by default the one that all clusters use unless they say otherwise."""
        for namespace in self.namespaces:
            secret = {"data": SECRETS[state]}
            self._all_well(self.server.call("PATCH", path(SECRET, namespace, name), secret, patch="merge"))

    def delete(self, name: str) -> None:
        """Delete a cluster in all namespaces."""
        for namespace in self.namespaces:
            self._all_well(self.server.call("DELETE", path(CLUSTER, namespace, name)))

    def delete_all(self) -> None:
        """Delete all clusters that there are in all namespaces."""
        for name in self.clusters(self.namespaces[0]):
            self.delete(name)

    def step(self, names: Sequence[str]) -> None:
        """Do something at random to one of the clusters; what is being deleted is left alone."""
        name = self._random.choice(names)
        found = [self.server.call("GET", path(CLUSTER, namespace, name)) for namespace in self.namespaces]
        if all(answer.code == 404 for answer in found):
            retention = {"whenDeleted": self._random.choice(["Delete", "Retain"])}
            self.create(name, storage={**SPEC["storage"], "retention": retention})
        elif all(answer.code == 200 and "deletionTimestamp" not in answer.body["metadata"] for answer in found):
            if self._random.random() < 0.15:
                self.delete(name)
            else:
                self.edit(name, self._change())

    def _change(self) -> dict[str, Any]:
        self._serial += 1
        component = self._random.choice(["controller", "ingest", "search"])
        return self._random.choice(
            [
                {"image": {component: f"chronik/{component}:1.5.{self._serial}"}},
                {"metastore": {"connection": {"host": f"pg-{self._serial}"}}},
                {"ingestNodes": self._random.choice([1, 2, 3])},
                {"searchNodes": self._random.choice([0, 0, 1, 2])},
                {"autoscaling": {"ingestNodes": SCALER}},
                {"autoscaling": None},
                {"podDisruptionBudget": {"maxUnavailable": 1}},
                {"podDisruptionBudget": None},
                {"monitoring": {"prometheus": self._random.choice([True, False])}},
            ]
        )

    def clusters(self, namespace: str) -> dict[str, Manifest]:
        """Return the clusters of a namespace by name."""
        items = self.server.call("GET", path(CLUSTER, namespace)).body["items"]
        return {each["metadata"]["name"]: each for each in items}

    def all_running(self, namespace: str) -> bool:
        """Tell whether what there is runs as its last spec says, and nothing waits to go."""
        return all(
            (each.get("status") or {}).get("phase") == "Running"
            and each["status"]["observedGeneration"] == each["metadata"]["generation"]
            for each in self.clusters(namespace).values()
        )

    def _all_well(self, answer: Answer) -> None:
        assert answer.code < 300, answer.body


class Controllers(threading.Thread):
    """Plays StatefulSet, Deployment and HPA controllers in some namespaces while `playing`."""

    def __init__(self, server: ApiServer, namespaces: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._server, self._namespaces = server, namespaces
        self._ended = threading.Event()
        self._known: set[str] = set()

    @classmethod
    @contextmanager
    def playing(cls, server: ApiServer, *namespaces: str) -> Iterator[None]:
        """Play them as long as the block runs."""
        controllers = cls(server, namespaces)
        controllers.start()
        try:
            yield
        finally:
            controllers._ended.set()
            controllers.join()

    def run(self) -> None:
        """Bring everything to where its controller would, again and again."""
        while not self._ended.wait(0.2):
            try:
                for namespace in self._namespaces:
                    self._step(namespace)
            except OSError:  # the server is being restarted
                self._server.hang_up()

    def _step(self, namespace: str) -> None:
        going = {each["metadata"]["uid"] for each in self._items(CLUSTER, namespace) if _is_going(each)}
        for name in ("StatefulSet", "Deployment"):
            for each in self._items(KIND_BY_NAME[name], namespace):
                if {owner["uid"] for owner in each["metadata"]["ownerReferences"]}.isdisjoint(going):
                    self._claims(namespace, each)
                self._roll(KIND_BY_NAME[name], namespace, each)
        for scaler in self._items(SCALER_KIND, namespace):
            self._scale(namespace, scaler)

    def _scale(self, namespace: str, scaler: Manifest) -> None:
        """Scale to the most, if the autoscaler is still there after the count was read: a late write is refused."""
        target, most = scaler["spec"]["scaleTargetRef"], scaler["spec"]["maxReplicas"]
        where = path(KIND_BY_NAME[target["kind"]], namespace, target["name"], "scale")
        scale = self._server.call("GET", where)
        found = self._server.call("GET", path(SCALER_KIND, namespace, scaler["metadata"]["name"]))
        if scale.code == found.code == 200 and scale.body["spec"].get("replicas") != most:
            wanted = {**scale.body, "spec": {"replicas": most}}
            self._server.call("PUT", where, wanted, fieldManager="kube-controller-manager")

    def _items(self, kind: Kind, namespace: str) -> list[Manifest]:
        answer = self._server.call("GET", path(kind, namespace))
        return list(answer.body["items"]) if answer.code == 200 else []

    def _roll(self, kind: Kind, namespace: str, live: Manifest) -> None:
        generation, count = live["metadata"]["generation"], live["spec"].get("replicas", 1)
        counters = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
        status: dict[str, Any] = {"observedGeneration": generation, **dict.fromkeys(counters, count)}
        if kind.name == "StatefulSet":
            status |= dict.fromkeys(("updateRevision", "currentRevision"), f"{live['metadata']['name']}-{generation}")
        found = live.get("status") or {}
        if any((found.get(key) or 0) != value for key, value in status.items()):
            where = path(kind, namespace, live["metadata"]["name"], "status")
            self._server.call("PATCH", where, {"status": status}, patch="merge", fieldManager="kube-controller-manager")

    def _claims(self, namespace: str, live: Manifest) -> None:
        """Create volumes of a new StatefulSet's pods; two of them, so that it does not matter how many pods it has."""
        if live["metadata"]["uid"] in self._known:
            return
        self._known.add(live["metadata"]["uid"])
        for template in live["spec"].get("volumeClaimTemplates") or ():
            for number in range(2):
                name = f"{template['metadata']['name']}-{live['metadata']['name']}-{number}"
                claim = {
                    "metadata": {"name": name, "labels": live["spec"]["selector"]["matchLabels"]},
                    "spec": template["spec"],
                }
                self._server.call("POST", path(CLAIM, namespace), claim)


def _is_going(item: Manifest) -> bool:
    return "deletionTimestamp" in item["metadata"]


def end_state(server: ApiServer, namespace: str) -> dict[str, Any]:
    """Return all there is of chronik's in a namespace, without what two namespaces or two moments have differently.

    Uids and hashes of configuration are replaced by what they are the uid or the hash of, so an object whose owner is
    gone, or whose hash is not of its cluster's configuration, is not equal to one that is well.
    """
    clusters = server.call("GET", path(CLUSTER, namespace)).body["items"]
    names = {namespace: "<namespace>"}
    for each in clusters:
        name = each["metadata"]["name"]
        names[each["metadata"]["uid"]] = f"<uid of {name}>"
        manifests = rendered({"apiVersion": CLUSTER.api_version, "kind": CLUSTER.name} | each)
        hashes = {_config_hash(manifest) for manifest in manifests.values()} - {""}
        names |= dict.fromkeys(hashes, f"<configuration of {name}>")
        names |= _secret_digests(namespace, [*manifests.values()])
    found = {}
    for kind in (*KINDS, CLUSTER):
        selector = {"labelSelector": OURS} if kind in KINDS else {}
        answer = server.call("GET", path(kind, namespace), **selector)
        for item in () if answer.code == 404 and kind.optional else answer.body["items"]:
            text = json.dumps(_lasting(kind, item), sort_keys=True)
            for volatile, name in names.items():
                text = text.replace(volatile, name)
            found[f"{kind.name}/{item['metadata']['name']}"] = json.loads(text)
    return found


def _config_hash(manifest: Manifest) -> str:
    template = (manifest.get("spec") or {}).get("template") or {} if manifest["kind"] != "Role" else {}
    return str((template.get("metadata") or {}).get("annotations", {}).get(CONFIG_HASH, ""))


def _secret_digests(namespace: str, manifests: list[Manifest]) -> dict[str, str]:
    """Return what the digests are of that pods are made with."""
    found = {}
    for name, data in SECRETS.items():
        seen = data_digest({"metadata": {"namespace": namespace, "name": "pg"}, "data": data})
        digests = rotation(manifests, {}, {}, lambda _name, seen=seen: seen, lambda *_: True).digests
        found |= dict.fromkeys(digests.values(), f"<{name} secret>")
    return found


def claims(server: ApiServer, namespace: str, cluster: str = "") -> set[str]:
    """Return the names of claims, of one cluster or of all."""
    selector = {"labelSelector": f"app.kubernetes.io/instance={cluster}"} if cluster else {}
    items = server.call("GET", path(CLAIM, namespace), **selector).body["items"]
    return {each["metadata"]["name"] for each in items}


def _lasting(kind: Kind, item: Manifest) -> dict[str, Any]:
    kept = ("name", "labels", "annotations", "ownerReferences", "finalizers", "deletionTimestamp")
    metadata = {key: item["metadata"][key] for key in kept if key in item["metadata"]}
    metadata["annotations"] = {
        key: value for key, value in metadata.get("annotations", {}).items() if not key.startswith("deployment.")
    }
    lasting = {key: value for key, value in item.items() if key not in {"metadata", "status", "apiVersion", "kind"}}
    if kind == CLUSTER:
        lasting["status"] = _without_times(item.get("status"))
    for field in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
        (lasting.get("spec") or {}).pop(field, None)
    for port in (lasting.get("spec") or {}).get("ports") or ():
        port.pop("nodePort", None)
    lasting["managers"] = managers(item)
    return {"metadata": metadata, **lasting}


def managers(item: Manifest) -> list[list[Any]]:
    """Return which fields our field managers own."""
    entries = item["metadata"].get("managedFields", ())
    found = [
        [entry["manager"], entry.get("operation"), entry.get("subresource", ""), entry["fieldsV1"]]
        for entry in entries
        if entry["manager"].startswith("chronik-")
    ]
    return sorted(found, key=json.dumps)


def _without_times(status: Any) -> Any:
    if isinstance(status, dict):
        return {
            key: _without_times(value) for key, value in status.items() if not key.endswith(("Time", "lastUpdated"))
        }
    return [_without_times(each) for each in status] if isinstance(status, list) else status


def orphans(server: ApiServer, namespace: str) -> list[str]:
    """Return the objects of chronik's whose cluster is not there."""
    uids = {each["metadata"]["uid"] for each in server.call("GET", path(CLUSTER, namespace)).body["items"]}
    found = []
    for kind in KINDS:
        answer = server.call("GET", path(kind, namespace), labelSelector=CLUSTER_LABEL)
        for item in () if answer.code == 404 and kind.optional else answer.body["items"]:
            owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
            if not owners & uids:
                found.append(f"{kind.name}/{item['metadata']['name']}")
    return found


def difference(left: Any, right: Any, at: str = "") -> list[str]:
    """Return where two end states differ, a line each."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(left.keys() | right.keys())
        return [line for key in keys for line in difference(left.get(key), right.get(key), f"{at}.{key}")]
    return [] if left == right else [f"{at}: {left!r} != {right!r}"]


def operator_writes(server: ApiServer, namespace: str) -> list[Request]:
    """Return the writes of operators in a namespace, those that were refused too."""
    asked = server.requests_of(namespace)
    return [each for each in asked if each.writes and each.user_agent.startswith("chronik")]


def quiet(server: ApiServer, namespaces: Sequence[str], seconds: float = 1.0) -> bool:
    """Tell whether operators write nothing in namespaces for a while."""
    before = [len(operator_writes(server, each)) for each in namespaces]
    time.sleep(seconds)
    return [len(operator_writes(server, each)) for each in namespaces] == before
