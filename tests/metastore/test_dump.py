from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from support import postgres
from support.backups import Place

from chronik.metastore.tools import find

MADE = """
CREATE TABLE topics (id serial PRIMARY KEY, name text NOT NULL, config jsonb, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE groups (id int PRIMARY KEY, topic int REFERENCES topics (id), note text);
CREATE VIEW names AS SELECT name FROM topics; CREATE SCHEMA "Odd Name"; CREATE TABLE "Odd Name"."t-1" (x bytea);
INSERT INTO topics (name, config) SELECT 'topic ' || n, jsonb_build_object('n', n) FROM generate_series(1, 3000) n;
INSERT INTO groups SELECT n, n, E'tab\\t and 漢字' FROM generate_series(1, 1000) n;
INSERT INTO "Odd Name"."t-1" VALUES ('\\x00ff');
"""


@pytest.fixture
def filled(place):
    """Give a place whose database has something of everything."""
    place.sql(MADE)
    return place


@pytest.fixture
def in_filled_folder(in_folder):
    """Give the same, with a store that is a folder."""
    in_folder.sql(MADE)
    return in_folder


def test_a_metastore_comes_back(filled):
    """A dump that was stored, checked and restored has the same content, and a second restore does nothing."""
    made = filled.run("backup", "metastore", "--id", "b1", "--cluster", "demo/events")
    target = filled.new_database()
    restored = filled.run("restore", "metastore", "--id", "b1", PGDATABASE=target)
    again = filled.run("restore", "metastore", "--id", "b1", PGDATABASE=target)

    assert (made.code, restored.code, again.code) == (0, 0, 0), made.stderr + restored.stderr + again.stderr
    assert (made.result["verified"], made.result["encrypted"], made.result["rows"]) == (True, True, 4001)
    assert filled.server.content(target) == filled.server.content(filled.database)
    assert (restored.result["already"], again.result["already"]) == (False, True)
    assert restored.result["recoveredTo"] == made.result["cutAt"]


def test_what_a_backup_is_is_told(filled):
    """A backup is listed as complete, a second run of it does nothing, and once forgotten nothing is left."""
    made = filled.run("backup", "metastore", "--id", "b1")
    again = filled.run("backup", "metastore", "--id", "b1")
    (listed,) = filled.backups()
    verified = filled.run("backup", "verify", "--id", "b1")
    forgotten, twice = (filled.run("backup", "forget", "--id", "b1") for _ in range(2))

    assert again.result == {**made.result, "already": True}
    assert (listed["id"], listed["complete"], listed["leftovers"]) == ("b1", True, [])
    assert (verified.code, verified.result["verified"]) == (0, True)
    assert (forgotten.result["removed"], twice.result["already"]) == (2, True)
    assert filled.backups() == []


def test_a_dump_shows_one_moment(in_filled_folder):
    """A dump that is made while pairs of rows are written has both rows of a pair or none, and all of before."""
    place, stop = in_filled_folder, threading.Event()
    place.sql("CREATE TABLE a (n int); CREATE TABLE b (n int)")
    writer = subprocess.Popen(
        [find("psql"), "-XAtq"], stdin=subprocess.PIPE, env=place.environment(), stdout=subprocess.DEVNULL
    )

    def write():
        number = 0
        while not stop.wait(0.005):
            number += 1
            pair = f"BEGIN; INSERT INTO a VALUES ({number}); INSERT INTO b VALUES ({number}); COMMIT;\n"
            writer.stdin.write(pair.encode())
            writer.stdin.flush()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        time.sleep(0.3)
        before = int(place.sql("SELECT coalesce(max(n), 0) FROM b"))
        made = place.run("backup", "metastore", "--id", "b1")
        target = place.new_database()
        place.run("restore", "metastore", "--id", "b1", PGDATABASE=target)
    finally:
        stop.set()
        writing.join()
        writer.communicate()
    count_a, count_b, last = place.sql("SELECT (SELECT count(*) FROM a), count(*), max(n) FROM b", target).split("|")

    assert made.code == 0
    assert count_a == count_b == last
    assert int(last) >= before > 0
    assert made.result["rows"] == 4001 + 2 * int(last)
    assert place.server.content(target)["public.topics"] == place.server.content(place.database)["public.topics"]


def test_a_full_database_is_refused(in_filled_folder):
    """A database with tables is left as it is, unless it may be overwritten; then it is what the backup was."""
    place = in_filled_folder
    place.run("backup", "metastore", "--id", "b1")
    target = place.new_database()
    place.sql("CREATE TABLE mine (x int); INSERT INTO mine VALUES (1)", target)
    refused = place.run("restore", "metastore", "--id", "b1", PGDATABASE=target)
    kept = place.sql("SELECT x FROM mine", target)
    forced = place.run("restore", "metastore", "--id", "b1", "--allow-overwrite", PGDATABASE=target)

    assert (refused.code, refused.result["reason"], kept) == (8, "DatabaseNotEmpty", "1")
    assert "public.mine" in refused.result["message"]
    assert "--allow-overwrite" in refused.result["hint"]
    assert forced.code == 0
    assert place.server.content(target) == place.server.content(place.database)


def test_a_plain_user_is_enough(in_folder):
    """A user who owns the database, and nothing else, can dump it, restore it, and overwrite it."""
    place, source, target = in_folder, in_folder.new_database(), in_folder.new_database()
    place.sql("CREATE ROLE owner LOGIN PASSWORD 'x'", "postgres")
    login = {"PGUSER": "owner", "PGPASSWORD": "x"}
    try:
        for database in (source, target):
            place.sql(f"ALTER DATABASE {database} OWNER TO owner", "postgres")
        place.sql(f"SET ROLE owner; {MADE}", source)
        made = place.run("backup", "metastore", "--id", "b1", PGDATABASE=source, **login)
        restored = place.run("restore", "metastore", "--id", "b1", PGDATABASE=target, **login)
        place.sql("DELETE FROM chronik_recovery; DELETE FROM groups", target)
        again = place.run("restore", "metastore", "--id", "b1", "--allow-overwrite", PGDATABASE=target, **login)
        content = place.server.content(source), place.server.content(target)
    finally:
        place.sql(f"DROP DATABASE {source}; DROP DATABASE {target}; DROP ROLE owner", "postgres")

    assert [made.code, restored.code, again.code] == [0, 0, 0], made.stderr + restored.stderr + again.stderr
    assert again.result["already"] is False
    assert content[0] == content[1]


def test_a_restore_test_counts_rows(in_filled_folder):
    """A restore test loads the dump into a server of its own, and finds a table that lost rows."""
    place = in_filled_folder
    place.run("backup", "metastore", "--id", "b1")
    tested = place.run("backup", "verify", "--id", "b1", "--restore-test")
    (manifest,) = place.objects("b1/manifest.json")
    manifest.write_text(manifest.read_text().replace('"public.topics": 3000', '"public.topics": 3001'))
    failed = place.run("backup", "verify", "--id", "b1", "--restore-test")

    assert (tested.code, tested.result["rows"]) == (0, 4001), tested.stderr
    assert (failed.code, failed.result["reason"]) == (8, "BackupDamaged")
    assert "public.topics: 3000 instead of 3001" in failed.result["message"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _swap(path: Path) -> None:
    text = path.read_bytes()
    path.write_bytes(text[:1000] + text[2000:3000] + text[1000:2000] + text[3000:])


@pytest.mark.parametrize(
    ("damage", "encrypted"),
    [
        pytest.param(_truncate, True, id="cut-encrypted"),
        pytest.param(_truncate, False, id="cut-plain"),
        pytest.param(_swap, True, id="reordered-encrypted"),
        pytest.param(_swap, False, id="reordered-plain", marks=pytest.mark.slow),
        pytest.param(Path.unlink, True, id="gone-encrypted", marks=pytest.mark.slow),
        pytest.param(Path.unlink, False, id="gone-plain"),
    ],
)
def test_a_damaged_backup_is_not_restored(in_filled_folder, damage, encrypted):
    """A dump that was cut, reordered or removed in the store fails its check, and its restore leaves nothing behind."""
    place = in_filled_folder
    keys = {} if encrypted else {"CHRONIK_BACKUP_KEY": ""}
    place.run("backup", "metastore", "--id", "b1", **keys)
    damage(place.objects("b1/metastore-*")[0])
    checked = place.run("backup", "verify", "--id", "b1", **keys)
    target = place.new_database()
    restored = place.run("restore", "metastore", "--id", "b1", PGDATABASE=target, **keys)

    wanted = "BackupNotFound" if damage is Path.unlink else "BackupDamaged"
    assert (checked.code, checked.result["reason"]) == (8, wanted), checked.stderr
    assert restored.code == 8, restored.stderr
    assert place.server.content(target) == {}


def test_another_key_is_refused(in_filled_folder):
    """A wrong key, and none, are errors before anything is read; a list of keys is searched."""
    place = in_filled_folder
    place.run("backup", "metastore", "--id", "b1")
    other = place.folder / "other"
    other.write_text("cd" * 32)
    wrong = place.run("backup", "verify", "--id", "b1", CHRONIK_BACKUP_KEY=str(other))
    none = place.run("backup", "verify", "--id", "b1", CHRONIK_BACKUP_KEY="")
    both = place.run("backup", "verify", "--id", "b1", CHRONIK_BACKUP_KEY=f"{other}:{place.key}")

    assert (wrong.result["reason"], none.result["reason"]) == ("EncryptionKeyWrong", "EncryptionKeyWrong")
    assert both.code == 0, both.stderr


@pytest.mark.parametrize(
    ("changes", "code", "reason", "words"),
    [
        ({"PGPASSWORD": "wrong"}, 8, "DatabaseAccessDenied", "password authentication failed"),
        ({"PGSSLMODE": "require"}, 8, "DatabaseAccessDenied", "does not support SSL"),
        ({"PGDATABASE": "nope"}, 8, "DatabaseAccessDenied", 'database "nope" does not exist'),
        ({"PGPORT": "9"}, 9, "DatabaseUnreachable", "Connection refused"),
        ({"PGHOST": ""}, 2, "InvalidInput", "no database is named"),
        ({"CHRONIK_BACKUP_KEY": "/nope"}, 2, "InvalidInput", "encryption key cannot be read"),
        ({"CHRONIK_STORE": "file:///nope"}, 8, "StoreNotFound", "no such folder"),
        ({"CHRONIK_PG_BIN": "/nope"}, 8, "ToolUnusable", "the program psql is not there"),
    ],
)
def test_what_is_wrong_is_told(in_folder, changes, code, reason, words):
    """Each wrong setting ends with its exit code, its reason and words that say what it is, and stores nothing."""
    done = in_folder.run("backup", "metastore", "--id", "b1", **changes)

    assert (done.code, done.result["reason"]) == (code, reason), done.stderr
    assert words in done.result["message"]
    assert in_folder.objects("b1/*") == []


@pytest.fixture
def over_tls(in_folder):
    """Give a place whose server speaks TLS, the file of its certificate, and the file of another one."""
    for name in ("server", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        place = in_folder.folder
        subprocess.run([*command, "-keyout", place / f"{name}.key", "-out", place / f"{name}.crt"], check=True)
        if os.geteuid() == 0:
            shutil.chown(place / f"{name}.key", "postgres")
    files = {"ssl_cert_file": str(place / "server.crt"), "ssl_key_file": str(place / "server.key")}
    with postgres.running(ssl="on", **files) as server:
        yield Place(server, "postgres", place, in_folder.store)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes the certificates, is not installed")
def test_tls(over_tls):
    """A server whose certificate fits is dumped; one whose certificate was signed by another is refused."""
    files = {name: str(over_tls.folder / f"{name}.crt") for name in ("server", "other", "missing")}
    right, wrong, missing = (
        over_tls.run("backup", "metastore", "--id", f"b-{name}", PGSSLMODE="verify-ca", PGSSLROOTCERT=file)
        for name, file in files.items()
    )

    assert right.code == 0, right.stderr
    assert (wrong.code, wrong.result["reason"]) == (8, "DatabaseAccessDenied")
    assert "certificate verify failed" in wrong.result["message"]
    assert (missing.code, missing.result["reason"]) == (8, "DatabaseAccessDenied")
    assert "PGSSLROOTCERT" in missing.result["hint"]


def test_a_program_older_than_the_server(in_folder):
    """A pg_dump that is older than the server is refused, with both versions."""
    tools = in_folder.folder / "bin"
    tools.mkdir()
    (tools / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    (tools / "pg_dump").chmod(0o755)
    (tools / "psql").symlink_to(find("psql"))
    done = in_folder.run("backup", "metastore", "--id", "b1", CHRONIK_PG_BIN=str(tools))

    assert (done.code, done.result["reason"]) == (8, "ToolUnusable")
    assert "pg_dump 9.6.24 is older than the server, which is 15" in done.result["message"]


def test_the_result_is_the_termination_message(in_folder):
    """The last line is written where the kubelet reads it, errors too."""
    log = in_folder.folder / "log"
    log.touch()
    shutil.chown(log, "postgres") if os.geteuid() == 0 else None
    done = in_folder.run("backup", "verify", "--id", "nope", CHRONIK_TERMINATION_LOG=str(log))

    assert log.read_text() == done.stdout.strip()
    assert done.result["reason"] == "BackupNotFound"


def test_a_connection_that_is_cut(in_folder):
    """A dump whose connection is cut in the middle is an error that may pass, and no backup."""
    in_folder.sql("CREATE TABLE big AS SELECT n, repeat(md5(n::text), 20) t FROM generate_series(1, 100000) n")
    cutting = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'"
        f" AND datname = '{in_folder.database}'"
    )
    run = in_folder.start("backup", "metastore", "--id", "b1")
    while run.poll() is None and not in_folder.sql(cutting, "postgres"):
        time.sleep(0.01)
    stdout, stderr = run.communicate()

    assert run.returncode == 9, stderr
    assert b'"DatabaseUnreachable"' in stdout
    assert in_folder.objects("b1/manifest.json") == []
    (listed,) = in_folder.backups()
    assert (listed["complete"], listed["startedAt"] != "") == (False, True)


def test_a_bucket_that_vanishes(in_s3, s3):
    """A bucket that is gone before the dump has ended is an error that says so, and there is no backup."""
    in_s3.sql("CREATE TABLE big AS SELECT n, repeat(md5(n::text), 20) t FROM generate_series(1, 200000) n")
    run = in_s3.start("backup", "metastore", "--id", "b1")
    while run.poll() is None and not in_s3.run("backup", "catalog", "-o", "json").stdout.startswith("[\n"):
        time.sleep(0.01)
    urllib.request.urlopen(urllib.request.Request(f"{s3}/moto-api/reset", method="POST")).close()
    stdout, stderr = run.communicate()
    listed = in_s3.run("backup", "catalog")

    assert run.returncode in {8, 9}, stderr
    assert b'"result": "failed"' in stdout
    assert (listed.code, "there is no such bucket" in listed.stderr) == (8, True)


def kill_at_random(place, times: int, seed: int) -> None:
    """Kill backups and restores at random moments: no half is ever whole, and the next run ends right."""
    chance = random.Random(seed)
    place.sql("CREATE TABLE big AS SELECT n, repeat(md5(n::text), 10) t FROM generate_series(1, 60000) n")
    content = place.server.content(place.database)
    for number in range(times):
        identity, target = f"b{number}", place.new_database()
        began = time.monotonic()
        run = place.start("backup", "metastore", "--id", identity)
        try:
            run.communicate(timeout=chance.uniform(0.1, 1.2))
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.communicate()
        listed = {each["id"]: each for each in place.backups()}
        if identity in listed and listed[identity]["complete"]:
            assert run.returncode == 0 or time.monotonic() - began > 0.5  # killed after the manifest was written
        elif identity in listed:
            assert listed[identity]["startedAt"]
        made = place.run("backup", "metastore", "--id", identity)
        assert made.code == 0, made.stderr
        restoring = subprocess.Popen(
            place.command("restore", "metastore", "--id", identity),
            env=place.environment(PGDATABASE=target),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.3, 1.2))
        restoring.kill()
        restoring.wait()
        restored = place.run("restore", "metastore", "--id", identity, PGDATABASE=target)
        assert restored.code == 0, restored.stderr
        assert place.server.content(target) == content
        assert place.sql("SELECT count(*) FROM chronik_recovery", target) == "1"
        assert place.run("backup", "forget", "--id", identity).code == 0
        assert place.backups() == []


def test_kills(in_filled_folder):
    """A backup or a restore that is killed at any moment leaves nothing that looks whole, and a rerun ends right."""
    kill_at_random(in_filled_folder, 2, random.randrange(2**32))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as a user without a name")
def test_a_restore_test_by_a_user_without_a_name(in_filled_folder):
    """A pod's user has no entry in the image: initdb, which wants one, gets it; without the library it is said."""
    place = in_filled_folder
    assert place.run("backup", "metastore", "--id", "b1").code == 0
    command = [*postgres.unprivileged([]), *place.command()][-3:]
    nameless = ["setpriv", "--reuid=51234", "--regid=51234", "--clear-groups", *command]
    for path in (place.key, *place.folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    place.folder.chmod(0o777)
    run = subprocess.run(
        [*nameless, "backup", "verify", "--id", "b1", "--restore-test"],
        env=place.environment(TMPDIR="/tmp"),
        capture_output=True,
        text=True,
        check=False,
    )
    there = bool([*Path("/usr/lib").glob("*/libnss_wrapper.so")])

    assert (run.returncode, "libnss-wrapper" in run.stderr) == ((0, False) if there else (8, True)), run.stderr


@pytest.mark.slow
def test_many_kills(filled):
    """The same forty times, in each store."""
    kill_at_random(filled, 20, 1)
