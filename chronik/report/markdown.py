"""What an apply would change as Markdown: for a comment on a pull request, or a job's summary.

One table, a row for each cluster, and below it a folded section for each object. All that comes from manifests stands
in code: in a fence longer than any run of backticks in it, or escaped as HTML. So nothing can end a fence, open a tag,
mention a person or load an image. The same change makes the same text, so a comment can be replaced by the next. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from chronik.plan.actions import Apply, GrowClaim, Recreate
from chronik.plan.results import OBSTACLES
from chronik.report.diff import (
    OUTCOME_NUMBERS,
    gone_text,
    object_line,
    shown_objects,
    summary_text,
    windows_text,
    write_object,
)
from chronik.report.page import Page, visible
from chronik.report.summary import counts, object_results
from chronik.wording import counted, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.manifest import ObjectRef
    from chronik.plan.results import Outcome
    from chronik.report.diff import ClusterDiff
    from chronik.report.summary import ObjectResult

MOST_CHARACTERS = 65_536
"""What GitHub takes for a comment; GitLab and Gitea take more."""
MARKER = "<!-- chronik diff -->"
"""The first line, by which a comment is found again."""

_ROOM_FOR_REST = 300
_MOST_ROWS = 200
_COLUMNS = ("cluster", "create", "change", "create anew", "delete", "volumes grow", "pods restart", "held up")
_NOTHING = "-"
_BACKTICKS = re.compile("`+")
_MARKUP = re.compile(r"[^A-Za-z0-9 ,.:;/+=()-]")


class _Section(NamedTuple):
    """A piece that is shown whole or not at all; `objects` is how many it is about."""

    text: str
    objects: int = 0


def as_markdown(cluster_diffs: Sequence[ClusterDiff]) -> str:
    """Return what would change; text beyond 65,536 characters is left out, object by object, and counted."""
    head = f"{MARKER}\n### What `chronik apply` would change\n\n{_table(cluster_diffs)}"
    sections = [section for each in cluster_diffs for section in _sections(each)]
    room = MOST_CHARACTERS - len(head) - _ROOM_FOR_REST
    texts, left_out = [head], 0
    for section in sections:
        if len(section.text) > room:
            left_out += section.objects
            continue
        texts.append(section.text)
        room -= len(section.text)
    if left_out:
        texts.append(
            f"\n{counted(left_out, 'object')} left out: a comment holds {MOST_CHARACTERS:,} characters."
            " `chronik diff` without `-o markdown` shows all of them.\n"
        )
    return "".join(texts)


# --- the table --------------------------------------------------------------------------------------------------------


def _table(cluster_diffs: Sequence[ClusterDiff]) -> str:
    told = [each for each in cluster_diffs if _is_told(each)]
    if not told:
        return f"Nothing: {_unchanged(len(cluster_diffs)) or 'there is no cluster on either side'}.\n"
    rows = [_row(each) for each in told[:_MOST_ROWS]]
    lines = [_line(_COLUMNS), _line(["---", *["--:"] * (len(_COLUMNS) - 1)]), *map(_line, rows)]
    more = len(told) - len(rows), len(cluster_diffs) - len(told)
    notes = (f"{counted(more[0], 'more cluster')} that change" if more[0] else "", _unchanged(more[1]))
    rest = "; ".join(filter(None, notes))
    return "\n".join([*lines, *([f"\n{rest}."] if rest else ()), ""])


def _unchanged(number: int) -> str:
    return f"{counted(number, 'cluster')} without a change" if number else ""


def _is_told(cluster_diff: ClusterDiff) -> bool:
    return cluster_diff.differs or cluster_diff.gone or cluster_diff.result.error is not None


def _row(cluster_diff: ClusterDiff) -> list[str]:
    report = cluster_diff.result.report
    found = counts(report)
    grow = sum(isinstance(result.action, GrowClaim) for result in report.results)
    pods = [_restarting(cluster_diff, each) for each in object_results(report)]
    held = sum(found.get(outcome, 0) for outcome in (*sorted(OBSTACLES), "held", "not-installed"))
    refused = [] if cluster_diff.result.error is None else ["refused"]
    numbers = (
        _sum(found, "created"),
        _sum(found, "changed", "adopted", "handed-over"),
        _sum(found, "recreated"),
        _sum(found, "pruned"),
        grow,
        sum(pods),
    )
    last = ", ".join([*([str(held)] if held else ()), *refused])
    return [_code(cluster_diff.result.title), *(str(each or _NOTHING) for each in numbers), last or _NOTHING]


def _sum(found: dict[Outcome, int], *outcomes: Outcome) -> int:
    return sum(found.get(outcome, 0) for outcome in outcomes)


def _restarting(cluster_diff: ClusterDiff, object_result: ObjectResult) -> int:
    """Return how many pods of a workload restart."""
    actions = [result.action for result in object_result.results]
    restarts = any(isinstance(action, Apply | Recreate) and action.restarts for action in actions)
    return _pods(cluster_diff, object_result.ref) if restarts else 0


def _pods(cluster_diff: ClusterDiff, ref: ObjectRef) -> int:
    return cluster_diff.pods.get(ref, 0)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- the sections -----------------------------------------------------------------------------------------------------


def _sections(cluster_diff: ClusterDiff) -> list[_Section]:
    """Return what there is to say of one cluster: a line, why it is refused, and a section for each object."""
    if not _is_told(cluster_diff):
        return []
    key, error = cluster_diff.result.title, cluster_diff.result.error
    head = f"\n#### {_code(key)}\n\n{summary_text(cluster_diff).removeprefix(f'{key}: ')}\n\n"
    if cluster_diff.gone:
        head += f"{sentence(gone_text(cluster_diff).removeprefix(f'{key}: '))}\n\n"
    if waits := windows_text(cluster_diff):
        head += f"{sentence(waits.removeprefix(f'{key}: '))}\n\n"
    if error is not None:
        page = Page()
        page.paragraph("\n".join(filter(None, (f"error: {error.message}", error.hint))))
        head += f"{_fenced(page.text)}\n"
    told = [(each, _text(cluster_diff, each)) for each in shown_objects(cluster_diff)]
    grown = [text for each, text in told if each.outcome == "grown"]
    whole = [(each, text) for each, text in told if "\n" not in text]
    others = [(each, text) for each, text in told if "\n" in text and each.outcome != "grown"]
    details = [_Section(_folded(_head(cluster_diff, each), text), 1) for each, text in others]
    if grown:
        verb = "grows" if len(grown) == 1 else "grow"
        details.append(_Section(_folded(f"{counted(len(grown), 'volume')} {verb}", "\n".join(grown)), len(grown)))
    if whole:
        outcomes = {each.outcome for each, _ in whole}
        what = OUTCOME_NUMBERS.get(outcomes.pop(), "more") if len(outcomes) == 1 else "more"
        more = f"{counted(len(whole), 'object')} {what}"
        details.append(_Section(_folded(more, "\n".join(text for _, text in whole)), len(whole)))
    return [_Section(head), *details]


def _text(cluster_diff: ClusterDiff, object_result: ObjectResult) -> str:
    """Return what the text report says of an object: more than a line if there is more to say than what it is."""
    page = Page()
    write_object(page, cluster_diff, object_result)
    return page.text.rstrip("\n")


def _head(cluster_diff: ClusterDiff, object_result: ObjectResult) -> str:
    pods = _restarting(cluster_diff, object_result)
    restarts = f": {counted(pods, 'pod')} restart{'s' if pods == 1 else ''}" if pods else ""
    return f"{_code(object_line(object_result))}{restarts}"


def _folded(head: str, text: str) -> str:
    return f"<details><summary>{head}</summary>\n\n{_fenced(text)}\n</details>\n"


def _fenced(text: str) -> str:
    """Return text in a fence that it cannot end."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip(chr(10))}\n{fence}\n"


def _code(text: str) -> str:
    """Return text as code in one line, which may stand in HTML and in a table."""
    return f"<code>{_MARKUP.sub(_entity, visible(text))}</code>"


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"
