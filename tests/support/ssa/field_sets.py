"""Sets of field paths, and the walks of an object beside its type that server-side apply is made of.

A port of what matters of sigs.k8s.io/structured-merge-diff. A path is a tuple of elements as `fieldsV1` writes them
(`f:name`, `k:{"name":"x"}`, `v:"x"`), a set is a frozenset of paths. `server_side_apply` is the one caller.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from support.ssa.field_types import ANY, Type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Path = tuple[str, ...]
FieldSet = frozenset[Path]

MISSING: Final = object()
"""Stands for a value that is not there; None is a null that is."""


class UntypedItem(ValueError):
    """An item of a keyed list lacks all its keys."""


class Comparison(NamedTuple):
    """What changed between two objects; no path is in more than one of the three."""

    removed: FieldSet
    modified: FieldSet
    added: FieldSet


def resolve(kind: Type, *values: Any) -> Type:
    """Give untyped values the type they look like: maps are granular, lists are atomic."""
    if kind.name == "any":
        if any(isinstance(value, dict) for value in values):
            return Type("map", element=ANY)
        if any(isinstance(value, list) for value in values):
            return Type("list", element=ANY, atomic=True)
    return kind


# --- fieldsV1 ---------------------------------------------------------------------------------------------------------


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """Write a set the way managedFields holds it: a tree, with `.` for a member that has members below it."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node["."] = {}
    return {part: _without_lone_dot(child) for part, child in root.items()}


def _without_lone_dot(node: dict[str, Any]) -> dict[str, Any]:
    if node.keys() == {"."}:
        return {}
    return {part: _without_lone_dot(child) for part, child in node.items()}


def from_fields_v1(tree: dict[str, Any]) -> FieldSet:
    """Read a set from managedFields."""
    return frozenset(_members(tree, ()))


def _members(tree: dict[str, Any], prefix: Path) -> Iterator[Path]:
    for part, child in tree.items():
        if part == ".":
            yield prefix
        elif child:
            yield from _members(child, (*prefix, part))
        else:
            yield (*prefix, part)


def printed(path: Path) -> str:
    """Write a path the way error messages do: `.spec.containers[name="x"].image`."""
    return "".join(_printed(part) for part in path)


def _printed(part: str) -> str:
    form, text = part[0], part[2:]
    if form == "f":
        return f".{text}"
    if form == "k":
        return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(text).items()) + "]"
    return f"[={text}]"


def element(kind: Type, item: Any) -> str:
    """Return the path element of an item of an associative list."""
    if not kind.keys:
        return "v:" + _json(item)
    key = {}
    for name in sorted(kind.keys):
        value = item.get(name, kind.element.of(name).key_default if kind.element else None)
        if value is not None:
            key[name] = value
    if not key:
        raise UntypedItem(
            f"associative list with keys has an element that omits all key fields {_go_list(kind.keys)} "
            "(and doesn't have default values for any key fields)"
        )
    return "k:" + _json(key)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _go_list(names: Iterable[str]) -> str:
    return "[" + " ".join(json.dumps(name) for name in names) + "]"


# --- walks ------------------------------------------------------------------------------------------------------------


def fields_of(value: Any, kind: Type) -> FieldSet:
    """Return the set of fields that an applied configuration lays claim to."""
    found: set[Path] = set()
    _collect(value, kind, (), found)
    return frozenset(found)


def _collect(value: Any, kind: Type, path: Path, found: set[Path]) -> None:
    kind = resolve(kind, value)
    if kind.atomic or kind.form == "scalar":
        if path:
            found.add(path)
    elif kind.form == "list":
        for item in value or ():
            below = (*path, element(kind, item))
            _collect(item, kind.element or ANY, below, found)
            found.add(below)
    else:
        for key, child in (value or {}).items():
            below = (*path, f"f:{key}")
            _collect(child, kind.of(key), below, found)
            if child is None or child == {} or not kind.names(key):
                found.add(below)


def compare(old: Any, new: Any, kind: Type) -> Comparison:
    """Return which fields an object lost, changed and got."""
    result = (set[Path](), set[Path](), set[Path]())
    _compare(old, new, kind, (), result)
    return Comparison(*map(frozenset, result))


def _compare(old: Any, new: Any, kind: Type, path: Path, result: tuple[set[Path], set[Path], set[Path]]) -> None:
    kind = resolve(kind, old, new)
    removed, modified, added = result
    whole = kind.form == "scalar" or kind.atomic or (not _some(old) and not _some(new))
    if not whole:
        pairs = _paired_items(old, new, kind) if kind.form == "list" else _paired_fields(old, new, kind)
        for part, before, after, child in pairs:
            _compare(before, after, child, (*path, part), result)
    if not path:
        return
    if old is MISSING:
        added.add(path)
    elif new is MISSING:
        removed.add(path)
    elif whole and old != new:
        modified.add(path)


def _some(value: Any) -> bool:
    return value is not MISSING and bool(value)


def _paired_fields(old: Any, new: Any, kind: Type) -> Iterator[tuple[str, Any, Any, Type]]:
    before, after = (value if _some(value) else {} for value in (old, new))
    for key in before | after:
        yield f"f:{key}", before.get(key, MISSING), after.get(key, MISSING), kind.of(key)


def _paired_items(old: Any, new: Any, kind: Type) -> Iterator[tuple[str, Any, Any, Type]]:
    before, after = ({element(kind, item): item for item in value} if _some(value) else {} for value in (old, new))
    for part in before | after:
        yield part, before.get(part, MISSING), after.get(part, MISSING), kind.element or ANY


def merge(live: Any, config: Any, kind: Type) -> Any:
    """Return the live value with the applied configuration laid over it."""
    kind = resolve(kind, live, config)
    if kind.form == "scalar" or kind.atomic or (not _some(live) and not _some(config)):
        return live if config is MISSING else config
    if kind.form == "list":
        return _merge_lists(live, config, kind) or MISSING
    pairs = ((part[2:], merge(old, new, child)) for part, old, new, child in _paired_fields(live, config, kind))
    return {key: value for key, value in pairs if value is not MISSING} or MISSING


def _merge_lists(live: Any, config: Any, kind: Type) -> list[Any]:
    before, after = ({element(kind, item): item for item in value} if _some(value) else {} for value in (live, config))
    order = _merged_order(list(before), list(after))
    items = (merge(before.get(part, MISSING), after.get(part, MISSING), kind.element or ANY) for part in order)
    return [item for item in items if item is not MISSING]


def _merged_order(left: list[str], right: list[str]) -> list[str]:
    """Interleave two orders as the server does: the applied order wins, other items stay near where they were."""
    in_left, in_right = set(left), set(right)
    shared = iter([part for part in right if part in in_left])
    wanted = next(shared, None)
    done: dict[str, None] = {}
    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i] == right[j]:
                done[left[i]] = None
                i, j, wanted = i + 1, j + 1, next(shared, None)
                continue
            if left[i] in in_right and wanted is not None and wanted != left[i]:
                i += 1  # shared, but not the one whose turn it is
                continue
        if i < len(left):
            if left[i] not in in_right:
                done[left[i]] = None
                i += 1
                continue
            i += left[i] in done
        if j < len(right):
            done[right[j]] = None
            wanted = next(shared, None) if right[j] == wanted else wanted
            j += 1
    return list(done)


def remove(value: Any, paths: FieldSet, kind: Type) -> Any:
    """Return the value without the fields in `paths`; what becomes empty is None, and so is anything atomic."""
    kind = resolve(kind, value)
    if kind.form == "scalar":
        return value
    if not value or kind.atomic:
        return None
    below = _below(paths)
    gone = {path[0] for path in paths if len(path) == 1}

    def rest(part: str, child: Any, child_kind: Type) -> Any:
        return remove(child, frozenset(below[part]), child_kind) if part in below else child

    if kind.form == "list":
        of = kind.element or ANY
        parts = ((element(kind, item), item) for item in value)
        return [rest(part, item, of) for part, item in parts if part not in gone] or None
    left = {key: child for key, child in value.items() if f"f:{key}" not in gone}
    return {key: rest(f"f:{key}", child, kind.of(key)) for key, child in left.items()} or None


def _below(paths: FieldSet) -> dict[str, set[Path]]:
    below: dict[str, set[Path]] = {}
    for path in paths:
        if len(path) > 1:
            below.setdefault(path[0], set()).add(path[1:])
    return below


def with_named_fields(paths: FieldSet, kind: Type) -> FieldSet:
    """Add every struct field on the way to a member, which a set normally leaves out."""
    found = set(paths)
    for path in paths:
        here = kind
        for depth, part in enumerate(path[:-1], start=1):
            here = resolve(here, {} if part[0] == "f" else [])
            if part[0] == "f":
                if here.names(part[2:]):
                    found.add(path[:depth])
                here = here.of(part[2:])
            else:
                here = here.element or ANY
    return frozenset(found)


def without_prefixes(paths: FieldSet, prefixes: Iterable[Path]) -> FieldSet:
    """Drop every path that is, or lies under, one of the prefixes."""
    return frozenset(path for path in paths if not any(path[: len(prefix)] == prefix for prefix in prefixes))
