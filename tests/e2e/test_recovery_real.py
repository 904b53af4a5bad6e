"""The whole way with real parts: PostgreSQL, an S3 server, and the commands of the Jobs as processes.

The volumes and their snapshots are folders. Skipped, with a word, where a part is absent.
"""

from __future__ import annotations

import asyncio
import base64
import time
import urllib.request
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from support import postgres
from support.cli_place import run
from support.group_snapshots import install_groups
from support.local_jobs import LocalJobs
from support.operators import Namespace, condition, eventually, with_condition
from support.recoveries import IMAGE, NODES, absent, backed_up, launched, ours, present, recovering, restored, usable
from support.snapshots import backup_of

from chronik.manifest import BACKUP, CLUSTER, KIND_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Postgres

    from chronik.manifest import Manifest


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


def make_bucket(url: str, name: str) -> str:
    """Make a bucket, and return its name."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT")).close()
    return name


async def secret(place: Namespace, name: str, **texts: str) -> None:
    """Write a Secret."""
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    metadata = {"name": name, "namespace": place.name}
    await place.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


async def ready(
    place: Namespace, database: Postgres, s3: str, **metastore: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make two databases, one with rows, a bucket and Secrets; return the specs of the first and second cluster."""
    name = place.name.replace("-", "_")
    for each in (f"{name}_old", f"{name}_new"):
        database.sql(f"CREATE DATABASE {each}")
    rows = "CREATE TABLE topics (id serial PRIMARY KEY, name text);"
    rows += "INSERT INTO topics (name) SELECT 'topic ' || n FROM generate_series(1, 20000) n;"
    database.sql(rows, f"{name}_old")
    destination = {"bucket": make_bucket(s3, place.name), "prefix": "prod", "region": "us-east-1", "endpoint": s3}
    backup = {"destination": {"s3": destination | {"credentialsSecret": "backup-s3"}}, "metastore": metastore}
    connection = {"host": "127.0.0.1", "port": database.port, "database": f"{name}_old"}
    connection |= {"credentialsSecret": "pg", "sslMode": "disable"}
    await secret(place, "pg", username="postgres", password=postgres.PASSWORD)
    await secret(place, "backup-s3", AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    old: dict[str, Any] = {"backup": backup, "metastore": {"database": "postgres", "connection": connection}}
    new = {"metastore": {"database": "postgres", "connection": connection | {"database": f"{name}_new"}}}
    return old, old | new


async def test_everything_comes_back_as_it_was(place, played, volumes, database, s3):
    """Rows and files are as at the backup, on the node that had them; what was written later is not there.

    The Job that restores the metastore is killed twice on its way.
    """
    name = place.name.replace("-", "_")
    with postgres.folder() as folder:
        jobs = LocalJobs(place, folder)
        played.on_job = jobs.run
        spec, new = await ready(place, database, s3)
        was = database.content(f"{name}_old")
        async with played.playing(), volumes.playing(), recovering(place):
            await backed_up(place, played, volumes, **spec)
            database.sql("INSERT INTO topics (name) VALUES ('too late')", f"{name}_old")
            for node in NODES:
                volumes.write(f"data-c-{node}", "too late")
            jobs.kills, jobs.after = 2, 0.15  # a quick machine restores all in a third of a second
            await place.create(restored(volumes, **new))
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


@pytest.mark.slow
async def test_a_disaster_is_gone_through_by_its_commands(place, played, volumes, database, s3, monkeypatch):
    """The commands of docs/recovery.md, with volumes cut as a group: a lost cluster, then a lost ChronikBackup, too."""
    name, flags = place.name.replace("-", "_"), ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name)
    install_groups(place.server)
    played.play_groups()
    variables = {"CHRONIK_STORE": f"s3://{place.name}/prod", "CHRONIK_STORE_ENDPOINT": s3}
    variables |= {"CHRONIK_STORE_REGION": "us-east-1", "CHRONIK_STORE_PATH_STYLE": "true"}
    variables |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

    async def chronik(*arguments: str, code: int = 0) -> str:
        done = await asyncio.to_thread(run, *arguments)
        assert done.code == code, done
        return done.out + done.err

    async def recovered(cluster: str, database_name: str) -> None:
        asked = ("restore", "c", "--as", cluster, "--database", database_name, "--wait", *flags)
        assert "recovered. From ChronikBackup b: what was written after " in await chronik(*asked)
        assert database.content(database_name) == database.content(f"{name}_old")
        had = [f"what {node} has" for node in NODES]
        assert [await volumes.content(f"data-{cluster}-{node}") for node in NODES] == had

    with postgres.folder() as folder:
        played.on_job = LocalJobs(place, folder).run
        spec, _ = await ready(place, database, s3)
        spec["backup"]["volumes"] = {"method": "VolumeGroupSnapshot"}
        database.sql(f"CREATE DATABASE {name}_third")
        async with played.playing(), volumes.playing(), recovering(place):
            await launched(played, volumes, **spec)
            await chronik("backup", "create", "c", "--name", "b", "--wait", *flags)
            assert "group b-volumes" in await chronik("backup", "describe", "b", *flags)
            checked = await chronik("backup", "verify", "b", "--restore-test", "--wait", *flags)
            assert "passed, 20,000 rows were restored" in checked
            await place.delete(CLUSTER, "c")
            await absent(place, CLUSTER, "c")

            async def collected() -> bool:
                return (await asyncio.to_thread(run, "status", "c", *flags)).code == 3

            await eventually(collected, 90)  # the garbage collector has to go through all of it
            assert "there is no such cluster" in await chronik("status", "c", *flags, code=3)
            assert "Completed  yes" in await chronik("backup", "list", "c", *flags)
            await recovered("n", f"{name}_new")
            await place.roll_out_all()
            await with_condition(place, "n", "Ready", "True")
            assert "b, recovered " in await chronik("status", "n", *flags)

            # The ChronikBackup goes without its dump, as with its Kubernetes; the driver keeps what it has.
            await chronik("backup", "delete", "b", "--leave-data", "--yes", *flags)
            await absent(place, BACKUP, "b")
            for key, value in variables.items():
                monkeypatch.setenv(key, value)
            assert f"{place.name}/b" in await chronik("backup", "catalog")
            assert "with 3 snapshots" in await chronik("backup", "import", "b", "--as", "b", *flags)
            await recovered("m", f"{name}_third")


@pytest.mark.slow
async def test_the_metastore_is_as_of_the_very_time(place, played, volumes, database, s3):
    """Rows of before the time are there and none of after, though both are in the log between two backups.

    Volumes come from the backup after it. The slot of the archive goes with its cluster.
    """
    name = place.name.replace("-", "_")
    archive = {"image": IMAGE, "archive": {"enabled": True, "interval": "1s"}}
    with postgres.folder() as folder:
        jobs = LocalJobs(place, folder)
        played.on_job = jobs.run
        spec, new = await ready(place, database, s3, **archive)
        async with played.playing(), volumes.playing(), recovering(place):
            await launched(played, volumes, **spec)
            with jobs.started(await present(place, KIND_BY_NAME["Deployment"], "c-archive")) as whole:
                await place.create(ours(place, backup_of(place)))
                await usable(place, "b")
                database.sql("INSERT INTO topics (name) VALUES ('in time')", f"{name}_old")
                target = await moment_apart()
                database.sql("INSERT INTO topics (name) VALUES ('too late')", f"{name}_old")
                for node in NODES:
                    volumes.write(f"data-c-{node}", f"what {node} had later")
                await place.create(ours(place, backup_of(place, "later")))
                await usable(place, "later")
                database.sql("INSERT INTO topics (name) VALUES ('much too late')", f"{name}_old")
                until = time.time() + 2
                await eventually(lambda: asyncio.to_thread(touched, whole, until))
            slots = "SELECT count(*) FROM pg_replication_slots"
            assert database.sql(slots) == "1"
            await place.delete(CLUSTER, "c")
            await absent(place, CLUSTER, "c")
            assert database.sql(slots) == "0"

            document = restored(volumes, {"from": {"cluster": "c", "targetTime": target}}, **new)
            await place.create(document)
            cluster = await with_condition(place, "n", "Recovering", "False", "Recovered")
            rows = database.sql("SELECT name FROM topics WHERE name NOT LIKE 'topic %'", f"{name}_new")
            assert rows.splitlines() == ["in time"]
            assert database.sql("SELECT count(*) FROM topics", f"{name}_new") == "20001"
            found = cluster["status"]["recovery"]
            assert (found["backup"], found["metastoreBackup"]) == ("later", "b")
            assert datetime.fromisoformat(found["metastoreCutAt"]) == datetime.fromisoformat(target)
            assert f"The metastore is as of {found['metastoreCutAt']}, from ChronikBackup b" in found["message"]
            had = [f"what {node} had later" for node in NODES]
            assert [await volumes.content(f"data-n-{node}") for node in NODES] == had


@pytest.mark.slow
async def test_a_metastore_that_moves_leaves_no_slot_on_its_old_server(place, played, volumes, database, s3):
    """The slot is gone from the one server before the receiver is there for the other, and makes its own there."""
    archive = {"image": IMAGE, "archive": {"enabled": True, "interval": "1s"}}
    slots, deployment = "SELECT slot_name FROM pg_replication_slots", KIND_BY_NAME["Deployment"]
    with postgres.running() as second, postgres.folder() as folder:
        jobs = LocalJobs(place, folder)
        played.on_job = jobs.run
        spec, _ = await ready(place, database, s3, **archive)
        second.sql(f"CREATE DATABASE {place.name.replace('-', '_')}_old")
        async with played.playing(), volumes.playing(), recovering(place):
            await launched(played, volumes, **spec)
            receiver = await present(place, deployment, "c-archive")
            with jobs.started(receiver) as whole:
                await eventually(lambda: asyncio.to_thread(whole.exists))
            slot = database.sql(slots)
            assert slot.startswith("chronik_c_")
            await place.change("c", metastore={"connection": {"port": second.port}})

            async def moved() -> Manifest | None:
                found = await place.get(deployment, "c-archive")
                return found if found and str(second.port) in str(found["spec"]) else None

            receiver = await eventually(moved, 90)
            assert database.sql(slots) == ""
            assert [each["slot"] for each in jobs.ended if each["command"] == "backup drop-slot"] == [slot]
            whole.unlink()
            with jobs.started(receiver):
                await eventually(lambda: asyncio.to_thread(whole.exists))
            assert second.sql(slots) == slot


@pytest.mark.slow
async def test_another_name_of_the_same_server_makes_no_gap(place, played, volumes, database, s3):
    """Its slot is dropped and made anew, and what was written meanwhile is in the archive: a time after it is met."""
    name, deployment = place.name.replace("-", "_"), KIND_BY_NAME["Deployment"]
    archive = {"image": IMAGE, "archive": {"enabled": True, "interval": "1s"}}

    def write(row: str) -> None:
        database.sql(f"INSERT INTO topics (name) VALUES ('{row}')", f"{name}_old")

    with postgres.folder() as folder:
        jobs = LocalJobs(place, folder)
        played.on_job = jobs.run
        spec, new = await ready(place, database, s3, **archive)
        async with played.playing(), volumes.playing(), recovering(place):
            await launched(played, volumes, **spec)
            with jobs.started(await present(place, deployment, "c-archive")):
                await place.create(ours(place, backup_of(place)))
                await usable(place, "b")
                write("before")
            await place.change("c", metastore={"connection": {"host": "localhost"}})

            async def renamed() -> Manifest | None:
                found = await place.get(deployment, "c-archive")
                return found if found and "localhost" in str(found["spec"]) else None

            receiver = await eventually(renamed, 90)
            assert [each["already"] for each in jobs.ended if each["command"] == "backup drop-slot"] == [False]
            write("between")
            with jobs.started(receiver) as whole:
                write("after")
                target = await moment_apart()
                write("too late")
                await eventually(lambda: rolled(place), 90)  # as long as pods are replaced, no backup begins
                await place.create(ours(place, backup_of(place, "later")))
                await usable(place, "later")
                until = time.time() + 2
                await eventually(lambda: asyncio.to_thread(touched, whole, until), 90)
            await place.delete(CLUSTER, "c")
            await absent(place, CLUSTER, "c")
            await place.create(restored(volumes, {"from": {"cluster": "c", "targetTime": target}}, **new))
            await with_condition(place, "n", "Recovering", "False", "Recovered")
            rows = database.sql("SELECT name FROM topics WHERE name NOT LIKE 'topic %' ORDER BY id", f"{name}_new")
            assert rows.splitlines() == ["before", "between", "after"]


async def rolled(place: Namespace) -> bool:
    """Have pods be ready, component by component, and return whether the cluster runs."""
    await place.roll_out_all()
    return bool((await place.cluster("c"))["status"]["phase"] == "Running")


async def moment_apart() -> str:
    """Return a time with a zone that nothing else happens near."""
    await asyncio.sleep(0.2)
    found = datetime.now(timezone(timedelta(hours=1))).isoformat()
    await asyncio.sleep(0.2)
    return found


def touched(whole: Path, since: float) -> bool:
    """Return whether a receiver has stored all up to a time."""
    return whole.exists() and whole.stat().st_mtime > since
