"""Small pieces of English that messages of every layer are made of: numbers of things, lists, the ends of sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


MOST_NAMED = 3
"""How many things of a kind a message names; of the others it says how many there are."""


def counted(number: int, what: str) -> str:
    """Write a number of things: `1 object`, `2 objects`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[object], most: int = MOST_NAMED) -> str:
    """Write the first few names, and how many more there are."""
    texts = [str(name) for name in names]
    more = len(texts) - most
    return ", ".join(texts) if more <= 0 else f"{', '.join(texts[:most])} and {more} more"


def sentence(text: str) -> str:
    """Return a text that ends like a sentence, with a full stop if it has no end of its own."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
