"""CustomResourceDefinitions in the stand-in: a CRD that is created serves its kind, with its schema enforced.

Structural schemas are checked here; CEL rules (`x-kubernetes-validations`) are run by the same CEL library that chronik
validates with, and the scenarios prove on the real server that they say the same.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from support.api_errors import invalid_value, required, unsupported
from support.cel_rules import broken_rules
from support.fake_server.kinds import ANY_OBJECT, Kind
from support.ssa.field_types import Type, from_crd, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]
Cause = dict[str, str]

CRD = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    generation=True,
    status=True,
    custom={},
    custom_type=ANY_OBJECT,
)


def kind_of(crd: Object) -> Kind:
    """Return the kind that a CRD defines, in its storage version."""
    spec = crd["spec"]
    version = next(one for one in spec["versions"] if one["storage"])
    schema = version["schema"]["openAPIV3Schema"]
    fields = {
        **{key: from_crd(value) for key, value in schema.get("properties", {}).items()},
        "apiVersion": parse("string"),
        "kind": parse("string"),
        "metadata": parse("ObjectMeta embedded"),
    }
    return Kind(
        spec["group"],
        version["name"],
        spec["names"]["plural"],
        spec["names"]["kind"],
        namespaced=spec["scope"] == "Namespaced",
        status="status" in version.get("subresources", {}),
        unconditional=False,
        custom=schema,
        custom_type=Type("struct", own_fields=fields, open=bool(schema.get("x-kubernetes-preserve-unknown-fields"))),
    )


def establish(crd: Object, now: str) -> None:
    """Give a new CRD the status that its controllers give it."""
    names = crd["spec"]["names"]
    common = {"lastTransitionTime": now, "status": "True"}
    crd["status"] = {
        "conditions": [
            common | {"type": "NamesAccepted", "reason": "NoConflicts", "message": "no conflicts found"},
            common
            | {
                "type": "Established",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
            },
        ],
        "acceptedNames": names,
        "storedVersions": [one["name"] for one in crd["spec"]["versions"] if one["storage"]],
    }


def validate_custom(new: Object, old: Object | None, schema: Object) -> list[Cause]:
    """Return what is wrong with a custom resource, by its schema and by its CEL rules.

    What was wrong before and is left as it was is let pass, as servers do since 1.30 (CRDValidationRatcheting).
    """
    causes = [required(key) for key in schema.get("required", ()) if key not in new]
    for key, part in schema.get("properties", {}).items():
        if key in new and key != "metadata":
            causes += _walk(new[key], (old or {}).get(key), part, key)
    if not any(cause["reason"] in _BLOCKING for cause in causes):
        return causes + list(broken_rules(new, old, schema, ""))
    if "x-kubernetes-validations" in json.dumps(schema):
        causes.append(invalid_value("<nil>", None, _UNCHECKED))
    return causes


_UNCHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_BLOCKING = {
    *(
        "FieldValueRequired",
        "FieldValueNotSupported",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ),
}


def _walk(value: Any, old: Any, schema: Object, path: str) -> Iterator[Cause]:
    if value is None or value == old:
        return
    wrong_type = _type_error(value, schema, path)
    if wrong_type:
        yield wrong_type
        return
    yield from _bounds(value, schema, path)
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                yield required(f"{path}.{key}")
        for key, child in value.items():
            part = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            before = old.get(key) if isinstance(old, dict) else None
            yield from _walk(child, before, part if isinstance(part, dict) else {}, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, None, schema.get("items", {}), f"{path}[{index}]")


_PYTHON: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _type_error(value: Any, schema: Object, path: str) -> Cause | None:
    wanted = schema.get("type")
    if schema.get("x-kubernetes-int-or-string") or wanted is None:
        return None
    if isinstance(value, _PYTHON[wanted]) and isinstance(value, bool) == (wanted == "boolean"):
        return None
    found = next(name for name, types in _PYTHON.items() if type(value) in types)
    wrong = invalid_value(path, found, f'{path} in body must be of type {wanted}: "{found}"')
    return wrong | {"reason": "FieldValueTypeInvalid"}


def _bounds(value: Any, schema: Object, path: str) -> Iterator[Cause]:
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported(path, value, schema["enum"])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield invalid_value(path, value, f"{path} in body should be greater than or equal to {schema['minimum']}")
        if value > schema.get("maximum", value):
            yield invalid_value(path, value, f"{path} in body should be less than or equal to {schema['maximum']}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield invalid_value(path, value, f"{path} in body should match '{schema['pattern']}'")
        if len(value) < schema.get("minLength", 0):
            yield invalid_value(path, value, f"{path} in body should be at least {schema['minLength']} chars long")
        if len(value) > schema.get("maxLength", len(value)):
            yield _too_many(path, f"Too long: may not be more than {schema['maxLength']} bytes", "FieldValueTooLong")
    if isinstance(value, list) and len(value) > schema.get("maxItems", len(value)):
        message = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield _too_many(path, message, "FieldValueTooMany")


def _too_many(path: str, message: str, reason: str) -> Cause:
    return {"reason": reason, "message": message, "field": path}
