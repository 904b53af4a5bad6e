"""Fields that the API server never lets anybody change, known before it says so.

A refusal for such a field looks like any other invalid object, so it must not be found out by trying, let alone be
answered by deleting something. `plan` asks. Sources: the validation of each kind in k8s.io/kubernetes/pkg/apis; checked
on kube-apiserver by tests/test_plan_real.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.plan.owners import alters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.manifest import Manifest, ObjectRef
    from chronik.plan.drift import Difference
    from chronik.plan.managed_fields import FieldPath, Fields


_STATEFULSET_MUTABLE = frozenset(
    {
        "f:replicas",
        "f:ordinals",
        "f:template",
        "f:updateStrategy",
        "f:revisionHistoryLimit",
        "f:persistentVolumeClaimRetentionPolicy",
        "f:minReadySeconds",
    }
)
_IMMUTABLE: dict[str, tuple[FieldPath, ...]] = {
    "Deployment": (("f:spec", "f:selector"),),
    "RoleBinding": (("f:roleRef",),),
    "Service": (("f:spec", "f:clusterIP"), ("f:spec", "f:clusterIPs"), ("f:spec", "f:loadBalancerClass")),
}
_FROZEN: dict[str, tuple[FieldPath, ...]] = {  # once the object itself says `immutable: true`
    "ConfigMap": (("f:data",), ("f:binaryData",), ("f:immutable",)),
    "Secret": (("f:data",), ("f:stringData",), ("f:immutable",)),
}
_WAYS_OUT = {
    "StatefulSet": "`{delete} --cascade=orphan` leaves its pods and volumes as they are; {who} then creates it anew.",
    "Deployment": "`{delete}` stops its pods; {who} then creates it and them anew.",
    "Service": "`{delete}`, and {who} creates it anew, perhaps with another address.",
}
_ANY_WAY_OUT = "`{delete}`, and {who} creates it anew."


def immutable_differences(
    desired: Manifest, live: Manifest, fields: Fields, differences: Iterable[Difference]
) -> list[Difference]:
    """Return the differences that no apply can bring about, because their fields never change."""
    return [
        difference
        for difference in differences
        if _is_immutable(difference, desired, live) and alters(difference, live, fields)
    ]


def way_out(ref: ObjectRef, *, operated: bool = False) -> str:
    """Say what a person can do about an object whose immutable fields have to change; an operator may see to it."""
    namespace = f" -n {ref.namespace}" if ref.namespace else ""
    delete = f"kubectl delete {ref.kind.lower()} {ref.name}{namespace}"
    who = "the operator" if operated else "apply"
    return _WAYS_OUT.get(ref.kind, _ANY_WAY_OUT).format(delete=delete, who=who)


def _is_immutable(difference: Difference, desired: Manifest, live: Manifest) -> bool:
    kind, path = live["kind"], difference.path
    if kind == "StatefulSet":
        return path[0] == "f:spec" and (len(path) == 1 or path[1] not in _STATEFULSET_MUTABLE)
    if kind == "Service":
        return path[:2] in _IMMUTABLE[kind] and _service_keeps(path[1], difference, desired, live)
    frozen = _FROZEN.get(kind, ()) if live.get("immutable") else ()
    return any(path[: len(prefix)] == prefix for prefix in (*_IMMUTABLE.get(kind, ()), *frozen))


def _service_keeps(field: str, difference: Difference, desired: Manifest, live: Manifest) -> bool:
    """Tell whether a Service's field stays: an address that is no longer asked for does, and so does a class."""
    if field == "f:loadBalancerClass":
        return bool(live["spec"].get("type") == desired["spec"].get("type") == "LoadBalancer")
    return difference.kind != "extra"
