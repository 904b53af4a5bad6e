"""What stands in the way of an apply, and what is done about it: owners of fields, fields that never change, ports.

`field_conflicts` finds which fields other managers own and want otherwise; whether one may be taken from them is for
`planner` (`_may_take`), and `conflict` words one that may not, with how a person gets out of it. Immutable fields are
known here, because the server tells of them only once it is asked. Ports are told apart by number and protocol, and
their names must differ: if the number of one of our ports was edited, that made another port with our name, and the
server refuses ours beside it. Theirs then goes first, with a merge patch: an apply takes away nothing but what its
own manager has put there. So do the keys that others add to a ConfigMap, which pods read as configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.manifest import ObjectRef
from chronik.plan.actions import Action, Apply, Blocked, Conflict, Recreate
from chronik.plan.drift import alters, foreign_fields, split
from chronik.plan.managed_fields import (
    item_field,
    key_names,
    keyed,
    managed_entries,
    node_at,
    owner_of,
    owners_of,
    scalar_key,
)
from chronik.plan.ownership import adders
from chronik.plan.replicas import is_scaled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from chronik.errors import FieldOwner
    from chronik.manifest import Manifest
    from chronik.plan.changes import Change
    from chronik.plan.drift import Difference
    from chronik.plan.managed_fields import FieldPath, Fields


# --- fields that others own -------------------------------------------------------------------------------------------


def field_conflicts(desired: Manifest, live: Manifest, fields: Fields) -> list[FieldOwner]:
    """Return the conflicts that an unforced apply would be answered with; `fields` is what its manager owns.

    Those are the fields that another manager owns and that are not, letter by letter, as desired: the server compares
    before it respells quantities or drops zeroes. One kind is left to the server to find: with a map that was applied
    empty and still is, only its schema knows whether wanting something in it is a conflict.
    """
    entries = [entry for entry in managed_entries(live) if entry.get("fieldsV1") is not fields]
    trees = [entry.get("fieldsV1") or {} for entry in entries]
    found = []
    for entry, tree in zip(entries, trees, strict=True):
        paths = _conflicting(desired, live, tree, ())
        whole = (path for path in paths if not any(node_at(other, path) for other in (fields, *trees)))
        found += [owner_of(entry, path) for path in whole]
    return found


def _conflicting(want: Any, live: Any, owned: Fields, path: FieldPath) -> Iterator[FieldPath]:
    """Yield the fields that a manager owns and that we want otherwise, below a path."""
    if not owned or not isinstance(want, dict | list):
        if want != live and not (isinstance(want, dict) and not live):
            yield path
    elif isinstance(want, dict):
        values = live if isinstance(live, dict) else {}
        for key, value in want.items():
            field = "f:" + key
            if field in owned:
                yield from _conflicting(value, values.get(key), owned[field], (*path, field))
    else:
        names = key_names(owned)
        present = keyed(live or (), names)
        for key, item in keyed(want, names).items():
            field = item_field(key, names)
            if field in owned:
                yield from _conflicting(item, present.get(key), owned[field], (*path, field))


def conflict(
    ref: ObjectRef,
    owners: tuple[FieldOwner, ...],
    changes: tuple[Change, ...],
    removes: tuple[FieldOwner, ...] = (),
    *,
    operated: bool = False,
) -> Conflict:
    """Say who owns fields that are wanted otherwise, or not at all; `operated`: an operator wants them so."""
    managers = " and ".join(sorted({owner.manager for owner in owners}))
    hint = f"Have {managers} let go of them, set the same values, or take them with --force-conflicts."
    paths = sorted({owner.field for owner in owners})
    it = "it" if len(paths) == 1 else "them"
    if removes == owners:
        hint = f"Remove {it}, or let --force-conflicts do so."
    if all(is_scaled(owner) for owner in owners):
        hint = "A HorizontalPodAutoscaler that is not chronik's scales it. Delete that one, or use spec.autoscaling."
    elif operated:
        hint = f"Remove {it} from the configuration of {managers}, or have {managers} give {it} up."
    fields = ", ".join(paths)
    reason = f"{managers} set {fields}"
    return Conflict(ref=ref, owners=owners, removes=removes, changes=changes, reason=reason, hint=hint)


def still_scaled(main: Apply, kept: Action | None, autoscaler: ObjectRef, *, operated: bool = False) -> Blocked:
    """Say which autoscaler would undo the replica count; `kept` is why it is not pruned. `operated`: as above."""
    why = f", and {kept.reason}" if kept else ""
    hint = f"Delete {autoscaler}{'.' if operated else ', or apply with --prune, which does so first.'}"
    reason = f"{autoscaler} still scales it{why}"
    return Blocked(ref=main.ref, by=autoscaler, reason=reason, hint=hint, changes=main.changes)


# --- fields that never change -----------------------------------------------------------------------------------------

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
    "Service": tuple(
        ("f:spec", field) for field in ("f:clusterIP", "f:clusterIPs", "f:healthCheckNodePort", "f:loadBalancerClass")
    ),
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
    """Return the differences, field by field, that no apply can bring about, because their fields never change."""
    return [
        difference
        for difference in split(differences)
        if _is_immutable(difference, desired, live) and alters(difference, live, fields)
    ]


def unchangeable(
    manifest: Manifest,
    live: Manifest,
    changes: tuple[Change, ...],
    stuck: tuple[Change, ...],
    *,
    operated: bool = False,
) -> Recreate | Blocked:
    """Return what becomes of an object of which fields would have to change that never do: `stuck`.

    `operated`: it is an operator that wants them to.
    """
    ref, paths = ObjectRef.of(manifest), ", ".join(change.path for change in stuck)
    if ref.kind != "RoleBinding":
        hint = way_out(ref, operated=operated)
        if any(change.path.endswith("storageClassName") for change in stuck):
            hint = _STORAGE_CLASS.format(hint=hint)
        elif any(change.path.endswith("loadBalancerClass") for change in stuck):
            hint = f"{_LOAD_BALANCER_CLASS} Without an operator, {hint}"
        return Blocked(ref=ref, reason=f"{paths} cannot be changed", hint=hint, changes=changes)
    return Recreate(
        ref=ref,
        reason=f"{paths} cannot be changed; a RoleBinding is safe to create anew",
        manifest=manifest,
        propagation="Background",
        changes=changes,
        uid=live["metadata"]["uid"],
        resource_version=live["metadata"]["resourceVersion"],
    )


def way_out(ref: ObjectRef, *, operated: bool = False) -> str:
    """Say what a person can do about an object whose immutable fields have to change; an operator may see to it."""
    namespace = f" -n {ref.namespace}" if ref.namespace else ""
    delete = f"kubectl delete {ref.kind.lower()} {ref.name}{namespace}"
    who = "the operator" if operated else "apply"
    return _WAYS_OUT.get(ref.kind, _ANY_WAY_OUT).format(delete=delete, who=who)


_STORAGE_CLASS = (
    "Put the old class back, unless the new one is for pods that are added later: volumes that exist keep their class,"
    " and pods their volumes. {hint} Pods that are added after that get volumes of the new class, and no others do."
)
_LOAD_BALANCER_CLASS = "Keep it, or go by way of another network.serviceType: the clients' address changes then."


def _is_immutable(difference: Difference, desired: Manifest, live: Manifest) -> bool:
    kind, path = live["kind"], difference.path
    if kind == "StatefulSet":
        return path[0] == "f:spec" and (len(path) == 1 or path[1] not in _STATEFULSET_MUTABLE)
    if kind == "Service":
        return path[:2] in _IMMUTABLE[kind] and _service_keeps(path[1], difference, desired, live)
    frozen = _FROZEN.get(kind, ()) if live.get("immutable") else ()
    return any(path[: len(prefix)] == prefix for prefix in (*_IMMUTABLE.get(kind, ()), *frozen))


def _service_keeps(field: str, difference: Difference, desired: Manifest, live: Manifest) -> bool:
    """Return whether a Service's field stays: an address that is no longer asked for does, and so does a class.

    A port for health checks stays while the Service has one.
    """
    if field == "f:healthCheckNodePort":
        return bool(difference.live and difference.desired)
    if field == "f:loadBalancerClass":
        return bool(live["spec"].get("type") == desired["spec"].get("type") == "LoadBalancer")
    return difference.kind != "extra"


# --- ports of others that have a name of ours -------------------------------------------------------------------------

_CONTAINERS: FieldPath = ("f:spec", "f:template", "f:spec", "f:containers")


def port_collisions(desired: Manifest, live: Manifest) -> tuple[tuple[FieldOwner, ...], Manifest]:
    """Return who owns the ports in the way of ours, and the merge patch that replaces them, if there are any."""
    if desired["kind"] == "Service":
        wanted, there = desired["spec"].get("ports") or (), live["spec"].get("ports") or ()
        found = _in_the_way(wanted, there, "port")
        patch = {"spec": {"ports": _replaced(wanted, there, found, "port")}}
        return _owners(live, ("f:spec", "f:ports"), found, "port"), patch if found else {}
    if "template" in desired.get("spec", {}):
        return _in_containers(desired, live)
    return (), {}


def without_ports(manifest: Manifest) -> Manifest:
    """Return a manifest without its ports: what can be tried while those of others are in their way."""
    spec = manifest.get("spec", {})
    if "template" not in spec:
        return manifest | ({"spec": {key: value for key, value in spec.items() if key != "ports"}} if spec else {})
    template = spec["template"]
    bare = [{key: value for key, value in each.items() if key != "ports"} for each in _containers(manifest)]
    return manifest | {"spec": spec | {"template": template | {"spec": template["spec"] | {"containers": bare}}}}


def _in_containers(desired: Manifest, live: Manifest) -> tuple[tuple[FieldOwner, ...], Manifest]:
    wanted = {each["name"]: each for each in _containers(desired)}
    owners: list[FieldOwner] = []
    kept = []
    for container in _containers(live):
        ports = container.get("ports") or ()
        ours = wanted.get(scalar_key(container["name"]), {}).get("ports") or ()
        found = _in_the_way(ours, ports, "containerPort")
        path = (*_CONTAINERS, item_field(container["name"], ("name",)), "f:ports")
        owners += _owners(live, path, found, "containerPort")
        kept.append(container | {"ports": _replaced(ours, ports, found, "containerPort")} if found else container)
    if kept == list(_containers(live)):
        return (), {}
    return tuple(owners), {"spec": {"template": {"spec": {"containers": kept}}}}


def _containers(workload: Manifest) -> Sequence[Manifest]:
    found: Sequence[Manifest] = workload["spec"]["template"]["spec"].get("containers") or ()
    return found


def _in_the_way(wanted: Sequence[Manifest], live: Sequence[Manifest], number: str) -> list[Manifest]:
    """Return the live ports that have a name of ours and are none of ours."""
    names, keys = {each.get("name") for each in wanted} - {None}, {_key(each, number) for each in wanted}
    return [each for each in live if scalar_key(each.get("name")) in names and _key(each, number) not in keys]


def _replaced(
    wanted: Sequence[Manifest], live: Sequence[Manifest], found: Sequence[Manifest], number: str
) -> list[Manifest]:
    """Return the live ports with ours in place of those in the way: a Service must not be without any."""
    kept = [each for each in live if each not in found]
    keys = {_key(each, number) for each in kept}
    return [*kept, *(each for each in wanted if _key(each, number) not in keys)]


def _key(port: Manifest, number: str) -> tuple[Any, ...]:
    return scalar_key(port.get(number)), scalar_key(port.get("protocol", "TCP"))


def _owners(live: Manifest, path: FieldPath, ports: Sequence[Manifest], number: str) -> tuple[FieldOwner, ...]:
    keys = (item_field(_key(port, number), (number, "protocol")) for port in ports)
    return tuple(owner for key in keys for owner in owners_of((*path, key), live))


# --- keys of others in what is ours whole -----------------------------------------------------------------------------


def foreign_keys(desired: Manifest, live: Manifest) -> tuple[tuple[FieldOwner, ...], Manifest]:
    """Return who has added keys to a map that is ours whole, and the merge patch that removes them, if there are any.

    No apply can: it only takes away what its own manager has put there.
    """
    owners: list[FieldOwner] = []
    patch: Manifest = {}
    for path, _ in foreign_fields(desired, live):
        field, key = (part[2:] for part in path)
        patch.setdefault(field, {})[key] = None
        owners += adders(path, live)
    return tuple(owners), patch
