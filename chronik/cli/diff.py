"""`chronik diff`: what an apply would change, without changing anything.

What is compared with is a live cluster, or with --from a cluster that runs as other documents say, which needs none.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chronik.apply.dry_run import simulate
from chronik.cli import parameters
from chronik.cli.common import (
    CLUSTERS_AT_ONCE,
    DocumentSource,
    cluster_options,
    live_document,
    namespace_is_missing,
    note_outdated_definition,
    refused_change,
    show_warnings,
    slot_warnings,
    source_options,
    tell,
    transition_error,
)
from chronik.cli.federation.members import Federated, federated_options
from chronik.cli.main import print_data
from chronik.cli.streams import look
from chronik.errors import ChronikError, InvalidTransition
from chronik.manifest import API_VERSION, CLUSTER_KIND, is_paused
from chronik.plan.actions import Plan
from chronik.plan.changes import Mask
from chronik.plan.deletion import deletion
from chronik.plan.ownership import operated_by
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext, plan
from chronik.plan.results import Report
from chronik.report.apply import troubles_text
from chronik.report.diff import ClusterDiff, as_text, window_texts
from chronik.report.summary import ClusterResult, exit_code
from chronik.rollout.words import step_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.api.spec import Cluster
    from chronik.cli.common import Rendered
    from chronik.cli.interrupt import Interruption
    from chronik.federation.validation import ValidFederation
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import ClusterKey, Manifest, ObjectRef
    from chronik.plan.live import LiveCluster


@click.command()
@source_options
@click.option(
    "--from",
    "before",
    multiple=True,
    type=parameters.Source(),
    metavar="FILE|DIR|-",
    help="Compare with a cluster that runs as these documents say, and with no live one. Repeatable.",
)
@click.option(
    "--from-rev",
    type=parameters.REVISION,
    metavar="REV",
    help="Compare with the same documents as they were in a git revision: `origin/main`.",
)
@cluster_options
@federated_options
@click.option("--prune", is_flag=True, help="As `chronik apply --prune` would do.")
@click.option("--force-conflicts", is_flag=True, help="As `chronik apply --force-conflicts` would do.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="How to print; markdown is for a comment on a pull request.",
)
def diff(
    source: DocumentSource,
    options: ConnectOptions,
    before: tuple[str, ...],
    from_rev: str | None,
    prune: bool,
    force_conflicts: bool,
    output: str,
    federated: Federated,
) -> int:
    """Show what apply would change, field by field.

    Says who set a field, which pods would restart and why, and what would be deleted. Of a cluster that an operator
    manages it shows what the operator will do once it gets the document. Of a ChronikFederation it shows what each
    member would get, or with --hub what would change in the hub. With --from or --from-rev two sets of
    documents are compared, and no cluster is asked. Exits with 0 if there is nothing to change, 1 if there is, 2 if the
    input is invalid, 3 if the API server refused.
    """
    flags = _DiffFlags(prune, force_conflicts)
    if before or from_rev is not None:
        _check_offline(source, options, before, from_rev)
        federated.check((), ())
        return _finish(_compared(source, options.namespace, _Before(before, from_rev), flags), output)
    return _online(source, options, flags, output, federated)


def _finish(cluster_diffs: Sequence[ClusterDiff], output: str) -> int:
    """Print what would change, and return the exit code."""
    _print(cluster_diffs, output)
    failed = [each.result for each in cluster_diffs if each.result.error]
    return exit_code(failed) or int(any(each.differs for each in cluster_diffs))


@dataclass(frozen=True, slots=True)
class _DiffFlags:
    prune: bool
    force: bool


# --- two sets of documents --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Before:
    """What --from or --from-rev says: where the documents from before are."""

    files: tuple[str, ...]
    revision: str | None


def _check_offline(
    source: DocumentSource, options: ConnectOptions, before: tuple[str, ...], from_rev: str | None
) -> None:
    if before and from_rev is not None:
        raise click.UsageError("--from and --from-rev both say what to compare with: give one of them")
    if [*source.files, *before].count("-") > 1:
        raise click.UsageError("standard input can be read only once: only one file can be -")
    if options.kubeconfig or options.context:
        flag = "--from" if before else "--from-rev"
        raise click.UsageError(f"{flag} compares documents and asks no cluster: leave --kubeconfig and --context out")


def _compared(source: DocumentSource, namespace: str, before: _Before, flags: _DiffFlags) -> list[ClusterDiff]:
    """Compare two sets of documents: a cluster each, and those of which the document is gone last."""
    from chronik.offline.played import played  # noqa: PLC0415  # a diff with a live cluster plays none

    old, new = _both(source, namespace, before)
    there = {cluster.key: played(cluster, manifests) for cluster, manifests in old}
    documents = {cluster.key: _document(cluster) for cluster, _ in old}
    aliases = _aliases_of(old)
    origin = source, aliases
    found = [_changed(each, there.get(each[0].key), documents.get(each[0].key), flags, origin) for each in new]
    gone = sorted(there.keys() - {cluster.key for cluster, _ in new})
    return [*found, *(_deleted(key, there[key], aliases.dropped(key)) for key in gone)]


def _both(source: DocumentSource, namespace: str, before: _Before) -> tuple[list[Rendered], list[Rendered]]:
    """Return the clusters of both sides, with their manifests; without -n and a namespace they are in `default`."""
    if before.revision is None:
        old = replace(source, files=before.files).rendered(namespace, "default", quiet=True)
        return old, source.rendered(namespace, "default")
    from chronik.offline.revisions import Revision  # noqa: PLC0415

    revision = Revision(before.revision)
    old = source.rendered(namespace, "default", read=revision.before, quiet=True)
    return old, source.rendered(namespace, "default", read=revision.now)


def _document(cluster: Any) -> dict[str, Any]:
    metadata = {"name": cluster.name, "namespace": cluster.namespace}
    return {"apiVersion": API_VERSION, "kind": CLUSTER_KIND, "metadata": metadata, "spec": cluster.spec}


def _changed(
    rendered: Rendered,
    found: LiveCluster | None,
    document: dict[str, Any] | None,
    flags: _DiffFlags,
    origin: tuple[DocumentSource, _Aliases],
) -> ClusterDiff:
    """Compare one cluster with how it was played, and with its document and the aliases from before."""
    from chronik.offline import loading as offline  # noqa: PLC0415  # `--help` stays quick
    from chronik.offline.played import seen  # noqa: PLC0415
    from chronik.plan.live import LiveCluster  # noqa: PLC0415

    cluster, manifests = rendered
    found = seen(found, manifests) if found else LiveCluster()
    problems = offline.validator().transition(cluster, document) if document else ()
    error = transition_error(problems, "the API server will refuse this document in place of the old one")
    report = simulate(plan(manifests, found.objects, _context(rendered, found, flags, None)))
    source, aliases = origin
    report = aliases.around(_told(report, cluster, source), rendered, prune=flags.prune)
    result = ClusterResult(cluster.key, report, error=error)
    return ClusterDiff(result, found.pod_counts, windows=window_texts(cluster), steps=step_texts(cluster))


def _deleted(key: ClusterKey, found: LiveCluster, dropped: Plan) -> ClusterDiff:
    """Return what becomes of a cluster of which the document is gone, once it is deleted."""
    from chronik.offline.played import seen  # noqa: PLC0415  # as above

    going = deletion(key, seen(found))
    report = simulate(Plan((*dropped.stages, *going.plan.stages)))
    return ClusterDiff(ClusterResult(key, report), found.pod_counts, gone=True, volumes=going.volumes)


class _Aliases(NamedTuple):
    """The aliases that there are where documents run, and which cluster names which."""

    found: dict[ObjectRef, Manifest]
    named: dict[ClusterKey, set[str]]

    def around(self, report: Report, rendered: Rendered, *, prune: bool) -> Report:
        """Return what becomes of a cluster's objects, and before that of aliases that it drops."""
        from chronik.plan.aliases.services import alias_plan, client_service  # noqa: PLC0415  # as above

        cluster, manifests = rendered
        names = cluster.spec["network"]["aliases"]
        if prune:
            report = report.after(simulate(self.dropped(cluster.key, names)))
        if not names:
            return report
        return simulate(alias_plan(names, client_service(cluster, manifests), self.found)).after(report)

    def dropped(self, key: ClusterKey, names: Sequence[str] = ()) -> Plan:
        """Return what becomes of the aliases that a cluster named, and names no more."""
        from chronik.plan.aliases.services import alias_ref, withdrawal  # noqa: PLC0415  # as above

        gone = self.named.get(key, set()) - {*names}
        there = {ref: self.found[ref] for name in gone if (ref := alias_ref(key.namespace, name)) in self.found}
        others = [self.named[each] for each in self.named if each != key and each.namespace == key.namespace]
        return withdrawal(gone, there, set().union(*others))


def _aliases_of(clusters: Sequence[Rendered]) -> _Aliases:
    """Return the aliases of clusters, each made by the first that names it."""
    from chronik.plan.aliases.services import alias_ref, alias_service, client_service  # noqa: PLC0415  # as above

    aliases = _Aliases({}, {})
    for cluster, manifests in clusters:
        aliases.named[cluster.key] = {*cluster.spec["network"]["aliases"]}
        for name in cluster.spec["network"]["aliases"]:
            made = alias_service(name, client_service(cluster, manifests))
            live = made | {"metadata": made["metadata"] | {"uid": "", "resourceVersion": ""}}
            aliases.found.setdefault(alias_ref(cluster.namespace, name), live)
    return aliases


# --- a live cluster ---------------------------------------------------------------------------------------------------


def _online(
    source: DocumentSource, options: ConnectOptions, flags: _DiffFlags, output: str, federated: Federated
) -> int:
    from chronik.cli.interrupt import run_async  # noqa: PLC0415  # documents are compared without an event loop

    async def run(interruption: Interruption) -> int:
        return _finish(await interruption.until_asked(_cluster_diffs(source, options, flags, federated)), output)

    return run_async(run)


async def _cluster_diffs(
    source: DocumentSource, options: ConnectOptions, flags: _DiffFlags, federated: Federated
) -> list[ClusterDiff]:
    from chronik.cli.mirrors.sharing import warn_of_unlike  # noqa: PLC0415  # as above
    from chronik.kube import connect  # noqa: PLC0415
    from chronik.tasks import side_by_side  # noqa: PLC0415

    async with connect(options) as kube:
        federations: list[ValidFederation] = []
        rendered = source.rendered(options.namespace, kube.namespace, federations=federations)
        federated.check(federations, rendered)
        if federations:
            from chronik.cli.federation.apply import federation_diffs  # noqa: PLC0415  # most documents are clusters

            return await federation_diffs(federations, kube, options, federated, force=flags.force)
        await warn_of_unlike(kube, rendered)
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
    from chronik.apply.observe import observe  # noqa: PLC0415  # as above

    cluster, manifests = rendered
    key = cluster.key
    try:
        found = await observe(kube, cluster, manifests, complete=True)
        new_namespace = not found.objects and await namespace_is_missing(kube, cluster.namespace)
        uid = operated_by(found.objects.values(), cluster.name)
        document = await live_document(kube, cluster) if uid is not None else None
        refused = refused_change(cluster, found.objects) if uid is None else None
        dropped, aliases = await _aliases(kube, rendered, found, prune=flags.prune)
    except ChronikError as error:
        operator = isinstance(error, InvalidTransition)
        return ClusterDiff(ClusterResult(key, error=error, operator=operator))
    if uid is not None:
        _, manifests = origin[0].owned(cluster, uid)
    context = _context(rendered, found, flags, uid)
    if uid is None:
        from chronik.cli.rollouts.by_hand import staged  # noqa: PLC0415  # as above

        manifests, _ = staged(cluster, manifests, found.objects, context, None)
    report = _told(simulate(plan(manifests, found.objects, context)), cluster, origin[0])
    report = aliases.after(report.after(dropped))
    warnings = slot_warnings(rendered, found.objects, report) if uid is None else ()
    result = ClusterResult(key, report, error=refused, operator=uid is not None, warnings=warnings)
    paused = document is not None and is_paused(document)
    windows, steps = (window_texts(cluster), step_texts(cluster)) if uid else ((), ())
    return ClusterDiff(
        result, found.pod_counts, new_namespace, origin[1] if uid else "", paused, windows=windows, steps=steps
    )


async def _aliases(kube: Kube, rendered: Rendered, found: LiveCluster, *, prune: bool) -> tuple[Report, Report]:
    """Return what would become of aliases that a cluster no longer names, and of those that it names.

    Those that are there stay as they are.
    """
    from chronik.apply.aliases import dropped_aliases, planned_aliases  # noqa: PLC0415  # as above
    from chronik.plan.aliases.services import client_service  # noqa: PLC0415

    cluster, manifests = rendered
    names = cluster.spec["network"]["aliases"]
    dropped = simulate(await dropped_aliases(cluster, found, kube)) if prune else Report(())
    if not names:
        return dropped, Report(())
    return dropped, simulate(await planned_aliases(names, client_service(cluster, manifests), {}, kube))


def _told(report: Report, cluster: Cluster, source: DocumentSource) -> Report:
    """Have the changes say which patch of the spec set them, if the cluster has any."""
    if not cluster.spec["patches"]:
        return report
    from chronik.offline.explanation import with_patches  # noqa: PLC0415  # most clusters have none

    return with_patches(report, cluster, source.templates)


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
        pods=found.pods,
        expandable=found.expandable,
        missing=found.missing,
        mask=Mask.over((*manifests, *found.objects.values())),
    )


# --- how it is printed ------------------------------------------------------------------------------------------------


def _print(cluster_diffs: Sequence[ClusterDiff], output: str) -> None:
    results = [each.result for each in cluster_diffs]
    show_warnings(results)
    if output == "json":
        from chronik.report.data import apply_json  # noqa: PLC0415  # text needs none

        print_data(apply_json(results, "client"))
        return
    if output == "markdown":
        from chronik.report.markdown import as_markdown  # noqa: PLC0415

        print_data(as_markdown(cluster_diffs))
        return
    click.echo(as_text(cluster_diffs, **look(sys.stdout)), nl=False, color=True)
    failed = [each for each in results if each.error]
    tell(troubles_text(failed, **look(sys.stderr)))
