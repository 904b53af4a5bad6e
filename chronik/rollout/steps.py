"""What a canary is made of: sets that are staged, moves, what people ask for, and how many pods a step is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.manifest import ComponentName
    from chronik.rollout.facts import PodFacts, SetFacts

EVERY_POD = 1_000_000
"""A partition that holds every pod there is or will be: an autoscaler's new ones come up on the current revision."""


class Pins(NamedTuple):
    """Which revision the Service of a blue-green workload leads to, and which its preview; empty for all of them.

    `delay` is how many seconds the old pods stay after the switch.
    """

    service: str = ""
    preview: str = ""
    delay: int = 30


class Staged(NamedTuple):
    """One StatefulSet or Deployment in the order of components. `votes`: its pods are a quorum.

    `pending` says that its new template is not written yet, or has only just been. `returns` says that it cannot be
    written before the pods of an earlier candidate are gone. `pins` are there if it is blue-green.
    """

    component: ComponentName
    facts: SetFacts
    votes: bool = False
    pending: bool = False
    returns: bool = False
    pins: Pins | None = None

    @property
    def has_canary(self) -> bool:
        """Whether there are pods enough for one to go ahead."""
        return self.facts.replicas > 1 or self.pins is not None

    @property
    def allowed(self) -> int:
        """How many pods may run the newest revision by now."""
        return max(0, self.facts.replicas - self.facts.partition)

    @property
    def changes(self) -> bool:
        """Whether it is on its way to another revision."""
        facts = self.facts
        if not facts.current and not self.pending and not self.returns and not facts.held:
            return False  # it is being created
        on_its_way = self.pending or self.returns or facts.held or not facts.seen
        return on_its_way or facts.current != facts.update or bool(facts.old)


class Move(NamedTuple):
    """What to do to a workload; `reason` says why.

    It gets a partition, is let go, a pod of it is deleted, or its Service or `preview` is pinned to a revision.
    """

    staged: Staged
    what: Literal["partition", "release", "delete", "pin", "preview"]
    reason: str
    partition: int = 0
    pod: PodFacts | None = None
    revision: str = ""


def begins_restart(moves: Iterable[Move]) -> bool:
    """Return whether moves take pods that are well, or clients from them.

    A set that is held more, or a pod that is ill, is no restart; nor that old pods go from which clients were switched.
    """
    return any(map(_begins_restart, moves))


def _begins_restart(move: Move) -> bool:
    facts, pins = move.staged.facts, move.staged.pins
    switched = pins is not None and pins.service == facts.update
    match move.what:
        case "release":
            return not switched
        case "partition":
            return move.partition < facts.partition
        case "delete":
            return move.pod is not None and move.pod.ready
        case "pin":
            return move.revision == facts.update != facts.current
        case "preview":
            return False


def not_ready(pod: PodFacts) -> str:
    """Return that a pod is not ready, and why, in words."""
    return f"pod {pod.name} is not ready: {pod.trouble.removeprefix(f'{pod.name}: ') or 'it starts'}"


class Command(NamedTuple):
    """What a person asked for, of which candidate and, with a number, of which step or attempt."""

    verb: str = ""
    number: int | None = None

    @classmethod
    def of(cls, text: str, candidate: str) -> Command:
        """Read an annotation, `verb@candidate` or `verb@candidate/number`; what is for another candidate is nothing."""
        verb, _, about = text.partition("@")
        name, slash, number = about.partition("/")
        if name != candidate or (slash and not number.isdecimal()):
            return cls()
        return cls(verb, int(number) if slash else None)


def pods_of_step(pods: int | str, replicas: int) -> int:
    """Return how many of so many pods a step asks for: at least one, and never all, which only promotion brings."""
    count = pods if isinstance(pods, int) else math.ceil(int(pods.removesuffix("%")) * replicas / 100)
    return max(1, min(count, replicas - 1))
