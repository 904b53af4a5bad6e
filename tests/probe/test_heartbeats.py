"""The probe against a real broker: it follows heartbeats, makes nothing, and comes back after an outage."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.brokers import broker, create_topic, free_port, send, topics

from chronik.errors import InputError
from chronik.probe.brokers import Brokers
from chronik.probe.heartbeats import follow, try_source
from chronik.probe.measure import Measure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOPIC = "east.heartbeats"
NOBODY = "127.0.0.1:9"


def heartbeat(seconds: float) -> bytes:
    """Return a heartbeat as MirrorMaker 2 writes it."""
    return struct.pack(">hq", 0, int(seconds * 1000))


@asynccontextmanager
async def following(address: str) -> AsyncIterator[Measure]:
    """Have a probe follow a cluster while the block runs."""
    pytest.importorskip("aiokafka", reason="the extra kafka is not installed")
    measure = Measure("east", 60, time.time)
    task = asyncio.create_task(follow(measure, Brokers((address,)), pause=0.1))
    try:
        yield measure
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(check, seconds: float = 20.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110  # what is waited for gives no sign
            await asyncio.sleep(0.05)


async def test_the_newest_heartbeat_is_followed():
    """A heartbeat that was there before the probe counts, and so does each that comes."""
    with broker() as address:
        await create_topic(address, TOPIC)
        now = time.time()
        await send(address, TOPIC, *(heartbeat(now - each) for each in (50, 40, 30)))
        async with following(address) as measure:
            await until(lambda: measure.newest is not None and 30 <= measure.lag < 40)
            await send(address, TOPIC, heartbeat(time.time()))
            await until(lambda: measure.lag < 5)

    assert measure.not_ready() == ""


async def test_a_topic_that_is_not_there_is_waited_for_and_never_made():
    """The probe asks for no topic by name until it is there, so that no broker makes it by itself."""
    with broker() as address:
        async with following(address) as measure:
            await asyncio.sleep(1)
            there = await topics(address)
            assert measure.not_started() == "no heartbeat has come to east.heartbeats yet"
            await create_topic(address, TOPIC)
            await send(address, TOPIC, heartbeat(time.time()))
            await until(lambda: measure.newest is not None)

    assert TOPIC not in there


async def test_an_outage_of_the_target_is_outlived():
    """A broker that goes is told of, and the one that comes in its place is read from."""
    port = free_port()
    with broker(port) as address:
        await create_topic(address, TOPIC)
        await send(address, TOPIC, heartbeat(1000))
        connection = following(address)
        measure = await connection.__aenter__()
        await until(lambda: measure.newest == 1000)
    try:
        await asyncio.sleep(0.5)
        with broker(port) as address:
            await create_topic(address, TOPIC)
            for _ in range(40):
                await send(address, TOPIC, heartbeat(2000))
                if measure.newest == 2000:
                    break
                await asyncio.sleep(0.5)
    finally:
        await connection.__aexit__(None, None, None)

    assert measure.newest == 2000


async def test_probes_of_several_pods_tell_the_same():
    """A mirror's pods have a probe each: all see each heartbeat, since none is in a group that shares them out."""
    with broker() as address:
        await create_topic(address, TOPIC)
        async with following(address) as one, following(address) as other:
            for now in (1000.0, 2000.0):
                await send(address, TOPIC, heartbeat(now))
                await until(lambda now=now: one.newest == other.newest == now)


async def test_a_target_that_is_not_there_is_told_of():
    """While nothing can be read, the probe says why it is not ready, and tries again."""
    async with following(NOBODY) as measure:
        await until(lambda: measure.trouble)

    assert measure.not_ready().startswith(f"cannot read from {NOBODY}: ")


async def test_the_source_is_tried():
    """The source counts as reachable while any of its brokers takes a connection."""
    measure = Measure("east", None, time.time)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    task = asyncio.create_task(try_source(measure, (NOBODY, f"127.0.0.1:{port}"), pause=0.05))
    await until(lambda: measure.reachable)
    server.close()
    await server.wait_closed()
    await until(lambda: not measure.reachable)
    task.cancel()


async def test_without_the_extra_it_says_what_to_install(monkeypatch):
    """Without aiokafka the probe ends, and names the extra."""
    monkeypatch.setitem(sys.modules, "aiokafka.errors", None)
    with pytest.raises(InputError, match="needs aiokafka") as raised:
        await follow(Measure("east", 60, time.time), Brokers((NOBODY,)))

    assert "chronik[kafka]" in raised.value.hint


def test_the_command_answers_until_it_is_told_to_stop():
    """`chronik mirror-probe` reads a real broker, answers over HTTP, and ends with 0 on SIGTERM."""
    pytest.importorskip("aiokafka", reason="the extra kafka is not installed")
    port = free_port()
    with broker() as address:
        asyncio.run(_prepare(address))
        options = [
            "--source=east",
            "--cluster=west",
            f"--target={address}",
            f"--source-server={address}",
            "--max-lag=60",
        ]
        command = [sys.executable, "-m", "chronik", "mirror-probe", *options, f"--port={port}", "--host=127.0.0.1"]
        process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
        try:
            assert _answer(port, "/readyz") == "ok\n"
            assert _answer(port, "/source") == "ok\n"
            assert 'chronik_replication_lag_seconds{source="east",target="west"}' in _answer(port, "/metrics")
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)

    assert process.returncode == 0, said
    assert f"answers on port {port} for the mirror of east" in said


async def _prepare(address: str) -> None:
    await create_topic(address, TOPIC)
    await send(address, TOPIC, heartbeat(time.time()))


def _answer(port: int, path: str, seconds: float = 30.0) -> str:
    """Return the first good answer."""
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.HTTPError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
