"""A JSON Schema made quick to walk: `$ref`s followed, children named, and one closure per node that says yes or no.

Only the part of JSON Schema that a Kubernetes structural schema can say, and that schema/chronikcluster.schema.json
uses, is understood; anything else raises when the schema is compiled.
"""

from __future__ import annotations

import re
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Raw = dict[str, Any]
_POINTER = "#/$defs/"
_ABSENT: Any = object()
_LARGEST = 2**1024 - 2**971  # of all floats
FREE = "x-kubernetes-preserve-unknown-fields"
"""The keyword of a place that holds any JSON. With the type `object`, it has to be a map."""
DEFERRED = "x-deferred"
"""The keyword of a definition that is compiled when a document first has what it describes."""
LIST_KEYS = "x-kubernetes-list-map-keys"
DEEPEST = 100
"""How many maps and lists may be inside each other where anything may be: as many as in a file."""


class SchemaError(ValueError):
    """The schema itself is broken, or says something that a structural schema cannot."""


class SchemaNode(NamedTuple):
    """One place in a document. `values` is the node of a map's values; `check` says whether a value is valid.

    `fills` says whether a default may lie here or below, so that defaulting skips the rest. What is `free` is any JSON,
    or any map of it. A node that few documents reach is compiled when one does: `reached` returns the whole of it.
    """

    types: tuple[str, ...]
    check: Callable[[Any], bool]
    properties: dict[str, SchemaNode]
    values: SchemaNode | None = None
    items: SchemaNode | None = None
    default: Any = _ABSENT
    verbatim: bool = False
    fills: bool = False
    free: bool = False
    later: Callable[[], SchemaNode] | None = None

    @property
    def reached(self) -> SchemaNode:
        """This node with what is below it."""
        return self if self.later is None else self.later()

    @property
    def has_default(self) -> bool:
        """Return whether an absent value is filled in."""
        return self.default is not _ABSENT


def resolved(root: Mapping[str, Any], raw: Raw) -> Raw:
    """Return a schema with its `$ref` replaced by what that names; keywords beside the `$ref` win.

    Raises:
        SchemaError: the `$ref` leads nowhere.
    """
    while "$ref" in raw:
        beside = {key: value for key, value in raw.items() if key != "$ref"}
        raw = {**_definition(root, raw["$ref"]), **beside}
    return raw


def inlined(root: Mapping[str, Any], raw: Raw) -> Raw:
    """Return a schema without any `$ref` in it or below it."""
    raw = dict(resolved(root, raw))
    if "properties" in raw:
        raw["properties"] = {name: inlined(root, child) for name, child in raw["properties"].items()}
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(raw.get(keyword), dict):
            raw[keyword] = inlined(root, raw[keyword])
    raw.pop("$defs", None)
    return raw


def types_of(raw: Raw) -> tuple[str, ...]:
    """Return the types that a resolved schema allows: one, or integer and string."""
    found = raw.get("type", ())
    return (found,) if isinstance(found, str) else tuple(found)


def is_text(value: Any) -> bool:
    """Return whether a value is text that JSON can carry: no half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer; Python's booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_json(value: Any, room: int = DEEPEST) -> bool:
    """Return whether JSON can carry a value, a float can hold each number in it, and it is not nested too deep."""
    if isinstance(value, dict):
        return room > 0 and all(is_text(key) and is_json(item, room - 1) for key, item in value.items())
    if isinstance(value, list):
        return room > 0 and all(is_json(item, room - 1) for item in value)
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, int):
        return -_LARGEST <= value <= _LARGEST
    return value is None or is_text(value)


def pattern_of(pattern: str) -> re.Pattern[str]:
    r"""Return a schema's pattern as Python reads it: Go's and JavaScript's `$` is the very end, which is `\Z` here.

    Raises:
        SchemaError: the pattern is not anchored at both ends.
    """
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise SchemaError(f"the pattern {pattern} is not anchored at both ends")
    return re.compile(pattern[:-1] + r"\Z")


def _definition(root: Mapping[str, Any], pointer: str) -> Raw:
    try:
        found: Raw = root["$defs"][pointer.removeprefix(_POINTER)]
    except KeyError:
        raise SchemaError(f"{pointer} names no definition") from None
    return found


class Compiler:
    """Compiles the nodes of one schema; places that share a definition share its node."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._definitions: dict[str, SchemaNode] = {}

    def node(self, raw: Raw) -> SchemaNode:
        """Return the node of a schema.

        Raises:
            SchemaError: the schema uses a keyword or a type that is not understood.
        """
        pointer = raw.get("$ref")
        if pointer is None:
            return self._compile(raw)
        if pointer not in self._definitions:
            definition = _definition(self._root, pointer)
            make = self._deferred if definition.get(DEFERRED) else self.node
            self._definitions[pointer] = make(definition)
        shared = self._definitions[pointer]
        return shared._replace(default=raw["default"], fills=True) if "default" in raw else shared

    def _deferred(self, raw: Raw) -> SchemaNode:
        later = cache(lambda: self._compile(raw))
        verbatim = bool(raw.get("x-verbatim"))
        return SchemaNode(
            types_of(raw), lambda value: later().check(value), {}, verbatim=verbatim, fills=True, later=later
        )

    def _compile(self, raw: Raw) -> SchemaNode:
        properties = {name: self.node(child) for name, child in raw.get("properties", {}).items()}
        values = self.node(raw["additionalProperties"]) if raw.get("additionalProperties") else None
        items = self.node(raw["items"]) if "items" in raw else None
        children = [*properties.values(), *filter(None, (values, items))]
        return SchemaNode(
            types=types_of(raw),
            check=self._check(raw, properties, values, items),
            properties=properties,
            values=values,
            items=items,
            default=raw.get("default", _ABSENT),
            verbatim=bool(raw.get("x-verbatim")),
            fills="default" in raw or any(child.fills for child in children),
            free=bool(raw.get(FREE)),
        )

    def _check(
        self, raw: Raw, properties: dict[str, SchemaNode], values: SchemaNode | None, items: SchemaNode | None
    ) -> Callable[[Any], bool]:
        match types_of(raw):
            case () | ("object",) if raw.get(FREE):
                return _free_check(raw)
            case ("object",) if values:
                return _map_check(raw, self.node(raw["propertyNames"]).check, values.check)
            case ("object",) if raw.get("additionalProperties") is False:
                return _object_check({name: node.check for name, node in properties.items()}, raw.get("required", ()))
            case ("array",) if items:
                return _array_check(raw, items.check)
            case ("string",):
                return _string_check(raw)
            case ("integer",):
                return _integer_check(raw)
            case ("integer", "string"):
                number, text = _integer_check(raw), _string_check(raw)
                return lambda value: number(value) or text(value)
            case ("boolean",):
                return lambda value: isinstance(value, bool)
            case types:
                raise SchemaError(f"a schema of type {types} that a structural schema cannot have: {str(raw)[:200]}")


def _object_check(checks: dict[str, Callable[[Any], bool]], required: list[str]) -> Callable[[Any], bool]:
    needed = frozenset(required)
    find = checks.get

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or not needed <= value.keys():
            return False
        for key, item in value.items():
            known = find(key)
            if known is None or not known(item):
                return False
        return True

    return check


def _map_check(raw: Raw, key_check: Callable[[Any], bool], value_check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    most = raw.get("maxProperties", float("inf"))

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or len(value) > most:
            return False
        return all(key_check(key) and value_check(item) for key, item in value.items())

    return check


def _free_check(raw: Raw) -> Callable[[Any], bool]:
    is_map, most = bool(types_of(raw)), raw.get("maxProperties", float("inf"))

    def check(value: Any) -> bool:
        return (not is_map or (isinstance(value, dict) and len(value) <= most)) and is_json(value)

    return check


def _array_check(raw: Raw, item_check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    least, most = raw.get("minItems", 0), raw.get("maxItems", float("inf"))
    unique, keys = bool(raw.get("uniqueItems")), raw.get(LIST_KEYS)

    def check(value: Any) -> bool:
        if not isinstance(value, list) or not least <= len(value) <= most or not all(map(item_check, value)):
            return False
        if keys:
            return len({tuple(item[key] for key in keys) for item in value}) == len(value)
        return not unique or len(set(value)) == len(value)

    return check


def _string_check(raw: Raw) -> Callable[[Any], bool]:
    least, most = raw.get("minLength", 0), raw.get("maxLength", float("inf"))
    allowed = frozenset(raw["enum"]) if "enum" in raw else None
    matches = None if "pattern" not in raw else _late_match(raw)

    def check(value: Any) -> bool:
        if not is_text(value) or not least <= len(value) <= most:
            return False
        if allowed is not None and value not in allowed:
            return False
        return matches is None or matches(value)

    return check


def _late_match(raw: Raw) -> Callable[[str], bool]:
    """Compile a pattern when it is first needed: all of them together cost a third of a render."""
    compiled: list[re.Pattern[str]] = []

    def matches(text: str) -> bool:
        if not compiled:
            compiled.append(pattern_of(raw["pattern"]))
        return compiled[0].match(text) is not None

    return matches


def _integer_check(raw: Raw) -> Callable[[Any], bool]:
    least, most = raw.get("minimum", float("-inf")), raw.get("maximum", float("inf"))
    return lambda value: is_integer(value) and least <= value <= most
