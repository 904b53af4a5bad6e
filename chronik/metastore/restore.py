"""A dump into a database: all of it, once, or nothing.

One transaction holds the check that the database is empty, the dump, and a row in `chronik_recovery` that says which
backup it was. A run that dies leaves the database as it was; one that comes after sees the row and has nothing to do.
A base is recovered to a moment first, by a server of its own, whose dump then goes the same way.
pg_restore writes SQL straight into psql's input; the end of the transaction follows only after all sums were right.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.errors import InputError
from chronik.metastore.archive import Archive
from chronik.metastore.dump import DUMP_ARGUMENTS, OF_USERS, RECOVERY_TABLE, plain_dump
from chronik.metastore.errors import DatabaseNotEmpty
from chronik.metastore.recovery import FrozenArchive, Plan, plan_recovery, recovered_server
from chronik.metastore.runs import get_manifest, rfc3339
from chronik.metastore.tools import Session, Tool, explain, find, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from chronik.metastore.encryption import Key
    from chronik.metastore.manifest import Manifest
    from chronik.metastore.runs import Context
    from chronik.metastore.store import Store

_BEGIN = """SET statement_timeout = 0; BEGIN;
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('chronik_recovery'));"""
_HAS_TABLE = f"SELECT pg_catalog.to_regclass('{RECOVERY_TABLE}') IS NOT NULL;"
_OBJECTS = f"""SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {OF_USERS} ORDER BY 1;"""  # noqa: S608  # nothing but constants
_CLEAR = r"""SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata;
SELECT pg_catalog.format('DROP SCHEMA %I CASCADE', nspname) FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema') \gexec
CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;"""
_NOTE = f"""CREATE TABLE IF NOT EXISTS {RECOVERY_TABLE}
    (backup text PRIMARY KEY, recovered_to timestamptz, restored_at timestamptz NOT NULL DEFAULT pg_catalog.now());
INSERT INTO {RECOVERY_TABLE} (backup, recovered_to) VALUES ({{backup}}, {{time}});
COMMIT;"""  # noqa: S608  # what is put in is quoted
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: `already` if an earlier run had done it; times as PostgreSQL's `timestamptz` or RFC 3339."""

    already: bool
    recovered_to: str


def mark(backup: str, target: str = "") -> str:
    """Return what names a restore in `chronik_recovery`: the backup, and the time it was to be recovered to."""
    return f"{backup} to {target}" if target else backup


def already_restored(environment: Mapping[str, str], name: str) -> Restored | None:
    """Return what an earlier run did, None if it did not."""
    with Session(environment) as session:
        return _noted(session, name)


def _noted(session: Session, name: str) -> Restored | None:
    if session.ask(_HAS_TABLE) != [["t"]]:
        return None
    time = "pg_catalog.to_char(recovered_to AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    rows = session.ask(f"SELECT {time} FROM {RECOVERY_TABLE} WHERE backup = {quoted(name)};")  # noqa: S608  # it is quoted
    return Restored(already=True, recovered_to=rows[0][0]) if rows else None


def load_dump(
    environment: Mapping[str, str], dump: Iterator[bytes], name: str, time: str, *, overwrite: bool = False
) -> Restored:
    """Load a dump in custom format into the database, in one transaction; `time` is what it shows.

    Raises:
        DatabaseNotEmpty: it has objects, and `overwrite` was not asked for.
        BackupError: it failed, and the database is as it was.
    """
    find("pg_restore")
    with Session(environment) as session:
        session.ask(_BEGIN)
        noted = _noted(session, name)
        if noted is not None:
            return noted
        _make_room(session, environment, overwrite=overwrite)
        session.ask("\\o /dev/null")  # what the dump's statements answer is read by nobody
        _load(session, environment, dump)
        session.ask(_NOTE.format(backup=quoted(name), time=quoted(time)))
    return Restored(already=False, recovered_to=time)


def _make_room(session: Session, environment: Mapping[str, str], *, overwrite: bool) -> None:
    there = [row[0] for row in session.ask(_OBJECTS)]
    if overwrite:
        session.ask(_CLEAR)
    elif there:
        more = f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
        message = f"it is not empty, it has {', '.join(there[:_SHOWN])}{more}; nothing was changed"
        hint = "Restore into a new database. To drop all that is in this one, say --allow-overwrite."
        raise DatabaseNotEmpty(message, subject=f"database {environment['PGDATABASE']}", hint=hint)


def _load(session: Session, environment: Mapping[str, str], dump: Iterator[bytes]) -> None:
    arguments = ["--no-owner", "--no-acl", "--exit-on-error", "-f", "-"]
    into = session.process.stdin
    with Tool("pg_restore", arguments, environment, stdin=subprocess.PIPE, stdout=into) as reader:
        reader.feed(dump)
        code = reader.process.wait()
        if code:
            session.end_if_broken()
            raise explain("pg_restore", reader.complaints(), code)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be restored, and to which moment; `exact` refuses an archive that ends before it."""

    id: str
    target: datetime | None
    exact: bool
    overwrite: bool


def restore_backup(
    store: Store, keys: Sequence[Key], environment: Mapping[str, str], wish: Wish, context: Context
) -> dict[str, Any]:
    """Restore a backup into a database; return what is told of it.

    Raises:
        InputError: a dump cannot be recovered to a moment.
        BackupError: it failed, and the database is as it was.
    """
    manifest = get_manifest(store, wish.id)
    if manifest.wal:
        return _recover(store, keys, environment, wish, manifest, context)
    if wish.target:
        message = f"it is a dump, which shows {manifest.cut_at} and no other moment"
        raise InputError(message, subject=f"--target-time of {wish.id}", hint="Recover a base backup to a moment.")
    dump = plain_dump(store, manifest, keys)
    done = load_dump(environment, dump, mark(wish.id), manifest.cut_at, overwrite=wish.overwrite)
    return _told(done, None)


def _recover(  # what a restore has, and its manifest
    store: Store,
    keys: Sequence[Key],
    environment: Mapping[str, str],
    wish: Wish,
    manifest: Manifest,
    context: Context,
) -> dict[str, Any]:
    assert manifest.wal
    name = mark(wish.id, rfc3339(wish.target) if wish.target else "")
    done = already_restored(environment, name)
    if done:
        return _told(done, None)
    frozen = FrozenArchive(Archive(store, manifest.wal.system_identifier, keys), manifest.wal)
    plan = plan_recovery(manifest, frozen, wish.target, exact=wish.exact)
    with recovered_server(store, manifest, keys, frozen, plan, context) as server:
        context.tell(f"loading {manifest.database}")
        source = server.environment(manifest.database)
        with Tool("pg_dump", DUMP_ARGUMENTS, source, stdout=subprocess.PIPE) as dump:
            done = load_dump(environment, dump.output(), name, plan.recovered_to, overwrite=wish.overwrite)
    return _told(done, plan)


def _told(done: Restored, plan: Plan | None) -> dict[str, Any]:
    end = bool(plan and plan.end_of_archive)
    told = {
        "already": done.already,
        "recoveredTo": done.recovered_to,
        "lastCommit": plan.last_commit if plan else None,
        "endOfArchive": end,
    }
    if plan and end:
        what = "has a gap" if plan.gap else "ends"
        told["message"] = f"the archive {what} before the time asked for: recovered to its end, {done.recovered_to}"
    return told
