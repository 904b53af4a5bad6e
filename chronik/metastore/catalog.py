"""What a store holds: whole backups, what dead runs left, and how one is checked or forgotten."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.metastore.archive import Archive, parse_lsn
from chronik.metastore.dump import check_dump, count_rows, key_of, plain_dump
from chronik.metastore.errors import BackupDamaged, BackupError, BackupNotFound
from chronik.metastore.manifest import DUMP, MANIFEST, Manifest
from chronik.metastore.restore import load_dump, mark
from chronik.metastore.runs import RECORD, WAL_FOLDER, find_manifest, get_manifest
from chronik.metastore.streams import read_file
from chronik.metastore.tools import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.metastore.encryption import Key
    from chronik.metastore.manifest import WalRange
    from chronik.metastore.runs import Context
    from chronik.metastore.store import Store


@dataclass(frozen=True, slots=True)
class Entry:
    """One folder of a store. `leftovers` are objects that no manifest names, with their sizes in bytes."""

    id: str
    manifest: Manifest | None
    problem: str
    started_at: str
    leftovers: dict[str, int]
    name: str = ""
    """Namespace and name of the ChronikBackup that it was, if it is described."""

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        known: dict[str, Any] = {"id": self.id, "complete": self.manifest is not None, "startedAt": self.started_at}
        if self.problem:
            known["problem"] = self.problem
        if self.manifest:
            known |= {
                "method": self.manifest.method,
                "cluster": self.manifest.cluster,
                "cutAt": self.manifest.cut_at,
                "completedAt": self.manifest.completed_at,
                "bytes": self.manifest.total_bytes,
                "server": self.manifest.server,
                "encrypted": self.manifest.encryption is not None,
            }
        known |= {"backup": self.name} if self.name else {}
        return known | {"leftovers": [{"name": name, "bytes": size} for name, size in sorted(self.leftovers.items())]}


def list_backups(store: Store) -> list[Entry]:
    """Return what the store holds, by id, the parts of dead runs among it."""
    unfinished = store.unfinished()
    folders = {*store.folders(), *(name.partition("/")[0] for name in unfinished)} - {WAL_FOLDER}
    entries = [_entry(store, folder, unfinished) for folder in sorted(folders)]
    return [entry for entry in entries if entry.manifest or entry.problem or entry.leftovers]  # a folder may be empty


def _entry(store: Store, folder: str, unfinished: dict[str, int]) -> Entry:
    there = store.names(f"{folder}/")
    there |= {name: size for name, size in unfinished.items() if name.startswith(f"{folder}/")}
    manifest, problem = None, ""
    try:
        manifest = find_manifest(store, folder)
    except BackupDamaged as error:
        problem = error.message
    named = {f"{folder}/{MANIFEST}", f"{folder}/{RECORD}"}
    named |= {f"{folder}/{file.name}" for file in manifest.files} if manifest else set()
    if manifest:
        missing = sorted(f"{folder}/{file.name}" for file in manifest.files if f"{folder}/{file.name}" not in there)
        problem = f"gone from the store: {', '.join(missing)}" if missing else ""
    leftovers = {name: size for name, size in there.items() if name not in named}
    started = manifest.started_at if manifest else _began(store, leftovers)
    name = _name(store, folder) if f"{folder}/{RECORD}" in there else ""
    return Entry(folder, manifest, problem, started, leftovers, name)


def _name(store: Store, folder: str) -> str:
    """Return what a described backup was called where it was made: its namespace and name."""
    with suppress(ValueError, KeyError, TypeError, BackupNotFound):
        metadata = json.loads(b"".join(store.read(f"{folder}/{RECORD}")))["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}"
    return ""


def _began(store: Store, names: dict[str, int]) -> str:
    """Return when the last of the runs began that left a note."""
    times = [""]
    for name in names:
        if name.rpartition("/")[2].startswith("started-"):
            with suppress(ValueError, KeyError, TypeError):
                times.append(json.loads(b"".join(store.read(name)))["startedAt"])
    return max(times)


@dataclass(frozen=True, slots=True)
class Described:
    """A backup of a store, with the description beside it. `problem` is why a cluster cannot be made from it.

    `namespace` and `name` are what it was called where it was made; empty if that is not known.
    """

    id: str
    namespace: str
    name: str
    description: Any
    problem: BackupError | None

    def checked(self) -> Any:
        """Return the description.

        Raises:
            BackupError: the backup is not whole, or is not described.
        """
        if self.problem is not None:
            raise self.problem
        return self.description


def list_described(store: Store) -> list[Described]:
    """Return the backups that a store holds, by id, each with its description, if it has one."""
    return [_described(store, folder) for folder in store.folders() if folder != WAL_FOLDER]


def _described(store: Store, folder: str) -> Described:
    description: Any = None
    namespace = name = ""
    problem: BackupError | None = None
    try:
        description = json.loads(b"".join(store.read(f"{folder}/{RECORD}")))
        namespace, name = str(description["metadata"]["namespace"]), str(description["metadata"]["name"])
        _check_parts(store, folder, description)
    except BackupNotFound as error:
        problem = error if description is not None else _undescribed(store, folder)
    except BackupError as error:
        problem = error
    except (ValueError, KeyError, TypeError) as error:
        problem = BackupDamaged(f"this describes no backup: {error}", subject=f"{store.url}/{folder}/{RECORD}")
    return Described(folder, namespace, name, description, problem)


def _undescribed(store: Store, folder: str) -> BackupError:
    """Return why there is no description: a run that did not end has none, nor has a backup made by hand."""
    try:
        get_manifest(store, folder)
    except BackupError as error:
        return error
    hint = f"Its metastore can be restored alone: chronik restore metastore --id {folder}."
    message = f"there is no {RECORD} beside it, which says what belongs to it"
    return BackupNotFound(message, subject=f"{store.url}/{folder}", hint=hint)


def _check_parts(store: Store, folder: str, description: Any) -> None:
    """Hold what lies in a folder to the manifest, by sizes, and the description to it.

    Raises:
        BackupError: something is missing, or does not fit.
    """
    manifest, there = get_manifest(store, folder), store.names(f"{folder}/")
    for file in manifest.files:
        size = there.get(f"{folder}/{file.name}")
        if size != file.bytes:
            what = "is gone" if size is None else f"has {size:,} bytes instead of {file.bytes:,}"
            raise BackupDamaged(f"{file.name} {what}", subject=f"{store.url}/{folder}")
    sums = {file.sha256 for file in manifest.files}
    if description["status"]["metastore"]["sha256"] not in sums:
        message = f"{RECORD} describes another dump than the one that is there"
        raise BackupDamaged(message, subject=f"{store.url}/{folder}")


def verify_backup(store: Store, identity: str, keys: Sequence[Key]) -> Manifest:
    """Read all of a backup back and hold it to its manifest.

    Raises:
        BackupNotFound: there is no such backup.
        BackupDamaged: it is not what was stored.
    """
    manifest = get_manifest(store, identity)
    key = key_of(store, manifest, keys)
    for file in manifest.files:
        if manifest.method == DUMP:
            check_dump(store, identity, file, key)
        else:
            for _piece in read_file(store, identity, file, key):
                pass
    return manifest


def forget_backup(store: Store, identity: str) -> int:
    """Remove all parts of a backup, the manifest first, so that no half looks whole; return how many there were."""
    there = store.names(f"{identity}/")
    known = find_manifest(store, identity)
    manifest = f"{identity}/{MANIFEST}"
    store.delete([name for name in there if name == manifest])
    store.delete([name for name in there if name != manifest])
    pruned = _prune_archive(store, known.wal) if known and known.wal else 0
    return len(there) + pruned + store.drop_unfinished(f"{identity}/")


def _prune_archive(store: Store, wal: WalRange) -> int:
    """Remove the WAL that no base of that server needs any more: all that is older than the oldest of them."""
    manifests = [find_manifest(store, folder) for folder in store.folders() if folder != WAL_FOLDER]
    others = [
        each.wal for each in manifests if each and each.wal and each.wal.system_identifier == wal.system_identifier
    ]
    oldest = min((parse_lsn(each.start) for each in others), default=None)
    return Archive(store, wal.system_identifier, ()).prune(oldest, wal.segment_bytes)


def restore_test(store: Store, manifest: Manifest, keys: Sequence[Key], context: Context) -> dict[str, int]:
    """Restore a backup into a server of its own; return the rows of each table, which are held to the manifest's.

    Raises:
        BackupDamaged: a table has another number of rows than it had.
        BackupError: it cannot be restored.
    """
    from chronik.metastore import recovery  # noqa: PLC0415  # PostgreSQL's server is wanted here alone

    if manifest.wal:
        frozen = recovery.FrozenArchive(Archive(store, manifest.wal.system_identifier, keys), manifest.wal)
        plan = recovery.plan_recovery(manifest, frozen, None, exact=False)
        with (
            recovery.recovered_server(store, manifest, keys, frozen, plan, context) as server,
            Session(server.environment(manifest.database)) as session,
        ):
            return count_rows(session)
    with recovery.scratch_server() as server:
        server.create()
        server.start({})
        environment = server.environment("postgres")
        context.tell("restoring into a server of its own")
        load_dump(environment, plain_dump(store, manifest, keys), mark(manifest.id), manifest.cut_at)
        with Session(environment) as session:
            rows = count_rows(session)
    if rows != manifest.rows:
        wrong = sorted(name for name in rows.keys() | manifest.rows if rows.get(name) != manifest.rows.get(name))
        counts = [f"{name}: {rows.get(name)} instead of {manifest.rows.get(name)}" for name in wrong[:3]]
        raise BackupDamaged(f"other numbers of rows than when it was made: {'; '.join(counts)}", subject=manifest.id)
    return rows
