"""Which partitions and consumer groups of the source are not here, by what both clusters' brokers say.

MirrorMaker 2 makes topics and translates groups by rounds, and says nothing of what it leaves out: a topic that it may
not read, a group that stands still since before it began. So both sides are compared. Nothing is written.

Source: MirrorSourceConnector.shouldReplicateTopic, MirrorCheckpointTask and Checkpoint.java of Apache Kafka's
connect/mirror. A checkpoint's key is a group, a topic as it is called here, and a partition.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Place = tuple[str, int]
"""A topic and a partition."""

_INTERNAL = (r".*[\-\.]internal", r".*\.replica", "__.*")
_OF_TOOLS = ("console-consumer-.*", "connect-.*", "__.*")
_LENGTH, _NUMBER = struct.Struct(">h"), struct.Struct(">i")


class Selection(NamedTuple):
    """What a mirror copies: expressions of topics and of groups, as `spec.replication` has them.

    `source` and `alias` are what the source and this cluster are called. With `identity` topics keep their names.
    """

    source: str
    alias: str
    topics: tuple[str, ...]
    identity: bool = False
    not_topics: tuple[str, ...] = ()
    groups: tuple[str, ...] = (".*",)
    not_groups: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """What copied topics begin with."""
        return "" if self.identity else f"{self.source}."

    def problem(self) -> str:
        """Return which expression cannot be read here, if so: Java and Python differ in rare ones."""
        for each in (*self.topics, *self.not_topics, *self.groups, *self.not_groups):
            try:
                re.compile(each)
            except re.error as error:
                return f"{each!r} is an expression that the probe cannot read: {error}"
        return ""

    def copies(self, topic: str) -> bool:
        """Return whether a topic of the source is copied; what came from here is not."""
        if not self.identity and topic.startswith(f"{self.alias}."):
            return False
        return _matches(self.topics, topic) and not _matches((*_INTERNAL, *self.not_topics), topic)

    def follows(self, group: str) -> bool:
        """Return whether a group of the source is followed."""
        return _matches(self.groups, group) and not _matches((*_OF_TOOLS, *self.not_groups), group)


def _matches(expressions: Iterable[str], text: str) -> bool:
    return any(re.fullmatch(each, text) for each in expressions)


def missing_partitions(selection: Selection, source: Mapping[str, int], here: Mapping[str, int]) -> tuple[str, ...]:
    """Return the source's partitions that are not here, as `orders-3`; both sides are partitions by topic."""
    return tuple(
        f"{topic}-{number}"
        for topic, count in sorted(source.items())
        if selection.copies(topic)
        for number in range(here.get(selection.prefix + topic, 0), count)
    )


def untranslated(
    selection: Selection, committed: Mapping[str, Mapping[Place, int]], translated: set[tuple[str, str, int]]
) -> dict[str, list[Place]]:
    """Return the groups that have a place at the source and none here, with the partitions that lack."""
    found: dict[str, list[Place]] = {}
    for group, places in sorted(committed.items()):
        lacking = [
            (topic, number)
            for topic, number in sorted(places)
            if selection.copies(topic) and (group, selection.prefix + topic, number) not in translated
        ]
        if lacking:
            found[group] = lacking
    return found


def checkpoint_key(key: bytes | None) -> tuple[str, str, int] | None:
    """Return the group, the topic and the partition of a checkpoint; None if the key is none."""
    try:
        group, rest = _text(key or b"")
        topic, rest = _text(rest)
        (number,) = _NUMBER.unpack(rest)
    except (struct.error, UnicodeDecodeError):
        return None
    return group, topic, number


def _text(data: bytes) -> tuple[str, bytes]:
    (length,) = _LENGTH.unpack_from(data)
    if length < 0 or len(data) < _LENGTH.size + length:
        raise struct.error("too short")
    end = _LENGTH.size + length
    return data[_LENGTH.size : end].decode(), data[end:]
