"""Keeps one kind of one namespace, or of all, as the API server has it: lists it, then follows its watch.

This is the Reflector of client-go: where the objects go is up to a `Sink`. Whatever breaks is tried again after a pause
that grows. A list is repeated only if the server has forgotten the watch's version, or refuses the watch.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from chronik.clock import Clock
from chronik.errors import ChronikError, Forbidden, KindMissing, WatchExpired

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from chronik.kube.interface import Kube, Listing, WatchEvent
    from chronik.manifest import Kind, Manifest

FIRST_PAUSE = 0.5
FORBIDDEN_PAUSE = 300.0
"""Seconds until an optional kind that was refused is asked for again."""
HEALTHY_SECONDS = 60.0
"""A watch that lasted so long did not break at once."""


@dataclass(frozen=True, slots=True)
class KindSelector:
    """What to follow: one kind in one namespace (None: in all), by label and field.

    An `optional` kind is left out if it may not be listed or is not installed, and tried again later.
    """

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.kind.plural} in {self.namespace}" if self.namespace else self.kind.plural

    def does_without(self, error: ChronikError) -> bool:
        """Return whether this is optional, and the error says that it cannot be had."""
        return self.optional and isinstance(error, Forbidden | KindMissing)


class Sink(Protocol):
    """Where the objects of one selector go."""

    def keep(self, manifest: Manifest) -> Manifest:
        """Return what to keep of a listed object; this is called with each as its page arrives."""
        return manifest

    def replace(self, listing: Listing) -> None:
        """Replace everything by a list; its items are what `keep` returned."""

    def observe(self, event: WatchEvent) -> None:
        """Put in what the watch said; bookmarks come too."""

    def list_failed(self, error: ChronikError) -> None:
        """Note that a list failed, which is tried again; or that an optional kind was refused."""


@dataclass(frozen=True, slots=True)
class ReflectorOptions:
    """How to go on. `retried` errors are tried again, others end it; pauses grow up to `longest_pause` seconds.

    `missing_pause` is in seconds, too: until an optional kind that is not installed is asked for again. `listing`
    bounds how many list at a time. `on_break` gets the selector of a watch that broke, the version it goes on
    from, and the error; `on_relist` why a list is repeated: `expired`, or the reason of an error.
    """

    longest_pause: float
    retried: tuple[type[ChronikError], ...] = (ChronikError,)
    missing_pause: float = FORBIDDEN_PAUSE
    listing: AbstractAsyncContextManager[Any] = field(default_factory=nullcontext)
    clock: Clock = field(default_factory=Clock)
    on_break: Callable[[KindSelector, str, ChronikError], None] = lambda _selector, _version, _error: None
    on_relist: Callable[[KindSelector, str], None] = lambda _selector, _why: None


class Reflector:
    """Follows one selector. `ready` is set once it has been listed, or is known to be left out.

    `is_refused` says that it is optional, and that the last answer to a list was no; `is_missing`, that its kind is not
    installed. Such a kind is looked for again only while `wanted` is set, as it is at first.
    """

    def __init__(self, kube: Kube, selector: KindSelector, sink: Sink, options: ReflectorOptions) -> None:
        self.selector = selector
        self.ready = asyncio.Event()
        self.is_refused = self.is_missing = False
        self.wanted = asyncio.Event()
        self.wanted.set()
        self._kube = kube
        self._sink = sink
        self._options = options
        self._version = ""  # to watch from; empty: to be listed
        self._failures = 0

    async def run(self) -> None:
        """List, unless that has been done, and watch, until cancelled.

        Raises:
            ChronikError: one that is not to be tried again.
        """
        while True:
            await self._list_until_listed()
            why = await self._watch_until_lost()
            self._version = ""
            self._options.on_relist(self.selector, why)

    async def list(self) -> None:
        """List once; what is optional may be refused.

        Raises:
            ChronikError: it cannot be listed.
        """
        selector = self.selector
        try:
            async with self._options.listing:
                listing = await self._kube.list(
                    selector.kind,
                    selector.namespace,
                    label_selector=selector.labels,
                    field_selector=selector.fields,
                    keep=self._sink.keep,
                )
        except ChronikError as error:
            if not selector.does_without(error):
                raise
            self.is_refused, self.is_missing = True, isinstance(error, KindMissing)
            self._sink.list_failed(error)
        else:
            self.is_refused = self.is_missing = False
            self._version = listing.resource_version
            self._sink.replace(listing)
        self.ready.set()

    async def _list_until_listed(self) -> None:
        failures = self._failures
        if self.is_refused:  # by a list before `run`
            await self._pause()
        while not self._version:
            try:
                await self.list()
            except self._options.retried as error:
                self._sink.list_failed(error)
            if not self._version:
                self._failures += 1
                await self._pause()
            elif self._failures > failures:
                self._failures = 0

    async def _watch_until_lost(self) -> str:
        """Watch for as long as that goes well, and return why to list again."""
        options = self._options
        while True:
            began = options.clock.now()
            try:
                async with aclosing(self._watch()) as events:
                    async for event in events:
                        self._version = event.resource_version
                        self._sink.observe(event)
                        self._failures = 0
            except WatchExpired:
                await self._pause()
                self._failures += 1  # should that happen again before anything comes, there is a pause
                return "expired"
            except (Forbidden, KindMissing) as error:
                if not (self.selector.optional or isinstance(error, options.retried)):
                    raise
                self._failures += 1
                await self._pause()
                return error.reason
            except options.retried as error:
                options.on_break(self.selector, self._version, error)
            lasted = options.clock.now() - began
            self._failures = 0 if lasted >= HEALTHY_SECONDS else self._failures + 1
            await self._pause()

    def _watch(self) -> AsyncGenerator[WatchEvent, None]:
        selector = self.selector
        events = self._kube.watch(
            selector.kind,
            selector.namespace,
            resource_version=self._version,
            label_selector=selector.labels,
            field_selector=selector.fields,
        )
        return cast("AsyncGenerator[WatchEvent, None]", events)  # which has to be closed, for its connection's sake

    async def _pause(self) -> None:
        """Wait: longer with each failure, with jitter; not at all without one."""
        if self.is_missing:
            await self.wanted.wait()
        whole = min(self._options.longest_pause, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        whole = (self._options.missing_pause if self.is_missing else FORBIDDEN_PAUSE) if self.is_refused else whole
        if self._failures or self.is_refused:
            await self._options.clock.sleep(whole * (0.5 + self._options.clock.chance() / 2))
