"""What the operator may do is what it does, and nothing more: its rights against the audit log of a whole life."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from support import monitoring
from support.group_snapshots import install_groups
from support.kubelet import is_ready, say
from support.operators import (
    Namespace,
    condition,
    controllers,
    eventually,
    in_phase,
    rendered,
    running,
    small,
    with_condition,
)
from support.own_templates import CONFIG, folder, install, new_kind, texts
from support.recoveries import absent
from support.snapshots import Played, backup_of, install_snapshots
from support.volumes import Volumes

from chronik.kube import ConnectOptions
from chronik.manifest import BACKUP, CLAIM, CLUSTER, KIND_BY_NAME, POD, ObjectRef
from chronik.offline.template_sets import template_reader, template_set
from chronik.operator.cache.cache import Selection
from chronik.operator.rendering.feed import TemplatesFrom
from chronik.render.install import InstallOptions, TemplateSource, install_manifests
from chronik.render.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import ApiServer, Request

    from chronik.manifest import Manifest

pytestmark = pytest.mark.real  # rights are the real server's to judge

USER = "alice"
SHARD = {"rights": "examined"}
AUTOSCALED = {"searchNodes": {"minReplicas": 2, "maxReplicas": 4, "targetCpuUtilizationPercentage": 70}}
EAST = {"name": "east", "bootstrapServers": ["east:9092"], "topics": {"include": ["orders"]}}
FULL = {
    "searchNodes": 2,
    "autoscaling": AUTOSCALED,
    "podDisruptionBudget": {"maxUnavailable": 1},
    "replication": {"sources": [EAST]},
    "network": {"aliases": ["shared"]},
    "networkPolicy": {"enabled": True},
    "monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
}

# Rights that no request of a peaceful life shows, and why they are needed.
UNSEEN = {
    ("chronikclusters/finalizers", "update"): "admission asks for it where an owner reference blocks deletion",
    ("persistentvolumeclaims", "get"): "a claim that changed while it was being grown is read again",
}


UNSEEN_OF_BACKUPS = {
    ("chronikbackups/finalizers", "update"): "admission asks for it where an owner reference blocks deletion",
    ("volumesnapshots", "get"): "one that is there already when it is to be made is read",
    ("volumegroupsnapshots", "patch"): "server-side apply asks for it beside create",
    ("jobs", "patch"): "server-side apply asks for it beside create",
}


def rules(*, namespaced: str = "", templates: str | None = None, features: tuple[str, ...] = ()) -> list[Manifest]:
    """Return the rules that `chronik install` grants for the clusters themselves."""
    own = template_set(templates).own
    options = InstallOptions(watch=(namespaced,) if namespaced else (), own=own, features=features)
    made = install_manifests(options, Templates(template_reader(None), None), [])
    kind = "Role" if namespaced else "ClusterRole"
    return next(each["rules"] for each in made if (each["kind"], each["metadata"]["name"]) == (kind, options.name))


def granted(found: list[Manifest]) -> set[tuple[str, str]]:
    """Return resources and verbs."""
    return {(resource, verb) for rule in found for resource in rule["resources"] for verb in rule["verbs"]}


def grant(server: ApiServer, found: list[Manifest], namespace: str = "") -> None:
    """Give the user these rules, everywhere or in a namespace."""
    base = "/apis/rbac.authorization.k8s.io/v1"
    scope = f"{base}/namespaces/{namespace}" if namespace else base
    kind, plural = ("Role", "roles") if namespace else ("ClusterRole", "clusterroles")
    name, group = f"operator-{namespace or 'all'}", "rbac.authorization.k8s.io"
    subjects = [{"kind": "User", "name": USER, "apiGroup": group}]
    reference = {"kind": kind, "name": name, "apiGroup": group}
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    role = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "rules": found}
    binding = role | {"kind": f"{kind}Binding", "subjects": subjects, "roleRef": reference}
    del binding["rules"]
    for path, manifest in ((plural, role), (f"{plural[:-1]}bindings", binding)):
        answer = server.call("PATCH", f"{scope}/{path}/{name}", manifest, fieldManager="suite", force=True)
        assert answer.code in {200, 201}, answer.body
    _wait_granted(server, namespace)


@pytest.fixture(autouse=True)
def _takes_rights_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take back what was granted everywhere: the server is shared, and others rely on a user without rights."""
    yield
    for fixture in {"real_server", "real_cluster"} & {*request.fixturenames}:
        server = request.getfixturevalue(fixture)
        server.call("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/operator-all")
        _wait_granted(server, "", allowed=False)


def _wait_granted(server: ApiServer, namespace: str, *, allowed: bool = True) -> None:
    """Wait until the server goes by what was granted, or taken back: its authorizer hears of it by a watch."""
    attributes = {"verb": "list", "resource": "pods"} | ({"namespace": namespace} if namespace else {})
    review: Manifest = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    review["spec"] = {"user": USER, "resourceAttributes": attributes}
    path, deadline = "/apis/authorization.k8s.io/v1/subjectaccessreviews", time.monotonic() + 30
    while server.call("POST", path, review).body["status"]["allowed"] != allowed:
        assert time.monotonic() < deadline, "the server does not go by the rights"
        time.sleep(0.05)


@dataclass
class Life:
    """A cluster's life, from foreign objects in its way to its deletion, lived by an operator with certain rights."""

    place: Namespace
    document: Manifest = field(init=False)

    def __post_init__(self) -> None:
        self.document = small(self.place.name, **FULL)
        self.document["metadata"]["labels"] = SHARD
        self.document["spec"]["storage"]["retention"] = {"whenDeleted": "Delete", "whenScaled": "Retain"}

    async def live(self) -> None:
        """Live it."""
        place = self.place
        await place.secret("first")
        strangers = await self._strangers()
        await place.create(self.document)
        await in_phase(place, "c", "Failed")
        for ref in strangers:
            await place.delete(KIND_BY_NAME[ref.kind], ref.name)
        await place.change("c", podAnnotations={"looked": "again"})
        await in_phase(place, "c", "Running")
        await self._pods_missing()
        await place.secret("second")
        await self._leftover()
        await self._grown()
        await place.change("c", searchNodes=0, autoscaling=None, podDisruptionBudget=None, networkPolicy=None)
        await self.place.change("c", monitoring=None)
        await eventually(self._search_gone)
        await with_condition(place, "c", "Ready", "True")
        await self._claim("data-c-ingest-7", owned=False)
        await place.delete(CLUSTER, "c")
        await eventually(self._gone)

    async def _strangers(self) -> list[ObjectRef]:
        """Put somebody else's object in the way of each kind, one that has the wanted name and nothing of ours."""
        refs = {}
        for ref, manifest in rendered(self.document).items():
            if ref.kind not in refs:
                metadata = {"name": ref.name, "namespace": ref.namespace}
                await self.place.create(manifest | {"metadata": metadata})
                refs[ref.kind] = ref
        return list(refs.values())

    async def _pods_missing(self) -> None:
        """Let pods be missing for so long that it is asked why."""
        place, name = self.place, "c-controller"
        kind = KIND_BY_NAME["StatefulSet"]
        none = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 0)

        async def asked() -> bool:  # who plays the controllers may have been about to say that all are there
            await place.call("PATCH", place.path(kind, name, "status"), {"status": none}, patch="merge")
            found = await asyncio.to_thread(place.server.requests_of, place.name)
            return any((each.verb, each.resource, each.user) == ("list", "events", USER) for each in found)

        await eventually(asked)
        await place.roll_out(ObjectRef(kind.name, place.name, name))

    async def _leftover(self) -> None:
        """Leave a ConfigMap that an earlier version made, under a name that this one does not know."""
        cluster = await self.place.cluster("c")
        manifest = next(each for ref, each in rendered(cluster).items() if ref.kind == "ConfigMap")
        manifest["metadata"]["name"] = "c-config-of-old"
        path = self.place.path(KIND_BY_NAME["ConfigMap"], "c-config-of-old")
        await self.place.call("PATCH", path, manifest, fieldManager="chronik-operator")

        async def gone() -> bool:
            return await self.place.get(KIND_BY_NAME["ConfigMap"], "c-config-of-old") is None

        await eventually(gone)

    async def _grown(self) -> None:
        await self._claim("data-c-ingest-0")
        storage = self.document["spec"]["storage"] | {"size": "2Gi"}
        await self.place.change("c", storage=storage)

        async def large() -> bool:
            claim = await self.place.get(CLAIM, "data-c-ingest-0")
            live = await self.place.get(KIND_BY_NAME["StatefulSet"], "c-ingest")
            sizes = [each["spec"]["resources"]["requests"]["storage"] for each in (claim, *_templates(live)) if each]
            return sizes == ["2Gi", "2Gi"]

        await eventually(large)

    async def _claim(self, name: str, *, owned: bool = True) -> None:
        """Make a claim as the StatefulSet's controller would, and bind it."""
        labels = {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": "ingest"}
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "growing",
            "volumeName": f"volume-{name}",
        }
        metadata: dict[str, Any] = {"name": name, "namespace": self.place.name, "labels": labels}
        del owned
        await self.place.call("POST", self.place.path(CLAIM), {"metadata": metadata, "spec": spec})
        status = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
        await self.place.call("PATCH", self.place.path(CLAIM, name, "status"), status, patch="merge")

    async def _search_gone(self) -> bool:
        return not any("search" in ref.name for ref in await self.place.objects())

    async def _gone(self) -> bool:
        return await self.place.get(CLUSTER, "c") is None


def _templates(live: Manifest | None) -> list[Manifest]:
    return live["spec"]["volumeClaimTemplates"] if live else []


def used(requests: list[Request]) -> set[tuple[str, str]]:
    """Return which resources and verbs requests were about; an apply that made something needed create as well."""
    found = set()
    for request in requests:
        resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
        found.add((resource, request.verb))
        if request.verb == "patch" and request.code == 201:
            found.add((resource, "create"))
    return found


def make_class(server: ApiServer) -> None:
    """Make a StorageClass that can expand volumes."""
    made = {"metadata": {"name": "growing"}, "provisioner": "example.com/none", "allowVolumeExpansion": True}
    assert server.call("POST", "/apis/storage.k8s.io/v1/storageclasses", made).code in {201, 409}


async def lived(server: ApiServer, scope: Selection, place: Namespace) -> list[Request]:
    """Let a life be lived, and return what the operator asked of the server."""
    make_class(server)
    connect = ConnectOptions(kubeconfig=str(server.kubeconfig), context=USER)
    before = len([each for each in server.requests() if each.user == USER])
    with monitoring.installed(server):
        async with running(server, place.name, connect=connect, selection=scope), controllers(place):
            await Life(place).live()
            await asyncio.sleep(0.5)  # for Events that are still on their way
    return [each for each in server.requests() if each.user == USER][before:]


async def test_rights_are_what_is_needed(real_server):
    """In a whole life nothing is forbidden to the operator, and it uses every right that it is given."""
    found = rules()
    grant(real_server, found)
    place = Namespace(real_server, real_server.new_namespace())
    requests = await lived(real_server, Selection(selector="rights=examined"), place)

    assert [(each.verb, each.path) for each in requests if each.code == 403] == []
    assert granted(found) - used(requests) == set(UNSEEN)


async def test_namespaced_rights_are_what_is_needed(real_server):
    """Bound to a namespace, the operator asks for no object outside of it, and uses every right that it is given."""
    place = Namespace(real_server, real_server.new_namespace())
    found = rules(namespaced=place.name)
    grant(real_server, found, place.name)
    requests = await lived(real_server, Selection(namespaces=(place.name,)), place)

    assert [(each.verb, each.path) for each in requests if each.code == 403] == []
    assert {each.namespace for each in requests if not each.path.startswith("/openapi/")} == {place.name}
    assert granted(found) - used(requests) == set(UNSEEN)


async def test_rights_of_backups_are_what_is_needed(real_server, tmp_path):
    """With --features backups nothing is forbidden from the first backup to a recovery, and every right is used."""
    install_snapshots(real_server)
    install_groups(real_server)
    found = rules(features=("backups",))
    grant(real_server, found)
    place = Namespace(real_server, real_server.new_namespace())
    before = len(real_server.requests())
    scope = Selection(selector="rights=examined", features=frozenset({"backups"}))
    options = {"selection": scope, "backup_image": "chronik/operator:1", "backup_poll": 0.1}
    connect = ConnectOptions(kubeconfig=str(real_server.kubeconfig), context=USER)
    played = Played(place)
    played.play_groups()
    async with running(real_server, place.name, connect=connect, **options), controllers(place), played.playing():
        await _backed_up(place, played)
        await _recovered(place, played, Volumes(place, tmp_path))
    requests = [each for each in real_server.requests()[before:] if each.user == USER]

    assert [(each.verb, each.path) for each in requests if each.code == 403] == []
    extra = granted(found) - granted(rules())
    assert extra - used(requests) <= set(UNSEEN_OF_BACKUPS)


async def test_rights_of_rollouts_are_what_is_needed(real_cluster):
    """With --features rollouts nothing is forbidden in a canary that is taken back, and every right is used."""
    found = rules(features=("rollouts",))
    grant(real_cluster, found)
    place = Namespace(real_cluster, real_cluster.new_namespace())
    before = len(real_cluster.requests())
    scope = Selection((place.name,), features=frozenset({"rollouts"}))
    connect = ConnectOptions(kubeconfig=str(real_cluster.kubeconfig), context=USER)
    async with running(real_cluster, place.name, connect=connect, selection=scope):
        await _taken_back(place)
    requests = [each for each in real_cluster.requests()[before:] if each.user == USER]

    assert [(each.verb, each.path) for each in requests if each.code == 403] == []
    extra = granted(found) - granted(rules())
    assert extra - used(requests) == {("controllerrevisions", "delete")}, "which only more than ten specs ask for"


async def _taken_back(place: Namespace) -> None:
    """Have a canary of ingest and search nodes run, then another, and take that back; pods are ready all the time."""
    await place.secret("first")
    rollout = {"strategy": "Canary", "canary": {"steps": [{"pods": 1, "pause": {}}]}}
    await place.create(small(place.name, ingestNodes=2, searchNodes=2, rollout=rollout))

    async def until(phase: str, but: str = "") -> Manifest:
        async def there() -> Any:
            for pod in await place.list(POD):
                if not is_ready(pod):
                    await say(place, pod["metadata"]["name"], "True")
            found = (await place.cluster("c")).get("status") or {}
            ready = condition({"status": found}, "Ready").get("status") == "True"
            state = found.get("rollout") or {}
            there = state.get("phase") == phase and state.get("candidate") != but
            return state if there and (ready or phase != "Complete") else None

        return dict(await eventually(there, 90))

    await until("Complete")
    await place.change("c", image={"ingest": "chronik/ingest:2.0", "search": "chronik/search:2.0"})
    found = await until("Paused")
    await place.change("c", image={"ingest": "chronik/ingest:3.0", "search": "chronik/search:3.0"})
    found = await until("Paused", but=found["candidate"])
    annotations = {"chronik.stream/rollout": f"abort@{found['candidate']}"}
    await place.edit(CLUSTER, "c", {"metadata": {"annotations": annotations}})
    await until("Aborted")


async def _backed_up(place: Namespace, played: Played) -> None:
    """Have a schedule make a backup, let go of the one before, and delete what it made."""
    backup = {"destination": {"claim": {"name": "backups"}}}
    backup["schedules"] = [{"name": "often", "cron": "* * * * *", "keep": {"last": 1}}]
    await played.claim("c", "ingest", 0)
    document = small(place.name, backup=backup)
    document["metadata"]["labels"] = SHARD
    earlier = backup_of(place, "earlier")
    earlier["metadata"]["labels"] = {"chronik.stream/schedule": "often", **SHARD}
    await place.create(earlier)
    await place.launch(document)

    async def let_go() -> bool:
        names = {each["metadata"]["name"] for each in await place.list(BACKUP)}
        return bool(names) and "earlier" not in names

    await eventually(let_go, 150)


async def _recovered(place: Namespace, played: Played, volumes: Volumes) -> None:
    """Make a new cluster from a backup of a group of volumes, and delete that."""
    played.on_cut = volumes.cut
    await volumes.make_class()
    groups = {"volumes": {"method": "VolumeGroupSnapshot"}}
    await place.edit(CLUSTER, "c", {"spec": {"backup": groups}})
    await place.create(backup_of(place, "fresh") | {"metadata": {"name": "fresh", "labels": SHARD}})

    async def usable() -> bool:
        found = await place.get(BACKUP, "fresh")
        return bool(found and (found.get("status") or {}).get("usable"))

    await eventually(usable, 90)
    storage = {"backend": "local", "size": "1Gi", "storageClass": volumes.storage_class}
    bootstrap = {"recovery": {"from": {"backup": "fresh"}, "nodes": "More"}}
    document = small(place.name, "n", bootstrap=bootstrap, storage=storage)
    document["metadata"]["labels"] = SHARD
    async with volumes.playing():
        await place.create(document)
        await with_condition(place, "n", "Recovering", "False", "Recovered")
        await place.delete(BACKUP, "fresh")
        await absent(place, BACKUP, "fresh")


async def test_rights_to_kinds_of_templates(real_server, tmp_path):
    """With the rights of `install --templates` nothing about an added kind is forbidden, and every right is used."""
    place, kind = Namespace(real_server, real_server.new_namespace()), new_kind()
    await asyncio.to_thread(install, real_server, kind)
    templates = folder(tmp_path / "t", texts(kind))
    found = rules(namespaced=place.name, templates=templates)
    grant(real_server, found, place.name)
    connect = ConnectOptions(kubeconfig=str(real_server.kubeconfig), context=USER)
    stranger = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "c-ingest"}, "spec": {}}
    await place.call("POST", place.path(kind), stranger)

    async def spec() -> Any:
        live = await place.get(kind, "c-ingest")
        return live and live["spec"].get("size")

    async def is_one() -> bool:
        return await spec() == "one"

    async def is_gone() -> bool:
        return await place.get(kind, "c-ingest") is None

    async with running(real_server, place.name, connect=connect, templates=templates), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Failed")
        await place.delete(kind, "c-ingest")
        await eventually(is_one)
        await place.edit(kind, "c-ingest", {"spec": {"size": "x"}})
        await eventually(is_one)
    without = folder(tmp_path / "without", {"extra.yaml.j2": texts(kind)["extra.yaml.j2"]})
    async with running(real_server, place.name, connect=connect, templates=without), controllers(place):
        await eventually(is_gone)
    mine = [each for each in real_server.requests_of(place.name) if each.user == USER]

    assert [(each.verb, each.path) for each in mine if each.code == 403] == []
    used_of_it = {verb for resource, verb in used(mine) if resource == kind.plural}
    assert used_of_it == {verb for resource, verb in granted(found) if resource == kind.plural}


async def test_rights_to_a_configmap_of_templates(real_server):
    """An operator in one namespace reads templates from a ConfigMap in another, with rights to that ConfigMap alone."""
    place, home = (Namespace(real_server, real_server.new_namespace()) for _ in range(2))
    grant(real_server, rules(namespaced=place.name), place.name)
    options = InstallOptions(source=TemplateSource(home.name, "templates"))
    made = install_manifests(options, Templates(template_reader(None), None), [])
    (role,) = [each for each in made if each["kind"] == "Role" and each["metadata"]["name"].endswith("-templates")]
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}  # by which it is seen that rights are known
    grant(real_server, [*role["rules"], pods], home.name)
    data = {"extra.yaml.j2": CONFIG}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "templates"}, "data": data}
    await home.call("POST", home.path(KIND_BY_NAME["ConfigMap"]), body)
    connect = ConnectOptions(kubeconfig=str(real_server.kubeconfig), context=USER)
    source = TemplatesFrom(home.name, "templates")

    async def made_it() -> bool:
        return await place.get(KIND_BY_NAME["ConfigMap"], "c-extra") is not None

    async with running(real_server, place.name, connect=connect, templates_from=source), controllers(place):
        await place.create(small(place.name))
        await eventually(made_it)
    asked = [each for each in real_server.requests_of(home.name) if each.user == USER]
    assert {(each.verb, each.resource, each.code) for each in asked} == {
        ("list", "configmaps", 200),
        ("watch", "configmaps", 200),
    }
