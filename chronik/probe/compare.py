"""Asks both clusters' brokers, now and then, what is at the source and what is here. It writes nothing.

It needs no right at the source that MirrorMaker 2 does not need itself: to describe topics and groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
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
_PAUSE = 60.0
"""Seconds between two looks. MirrorMaker 2 looks for new topics and translates groups once a minute, too."""
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
    translated = _Translated(f"{selection.source}.checkpoints.internal")
    while True:
        try:
            async with asyncio.timeout(_LONGEST):
                measure.compared(*await _look(selection, source, here, translated))
        except (KafkaError, OSError, TimeoutError) as error:
            why = "that took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            told, measure.unknown = measure.unknown, f"the brokers do not tell: {why}"
            if told != measure.unknown:
                _log.warning("%s", measure.unknown)
        await asyncio.sleep(pause)


@dataclass
class _Translated:
    """Which places of groups have been translated, as far as the topic of a mirror's checkpoints has been read.

    The topic can be large until it is compacted, so nothing of it is read twice.
    """

    topic: str
    places: set[tuple[str, str, int]] = field(default_factory=set)
    position: int = 0

    async def read(self, here: Brokers) -> None:
        """Read what is new."""
        from aiokafka import TopicPartition  # noqa: PLC0415  # an extra

        async with _consumer(here) as consumer:
            if self.topic not in await consumer.topics():
                return
            part = TopicPartition(self.topic, 0)
            consumer.assign([part])
            first, end = (await consumer.beginning_offsets([part]))[part], (await consumer.end_offsets([part]))[part]
            if end < self.position:  # it was made anew
                self.places, self.position = set(), 0
            self.position = max(self.position, first)
            consumer.seek(part, self.position)
            while self.position < end:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    self.places.update(key for record in records if (key := checkpoint_key(record.key)))
                self.position = await consumer.position(part)


async def _look(
    selection: Selection, source: Brokers, here: Brokers, translated: _Translated
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the partitions that are not here, and the groups that are not translated."""
    await translated.read(here)
    async with _admin(here) as admin:
        copies = await _partitions(admin)
    async with _admin(source) as admin:
        originals = await _partitions(admin)
        places = [
            (topic, number) for topic, count in originals.items() if selection.copies(topic) for number in range(count)
        ]
        committed = await _committed(
            admin, [group for group in await _groups(admin) if selection.follows(group)], places
        )
    lacking = untranslated(selection, committed, translated.places)
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


async def _groups(admin: AIOKafkaAdminClient) -> list[str]:
    return [group for group, _ in await admin.list_consumer_groups()]


async def _committed(admin: AIOKafkaAdminClient, groups: list[str], places: list[Place]) -> dict[str, dict[Place, int]]:
    """Return the places of groups. Some brokers cannot be asked for all of a group, and are asked for each place."""
    from aiokafka import TopicPartition  # noqa: PLC0415  # an extra
    from aiokafka.errors import KafkaConnectionError  # noqa: PLC0415

    found: dict[str, dict[Place, int]] = {}
    asked: list[TopicPartition] | None = None
    for group in groups if places else ():
        try:
            offsets = await admin.list_consumer_group_offsets(group, partitions=asked)
        except KafkaConnectionError:
            if asked is not None:
                raise
            asked = [TopicPartition(*place) for place in places]
            offsets = await admin.list_consumer_group_offsets(group, partitions=asked)
        found[group] = {
            (place.topic, place.partition): each.offset for place, each in offsets.items() if each.offset >= 0
        }
    return found


async def _filled(source: Brokers, places: set[Place]) -> set[Place]:
    """Return those partitions that have records: of an empty one no place can be translated, and none need be."""
    from aiokafka import TopicPartition  # noqa: PLC0415  # an extra

    if not places:
        return set()
    async with _consumer(source) as consumer:
        parts = [TopicPartition(*place) for place in sorted(places)]
        first, last = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    return {(part.topic, part.partition) for part in parts if last[part] > first[part]}
