"""`chronik diff`: what an apply would change, without changing anything."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from chronik.apply.dry_run import simulate
from chronik.apply.observe import observe
from chronik.cli.common import (
    CLUSTERS_AT_ONCE,
    DocumentSource,
    cluster_options,
    live_document,
    note_outdated_definition,
    source_options,
    tell,
)
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import print_data
from chronik.cli.streams import look
from chronik.errors import ChronikError, Forbidden, InvalidTransition, NamespaceMissing
from chronik.kube import ConnectOptions, Kube, connect
from chronik.manifest import Kind, is_paused
from chronik.plan.changes import Mask
from chronik.plan.ownership import operated_by
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext, plan
from chronik.report.apply import troubles_text
from chronik.report.diff import ClusterDiff, as_text
from chronik.report.summary import ClusterResult, exit_code
from chronik.tasks import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.cli.common import Rendered
    from chronik.plan.live import LiveCluster

_NAMESPACE = Kind("v1", "Namespace", "namespaces", stage=-1, namespaced=False)


@click.command()
@source_options
@cluster_options
@click.option("--prune", is_flag=True, help="As `chronik apply --prune` would do.")
@click.option("--force-conflicts", is_flag=True, help="As `chronik apply --force-conflicts` would do.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print."
)
def diff(source: DocumentSource, options: ConnectOptions, prune: bool, force_conflicts: bool, output: str) -> int:
    """Show what apply would change, field by field.

    Says who set a field, which pods would restart and why, and what would be deleted. Of a cluster that an operator
    manages it shows what the operator will do once it gets the document. Exits with 0 if there is nothing to change, 1
    if there is, 2 if the input is invalid, 3 if the API server refused.
    """
    flags = _DiffFlags(prune, force_conflicts)

    async def run(interruption: Interruption) -> int:
        cluster_diffs = await interruption.until_asked(_cluster_diffs(source, options, flags))
        _print(cluster_diffs, output)
        failed = [each.result for each in cluster_diffs if each.result.error]
        return exit_code(failed) or int(any(each.differs for each in cluster_diffs))

    return run_async(run)


@dataclass(frozen=True, slots=True)
class _DiffFlags:
    prune: bool
    force: bool


async def _cluster_diffs(source: DocumentSource, options: ConnectOptions, flags: _DiffFlags) -> list[ClusterDiff]:
    async with connect(options) as kube:
        rendered = source.rendered(options.namespace, kube.namespace)
        command = source.for_operator(options.namespace)
        cluster_diffs = await side_by_side(
            lambda each: _cluster_diff(kube, each, flags, (source, command)), rendered, CLUSTERS_AT_ONCE
        )
        if any(each.result.operator for each in cluster_diffs):
            await note_outdated_definition(kube)
        return cluster_diffs


async def _cluster_diff(
    kube: Kube, rendered: Rendered, flags: _DiffFlags, origin: tuple[DocumentSource, str]
) -> ClusterDiff:
    """Compare one cluster; what goes wrong is in the result."""
    cluster, manifests = rendered
    key = cluster.key
    try:
        found = await observe(kube, cluster, manifests, complete=True)
        new_namespace = not found.objects and await _is_missing(kube, cluster.namespace)
        uid = operated_by(found.objects.values(), cluster.name)
        document = await live_document(kube, cluster) if uid is not None else None
    except ChronikError as error:
        operator = isinstance(error, InvalidTransition)
        return ClusterDiff(ClusterResult(key, error=error, operator=operator))
    if uid is not None:
        _, manifests = origin[0].owned(cluster, uid)
    context = _context(rendered, found, flags, uid)
    result = ClusterResult(key, simulate(plan(manifests, found.objects, context)), operator=uid is not None)
    paused = document is not None and is_paused(document)
    return ClusterDiff(result, found.pod_counts, new_namespace, origin[1] if uid else "", paused)


def _context(rendered: Rendered, found: LiveCluster, flags: _DiffFlags, uid: str | None) -> PlanContext:
    """Return what decides about the plan; an operator, known by the cluster's uid, is not told how to go about it."""
    cluster, manifests = rendered
    return PlanContext(
        cluster=cluster.name,
        namespace=cluster.namespace,
        owner_uid=uid,
        prune=flags.prune or uid is not None,
        force_conflicts=flags.force and uid is None,
        take_back_managers=HUMAN_MANAGERS if uid is not None else (),
        claims=found.claims,
        expandable=found.expandable,
        mask=Mask.over((*manifests, *found.objects.values())),
    )


async def _is_missing(kube: Kube, namespace: str) -> bool:
    try:
        return await kube.get(_NAMESPACE, "", namespace) is None
    except NamespaceMissing:
        return True
    except Forbidden:
        return False


def _print(cluster_diffs: Sequence[ClusterDiff], output: str) -> None:
    results = [each.result for each in cluster_diffs]
    if output == "json":
        from chronik.report.data import apply_json  # noqa: PLC0415  # text needs none

        print_data(apply_json(results, "client"))
        return
    click.echo(as_text(cluster_diffs, **look(sys.stdout)), nl=False, color=True)
    failed = [each for each in results if each.error]
    tell(troubles_text(failed, **look(sys.stderr)))
