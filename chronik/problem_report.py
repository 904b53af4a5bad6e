"""Word a list of problems for people, for programs and for GitHub's annotations.

What a file holds may be hostile to a terminal, so nothing of it gets there raw: escape sequences, bidirectional marks
and whatever else shows nothing or moves the cursor is spelled out. Called by `cli` and `testing`; pure.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING

from chronik.problem import format_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.problem import Location, Problem

_NARROWEST = 40
_LONGEST = 2_000
_TAB = "    "
_REACH = 4  # characters that may share one column: a letter and its marks
_STDIN = "-"
_TOKEN = re.compile(r""""(?:[^"\\]|\\.){0,200}"|'[^']{0,200}'|[^\s,:{}\[\]]+(?::(?=[^\s,])[^\s,{}\[\]]*)*""")
_BOLD, _RED, _YELLOW, _BLUE, _CYAN = "1", "1;31", "1;33", "1;34", "1;36"
_COLOURS = {"error": _RED, "warning": _YELLOW}


def as_text(problems: Sequence[Problem], *, width: int, color: bool, most: int | None = None) -> str:
    """Return the problems for a person to read: each with its line and a caret, and a count at the end.

    Text is wrapped to `width` columns, at least 40. `most` problems are told, the first in reading order. Nothing comes
    back for no problems.
    """
    if not problems:
        return ""
    writer = _Writer(max(width, _NARROWEST), color=color)
    told = _ordered(problems)[:most]
    for problem in told:
        writer.problem(problem)
    writer.line(writer.painted(_summary(told), _BOLD))
    return writer.text()


def as_json(problems: Sequence[Problem]) -> str:
    """Return the problems as a JSON list; file, line and column are null where they are not known."""
    found = [
        {
            "file": problem.location.file if problem.location else None,
            "line": problem.location.line if problem.location else None,
            "column": problem.location.column if problem.location else None,
            "path": format_path(problem.path),
            "severity": problem.severity,
            "code": problem.code,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in _ordered(problems)
    ]
    return json.dumps(found, indent=2).replace("\x7f", "\\u007f") + "\n"


def as_github(problems: Sequence[Problem]) -> str:
    """Return the problems as GitHub workflow commands, which a run shows as annotations of the changed files.

    Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    return "".join(f"{_github_command(problem)}\n" for problem in _ordered(problems))


def _github_command(problem: Problem) -> str:
    properties: dict[str, str | int] = {}
    if problem.location and problem.location.file != _STDIN:
        properties["file"] = problem.location.file.removeprefix("./")
    if problem.location:
        properties |= {"line": problem.location.line, "col": problem.location.column}
    properties["title"] = format_path(problem.path) or problem.code
    written = ",".join(f"{name}={_github_property(str(value))}" for name, value in properties.items())
    message = "\n".join(filter(None, (_headline(problem), visible(problem.hint))))
    return f"::{problem.severity} {written}::{_github_data(message)}"


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_data(visible(text)).replace(":", "%3A").replace(",", "%2C")


def _ordered(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by place: files in the order they come in, lines from the top; what has no place comes first."""
    problems = list(problems)
    files = list(dict.fromkeys(problem.location.file for problem in problems if problem.location))
    order = {file: number for number, file in enumerate(files)}

    def place(problem: Problem) -> tuple[int, int, int]:
        at = problem.location
        return (order[at.file], at.line, at.column) if at else (-1, 0, 0)

    return sorted(problems, key=place)


def _headline(problem: Problem) -> str:
    message = visible(problem.message)
    return f"{visible(format_path(problem.path))}: {message}" if problem.path else message


def _summary(problems: Sequence[Problem]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    counts = [(errors, "error"), (len(problems) - errors, "warning")]
    text = ", ".join(_counted(number, what) for number, what in counts if number)
    files = {problem.location.file for problem in problems if problem.location}
    return f"{text} in {_counted(len(files), 'file')}" if files else text


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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


class _Writer:
    """Writes a report line by line."""

    def __init__(self, width: int, *, color: bool) -> None:
        self._width = width
        self._color = color
        self._lines: list[str] = []

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    def line(self, text: str = "") -> None:
        self._lines.append(text.rstrip())

    def painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._color and text else text

    def problem(self, problem: Problem) -> None:
        colour = _COLOURS[problem.severity]
        self._labelled(problem.severity, _headline(problem), colour, bold=True)
        if problem.location:
            self._place(problem.location, colour)
        elif problem.subject:
            self.line(f"  {self.painted('-->', _BLUE)} {visible(problem.subject)}")
        if problem.hint:
            self._labelled("help", visible(problem.hint), _CYAN, bold=False)
        self.line()

    def _labelled(self, label: str, text: str, colour: str, *, bold: bool) -> None:
        indent = " " * (len(label) + 2)
        first, *others = _wrapped(text, self._width - len(indent))
        style = _BOLD if bold else ""
        self.line(f"{self.painted(f'{label}:', colour)} {self._styled(first, style)}")
        for other in others:
            self.line(f"{indent}{self._styled(other, style)}")

    def _styled(self, text: str, style: str) -> str:
        return self.painted(text, style) if style else text

    def _place(self, at: Location, colour: str) -> None:
        number = str(at.line)
        margin = " " * len(number)
        bar = self.painted("|", _BLUE)
        file = "<stdin>" if at.file == _STDIN else visible(at.file)
        self.line(f"{margin}{self.painted('-->', _BLUE)} {file}:{at.line}:{at.column}")
        if not at.text.strip():
            return
        source, before, marked = _window(at.text, at.column - 1, self._width - len(number) - 3)
        self.line(f"{margin} {bar}")
        self.line(f"{self.painted(number, _BLUE)} {bar} {source}")
        self.line(f"{margin} {bar} {' ' * before}{self.painted('^' * marked, colour)}")


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cells(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _window(text: str, at: int, width: int) -> tuple[str, int, int]:
    """Return the part of a line around an offset that fits a width, and where its mark begins and how long it is.

    All three count in columns of the terminal. What is cut off at either end leaves an ellipsis.
    """
    at = min(at, len(text))
    token = _TOKEN.match(text, at)
    stop = token.end() if token else at + 1
    low, high = max(0, at - _REACH * width), at + _REACH * width
    before, after = _spelled(text[low:at]), _spelled(text[at:high])
    room = width - min(sum(map(cells, after)), width // 2)
    left, left_cut = _fitting(before[::-1], room, cut=low > 0)
    while left_cut and left and not cells(left[-1]):
        left.pop()  # a mark whose letter was cut off
    left = [*(["…"] if left_cut else []), *left[::-1]]
    begin = sum(map(cells, left))
    right, right_cut = _fitting(after, width - begin, cut=high < len(text))
    marked = sum(map(cells, right[: stop - at]))
    return "".join([*left, *right, *(["…"] if right_cut else [])]), begin, max(marked, 1)


def _spelled(text: str) -> list[str]:
    """Return how each character of a source line is shown; a tab is four columns wide wherever it stands."""
    return [_TAB if character == "\t" else _shown(character) for character in text]


def _fitting(pieces: list[str], room: int, *, cut: bool) -> tuple[list[str], bool]:
    """Return the first pieces that fit the room, and whether an ellipsis must say that there were more."""
    if not cut and sum(map(cells, pieces)) <= room:
        return pieces, False
    kept: list[str] = []
    room -= 1
    for piece in pieces:
        room -= cells(piece)
        if room < 0:
            break
        kept.append(piece)
    return kept, True
