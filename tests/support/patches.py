"""JSON patch (RFC 6902) and merge patch (RFC 7386), as the stand-in applies them to an object."""

from __future__ import annotations

from typing import Any

import jsonpatch
from support.api_errors import rejected

Object = dict[str, Any]


def patched(obj: Object, change: Any, how: str) -> Object:
    """Return a changed copy of an object; `how` is merge or json."""
    if how == "merge":
        return _merged(obj, change)
    try:
        patched: Object = jsonpatch.apply_patch(obj, change)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException):
        raise rejected() from None
    return patched


def _merged(obj: Any, change: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
