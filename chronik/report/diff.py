"""Word what an apply would change: field by field, with who set it, which pods restart, and what is deleted.

Pure. Values come with their secrets masked (`changes.Mask`), and never reach a terminal raw.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from chronik.documents.scalars import is_ambiguous
from chronik.documents.writer import to_yaml
from chronik.manifest import PAUSED_ANNOTATION
from chronik.plan.actions import (
    Apply,
    Conflict,
    Create,
    Deferred,
    NotInstalled,
    Obstacle,
    Recreate,
    Skip,
    TransferOwnership,
)
from chronik.plan.results import LEFT_ALONE, WROTE
from chronik.report.apply import owned_by
from chronik.report.page import BOLD, CYAN, DIM, GREEN, RED, YELLOW, Page
from chronik.report.summary import action_changes, counts, object_results
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.errors import FieldOwner
    from chronik.manifest import ObjectRef
    from chronik.plan.actions import Action
    from chronik.plan.changes import Change
    from chronik.plan.results import Outcome, Result
    from chronik.report.summary import ClusterResult, ObjectResult

_CONTEXT_LINES = 2
_MOST_LISTED = 8
_INDENT = "    "
_CONFIG_HASH = "chronik.stream/config-hash"
_CONFIG_NAME = 'volumes[name="config"].configMap.name'
_TEMPLATE = "spec.template."
_DIGEST = re.compile("[0-9a-f]{64}")

RESTART_COLOUR = f"{BOLD} {YELLOW}"

_MARKS: dict[Outcome, tuple[str, str, str]] = {
    "created": ("+", GREEN, "does not exist: is created"),
    "changed": ("~", YELLOW, ""),
    "adopted": ("~", YELLOW, "is adopted"),
    "recreated": ("±", YELLOW, "is deleted and created anew"),
    "handed-over": ("~", YELLOW, ""),
    "grown": ("~", YELLOW, ""),
    "pruned": ("-", RED, "is no longer part of the cluster: is deleted"),
    "not-tried": ("?", CYAN, "is no longer part of the cluster, but is not deleted"),
    "held": ("!", CYAN, ""),
    "not-installed": ("!", CYAN, "cannot be made yet"),
    "orphaned": ("?", CYAN, "is no longer part of the cluster; --prune deletes it"),
    "kept": ("?", CYAN, "is no longer part of the cluster, but kept"),
    "conflict": ("!", RED, "is in conflict"),
    "foreign": ("!", RED, "is not touched"),
    "blocked": ("!", RED, "cannot be changed"),
    "waiting": ("!", RED, "cannot be changed yet"),
}
_AS_IT_SHOULD_BE = ("=", CYAN, "is as it should be")
OUTCOME_NUMBERS: dict[Outcome, str] = {
    "created": "to create",
    "changed": "to change",
    "adopted": "to adopt",
    "recreated": "to create anew",
    "handed-over": "to hand over",
    "grown": "to grow",
    "pruned": "to delete",
    "not-tried": "not to delete yet",
    "orphaned": "no longer wanted",
    "held": "held back",
    "not-installed": "not installed",
    "conflict": "in conflict",
    "foreign": "not ours",
}
"""What is said behind a number of objects."""


@dataclass(frozen=True, slots=True)
class ClusterDiff:
    """What an apply would do to one cluster: its result, as if all went well.

    `pods` says how many pods a workload has now. `new_namespace` is that there is no such namespace yet. `command` is
    what hands the document to the operator that manages the cluster, if one does; `paused` is that it changes nothing.
    `gone` is that its document is no longer there, so that it is to be deleted; `volumes` are the claims that stay.
    `windows` are those in which an operator begins restarts, and `steps` those of a canary that it takes, in words.
    """

    result: ClusterResult
    pods: Mapping[ObjectRef, int] = field(default_factory=dict)
    new_namespace: bool = False
    command: str = ""
    paused: bool = False
    gone: bool = False
    volumes: tuple[ObjectRef, ...] = ()
    windows: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything would change, or should but cannot. What is held back is reported, but is no difference.

        No apply would settle it, so a check for no differences could never pass.
        """
        return any(result.outcome not in LEFT_ALONE for result in self.result.report.results)


def as_text(cluster_diffs: Sequence[ClusterDiff], *, width: int | None, color: bool) -> str:
    """Return what would change, object by object, and a count for each cluster that differs."""
    page = Page(width, color=color)
    for cluster_diff in cluster_diffs:
        for object_result in shown_objects(cluster_diff):
            write_object(page, cluster_diff, object_result)
        if cluster_diff.new_namespace:
            namespace = cluster_diff.result.key.namespace
            whose = f"{cluster_diff.result.member}: " if cluster_diff.result.member else ""
            note = f"{whose}namespace {namespace} does not exist yet: kubectl create namespace {namespace}"
            page.labelled("note", CYAN, note)
        if cluster_diff.result.operator and cluster_diff.result.error is None:
            page.labelled("note", CYAN, _operators(cluster_diff))
        if waits := windows_text(cluster_diff):
            page.labelled("note", CYAN, waits)
        if cluster_diff.gone:
            page.labelled("note", CYAN, gone_text(cluster_diff))
        if cluster_diff.result.error is None:
            page.hanging(summary_text(cluster_diff), colour=BOLD)
    return page.text


def shown_objects(cluster_diff: ClusterDiff) -> list[ObjectResult]:
    """Return the objects of which there is something to say."""
    found = object_results(cluster_diff.result.report)
    return [each for each in found if each.outcome in _MARKS or any(one.action.additions for one in each.results)]


def write_object(page: Page, cluster_diff: ClusterDiff, object_result: ObjectResult) -> None:
    """Write what would become of one object: a line for it, and what changes below that."""
    _Entry(page, cluster_diff, object_result).write()


def object_line(object_result: ObjectResult, member: str = "") -> str:
    """Return the line for one object: `+ Service/demo/events: does not exist: is created`, and at which member."""
    mark, _, words = _MARKS.get(object_result.outcome, _AS_IT_SHOULD_BE)
    what = f"{member}: {object_result.ref}" if member else str(object_result.ref)
    return f"{mark} {what}: {words}" if words else f"{mark} {what}"


def gone_text(cluster_diff: ClusterDiff) -> str:
    """Say what becomes of a cluster whose document is gone, and of its volumes."""
    key = cluster_diff.result.key
    command = f"`chronik delete {key.name} -n {key.namespace}`"
    kept = len(cluster_diff.volumes)
    volumes = f" {counted(kept, 'volume')} with data stay{'s' if kept == 1 else ''}." if kept else ""
    return (
        f"{key}: no document describes it any more. apply leaves such a cluster alone; its operator deletes it with"
        f" its ChronikCluster, or else {command} does.{volumes}"
    )


def windows_text(cluster_diff: ClusterDiff) -> str:
    """Say how and when an operator restarts the pods that are to restart; empty if none are, or it may at any time."""
    actions = (each.action for each in cluster_diff.result.report.results)
    restarts = any(isinstance(each, Apply | Recreate) and each.restarts for each in actions)
    told = (
        ("its operator takes steps", cluster_diff.steps),
        ("its operator begins restarts in windows only", cluster_diff.windows),
    )
    found = [f"{words}: {'; '.join(texts)}" for words, texts in told if texts and restarts]
    return f"{cluster_diff.result.key}: {'. '.join(found)}" if found else ""


def window_texts(cluster: Cluster) -> tuple[str, ...]:
    """Return the windows of a cluster in words."""
    rollout = cluster.spec["rollout"]
    windows = rollout["windows"] if rollout else ()
    return tuple(f"{each['schedule']} for {each['duration']} ({each['timeZone']})" for each in windows)


def _operators(cluster_diff: ClusterDiff) -> str:
    """Say who would do what is shown, and when."""
    something = any(result.outcome in WROTE for result in cluster_diff.result.report.results)
    will = f" It will do this once the document is applied with {cluster_diff.command}." if something else ""
    key = cluster_diff.result.key
    if cluster_diff.paused:
        resume = f"kubectl annotate chronikcluster {key.name} -n {key.namespace} {PAUSED_ANNOTATION}-"
        will = f" It will do this once the document is applied with {cluster_diff.command}, too." if something else ""
        return f"{key}: an operator manages this cluster, and it is paused. It goes on after `{resume}`.{will}"
    return f"{key}: an operator manages this cluster.{will}"


def summary_text(cluster_diff: ClusterDiff) -> str:
    """Count what would become of the objects of a cluster, in one line."""
    report = cluster_diff.result.report
    found = {outcome: number for outcome, number in counts(report).items() if number and outcome != "unchanged"}
    numbers = [f"{number} {OUTCOME_NUMBERS.get(outcome, outcome)}" for outcome, number in found.items()]
    unchanged = f"{counts(report)['unchanged']} unchanged"
    return f"{cluster_diff.result.title}: {', '.join([*numbers, unchanged])}"


class _Entry:
    """What is written about one object."""

    def __init__(self, page: Page, cluster_diff: ClusterDiff, object_result: ObjectResult) -> None:
        self._page = page
        self._cluster_diff = cluster_diff
        self._object_result = object_result

    def write(self) -> None:
        style = f"{BOLD} {_MARKS.get(self._object_result.outcome, _AS_IT_SHOULD_BE)[1]}"
        line = object_line(self._object_result, self._cluster_diff.result.member)
        self._page.beside((line[:2], style), (line[2:], style))
        for result in self._object_result.results:
            self._details(result)

    def _details(self, result: Result) -> None:
        action = result.action
        if result.why or _is_explained(action):
            self._note(result.why or action.reason)
        changes = [change for change in action_changes(action) if change.old != change.new]
        taken_over = [change.path for change in action_changes(action) if change.old == change.new]
        if taken_over:
            self._note(f"taken over, same value: {listed(taken_over, _MOST_LISTED)}")
        verb, owners = _owners(action)
        removes = isinstance(action, Apply) and action.removes
        for change in changes:
            how = "set by" if removes and change.new is None else verb
            whose = [f"{how} {change.owner}"] if change.owner else []
            whose += [f"patch {change.patch + 1}"] if change.patch is not None else []
            self._change(change, f"  ({', '.join(whose)})" if whose else "")
        told = ", ".join(change.owner for change in changes)
        for owner in owners:
            if owner.manager not in told:
                self._note(f"{owner.field} is {verb} {owned_by(owner)}")
        if isinstance(action, Apply | Recreate) and action.restarts:
            self._restarts(action.restarts)
        if isinstance(action, Obstacle | Deferred | NotInstalled) and action.hint:
            self._note(action.hint)
        if action.additions:
            added = [f"{owner.field.removeprefix(_TEMPLATE)} ({owner.manager})" for owner in action.additions]
            self._note(f"added by others, and left as it is: {listed(added, _MOST_LISTED)}", CYAN)

    def _note(self, text: str, colour: str = "") -> None:
        self._page.paragraph(text, _INDENT, colour=colour)

    def _restarts(self, changes: Iterable[Change]) -> None:
        self._note(restart_text(changes, self._cluster_diff.pods.get(self._object_result.ref)), RESTART_COLOUR)

    def _change(self, change: Change, owner: str) -> None:
        old, new = _lines(change.old), _lines(change.new)
        if _is_short(change.old) and _is_short(change.new) and self._in_one_line(change, old, new, owner):
            return
        self._page.paragraph(f"{change.path}:{owner.replace('  ', ' ')}", _INDENT)
        for sign, line in _hunks(old, new):
            colour = {"-": RED, "+": GREEN, "@": DIM}.get(sign, "")
            self._page.paragraph(line, f"{_INDENT}    ", first=f"{_INDENT}{sign} ", colour=colour)

    def _in_one_line(self, change: Change, old: list[str], new: list[str], owner: str) -> bool:
        """Write `path: old -> new` if there is room for it, and say whether there was."""
        before, after = (side[0] if side else "(nothing)" for side in (old, new))
        page = self._page
        line = page.styled(_INDENT, f"{change.path}: ", (before, RED), " -> ", (after, GREEN), owner)
        fits = page.width is None or line.cell_len <= page.width
        if fits:
            page.line(line)
        return fits


def _is_explained(action: Action) -> bool:
    """Return whether an action's reason tells more than the changes, and the line above them."""
    kept = isinstance(action, Skip) and action.why == "kept"
    succeeds = isinstance(action, Create) and action.replaces is not None
    return (
        kept
        or succeeds
        or (
            isinstance(action, Recreate | Obstacle | TransferOwnership | Deferred | NotInstalled)
            and not isinstance(action, Conflict)
        )
    )


def _owners(action: Action) -> tuple[str, tuple[FieldOwner, ...]]:
    """Return who stands in the way of an action, and how to say it."""
    if isinstance(action, Conflict):
        return "held by", action.owners
    return "taken from", action.takes if isinstance(action, Apply) else ()


def restart_text(changes: Iterable[Change], pods: int | None = None) -> str:
    """Say that pods restart because of these changes to their template; `pods` is how many there are, if known."""
    who = "its pods restart" if pods is None else f"its {counted(pods, 'pod')} restart{'s' if pods == 1 else ''}"
    return f"{who}: {', '.join(dict.fromkeys(_cause(change.path) for change in changes))}"


def _cause(path: str) -> str:
    return (
        "the configuration that they read changes"
        if _CONFIG_HASH in path or _CONFIG_NAME in path
        else path.removeprefix(_TEMPLATE)
    )


def _hunks(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    """Return sign and text of each line of a unified diff; `@` stands before lines that were left out."""
    if not old or not new:
        return [*(("-", line) for line in old), *(("+", line) for line in new)]
    lines = list(difflib.unified_diff(old, new, n=_CONTEXT_LINES, lineterm=""))[2:]
    return [("@", "...") if line.startswith("@@") else (line[0], line[1:]) for line in lines][1:]


def _lines(value: Any) -> list[str]:
    """Return a value as lines of text: several for a text of several lines, a list or a map, none for nothing."""
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines() if "\n" in value else [_word(value)]
    if not value or not isinstance(value, dict | list):
        return [json.dumps(value)]
    return dedent("\n".join(to_yaml({"value": value}).splitlines()[1:])).splitlines()


def _is_short(value: Any) -> bool:
    """Return whether a value is a single word or line."""
    return not value or not isinstance(value, dict | list | str) or (isinstance(value, str) and "\n" not in value)


def _word(text: str) -> str:
    if _DIGEST.fullmatch(text):
        return f"{text[:12]}…"
    return json.dumps(text, ensure_ascii=False) if is_ambiguous(text) else text
