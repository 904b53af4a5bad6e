"""Word how rendered manifests differ from what was agreed on: every object, every changed line, and which pods restart.

What is left out here is approved unseen. So a review shows all of it, at any width and verbosity. Only the values of
Secrets are hidden: logs of tests are read and kept by more people than the repository, which has the snapshots. Where
such a value turns up in another object it is shown, unlike in `chronik diff`, for to hide it is to hide a line of that
object, and a Secret can be made to hide any line. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chronik.report.diff import RESTART_COLOUR, restart_text
from chronik.report.page import BOLD, CYAN, DIM, GREEN, RED, YELLOW, Page, cells, visible
from chronik.report.text_diff import diff_lines
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.manifest import ObjectRef
    from chronik.plan.changes import Change
    from chronik.report.text_diff import DiffLine

Verdict = Literal["changed", "new", "removed", "unchanged"]

_INDENT = "    "
_MARKS: dict[Verdict, tuple[str, str, str]] = {
    "changed": ("~", YELLOW, ""),
    "new": ("+", GREEN, "is new: no snapshot yet"),
    "removed": ("-", RED, "is no longer rendered"),
}
_SIGN_COLOURS = {"-": RED, "+": GREEN, "@": DIM, " ": ""}


@dataclass(frozen=True, slots=True)
class ObjectReview:
    """How one object differs from its snapshot: `old` and `new` are their YAML.

    `restarts` are the fields that restart its pods, None if it has none or nobody can tell. `notes` are sentences.
    """

    ref: ObjectRef
    verdict: Verdict
    old: str = ""
    new: str = ""
    restarts: tuple[Change, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """How all manifests of a comparison differ from the snapshots in `folder`; `command` accepts what they are now."""

    objects: Sequence[ObjectReview]
    folder: str
    command: str = ""

    @property
    def differing(self) -> list[ObjectReview]:
        """The objects that are not what their snapshots say."""
        return [each for each in self.objects if each.verdict != "unchanged"]

    @property
    def counts(self) -> str:
        """How many objects there are of each verdict: `2 changed, 1 new, 19 unchanged`."""
        verdicts = [each.verdict for each in self.objects]
        numbers = {verdict: verdicts.count(verdict) for verdict in (*_MARKS, "unchanged")}
        return ", ".join(f"{number} {verdict}" for verdict, number in numbers.items() if number)

    @property
    def headline(self) -> str:
        """Everything that differs, in one line."""
        names = [f"{_MARKS[each.verdict][0]} {each.ref}" for each in self.differing]
        return visible_whole(f"{self.counts}: {', '.join(names)}")


def as_text(review: Review, *, width: int | None, color: bool) -> str:
    """Return a review for a person to read: counts, each object that differs with its diff, and what to do."""
    page = Page(width, color=color)
    page.hanging(f"{review.counts}, compared with the snapshots in {review.folder}", colour=BOLD)
    listed = False
    for each in review.differing:
        if each.verdict == "changed" or not listed:
            page.line()
        _write(page, each)
        listed = each.verdict != "changed"
    page.line()
    restarting = sum(bool(each.restarts) for each in review.objects)
    if restarting:
        page.paragraph(f"The pods of {counted(restarting, 'workload')} would restart.")
    if review.command:
        page.paragraph("If all of this is as you want it, accept it with")
        page.line(f"  {review.command}")
    return page.text


def visible_whole(text: str) -> str:
    """Spell out what a terminal would not show, and cut nothing, however long: a cut-off change would go unseen."""
    step = 1_000
    return "".join(visible(text[start : start + step]) for start in range(0, len(text), step))


def _write(page: Page, each: ObjectReview) -> None:
    mark, colour, words = _MARKS[each.verdict]
    page.hanging(f"{mark} {each.ref}" + (f" {words}" if words else ""), colour=f"{BOLD} {colour}")
    if each.verdict != "changed":
        return
    if each.restarts:
        page.paragraph(restart_text(each.restarts), _INDENT, colour=RESTART_COLOUR)
    elif each.restarts is not None:
        page.paragraph("its pods do not restart", _INDENT)
    for note in each.notes:
        page.paragraph(note, _INDENT, colour=CYAN)
    from rich.text import Text  # noqa: PLC0415  # a text of rich's own is written whole, however long it is

    room = page.width and page.width - len(_INDENT)
    for line in diff_lines(each.old, each.new):
        page.line(Text(_INDENT + line_text(line, room), _SIGN_COLOURS[line.sign]))


def line_text(line: DiffLine, width: int | None = None) -> str:
    """Write a line of a diff; spaces at its end, which nobody would see, are spelt out.

    What changes or stands beside a change is as long as it is; where a fold ends may be cut to a width.
    """
    if line.sign == "@":
        return _fold_text(line, width)
    text = visible_whole(line.text)
    kept = text.rstrip(" ")
    spaces = "\\x20" * (len(text) - len(kept)) if line.sign != " " else ""
    return f"{line.sign} {kept}{spaces}"


def _fold_text(line: DiffLine, width: int | None) -> str:
    text = f"@ {counted(line.folded, 'unchanged line')}"
    if not line.text:
        return text
    place = visible(line.text)
    room = len(place) if width is None else width - len(f"{text}, then in ")
    return f"{text}, then in {place if cells(place) <= room else f'…{place[1 - room :]}'}"
