"""Strategic merge patches, as the API server and `kubectl patch --type=strategic` apply them.

Lists are merged by the merge keys of Kubernetes' own types (containers by name, ports by containerPort), or replaced
where Kubernetes says so; `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…` are its
directives. The keys come from schema/kubernetes.json. An object of a kind that is not in it has none: its maps are
merged and its lists replaced, as by a JSON merge patch (RFC 7386).

Source: k8s.io/apimachinery/pkg/util/strategicpatch, whose order of list items this follows, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.kubernetes_types import FieldType, FieldTypes

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"

Path = tuple[str | int, ...]


class MergeError(ValueError):
    """A patch cannot be merged; `path` is where in the patch."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class _Type(NamedTuple):
    """The type of a value, from which those of its parts can be had."""

    types: FieldTypes
    kind: FieldType

    def of(self, key: str) -> _Type:
        return _Type(self.types, self.types.of(self.kind, key))

    @property
    def items(self) -> _Type:
        return _Type(self.types, self.types.named(self.kind.element))

    @property
    def merge_key(self) -> str | None:
        return self.kind.merge_key


def strategic_merge(original: Mapping[str, Any], patch: Mapping[str, Any], types: FieldTypes) -> dict[str, Any]:
    """Return an object with a patch merged into it; neither is changed.

    Raises:
        MergeError: the patch contradicts itself or the types: no merge key, an unknown directive.
    """
    merged = _merge_map(original, patch, _Type(types, types.of_kind(original)), ())
    assert isinstance(merged, dict)
    return merged


def _merge_map(original: Mapping[str, Any], patch: Mapping[str, Any], kind: _Type, path: Path) -> dict[str, Any]:
    if _DIRECTIVE in patch:
        return _directed(patch, path)
    result = _retained(original, patch, path)
    ordered = {key.removeprefix(_ORDER): order for key, order in patch.items() if key.startswith(_ORDER)}
    for name, order in ordered.items():
        _reorder(result, patch, name, order, kind.of(name), (*path, f"{_ORDER}{name}"))
    for key, value in patch.items():
        here = (*path, key)
        if key.startswith(_DELETE_FROM):
            _delete_from(result, key.removeprefix(_DELETE_FROM), value, here)
        elif key == _RETAIN or key.startswith(_ORDER) or key in ordered:
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value, kind.of(key), here)
            if result[key] is _NOTHING:
                del result[key]
    return result


def _directed(patch: Mapping[str, Any], path: Path) -> dict[str, Any]:
    match patch[_DIRECTIVE]:
        case "replace":
            found = _plain({key: value for key, value in patch.items() if key != _DIRECTIVE})
            assert isinstance(found, dict)
            return found
        case "delete":
            return {}
        case other:
            raise MergeError(f"$patch is replace or delete here, not {other}", (*path, _DIRECTIVE))


def _merged(original: Any, value: Any, kind: _Type, path: Path) -> Any:
    if isinstance(original, dict) and isinstance(value, dict):
        return _merge_map(original, value, kind, path)
    if isinstance(original, list) and isinstance(value, list):
        return _merge_list(original, value, kind, path)
    return _plain(value)


_NOTHING: Any = object()


def _plain(value: Any) -> Any:
    """Return a value of a patch where there is nothing to merge it with: without nulls and directives."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return _NOTHING
        plain = {key: _plain(item) for key, item in value.items() if item is not None}
        return {key: item for key, item in plain.items() if item is not _NOTHING}
    if isinstance(value, list):
        return [item for item in map(_plain, value) if item is not _NOTHING]
    return value


def _retained(original: Mapping[str, Any], patch: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the original's fields, or those that `$retainKeys` lists."""
    if _RETAIN not in patch:
        return dict(original)
    retained = patch[_RETAIN]
    said = {key for key, value in patch.items() if value is not None and not key.startswith("$")}
    if not isinstance(retained, list) or not said <= set(retained):
        raise MergeError("$retainKeys is a list that has every field of the patch beside it", (*path, _RETAIN))
    return {key: value for key, value in original.items() if key in retained}


def _delete_from(result: dict[str, Any], name: str, value: Any, path: Path) -> None:
    if not isinstance(value, list):
        raise MergeError("must be a list of the values to remove", path)
    if isinstance(result.get(name), list):
        result[name] = [item for item in result[name] if item not in value]


# --- lists ------------------------------------------------------------------------------------------------------------


def _merge_list(original: Sequence[Any], patch: Sequence[Any], kind: _Type, path: Path) -> list[Any]:
    if kind.merge_key is None:
        found = _plain(list(patch))
        assert isinstance(found, list)
        return found
    if not kind.merge_key:
        return _in_order(list(dict.fromkeys([*original, *patch])), patch, original, "")
    merged, rest, before = _merge_items(original, patch, kind, path)
    return _in_order(merged, rest, before, kind.merge_key)


def _merge_items(
    original: Sequence[Any], patch: Sequence[Any], kind: _Type, path: Path
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the merged items, the patch without its directives, and what of the original it was merged with."""
    key = kind.merge_key or ""
    merged, rest = list(original), []
    replaced = False
    for number, item in enumerate(patch):
        here = (*path, number)
        if not isinstance(item, dict):
            raise MergeError(f"must be a map, with the merge key {key}", here)
        match item.get(_DIRECTIVE):
            case None:
                rest.append((here, item))
            case "delete":
                _needs_key(item, key, here)
                merged = [each for each in merged if each.get(key) != item[key]]
            case "replace":
                replaced = True
            case other:
                raise MergeError(f"$patch is replace or delete here, not {other}", (*here, _DIRECTIVE))
    if replaced:
        plain = [_plain(item) for _, item in rest]
        return plain, [], []
    before = list(merged)
    for here, item in rest:
        _needs_key(item, key, here)
        place = next((index for index, each in enumerate(merged) if each.get(key) == item[key]), None)
        if place is None:
            merged.append(_plain(item))
        else:
            merged[place] = _merge_map(merged[place], item, kind.items, here)
    return merged, [item for _, item in rest], before


def _needs_key(item: Mapping[str, Any], key: str, path: Path) -> None:
    if key not in item:
        raise MergeError(f"needs {key}, by which the items of this list are told apart", path)


def _reorder(result: dict[str, Any], patch: Mapping[str, Any], name: str, order: Any, kind: _Type, path: Path) -> None:
    """Merge a list that has a `$setElementOrder`, and put it into that order."""
    if not isinstance(order, list):
        raise MergeError("must be a list in the wanted order", path)
    key = kind.merge_key or ""
    original = result.get(name, [])
    changed = patch.get(name, [])
    if not isinstance(original, list) or not isinstance(changed, list):
        raise MergeError(f"{name} is no list", path)
    left = [item for item in changed if not (isinstance(item, dict) and _DIRECTIVE in item)]
    for item in [*left, *order] if key else ():
        _needs_key(item if isinstance(item, dict) else {}, key, path)
    places = [_find(order, item, key) for item in left]
    if None in places or places != sorted(places, key=lambda place: place or 0):
        raise MergeError(f"must have all items of {name}, in the same order", path)
    if name in result and name in patch:
        merged = _merge_list(original, changed, kind, (*path[:-1], name))
    elif name in patch:
        merged = _plain(changed)
    else:
        merged = original
    if name in result or name in patch:
        result[name] = _in_order(merged, order, original, key)


def _in_order(items: list[Any], wanted: Sequence[Any], before: Sequence[Any], key: str) -> list[Any]:
    """Return items in the order that a patch wants, with the rest where it was before among them."""
    chosen = [item for item in items if _find(wanted, item, key) is not None]
    chosen.sort(key=lambda item: _find(wanted, item, key) or 0)
    rest = [item for item in items if _find(wanted, item, key) is None]
    rest.sort(key=lambda item: _place(before, item, key))
    result = []
    while rest and chosen:
        left, right = _find(before, rest[0], key), _find(before, chosen[0], key)
        first = left is not None and right is not None and left < right
        result.append(rest.pop(0) if first else chosen.pop(0))
    return [*result, *rest, *chosen]


def _place(items: Iterable[Any], item: Any, key: str) -> int:
    found = _find(items, item, key)
    return len(list(items)) if found is None else found


def _find(items: Iterable[Any], item: Any, key: str) -> int | None:
    """Return the index of an item by its merge key, or of a scalar; None if it is not there."""
    wanted = item.get(key) if key else item
    return next((index for index, each in enumerate(items) if (each.get(key) if key else each) == wanted), None)
