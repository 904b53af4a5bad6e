from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from support import postgres
from support.backups import Place

from chronik.metastore.archive import format_lsn, parse_lsn, segment_name, segment_start
from chronik.metastore.tools import find

_slots = count(1)
MIB = 1024 * 1024


@contextmanager
def writing(place):
    """Write a row every 10 ms, each in a transaction of its own, with the time of its commit or a moment before."""
    place.sql("CREATE TABLE rows (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())")
    stop = threading.Event()
    psql = subprocess.Popen(
        [find("psql"), "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=place.environment()
    )

    def write():
        while not stop.wait(0.01):
            psql.stdin.write(b"INSERT INTO rows DEFAULT VALUES;\n")
            psql.stdin.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        psql.communicate()


@contextmanager
def receiving(place, slot: str):
    """Run a receiver as long as the block lasts; it is killed if the block has not stopped it."""
    run = place.start("backup", "receive", "--slot", slot, "--interval", "1s")
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
        run.communicate()


@pytest.fixture
def slot(in_folder):
    """Give the name of a replication slot, which is dropped at the end."""
    name = f"test_{next(_slots)}"
    yield name
    drop = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
    in_folder.sql(drop, "postgres")


def until_archived(place, moment: datetime) -> None:
    """Wait until the archive has all up to a moment."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = place.objects("wal/*/archive.json")
        if states and states[0].read_text().partition('"complete_until": "')[2][:26] >= moment.isoformat()[:26]:
            return
        time.sleep(0.2)
    raise AssertionError(f"the archive does not reach {moment}")


def check_recovery(place, target: datetime) -> None:
    """Recover to a moment: each row that was committed before is there, none that was after."""
    database = place.new_database()
    done = place.run("restore", "metastore", "--id", "b1", "--target-time", target.isoformat(), PGDATABASE=database)
    assert done.code == 0, done.stderr
    assert done.result["endOfArchive"] is False
    assert done.result["recoveredTo"][:26] == target.isoformat()[:26]
    ids = place.sql("SELECT id FROM rows ORDER BY id", database).splitlines()
    wanted = place.sql(f"SELECT id FROM rows WHERE at <= '{target.isoformat()}' ORDER BY id").splitlines()
    # a row has the time of its statement, and is committed a moment later: the last one may be on either side
    assert ids in (wanted, wanted[:-1]), f"{len(ids)} rows instead of {len(wanted)}, to {target}"
    assert ids


def recover_to_random_moments(place, slot: str, times: int) -> None:
    """Archive while rows are written, with a receiver that is killed and loses its folder, and recover."""
    place.sql("CREATE TABLE before AS SELECT n FROM generate_series(1, 5000) n")
    with writing(place):
        with receiving(place, slot) as first:
            time.sleep(1)
            made = place.run("backup", "base", "--id", "b1")
            assert made.code == 0, made.stderr
            begin = datetime.now(UTC)
            time.sleep(1.5)
            first.kill()
        place.sql("SELECT pg_switch_wal()")
        time.sleep(0.5)
        with receiving(place, slot) as second:
            time.sleep(1.5)
            place.sql("SELECT pg_switch_wal()")
            time.sleep(1)
            end = datetime.now(UTC)
            until_archived(place, end)
            second.send_signal(signal.SIGTERM)
            stdout, stderr = second.communicate()
            assert second.returncode == 0, stderr
            assert b'"result": "ok"' in stdout
    for _ in range(times):
        check_recovery(place, begin + (end - begin) * random.random())


def test_recovery_to_a_moment(in_folder, slot):
    """At a random moment between a base and the archive's end all rows of before are there, and none of after."""
    recover_to_random_moments(in_folder, slot, 1)


@pytest.mark.slow
def test_recovery_to_many_moments(in_folder, slot):
    """The same for twenty moments."""
    recover_to_random_moments(in_folder, slot, 20)


@pytest.fixture
def archived(in_folder, slot):
    """Give a place with a base, and an archive that has one row more."""
    in_folder.sql("CREATE TABLE rows (id int); INSERT INTO rows VALUES (1)")
    with receiving(in_folder, slot):
        assert in_folder.run("backup", "base", "--id", "b1").code == 0
        in_folder.sql("INSERT INTO rows VALUES (2)")
        until_archived(in_folder, datetime.now(UTC))
    return in_folder


def test_a_target_after_the_archive(archived):
    """A target that the archive does not reach is recovered to its end and told, or refused if it has to be exact."""
    target = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    database = archived.new_database()
    wish = ["restore", "metastore", "--id", "b1", "--target-time", target]
    refused = archived.run(*wish, "--exact", PGDATABASE=database)
    done = archived.run(*wish, PGDATABASE=database)
    again = archived.run(*wish, PGDATABASE=database)

    assert (refused.code, refused.result["reason"]) == (8, "TargetTimeNotCovered")
    assert (done.code, done.result["endOfArchive"]) == (0, True), done.stderr
    assert "recovered to its end" in done.result["message"]
    assert archived.sql("SELECT id FROM rows ORDER BY 1", database).split() == ["1", "2"]
    assert again.result["already"] is True


def test_a_target_before_the_base(archived):
    """A target before the base is refused, with the earliest that it reaches."""
    done = archived.run("restore", "metastore", "--id", "b1", "--target-time", "2020-01-01T00:00:00Z")

    assert (done.code, done.result["reason"]) == (8, "TargetTimeNotCovered")
    assert "and not to 2020-01-01T00:00:00.000000Z" in done.result["message"]


def test_times_need_a_zone(archived):
    """A target without a zone is a wrong option."""
    assert archived.run("restore", "metastore", "--id", "b1", "--target-time", "2026-01-01 10:00").code == 2


def test_a_base_is_checked_and_forgotten(archived):
    """A base passes its restore test; once it is forgotten, the WAL that no other base needs goes with it."""
    tested = archived.run("backup", "verify", "--id", "b1", "--restore-test")
    segments = len(archived.objects("wal/*/*.gz"))
    second = archived.run("backup", "base", "--id", "b2")
    forgotten = archived.run("backup", "forget", "--id", "b1")
    left = archived.objects("wal/*/*.gz")

    assert (tested.code, tested.result["rows"] >= 2) == (0, True), tested.stderr
    assert second.code == 0
    assert forgotten.result["removed"] == 2 + segments - len(left)
    assert [each["id"] for each in archived.backups()] == ["b2"]


def test_a_gap_is_told(archived, slot):
    """WAL that the server removed before it was stored is a gap: told, not recovered over, and mended by a new base."""
    archived.sql(f"SELECT pg_drop_replication_slot('{slot}')", "postgres")
    for _ in range(12):
        archived.sql("INSERT INTO rows VALUES (3); SELECT pg_switch_wal()")
    archived.sql("CHECKPOINT")
    archived.sql("CHECKPOINT")
    with receiving(archived, slot) as run:
        moment = datetime.now(UTC)
        until_archived(archived, moment)
        run.send_signal(signal.SIGTERM)
        stderr = run.communicate()[1].decode()
    database = archived.new_database()
    wish = ["restore", "metastore", "--id", "b1", "--target-time", moment.isoformat()]
    exact = archived.run(*wish, "--exact", PGDATABASE=database)
    done = archived.run(*wish, PGDATABASE=database)

    assert "the archive has a gap. Make a base backup now" in stderr
    assert (exact.code, exact.result["reason"]) == (8, "TargetTimeNotCovered")
    assert "has a gap after" in exact.result["message"]
    assert (done.code, done.result["endOfArchive"]) == (0, True), done.stderr
    assert archived.sql("SELECT id FROM rows ORDER BY 1", database).split() == ["1", "2"]


def test_another_key_for_an_archive(archived):
    """WAL is not read with another key."""
    other = archived.folder / "other"
    other.write_text("cd" * 32)
    done = archived.run("restore", "metastore", "--id", "b1", CHRONIK_BACKUP_KEY=str(other))

    assert (done.code, done.result["reason"]) == (8, "EncryptionKeyWrong")


def test_a_user_who_may_not_replicate(in_folder):
    """A base backup by a user without the right to replicate says which right it takes."""
    in_folder.sql("CREATE ROLE plain LOGIN PASSWORD 'x'", "postgres")
    try:
        done = in_folder.run("backup", "base", "--id", "b1", PGUSER="plain", PGPASSWORD="x")
    finally:
        in_folder.sql("DROP ROLE plain", "postgres")

    assert (done.code, done.result["reason"]) == (8, "DatabaseAccessDenied"), done.stderr
    assert "REPLICATION" in done.result["hint"]


@pytest.mark.parametrize(
    ("timeline", "position", "size", "name"),
    [
        (1, "0/2000028", 16 * MIB, "000000010000000000000002"),
        (2, "1/FF000000", 16 * MIB, "0000000200000001000000FF"),
        (10, "A/40000000", 1024 * MIB, "0000000A0000000A00000001"),
        (1, "0/0", MIB, "000000010000000000000000"),
    ],
)
def test_names_of_segments(timeline, position, size, name):
    """A position is in the segment that PostgreSQL says, for all sizes of segments."""
    at = parse_lsn(position)

    assert segment_name(timeline, at, size) == name
    assert segment_start(name, size) == at - at % size
    assert format_lsn(at) == position


def test_a_slot_is_dropped_once_nobody_reads_it(in_folder, slot):
    """A slot that is read is left alone, and told; without its reader it goes, and a second run finds none."""
    drop = ("backup", "drop-slot", "--slot", slot)
    with receiving(in_folder, slot) as receiver:
        until_archived(in_folder, datetime.now(UTC))
        held = in_folder.run(*drop, "--wait", "1s")
        assert (held.code, held.result["reason"]) == (9, "BackupInterrupted")
        assert "still reads it" in held.result["message"]
        receiver.send_signal(signal.SIGTERM)
        receiver.communicate()
    done = in_folder.run(*drop)
    assert (done.code, done.result["already"]) == (0, False)
    assert in_folder.sql(f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'") == "0"
    assert in_folder.run(*drop).result["already"] is True


def test_a_slot_that_another_server_has_is_told_once(in_folder, slot):
    """A receiver that finds another server behind the same Secret says what drops the slot on the old one, and goes on.

    Nothing that proves who one is is told, or lies in the store.
    """
    words = in_folder.folder / "words"
    archive_once(in_folder, slot)
    old, receive = in_folder.server, ("backup", "receive", "--slot", slot, "--interval", "1s")
    with postgres.running() as new:
        moved = Place(new, "postgres", in_folder.folder, in_folder.store)
        told = moved.run(*receive, "--termination-log", str(words))
        archive_once(moved, slot)
        known = json.loads(in_folder.objects(f"wal/slot-{slot}.json")[0].read_text())
        by_hand = in_folder.run("backup", "drop-slot", "--slot", slot)
        still = in_folder.objects(f"wal/slot-{slot}.json")
        dropped = moved.run("backup", "drop-slot", "--slot", slot)

    assert (told.code, told.result["reason"]) == (9, "SlotLeft"), told.stderr
    assert told.result["hint"] == f"On 127.0.0.1:{old.port}: SELECT pg_drop_replication_slot('{slot}')"
    assert json.loads(words.read_text()) == told.result
    assert known["port"] == str(new.port)
    assert set(known) == {"system", "host", "port"}
    assert (by_hand.code, dropped.code) == (0, 0)
    assert still, "the slot that counts is on the new server"
    assert in_folder.objects(f"wal/slot-{slot}.json") == [], "and then it is gone"


def test_a_slot_that_was_dropped_is_looked_for_on_no_server(in_folder, slot):
    """After a slot was dropped where it was, a receiver begins at another server without a word."""
    archive_once(in_folder, slot)
    assert in_folder.run("backup", "drop-slot", "--slot", slot).code == 0
    with postgres.running() as new:
        moved = Place(new, "postgres", in_folder.folder, in_folder.store)
        archive_once(moved, slot)


def archive_once(place, slot: str) -> None:
    """Have a receiver put something of a server into the store, and stop it in good order."""
    system = place.server.sql("SELECT system_identifier FROM pg_control_system()")
    with receiving(place, slot) as run:
        deadline = time.monotonic() + 60
        while not place.objects(f"wal/{system}/archive.json"):
            assert run.poll() is None, run.stderr.read()
            assert time.monotonic() < deadline, "nothing of the server is in the store"
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        assert run.wait() == 0, run.stderr.read()
