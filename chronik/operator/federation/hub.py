"""The hub: follows the ChronikFederations, and runs a task for each. Without the feature, none of this is there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chronik.kube.reflector import KindSelector, Reflector, ReflectorOptions, Sink
from chronik.manifest import FEDERATION, ClusterKey
from chronik.operator.federation.reconcile import FederationTask
from chronik.tasks import task_group

if TYPE_CHECKING:
    import asyncio

    from chronik.errors import ChronikError
    from chronik.kube import Listing, WatchEvent
    from chronik.manifest import Manifest
    from chronik.operator.cache.cache import Selection
    from chronik.operator.federation.reconcile import HubTools

_log = logging.getLogger("chronik.operator.federation")

_LONGEST_PAUSE = 30.0
_MISSING_PAUSE = 15.0
_TICK = 1.0
"""Seconds between two looks at whether a kubeconfig has changed: the caches know, so nothing is asked."""
_AFTER_A_BUG = 5.0


class _Federations(Sink):
    """Where the federations of one selector go."""

    def __init__(self, hub: Hub, namespace: str | None) -> None:
        self._hub = hub
        self._namespace = namespace
        self._complaint = ""

    def replace(self, listing: Listing) -> None:
        self._complaint = ""
        self._hub.replace(self._namespace, listing.items)

    def observe(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK":
            self._hub.observe(event.object, gone=event.type == "DELETED")

    def list_failed(self, error: ChronikError) -> None:
        level = logging.DEBUG if self._complaint == error.message else logging.WARNING
        self._complaint = error.message
        _log.log(level, "federations cannot be listed: %s", error.message)


class Hub:
    """All federations that are selected, for as long as `run` runs."""

    def __init__(self, selection: Selection, tools: HubTools) -> None:
        self._selection = selection
        self._tools = tools
        self._federations: dict[ClusterKey, FederationTask] = {}
        self._running: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow the federations until cancelled; a bug costs some seconds."""
        while True:
            try:
                await self._run()
            except Exception:  # noqa: BLE001  # clusters have to be looked after all the same
                _log.exception("a bug in chronik stopped the hub; please report it")
                await self._tools.clock.sleep(_AFTER_A_BUG)

    async def _run(self) -> None:
        options = ReflectorOptions(_LONGEST_PAUSE, missing_pause=_MISSING_PAUSE, clock=self._tools.clock)
        self._federations.clear()
        async with task_group() as tasks:
            self._running = tasks
            for namespace in dict.fromkeys(self._selection.namespaces) or (None,):
                selector = KindSelector(FEDERATION, namespace, self._selection.selector, optional=True)
                sink = _Federations(self, namespace)
                reflector = Reflector(self._tools.context.kube, selector, sink, options)
                tasks.create_task(reflector.run(), name=f"watch {selector}")
            tasks.create_task(self._tick(), name="look for new kubeconfigs")

    def replace(self, namespace: str | None, documents: list[Manifest]) -> None:
        """Take in all federations of a namespace, or of all."""
        there = {ClusterKey.of(each) for each in documents}
        for document in documents:
            self.observe(document, gone=False)
        for key, task in list(self._federations.items()):
            if key not in there and namespace in {None, key.namespace}:
                task.observe(None)

    def observe(self, document: Manifest, *, gone: bool) -> None:
        """Take in one federation."""
        key = ClusterKey.of(document)
        task = self._federations.get(key)
        if task is None and not gone:
            assert self._running is not None, "what is observed comes from a watch of this hub"
            task = self._federations[key] = FederationTask(key, self._tools)
            self._running.create_task(self._work(task), name=f"federation {key}")
        if task is not None:
            task.observe(None if gone else document)

    async def _work(self, task: FederationTask) -> None:
        try:
            await task.run()
        finally:
            if self._federations.get(task.key) is task:
                del self._federations[task.key]

    async def _tick(self) -> None:
        while True:
            await self._tools.clock.sleep(_TICK)
            for task in list(self._federations.values()):
                task.check_secrets()
