"""A PostgreSQL and stores for the tests of backups; skipped, with a word, where a part is absent."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest
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
        own = {"CHRONIK_BACKUP_KEY": str(self.key), "PYTHONDONTWRITEBYTECODE": "1"}
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


@pytest.fixture(scope="session")
def server():
    """Give a PostgreSQL that all tests share, each with databases of its own."""
    if reason := postgres.absent():
        pytest.skip(reason)
    if find_spec("obstore") is None or find_spec("cryptography") is None:
        pytest.skip("chronik[backup] is not installed")
    with postgres.running() as running:
        yield running


@pytest.fixture(scope="session")
def s3():
    """Give the address of an S3 server that all tests share."""
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("moto[server] is not installed")
    with postgres.s3_server() as url:
        yield url


def make_bucket(url: str, name: str) -> None:
    """Make a bucket."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT")).close()


@pytest.fixture
def in_folder(server):
    """Give an empty database and a store that is a folder."""
    with postgres.folder() as folder:
        (folder / "store").mkdir()
        (folder / "store").chmod(0o777)
        place = Place(server, "postgres", folder, {"CHRONIK_STORE": f"file://{folder}/store"})
        place.database = place.new_database()
        yield place


@pytest.fixture
def in_s3(server, s3):
    """Give an empty database and a store in a bucket of its own."""
    with postgres.folder() as folder:
        secret = folder / "secret"
        secret.mkdir()
        (secret / "AWS_ACCESS_KEY_ID").write_text("key\n")
        (secret / "AWS_SECRET_ACCESS_KEY").write_text("secret\n")
        bucket = f"bucket{next(_numbers)}"
        make_bucket(s3, bucket)
        store = {
            "CHRONIK_STORE": f"s3://{bucket}/prod/eu",
            "CHRONIK_STORE_ENDPOINT": s3,
            "CHRONIK_STORE_PATH_STYLE": "true",
            "CHRONIK_STORE_CREDENTIALS": str(secret),
        }
        place = Place(server, "postgres", folder, store)
        place.database = place.new_database()
        yield place


@pytest.fixture(params=["folder", "s3"])
def place(request):
    """Give an empty database, with a store of each kind in turn."""
    return request.getfixturevalue(f"in_{request.param}")
