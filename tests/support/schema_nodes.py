"""Walks a JSON Schema whose references are inlined, for tests that hold for every node of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def nodes(raw: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every node of a schema with the way to it."""
    yield path, raw
    for name, child in raw.get("properties", {}).items():
        yield from nodes(child, (*path, name))
    for keyword in ("items", "additionalProperties"):
        if isinstance(raw.get(keyword), dict):
            yield from nodes(raw[keyword], (*path, keyword))
