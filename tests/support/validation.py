"""What kube-apiserver refuses for a kind's own reasons: missing, impossible and immutable values.

Only the rules that a client of ours can run into; each is proven on the real server by the scenarios of
test_fake_server.py. Pure; `fake_writes` is the caller.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from support.api_errors import forbidden_field, invalid_value, missing_target, required

from chronik.quantity import parse_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from decimal import Decimal

Object = dict[str, Any]
Cause = dict[str, str]

_DNS_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_DNS_SUBDOMAIN}')"
)
_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_DNS_LABEL}')"
)
_FREE_NAMES = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
STATEFUL_SET_FIELDS = (
    *("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"),
    *("persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
)


def validate(new: Object, old: Object | None) -> list[Cause]:
    """Return what is wrong with a built-in object; `old` is what it replaces, None on creation."""
    causes = list(_metadata(new))
    causes += _RULES.get(new["kind"], _no_rules)(new, old)
    return causes


def _no_rules(_new: Object, _old: Object | None) -> Iterator[Cause]:
    yield from ()


def _metadata(new: Object) -> Iterator[Cause]:
    name, kind = new["metadata"]["name"], new["kind"]
    if kind == "Service":
        if not re.fullmatch(_DNS_LABEL, name):
            yield invalid_value("metadata.name", name, "must not contain dots" if "." in name else _LABEL_WORDS)
    elif kind not in _FREE_NAMES and not re.fullmatch(_DNS_SUBDOMAIN, name):
        yield invalid_value("metadata.name", name, _SUBDOMAIN_WORDS)


def _workload(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    if spec.get("replicas", 0) < 0:
        yield invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    selector = spec.get("selector")
    if selector is None:
        yield required("spec.selector")
    labels = spec["template"]["metadata"].get("labels", {})
    wanted = (selector or {}).get("matchLabels", {}).items()
    if selector is None or not wanted <= labels.items():
        yield invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    yield from _pod_spec(spec["template"]["spec"], "spec.template.spec", claims)
    if old is not None and new["kind"] == "Deployment" and old["spec"]["selector"] != selector:
        yield invalid_value("spec.selector", selector, "field is immutable")
    if old is not None and new["kind"] == "StatefulSet" and _frozen(old["spec"]) != _frozen(spec):
        names = [f"'{name}'" for name in STATEFUL_SET_FIELDS]
        allowed = f"{', '.join(names[:-1])} and {names[-1]}"
        why = f"updates to statefulset spec for fields other than {allowed} are forbidden"
        yield forbidden_field("spec", why)


def _frozen(spec: Object) -> Object:
    return {key: value for key, value in spec.items() if key not in STATEFUL_SET_FIELDS}


def _pod(new: Object, _old: Object | None) -> Iterator[Cause]:
    yield from _pod_spec(new["spec"], "spec")


def _pod_spec(spec: Object, path: str, claims: Iterable[str] = ()) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes = {volume["name"] for volume in spec.get("volumes", ())} | set(claims)
    for index, container in enumerate(spec.get("containers") or ()):
        here = f"{path}.containers[{index}]"
        for field in ("name", "image"):
            if not container.get(field):
                yield required(f"{here}.{field}")
        for number, mount in enumerate(container.get("volumeMounts", ())):
            if mount["name"] not in volumes:
                yield missing_target(f"{here}.volumeMounts[{number}].name", mount["name"])
        yield from _resources(container["resources"], f"{here}.resources")


def _resources(resources: Object, path: str) -> Iterator[Cause]:
    limits = resources.get("limits", {})
    for name, amount in resources.get("requests", {}).items():
        if name in limits and parse_quantity(amount) > parse_quantity(limits[name]):
            yield invalid_value(
                f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limits[name]}"
            )


def _service(new: Object, old: Object | None) -> Iterator[Cause]:
    spec, ports = new["spec"], new["spec"].get("ports", [])
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    if len(ports) > 1:
        yield from (required(f"spec.ports[{i}].name") for i, port in enumerate(ports) if not port.get("name"))
    for index, port in enumerate(ports):
        for field in ("port", "targetPort"):
            if isinstance(port[field], int) and not 1 <= port[field] <= 65535:
                yield invalid_value(
                    f"spec.ports[{index}].{field}", port[field], "must be between 1 and 65535, inclusive"
                )
    if old is not None and old["spec"].get("clusterIP") and old["spec"]["clusterIP"] != spec.get("clusterIP"):
        yield invalid_value("spec.clusterIPs[0]", [spec.get("clusterIP", "")], "may not change once set")


def _binding(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None and new["roleRef"] != old["roleRef"]:
        go_names = {"APIGroup": "apiGroup", "Kind": "kind", "Name": "name"}
        role = {go_name: new["roleRef"][name] for go_name, name in go_names.items()}
        yield invalid_value("roleRef", role, "cannot change roleRef")


def _autoscaler(new: Object, _old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    if spec["maxReplicas"] < spec["minReplicas"]:
        why = "must be greater than or equal to `minReplicas`"
        yield invalid_value("spec.maxReplicas", spec["maxReplicas"], why)
    if not spec["scaleTargetRef"].get("apiVersion"):
        yield invalid_value("spec.scaleTargetRef.apiVersion", "", "apiVersion must specify API group")


def _budget(new: Object, _old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    if "minAvailable" in spec and "maxUnavailable" in spec:
        go_names = ("MinAvailable", "Selector", "MaxUnavailable", "UnhealthyPodEvictionPolicy")
        shown = {name: spec.get(name[0].lower() + name[1:]) for name in go_names}
        yield invalid_value("spec", shown, "minAvailable and maxUnavailable cannot be both set")


def _config(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None and old.get("immutable"):
        if not new.get("immutable"):
            yield forbidden_field("immutable", "field is immutable when `immutable` is set")
        if new.get("data") != old.get("data"):
            yield forbidden_field("data", "field is immutable when `immutable` is set")


def _claim(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is None:
        return
    free = {"volumeName"} | ({"storageClassName"} if "storageClassName" not in old["spec"] else set())
    bound = old["status"].get("phase") == "Bound"
    before, after = (_claim_rest(one["spec"], free, bound=bound) for one in (old, new))
    if before != after:
        why = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        yield forbidden_field("spec", why)
    elif bound and storage_of(new["spec"]) < storage_of(old["spec"]):
        yield forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity")


def _claim_rest(spec: Object, free: set[str], *, bound: bool) -> Object:
    return {key: value for key, value in spec.items() if key not in free and not (bound and key == "resources")}


def storage_of(claim_spec: Object) -> Decimal:
    """Return how much a claim asks for."""
    return parse_quantity(claim_spec["resources"].get("requests", {}).get("storage", "0"))


_RULES: dict[str, Callable[[Object, Object | None], Iterator[Cause]]] = {
    "ClusterRoleBinding": _binding,
    "ConfigMap": _config,
    "Deployment": _workload,
    "HorizontalPodAutoscaler": _autoscaler,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "PodDisruptionBudget": _budget,
    "RoleBinding": _binding,
    "Secret": _config,
    "Service": _service,
    "StatefulSet": _workload,
}
