"""What the live objects of a cluster say of the document that they were made from, where no operator keeps it.

An API server holds a ChronikCluster to the one that it replaces: data does not move to another backend, and volumes do
not shrink. Without an operator there is no such document, and an apply would begin an empty cluster beside the data. So
the fields that those rules compare are read from the objects. What others have set is drift, which an apply takes back:
only fields count that chronik's own manager applied.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS, component_types, workload_name
from chronik.api.replication.mirrors import alias_of, mirror_ref
from chronik.manifest import API_VERSION, CLUSTER_KIND, ObjectRef
from chronik.plan.drift import applied_fields
from chronik.plan.managed_fields import item_field, node_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronik.api.components import ComponentType
    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

_SETTINGS = "mm2.properties"
_CONTAINERS = ("f:spec", "f:template", "f:spec", "f:containers")
_IDENTITY = "replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy"


def document_that_runs(cluster: Cluster, objects: Mapping[ObjectRef, Manifest]) -> dict[str, Any]:
    """Return the document that the live objects were made from: that of `cluster`, but for what they say otherwise.

    They say of topology, number of nodes, backend, sizes of volumes, load balancer, and names of replication. What they
    do not say is as in the new document, so that no rule finds a change in it. `spec.bootstrap` is in no object.
    """
    spec: dict[str, Any] = deepcopy({**cluster.spec})
    metadata = {"name": cluster.name, "namespace": cluster.namespace}
    document = {"apiVersion": API_VERSION, "kind": CLUSTER_KIND, "metadata": metadata, "spec": spec}
    running = {each: live for each in COMPONENTS.values() if (live := objects.get(_workload(cluster, each)))}
    if running and not any(each.topology == spec["topology"] for each in running):
        return document | {"spec": spec | {"topology": next(iter(running)).topology}}
    for type_ in component_types(spec["topology"]):
        if type_ in running:
            _workload_says(spec, type_, running[type_])
        service = ObjectRef("Service", cluster.namespace, f"{workload_name(cluster.name, type_.name)}-client")
        if service in objects:
            _service_says(spec, type_, objects[service])
    _sizes_say(spec, running)
    if spec["replication"]:
        _mirrors_say(cluster, spec["replication"], objects)
    return document


def _workload(cluster: Cluster, type_: ComponentType) -> ObjectRef:
    return ObjectRef(type_.workload, cluster.namespace, workload_name(cluster.name, type_.name))


def _workload_says(spec: dict[str, Any], type_: ComponentType, live: Manifest) -> None:
    if type_.members and (replicas := _applied(live, "spec", "replicas")):
        spec[type_.count_field] = replicas
    for container in live["spec"]["template"]["spec"].get("containers") or ():
        if container["name"] == type_.name and (backend := _variable(live, container, "OBJECT_STORE_BACKEND")):
            spec["storage"]["backend"] = backend


def _variable(live: Manifest, container: Manifest, name: str) -> str | None:
    """Return the value of a container's variable, if it was applied."""
    of_container = (*_CONTAINERS, item_field(container["name"], ("name",)))
    path = (*of_container, "f:env", item_field(name, ("name",)), "f:value")
    values = {each["name"]: each.get("value") for each in container.get("env") or ()}
    return values.get(name) if node_at(applied_fields(live) or {}, path) is not None else None


def _service_says(spec: dict[str, Any], type_: ComponentType, live: Manifest) -> None:
    if (kind := _applied(live, "spec", "type")) is None:
        return
    spec["network"]["serviceType"] = kind
    said = ((spec["components"] or {}).get(type_.name) or {}).get("service") or {}
    class_ = _applied(live, "spec", "loadBalancerClass")
    if class_ != said.get("loadBalancerClass"):
        _part(_part(_part(spec, "components"), type_.name), "service")["loadBalancerClass"] = class_


def _sizes_say(spec: dict[str, Any], running: Mapping[ComponentType, Manifest]) -> None:
    """Have the sizes of volumes be those that were asked for: at the place where the new document says its own."""
    sizes = {type_: size for type_, live in running.items() for size in _sizes(live)}
    if not spec["components"] and len(set(sizes.values())) == 1:
        spec["storage"]["size"] = next(iter(sizes.values()))
        return
    for type_, size in sizes.items():
        _part(_part(_part(spec, "components"), type_.name), "storage")["size"] = size


def _sizes(live: Manifest) -> Iterator[str]:
    for template in live["spec"].get("volumeClaimTemplates") or ():
        if template["metadata"]["name"] == "data" and applied_fields(live) is not None:
            yield template["spec"]["resources"]["requests"]["storage"]


def _mirrors_say(cluster: Cluster, replication: dict[str, Any], objects: Mapping[ObjectRef, Manifest]) -> None:
    for source in replication["sources"]:
        workload = objects.get(mirror_ref(cluster.key, source["name"]), {})
        volumes = workload.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or ()
        names = [each["configMap"]["name"] for each in volumes if "configMap" in each]
        found = [objects.get(ObjectRef("ConfigMap", cluster.namespace, name), {}) for name in names]
        for lines in (each["data"][_SETTINGS].splitlines() for each in found if _applied(each, "data", _SETTINGS)):
            source["naming"] = "Identity" if _IDENTITY in lines else "Prefixed"
            clusters = next((line for line in lines if line.startswith("clusters = ")), "")
            if (alias := clusters.partition(",")[2]) and alias != alias_of(cluster):
                replication["alias"] = alias


def _applied(live: Manifest, *path: str) -> Any:
    """Return a field's value, if it was applied; None otherwise."""
    if not live or node_at(applied_fields(live) or {}, tuple(f"f:{key}" for key in path)) is None:
        return None
    value: Any = live
    for key in path:
        value = (value or {}).get(key)
    return value


def _part(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a section of a document, made if it is not there."""
    if not value.get(key):
        value[key] = {}
    found: dict[str, Any] = value[key]
    return found
