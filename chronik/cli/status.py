"""`chronik status`: shows how clusters are, once or until it is interrupted. It needs no operator."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import click

from chronik.apply.creation import CreationFailures
from chronik.cli.common import cluster_options, missing_cluster, named_clusters, note_outdated_definition
from chronik.cli.federation.members import federated_options
from chronik.cli.interrupt import Interrupted, Interruption, run_async
from chronik.cli.main import (
    domain_option,
    files_option,
    names_argument,
    print_data,
    recursive_option,
    table_option,
)
from chronik.cli.status_query import StatusQuery
from chronik.cli.streams import can_redraw, look, use_colour
from chronik.clock import timestamp
from chronik.kube import connect
from chronik.kube.informer import Informer, informer
from chronik.manifest import CLUSTER
from chronik.report.status import NOT_INSTALLED, line, picture, table
from chronik.status.creation import with_creation_failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.live import Live

    from chronik.cli.federation.members import Federated
    from chronik.federation.validation import ValidFederation
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import ClusterKey
    from chronik.plan.live import LiveCluster
    from chronik.status.view import ClusterView

Output = Literal["table", "json", "yaml"]
NOT_READY = 1
_TICK = 1.0
"""Seconds between two drawings if nothing changes: ages grow."""
_CALM = 0.1
"""Seconds in which more changes are gathered after one: they come in flocks."""


@click.command()
@names_argument
@files_option
@recursive_option
@cluster_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Clusters of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Show every change, until Ctrl-C.")
@domain_option
@table_option
@federated_options
def status(
    names: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    options: ConnectOptions,
    all_namespaces: bool,
    watch: bool,
    cluster_domain: str,
    output: Output,
    federated: Federated,
) -> int:
    """Show how clusters are, and what they wait for.

    Clusters are named, or described by files; else all of the namespace are shown. With a file they are held to what it
    says, whatever has been applied. Of a ChronikFederation its members are shown, as its hub says if there is one, else
    as they say themselves.

    Exits with 0 if they are ready, with 1 if not (or there are none), and with 3 if one does not exist or the API
    server cannot tell.
    """
    if sum(map(bool, (names, files, all_namespaces))) > 1:
        raise click.UsageError("names, files and --all-namespaces exclude each other")

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            federations: list[ValidFederation] = []
            clusters = named_clusters(
                names,
                files,
                recursive=recursive,
                namespace=options.namespace,
                fallback=kube.namespace,
                federations=federations,
            )
            federated.check(federations, clusters)
            if federations:
                if watch:
                    raise click.UsageError("--watch is for clusters: ask again for members of a federation")
                from chronik.cli.federation.status import files_status  # noqa: PLC0415  # most documents are clusters

                return await interruption.until_asked(files_status(federations, kube, options, federated, output))
            asked = StatusQuery(None if all_namespaces else kube.namespace, clusters, cluster_domain)
            viewer = _Viewer(kube, asked, output)
            if watch:
                return await viewer.watch(interruption)
            return await interruption.until_asked(viewer.once())

    return run_async(main)


class _Viewer:
    """Answers one question, once or again and again."""

    def __init__(self, kube: Kube, asked: StatusQuery, output: Output) -> None:
        self.kube = kube
        self.asked = asked
        self.output = output
        self.code = NOT_READY
        self.told: dict[ClusterKey, str] = {}
        self.creation = CreationFailures(kube)

    async def once(self) -> int:
        """Show the clusters, and return the exit code.

        Raises:
            ObjectMissing: a cluster that was asked for does not exist.
        """
        live = Informer(self.kube, self.asked.scopes())
        await live.read()
        await self.asked.follow_own(live, self.kube)
        views = await self._views(live)
        await self._refuse_missing(views)
        if CLUSTER in live.unknown and not self.asked.clusters:
            click.echo(NOT_INSTALLED, err=True)
        if not views and self.output == "table":
            click.echo(f"no clusters in {self.asked}", err=True)
        else:
            print_data(self._shown(views))
        await self._note_outdated(views)
        return self.code

    async def _refuse_missing(self, views: list[ClusterView]) -> None:
        missing = self.asked.missing(view.key for view in views)
        if missing:
            raise await missing_cluster(self.kube, missing)

    async def _note_outdated(self, views: list[ClusterView]) -> None:
        if any(view.generation is not None for view in views):
            await note_outdated_definition(self.kube)

    async def watch(self, interruption: Interruption) -> int:
        """Show every change until the user stops it, or nothing is left; return the exit code."""

        async def follow() -> None:
            async with informer(self.kube, self.asked.scopes()) as live:
                await self.asked.follow_own(live, self.kube)
                views = await self._views(live)
                await self._refuse_missing(views)
                await self._note_outdated(views)
                await self._follow(live)

        try:
            await interruption.until_asked(follow())
        except Interrupted:
            if self.code == 0:
                interruption.signal = 0  # who watched until all was ready got what was asked for
        return self.code

    async def _follow(self, live: Informer) -> None:
        redraws = self.output == "table" and can_redraw(sys.stdout)
        with ExitStack() as stack:
            show = self._redraw(stack.enter_context(_screen())) if redraws else self._append
            while views := await self._views(live):
                show(views)
                if await live.change(_TICK if redraws else self.creation.next_look()):
                    await asyncio.sleep(_CALM)
        click.echo(f"{self.asked}: gone", err=True)

    def _redraw(self, screen: Live) -> Callable[[list[ClusterView]], None]:
        from rich.text import Text  # noqa: PLC0415  # only --watch pays for it

        def show(views: list[ClusterView]) -> None:
            drawn = self._shown(views, screen.console.height)
            screen.update(Text.from_ansi(drawn.rstrip("\n")), refresh=True)

        return show

    def _append(self, views: list[ClusterView]) -> None:
        """Write a line, or a document, for each cluster that has changed."""
        for view in views:
            text = line(view) if self.output == "table" else self._data([view], compact=True)
            if self.told.get(view.key) != text:
                self.told[view.key] = text
                print_data(f"{timestamp()}  {text}" if self.output == "table" else text)
                sys.stdout.flush()

    async def _views(self, live: Informer) -> list[ClusterView]:
        """Return all clusters that were asked for and exist, and note whether they are ready."""
        failures = await self.creation.of(live.objects)
        views = [
            self._view(key, replace(found, objects=with_creation_failures(found.objects, failures)))
            for key, found in self.asked.found(live).items()
        ]
        self.code = 0 if views and all(view.ready for view in views) else NOT_READY
        return views

    def _view(self, key: ClusterKey, found: LiveCluster) -> ClusterView:
        from chronik.offline import loading as offline  # noqa: PLC0415
        from chronik.status.view import cluster_from_objects, cluster_view  # noqa: PLC0415

        given = self.asked.clusters.get(key)
        if given is not None:
            return cluster_view(given, "file", found, timestamp())
        cluster = offline.validator().validate(found.document, stored=True).cluster if found.document else None
        origin: Literal["document", "objects"] = "document" if cluster else "objects"
        cluster = cluster or cluster_from_objects(key, found, offline.validator().validate)
        return cluster_view(replace(cluster, domain=self.asked.domain), origin, found, timestamp())

    def _shown(self, views: list[ClusterView], height: int | None = None) -> str:
        if self.output != "table":
            return self._data(views)
        if not (self.asked.clusters or (len(views) == 1 and self.asked.namespace)):
            return table(views, timestamp(), **look(sys.stdout))
        return picture(views, timestamp(), **look(sys.stdout), height=height)

    def _data(self, views: list[ClusterView], *, compact: bool = False) -> str:
        from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415
        from chronik.report.data import status_data, status_json  # noqa: PLC0415

        return status_json(views, compact=compact) if self.output == "json" else to_yaml_stream([status_data(views)])


def _screen() -> Live:
    from rich.console import Console  # noqa: PLC0415  # only --watch pays for it
    from rich.live import Live  # noqa: PLC0415

    return Live(console=Console(no_color=not use_colour(sys.stdout)), auto_refresh=False, vertical_overflow="crop")
