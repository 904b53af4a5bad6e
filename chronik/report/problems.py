"""Word a list of problems for people, for programs and for GitHub's annotations.

Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chronik.errors import InvalidDocuments, RenderError
from chronik.problem import format_path
from chronik.report.page import BLUE, BOLD, CYAN, RED, YELLOW, Page, cells, split, visible
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.errors import ChronikError
    from chronik.problem import Location, Problem
    from chronik.report.page import Part

_TAB = "    "
_REACH = 4  # characters that may share one column: a letter and its marks
_STDIN = "<stdin>"
_WIDTH_OF_FILES = 120  # columns of a source line that are shown where there is no terminal
_TOKEN = re.compile(r""""(?:[^"\\]|\\.){0,200}"|'[^']{0,200}'|[^\s,:{}\[\]]+(?::(?=[^\s,])[^\s,{}\[\]]*)*""")
_COLOURS = {"error": f"{BOLD} {RED}", "warning": f"{BOLD} {YELLOW}", "help": f"{BOLD} {CYAN}"}
_MARGIN = f"{BOLD} {BLUE}"


def problems_text(problems: Sequence[Problem], *, width: int | None, color: bool, most: int | None = None) -> str:
    """Return the problems for a person to read: each with its line and a caret, and a count at the end.

    Text is wrapped to `width` columns, at least 40; None is no terminal, and nothing is wrapped. `most` problems are
    shown, the first in reading order. Nothing comes back for no problems.
    """
    if not problems:
        return ""
    page = Page(width, color=color)
    told = _ordered(problems)[:most]
    for problem in told:
        _write(page, problem)
    page.line((_summary(told), BOLD))
    return page.text


def error_text(error: ChronikError, *, width: int | None, color: bool, most: int | None = None) -> str:
    """Return an error for a person to read; the problems of documents as `problems_text` does, with `most` of them."""
    if isinstance(error, InvalidDocuments):
        return problems_text(error.problems, width=width, color=color, most=most)
    if isinstance(error, RenderError) and error.location:
        return problems_text([error.as_problem()], width=width, color=color)
    page = Page(color=color)
    page.labelled("error", RED, str(error))
    return page.text


def problems_json(problems: Sequence[Problem]) -> str:
    """Return the problems as a JSON list: `problems_data` as text."""
    return json.dumps(problems_data(problems), indent=2).replace("\x7f", "\\u007f") + "\n"


def problems_data(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Return the problems as plain data.

    `file` is as it was named, "-" for standard input, and null for what is in no file, such as a wrong option. `line`
    and `column` are null where a whole file is meant.
    """
    return [
        {
            "file": "-" if _file(problem) == _STDIN else _file(problem) or None,
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


def problems_github(problems: Sequence[Problem]) -> str:
    """Return the problems as GitHub workflow commands, which a run shows as annotations of the changed files.

    What is on standard input is in no file of the repository, so its place goes into the message.
    Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    return "".join(f"{_github_command(problem)}\n" for problem in _ordered(problems))


def _github_command(problem: Problem) -> str:
    at, file = problem.location, _file(problem)
    properties: dict[str, str | int] = {}
    if file and file != _STDIN:
        properties |= {"file": file.removeprefix("./")} | ({"line": at.line, "col": at.column} if at else {})
    properties["title"] = format_path(problem.path) or problem.code
    written = ",".join(f"{name}={_github_property(str(value))}" for name, value in properties.items())
    place = (f"standard input, line {at.line}: " if at else "standard input: ") if file == _STDIN else ""
    message = "\n".join(filter(None, (place + _headline(problem), visible(problem.hint))))
    return f"::{problem.severity} {written}::{_github_data(message)}"


def _file(problem: Problem) -> str:
    """Return the file that a problem is in, as it was named, or "" if it is in none."""
    return problem.location.file if problem.location else problem.subject


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
    _labelled(page, problem.severity, (_headline(problem).lstrip(), BOLD))
    if problem.location:
        _place(page, problem.location, _COLOURS[problem.severity])
    elif problem.subject:
        page.line("  ", ("-->", _MARGIN), f" {problem.subject}")
    if problem.hint:
        _labelled(page, "help", problem.hint.lstrip())
    page.line()


def _labelled(page: Page, label: str, text: Part) -> None:
    """Write a text in a column beside its label; its words stay whole, so that they can be copied."""
    page.beside(page.styled((f"{label}:", _COLOURS[label]), " "), text, whole=True)


def _place(page: Page, at: Location, colour: str) -> None:
    """Write where something is, the line there, and a mark below it."""
    number = str(at.line)
    margin, bar = " " * len(number), ("|", _MARGIN)
    file = "<stdin>" if at.file == _STDIN else at.file
    page.line(margin, ("-->", _MARGIN), f" {file}:{at.line}:{at.column}")
    if not at.text.strip():
        return
    source, before, marked = _window(at.text, at.column - 1, (page.width or _WIDTH_OF_FILES) - len(number) - 3)
    page.line(margin, " ", bar)
    page.line((number, _MARGIN), " ", bar, f" {source}")
    page.line(margin, " ", bar, " " * (before + 1), ("^" * marked, colour))


def _window(text: str, at: int, width: int) -> tuple[str, int, int]:
    """Return the part of a line around an offset that fits a width, and where its mark begins and how long it is.

    All three count in columns of the terminal. What is cut off at either end leaves an ellipsis.
    """
    at = min(at, len(text))
    token = _TOKEN.match(text, at)
    stop = token.end() if token else at + 1
    low, high = max(0, at - _REACH * width), at + _REACH * width
    before, after = _spelled(text[low:at]), _spelled(text[at:high])
    room = width - min(cells(after), width // 2)
    cut = low > 0 or cells(before) > room
    left = f"…{split(before, cells(before) - room + 1)[1]}" if cut else before
    begin = cells(left)
    cut = high < len(text) or begin + cells(after) > width
    right = split(after, width - begin - 1)[0] if cut else after
    marked = min(cells(_spelled(text[at:stop])), cells(right))
    return f"{left}{right}{'…' if cut else ''}", begin, max(marked, 1)


def _spelled(text: str) -> str:
    """Return how a part of a source line is shown; a tab is four columns wide wherever it stands."""
    return "".join(_TAB if character == "\t" else visible(character) for character in text)
