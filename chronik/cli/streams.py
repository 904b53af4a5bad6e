"""Standard output and standard error: how they are opened, what they can show, and what comes of it if they fail.

Whatever writes to standard output, click and rich included, raises one error if that is full or closed, and one if the
reader of a pipe has gone. What cannot be written to standard error is lost. One function says whether to colour, for
every command.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TypedDict

import click

from chronik.errors import OutputError

if TYPE_CHECKING:
    from typing import Any, TextIO

Colour = Literal["auto", "always", "never"]
_NARROW = 80
_choice: ContextVar[Colour] = ContextVar("colour", default="auto")


class ReaderGone(Exception):
    """The reader of standard output, `head` for one, has what it wanted."""


class _Patient(io.FileIO):
    """A stream that waits for its reader, also if another process, one of Node's for instance, made it non-blocking."""

    def write(self, data: Any, /) -> int:
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class _Stdout(_Patient):
    """Standard output, below all buffers."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise _unwritable(error) from error


class _Stderr(_Patient):
    """Standard error, below all buffers."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes  # as if it had been written


def _unwritable(error: OSError) -> OutputError:
    return OutputError(f"cannot write to standard output: {error.strerror or error}")


def open_streams() -> None:
    """Have standard output and standard error fail as this module says, and closed ones fail at all.

    A stream that the shell has closed (`>&-`) gets something in its place that can be used the other way only: its
    number must not go to the next file that is opened.
    """
    if os.name != "posix":
        return
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = _text(_Stdout(1, "wb", closefd=False), sys.stdout, by_line=os.isatty(1))
    sys.stderr = _text(_Stderr(2, "wb", closefd=False), sys.stderr, by_line=True)


def _text(raw: io.FileIO, old: TextIO | None, *, by_line: bool) -> TextIO:
    """Return a text stream like an old one, but for characters that it has no bytes for: those are spelled out."""
    encoding = old.encoding if old else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", "\n", line_buffering=by_line)


def flush() -> None:
    """Write what is left, while it can be told if that fails; some network drives say so when a file is closed only.

    Raises:
        OutputError: it could not be written.
        ReaderGone: nobody reads it.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Stdout):
        try:
            os.close(os.dup(raw.fileno()))
        except OSError as error:
            raise _unwritable(error) from error


def discard() -> None:
    """Drop what is left for standard output, so that Python does not fail on it on its way out."""
    with suppress(OSError, ValueError):
        number = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)


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


def can_ask() -> bool:
    """Say whether there is a terminal to ask a question on, and to get its answer from."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def need_terminal(instead: str) -> None:
    """Refuse a command that would have to ask, where nobody can answer; `instead` is how to do without.

    Raises:
        UsageError: there is no terminal.
    """
    if not can_ask():
        raise click.UsageError(f"there is no terminal to ask on: {instead}")


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


def say(text: str, *, err: bool = False) -> None:
    """Write lines for people: wrapped to the width of a terminal, and free of what it would obey."""
    from chronik.report.page import Page  # noqa: PLC0415  # help and completion stay quick

    page = Page(look(sys.stderr if err else sys.stdout)["width"])
    for line in text.splitlines():
        page.hanging(line)
    click.echo(page.text, err=err, nl=False)
