"""Templates from a ConfigMap: they are followed, and a change rolls through without a restart.

A set that is broken is never used. The last good one stays, and what is wrong is told until it is mended: in the log,
in a condition of each cluster and by an Event. Without any good set nothing is reconciled, since chronik's own
templates would undo what those of the user made.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.errors import ChronikError, Forbidden, InputError, TemplateError
from chronik.kube.reflector import KindSelector, Reflector, ReflectorOptions, Sink
from chronik.manifest import KIND_BY_NAME
from chronik.offline import loading as offline
from chronik.offline.template_sets import configmap_templates
from chronik.status.assess import describe_error
from chronik.tasks import background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronik.api.spec import Cluster
    from chronik.clock import Clock
    from chronik.kube import Kube, Listing, WatchEvent
    from chronik.manifest import Manifest
    from chronik.offline.template_sets import TemplateSet
    from chronik.operator.cache.cache import Cache

_log = logging.getLogger("chronik.operator")

_LONGEST_PAUSE = 30.0
_KEPT = "The templates from before stay in use."


@dataclass(frozen=True, slots=True)
class TemplatesFrom:
    """Which ConfigMap templates come from."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"ConfigMap/{self.namespace}/{self.name}"


class TemplateFeed(Sink):
    """Follows a ConfigMap of templates. `use` is handed what renders with each good set; `ready`: there has been one.

    `trouble` is what is wrong with the newest set; empty if nothing is.
    """

    def __init__(
        self,
        kube: Kube,
        source: TemplatesFrom,
        cache: Cache,
        use: Callable[[Callable[[Cluster], list[Manifest]]], None],
        clusters: Callable[[], Iterable[Cluster]],
        clock: Clock,
    ) -> None:
        self.trouble = f"{source} has not been read yet"
        self.ready = asyncio.Event()
        self.looked = asyncio.Event()
        self._source, self._cache, self._use, self._clusters = source, cache, use, clusters
        self._clock = clock
        self._texts: dict[str, str] | None = None
        self._news = asyncio.Event()
        self._render: Callable[[Cluster], list[Manifest]] | None = None
        selector = KindSelector(KIND_BY_NAME["ConfigMap"], source.namespace, fields=f"metadata.name={source.name}")
        self._reflector = Reflector(kube, selector, self, ReflectorOptions(_LONGEST_PAUSE, clock=clock))

    async def run(self) -> None:
        """Follow the ConfigMap, until cancelled."""
        async with background(self._reflector.run()):
            while True:
                await self._news.wait()
                self._news.clear()
                await self._take(self._texts)
                self.looked.set()

    def replace(self, listing: Listing) -> None:
        """Take in the ConfigMap, or that there is none."""
        self._note(listing.items[0] if listing.items else None)

    def observe(self, event: WatchEvent) -> None:
        """Take in a change."""
        if event.type != "BOOKMARK":
            self._note(None if event.type == "DELETED" else event.object)

    def list_failed(self, error: ChronikError) -> None:
        """Note that it cannot be read, which is tried again; a server that is away for a while takes nothing away."""
        if self._render is None or isinstance(error, Forbidden):
            self._tell(describe_error(error).message)
        self.looked.set()

    def _note(self, configmap: Manifest | None) -> None:
        data: dict[str, Any] | None = None if configmap is None else configmap.get("data") or {}
        if data != self._texts or data is None or self.trouble:
            self._texts = data
            self._news.set()

    async def _take(self, texts: dict[str, str] | None) -> None:
        """Use a new set, unless it is broken."""
        try:
            found = configmap_templates(self._present(texts), str(self._source))
            render = offline.renderer_of(found)
            await self._try(found, render)
        except InputError as error:
            self._tell(_words(error))
            return
        self._cache.own.want([*self._cache.own.names, *(each.kind for each in found.own)])
        await self._cache.own.wait_settled()  # before anything of a kind is made, it has to be known what there is
        self._cache.own.want(each.kind for each in found.own)
        self._render = render
        self._use(render)
        _log.info("templates of %s are used", self._source, extra={"templates": len(found.names)})
        self.trouble = ""
        self.ready.set()
        self._cache.wake_all()

    def _present(self, texts: dict[str, str] | None) -> dict[str, str]:
        if texts is None:
            hint = "`chronik install --templates DIR --templates-configmap NAMESPACE/NAME` prints it."
            raise InputError("does not exist", subject=str(self._source), hint=hint)
        return texts

    async def _try(self, found: TemplateSet, render: Callable[[Cluster], list[Manifest]]) -> None:
        """Raise InputError if the set cannot be compiled, or breaks a cluster that the set before renders."""
        offline.compile_templates(found)
        if self._render is None:
            return  # what it breaks, no other set has made
        for cluster in self._clusters():
            await asyncio.sleep(0)  # a fleet takes seconds
            try:
                render(cluster)
            except TemplateError:
                if not _is_broken(self._render, cluster):
                    raise
            except ChronikError:
                continue  # the document's own, which its pass tells

    def _tell(self, words: str) -> None:
        told = f"{words} {_KEPT}" if self._render else words
        if told != self.trouble:
            self.trouble = told
            _log.error("templates cannot be used: %s", told)
            self._cache.wake_all()


def _is_broken(render: Callable[[Cluster], list[Manifest]], cluster: Cluster) -> bool:
    try:
        render(cluster)
    except ChronikError:
        return True
    return False


def _words(error: InputError) -> str:
    """Return what is wrong with a set, and for which cluster it was seen."""
    words = describe_error(error).message
    location = error.location if isinstance(error, TemplateError) else None
    where = f"{location.file}: " if location and isinstance(error, TemplateError) else ""
    seen = f" (for {error.rendering})" if isinstance(error, TemplateError) and error.rendering else ""
    return f"{where}{words}{seen}"
