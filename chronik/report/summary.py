"""What became of clusters, or would become of them: a result for each cluster and each object, and the exit code.

Pure: texts and JSON are made from these results elsewhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from chronik.errors import ConflictError, PartialFailure, WaitTimeout
from chronik.plan.actions import GrowClaim
from chronik.plan.changes import Change
from chronik.plan.results import Report
from chronik.status.health import State
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.errors import ChronikError
    from chronik.manifest import ClusterKey, ObjectRef
    from chronik.plan.actions import Action
    from chronik.plan.results import Outcome, Result
    from chronik.status.readiness import Unready

DryRun = Literal["none", "client", "server"]


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """What became of one cluster.

    `error` is why it could not even be looked at, or was not looked at any more. `unready` are the objects that did not
    become ready; None without a wait. `seconds` are those of the apply, `waited` those of the wait. `operator` is that
    one manages the cluster. `member` is which member of a federation it is; empty of every other cluster. `warnings`
    say what a person has to see to that is no error.
    """

    key: ClusterKey
    report: Report = Report(())  # noqa: RUF009  # frozen
    error: ChronikError | None = None
    seconds: float = 0.0
    unready: tuple[Unready, ...] | None = None
    waited: float = 0.0
    operator: bool = False
    member: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is called: `demo/events`, and of a federation's member `east: demo/events`."""
        return f"{self.member}: {self.key}" if self.member else str(self.key)

    @property
    def failure(self) -> ChronikError | None:
        """What it amounts to as one error; None if all went well."""
        return self.error or self.report.error() or self._not_ready()

    def _not_ready(self) -> ChronikError | None:
        if not self.unready:
            return None
        failed = sum(each.health.state is State.FAILED for each in self.unready)
        total = counted(len(self.unready), "object")
        if failed:
            text = f"{total} failed" if failed == len(self.unready) else f"{total} not ready, of which {failed} failed"
            return PartialFailure(text, subject=self.title)
        text = f"{total} not ready after {self.waited:.0f} s"
        return WaitTimeout(text, subject=self.title)


_ALSO_BESIDE_SUCCESS = {ConflictError.exit_code, WaitTimeout.exit_code}


def exit_code(results: Sequence[ClusterResult]) -> int:
    """Return 0 if all went well, the one code of all failures if they agree, and that of a partial failure else."""
    codes = {failure.exit_code for each in results if (failure := each.failure)}
    if not codes:
        return 0
    agreed = codes.pop() if len(codes) == 1 else PartialFailure.exit_code
    partly = any(each.failure is None for each in results) and agreed not in _ALSO_BESIDE_SUCCESS
    return PartialFailure.exit_code if partly else agreed


class ObjectResult(NamedTuple):
    """What became of one object: the outcome that says most, and the results of all that was done about it."""

    ref: ObjectRef
    outcome: Outcome
    results: tuple[Result, ...]


_TELLING: tuple[Outcome, ...] = (
    *("failed", "not-tried", "conflict", "foreign", "blocked", "waiting"),
    *("recreated", "created", "adopted", "changed", "grown", "pruned", "handed-over"),
    *("not-installed", "held", "kept", "orphaned", "settled", "unchanged"),
)
"""All outcomes, the one that says most first."""
_COUNTED_ALWAYS: tuple[Outcome, ...] = ("created", "changed", "unchanged")


def object_results(report: Report) -> list[ObjectResult]:
    """Return what became of each object, in the order of the plan."""
    found: dict[ObjectRef, list[Result]] = {}
    for result in report.results:
        found.setdefault(result.ref, []).append(result)
    return [
        ObjectResult(ref, min((result.outcome for result in results), key=_TELLING.index), tuple(results))
        for ref, results in found.items()
    ]


def counts(report: Report) -> dict[Outcome, int]:
    """Return how many objects met with each outcome; those of every day are counted even if there are none."""
    found = Counter(each.outcome for each in object_results(report))
    return {each: found[each] for each in (*_COUNTED_ALWAYS, *_TELLING) if found[each] or each in _COUNTED_ALWAYS}


def action_changes(action: Action) -> tuple[Change, ...]:
    """Return what an action changes, field by field; nothing for what is created or deleted whole."""
    if isinstance(action, GrowClaim):
        return (Change("spec.resources.requests.storage", action.was, action.storage),)
    changes: tuple[Change, ...] = getattr(action, "changes", ())
    return changes
