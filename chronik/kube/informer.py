"""Holds what there is of a few kinds, for as long as a command watches: a Reflector each, with a dict as its store.

It says what is there, and waits for the next change; nothing is polled.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chronik.clock import Clock
from chronik.errors import Forbidden, KindMissing, ServerBusy, ServerFailure, Unreachable
from chronik.kube.reflector import Reflector, ReflectorOptions, Sink
from chronik.manifest import ObjectRef
from chronik.tasks import ended, first_of, gathered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from chronik.errors import ChronikError
    from chronik.kube.interface import Kube, Listing, WatchEvent
    from chronik.kube.reflector import KindSelector
    from chronik.manifest import Kind, Manifest

_LONGEST_PAUSE = 10.0  # seconds: a person waits
_PASSING = (Unreachable, ServerBusy, ServerFailure)


class _Objects(Sink):
    """The objects of one selector, by reference."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self.objects: dict[ObjectRef, Manifest] = {}
        self.is_installed = True

    def replace(self, listing: Listing) -> None:
        self.objects, self.is_installed = {ObjectRef.of(manifest): manifest for manifest in listing.items}, True
        self._changed.set()

    def observe(self, event: WatchEvent) -> None:
        if event.type == "BOOKMARK":
            return
        ref = ObjectRef.of(event.object)
        if event.type == "DELETED":
            self.objects.pop(ref, None)
        else:
            self.objects[ref] = event.object
        self._changed.set()

    def list_failed(self, error: ChronikError) -> None:
        if isinstance(error, Forbidden | KindMissing):
            self.objects, self.is_installed = {}, isinstance(error, Forbidden)
            self._changed.set()


class Informer:
    """The objects of some selectors, as they are now; see `informer`."""

    def __init__(self, kube: Kube, selectors: Iterable[KindSelector], clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._changed = asyncio.Event()
        self._kube = kube
        self._held: dict[KindSelector, _Objects] = {}
        self._reflectors: list[Reflector] = []
        self._first = len(self._add(selectors))
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def objects(self) -> Mapping[ObjectRef, Manifest]:
        """All objects by reference."""
        return {ref: manifest for held in self._held.values() for ref, manifest in held.objects.items()}

    @property
    def unknown(self) -> set[Kind]:
        """The kinds that are not installed."""
        return {selector.kind for selector, held in self._held.items() if not held.is_installed}

    def of(self, kind: Kind) -> list[Manifest]:
        """Return the objects of a kind, those of a selector by name."""
        found = [held.objects for selector, held in self._held.items() if selector.kind is kind]
        return [objects[ref] for objects in found for ref in sorted(objects)]

    @property
    def extended(self) -> list[Manifest]:
        """The objects of the selectors that came later, sorted by reference."""
        later = {ref: each for held in [*self._held.values()][self._first :] for ref, each in held.objects.items()}
        return [later[ref] for ref in sorted(later)]

    async def extend(self, selectors: Iterable[KindSelector]) -> None:
        """Read the objects of more selectors, before anything is watched.

        Raises:
            ApiError: a kind that is not optional cannot be read.
        """
        assert not self._tasks, "what is watched already stays as it is"
        await gathered(*(each.list() for each in self._add(selectors)))
        self._changed.clear()

    def _add(self, selectors: Iterable[KindSelector]) -> list[Reflector]:
        options = ReflectorOptions(_LONGEST_PAUSE, _PASSING, clock=self._clock)
        held = {selector: _Objects(self._changed) for selector in selectors}
        self._held |= held
        added = [Reflector(self._kube, selector, objects, options) for selector, objects in held.items()]
        self._reflectors += added
        return added

    async def read(self) -> None:
        """Read everything once.

        Raises:
            ApiError: a kind that is not optional cannot be read.
        """
        await gathered(*(each.list() for each in self._reflectors))
        self._changed.clear()

    async def change(self, seconds: float) -> bool:
        """Wait for a change since the last call, or since all was read; return False if none came within `seconds`.

        The first call starts to watch: without one, no connection is opened for it.

        Raises:
            ApiError: a kind that is not optional cannot be watched any more.
        """
        if not self._tasks:
            self._tasks = [asyncio.create_task(each.run()) for each in self._reflectors]
            for task in self._tasks:
                task.add_done_callback(lambda _: self._changed.set())  # it ends by an error, which is raised below
        await first_of(self._changed.wait(), self._clock.sleep(seconds))
        for task in self._tasks:
            if task.done():
                task.result()
        came = self._changed.is_set()
        self._changed.clear()
        return came

    async def close(self) -> None:
        """Watch no longer."""
        await ended(*self._tasks)


@asynccontextmanager
async def informer(
    kube: Kube, selectors: Iterable[KindSelector], clock: Clock | None = None
) -> AsyncIterator[Informer]:
    """Give the objects of some selectors: they have been read, and follow the server as long as the block lasts.

    Raises:
        ApiError: a kind that is not optional cannot be read.
    """
    held = Informer(kube, selectors, clock)
    await held.read()
    try:
        yield held
    finally:
        await held.close()
