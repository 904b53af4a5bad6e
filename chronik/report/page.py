"""Pages for a terminal: drawn by rich, and never with anything on them that the terminal would obey.

What is written may be hostile, so all of it is made `visible` first: escape sequences, bidirectional marks and whatever
else shows nothing or moves the cursor is spelled out. That stays own code, because rich lets most of it through. No
text is taken for markup or for the name of an emoji, and nothing is highlighted: rich gets nothing but its own `Text`.

rich is loaded with the first page, not with this module: commands that have nothing to print do not wait for it. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.text import Text

    Part = str | tuple[str, str] | Text
    """A text; a text and its style, as rich names it; or what `Page.styled` made of such."""

NARROWEST = 40
BOLD, DIM, RED, GREEN, YELLOW, BLUE, CYAN = "bold", "dim", "red", "green", "yellow", "blue", "cyan"
_LONGEST = 2_000
_LEAST = 24
"""Cells that the last column of a table gets, if it needs them and anything can be left out for it."""
_UNBOUNDED = 1_000_000
"""Columns of what is no terminal."""


class Page:
    """Text in the making. `width` is in columns, at least 40; None is no terminal: nothing is wrapped there."""

    def __init__(self, width: int | None = None, *, color: bool = False) -> None:
        from rich.console import Console  # noqa: PLC0415  # see above

        self.width = width if width is None else max(width, NARROWEST)
        self._room = _UNBOUNDED if self.width is None else self.width
        self._lines: list[Text] = []
        self._console = Console(  # given all that it would look up in the environment
            width=self._room,
            height=1,
            color_system="standard" if color else None,
            force_terminal=color,
            force_jupyter=False,
            no_color=False,
        )

    @property
    def text(self) -> str:
        """All lines written so far."""
        if not self._lines:
            return ""
        from rich.text import Text  # noqa: PLC0415

        with self._console.capture() as written:
            self._console.print(Text("\n").join(self._lines), soft_wrap=True)
        return written.get()

    def styled(self, *parts: Part) -> Text:
        """Return a line of parts, each made visible, and in its style if it has one."""
        from rich.text import Text  # noqa: PLC0415

        line = Text(end="", overflow="fold")
        for part in parts:
            if isinstance(part, Text):
                line.append_text(part)
            else:
                text, style = (part, "") if isinstance(part, str) else part
                line.append(visible(text), style)
        return line

    def line(self, *parts: Part) -> None:
        """Write a line as it is, however long."""
        line = self.styled(*parts)
        line.rstrip()
        self._lines.append(line)

    def paragraph(self, text: str, indent: str = "", *, first: str | None = None, colour: str = "") -> None:
        """Write a text of several lines, each wrapped; `first` stands before the first one instead of the indent."""
        lead = indent if first is None else first
        for line in text.splitlines() or [""]:
            content = line.lstrip(" ")
            inner = " " * min(len(line) - len(content), self._room // 2)
            self._wrapped(self.styled(lead + inner), self.styled((content, colour)), len(indent + inner))
            lead = indent

    def hanging(self, text: str, indent: str = "", *, colour: str = "") -> None:
        """Write a paragraph whose further lines are indented by two more than its first."""
        self.paragraph(text, f"{indent}  ", first=indent, colour=colour)

    def beside(self, first: Part, text: Part, *, whole: bool = False) -> None:
        """Write a text in a column of its own, beside another; a word too long for it stays `whole`, if so wanted."""
        lead, content = self.styled(first), self.styled(text)
        content.overflow = "ignore" if whole else "fold"
        self._wrapped(lead, content, lead.cell_len)

    def labelled(self, label: str, colour: str, text: str) -> None:
        """Write a text after a coloured label: `error: ...`."""
        first, *others = text.split("\n")
        self._wrapped(self.styled(), self.styled((f"{label}:", f"{BOLD} {colour}"), f" {first}"), 2)
        for line in others:
            self.paragraph(line, "  ")

    def columns(self, rows: Sequence[Sequence[Part]], *, cut: bool = False) -> None:
        """Write rows in columns as wide as they must be; the last one is wrapped, or whole lines are `cut`."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        grid = Table.grid(padding=(0, 2, 0, 0))
        for row in rows:
            grid.add_row(*map(self.styled, row))
        for column in grid.columns[:-1]:
            column.no_wrap = True
        options = self._console.options.update_width(_UNBOUNDED if cut else self._room)
        for segments in self._console.render_lines(grid, options, pad=False):
            line = Text.assemble(*((text, style or "") for text, style, _ in segments))
            line.rstrip()
            line.truncate(self._room, overflow="ellipsis")
            self.line(line)

    def _wrapped(self, first: Text, text: Text, indent: int) -> None:
        """Write a line beside what stands first in it; what does not fit goes below, after so many blanks."""
        begin, *others = text.wrap(self._console, max(self._room - first.cell_len, 1))
        if others and indent != first.cell_len:
            rest = _stripped(text[len(begin) :])
            others = list(rest.wrap(self._console, max(self._room - indent, 1)))
        self.line(first, begin)
        for line in map(_stripped, others):
            if line:
                self.line(" " * indent, line)


def _stripped(line: Text) -> Text:
    """Return a line without the blanks that it begins with: rich leaves some behind a word that it had to break."""
    return line[len(line) - len(line.plain.lstrip(" ")) :]


def fitting(
    rows: Sequence[tuple[str, ...]], choices: Sequence[Collection[str]], width: int | None
) -> list[tuple[str, ...]]:
    """Return a table without the columns that there is no room for; the first row is its head.

    `choices` are the columns to leave out, the first that leaves enough for the last column is taken, else the last.
    """
    shown: list[tuple[str, ...]] = []
    for left_out in choices:
        shown = [tuple(cell for name, cell in zip(rows[0], row, strict=True) if name not in left_out) for row in rows]
        *fixed, last = (max(cells(visible(cell)) for cell in column) for column in zip(*shown, strict=True))
        if width is None or sum(fixed) + 2 * len(fixed) + min(last, _LEAST) <= width:
            break
    return shown


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
    """Return how many columns of a terminal a printable text takes."""
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)


def split(text: str, columns: int) -> tuple[str, str]:
    """Return the part of a printable text that takes so many columns, and the rest of it.

    Letters keep their marks. Of a wide one that stands in the way, either part gets a blank.
    """
    from rich.cells import split_text  # noqa: PLC0415

    return split_text(text, min(columns, cells(text)))
