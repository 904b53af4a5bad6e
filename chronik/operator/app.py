"""The operator: watches, queues, and calls `reconcile` for every cluster that may have changed, for ever.

Caches are warm in every replica; only the one that holds the lease writes: its `Leadership` guards the connection that
all work is done by. What happens in a pass is in `reconcile`; nothing is decided here but when, and by whom.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chronik.apply.executor import Execution
from chronik.clock import timestamp
from chronik.kube import ConnectOptions, connect
from chronik.manifest import CLUSTER, FEDERATION_FEATURE, WorkKey
from chronik.offline import loading as offline
from chronik.operator.analysis.analyst import Analyst
from chronik.operator.cache.cache import BACKUPS, Cache, Selection
from chronik.operator.context import BackupTools, ReconcileContext
from chronik.operator.definition import check_definition, watch_definition
from chronik.operator.lease import LEASE_NAME, Leadership, Terms
from chronik.operator.queue import WorkQueue
from chronik.operator.rendering.rendering import Rendering
from chronik.operator.telemetry.events import Recorder
from chronik.operator.telemetry.metrics import Metrics
from chronik.operator.telemetry.server import Probes, Serving, Watchdog, serving
from chronik.operator.worker import Workers, run_workers
from chronik.tasks import background, first_of
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from chronik.clock import Clock
    from chronik.kube import Kube
    from chronik.manifest import ClusterKey
    from chronik.operator.analysis.prometheus import Prometheus
    from chronik.operator.context import ReconcileResult
    from chronik.operator.rendering.feed import TemplatesFrom

_log = logging.getLogger("chronik.operator")

_DRAIN_WITHIN = 15.0
"""Seconds that passes under way have to end in when the operator is told to stop; its grace period is 30."""
_EVENTS_WITHIN = 2.0
"""Seconds for the last Events to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the operator runs.

    `namespace` and `identity` are the operator's own: where its lease is, and what its process is called. `resync` is
    in seconds. No `host` is all addresses, port 0 any free one. Operators that look
    after different clusters need different leases. Without `elect` it takes for granted that it is alone.
    """

    connect: ConnectOptions = field(default_factory=ConnectOptions)
    selection: Selection = field(default_factory=Selection)
    namespace: str = "default"
    identity: str = ""
    elect: bool = True
    lease: str = LEASE_NAME
    terms: Terms = field(default_factory=Terms)
    workers: int = 16
    resync: float = 60.0
    templates: str | None = None
    backup_image: str = ""
    """Image of the Jobs of backups, where a cluster names none."""
    backup_poll: float = 5.0
    """Seconds between two looks at a backup that is on its way."""
    federation_poll: float = 30.0
    """Seconds between two looks at a member of a federation that is as it should be."""
    templates_from: TemplatesFrom | None = None
    analysis: Prometheus | None = None
    """Where the metrics of canaries are asked for."""
    domain: str = "cluster.local"
    host: str = ""
    health_port: int = 8081
    metrics_port: int = 8080


class Operator:
    """One replica of the operator, from `run` until `stop` is set."""

    def __init__(self, options: Options, metrics: Metrics | None = None) -> None:
        self.options = options
        self.metrics = metrics or Metrics()
        self.stop = asyncio.Event()
        self.serving: Serving | None = None
        self._clock: Clock = options.connect.clock
        self._connection = options.connect
        self._queue = WorkQueue(self._clock)
        self._watchdog = Watchdog(now=self._clock.now)
        self.metrics.watch(depth=lambda: self._queue.depth, oldest=lambda: self._queue.oldest_wait)

    async def run(self) -> None:
        """Reconcile all clusters until `stop` is set; then end what is under way, and give the lease away."""
        async with AsyncExitStack() as stack:
            connection = replace(self.options.connect, on_request=self.metrics.requested)
            leadership = None
            if self.options.elect:  # by a connection of its own: a busy one must not delay a renewal
                leadership = self._candidate(await stack.enter_async_context(connect(connection)))
                connection = replace(connection, guard=leadership)
            kube = await stack.enter_async_context(connect(connection))
            self._connection = connection
            cache = Cache(kube, self.options.selection, wake=self._queue.add, on_relist=self.metrics.relisted)
            rendering = _rendering(self.options, kube, cache)
            probes = Probes(
                live={"workers": self._watchdog.check},
                ready={
                    "caches": lambda: "" if cache.synced else cache.trouble or "not everything has been listed yet",
                    **({"templates": lambda: rendering.missing} if rendering.feed else {}),
                },
            )
            options = self.options
            serving_it = serving(probes, self.metrics, options.health_port, options.metrics_port, options.host)
            self.serving = await stack.enter_async_context(serving_it)
            _log.info("answers probes and gives out metrics", extra=asdict(self.serving))
            await self._either(self._lead(kube, rendering, leadership), rendering.follow())

    async def _either(self, main: Coroutine[Any, Any, None], support: Coroutine[Any, Any, None]) -> None:
        """Run both until the first one ends; a failure of the second one before that is raised."""
        async with background(support) as supporting:
            leading = asyncio.create_task(main)
            await asyncio.wait({leading, supporting}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done() and supporting.exception() is not None:
                leading.cancel()
                await asyncio.gather(leading, return_exceptions=True)
                supporting.result()
            await leading

    def _candidate(self, kube: Kube) -> Leadership:
        options = self.options
        return Leadership(
            kube, namespace=options.namespace, name=options.lease, identity=options.identity, terms=options.terms
        )

    async def _lead(self, kube: Kube, rendering: Rendering, leadership: Leadership | None) -> None:
        """Work whenever this replica may, until it is told to stop."""
        await self._until_stopped(rendering.wait_ready())  # before that, the lease is better with another replica
        if self.stop.is_set():
            return
        if leadership is None:
            self.metrics.leads(yes=True)
            await self._work(kube, rendering, self.stop)
        else:
            await self._either(self._terms(kube, rendering, leadership), leadership.run())

    async def _terms(self, kube: Kube, rendering: Rendering, leadership: Leadership) -> None:
        """Work through one term after another; in the end give the lease away."""
        while not self.stop.is_set():
            await self._until_stopped(leadership.acquired())
            if leadership.holds:
                await self._term(kube, rendering, leadership)
        await leadership.release()

    async def _term(self, kube: Kube, rendering: Rendering, leadership: Leadership) -> None:
        """Work for as long as the lease is held."""
        ending = asyncio.Event()

        async def end() -> None:
            await self._until_stopped(leadership.lost())
            ending.set()

        self.metrics.leads(yes=True)
        async with background(end()):
            await self._work(kube, rendering, ending)
        self.metrics.leads(yes=False)

    async def _work(self, kube: Kube, rendering: Rendering, ending: asyncio.Event) -> None:
        """Pass over all clusters, and then over each whenever it may have changed, until `ending` is set."""
        cache = rendering.cache
        analyst = Analyst(
            self.options.analysis,
            wake=lambda key: workers.wake(key),  # noqa: PLW0108  # they are made below
            now=timestamp,
            count=self.metrics.analysed,
        )
        recorder = Recorder(kube, self.options.identity or "chronik-operator")
        workers = Workers(
            context=replace(
                _context(self.options, kube, rendering, ending),
                announce=lambda cluster, event: recorder.record(cluster, *event),
                analyst=analyst,
            ),
            queue=self._queue,
            metrics=self.metrics,
            clock=self._clock,
            resync=self.options.resync,
            watchdog=self._watchdog,
        )
        self._queue.begin()
        for key in (*map(WorkKey.of, cache.clusters()), *cache.all_backups()):
            self._queue.add(key)
        hub = self._hub(workers.context)
        async with background(recorder.run()), background(watch_definition(kube, self._clock)), analyst, hub:
            _log.info("reconciles %s", counted(len(cache.clusters()), "cluster"))
            await run_workers(workers, self.options.workers, ending, _DRAIN_WITHIN)
            await recorder.flush(_EVENTS_WITHIN)

    def _hub(self, context: ReconcileContext) -> AbstractAsyncContextManager[object]:
        """Return what runs the hub beside the work, if this operator is one."""
        options = self.options
        if FEDERATION_FEATURE not in options.selection.features:
            return nullcontext()
        from chronik.operator.federation.hub import Hub  # noqa: PLC0415  # most operators are no hubs
        from chronik.operator.federation.reconcile import HubTools  # noqa: PLC0415

        tools = HubTools(
            context=context,
            connect=self._connection,
            clock=self._clock,
            metrics=self.metrics,
            poll=options.federation_poll,
        )
        return background(Hub(options.selection, tools).run())

    async def _until_stopped(self, waiting: Awaitable[None]) -> None:
        """Wait for something, or until the operator is told to stop."""
        await first_of(waiting, self.stop.wait())


async def run_once(options: Options) -> list[tuple[ClusterKey, ReconcileResult]]:
    """Pass over every cluster once, and return how each pass ended. No other operator may be at work.

    Raises:
        ChronikError: no ChronikCluster can be seen; what is wrong then does not pass by waiting.
    """
    metrics = Metrics()
    queue = WorkQueue(options.connect.clock)
    async with connect(options.connect) as kube:
        await _look(kube, options.selection)
        await check_definition(kube)
        cache = Cache(kube, options.selection, wake=lambda _key: None)
        rendering = _rendering(options, kube, cache)
        async with background(rendering.follow()):
            await rendering.wait_looked()
            context = _context(options, kube, rendering, stop=asyncio.Event())
            workers = Workers(context=context, queue=queue, metrics=metrics, clock=options.connect.clock)
            return [(key, await _fully(workers, key)) for key in sorted(cache.clusters())]


def _rendering(options: Options, kube: Kube, cache: Cache) -> Rendering:
    source = options.templates_from or options.templates
    return Rendering(kube, cache, source, domain=options.domain, clock=options.connect.clock)


def _context(options: Options, kube: Kube, rendering: Rendering, stop: asyncio.Event) -> ReconcileContext:
    """Return what passes work with until `stop` is set."""
    return ReconcileContext(
        kube=kube,
        cache=rendering.cache,
        validator=offline.validator(),
        render=rendering.render,
        templates_trouble=lambda: rendering.trouble,
        now=timestamp,
        execution=Execution(kube=kube, stop=stop),
        domain=options.domain,
        monotonic=options.connect.clock.now,
        backups=_backup_tools(options),
    )


def _backup_tools(options: Options) -> BackupTools | None:
    """Return what makes the parts of backups, if this operator does that."""
    if BACKUPS not in options.selection.features:
        return None
    render = offline.template_renderer(options.templates)
    return BackupTools(render=render, image=options.backup_image, poll=options.backup_poll)


async def _look(kube: Kube, selection: Selection) -> None:
    """Raise an error if ChronikClusters cannot be read; whether there are any does not matter."""
    for namespace in selection.namespaces or (None,):
        await kube.list(CLUSTER, namespace, field_selector="metadata.name=any")  # none, so that the answer is small


async def _fully(workers: Workers, key: ClusterKey) -> ReconcileResult:
    """Pass over a cluster; a new one takes two passes, because the first one only claims it."""
    while True:
        outcome = await workers.take(key)
        assert outcome is not None, "nothing is known of a cluster that no pass has been over"
        if outcome.result != "claimed":
            return outcome
