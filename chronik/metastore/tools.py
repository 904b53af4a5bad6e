"""PostgreSQL's own programs: found, started, and their complaints made errors that say what to do.

Nothing secret is an argument: programs get host, user and password in their environment, as libpq reads them. `psql`
is a session: questions go in, rows come out, in one transaction if one was begun.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from chronik.errors import InputError
from chronik.metastore.errors import (
    BackupError,
    BackupInterrupted,
    DatabaseAccessDenied,
    DatabaseUnreachable,
    ToolUnusable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PIECE = 1024 * 1024
_DEBIAN = Path("/usr/lib/postgresql")
_END = "chronik: end of answer"
_PARAMETERS = {
    "host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL", "connect_timeout": "PGCONNECT_TIMEOUT", "application_name": "PGAPPNAME",
    "options": "PGOPTIONS",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "channel_binding": "PGCHANNELBINDING",
}  # fmt: skip
"""Parameters of a connection URI, and the variables in which libpq reads them."""

_SIGNS: tuple[tuple[tuple[str, ...], type[BackupError], str], ...] = (
    (
        ("server version mismatch", r"unsupported version \(.*\) in file header"),
        ToolUnusable,
        "Use an image whose PostgreSQL client is as new as the server that was backed up, or newer.",
    ),
    (
        ("does not support SSL", "certificate", "SSL error", "SSL connection", "sslmode", r"root\.crt"),
        DatabaseAccessDenied,
        "Check PGSSLMODE and PGSSLROOTCERT against what the server offers.",
    ),
    (
        (
            "password authentication failed|no password supplied|no pg_hba\\.conf entry|role .* does not exist",
            "permission denied|must be (superuser|owner)|to start WAL sender|not allowed|insufficient privilege",
        ),
        DatabaseAccessDenied,
        "Check user and password in the credentials' Secret, and the rights of that user.",
    ),
    (("database .* does not exist",), DatabaseAccessDenied, "Create the database, or correct its name."),
    (
        (
            "Connection refused|could not translate host name|timeout expired|No route to host|Network is unreachable",
            "server closed the connection|terminating connection|starting up|shutting down|in recovery mode",
            "too many clients|remaining connection slots|connection to server .* failed|connection .* lost",
            "could not (receive|send) data|connection not open|no connection to the server",
        ),
        DatabaseUnreachable,
        "Check that the database runs and can be reached from here; then run the same again.",
    ),
)
"""What programs complain of, what it means, and what to do."""


def database_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for programs that talk to the database, from PG* or from CHRONIK_DATABASE_URL.

    Raises:
        InputError: no database is named, or the URL cannot be used.
    """
    found = {**environ, "LC_ALL": "C", "PGAPPNAME": environ.get("PGAPPNAME", "chronik")}
    url = environ.get("CHRONIK_DATABASE_URL", "")
    if url:
        found |= _from_url(url)
    if not found.get("PGHOST") or not found.get("PGDATABASE"):
        hint = "Set PGHOST, PGDATABASE, PGUSER and PGPASSWORD, or CHRONIK_DATABASE_URL."
        raise InputError("no database is named", hint=hint)
    return {"PGCONNECT_TIMEOUT": "10", **found}


def _from_url(url: str) -> dict[str, str]:
    """Return the variables that a connection URI stands for; errors repeat nothing of it, as it has a password."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise InputError("it has to begin with postgresql://", subject="CHRONIK_DATABASE_URL")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    pairs = [re.fullmatch(r"(\[.*\]|[^:]*)(?::(\d+))?", host) for host in hosts.split(",") if host]
    if not all(pairs):
        raise InputError("its hosts cannot be read", subject="CHRONIK_DATABASE_URL")
    given = {
        "user": unquote(user),
        "password": unquote(password),
        "host": ",".join(unquote(pair[1].strip("[]")) for pair in pairs if pair),
        "port": ",".join(pair[2] or "5432" for pair in pairs if pair),
        "dbname": unquote(parts.path.lstrip("/")),
        **dict(parse_qsl(parts.query, keep_blank_values=True)),
    }
    unknown = sorted(given.keys() - _PARAMETERS.keys())
    if unknown:
        raise InputError(f"parameters that are not known here: {', '.join(unknown)}", subject="CHRONIK_DATABASE_URL")
    return {_PARAMETERS[name]: value for name, value in given.items() if value}


@cache
def find(name: str) -> str:
    """Return the path of a program of PostgreSQL: of CHRONIK_PG_BIN, else the newest of Debian's, else in PATH.

    Raises:
        ToolUnusable: it is not there.
    """
    chosen = os.environ.get("CHRONIK_PG_BIN")
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda path: float(re.sub(r"[^\d.]", "", path.parent.name) or 0))
    for folder in [Path(chosen)] if chosen else reversed(folders):
        if os.access(folder / name, os.X_OK):
            return str(folder / name)
    found = None if chosen else shutil.which(name)
    if found is None:
        hint = "Use an image with PostgreSQL's programs, or say in CHRONIK_PG_BIN which folder they are in."
        raise ToolUnusable(f"the program {name} is not there", subject=chosen or "PATH", hint=hint)
    return found


@cache
def version(name: str) -> tuple[int, str]:
    """Return a program's major version, and its version as it writes it."""
    said = subprocess.run([find(name), "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603  # a path that `find` chose
    found = re.search(r"(\d+)(?:\.\d+|\w+)*", said)
    if not found:
        raise ToolUnusable(f"{name} does not say which version it is", subject=find(name))
    return int(found[1]), found[0]


def require_version(name: str, server: int, server_text: str) -> str:
    """Return a program's version if it can read a server of that major version.

    Raises:
        ToolUnusable: the program is older than the server.
    """
    major, text = version(name)
    if major < server:
        hint = f"Use an image with PostgreSQL {server} or newer."
        message = f"{name} {text} is older than the server, which is {server_text}: it would refuse, or lose something"
        raise ToolUnusable(message, subject=find(name), hint=hint)
    return text


class Tool:
    """One program that runs; it is ended if the `with` block is left before it ended."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the program
        self.process = subprocess.Popen(  # noqa: S603  # a path that `find` chose
            [find(name), *arguments],
            env=dict(environment),
            stdin=stdin,
            stdout=stdout,
            stderr=self._complaints,
            pipesize=PIECE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._complaints.close()

    def output(self) -> Iterator[bytes]:
        """Yield what the program writes, until it has ended well.

        Raises:
            BackupError: it ended otherwise; what was yielded is not whole.
        """
        assert self.process.stdout
        while piece := os.read(self.process.stdout.fileno(), PIECE):
            yield piece
        self.finish()

    def feed(self, pieces: Iterator[bytes]) -> None:
        """Write pieces to the program; all are taken from where they come, even if it wants no more."""
        assert self.process.stdin
        open_ended = True
        for piece in pieces:
            if open_ended:
                try:
                    self.process.stdin.write(piece)
                except BrokenPipeError:
                    open_ended = False
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            return

    def finish(self) -> None:
        """Wait until the program ends.

        Raises:
            BackupError: it did not end well.
        """
        if self.process.wait():
            raise self.failure()

    def complaints(self) -> str:
        """Return what the program wrote to stderr so far."""
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").strip()

    def failure(self) -> BackupError:
        """Return why the program ended, as an error."""
        return explain(self.name, self.complaints(), self.process.returncode)


def explain(name: str, text: str, code: int | None = None) -> BackupError:
    """Return what a program's complaints mean."""
    lines = [re.sub(rf"^{name}: ((fatal )?error: )?", "", line).strip() for line in text.splitlines() if line.strip()]
    words = "; ".join(lines[:3]) or (f"ended by signal {-code}" if code and code < 0 else f"exit code {code}")
    for signs, kind, hint in _SIGNS:
        if re.search("|".join(signs), text, re.IGNORECASE):
            return kind(words, subject=name, hint=hint)
    if code is not None and code < 0:
        return BackupInterrupted(words, subject=name, hint="Run the same again.")
    return BackupError(words, subject=name)


class Session:
    """A connection to the database, by psql."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        arguments = ["-XAtqw", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=default"]
        text = {"PGCLIENTENCODING": "UTF8"}
        self._tool = Tool("psql", arguments, {**environment, **text}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process = self._tool.process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tool.__exit__()

    def ask(self, sql: str) -> list[list[str]]:
        """Run statements, and return the rows that they give.

        Raises:
            BackupError: the connection fails, or a statement does.
        """
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(f"{sql}\n\\echo {_END}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            self.process.wait()
            raise self._tool.failure() from None
        rows: list[list[str]] = []
        for raw in self.process.stdout:
            line = raw.decode().rstrip("\n")
            if line == _END:
                return rows
            rows.append(line.split("\t"))
        self.process.wait()
        raise self._tool.failure()

    def end_if_broken(self) -> None:
        """Have psql end, and say what was wrong if that is why others could not go on.

        Raises:
            BackupError: a statement failed, or the connection did.
        """
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if self.process.wait():
            raise self._tool.failure()


def quoted(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
