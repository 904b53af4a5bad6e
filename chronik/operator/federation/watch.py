"""Follows one member's ChronikCluster, so that what happens there is looked at at once, and not at the next poll.

One connection a member. Where a watch is refused, or breaks, the member is polled all the same: it is never missed.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from chronik.errors import ChronikError, Forbidden
from chronik.manifest import CLUSTER
from chronik.tasks import ended

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from chronik.clock import Clock
    from chronik.kube import Kube, WatchEvent
    from chronik.manifest import ClusterKey, Manifest

_AT_MOST_EVERY = 10.0
"""Seconds between two beginnings of a watch: some proxies cut each one at once."""
_REFUSED_PAUSE = 300.0
"""Seconds until a watch that was refused is tried again: rights are given by people."""


class MemberWatch:
    """The watch of one member. `changed` is called when something happens there, and when the watch breaks."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._of: tuple[Kube, ClusterKey] | None = None
        self._known = ""
        self._heard = False
        self._not_before = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether changes are told as they come: it has told of something, so nothing on the way holds it back."""
        return self._heard and self._runs

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    async def follow(self, kube: Kube, place: ClusterKey, live: Manifest | None) -> None:
        """Watch a ChronikCluster from now on, if it is not watched yet; `live` is how it was found: that is no news."""
        self._known = live["metadata"]["resourceVersion"] if live is not None else ""
        same = self._of is not None and self._of[0] is kube and self._of[1] == place
        if same and (self._runs or self._clock.now() < self._not_before):
            return
        await self.close()
        self._of, self._heard = (kube, place), False
        self._not_before = self._clock.now() + _AT_MOST_EVERY
        self._task = asyncio.create_task(self._run(kube, place), name=f"watch {place}")

    async def close(self) -> None:
        """End the watch."""
        task, self._task, self._of = self._task, None, None
        if task is not None:
            await ended(task)

    async def _run(self, kube: Kube, place: ClusterKey) -> None:
        try:
            # Without a version it begins with what is there, so none is too old.
            watch = kube.watch(
                CLUSTER, place.namespace, resource_version="", field_selector=f"metadata.name={place.name}"
            )
            async with aclosing(cast("AsyncGenerator[WatchEvent, Any]", watch)) as events:
                async for event in events:
                    self._heard = True
                    if event.type != "BOOKMARK" and event.resource_version != self._known:
                        self._changed()
        except Forbidden:
            self._not_before = self._clock.now() + _REFUSED_PAUSE
            return
        except ChronikError:
            pass  # the look that follows finds out, and tells
        self._changed()
