"""Which clusters wait for rights that the operator lacks, and which of them tries again soon for all of its namespace.

Rights come back without an event. To try every cluster every half minute would be many refused requests, so in each
namespace one cluster does; when it is refused no longer, the others are looked at, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.errors import Forbidden

if TYPE_CHECKING:
    from chronik.manifest import ClusterKey
    from chronik.operator.context import ReconcileResult

SOONEST, SPREAD = 20.0, 8.0
"""Seconds until the next try, and how many of them are left to chance on top."""


class MissingRights:
    """The clusters whose last pass was refused a request for want of rights, by namespace."""

    def __init__(self) -> None:
        self._refused: dict[str, dict[ClusterKey, None]] = {}

    def note(self, key: ClusterKey, *, refused: bool) -> list[ClusterKey]:
        """Take in how a pass ended, and return the clusters to look at now: others that waited for this one's try."""
        waiting = self._refused.setdefault(key.namespace, {})
        others: list[ClusterKey] = []
        if refused:
            waiting.setdefault(key)
        elif key in waiting:
            others = [each for each in waiting if each != key] if self.tries(key) else []
            del waiting[key]
        if not waiting:
            del self._refused[key.namespace]
        return others

    def tries(self, key: ClusterKey) -> bool:
        """Tell whether this cluster is the one that tries again soon for its namespace."""
        return next(iter(self._refused.get(key.namespace, ())), None) == key

    def has(self, key: ClusterKey) -> bool:
        """Tell whether the last pass over a cluster was refused."""
        return key in self._refused.get(key.namespace, ())


def is_refused(outcome: ReconcileResult) -> bool:
    """Tell whether a pass was refused anything for want of rights."""
    reason = outcome.reason.reason if outcome.reason else ""
    return reason == Forbidden.reason or any(isinstance(each.error, Forbidden) for each in outcome.report.failed)
