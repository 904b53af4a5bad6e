"""`chronik apply`: bring clusters to what their documents say, and report truthfully what became of each object.

Several clusters are applied side by side, each on its own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from chronik.cli.common import (
    CLUSTERS_AT_ONCE,
    DocumentSource,
    cluster_options,
    live_document,
    note_outdated_definition,
    refused_change,
    report_option,
    show_warnings,
    slot_warnings,
    source_options,
    timeout_option,
)
from chronik.cli.federation.members import ApplyFlags, Federated, federated_options
from chronik.cli.interrupt import Interrupted, Interruption, run_async
from chronik.cli.main import print_data
from chronik.cli.mirrors.sharing import warn_of_unlike
from chronik.cli.progress import Progress
from chronik.cli.rollouts.by_hand import HELD, Held, Step, staged, tell_held
from chronik.cli.streams import look
from chronik.errors import ChronikError, ConflictError, InputError
from chronik.kube import ConnectOptions, Kube, connect
from chronik.manifest import WORKLOAD_KINDS, ObjectRef
from chronik.plan.results import Report
from chronik.report.apply import as_text, ready_text, troubles_text, unready_text
from chronik.report.data import apply_json
from chronik.report.summary import ClusterResult, exit_code
from chronik.tasks import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.cli.common import Rendered
    from chronik.federation.validation import ValidFederation
    from chronik.manifest import ClusterKey
    from chronik.plan.live import LiveCluster
    from chronik.report.summary import DryRun


@click.command()
@source_options
@cluster_options
@click.option("--prune", is_flag=True, help="Delete objects of the cluster that are no longer part of it.")
@click.option("--force-conflicts", is_flag=True, help="Take fields that other field managers own, and say from whom.")
@click.option(
    "--dry-run",
    type=click.Choice(["none", "client", "server"]),
    default="none",
    show_default=True,
    help="client: say what would be sent. server: have the server check it, too, and keep nothing.",
)
@click.option("--wait", is_flag=True, help="Wait until everything is ready.")
@timeout_option
@click.option(
    "--step",
    type=Step(),
    metavar="N|all",
    help="Bring a canary to this step, where no operator does.  [default: the first, or where it is]",
)
@report_option
@federated_options
def apply(
    source: DocumentSource,
    options: ConnectOptions,
    prune: bool,
    force_conflicts: bool,
    dry_run: DryRun,
    wait: bool,
    timeout: float,
    step: int | None,
    output: str,
    federated: Federated,
) -> int:
    """Apply clusters to the API server, changing only what must change.

    A cluster that an operator manages is left to it. A canary comes to its first step; with --wait it goes on after
    each pause. A ChronikFederation is applied to its members, one after the other as it says, or with --hub to the hub.
    Ctrl-C finishes what is under way and reports it; a second one ends at once.

    Exits with 0 if all went well, 2 if the input is invalid, 3 if the API server refused, 4 on conflicts, 5 if only a
    part was done, 6 if it was not ready in time, 7 if a canary is held.
    """
    if wait and dry_run != "none":
        raise click.UsageError("--wait waits for objects, which a dry run does not make")
    given = click.get_current_context().get_parameter_source("timeout") is not ParameterSource.DEFAULT
    patience = timeout if given else None
    flags = ApplyFlags(prune, force_conflicts, dry_run, timeout if wait else None, output, step, federated, patience)
    return run_async(lambda interruption: _run(source, options, flags, interruption))


_NOTICE = "interrupted: finishing what is under way; Ctrl-C again ends at once"


async def _run(source: DocumentSource, options: ConnectOptions, flags: ApplyFlags, interruption: Interruption) -> int:
    async with connect(options) as kube:
        federations: list[ValidFederation] = []
        rendered = source.rendered(options.namespace, kube.namespace, federations=federations)
        flags.federated.check(federations, rendered)
        interruption.notice = _NOTICE
        if federations:
            from chronik.cli.federation.apply import run_federations  # noqa: PLC0415  # most documents are clusters

            of_members = await run_federations(federations, kube, options, flags, interruption)
            _report(of_members, flags)
            return exit_code(of_members)
        with suppress(Interrupted):
            await interruption.until_asked(warn_of_unlike(kube, rendered))
        work = _Applying(kube, flags, interruption, source.for_operator(options.namespace))
        results = {each.key: each for each in await _round(work, rendered)}
        while flags.wait is not None and (following := work.following(results.values())):
            interruption.notice = "interrupted while a canary pauses: what was applied stays"
            try:
                await interruption.until_asked(asyncio.sleep(max(work.held[key].pause or 0 for key in following)))
            except Interrupted:
                break
            interruption.notice = _NOTICE
            again = [each for each in rendered if each[0].key in following]
            results |= {each.key: each for each in await _round(work, again, following)}
        done = [*results.values()]
        if flags.output == "json":
            print_data(apply_json(done, flags.dry_run))
        show_warnings(done)
        tell_held([*work.held.items()])
        if any(result.operator for result in done):
            with suppress(Interrupted):
                await interruption.until_asked(note_outdated_definition(kube))
    return exit_code(done) or (HELD if work.held and flags.step is None and flags.dry_run == "none" else 0)


async def _round(
    work: _Applying, rendered: Sequence[Rendered], steps: Mapping[ClusterKey, int] | None = None
) -> list[ClusterResult]:
    """Apply clusters, some of them at a step of their canary, wait for them if that is asked for, and report it."""
    flags, interruption = work.flags, work.interruption
    results = await work.applied(rendered, steps or {})
    if flags.output == "text":
        _print(as_text, results, dry_run=flags.dry_run)
        _print(troubles_text, results)
    if flags.wait is not None:
        interruption.notice = "interrupted while waiting: what was applied stays"
        with suppress(Interrupted):  # what was applied is reported all the same
            results = await work.awaited(rendered, results, flags.wait)
    if flags.output == "text":
        _print(ready_text, results)
        _print(unready_text, results)
    return results


def _report(results: Sequence[ClusterResult], flags: ApplyFlags) -> None:
    """Write all that there is to say of results at once."""
    if flags.output == "json":
        print_data(apply_json(results, flags.dry_run))
        return
    _print(as_text, results, dry_run=flags.dry_run)
    _print(troubles_text, results)
    _print(ready_text, results)
    _print(unready_text, results)


class _Operated(ConflictError):
    """The cluster is an operator's, which would undo whatever the command line does to its objects."""


class _NotRecovered(InputError):
    """The cluster is to begin with what a backup holds, which the command line does not see to."""


@dataclass(frozen=True, slots=True)
class _Applying:
    """What is done about each cluster; `command` is what hands the same documents to an operator.

    `held` is at which steps of their canaries clusters are.
    """

    kube: Kube
    flags: ApplyFlags
    interruption: Interruption
    command: str
    held: dict[ClusterKey, Held] = field(default_factory=dict)

    async def applied(self, rendered: Sequence[Rendered], steps: Mapping[ClusterKey, int]) -> list[ClusterResult]:
        """Apply all clusters, those of `steps` at these steps of their canaries, and return what became of each."""
        with Progress(sum(len(manifests) for _, manifests in rendered)) as progress:
            return await side_by_side(
                lambda each: self._apply_cluster(each, steps.get(each[0].key, self.flags.step), progress),
                rendered,
                CLUSTERS_AT_ONCE,
            )

    def following(self, results: Iterable[ClusterResult]) -> dict[ClusterKey, int]:
        """Return the canaries that go on by themselves after a pause, and to which step; 0 for all pods."""
        well = {each.key for each in results if each.failure is None}
        if self.flags.step is not None or self.interruption.asked.is_set():
            return {}
        return {
            key: (held.step + 1) % (held.of + 1)
            for key, held in self.held.items()
            if key in well and held.pause is not None
        }

    async def _apply_cluster(self, rendered: Rendered, step: int | None, progress: Progress) -> ClusterResult:
        from chronik.apply.observe import observe  # noqa: PLC0415  # `--help` stays quick
        from chronik.plan.ownership import operated_by  # noqa: PLC0415  # likewise

        cluster, _ = rendered
        key, began, operated = cluster.key, time.monotonic(), False
        try:
            found = await self.interruption.until_asked(
                observe(self.kube, *rendered, complete=self.flags.dry_run == "client")
            )
            operated = operated_by(found.objects.values(), cluster.name) is not None
            await self._refuse(cluster, found, operated=operated)
            report = await self._report(rendered, found, step, progress)
        except Interrupted:
            report = Report((), interrupted=True)
        except ChronikError as error:
            return ClusterResult(key, error=error, seconds=time.monotonic() - began, operator=operated)
        warnings = slot_warnings(rendered, found.objects, report) if report.results else ()
        return ClusterResult(key, report, seconds=time.monotonic() - began, warnings=warnings)

    async def _refuse(self, cluster: Cluster, found: LiveCluster, *, operated: bool) -> None:
        """Raise why a cluster is not to be applied at all, if there is a reason; `operated`: an operator manages it."""
        if operated:
            await self.interruption.until_asked(live_document(self.kube, cluster))
            message = "an operator manages this cluster, so nothing was sent"
            raise _Operated(message, hint=f"Change its ChronikCluster instead: {self.command}.")
        if cluster.spec["bootstrap"] and not any(ref.kind in WORKLOAD_KINDS for ref in found.objects):
            message = "an operator carries spec.bootstrap out; without one its nodes begin empty, so nothing was sent"
            raise _NotRecovered(message, hint=f"Give an operator the document: {self.command}.")
        if error := refused_change(cluster, found.objects):
            raise error

    async def _report(self, rendered: Rendered, found: LiveCluster, step: int | None, progress: Progress) -> Report:
        from chronik.apply.aliases import (  # noqa: PLC0415  # `--help` stays quick
            dropped_aliases,
            make_aliases,
            planned_aliases,
        )
        from chronik.apply.converge import converge  # noqa: PLC0415  # likewise
        from chronik.apply.dry_run import simulate  # noqa: PLC0415  # likewise
        from chronik.apply.executor import Execution, execute  # noqa: PLC0415  # likewise
        from chronik.plan.actions import Plan  # noqa: PLC0415  # likewise
        from chronik.plan.aliases.services import client_service  # noqa: PLC0415  # likewise
        from chronik.plan.changes import Mask  # noqa: PLC0415  # likewise
        from chronik.plan.planner import PlanContext, plan  # noqa: PLC0415  # likewise

        cluster, manifests = rendered
        context = PlanContext(
            cluster=cluster.name,
            namespace=cluster.namespace,
            prune=self.flags.prune,
            force_conflicts=self.flags.force,
            claims=found.claims,
            pods=found.pods,
            expandable=found.expandable,
            missing=found.missing,
            mask=Mask.over((*manifests, *found.objects.values())),
        )
        self.held.pop(cluster.key, None)
        manifests, held = staged(cluster, manifests, found.objects, context, step)
        if held is not None:
            self.held[cluster.key] = held
        aliases = cluster.spec["network"]["aliases"]
        client = client_service(cluster, manifests) if aliases else {}
        dropped = await dropped_aliases(cluster, found, self.kube) if self.flags.prune else Plan(())
        if self.flags.dry_run == "client":
            report = simulate(plan(manifests, found.objects, context)).after(simulate(dropped))
            return simulate(await planned_aliases(aliases, client, {}, self.kube)).after(report) if aliases else report
        execution = Execution(
            kube=self.kube,
            dry_run=self.flags.dry_run == "server",
            stop=self.interruption.asked,
            on_start=progress.started,
            on_result=progress.ended,
        )
        report = await execute(dropped, execution)
        report = (await converge(manifests, found.objects, context, execution)).after(report)
        return (await make_aliases(aliases, client, {}, execution)).after(report) if aliases else report

    async def awaited(
        self, rendered: Sequence[Rendered], results: Sequence[ClusterResult], seconds: float
    ) -> list[ClusterResult]:
        """Wait for the clusters that were applied without errors; return all results, completed."""
        from chronik.apply.wait import wait_ready  # noqa: PLC0415  # most applies do not wait

        pairs = zip(rendered, results, strict=True)
        applied = [each for each, result in pairs if result.failure is None]
        left = {each.ref for result in results for each in result.report.results if each.outcome == "not-installed"}
        desired = {key.key: [each for each in found if ObjectRef.of(each) not in left] for key, found in applied}
        clusters = [cluster for cluster, _ in applied]
        began = time.monotonic()
        with Progress(text="looking whether all is ready") as progress:
            waiting = wait_ready(self.kube, clusters, desired, timeout=seconds, on_change=progress.waits)
            unready = await self.interruption.until_asked(waiting)
        waited = time.monotonic() - began
        mine = {key: {ObjectRef.of(manifest) for manifest in manifests} for key, manifests in desired.items()}
        return [
            replace(result, unready=tuple(each for each in unready if each.ref in mine[result.key]), waited=waited)
            if result.key in mine
            else result
            for result in results
        ]


def _print(words: Callable[..., str], results: Sequence[ClusterResult], **options: Any) -> None:
    """Write a text about the results: troubles to stderr, everything else to stdout."""
    error = words in {troubles_text, unready_text}
    stream = sys.stderr if error else sys.stdout
    text = words(results, **look(stream), **options)
    sys.stdout.flush()
    click.echo(text, err=error, nl=False, color=True)
