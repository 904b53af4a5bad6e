"""Lines for a terminal: wrapped to its width, coloured if wanted, and never with anything in them that it would obey.

What it is told may be hostile, so nothing of it gets there raw: escape sequences, bidirectional marks and whatever else
shows nothing or moves the cursor is spelled out. All reports are written on a `Page`; whoever writes a line of his own
to a terminal makes it `visible`. Pure.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NARROWEST = 40
BOLD, DIM, RED, GREEN, YELLOW, BLUE, CYAN = "1", "2", "31", "32", "33", "34", "36"
_LONGEST = 2_000


class Page:
    """Text in the making. `width` is in columns, at least 40; None is no terminal: nothing is wrapped there."""

    def __init__(self, width: int | None = None, *, color: bool = False) -> None:
        self.width = width if width is None else max(width, NARROWEST)
        self._color = color
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        """All lines written so far."""
        return "".join(f"{line}\n" for line in self._lines)

    def line(self, text: str = "") -> None:
        """Write a line of our own as it is."""
        self._lines.append(text.rstrip())

    def painted(self, text: str, colour: str) -> str:
        """Return a text in a colour."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._color and text else text

    def paragraph(self, text: str, indent: str = "", *, first: str | None = None, colour: str = "") -> None:
        """Write a text of several lines, each wrapped; `first` stands before the first one instead of the indent."""
        lead = indent if first is None else first
        for line in text.splitlines() or [""]:
            for part in wrapped(visible(line), self.width, indent, cells(lead)):
                self.line(lead + self.painted(part, colour))
                lead = indent

    def hanging(self, text: str, indent: str = "", *, colour: str = "") -> None:
        """Write a paragraph whose further lines are indented by two more than its first."""
        self.paragraph(text, f"{indent}  ", first=indent, colour=colour)

    def beside(self, first: str, used: int, text: str) -> None:
        """Write a text in a column of its own, beside something that takes up so many columns."""
        parts = wrapped(visible(text), self.width, " " * used, used)
        self.line(first + parts[0])
        for part in parts[1:]:
            self.line(" " * used + part)

    def labelled(self, label: str, colour: str, text: str) -> None:
        """Write a text after a coloured label: `error: ...`."""
        lines = text.split("\n")
        whole = f"{label}: {lines[0]}"
        for number, part in enumerate(wrapped(visible(whole), self.width, "  ", 0)):
            painted = self.painted(f"{label}:", f"{BOLD};{colour}") + part[len(label) + 1 :]
            self.line(f"  {part}" if number else painted)
        for line in lines[1:]:
            self.paragraph(line, "  ")


def wrapped(text: str, width: int | None, indent: str, used: int, *, whole: bool = False) -> list[str]:
    """Break a visible text into parts that fit: the first beside `used` columns, the rest beside the indent.

    Words break only if they are longer than a whole line, and not even then if they are to stay `whole`.
    """
    if width is None or used + cells(text) <= width:
        return [text]
    parts, room, line, whole_line = [], max(width - used, 1), "", max(width - cells(indent), 1)
    inside = text[: len(text) - len(text.lstrip())]
    words = text.split(" ")
    for piece in words if whole else _pieces(words, whole_line):
        longer = f"{line} {piece}" if line else piece
        if line.strip() and cells(longer) > room:
            parts.append(line)
            room, longer = whole_line, inside + piece
        line = longer
    return [*parts, line]


def _pieces(words: Iterable[str], longest: int) -> Iterator[str]:
    for word in words:
        rest = word
        while cells(rest) > longest:
            cut = len(rest)
            while cells(rest[:cut]) > longest:
                cut -= max(1, (cells(rest[:cut]) - longest) // 2)
            yield rest[:cut]
            rest = rest[cut:]
        yield rest


def visible(text: str) -> str:
    """Spell out every character that a terminal would not simply show, and cut what is absurdly long."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004  # a byte that is not UTF-8, as `documents` keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def cells(text: str) -> int:
    """Return how many columns of a terminal a printable text takes: two for each wide character, none for a mark."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
