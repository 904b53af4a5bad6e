"""One object on a server that only does field management: apply, edit, and random changes that fit the object's type.

The pure parts of the stand-in server without HTTP, storage or validation, so that a property test can try thousands of
states. `test_ownership` and `test_plan` are the callers.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from support.fake_server.kinds import BUILT_IN
from support.ssa import server_side_apply as ssa
from support.ssa.field_types import ANY, Type

from chronik.manifest import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random

Object = dict[str, Any]

KINDS = {(kind.api_version, kind.name): kind for kind in BUILT_IN}
NOW = "2026-01-02T03:04:05Z"
SERVER_METADATA = {
    "selfLink",
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
}
SET_BY_SERVER = {"PersistentVolumeClaim": {"apiVersion", "kind", "status"}}  # in a StatefulSet's claim templates
VALUES: dict[str, tuple[Any, ...]] = {
    "string": ("a", "b", "1", "1000m", "true"),  # an empty one is often replaced by a default
    "integer": (0, 1, 2, 30),
    "number": (0.5, 2.0),
    "boolean": (True, False),
    "quantity": ("1", "1000m", "2Gi", "2048Mi", "0", "1e3", "1k"),
    "int-or-string": (0, 1, "20%", "http"),
    "bytes": ("", "YQ=="),
    "time": ("2026-01-02T03:04:05Z",),
    "microtime": ("2026-01-02T03:04:05.000006Z",),
}


class FieldModel:
    """The life of one object: `live` is its state, None before it is created."""

    def __init__(self, manifest: Object) -> None:
        self.kind = KINDS[manifest["apiVersion"], manifest["kind"]]
        self.live: Object | None = None

    def apply(self, config: Object, manager: str = FIELD_MANAGER, *, force: bool = True) -> bool:
        """Apply, and tell whether that changed anything but times; raise ssa.Conflicts if it must not take a field."""
        before = self.live
        base, managers = split(before) if before else (self.kind.empty, {})
        new, managers = ssa.apply(base, deepcopy(config), managers, self._write(manager), force=force)
        self._store(new, managers)
        return before is None or content(before) != content(self.live)

    def edit(self, new: Object, manager: str, subresource: str = "") -> None:
        """Update to a new state, as `kubectl edit` and most controllers do."""
        base, managers = split(self.live)
        new = self.kind.decode(new)
        managers = ssa.update(base, new, managers, self._write(manager, subresource))
        self._store(new, managers)

    def tamper(self, new: Object) -> None:
        """Change the object and leave the managers alone, as a mutating webhook does."""
        self._store(new, split(self.live)[1])

    def _store(self, new: Object, managers: ssa.Managers) -> None:
        self.live = self.kind.decode({**new, "metadata": {**new["metadata"]}})
        self.live["metadata"]["managedFields"] = ssa.encode(managers)

    def _write(self, manager: str, subresource: str = "") -> ssa.Write:
        kind = self.kind
        return ssa.Write(kind.type, kind.api_version, manager, NOW, subresource, kind.ignored(subresource))


def split(live: Object) -> tuple[Object, ssa.Managers]:
    """Return an object without its managed fields, and these decoded."""
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    return live | {"metadata": metadata}, ssa.decode(live["metadata"]["managedFields"])


def content(live: Object) -> Any:
    """Return what two states of an object are compared by."""
    base, managers = split(live)
    return base, {manager: owned.fields for manager, owned in managers.items()}


def mutated(manifest: Object, random: Random, changes: int = 1) -> Object:
    """Return a copy with random changes that fit the type of the object, in any field that a manager can own."""
    kind = KINDS[manifest["apiVersion"], manifest["kind"]].type
    result = deepcopy(manifest)
    for _ in range(changes):
        fields = [key for key in result if key not in {"apiVersion", "kind", "status"}]
        key = random.choice(fields)
        result[key] = _mutated(result[key], kind.of(key), random, SERVER_METADATA if key == "metadata" else set())
    return result


def _mutated(value: Any, kind: Type, random: Random, kept: Collection[str] = frozenset()) -> Any:
    """Change a value somewhere; keys in `kept` stay."""
    if kind.form == "scalar" or value is None:
        return _made(kind, random)
    kept = set(kept) | SET_BY_SERVER.get(kind.name, set())
    if kind.form == "list":
        return _mutated_list(value, kind, random)
    changeable = [key for key in value if key not in kept]
    if changeable and random.random() < 0.8:
        key = random.choice(changeable)
        deep = value[key] and random.random() < 0.75
        if deep:
            return value | {key: _mutated(value[key], kind.of(key), random)}
        return {other: child for other, child in value.items() if other != key}
    names = list(kind.fields) if kind.form == "struct" else ["a", "b", "sizeLimit"]
    name = random.choice(names)
    return value if name in kept else value | {name: _made(kind.of(name), random)}


def _mutated_list(items: list[Any], kind: Type, random: Random) -> list[Any]:
    of = kind.element or ANY
    action = random.choice(["change", "change", "add", "remove", "shuffle", "empty"])
    if action == "empty":
        return []
    if action == "shuffle" or (not items and action != "add"):
        return random.sample(items, len(items))
    if action == "remove":
        return _without(items, random)
    if action == "add":
        return _unique([*items, _made(of, random)], kind)
    position = random.randrange(len(items))
    return _unique([_mutated(item, of, random) if i == position else item for i, item in enumerate(items)], kind)


def _without(items: list[Any], random: Random) -> list[Any]:
    position = random.randrange(len(items))
    return items[:position] + items[position + 1 :]


def _unique(items: list[Any], kind: Type) -> list[Any]:
    """Drop items that have no key or that of an earlier one: no server would take them."""
    if kind.atomic:
        return [item for item in items if item is not None]
    found: dict[Any, Any] = {}
    for item in items:
        key = tuple((item or {}).get(name) for name in kind.keys) if kind.keys else item
        if key is not None and (not kind.keys or (item and all(part is not None for part in key))):
            found.setdefault(key, item)
    return list(found.values())


def _made(kind: Type, random: Random, depth: int = 0) -> Any:
    """Make a value of a type, small."""
    if kind.form == "scalar":
        return random.choice(VALUES.get(kind.name, ("x",)))
    if kind.form == "list":
        size = random.choice([0, 1, 2]) if depth < 3 else 0
        return _unique([_made(kind.element or ANY, random, depth + 1) for _ in range(size)], kind)
    if kind.form == "map":
        names = random.sample(["a", "b", "cpu"], random.choice([0, 1, 2]))
        return {name: random.choice(["", _made(kind.element or ANY, random, depth + 1)]) for name in names}
    names = [key for key in kind.fields if key not in SET_BY_SERVER.get(kind.name, ())]
    wanted = [key for key in names if kind.fields[key].required or key in ("name", "port", "key")]
    if depth < 3:
        wanted += random.sample(names, min(2, len(names)))
    return {key: _made(kind.of(key), random, depth + 1) for key in wanted}
