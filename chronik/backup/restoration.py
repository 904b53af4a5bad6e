"""A restore from end to end: of a dump, or of a base that is recovered to a moment first."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.backup.archive import Archive
from chronik.backup.dump import DUMP_ARGUMENTS, plain_dump
from chronik.backup.recovery import FrozenArchive, Plan, plan_recovery, recovered_server
from chronik.backup.restore import already_restored, load_dump, mark
from chronik.backup.runs import get_manifest, rfc3339
from chronik.backup.tools import Tool
from chronik.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chronik.backup.encryption import Key
    from chronik.backup.manifest import Manifest
    from chronik.backup.restore import Restored
    from chronik.backup.runs import Context
    from chronik.backup.store import Store


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
    frozen = FrozenArchive(Archive(store, manifest.wal.system_identifier, keys))
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
    if end:
        told["message"] = f"the archive ends before the time asked for: recovered to its end, {done.recovered_to}"
    return told
