"""Find everything that is wrong with a document's types, bounds and patterns, with jsonschema.

The keywords are replaced where JSON Schema and Kubernetes differ, where one problem would show up as several, and where
jsonschema would print the value, which may be too large for that. Called by `explain`, which words what is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from chronik.api.structural import Raw, is_integer, is_text, pattern_of, types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def violations(schema: Raw, document: Any) -> Iterator[ValidationError]:
    """Yield each violation of a schema without `$ref`s.

    The message of an unknown field, of a missing one and of a bad key is its name; other messages are empty.
    """
    yield from _Validator(schema).iter_errors(document)


def length_fits(text: str, schema: Raw) -> bool:
    """Say whether a text is neither too short nor too long."""
    return bool(schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", float("inf")))


def matches(text: str, schema: Raw) -> bool:
    """Say whether a text has the form that a schema asks for, if it does."""
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
        else:
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
