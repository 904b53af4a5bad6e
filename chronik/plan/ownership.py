"""Whose object is it? Decides what may be touched, what may be pruned, and what others have added to what is ours.

An object is ours by its controller (the ChronikCluster whose operator we are) or, applied from the command line, by its
labels and field manager. A wanted name is no claim: an object that is not ours is never changed and never deleted.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.errors import FieldOwner
from chronik.manifest import (
    ALIAS_LABEL,
    API_VERSION,
    CLUSTER_KIND,
    CLUSTER_LABEL,
    FIELD_MANAGER,
    KIND_BY_NAME,
    MANAGED_BY,
    WORKLOAD_KINDS,
    KindName,
    ObjectRef,
)
from chronik.plan.actions import Prune, Skip
from chronik.plan.drift import applied_fields
from chronik.plan.managed_fields import (
    BEFORE_FIRST_APPLY,
    fields_of,
    item_field,
    keyed,
    list_keys,
    node_at,
    owners_of,
    place_of,
    server_path,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from chronik.manifest import Manifest
    from chronik.plan.managed_fields import FieldPath, Fields

PRUNE_ANNOTATION = "chronik.stream/prune"
KEEP = "keep"


class Owner(Enum):
    """Whose an object is; see `Ownership`."""

    OURS = "ours"
    UNOWNED = "unowned"
    """Applied by chronik from the command line: an operator may adopt it."""
    TERMINATING = "terminating"
    """Being deleted, or left over from a cluster of the same name that is no more."""
    FOREIGN = "foreign"


class Ownership(NamedTuple):
    """Whose an object is, why, and what a person can do about it."""

    owner: Owner
    reason: str = ""
    hint: str = ""


_GROUP = API_VERSION.partition("/")[0]
_LABELS = " ".join(f"{key}={value}" for key, value in MANAGED_BY.items())
_HINT_CONTROLLED = "Delete it, or give the cluster another name."
_HINT_UNLABELLED = (
    "Delete it, or give the cluster another name. To hand it over:"
    f" kubectl label {{kind}} {{name}}{{place}} {CLUSTER_LABEL}={{cluster}} {_LABELS}, and run `chronik apply`."
)
_HINT_OPERATOR = "Delete it, and the operator makes its own; or give the cluster another name."
_OURS = Ownership(Owner.OURS)
_UNOWNED = Ownership(
    Owner.UNOWNED,
    "has no owner, which an apply from the command line or an edit leaves behind; the cluster becomes its owner",
)
_NEVER_APPLIED = Ownership(
    Owner.FOREIGN,
    "has chronik's labels, but chronik never applied it",
    _HINT_OPERATOR,
)


def ownership_of(live: Manifest, cluster: str, owner_uid: str | None) -> Ownership:
    """Return whose an object is, seen from a cluster: by an operator with the cluster's uid, or by the CLI without."""
    found = _ownership_of(live, cluster, owner_uid)
    if "deletionTimestamp" in live["metadata"]:
        return Ownership(Owner.TERMINATING, "is being deleted")
    return found


def applied_by_us(live: Manifest) -> bool:
    """Return whether our field manager has ever written the object and still owns something of it."""
    return any(entry["manager"] == FIELD_MANAGER for entry in live["metadata"].get("managedFields") or ())


def operated_by(objects: Iterable[Manifest], cluster: str) -> str | None:
    """Return the uid of the ChronikCluster of this name whose operator keeps the objects; None if no operator does.

    Of several, which there are while the objects of an earlier cluster are collected, it is the newest object's.
    """
    found = [
        (live["metadata"].get("creationTimestamp", ""), owner["uid"])
        for live in objects
        for owner in live["metadata"].get("ownerReferences") or ()
        if "deletionTimestamp" not in live["metadata"] and is_cluster(owner) and owner["name"] == cluster
    ]
    return max(found)[1] if found else None


def is_cluster(owner: Mapping[str, Any]) -> bool:
    """Return whether an owner reference is to a ChronikCluster, of any version, as the controller of the object."""
    group = str(owner.get("apiVersion")).partition("/")[0]
    return bool(owner.get("controller")) and owner.get("kind") == CLUSTER_KIND and group == _GROUP


def has_owner(live: Manifest, uid: str) -> bool:
    """Return whether the object with this uid is among an object's owners, and would take it along."""
    return any(owner["uid"] == uid for owner in live["metadata"].get("ownerReferences") or ())


def _ownership_of(live: Manifest, cluster: str, owner_uid: str | None) -> Ownership:
    owners = live["metadata"].get("ownerReferences") or ()
    controller = next((owner for owner in owners if owner.get("controller")), None)
    if ALIAS_LABEL in (live["metadata"].get("labels") or {}):
        return Ownership(Owner.FOREIGN, "is an alias, which no cluster owns", _HINT_CONTROLLED)
    if controller is not None:
        return _controlled(controller, cluster, owner_uid)
    if not _has_our_labels(live, cluster):
        hint = _hand_over(live, cluster) if owner_uid is None else _HINT_OPERATOR
        return Ownership(Owner.FOREIGN, "is not chronik's, though it has this name", hint)
    if owner_uid is None:
        return _OURS
    return _UNOWNED if applied_by_us(live) else _NEVER_APPLIED


def _hand_over(live: Manifest, cluster: str) -> str:
    metadata = live["metadata"]
    place = f" -n {metadata['namespace']}" if metadata.get("namespace") else ""
    kind = live["kind"].lower()
    return _HINT_UNLABELLED.format(kind=kind, name=metadata["name"], place=place, cluster=cluster)


def _controlled(controller: dict[str, Any], cluster: str, owner_uid: str | None) -> Ownership:
    kind, name = controller["kind"], controller["name"]
    if owner_uid is not None and controller["uid"] == owner_uid:
        return _OURS
    if is_cluster(controller) and owner_uid is None:
        hint = f"Change that document instead: `kubectl edit {kind.lower()} {name}`."
        return Ownership(Owner.FOREIGN, f"is managed by an operator, for {kind}/{name}", hint)
    if is_cluster(controller) and name == cluster:
        return Ownership(Owner.TERMINATING, f"belongs to an earlier {kind}/{name}, and is about to be collected")
    return Ownership(Owner.FOREIGN, f"is controlled by {kind}/{name}", _HINT_CONTROLLED)


def _has_our_labels(live: Manifest, cluster: str) -> bool:
    """Return whether the labels say it is this cluster's; what chronik applied may have lost one since."""
    labels = live["metadata"].get("labels") or {}
    if labels.items() >= ({CLUSTER_LABEL: cluster} | MANAGED_BY).items():
        return True
    return applied_by_us(live) and labels.get(CLUSTER_LABEL, cluster) == cluster


# --- what is no longer wanted -----------------------------------------------------------------------------------------

_UNWANTED = "is no longer part of the cluster"
NEVER_PRUNED = frozenset({"PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition"})


def pruned(
    live: Manifest, cluster: str, owner_uid: str | None, *, prune: bool, own: Collection[KindName] = ()
) -> Prune | Skip | None:
    """Return what becomes of an object that is not wanted; None if it is none of this cluster's business.

    `own` are the kinds that templates of the user's make for the cluster, or made once.
    """
    labels = live["metadata"].get("labels") or {}
    ref = ObjectRef.of(live)
    if labels.get(CLUSTER_LABEL) != cluster or ref.kind in NEVER_PRUNED:
        return None
    kept = _why_kept(live, cluster, owner_uid, own)
    if kept:
        return Skip(ref=ref, why="kept", reason=kept)
    if not prune:
        return Skip(ref=ref, why="orphaned", reason=f"{_UNWANTED}, but pruning is off")
    metadata = live["metadata"]
    return Prune(
        ref=ref,
        reason=_UNWANTED,
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        api_version=live.get("apiVersion", ""),
    )


def _why_kept(live: Manifest, cluster: str, owner_uid: str | None, own: Collection[KindName]) -> str:
    metadata = live["metadata"]
    whose = ownership_of(live, cluster, owner_uid)
    if whose.owner is not Owner.OURS:
        return whose.reason
    if live["kind"] not in KIND_BY_NAME and KindName.of(live) not in own:
        return f"is a {live['kind']}, which chronik by itself never makes; delete it by hand"
    if not (metadata.get("labels") or {}).items() >= MANAGED_BY.items() or not applied_by_us(live):
        return "is labelled as part of the cluster, but chronik did not make it"
    if (metadata.get("annotations") or {}).get(PRUNE_ANNOTATION) == KEEP:
        return f"is annotated {PRUNE_ANNOTATION}: {KEEP}"
    return ""


# --- what others have added -------------------------------------------------------------------------------------------


def additions(live: Manifest, desired: Manifest | None = None) -> tuple[FieldOwner, ...]:
    """Return what others have added to an object of ours that its pods see, and who they are.

    Those are containers, volumes, variables, commands and mounts of a workload, and keys of a ConfigMap. Injectors of
    secrets and sidecars do so for good reason. What is wanted is no addition; without `desired`, what we own is wanted.
    """
    ours = applied_fields(live)
    if ours is None and desired is None:
        return ()
    wanted = fields_of(desired) if desired is not None else {}
    found = (path for path in _added(live, ours or {}) if node_at(wanted, path) is None)
    return tuple(owner for path in found for owner in adders(path, live))


def adders(path: FieldPath, live: Manifest) -> list[FieldOwner]:
    """Return who else than we set a field that we do not apply; if nobody is known to, the server's name for that."""
    others = [each for each in owners_of(path, live) if (each.manager, each.operation) != (FIELD_MANAGER, "Apply")]
    return others or [FieldOwner(server_path(path), BEFORE_FIRST_APPLY, "Update")]


_POD_PARTS = ("initContainers", "containers", "volumes")
_CONTAINER_PARTS = ("command", "args", "env", "envFrom", "volumeMounts")


def _added(live: Manifest, ours: Fields) -> Iterator[FieldPath]:
    if live["kind"] == "ConfigMap":
        for field in ("data", "binaryData"):
            keys = (("f:" + field, "f:" + key) for key in live.get(field) or ())
            yield from (path for path in keys if node_at(ours, path) is None)
    elif live["kind"] in WORKLOAD_KINDS:
        yield from _added_parts(live["spec"]["template"]["spec"], _POD_PARTS, ours, _POD)


_POD = ("f:spec", "f:template", "f:spec")


def _added_parts(value: Manifest, names: Iterable[str], ours: Fields, path: FieldPath) -> Iterator[FieldPath]:
    """Yield the parts of a pod or a container that are not ours, and of containers that are ours their parts."""
    for name in names:
        part, place = value.get(name), (*path, "f:" + name)
        keys = list_keys(place_of(place))
        if not part:
            continue
        if keys is None:
            if node_at(ours, place) is None:
                yield place
            continue
        for key, item in keyed(part, keys).items():
            at = (*place, item_field(key, keys))
            if node_at(ours, at) is None:
                yield at
            elif name.endswith("ontainers"):
                yield from _added_parts(item, _CONTAINER_PARTS, ours, at)
