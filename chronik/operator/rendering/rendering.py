"""Chronik's templates, or a folder's, or a ConfigMap's: what passes render with, and whether they may begin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chronik.errors import InputError
from chronik.offline import loading as offline
from chronik.offline.template_sets import template_set
from chronik.operator.rendering.feed import TemplateFeed, TemplatesFrom
from chronik.operator.worker import RecentRenders
from chronik.tasks import first_of, task_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.api.spec import Cluster
    from chronik.clock import Clock
    from chronik.kube import Kube
    from chronik.operator.cache.cache import Cache


class Rendering:
    """What clusters are rendered with, kept up to date beside the caches if it comes from a ConfigMap."""

    def __init__(
        self, kube: Kube, cache: Cache, source: str | TemplatesFrom | None, *, domain: str, clock: Clock
    ) -> None:
        """Render with a folder's templates, a ConfigMap's, or chronik's own; `domain` is the DNS domain of clusters."""
        self.cache = cache
        self.feed: TemplateFeed | None = None
        self._domain = domain
        if not isinstance(source, TemplatesFrom):
            templates = template_set(source)
            cache.own.want(each.kind for each in templates.own)
            self.render = RecentRenders(offline.renderer_of(templates) if templates.names else offline.renderer())
            return
        self.render = RecentRenders(offline.renderer())  # of no use before the first good set, which is waited for
        self.feed = TemplateFeed(kube, source, cache, self.render.use, self._clusters, clock)

    @property
    def missing(self) -> str:
        """Why nothing can be rendered yet; empty if it can."""
        return self.feed.trouble if self.feed and not self.feed.ready.is_set() else ""

    @property
    def trouble(self) -> str:
        """What is wrong with the newest templates."""
        return self.feed.trouble if self.feed else ""

    async def follow(self) -> None:
        """Keep the caches and the templates as the server has them, until cancelled."""
        if self.feed is None:
            await self.cache.run()
            return
        async with task_group() as tasks:
            tasks.create_task(self.cache.run())
            tasks.create_task(self.feed.run())

    async def wait_ready(self) -> None:
        """Wait until everything has been listed once, and there are templates."""
        await self.cache.wait_synced()
        if self.feed:
            await self.feed.ready.wait()
            await self.cache.wait_synced()

    async def wait_looked(self) -> None:
        """Wait as `wait_ready`, but not for templates that are broken.

        Raises:
            InputError: they are.
        """
        if self.feed:
            await first_of(self.feed.looked.wait(), self.feed.ready.wait())
            if self.missing:
                raise InputError(self.missing, subject="--templates-configmap")
        await self.wait_ready()

    def _clusters(self) -> Iterator[Cluster]:
        """Yield the clusters that there are, as far as they are valid."""
        for key in self.cache.clusters():
            document = self.cache.cluster(key)
            found = offline.validator().validate(document, stored=True).cluster if document else None
            if found is not None:
                yield replace(found, domain=self._domain)
