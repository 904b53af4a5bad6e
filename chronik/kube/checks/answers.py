"""The shape of what the API server answers: objects, pages of a list, events of a watch, refusals, and its kinds.

Checked once, where answers come in, so that nothing behind has to doubt them. Of an object that is its metadata, and of
its spec and status what chronik reads; the rest may be anything that is not nested without end. A real API server keeps
to all of this; what answers in its place need not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import orjson

from chronik.api.components import COMPONENTS
from chronik.kube.checks.shapes import (
    ShapeError,
    anything,
    fields,
    flag,
    integer_text,
    list_of,
    map_of,
    one_of,
    text,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.kube.checks.shapes import Shape
    from chronik.manifest import Kind

_TEXTS = map_of(text)
_LABELLED = fields({"name": text, "labels": _TEXTS, "annotations": _TEXTS})


def _owned_fields(value: Any) -> Any:
    """Take a tree of fieldsV1: maps all the way down, with keys that say what they are."""
    if type(value) is not dict:
        raise ShapeError("is no tree of owned fields")
    for key, part in value.items():
        if part or type(part) is not dict:
            _owned_fields(part)
        if key[:2] != "f:" and key != "." and not _is_item(key):
            raise ShapeError("is no tree of owned fields")
    return value


@lru_cache(maxsize=4096)
def _is_item(key: str) -> bool:
    """Tell whether a key stands for an item of a list, by its key fields, its value or its number."""
    try:
        value = orjson.loads(key[2:])
    except orjson.JSONDecodeError:
        return False
    if key[:2] == "k:":
        return (
            isinstance(value, dict)
            and bool(value)
            and not any(isinstance(part, dict | list) for part in value.values())
        )
    return key[:2] in {"v:", "i:"} and not isinstance(value, dict | list)


_MANAGED_FIELDS = list_of(
    fields(
        {"manager": text, "operation": one_of("Apply", "Update"), "subresource": text, "fieldsV1": _owned_fields},
        required=("manager", "operation"),
    )
)
_METADATA: dict[str, Shape] = {
    "name": text,
    "namespace": text,
    "uid": text,
    "resourceVersion": integer_text,
    "generation": whole,
    "creationTimestamp": text,
    "deletionTimestamp": text,
    "labels": _TEXTS,
    "annotations": _TEXTS,
    "finalizers": list_of(text),
    "ownerReferences": list_of(
        fields(
            {"apiVersion": text, "kind": text, "name": text, "uid": text, "controller": flag},
            required=("kind", "name", "uid"),
        )
    ),
    "managedFields": _MANAGED_FIELDS,
}
_METADATA_ONLY_READ = _METADATA | {"managedFields": anything}
"""Of kinds that chronik never applies: nobody asks who owns their fields, and they are many."""
_ONLY_READ = frozenset({"Pod", "Secret", "Event", "StorageClass"})
_IDENTITY = ("name", "uid")

_CONDITIONS = list_of(
    fields(
        {"type": text, "status": text, "reason": text, "message": text, "lastTransitionTime": text},
        required=("type", "status"),
    )
)
_CONTAINERS = list_of(
    fields(
        {
            "name": text,
            "ready": flag,
            "started": flag,
            "restartCount": whole,
            "state": fields({"waiting": fields({"reason": text, "message": text})}),
            "lastState": fields({"terminated": fields({"reason": text, "exitCode": whole, "message": text})}),
        }
    )
)
_STORAGE = fields({"storageClassName": text, "resources": fields({"requests": map_of(anything)})})
_COUNTS = (
    *("observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "availableReplicas"),
    *("currentReplicas", "unavailableReplicas", "desiredReplicas"),
)
_NAMED = list_of(fields({"name": text}))
_CONTAINER_SPECS = list_of(
    fields(
        {
            "name": text,
            "env": _NAMED,
            "ports": list_of(fields({"name": text, "containerPort": whole, "protocol": text})),
            "volumeMounts": list_of(fields({"mountPath": text})),
            "volumeDevices": list_of(fields({"devicePath": text})),
        },
        required=("name",),
    )
)
_POD_SPEC = fields(
    {
        "containers": _CONTAINER_SPECS,
        "initContainers": _CONTAINER_SPECS,
        "volumes": _NAMED,
        "imagePullSecrets": _NAMED,
        "hostAliases": list_of(fields({"ip": text})),
        "topologySpreadConstraints": list_of(fields({"topologyKey": text, "whenUnsatisfiable": text})),
    }
)
"""The lists of a pod whose items have a key: they are compared item by item."""
_WORKLOAD: dict[str, Shape] = {
    "spec": fields(
        {
            "replicas": whole,
            "template": fields({"metadata": _LABELLED, "spec": _POD_SPEC}, required=("spec",)),
            "updateStrategy": fields({"type": text, "rollingUpdate": fields({"partition": whole})}),
            "persistentVolumeClaimRetentionPolicy": _TEXTS,
            "volumeClaimTemplates": list_of(
                fields({"metadata": fields({"name": text}, required=("name",)), "spec": _STORAGE}, ("metadata", "spec"))
            ),
        },
        required=("replicas", "template"),
    ),
    "status": fields(
        {**dict.fromkeys(_COUNTS, whole), "currentRevision": text, "updateRevision": text, "conditions": _CONDITIONS}
    ),
}
_KINDS: dict[str, dict[str, Shape]] = {
    "StatefulSet": _WORKLOAD,
    "Deployment": _WORKLOAD,
    "Service": {
        "spec": fields(
            {
                "type": text,
                "clusterIP": text,
                "ports": list_of(
                    fields({"name": text, "port": whole, "protocol": text, "nodePort": whole}, required=("port",))
                ),
            }
        ),
        "status": fields({"loadBalancer": fields({"ingress": list_of(fields({"hostname": text, "ip": text}))})}),
    },
    "HorizontalPodAutoscaler": {
        "spec": fields(
            {
                "minReplicas": whole,
                "maxReplicas": whole,
                "scaleTargetRef": fields({"kind": text, "name": text}, required=("kind", "name")),
            },
            required=("maxReplicas", "scaleTargetRef"),
        ),
        "status": fields({**dict.fromkeys(_COUNTS, whole), "conditions": _CONDITIONS}),
    },
    "PodDisruptionBudget": {"spec": fields({}), "status": fields({"observedGeneration": whole})},
    "ServiceAccount": {"secrets": _NAMED, "imagePullSecrets": _NAMED},
    "ConfigMap": {"data": _TEXTS, "binaryData": _TEXTS, "immutable": flag},
    "Secret": {"data": _TEXTS, "immutable": flag},
    "Pod": {
        "spec": fields(
            {
                "containers": list_of(fields({"name": text, "image": text}, required=("name",))),
                "volumes": list_of(fields({"name": text, "persistentVolumeClaim": fields({"claimName": text})})),
            }
        ),
        "status": fields(
            {
                "phase": text,
                "reason": text,
                "message": text,
                "conditions": _CONDITIONS,
                "containerStatuses": _CONTAINERS,
                "initContainerStatuses": _CONTAINERS,
            }
        ),
    },
    "PersistentVolumeClaim": {
        "spec": _STORAGE,
        "status": fields({"phase": text, "capacity": map_of(anything), "conditions": _CONDITIONS}),
    },
    "StorageClass": {"allowVolumeExpansion": flag},
    "Lease": {
        "spec": fields(
            {
                "holderIdentity": text,
                "leaseDurationSeconds": whole,
                "acquireTime": text,
                "renewTime": text,
                "leaseTransitions": whole,
            }
        )
    },
    "ChronikCluster": {
        "status": fields(
            {
                "phase": text,
                "observedGeneration": whole,
                "lastUpdated": text,
                "operatorVersion": text,
                **dict.fromkeys((each.count_field for each in COMPONENTS.values()), list_of(text)),
                "secretDigests": _TEXTS,
                **dict.fromkeys(("readyReplicas", "replicas"), map_of(whole)),
                "images": map_of(list_of(text)),
                "conditions": _CONDITIONS,
            }
        )
    },
}
_REQUIRED = {
    **dict.fromkeys(("StatefulSet", "Deployment", "Service", "HorizontalPodAutoscaler"), ("spec",)),
    "PersistentVolumeClaim": ("spec",),
}
_REQUIRED_METADATA = {"ChronikCluster": ("generation",)}


@lru_cache
def _shape(name: str, *identity: str) -> Shape:
    """Return the shape of an object of a kind; `identity` are the fields that its metadata must have."""
    table = _METADATA_ONLY_READ if name in _ONLY_READ else _METADATA
    metadata = fields(table, required=(*identity, *_REQUIRED_METADATA.get(name, ())))
    parts = _KINDS.get(name, {"spec": anything, "status": anything})
    return fields(
        {"apiVersion": text, "kind": one_of(name), "metadata": metadata, **parts},
        required=("apiVersion", "kind", "metadata", *_REQUIRED.get(name, ())),
    )


_MAP = map_of(anything)


def check_object(value: Any, kind: Kind, *, stored: bool = True) -> dict[str, Any]:
    """Return an object of a kind; `stored`: it has a version, which a dry run has none of.

    Raises:
        ShapeError: it is something else.
    """
    _bounded(value)
    return _checked(value, kind, stored=stored)


def _checked(value: Any, kind: Kind, *, stored: bool) -> dict[str, Any]:
    place = ("namespace",) if kind.namespaced else ()
    version = ("resourceVersion",) if stored else ()
    found: dict[str, Any] = _shape(kind.name, *_IDENTITY, *place, *version)(value)
    return found


_PAGE = fields(
    {"items": list_of(anything), "metadata": fields({"resourceVersion": integer_text, "continue": text})},
    required=("metadata",),
)


def check_page(value: Any) -> tuple[list[Any], str, str]:
    """Return the items of a list's page, which are not checked yet, its version, and the token for the next page.

    Raises:
        ShapeError: it is no page.
    """
    _bounded(value)
    page = _PAGE(value)
    if "items" not in value:
        raise ShapeError("is missing").below(".items")
    metadata = page["metadata"]
    if not metadata.get("resourceVersion"):
        raise ShapeError("is missing").below(".resourceVersion").below(".metadata")
    return page.get("items", []), metadata["resourceVersion"], metadata.get("continue", "")


def check_items(items: Iterable[Any], kind: Kind) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list's page, with the apiVersion and kind that only the list has.

    Raises:
        ShapeError: an item is no object of that kind.
    """
    identity = {"apiVersion": kind.api_version, "kind": kind.name}
    for number, item in enumerate(items):
        try:
            yield _checked({**identity, **item} if type(item) is dict else item, kind, stored=True)
        except ShapeError as error:
            raise error.below(f".items[{number}]") from None


_CAUSES = list_of(fields({"field": text, "message": text, "reason": text}))
_STATUS = fields(
    {
        "message": text,
        "reason": text,
        "code": whole,
        "details": fields({"causes": _CAUSES, "retryAfterSeconds": whole}),
    },
    required=("message",),
)
_EVENT = fields(
    {"type": one_of("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"), "object": fields({})},
    required=("type", "object"),
)
_BOOKMARK = fields(
    {"metadata": fields({"resourceVersion": integer_text}, required=("resourceVersion",))}, required=("metadata",)
)
_BESIDE_OBJECTS = {"BOOKMARK": _BOOKMARK, "ERROR": _STATUS}

Change = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]


def check_event(value: Any, kind: Kind) -> tuple[Change, dict[str, Any]]:
    """Return what happened, and to what object; of a BOOKMARK that has its version only, of an ERROR it is a Status.

    Raises:
        ShapeError: it is no event of a watch.
    """
    event = _EVENT(value)
    change, subject = event["type"], event["object"]
    try:
        if change in _BESIDE_OBJECTS:
            _bounded(subject)
            return change, _BESIDE_OBJECTS[change](subject)
        return change, check_object(subject, kind)
    except ShapeError as error:
        raise error.below(".object") from None


_RESOURCES = fields(
    {"resources": list_of(fields({"kind": text, "name": text, "namespaced": flag}, required=("kind", "name")))},
    required=("resources",),
)


def check_resources(value: Any) -> list[dict[str, Any]]:
    """Return the resources of an API group: `kind`, `name`, and perhaps `namespaced`.

    Raises:
        ShapeError: it is no APIResourceList.
    """
    found: list[dict[str, Any]] = _RESOURCES(value)["resources"]
    return found


def check_map(value: Any) -> dict[str, Any]:
    """Return an answer that is a map, whatever is in it.

    Raises:
        ShapeError: it is something else.
    """
    found: dict[str, Any] = _MAP(value)
    return found


def read_status(body: str) -> dict[str, Any]:
    """Return the Status object of an answer's body; a body that is none becomes its message."""
    try:
        status: dict[str, Any] = _STATUS(orjson.loads(body))
    except (ShapeError, orjson.JSONDecodeError):
        return {"message": body.strip()}
    return status


def _bounded(value: Any) -> None:
    """Refuse what is nested deeper than 254 levels: whatever walks through it later would fail there.

    orjson writes no more than that, and finds out in a fifth of the time that a walk in Python takes.
    """
    try:
        orjson.dumps(value)
    except TypeError:
        raise ShapeError("is nested too deeply") from None
