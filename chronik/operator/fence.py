"""The fence: an API server that only the leader can write to.

`operator` gives a `Fenced` to everything that reconciles, so that no code path can forget to ask who leads.
`operator_lease` keeps its `Writes`, to end them in time.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from chronik.errors import ApiError
from chronik.manifest import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chronik.kube import Kube, Listing, Propagation, WatchEvent
    from chronik.manifest import Kind, Manifest, ObjectRef
    from chronik.operator.lease import Leadership


class NotLeading(ApiError):
    """A write that was not sent, or was cut off, because another operator may be the one to write now."""

    reason = "NotLeading"
    retry_class = "transient"


class CutOff(Exception):
    """A block of `Writes.bounded` did not end in time."""


class Writes:
    """What is being written now, and until when it may take."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def bounded(self, seconds: float) -> AsyncIterator[None]:
        """Let the block take so many seconds, or as many as `bound` says meanwhile.

        Raises:
            CutOff: it took longer.
        """
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                self._limits.add(limit)
                self._idle.clear()
                yield
        except TimeoutError as error:
            if limit.expired():
                raise CutOff from error
            raise
        finally:
            self._limits.discard(limit)
            if not self._limits:
                self._idle.set()

    def bound(self, seconds: float) -> None:
        """Let everything that is being written take so many seconds from now; earlier limits no longer count."""
        when = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(when)

    async def drain(self, grace: float) -> bool:
        """Wait until nothing is being written; say whether all of it ended by itself within `grace` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        clean = self._idle.is_set()
        self.bound(0.0)
        await self._idle.wait()
        return clean


class Fenced:
    """A `Kube` that reads freely, and writes as long as the leadership holds.

    Every write may raise NotLeading on top of what `Kube` raises; if it was cut off, it may have been done. Dry runs
    count as reads.
    """

    def __init__(self, kube: Kube, leadership: Leadership) -> None:
        self._kube = kube
        self._leadership = leadership

    @property
    def namespace(self) -> str:
        """The namespace to use where none is given."""
        return self._kube.namespace

    async def version(self) -> dict[str, Any]:
        """Return the server's version."""
        return await self._kube.version()

    async def kind(self, api_version: str, name: str) -> Kind:
        """Return how the server names a kind."""
        return await self._kube.kind(api_version, name)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None."""
        return await self._kube.get(kind, namespace, name)

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        keep: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    ) -> Listing:
        """Return all objects."""
        return await self._kube.list(
            kind, namespace, label_selector=label_selector, field_selector=field_selector, keep=keep
        )

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after a resource version."""
        selectors = {"label_selector": label_selector, "field_selector": field_selector}
        return self._kube.watch(kind, namespace, resource_version=resource_version, **selectors)

    async def apply(
        self,
        manifest: Manifest,
        *,
        manager: str = FIELD_MANAGER,
        force: bool = False,
        dry_run: bool = False,
        subresource: str = "",
    ) -> Manifest:
        """Apply a manifest as the leader."""
        options: dict[str, Any] = {"manager": manager, "force": force, "subresource": subresource}
        async with nullcontext() if dry_run else self._leadership.writing():
            return await self._kube.apply(manifest, dry_run=dry_run, **options)

    async def merge(self, kind: Kind, ref: ObjectRef, patch: Manifest) -> Manifest:
        """Merge a patch into an object as the leader."""
        async with self._leadership.writing():
            return await self._kube.merge(kind, ref, patch)

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object as the leader."""
        async with self._leadership.writing():
            return await self._kube.create(manifest)

    async def delete(
        self,
        kind: Kind,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
        dry_run: bool = False,
    ) -> None:
        """Delete an object as the leader."""
        options: dict[str, Any] = {"uid": uid, "resource_version": resource_version, "propagation": propagation}
        async with nullcontext() if dry_run else self._leadership.writing():
            await self._kube.delete(kind, ref, dry_run=dry_run, **options)
