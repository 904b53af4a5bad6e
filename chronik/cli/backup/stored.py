"""What is done with backups that lie in a store: listed, checked, forgotten, added to. No cluster is asked anything."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from chronik.api import names
from chronik.cli import parameters
from chronik.cli.backup.options import StoreAccess, context, id_option, read_json, report, result_option, store_options
from chronik.cli.common import cluster_options, timeout_option
from chronik.cli.main import print_data

if TYPE_CHECKING:
    from chronik.kube import ConnectOptions

NAME = parameters.form("name", names.BACKUP_NAME, "name of a backup")


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form.")
@store_options
def catalog(access: StoreAccess, output: str) -> None:
    """List what a store holds.

    What dead runs left there is told, too.

    Exits with 0, 2 if an option cannot be used, 8 if the store refuses, 9 if it does not answer.
    """
    from chronik.metastore.catalog import list_backups  # noqa: PLC0415  # `--help` stays quick

    entries = list_backups(access.open())
    if output == "json":
        print_data(json.dumps([entry.as_json() for entry in entries], indent=2, ensure_ascii=False) + "\n")
        return
    rows = [["ID", "METHOD", "STATE", "CUT", "BYTES", "ENCRYPTED", "BACKUP"]]
    for entry in entries:
        whole = entry.manifest
        state = "damaged" if entry.problem else "complete" if whole else "incomplete"
        about = [entry.id, "-", state, f"began {entry.started_at}" if entry.started_at else "-", "-", "-"]
        if whole:
            about = [entry.id, whole.method, state, whole.cut_at, f"{whole.total_bytes:,}"]
            about.append("yes" if whole.encryption else "no")
        rows.append([*about, entry.name or "-"])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    print_data("\n".join(lines) + "\n" if entries else "the store holds no backup\n")
    for entry in entries:
        if entry.problem:
            click.echo(f"warning: {entry.id}: {entry.problem}", err=True)
        for name, size in sorted(entry.leftovers.items()):
            click.echo(f"note: {name} ({size:,} bytes) is of a run that did not end, or still runs", err=True)


@click.command()
@click.argument("name", required=False, type=NAME, metavar="[NAME]")
@click.option("--id", "identity", default="", metavar="ID", help="Which backup of the store.")
@click.option("--restore-test", "test", is_flag=True, help="Restore it into a PostgreSQL of its own, and count rows.")
@click.option("--wait/--no-wait", default=False, show_default=True, help="With NAME: wait for what is found.")
@timeout_option
@result_option
@cluster_options
@partial(store_options, required=False)
def verify(  # each is an option
    access: StoreAccess,
    options: ConnectOptions,
    name: str | None,
    identity: str,
    test: bool,
    wait: bool,
    timeout: float,
    termination_log: str | None,
) -> int | None:
    """Read a backup back and check all of it.

    With NAME, an operator has a Job check the ChronikBackup of that name, where its store can be reached; what is found
    stands in its status. With --id and --store, this very command reads the backup from the store.

    What is read is held to the manifest: sizes, SHA-256, and what pg_restore makes of it.

    Exits with 0 if it is what was stored, 2 if an option cannot be used, 8 if it is damaged or missing, 9 if the store
    does not answer; with NAME and without --wait, with 0 if it was asked for.
    """
    if bool(name) == bool(identity):
        raise click.UsageError("name a ChronikBackup, or say --id and --store for a backup in a store; one of both")
    if name:
        from chronik.cli.backup.cluster import ask_to_verify  # noqa: PLC0415  # Jobs ask no cluster

        return ask_to_verify(name, options, restore_test=test, seconds=timeout if wait else None)

    def work() -> dict[str, Any]:
        from chronik.metastore.catalog import restore_test, verify_backup  # noqa: PLC0415  # `--help` stays quick
        from chronik.metastore.runs import check_id  # noqa: PLC0415

        store, keys = access.open(), access.keys()
        manifest = verify_backup(store, check_id(identity), keys)
        told = {"bytes": manifest.total_bytes, "verified": True, "restoreTest": test}
        return told | ({"rows": sum(restore_test(store, manifest, keys, context()).values())} if test else {})

    report("backup verify", identity, termination_log, work)
    return None


@click.command()
@id_option
@result_option
@store_options
def forget(access: StoreAccess, identity: str, termination_log: str | None) -> None:
    """Remove all parts of one backup from a store.

    Exits with 0 if nothing of it is there any more, 2 if an option cannot be used, 8 if the store refuses, 9 if it does
    not answer.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.catalog import forget_backup  # noqa: PLC0415  # `--help` stays quick
        from chronik.metastore.runs import check_id  # noqa: PLC0415

        removed = forget_backup(access.open(), check_id(identity))
        return {"already": not removed, "removed": removed}

    report("backup forget", identity, termination_log, work)


@click.command()
@id_option
@click.option(
    "--describe", "description", required=True, type=parameters.FILE, metavar="FILE", help="The JSON to keep."
)
@result_option
@store_options
def record(access: StoreAccess, identity: str, description: str, termination_log: str | None) -> None:
    """Put a file of JSON beside a backup.

    It lies there as backup.json.

    Exits with 0 if it is there, 2 if an option or the file cannot be used, 8 if there is no such backup or the store
    refuses, 9 if it does not answer.
    """

    def work() -> dict[str, Any]:
        from chronik.metastore.runs import RECORD, check_id, get_manifest  # noqa: PLC0415  # `--help` stays quick

        store, text = access.open(), json.dumps(read_json(description), indent=2).encode() + b"\n"
        get_manifest(store, check_id(identity))
        store.write(f"{identity}/{RECORD}", [text])
        return {"object": f"{store.url}/{identity}/{RECORD}", "bytes": len(text)}

    report("backup record", identity, termination_log, work)
