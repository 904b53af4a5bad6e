"""Say in words what is wrong with a document's types, bounds and patterns.

jsonschema finds them, all at once; this module words them for people who never saw the schema. It is loaded only for
documents that failed the quick check, because importing jsonschema is slow.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from chronik.api.mistakes.unknown_fields import advice, closest, component_key
from chronik.api.structural import DEEPEST, FREE, LIST_KEYS, Raw, is_integer, is_json, is_text, pattern_of, types_of
from chronik.kubernetes_types import is_undescribed
from chronik.problem import Path, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MOST_ALIKE = 5
"""How many problems of one sort are told apart: the sixth wrong item of a list teaches nothing."""
MOST_PROBLEMS = 100
_MOST_VIOLATIONS = 10_000  # where the search ends, in a document that is hostile or no ChronikCluster at all
_MOST_TEXT = 60

_TYPE_NAMES = {
    "object": "a map",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "boolean": "true or false",
}
_YES_NO = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}

Explanation = tuple[str, str, str]
"""Code, message and hint of a problem."""


def schema_problems(raw: Raw, document: Any) -> list[Problem]:
    """Return one problem per violation of a schema without `$ref`s; floods are cut short, and say so."""
    alike: Counter[Path] = Counter()
    ends: dict[Path, tuple[str, Path]] = {}
    problems = []
    for violation in islice(violations(raw, document), _MOST_VIOLATIONS):
        sort, path = tuple(violation.absolute_schema_path), tuple(violation.absolute_path)
        alike[sort] += 1
        if alike[sort] <= MOST_ALIKE:
            code, message, hint = _words(violation, raw)
            problems.append(Problem("error", code, (*path, *_item(violation)), message, hint))
            ends[sort] = (code, path)
    for sort, (code, path) in ends.items():
        if alike[sort] > MOST_ALIKE:  # told where the last one is that was shown, and so after it
            problems.append(Problem("error", code, path, f"{alike[sort] - MOST_ALIKE} more errors like this one"))
    if len(problems) > MOST_PROBLEMS:
        rest = len(problems) - MOST_PROBLEMS
        problems[MOST_PROBLEMS:] = [Problem("error", "flood", (), f"{rest} more errors are not shown")]
    return problems


def _item(violation: ValidationError) -> Path:
    """Return which item of a list a violation is about, if it is about one."""
    value: Any = violation.instance
    keyword = str(violation.validator)
    if keyword == "uniqueItems":
        return (double(value) or 0,)
    return (_second(value, dict(violation.schema)),) if keyword == LIST_KEYS else ()  # type: ignore[arg-type]  # our schemas are maps


def _words(violation: ValidationError, raw: Raw) -> Explanation:
    keyword, schema, value = str(violation.validator), dict(violation.schema), violation.instance  # type: ignore[arg-type]  # our schemas are maps
    if keyword == "additionalProperties":
        name, spec = violation.message, raw["properties"]["spec"]
        needed = [each for each in schema.get("required", ()) if each.lower().endswith(name.lower())]
        hint = advice(name, tuple(violation.absolute_path)[:-1], needed or schema["properties"], spec)
        return "unknown-field", f"unknown field {_shown(name)}", hint
    if keyword == "propertyNames":
        keys, name = schema["propertyNames"], violation.message
        fields = schema["additionalProperties"].get("properties")
        hint = component_key(name, fields) if fields else ""
        return "key", f"the key {_shown(name)} must be {keys['x-allowed']}", hint
    if keyword == "required":
        missing = schema["properties"][violation.message]
        return "required", f"{violation.message} is required", _missing_hint(violation.message, missing)
    return _WORDS[keyword](value, schema)


def _missing_hint(name: str, schema: Raw) -> str:
    """Say what a field is that has to be there; what is described in Kubernetes is shown by its example."""
    if is_undescribed(schema) and isinstance(example := (schema.get("examples") or [None])[0], str):
        return f"Write {name}: {_shown(example)}, for example. {schema['description']}"
    return f"{name}: {schema['description']}"


def _type(value: Any, schema: Raw) -> Explanation:
    return "type", f"must be {_wanted(value, schema)}, not {_described(value)}", _type_hint(value, schema)


def _wanted(value: Any, schema: Raw) -> str:
    types = types_of(schema)
    if len(types) > 1 or ("x-allowed" in schema and _is_scalar(value) and not _fits_in_quotes(value, schema)):
        return str(schema["x-allowed"])  # of 30 where 30s is meant, "a string" would be the lesser half
    if "enum" in schema:
        return _one_of(schema["enum"])
    return _TYPE_NAMES[types[0]]


def _type_hint(value: Any, schema: Raw) -> str:
    types = types_of(schema)
    if "string" in types and _is_scalar(value):
        return f'Quote it: "{_plain_scalar(value)}".' if _fits_in_quotes(value, schema) else ""
    if types[0] == "integer" and isinstance(value, str) and value.isascii() and value.isdigit():
        return "Leave the quotes out."
    if types == ("boolean",) and isinstance(value, str) and value.lower() in _YES_NO:
        return f"Write {_YES_NO[value.lower()]}, without quotes."
    if types == ("object",) and not isinstance(value, list | dict) and schema.get("properties"):
        known = schema["properties"]
        on = isinstance(value, bool) and "enabled" in known
        return f"Write {{enabled: {_plain_scalar(value)}}}." if on else f"It has {', '.join(known)}."
    if types == ("array",) and isinstance(value, str) and schema["items"].get("type") == "string":
        return "Write a list of texts: [sh, -c, …]." if " " in value else f"Write a list: [{value}]."
    if types == ("array",) and isinstance(value, dict) and schema["items"].get("properties"):
        return f"Write a list of maps with {' and '.join(islice(schema['items']['properties'], 2))}."
    if isinstance(value, dict) and len(value) == 1 and not {*value}.isdisjoint(schema.get("enum", ())):
        return f"Write only {next(iter(value))} here, and the section {next(iter(value))} beside it."
    return ""


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _fits_in_quotes(value: Any, schema: Raw) -> bool:
    """Return whether a number, or true or false, would be right as a string."""
    text = _plain_scalar(value)
    return length_fits(text, schema) and matches(text, schema) and text in schema.get("enum", (text,))


def _enum_words(value: Any, schema: Raw) -> Explanation:
    close = closest(value, schema["enum"])
    return "enum", f"must be {_one_of(schema['enum'])}, not {_shown(value)}", f"Did you mean {close}?" if close else ""


def _one_of(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"one of {', '.join(values)}"


def _bound(word: str, keyword: str) -> Callable[[Any, Raw], Explanation]:
    return lambda value, schema: ("bounds", f"must be {word} {schema[keyword]}, not {_plain_scalar(value)}", "")


def _count(word: str, keyword: str, thing: str) -> Callable[[Any, Raw], Explanation]:
    def words(value: Any, schema: Raw) -> Explanation:
        things = thing if schema[keyword] == 1 else f"{thing}s"
        return "length", f"must have {word} {schema[keyword]} {things}, not {len(value)}", ""

    return words


def _pattern_words(value: Any, schema: Raw) -> Explanation:
    hint = _type_hint(value, schema) or _unit_hint(value, schema)  # "5", where 5 would do
    return "pattern", f"must be {schema['x-allowed']}, not {_shown(value)}", hint


def _unit_hint(value: Any, schema: Raw) -> str:
    """Return the quantity that may be meant by one with a unit as people write it: `10GB`, `512 mb`."""
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return ""
    number, prefix, binary = found.groups()
    unit = prefix.upper() + (binary or "").lower()
    meant = f"{number}{'k' if unit == 'K' else unit}"  # the one decimal prefix in small letters
    return f"Did you mean {meant}?" if matches(meant, schema) else ""


_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([KMGTPE])(?:(i)b?|b)", re.IGNORECASE)


def _short(value: Any, schema: Raw) -> Explanation:
    """Speak of the length only where nothing else is wrong."""
    if "x-allowed" in schema and not (value and matches(value, schema)):
        return _pattern_words(value, schema)
    return _count("at least", "minLength", "character")(value, schema)


def _long(value: Any, schema: Raw) -> Explanation:
    """Speak of the length only where nothing else is wrong; much longer texts are not looked into, which is slow."""
    if "x-allowed" in schema and len(value) <= 2 * schema["maxLength"] and not matches(value, schema):
        return _pattern_words(value, schema)
    return _count("at most", "maxLength", "character")(value, schema)


def _twice(value: Any, schema: Raw) -> Explanation:
    del schema
    return "duplicate", f"must not have {_described(value[double(value) or 0])} twice", ""


def _same_keys(value: Any, schema: Raw) -> Explanation:
    twice = value[_second(value, schema)]
    what = " and ".join(f"{key} {_shown(str(twice[key]))}" for key in schema[LIST_KEYS])
    return "duplicate", f"must not have two items with the {what}", ""


def _second(value: Any, schema: Raw) -> int:
    """Return the index of the first item of a list that has the keys of one before it."""
    return double([[item[key] for key in schema[LIST_KEYS]] for item in value]) or 0


def _no_json(value: Any, schema: Raw) -> Explanation:
    del value, schema
    hint = f"There, maps and lists are at most {DEEPEST} deep, and there is no NaN and no half of a surrogate pair."
    return "json", "must be JSON that the API server can hold", hint


_WORDS: dict[str, Callable[[Any, Raw], Explanation]] = {
    "type": _type,
    "enum": _enum_words,
    "minimum": _bound("at least", "minimum"),
    "maximum": _bound("at most", "maximum"),
    "minLength": _short,
    "maxLength": _long,
    "pattern": _pattern_words,
    "minItems": _count("at least", "minItems", "item"),
    "maxItems": _count("at most", "maxItems", "item"),
    "maxProperties": _count("at most", "maxProperties", "key"),
    "uniqueItems": _twice,
    LIST_KEYS: _same_keys,
    FREE: _no_json,
}


def _described(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return _plain_scalar(value)
        case int() | float():
            return f"the number {_plain_scalar(value)}"
        case str() if not is_text(value):
            return "a text that holds half of a surrogate pair"
        case str():
            return f"the string {_shown(value)}"
        case list():
            return "a list"
        case dict():
            return "a map"
        case _:
            return f"a {type(value).__name__}"


def _plain_scalar(value: Any) -> str:
    return json.dumps(value) if isinstance(value, float) or abs(value) < 10**_MOST_TEXT else "one of very many digits"


def _shown(text: str) -> str:
    """Return a text in quotes, cut short and free of what would upset a terminal."""
    cut = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
    return json.dumps(cut, ensure_ascii=not cut.isprintable())


def violations(schema: Raw, document: Any) -> Iterator[ValidationError]:
    """Yield each violation of a schema without `$ref`s.

    The message of an unknown field, of a missing one and of a bad key is its name; other messages are empty.
    """
    yield from _Validator(schema).iter_errors(document)


def length_fits(text: str, schema: Raw) -> bool:
    """Return whether a text is neither too short nor too long."""
    return bool(schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", float("inf")))


def matches(text: str, schema: Raw) -> bool:
    """Return whether a text has the form that a schema asks for, if it does."""
    return "pattern" not in schema or pattern_of(schema["pattern"]).match(text) is not None


def double(items: list[Any]) -> int | None:
    """Return the index of the first item that came before."""
    return next((number for number, item in enumerate(items) if item in items[:number]), None)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Raw) -> Iterator[ValidationError]:
    """Report each unknown field at its own path."""
    if not isinstance(instance, dict):
        return
    for key, value in instance.items():
        if key in schema.get("properties", {}):
            continue
        if allowed is False:
            yield ValidationError(str(key), path=[key])
        elif "propertyNames" not in schema or validator.evolve(schema=schema["propertyNames"]).is_valid(key):
            yield from validator.descend(value, allowed, path=key)


def _required(validator: Any, names: list[str], instance: Any, schema: Raw) -> Iterator[ValidationError]:
    del validator, schema
    if isinstance(instance, dict):
        yield from (ValidationError(name) for name in names if name not in instance)


def _property_names(validator: Any, allowed: Raw, instance: Any, schema: Raw) -> Iterator[ValidationError]:
    """Report a bad key once, at its own path."""
    del schema
    if isinstance(instance, dict):
        yield from (
            ValidationError(str(key), path=[key])
            for key in instance
            if not validator.evolve(schema=allowed).is_valid(key)
        )


def _enum(validator: Any, values: list[Any], instance: Any, schema: Raw) -> Iterator[ValidationError]:
    """Leave values of the wrong type to `type`."""
    if validator.is_type(instance, schema["type"]) and instance not in values:
        yield ValidationError("enum")


def _pattern(validator: Any, pattern: str, instance: Any, schema: Raw) -> Iterator[ValidationError]:
    """Leave strings of the wrong length to the bounds: one problem is enough, and matching long ones is slow."""
    del validator, pattern
    if is_text(instance) and length_fits(instance, schema) and not matches(instance, schema):
        yield ValidationError("pattern")


def _unless(holds: Callable[[Any, Any], bool]) -> Callable[..., Iterator[ValidationError]]:
    """Make a keyword of a predicate. jsonschema's own keywords print the value, which may be too large for that."""

    def keyword(validator: Any, limit: Any, instance: Any, schema: Raw) -> Iterator[ValidationError]:
        del validator, schema
        if not holds(instance, limit):
            yield ValidationError("")

    return keyword


def _type_keyword(validator: Any, types: str | list[str], instance: Any, schema: Raw) -> Iterator[ValidationError]:
    del types
    if not any(validator.is_type(instance, kind) for kind in types_of(schema)):
        yield ValidationError("")


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Raw) -> Iterator[ValidationError]:  # noqa: FBT001  # jsonschema's signature
    """Leave lists that are too long to `maxItems`: comparing everything with everything takes long."""
    del validator
    if unique and isinstance(instance, list) and len(instance) <= schema["maxItems"] and double(instance) is not None:
        yield ValidationError("")


def _told_apart(items: Any, keys: list[str]) -> bool:
    """Return whether no two items of a list have the same keys; of items that lack one nothing is said here."""
    if not isinstance(items, list) or not all(isinstance(item, dict) and item.keys() >= {*keys} for item in items):
        return True
    return double([[item[key] for key in keys] for item in items]) is None


_Validator = extend(
    Draft202012Validator,
    {
        "type": _type_keyword,
        "minimum": _unless(lambda value, least: not is_integer(value) or value >= least),
        "maximum": _unless(lambda value, most: not is_integer(value) or value <= most),
        "minLength": _unless(lambda value, least: not is_text(value) or len(value) >= least),
        "maxLength": _unless(lambda value, most: not is_text(value) or len(value) <= most),
        "minItems": _unless(lambda value, least: not isinstance(value, list) or len(value) >= least),
        "maxItems": _unless(lambda value, most: not isinstance(value, list) or len(value) <= most),
        "maxProperties": _unless(lambda value, most: not isinstance(value, dict) or len(value) <= most),
        "uniqueItems": _unique_items,
        LIST_KEYS: _unless(_told_apart),
        FREE: _unless(lambda value, _: is_json(value)),
        "additionalProperties": _additional_properties,
        "required": _required,
        "propertyNames": _property_names,
        "enum": _enum,
        "pattern": _pattern,
        "format": lambda *_: (),
    },
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: is_integer(value), "string": lambda _, value: is_text(value)}
    ),
)
