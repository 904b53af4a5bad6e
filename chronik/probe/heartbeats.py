"""Reads heartbeats from this cluster's brokers, and tries whether the source's can be reached. It writes no record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from chronik.errors import InputError
from chronik.probe.measure import heartbeat_topic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka import AIOKafkaConsumer

    from chronik.probe.brokers import Brokers
    from chronik.probe.measure import Measure

_log = logging.getLogger("chronik.probe")
_PAUSE = 5.0
"""Seconds until what did not work is tried again, and until the source is tried anew."""
_CONNECT = 3.0
"""Seconds that a connection may take."""
_BACK = 10
"""Records before the end that are read first: the last ones may be marks of transactions, or compacted away."""


async def follow(measure: Measure, brokers: Brokers, pause: float = _PAUSE) -> None:
    """Note every heartbeat that comes, for ever; what goes wrong is noted, too, and tried again.

    Raises:
        InputError: aiokafka is not installed.
    """
    try:
        from aiokafka.errors import KafkaError  # noqa: PLC0415  # an extra
    except ImportError as error:
        hint = "Install it: pip install 'chronik[kafka]'"
        raise InputError("the probe of a mirror needs aiokafka, which is not installed", hint=hint) from error
    while True:
        try:
            await _read(measure, brokers, pause)
        except (KafkaError, OSError) as error:
            measure.trouble = f"cannot read from {', '.join(brokers.servers)}: {error}"
            _log.warning("%s", measure.trouble)
            await asyncio.sleep(pause)


async def _read(measure: Measure, brokers: Brokers, pause: float) -> None:
    """Read until something goes wrong. Files of certificates are read anew with each connection."""
    from aiokafka import AIOKafkaConsumer  # noqa: PLC0415  # an extra

    consumer = AIOKafkaConsumer(
        client_id=f"chronik-mirror-probe-{measure.source}",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # for a topic that was made anew, and is shorter than before
        **brokers.options(),
    )
    try:
        await consumer.start()
        measure.trouble = ""
        await _assign(consumer, heartbeat_topic(measure.source), pause)
        while True:
            found = await consumer.getmany(timeout_ms=1000)
            for records in found.values():
                for record in records:
                    measure.heard(record.value)
    finally:
        with contextlib.suppress(Exception):  # a connection that is broken cannot be closed well
            await consumer.stop()


async def _assign(consumer: AIOKafkaConsumer, topic: str, pause: float) -> None:
    """Wait for the topic, and begin a little before its end.

    All topics are listed: to ask for one by its name would make it on brokers that make topics by themselves, and then
    the mirror would find one with too many partitions.
    """
    from aiokafka import TopicPartition  # noqa: PLC0415  # an extra

    while topic not in await consumer.topics():  # noqa: ASYNC110  # only the brokers know, and nobody tells
        await asyncio.sleep(pause)
    parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or {0})]
    consumer.assign(parts)
    first, last = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    for part in parts:
        consumer.seek(part, max(first[part], last[part] - _BACK))


async def try_source(measure: Measure, servers: Iterable[str], pause: float = _PAUSE) -> None:
    """Note, for ever, whether any broker of the source takes a connection. Nothing is said to it."""
    addresses = [_address(server) for server in servers]
    while True:
        tries = await asyncio.gather(*(_connects(host, port) for host, port in addresses))
        measure.tried(reachable=any(tries))
        await asyncio.sleep(pause)


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


async def _connects(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
