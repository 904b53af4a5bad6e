"""Patches of manifests, made by chance: beside what is there, so that most of them do something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from chronik.kubernetes_types import FieldType, FieldTypes

_TEXTS = ("a", "b-1", "x.y/z", "10", "")


def strategic_patch(chance: Random, manifest: dict[str, Any], types: FieldTypes) -> dict[str, Any]:
    """Return a strategic merge patch of a manifest, with directives now and then."""
    parts = {key: value for key, value in manifest.items() if key in {"metadata", "spec", "data"}}
    patch = _map(chance, parts, types, types.of_kind(manifest), top=True)
    patch.get("metadata", {}).pop("name", None)
    return patch


def _map(
    chance: Random, value: dict[str, Any], types: FieldTypes, kind: FieldType, *, top: bool = False
) -> dict[str, Any]:
    chosen = [key for key in value if chance.random() < (0.8 if top else 0.35)]
    patch: dict[str, Any] = {}
    for key in chosen:
        roll = chance.random()
        if roll < 0.08 and not top:
            patch[key] = None
        else:
            patch[key] = _value(chance, value[key], types, types.of(kind, key))
    if (kind.form, kind.element) == ("map", "string") or not value:
        patch[chance.choice(_TEXTS[:4])] = chance.choice(_TEXTS)
    if not top and chance.random() < 0.03:
        patch["$patch"] = chance.choice(["replace", "delete"])
    if not top and chance.random() < 0.03:
        kept = [*patch, *chance.sample(list(value), min(2, len(value)))]
        patch["$retainKeys"] = sorted({key for key in kept if not key.startswith("$")})
    return patch


def _value(chance: Random, value: Any, types: FieldTypes, kind: FieldType) -> Any:
    match value:
        case dict():
            return _map(chance, value, types, kind)
        case list() if kind.merge_key:
            return _items(chance, value, types, kind)
        case list() if value and not isinstance(value[0], dict):
            return [*chance.sample(value, chance.randrange(len(value) + 1)), *chance.sample(_TEXTS[:3], 1)]
        case list():
            return chance.sample(value, chance.randrange(len(value) + 1))
        case bool():
            return not value
        case int():
            return chance.randrange(1, 60000)
        case _:
            return chance.choice(_TEXTS[:3])


def _items(chance: Random, value: list[dict[str, Any]], types: FieldTypes, kind: FieldType) -> list[dict[str, Any]]:
    key = kind.merge_key or ""
    found = []
    for item in chance.sample(value, chance.randrange(len(value) + 1)):
        if chance.random() < 0.2:
            found.append({"$patch": "delete", key: item[key]})
        else:
            found.append({**_map(chance, item, types, types.named(kind.element)), key: item[key]})
            found[-1].pop("$patch", None)
            if "$retainKeys" in found[-1]:
                found[-1]["$retainKeys"] = sorted({*found[-1]["$retainKeys"], key})
    if chance.random() < 0.4:
        fresh = 5000 + chance.randrange(9) if isinstance(value[0][key], int) else f"n{chance.randrange(9)}"
        found.insert(chance.randrange(len(found) + 1), {**chance.choice(value), key: fresh})
    if chance.random() < 0.06:
        found.append({"$patch": "replace"})
    return found


def json_patch(chance: Random, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a few operations of a JSON Patch on a manifest; some of them may not fit."""
    places = [(path, value) for path, value in _places(manifest, "") if path.startswith(("/spec/", "/data/"))]
    found: list[dict[str, Any]] = []
    for _ in range(chance.randrange(1, 4)):
        path, value = chance.choice(places)
        match chance.choice(["add", "replace", "remove", "test", "copy", "move"]):
            case "remove":
                found.append({"op": "remove", "path": path})
            case ("copy" | "move") as op:
                parent = path.rpartition("/")[0]
                found.append({"op": op, "from": path, "path": f"{parent}/{chance.choice(['x', '-', '0'])}"})
            case "test":
                found.append({"op": "test", "path": path, "value": value})
            case "add" if chance.random() < 0.4:
                found.append({"op": "add", "path": f"{path.rpartition('/')[0]}/-", "value": value})
            case op:
                found.append({"op": op, "path": path, "value": chance.choice([value, "x", 7])})
    return found


def _places(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        escaped = str(key).replace("~", "~0").replace("/", "~1")
        yield from _places(item, f"{path}/{escaped}")
