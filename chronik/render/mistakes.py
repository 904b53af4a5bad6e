"""What is wrong with a template, in words for its author: what Jinja and Python say of it names their own parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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
