"""The filters and functions that templates have beside Jinja's own; each is a pure function of its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.quantity import canonical_quantity
from chronik.render.skeleton import OMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def optional(value: Any) -> Any:
    """Drop the key, or the list item, if its value is null, an empty map or an empty list."""
    return OMIT if value is None or value in ({}, []) else value


def quantity(value: str | int | None) -> Any:
    """Spell a quantity as the API server does, so that it never looks changed; null stays null."""
    return None if value is None else canonical_quantity(value)


def merged(*maps: Mapping[str, Any]) -> dict[str, Any]:
    """Merge maps into one; where two have the same key, the later one wins."""
    result: dict[str, Any] = {}
    for each in maps:
        result.update(each)
    return result


def given(**values: Any) -> dict[str, Any]:
    """Make a map of those values that are not null."""
    return {key: value for key, value in values.items() if value is not None}


def numbered(texts: Mapping[str, str], number: int) -> dict[str, str]:
    """Put a number in the place of every `{id}` in the values of a map."""
    return {key: text.replace("{id}", str(number)) for key, text in texts.items()}


_HANDLERS = frozenset({"exec", "grpc", "httpGet", "tcpSocket"})


def reprobed(probe: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a probe over another field by field; what it asks takes the place of what the other one asks."""
    asked = _HANDLERS if _HANDLERS & change.keys() else frozenset()
    return {**{key: value for key, value in probe.items() if key not in asked}, **change}


def properties(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Write maps as the text of a Java properties file; each map's keys begin with its prefix."""
    from chronik.render.properties import properties as written  # noqa: PLC0415  # only mirrors have such a file

    return written(sections)


FILTERS: dict[str, Callable[..., Any]] = {"optional": optional, "quantity": quantity}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "given": given,
    "merged": merged,
    "numbered": numbered,
    "properties": properties,
    "reprobed": reprobed,
}
