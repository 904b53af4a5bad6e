"""What is wrong with a template or a JSON Patch, in words for its author.

What Jinja and Python say of a template names their own parts; the library for JSON Patches shows the whole object. Of a
patch the first part of a path that leads nowhere is named, and what is there instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.manifest import Manifest


class UnknownName(LookupError):
    """An undefined name in a template; `known` are those that are defined."""

    def __init__(self, message: str, name: str, known: Iterable[str]) -> None:
        super().__init__(message)
        self.name = name
        self.hint = suggestion(name, known)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known name, or all of them."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a wrong name pays for it

    names = sorted({each for each in known if " " not in each})
    close = get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are {', '.join(names)}." if names else ""


def plain_words(error: Exception, variables: list[str]) -> tuple[str, str, str]:
    """Return what went wrong in an expression, what to do, and the word in the template that it is about."""
    message = str(error) or type(error).__name__
    if isinstance(error, UnknownName):
        return message, error.hint, error.name
    if found := re.fullmatch(_NOT_DEFINED, message):
        return message, suggestion(found[1], variables), found[1]
    if found := re.match(_NOT_HERE, message):
        return message, "", found[1]
    if found := re.match(_CALLED_WRONGLY, message):
        takes = _COUNTS.get(found[2], found[2])
        return f"{found[1]}() takes {takes}", "docs/templates.md lists filters and functions.", found[1]
    if isinstance(error, ZeroDivisionError):
        return "this divides by zero", "", ""
    return message, "", ""


# Compiled when there is a mistake to explain.
_NOT_DEFINED = r"(\w+) is not defined"
_NOT_HERE = r"there is no (\S+) here"
_CALLED_WRONGLY = r"(\w+)\(\) (?:takes|got|missing) (.*)"
_COUNTS = {
    "1 positional argument but 2 were given": "no arguments",
    "1 positional argument but 3 were given": "no arguments",
}


def plain_syntax(message: str, filters: list[str]) -> tuple[str, str, str]:
    """Return what is wrong with a template's own syntax, what to do, and the word that it is about."""
    if found := re.match(r"No (filter|test) named '(.*)'", message):
        known = filters if found[1] == "filter" else []
        return f"there is no {found[1]} {found[2]}", suggestion(found[2], known), found[2]
    if found := re.search(r"innermost block that needs to be closed is '(\w+)'", message):
        return f"{{% {found[1]} %}} is not closed", f"Write {{% end{found[1]} %}} where it ends.", found[1]
    if found := re.match(r"Encountered unknown tag '(\w+)'", message):
        return f"there is no statement {{% {found[1]} %}}", "There are if, elif, else, for, set and with.", found[1]
    if "end of print statement" in message:
        return "`{{` is not closed, or something stands before its end that does not belong there", "Write }}.", "{{"
    if "end of statement block" in message:
        return "`{%` is not closed, or something stands before its end that does not belong there", "Write %}.", "{%"
    return message, "", ""


_NEEDS = {
    "add": ("value",),
    "remove": (),
    "replace": ("value",),
    "move": ("from",),
    "copy": ("from",),
    "test": ("value",),
}
_OF_WHAT_IS_THERE = {"remove", "replace", "test"}
_MOST_NAMED = 12


def misfit(operation: Any, manifest: Manifest, error: Exception) -> tuple[str, str]:
    """Say what is wrong with an operation that failed on an object with an error of the library."""
    if not isinstance(operation, dict) or not isinstance(operation.get("op"), str):
        return "an operation is a map with op and path", ""
    name = operation["op"]
    if name not in _NEEDS:
        return f"there is no operation {name}", f"Use one of {', '.join(_NEEDS)}."
    for needed in ("path", *_NEEDS[name]):
        if needed not in operation:
            return f"{name} needs {needed}", ""
    what = " ".join(str(operation[key]) for key in ("op", "from", "path") if key in operation)
    for key in ("from", "path"):
        if key in operation and (found := _wrong(manifest, operation[key], key == "from" or name in _OF_WHAT_IS_THERE)):
            return f"{what}: {found[0]}", found[1]
    return f"{what}: {'it does not have that value' if name == 'test' else error}", ""


def _wrong(manifest: Manifest, pointer: Any, there: bool) -> tuple[str, str] | None:  # noqa: FBT001  # private, and named at its one call
    """Say where a path leads nowhere, if it does; its end has to be `there`, or only the place for it."""
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        return "a path begins with /", f"Write /{pointer}." if isinstance(pointer, str) else ""
    raw = pointer.split("/")[1:]
    value: Any = manifest
    for depth, part in enumerate(raw):
        place = "/" + "/".join(raw[:depth]) if depth else "the object"
        free = depth == len(raw) - 1 and not there
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            if key not in value:
                return None if free else _no_key(value, key, "/" + "/".join(raw[: depth + 1]), place)
            value = value[key]
        elif isinstance(value, list):
            if free and key in {"-", str(len(value))}:
                return None
            if not (key.isascii() and key.isdigit()):
                return f"{place} is a list, and {key} is no position in it", "The first item is at 0, and - is its end."
            if int(key) >= len(value):
                return f"{place} has {len(value)} item{'' if len(value) == 1 else 's'}, and none at {key}", ""
            value = value[int(key)]
        else:
            return f"{place} is neither a map nor a list", ""
    return None


def _no_key(value: dict[str, Any], key: str, path: str, place: str) -> tuple[str, str]:
    hint = suggestion(key, value)
    if hint.startswith("Did"):
        return f"there is no {path}", hint
    hint = f"In {place} there are {', '.join(value)}." if 0 < len(value) <= _MOST_NAMED else ""
    return f"there is no {path}", hint
