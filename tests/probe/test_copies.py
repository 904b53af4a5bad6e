"""What of a source is not here: by names and numbers alone, and by two real brokers."""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.brokers import broker, create_topic, send

from chronik.probe.brokers import Brokers
from chronik.probe.compare import compare
from chronik.probe.copies import Selection, checkpoint_key, missing_partitions, untranslated
from chronik.probe.measure import Measure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ORDERS = Selection("east", "west", ("orders.*",), not_topics=("orders-test",), not_groups=("g-test",))
NOBODY = "127.0.0.1:9"


def checkpoint(group: str, topic: str, partition: int) -> bytes:
    """Return the key of a checkpoint as MirrorMaker 2 writes it."""
    texts = (struct.pack(">h", len(each.encode())) + each.encode() for each in (group, topic))
    return b"".join(texts) + struct.pack(">i", partition)


@pytest.mark.parametrize(
    ("selection", "source", "here", "expected"),
    [
        (ORDERS, {"orders": 2}, {"east.orders": 2}, ()),
        (ORDERS, {"orders": 3}, {"east.orders": 1}, ("orders-1", "orders-2")),
        (ORDERS, {"orders": 1, "prices": 1}, {}, ("orders-0",)),
        (ORDERS, {"orders": 1}, {"orders": 1}, ("orders-0",)),
        (ORDERS, {"orders": 1}, {"east.orders": 2}, ()),
        (ORDERS, {"orders-test": 1, "orders.internal": 1, "orders.replica": 1}, {}, ()),
        (ORDERS._replace(topics=(".*",)), {"west.orders": 1, "__consumer_offsets": 1, "mm2-x.internal": 1}, {}, ()),
        (ORDERS._replace(identity=True), {"orders": 1}, {"orders": 1}, ()),
        (ORDERS._replace(identity=True, topics=(".*",)), {"west.x": 1}, {}, ("west.x-0",)),
    ],
)
def test_missing_partitions(selection, source, here, expected):
    """A partition is missing if it is copied and its topic has not as many here; what came from here is not copied."""
    assert missing_partitions(selection, source, here) == expected


@pytest.mark.parametrize(
    ("committed", "translated", "expected"),
    [
        ({"g": {("orders", 0): 7}}, {("g", "east.orders", 0)}, {}),
        ({"g": {("orders", 0): 7, ("orders", 1): 7}}, {("g", "east.orders", 0)}, {"g": [("orders", 1)]}),
        ({"g": {("orders", 0): 7}}, {("h", "east.orders", 0)}, {"g": [("orders", 0)]}),
        ({"g": {("prices", 0): 7}}, set(), {}),
    ],
)
def test_untranslated_groups(committed, translated, expected):
    """A group lacks a place here if it has one at the source, in a topic that is copied."""
    assert untranslated(ORDERS, committed, translated) == expected


def test_groups_that_are_followed():
    """Groups of tools are never followed, and those of a user's exclusions are not either."""
    groups = ["g", "g-test", "console-consumer-1", "connect-x", "__x"]

    assert [group for group in groups if ORDERS.follows(group)] == ["g"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (checkpoint("g", "east.orders", 3), ("g", "east.orders", 3)),
        (checkpoint("grüße", "t", 0), ("grüße", "t", 0)),
        (checkpoint("g", "t", 0)[:-1], None),
        (checkpoint("g", "t", 0) + b"x", None),
        (b"\xff\xff", None),
        (b"\x00\x02\xff\xfe\x00\x00\x00\x00\x00\x00", None),
        (b"", None),
        (None, None),
    ],
)
def test_checkpoints_are_read(key, expected):
    """The key of a checkpoint is a group, a topic and a partition; anything else is none."""
    assert checkpoint_key(key) == expected


def test_an_expression_that_only_java_reads_is_told_of():
    """The few expressions that Java has and Python has not are named, and nothing is said of the copy."""
    assert ORDERS.problem() == ""
    assert (
        r"'\\p{Lower}+' is an expression that the probe cannot read"
        in ORDERS._replace(groups=(r"\p{Lower}+",)).problem()
    )


async def _groups(address: str, topic: str, *groups: str) -> None:
    """Have consumer groups read a topic to its end."""
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415  # an extra

    for group in groups:
        consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            part = TopicPartition(topic, 0)
            consumer.assign([part])
            await consumer.commit({part: 1})
        finally:
            await consumer.stop()


async def _translate(address: str, *keys: bytes) -> None:
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415  # an extra

    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for key in keys:
            await producer.send_and_wait("east.checkpoints.internal", b"value", key=key)
    finally:
        await producer.stop()


@asynccontextmanager
async def comparing(source: str, here: str, selection: Selection = ORDERS) -> AsyncIterator[Measure]:
    """Have two clusters compared while the block runs."""
    measure = Measure("east", 60, time.time)
    task = asyncio.create_task(compare(measure, selection, Brokers((source,)), Brokers((here,)), pause=0.1))
    try:
        yield measure
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(check: Any, seconds: float = 20.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110  # what is waited for gives no sign
            await asyncio.sleep(0.05)


async def test_two_clusters_are_compared():
    """What is not here is told by name until it comes; a group that stands in an empty partition lacks nothing."""
    pytest.importorskip("aiokafka", reason="the extra kafka is not installed")
    with broker() as source, broker() as here:
        for topic in ("orders", "orders-empty", "prices"):
            await create_topic(source, topic)
        await send(source, "orders", b"1", b"2")
        await _groups(source, "orders", "billing", "shipping")
        await _groups(source, "orders-empty", "idle")
        async with comparing(source, here) as measure:
            await until(lambda: measure.missing is not None)
            first = measure.state()
            for topic in ("east.orders", "east.orders-empty", "east.checkpoints.internal"):
                await create_topic(here, topic)
            await _translate(here, b"garbage", checkpoint("billing", "east.orders", 0))
            await until(lambda: (measure.missing, measure.untranslated) == ((), ("shipping",)))
            await _translate(here, checkpoint("shipping", "east.orders", 0))
            await until(lambda: measure.untranslated == ())

    assert (first.missing, first.untranslated) == (("orders-0", "orders-empty-0"), ("billing", "shipping"))


async def test_what_was_known_stays_known_with_a_source_that_is_gone():
    """A source that goes leaves what was missing last, and why nothing newer is known."""
    pytest.importorskip("aiokafka", reason="the extra kafka is not installed")
    with broker() as here:
        with broker() as source:
            await create_topic(source, "orders")
            connection = comparing(source, here)
            measure = await connection.__aenter__()
            await until(lambda: measure.missing == ("orders-0",))
        try:
            await until(lambda: measure.unknown)
        finally:
            await connection.__aexit__(None, None, None)

    assert measure.state().missing == ("orders-0",)
    assert measure.unknown.startswith("the brokers do not tell: ")
