"""Where time and chance come from, so that whatever waits can be tested without waiting.

The core never asks what time it is: it is handed a text that `timestamp` made.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chronik.times import written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def _sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415  # commands that never wait do without an event loop, which takes 40 ms to import

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time and chance come from: seconds that only go up, a way to wait, and numbers in [0, 1)."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = _sleep
    chance: Callable[[], float] = random.random


def timestamp() -> str:
    """Return the time as the API server writes it: RFC 3339 in UTC, whole seconds (metav1.Time)."""
    return written(datetime.now(UTC))


def micro_timestamp() -> str:
    """Return the time as Leases bear it: RFC 3339 in UTC, with microseconds (metav1.MicroTime)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
