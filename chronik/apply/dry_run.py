"""The results that a plan has if the server refuses nothing: for diffs and client-side dry runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.plan.results import OUTCOMES, Report, Result, hinders, undone

if TYPE_CHECKING:
    from chronik.plan.actions import Action, Plan


def simulate(todo: Plan) -> Report:
    """Return the report that `apply.execute` would give of a plan."""
    results: list[Result] = []
    for stage in todo.stages:
        trouble = next((result.ref for result in results if hinders(result)), None)
        untried = f"because of {trouble}" if stage.prunes and trouble else ""
        results += [_simulated(action, untried) for step in stage.steps for action in step.actions]
    return Report(tuple(results))


def _simulated(action: Action, untried: str) -> Result:
    outcome = OUTCOMES.get(type(action))
    if outcome is None:
        return undone(action)
    return Result(action, "not-tried", why=untried) if untried else Result(action, outcome)
