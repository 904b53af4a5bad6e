from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from chronik.metastore.tools import find

obstore = pytest.importorskip("obstore")
pytest.importorskip("obstore.store")

ROWS = 1_100_000
MOST_MEMORY = 200 * 1024
"""KiB."""
SLOWEST = 0.8
"""Of the speed by hand, with encryption and sums."""


@pytest.mark.slow
def test_a_large_metastore_streams(in_s3):
    """1 GiB of metastore takes less than 200 MiB of memory, and 0.8 of the speed of pg_dump piped into an upload."""
    place = in_s3
    place.sql(
        "CREATE UNLOGGED TABLE big AS SELECT n,"
        " (SELECT string_agg(encode(sha512((n || ' ' || m)::bytea), 'hex'), '') FROM generate_series(1, 8) m) t"
        f" FROM generate_series(1, {ROWS}) n"
    )
    size = int(place.sql("SELECT pg_total_relation_size('big')"))
    by_hand = _by_hand(place)
    began = time.monotonic()
    run = subprocess.Popen(
        place.command("backup", "metastore", "--id", "big"),
        env=place.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[tuple[float, str]] = []
    listening = Thread(target=lambda: said.extend((time.monotonic() - began, line) for line in run.stderr))
    listening.start()
    most = 0
    while run.poll() is None:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{run.pid}/status").read_text())
            most = max(most, int(found[1]) if found else 0)
        time.sleep(0.2)
    took = time.monotonic() - began
    listening.join()
    out, err = run.stdout.read(), "".join(line for _, line in said)
    stored = next(at for at, line in said if line.startswith("reading back"))
    report = f"{size / 2**30:.2f} GiB: by hand {by_hand:.1f} s; chronik {stored:.1f} s to store, {took:.1f} s in all"
    Path(os.environ.get("CHRONIK_FIGURES", os.devnull)).write_text(f"{report}; {most / 1024:.0f} MiB\n{out}{err}")

    assert run.returncode == 0
    assert size > 2**30
    assert most < MOST_MEMORY
    assert by_hand / stored >= SLOWEST


def _bucket(place):
    """Return the bucket, without chronik."""
    return obstore.store.S3Store(
        place.store["CHRONIK_STORE"].split("/")[2],
        endpoint=place.store["CHRONIK_STORE_ENDPOINT"],
        access_key_id="a",
        secret_access_key="b",
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "120s"},
    )


def _by_hand(place) -> float:
    """Return the seconds that pg_dump takes, piped into an upload."""
    store = _bucket(place)
    began = time.monotonic()
    dump = subprocess.Popen(
        [find("pg_dump"), "-Fc", "-Z1"], env=place.environment(), stdout=subprocess.PIPE, pipesize=1024 * 1024
    )
    pieces = iter(lambda: os.read(dump.stdout.fileno(), 1024 * 1024), b"")
    obstore.put(store, "by-hand", pieces, chunk_size=16 * 1024 * 1024, max_concurrency=3)
    assert dump.wait() == 0
    dump.stdout.close()
    return time.monotonic() - began
