"""What became of a plan: one result for each of its actions, and the report of them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from chronik.errors import ConflictError, PartialFailure
from chronik.plan.actions import (
    Action,
    Adopt,
    Apply,
    Conflict,
    Create,
    Deferred,
    Foreign,
    GrowClaim,
    NotInstalled,
    Obstacle,
    Prune,
    Recreate,
    ReplacePod,
    Skip,
    TransferOwnership,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.errors import ChronikError
    from chronik.manifest import Manifest, ObjectRef
    from chronik.plan.planner import Flapping

Wrote = Literal["created", "changed", "adopted", "recreated", "handed-over", "grown", "replaced", "pruned"]
Untouched = Literal["unchanged", "settled", "orphaned", "kept", "held", "not-installed"]
BlockedOutcome = Literal["conflict", "foreign", "blocked", "waiting"]
Outcome = Wrote | Untouched | BlockedOutcome | Literal["failed", "not-tried"]

WROTE: frozenset[Outcome] = frozenset(get_args(Wrote))
LEFT_ALONE: frozenset[Outcome] = frozenset(get_args(Untouched))
OBSTACLES: frozenset[Outcome] = frozenset(get_args(BlockedOutcome))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one action.

    `answer` is the object as the server had it after a write. `why` says what an action that was not tried waited for.
    `flapping` is set where an apply left a difference, because something changes the object while it is stored.
    """

    action: Action
    outcome: Outcome
    error: ChronikError | None = None
    answer: Manifest | None = None
    why: str = ""
    seconds: float = 0.0
    flapping: Flapping | None = None

    @property
    def ref(self) -> ObjectRef:
        """Which object the action is about."""
        return self.action.ref


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a whole plan, in the order of the plan; `interrupted` if it was asked to stop half-way."""

    results: tuple[Result, ...]
    interrupted: bool = False

    @property
    def written(self) -> tuple[Result, ...]:
        """The results of actions that changed something on the server."""
        return self._with(WROTE)

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results of actions that the server refused, or could not be asked."""
        return self._with({"failed"})

    @property
    def obstacles(self) -> tuple[Result, ...]:
        """The results of objects that cannot be brought to what is wanted now."""
        return self._with(OBSTACLES)

    @property
    def untried(self) -> tuple[Result, ...]:
        """The results of actions that were left out, because something before them went wrong."""
        return self._with({"not-tried"})

    @property
    def flapping(self) -> frozenset[Flapping]:
        """What `PlanContext.flapping` needs to know next time."""
        return frozenset(result.flapping for result in self.results if result.flapping)

    @property
    def ok(self) -> bool:
        """Whether everything is as it was wanted."""
        return not (self.failed or self.obstacles or self.untried or self.interrupted)

    @property
    def hindered(self) -> bool:
        """Whether anything went wrong that matters to the rest: a kind that is not installed does not."""
        return self.interrupted or any(map(hinders, self.results))

    def after(self, earlier: Report) -> Report:
        """Return what came earlier and this as one report."""
        interrupted = earlier.interrupted or self.interrupted
        return Report((*earlier.results, *self.results), interrupted=interrupted)

    def error(self) -> ChronikError | None:
        """Return what this report amounts to as one error, whose class gives the exit code; None if all went well.

        If nothing at all could be done for one and the same reason, it is that error. If only conflicts and foreign
        objects stand in the way of some objects, it is a conflict. Everything else is a partial failure.
        """
        if not (self.failed or self.obstacles or self.untried):
            return None
        count = len({result.ref for result in self.results if result.outcome in {"failed", "not-tried", *OBSTACLES}})
        total = len({result.ref for result in self.results})
        text = f"{count} of {total} object{'s' if total != 1 else ''} could not be brought to what is wanted"
        kinds = {type(result.error) for result in self.failed}
        if self.failed and len(kinds) == 1 and not self.obstacles and not self.written:
            first = self.failed[0].error
            assert first is not None
            return first
        if not self.failed and all(result.outcome in {"conflict", "foreign"} for result in self.obstacles):
            return ConflictError(text)
        return PartialFailure(text)

    def _with(self, outcomes: Iterable[Outcome]) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome in outcomes)


OUTCOMES: dict[type[Action], Outcome] = {
    Create: "created",
    Apply: "changed",
    Adopt: "adopted",
    Recreate: "recreated",
    TransferOwnership: "handed-over",
    GrowClaim: "grown",
    ReplacePod: "replaced",
    Prune: "pruned",
}
"""What becomes of each action that sends something, if the server does not refuse it."""


def hinders(result: Result) -> bool:
    """Return whether nothing may be pruned after this result: an object that is wanted may have come to harm."""
    return result.outcome not in WROTE | LEFT_ALONE


def undone(action: Action) -> Result:
    """Return the result of an action that sends nothing."""
    match action:
        case Skip(why=why):
            return Result(action, why)
        case Deferred():
            return Result(action, "held")
        case NotInstalled():
            return Result(action, "not-installed")
        case Conflict():
            return Result(action, "conflict")
        case Foreign():
            return Result(action, "foreign")
        case Wait():
            return Result(action, "waiting")
        case Obstacle():
            return Result(action, "blocked")
    raise AssertionError(action)
