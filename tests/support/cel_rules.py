"""Runs the CEL rules of a CRD's schema for the stand-in, with the CEL environment that chronik itself validates with.

That the two say what kube-apiserver says is shown by the scenarios of test_fake_server.py on the real server.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from chronik.api.cel import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]
Cause = dict[str, str]

_FORMS = {dict: "object", list: "array", str: "string", int: "integer", float: "number", bool: "boolean"}


def broken_rules(new: Any, old: Any, schema: Object, path: str) -> Iterator[Cause]:
    """Yield a cause for each rule that does not hold, at a value and below it; `old` is None where there was none.

    A rule about what has not changed is let pass, unless it compares.
    """
    for rule in schema.get("x-kubernetes-validations", ()):
        if old is None if "oldSelf" in rule["rule"] else new == old:
            continue
        verdict = _verdict(rule["rule"], _visible(new, path), _visible(old, path))
        if verdict is not True:
            yield _cause(rule, new, path, verdict)
    if isinstance(new, dict):
        for key, value in new.items():
            part = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(part, dict) and value is not None and (path or key != "metadata"):
                before = old.get(key) if isinstance(old, dict) else None
                yield from broken_rules(value, before, part, f"{path}.{key}" if path else key)
    elif isinstance(new, list):
        for index, item in enumerate(new):
            yield from broken_rules(item, None, schema.get("items", {}), f"{path}[{index}]")


def _visible(value: Any, path: str) -> Any:
    """Hide what a rule at the root cannot see of the metadata."""
    if path or not isinstance(value, dict):
        return value
    names = {key: text for key, text in value["metadata"].items() if key in {"name", "generateName"}}
    return value | {"metadata": names}


@cache
def _compiled(rule: str) -> Any:
    return environment().compile(rule)


def _verdict(rule: str, new: Any, old: Any) -> Any:
    data = {"self": new} | ({"oldSelf": old} if "oldSelf" in rule else {})
    return _compiled(rule).eval(data=data).plain_value()


def _cause(rule: Object, value: Any, path: str, verdict: Any) -> Cause:
    reason = rule.get("reason", "FieldValueInvalid")
    message = rule.get("message", f"failed rule: {rule['rule']}")
    if verdict is not False:
        message = f"rule could not be evaluated: {verdict}"
    field = (path + rule.get("fieldPath", "")) or "<nil>"
    words = {
        "FieldValueForbidden": f"Forbidden: {message}",
        "FieldValueRequired": f"Required value: {message}",
        "FieldValueDuplicate": f'Duplicate value: "{_FORMS[type(value)]}"',
    }
    return {"reason": reason, "message": words.get(reason, f"Invalid value: {message}"), "field": field}
