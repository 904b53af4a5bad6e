"""What runs inside of Jobs: a backup of a metastore, and its restore. No cluster is asked anything."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chronik.api.names import Form
from chronik.cli import parameters
from chronik.cli.backup.options import (
    StoreAccess,
    context,
    id_option,
    report,
    request,
    request_options,
    result_option,
    store_options,
)
from chronik.errors import ChronikError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronik.metastore.encryption import Key
    from chronik.metastore.manifest import Manifest
    from chronik.metastore.runs import Context, Request
    from chronik.metastore.store import Store

    BackUp = Callable[[Store, Mapping[str, str], Sequence[Key], Request, Context], tuple[Manifest, bool]]

_SLOT = Form(r"[a-z0-9_]{1,63}", 63, "lower-case letters, digits and _, at most 63")
_SLOT_NAME = parameters.form("name", _SLOT, "name of a slot")


@click.command()
@id_option
@parameters.with_options(*request_options, result_option)
@store_options
def metastore(
    access: StoreAccess, identity: str, cluster: str, description: str | None, termination_log: str | None
) -> None:
    """Dump the metastore's database into a store.

    The database is the one of PGHOST, PGDATABASE, PGUSER and PGPASSWORD, or of CHRONIK_DATABASE_URL. The dump is
    streamed, read back and checked; its manifest is written last. A run after one that was cut off begins anew; one
    after a run that ended finds the backup, and does nothing.

    Exits with 0 if the backup is whole, 2 if an option or a file cannot be used, 8 if it failed and the same again will
    not help, 9 if it may.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.dump import back_up_metastore  # noqa: PLC0415  # `--help` stays quick

        return _backed_up(back_up_metastore, access, request(identity, cluster, description))

    report("backup metastore", identity, termination_log, work)


def _backed_up(make: BackUp, access: StoreAccess, wanted: Request) -> dict[str, Any]:
    """Make a backup of the environment's database, and return what the result says of it."""
    from chronik.metastore.tools import database_environment  # noqa: PLC0415  # `--help` stays quick

    keys, store = access.keys(), access.open()
    manifest, already = make(store, database_environment(os.environ), keys, wanted, context())
    return {"already": already, **told_of(manifest, store.url)}


def told_of(manifest: Manifest, url: str) -> dict[str, Any]:
    """Return what the result says of a backup."""
    file = manifest.files[0]
    told = {
        "method": manifest.method,
        "object": f"{url}/{manifest.id}/{file.name}",
        "bytes": file.bytes,
        "sha256": file.sha256,
        "server": manifest.server,
        "startedAt": manifest.started_at,
        "cutAt": manifest.cut_at,
        "completedAt": manifest.completed_at,
        "encrypted": manifest.encryption is not None,
        "verified": True,
    }
    if manifest.encryption:
        told["keyId"] = manifest.encryption.key_id
    if manifest.wal:
        told["wal"] = {
            "systemIdentifier": manifest.wal.system_identifier,
            "timeline": manifest.wal.timeline,
            "start": manifest.wal.start,
            "end": manifest.wal.end,
        }
    return told | {"rows": sum(manifest.rows.values())}


@click.command()
@id_option
@parameters.with_options(*request_options, result_option)
@store_options
def base(
    access: StoreAccess, identity: str, cluster: str, description: str | None, termination_log: str | None
) -> None:
    """Copy the metastore's whole server.

    It can be recovered to the moment the copy ended, and to later ones by the WAL that `chronik backup receive` stores.
    The user has to be allowed to replicate.

    Exits with 0 if the backup is whole, 2 if an option or a file cannot be used, 8 if it failed and the same again will
    not help, 9 if it may.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.base import back_up_base  # noqa: PLC0415  # `--help` stays quick

        return _backed_up(back_up_base, access, request(identity, cluster, description))

    report("backup base", identity, termination_log, work)


@click.command()
@click.option("--slot", required=True, type=_SLOT_NAME, metavar="NAME", help="The replication slot. It is made.")
@click.option(
    "--interval",
    type=parameters.Duration(),
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How often the segment that is being written is stored.",
)
@click.option(
    "--folder", type=parameters.FOLDER, metavar="DIR", help="For what is under way.  [default: a temporary one]"
)
@click.option(
    "--progress-file",
    "progress",
    type=parameters.FILE,
    metavar="FILE",
    help="Touch it whenever the store has all that the server had a moment ago.",
)
@result_option
@store_options
def receive(  # each is an option
    access: StoreAccess,
    slot: str,
    interval: float,
    folder: str | None,
    progress: str | None,
    termination_log: str | None,
) -> None:
    """Receive the metastore's WAL, for ever.

    It is put into a store as it is written: whole segments, and at intervals the one that is being written.
    It runs until it is stopped, by SIGTERM or SIGINT. The slot is moved on only when the store has the WAL, so nothing
    is lost while it is away; the server keeps what the store lacks.

    If the database's server is another one than the last time, the slot may be left on the old one: that is told once,
    with the statement that drops it, and ends the run. The next one goes on.

    Exits with 0 if it was stopped, 2 if an option or a file cannot be used, 8 if it cannot go on, 9 if the server is
    another one.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.receiver import Receiver  # noqa: PLC0415  # `--help` stays quick
        from chronik.metastore.tools import database_environment  # noqa: PLC0415

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        store, keys, environment = access.open(), access.keys(), database_environment(os.environ)
        with tempfile.TemporaryDirectory(prefix="chronik-") as temporary:
            place = Path(folder or temporary)
            told = Path(progress) if progress else None
            Receiver(store, environment, keys, slot, place, interval, context(), stop, told).run()
        return {"slot": slot}

    from chronik.metastore.errors import SlotLeft  # noqa: PLC0415  # `--help` stays quick

    try:
        report("backup receive", "", termination_log, work)
    except SlotLeft as error:
        error.settle()  # it is told by now: the next run goes on
        raise


@click.command("drop-slot")
@click.option("--slot", required=True, type=_SLOT_NAME, metavar="NAME", help="The replication slot.")
@click.option(
    "--wait",
    "seconds",
    type=parameters.Duration(),
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for its reader to stop.",
)
@result_option
@partial(store_options, required=False)
def drop_slot(access: StoreAccess, slot: str, seconds: float, termination_log: str | None) -> None:
    """Drop the replication slot of an archive that has ended.

    A slot that nobody reads has the server keep its log until the disk is full. What is in the store stays; with
    --store it is noted there that the slot is gone, so that a later receiver looks for it on no server.

    Exits with 0 if there is no such slot any more, 2 if an option cannot be used, 8 if the server refuses, 9 if it does
    not answer, or the slot is still read.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.receiver import drop_slot as drop  # noqa: PLC0415  # `--help` stays quick
        from chronik.metastore.tools import database_environment  # noqa: PLC0415

        environment = database_environment(os.environ)
        dropped = drop(environment, slot, seconds, context())
        if access.settings["url"]:
            _forget(access, slot, environment)
        return {"slot": slot, "already": not dropped}

    report("backup drop-slot", "", termination_log, work)


def _forget(access: StoreAccess, slot: str, environment: Mapping[str, str]) -> None:
    from chronik.metastore.archive import SlotRecord  # noqa: PLC0415  # `--help` stays quick

    try:
        SlotRecord(access.open(), slot).forget(environment)
    except ChronikError as error:  # the slot is gone, which is what counts
        click.echo(f"note: that is not noted in the store: {error.message}", err=True)


class _Moment(click.ParamType[datetime]):
    """A point in time as RFC 3339 has it, with its zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"{value!r} is no time with a zone; write 2026-11-29T08:30:00Z", param, ctx)
        return moment


@click.command("metastore")
@id_option
@click.option(
    "--target-time",
    "target",
    type=_Moment(),
    metavar="TIME",
    help="Recover a base to this moment: 2026-11-29T08:30:00Z.",
)
@click.option("--exact", is_flag=True, help="Fail if the archive ends before that, rather than recover to its end.")
@click.option("--allow-overwrite", is_flag=True, help="Drop everything in the database first, if it is not empty.")
@result_option
@store_options
def restore_metastore(
    access: StoreAccess,
    identity: str,
    target: datetime | None,
    exact: bool,
    allow_overwrite: bool,
    termination_log: str | None,
) -> None:
    """Restore a backup into the metastore's database, which has to be empty.

    All in one transaction, with a row in the table chronik_recovery: after a run that was cut off the database is as it
    was, and a run after one that ended finds the row, and does nothing. A base is recovered by a PostgreSQL of its own,
    and its database then loaded in the same way.

    Exits with 0 if the database is restored, 2 if an option or a file cannot be used, 8 if it failed and the same again
    will not help, 9 if it may.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.restore import Wish, restore_backup  # noqa: PLC0415  # `--help` stays quick
        from chronik.metastore.runs import check_id  # noqa: PLC0415
        from chronik.metastore.tools import database_environment  # noqa: PLC0415

        wish = Wish(check_id(identity), target, exact=exact, overwrite=allow_overwrite)
        store, keys, environment = access.open(), access.keys(), database_environment(os.environ)
        return restore_backup(store, keys, environment, wish, context())

    report("restore metastore", identity, termination_log, work)
