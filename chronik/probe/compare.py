"""Asks both clusters' brokers, now and then, what is at the source and what is here. It writes nothing.

It needs no right at the source that MirrorMaker 2 does not need itself: to describe topics and groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from chronik.probe.copies import Selection, checkpoint_key, missing_partitions, untranslated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import AIOKafkaConsumer
    from aiokafka.admin import AIOKafkaAdminClient

    from chronik.probe.brokers import Brokers
    from chronik.probe.copies import Place
    from chronik.probe.measure import Measure

_log = logging.getLogger("chronik.probe")
_PAUSE = 30.0
"""Seconds between two looks. MirrorMaker 2 looks for new topics and translates groups once a minute."""
_LONGEST = 120.0
"""Seconds that one look may take."""


async def compare(
    measure: Measure, selection: Selection, source: Brokers, here: Brokers, pause: float = _PAUSE
) -> None:
    """Note, for ever, what of the source is not here; why that cannot be told is noted, too."""
    from aiokafka.errors import KafkaError  # noqa: PLC0415  # an extra

    if problem := selection.problem():
        measure.unknown = problem
        _log.warning("%s", problem)
        await asyncio.Event().wait()  # the rest of the probe goes on
    while True:
        try:
            async with asyncio.timeout(_LONGEST):
                measure.compared(*await _look(selection, source, here))
        except (KafkaError, OSError, TimeoutError) as error:
            why = "that took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            told, measure.unknown = measure.unknown, f"the brokers do not tell: {why}"
            if told != measure.unknown:
                _log.warning("%s", measure.unknown)
        await asyncio.sleep(pause)


async def _look(selection: Selection, source: Brokers, here: Brokers) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the partitions that are not here, and the groups that are not translated."""
    translated = await _checkpoints(here, f"{selection.source}.checkpoints.internal")
    async with _admin(here) as admin:
        copies = await _partitions(admin)
    async with _admin(source) as admin:
        originals = await _partitions(admin)
        places = [
            (topic, number) for topic in originals if selection.copies(topic) for number in range(originals[topic])
        ]
        committed = {group: await _committed(admin, group, places) for group in await _groups(admin, selection)}
    lacking = untranslated(selection, committed, translated)
    filled = await _filled(source, {place for places in lacking.values() for place in places})
    groups = (group for group, places in lacking.items() if filled.intersection(places))
    return missing_partitions(selection, originals, copies), tuple(groups)


@contextlib.asynccontextmanager
async def _admin(brokers: Brokers) -> AsyncIterator[AIOKafkaAdminClient]:
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415  # an extra

    admin = AIOKafkaAdminClient(client_id="chronik-mirror-probe", **brokers.options())
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def _consumer(brokers: Brokers) -> AsyncIterator[AIOKafkaConsumer]:
    from aiokafka import AIOKafkaConsumer  # noqa: PLC0415  # an extra

    consumer = AIOKafkaConsumer(
        client_id="chronik-mirror-probe", group_id=None, enable_auto_commit=False, **brokers.options()
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Return how many partitions each topic has. All are asked for: to ask for one by its name might make it."""
    return {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics() if not each["error_code"]}


async def _groups(admin: AIOKafkaAdminClient, selection: Selection) -> list[str]:
    return [group for group, _ in await admin.list_consumer_groups() if selection.follows(group)]


async def _committed(admin: AIOKafkaAdminClient, group: str, places: list[Place]) -> dict[Place, int]:
    from aiokafka import TopicPartition  # noqa: PLC0415  # an extra

    if not places:
        return {}
    found = await admin.list_consumer_group_offsets(group, partitions=[TopicPartition(*place) for place in places])
    return {(place.topic, place.partition): value.offset for place, value in found.items() if value.offset >= 0}


async def _filled(source: Brokers, places: set[Place]) -> set[Place]:
    """Return those partitions that have records: of an empty one no place can be translated, and none need be."""
    from aiokafka import TopicPartition  # noqa: PLC0415  # an extra

    if not places:
        return set()
    async with _consumer(source) as consumer:
        parts = [TopicPartition(*place) for place in sorted(places)]
        first, last = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    return {(part.topic, part.partition) for part in parts if last[part] > first[part]}


async def _checkpoints(here: Brokers, topic: str) -> set[tuple[str, str, int]]:
    """Return which places of groups have been translated: all that the mirror's checkpoints tell of."""
    from aiokafka import TopicPartition  # noqa: PLC0415  # an extra

    found: set[tuple[str, str, int]] = set()
    async with _consumer(here) as consumer:
        if topic not in await consumer.topics():
            return found
        part = TopicPartition(topic, 0)
        consumer.assign([part])
        await consumer.seek_to_beginning(part)
        end = (await consumer.end_offsets([part]))[part]
        while await consumer.position(part) < end:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found.update(key for record in records if (key := checkpoint_key(record.key)))
    return found
