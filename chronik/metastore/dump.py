"""One backup of a metastore: pg_dump's custom format, streamed into the store, read back, and only then declared whole.

Everything is seen in one snapshot, which a session exports: pg_dump reads in it, tables are counted in it, and its time
is the backup's. The table in which restores are noted is left out: it is the history of that database alone.
"""

from __future__ import annotations

import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik import __version__
from chronik.metastore import encryption
from chronik.metastore.manifest import DUMP, Encryption, Manifest, StoredFile
from chronik.metastore.runs import Run, find_manifest
from chronik.metastore.streams import read_file, write_file
from chronik.metastore.tools import Session, Tool, require_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chronik.metastore.encryption import Key
    from chronik.metastore.runs import Context, Request
    from chronik.metastore.store import Store

RECOVERY_TABLE = "public.chronik_recovery"
_QUIET = ("--no-password", "--lock-wait-timeout=60s")
DUMP_ARGUMENTS = ("--format=custom", "--compress=1", *_QUIET, f"--exclude-table={RECOVERY_TABLE}")
OF_USERS = """n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND c.oid IS DISTINCT FROM pg_catalog.to_regclass('public.chronik_recovery')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')"""
"""Which relations are the users' own: neither the system's nor an extension's, nor the table that notes restores."""
COUNT = rf"""SELECT pg_catalog.format('SELECT %L, pg_catalog.count(*) FROM %I.%I',
        n.nspname || '.' || c.relname, n.nspname, c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND {OF_USERS} ORDER BY 1 \gexec"""  # noqa: S608  # nothing but constants of this module
_SNAPSHOT = """SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), pg_catalog.current_setting('server_version_num')::int / 10000,
    pg_catalog.current_setting('server_version'), pg_catalog.current_database()"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the database that other connections can look at, as long as its session lasts."""

    name: str
    time: str
    major: int
    server: str
    database: str


def take_snapshot(session: Session) -> Snapshot:
    """Begin a transaction whose view of the database others can share."""
    ((name, time, major, server, database),) = session.ask(_SNAPSHOT + ";")
    return Snapshot(name, time, int(major), server.split()[0], database)


def count_rows(session: Session) -> dict[str, int]:
    """Return how many rows each table has, by schema and name."""
    return {name: int(count) for name, count in session.ask(COUNT)}


def back_up_metastore(
    store: Store, environment: Mapping[str, str], keys: Sequence[Key], request: Request, context: Context
) -> tuple[Manifest, bool]:
    """Dump a metastore into the store; return the backup's manifest, and whether it was there already.

    Raises:
        BackupError: it failed; nothing in the store has a manifest then, so nothing looks like a backup.
    """
    found = find_manifest(store, request.id)
    if found is not None:
        return found, True
    started, key = context.time(), keys[0] if keys else None
    with Session(environment) as session:
        snapshot = take_snapshot(session)
        tool = require_version("pg_dump", snapshot.major, snapshot.server)
        run = Run(store, request.id, context)
        context.tell(f"dumping {snapshot.database} as of {snapshot.time}")
        file, rows = _dump(run, environment, session, snapshot, key)
    context.tell(f"reading back {file.bytes:,} bytes")
    check_dump(store, request.id, file, key)
    manifest = Manifest(
        id=request.id,
        method=DUMP,
        cluster=request.cluster,
        started_at=started,
        cut_at=snapshot.time,
        completed_at=context.time(),
        chronik=__version__,
        server=snapshot.server,
        tool=f"pg_dump {tool}",
        database=snapshot.database,
        files=(file,),
        encryption=Encryption(encryption.FORMAT, key.id) if key else None,
        rows=rows,
        description=request.description,
    )
    return run.publish(manifest)


def _dump(
    run: Run, environment: Mapping[str, str], session: Session, snapshot: Snapshot, key: Key | None
) -> tuple[StoredFile, dict[str, int]]:
    """Dump and count side by side, in one snapshot."""
    arguments = [*DUMP_ARGUMENTS, f"--snapshot={snapshot.name}"]
    with ThreadPoolExecutor(1) as beside, Tool("pg_dump", arguments, environment, stdout=subprocess.PIPE) as dump:
        counting = beside.submit(count_rows, session)
        try:
            file = write_file(run.store, run.id, f"metastore-{run.name}.dump", dump.output(), key)
        except BaseException:
            session.process.kill()  # or its answers would be waited for
            raise
        return file, counting.result()


def check_dump(store: Store, folder: str, file: StoredFile, key: Key | None) -> int:
    """Read a dump back, hold its sums to the manifest's, and have pg_restore read its table of contents.

    Returns the number of entries in it.

    Raises:
        BackupDamaged: it is not what was put there.
        BackupError: pg_restore cannot read it.
    """
    with (
        tempfile.TemporaryFile() as contents,
        Tool("pg_restore", ["--list"], _no_database(), stdin=subprocess.PIPE, stdout=contents) as reader,
    ):
        reader.feed(read_file(store, folder, file, key))
        reader.finish()
        contents.seek(0)
        return sum(not line.startswith(b";") for line in contents)


def _no_database() -> dict[str, str]:
    return {"LC_ALL": "C"}


def plain_dump(store: Store, manifest: Manifest, keys: Sequence[Key]) -> Iterator[bytes]:
    """Yield the dump of a backup in plain; it must not be used before the end was reached without an error."""
    return read_file(store, manifest.id, manifest.files[0], key_of(store, manifest, keys))


def key_of(store: Store, manifest: Manifest, keys: Sequence[Key]) -> Key | None:
    """Return the key of a backup, None if it is not encrypted.

    Raises:
        EncryptionKeyWrong: it is not among the keys.
    """
    if manifest.encryption is None:
        return None
    return encryption.choose_key(keys, manifest.encryption.key_id, f"{store.url}/{manifest.id}")
