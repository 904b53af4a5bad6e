"""What kube-apiserver makes of an object when it decodes it: canonical values, dropped zeros, filled-in defaults.

An object passes through Go structs, so nulls and most zero values vanish, embedded structs always appear, and
quantities come out canonical. Then the kind's defaulting functions run, which no OpenAPI document tells; DEFAULTS and
the few functions below are those of the kinds that the stand-in serves. Pure; `fake_kinds` is the caller.
"""

from __future__ import annotations

import base64
from copy import deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from support.quantities import is_quantity
from support.ssa.field_types import ANY, Type

from chronik.quantity import canonical_quantity

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

RBAC_GROUP = "rbac.authorization.k8s.io"

_ALWAYS_THERE: dict[str, Object] = {  # optional in OpenAPI, yet printed when empty
    "StatefulSetSpec": {"serviceName": ""},
    "StatefulSetStatus": {"availableReplicas": 0},
    "StatefulSetOrdinals": {"start": 0},
    "HorizontalPodAutoscalerStatus": {"currentMetrics": None},
    "ResourceFieldSelector": {"divisor": "0"},
    "Role": {"rules": None},
    "ClusterRole": {"rules": None},
    "RoleRef": {"apiGroup": ""},
    "PodDisruptionBudgetStatus": dict.fromkeys(
        ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"), 0
    ),
    "Event": {"reportingComponent": "", "reportingInstance": ""},
}
_ZEROS = {"string": "", "integer": 0, "number": 0, "boolean": False}

DEFAULTS: dict[str, Object] = {
    "ConfigMapVolumeSource": {"defaultMode": 420},
    "Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    "ContainerPort": {"protocol": "TCP"},
    "DeploymentSpec": {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate"},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    },
    "MatchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}},
    "NamedRuleWithOperations": {"scope": "*"},
    "ValidatingAdmissionPolicySpec": {"failurePolicy": "Fail"},
    "DownwardAPIVolumeSource": {"defaultMode": 420},
    "GRPCAction": {"service": ""},
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "HorizontalPodAutoscalerSpec": {
        "minReplicas": 1,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
            }
        ],
    },
    "HostPathVolumeSource": {"type": ""},
    "NamespaceStatus": {"phase": "Active"},
    "ObjectFieldSelector": {"apiVersion": "v1"},
    "PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    "PersistentVolumeClaimStatus": {"phase": "Pending"},
    "PodSpec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    },
    "Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    "ProjectedVolumeSource": {"defaultMode": 420},
    "Secret": {"type": "Opaque"},
    "SecretVolumeSource": {"defaultMode": 420},
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "ServicePort": {"protocol": "TCP"},
    "ServiceSpec": {"type": "ClusterIP", "sessionAffinity": "None"},
    "StatefulSetSpec": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "persistentVolumeClaimRetentionPolicy": {},
    },
    "StatefulSetPersistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    "StorageClass": {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
}


def decode(value: Any, kind: Type) -> Any:
    """Return a value as the server stores it, defaults included.

    The value fits its type: `validation` saw to that, unless a definition has become stricter since.
    """
    if isinstance(value, dict) != (kind.form in {"struct", "map"}) or isinstance(value, list) != (kind.form == "list"):
        return value
    if kind.form == "struct":
        return _decode_struct(value, kind)
    if kind.form == "map":
        of = kind.element or ANY
        return {key: decode(child, of) if child is not None else _ZEROS.get(of.name) for key, child in value.items()}
    if kind.form == "list":
        return [decode(item, kind.element or ANY) for item in value]
    if kind.name == "quantity":
        return canonical_quantity(value) if is_quantity(value) else value
    if kind.name in {"time", "microtime"}:
        return _canonical_time(value, "%S.%fZ" if kind.name == "microtime" else "%SZ")
    return value


def _canonical_time(text: str, seconds: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime(f"%Y-%m-%dT%H:%M:{seconds}")


def _decode_struct(value: Object, kind: Type) -> Object:
    result: Object = {}
    for key, of in kind.fields.items():
        child = value.get(key)
        if child is None:
            result |= _absent(key, of, kind)
        else:
            child = decode(child, of)
            if not _vanishes(child, of):
                result[key] = child
    if kind.open:
        result |= {key: child for key, child in value.items() if key not in kind.fields and child is not None}
    result |= {key: zero for key, zero in _ALWAYS_THERE.get(kind.name, {}).items() if key not in result}
    _default(result, kind)
    return result


def _absent(key: str, of: Type, owner: Type) -> Object:
    if owner.own_fields is not None:  # of a custom resource: nothing but the schema's default
        return {} if of.key_default is None else {key: decode(deepcopy(of.key_default), of)}
    if of.embedded:
        return {key: decode({}, of)}
    if _always_printed(key, of):
        return {key: None}
    if not of.required:
        return {}
    return {key: _ZEROS[of.name]} if of.name in _ZEROS else {key: None} if of.form in {"list", "map"} else {}


def _always_printed(key: str, of: Type) -> bool:
    """Tell whether a time is there even if it is zero, which prints as null."""
    return of.name in {"time", "microtime"} and not of.kept and key != "creationTimestamp"


def _vanishes(value: Any, of: Type) -> bool:
    if of.kept or of.required:
        return False
    if of.form in {"list", "map"}:
        return not value
    return of.name in {*_ZEROS, "bytes"} and not value


def _default(value: Object, kind: Type) -> None:
    for key, default in DEFAULTS.get(kind.name, {}).items():
        present = value.get(key)
        if present is None:
            value[key] = decode(default, kind.fields[key]) if isinstance(default, dict) else deepcopy(default)
        elif isinstance(default, dict) and isinstance(present, dict):
            value[key] = default | present
    if kind.name in _FUNCTIONS:
        _FUNCTIONS[kind.name](value)


def empty(kind: Type) -> Any:
    """Return what an object of a kind looks like before anything is in it: the zero value of its Go struct."""
    result: Object = dict(_ALWAYS_THERE.get(kind.name, {}))
    for key, of in kind.fields.items():
        if of.embedded:
            result[key] = empty(of)
        elif kind.own_fields is None and (of.required or _always_printed(key, of)):
            result[key] = _ZEROS.get(of.name)
    return result


# --- defaulting functions ---------------------------------------------------------------------------------------------


def _container(value: Object) -> None:
    if "image" in value and "imagePullPolicy" not in value:
        name, _, digest = value["image"].partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        value["imagePullPolicy"] = "IfNotPresent" if digest or tag not in {"", "latest"} else "Always"


def _deployment_spec(value: Object) -> None:
    if value["strategy"]["type"] == "RollingUpdate":
        rolling = value["strategy"].setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def _stateful_set_spec(value: Object) -> None:
    strategy = value["updateStrategy"]
    if "type" not in strategy:
        strategy |= {"type": "RollingUpdate", "rollingUpdate": strategy.get("rollingUpdate", {})}
    if "rollingUpdate" in strategy:  # a type without it stays so
        strategy["rollingUpdate"].setdefault("partition", 0)
    for claim in value.get("volumeClaimTemplates", ()):
        claim |= {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}


def _pod_spec(value: Object) -> None:
    name = value.get("serviceAccountName") or value.get("serviceAccount")
    if name:  # two spellings of one thing, always printed both
        value["serviceAccountName"] = value["serviceAccount"] = name


def _pod(value: Object) -> None:
    spec = value["spec"]
    spec.setdefault("enableServiceLinks", True)
    value["status"].setdefault("phase", "Pending")
    for container in (*(spec.get("containers") or ()), *spec.get("initContainers", ())):
        limits = container["resources"].get("limits", {})
        if limits:
            container["resources"]["requests"] = limits | container["resources"].get("requests", {})
        if spec.get("hostNetwork"):
            for port in container.get("ports", ()):
                port.setdefault("hostPort", port["containerPort"])


def _volume(value: Object) -> None:
    if value.keys() == {"name"}:
        value["emptyDir"] = {}


def _service_port(value: Object) -> None:
    if value.get("targetPort") in {None, 0, ""}:
        value["targetPort"] = value["port"]


def _service_spec(value: Object) -> None:
    if value["type"] in {"NodePort", "LoadBalancer"}:
        value.setdefault("externalTrafficPolicy", "Cluster")
    if value["type"] == "LoadBalancer":
        value.setdefault("allocateLoadBalancerNodePorts", True)
    if value["type"] != "ExternalName":
        value.setdefault("internalTrafficPolicy", "Cluster")
    if value["sessionAffinity"] == "ClientIP":
        value.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})


def _ingress(value: Object) -> None:
    if value.get("ip"):
        value.setdefault("ipMode", "VIP")


def _autoscaler_spec(value: Object) -> None:
    if "behavior" in value:
        per_pod, percent = (
            {"type": kind, "value": size, "periodSeconds": 15} for kind, size in (("Pods", 4), ("Percent", 100))
        )
        up = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [per_pod, percent]}
        down = {"selectPolicy": "Max", "policies": [dict(percent)]}
        value["behavior"]["scaleUp"] = up | value["behavior"].get("scaleUp", {})
        value["behavior"]["scaleDown"] = down | value["behavior"].get("scaleDown", {})


def _secret(value: Object) -> None:
    plain = value.pop("stringData", {})
    if plain:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
        value["data"] = value.get("data", {}) | encoded


def _namespace(value: Object) -> None:
    if value["metadata"].get("name"):
        value["metadata"].setdefault("labels", {}).setdefault("kubernetes.io/metadata.name", value["metadata"]["name"])


def _binding(value: Object) -> None:
    role = value["roleRef"]
    role["apiGroup"] = role["apiGroup"] or RBAC_GROUP
    for subject in value.get("subjects", ()):
        if subject["kind"] in {"User", "Group"}:
            subject.setdefault("apiGroup", RBAC_GROUP)


_FUNCTIONS: dict[str, Callable[[Object], None]] = {
    "ClusterRoleBinding": _binding,
    "Container": _container,
    "DeploymentSpec": _deployment_spec,
    "HorizontalPodAutoscalerSpec": _autoscaler_spec,
    "LoadBalancerIngress": _ingress,
    "Namespace": _namespace,
    "Pod": _pod,
    "PodSpec": _pod_spec,
    "RoleBinding": _binding,
    "Secret": _secret,
    "ServicePort": _service_port,
    "ServiceSpec": _service_spec,
    "StatefulSetSpec": _stateful_set_spec,
    "Volume": _volume,
}
