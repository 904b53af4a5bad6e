"""A PostgreSQL and stores for the tests of backups; skipped, with a word, where a part is absent."""

from __future__ import annotations

import urllib.request
from importlib.util import find_spec
from itertools import count

import pytest
from support import postgres
from support.backups import Place

_numbers = count(1)


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
