"""What an apply would do about a change: which pods restart and why, and what it cannot do.

A snapshot is taken for the live object that chronik applied, with the ownership that the API server would have
recorded. The planner decides the rest, as for `chronik diff`, so a review says what that says, in the same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.manifest import CLUSTER_LABEL, FIELD_MANAGER, KIND_BY_NAME, WORKLOAD_KINDS, ObjectRef
from chronik.plan.actions import Apply, Deferred, Obstacle, Recreate, Wait
from chronik.plan.managed_fields import item_field, keyed
from chronik.plan.planner import PlanContext, plan
from chronik.wording import sentence

if TYPE_CHECKING:
    from chronik.manifest import Manifest
    from chronik.plan.actions import Action
    from chronik.plan.changes import Change
    from chronik.plan.managed_fields import Fields

UNTOLD = "Whether its pods restart cannot be told: no API server would take this, or what the snapshot says."


class Consequences(NamedTuple):
    """What comes of a change: the fields that restart pods, None where there are no pods to; and what else to know."""

    restarts: tuple[Change, ...] | None = None
    notes: tuple[str, ...] = ()


def consequences(old: Manifest, new: Manifest) -> Consequences:
    """Return what an apply of `new` would do to the object that was applied as `old`."""
    ref = ObjectRef.of(new)
    if ref.kind not in KIND_BY_NAME:
        return Consequences()
    try:
        actions = _planned(ref, old, new)
    except (AttributeError, KeyError, TypeError, ValueError):  # a snapshot is a file, and may say anything
        return Consequences(notes=(UNTOLD,) if ref.kind in WORKLOAD_KINDS else ())
    notes = tuple(_told(action) for action in actions if isinstance(action, Recreate | Obstacle | Deferred))
    if ref.kind not in WORKLOAD_KINDS or any(_refuses(action) for action in actions):
        return Consequences(notes=notes)
    restarts = [change for action in actions if isinstance(action, Apply | Recreate) for change in action.restarts]
    return Consequences(tuple(restarts), notes)


def _planned(ref: ObjectRef, old: Manifest, new: Manifest) -> tuple[Action, ...]:
    cluster = (old["metadata"].get("labels") or {}).get(CLUSTER_LABEL, "")
    return plan([new], {ref: as_applied(old)}, PlanContext(cluster=cluster, namespace=ref.namespace)).actions


def _refuses(action: Action) -> bool:
    return isinstance(action, Obstacle) and not isinstance(action, Wait)


def _told(action: Action) -> str:
    if isinstance(action, Recreate) and action.restarts:
        return action.reason.partition(";")[0]  # pods keep running through the recreation, and restart after it
    hint = action.hint if isinstance(action, Obstacle | Deferred) else ""
    return f"{sentence(action.reason)} {hint}" if hint else action.reason


_LIST_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "claims": (("name",),),
    "containers": (("name",),),
    "env": (("name",),),
    "ephemeralContainers": (("name",),),
    "hostAliases": (("ip",),),
    "imagePullSecrets": (("name",),),
    "initContainers": (("name",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "resourceClaims": (("name",),),
    "schedulingGates": (("name",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "volumeDevices": (("devicePath",),),
    "volumeMounts": (("mountPath",),),
    "volumes": (("name",),),
}
"""What tells the items of lists apart, by the name of the list; every other list is owned as a whole."""
_WHOLE = frozenset(
    {
        *("configMapKeyRef", "fieldRef", "fileKeyRef", "imagePullSecrets", "labelSelector", "namespaceSelector"),
        *("nodePublishSecretRef", "nodeSelector", "requiredDuringSchedulingIgnoredDuringExecution"),
        *("resourceFieldRef", "roleRef", "secretKeyRef", "secretRef", "selector"),
    }
)
"""Maps, and items of lists, owned as a whole. tests/testing/test_consequences.py holds both to the API's schema."""
_UNRECORDED = {"apiVersion", "kind", "status"}
_UNRECORDED_METADATA = {"name", "namespace", "ownerReferences"}


def as_applied(manifest: Manifest) -> Manifest:
    """Return a manifest as the API server would hold it once chronik had applied it, but for defaults."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    named = {key: value for key, value in metadata.items() if key not in _UNRECORDED_METADATA}
    spec = {key: value for key, value in manifest.items() if key not in _UNRECORDED}
    entry = {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": manifest["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": _fields(spec | {"metadata": named}),
    }
    return manifest | {"metadata": metadata | {"uid": "snapshot", "resourceVersion": "1", "managedFields": [entry]}}


def _fields(value: dict[str, Any], depth: int = 0) -> Fields:
    found = {f"f:{key}": _field(part, key, depth) for key, part in value.items()}
    return {key: part for key, part in found.items() if part is not None}


def _field(value: Any, name: str, depth: int) -> Fields | None:
    """Return the tree of one value; None if the server keeps no record of it."""
    if isinstance(value, dict):
        return {} if name in _WHOLE else _fields(value, depth + 1)
    if not isinstance(value, list) or not depth:
        return {}
    if not value:
        return None if name in _LIST_KEYS else {}
    for names in _LIST_KEYS.get(name, ()):
        if all(isinstance(item, dict) and item.get(names[0]) is not None for item in value):
            items = keyed(value, names)
            if len(items) == len(value):  # if not, the server takes no such list
                whole = name in _WHOLE
                trees = ({} if whole else {".": {}, **_fields(item, depth + 1)} for item in items.values())
                return {item_field(key, names): tree for key, tree in zip(items, trees, strict=True)}
    return {}
