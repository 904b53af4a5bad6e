"""Word what became of clusters: a line for each object that changed or could not, a count, and what to do.

Pure; `report.data` says the same to programs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from chronik.plan.actions import Apply, Conflict, Deferred, GrowClaim, NotInstalled, Obstacle, Recreate
from chronik.plan.results import LEFT_ALONE, OBSTACLES, WROTE
from chronik.report.page import CYAN, DIM, GREEN, RED, YELLOW, Page, cells, visible
from chronik.report.summary import counts, object_results
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chronik.errors import ChronikError, FieldOwner
    from chronik.plan.results import Outcome, Report, Result
    from chronik.report.summary import ClusterResult, DryRun, ObjectResult
    from chronik.status.readiness import Unready


# --- what goes to stdout ----------------------------------------------------------------------------------------------

_OUTCOME_COLOURS: dict[Outcome, str] = {
    **dict.fromkeys(WROTE, YELLOW),
    "created": GREEN,
    "pruned": RED,
    **dict.fromkeys(OBSTACLES, RED),
    "failed": RED,
    "not-tried": DIM,
}
_WORDS: dict[Outcome, str] = {
    "not-tried": "not tried",
    "handed-over": "handed over",
    "orphaned": "no longer wanted",
    "not-installed": "not installed",
}
_DRY: dict[DryRun, str] = {
    "none": "",
    "client": " (dry run: nothing was sent)",
    "server": " (dry run: the server kept nothing)",
}


def as_text(results: Sequence[ClusterResult], *, width: int | None, color: bool, dry_run: DryRun = "none") -> str:
    """Return a line for each object that something became of, and a count for each cluster."""
    page = Page(width, color=color)
    for cluster_result in results:
        if _one_cause(cluster_result.report) is None:
            shown = [each for each in object_results(cluster_result.report) if each.outcome not in LEFT_ALONE]
            _table(page, shown, f"{cluster_result.member}: " if cluster_result.member else "")
        if cluster_result.error is None:
            page.hanging(_summary(cluster_result, dry_run))
    return page.text


def _one_cause(report: Report) -> ChronikError | None:
    """Return the error that nothing at all could be done for, if it was one and the same."""
    causes = {(result.error.message, result.error.hint) for result in report.results if result.error}
    alike = len(causes) == 1 and all(result.error or result.outcome == "not-tried" for result in report.results)
    return report.failed[0].error if alike else None


def _table(page: Page, shown: Sequence[ObjectResult], whose: str = "") -> None:
    """Write a line per object in columns, or two per object where there is no room for columns."""
    names = max((cells(visible(f"{whose}{each.ref}")) for each in shown), default=0)
    words = max((len(_word(each.outcome)) for each in shown), default=0)
    columns = page.width is None or names + words + _ROOM_FOR_REASONS <= page.width
    for object_result in shown:
        lead = page.styled(f"{whose}{object_result.ref}")
        if columns:
            lead.pad_right(names + 2 - lead.cell_len)
        else:
            page.hanging(f"{whose}{object_result.ref}")
            lead = page.styled("  ")
        word = page.styled((_word(object_result.outcome), _OUTCOME_COLOURS.get(object_result.outcome, "")))
        word.pad_right(words + 2 - len(word))
        page.beside(page.styled(lead, word), _reason(object_result))
        for taken in _taken(object_result):
            page.paragraph(taken, " " * (names + 2 if columns else 4))


_ROOM_FOR_REASONS = 24


def _word(outcome: Outcome) -> str:
    return _WORDS.get(outcome, outcome)


def _reason(object_result: ObjectResult) -> str:
    """Return in a few words why; nothing where the outcome says it all."""
    result = next(result for result in object_result.results if result.outcome == object_result.outcome)
    action = result.action
    match action:
        case _ if result.error is not None:
            return result.error.reason
        case _ if result.outcome == "not-tried":
            return result.why
        case Apply(reason=reason, restarts=restarts):
            flapping = "; something on the server changes it back" if result.flapping else ""
            return f"{reason}{', its pods restart' if restarts else ''}{flapping}"
        case GrowClaim(was=was, storage=storage):
            return f"{was} -> {storage}"
        case Obstacle() | Recreate():
            return action.reason
    return "" if result.outcome == "created" else action.reason


def _taken(object_result: ObjectResult) -> Iterator[str]:
    """Yield what was taken from others, or removed of theirs."""
    for result in object_result.results:
        if isinstance(result.action, Apply) and result.outcome in WROTE:
            yield from (f"took {owner.field} from {owned_by(owner)}" for owner in result.action.takes)
            yield from (f"removed {owner.field}, set by {owned_by(owner)}" for owner in result.action.removes)


def owned_by(owner: FieldOwner) -> str:
    """Write who owns a field, and how they got it: `kubectl (update of scale)`."""
    return f"{owner.manager} ({owner.how})"


def _summary(cluster_result: ClusterResult, dry_run: DryRun) -> str:
    if cluster_result.report.interrupted and not cluster_result.report.results:
        return f"{cluster_result.title}: interrupted before anything was sent"
    number = ", ".join(f"{count} {_word(outcome)}" for outcome, count in counts(cluster_result.report).items())
    begun = (
        f"{cluster_result.title}: interrupted: " if cluster_result.report.interrupted else f"{cluster_result.title}: "
    )
    return f"{begun}{number} in {cluster_result.seconds:.1f} s{_DRY[dry_run]}"


# --- what goes to stderr ----------------------------------------------------------------------------------------------


class _Trouble(NamedTuple):
    """Something to report about one object; the same about several objects is reported once."""

    label: Literal["error", "note"]
    message: str
    hint: str


def troubles_text(results: Sequence[ClusterResult], *, width: int | None, color: bool) -> str:
    """Return what went wrong or was left alone, each with what to do about it."""
    page = Page(width, color=color)
    for cluster_result in results:
        if cluster_result.error is not None:
            page.labelled("error", RED, f"{cluster_result.title}: {cluster_result.error}")
        cause = _one_cause(cluster_result.report)
        if cause is not None:
            page.labelled("error", RED, f"{cluster_result.title}: {cause.message}\n{cause.hint}".rstrip())
        else:
            _write_troubles(page, cluster_result)
    return page.text


def _write_troubles(page: Page, cluster_result: ClusterResult) -> None:
    whose = f"{cluster_result.member}: " if cluster_result.member else ""
    found: dict[_Trouble, list[str]] = {}
    for result in cluster_result.report.results:
        for trouble, subject in _troubles(result):
            found.setdefault(trouble, []).append(subject)
    for trouble, subjects in found.items():
        subject = listed(dict.fromkeys(subjects))
        colour = RED if trouble.label == "error" else CYAN
        page.labelled(trouble.label, colour, f"{whose}{subject}: {trouble.message}")
        if trouble.hint:
            page.paragraph(trouble.hint, "  ")


def _troubles(result: Result) -> Iterator[tuple[_Trouble, str]]:
    """Yield what to say about a result, and about what; nothing if all is well."""
    action, ref = result.action, str(result.ref)
    if result.error is not None:
        whose = f"{result.error.subject}: " if result.error.subject not in {"", ref} else ""
        yield _Trouble("error", whose + result.error.message, result.error.hint), ref
    elif isinstance(action, Conflict):
        fields = "".join(f"\n{owner.field}: {owned_by(owner)}" for owner in action.owners)
        what = "that chronik does not want" if action.removes == action.owners else "that this apply sets"
        message = f"other field managers set {counted(len(action.owners), 'field')} {what}{fields}"
        yield _Trouble("error", message, action.hint), ref
    elif isinstance(action, Obstacle):
        yield _Trouble("error", action.reason, action.hint), ref
    elif isinstance(action, Deferred | NotInstalled):
        yield _Trouble("note", action.reason, action.hint), ref
    elif result.outcome == "orphaned":
        yield _Trouble("note", "no longer part of the cluster", "chronik apply --prune removes what is not."), ref
    elif result.outcome == "kept":
        yield _Trouble("note", f"no longer wanted, but not to be deleted: it {action.reason}", ""), ref


# --- what comes after a wait ------------------------------------------------------------------------------------------


def ready_text(results: Sequence[ClusterResult], *, width: int | None, color: bool) -> str:
    """Return a line for each cluster that became ready; nothing without a wait."""
    page = Page(width, color=color)
    for cluster_result in results:
        if cluster_result.unready == ():
            page.hanging(f"{cluster_result.title}: ready after {cluster_result.waited:.1f} s", colour=GREEN)
    return page.text


_ADVICE = (
    (
        re.compile(r'secret "([^"]+)" not found'),
        "Create the Secret {0} in namespace {namespace}; the pods start by themselves then.",
    ),
    (
        re.compile(r"couldn't find key (\S+) in Secret (?:\S+/)?(\S+)"),
        "Add {0} to the Secret {1} in namespace {namespace}; the pods start by themselves then.",
    ),
    (
        re.compile(r"ErrImagePull|ImagePullBackOff|ErrImageNeverPull|InvalidImageName"),
        "Correct spec.image, or name a Secret to pull with in spec.image.pullSecrets.",
    ),
    (re.compile(r"(\S+): CrashLoopBackOff"), "kubectl logs -n {namespace} {0} --previous shows why it ends."),
    (
        re.compile(r"unbound immediate PersistentVolumeClaims"),
        "kubectl describe pvc -n {namespace} says why there is no volume; see spec.storage.storageClass.",
    ),
    (re.compile(r"Unschedulable"), "Ask for less in spec.resources, or add nodes."),
)
"""What to do about what pods, scheduler and kubelet say; of several that fit, the first."""


def _advice(unready: Sequence[Unready]) -> Iterator[str]:
    """Yield what can be done, for each object whose reason is a known one."""
    for each in unready:
        for pattern, words in _ADVICE:
            if found := pattern.search(each.health.message):
                yield words.format(*found.groups(), namespace=each.ref.namespace)
                break


def unready_text(results: Sequence[ClusterResult], *, width: int | None, color: bool) -> str:
    """Return what did not become ready, why, and what to do if that is known."""
    page = Page(width, color=color)
    for cluster_result in results:
        failure = cluster_result.failure
        if cluster_result.unready and failure is not None:
            reasons = "".join(f"\n{each.ref}: {each.health.message}" for each in cluster_result.unready)
            page.labelled("error", RED, f"{failure.subject}: {failure.message}{reasons}")
            for advice in dict.fromkeys(_advice(cluster_result.unready)):
                page.paragraph(advice, "  ")
    return page.text
