"""A stand-in for `typing.TypedDict` that costs nothing when a command starts.

Types of the spec are for readers and for the type checker. The real one evaluates each annotation as its class is made,
and for all of the spec that takes a fortieth of the time of a command that renders.
"""

from __future__ import annotations

from typing import Any


class TypedDict(dict[str, Any]):
    """A map with keys of known types, which are only declared. What is made of it is an ordinary map."""

    def __new__(cls, *arguments: Any, **values: Any) -> Any:
        """Return a map; of the stand-in itself, a type that is declared by a call, for keys that are no names."""
        if cls is TypedDict:
            name, fields = arguments
            return type(name, (TypedDict,), {"__annotations__": fields})
        return dict(*arguments, **values)

    def __init_subclass__(cls, *, total: bool = True) -> None:
        """Take what a declaration may say."""
        del total
