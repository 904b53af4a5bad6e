"""A manifest as an API server would hold it once it had been applied: its values, and who owns which of them.

So two states of a cluster can be compared without one: the one before is played as what is live. The server spells
quantities in one way, drops most zeroes, fills defaults in and records for every field who set it. The types of fields
are those of schema/kubernetes.json; defaults are in no OpenAPI document, so they stand here. Tests hold both to a real
kube-apiserver. A kind that is not in the table, from a CustomResourceDefinition, is kept as it was sent: its maps are
owned field by field, its lists whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chronik.kubernetes_types import ANY, FieldTypes
from chronik.manifest import FIELD_MANAGER, ObjectRef, as_stored
from chronik.plan.managed_fields import UNTRACKED, UNTRACKED_METADATA
from chronik.quantity import QuantityError, canonical_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronik.kubernetes_types import FieldType
    from chronik.manifest import Manifest
    from chronik.plan.managed_fields import Fields

_ZEROES: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


class ServerModel:
    """What an API server makes of manifests; `table` is that of schema/kubernetes.json.

    Trees of fields are sorted, as the server's are: a plan names what it changes in their order.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._types = FieldTypes(table)
        self._atomic: frozenset[str] = frozenset(table["atomic"])

    def applied(self, manifest: Manifest, manager: str = FIELD_MANAGER) -> Manifest:
        """Return the live object that an apply of a manifest to an empty server leaves behind, owned by `manager`."""
        manifest = as_stored(manifest)
        stored = self._stored(manifest)
        metadata = stored["metadata"] | {"uid": f"applied:{ObjectRef.of(manifest)}", "resourceVersion": "1"}
        return stored | {"metadata": metadata | {"managedFields": [self._entry(manifest, manager)]}}

    def also_applied(self, live: Manifest, manifest: Manifest, manager: str) -> Manifest:
        """Return a live object to which another manager has applied a few fields, none of them in a list."""
        entries = [*live["metadata"]["managedFields"], self._entry(manifest, manager)]
        merged: Manifest = _merged(live, {key: value for key, value in manifest.items() if key != "metadata"})
        return merged | {"metadata": live["metadata"] | {"managedFields": entries}}

    def _entry(self, manifest: Manifest, manager: str) -> dict[str, Any]:
        return {
            "manager": manager,
            "operation": "Apply",
            "apiVersion": manifest["apiVersion"],
            "fieldsType": "FieldsV1",
            "fieldsV1": self._fields(manifest),
        }

    # --- who owns what ------------------------------------------------------------------------------------------------

    def _fields(self, manifest: Manifest) -> Fields:
        metadata = {key: value for key, value in manifest["metadata"].items() if key not in UNTRACKED_METADATA}
        tracked = {key: value for key, value in manifest.items() if key not in UNTRACKED}
        fields = {key: value for key, value in (tracked | {"metadata": metadata}).items() if key != "metadata" or value}
        return self._tree(fields, self._types.of_kind(manifest)) or {}

    def _tree(self, value: Any, kind: FieldType) -> Fields | None:
        """Return the tree of a value: `{}` if it is owned whole, None if the server keeps no record of it."""
        if isinstance(value, dict) and not self._is_atomic(kind):
            trees = {
                key: self._tree(value[key], self._types.of(kind, key)) for key in sorted(value)
            }  # as the server has them
            found = {f"f:{key}": tree for key, tree in trees.items() if tree is not None}
            return found if found or not value else None
        if isinstance(value, list) and (kind.keys or "set" in kind.flags):
            return self._items(value, kind) or None
        return {}

    def _is_atomic(self, kind: FieldType) -> bool:
        return "atomic" in kind.flags or kind.name in self._atomic

    def _items(self, items: list[Any], kind: FieldType) -> Fields:
        found: Fields = {}
        element = self._types.named(kind.element)
        for item in items:
            tree = self._tree(item, element) if isinstance(item, dict) else None
            found[self._item(item, kind, element)] = {".": {}, **tree} if tree else {}
        return dict(sorted(found.items()))

    def _item(self, item: Any, kind: FieldType, element: FieldType) -> str:
        """Return the name of a list's item in a tree."""
        if not kind.keys or not isinstance(item, dict):
            return "v:" + json.dumps(item, ensure_ascii=False)
        values = {key: item.get(key, self._types.of(element, key).default_key) for key in sorted(kind.keys)}
        present = {key: value for key, value in values.items() if value is not None}
        return "k:" + json.dumps(present, separators=(",", ":"), ensure_ascii=False)

    # --- what is stored -----------------------------------------------------------------------------------------------

    def _stored(self, manifest: Manifest) -> Manifest:
        root = self._types.of_kind(manifest)
        if root is ANY:
            return manifest
        found: Manifest = self._value({key: each for key, each in manifest.items() if key != "status"}, root)
        return found

    def _value(self, value: Any, kind: FieldType) -> Any:
        if kind.form == "struct" and isinstance(value, dict):
            return self._struct(value, kind)
        if kind.form == "map" and isinstance(value, dict):
            element = self._types.of(kind, "")
            return {key: self._value(part, element) for key, part in value.items()}
        if kind.form == "list" and isinstance(value, list):
            element = self._types.named(kind.element)
            return [self._value(item, element) for item in value]
        return _quantity(value) if kind.name == "quantity" else value

    def _struct(self, value: dict[str, Any], kind: FieldType) -> dict[str, Any]:
        found = {}
        for key, part in value.items():
            of = self._types.of(kind, key)
            stored = self._value(part, of)
            if part is not None and not _vanishes(stored, of):
                found[key] = stored
        for key, default in _DEFAULTS.get(kind.name, {}).items():
            if isinstance(default, dict):
                found[key] = default | (found.get(key) or {})
            else:
                found.setdefault(key, default)
        if kind.name in _FUNCTIONS:
            _FUNCTIONS[kind.name](found)
        return found


def _quantity(value: Any) -> Any:
    try:
        return canonical_quantity(value)
    except (QuantityError, TypeError):
        return value


def _vanishes(value: Any, kind: FieldType) -> bool:
    if kind.flags & {"kept", "required"}:
        return False
    if kind.form in {"list", "map"}:
        return value in ({}, [])
    return kind.name in _ZEROES and bool(value == _ZEROES[kind.name])


def _merged(value: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    base = value if isinstance(value, dict) else {}
    return base | {key: _merged(base.get(key), part) for key, part in change.items()}


# --- defaults ---------------------------------------------------------------------------------------------------------

_DEFAULTS: dict[str, dict[str, Any]] = {
    "ConfigMapVolumeSource": {"defaultMode": 420},
    "Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    "ContainerPort": {"protocol": "TCP"},
    "DeploymentSpec": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "DownwardAPIVolumeSource": {"defaultMode": 420},
    "GRPCAction": {"service": ""},
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "HorizontalPodAutoscalerSpec": {"minReplicas": 1},
    "HostPathVolumeSource": {"type": ""},
    "ObjectFieldSelector": {"apiVersion": "v1"},
    "PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    "PodSpec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    },
    "Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    "ProjectedVolumeSource": {"defaultMode": 420},
    "ResourceFieldSelector": {"divisor": "0"},
    "Secret": {"type": "Opaque"},
    "SecretVolumeSource": {"defaultMode": 420},
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "ServicePort": {"protocol": "TCP"},
    "ServiceSpec": {"type": "ClusterIP", "sessionAffinity": "None"},
    "StatefulSetSpec": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    },
}
"""What a server fills in where nothing is said, by struct; a map is filled in key by key."""
_ROUNDS = "RollingUpdate"


def _container(value: dict[str, Any]) -> None:
    if isinstance(value.get("image"), str):
        name, _, digest = value["image"].partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        value.setdefault("imagePullPolicy", "IfNotPresent" if digest or tag not in {"", "latest"} else "Always")
    value.setdefault("resources", {})


def _deployment_spec(value: dict[str, Any]) -> None:
    strategy = value["strategy"] = {"type": _ROUNDS} | (value.get("strategy") or {})
    if strategy["type"] == _ROUNDS:
        strategy["rollingUpdate"] = {"maxUnavailable": "25%", "maxSurge": "25%"} | (strategy.get("rollingUpdate") or {})


def _stateful_set_spec(value: dict[str, Any]) -> None:
    strategy = value["updateStrategy"] = {"type": _ROUNDS} | (value.get("updateStrategy") or {})
    if strategy["type"] == _ROUNDS:
        strategy["rollingUpdate"] = {"partition": 0} | (strategy.get("rollingUpdate") or {})
    for claim in value.get("volumeClaimTemplates") or ():
        claim |= {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "status": {"phase": "Pending"}}


def _pod_spec(value: dict[str, Any]) -> None:
    name = value.get("serviceAccountName") or value.get("serviceAccount")
    if name:  # two spellings of one thing: the server prints both
        value["serviceAccountName"] = value["serviceAccount"] = name


def _volume(value: dict[str, Any]) -> None:
    if value.keys() == {"name"}:
        value["emptyDir"] = {}


def _service_port(value: dict[str, Any]) -> None:
    value["targetPort"] = value.get("targetPort") or value.get("port")


def _service_spec(value: dict[str, Any]) -> None:
    if value.get("clusterIP"):  # of others the server picks one, which nobody can foretell
        value.setdefault("clusterIPs", [value["clusterIP"]])
    if value["type"] != "ExternalName":
        value.setdefault("internalTrafficPolicy", "Cluster")
        value.setdefault("ipFamilyPolicy", "SingleStack")
        value.setdefault("ipFamilies", ["IPv4"])
    if value["type"] in {"NodePort", "LoadBalancer"}:
        value.setdefault("externalTrafficPolicy", "Cluster")
    if value["type"] == "LoadBalancer":
        value.setdefault("allocateLoadBalancerNodePorts", True)


def _autoscaler_spec(value: dict[str, Any]) -> None:
    if not value.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        value["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if "behavior" in value:
        pods, percent = (
            {"type": kind, "value": size, "periodSeconds": 15} for kind, size in (("Pods", 4), ("Percent", 100))
        )
        up = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]}
        down = {"selectPolicy": "Max", "policies": [dict(percent)]}
        behavior = value["behavior"]
        value["behavior"] = {
            "scaleUp": up | (behavior.get("scaleUp") or {}),
            "scaleDown": down | (behavior.get("scaleDown") or {}),
        }


def _binding(value: dict[str, Any]) -> None:
    group = "rbac.authorization.k8s.io"
    value["roleRef"] = value["roleRef"] | {"apiGroup": value["roleRef"].get("apiGroup") or group}
    for subject in value.get("subjects") or ():
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", group)


_FUNCTIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "ClusterRoleBinding": _binding,
    "Container": _container,
    "DeploymentSpec": _deployment_spec,
    "HorizontalPodAutoscalerSpec": _autoscaler_spec,
    "PodSpec": _pod_spec,
    "RoleBinding": _binding,
    "ServicePort": _service_port,
    "ServiceSpec": _service_spec,
    "StatefulSetSpec": _stateful_set_spec,
    "Volume": _volume,
}
"""Defaults that depend on what else is there."""
