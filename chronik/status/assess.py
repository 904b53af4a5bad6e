"""What a pass over a cluster amounts to: a failure, something to wait for, conditions, and when to try again.

Pure: from what became of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chronik.errors import FieldConflict, Forbidden, KindMissing
from chronik.manifest import CLUSTER_KIND, PAUSED_ANNOTATION
from chronik.plan.actions import (
    Blocked,
    Conflict,
    Deferred,
    Foreign,
    GrowClaim,
    NotInstalled,
    Obstacle,
    Wait,
)
from chronik.plan.results import Report
from chronik.problem import format_path
from chronik.status.compute import TURN, Reason, condition
from chronik.wording import MOST_NAMED, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.errors import ChronikError, RetryClass
    from chronik.manifest import KindName, Manifest, ObjectRef
    from chronik.problem import Problem
    from chronik.status.compute import Condition

NOTHING_DONE = Report(())
_PAUSED = f"Reconciliation is paused by the annotation {PAUSED_ANNOTATION}"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a pass amounts to: what failed, or else what it waits for.

    `retry` says how soon to try again what failed; None if nothing did, or if an event will wake it.
    """

    failure: Reason | None = None
    waiting: Reason | None = None
    retry: RetryClass | None = None
    conditions: tuple[Condition, ...] = ()


def assess(
    report: Report,
    warnings: Sequence[Problem] = (),
    missing: Mapping[ObjectRef, Sequence[str]] | None = None,
    *,
    paused: bool = False,
    extra: Sequence[Condition] = (),
) -> Assessment:
    """Judge what became of a plan. `missing` are Secrets that workloads need and that do not exist.

    `extra` are conditions of other things than the plan.
    """
    failure, retry = _failure(report)
    waiting = None
    if failure is None:
        waiting, retry = _waiting(report)
    found = [*pause(paused=paused), *_about_fields(report), *_held(report), *_not_installed(report)]
    found += _flapping(report)
    return Assessment(failure, waiting, retry, (*found, *_about_secrets(missing or {}), *_about_spec(warnings), *extra))


def with_rollout(assessment: Assessment, failure: Reason | None, waiting: Reason | None) -> Assessment:
    """Return what is to be told of a pass and of its canary, which `failure` or `waiting` is about.

    What went wrong in the pass comes first, and what it waits for else comes last.
    """
    if failure:
        told = condition("RolloutHalted", met=True, reason=failure.reason, message=failure.message)
        assessment = replace(assessment, conditions=(*assessment.conditions, told))
    if assessment.failure is not None or assessment.retry is not None:
        return assessment
    if failure:
        return replace(assessment, failure=failure, waiting=None, retry="permanent")
    waits_for_turn = assessment.waiting is not None and assessment.waiting.reason == TURN
    return assessment if waiting is None or waits_for_turn else replace(assessment, waiting=waiting)


def with_pending(assessment: Assessment, conditions: Sequence[Condition], waiting: Reason | None) -> Assessment:
    """Return what is to be told of a pass and of restarts that wait for a window; anything else comes first."""
    told = replace(assessment, conditions=(*assessment.conditions, *conditions))
    free = told.failure is None and told.waiting is None and told.retry is None
    return replace(told, waiting=waiting) if free else told


def invalid(problems: Iterable[Problem]) -> Reason:
    """Return what a spec in error amounts to: every error, in one message."""
    return Reason("InvalidSpec", "; ".join(_sentence(problem) for problem in problems if problem.severity == "error"))


def describe_error(error: ChronikError) -> Reason:
    """Return an error as a reason; what to do has to fit the operator."""
    head, *details = (line.strip() for line in error.message.splitlines())
    whole = " ".join(filter(None, (f"{error.subject}:" if error.subject else "", head, "; ".join(details))))
    hint = _GIVE_UP if isinstance(error, FieldConflict) else error.hint
    return Reason(error.reason, f"{sentence(whole)} {hint}" if hint else whole)


_GIVE_UP = "Remove these fields from the configuration of their managers, or have those give them up."


_CANNOT_GROW = "can be resized"
"""Part of what the admission plugin PersistentVolumeClaimResize says; that rights are missing is said otherwise."""


def rigid_classes(report: Report, claims: Iterable[Manifest]) -> frozenset[str]:
    """Return the StorageClasses of which the server has said, by refusing to grow a claim, that they expand none."""
    refused = {
        each.ref.name
        for each in report.failed
        if isinstance(each.action, GrowClaim) and isinstance(each.error, Forbidden) and _CANNOT_GROW in str(each.error)
    }
    found = (each["spec"].get("storageClassName") for each in claims if each["metadata"]["name"] in refused)
    return frozenset(filter(None, found))


def missing_kinds(report: Report) -> frozenset[KindName]:
    """Return the kinds that are not installed, and of which a cluster wants an object."""
    return frozenset(each.action.kind for each in report.results if isinstance(each.action, NotInstalled))


def _failure(report: Report) -> tuple[Reason | None, RetryClass | None]:
    """Return what will not go away by itself, if anything, and when to look again all the same.

    No event says when an object that is not ours has gone, so it is retried as soon as a transient error.
    """
    obstacles = [(each.ref, each.action) for each in report.obstacles if isinstance(each.action, Obstacle)]
    foreign = [_obstacle(ref, each) for ref, each in obstacles if isinstance(each, Foreign)]
    if foreign:
        return Reason("ResourceConflict", _joined(foreign)), "transient"
    conflicts = [_obstacle(ref, each) for ref, each in obstacles if isinstance(each, Conflict)]
    if conflicts:
        return Reason("FieldConflict", _joined(conflicts)), "permanent"
    blocked = [_obstacle(ref, each) for ref, each in obstacles if isinstance(each, Blocked) and each.by is None]
    if blocked:
        return Reason("ImmutableField", _joined(blocked)), "permanent"
    errors = [each.error for each in report.failed if each.error and each.error.retry_class == "permanent"]
    if errors:
        return _summed_up(errors), "permanent"
    return None, None


def _obstacle(ref: ObjectRef, each: Obstacle) -> str:
    said = f"{ref} {each.reason}"
    if isinstance(each, Conflict):
        paths = sorted({owner.field for owner in each.owners})
        managers = " and ".join(sorted({owner.manager for owner in each.owners}))
        said = f"{ref}: {', '.join(paths)} {'is' if len(paths) == 1 else 'are'} held by {managers}"
    return " ".join(filter(None, (sentence(said), each.hint)))


def _waiting(report: Report) -> tuple[Reason | None, RetryClass | None]:
    errors = [each.error for each in report.failed if each.error]
    if errors:
        unknown = any(error.retry_class == "unknown" for error in errors)
        return _summed_up(errors), "unknown" if unknown else "transient"
    waits = [(each.ref, each.action) for each in report.obstacles if isinstance(each.action, Wait | Blocked)]
    if not waits:
        return None, None
    by_turns = all(isinstance(each, Blocked) and each.by and each.by.kind == CLUSTER_KIND for _, each in waits)
    return Reason(TURN if by_turns else "Waiting", _joined([f"{ref} {each.reason}" for ref, each in waits])), None


def _summed_up(errors: Sequence[ChronikError]) -> Reason:
    return Reason(errors[0].reason, _joined([describe_error(error).message for error in errors]))


def _joined(texts: Sequence[str]) -> str:
    texts = list(dict.fromkeys(texts))
    more = len(texts) - MOST_NAMED
    joined = "; ".join(texts[:MOST_NAMED]).replace(".; ", ". ")  # a sentence ends by itself
    return f"{joined} (and {more} more)" if more > 0 else joined


def _sentence(problem: Problem) -> str:
    return f"{format_path(problem.path)}: {problem.message}" if problem.path else problem.message


# --- conditions ------------------------------------------------------------------------------------------------------


def pause(*, paused: bool) -> list[Condition]:
    """Return the condition that says that a cluster is paused, if it is."""
    return [condition("Paused", met=True, reason="PausedByAnnotation", message=_PAUSED)] if paused else []


def _about_fields(report: Report) -> list[Condition]:
    texts = [
        f"{each.ref}: {owner.field} is held by {owner.manager}"
        for each in report.obstacles
        if isinstance(each.action, Conflict)
        for owner in each.action.owners
    ]
    return [condition("FieldConflict", met=True, reason="OwnedByOthers", message=_joined(texts))] if texts else []


def _held(report: Report) -> list[Condition]:
    found = (each.action for each in report.results if isinstance(each.action, Deferred))
    held = [each for each in found if each.code != "RestartPending"]
    if not held:
        return []
    message = _joined([f"{each.ref}: {each.reason}. {each.hint}" for each in held])
    return [condition("StorageResizable", met=False, reason=held[0].code, message=message)]


def _not_installed(report: Report) -> list[Condition]:
    left = [each.action for each in report.results if isinstance(each.action, NotInstalled)]
    if not left:
        return []
    refs: dict[KindName, list[str]] = {}
    for each in left:
        refs.setdefault(each.kind, []).append(str(each.ref))
    why = {each.kind: each for each in left}
    texts = [f"{why[kind].reason}, for {', '.join(found)}" for kind, found in refs.items()]
    hints = dict.fromkeys(_WILL_BE_MADE if each.code == KindMissing.reason else each.hint for each in left)
    message = f"{_joined(texts)}. {' '.join(hints)}"
    return [condition("KindsInstalled", met=False, reason=left[0].code, message=message)]


_WILL_BE_MADE = "Made as soon as its CustomResourceDefinition is installed"


def _flapping(report: Report) -> list[Condition]:
    refs = [str(each.ref) for each in report.results if each.outcome == "settled" or each.flapping]
    message = f"changed back by something else on every apply: {_joined(refs)}"
    return [condition("ApplyFlapping", met=True, reason="ChangedBack", message=message)] if refs else []


def _about_secrets(missing: Mapping[ObjectRef, Sequence[str]]) -> list[Condition]:
    if not missing:
        return []
    message = _joined([f"{ref} needs Secret {', '.join(names)}" for ref, names in missing.items()])
    return [condition("SecretsAvailable", met=False, reason="SecretMissing", message=message)]


def _about_spec(warnings: Sequence[Problem]) -> list[Condition]:
    texts = [_sentence(problem) for problem in warnings if problem.severity == "warning"]
    return [condition("SpecWarnings", met=True, reason="SpecHasWarnings", message="; ".join(texts))] if texts else []
