"""How far a copy is behind, as a mirror's heartbeats tell, and what follows from it.

MirrorMaker 2 writes a heartbeat with the time at the source each second, and copies it like any other record. So the
time of the newest one that has come here is the newest time up to which the copy is known to be whole, whatever keeps
the rest: a source that is down, a task that has failed, a login that is refused, or too much to copy.

Source: Heartbeat.java of Apache Kafka's connect/mirror-client: an INT16 version, and in version 0 an INT64 of
milliseconds since 1970, both big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chronik.api.replication.copies import CopyState

if TYPE_CHECKING:
    from collections.abc import Callable

_HEARTBEAT = struct.Struct(">hq")


def heartbeat_topic(source: str) -> str:
    """Return where a source's heartbeats are copied to: with its name before them under every naming of topics."""
    return f"{source}.heartbeats"


def heartbeat_time(value: bytes | None) -> float | None:
    """Return when a heartbeat was written, in seconds since 1970; None if the value is no heartbeat of version 0."""
    if value is None or len(value) != _HEARTBEAT.size:
        return None
    version, milliseconds = _HEARTBEAT.unpack(value)
    return milliseconds / 1000 if version == 0 else None


@dataclass(slots=True)
class Measure:
    """What is known of one mirror. `max_lag` is in seconds, None if it has no heartbeats to be measured by.

    `target` is the name of the cluster that is copied to. `now` is wall-clock time in seconds since 1970; `began` is
    when the probe started.
    """

    source: str
    max_lag: float | None
    now: Callable[[], float]
    target: str = ""
    began: float = field(init=False)
    newest: float | None = None
    reachable: bool = False
    seen: float | None = None
    """When the source was last seen."""
    trouble: str = ""
    """Why nothing can be read here, if so."""
    missing: tuple[str, ...] | None = None
    untranslated: tuple[str, ...] | None = None
    unknown: str = ""
    """Why those two are not known, or no longer."""

    def __post_init__(self) -> None:
        self.began = self.now()

    def heard(self, value: bytes | None) -> None:
        """Note a heartbeat that has come here. They may come twice, and in any order."""
        time = heartbeat_time(value)
        if time is not None:
            self.newest = max(time, self.newest or time)

    def tried(self, *, reachable: bool) -> None:
        """Note whether a broker of the source has just taken a connection."""
        self.reachable = reachable
        if reachable:
            self.seen = self.now()

    def compared(self, missing: tuple[str, ...], untranslated: tuple[str, ...]) -> None:
        """Note which partitions and which consumer groups of the source are not here."""
        self.missing, self.untranslated, self.unknown = missing, untranslated, ""

    def state(self) -> CopyState:
        """Return what is known of the copy. What was missing when the source was last seen, still is."""
        gap = None
        if not self.reachable and self.seen is not None and self.newest is not None:
            gap = max(0.0, self.seen - self.newest)
        return CopyState(
            reachable=self.reachable,
            lag=None if self.newest is None else self.lag,
            gap=gap,
            missing=self.missing,
            untranslated=self.untranslated,
            trouble=self.unknown,
        )

    @property
    def lag(self) -> float | None:
        """How far the copy is behind, in seconds; at least that, if no heartbeat has come yet. None if not measured.

        Clocks differ, so a heartbeat can seem to come from the future: then the copy is not behind.
        """
        if self.max_lag is None:
            return None
        since = self.began if self.newest is None else self.newest
        return max(0.0, self.now() - since)

    def not_started(self) -> str:
        """Return what the first answer waits for; nothing once a heartbeat has come."""
        if self.max_lag is None or self.newest is not None:
            return ""
        return self.trouble or f"no heartbeat has come to {heartbeat_topic(self.source)} yet"

    def not_ready(self) -> str:
        """Return why the copy does not count as one that follows its source; nothing if it does."""
        lag = self.lag
        if lag is None or self.max_lag is None:
            return ""
        if waits := self.not_started():
            return waits
        return f"{lag:.1f} s behind, and {self.max_lag:.0f} s are allowed" if lag > self.max_lag else ""

    def unreachable(self) -> str:
        """Return that the source cannot be reached, if so."""
        return "" if self.reachable else f"none of the brokers of {self.source} can be reached"
