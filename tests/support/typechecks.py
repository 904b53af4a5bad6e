"""Does an object fit its type? kube-apiserver's three ways to say that it does not, for the stand-in.

Strict decoding names unknown fields, JSON decoding names values of the wrong type, and server-side apply checks both in
its own words. Pure; `fake_writes` is the caller.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from support.quantities import is_quantity
from support.ssa.field_sets import UntypedItem, element, printed, resolve
from support.ssa.field_types import ANY, Type

if TYPE_CHECKING:
    from collections.abc import Iterator

_FITS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bytes": (str,),
    "time": (str,),
    "microtime": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "quantity": (str, int, float),
    "int-or-string": (str, int),
}
_GO_NAMES = {str: "string", int: "number", float: "number", bool: "bool", list: "array", dict: "object"}


def unknown_fields(value: Any, kind: Type, path: str = "") -> Iterator[str]:
    """Yield the fields that the type does not have, as strict decoding names them: `spec.containers[0].foo`."""
    if kind.form == "struct" and isinstance(value, dict):
        for key, child in value.items():
            below = f"{path}.{key}" if path else key
            if kind.open and not kind.names(key):
                continue
            if kind.names(key):
                yield from unknown_fields(child, kind.of(key), below)
            else:
                yield below
    elif kind.form == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, kind.element or ANY, f"{path}[{index}]")
    elif kind.form == "map" and isinstance(value, dict):
        for key, child in value.items():
            yield from unknown_fields(child, kind.element or ANY, f"{path}.{key}")


def misfits(value: Any, kind: Type, go_path: tuple[str, str] = ("", "")) -> Iterator[str]:
    """Yield what JSON decoding complains of; `go_path` is the innermost struct and the path."""
    wrong = f"json: cannot unmarshal {_go_name(value)} into Go struct field {go_path[0]}{go_path[1]} of type "
    if value is None or kind.name == "any":
        return
    if kind.form in {"struct", "map"}:
        if not isinstance(value, dict):
            yield wrong + (
                f"v1.{kind.name}" if kind.form == "struct" else "map[string]" + _go_type(kind.element or ANY)
            )
            return
        for key, child in value.items():
            deeper = (kind.name, f"{go_path[1]}.{key}") if kind.form == "struct" else go_path
            yield from misfits(child, kind.of(key), deeper)
    elif kind.form == "list":
        if not isinstance(value, list):
            yield wrong + "[]" + _go_type(kind.element or ANY)
            return
        for item in value:
            yield from misfits(item, kind.element or ANY, go_path)
    elif not _fits(value, kind):
        yield wrong + _go_type(kind)


def _fits(value: Any, kind: Type) -> bool:
    return isinstance(value, _FITS[kind.name]) and (isinstance(value, bool) == (kind.name == "boolean"))


def _go_name(value: Any) -> str:
    return _GO_NAMES.get(type(value), "null")


def _go_type(kind: Type) -> str:
    if kind.form == "struct":
        return f"v1.{kind.name}"
    return {"integer": "int32", "boolean": "bool"}.get(kind.name, "string")


_DAY_AND_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_ZONE = r"(Z|[+-]\d\d:\d\d)"
_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def unreadable(value: Any, kind: Type) -> Iterator[str]:
    """Yield what is wrong with text that must be a time or a quantity."""
    if kind.form == "list":
        for item in value or ():
            yield from unreadable(item, kind.element or ANY)
    elif kind.form != "scalar":
        for key, child in (value or {}).items():
            yield from unreadable(child, kind.of(key))
    elif value is None:
        return
    elif kind.name == "quantity" and not is_quantity(value):
        yield _QUANTITY
    elif kind.name in {"time", "microtime"}:
        yield from _bad_time(value, r"\.\d{6}" if kind.name == "microtime" else r"(\.\d+)?")


def _bad_time(text: str, fraction: str) -> Iterator[str]:
    layout, point = "2006-01-02T15:04:05", ".000000" if "{6}" in fraction else ""
    start = _DAY_AND_TIME.match(text)
    if not start:
        rest, wanted = text, "2006"
    elif not re.fullmatch(fraction + _ZONE, text[start.end() :]):
        rest, wanted = text[start.end() :], point or "Z07:00"
    else:
        return
    yield f'parsing time "{text}" as "{layout}{point}Z07:00": cannot parse "{rest}" as "{wanted}"'


def untyped(value: Any, kind: Type, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what an apply complains of: undeclared fields, wrong types, duplicate or missing keys."""
    kind = resolve(kind, value)
    if value is None:
        return
    if kind.form == "scalar":
        if kind.name != "any" and not _fits(value, kind):
            yield f"{printed(path)}: expected {_expectation(value, kind)}"
    elif kind.form == "list":
        yield from _untyped_list(value, kind, path)
    elif not isinstance(value, dict):
        yield f"{printed(path)}: expected map, got &{{{_go_print(value)}}}"
    else:
        for key, child in sorted(value.items()):
            below = (*path, f"f:{key}")
            if kind.form == "struct" and not kind.open and not kind.names(key):
                yield f"{printed(below)}: field not declared in schema"
            else:
                yield from untyped(child, kind.of(key), below)


def _untyped_list(value: Any, kind: Type, path: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{printed(path)}: expected list, got &{{{_go_print(value)}}}"
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        if kind.atomic:
            yield from untyped(item, kind.element or ANY, (*path, f"v:{index}"))
            continue
        try:
            part = element(kind, item)
        except UntypedItem as error:
            yield f"{printed(path)}: element {index}: {error}"
            continue
        if part in seen:
            yield f"{printed(path)}: duplicate entries for key {printed((part,))}"
        seen.add(part)
        yield from untyped(item, kind.element or ANY, (*path, part))


def _expectation(value: Any, kind: Type) -> str:
    if kind.name == "boolean":
        return f"boolean, got &{{{_go_print(value)}}}"
    if kind.name in {"integer", "number"}:
        return "numeric (int or float), got *value.valueUnstructured"
    shown = str(value).lower() if isinstance(value, bool) else json.dumps(value)
    return f"string, got &value.valueUnstructured{{Value:{shown}}}"


def _go_print(value: Any) -> str:
    """Print a value as Go's %v does."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go_print(child)}" for key, child in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go_print, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
