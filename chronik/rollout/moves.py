"""What brings one workload to a step of a canary, or back: how many pods may be new, and which of them go first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.rollout.blue_green import let_go, toward_green
from chronik.rollout.order import next_replacement, right_order
from chronik.rollout.steps import EVERY_POD, Move, Staged, not_ready

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.rollout.blue_green import Next
    from chronik.rollout.facts import PodFacts, SetFacts

_EARLIER = "pods of an earlier candidate go"


def toward(staged: Staged, target: int, *, promotes: bool, drained: bool) -> Next:
    """Return what brings a workload to so many new pods, and what it waits for: nothing at all if it is there.

    `promotes` says that all steps are through. `drained` is about blue-green: old pods have stayed long enough.
    """
    facts = staged.facts
    if staged.returns:
        return let_go(staged, _EARLIER) if facts.seen else (), "pods go back first"
    if staged.pending or not facts.seen:
        return (), "its controller has not seen the newest spec yet"
    strays = [pod for pod in facts.pods if pod.revision not in {facts.current, facts.update}]
    if strays:
        return _cleared(staged, strays)
    if staged.pins is not None and facts.held:
        return toward_green(staged, promotes=promotes, drained=drained)
    wanted = facts.replicas - target
    if facts.held and facts.partition < wanted and target < facts.replicas:
        return (Move(staged, "partition", f"{target} of {facts.replicas} pods", wanted),), "was scaled"
    trouble = _unrest(facts)
    if trouble:
        return (), trouble
    full = facts.surges and len(facts.pods) >= facts.replicas + staged.allowed  # it was scaled, and rounded
    if facts.held and len(facts.new) < staged.allowed and not full:
        return (), f"{len(facts.new)} of {staged.allowed} pods run the newest revision"
    if facts.held and (facts.partition > wanted or target == facts.replicas):
        return (_lower(staged, wanted, f"{target} of {facts.replicas} pods"),), f"{target} pods are to follow"
    if len(facts.new) < target and not (full and facts.held):
        return (), f"{len(facts.new)} of {target} pods run the newest revision"
    return (), ""


def back(staged: Staged) -> tuple[Move, ...]:
    """Return the next move of a workload whose stable template is written: pods go one by one, the ill ones first."""
    if staged.facts.surges:  # its template is back by now
        return let_go(staged, "the candidate's pods go")
    following = next_replacement(staged.facts)
    if following.what == "delete":
        return (Move(staged, "delete", following.reason, pod=following.pod),)
    if following.what == "release" and staged.facts.held:
        return (Move(staged, "release", "all that is left goes back by itself"),)
    return ()


def goes_back(staged: Staged) -> bool:
    """Return whether the newest revision is the one that the last complete roll ended with."""
    facts = staged.facts
    return not staged.pending and not staged.returns and facts.seen and facts.current == facts.update


def _unrest(facts: SetFacts) -> str:
    """Return why no further pod may be taken now; empty if all are there and ready."""
    if not facts.complete:
        return f"{sum(not pod.leaving for pod in facts.pods)} of {facts.replicas} pods exist"
    unready = [pod for pod in facts.pods if not pod.ready]
    return not_ready(unready[0]) if unready else ""


def _lower(staged: Staged, wanted: int, reason: str) -> Move:
    """Return how a set comes nearer to a partition: voters by one pod at a time, and to none by being let go."""
    facts = staged.facts
    following = max(wanted, min(facts.partition, facts.replicas) - 1) if staged.votes else wanted
    if following <= 0:
        return Move(staged, "release", "the rest goes by itself")
    return Move(staged, "partition", reason, following)


def _cleared(staged: Staged, strays: Iterable[PodFacts]) -> tuple[tuple[Move, ...], str]:
    """Return how pods of an earlier candidate go: while all is held, they come back on the stable revision."""
    facts = staged.facts
    if facts.surges:
        return let_go(staged, _EARLIER) if goes_back(staged) else (), _EARLIER
    if facts.partition < facts.replicas:
        return (Move(staged, "partition", "a new candidate begins", EVERY_POD),), "a new candidate begins"
    first = right_order(strays)[0]
    others = [pod for pod in facts.pods if pod is not first]
    if not facts.complete or (first.ready and not all(pod.ready for pod in others)):
        return (), f"pod {first.name} is of an earlier candidate, and others are not ready"
    back = [pod for pod in facts.pods if pod.revision == facts.current and not pod.ready]
    if back and not first.ready:
        return (), f"pod {back[0].name} is not ready yet"
    return (Move(staged, "delete", "is of an earlier candidate", pod=first),), "pods of an earlier candidate go"
