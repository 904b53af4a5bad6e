"""Looks at something until it is decided: as soon as the objects that it hangs on change, and now and then anyway.

Watches say when to look, and no more: who may not watch, or hangs on something that no watch tells of, gets along with
a look every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from chronik.kube.reflector import KindSelector, Reflector, ReflectorOptions, Sink
from chronik.tasks import ended, first_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from chronik.errors import ChronikError
    from chronik.kube.interface import Kube, Listing, WatchEvent
    from chronik.manifest import Kind, Manifest, ObjectRef

RESYNC = 5.0
"""Seconds between two looks if nothing is heard."""
_CALM = 0.1
"""Seconds in which changes that come together are looked at once."""
_LONGEST_PAUSE = 10.0

T = TypeVar("T")


async def until(  # the clock is for tests
    kube: Kube,
    selectors: Iterable[KindSelector],
    look: Callable[[], Awaitable[T | None]],
    seconds: float,
    *,
    resync: float = RESYNC,
) -> T | None:
    """Return what a look finds, as soon as it finds something; None if it finds nothing for so many seconds.

    `selectors` are what it hangs on. What cannot be watched is no error: it is looked at every `resync` seconds.
    """
    deadline = time.monotonic() + seconds
    if (found := await look()) is not None or seconds <= 0:
        return found
    async with _changes(kube, selectors) as changed:
        while (left := deadline - time.monotonic()) > 0:
            await first_of(changed.wait(), asyncio.sleep(min(left, resync)))
            await asyncio.sleep(min(max(deadline - time.monotonic(), 0.0), _CALM))
            changed.clear()
            if (found := await look()) is not None:
                return found
    return None


def named(kind: Kind, ref: ObjectRef) -> KindSelector:
    """Return what selects one object."""
    return KindSelector(kind, ref.namespace, fields=f"metadata.name={ref.name}", optional=True)


@asynccontextmanager
async def _changes(kube: Kube, selectors: Iterable[KindSelector]) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set whenever something changes, from before the block begins."""
    changed = asyncio.Event()
    options = ReflectorOptions(_LONGEST_PAUSE)
    tasks = [asyncio.create_task(Reflector(kube, each, _Wakes(changed), options).run()) for each in selectors]
    try:
        yield changed
    finally:
        await ended(*tasks)


class _Wakes(Sink):
    """Keeps nothing, and says that something has changed."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed

    def keep(self, manifest: Manifest) -> Manifest:
        return {"metadata": {"name": manifest["metadata"]["name"]}}

    def replace(self, listing: Listing) -> None:
        del listing
        self._changed.set()

    def observe(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK":
            self._changed.set()

    def list_failed(self, error: ChronikError) -> None:
        del error
