"""Keeps a live copy of a few kinds of objects by list and watch, for as long as a command looks on.

`wait` and `cli_status` ask it what is there and wait for the next change; nothing is polled. The operator's caches are
another thing: they live for ever and hold a whole fleet.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik.clock import Clock
from chronik.errors import Forbidden, KindMissing, ServerBusy, ServerFailure, Unreachable, WatchExpired
from chronik.kube.retry import RetryPolicy
from chronik.manifest import ObjectRef
from chronik.tasks import ended, first_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from chronik.kube.interface import Kube
    from chronik.manifest import Kind, Manifest

_PAUSES = RetryPolicy(first=0.5, longest=10.0)
_PASSING = (Unreachable, ServerBusy, ServerFailure)


@dataclass(frozen=True, slots=True)
class KindSelector:
    """What to look at: one kind in one namespace (None: in all), by label.

    What is `optional` counts as empty if it may not be read or is not installed: a picture without it is still true.
    """

    kind: Kind
    namespace: str | None
    selector: str = ""
    optional: bool = False


class Informer:
    """The objects of some scopes, as they are now; see `informer`. `unknown` are kinds that are not installed."""

    def __init__(self, kube: Kube, scopes: Iterable[KindSelector], clock: Clock | None = None) -> None:
        self._kube = kube
        self._clock = clock or Clock()
        self._held: dict[KindSelector, dict[ObjectRef, Manifest]] = {scope: {} for scope in scopes}
        self._changed = asyncio.Event()
        self._versions: dict[KindSelector, str] = {}
        self._following: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self.unknown: set[Kind] = set()

    @property
    def objects(self) -> Mapping[ObjectRef, Manifest]:
        """All objects by reference."""
        return {ref: manifest for held in self._held.values() for ref, manifest in held.items()}

    def of(self, kind: Kind) -> list[Manifest]:
        """Return the objects of a kind."""
        return [manifest for scope, held in self._held.items() if scope.kind is kind for manifest in _in_order(held)]

    async def read(self) -> None:
        """Read all scopes once.

        Raises:
            ApiError: a scope that is not optional cannot be read.
        """
        versions = await asyncio.gather(*map(self._load, self._held))
        found = zip(self._held, versions, strict=True)
        self._versions = {scope: version for scope, version in found if version is not None}

    async def change(self, seconds: float) -> bool:
        """Wait for a change since the last call, or since all was read; return False if none came within `seconds`.

        The first call starts to watch: who has seen enough by then opens no connection for it.

        Raises:
            ApiError: a scope that is not optional cannot be watched any more.
        """
        if self._following is None:
            self._following = asyncio.ensure_future(self._follow_all())
            self._following.add_done_callback(self._ended)
        await first_of(self._changed.wait(), self._clock.sleep(seconds))
        if self._failure:
            raise self._failure
        came = self._changed.is_set()
        self._changed.clear()
        return came

    async def close(self) -> None:
        """Watch no longer."""
        if self._following is not None:
            await ended(self._following)

    async def _follow_all(self) -> None:
        tasks = [asyncio.ensure_future(self._follow(scope, version)) for scope, version in self._versions.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            await ended(*tasks)

    async def _load(self, scope: KindSelector) -> str | None:
        """Read a scope, and return the version to watch from; None if there is nothing to watch."""
        try:
            listing = await self._kube.list(scope.kind, scope.namespace, label_selector=scope.selector)
        except (Forbidden, KindMissing) as error:
            if not scope.optional:
                raise
            if isinstance(error, KindMissing):
                self.unknown.add(scope.kind)
            return None
        self._held[scope] = {ObjectRef.of(manifest): manifest for manifest in listing.items}
        return listing.resource_version

    async def _follow(self, scope: KindSelector, version: str | None) -> None:
        """Watch one scope; go on where a watch broke, and read anew what the server has forgotten."""
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self._load(scope)
                    self._changed.set()
                if version is None:
                    return
                async for event in self._kube.watch(
                    scope.kind, scope.namespace, resource_version=version, label_selector=scope.selector
                ):
                    version, failures = event.resource_version, 0
                    self._note(scope, event.type, event.object)
                await self._clock.sleep(_PAUSES.pause(0, self._clock.chance()))
            except WatchExpired:
                version = None
            except _PASSING:
                await self._clock.sleep(_PAUSES.pause(failures, self._clock.chance()))
                failures += 1
            except (Forbidden, KindMissing):
                if not scope.optional:
                    raise
                self._held[scope] = {}
                self._changed.set()
                return

    def _note(self, scope: KindSelector, change: str, manifest: Manifest) -> None:
        if change == "BOOKMARK":
            return
        ref = ObjectRef.of(manifest)
        if change == "DELETED":
            self._held[scope].pop(ref, None)
        else:
            self._held[scope][ref] = manifest
        self._changed.set()

    def _ended(self, following: asyncio.Future[None]) -> None:
        """Take note that nothing follows the server any more, so that whoever waits for a change learns why."""
        if not following.cancelled():
            self._failure = following.exception()
            self._changed.set()


@asynccontextmanager
async def informer(kube: Kube, scopes: Sequence[KindSelector], clock: Clock | None = None) -> AsyncIterator[Informer]:
    """Give a mirror of some scopes that has been read, and follows the server as long as the block lasts.

    Raises:
        ApiError: a scope that is not optional cannot be read.
    """
    held = Informer(kube, scopes, clock)
    await held.read()
    try:
        yield held
    finally:
        await held.close()


def _in_order(held: Mapping[ObjectRef, Manifest]) -> Iterator[Manifest]:
    return (held[ref] for ref in sorted(held))
