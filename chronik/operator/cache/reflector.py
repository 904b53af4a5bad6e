"""Keeps one kind of one namespace, or of all, as the API server has it: lists it, then follows its watch.

`operator_cache` runs one `Reflector` for each. Whatever breaks is tried again after a pause that grows; a list is
repeated only when the server says that the watch's version is too old, or when it has taken the kind away meanwhile.
KindSelector: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from chronik.errors import ChronikError, Forbidden, KindMissing, NamespaceMissing, WatchExpired
from chronik.manifest import ObjectRef
from chronik.status.assess import describe_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from chronik.clock import Clock
    from chronik.kube import Kube, Listing, WatchEvent
    from chronik.manifest import Kind
    from chronik.operator.cache.packing import Packer
    from chronik.operator.cache.store import Store

LOG = logging.getLogger("chronik.operator.cache")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
FORBIDDEN_PAUSE = 300.0
"""Seconds until a kind that we do without is asked for again."""
HEALTHY_SECONDS = 60.0
"""A watch that lasted so long was none that breaks at once."""


@dataclass(frozen=True, slots=True)
class KindSelector:
    """What to follow; an `optional` kind is done without if access control says no."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.kind.plural} in {self.namespace}" if self.namespace else self.kind.plural


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What all reflectors share. `listing` bounds how many list at a time: a page takes some 20 MB to read."""

    kube: Kube
    store: Store
    clock: Clock
    listing: asyncio.Semaphore
    on_relist: Callable[[str, str], None]


class Reflector:
    """Follows one source for ever; `ready` is set once it has been listed, or is known to be out of reach."""

    def __init__(self, source: KindSelector, upkeep: Upkeep, packer: Packer) -> None:
        self.source = source
        self.ready = asyncio.Event()
        self._upkeep = upkeep
        self._packer = packer
        self._selection = (source.kind.name, source.namespace)
        self._failures = 0
        self.trouble = ""  # why it cannot be listed, in words
        self._trouble: type[ChronikError] | None = None

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            version = await self._listed()
            why = await self._followed(version)
            LOG.info("%s are listed again: %s", self.source, why)
            self._upkeep.on_relist(self.source.kind.name, why)

    async def _listed(self) -> str:
        """List until that succeeds, and return the version to go on from."""
        while True:
            await self._pause()
            try:
                listing = await self._list()
            except NamespaceMissing:
                self._upkeep.store.replace(self._selection, {}, None)
                self.ready.set()
                self._failures += 1
            except ChronikError as error:
                self._missed(error)
            else:
                return self._replaced(listing)

    async def _list(self) -> Listing:
        source = self.source
        async with self._upkeep.listing:
            return await self._upkeep.kube.list(
                source.kind,
                source.namespace,
                label_selector=source.labels,
                field_selector=source.fields,
                keep=lambda manifest: {"ref": ObjectRef.of(manifest), "record": self._packer.pack(manifest)},
            )

    def _replaced(self, listing: Listing) -> str:
        records = {item["ref"]: item["record"] for item in listing.items}
        self._upkeep.store.replace(self._selection, records, int(listing.resource_version))
        if self._trouble is not None:
            LOG.info("%s can be listed again", self.source)
            self._trouble, self._failures = None, 0
        self.trouble = ""
        self.ready.set()
        return listing.resource_version

    async def _followed(self, version: str) -> str:
        """Watch for as long as that goes well, and return why to list again."""
        while True:
            began = self._upkeep.clock.now()
            try:
                async with aclosing(self._watch(version)) as events:
                    async for event in events:
                        version = event.resource_version
                        self._take(event)
                        self._failures = 0
            except WatchExpired:
                self._failures += 1  # should that happen again before anything comes, the pause is longer
                return "expired"
            except (Forbidden, KindMissing, NamespaceMissing) as error:
                self._failures += 1
                return error.reason
            except ChronikError as error:
                LOG.info("the watch of %s broke, and goes on from version %s: %s", self.source, version, error.message)
            lasted = self._upkeep.clock.now() - began
            self._failures = 0 if lasted >= HEALTHY_SECONDS else self._failures + 1
            await self._pause()

    def _watch(self, version: str) -> AsyncGenerator[WatchEvent, None]:
        source = self.source
        events = self._upkeep.kube.watch(
            source.kind,
            source.namespace,
            resource_version=version,
            label_selector=source.labels,
            field_selector=source.fields,
        )
        return cast("AsyncGenerator[WatchEvent, None]", events)  # which has to be closed, for its connection's sake

    def _take(self, event: WatchEvent) -> None:
        store, version = self._upkeep.store, int(event.resource_version)
        if event.type == "DELETED":
            store.remove(ObjectRef.of(event.object), event.object["metadata"]["uid"], version)
        elif event.type != "BOOKMARK" and store.is_stale(ref := ObjectRef.of(event.object), version):
            store.take(ref, self._packer.pack(event.object))
        store.reached(self._selection, version)

    def _missed(self, error: ChronikError) -> None:
        """Make a note of a list that failed; the same trouble is told once."""
        self._failures += 1
        _, words = describe_error(error)
        self.trouble = f"{self.source} cannot be listed: {words}"
        if type(error) is not self._trouble:
            self._trouble = type(error)
            if self._is_done_without:
                LOG.warning("%s cannot be listed, and are done without: %s", self.source, words)
            else:
                LOG.error("%s cannot be listed, and are waited for: %s", self.source, words)
        if self._is_done_without:
            self.ready.set()

    @property
    def is_allowed(self) -> bool:
        """Whether what is known can be relied on; not so if access control has said no the last time."""
        return self.ready.is_set() and not self._is_done_without

    @property
    def _is_done_without(self) -> bool:
        return self.source.optional and self._trouble is Forbidden

    async def _pause(self) -> None:
        """Wait, longer with each failure and never quite as long as the others do; not at all after none."""
        if self._failures:
            whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
            whole = FORBIDDEN_PAUSE if self._is_done_without else whole
            await self._upkeep.clock.sleep(whole * (0.5 + self._upkeep.clock.chance() / 2))
