"""Apply until nothing has changed in the meantime: plan, carry out, read what moved, plan again.

One engine for the command line and the operator, so that both do the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from chronik.apply.executor import execute
from chronik.apply.observe import named, others
from chronik.errors import ChronikError, FieldConflict, ObjectChanged
from chronik.manifest import CLAIM, KIND_BY_NAME, ObjectRef
from chronik.plan.actions import Create, TransferOwnership
from chronik.plan.planner import plan
from chronik.plan.results import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from chronik.apply.executor import Execution
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.plan.planner import PlanContext
    from chronik.plan.results import Outcome, Report, Result

_ROUNDS = 4
"""How often to plan, if objects keep changing."""


async def converge(
    desired: Sequence[Manifest], observed: Mapping[ObjectRef, Manifest], context: PlanContext, execution: Execution
) -> Report:
    """Bring `observed` to `desired`, and plan anew for what has changed since it was read.

    `observed` need not hold objects that lack the cluster's label: one of them that has a wanted name is found when it
    gets in the way. The report has the last result of each object, and those of earlier rounds that wrote.
    """
    found = dict(observed)
    rounds: list[Report] = []
    while True:
        report = await execute(plan(desired, found, context), execution)
        rounds.append(report)
        stale = [result for result in report.failed if _is_stale(result)]
        if not stale or len(rounds) == _ROUNDS or report.interrupted:
            break
        _remember(found, report)
        try:
            context = await _read_again(found, context, {result.ref for result in stale}, execution.kube)
            found |= await named(execution.kube, others(desired), found, context.missing)
        except ChronikError:
            break  # what was done is known, and is reported
    return _summed(rounds)


def _summed(rounds: Sequence[Report]) -> Report:
    """Return the last report, with what earlier rounds wrote.

    An action can be refused because its own first attempt, of which no answer came, had arrived: then the next round
    finds the object as it should be.
    """
    last = rounds[-1]
    tried: dict[ObjectRef, Outcome] = {}
    wrote: list[Result] = []
    for report in rounds[:-1]:
        wrote += report.written
        tried |= {each.ref: OUTCOMES[type(each.action)] for each in report.failed if _is_stale(each)}
    if not tried:
        return last
    again = {(result.ref, type(result.action)) for result in last.written}
    done = {result.ref for result in wrote}
    results = [
        replace(each, outcome=tried[each.ref]) if each.outcome == "unchanged" and each.ref in tried else each
        for each in last.results
        if each.outcome != "unchanged" or each.ref not in done
    ]
    earlier = (result for result in wrote if (result.ref, type(result.action)) not in again)
    return replace(last, results=(*earlier, *results))


def _is_stale(result: Result) -> bool:
    """Return whether an action was refused only because the object is no longer what it was planned for.

    A Create that is answered with a conflict means that the object exists: it had lost the label that it is found by.
    """
    held_otherwise = isinstance(result.action, TransferOwnership | Create) and isinstance(result.error, FieldConflict)
    return isinstance(result.error, ObjectChanged) or held_otherwise


def _remember(found: dict[ObjectRef, Manifest], report: Report) -> None:
    """Update what was observed with what has been written since."""
    for result in report.written:
        if result.answer is not None:
            found[result.ref] = result.answer
        elif result.outcome == "pruned":
            found.pop(result.ref, None)


async def _read_again(
    found: dict[ObjectRef, Manifest], context: PlanContext, refs: Collection[ObjectRef], kube: Kube
) -> PlanContext:
    """Read objects anew into `found`, and claims into the context, which is returned."""
    kinds = KIND_BY_NAME | {CLAIM.name: CLAIM}
    known = [ref for ref in sorted(refs) if ref.kind in kinds]  # the others are found anew by name
    answers = await asyncio.gather(*(kube.get(kinds[ref.kind], ref.namespace, ref.name) for ref in known))
    live = {ref: answer for ref, answer in zip(known, answers, strict=True) if answer is not None}
    for ref in refs:
        found.pop(ref, None)
    found |= {ref: answer for ref, answer in live.items() if ref.kind != CLAIM.name}
    claims = [live.get(ref, claim) for claim in context.claims if (ref := _ref(claim)) not in refs or ref in live]
    return replace(context, claims=claims)


def _ref(claim: Manifest) -> ObjectRef:
    return ObjectRef(CLAIM.name, claim["metadata"]["namespace"], claim["metadata"]["name"])
