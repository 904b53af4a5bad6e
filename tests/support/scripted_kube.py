"""A `Kube` without a server, for tests of caches: changes in order, and watches that break when told to."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from chronik.errors import Unreachable, WatchExpired
from chronik.kube import Listing, WatchEvent
from chronik.manifest import ObjectRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from chronik.manifest import Kind, Manifest

Change = tuple[int, str, "Manifest"]


class ScriptedKube:
    """Objects by reference, and what happened to them; lists take some turns of the loop, as watches do to start."""

    def __init__(self) -> None:
        self.objects: dict[ObjectRef, Manifest] = {}
        self.version = 100
        self.lists: list[str] = []
        self.watched_from: list[tuple[str, int]] = []
        self._oldest = 100
        self._history: list[Change] = []
        self._watches: list[asyncio.Queue[Change | Exception | None]] = []
        self._uids = 0

    def put(self, manifest: Manifest) -> Manifest:
        """Create or replace an object, and return it as it is then."""
        ref = ObjectRef.of(manifest)
        known = self.objects.get(ref)
        self.version += 1
        self._uids += known is None
        uid = known["metadata"]["uid"] if known else f"uid-{self._uids}"
        stored = deepcopy(manifest)
        stored["metadata"] |= {"uid": uid, "resourceVersion": str(self.version)}
        self.objects[ref] = stored
        self._tell("MODIFIED" if known else "ADDED", stored)
        return deepcopy(stored)

    def drop(self, ref: ObjectRef) -> str:
        """Delete an object, and return its uid."""
        last = self.objects.pop(ref)
        self.version += 1
        last["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", last)
        return last["metadata"]["uid"]

    def cut(self, ending: Exception | None) -> None:
        """End all watches, well or with an error, after what has happened so far."""
        for watch in self._watches:
            watch.put_nowait(ending)

    def break_off(self) -> None:
        """Break all watches."""
        self.cut(Unreachable("the connection broke"))

    def compact(self) -> None:
        """Forget the past: no watch can go on from before now."""
        self._oldest = self.version
        self._history.clear()

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        keep: Callable[[Manifest], Any] = lambda manifest: manifest,
        **_: str,
    ) -> Listing:
        """Return all objects of a kind as they were when this was asked."""
        self.lists.append(kind.name)
        await asyncio.sleep(0)
        found = Listing([keep(deepcopy(each)) for each in self._of(kind, namespace)], str(self.version))
        for _turn in range(3):
            await asyncio.sleep(0)
        return found

    async def watch(
        self, kind: Kind, namespace: str | None, *, resource_version: str, **_: str
    ) -> AsyncIterator[WatchEvent]:
        """Yield what happened since a version, and what happens, until told to end."""
        self.watched_from.append((kind.name, int(resource_version)))
        await asyncio.sleep(0)
        if int(resource_version) < self._oldest:
            raise WatchExpired("too old resource version")
        news: asyncio.Queue[Change | Exception | None] = asyncio.Queue()
        for change in self._history:
            if change[0] > int(resource_version):
                news.put_nowait(change)
        self._watches.append(news)
        try:
            while (change := await news.get()) is not None:
                if isinstance(change, Exception):
                    raise change
                version, verb, manifest = change
                if manifest["kind"] == kind.name and namespace in {None, manifest["metadata"].get("namespace")}:
                    yield WatchEvent(verb, deepcopy(manifest))  # type: ignore[arg-type]  # verbs are as they have to be
                elif version % 5 == 0:
                    yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})
        finally:
            self._watches.remove(news)

    def _of(self, kind: Kind, namespace: str | None) -> Iterator[Manifest]:
        for ref, manifest in self.objects.items():
            if ref.kind == kind.name and namespace in {None, ref.namespace}:
                yield manifest

    def _tell(self, verb: str, manifest: Manifest) -> None:
        change = (self.version, verb, deepcopy(manifest))
        self._history.append(change)
        for watch in self._watches:
            watch.put_nowait(change)
