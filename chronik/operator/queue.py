"""Which document is worked on next: one entry for each, however often it is asked for, and pauses after failures.

Most are clusters, and all are called so here; backups queue up among them. No cluster is worked on twice at the same
time; what is added while it is worked on is worked on again afterwards. First come, first served, so that one busy
cluster never holds up another.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chronik.clock import Clock
    from chronik.errors import RetryClass
    from chronik.manifest import WorkKey

RETRY_SECONDS: dict[RetryClass, tuple[float, float]] = {
    "transient": (30.0, 60.0),
    "permanent": (300.0, 600.0),
    "unknown": (110.0, 130.0),
}
"""How long to wait after a failure: statements S13 to S15."""

_SPREAD = 0.25  # the part of such a span that is left to chance


class WorkQueue:
    """Clusters to work on, and those that wait. For one event loop; nothing but `get` ever waits.

    A cluster waits for one thing at a time; adding it ends the wait.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: OrderedDict[WorkKey, float] = OrderedDict()  # whose first is found at once, unlike a dict's
        self._working: set[WorkKey] = set()
        self._again: set[WorkKey] = set()
        self._due: dict[WorkKey, float] = {}
        self._heap: list[tuple[float, int, WorkKey]] = []
        self._serial = count()
        self._failures: dict[WorkKey, tuple[RetryClass, int]] = {}
        self._timer: asyncio.Task[None] | None = None
        self._timer_due = 0.0
        self._filled = asyncio.Event()

    @property
    def depth(self) -> int:
        """How many clusters are ready to be worked on, and are not."""
        return len(self._ready)

    @property
    def oldest_wait(self) -> float:
        """How many seconds the first in the queue has been ready."""
        return self._clock.now() - next(iter(self._ready.values())) if self._ready else 0.0

    def begin(self) -> None:
        """Count from now on how long clusters have been ready: until now, no worker was there."""
        self._ready = OrderedDict.fromkeys(self._ready, self._clock.now())

    def add(self, key: WorkKey) -> None:
        """Have a cluster worked on as soon as it is its turn, whatever it waits for."""
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._clock.now()
            self._filled.set()

    def add_after(self, key: WorkKey, seconds: float) -> None:
        """Requeue a cluster in so many seconds, unless it is due earlier already."""
        due = self._clock.now() + seconds
        if seconds <= 0:
            self.add(key)
        elif due < self._due.get(key, float("inf")):
            self._schedule(key, due)

    def retry(self, key: WorkKey, retry_class: RetryClass) -> float:
        """Requeue a cluster that failed, later each time, and return in how many seconds.

        What was added since it was taken comes first: that may be what it failed for.
        """
        last, failures = self._failures.get(key, (retry_class, 0))
        failures = failures + 1 if last == retry_class else 1
        self._failures[key] = retry_class, failures
        shortest, longest = RETRY_SECONDS[retry_class]
        growth = (1 - _SPREAD) * (1 - 0.5 ** (failures - 1))
        seconds = shortest + (longest - shortest) * (growth + _SPREAD * self._clock.chance())
        self._schedule(key, self._clock.now() + seconds)
        return seconds

    def forget(self, key: WorkKey) -> None:
        """Forget the failures of a cluster: it succeeded, or is no more."""
        self._failures.pop(key, None)

    async def get(self) -> WorkKey:
        """Wait for the next cluster and return it; `done` has to follow."""
        while not self._ready:
            self._filled.clear()
            await self._filled.wait()
        key, _ = self._ready.popitem(last=False)
        self._working.add(key)
        return key

    def done(self, key: WorkKey) -> None:
        """Say that a cluster is no longer worked on; if it was added meanwhile, it queues up again."""
        self._working.discard(key)
        if key in self._again:
            self._again.remove(key)
            self.add(key)

    def _schedule(self, key: WorkKey, due: float) -> None:
        self._due[key] = due
        if len(self._heap) > 2 * len(self._due) + 64:  # most entries are of waits that were cut short
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due, next(self._serial), key))
        self._wind()

    def _wind(self) -> None:
        """Have the timer go off when the first wait ends."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._timer is not None and self._timer_due <= first:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = first
        self._timer = asyncio.create_task(self._ring(first), name="work queue's timer")

    async def _ring(self, due: float) -> None:
        await self._clock.sleep(max(0.0, due - self._clock.now()))
        self._timer = None
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                self.add(key)
        self._wind()
