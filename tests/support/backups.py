"""A database, a store and a key, and the commands of backups that are run with them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from support import postgres

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ab" * 32
_numbers = count(1)


class Done(NamedTuple):
    """How a command ended: its code, the JSON of its last line, and what it wrote to stderr."""

    code: int
    result: dict
    stderr: str
    stdout: str = ""


class Place:
    """A database, a store and a key, and commands that are run with them."""

    def __init__(self, server: postgres.Postgres, database: str, folder: Path, store: dict[str, str]) -> None:
        self.server, self.database, self.folder, self.store = server, database, folder, store
        self.key = folder / "key"
        self.key.write_text(KEY)

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the variables for commands."""
        own = {"CHRONIK_BACKUP_KEY": str(self.key), "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        return self.server.environment(self.database, **{**self.store, **own, **changes})

    def command(self, *arguments: str) -> list[str]:
        """Return a command as it is run."""
        return postgres.unprivileged([sys.executable, "-m", "chronik", *arguments])

    def run(self, *arguments: str, **changes: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, env=self.environment(**changes)
        )
        last = (done.stdout.strip().splitlines() or ["{}"])[-1]
        return Done(done.returncode, json.loads(last) if last.startswith("{") else {}, done.stderr, done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start a command."""
        return subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment()
        )

    def sql(self, statements: str, database: str = "") -> str:
        """Run statements in the database, or in another."""
        return self.server.sql(statements, database or self.database)

    def new_database(self) -> str:
        """Return the name of an empty database."""
        name = f"db{next(_numbers)}"
        self.server.sql(f"CREATE DATABASE {name}")
        return name

    def backups(self) -> list[dict]:
        """Return what `chronik backup catalog` shows."""
        return json.loads(self.run("backup", "catalog", "-o", "json").stdout)

    def objects(self, pattern: str) -> list[Path]:
        """Return the objects of a store that is a folder."""
        return sorted((self.folder / "store").glob(pattern))
