from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from support import postgres

from chronik.errors import InputError
from chronik.metastore import store as stores
from chronik.metastore.errors import (
    BackupDamaged,
    BackupNotFound,
    StoreAccessDenied,
    StoreFull,
    StoreNotFound,
    StoreUnreachable,
)
from chronik.metastore.manifest import DUMP, Encryption, Manifest, StoredFile, read_manifest
from chronik.metastore.store import StoreSettings, open_store
from chronik.metastore.tools import database_environment

obstore = pytest.importorskip("obstore")
pytest.importorskip("obstore.exceptions")


@pytest.fixture
def store(tmp_path):
    """Give a store that is a folder."""
    return open_store(StoreSettings(f"file://{tmp_path}"))


@pytest.mark.parametrize(
    "url",
    ["", "backups", "http://host/x", "s3://", "s3:///x", "file://", "file://host/x", "s3://b/p?x=1", "S3:b", "gs://"],
)
def test_addresses_that_are_none(url):
    """What is no address of a store is refused, with how one looks."""
    with pytest.raises(InputError, match="s3://BUCKET/PREFIX"):
        open_store(StoreSettings(url))


def test_a_missing_folder_is_not_made(tmp_path):
    """A folder that is not there may be a missing mount: it is an error, and it is not made."""
    with pytest.raises(StoreNotFound, match="mount"):
        open_store(StoreSettings(f"file://{tmp_path}/nope"))
    assert not (tmp_path / "nope").exists()


@pytest.mark.parametrize(
    ("scheme", "names"),
    [("s3", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), ("gs", "key.json"), ("az", "AZURE_STORAGE_KEY")],
)
def test_a_secret_without_its_keys_is_named(tmp_path, scheme, names):
    """A mounted Secret that lacks the credentials is an error that names its keys."""
    with pytest.raises(InputError, match=names):
        open_store(StoreSettings(f"{scheme}://bucket", credentials=tmp_path))


def test_an_object_comes_back(store):
    """Objects of many parts and of none come back, with their sizes."""
    pieces = [os.urandom(3_000_000) for _ in range(12)]
    store.write("a/big", iter(pieces))
    store.write("a/empty", [])

    assert b"".join(store.read("a/big")) == b"".join(pieces)
    assert b"".join(store.read("a/empty")) == b""
    assert store.names("a/") == {"a/big": 36_000_000, "a/empty": 0}
    assert store.folders() == ["a"]


def test_pieces_that_end_in_an_error_leave_no_object(store):
    """If what is stored ends early, the error is that one, and there is no object."""

    def pieces():
        yield bytes(20_000_000)
        raise BackupDamaged("cut")

    with pytest.raises(BackupDamaged, match="cut"):
        store.write("a/x", pieces())
    assert store.names() == {}


@pytest.mark.parametrize("arrived", [True, False])
def test_an_upload_whose_end_was_answered_late(store, monkeypatch, arrived):
    """An upload that is gone when its end is asked for again has ended well if the object is there, else it was cut."""
    put = obstore.put

    def late(backend, name, pieces, **options):
        data = list(pieces)
        if arrived:
            put(backend, name, iter(data), **options)
        raise obstore.exceptions.NotFoundError("<Code>NoSuchUpload</Code>")

    monkeypatch.setattr(obstore, "put", late)
    if arrived:
        store.write("a", iter([b"x" * 10]))
        assert store.names() == {"a": 10}
    else:
        with pytest.raises(StoreUnreachable, match="cut off"):
            store.write("a", iter([b"x" * 10]))


def test_a_new_object_replaces_none(store):
    """An object that has to be new is not written over another."""
    store.write("m", [b"1"], new=True)
    with pytest.raises(FileExistsError):
        store.write("m", [b"2"], new=True)
    assert b"".join(store.read("m")) == b"1"


def test_missing_objects(store):
    """What is not there is an error to read, and none to delete."""
    store.delete(["nope"])
    assert store.size("nope") is None
    with pytest.raises(BackupNotFound):
        list(store.read("nope"))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root can mount a small file system")
def test_a_full_store(tmp_path):
    """A store without room is an error that says so, and no object is left."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        full = open_store(StoreSettings(f"file://{tmp_path}"))
        with pytest.raises(StoreFull, match="no room"):
            full.write("a", iter([bytes(1_000_000)] * 40))
        assert full.names() == {}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<Code>InsufficientStorage</Code><Message>full</Message>", StoreFull),
        ("<Code>XMinioStorageFull</Code>", StoreFull),
        ("<Code>QuotaExceeded</Code>", StoreFull),
        ("<Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message>", StoreNotFound),
        ("ContainerNotFound", StoreNotFound),
        ("<Code>SignatureDoesNotMatch</Code>", StoreAccessDenied),
        ("<Code>AccessDenied</Code><Message>Access Denied</Message>", StoreAccessDenied),
        ("Permission denied (os error 13)", StoreAccessDenied),
        ("<Code>SlowDown</Code>", StoreUnreachable),
        ("error sending request: connection reset", StoreUnreachable),
    ],
)
def test_what_stores_say(text, kind):
    """What a store answers becomes an error by its meaning, in its own words."""
    found = stores._explained(RuntimeError(f"Generic error: {text}\n\nDebug source: x"), "s3://b/x")

    assert type(found) is kind
    assert "Debug" not in found.message


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"endpoint": "minio:9000"}, "--store-endpoint: 'minio:9000' is no address of a server"),
        ({"endpoint": "http://"}, "--store-endpoint: 'http://' is no address of a server"),
        ({"endpoint": "http://a host:80"}, "--store-endpoint: 'http://a host:80' is no address of a server"),
        ({"endpoint": "http://minio:99999"}, "--store-endpoint: 'http://minio:99999' is no address of a server"),
        ({"endpoint": "ftp://minio"}, "--store-endpoint: 'ftp://minio' is no address of a server"),
        ({"region": "eu central"}, "--store-region: 'eu central' is no name of a region"),
        ({"region": "eu\n"}, "--store-region: 'eu\\n' is no name of a region"),
        ({"url": "s3://my bucket/p"}, "s3://my bucket/p: 'my bucket' is no name of a bucket or a container"),
    ],
)
def test_words_that_the_library_would_panic_at(settings, wanted):
    """An endpoint, a region or a bucket that no request can be made of is refused by name, before any request."""
    with pytest.raises(InputError) as caught:
        open_store(StoreSettings(**{"url": "s3://bucket/p"} | settings))
    assert str(caught.value).splitlines()[0] == wanted
    assert caught.value.hint


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000/", "https://[::1]:443", "https://minio.example.com/s3"])
def test_endpoints_that_can_be_used(endpoint):
    """A URL with a name or an address, a port and a path is an endpoint."""
    assert open_store(StoreSettings("s3://bucket/p", endpoint=endpoint)).url == "s3://bucket/p"


def test_a_credential_of_two_lines_is_named(tmp_path):
    """A mounted credential that no header can hold is refused with its file, and not shown."""
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("one\nsecond\n")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("secret\n")
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID: it must be one line") as caught:
        open_store(StoreSettings("s3://bucket", credentials=tmp_path))
    assert "second" not in str(caught.value)


def test_a_panic_of_the_library_is_an_error(store):
    """What the library gives up on by a panic, which is no Exception, is an error of what it was given all the same."""
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(InputError, match="this store cannot be used: InvalidHeaderValue"), store._told("a"):
        raise panic("InvalidHeaderValue")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            "GET http://169.254.169.254/latest in 5ms - Server returned non-2xx status code: 404 Not Found",
            StoreAccessDenied,
        ),
        ("PUT http://169.254.169.254/latest after 4 retries - HTTP error: error sending request", StoreUnreachable),
    ],
)
def test_no_credentials_at_all(answer, kind):
    """Where the library ends at the machine's own service for roles, the error says that no credentials were given."""
    found = stores._explained(RuntimeError(f"Generic S3 error: Error performing {answer}"), "s3://b/x")

    assert type(found) is kind
    assert found.message.startswith("no credentials were given")
    assert "--store-credentials" in found.hint


def test_without_the_library(tmp_path):
    """Where chronik was installed without the extra, the error says how to install it."""
    code = (
        "import sys; sys.modules['obstore'] = None; from chronik.cli.main import run; "
        f"sys.exit(run(['backup', 'catalog', '--store', 'file://{tmp_path}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "pip install chronik[backup]" in done.stderr


def test_a_vanished_bucket(s3):
    """A bucket that is not there is named, when it is written to and when it is listed."""
    settings = StoreSettings("s3://not-there/p", endpoint=s3, path_style=True)
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "a")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "b")
    for use in (lambda store: store.write("a", [b"x"]), lambda store: store.names(), lambda store: store.folders()):
        with pytest.raises(StoreNotFound, match="bucket"):
            use(open_store(settings))


def test_a_store_that_does_not_answer():
    """A store that nobody serves is an error that may pass."""
    url = f"http://127.0.0.1:{postgres.free_port()}"
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "a")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(StoreUnreachable) as caught:
        open_store(StoreSettings("s3://bucket/p", endpoint=url, path_style=True)).names()
    assert (caught.value.exit_code, caught.value.retry_class) == (9, "transient")


MANIFEST = Manifest(
    id="b1", method=DUMP, cluster="ns/c", started_at="1", cut_at="2", completed_at="3", chronik="0", server="15.1",
    tool="pg_dump 15.1", database="m", files=(StoredFile("f", 1, "a", 2, "b"),), encryption=Encryption("x", "k"),
    rows={"public.some_table": 3}, description={"some_key": {"aB": 1}},
)  # fmt: skip


def test_a_manifest_comes_back():
    """A manifest is read as it was written, the names of tables and what its owner wanted kept included."""
    assert read_manifest(MANIFEST.to_json(), "m") == MANIFEST


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"format": "chronik.stream/backup.v1"}', MANIFEST.to_json()[:-20]]
)
def test_what_is_no_manifest(text):
    """A text that is no manifest, or half of one, is refused."""
    with pytest.raises(BackupDamaged):
        read_manifest(text, "m")


def test_a_manifest_of_a_later_format():
    """A manifest of another format is refused with a word about versions."""
    with pytest.raises(BackupDamaged, match="newer"):
        read_manifest(MANIFEST.to_json().replace(b"backup.v1", b"backup.v9"), "m")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://u:p%40ss@h:5433/d", {"PGUSER": "u", "PGPASSWORD": "p@ss", "PGHOST": "h", "PGPORT": "5433"}),
        ("postgres://h/d?sslmode=verify-full&sslrootcert=/ca", {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/ca"}),
        ("postgresql://a:1,b:2/d?target_session_attrs=read-write", {"PGHOST": "a,b", "PGPORT": "1,2"}),
        ("postgresql:///d?host=/run/pg", {"PGHOST": "/run/pg", "PGDATABASE": "d"}),
        ("postgresql://[::1]:5432/d", {"PGHOST": "::1"}),
    ],
)
def test_connection_urls(url, wanted):
    """A connection URL is taken apart into the variables that libpq reads."""
    found = database_environment({"CHRONIK_DATABASE_URL": url})

    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "postgresql://u:secret@h/d?wrong=1", "postgresql://u:secret@h:x/d"]
)
def test_wrong_connection_urls_show_no_password(url):
    """A connection URL that cannot be used is refused, without its password."""
    with pytest.raises(InputError) as caught:
        database_environment({"CHRONIK_DATABASE_URL": url})
    assert "secret" not in str(caught.value)
