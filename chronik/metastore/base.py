"""A base backup of the whole server: pg_basebackup's tar, streamed into the store, and WAL to make it consistent.

It can be recovered by itself to the moment it ended, and with an archive to any moment after.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from chronik import __version__
from chronik.metastore import encryption
from chronik.metastore.errors import BackupError, DatabaseAccessDenied
from chronik.metastore.manifest import BASE, Encryption, Manifest, StoredFile, WalRange
from chronik.metastore.runs import Run, find_manifest
from chronik.metastore.streams import read_file, write_file
from chronik.metastore.tools import Session, Tool, require_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.metastore.encryption import Key
    from chronik.metastore.runs import Context, Request
    from chronik.metastore.store import Store

NOW = "pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
_SERVER = """SELECT pg_catalog.current_setting('server_version_num')::int / 10000,
    pg_catalog.current_setting('server_version'), pg_catalog.current_database(),
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
    (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10);"""
_POINT = re.compile(r"write-ahead log (start|end) point: ([0-9A-F]+/[0-9A-F]+)(?: on timeline (\d+))?")


class Server(NamedTuple):
    """What is known of a server; `segment_bytes` is the size of a segment of its WAL."""

    major: int
    version: str
    database: str
    segment_bytes: int
    superuser: str
    system: str
    timeline: int


def identify(session: Session, environment: Mapping[str, str]) -> Server:
    """Return which server this is.

    Raises:
        DatabaseAccessDenied: the user may not replicate.
    """
    ((major, version, database, size, superuser),) = session.ask(_SERVER)
    arguments = ["-XAtqw", "-F", "\t", "-d", "replication=database", "-c", "IDENTIFY_SYSTEM"]
    try:
        with Tool("psql", arguments, environment, stdout=subprocess.PIPE) as asking:
            system, timeline, *_ = b"".join(asking.output()).decode().strip().split("\t")
    except DatabaseAccessDenied as error:
        hint = "Base backups and archives need: ALTER ROLE … REPLICATION, and a line for replication in pg_hba.conf."
        raise DatabaseAccessDenied(error.message, subject=error.subject, hint=hint) from error
    return Server(int(major), version.split()[0], database, int(size), superuser, system, int(timeline))


def back_up_base(
    store: Store, environment: Mapping[str, str], keys: Sequence[Key], request: Request, context: Context
) -> tuple[Manifest, bool]:
    """Make a base backup; return its manifest, and whether it was there already.

    Raises:
        BackupError: it failed; nothing in the store has a manifest then, so nothing looks like a backup.
    """
    found = find_manifest(store, request.id)
    if found is not None:
        return found, True
    started, key = context.time(), keys[0] if keys else None
    with Session(environment) as session:
        server = identify(session, environment)
    tool = require_version("pg_basebackup", server.major, server.version)
    run = Run(store, request.id, context)
    context.tell(f"copying the server of {server.database}")
    file, wal = _copy(run, environment, server, key)
    with Session(environment) as session:  # anew, as copying takes long
        ((cut,),) = session.ask(f"SELECT {NOW};")
    context.tell(f"reading back {file.bytes:,} bytes")
    for _piece in read_file(store, request.id, file, key):
        pass
    manifest = Manifest(
        id=request.id,
        method=BASE,
        cluster=request.cluster,
        started_at=started,
        cut_at=cut,
        completed_at=context.time(),
        chronik=__version__,
        server=server.version,
        tool=f"pg_basebackup {tool}",
        database=server.database,
        files=(file,),
        encryption=Encryption(encryption.FORMAT, key.id) if key else None,
        wal=wal,
        description=request.description,
    )
    return run.publish(manifest)


def _copy(run: Run, environment: Mapping[str, str], server: Server, key: Key | None) -> tuple[StoredFile, WalRange]:
    arguments = ["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast", "--compress=1"]
    with Tool("pg_basebackup", [*arguments, "--no-password", "--verbose"], environment, stdout=subprocess.PIPE) as copy:
        file = write_file(run.store, run.id, f"base-{run.name}.tar.gz", copy.output(), key)
        points = {name: (lsn, timeline) for name, lsn, timeline in _POINT.findall(copy.complaints())}
    if points.keys() != {"start", "end"}:
        raise BackupError("it does not say where in the WAL it began and ended", subject="pg_basebackup")
    start, timeline = points["start"]
    wal = WalRange(server.system, int(timeline), start, points["end"][0], server.segment_bytes, server.superuser)
    return file, wal
