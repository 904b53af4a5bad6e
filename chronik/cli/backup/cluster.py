"""`chronik backup create|list|describe|delete`: ChronikBackups in a cluster, which its operator makes and deletes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from chronik.api import names
from chronik.backups.verification import RESTORE_TEST, VERIFY
from chronik.cli import parameters
from chronik.cli.common import cluster_options, missing_cluster, report_option, timeout_option
from chronik.cli.interrupt import run_async
from chronik.cli.main import print_data, table_option
from chronik.cli.streams import look, need_terminal, say
from chronik.clock import timestamp
from chronik.errors import InputError, ObjectMissing, WaitTimeout
from chronik.kube import connect
from chronik.manifest import BACKUP, CLUSTER, CLUSTER_LABEL, ClusterKey, ObjectRef
from chronik.metastore.errors import BackupDamaged, BackupError

if TYPE_CHECKING:
    from chronik.cli.interrupt import Interruption
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import Manifest

MANAGER = "chronik-backup"
"""Owns the spec of the backups that people make."""
_NAME = parameters.form("name", names.BACKUP_NAME, "name of a backup")


@click.command()
@click.argument("cluster", type=parameters.CLUSTER_NAME, metavar="CLUSTER")
@cluster_options
@click.option("--name", type=_NAME, metavar="NAME", help="Its name.  [default: the cluster's, and the time]")
@click.option(
    "--on-delete",
    type=click.Choice(["Delete", "Keep"]),
    default="Delete",
    show_default=True,
    help="What becomes of its data when it is deleted.",
)
@click.option("--wait/--no-wait", default=False, show_default=True, help="Wait until it is completed, or has failed.")
@timeout_option
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    type=parameters.Source(),
    metavar="FILE|DIR|-",
    help="The document of the cluster: make the backup here, without an operator, and wait for it. Repeatable.",
)
@click.option("--image", default="", metavar="IMAGE", help="With -f: image of the Jobs, if the document names none.")
@report_option
def create(  # each is an option
    cluster: str,
    options: ConnectOptions,
    name: str | None,
    on_delete: str,
    wait: bool,
    timeout: float,
    files: tuple[str, ...],
    image: str,
    output: str,
) -> int:
    """Have an operator make a backup of a cluster, or make it without one.

    What is backed up, and where to, is in spec.backup of the cluster. With -f it is in that document, and neither an
    operator nor a ChronikBackup is needed; snapshots and dump stay until you delete them, and backup.json beside the
    dump names them all.

    Exits with 0 if it was asked for or, with --wait or -f, if it can be used; 3 if the API server refused; 6 if it took
    too long; 8 if the backup failed.
    """
    name = name or f"{cluster}-{timestamp().replace('-', '').replace(':', '').lower()}"
    if files:
        return _here(files, cluster, name, options, image, timeout, output)

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            document = await interruption.until_asked(kube.get(CLUSTER, kube.namespace, cluster))
            if document is None:
                raise await missing_cluster(kube, [ClusterKey(kube.namespace, cluster)])
            _check_wanted(document)
            theirs = document["metadata"].get("labels") or {}  # by which an operator of a shard finds it
            wanted: Manifest = {
                "apiVersion": BACKUP.api_version,
                "kind": BACKUP.name,
                "metadata": {
                    "name": name,
                    "namespace": kube.namespace,
                    "labels": {**theirs, CLUSTER_LABEL: cluster},
                    "resourceVersion": "1",  # creates, and changes nothing that is there
                },
                "spec": {"cluster": cluster, "onDelete": on_delete},
            }
            made = await kube.apply(wanted, manager=MANAGER)
            ref = ObjectRef.of(made)
            _tell(f"{ref}: asked for", output)
            if wait:
                made = await interruption.until_asked(_completed(kube, ref, timeout))
                _tell(f"{ref}: completed", output)
        if output == "json":
            _print([made], output)
        return 0

    return run_async(main)


def _check_wanted(document: Manifest) -> None:
    """Refuse to ask for a backup that no operator would ever begin, and say if this one's operator does not yet."""
    if not document["spec"].get("backup"):
        hint = "Write spec.backup into its document; docs/backup.md shows one."
        message = "it has no spec.backup, which says what is backed up, and where to"
        raise InputError(message, subject=str(ObjectRef.of(document)), hint=hint)
    for each in (document.get("status") or {}).get("conditions") or ():
        if each["type"] == "FeatureMissing":
            say(f"note: {ObjectRef.of(document)}: {each.get('message')}", err=True)


def _tell(text: str, output: str) -> None:
    """Say how far it is: as data, unless that is the backup itself."""
    click.echo(text, err=output == "json")


def _here(
    files: tuple[str, ...],
    cluster: str,
    name: str,
    options: ConnectOptions,
    image: str,
    seconds: float,
    output: str,
) -> int:
    from chronik.cli.backup.oneshot import OneShot, back_up_here, described, lines_of  # noqa: PLC0415  # most have an operator

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            found = described(files, cluster, options.namespace, kube.namespace)
            interruption.notice = f"interrupted: what was made stays; the same command with --name {name} goes on"
            backup = await interruption.until_asked(back_up_here(kube, OneShot(found, name, image, seconds)))
        if output == "json":
            _print([backup], output)
        else:
            click.echo("\n".join(lines_of(backup)))
        return 0

    return run_async(main)


async def _completed(kube: Kube, ref: ObjectRef, seconds: float) -> Manifest:
    """Return a backup once it is completed, and say on stderr whatever it waits for."""
    from chronik.apply.follow import named, until  # noqa: PLC0415  # most commands wait for nothing

    said = [("", "")]

    async def look() -> Manifest | None:
        backup = await _existing(kube, ref)
        phase, message = _phase(backup), _message(backup)
        if phase == "Completed":
            return backup
        if phase == "Failed":
            raise BackupError(message, subject=str(ref))
        if message and message != said[-1][1]:
            say(f"{ref}: {phase}: {message}", err=True)
        said.append((phase, message))
        return None

    if (found := await until(kube, [named(BACKUP, ref)], look, seconds)) is None:
        phase, message = said[-1]
        raise WaitTimeout(f"it is {phase}, and not completed yet: {message}", subject=str(ref))
    return found


def ask_to_verify(name: str, options: ConnectOptions, *, restore_test: bool, seconds: float | None) -> int:
    """Have an operator check a backup; wait so many seconds for what is found, or not at all.

    Raises:
        InputError: it is not completed.
        BackupError: it is damaged, or could not be checked.
    """

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            ref = ObjectRef(BACKUP.name, kube.namespace, name)
            backup = await interruption.until_asked(_existing(kube, ref))
            if _phase(backup) != "Completed":
                raise InputError(f"it is {_phase(backup)}, and only a completed one can be checked", subject=str(ref))
            asked = f"{timestamp()} {RESTORE_TEST}" if restore_test else timestamp()
            await kube.merge(BACKUP, ref, {"metadata": {"annotations": {VERIFY: asked}}})
            click.echo(f"{ref}: asked for")
            return 0 if seconds is None else await interruption.until_asked(_checked(kube, ref, asked, seconds))

    return run_async(main)


async def _checked(kube: Kube, ref: ObjectRef, asked: str, seconds: float) -> int:
    """Wait until a check has ended, and say what it found."""
    from chronik.apply.follow import named, until  # noqa: PLC0415  # as above

    said = [""]

    async def look() -> dict[str, Any] | None:
        check: dict[str, Any] = ((await _existing(kube, ref)).get("status") or {}).get("verification") or {}
        said.append(str(check.get("message", "")))
        return check if check.get("requested") == asked and check.get("result") != "Running" else None

    if (check := await until(kube, [named(BACKUP, ref)], look, seconds)) is None:
        raise WaitTimeout(f"it is not checked yet{f': {said[-1]}' if said[-1] else ''}", subject=str(ref))
    if check.get("result") == "Failed":
        raise BackupDamaged(said[-1], subject=str(ref), hint="It is not usable any more: make another one.")
    if check.get("result") != "Passed":
        raise BackupError(f"it could not be checked: {said[-1]}", subject=str(ref))
    rows = f", {check['rows']:,} rows were restored" if "rows" in check else ""
    click.echo(f"{ref}: passed{rows}")
    return 0


@click.command("list")
@click.argument("cluster", required=False, type=parameters.CLUSTER_NAME, metavar="[CLUSTER]")
@cluster_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Backups of all namespaces.")
@table_option
def list_backups(cluster: str | None, options: ConnectOptions, all_namespaces: bool, output: str) -> int:
    """List the backups of a cluster, or of all, the newest first."""

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            namespace = None if all_namespaces else kube.namespace
            found = (await interruption.until_asked(kube.list(BACKUP, namespace))).items
            shown = [each for each in found if cluster in {None, each["spec"]["cluster"]}]
            shown.sort(key=lambda each: str(each["metadata"].get("creationTimestamp")), reverse=True)
            if output != "table":
                _print(shown, output)
            elif shown:
                print_data(_table(shown, namespaced=all_namespaces))
            else:
                of = f" of {cluster}" if cluster else ""
                click.echo(f"no backups{of} in {f'namespace {namespace}' if namespace else 'any namespace'}", err=True)
        return 0

    return run_async(main)


@click.command()
@click.argument("name", type=_NAME, metavar="NAME")
@cluster_options
@table_option
def describe(name: str, options: ConnectOptions, output: str) -> int:
    """Show what a backup consists of, part by part."""

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            ref = ObjectRef(BACKUP.name, kube.namespace, name)
            backup = await interruption.until_asked(_existing(kube, ref))
            if output == "table":
                print_data(_described(backup))
            else:
                _print([backup], output)
        return 0

    return run_async(main)


@click.command()
@click.argument("backups", nargs=-1, required=True, type=_NAME, metavar="NAME...")
@cluster_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--leave-data", is_flag=True, help="Leave the dump where it is, if it cannot be removed.")
def delete(backups: tuple[str, ...], options: ConnectOptions, yes: bool, leave_data: bool) -> int:
    """Delete backups, and what they consist of unless they say onDelete: Keep.

    The operator deletes the snapshots and the dump, and then the backup goes; this does not wait for it.
    """
    if not yes:
        need_terminal("confirm with --yes")

    async def main(interruption: Interruption) -> int:
        del interruption
        async with connect(options) as kube:
            refs = [ObjectRef(BACKUP.name, kube.namespace, name) for name in backups]
            found = [await _existing(kube, ref) for ref in refs]
            if not yes:
                print_data(_table(found, namespaced=False))
                if not click.confirm("Delete them, for good?", err=True):
                    click.echo("nothing was deleted", err=True)
                    return 0
            for ref, backup in zip(refs, found, strict=True):
                if leave_data:
                    await kube.merge(BACKUP, ref, {"metadata": {"annotations": {"chronik.stream/leave-data": "true"}}})
                await kube.delete(BACKUP, ref, uid=backup["metadata"]["uid"])
                click.echo(f"{ref}: is being deleted")
        return 0

    return run_async(main)


async def _existing(kube: Kube, ref: ObjectRef) -> Manifest:
    found = await kube.get(BACKUP, ref.namespace, ref.name)
    if found is None:
        hint = "`chronik backup list -A` shows all backups."
        raise ObjectMissing("there is no such backup", subject=str(ref), hint=hint)
    return found


def _print(backups: list[Manifest], output: str) -> None:
    from chronik.documents.writer import to_json_list, to_yaml_stream  # noqa: PLC0415  # most people read tables

    print_data(to_json_list(backups) if output == "json" else to_yaml_stream(backups))


def _table(backups: list[Manifest], *, namespaced: bool) -> str:
    from chronik.report.page import BOLD, Page  # noqa: PLC0415  # programs read no tables

    head = [*(["NAMESPACE"] if namespaced else []), "NAME", "CLUSTER", "PHASE", "USABLE", "CUT", "SIZE"]
    rows = [[(name, BOLD) for name in head]]
    for each in backups:
        status = each.get("status") or {}
        usable = "yes" if status.get("usable") else "no"
        cells = [each["metadata"]["name"], each["spec"]["cluster"], _phase(each), usable]
        cells += [status.get("cutAt", "-"), status.get("size", "-")]
        rows.append([(cell, "") for cell in ([each["metadata"]["namespace"]] if namespaced else []) + cells])
    page = Page(look(sys.stdout)["width"], color=look(sys.stdout)["color"])
    page.columns(rows, cut=True)
    return page.text


def _described(backup: Manifest) -> str:
    """Return a backup for people: what it is, what it waits for, and each part."""
    from chronik.report.page import BOLD, Page  # noqa: PLC0415  # programs read no pages

    status = backup.get("status") or {}
    page = Page(look(sys.stdout)["width"], color=look(sys.stdout)["color"])
    about = {
        "Backup": str(ObjectRef.of(backup)),
        "Cluster": backup["spec"]["cluster"],
        "Phase": _phase(backup),
        "Usable": "yes" if status.get("usable") else "no",
        "Started": status.get("startedAt"),
        "Cut": status.get("cutAt"),
        "Completed": status.get("completedAt"),
        "Expires": status.get("expiresAt"),
        "When deleted": backup["spec"].get("onDelete"),
    }
    page.columns([[(f"{key}:", BOLD), (value, "")] for key, value in about.items() if value])
    if _message(backup):
        page.paragraph(_message(backup))
    metastore: dict[str, Any] | None = status.get("metastore")
    parts = []
    if metastore is not None:
        where = metastore.get("object") or metastore.get("error") or "not dumped yet"
        parts.append(["metastore", "ready" if metastore.get("ready") else "not ready", str(where)])
    group = status.get("group")
    if group:
        how = group.get("error") or group.get("handle") or ("cut" if group.get("createdAt") else "not cut yet")
        parts.append([f"group {group['name']}", "ready" if group.get("ready") else "not ready", how])
    for each in status.get("volumes") or ():
        how = each.get("error") or each.get("handle") or ("cut, not ready" if each.get("createdAt") else "not cut yet")
        parts.append([each["claim"], "ready" if each.get("ready") else "not ready", how])
    record, check = status.get("record"), status.get("verification")
    if record:
        parts.append(
            ["description", "missing" if "error" in record else "ready", record.get("object") or record["error"]]
        )
    if parts:
        rows = [[(name, BOLD) for name in ("PART", "STATE", "WHERE, OR WHY NOT")]]
        page.columns([*rows, *([(cell, "") for cell in part] for part in parts)])
    if check:
        how = ("restored for a test" if check.get("restoreTest") else "read back") + f": {check['result']}"
        page.paragraph(f"Checked {check.get('endedAt', 'now')}, {how}. {check.get('message', '')}".rstrip(". ") + ".")
    return page.text


def _phase(backup: Manifest) -> str:
    if "deletionTimestamp" in backup["metadata"]:
        return "Deleting"
    return str((backup.get("status") or {}).get("phase") or "Pending")


def _message(backup: Manifest) -> str:
    found = (backup.get("status") or {}).get("conditions") or ()
    bad = [each for each in found if each["type"] == "ForgetFailed"]
    said = bad or [each for each in found if each["type"] == "Completed"]
    return str(said[0]["message"]) if said else ""
