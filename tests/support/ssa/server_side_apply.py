"""Who owns which field: what kube-apiserver does to `metadata.managedFields` on apply and on every other write.

A port of what matters of k8s.io/apimachinery's managedfields package, on top of `field_sets`. Pure: the time is an
argument. `fake_writes` and `fake_scale` call it. Left out: the kubectl last-applied annotation, the cap of ten Update
entries, and conversion between versions (the stand-in serves one version of each kind).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from support.ssa.field_sets import (
    FieldSet,
    Path,
    compare,
    fields_of,
    from_fields_v1,
    merge,
    printed,
    remove,
    to_fields_v1,
    with_named_fields,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.ssa.field_types import Type

BEFORE_FIRST_APPLY = "before-first-apply"

_NEVER_OWNED: FieldSet = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            *("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName"),
            *("generation", "managedFields", "resourceVersion"),
        )
    }
)


class Manager(NamedTuple):
    """What tells one entry of managedFields from another; the API version is that of Update entries only."""

    name: str
    operation: str
    subresource: str = ""
    api_version: str = ""

    def __str__(self) -> str:
        text = json.dumps(self.name)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource)}"
        return f"{text} using {self.api_version}" if self.operation == "Update" else text

    def sort_key(self) -> str:
        """Return the identifier that kube-apiserver sorts conflicting managers by."""
        parts = {"manager": self.name, "operation": self.operation, "apiVersion": self.api_version}
        parts["subresource"] = self.subresource
        return json.dumps({key: value for key, value in parts.items() if value}, separators=(",", ":"))


@dataclass(frozen=True)
class Owned:
    """The fields of one manager, and when it last changed them."""

    fields: FieldSet
    api_version: str
    time: str | None = None


Managers = dict[Manager, Owned]


class Conflicts(Exception):
    """An apply without force wants fields that others own; `paths` lists them by manager."""

    def __init__(self, paths: list[tuple[Manager, Path]]) -> None:
        super().__init__(_conflict_message(paths))
        self.causes = [
            {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": printed(path)}
            for manager, path in paths
        ]


@dataclass(frozen=True)
class Write:
    """One write as field management sees it: by whom, to what, through which door, and when.

    `ignored` drops the paths that the door resets (status through the main resource, spec through `/status`).
    """

    kind: Type
    api_version: str
    manager: str
    now: str
    subresource: str = ""
    ignored: Callable[[FieldSet], FieldSet] = lambda paths: paths

    def entry(self, operation: str) -> Manager:
        """Return the entry of managedFields that this write goes to."""
        version = self.api_version if operation == "Update" else ""
        return Manager(self.manager or "unknown", operation, self.subresource, version)


def decode(entries: Iterable[dict[str, Any]]) -> Managers:
    """Read managedFields."""
    return {
        Manager(
            entry.get("manager", ""),
            entry["operation"],
            entry.get("subresource", ""),
            entry["apiVersion"] if entry["operation"] == "Update" else "",
        ): Owned(from_fields_v1(entry.get("fieldsV1", {})), entry["apiVersion"], entry.get("time"))
        for entry in entries
    }


def encode(managers: Managers) -> list[dict[str, Any]]:
    """Write managedFields, in the server's order."""
    entries = []
    for manager, owned in managers.items():
        entry = {"manager": manager.name, "operation": manager.operation, "apiVersion": owned.api_version}
        if owned.time is not None:
            entry["time"] = owned.time
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": to_fields_v1(owned.fields)}
        entries.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
    keys = ("operation", "time", "manager", "apiVersion", "subresource")
    return sorted(entries, key=lambda entry: [entry.get(key, "") for key in keys])


def update(old: Any, new: Any, managers: Managers, write: Write) -> Managers:
    """Return the managers after any write but an apply: whoever changes a field owns it, alone."""
    change = compare(old, new, write.kind)
    touched = write.ignored(change.modified | change.added)
    managers = _take(managers, touched, write.ignored(change.removed))
    fields = touched - _NEVER_OWNED
    if not fields:
        return managers
    entry = write.entry("Update")
    before = managers[entry].fields if entry in managers else frozenset()
    return managers | {entry: Owned(fields | before, write.api_version, write.now)}


def apply(live: Any, config: Any, managers: Managers, write: Write, *, force: bool) -> tuple[Any, Managers]:
    """Return the merged object, or `live` itself if nothing changes, and the managers after it.

    Raises Conflicts unless `force`.
    """
    entry = write.entry("Apply")
    before = managers.get(entry)
    fields = write.ignored(fields_of(config, write.kind))
    managers = managers | {entry: Owned(fields, write.api_version, before.time if before else None)}
    new = merge(live, config, write.kind)
    if before and not before.fields <= fields:
        new = _prune(new, before.fields, managers, write.kind)
    change = compare(live, new, write.kind)
    touched = write.ignored(change.modified | change.added)
    if not force:
        _refuse_conflicts({other: owned for other, owned in managers.items() if other != entry}, touched)
    others = {other: owned for other, owned in managers.items() if other != entry}
    managers = _take(others, touched, write.ignored(change.removed))
    changed = new != live
    if fields - _NEVER_OWNED:
        time = write.now if changed else (before.time if before else None)
        managers |= {entry: Owned(fields - _NEVER_OWNED, write.api_version, time)}
    return (new if changed else live), managers


def first_apply(empty: Any, live: Any, write: Write) -> Managers:
    """Return the managers of an object that has none yet and is about to be applied to."""
    return update(empty, live, {}, replace(write, manager=BEFORE_FIRST_APPLY, ignored=lambda paths: paths))


def _take(managers: Managers, touched: FieldSet, removed: FieldSet) -> Managers:
    left = {other: replace(owned, fields=owned.fields - touched - removed) for other, owned in managers.items()}
    return {other: owned for other, owned in left.items() if owned.fields}


def _refuse_conflicts(others: Managers, touched: FieldSet) -> None:
    conflicts = [
        (manager, path)
        for manager in sorted(others, key=Manager.sort_key)
        for path in sorted(others[manager].fields & touched)
    ]
    if conflicts:
        raise Conflicts(conflicts)


def _prune(merged: Any, last: FieldSet, managers: Managers, kind: Type) -> Any:
    """Remove what the manager applied last time and no longer does, unless anybody else owns it."""
    last = with_named_fields(last, kind)
    pruned = remove(merged, last, kind)
    claimed = frozenset[Path]().union(*(owned.fields for owned in managers.values()))
    everything = with_named_fields(fields_of(merged, kind), kind)

    def left(value: Any) -> FieldSet:
        return with_named_fields(fields_of(value, kind), kind)

    pruned = remove(merged, everything - (left(pruned) | with_named_fields(claimed, kind)), kind)
    return remove(merged, (everything - left(pruned)) & last, kind)


def _conflict_message(paths: list[tuple[Manager, Path]]) -> str:
    if len(paths) == 1:
        manager, path = paths[0]
        return f"Apply failed with 1 conflict: conflict with {manager}: {printed(path)}"
    lines = []
    for manager in sorted({str(manager) for manager, _ in paths}):
        lines.append(f"conflicts with {manager}:")
        lines += [f"- {printed(path)}" for other, path in paths if str(other) == manager]
    return f"Apply failed with {len(paths)} conflicts: " + "\n".join(lines)


# --- the scale subresource --------------------------------------------------------------------------------------------

REPLICAS: Path = ("f:spec", "f:replicas")
SCALE_VERSION = "autoscaling/v1"


def to_scale(managers: Managers) -> Managers:
    """Return the managers of a workload's replica count, as managers of its Scale."""
    owned = {manager: item for manager, item in managers.items() if REPLICAS in item.fields}
    return {manager: Owned(frozenset({REPLICAS}), SCALE_VERSION, item.time) for manager, item in owned.items()}


def from_scale(parent: Managers, scale: Managers, api_version: str) -> Managers:
    """Return the workload's managers after a write to its Scale: a new owner of the count takes it from the others."""
    result: Managers = {}
    for manager, owned in parent.items():
        fields = owned.fields if manager in scale else owned.fields - {REPLICAS}
        if fields:
            result[manager] = replace(owned, fields=fields)
    for manager, owned in scale.items():
        before = parent.get(manager)
        if REPLICAS in owned.fields and (before is None or REPLICAS not in before.fields):
            result[manager] = Owned(frozenset({REPLICAS}), api_version, before.time if before else None)  # sic: no time
    return result
