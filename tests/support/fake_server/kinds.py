"""The kinds that the stand-in serves, and what is special about each: kube-apiserver's registry strategies in small.

Pure but for the counters that hand out cluster addresses and node ports. `fake_api` is the caller.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from support.api_errors import Named
from support.defaulting import decode, empty
from support.ssa.field_sets import FieldSet, without_prefixes
from support.ssa.field_types import Type, kind_type, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Object = dict[str, Any]

PVC_FINALIZER = "kubernetes.io/pvc-protection"


@dataclass(frozen=True)
class Kind:
    """One served kind. `generation` tells whether the server counts versions of its spec."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True
    status: bool = False
    scale: bool = False
    generation: bool = False
    unconditional: bool = True  # PUT needs no resource version
    returns_deleted: bool = False  # DELETE answers with the object instead of a Status
    custom: Object | None = field(default=None, compare=False)  # of a custom resource: its structural schema
    custom_type: Type | None = field(default=None, compare=False)

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def type(self) -> Type:
        """The type of its objects."""
        return self.custom_type or kind_type(self.api_version, self.name)

    @cached_property
    def empty(self) -> Object:
        """An object without anything in it, as field management compares a new one with."""
        return empty(self.type)

    def resource(self, name: str = "") -> Named:
        """Return how errors about requests name an object: by plural."""
        return Named(self.plural, self.group, name)

    def named(self, name: str = "") -> Named:
        """Return how errors about objects name one: by kind."""
        return Named(self.name, self.group, name)

    def decode(self, obj: Object) -> Object:
        """Return an object as it is stored, defaults included."""
        entries = obj.get("metadata", {}).get("managedFields")
        decoded = decode(obj, self.type)
        decoded |= {"kind": self.name, "apiVersion": self.api_version}
        if entries:  # kept as sent: an entry's time is not to be dropped
            decoded["metadata"]["managedFields"] = entries
        return decoded

    def ignored(self, subresource: str) -> Callable[[FieldSet], FieldSet]:
        """Return what drops the paths that a door resets, so that nobody comes to own them through it."""
        if subresource == "status":
            if self.custom is not None:
                return lambda paths: frozenset(path for path in paths if path[0] == "f:status")
            return lambda paths: without_prefixes(paths, [("f:spec",), *_STATUS_RESETS.get(self.name, ())])
        return (lambda paths: without_prefixes(paths, [("f:status",)])) if self.status else (lambda paths: paths)


_STATUS_RESETS = {"Deployment": [("f:metadata", "f:labels")]}

_RBAC = "rbac.authorization.k8s.io"
ANY_OBJECT = Type(
    "struct",
    own_fields={
        "apiVersion": parse("string"),
        "kind": parse("string"),
        "metadata": parse("ObjectMeta embedded"),
        "spec": parse("any"),
        "status": parse("any"),
    },
)
"""A kind with spec and status of which nothing is checked here, as Jobs are, which nobody renders."""
_REVISION = Type(
    "struct",
    own_fields={
        "apiVersion": parse("string"),
        "kind": parse("string"),
        "metadata": parse("ObjectMeta embedded"),
        "data": parse("any"),
        "revision": parse("any"),
    },
)
BUILT_IN: tuple[Kind, ...] = (
    Kind("apps", "v1", "controllerrevisions", "ControllerRevision", custom_type=_REVISION),
    Kind("apps", "v1", "replicasets", "ReplicaSet", status=True, custom_type=ANY_OBJECT),
    Kind("", "v1", "configmaps", "ConfigMap"),
    Kind("", "v1", "events", "Event"),
    Kind("", "v1", "namespaces", "Namespace", namespaced=False, status=True, returns_deleted=True),
    Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False, status=True, custom_type=ANY_OBJECT),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", status=True, returns_deleted=True),
    Kind("", "v1", "pods", "Pod", status=True, generation=True, returns_deleted=True),
    Kind("", "v1", "secrets", "Secret"),
    Kind("", "v1", "serviceaccounts", "ServiceAccount", returns_deleted=True),
    Kind("", "v1", "services", "Service", status=True, returns_deleted=True),
    Kind(
        *("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        namespaced=False,
        status=True,
        generation=True,
    ),
    Kind(
        *("admissionregistration.k8s.io", "v1"),
        *("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        namespaced=False,
        generation=True,
    ),
    Kind("apps", "v1", "deployments", "Deployment", status=True, scale=True, generation=True),
    Kind("apps", "v1", "statefulsets", "StatefulSet", status=True, scale=True, generation=True),
    Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", status=True),
    Kind("batch", "v1", "jobs", "Job", status=True, generation=True, custom_type=ANY_OBJECT),
    Kind("coordination.k8s.io", "v1", "leases", "Lease", unconditional=False),
    Kind("events.k8s.io", "v1", "events", "Event"),
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", generation=True),
    Kind(
        "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", status=True, generation=True, unconditional=False
    ),
    Kind(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Kind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    Kind(_RBAC, "v1", "rolebindings", "RoleBinding"),
    Kind(_RBAC, "v1", "roles", "Role"),
    Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False),
)
SCALE = kind_type("autoscaling/v1", "Scale")


# --- creation ---------------------------------------------------------------------------------------------------------


def prepare_create(kind: Kind, obj: Object) -> None:
    """Do to a new object, in place, what the kind's strategy and the built-in admission plugins do."""
    if kind.status:
        obj["status"] = kind.decode({"metadata": {"name": "x"}}).get("status", {})
    if kind.generation or kind.custom is not None:
        obj["metadata"]["generation"] = 1
    if kind.custom is not None and kind.status:
        del obj["status"]
    if not kind.group and kind.name in _CREATE:
        _CREATE[kind.name](obj)


def _new_namespace(obj: Object) -> None:
    obj["spec"]["finalizers"] = ["kubernetes"]


def _new_claim(obj: Object) -> None:
    obj["metadata"].setdefault("finalizers", []).append(PVC_FINALIZER)


def _new_pod(obj: Object) -> None:
    spec = obj["spec"]
    spec |= {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}
    for reason in ("not-ready", "unreachable"):
        toleration = {"key": f"node.kubernetes.io/{reason}", "operator": "Exists", "effect": "NoExecute"}
        spec.setdefault("tolerations", []).append(toleration | {"tolerationSeconds": 300})
    used = [container["resources"] for container in spec["containers"]]
    guaranteed = all(
        one.get("limits", {}).keys() >= {"cpu", "memory"} and one["limits"] == one["requests"] for one in used
    )
    burstable = any(one.get("limits") or one.get("requests") for one in used)
    obj["status"]["qosClass"] = "Guaranteed" if guaranteed else "Burstable" if burstable else "BestEffort"


_addresses = itertools.count(10)
_node_ports = itertools.count(30000)


def _new_service(obj: Object) -> None:
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return
    if not spec.get("clusterIP"):
        number = next(_addresses)
        spec["clusterIP"] = f"10.0.{number // 250 % 256}.{number % 250 + 1}"
    spec["clusterIPs"] = [spec["clusterIP"]]
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    _allocate_node_ports(spec)


def _allocate_node_ports(spec: Object) -> None:
    if spec["type"] in {"NodePort", "LoadBalancer"} and spec.get("allocateLoadBalancerNodePorts", True):
        for port in spec.get("ports", ()):
            if not port.get("nodePort"):
                port["nodePort"] = next(_node_ports)


_CREATE: dict[str, Callable[[Object], None]] = {
    "Namespace": _new_namespace,
    "PersistentVolumeClaim": _new_claim,
    "Pod": _new_pod,
    "Service": _new_service,
}


# --- update -----------------------------------------------------------------------------------------------------------


def prepare_update(kind: Kind, new: Object, live: Object, subresource: str) -> None:
    """Put back, in place, what the door that a write came through does not let change, and count the generation."""
    kept = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
    _restore(new["metadata"], live["metadata"], kept)
    if subresource == "status":
        _restore(new, live, ["spec"] if kind.custom is None else [key for key in new | live if key not in _OWN])
        if kind.custom is not None:
            managed = new["metadata"].get("managedFields")
            new["metadata"] = deepcopy(live["metadata"]) | ({"managedFields": managed} if managed else {})
        elif kind.name == "Deployment":
            _restore(new["metadata"], live["metadata"], ["labels"])
    elif kind.status:
        _restore(new, live, ["status"])
    if kind.name == "Service" and not subresource:
        _keep_allocated(new["spec"], live["spec"])
    counts = kind.generation or kind.custom is not None
    if counts and not subresource and _counted(kind, new) != _counted(kind, live):
        new["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1


_OWN = {"apiVersion", "kind", "metadata", "status"}


def _counted(kind: Kind, obj: Object) -> Any:
    if kind.custom is not None:
        return {key: value for key, value in obj.items() if key not in _OWN}
    annotations = obj["metadata"].get("annotations") if kind.name == "Deployment" else None
    return obj.get("spec"), annotations


def _restore(new: Object, live: Object, keys: Iterable[str]) -> None:
    for key in keys:
        if key in live:
            new[key] = deepcopy(live[key])
        else:
            new.pop(key, None)


def _keep_allocated(spec: Object, live: Object) -> None:
    if spec["type"] == "ExternalName":
        return
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if not spec.get(key) and key in live:
            spec[key] = deepcopy(live[key])
    open_before, open_now = (one["type"] in {"NodePort", "LoadBalancer"} for one in (live, spec))
    if open_before and not open_now:
        for port in spec.get("ports", ()):
            port.pop("nodePort", None)
        spec.pop("externalTrafficPolicy", None)
    if live["type"] == "LoadBalancer" != spec["type"]:
        spec.pop("allocateLoadBalancerNodePorts", None)
    _allocate_node_ports(spec)
