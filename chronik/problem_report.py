"""Word problems for people, for programs and for GitHub; returns text, prints nothing.

The text form shows the line and points at the place, as compilers do. What comes from a file is never written to a
terminal raw: control characters are shown as escapes. Called by `cli`.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

from chronik.problem import format_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chronik.problem import Location, Problem

_RED, _YELLOW, _BLUE, _BOLD, _PLAIN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"
_LEAST_WIDTH = 40


def as_text(problems: Sequence[Problem], *, width: int, color: bool) -> str:
    """Return problems for a person: what, where, the line itself, and what to do; then how many there are."""
    if not problems:
        return ""
    paint = _painted if color else _unpainted
    blocks = [_block(problem, max(width, _LEAST_WIDTH), paint) for problem in problems]
    return "\n".join([*blocks, _summary(problems), ""])


def _painted(text: str, colour: str) -> str:
    return f"{colour}{text}{_PLAIN}"


def _unpainted(text: str, colour: str) -> str:
    del colour
    return text


def _block(problem: Problem, width: int, paint: Callable[[str, str], str]) -> str:
    colour = _RED if problem.severity == "error" else _YELLOW
    path = format_path(problem.path)
    what = f"{path}: {problem.message}" if path else problem.message
    lines = [f"{paint(problem.severity + ':', colour)} {paint(visible(what), _BOLD)}"]
    gutter = " " * len(str(problem.location.line)) if problem.location else ""
    if problem.location:
        lines += _excerpt(problem.location, width, paint, colour)
    if problem.hint:
        lines.append(f"{gutter} {paint('help:', _BLUE)} {visible(problem.hint)}")
    return "\n".join(lines) + "\n"


def _excerpt(location: Location, width: int, paint: Callable[[str, str], str], colour: str) -> list[str]:
    gutter = " " * len(str(location.line))
    bar, number = paint("|", _BLUE), paint(str(location.line), _BLUE)
    head = f"{gutter}{paint('-->', _BLUE)} {visible(location.file)}:{location.line}:{location.column}"
    if not location.text.strip():
        return [head]
    text, column = _window(location.text, location.column - 1, width - len(gutter) - 4)
    pointer = " " * _columns(text[:column]) + "^"
    return [
        head,
        f"{gutter} {bar}",
        f"{number} {bar} {text}",
        f"{gutter} {bar} {paint(pointer, colour)}",
    ]


def _window(line: str, column: int, width: int) -> tuple[str, int]:
    """Return the part of a line around a column that fits a width, and the column within it."""
    before, after = visible(line[:column]), visible(line[column:])
    text, column = before + after, len(before)
    if _columns(text) <= width:
        return text, column
    start = max(0, column - width // 3)
    shown = text[start : start + width - 2]
    head = "…" if start else ""
    tail = "…" if start + width - 2 < len(text) else ""
    return f"{head}{shown}{tail}", column - start + len(head)


def visible(text: str) -> str:
    """Return a text with tabs as spaces and control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else "    " if each == "\t" else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _summary(problems: Sequence[Problem]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    files = {problem.location.file for problem in problems if problem.location}
    found = [_counted(errors, "error"), _counted(len(problems) - errors, "warning")]
    where = f" in {_counted(len(files), 'file')}" if files else ""
    return ", ".join(filter(None, found)) + where


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def as_json(problems: Sequence[Problem]) -> str:
    """Return problems as a JSON list, in the order found."""
    return json.dumps([_record(problem) for problem in problems], indent=2, ensure_ascii=False) + "\n"


def _record(problem: Problem) -> dict[str, object]:
    place = problem.location
    return {
        "severity": problem.severity,
        "code": problem.code,
        "path": format_path(problem.path),
        "message": problem.message,
        "hint": problem.hint,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }


def as_github(problems: Sequence[Problem]) -> str:
    """Return problems as GitHub workflow commands, which annotate the lines of a pull request."""
    return "".join(_annotation(problem) for problem in problems)


def _annotation(problem: Problem) -> str:
    path = format_path(problem.path)
    place = problem.location
    where = f"file={_property(place.file)},line={place.line},col={place.column}," if place else ""
    text = " ".join(filter(None, (f"{path}: {problem.message}" if path else problem.message, problem.hint)))
    return f"::{problem.severity} {where}title={_property(problem.code)}::{_escaped(text)}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
