"""How a workload is replaced whole: new pods beside the old ones, clients switched in one write, old pods gone later.

Before a new pod exists the Service is pinned to the revision that runs: no client meets a new one by chance. The switch
is one write of the Service's selector. Pins are part of the Service and the hold is part of the Deployment, so all is
read from the cluster; only when the switch was is remembered, and if that is lost the old pods stay longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.rollout.steps import Move, not_ready
from chronik.times import later

if TYPE_CHECKING:
    from chronik.rollout.steps import Staged

Next = tuple[tuple[Move, ...], str]


def toward_green(staged: Staged, *, promotes: bool, drained: bool) -> Next:
    """Return what comes next while a workload is held, and what it waits for: nothing at all if green is ready.

    With `promotes` clients are switched. `drained` says that the old pods have stayed long enough after that.
    """
    facts, pins = staged.facts, staged.pins
    assert pins is not None, "it is not blue-green"
    if pins.service not in {facts.current, facts.update} or not pins.service:
        return (Move(staged, "pin", "clients stay with the pods that run", revision=facts.current),), "is pinned"
    if facts.partition > 0:
        return (Move(staged, "partition", "as many new pods start beside the old ones"),), "new pods are to start"
    if facts.update and pins.preview != facts.update:
        return (Move(staged, "preview", "leads to the new pods", revision=facts.update),), "is to be previewed"
    if len(facts.new) < facts.replicas:
        return (), f"{len(facts.new)} of {facts.replicas} new pods exist"
    unready = [pod for pod in facts.new if not pod.ready]
    if unready and pins.service != facts.update:
        return (), not_ready(unready[0])
    if not promotes:
        return (), ""
    if pins.service != facts.update:
        return (Move(staged, "pin", "clients are switched to the new pods", revision=facts.update),), "is switched"
    if not drained:
        return (), "old pods stay for a while"
    return (Move(staged, "release", "the old pods go"),), "old pods go"


def ends_at(staged: Staged, switched_at: str) -> str:
    """Return until when old pods stay after the switch; empty if clients are not switched, or nothing is held."""
    facts, pins = staged.facts, staged.pins
    if pins is None or not facts.held or pins.service != facts.update or facts.current == facts.update:
        return ""
    return later(switched_at, pins.delay)


def let_go(staged: Staged, reason: str) -> tuple[Move, ...]:
    """Return how a workload goes back whose stable template is written: clients first, then the candidate's pods."""
    facts, pins = staged.facts, staged.pins
    if not facts.held:
        return ()
    if pins is not None and pins.service not in {"", facts.current}:
        return (Move(staged, "pin", "clients go back to the pods that ran before", revision=facts.current),)
    return (Move(staged, "release", reason),)
