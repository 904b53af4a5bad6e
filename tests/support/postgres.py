"""A real PostgreSQL on loopback, and an S3 server, for the tests of backups.

PostgreSQL refuses to run as root: there it runs as `postgres`, by setpriv. Tests that want it skip where it is absent.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PASSWORD = "correct horse"
_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def absent() -> str:
    """Return why there can be no PostgreSQL here, "" if there can."""
    if not _BINARIES or not (_BINARIES[-1] / "initdb").exists():
        return "PostgreSQL's server is not installed"
    if os.geteuid() == 0 and (not shutil.which("setpriv") or not _user()):
        return "PostgreSQL refuses to run as root, and there is no user postgres, or no setpriv"
    return ""


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def unprivileged(command: list[str]) -> list[str]:
    """Return a command as it is run by a user that PostgreSQL accepts."""
    if os.geteuid():
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that PostgreSQL's user may write to, and remove it."""
    path = Path(tempfile.mkdtemp(prefix="chronik-pg-"))
    user = _user()
    if os.geteuid() == 0 and user:
        os.chown(path, user.pw_uid, user.pw_gid)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Postgres:
    """A server with scram passwords; `postgres` is its superuser."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.data = place / "data"

    def start(self, **settings: str) -> None:
        """Make a data folder, if there is none, and start the server."""
        if not self.data.exists():
            secret = self.place / "password"
            secret.write_text(PASSWORD)
            self._run(
                "initdb", "-D", str(self.data), "-U", "postgres", f"--pwfile={secret}", "-A", "scram-sha-256", "-N"
            )
        given = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self.place),
            "fsync": "off", "wal_level": "replica", "max_wal_senders": "8", "max_connections": "40", **settings,
        }  # fmt: skip
        (self.data / "postgresql.auto.conf").write_text("".join(f"{key} = '{value}'\n" for key, value in given.items()))
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.place / "log"), "-w", "-t", "60", "start")

    def stop(self) -> None:
        """Stop the server at once."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop", check=False)

    def _run(self, name: str, *arguments: str, check: bool = True) -> None:
        command = unprivileged([str(_BINARIES[-1] / name), *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert not check or done.returncode == 0, done.stdout + done.stderr

    def environment(self, database: str = "postgres", **changes: str) -> dict[str, str]:
        """Return the variables with which programs reach a database of it."""
        own = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": PASSWORD}
        return {**os.environ, **own, "PGDATABASE": database, **changes}

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Run statements, and return what they answer."""
        command = [str(_BINARIES[-1] / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            command, input=statements, capture_output=True, text=True, check=False, env=self.environment(database)
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def content(self, database: str) -> Mapping[str, str]:
        """Return a digest of the rows of every table, by name."""
        tables = self.sql(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname !~ '^(pg_|information_schema)' AND tablename <> 'chronik_recovery' ORDER BY 1",
            database,
        ).splitlines()
        digest = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {} t"
        return {table: self.sql(digest.format(table), database) for table in tables}


@contextmanager
def running(**settings: str) -> Iterator[Postgres]:
    """Give a server of its own."""
    with folder() as place:
        server = Postgres(place)
        server.start(**settings)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def s3_server() -> Iterator[str]:
    """Give the address of an S3 server on loopback, without buckets."""
    port = free_port()
    command = [shutil.which("moto_server") or str(Path(os.sys.executable).with_name("moto_server")), "-H", "127.0.0.1"]
    process = subprocess.Popen([*command, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
