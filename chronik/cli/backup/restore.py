"""`chronik restore NAME`: make a new cluster from a backup, or print its document for Git."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import click

from chronik.api import names
from chronik.backups.recovery.choice import choose, cut_at
from chronik.backups.recovery.document import NewCluster, document_of, has_database
from chronik.cli import parameters
from chronik.cli.common import cluster_options, timeout_option
from chronik.cli.interrupt import run_async
from chronik.cli.main import print_data, show_note, show_problems
from chronik.cli.streams import say
from chronik.errors import AlreadyExists, ConflictError, InputError, InvalidDocuments, WaitTimeout
from chronik.kube import connect
from chronik.manifest import BACKUP, CLUSTER, ObjectRef
from chronik.metastore.errors import BackupError
from chronik.status.compute import Reason

if TYPE_CHECKING:
    from chronik.api.sections.bootstrap import RecoverySource
    from chronik.backups.recovery.choice import Choice
    from chronik.cli.interrupt import Interruption
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import Manifest

MANAGER = "chronik-restore"
"""Owns the spec of the clusters that are made from backups."""
_DATABASE = names.Form(r"[^\s/'\"\\]{1,63}", 63, "1 to 63 characters, without spaces, quotes and slashes")


class RestoreGroup(click.Group):
    """`chronik restore`: what is no command of it is the name of a cluster, to be restored."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments apart."""
        return super().parse_args(ctx, self.whole(args))

    def whole(self, args: list[str]) -> list[str]:
        """Return arguments with the command in them: `production …` is short for `cluster production …`."""
        if not args or args[0] in self.commands:
            return args
        short = not args[0].startswith("-") or {"--from", "--as"} & {*args}
        return ["cluster", *args] if short else args


class _Source(click.ParamType[str]):
    """The name of a backup, or a time with its zone."""

    name = "backup"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        text = str(value)
        if not (names.BACKUP_NAME.fits(text) or is_time(text)):
            self.fail(f"{text!r} is neither the name of a backup nor a time like 2026-11-29T08:30:00Z", param, ctx)
        return text


def is_time(text: str) -> bool:
    """Return whether a text is a time of RFC 3339, with its zone and its T."""
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


@click.command("cluster")
@click.argument("cluster", type=parameters.CLUSTER_NAME, metavar="NAME")
@cluster_options
@click.option(
    "--from",
    "source",
    type=_Source(),
    metavar="BACKUP|TIME",
    help="A backup, or a time: 2026-11-29T08:30:00Z.  [default: the newest usable backup]",
)
@click.option("--as", "new", type=parameters.CLUSTER_NAME, metavar="NEW", required=True, help="The new cluster's name.")
@click.option(
    "--database",
    type=parameters.form("name", _DATABASE, "name of a database"),
    metavar="NAME",
    help="Database of its metastore, which has to be empty.  [default: the old one's]",
)
@click.option(
    "--metastore",
    type=click.Choice(["Restore", "Exact", "Skip"]),
    default="Restore",
    show_default=True,
    help="Whether to load the backup's dump, take its log to exactly the time, or leave the database to others.",
)
@click.option(
    "--nodes",
    type=click.Choice(["Same", "Fewer", "More"]),
    default="Same",
    show_default=True,
    help="Whether it may have other nodes than the backup has volumes.",
)
@click.option("--dry-run", is_flag=True, help="Print the document, for Git, and make nothing.")
@click.option("--wait/--no-wait", default=False, show_default=True, help="Wait until it is recovered.")
@timeout_option
def restore_cluster(
    cluster: str,
    options: ConnectOptions,
    source: str | None,
    new: str,
    database: str | None,
    metastore: str,
    nodes: str,
    dry_run: bool,
    wait: bool,
    timeout: float,
) -> int:
    """Make a new cluster from a backup of cluster NAME, which need not be there any more.

    The new cluster has the spec that was backed up, and begins with the volumes and the metastore of the backup: an
    operator sees to that. Nothing is ever restored in place. Exits with 0 if it was asked for or, with --wait, if it is
    recovered; 3 if the API server refused; 4 if there is a cluster of the new name; 6 if it took too long; 8 if there
    is no such backup, or the recovery cannot be done.
    """
    if metastore == "Exact" and not (source and is_time(source)):
        raise click.UsageError("--metastore Exact takes a time to be exact about: --from 2026-11-29T08:30:00Z")
    if dry_run and wait:
        raise click.UsageError("--wait waits for a cluster, which a dry run does not make")
    if new == cluster:
        raise click.UsageError("a backup is never restored in place: give the new cluster another name")

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            chosen = await interruption.until_asked(_chosen(kube, cluster, source, metastore))
            backup = chosen.backup
            if database is not None and not has_database(backup):
                raise InputError("its spec names no database that could be another", subject="--database")
            wanted = NewCluster(new, _from(cluster, source, backup), metastore, nodes, database)
            document = _checked(document_of(backup, wanted))
            await interruption.until_asked(_notes(kube, cluster, document, backup))
            if dry_run:
                from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415  # most restores print none

                print_data(to_yaml_stream([document]))
                return 0
            ref = await _make(kube, document)
            also = f", the metastore as of {chosen.target}" if chosen.target else ""
            click.echo(f"{ref}: asked for, from {backup['metadata']['name']}, which was cut at {cut_at(backup)}{also}")
            if wait:
                return await interruption.until_asked(_recovered(kube, ref, timeout))
            return 0

    return run_async(main)


def _from(cluster: str, source: str | None, backup: Manifest) -> dict[str, str]:
    """Return `from` of the document: the time that was given stays one; else it is the backup that is named."""
    if source is not None and is_time(source):
        return {"cluster": cluster, "targetTime": source}
    return {"backup": str(backup["metadata"]["name"])}


async def _chosen(kube: Kube, cluster: str, source: str | None, metastore: str) -> Choice:
    """Return the backup that an operator would take, and the moment of the metastore.

    Raises:
        BackupError: there is none, or it cannot be used, or is of another cluster.
    """
    by_name = source is not None and not is_time(source)
    wanted = {"backup": source if by_name else None, "cluster": None if by_name else cluster}
    wanted |= {"targetTime": None if by_name else source}
    found = choose(cast("RecoverySource", wanted), (await kube.list(BACKUP, kube.namespace)).items, metastore)
    subject = f"{kube.namespace}/{cluster}"
    if isinstance(found, Reason):
        raise BackupError(found.message, subject=subject, hint="`chronik backup list -A` shows all backups.")
    if found.backup["spec"]["cluster"] != cluster:
        other = found.backup["spec"]["cluster"]
        raise BackupError(f"ChronikBackup {source} is of {other}", subject=subject, hint=f"chronik restore {other} …")
    return found


def _checked(document: Manifest) -> Manifest:
    """Return the new document without what the API server fills in, if schema and rules have nothing against it.

    Raises:
        InvalidDocuments: this version of chronik does not take what was backed up.
    """
    from chronik.offline import loading  # noqa: PLC0415  # `--help` stays quick

    validated = loading.validator().validate(document)
    if validated.cluster is None:
        raise InvalidDocuments(validated.problems, subject=str(ObjectRef.of(document)))
    show_problems([each for each in validated.problems if each.severity == "warning"])
    return loading.validator().without_defaults(document)


async def _notes(kube: Kube, cluster: str, document: Manifest, backup: Manifest) -> None:
    """Say what a person has to see to."""
    now, was = (each.get("metastore") for each in (document["spec"], backup["status"]["cluster"]["spec"]))
    restores = document["spec"]["bootstrap"]["recovery"].get("metastore") != "Skip"
    if now and was and restores and _database(now) == _database(was):
        show_note("the new cluster names the old one's database, which has to be empty; --database names another")
    if await kube.get(CLUSTER, kube.namespace, cluster) is not None:
        text = f"{cluster} is still there: two clusters must never write into one database, or one bucket"
        show_note(text)


def _database(metastore: dict[str, Any]) -> list[Any]:
    """Return what tells one database from another."""
    connection = metastore.get("connection") or {}
    return [connection.get(key) for key in ("host", "database", "existingUrlSecret")]


async def _make(kube: Kube, document: Manifest) -> ObjectRef:
    metadata = {**document["metadata"], "resourceVersion": "1"}  # creates, and changes nothing that is there
    try:
        return ObjectRef.of(await kube.apply({**document, "metadata": metadata}, manager=MANAGER))
    except ConflictError as error:
        hint = "A backup is restored into a new cluster only: choose another name with --as."
        subject = str(ObjectRef.of(document))
        raise AlreadyExists("there is a cluster of that name", subject=subject, hint=hint) from error


async def _recovered(kube: Kube, ref: ObjectRef, seconds: float) -> int:
    """Wait until a cluster is recovered, and say on stderr whatever it waits for."""
    from chronik.apply.follow import named, until  # noqa: PLC0415  # most restores wait for nothing

    said = [""]

    async def look() -> str | None:
        document = await kube.get(CLUSTER, ref.namespace, ref.name) or {}
        conditions = (document.get("status") or {}).get("conditions") or ()
        found: dict[str, Any] = next((each for each in conditions if each["type"] == "Recovering"), {})
        message = str(found.get("message", ""))
        if found.get("reason") == "Recovered":
            return message
        if found.get("status") == "False":
            raise BackupError(message, subject=str(ref))
        if message and message != said[-1]:
            say(f"{ref}: {message}", err=True)
        said.append(message)
        return None

    if (message := await until(kube, [named(CLUSTER, ref)], look, seconds)) is None:
        text = said[-1] or "no operator has looked at it: is one running that was installed with --features backups?"
        raise WaitTimeout(f"it is not recovered yet: {text}", subject=str(ref))
    say(f"{ref}: recovered. {message}")
    return 0
