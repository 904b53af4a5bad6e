"""The operator's metrics: what is counted, and under which names (S18, S37, S38).

The methods of `Metrics` are named for what happened. Alerts and dashboard in `deploy/` use these names, and tests hold
them to it. No label has a cluster's name: a fleet of thousands costs no more series than one.
"""

from __future__ import annotations

import platform
import time
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from chronik import __version__
from chronik.backups.document import PHASES as BACKUP_PHASES
from chronik.errors import ChronikError
from chronik.federation.status import MEMBER_PHASES
from chronik.federation.status import PHASES as FEDERATION_PHASES
from chronik.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from chronik.manifest import ClusterKey, WorkKey

PHASES = ("Pending", "Creating", "Running", "Updating", "Failed", "Deleting")
ROLLOUT_PHASES = ("Complete", "Progressing", "Paused", "Promoting", "Halted", "Aborting", "Aborted")
ROLLOUT_ENDS = {"Complete": "complete", "Halted": "halted", "Aborted": "aborted"}
RESULTS = ("ok", "failed")
QUERY_RESULTS = ("answered", "empty", "failed")
BACKUP_RESULTS = ("completed", "failed")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped upstream; a second series beside each counter, of no use


class _Clusters:
    """The phase of each cluster and since when, as counts and as the longest time per phase."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.phases: dict[ClusterKey, tuple[str, float]] = {}

    def note(self, key: ClusterKey, phase: str, since: float | None) -> None:
        before = self.phases.get(key)
        if since is None:
            since = before[1] if before is not None and before[0] == phase else self._now()
        self.phases[key] = (phase, since)

    def begin_again(self, key: ClusterKey) -> None:
        """Count the time of a cluster in its phase from now on."""
        self.phases.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        counts = dict.fromkeys(PHASES, 0)
        longest = dict.fromkeys(PHASES, 0.0)
        now = self._now()
        for phase, since in self.phases.values():
            counts[phase] = counts.get(phase, 0) + 1
            longest[phase] = max(longest.get(phase, 0.0), now - since)
        yield _family("chronik_clusters", "Clusters that this operator leads, by phase.", counts)
        yield _family(
            "chronik_clusters_longest_seconds",
            "How long the cluster that is longest in a phase has been there.",
            longest,
        )


def _family(name: str, text: str, values: dict[str, float] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["phase"])
    for phase, value in values.items():
        family.add_metric([phase], value)
    return family


class _Restarts:
    """Since when restarts of clusters wait for a window."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.since: dict[ClusterKey, float] = {}

    def collect(self) -> Iterable[Metric]:
        text = "Clusters with restarts that wait for a window."
        yield GaugeMetricFamily("chronik_clusters_restart_pending", text, len(self.since))
        longest = max((self._now() - since for since in self.since.values()), default=0.0)
        text = "How long restarts have waited for a window in the cluster where they do so longest."
        yield GaugeMetricFamily("chronik_clusters_restart_pending_longest_seconds", text, max(0.0, longest))


class _Archives:
    """Since when archives of clusters do not have what they should."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.since: dict[ClusterKey, float] = {}

    def collect(self) -> Iterable[Metric]:
        text = "Clusters whose archive lacks what the metastore's server has written, or has left a slot there."
        yield GaugeMetricFamily("chronik_clusters_not_archiving", text, len(self.since))
        longest = max((self._now() - since for since in self.since.values()), default=0.0)
        text = "How long that has been so in the cluster where it has been longest."
        yield GaugeMetricFamily("chronik_clusters_not_archiving_longest_seconds", text, max(0.0, longest))


class _Backups:
    """The phase of each backup, and of clusters with schedules when they were last backed up."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.phases: dict[WorkKey, str] = {}
        self.clusters: dict[ClusterKey, tuple[str, bool]] = {}

    def clear(self) -> None:
        self.phases.clear()
        self.clusters.clear()

    def collect(self) -> Iterable[Metric]:
        counts = dict.fromkeys(BACKUP_PHASES, 0)
        for phase in self.phases.values():
            counts[phase] = counts.get(phase, 0) + 1
        yield _family("chronik_backups", "Backups that this operator knows, by phase.", counts)
        overdue = sum(late for _, late in self.clusters.values())
        text = "Clusters that lack the backup of a due time."
        yield GaugeMetricFamily("chronik_clusters_backup_overdue", text, overdue)
        times = [moment(since).timestamp() for since, _ in self.clusters.values() if since]
        text = "How old the newest usable backup is of the cluster whose newest is oldest."
        yield GaugeMetricFamily(
            "chronik_clusters_backup_oldest_seconds", text, max(0.0, self._now() - min(times)) if times else 0.0
        )


class _Federations:
    """The phase of each federation, and those of its members."""

    def __init__(self) -> None:
        self.phases: dict[ClusterKey, tuple[str, tuple[str, ...]]] = {}

    def collect(self) -> Iterable[Metric]:
        counts = dict.fromkeys(FEDERATION_PHASES, 0)
        members = dict.fromkeys(MEMBER_PHASES, 0)
        for phase, of_members in self.phases.values():
            counts[phase] = counts.get(phase, 0) + 1
            for each in of_members:
                members[each] = members.get(each, 0) + 1
        yield _family("chronik_federations", "Federations that this hub leads, by phase.", counts)
        yield _family("chronik_federation_members", "Members of federations, by phase.", members)


class Metrics:
    """All metrics of one operator, in a registry of their own. `now` is wall-clock time in seconds since 1970."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.registry = registry = CollectorRegistry()
        self._reconciles = Counter("chronik_reconcile", "Reconciles, by result.", ["result"], registry=registry)
        self._durations = Histogram(
            "chronik_reconcile_duration_seconds", "How long reconciles took.", buckets=_SECONDS, registry=registry
        )
        self._errors = Counter(
            "chronik_reconcile_errors", "Failed reconciles, by error class.", ["class", "reason"], registry=registry
        )
        self._depth = Gauge("chronik_queue_depth", "Clusters that wait for a worker.", registry=registry)
        self._oldest = Gauge("chronik_queue_oldest_seconds", "How long the first of them waits.", registry=registry)
        self._requests = Counter(
            "chronik_api_requests",
            "Requests to the API server; code 0 is no answer.",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "chronik_api_request_duration_seconds",
            "How long the API server took to answer.",
            ["verb"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._writes = Counter("chronik_writes", "Objects written, by action.", ["action"], registry=registry)
        self._avoided = Counter("chronik_writes_avoided", "Objects that were as they should be.", registry=registry)
        self._leader = Gauge("chronik_leader", "Whether this process leads: 1 or 0.", registry=registry)
        self._relists = Counter(
            "chronik_cache_relists", "Lists after the first, by kind and cause.", ["kind", "why"], registry=registry
        )
        self._rollout_gauge = Gauge("chronik_rollouts", "Canaries, by phase.", ["phase"], registry=registry)
        self._rollout_ends = Counter(
            "chronik_rollouts_ended", "Canaries that ended, by how.", ["result"], registry=registry
        )
        self._queries = Counter(
            "chronik_analysis_queries", "Queries about canaries, by result.", ["result"], registry=registry
        )
        self._rollouts: dict[ClusterKey, str] = {}
        self._clusters = _Clusters(now)
        registry.register(self._clusters)
        self._restarts = _Restarts(now)
        registry.register(self._restarts)
        self._backup_runs = Counter(
            "chronik_backup_runs", "Backups that ended, by result.", ["result"], registry=registry
        )
        self._backups = _Backups(now)
        registry.register(self._backups)
        self._archives = _Archives(now)
        registry.register(self._archives)
        self._federations = _Federations()
        registry.register(self._federations)
        ProcessCollector(registry=registry)
        self._begin()

    def _begin(self) -> None:
        """Set what never changes, and begin counters at 0, so that their first increase is seen."""
        build = Gauge("chronik_build_info", "Which operator this is.", ["version", "python"], registry=self.registry)
        build.labels(__version__, platform.python_version()).set(1)
        for result in QUERY_RESULTS:
            self._queries.labels(result)
        for result in RESULTS:
            self._reconciles.labels(result)
        for phase in ROLLOUT_PHASES:
            self._rollout_gauge.labels(phase).set_function(partial(self._in_rollout_phase, phase))
        for result in ROLLOUT_ENDS.values():
            self._rollout_ends.labels(result)
        for result in BACKUP_RESULTS:
            self._backup_runs.labels(result)

    def reconciled(self, result: str, seconds: float) -> None:
        """Count a reconcile and its seconds, by how it ended: `ok`, `failed`, `waiting` and so on."""
        self._reconciles.labels(result).inc()
        self._durations.observe(seconds)

    def failed(self, error: BaseException) -> None:
        """Count the error that a reconcile ended in; one that is none of ours is of class unknown."""
        if isinstance(error, ChronikError):
            self.not_done(error.retry_class, error.reason)
        else:
            self.not_done("unknown", type(error).__name__)

    def not_done(self, retry_class: str, reason: str) -> None:
        """Count what kept a reconcile from its end, by how soon it is worth another try, and by its reason."""
        self._errors.labels(retry_class, reason).inc()

    def requested(self, verb: str, kind: str, code: int, seconds: float) -> None:
        """Count a request to the API server; fits `ConnectOptions.on_request`."""
        self._requests.labels(verb, kind, str(code)).inc()
        self._request_seconds.labels(verb).observe(seconds)

    def wrote(self, action: str, count: int = 1) -> None:
        """Count objects that were written, by what was done to them."""
        self._writes.labels(action).inc(count)

    def avoided(self, count: int = 1) -> None:
        """Count objects that needed no write."""
        self._avoided.inc(count)

    def relisted(self, kind: str, why: str) -> None:
        """Count a list that a cache made again."""
        self._relists.labels(kind, why).inc()

    def cluster(self, key: ClusterKey, phase: str, since: float | None = None) -> None:
        """Note a cluster's phase; `since` is when it got there, by default when it was first noted."""
        self._clusters.note(key, phase, since)

    def _in_rollout_phase(self, phase: str) -> float:
        return sum(each == phase for each in self._rollouts.values())

    def rollout(self, key: ClusterKey, phase: str) -> None:
        """Note the phase of a cluster's canary, "" if it has none; one that is paused gets no older by that."""
        before = self._rollouts.pop(key, "")
        if phase:
            self._rollouts[key] = phase
        if before and phase != before and phase in ROLLOUT_ENDS:
            self._rollout_ends.labels(ROLLOUT_ENDS[phase]).inc()
        if phase == "Paused":
            self._clusters.begin_again(key)

    def analysed(self, result: str) -> None:
        """Count a query about a canary: answered, empty or failed."""
        self._queries.labels(result).inc()

    def restart_pending(self, key: ClusterKey, since: float | None) -> None:
        """Note since when restarts of a cluster wait for a window, None if none does; it gets no older by that."""
        if since is None:
            self._restarts.since.pop(key, None)
        else:
            self._restarts.since[key] = since
            self._clusters.begin_again(key)

    def cluster_gone(self, key: ClusterKey) -> None:
        """Forget a cluster."""
        self._clusters.phases.pop(key, None)
        self._rollouts.pop(key, None)
        self._restarts.since.pop(key, None)
        self._backups.clusters.pop(key, None)
        self._archives.since.pop(key, None)

    def backup(self, key: WorkKey, phase: str) -> None:
        """Note a backup's phase; without one it is gone."""
        self._backups.phases[key] = phase
        if not phase:
            del self._backups.phases[key]

    def backup_ended(self, phase: str) -> None:
        """Count a backup that was completed, or has failed."""
        self._backup_runs.labels(phase.lower()).inc()

    def backed_up(self, key: ClusterKey, since: str, *, overdue: bool) -> None:
        """Note when the newest usable backup of a cluster was cut, if any was, and whether there should be a newer."""
        self._backups.clusters[key] = (since, overdue)
        if not since and not overdue:
            del self._backups.clusters[key]

    def not_archiving(self, key: ClusterKey, since: float | None) -> None:
        """Note since when the archive of a cluster does not have what it should; None if it has, or there is none."""
        if since is None:
            self._archives.since.pop(key, None)
        else:
            self._archives.since[key] = since

    def federation(self, key: ClusterKey, phase: str, members: Iterable[str]) -> None:
        """Note a federation's phase, and those of its members."""
        self._federations.phases[key] = (phase, tuple(members))

    def federation_gone(self, key: ClusterKey) -> None:
        """Forget a federation."""
        self._federations.phases.pop(key, None)

    def leads(self, *, yes: bool) -> None:
        """Note whether this process leads; one that no longer does forgets all clusters."""
        self._leader.set(int(yes))
        if not yes:
            self._clusters.phases.clear()
            self._rollouts.clear()
            self._restarts.since.clear()
            self._backups.clear()
            self._archives.since.clear()
            self._federations.phases.clear()

    def watch(self, *, depth: Callable[[], float], oldest: Callable[[], float]) -> None:
        """Ask these when metrics are read: the depth of the queue, and the age of its first entry in seconds."""
        self._depth.set_function(depth)
        self._oldest.set_function(oldest)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header asks for, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
