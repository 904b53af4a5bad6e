"""Passes over clusters: workers take a cluster from the queue, call `reconcile`, and say when to come back.

A pass that fails, or a bug in it, costs its own cluster a delay and no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from chronik.errors import ChronikError
from chronik.manifest import CLUSTER_KIND, WorkKey
from chronik.operator.backups.worker import BackupWorker
from chronik.operator.context import ReconcileResult
from chronik.operator.fence import NotLeading
from chronik.operator.poller import Poller
from chronik.operator.reconcile import reconcile
from chronik.operator.rights import SOONEST, SPREAD, MissingRights, is_refused
from chronik.operator.telemetry.logs import correlated
from chronik.operator.telemetry.server import Watchdog
from chronik.operator.telemetry.tracing import span
from chronik.plan.results import WROTE
from chronik.status.assess import describe_error
from chronik.status.compute import Reason
from chronik.tasks import background
from chronik.times import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from chronik.api.spec import Cluster
    from chronik.clock import Clock
    from chronik.manifest import ClusterKey, Manifest
    from chronik.operator.context import ReconcileContext
    from chronik.operator.queue import WorkQueue
    from chronik.operator.telemetry.metrics import Metrics

_log = logging.getLogger("chronik.operator")

_LOOK_AGAIN = 10.0
"""Seconds until a cluster that waits for an event is looked at in any case."""
_COOLDOWN = 0.2
"""Seconds between two passes over a cluster, so that a burst of events, as pods start, makes one pass and one write."""
_JITTER = 0.2


@dataclass(slots=True, kw_only=True)
class Workers:
    """The passes of one operator. `clean` knows what a cluster looked like before a pass that found nothing to do."""

    context: ReconcileContext
    queue: WorkQueue
    metrics: Metrics
    clock: Clock
    resync: float = 60.0
    watchdog: Watchdog = field(default_factory=Watchdog)
    clean: dict[ClusterKey, Hashable] = field(default_factory=dict)
    last_logged: dict[ClusterKey, Reason] = field(default_factory=dict)
    ended: dict[ClusterKey, tuple[float, object]] = field(default_factory=dict)
    again: dict[ClusterKey, float] = field(default_factory=dict)
    """When a cluster is to be looked at though nothing has changed, in seconds of the clock."""
    rights: MissingRights = field(default_factory=MissingRights)
    running: int = 0
    poller: Poller = field(init=False)
    backups: BackupWorker = field(init=False)

    def __post_init__(self) -> None:
        self.backups = BackupWorker(context=self.context, queue=self.queue, metrics=self.metrics)
        self.poller = Poller(context=self.context, clock=self.clock, wake=self.wake)

    async def work(self) -> None:
        """Take clusters from the queue and pass over them, one at a time, until told to stop."""
        while True:
            key = await self.queue.get()
            try:
                if self.context.execution.stop.is_set():
                    return  # the next leader begins with every cluster
                await self._take(key)
            except Exception as error:  # noqa: BLE001  # a worker that ended silently would never be replaced
                self.metrics.failed(error)
                _log.exception("a bug in chronik stopped the work on %s; please report it", key)
                self.queue.retry(key, "unknown")
            finally:
                self.queue.done(key)

    async def _take(self, key: WorkKey) -> None:
        """Pass over one document, of whatever kind."""
        if key.kind == CLUSTER_KIND:
            await self.take(key.place)
        else:
            await self.backups.take(key)

    async def take(self, key: ClusterKey) -> ReconcileResult | None:
        """Pass over one cluster, and requeue it for the next look.

        If it looks exactly as it did when nothing was left to do, or the last pass has only just ended and the spec has
        not changed since, nothing is done, and None comes back.
        """
        cooldown = self._cooldown(key)
        if cooldown > 0:
            self.queue.add_after(WorkKey.of(key), cooldown)
            return None
        looks = self._looks(key)
        due = self.again.get(key, float("inf"))
        if key in self.clean and self.clean[key] == looks and due > self.clock.now():
            self.metrics.avoided()
            self._later(key, self.resync)
            return None
        self.again.pop(key, None)
        generation = self._generation(key)
        self.running += 1
        try:
            with self.watchdog.busy(key), correlated(str(key)), span("reconcile", cluster=str(key)):
                outcome = await self._pass(key)
        finally:
            self.running -= 1
        self.ended[key] = self.clock.now(), None if outcome.result == "claimed" else generation
        self._note(key, outcome)
        if outcome.wrote or outcome.result not in {"ok", "paused"} or _has_deadline(outcome):
            self.clean.pop(key, None)
        else:
            self.clean[key] = looks
        self.poller.note(key, outcome)
        self._schedule(key, outcome)
        return outcome

    async def _pass(self, key: ClusterKey) -> ReconcileResult:
        began = self.clock.now()
        try:
            outcome = await reconcile(key, self.context)
        except NotLeading as error:
            _log.info("not the leader any more: %s", error.message)
            outcome = ReconcileResult("waiting")
        except ChronikError as error:
            self.metrics.failed(error)
            outcome = ReconcileResult("failed", error.retry_class, reason=describe_error(error))
        except Exception as error:  # noqa: BLE001  # one cluster's bug must not stop the fleet
            self.metrics.failed(error)
            _log.exception("a bug in chronik stopped this pass; please report it")
            outcome = ReconcileResult("failed", "unknown", reason=Reason("InternalError", "see the log"))
        seconds = self.clock.now() - began
        self.metrics.reconciled(outcome.result, seconds)
        _log_pass(outcome, seconds, changed=outcome.reason != self.last_logged.get(key))
        self._remember_logged(key, outcome)
        return outcome

    def wake(self, key: ClusterKey) -> None:
        """Have a pass over a cluster, though it looks as it did: something has changed that its looks do not show."""
        self.clean.pop(key, None)
        self.queue.add(WorkKey.of(key))

    def _remember_logged(self, key: ClusterKey, outcome: ReconcileResult) -> None:
        """Remember what was logged of a cluster, so that it is not logged again with each pass."""
        if outcome.reason:
            self.last_logged[key] = outcome.reason
        else:
            self.last_logged.pop(key, None)

    def _cooldown(self, key: ClusterKey) -> float:
        """Return how many seconds a cluster is to rest; none if its spec is new."""
        ended, generation = self.ended.get(key, (0.0, None))
        if generation is None or generation != self._generation(key):
            return 0.0
        return ended + _COOLDOWN - self.clock.now()

    def _generation(self, key: ClusterKey) -> object:
        document = self.context.cache.cluster(key)
        return document and (document["metadata"]["generation"], "deletionTimestamp" in document["metadata"])

    def _looks(self, key: ClusterKey) -> Hashable:
        document = self.context.cache.cluster(key)
        return self.context.cache.fingerprint(key), document and document["metadata"]["resourceVersion"]

    def _note(self, key: ClusterKey, outcome: ReconcileResult) -> None:
        """Count what a pass did, and note the phase that it leaves its cluster in."""
        for result in outcome.report.results:
            if result.outcome == "unchanged":
                self.metrics.avoided()
            elif result.outcome in WROTE:
                self.metrics.wrote(result.outcome)
        for result in outcome.report.failed:
            if result.error is not None:
                self.metrics.failed(result.error)
        if outcome.result == "failed" and outcome.phase and outcome.reason and not outcome.report.failed:
            self.metrics.not_done(outcome.retry or "unknown", outcome.reason.reason)  # no request has failed
        if outcome.backups is not None:
            self.metrics.backed_up(key, outcome.backups.since, overdue=outcome.backups.overdue)
        if outcome.result == "gone":
            self.ended.pop(key, None)
            self.again.pop(key, None)
            self.metrics.cluster_gone(key)
        elif outcome.phase:
            self.metrics.rollout(key, outcome.rollout)
            self.metrics.restart_pending(key, self._since(key, "RestartPending") if outcome.pending else None)
            self.metrics.not_archiving(key, self._since(key, "Archiving", "False"))
            stands = outcome.pending or outcome.rollout == "Paused"
            self.metrics.cluster(key, outcome.phase, None if stands else self._since(key))

    def _since(self, key: ClusterKey, kind: str = "Ready", status: str = "") -> float | None:
        """Return since when a condition is as it is, in seconds since 1970: our own restart changes nothing.

        With `status` only if it is that.
        """
        document = self.context.cache.cluster(key) or {}
        conditions = (document.get("status") or {}).get("conditions") or ()
        times = [
            each["lastTransitionTime"] for each in conditions if each["type"] == kind and status in {"", each["status"]}
        ]
        with suppress(ValueError, OverflowError):  # others can write there what no clock shows
            return datetime.fromisoformat(times[0]).timestamp() if times else None
        return None

    def _schedule(self, key: ClusterKey, outcome: ReconcileResult) -> None:
        known, refused = self.rights.has(key), is_refused(outcome)
        for other in self.rights.note(key, refused=refused):
            self.wake(other)
        if outcome.again_at:
            self.again[key] = self.clock.now() + elapsed(self.context.now(), outcome.again_at)
        if outcome.retry is not None:
            seconds = self.queue.retry(WorkKey.of(key), outcome.retry)
            if refused and self.rights.tries(key):
                seconds = min(seconds, SOONEST + SPREAD * self.clock.chance())
                self.queue.add_after(WorkKey.of(key), seconds)
            self._by_time(key)
            level = logging.INFO if refused and not known else logging.DEBUG
            _log.log(level, "%s: tries again in %.0f s, or when something changes", key, seconds)
            return
        self.queue.forget(WorkKey.of(key))
        if outcome.result == "claimed":
            self.queue.add(WorkKey.of(key))
        elif outcome.result == "waiting":
            self._later(key, _LOOK_AGAIN)
        elif outcome.result in {"ok", "paused"}:
            self._later(key, self.resync)

    def _later(self, key: ClusterKey, seconds: float) -> None:
        """Requeue a cluster after some time, with jitter, or when it wants to be looked at again."""
        self.queue.add_after(WorkKey.of(key), seconds * (1 + _JITTER * (2 * self.clock.chance() - 1)))
        self._by_time(key)

    def _by_time(self, key: ClusterKey) -> None:
        if key in self.again:
            self.queue.add_after(WorkKey.of(key), self.again[key] - self.clock.now())


def _has_deadline(outcome: ReconcileResult) -> bool:
    """Return whether time alone may change something: a roll that goes on has a deadline, one that waits has none."""
    return outcome.phase == "Updating" and not outcome.pending


def _log_pass(outcome: ReconcileResult, seconds: float, *, changed: bool) -> None:
    """Log how a pass ended: what it did, and what it waits for or why it failed, if that is new."""
    for result in outcome.report.written:
        _log.info("%s: %s", result.ref, result.outcome, extra={"reason": result.action.reason})
    if outcome.reason:
        level = logging.WARNING if outcome.result == "failed" else logging.INFO
        level = level if changed else logging.DEBUG
        _log.log(level, "%s: %s", *outcome.reason)
    _log.debug("pass ended: %s", outcome.result, extra={"seconds": round(seconds, 4), "phase": outcome.phase})


async def run_workers(workers: Workers, count: int, ending: asyncio.Event, within: float) -> None:
    """Let workers work until `ending` is set; then give passes under way some seconds to end.

    The next leader takes up what is cut off after that: a pass may be cut off anywhere.
    """
    tasks = [asyncio.create_task(workers.work(), name=f"worker-{number}") for number in range(count)]
    try:
        async with background(workers.poller.run()):
            await ending.wait()
        deadline = workers.clock.now() + within
        while workers.running and workers.clock.now() < deadline:
            await workers.clock.sleep(0.05)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_KEPT = 64
"""Clusters, of some hundred kilobytes each. A whole fleet would be too much to keep."""


class RecentRenders:
    """Render a cluster, or return what it was rendered to a moment ago."""

    def __init__(self, render: Callable[[Cluster], list[Manifest]], kept: int = _KEPT) -> None:
        self._render = render
        self._kept = kept
        self._recent: OrderedDict[tuple[str | bytes, ...], list[Manifest]] = OrderedDict()

    def use(self, render: Callable[[Cluster], list[Manifest]]) -> None:
        """Render by other templates from now on."""
        self._render = render
        self._recent.clear()

    def __call__(self, cluster: Cluster) -> list[Manifest]:
        """Return the manifests of a cluster."""
        metadata = orjson.dumps([cluster.labels, cluster.annotations])
        spec = orjson.dumps(cluster.spec)
        key = (cluster.namespace, cluster.name, cluster.uid or "", cluster.domain, metadata, spec)
        if key not in self._recent:
            self._recent[key] = self._render(cluster)
            if len(self._recent) > self._kept:
                self._recent.popitem(last=False)
        self._recent.move_to_end(key)
        return self._recent[key]
