"""What a pass over a cluster works with, and what it returns."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chronik import __version__
from chronik.operator.deadline import Deadlines
from chronik.status.assess import NOTHING_DONE
from chronik.status.compute import own

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronik.api.spec import Cluster
    from chronik.api.validation import Validator
    from chronik.apply.executor import Execution
    from chronik.backups.cluster import Backups
    from chronik.errors import RetryClass
    from chronik.kube import Kube
    from chronik.manifest import ClusterKey, Manifest, ObjectRef
    from chronik.operator.analysis.analyst import Analyst
    from chronik.operator.cache.cache import Cache
    from chronik.plan.planner import Flapping
    from chronik.plan.results import Report
    from chronik.status.compute import Reason
    from chronik.status.events import Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTools:
    """What makes the parts of backups.

    `render` renders one template by its name. `image` is that of their Jobs, where a cluster names none. `poll` is how
    many seconds lie between two looks at a backup that is on its way.
    """

    render: Callable[[str, Mapping[str, Any]], Manifest]
    image: str = ""
    poll: float = 5.0

    def image_of(self, cluster: Cluster) -> str:
        """Return the image of the Jobs of a cluster's backups; empty if none is known."""
        settings = cluster.spec["backup"]
        return (settings["metastore"]["image"] if settings else None) or self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileContext:
    """Everything that a pass needs besides the name of a cluster.

    `now` returns an RFC 3339 time in UTC. `announce` gets what is worth an Event. `flapping` are applies that did not
    help; losing them costs one such apply for each. `upgrading` are the clusters that this process has begun to bring
    to its own version, so that two passes side by side do not both begin; what began earlier is in their status.
    `templates_trouble` tells what is wrong with the newest templates, while older ones are used, or is empty.
    `creation` is why pods of StatefulSets were not created, as far as that has been asked. `deadlines` are how long
    rolls have been without progress, in seconds of `monotonic`. `revisions` are pod templates that canaries go back to.
    `analyst` asks about their metrics.
    """

    kube: Kube
    cache: Cache
    validator: Validator
    render: Callable[[Cluster], list[Manifest]]
    now: Callable[[], str]
    execution: Execution
    announce: Callable[[Manifest, Announcement], None] = lambda _cluster, _event: None
    domain: str = "cluster.local"
    version: str = __version__
    flapping: dict[ClusterKey, dict[ObjectRef, Flapping]] = field(default_factory=dict)
    upgrading: set[ClusterKey] = field(default_factory=set)
    creation: dict[ClusterKey, Mapping[ObjectRef, str]] = field(default_factory=dict)
    deadlines: Deadlines = field(default_factory=Deadlines)
    revisions: dict[tuple[ClusterKey, str], Manifest] = field(default_factory=dict)
    monotonic: Callable[[], float] = time.monotonic
    backups: BackupTools | None = None
    templates_trouble: Callable[[], str] = str
    analyst: Analyst | None = None


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """How a pass ended. `retry` says how soon to try again, None for not before an event."""

    result: Literal["ok", "waiting", "failed", "paused", "claimed", "deleted", "gone"]
    retry: RetryClass | None = None
    phase: str = ""
    report: Report = NOTHING_DONE
    reason: Reason | None = None
    """Why it failed, or what it waits for."""
    wrote: bool = False
    """Whether anything was written, the status included."""
    pending: bool = False
    """Whether restarts wait for a window."""
    rollout: str = ""
    """The phase of its canary, if it has one."""
    backups: Backups | None = None
    """What its schedules want and how they stand; None if the pass did not come so far."""
    again_at: str = ""
    """When to look again though nothing has changed, in RFC 3339 and UTC; empty if time alone changes nothing."""
    missing: frozenset[tuple[ObjectRef, int, int]] = frozenset()
    """The StatefulSets that lack pods, with how many there are and how many there should be."""


def status_of(document: Manifest) -> Mapping[str, Any]:
    """Return what we have written of the status of a ChronikCluster; a new one has none."""
    return own(document.get("status") or {})
