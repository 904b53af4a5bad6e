"""Standard output and standard error: how wide they are, and whether they can show colours and be drawn over."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from typing import TextIO

Colour = Literal["auto", "always", "never"]
_NARROW = 80
_choice: ContextVar[Colour] = ContextVar("colour", default="auto")


def choose_colour(choice: Colour) -> None:
    """Say when to colour; `auto` leaves it to the environment and the terminal."""
    _choice.set(choice)


def use_colour(stream: TextIO) -> bool:
    """Say whether to colour what goes to a stream.

    The option --color decides, then NO_COLOR, then FORCE_COLOR and CLICOLOR_FORCE, then whether it is a terminal that
    knows colours.
    """
    choice = _choice.get()
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return stream.isatty() and not _is_dumb() and os.environ.get("CLICOLOR") != "0"


def can_redraw(stream: TextIO) -> bool:
    """Say whether lines that are written to a stream can be replaced by others."""
    return stream.isatty() and not _is_dumb()


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


class Look(TypedDict):
    """How a report is to look: `width` in columns, None for what is no terminal, where nothing is wrapped."""

    width: int | None
    color: bool


def look(stream: TextIO) -> Look:
    """Return how a report on a stream is to look."""
    return {"width": _columns(stream), "color": use_colour(stream)}


def _columns(stream: TextIO) -> int | None:
    if not stream.isatty():
        return None
    wish = os.environ.get("COLUMNS", "")
    if wish.isascii() and wish.isdigit() and int(wish):
        return int(wish)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _NARROW
    except OSError:
        return _NARROW
