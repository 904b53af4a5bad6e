"""Deletion in the stand-in: preconditions, finalizers, propagation, the garbage collector and the namespace controller.

The real ones are controllers that act a moment later, so here too they act after the answer: `Collector.step` does one
round, and `fake_server` calls it while anything is due. Their own writes are no requests and appear in no log.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support import api_errors as errors
from support.fake_server.kinds import PVC_FINALIZER, Kind
from support.fake_server.request import Answered, Options, Target, now
from support.ssa import server_side_apply as ssa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fake_server.store import Change, Store

Object = dict[str, Any]

NAMESPACE_GRACE = 0.3
"""Seconds for which a deleted namespace keeps its content; the real controller waits five."""

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_FINALIZER = {"Orphan": ORPHAN, "Foreground": FOREGROUND}


@dataclass(frozen=True)
class Preconditions:
    """What must be true of an object for its deletion to go ahead."""

    uid: str | None = None
    version: str | None = None


def delete(
    store: Store, at: Target, preconditions: Preconditions, propagation: str | None, options: Options
) -> Answered:
    """DELETE of one object: gone at once, or marked and left to whoever holds a finalizer."""
    live = store.get(at.kind, at.namespace, at.name)
    if live is None:
        raise errors.not_found(at.kind.resource(at.name))
    _check(at, live["metadata"], preconditions)
    obj = deepcopy(live)
    metadata = obj["metadata"]
    if propagation is not None:
        _set_propagation(metadata, _FINALIZER.get(propagation))
    if at.kind.name == "Namespace" or metadata.get("finalizers"):
        _mark(at.kind, obj)
        if obj == live or options.dry_run:
            return 200, obj
        return 200, store.put(at.kind, obj)
    if not options.dry_run:
        store.drop(at.kind, obj)
    return 200, obj if at.kind.returns_deleted else _success(at, metadata["uid"])


def _check(at: Target, metadata: Object, preconditions: Preconditions) -> None:
    about = at.kind.named(at.name)
    if preconditions.uid not in {None, metadata["uid"]}:
        why = (
            f"the UID in the precondition ({preconditions.uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise errors.conflict(about, why)
    if preconditions.version not in {None, metadata["resourceVersion"]}:
        why = (
            f"the ResourceVersion in the precondition ({preconditions.version}) does not match the ResourceVersion in "
            f"record ({metadata['resourceVersion']}). The object might have been modified"
        )
        raise errors.conflict(about, why)


def _set_propagation(metadata: Object, finalizer: str | None) -> None:
    others = [one for one in metadata.get("finalizers", []) if one not in {ORPHAN, FOREGROUND}]
    metadata["finalizers"] = others + ([finalizer] if finalizer else [])
    if not metadata["finalizers"]:
        del metadata["finalizers"]


def _mark(kind: Kind, obj: Object) -> None:
    metadata = obj["metadata"]
    if "deletionTimestamp" in metadata:
        return
    metadata["deletionTimestamp"] = now()
    if kind.name == "Namespace":
        obj["status"]["phase"] = "Terminating"
        return
    metadata["deletionGracePeriodSeconds"] = 0
    if metadata.get("generation"):
        metadata["generation"] += 1


def _success(at: Target, uid: str) -> Object:
    details = at.kind.resource(at.name).details(uid=uid)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


class Collector:
    """The garbage collector, the namespace controller and the claim protection controller in small."""

    def __init__(self, store: Store) -> None:
        self.due = False
        self._store = store
        self._first_seen: dict[str, float] = {}  # when a namespace was seen to be deleted
        store.listeners.append(self._look_at)

    def _look_at(self, change: Change) -> None:
        after = change.after
        self.due |= after is None or bool({"deletionTimestamp", "ownerReferences"} & after["metadata"].keys())

    def step(self, clock: float) -> None:
        """Do everything that is due now, and stay due if there is or may be more; `clock` counts seconds."""
        self.due = False
        list(self._actions(clock))

    def _actions(self, clock: float) -> Iterator[None]:
        everything = list(self._store.everything())
        by_uid = {obj["metadata"]["uid"]: (kind, obj) for kind, obj in everything}
        dependents: dict[str, list[tuple[Kind, Object]]] = {}
        for kind, obj in everything:
            for owner in obj["metadata"].get("ownerReferences", ()):
                dependents.setdefault(owner["uid"], []).append((kind, obj))
        for kind, obj in everything:
            metadata = obj["metadata"]
            if kind.name == "Namespace" and "deletionTimestamp" in metadata:
                yield self._empty_namespace(kind, obj, clock)
            elif "deletionTimestamp" in metadata:
                yield self._finish(kind, obj, dependents.get(metadata["uid"], []))
            elif metadata.get("ownerReferences"):
                yield self._disown(kind, obj, by_uid)

    def _disown(self, kind: Kind, obj: Object, by_uid: dict[str, tuple[Kind, Object]]) -> None:
        owners = obj["metadata"]["ownerReferences"]
        solid = [owner for owner in owners if self._exists(owner, obj, by_uid)]
        waiting = [one for one in solid if _waits(by_uid[one["uid"]][1]["metadata"])]
        if solid and len(waiting) == len(solid):  # every owner left waits for its dependents to go first
            self._delete(kind, obj, "Foreground")
        elif not solid:
            self._delete(kind, obj, "Background")
        elif len(solid) < len(owners):
            self._edit(kind, obj, ownerReferences=solid)

    def _exists(self, owner: Object, obj: Object, by_uid: dict[str, tuple[Kind, Object]]) -> bool:
        found = by_uid.get(owner["uid"])
        if found is None:
            return False
        kind, other = found
        same_place = not kind.namespaced or other["metadata"]["namespace"] == obj["metadata"].get("namespace")
        return same_place and (kind.name, other["metadata"]["name"]) == (owner["kind"], owner["name"])

    def _finish(self, kind: Kind, obj: Object, dependents: list[tuple[Kind, Object]]) -> None:
        metadata = obj["metadata"]
        finalizers, uid = metadata.get("finalizers", []), metadata["uid"]
        if ORPHAN in finalizers:
            for other_kind, other in dependents:
                left = [owner for owner in other["metadata"]["ownerReferences"] if owner["uid"] != uid]
                self._edit(other_kind, other, ownerReferences=left)
            self._release(kind, obj, ORPHAN)
        elif FOREGROUND in finalizers and not any(_blocks(other, uid) for _, other in dependents):
            self._release(kind, obj, FOREGROUND)
        elif PVC_FINALIZER in finalizers and kind.name == "PersistentVolumeClaim":
            self._release(kind, obj, PVC_FINALIZER)

    def _empty_namespace(self, kind: Kind, obj: Object, clock: float) -> None:
        if clock - self._first_seen.setdefault(obj["metadata"]["uid"], clock) < NAMESPACE_GRACE:
            self.due = True
            return
        contents = list(self._store.in_namespace(obj["metadata"]["name"]))
        for other_kind, other in contents:
            if "deletionTimestamp" not in other["metadata"]:
                self._delete(other_kind, other, "Background")
        if contents or not obj["spec"].get("finalizers"):
            return
        emptied = deepcopy(obj)
        del emptied["spec"]["finalizers"]
        if obj["metadata"].get("finalizers"):
            self._store.put(kind, emptied)
        else:
            self._store.drop(kind, obj)

    def _delete(self, kind: Kind, obj: Object, propagation: str) -> None:
        at = Target(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        if self._store.get(kind, at.namespace, at.name) is not None:
            delete(self._store, at, Preconditions(), propagation, Options())

    def _release(self, kind: Kind, obj: Object, finalizer: str) -> None:
        left = [one for one in obj["metadata"]["finalizers"] if one != finalizer]
        self._edit(kind, obj, finalizers=left)

    def _edit(self, kind: Kind, obj: Object, **changes: list[Any]) -> None:
        """Change lists of an object's metadata as a controller does, with what that means for their owners."""
        metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
        base = obj | {"metadata": metadata}
        new = deepcopy(base)
        for key, value in changes.items():
            if value:
                new["metadata"][key] = value
            else:
                new["metadata"].pop(key, None)
        managers = ssa.decode(obj["metadata"].get("managedFields", ()))
        write = ssa.Write(kind.type, kind.api_version, "kube-controller-manager", now())
        managers = ssa.update(base, new, managers, write) if managers else {}
        if managers:
            new["metadata"]["managedFields"] = ssa.encode(managers)
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._store.drop(kind, new)
        else:
            self._store.put(kind, new)


def _waits(metadata: Object) -> bool:
    return "deletionTimestamp" in metadata and FOREGROUND in metadata.get("finalizers", ())


def _blocks(obj: Object, uid: str) -> bool:
    owners = obj["metadata"].get("ownerReferences", ())
    return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owners)
