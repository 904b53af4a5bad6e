"""`chronik backup import`: backups that lie in a store are known again after their Kubernetes is gone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import Done, run
from support.group_snapshots import GROUP, install_groups
from support.operators import condition, eventually, with_condition
from support.recoveries import NODES, absent, backed_up, recovering

from chronik.manifest import BACKUP, SNAPSHOT, SNAPSHOT_CONTENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from chronik.manifest import Manifest

    Chronik = Callable[..., Awaitable[Done]]

CLAIM = {"backup": {"destination": {"claim": {"name": "backups"}}, "encryption": {"secret": "backup-key"}}}
DUMP = b"what pg_dump wrote"


@pytest.fixture
def store(tmp_path) -> Path:
    """Return the folder of a store."""
    if find_spec("obstore") is None:
        pytest.skip("chronik[backup] is not installed")
    found = tmp_path / "store"
    found.mkdir()
    return found


@pytest.fixture
def chronik(place, store) -> Chronik:
    """Return the command line, pointed at the namespace and the store."""
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name)

    async def call(*arguments: str) -> Done:
        ours = ("--store", f"file://{store}") if arguments[:2] == ("backup", "import") else ()
        return await asyncio.to_thread(run, *arguments, *flags, *ours)

    return call


def stored(store: Path, described: Manifest, **changes: Any) -> str:
    """Put a backup into a store as its Jobs do, with its description; return its id."""
    from chronik.metastore.manifest import Manifest as Stored  # noqa: PLC0415  # it takes the extra
    from chronik.metastore.manifest import StoredFile  # noqa: PLC0415

    identity, sha = described["metadata"]["uid"], hashlib.sha256(DUMP).hexdigest()
    folder, time = store / identity, described["status"]["cutAt"]
    folder.mkdir()
    file = StoredFile("metastore-1.dump", len(DUMP), sha, len(DUMP), sha)
    about = {"started_at": time, "cut_at": time, "completed_at": time, "chronik": "1", "server": "15.1"}
    manifest = Stored(identity, "Dump", "x/c", **about, tool="pg_dump 15.1", database="d", files=(file,))
    (folder / file.name).write_bytes(DUMP)
    (folder / "manifest.json").write_bytes(manifest.to_json())
    described["status"]["metastore"] |= {"sha256": sha, "object": f"file:///mnt/backups/{identity}/{file.name}"}
    described["status"] |= changes
    (folder / "backup.json").write_text(json.dumps(described))
    return str(identity)


async def lost(place: Any, played: Any, disks: Any, store: Path, **backup: Any) -> str:
    """Have a backup whose cluster and ChronikBackup are gone; only the store and the driver know it. Return its id."""
    await backed_up(place, played, disks, backup=CLAIM["backup"] | backup)
    described = json.loads(played.records[-1])
    await place.delete(BACKUP, "b")
    await absent(place, BACKUP, "b")

    async def none() -> bool:
        return not await place.list(SNAPSHOT)

    await eventually(none)
    return stored(store, described)


async def test_a_backup_is_known_again_and_a_cluster_made_from_it(place, played, volumes, store, chronik):
    """After a total loss one command makes a backup known by its name, and another a cluster from it."""
    async with played.playing(), volumes.playing(), recovering(place):
        identity = await lost(place, played, volumes, store)
        done = await chronik("backup", "import", "b")
        assert done.code == 0, done
        assert done.out.startswith(f"ChronikBackup/{place.name}/b: imported, cut at ")
        assert done.out.endswith(", with 3 snapshots\n")
        assert f"note: a recovery takes Secret {place.name}/backup-key, which is not here" in done.err
        backup = await place.get(BACKUP, "b")
        assert backup
        assert backup["metadata"]["uid"] != identity
        assert (backup["spec"]["onDelete"], backup["status"]["usable"]) == ("Keep", True)
        assert condition(backup, "Completed")["status"] == "True"
        assert (await chronik("backup", "import", "--all")).out == f"ChronikBackup/{place.name}/b: is known already\n"

        played.order.clear()
        done = await chronik("restore", "c", "--as", "n", "--database", "second", "--wait")
        assert done.code == 0, done
        assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]
        await with_condition(place, "n", "Recovering", "False", "Recovered")

        # It goes by itself, and what the driver has stays: it belongs to those who made it.
        contents = [each["content"] for each in backup["status"]["volumes"]]
        assert (await chronik("backup", "delete", "b", "--yes")).code == 0
        await absent(place, BACKUP, "b")
        for name in contents:
            path = f"/apis/{SNAPSHOT_CONTENT.api_version}/{SNAPSHOT_CONTENT.plural}/{name}"
            assert (await place.call("GET", path))["spec"]["deletionPolicy"] == "Retain"


@pytest.mark.stand_in
async def test_volumes_that_were_cut_as_a_group_are_known_as_one(place, played, volumes, store, chronik):
    """The group is made known before its snapshots, which are bound only with it; it goes when its backup does."""
    install_groups(place.server)
    played.play_groups()
    async with played.playing(), volumes.playing(), recovering(place):
        identity = await lost(place, played, volumes, store, volumes={"method": "VolumeGroupSnapshot"})
        done = await chronik("backup", "import", identity, "--as", "again", "--on-delete", "Delete")
        assert done.code == 0, done
        (group,) = await place.list(GROUP)
        backup = await place.get(BACKUP, "again")
        assert backup["status"]["group"]["name"] == group["metadata"]["name"] == "again-volumes"
        assert (await chronik("restore", "c", "--as", "n", "--database", "second", "--wait")).code == 0
        assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]

        await place.delete(BACKUP, "again")
        await absent(place, BACKUP, "again")
        assert await place.list(GROUP) == []


@pytest.mark.slow
async def test_a_backup_that_is_taken_over_takes_its_data_along(place, played, volumes, store, chronik):
    """With --on-delete Delete the Job that removes the dump looks for it under the id that it has in the store."""
    async with played.playing(), volumes.playing(), recovering(place):
        identity = await lost(place, played, volumes, store)
        done = await chronik("backup", "import", identity, "--as", "again", "--on-delete", "Delete")
        assert done.code == 0, done
        ids = []
        played.on_job = lambda job: ids.append(job["spec"]["template"]["spec"]["containers"][0]["args"])
        await place.delete(BACKUP, "again")
        await absent(place, BACKUP, "again")
        assert ids == [["backup", "forget", "--id", identity]]


@pytest.mark.slow
async def test_an_import_that_was_cut_off_goes_on(place, played, volumes, store, chronik):
    """An operator leaves a half import alone; the same command finishes it, and names what stands in its way."""
    async with played.playing(), volumes.playing(), recovering(place):
        await lost(place, played, volumes, store)
        strange = {"apiVersion": SNAPSHOT.api_version, "kind": SNAPSHOT.name}
        strange |= {"metadata": {"name": "b-ingest-1", "namespace": place.name}}
        await place.create(strange | {"spec": {"source": {"persistentVolumeClaimName": "data-c-ingest-1"}}})
        done = await chronik("backup", "import", "b")
        assert done.code == 4
        assert f"VolumeSnapshot/{place.name}/b-ingest-1: there is one of that name already" in done.err
        half = await place.get(BACKUP, "b")
        assert half
        assert "phase" not in half.get("status", {}), "nobody has begun a backup of that name"

        await place.delete(SNAPSHOT, "b-ingest-1")
        assert (await chronik("backup", "import", "b")).code == 0
        assert (await chronik("backup", "list")).out.split()[6:10] == ["b", "c", "Completed", "yes"]


async def test_what_cannot_be_imported_is_said(place, played, volumes, store, chronik):
    """Names that are taken or not there, halves and damage: each is one sentence, and nothing is made."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes, **CLAIM)
        described = json.loads(played.records[-1])
        described["metadata"]["uid"] = "of-another"
        identity = stored(store, described)
        (store / "half").mkdir()
        (store / "half" / "metastore-2.dump").write_bytes(DUMP)
        dump = store / identity / "metastore-1.dump"
        cases: list[tuple[tuple[str, ...], int, str]] = [
            ((), 2, "name backups of the store, or say --all"),
            (("b", "--all"), 2, "one of both"),
            (("b", "c", "--as", "x"), 2, "--as gives one backup another name"),
            (("nope",), 8, "the store has no backup of that name or id"),
            (("half",), 8, "there is no such backup, only parts of a run that did not end"),
            (("b",), 4, "there is another backup of that name"),
        ]
        for arguments, code, says in cases:
            done = await chronik("backup", "import", *arguments)
            assert (done.code, says in done.err) == (code, True), (arguments, done)
        record = store / identity / "backup.json"
        whole = record.read_text()
        del described["status"]["volumes"][0]["handle"]
        record.write_text(json.dumps(described))
        lacking = await chronik("backup", "import", "b", "--as", "x")
        assert (lacking.code, "--without-volumes imports the metastore alone" in lacking.err) == (8, True)
        record.write_text(json.dumps({"kind": "Pod", "metadata": described["metadata"], "status": described["status"]}))
        strange = await chronik("backup", "import", "b", "--as", "x")
        assert (strange.code, "this describes no backup" in strange.err) == (8, True)
        record.write_text(whole)
        dump.write_bytes(b"short")
        damaged = await chronik("backup", "import", "b", "--as", "x")
        assert (damaged.code, "metastore-1.dump has 5 bytes instead of 18" in damaged.err) == (8, True)
        every = await chronik("backup", "import", "--all")
        assert every.code == 8
        assert "note: half: not imported" in every.err
        dump.unlink()
        gone = await chronik("backup", "import", "b", "--as", "x")
        assert (gone.code, "metastore-1.dump is gone" in gone.err) == (8, True)
        assert [each["metadata"]["name"] for each in await place.list(BACKUP)] == ["b"]
