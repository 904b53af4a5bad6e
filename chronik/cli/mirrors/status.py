"""`chronik replication status`: shows how the mirrors of clusters are. It needs no operator."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from chronik.cli.common import cluster_options, missing_cluster, named_clusters, table_or_json_option
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import domain_option, names_argument, print_data
from chronik.cli.status_query import StatusQuery
from chronik.cli.streams import look
from chronik.kube import connect
from chronik.kube.informer import Informer
from chronik.manifest import component_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from chronik.api.spec import Cluster
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import ClusterKey, Manifest
    from chronik.plan.live import LiveCluster
    from chronik.report.replication import ClusterMirrors

NOT_REPLICATING = 1


@click.group()
def replication() -> None:
    """Show the mirrors that copy topics from other clusters."""


@replication.command("status")
@names_argument
@cluster_options
@domain_option
@table_or_json_option
def replication_status(names: tuple[str, ...], options: ConnectOptions, cluster_domain: str, output: str) -> int:
    """Show how the mirrors of clusters are: of those named, or of all in the namespace.

    How far each is behind, and which partitions and consumer groups are not here, its probe tells, if you may get
    pods/proxy.

    Exits with 0 if all that are not paused replicate, with 1 if not (or there are none), and with 3 if a cluster does
    not exist or the API server cannot tell.
    """

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            clusters = named_clusters(names, (), recursive=False, namespace=options.namespace, fallback=kube.namespace)
            asked = StatusQuery(kube.namespace, clusters, cluster_domain)
            live = Informer(kube, asked.scopes())
            await interruption.until_asked(live.read())
            found = asked.found(live)
            if missing := asked.missing(found):
                raise await missing_cluster(kube, missing)
            shown = [_mirrors(key, each, cluster_domain) for key, each in found.items()]
            asking = (_with_copies(kube, each, found[each.key].pods) for each in shown)
            shown = await interruption.until_asked(_all(asking))
        return _show(shown, output, str(asked))

    return run_async(main)


async def _all(asking: Iterable[Awaitable[ClusterMirrors]]) -> list[ClusterMirrors]:
    return list(await asyncio.gather(*asking))


async def _with_copies(kube: Kube, shown: ClusterMirrors, pods: Sequence[Manifest]) -> ClusterMirrors:
    """Add what the probes say, as far as they do."""
    from chronik.api.replication.mirrors import mirror_component  # noqa: PLC0415  # help and completion stay quick
    from chronik.cli.mirrors.probes import ask_probes  # noqa: PLC0415

    sources = [each.source for each in shown.mirrors]
    own = ([pod for pod in pods if component_of(pod) == mirror_component(source)] for source in sources)
    answers = await asyncio.gather(*(ask_probes(kube, each) for each in own))
    states = {source: answer.state for source, answer in zip(sources, answers, strict=True) if answer.state}
    return shown._replace(copies=states)


def _mirrors(key: ClusterKey, found: LiveCluster, domain: str) -> ClusterMirrors:
    from chronik.report.replication import ClusterMirrors  # noqa: PLC0415  # help and completion stay quick
    from chronik.status.replication import live_mirror_statuses, mirror_statuses  # noqa: PLC0415

    cluster = _cluster(found)
    if cluster is None:
        return ClusterMirrors(key, tuple(live_mirror_statuses(found.objects, found.pods)))
    return ClusterMirrors(key, tuple(mirror_statuses(replace(cluster, domain=domain), found.objects, found.pods)))


def _cluster(found: LiveCluster) -> Cluster | None:
    """Return the cluster of a live document; one that was applied without an operator has none."""
    from chronik.offline import loading as offline  # noqa: PLC0415

    return offline.validator().validate(found.document, stored=True).cluster if found.document else None


def _show(clusters: list[ClusterMirrors], output: str, asked: str) -> int:
    from chronik.report.replication import replicates, replication_data, replication_table  # noqa: PLC0415

    if output == "json":
        from chronik.report.data import to_json  # noqa: PLC0415

        print_data(to_json(replication_data(clusters)))
    elif any(each.mirrors for each in clusters):
        print_data(replication_table(clusters, **look(sys.stdout)))
    else:
        click.echo(f"no mirrors in {asked}: they come from spec.replication of a ChronikCluster", err=True)
    return 0 if replicates(clusters) else NOT_REPLICATING
