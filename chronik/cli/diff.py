"""`chronik diff`: what an apply would change, without changing anything."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from chronik.apply.dry_run import simulate
from chronik.apply.observe import observe
from chronik.cli.common import CLUSTERS_AT_ONCE, DocumentSource, cluster_options, source_options, tell
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import print_data
from chronik.cli.streams import look
from chronik.errors import ChronikError, Forbidden, NamespaceMissing
from chronik.kube import ConnectOptions, Kube, connect
from chronik.manifest import Kind
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
        outlooks = await interruption.until_asked(_outlooks(source, options, flags))
        _print(outlooks, output)
        failed = [outlook.account for outlook in outlooks if outlook.account.error]
        return exit_code(failed) or int(any(outlook.differs for outlook in outlooks))

    return run_async(run)


@dataclass(frozen=True, slots=True)
class _DiffFlags:
    prune: bool
    force: bool


async def _outlooks(source: DocumentSource, options: ConnectOptions, flags: _DiffFlags) -> list[ClusterDiff]:
    async with connect(options) as kube:
        rendered = source.rendered(options.namespace, kube.namespace)
        command = source.for_operator(options.namespace)
        return await side_by_side(
            lambda each: _outlook(kube, each, flags, (source, command)), rendered, CLUSTERS_AT_ONCE
        )


async def _outlook(
    kube: Kube, rendered: Rendered, flags: _DiffFlags, origin: tuple[DocumentSource, str]
) -> ClusterDiff:
    """Compare one cluster; what goes wrong is in the result."""
    cluster, manifests = rendered
    key = cluster.key
    try:
        found = await observe(kube, cluster, manifests, complete=True)
        new_namespace = not found.objects and await _is_missing(kube, cluster.namespace)
    except ChronikError as error:
        return ClusterDiff(ClusterResult(key, error=error))
    uid = operated_by(found.objects.values(), cluster.name)
    if uid is not None:
        _, manifests = origin[0].owned(cluster, uid)
    context = _context(rendered, found, flags, uid)
    account = ClusterResult(key, simulate(plan(manifests, found.objects, context)), operator=uid is not None)
    return ClusterDiff(account, found.pod_counts, new_namespace, origin[1] if uid else "")


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


def _print(outlooks: Sequence[ClusterDiff], output: str) -> None:
    accounts = [outlook.account for outlook in outlooks]
    if output == "json":
        from chronik.report.data import apply_json  # noqa: PLC0415  # text needs none

        print_data(apply_json(accounts, "client"))
        return
    click.echo(as_text(outlooks, **look(sys.stdout)), nl=False, color=True)
    failed = [account for account in accounts if account.error]
    tell(troubles_text(failed, **look(sys.stderr)))
