"""Word a list of problems for people, for programs and for GitHub's annotations.

Called by `cli` and `testing`; pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from chronik.errors import InvalidDocuments
from chronik.problem import format_path
from chronik.report.page import BLUE, BOLD, CYAN, RED, YELLOW, Page, cells, visible, wrapped
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.errors import ChronikError
    from chronik.problem import Location, Problem

_TAB = "    "
_REACH = 4  # characters that may share one column: a letter and its marks
_STDIN = "-"
_TOKEN = re.compile(r""""(?:[^"\\]|\\.){0,200}"|'[^']{0,200}'|[^\s,:{}\[\]]+(?::(?=[^\s,])[^\s,{}\[\]]*)*""")
_COLOURS = {"error": f"{BOLD};{RED}", "warning": f"{BOLD};{YELLOW}", "help": f"{BOLD};{CYAN}"}
_MARGIN = f"{BOLD};{BLUE}"


def problems_text(problems: Sequence[Problem], *, width: int, color: bool, most: int | None = None) -> str:
    """Return the problems for a person to read: each with its line and a caret, and a count at the end.

    Text is wrapped to `width` columns, at least 40. `most` problems are told, the first in reading order. Nothing comes
    back for no problems.
    """
    if not problems:
        return ""
    page = Page(width, color=color)
    told = _ordered(problems)[:most]
    for problem in told:
        _write(page, problem)
    page.line(page.painted(_summary(told), BOLD))
    return page.text


def error_text(error: ChronikError, *, width: int, color: bool, most: int | None = None) -> str:
    """Return an error for a person to read; the problems of documents as `problems_text` does, with `most` of them."""
    if isinstance(error, InvalidDocuments):
        return problems_text(error.problems, width=width, color=color, most=most)
    label = Page(color=color).painted("error:", _COLOURS["error"])
    return f"{label} {error}".replace("\n", "\n  ") + "\n"


def problems_json(problems: Sequence[Problem]) -> str:
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


def problems_github(problems: Sequence[Problem]) -> str:
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
    text = ", ".join(counted(number, what) for number, what in counts if number)
    files = {problem.location.file for problem in problems if problem.location}
    return f"{text} in {counted(len(files), 'file')}" if files else text


def _write(page: Page, problem: Problem) -> None:
    _labelled(page, problem.severity, _headline(problem), bold=True)
    if problem.location:
        _place(page, problem.location, _COLOURS[problem.severity])
    elif problem.subject:
        page.line(f"  {page.painted('-->', _MARGIN)} {visible(problem.subject)}")
    if problem.hint:
        _labelled(page, "help", visible(problem.hint))
    page.line()


def _labelled(page: Page, label: str, text: str, *, bold: bool = False) -> None:
    """Write a visible text in a column beside its label; its words stay whole, for whoever copies them."""
    indent = " " * (len(label) + 2)
    lead = f"{page.painted(f'{label}:', _COLOURS[label])} "
    for part in wrapped(text.lstrip(), page.width, indent, len(indent), whole=True):
        page.line(lead + (page.painted(part, BOLD) if bold else part))
        lead = indent


def _place(page: Page, at: Location, colour: str) -> None:
    """Write where something is, the line there, and a mark below it."""
    number = str(at.line)
    margin = " " * len(number)
    bar = page.painted("|", _MARGIN)
    file = "<stdin>" if at.file == _STDIN else visible(at.file)
    page.line(f"{margin}{page.painted('-->', _MARGIN)} {file}:{at.line}:{at.column}")
    if not at.text.strip():
        return
    assert page.width is not None, "problems are told to a terminal, or to what is as wide as one"
    source, before, marked = _window(at.text, at.column - 1, page.width - len(number) - 3)
    page.line(f"{margin} {bar}")
    page.line(f"{page.painted(number, _MARGIN)} {bar} {source}")
    page.line(f"{margin} {bar} {' ' * before}{page.painted('^' * marked, colour)}")


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
    return [_TAB if character == "\t" else visible(character) for character in text]


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
