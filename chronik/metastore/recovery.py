"""Recovery to a moment: a server of its own, on a base backup and the WAL after it, whose metastore is then moved on.

The server listens on a socket in its own folder alone. What it asks for of the archive is fetched by this process,
which has the store and the keys; a small shell script carries the requests. Which WAL there is, is decided once, at the
start, so what is written to the archive meanwhile changes nothing.
"""

from __future__ import annotations

import io
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chronik.metastore.archive import PARTIAL, SEGMENT, Archive, parse_lsn, segment_start
from chronik.metastore.dump import key_of
from chronik.metastore.errors import BackupError, TargetTimeNotCovered, ToolUnusable
from chronik.metastore.runs import rfc3339
from chronik.metastore.streams import read_file
from chronik.metastore.tools import Tool, find, require_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from chronik.metastore.encryption import Key
    from chronik.metastore.manifest import Manifest, WalRange
    from chronik.metastore.runs import Context
    from chronik.metastore.store import Store

_LIBRARIES = Path("/usr/lib")
_COMMIT = re.compile(r"COMMIT(?: PREPARED)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
_TICK = 0.1
"""Seconds between looks at whether the server takes connections."""
_SETTINGS = {
    "listen_addresses": "", "port": "5432", "fsync": "off", "full_page_writes": "off", "hot_standby": "off",
    "max_prepared_transactions": "1000", "archive_mode": "off", "logging_collector": "off", "ssl": "off",
    "autovacuum": "off",
}  # fmt: skip
_SCRIPT = """#!/bin/sh
# $1 is the file that is wanted, $2 where it goes; {pid} is who fetches it.
: > {ask}/"$1".new && mv {ask}/"$1".new {ask}/"$1"
while kill -0 {pid} 2> /dev/null; do
  if [ -e {have}/"$1" ]; then mv {have}/"$1" "$2"; exit; fi
  if [ -e {lack}/"$1" ]; then rm {lack}/"$1"; exit 1; fi
  if [ -e {failed} ]; then exit 200; fi
  sleep 0.02
done
exit 200
"""
"""An exit code beyond 125 ends the recovery; 1 says that there is no such file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How far to recover. `target` is "" for all that is there; `end_of_archive` if the wish goes beyond that.

    `gap` says that the archive has more, but not what comes before it.
    """

    target: str
    recovered_to: str
    last_commit: str
    end_of_archive: bool
    gap: bool = False


class FrozenArchive:
    """The WAL after a base that there was at one moment, up to the first gap.

    The segment that was being written then is kept as it was.
    """

    def __init__(self, archive: Archive, wal: WalRange) -> None:
        self._archive = archive
        names = archive.names()
        self._names = _without_gap(names, wal)
        self.has_gap = self._names != names
        self._kept: dict[str, bytes] = {}
        state = archive.state()
        self.complete_until = state.complete_until if state and not self.has_gap else ""
        for name in sorted(self._names):
            if name.endswith(PARTIAL) and name.removesuffix(PARTIAL) not in self._names:
                content = archive.get(name) or archive.get(name.removesuffix(PARTIAL))
                self._kept[name.removesuffix(PARTIAL)] = content or b""

    def segments(self) -> list[str]:
        """Return the names of the segments, in order."""
        return sorted({*filter(SEGMENT.fullmatch, self._names), *self._kept})

    def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none."""
        if name in self._kept:
            return self._kept[name]
        return self._archive.get(name) if name in self._names else None


def _without_gap(names: set[str], wal: WalRange) -> set[str]:
    """Return the names of the files that recovery can use from a base on: none after a segment that is missing."""
    size = wal.segment_bytes
    starts = {name: segment_start(name, size) for name in names if SEGMENT.fullmatch(name.removesuffix(PARTIAL))}
    there, limit = set(starts.values()), parse_lsn(wal.end) // size * size + size
    while limit in there:
        limit += size
    return {name for name in names if starts.get(name, 0) < limit}


def plan_recovery(manifest: Manifest, frozen: FrozenArchive, target: datetime | None, *, exact: bool) -> Plan:
    """Return how far a base and its archive can be recovered towards a moment.

    Raises:
        TargetTimeNotCovered: the base ended after that moment; or the archive ends before, and `exact` was asked for.
    """
    assert manifest.wal
    last = last_commit(frozen, manifest.wal) or manifest.cut_at
    covered = max(last, frozen.complete_until, manifest.cut_at)
    wanted = rfc3339(target) if target else covered
    if wanted < manifest.cut_at:
        message = f"this base can be recovered to {manifest.cut_at} and later, and not to {wanted}"
        hint = "Recover from a base that was cut before; chronik backup catalog shows them."
        raise TargetTimeNotCovered(message, subject=manifest.id, hint=hint)
    beyond = wanted > covered
    if beyond and exact:
        has = "has a gap after" if frozen.has_gap else "ends at"
        message = f"the archive {has} {covered}, before {wanted}"
        hint = "Without --exact it is recovered up to there."
        raise TargetTimeNotCovered(message, subject=manifest.id, hint=hint)
    to_the_end = target is None or wanted >= last  # PostgreSQL wants a commit after its target, and there is none
    return Plan("" if to_the_end else wanted, min(wanted, covered), last, beyond, frozen.has_gap)


def last_commit(frozen: FrozenArchive, wal: WalRange) -> str:
    """Return when the last transaction of an archive was committed, "" if none was since the base."""
    end = parse_lsn(wal.end)
    for name in reversed(frozen.segments()):
        if segment_start(name, wal.segment_bytes) + wal.segment_bytes <= end:
            return ""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(frozen.get(name) or b"")
            command = [find("pg_waldump"), "--rmgr=Transaction", str(path)]
            run = subprocess.run(  # noqa: S603  # a path that `find` chose
                command, capture_output=True, text=True, check=False, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"}
            )  # it ends with an error where the WAL does
        commits = _COMMIT.findall(run.stdout)
        if commits:
            return max(f"{commit.replace(' ', 'T')}Z" for commit in commits)
    return ""


def _named_user(folder: Path) -> dict[str, str]:
    """Return what gives this process's user a name, which initdb asks for, and a pod's user often lacks.

    It is by nss_wrapper, which images of PostgreSQL carry for that: https://cwrap.org/nss_wrapper.html

    Raises:
        ToolUnusable: it is not there.
    """
    user, group = os.geteuid(), os.getegid()
    with suppress(KeyError):
        pwd.getpwuid(user)
        return {}
    library = next(iter(sorted(_LIBRARIES.glob("*/libnss_wrapper.so"))), None)
    if library is None:
        hint = "Install libnss-wrapper into the image, or give that user an entry in /etc/passwd."
        raise ToolUnusable(f"the user {user} has no name, which initdb asks for", subject="initdb", hint=hint)
    users, groups = folder / "passwd", folder / "group"
    users.write_text(f"chronik:x:{user}:{group}::{folder}:/bin/false\n")
    groups.write_text(f"chronik:x:{group}:\n")
    return {"LD_PRELOAD": str(library), "NSS_WRAPPER_PASSWD": str(users), "NSS_WRAPPER_GROUP": str(groups)}


class ScratchServer:
    """A PostgreSQL for a while, in a folder of its own, reachable from this machine and user only."""

    def __init__(self, folder: Path, superuser: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self._superuser = superuser
        self._server: Tool | None = None

    def environment(self, database: str) -> dict[str, str]:
        """Return the variables with which programs reach a database of it."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        own = {"PGHOST": str(self.folder), "PGPORT": "5432", "PGUSER": self._superuser, "PGDATABASE": database}
        return {**clean, **own, "LC_ALL": "C"}

    def create(self) -> None:
        """Make an empty server."""
        arguments = ["-D", str(self.data), "-U", self._superuser, "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        environment = {**self.environment("postgres"), **_named_user(self.folder)}
        with Tool("initdb", arguments, environment) as making:
            making.finish()

    def start(self, settings: dict[str, str]) -> None:
        """Start the server, and wait until it takes connections: that is, until a recovery has ended.

        Raises:
            BackupError: it did not come up.
        """
        given = {**_SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        lines = [f"{name} = '{value}'\n" for name, value in given.items()]
        (self.data / "postgresql.conf").write_text("".join(lines))
        (self.data / "postgresql.auto.conf").write_text("")
        (self.data / "pg_hba.conf").write_text("local all all trust\n")
        (self.data / "pg_ident.conf").write_text("")
        self._server = Tool("postgres", ["-D", str(self.data)], self.environment("postgres"))
        while not self._is_ready():
            if self._server.process.poll() is not None:
                said = self._server.complaints()
                told = [line for line in said.splitlines() if re.search("FATAL|ERROR|HINT|invalid|unrecognized", line)]
                raise BackupError("; ".join(told[-3:]) or said[-300:], subject="PostgreSQL of the recovery")
            time.sleep(_TICK)

    def _is_ready(self) -> bool:
        with Tool("pg_isready", ["-q", "-t", "5"], self.environment("postgres")) as asking:
            return asking.process.wait() == 0

    def stop(self) -> None:
        """Stop the server at once; what it held is not wanted any more."""
        if self._server:
            self._server.process.send_signal(signal.SIGQUIT)
            self._server.process.wait()
            self._server.__exit__()


@contextmanager
def scratch_server(superuser: str = "postgres") -> Iterator[ScratchServer]:
    """Give a server that is stopped and removed at the end; there is nothing in it yet.

    Raises:
        ToolUnusable: PostgreSQL's server is not there, or this is root, as whom it refuses to run.
    """
    for name in ("postgres", "pg_isready", "initdb"):
        find(name)
    if os.geteuid() == 0:
        hint = "Run as another user, such as 65534; a Job sets runAsUser."
        raise ToolUnusable("PostgreSQL refuses to run as root", subject="the server for the recovery", hint=hint)
    folder = Path(tempfile.mkdtemp(prefix="chronik-"))
    server = ScratchServer(folder, superuser)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def recovered_server(
    store: Store, manifest: Manifest, keys: Sequence[Key], frozen: FrozenArchive, plan: Plan, context: Context
) -> Iterator[ScratchServer]:
    """Give a server that was recovered from a base and its archive, as far as planned."""
    assert manifest.wal
    require_version("postgres", int(manifest.server.split(".")[0]), manifest.server)
    with scratch_server(manifest.wal.superuser) as server:
        context.tell(f"unpacking the base of {manifest.cut_at}")
        _unpack(server, read_file(store, manifest.id, manifest.files[0], key_of(store, manifest, keys)))
        (server.data / "recovery.signal").touch()
        with _fetching(server.folder, frozen) as command:
            settings = {"restore_command": command, "recovery_target_timeline": "latest"}
            if plan.target:
                target = plan.target.replace("T", " ").replace("Z", "+00")  # the T and the Z are not understood there
                settings |= {"recovery_target_time": target, "recovery_target_action": "promote"}
            context.tell(f"recovering to {plan.recovered_to}")
            server.start(settings)
        yield server


def _unpack(server: ScratchServer, pieces: Iterator[bytes]) -> None:
    server.data.mkdir(mode=0o700)
    stream = io.BufferedReader(_Readable(pieces), 1024 * 1024)
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        archive.extractall(server.data)  # noqa: S202  # filtered, and of our own making
    for _rest in pieces:  # to the end, where the sums are held to the manifest's
        pass


class _Readable(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@contextmanager
def _fetching(folder: Path, frozen: FrozenArchive) -> Iterator[str]:
    """Give the command with which the server gets WAL, as long as the block lasts."""
    ask, have, lack, failed = (folder / name for name in ("ask", "have", "lack", "failed"))
    for path in (ask, have, lack):
        path.mkdir()
    places = {"ask": ask, "have": have, "lack": lack, "failed": failed}
    quoted = {name: shlex.quote(str(path)) for name, path in places.items()}
    script = folder / "fetch.sh"
    script.write_text(_SCRIPT.format(pid=os.getpid(), **quoted))
    done, failure = threading.Event(), list[BaseException]()
    fetching = threading.Thread(target=_answer, args=(frozen, places, done, failure), daemon=True)
    fetching.start()
    try:
        yield f"sh {shlex.quote(str(script))} %f %p"
    except BackupError:
        if failure:
            raise failure[0] from None
        raise
    finally:
        done.set()
        fetching.join()


def _answer(
    frozen: FrozenArchive, places: dict[str, Path], done: threading.Event, failure: list[BaseException]
) -> None:
    """Put what is asked for where it is looked for, until the recovery has ended."""
    while not done.wait(0.01):
        for path in places["ask"].iterdir():
            if path.suffix == ".new":
                continue
            path.unlink()
            try:
                content = frozen.get(path.name)
            except Exception as error:  # noqa: BLE001  # it is raised where the recovery was started
                failure.append(error)
                places["failed"].touch()
                return
            if content is None:
                (places["lack"] / path.name).touch()
            else:
                draft = places["have"] / f"{path.name}.new"
                draft.write_bytes(content)
                draft.rename(places["have"] / path.name)
