"""The whole way with real parts: PostgreSQL, an S3 server, and the commands of the Jobs as processes.

The volumes and their snapshots are folders. Skipped, with a word, where a part is absent.
"""

from __future__ import annotations

import base64
import urllib.request
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from support import postgres
from support.local_jobs import LocalJobs
from support.operators import Namespace, condition, with_condition
from support.recoveries import NODES, backed_up, recovering, restored
from support.snapshots import Played, install_snapshots
from support.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Postgres


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """Give a PostgreSQL."""
    if reason := postgres.absent():
        pytest.skip(reason)
    if find_spec("obstore") is None or find_spec("cryptography") is None:
        pytest.skip("chronik[backup] is not installed")
    with postgres.running() as running:
        yield running


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Give the address of an S3 server."""
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("moto[server] is not installed")
    with postgres.s3_server() as url:
        yield url


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace on a server that knows snapshots."""
    install_snapshots(server)
    return Namespace(server, namespace)


def make_bucket(url: str, name: str) -> str:
    """Make a bucket, and return its name."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT")).close()
    return name


async def secret(place: Namespace, name: str, **texts: str) -> None:
    """Write a Secret."""
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    metadata = {"name": name, "namespace": place.name}
    await place.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


async def test_everything_comes_back_as_it_was(place, database, s3, tmp_path):
    """Rows and files are as at the backup, on the node that had them; what was written later is not there.

    The Job that restores the metastore is killed twice on its way.
    """
    name = place.name.replace("-", "_")
    bucket = make_bucket(s3, place.name)
    played, volumes = Played(place), Volumes(place, tmp_path)
    with postgres.folder() as folder:
        jobs = LocalJobs(place, folder)
        played.on_cut, played.on_job = volumes.cut, jobs.run
        for each in (f"{name}_old", f"{name}_new"):
            database.sql(f"CREATE DATABASE {each}")
        rows = "CREATE TABLE topics (id serial PRIMARY KEY, name text);"
        rows += "INSERT INTO topics (name) SELECT 'topic ' || n FROM generate_series(1, 20000) n;"
        database.sql(rows, f"{name}_old")
        was = database.content(f"{name}_old")
        destination = {"bucket": bucket, "prefix": "prod", "region": "us-east-1", "endpoint": s3}
        backup = {"destination": {"s3": destination | {"credentialsSecret": "backup-s3"}}}
        connection = {"host": "127.0.0.1", "port": database.port, "database": f"{name}_old"}
        connection |= {"credentialsSecret": "pg", "sslMode": "disable"}
        spec: dict[str, Any] = {"backup": backup, "metastore": {"database": "postgres", "connection": connection}}
        await secret(place, "pg", username="postgres", password=postgres.PASSWORD)
        await secret(place, "backup-s3", AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
        async with played.playing(), volumes.playing(), recovering(place):
            await backed_up(place, played, volumes, **spec)
            database.sql("INSERT INTO topics (name) VALUES ('too late')", f"{name}_old")
            for node in NODES:
                volumes.write(f"data-c-{node}", "too late")
            jobs.kills, jobs.after = 2, 0.15  # a quick machine restores all in a third of a second
            new = {"metastore": {"database": "postgres", "connection": connection | {"database": f"{name}_new"}}}
            await place.create(restored(volumes, **(spec | new)))
            cluster = await with_condition(place, "n", "Recovering", "False", "Recovered")

            assert jobs.kills == 0
            assert database.content(f"{name}_new") == was
            assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]
            said = [each for each in jobs.ended if each["command"] == "restore metastore"]
            assert [each["result"] for each in said] == ["ok"]
            assert cluster["status"]["recovery"]["metastoreCutAt"][:19] == said[0]["recoveredTo"][:19]
            marks = database.sql("SELECT backup FROM chronik_recovery", f"{name}_new")
            assert marks == (await place.cluster("n"))["status"]["recovery"]["backupUID"]

            # A database that has something is left as it is, and no node is started.
            document = restored(volumes, **spec)
            document["metadata"]["name"] = "o"
            await place.create(document)
            cluster = await with_condition(place, "o", "Recovering", "False", "MetastoreNotRestored")
            said_of_it = condition(cluster, "Ready")["message"]
            assert "it is not empty, it has public.topics, public.topics_id_seq; nothing was changed." in said_of_it
            assert said_of_it.endswith("Empty it, or name another database in a new cluster.")
            assert not [ref for ref in await place.workloads() if ref.name.startswith("o-")]
