"""Backups by the operator: their order, their ends, what is told of them, and how they go."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import run
from support.dying import Dying, pass_until
from support.operator_process import OperatorProcess
from support.operators import Namespace, eventually, key_of, running, small, with_condition, world_of
from support.recoveries import absent, present
from support.snapshots import Played, backup_of

from chronik.backups.archiving.slot import ENDING
from chronik.manifest import BACKUP, CLUSTER, JOB, KIND_BY_NAME, POD, SNAPSHOT, SNAPSHOT_CONTENT
from chronik.offline import loading
from chronik.operator import app
from chronik.operator.cache.cache import Selection
from chronik.operator.context import BackupTools
from chronik.operator.reconcile import reconcile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

SECTION = {
    "destination": {"s3": {"bucket": "acme-backups", "region": "eu-central-1", "credentialsSecret": "backup-s3"}},
}
IMAGE = "chronik/operator:1.0"
DEPLOYMENT = KIND_BY_NAME["Deployment"]


def backing_up(place: Namespace, **options: Any) -> Any:
    """Run an operator that makes backups, and looks at them more often than in real life."""
    selection = Selection(namespaces=(place.name,), features=frozenset({"backups"}))
    return running(place.server, place.name, selection=selection, backup_image=IMAGE, backup_poll=0.1, **options)


async def launched(place: Namespace, played: Played, **backup: Any) -> None:
    """Have a cluster run that is to be backed up, with a volume for each of its two nodes."""
    for part in ("controller", "ingest"):
        await played.claim("c", part, 0)
    await place.launch(small(place.name, backup=SECTION | backup))


async def ended(place: Namespace, name: str, phase: str, seconds: float = 40) -> Manifest:
    """Wait until a backup is in a phase, and return it."""
    seen = [None]

    async def there() -> Manifest | None:
        seen.append(await place.get(BACKUP, name))
        return seen[-1] if seen[-1] and (seen[-1].get("status") or {}).get("phase") == phase else None

    try:
        return dict(await eventually(there, seconds))
    except AssertionError:
        raise AssertionError(seen[-1]) from None


async def saying(place: Namespace, name: str, text: str) -> Manifest:
    """Wait until a backup's condition Completed says something, and return it."""

    async def there() -> Manifest | None:
        found = await place.get(BACKUP, name)
        return found if found and text in str((found.get("status") or {}).get("conditions")) else None

    return dict(await eventually(there))


async def gone(place: Namespace, name: str) -> None:
    """Wait until a backup is gone."""

    async def there() -> bool:
        return await place.get(BACKUP, name) is None

    await eventually(there)


def condition(backup: Manifest, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition."""
    found = next(each for each in backup["status"]["conditions"] if each["type"] == kind)
    return found["status"], found["reason"], found["message"]


@pytest.mark.both
async def test_a_backup_has_all_parts_in_their_order(place):
    """The dump comes first, then the controllers' volumes, then those of the ingest nodes; then it can be used."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        backup = await ended(place, "b", "Completed")

        status = backup["status"]
        assert played.order == ["metastore", "data-c-controller-0", "data-c-ingest-0"]
        assert status["usable"] is True
        assert [each["snapshot"] for each in status["volumes"]] == ["b-controller-0", "b-ingest-0"]
        assert all(each["ready"] and each["createdAt"] for each in status["volumes"])
        assert status["metastore"]["verified"] is True
        assert status["size"] == "2Gi"
        assert status["cluster"]["spec"]["backup"]["destination"] == SECTION["destination"]
        assert await place.list(JOB) == []

        async def told() -> bool:
            return {"BackupStarted", "BackupCompleted"} <= (await place.events()).keys()

        await eventually(told)


async def test_a_completed_backup_is_described_in_the_store(place):
    """A Job puts the whole ChronikBackup beside the dump; if it cannot, the backup is usable and says so."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        backup = await ended(place, "b", "Completed")
        (text,) = played.records
        told = json.loads(text)
        assert told["metadata"]["uid"] == backup["metadata"]["uid"]
        assert [each["snapshot"] for each in told["status"]["volumes"]] == ["b-controller-0", "b-ingest-0"]
        assert backup["status"]["record"] == {"object": "s3://acme-backups/x/backup.json"}

        played.jobs["record"] = "failed"
        await place.create(backup_of(place, "silent"))
        backup = await ended(place, "silent", "Completed")
        assert backup["status"]["usable"] is True
        assert condition(backup, "Recorded")[:2] == ("False", "NotRecorded")
        assert "the store is full" in condition(backup, "Recorded")[2]
        assert await place.list(JOB) == []


async def test_a_backup_is_checked_when_somebody_asks(place):
    """`chronik backup verify NAME` has a Job check the dump; damage makes the backup unusable, and is told."""
    played = Played(place)
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name)

    async def verify(*arguments: str) -> Any:
        return await asyncio.to_thread(run, "backup", "verify", *arguments, *flags)

    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        await ended(place, "b", "Completed")
        done = await verify("b", "--restore-test", "--wait")
        assert (done.code, done.out.splitlines()[-1]) == (
            0,
            f"ChronikBackup/{place.name}/b: passed, 4,711 rows were restored",
        ), done.err
        backup = await place.get(BACKUP, "b")
        assert condition(backup, "Verified") == ("True", "RestoreTested", "4,711 rows were restored")

        played.jobs["verify"] = "failed"
        away = await verify("b", "--wait")
        assert (away.code, "could not be checked: the store is full" in away.err) == (8, True)
        assert (await place.get(BACKUP, "b"))["status"]["usable"] is True

        played.failure = {"result": "failed", "reason": "BackupDamaged", "message": "chunk 2 was changed"}
        await asyncio.sleep(1)  # the requests are told apart by the second
        bad = await verify("b", "--wait")
        assert (bad.code, "chunk 2 was changed" in bad.err) == (8, True)
        backup = await place.get(BACKUP, "b")
        assert (backup["status"]["phase"], backup["status"]["usable"]) == ("Completed", False)
        assert condition(backup, "Verified")[:2] == ("False", "Damaged")

        async def told() -> bool:
            return {"BackupVerified", "BackupDamaged"} <= (await place.events()).keys()

        await eventually(told)
        shown = await asyncio.to_thread(run, "backup", "describe", "b", *flags)
        assert "Failed. chunk 2 was changed" in shown.out
        assert await place.list(JOB) == []
    assert (await verify("x")).code == 3
    assert (await verify()).code == 2
    assert (await verify("b", "--id", "b")).code == 2


async def test_a_backup_is_made_without_an_operator(place, tmp_path):
    """`chronik backup create -f` takes the same steps by itself; a rerun by name goes on, and makes nothing twice."""
    played = Played(place)
    for part in ("controller", "ingest"):
        await played.claim("c", part, 0)
    played.unready.add("data-c-ingest-0")
    file = tmp_path / "c.yaml"
    document = small(place.name, backup=SECTION)
    file.write_text(json.dumps(document))
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name, "-f", str(file))

    async def create(*arguments: str) -> Any:
        return await asyncio.to_thread(run, "backup", "create", "c", "--name", "b", *arguments, *flags)

    async with played.playing():
        assert "No image is known" in (await create()).err
        slow = await create("--image", IMAGE, "--timeout", "4s")
        assert (slow.code, "goes on" in slow.err) == (6, True)
        assert "data-c-ingest-0 is cut, and not ready yet" in slow.err
        assert played.records == []

        played.unready.clear()
        done = await create("--image", IMAGE)
        assert done.code == 0, done.err
        assert "described: s3://acme-backups/x/backup.json" in done.out
        assert played.order == ["metastore", "data-c-controller-0", "data-c-ingest-0", "metastore"], "the dump is found"
        told = json.loads(played.records[0])
        assert told["status"]["usable"] is True
        assert told["status"]["volumes"][0]["handle"].startswith("handle-")
        assert await place.list(JOB) == []
        snapshots = await place.list(SNAPSHOT)
        assert [each["metadata"]["name"] for each in snapshots] == ["b-controller-0", "b-ingest-0"]
        assert not any("ownerReferences" in each["metadata"] for each in snapshots)
        assert await place.list(BACKUP) == []
        (again,) = (await create("--image", IMAGE, "-o", "json")).json["items"]
        assert (again["metadata"]["name"], again["status"]["usable"]) == ("b", True)

        played.jobs["metastore"] = "failed"
        failed = await asyncio.to_thread(run, "backup", "create", "c", "--name", "bad", "--image", IMAGE, *flags)
        assert (failed.code, "the store is full" in failed.err) == (8, True)
        assert await place.list(JOB) == []


async def test_an_archive_is_run_and_told(place):
    """With an archive there is a receiver, its state is condition Archiving, and backups copy the whole server."""
    played = Played(place)
    archive = {"image": IMAGE, "archive": {"enabled": True}}
    async with played.playing(), backing_up(place):
        await launched(place, played, metastore=archive)
        cluster = await with_condition(place, "c", "Archiving", "False")
        assert cluster["status"]["phase"] == "Running", "a cluster is ready without its archive"
        receiver = await place.get(DEPLOYMENT, "c-archive")
        assert receiver["spec"]["strategy"] == {"type": "Recreate"}
        await place.create(backup_of(place))
        backup = await ended(place, "b", "Completed")
        assert played.order[0] == "base"
        assert backup["status"]["metastore"]["method"] == "Base"

        await receiving(place, lastState=LEFT)
        cluster = await with_condition(place, "c", "Archiving", "True", "SlotLeft")
        assert said(cluster, "Archiving") == f"{LEFT_WORDS['message']}. {LEFT_WORDS['hint']}"

        async def told() -> bool:
            return "SlotNotDropped" in await place.events()

        await eventually(told)


LEFT_WORDS = {
    "reason": "SlotLeft",
    "message": "chronik_c: the archive is on another server than before",
    "hint": "On db-1:5432: SELECT pg_drop_replication_slot('chronik_c')",
}
LEFT = {"terminated": {"exitCode": 9, "message": json.dumps(LEFT_WORDS)}}


async def receiving(place: Namespace, **container: Any) -> None:
    """Play the pod of a receiver that is ready."""
    template = (await place.get(DEPLOYMENT, "c-archive"))["spec"]["template"]
    metadata = {"name": "c-archive-x", "namespace": place.name, "labels": template["metadata"]["labels"]}
    spec = {"containers": [{"name": "receiver", "image": IMAGE}]}
    await place.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    state = {"name": "receiver", "ready": True, "started": True, "restartCount": 1, "image": IMAGE, "imageID": ""}
    ready = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "conditions": ready, "containerStatuses": [{**state, **container}]}
    await place.call("PATCH", place.path(POD, "c-archive-x", "status"), {"status": status}, patch="merge")


async def test_the_slot_of_an_archive_that_is_switched_off_is_dropped(place):
    """Its receiver goes and a Job drops the slot, which is told until it is done; so it is for a deleted cluster."""
    played = Played(place)
    archive = {"image": IMAGE, "archive": {"enabled": True}}
    off = {"spec": {"backup": {"metastore": {"archive": {"enabled": False}}}}}
    async with played.playing(), backing_up(place):
        played.jobs["drop-slot"] = "never"
        await launched(place, played, metastore=archive)
        await with_condition(place, "c", "Archiving", "False", "Starting")
        await place.edit(CLUSTER, "c", off)
        cluster = await with_condition(place, "c", "Archiving", "False", "DroppingSlot")
        assert "slot chronik_c_" in said(cluster, "Archiving")
        job = await place.get(JOB, "c-archive-end")
        assert job["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
        await absent(place, DEPLOYMENT, "c-archive")

        # On again: no receiver is there as long as the Job could drop its slot.
        await place.edit(CLUSTER, "c", {"spec": {"backup": {"metastore": {"archive": {"enabled": True}}}}})
        await absent(place, JOB, "c-archive-end")
        await present(place, DEPLOYMENT, "c-archive")

        played.jobs["drop-slot"] = "ok"
        await place.edit(CLUSTER, "c", {"spec": {"backup": None}})
        await without_condition(place, "c", "Archiving")
        await absent(place, JOB, "c-archive-end")
        assert played.order.count("drop-slot") == 1

        await place.edit(CLUSTER, "c", {"spec": {"backup": SECTION | {"metastore": archive}}})
        await present(place, DEPLOYMENT, "c-archive")
        await place.delete(CLUSTER, "c")
        await absent(place, CLUSTER, "c")
        assert played.order.count("drop-slot") == 2


def reads(place: Namespace, host: str) -> Any:
    """Return what tells whether a receiver is there that reads a server."""

    async def there() -> bool:
        receiver = await place.get(DEPLOYMENT, "c-archive")
        return receiver is not None and host in json.dumps(receiver["spec"])

    return there


async def test_an_archive_that_moves_to_another_server_leaves_no_slot(place):
    """The slot on the old server is dropped, as the old receiver reached it, before there is one on the new server."""
    played = Played(place)
    archive = {"image": IMAGE, "archive": {"enabled": True}}
    before = small("x")["spec"]["metastore"]["connection"]["host"]
    async with played.playing(), backing_up(place):
        played.jobs["drop-slot"] = "never"
        await launched(place, played, metastore=archive)
        await with_condition(place, "c", "Archiving", "False", "Starting")
        await place.change("c", metastore={"connection": {"host": "db-2.example.com"}})
        cluster = await with_condition(place, "c", "Archiving", "False", "DroppingSlot")
        assert f"on {before} is being dropped" in said(cluster, "Archiving")
        job = await place.get(JOB, "c-archive-end")
        assert "db-2.example.com" not in json.dumps(job["spec"])
        await absent(place, DEPLOYMENT, "c-archive")

        played.jobs["drop-slot"] = "ok"
        await eventually(reads(place, "db-2.example.com"))
        await absent(place, JOB, "c-archive-end")
        assert played.order.count("drop-slot") == 1


@asynccontextmanager
async def archiving(place: Namespace) -> AsyncIterator[tuple[Manifest, ReconcileContext]]:
    """Have an archive whose slot no Job ever drops; yield its cluster's document, and what passes over it work with."""
    played = Played(place)
    played.jobs["drop-slot"] = "never"
    document = small(place.name, backup=SECTION | {"metastore": {"image": IMAGE, "archive": {"enabled": True}}})
    parts: dict[str, Any] = {
        "backups": BackupTools(render=loading.template_renderer(), poll=0),
        "selection": followed(place),
    }
    async with played.playing(), world_of(place, **parts) as world:
        await place.create(document)
        await passes_until(document, world, lambda: place.get(DEPLOYMENT, "c-archive"))
        yield document, world


async def test_an_archive_goes_on_if_its_old_server_is_gone(place):
    """After two minutes the slot on a server that does not answer is named in an Event, and the archive goes on."""
    async with archiving(place) as (document, world):
        await place.change("c", metastore={"connection": {"host": "db-2.example.com"}})
        await passes_until(document, world, lambda: place.get(JOB, "c-archive-end"))
        for _ in range(5):
            await reconcile(key_of(document), world)
        assert await place.get(DEPLOYMENT, "c-archive") is None, "it waits for a while"
        told: list[Any] = []
        late = replace(world, now=lambda: "2099-01-01T00:00:00Z", announce=lambda _, event: told.append(event))
        await passes_until(document, late, reads(place, "db-2.example.com"))
        (event,) = [each for each in told if each.reason == "SlotNotDropped"]
        assert "SELECT pg_drop_replication_slot('chronik_c_" in event.note


async def test_a_cluster_goes_without_its_slot_if_that_takes_too_long(place):
    """Its database may be gone: then the slot that stays is named in an Event, and the cluster is let go."""
    async with archiving(place) as (document, world):
        await place.delete(CLUSTER, "c")
        await passes_until(document, world, lambda: place.get(JOB, "c-archive-end"))
        await reconcile(key_of(document), world)
        assert await place.get(CLUSTER, "c") is not None, "it waits for a while"
        assert await place.get(DEPLOYMENT, "c-archive") is None
        told: list[Any] = []
        late = replace(world, now=lambda: "2099-01-01T00:00:00Z", announce=lambda _, event: told.append(event))
        await passes_until(document, late, lambda: gone_now(place))
        (event,) = [each for each in told if each.reason == "SlotNotDropped"]
        assert "SELECT pg_drop_replication_slot('chronik_c_" in event.note


@pytest.mark.slow
@pytest.mark.parametrize("arrives", [True, False], ids=["the write arrives", "the write is lost"])
async def test_a_kill_at_any_write_drops_the_slot_all_the_same(place, arrives):
    """An operator that is killed at each of its writes in turn has the slot dropped once it is there again."""
    played = Played(place)
    archive = {"image": IMAGE, "archive": {"enabled": True}}
    off = {"spec": {"backup": {"metastore": {"archive": {"enabled": False}}}}}
    parts: dict[str, Any] = {
        "backups": BackupTools(render=loading.template_renderer(), poll=0),
        "selection": followed(place),
    }
    document = small(place.name, backup=SECTION | {"metastore": archive})
    await place.create(document)
    kills = 0
    async with played.playing():
        for writes in range(12):
            dropped = played.order.count("drop-slot")
            await place.edit(CLUSTER, "c", {"spec": {"backup": SECTION | {"metastore": archive}}})
            async with world_of(place, **parts) as world:
                await passes_until(document, world, lambda: has_archive(place))
            await place.edit(CLUSTER, "c", off)
            async with world_of(place, **parts) as world:
                dying = Dying(world.kube, writes, arrives=arrives)
                for _ in range(1000):
                    await pass_until(key_of(document), world, dying)
                    if dying.killed or await has_ended(place):
                        break
                    await asyncio.sleep(0.02)
            kills += dying.killed
            async with world_of(place, **parts) as world:
                await passes_until(document, world, lambda: has_ended(place))
            assert played.order.count("drop-slot") > dropped, f"killed at write {writes}"
            if not dying.killed:
                break
    assert kills >= 4


@pytest.mark.slow
@pytest.mark.parametrize("arrives", [True, False], ids=["the write arrives", "the write is lost"])
async def test_a_kill_at_any_write_leaves_no_slot_on_an_old_server(place, arrives):
    """An operator that is killed at each of its writes in turn has the slot dropped, and then the archive go on."""
    played = Played(place)
    archive = {"image": IMAGE, "archive": {"enabled": True}}
    tools = BackupTools(render=loading.template_renderer(), poll=0)
    parts: dict[str, Any] = {"backups": tools, "selection": followed(place)}
    document = small(place.name, backup=SECTION | {"metastore": archive})
    await place.create(document)
    kills = 0
    async with played.playing(), world_of(place, **parts) as world:
        await passes_until(document, world, lambda: has_archive(place))
    async with played.playing():
        for writes in range(14):
            dropped, host = played.order.count("drop-slot"), f"db-{writes}.example.com"
            moved = reads(place, host)
            await place.change("c", metastore={"connection": {"host": host}})
            async with world_of(place, **parts) as world:
                dying = Dying(world.kube, writes, arrives=arrives)
                for _ in range(1000):
                    await pass_until(key_of(document), world, dying)
                    if dying.killed or (await moved() and await has_archive(place)):
                        break
                    await asyncio.sleep(0.02)
            kills += dying.killed
            async with world_of(place, **parts) as world:
                await passes_until(document, world, moved)
                await passes_until(document, world, lambda: has_archive(place))
            assert played.order.count("drop-slot") > dropped, f"killed at write {writes}"
            if not dying.killed:
                break
    assert kills >= 4


def followed(place: Namespace) -> Selection:
    """Return what an operator of this namespace follows."""
    return Selection(namespaces=(place.name,), features=frozenset({"backups"}))


async def passes_until(document: Manifest, world: Any, holds: Any) -> None:
    """Pass over a cluster until something holds."""
    for _ in range(1500):
        await reconcile(key_of(document), world)
        if await holds():
            return
        await asyncio.sleep(0.03)
    raise AssertionError(await world.kube.get(CLUSTER, document["metadata"]["namespace"], "c"))


async def gone_now(place: Namespace) -> bool:
    """Return whether the cluster is gone."""
    return await place.get(CLUSTER, "c") is None


async def has_archive(place: Namespace) -> bool:
    """Return whether a receiver is there, its state is told, and nothing of the end before is."""
    conditions = (await place.cluster("c")).get("status", {}).get("conditions", ())
    told = {each["reason"] for each in conditions if each["type"] == "Archiving"}
    return bool(told) and not told & ENDING and await place.get(DEPLOYMENT, "c-archive") is not None


async def has_ended(place: Namespace) -> bool:
    """Return whether neither a receiver nor its Job is there, and nothing is said of either."""
    conditions = (await place.cluster("c")).get("status", {}).get("conditions", ())
    left = [await place.get(DEPLOYMENT, "c-archive"), await place.get(JOB, "c-archive-end")]
    return not any(left) and "Archiving" not in {each["type"] for each in conditions}


def said(cluster: Manifest, kind: str) -> str:
    """Return the message of a condition."""
    return next(str(each["message"]) for each in cluster["status"]["conditions"] if each["type"] == kind)


async def without_condition(place: Namespace, name: str, kind: str) -> None:
    """Wait until nothing is said of a kind of condition."""

    async def silent() -> bool:
        found = (await place.cluster(name)).get("status") or {}
        return kind not in {each["type"] for each in found["conditions"]}

    await eventually(silent)


async def test_what_a_driver_says_is_told_part_by_part(place):
    """A snapshot that fails is named with the driver's words, is tried until it works, and then all is well."""
    played = Played(place)
    played.failing["data-c-ingest-0"] = "the array is busy"
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        backup = await saying(place, "b", "data-c-ingest-0 (the array is busy)")
        assert condition(backup, "SnapshotsReady")[2].startswith("1 of 2 snapshots are ready")
        assert backup["status"]["usable"] is False

        played.failing.clear()
        backup = await ended(place, "b", "Completed")
        assert "error" not in backup["status"]["volumes"][1]


async def test_a_content_that_names_another_snapshot_is_never_usable(place):
    """A snapshot whose content belongs to another is told and completes no backup; those of other shards are let be."""
    played = Played(place)
    played.lying.add("data-c-ingest-0")
    shard = {"example.com/shard": place.name}
    everywhere = Selection(selector=f"example.com/shard={place.name}", features=frozenset({"backups"}))
    options = {"selection": everywhere, "backup_image": IMAGE, "backup_poll": 0.1}
    async with played.playing(), running(place.server, place.name, **options):
        for part in ("controller", "ingest"):
            await played.claim("c", part, 0)
        cluster, wanted = small(place.name, backup=SECTION), backup_of(place)
        cluster["metadata"]["labels"] = wanted["metadata"]["labels"] = shard
        await place.launch(cluster)
        await place.create(wanted)
        await place.create(backup_of(place, "strange"))
        backup = await saying(place, "b", "names another snapshot")
        assert (backup["status"]["phase"], backup["status"]["usable"]) == ("Finalizing", False)
        await asyncio.sleep(1)
        await ended(place, "b", "Finalizing")
        strange = await place.get(BACKUP, "strange")
        assert "status" not in strange, "it is another shard's"


async def test_a_dump_that_fails_fails_the_backup(place):
    """If the Job fails for good, the backup has failed in the Job's own words, and no volume was cut for it."""
    played = Played(place)
    played.jobs["metastore"] = "failed"
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        backup = await ended(place, "b", "Failed")

        assert condition(backup, "Completed")[1:] == ("DumpFailed", "The metastore was not dumped: the store is full")
        assert await place.list(JOB) == []
        assert await place.list(SNAPSHOT) == []


async def test_a_cluster_that_is_not_healthy_is_backed_up_and_said_so(place):
    """A cluster with a node down is backed up all the same, and the backup says how it was."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        for ref in await place.workloads():
            if ref.name == "c-ingest":
                await place.roll_out(ref, ready=0)
        await with_condition(place, "c", "Ready", "False")
        await place.create(backup_of(place))
        backup = await ended(place, "b", "Completed")

        assert "was not healthy when it began: ingest nodes" in condition(backup, "Completed")[2]


async def test_backups_of_a_cluster_go_one_after_the_other(place):
    """A second backup waits for the first, and says for which."""
    played = Played(place)
    played.jobs["metastore"] = "never"
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place, "first"))
        await ended(place, "first", "Running")
        await place.create(backup_of(place, "second"))
        backup = await saying(place, "second", "AnotherBackup")
        assert condition(backup, "Completed")[2] == "ChronikBackup first of this cluster goes first"

        played.jobs["metastore"] = "ok"
        await ended(place, "first", "Completed")
        await ended(place, "second", "Completed")


async def test_a_cluster_that_is_not_to_be_backed_up_is_said(place):
    """A backup of a cluster without spec.backup, or of none, waits and says why."""
    async with backing_up(place):
        await place.launch(small(place.name))
        await place.create(backup_of(place))
        await place.create(backup_of(place, "stray", cluster="other"))

        assert condition(await saying(place, "b", "NotConfigured"), "Completed")[2].startswith(
            "ChronikCluster c has no"
        )
        await saying(place, "stray", "ClusterMissing")


async def test_without_snapshots_it_is_said_what_to_install(bare_server):
    """A server without VolumeSnapshots: the backup waits, and says what to install and what to set instead."""
    bare_server.install(loading.definitions())
    for kind in (CLUSTER, BACKUP):
        bare_server.wait_served(f"/apis/{kind.api_version}/{kind.plural}")
    place = Namespace(bare_server, bare_server.new_namespace())
    async with backing_up(place):
        await place.launch(small(place.name, backup=SECTION))
        await place.create(backup_of(place))
        backup = await saying(place, "b", "SnapshotsUnavailable")

        assert "external-snapshotter" in condition(backup, "Completed")[2]


async def test_without_an_operator_and_without_snapshots(bare_server, tmp_path):
    """`chronik backup create -f` says what to install, too, and dumps the metastore where volumes are not asked for."""
    place = Namespace(bare_server, bare_server.new_namespace())
    file = tmp_path / "c.yaml"
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name, "-f", str(file), "--image", IMAGE)
    command = ("backup", "create", "c", "--name", "b", "--timeout", "1s")
    file.write_text(json.dumps(small(place.name, backup=SECTION)))
    wanted = await asyncio.to_thread(run, *command, *flags)
    file.write_text(json.dumps(small(place.name, backup={**SECTION, "volumes": {"method": "None"}})))
    unwanted = await asyncio.to_thread(run, *command, *flags)

    assert (wanted.code, "external-snapshotter" in wanted.err) == (8, True)
    assert (unwanted.code, "the metastore is not dumped yet" in unwanted.err) == (6, True)


@pytest.mark.both
async def test_a_deleted_backup_takes_its_parts_along(place):
    """Snapshots are deleted, a Job removes the dump, and only then the backup goes."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        await ended(place, "b", "Completed")
        played.order.clear()
        await place.delete(BACKUP, "b")
        await gone(place, "b")

        assert played.order == ["forget"]
        assert await place.list(SNAPSHOT) == []
        await no_jobs(place)


async def test_a_backup_that_is_to_be_kept_leaves_its_parts(place):
    """With onDelete Keep the document goes, its snapshots belong to nobody and stay, and nothing is forgotten."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place, onDelete="Keep"))
        await ended(place, "b", "Completed")
        played.order.clear()
        await place.delete(BACKUP, "b")
        await gone(place, "b")

        assert played.order == []
        kept = await place.list(SNAPSHOT)
        assert [each["metadata"]["name"] for each in kept] == ["b-controller-0", "b-ingest-0"]
        assert not any(each["metadata"].get("ownerReferences") for each in kept)


async def test_a_dump_that_cannot_be_removed_is_told_and_can_be_left(place):
    """If the dump cannot be removed, the backup stays and says how to let it go; then it goes."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        await ended(place, "b", "Completed")
        played.jobs["forget"] = "failed"
        await place.delete(BACKUP, "b")
        backup = await saying(place, "b", "ForgetFailed")
        assert "--leave-data" in condition(backup, "ForgetFailed")[2]

        await place.edit(BACKUP, "b", {"metadata": {"annotations": {"chronik.stream/leave-data": "true"}}})
        await gone(place, "b")
        await no_jobs(place)


async def test_deleting_a_cluster_deletes_no_backup(place):
    """Backups outlive their cluster with all their parts, and can be deleted after it."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played)
        await place.create(backup_of(place))
        await ended(place, "b", "Completed")
        await place.delete(CLUSTER, "c")

        async def cluster_gone() -> bool:
            return await place.get(CLUSTER, "c") is None

        await eventually(cluster_gone)
        await asyncio.sleep(0.5)
        assert (await ended(place, "b", "Completed"))["status"]["usable"] is True
        assert len(await place.list(SNAPSHOT)) == 2

        await place.delete(BACKUP, "b")
        await gone(place, "b")
        assert played.order[-1] == "forget"


async def test_backups_go_with_a_cluster_that_says_so(place):
    """With onClusterDeletion Delete, backups are deleted when their cluster is."""
    played = Played(place)
    async with played.playing(), backing_up(place):
        await launched(place, played, onClusterDeletion="Delete")
        await place.create(backup_of(place))
        await ended(place, "b", "Completed")
        await place.delete(CLUSTER, "c")
        await gone(place, "b")
        assert await place.list(SNAPSHOT) == []


@pytest.mark.parametrize("jumps", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["at once", "by the clock"])
async def test_a_schedule_makes_backups_and_lets_them_go(place, monkeypatch, jumps):
    """A schedule of every minute makes the backup of the minute, and what is beyond keep.last goes."""
    played = Played(place)
    schedule = {"name": "often", "cron": "* * * * *", "keep": {"last": 1}}
    ahead = timedelta()
    monkeypatch.setattr(app, "timestamp", lambda: f"{datetime.now(UTC) + ahead:%Y-%m-%dT%H:%M:%SZ}")

    async def minute() -> None:
        nonlocal ahead
        if jumps:
            ahead += timedelta(minutes=1)
            await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"ahead": str(ahead)}}})

    async with played.playing(), backing_up(place):
        await launched(place, played, schedules=[schedule])
        cluster = await with_condition(place, "c", "BackupsCurrent", "True")
        assert cluster["status"]["backup"]["schedules"][0]["next"]

        async def one() -> list[Manifest]:
            return [each for each in await place.list(BACKUP) if (each.get("status") or {}).get("usable")]

        await minute()
        (first,) = await eventually(one, 90)
        assert first["metadata"]["labels"]["chronik.stream/schedule"] == "often"

        async def another() -> bool:
            found = await one()
            return len(found) == 1 and found[0]["metadata"]["name"] != first["metadata"]["name"]

        await minute()
        await eventually(another, 90)

        async def told() -> bool:
            cluster = await place.cluster("c")
            return bool(cluster["status"]["backup"]["lastUsable"]["name"] != first["metadata"]["name"])

        await eventually(told)
        assert "BackupExpired" in await place.events()
        shown = await asyncio.to_thread(
            run, "status", "c", "--kubeconfig", str(place.server.kubeconfig), "-n", place.name
        )
        assert all(each in shown.out for each in ("Backups", "last usable", "c-often-", "next at"))


async def test_an_operator_without_the_feature_says_so_and_asks_nothing(place):
    """Without --features backups a document that asks for them is told, runs, and costs no request about them."""
    async with running(place.server, place.name):
        await place.launch(small(place.name, backup=SECTION))
        cluster = await with_condition(place, "c", "FeatureMissing", "True")
        assert cluster["status"]["phase"] == "Running"

        asked = {resource for _, resource in await place.asked()}
        assert not asked & {"chronikbackups", "volumesnapshots", "jobs"}


@pytest.mark.parametrize(("backups", "kills"), [(1, 2), pytest.param(5, 4, marks=pytest.mark.slow)])
async def test_kills_leave_no_half_backup(place, tmp_path: Path, backups, kills):
    """An operator that is killed at any moment: in the end each backup is whole, cut once and in order."""
    chance = random.Random(13)
    played = Played(place)
    arguments = ("-n", place.name, "--no-leader-elect", "--features", "backups", "--backup-image", IMAGE)
    arguments += ("--backup-poll", "0.1")
    async with played.playing():
        async with backing_up(place):
            await launched(place, played)
        for number in range(backups):
            played.order.clear()
            name = f"b{number}"
            await place.create(backup_of(place, name))
            for _ in range(kills):
                operator = await asyncio.to_thread(
                    OperatorProcess, place.server.kubeconfig, tmp_path / "log", *arguments
                )
                with operator:
                    await asyncio.to_thread(operator.wait_said, "reconciles", 60)
                    await asyncio.sleep(chance.uniform(0, 0.6))
                found = await place.get(BACKUP, name)
                status = found.get("status") or {}
                parts = status.get("volumes") or []
                whole = all(each.get("ready") for each in parts) and status.get("metastore", {}).get("verified")
                assert not status.get("usable") or whole
                assert {each["metadata"]["name"] for each in await place.list(SNAPSHOT)} <= {
                    *(f"b{each}-{part}-0" for each in range(number + 1) for part in ("controller", "ingest"))
                }
            async with backing_up(place):
                await ended(place, name, "Completed")
            assert played.order == ["metastore", "data-c-controller-0", "data-c-ingest-0"]
        assert await place.list(JOB) == []
        await place.delete(BACKUP, "b0")
        for _ in range(kills):
            operator = await asyncio.to_thread(OperatorProcess, place.server.kubeconfig, tmp_path / "log", *arguments)
            with operator:
                await asyncio.to_thread(operator.wait_said, "reconciles", 60)
                await asyncio.sleep(chance.uniform(0, 0.4))
        async with backing_up(place):
            await gone(place, "b0")
        assert not [each for each in await place.list(SNAPSHOT) if each["metadata"]["name"].startswith("b0")]
        await no_jobs(place)
        assert SNAPSHOT_CONTENT.namespaced is False


def _job(name: str) -> Any:
    async def there(place: Namespace, backup: str) -> bool:
        return await place.get(JOB, f"{backup}-{name}") is not None

    return there


def _says(look: Any) -> Any:
    async def there(place: Namespace, backup: str) -> bool:
        found = await place.get(BACKUP, backup)
        return found is None or bool(look(found, found.get("status") or {}))

    return there


MAKING = {
    "it is claimed": _says(lambda backup, _: backup["metadata"].get("finalizers")),
    "its parts are written down": _says(lambda _, status: status.get("startedAt")),
    "it is dumped": _job("metastore"),
    "the dump is there": _says(lambda _, status: (status.get("metastore") or {}).get("ready")),
    "the controllers are cut": _says(
        lambda _, status: any("createdAt" in each for each in status.get("volumes") or ())
    ),
    "all is cut": _says(lambda _, status: status.get("cutAt")),
    "it is described": _job("record"),
    "it is completed": _says(lambda _, status: status.get("phase") == "Completed"),
}
GOING = {
    "it is being deleted": _says(lambda _, status: status.get("phase") == "Deleting"),
    "the dump is removed": _job("forget"),
    "the snapshots are gone": _says(lambda _, status: "snapshots" not in str(status.get("conditions"))),
}


KILLS = 4
"""How often an operator is killed at each of these moments: 44 times in all."""


async def kill_when(place: Namespace, there: Any, name: str, log: Path, chance: random.Random) -> None:
    """Run an operator, and kill it a moment after something is so of a backup."""
    arguments = ("-n", place.name, "--no-leader-elect", "--features", "backups", "--backup-image", IMAGE)
    arguments += ("--backup-poll", "0.1")
    operator = await asyncio.to_thread(OperatorProcess, place.server.kubeconfig, log, *arguments)
    with operator:  # which ends it by SIGKILL
        await asyncio.to_thread(operator.wait_said, "reconciles", 60)
        for _ in range(1500):
            if await there(place, name):
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0, 0.2))


async def no_jobs(place: Namespace) -> None:
    """Wait until no Job is left: one that is deleted goes when its pods have."""

    async def there() -> bool:
        return await place.list(JOB) == []

    await eventually(there)


@pytest.mark.slow
async def test_kills_at_each_phase_of_a_backup(place, tmp_path: Path):
    """Four kills at each of eight moments: never half a backup that can be used, nothing twice, nothing left."""
    chance = random.Random(32)
    played = Played(place)
    async with played.playing():
        async with backing_up(place):
            await launched(place, played)
        for number, there in enumerate(MAKING.values()):
            played.order.clear()
            name = f"b{number}"
            await place.create(backup_of(place, name))
            for _ in range(KILLS):
                await kill_when(place, there, name, tmp_path / "log", chance)
                status = (await place.get(BACKUP, name)).get("status") or {}
                parts = status.get("volumes") or []
                whole = len(parts) == 2 and all(each.get("ready") for each in parts)
                assert not status.get("usable") or (whole and status["metastore"]["verified"] and status["record"])
            async with backing_up(place):
                await ended(place, name, "Completed")
            assert played.order == ["metastore", "data-c-controller-0", "data-c-ingest-0"], name
            await no_jobs(place)


@pytest.mark.slow
async def test_kills_at_each_phase_of_a_deletion(place, tmp_path: Path):
    """Four kills at each of three moments: in the end the backup is gone, and all that it consisted of."""
    chance = random.Random(12)
    played = Played(place)
    async with played.playing():
        async with backing_up(place):
            await launched(place, played)
            for number in range(len(GOING)):
                await place.create(backup_of(place, f"b{number}"))
                await ended(place, f"b{number}", "Completed")
        for number, there in enumerate(GOING.values()):
            name = f"b{number}"
            await place.delete(BACKUP, name)
            for _ in range(KILLS):
                await kill_when(place, there, name, tmp_path / "log", chance)
            async with backing_up(place):
                await gone(place, name)
            assert not [each for each in await place.list(SNAPSHOT) if each["metadata"]["name"].startswith(f"{name}-")]
            await no_jobs(place)
    assert played.order.count("forget") >= len(GOING)


async def test_commands_make_show_and_delete_backups(place):
    """`chronik backup create --wait`, `list`, `describe` and `delete`, as a person at a terminal uses them."""
    played = Played(place)
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name)

    async def chronik(*arguments: str) -> Any:
        return await asyncio.to_thread(run, "backup", *arguments, *flags)

    async with played.playing(), backing_up(place):
        await launched(place, played)
        made = await chronik("create", "c", "--name", "b", "--wait")
        assert (made.code, made.out.splitlines()) == (
            0,
            [f"ChronikBackup/{place.name}/b: asked for", f"ChronikBackup/{place.name}/b: completed"],
        )
        head, row = (await chronik("list", "c")).out.splitlines()
        assert head.split() == ["NAME", "CLUSTER", "PHASE", "USABLE", "CUT", "SIZE"]
        assert row.split()[:4] == ["b", "c", "Completed", "yes"]
        told = (await chronik("describe", "b")).out
        assert all(each in told for each in ("data-c-ingest-0", "s3://acme-backups/x/metastore.dump", "Usable:"))
        assert (await chronik("describe", "x")).code == 3
        asked = await chronik("create", "c", "--name", "second", "-o", "json")
        assert [each["metadata"]["name"] for each in asked.json["items"]] == ["second"]
        assert asked.err == f"ChronikBackup/{place.name}/second: asked for\n"
        await ended(place, "second", "Completed")

        played.jobs["metastore"] = "failed"
        failed = await chronik("create", "c", "--name", "bad", "--wait", "-o", "json")
        assert (failed.code, failed.json["error"]["subject"]) == (8, f"ChronikBackup/{place.name}/bad")
        assert "the store is full" in failed.err
        assert (await chronik("delete", "b", "bad")).code == 2
        assert (await chronik("delete", "b", "bad", "second", "--yes")).code == 0
        await gone(place, "b")
        await gone(place, "second")
        await gone(place, "bad")
        assert (await chronik("list")).err == f"no backups in namespace {place.name}\n"
        assert (await chronik("list", "c")).err == f"no backups of c in namespace {place.name}\n"
        await place.change("c", backup=None)
        refused = await chronik("create", "c", "--name", "never")
        assert (refused.code, "it has no spec.backup" in refused.err) == (2, True)
