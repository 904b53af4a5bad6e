"""`chronik delete`: removes clusters in reverse order of an apply, and nothing that is not theirs.

Where an operator keeps a cluster, its ChronikCluster is deleted, and the operator and the garbage collector do the
rest. What goes and what stays is decided in `plan.deletion`; it is shown, and asked about, before anything is sent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from chronik.apply.aliases import alias_deletion
from chronik.apply.executor import Execution, execute
from chronik.apply.observe import read_own
from chronik.apply.wait import wait_gone
from chronik.cli.common import (
    cluster_options,
    missing_cluster,
    named_clusters,
    report_option,
    tell,
    timeout_option,
)
from chronik.cli.federation.members import DeleteFlags, Federated, federated_options
from chronik.cli.interrupt import Interrupted, Interruption, run_async
from chronik.cli.main import files_option, names_argument, print_data, recursive_option
from chronik.cli.progress import Progress
from chronik.cli.streams import look, need_terminal
from chronik.errors import ChronikError, KindMissing, ObjectChanged, PartialFailure
from chronik.kube import ConnectOptions, Kube, connect
from chronik.kube.informer import Informer
from chronik.kube.reflector import KindSelector
from chronik.manifest import (
    CLAIM,
    CLUSTER,
    CLUSTER_LABEL,
    INSTANCE_LABEL,
    KINDS,
    OTHER_KINDS,
    POD,
    ClusterKey,
    KindName,
    ObjectRef,
    own_kinds,
)
from chronik.plan.actions import Prune
from chronik.plan.deletion import Deletion, deletion
from chronik.plan.live import LiveCluster
from chronik.plan.results import Report
from chronik.report.deletion import DeletionResult, deletion_json, forecast, outcome, question, refusals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.federation.validation import ValidFederation
    from chronik.manifest import Manifest

_ROUNDS = 5
"""How often to look again, if objects keep changing while they are deleted."""


@click.command()
@names_argument
@files_option
@recursive_option
@cluster_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Have the server check it, and delete nothing.")
@click.option("--ignore-not-found", is_flag=True, help="What is gone already is no error.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until everything is gone.")
@timeout_option
@report_option
@federated_options
def delete(
    names: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    options: ConnectOptions,
    yes: bool,
    dry_run: bool,
    ignore_not_found: bool,
    wait: bool,
    timeout: float,
    output: str,
    federated: Federated,
) -> int:
    """Delete clusters in reverse order; volumes as their retention says.

    Volume claims stay, unless storage.retention.whenDeleted is Delete. Of a ChronikFederation the members' clusters are
    let go or deleted, as its onDelete says; with --hub it is deleted in the hub, which does the same.

    Exits with 0 if all went well, 3 if there is no such cluster (with --ignore-not-found that is no error) or the API
    server refused, 4 if volumes that are to stay would go, 5 if only a part was deleted, 6 if something was still there
    in the end.
    """
    if bool(names) == bool(files):
        raise click.UsageError("say which clusters: by name, or by file with -f")
    flags = DeleteFlags(yes or dry_run, dry_run, timeout if wait and not dry_run else None, output, ignore_not_found)
    if not flags.yes:
        need_terminal("confirm with --yes, or see what it would do with --dry-run")
    shown: list[Deletion] = []
    federations: list[ValidFederation] = []

    async def find(interruption: Interruption) -> int:
        async with connect(options) as kube:
            wanted = named_clusters(
                names,
                files,
                recursive=recursive,
                namespace=options.namespace,
                fallback=kube.namespace,
                federations=federations,
            )
            federated.check(federations, wanted)
            shown.extend(await interruption.until_asked(_looked(kube, wanted)))
        return 0

    code = run_async(find)
    if federations and not code:
        from chronik.cli.federation.delete import delete_federations  # noqa: PLC0415  # most documents are clusters

        return delete_federations(federations, options, flags, federated)
    if code or not _confirmed(shown, flags):
        return code
    return run_async(lambda interruption: _run(shown, options, flags, interruption))


def _confirmed(shown: Sequence[Deletion], flags: DeleteFlags) -> bool:
    """Show what goes and what stays, and return whether it may; an error forbids it."""
    for each in shown:
        if each.error is not None:
            raise each.error
    if flags.yes or not any(each.uids for each in shown):
        return True
    tell(forecast(shown, **look(sys.stderr)))
    if click.confirm(question(shown), err=True):
        return True
    click.echo("nothing was deleted", err=True)
    return False


async def _run(
    shown: Sequence[Deletion], options: ConnectOptions, flags: DeleteFlags, interruption: Interruption
) -> int:
    interruption.notice = "interrupted: finishing what is under way; Ctrl-C again ends at once"
    async with connect(options) as kube:
        with Progress(sum(len(each.removes) for each in shown)) as progress:
            work = _Deleting(kube, flags, interruption, progress)
            # One after the other: a user who stops it knows how far it came.
            results = [await work.delete_cluster(each) for each in shown]
    if flags.output == "json":
        print_data(deletion_json(results, dry_run=flags.dry_run))
    else:
        show = forecast(shown, **look(sys.stdout)) if flags.dry_run else ""
        done = outcome(results, **look(sys.stdout), dry_run=flags.dry_run)
        click.echo(show + done, nl=False, color=True)
    tell(refusals(results, **look(sys.stderr)))
    return _exit_code(results)


def _exit_code(results: Sequence[DeletionResult]) -> int:
    codes = {each.failure.exit_code if each.failure else 0 for each in results}
    return codes.pop() if len(codes) == 1 else PartialFailure.exit_code


@dataclass(frozen=True, slots=True)
class _Deleting:
    """What is done about each cluster."""

    kube: Kube
    flags: DeleteFlags
    interruption: Interruption
    progress: Progress

    async def delete_cluster(self, shown: Deletion) -> DeletionResult:
        """Delete one cluster, and wait until it is gone; what goes wrong is in the answer."""
        try:
            if not (shown.uids or shown.kept or self.flags.ignore_not_found):
                raise await missing_cluster(self.kube, [shown.key])
            if shown.document is not None:
                await self._delete_document(shown.document)
            report = await self._objects(shown)
        except ChronikError as error:
            return DeletionResult(shown, error=error)
        result = DeletionResult(shown, report)
        if self.flags.wait is None or result.failure or self.interruption.asked.is_set():
            return result
        with suppress(Interrupted):
            return await self.interruption.until_asked(self._gone(result, self.flags.wait))
        return result

    async def _delete_document(self, document: Manifest) -> None:
        ref, uid = ObjectRef.of(document), document["metadata"]["uid"]
        await self.kube.delete(CLUSTER, ref, uid=uid, dry_run=self.flags.dry_run)

    async def _objects(self, shown: Deletion) -> Report:
        """Carry out a deletion; look again at what has changed meanwhile, but touch nothing that was not shown."""
        execution = Execution(
            kube=self.kube,
            dry_run=self.flags.dry_run,
            stop=self.interruption.asked,
            on_start=self.progress.started,
            on_result=self.progress.ended,
        )
        todo, done = shown.plan, Report(())
        for _ in range(_ROUNDS):
            report = await execute(todo, execution)
            done = replace(report, results=(*done.written, *report.results))
            if report.interrupted or not any(isinstance(each.error, ObjectChanged) for each in report.failed):
                break
            found = replace(await _live_cluster(self.kube, shown.key), document=None)
            again = await alias_deletion(deletion(shown.key, found, shown.retention), found, self.kube)
            todo = again.only(shown.uids).plan
        return done

    async def _gone(self, result: DeletionResult, seconds: float) -> DeletionResult:
        shown, began = result.deletion, time.monotonic()
        own = {KindName(action.api_version, action.ref.kind) for action in _prunes(shown)}
        own |= {KindName.of(each) for each in shown.follows}
        scopes = [*_scopes(shown.key), *await _own_scopes(self.kube, shown.key, own)]
        left = await wait_gone(self.kube, scopes, shown.uids, timeout=seconds, on_change=self.progress.waits)
        return replace(result, left=tuple(left), waited=time.monotonic() - began)


async def _looked(kube: Kube, wanted: Mapping[ClusterKey, Cluster | None]) -> list[Deletion]:
    """Return how to delete clusters; what files say of their volumes counts."""
    clusters = await asyncio.gather(*(_live_cluster(kube, key) for key in wanted))
    retentions = (each.spec["storage"]["retention"]["whenDeleted"] if each else None for each in wanted.values())
    shown, keys = map(deletion, wanted, clusters, retentions), [*wanted]
    looks = enumerate(zip(shown, clusters, strict=True))
    return list(await asyncio.gather(*(alias_deletion(*each, kube, keys[:number]) for number, each in looks)))


async def _live_cluster(kube: Kube, key: ClusterKey) -> LiveCluster:
    live = Informer(kube, _scopes(key))
    await live.read()
    objects = {ObjectRef.of(manifest): manifest for kind in KINDS for manifest in live.of(kind)}
    own = await read_own(kube, own_kinds(objects.values()), key.namespace, f"{CLUSTER_LABEL}={key.name}")
    objects |= {ObjectRef.of(manifest): manifest for manifest in own.objects}
    try:
        document = await kube.get(CLUSTER, key.namespace, key.name)
    except KindMissing:
        document = None
    return LiveCluster(document, objects, live.of(POD), live.of(CLAIM))


def _prunes(shown: Deletion) -> list[Prune]:
    return [action for action in shown.plan.actions if isinstance(action, Prune)]


async def _own_scopes(kube: Kube, key: ClusterKey, kinds: Iterable[KindName]) -> list[KindSelector]:
    """Return where objects of kinds are that only templates of the user's make."""
    known = {kind.name for kind in (*KINDS, *OTHER_KINDS)}
    own = [await kube.kind(*each) for each in sorted(kinds) if each.name not in known]
    return [KindSelector(kind, key.namespace, f"{CLUSTER_LABEL}={key.name}", optional=True) for kind in own]


def _scopes(key: ClusterKey) -> list[KindSelector]:
    """Return what a cluster is made of; what has to go must not be overlooked, so nothing is optional without need."""
    selector = f"{CLUSTER_LABEL}={key.name}"
    return [
        *(KindSelector(kind, key.namespace, selector, optional=kind.optional) for kind in KINDS),
        KindSelector(POD, key.namespace, selector, optional=True),
        KindSelector(CLAIM, key.namespace, f"{INSTANCE_LABEL}={key.name}", optional=True),
        KindSelector(CLUSTER, key.namespace, optional=True),
    ]
