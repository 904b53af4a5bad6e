"""How long a roll may go on without progress, before it holds back no upgrade of other clusters any more.

As a Deployment has it: progress is that more pods run the newest revision, or that more of them are ready, than ever in
this roll. A container that crashes and comes back makes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik.manifest import WORKLOAD_KINDS
from chronik.status.compute import DEADLINE_EXCEEDED

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import Any

    from chronik.manifest import ClusterKey, Manifest, ObjectRef

PROGRESS_DEADLINE = 600.0
"""Seconds, as a Deployment's by default."""


@dataclass(slots=True)
class _Roll:
    """One roll: which, how far it has ever been, and when it last came further; `over` once that is too long ago."""

    which: Hashable
    done: int
    since: float
    over: bool = False


class Deadlines:
    """What is known of the rolls under way, by cluster."""

    def __init__(self) -> None:
        self._rolls: dict[ClusterKey, _Roll] = {}

    def exceeded(
        self, key: ClusterKey, objects: Mapping[ObjectRef, Manifest], previous: Mapping[str, Any], now: float
    ) -> bool:
        """Take in how far a cluster is, and tell whether its roll has made no progress for too long.

        What an operator before this one has found, as the `previous` status tells, holds until there is progress.
        """
        workloads = {ref: live for ref, live in objects.items() if ref.kind in WORKLOAD_KINDS}
        which = tuple(sorted((ref, live["metadata"].get("generation", 0)) for ref, live in workloads.items()))
        done = sum(map(_done, workloads.values()))
        roll = self._rolls.get(key)
        if roll is None:
            roll = self._rolls[key] = _Roll(which, done, now, over=is_overdue(previous))
        elif which != roll.which or done > roll.done:
            roll = self._rolls[key] = _Roll(which, done, now)
        roll.over = roll.over or now - roll.since >= PROGRESS_DEADLINE
        return roll.over

    def forget(self, key: ClusterKey) -> None:
        """Forget a cluster that rolls nothing, or is no more."""
        self._rolls.pop(key, None)


def is_overdue(status: Mapping[str, Any]) -> bool:
    """Tell whether a status says that the roll under way has made no progress for too long."""
    found = (each for each in status.get("conditions") or () if each.get("type") == "Progressing")
    return any(each.get("reason") == DEADLINE_EXCEEDED for each in found)


def _done(workload: Manifest) -> int:
    """Return how far a workload is, in pods; counts of an earlier spec say nothing of this roll."""
    status = workload.get("status") or {}
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return 0
    return int(status.get("updatedReplicas", 0)) + int(status.get("readyReplicas", 0))
