"""`chronik backup import`: backups that lie in a store become known to a Kubernetes that did not make them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chronik.api import names
from chronik.backups.document import IMPORTED, phase_of
from chronik.backups.groups import UNAVAILABLE
from chronik.backups.recovery import imports
from chronik.cli import parameters
from chronik.cli.backup.options import StoreAccess, store_options
from chronik.cli.common import cluster_options
from chronik.cli.interrupt import run_async
from chronik.cli.main import show_note
from chronik.clock import timestamp
from chronik.errors import AlreadyExists, ApiError, ConflictError, Forbidden, KindMissing
from chronik.kube import connect
from chronik.manifest import BACKUP, BACKUP_LABEL, SECRET, SNAPSHOT, ObjectRef
from chronik.metastore.errors import BackupDamaged, BackupError, BackupNotFound
from chronik.operator.backups.look import group_kind
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.backups.recovery.imports import Import
    from chronik.cli.interrupt import Interruption
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import Manifest
    from chronik.metastore.catalog import Described

MANAGER = "chronik-import"
"""Owns the backups that are imported, and their snapshots."""


@click.command("import")
@click.argument("backups", nargs=-1, metavar="[NAME|ID]...")
@click.option("--all", "everything", is_flag=True, help="All whole ones that were made in a namespace of this name.")
@click.option("--as", "new", type=parameters.form("name", names.BACKUP_NAME, "name of a backup"), metavar="NEW",
              help="Another name, for one backup.")  # fmt: skip
@click.option(
    "--on-delete",
    type=click.Choice(["Keep", "Delete"]),
    default="Keep",
    show_default=True,
    help="Delete: take it over, so that its data goes with it, and by its schedule.",
)
@click.option("--without-volumes", is_flag=True, help="Import the metastore alone.")
@click.option(
    "--credentials-secret",
    "secret",
    type=parameters.form("name", names.OBJECT_NAME, "name of a Secret"),
    metavar="NAME",
    help="Secret with which Jobs reach the store.  [default: as it was]",
)
@cluster_options
@store_options
def import_backups(
    access: StoreAccess,
    options: ConnectOptions,
    backups: tuple[str, ...],
    everything: bool,
    new: str | None,
    on_delete: str,
    without_volumes: bool,
    secret: str | None,
) -> int:
    """Make backups known to this Kubernetes that lie in a store, by their names or their ids there.

    That is for the day on which the Kubernetes is gone that made them: after it `chronik backup list` shows them, and
    `chronik restore` takes them. Their snapshots are looked for by what the CSI driver calls them, so it has to be one
    that knows them. `chronik backup catalog` shows what a store holds. Run again, it goes on where it was cut off.

    Exits with 0 if they are known, 2 if an option cannot be used, 3 if the API server refused, 4 if there is another
    backup or snapshot of that name, 8 if one is not there or not whole, 9 if the store does not answer.
    """
    if bool(backups) == everything:
        raise click.UsageError("name backups of the store, or say --all; one of both")
    if new and (everything or len(backups) > 1):
        raise click.UsageError("--as gives one backup another name")

    async def main(interruption: Interruption) -> int:
        from chronik.metastore.catalog import list_described  # noqa: PLC0415  # `--help` stays quick

        interruption.notice = "interrupted: the same command goes on"
        store = access.open()
        found = list_described(store)
        wish = _Wish(
            store.url, access.settings, new, owns=on_delete == "Delete", volumes=not without_volumes, secret=secret
        )
        async with connect(options) as kube:
            chosen = _of_namespace(found, kube.namespace) if everything else [_named(found, each) for each in backups]
            known = (await interruption.until_asked(kube.list(BACKUP, kube.namespace))).items
            worst = 0
            for each in chosen:
                try:
                    wanted = wish.wanted(each, kube.namespace)
                    await interruption.until_asked(_import(kube, wanted, known))
                except BackupError as error:
                    if not everything:
                        raise
                    worst = error.exit_code
                    click.echo(f"warning: {error.subject}: not imported: {error.message}", err=True)
        if not chosen:
            click.echo("no backups", err=True)
        return worst

    return run_async(main)


@dataclass(frozen=True, slots=True)
class _Wish:
    """How backups of a store are to be known: under which name, whose they are then, and how Jobs reach them."""

    url: str
    settings: Mapping[str, str]
    new: str | None
    secret: str | None
    owns: bool
    volumes: bool

    def wanted(self, backup: Described, namespace: str) -> Import:
        """Return how one backup is to be imported.

        Raises:
            BackupError: it cannot be used, or not like that.
        """
        described = checked(backup.checked(), f"{self.url}/{backup.id}/backup.json")
        place = {**self.settings, "account": os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")}
        wanted = imports.Import(
            identity=backup.id,
            described=described,
            store=self.url,
            name=self.new or imports.name_of(described)[1],
            namespace=namespace,
            destination=_destination(described, place, self.secret),
            owns=self.owns,
            volumes=self.volumes,
        )
        _check_handles(wanted)
        return wanted


def checked(described: Any, subject: str) -> Manifest:
    """Return a description of a backup that can be used.

    Raises:
        BackupDamaged: it describes no whole backup.
        BackupError: it is of a backup that cannot be used.
    """
    problem = imports.check(described)
    if problem is not None:
        kind = BackupDamaged if problem.reason == BackupDamaged.reason else BackupError
        raise kind(problem.message, subject=subject)
    found: Manifest = described
    return found


def _destination(described: Manifest, place: dict[str, str], secret: str | None) -> dict[str, Any]:
    found = imports.destination_of(described, place, secret)
    if found is None:
        message = "it is a folder of this machine, and Jobs of the Kubernetes would look for the backup in a bucket"
        raise BackupError(message, subject=place["url"], hint="Copy it into a bucket, and name that.")
    return found


def _check_handles(wanted: Import) -> None:
    claim = imports.without_handle(wanted.described) if wanted.volumes else ""
    if claim:
        message = f"its description does not say what the driver calls the snapshot of {claim}"
        hint = "Its operator could not read VolumeSnapshotContents. --without-volumes imports the metastore alone."
        raise BackupError(message, subject=wanted.identity, hint=hint)


def _named(found: list[Described], wanted: str) -> Described:
    """Return what is meant by a name or an id.

    Raises:
        BackupNotFound: nothing is, or several backups of one name are.
    """
    by_id = [each for each in found if each.id == wanted]
    fits = by_id or [each for each in found if each.name == wanted]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise BackupNotFound(f"several have this name: say which, {listed(each.id for each in fits)}", subject=wanted)
    hint = "`chronik backup catalog` shows what it holds."
    raise BackupNotFound("the store has no backup of that name or id", subject=wanted, hint=hint)


def _of_namespace(found: list[Described], namespace: str) -> list[Described]:
    """Return the backups that were made in a namespace of this name; those of others, and halves, are told."""
    chosen = []
    for each in found:
        if each.problem and not each.name:
            click.echo(f"note: {each.id}: not imported: {each.problem}", err=True)
        elif each.namespace != namespace:
            click.echo(f"note: {each.name}: not imported: it is of the namespace {each.namespace}", err=True)
        else:
            chosen.append(each)
    return chosen


async def _import(kube: Kube, wanted: Import, known: list[Manifest]) -> None:
    """Make one backup known, and say how that went.

    Raises:
        AlreadyExists: there is another one of that name, or another snapshot of the name of one of its snapshots.
    """
    ref, same = ObjectRef(BACKUP.name, wanted.namespace, wanted.name), _same(wanted, known)
    if same is not None and (phase_of(same) == "Completed" or IMPORTED not in _annotations(same)):
        click.echo(f"{ObjectRef.of(same)}: is known already")
        return
    parts = len(imports.volumes_of(wanted))
    if same is not None and same["metadata"]["name"] != wanted.name:
        message = f"it is being imported already, as {same['metadata']['name']}: finish or delete that"
        raise AlreadyExists(message, subject=str(ref))
    if parts:
        await _check_snapshots(kube, wanted)
    if imports.is_grouped(wanted):
        wanted = await _with_groups(kube, wanted)
    document = imports.document_of(wanted)
    document["metadata"]["resourceVersion"] = "1"  # creates, and changes nothing that is there
    try:
        backup = same or await kube.apply(document, manager=MANAGER)
    except ConflictError as error:
        hint = "Give the imported one another name: --as NAME."
        raise AlreadyExists("there is another backup of that name", subject=str(ref), hint=hint) from error
    for part in imports.parts_of(backup, wanted):
        await _make(kube, part, backup)
    identity = {key: backup[key] for key in ("apiVersion", "kind")}
    identity["metadata"] = {key: backup["metadata"][key] for key in ("name", "namespace", "uid")}
    status = imports.status_of(backup, wanted, timestamp())
    await kube.apply({**identity, "status": status}, force=True, subresource="status")
    click.echo(f"{ref}: imported, cut at {status['cutAt']}, with {counted(parts, 'snapshot')}")
    await _note_secrets(kube, wanted)


async def _check_snapshots(kube: Kube, wanted: Import) -> None:
    """Raise BackupError if this Kubernetes has no snapshots, before anything is made."""
    try:
        await kube.list(SNAPSHOT, wanted.namespace, label_selector=f"{BACKUP_LABEL}={wanted.identity}")
    except KindMissing as error:
        message = "this Kubernetes has no VolumeSnapshots"
        hint = (
            "Install the CRDs and the snapshot controller of github.com/kubernetes-csi/external-snapshotter; or import"
            " the metastore alone: --without-volumes."
        )
        raise BackupError(message, subject=wanted.name, hint=hint) from error


async def _with_groups(kube: Kube, wanted: Import) -> Import:
    """Return what is asked for, with the version of groups that this Kubernetes has.

    Raises:
        BackupError: it has none.
    """
    kind = await group_kind(kube)
    if kind is not None:
        return wanted._replace(group_version=kind.api_version)
    hint = f"{UNAVAILABLE.partition('; ')[0]}; or import the metastore alone: --without-volumes."
    raise BackupError("its volumes were cut as one group", subject=wanted.name, hint=hint)


def _same(wanted: Import, known: list[Manifest]) -> Manifest | None:
    """Return the ChronikBackup that is this backup: the one that made it, or one that was imported."""
    ids = ((each, _annotations(each).get(IMPORTED) or each["metadata"]["uid"]) for each in known)
    return next((each for each, identity in ids if identity == wanted.identity), None)


def _annotations(backup: Manifest) -> dict[str, str]:
    return dict(backup["metadata"].get("annotations") or {})


async def _make(kube: Kube, part: Manifest, backup: Manifest) -> None:
    """Create a snapshot or its content, unless an earlier run did.

    Raises:
        AlreadyExists: there is another one of that name.
    """
    metadata, kind = part["metadata"], await kube.kind(part["apiVersion"], part["kind"])
    try:
        await kube.apply({**part, "metadata": {**metadata, "resourceVersion": "1"}}, manager=MANAGER)
    except ConflictError as error:
        there = await kube.get(kind, metadata.get("namespace", ""), metadata["name"]) or {}
        if ((there.get("metadata") or {}).get("labels") or {}).get(BACKUP_LABEL) == backup["metadata"]["uid"]:
            return
        name = backup["metadata"]["name"]
        hint = f"Delete it if it is not wanted and run the same again; or `chronik backup delete {name}`, and --as."
        message = "there is one of that name already, which is not of this backup"
        raise AlreadyExists(message, subject=str(ObjectRef.of(part)), hint=hint) from error


async def _note_secrets(kube: Kube, wanted: Import) -> None:
    """Name the Secrets that a recovery takes and that are not here; nothing is said if they may not be read."""
    for name in imports.secrets_of(wanted.described, wanted.destination):
        try:
            found = await kube.get(SECRET, wanted.namespace, name)
        except (Forbidden, ApiError):
            return
        if found is None:
            show_note(f"a recovery takes Secret {wanted.namespace}/{name}, which is not here")
