"""What the plan takes for granted about a real kube-apiserver, asked of one.

Edits and applies are dry runs wherever possible: the server then answers with the object, `managedFields` included, as
it would be, so every field of a large object can be tried in turn.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from support.plan_world import writes
from support.recorded import FILES, at, recorded, with_value

from chronik.manifest import KIND_BY_NAME, KINDS, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import Apply, Create, GrowClaim, Prune, Recreate, TransferOwnership
from chronik.plan.conflicts import field_conflicts, immutable_differences
from chronik.plan.drift import applied_fields, walk
from chronik.plan.managed_fields import leaves, node_at
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.api import ApiServer

    from chronik.plan.actions import Action

pytestmark = pytest.mark.real  # only the real server has Kubernetes' own schema, defaults and validation
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
some_leaves = pytest.mark.parametrize(
    ("path", "step"),
    [
        pytest.param(path, step, id=f"{path.stem}{'' if step == 1 else f'-every-{step}'}", marks=marks)
        for path in FILES
        for step, marks in ([(4, []), (1, pytest.mark.slow)] if path.stem == "statefulset" else [(1, [])])
    ],
)
"""Each field of a recording; of the StatefulSet, which has hundreds, every fourth by default."""

OURS = "chronik-operator"
# What the server picks for a Service, node ports included.
RANDOM = {"clusterIP", "clusterIPs", "healthCheckNodePort", "ports"}


@dataclass(frozen=True)
class Namespace:
    """One namespace of a server, spoken to in references and manifests."""

    server: ApiServer
    name: str

    def url(self, ref: ObjectRef) -> str:
        """Return the path of an object."""
        kind = KIND_BY_NAME.get(ref.kind)
        version, plural = (kind.api_version, kind.plural) if kind else ("v1", "persistentvolumeclaims")
        return f"{'/apis' if '/' in version else '/api'}/{version}/namespaces/{self.name}/{plural}/{ref.name}"

    def apply(self, manifest: dict[str, Any], manager: str = OURS, **options: Any) -> Any:
        """Apply, and return the answer."""
        return self.server.call("PATCH", self.url(ObjectRef.of(manifest)), manifest, fieldManager=manager, **options)

    def applied(self, manifest: dict[str, Any], manager: str = OURS, **options: Any) -> dict[str, Any]:
        """Apply, and return the object."""
        answer = self.apply(manifest, manager, **options)
        assert answer.code in {200, 201}, answer.body
        return answer.body

    def edit(self, ref: ObjectRef, patch: Any, manager: str, how: str = "json", **options: Any) -> Any:
        """Patch an object as somebody else, and return the answer."""
        return self.server.call("PATCH", self.url(ref), patch, patch=how, fieldManager=manager, **options)

    def observed(self) -> dict[ObjectRef, dict[str, Any]]:
        """Return all objects of the kinds that chronik renders."""
        found = {}
        for kind in KINDS:
            base = self.url(ObjectRef(kind.name, self.name, "")).rstrip("/")
            answer = self.server.call("GET", base)
            for item in () if answer.code == 404 and kind.optional else answer.body["items"]:
                manifest = {"apiVersion": kind.api_version, "kind": kind.name} | item
                found[ObjectRef.of(manifest)] = manifest
        return found

    def carry_out(self, action: Action) -> None:
        """Do what an action says."""
        url = self.url(action.ref)
        match action:
            case Create(manifest=manifest):
                self.applied(manifest)
            case Apply(manifest=manifest):
                self.applied(manifest, force=action.force)
            case TransferOwnership(manifest=manifest, manager=manager):
                self.applied(manifest, manager)
            case Prune(uid=uid):
                assert self.server.call("DELETE", url, {"preconditions": {"uid": uid}}).code == 200
            case GrowClaim(storage=storage):
                patch = {"spec": {"resources": {"requests": {"storage": storage}}}}
                assert self.edit(action.ref, patch, OURS, "merge").code == 200
            case Recreate(manifest=manifest, propagation=propagation):
                options = {"preconditions": {"uid": action.uid}, "propagationPolicy": propagation}
                assert self.server.call("DELETE", url, options).code == 200
                until(lambda: self.server.call("GET", url).code == 404)
                self.applied(manifest)
            case _:
                raise AssertionError(action)

    def settle(
        self, desired: list[dict[str, Any]], context: Callable[[], PlanContext], passes: int = 4
    ) -> list[Action]:
        """Carry plans out until one has nothing to do, and return everything that was done."""
        done: list[Action] = []
        for _ in range(passes):
            todo = writes(plan(desired, self.observed(), context()))
            if not todo:
                return done
            for action in todo:
                self.carry_out(action)
            done += todo
        raise AssertionError(f"still something to do: {todo}")


def until(happened, seconds: float = 30) -> None:
    """Wait for something, or fail."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def place(real_server) -> Namespace:
    """Return a fresh namespace of a server on which no controllers run."""
    return Namespace(real_server, real_server.new_namespace())


def moved(manifest, namespace):
    """Return a recorded manifest in another namespace."""
    return json.loads(json.dumps(manifest).replace('"streaming"', json.dumps(namespace)))


def applied(path, namespace):
    """Return what was applied, in another namespace, and without its owner, which no server has."""
    manifest = moved(recorded(path)[0], namespace)
    manifest["metadata"].pop("ownerReferences", None)
    return manifest


def recording(stem):
    """Return the file of a recording."""
    return next(file for file in FILES if file.stem == stem)


# --- the walk ---------------------------------------------------------------------------------------------------------


@files
def test_recordings_are_true(path, place):
    """A server still records and shows what it did when it was recorded, and the walk over it is clean."""
    desired, then = (moved(each, place.name) for each in recorded(path))
    now = place.applied(desired)

    assert walk(desired, now, applied_fields(now)) == []
    assert applied_fields(now) == applied_fields(then)
    volatile = RANDOM if desired["kind"] == "Service" else set()
    for part in now.keys() - {"metadata", "status"}:
        assert without(now[part], volatile) == without(then[part], volatile)


def without(value, keys):
    """Return a map without some keys, and anything else as it is."""
    return {key: part for key, part in value.items() if key not in keys} if isinstance(value, dict) else value


@files
def test_another_apply_changes_nothing(path, place):
    """What walks clean would indeed not be changed by an apply: the resource version stays."""
    desired = applied(path, place.name)

    assert place.applied(desired) == place.applied(desired)


@some_leaves
def test_every_edit_of_ours_is_found(path, step, place):
    """Whichever field of ours somebody else sets, it is found where it is, and nobody but them stands in the way."""
    desired = applied(path, place.name)
    live = place.applied(desired)
    fields = applied_fields(live)
    tried = accepted = 0
    for leaf in [*leaves(fields)][::step]:
        try:
            value = at(live, leaf)
        except LookupError:
            continue
        if value in ({}, []) or (leaf[-1].startswith("k:") and node_at(fields, leaf)):
            continue
        tried += 1
        for other in others_than(value):
            patch = [{"op": "replace", "path": pointer(live, leaf), "value": other}]
            answer = place.edit(ObjectRef.of(desired), patch, "somebody", dryRun="All")
            if answer.code == 200 and answer.body["metadata"]["managedFields"] != live["metadata"]["managedFields"]:
                accepted += 1
                check_found(desired, answer.body, leaf)
                break
    assert tried > 3
    assert accepted >= tried / 3, (accepted, tried)


def check_found(desired, edited, leaf):
    """Check that an edit of one field is found, where it is, and with its owner."""
    fields = applied_fields(edited)
    differences = walk(desired, edited, fields)
    assert differences, leaf
    for difference in differences:  # with another key it is another item, so the difference may be in the list
        assert difference.path[: len(leaf) - 2] == leaf[: len(difference.path)][: len(leaf) - 2]
    assert {owner.manager for owner in field_conflicts(desired, edited, fields)} <= {"somebody"}


@some_leaves
def test_conflicts_are_those_that_the_server_names(path, step, place):
    """The conflicts foreseen are, path by path and with their managers, those that an apply is answered with."""
    desired = applied(path, place.name)
    live = place.applied(desired)
    patches = []
    for leaf in [*leaves(applied_fields(live))][::step]:
        try:
            value = at(live, leaf)
        except LookupError:
            continue
        for other in others_than(value) if isinstance(value, str | int) else ():
            patch = {"op": "replace", "path": pointer(live, leaf), "value": other}
            if place.edit(ObjectRef.of(desired), [*patches, patch], "somebody", dryRun="All").code == 200:
                patches.append(patch)
                break
    edited = place.edit(ObjectRef.of(desired), patches, "somebody").body
    answer = place.apply(desired, dryRun="All")
    foreseen = {(owner.path, owner.manager) for owner in field_conflicts(desired, edited, applied_fields(edited))}

    assert answer.code == 409
    assert foreseen == {(cause["field"], cause["message"].split('"')[1]) for cause in answer.body["details"]["causes"]}
    assert len(foreseen) > 2


def test_untracked_objects_conflict(place):
    """Of an object without any managers, the server defends what is there; that is foreseen, field by field."""
    desired = applied(recording("configmap"), place.name)
    place.applied(desired)
    ref, data = ObjectRef.of(desired), {"storage.backend": "x", "empty": "x"}
    untracked = place.edit(ref, {"metadata": {"managedFields": [{}]}, "data": data}, "x", "merge").body
    answer = place.apply(desired, dryRun="All")

    assert not untracked["metadata"].get("managedFields")
    assert {(owner.path, owner.manager) for owner in field_conflicts(desired, untracked, {})} == {
        (cause["field"], cause["message"].split('"')[1]) for cause in answer.body["details"]["causes"]
    }


@some_leaves
def test_dropped_fields_are_found(path, step, place):
    """Whichever field the manifest drops, that very field is found, and an apply would indeed let go of it."""
    desired = applied(path, place.name)
    live = place.applied(desired)
    fields = applied_fields(live)
    for leaf in [*leaves(fields)][::step]:
        if leaf[-1].startswith("k:") and node_at(fields, leaf):
            continue
        less = with_value(desired, leaf, None)
        answer = place.apply(less, dryRun="All")
        if answer.code == 200:
            assert [each.path for each in walk(less, live, fields)] == [leaf]
            assert applied_fields(answer.body) != fields


def test_fields_of_others_are_not_found(place):
    """What others add to a workload, applied or edited, walks clean."""
    desired = applied(recording("statefulset"), place.name)
    live = place.applied(desired)
    pod = "/spec/template/spec"
    patches = [
        {"op": "add", "path": "/metadata/annotations", "value": {"note": "x"}},
        {"op": "add", "path": "/metadata/labels/team", "value": "x"},
        {"op": "add", "path": f"{pod}/containers/0/env/0", "value": {"name": "INJECTED", "value": "1"}},
        {"op": "add", "path": f"{pod}/containers/0", "value": {"name": "injected", "image": "x:1"}},
        {"op": "add", "path": f"{pod}/volumes/-", "value": {"name": "injected", "emptyDir": {}}},
        {"op": "add", "path": f"{pod}/hostAliases/-", "value": {"ip": "10.0.0.1", "hostnames": ["x"]}},
        {"op": "add", "path": f"{pod}/activeDeadlineSeconds", "value": None},
    ]
    edited = place.edit(ObjectRef.of(desired), patches, "injector")
    assert edited.code == 200, edited.body
    theirs = {"template": {"spec": {"containers": [{"name": "sidecar", "securityContext": {"runAsUser": 7}}]}}}
    identity = {key: desired[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": "full-ingest"}}
    live = place.applied(identity | {"spec": theirs}, "policy")

    assert walk(desired, live, applied_fields(live)) == []
    assert place.applied(desired) == live


def others_than(value):
    """Yield values that mean something else; a field may refuse some of them."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, 2)
    elif isinstance(value, str):
        words = (value + "x", "7", "x" + value, "9Gi", "None", "Delete", "Always", "UDP", "Exists", "Honor", "Local")
        yield from (word for word in words if word != value)
    elif isinstance(value, list):
        yield value[:-1]
        yield from ([*value[:-1], other] for other in others_than(value[-1]))
    elif value:
        key = next(iter(value))
        yield from (value | {key: other} for other in others_than(value[key]))


def pointer(live, leaf):
    """Return the JSON pointer of a field."""
    parts = []
    for depth, key in enumerate(leaf):
        if key.startswith("f:"):
            parts.append(key[2:].replace("~", "~0").replace("/", "~1"))
        else:
            item = at(live, leaf[: depth + 1])
            parts.append(str(next(i for i, each in enumerate(at(live, leaf[:depth])) if each is item or each == item)))
    return "/" + "/".join(parts)


# --- what never changes -----------------------------------------------------------------------------------------------

CHANGES: list[tuple[str, tuple[str, ...], Any]] = [
    ("statefulset", ("f:spec", "f:serviceName"), "other"),
    ("statefulset", ("f:spec", "f:serviceName"), None),
    ("statefulset", ("f:spec", "f:podManagementPolicy"), "OrderedReady"),
    ("statefulset", ("f:spec", "f:podManagementPolicy"), None),
    ("statefulset", ("f:spec", "f:volumeClaimTemplates"), None),
    ("statefulset", ("f:spec", "f:replicas"), 7),
    ("statefulset", ("f:spec", "f:revisionHistoryLimit"), 7),
    ("statefulset", ("f:spec", "f:minReadySeconds"), 7),
    ("statefulset", ("f:spec", "f:updateStrategy", "f:rollingUpdate", "f:partition"), 1),
    ("statefulset", ("f:spec", "f:persistentVolumeClaimRetentionPolicy", "f:whenDeleted"), "Delete"),
    ("statefulset", ("f:spec", "f:template", "f:spec", "f:terminationGracePeriodSeconds"), 7),
    ("statefulset", ("f:metadata", "f:labels", "f:chronik.stream/cluster"), "x"),
    ("deployment", ("f:spec", "f:selector"), {"matchLabels": {"app.kubernetes.io/instance": "full"}}),
    ("deployment", ("f:spec", "f:strategy", "f:rollingUpdate", "f:maxSurge"), 2),
    ("service", ("f:spec", "f:clusterIP"), "10.0.77.77"),
    ("service", ("f:spec", "f:clusterIP"), None),
    ("service", ("f:spec", "f:publishNotReadyAddresses"), None),
    ("service-client", ("f:spec", "f:loadBalancerClass"), "example.com/other"),
    ("service-client", ("f:spec", "f:loadBalancerClass"), None),
    ("service-client", ("f:spec", "f:sessionAffinity"), "None"),
    ("rolebinding", ("f:roleRef",), {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other"}),
    ("rolebinding", ("f:subjects",), [{"kind": "ServiceAccount", "name": "x", "namespace": "streaming"}]),
    ("role", ("f:rules",), []),
    ("configmap", ("f:data", "f:storage.backend"), "other"),
    ("poddisruptionbudget", ("f:spec", "f:selector"), {"matchLabels": {"a": "b"}}),
    ("horizontalpodautoscaler", ("f:spec", "f:scaleTargetRef", "f:name"), "other"),
]


@pytest.mark.parametrize(("stem", "path", "value"), CHANGES, ids=lambda each: each if isinstance(each, str) else None)
def test_immutable_fields_are_those_that_the_server_refuses(stem, path, value, place):
    """A change is foreseen to be refused exactly if the server refuses it."""
    desired = applied(recording(stem), place.name)
    live = place.applied(desired)
    changed = moved(with_value(desired, path, value), place.name)
    fields = applied_fields(live)
    foreseen = bool(immutable_differences(changed, live, fields, walk(changed, live, fields)))

    assert foreseen == (place.apply(changed, dryRun="All").code == 422)


def test_frozen_config_maps_are_known(place):
    """Data of a ConfigMap that is marked immutable is foreseen to be refused."""
    desired = applied(recording("configmap"), place.name) | {"immutable": True}
    live = place.applied(desired)
    changed = with_value(desired, ("f:data", "f:storage.backend"), "other")
    fields = applied_fields(live)

    assert immutable_differences(changed, live, fields, walk(changed, live, fields))
    assert place.apply(changed, dryRun="All").code == 422


# --- whole plans ------------------------------------------------------------------------------------------------------

AUTOSCALED = {"ingestNodes": {"minReplicas": 4, "maxReplicas": 9, "targetCpuUtilizationPercentage": 70}}


def rendered(namespace, **spec):
    """Return the manifests of cluster `c`, as its operator has them."""
    base = {
        "storage": {"backend": "local", "size": "1Gi", "storageClass": class_of(namespace)},
        "metastore": {
            "database": "postgres",
            "connection": {"host": "db", "database": "chronik", "credentialsSecret": "s"},
        },
    }
    metadata = {"name": "c", "namespace": namespace}
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": metadata,
        "spec": base | spec,
    }
    return offline.render_clusters([replace(offline.validator().validate(document).cluster, uid=None)])


def context_of(place, **more):
    """Return the operator's context, but for the owner: nobody is to collect these objects."""
    return PlanContext(cluster="c", namespace=place.name, prune=True, take_back_managers=HUMAN_MANAGERS, **more)


@pytest.mark.parametrize("example", ["production", "standard", "minimal", "storage-azure"])
def test_rendered_clusters_need_one_pass(example, place):
    """Every object of the examples is created once, and from then on nothing is sent."""
    clusters, _ = offline.load_clusters([f"examples/{example}.yaml"])
    cluster = replace(clusters[0], namespace=place.name)
    desired = offline.render_clusters([cluster])
    context = PlanContext(cluster=cluster.name, namespace=place.name, prune=True)
    first = plan(desired, {}, context)
    for action in writes(first):
        place.carry_out(action)

    again = plan(desired, place.observed(), context)
    assert (writes(again), again.obstacles) == ([], ())
    assert {type(action) for action in writes(first)} <= {Create, TransferOwnership}


def test_replicas_never_dip(place):
    """Through autoscaling on, an autoscaler's work and autoscaling off, the count is what somebody wanted it to be."""
    context, ingest = context_of(place), ObjectRef("StatefulSet", place.name, "c-ingest")
    scale = f"{place.url(ingest)}/scale"
    seen = []

    def settle(**spec):
        for _ in range(4):
            for action in writes(plan(rendered(place.name, **spec), place.observed(), context)):
                place.carry_out(action)
                seen.append(place.server.call("GET", place.url(ingest)).body["spec"]["replicas"])
        assert not writes(plan(rendered(place.name, **spec), place.observed(), context))

    for manifest in rendered(place.name, ingestNodes=5):
        place.applied(manifest)
    settle(ingestNodes=5, autoscaling=AUTOSCALED)
    assert set(seen) == {5}
    patch = {"spec": {"replicas": 8}}
    place.server.call("PATCH", scale, patch, patch="merge", fieldManager="kube-controller-manager")
    seen.clear()
    settle(ingestNodes=5, autoscaling=AUTOSCALED)
    assert seen == []
    settle(ingestNodes=6)
    assert set(seen) == {8, 6}
    settle(ingestNodes=7)
    assert set(seen) == {8, 6, 7}


def test_people_are_overruled(place):
    """What people edit is taken back by force, once, and the plan names what it took."""
    for manifest in rendered(place.name):
        place.applied(manifest)
    ingest = ObjectRef("StatefulSet", place.name, "c-ingest")
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "mine"}]
    assert place.edit(ingest, patch, "kubectl-edit").code == 200
    place.server.call(
        "PATCH", f"{place.url(ingest)}/scale", {"spec": {"replicas": 1}}, patch="merge", fieldManager="kubectl"
    )
    (apply,) = place.settle(rendered(place.name), lambda: context_of(place))

    assert {(owner.path.rpartition(".")[2], owner.manager, owner.subresource) for owner in apply.takes} == {
        ("image", "kubectl-edit", ""),
        ("replicas", "kubectl", "scale"),
    }
    assert [change.path.rpartition(".")[2] for change in apply.restarts] == ["image"]


def test_volumes_grow_around_running_pods(real_cluster):
    """Larger volumes give a new StatefulSet and larger claims, while the pods stay the very same."""
    place = Namespace(real_cluster, real_cluster.new_namespace())
    ingest = ObjectRef("StatefulSet", place.name, "c-ingest")
    make_volumes(real_cluster, 2, class_of(place.name))
    small, large = (
        [each for each in rendered(place.name, ingestNodes=2) if ObjectRef.of(each) == ingest] for _ in range(2)
    )
    large[0]["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "2Gi"
    place.settle(small, lambda: context_of(place))
    until(lambda: len(bound_claims(place)) == 2 and rolled_out(place, ingest))
    restarted = {"spec": {"template": {"metadata": {"annotations": {"restartedAt": "now"}}}}}
    assert place.edit(ingest, restarted, "kubectl-rollout", "merge").code == 200
    until(lambda: rolled_out(place, ingest))
    before = pods(place)
    done = place.settle(large, lambda: context_of(place, claims=bound_claims(place)))
    until(lambda: rolled_out(place, ingest))
    live = place.observed()[ingest]

    assert [type(action) for action in done] == [GrowClaim, GrowClaim, Recreate, TransferOwnership, Apply]
    assert pods(place) == before
    assert {each["spec"]["resources"]["requests"]["storage"] for each in bound_claims(place)} == {"2Gi"}
    assert live["metadata"]["uid"] != done[2].uid
    assert live["spec"]["template"]["metadata"]["annotations"]["restartedAt"] == "now"


def class_of(namespace):
    """Return the name of a namespace's own StorageClass: claims of other tests wait for volumes, too."""
    return f"growing-{namespace}"


def make_volumes(server, count, name):
    """Make volumes of a class that can grow."""
    storage_class = {
        "metadata": {"name": name},
        "provisioner": "example.com/none",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "Immediate",
    }
    server.call("POST", "/apis/storage.k8s.io/v1/storageclasses", storage_class)
    for _ in range(count):
        volume = {
            "metadata": {"generateName": f"{name}-"},
            "spec": {
                "capacity": {"storage": "9Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": name,
                "hostPath": {"path": "/none"},
            },
        }
        assert server.call("POST", "/api/v1/persistentvolumes", volume).code == 201


def listed(place, plural):
    """Return the core objects of a kind in the namespace."""
    return place.server.call("GET", f"/api/v1/namespaces/{place.name}/{plural}").body["items"]


def bound_claims(place):
    """Return the claims that have a volume."""
    claims = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | each for each in listed(place, "persistentvolumeclaims")
    ]
    return [claim for claim in claims if claim["status"].get("phase") == "Bound"]


def pods(place):
    """Return the pods by name and uid: a pod that was stopped comes back with another."""
    return {(pod["metadata"]["name"], pod["metadata"]["uid"]) for pod in listed(place, "pods")}


def rolled_out(place, ref):
    """Play the kubelet of all pods, and tell whether a StatefulSet is through with its rollout."""
    for pod in listed(place, "pods"):
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        url = f"/api/v1/namespaces/{place.name}/pods/{pod['metadata']['name']}"
        place.server.call("PATCH", f"{url}/status", status, patch="merge")
        if "deletionTimestamp" in pod["metadata"]:
            place.server.call("DELETE", url, {"gracePeriodSeconds": 0})
    live = place.observed()[ref]
    status, wanted = live["status"], live["spec"]["replicas"]
    return (
        status.get("observedGeneration") == live["metadata"]["generation"]
        and status.get("updatedReplicas") == status.get("readyReplicas") == wanted
        and status.get("currentRevision") == status.get("updateRevision")
    )
