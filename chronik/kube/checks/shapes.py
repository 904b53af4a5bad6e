"""Types of values from outside, held as strictly as Go holds them: kubeconfig files, plugins' output, servers' answers.

A shape is a function that returns a value of its type, or raises a ShapeError. Nothing from outside is used before it
has been through one, so that no `"false"` counts as true and no text is taken for a map. As in Go, a field that is null
is absent, and a field that the table does not name is passed over.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Shape = Callable[[Any], Any]

_WORDS = {dict: "a map", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


class ShapeError(ValueError):
    """A value does not have its type. The words name the field and both types, never the value: it may be a secret."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self._problem = problem
        self._steps: list[str] = []

    def below(self, step: str) -> ShapeError:
        """Return the error, said of what the value is in: `.name` is a field, `[0]` an item."""
        self._steps.insert(0, step)
        return self

    @property
    def field(self) -> str:
        """Where the value stands: `users[0].user.token`, empty for the whole."""
        return "".join(self._steps).removeprefix(".")

    def __str__(self) -> str:
        return f"{self.field or 'it'} {self._problem}"


def _misfit(value: Any, wanted: str) -> ShapeError:
    return ShapeError(f"must be {wanted}, is {_WORDS.get(type(value), 'null')}")


def text(value: Any) -> str:
    """Take a string; null is empty."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    raise _misfit(value, "a string")


def flag(value: Any) -> bool:
    """Take true or false, and no word or number for them; null is false."""
    if type(value) is bool:
        return value
    if value is None:
        return False
    raise _misfit(value, "true or false")


def whole(value: Any) -> int:
    """Take an integer; null is 0."""
    if type(value) is int:
        return value
    if value is None:
        return 0
    raise _misfit(value, "a whole number")


def integer_text(value: Any) -> str:
    """Take a string of decimal digits, as a resource version is one; null and nothing are empty."""
    found = text(value)
    if found and not (found.isascii() and found.isdecimal() and len(found) <= _MOST_DIGITS):
        raise ShapeError("must be a string of digits")
    return found


_MOST_DIGITS = 20  # of an unsigned integer of 64 bits


def anything(value: Any) -> Any:
    """Take whatever there is."""
    return value


def base64_data(value: Any) -> bytes:
    """Take base64, which may be wrapped or end with a line break, and return what it stands for."""
    try:
        return binascii.a2b_base64(text(value).translate(_NO_LINE_BREAKS).encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ShapeError("is not base64") from None


_NO_LINE_BREAKS = {ord("\n"): None, ord("\r"): None}


def one_of(*allowed: str) -> Shape:
    """Take one of these strings."""

    def check(value: Any) -> str:
        found = text(value)
        if found not in allowed:
            raise ShapeError(f"must be {' or '.join(filter(None, allowed))}")
        return found

    return check


def list_of(item: Shape, step: Callable[[int, Any], str] = "[{}]".format) -> Shape:
    """Take a list whose items have that shape; null is empty. The list itself is never changed.

    `step` says how an item is named in errors, by its number and itself.
    """

    def check(value: Any) -> list[Any]:
        if type(value) is not list:
            if value is None:
                return []
            raise _misfit(value, "a list")
        found = value
        for number, old in enumerate(value):
            try:
                new = item(old)
            except ShapeError as error:
                raise error.below(step(number, old)) from None
            if new is not old:
                found = list(value) if found is value else found
                found[number] = new
        return found

    return check


def map_of(item: Shape) -> Shape:
    """Take a map whose values have that shape; null is empty. The map itself is never changed."""

    def check(value: Any) -> dict[str, Any]:
        found = value = _map(value)
        for key, old in value.items():
            try:
                new = item(old)
            except ShapeError as error:
                raise error.below(f"[{key}]") from None
            if new is not old:
                found = dict(value) if found is value else found
                found[key] = new
        return found

    return check


def fields(table: Mapping[str, Shape], required: tuple[str, ...] = ()) -> Shape:
    """Take a map with fields of these shapes, and keep others as they are; null is a map without fields.

    The value itself is never changed: what had to be is in a copy.
    """
    shapes = tuple(table.items())

    def check(value: Any) -> dict[str, Any]:
        found = _map(value)
        for name, shape in shapes:
            if name in found:
                found = _with(found, value, name, shape)
        for name in required:
            if name not in found:
                raise ShapeError("is missing").below(f".{name}")
        return found

    return check


def _map(value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    if value is None:
        return {}
    raise _misfit(value, "a map")


def _with(found: dict[str, Any], value: Any, name: str, shape: Shape) -> dict[str, Any]:
    """Return a map whose field has its type; copy it before the first change, because the value stays as it is."""
    old = found[name]
    if old is None:
        found = dict(value) if found is value else found
        del found[name]
        return found
    try:
        new = shape(old)
    except ShapeError as error:
        raise error.below(f".{name}") from None
    if new is old:
        return found
    found = dict(value) if found is value else found
    found[name] = new
    return found


def named(item: Shape) -> Shape:
    """Take a list of maps, each with another `name`; no name is an empty one."""
    items = list_of(item, _by_name)

    def check(value: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = items(value)
        first: dict[str, int] = {}
        for number, each in enumerate(found):
            before = first.setdefault(each.get("name", ""), number)
            if before != number:
                raise ShapeError(f"has the same name as [{before}]").below(f"[{number}]")
        return found

    return check


def _by_name(number: int, item: Any) -> str:
    """Return how an item is named in errors: by its name, if it has one."""
    name = item.get("name") if type(item) is dict else None
    return f"[{name!r}]" if type(name) is str else f"[{number}]"
