"""What a fence is made of: the writes that are under way, to end them in time, and the error that they end in.

The fence itself is `Leadership`, as the `WriteGuard` of a connection: whatever writes through that asks who leads.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from chronik.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class NotLeading(ApiError):
    """A write that was not sent, or was cut off, because another operator may be the one to write now.

    If it was cut off, it may have been done.
    """

    reason = "NotLeading"
    retry_class = "transient"


class CutOff(Exception):
    """A block of `Writes.bounded` did not end in time."""


class Writes:
    """What is being written now, and until when it may take."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def bounded(self, seconds: float) -> AsyncIterator[None]:
        """Let the block take so many seconds, or as many as `bound` says meanwhile.

        Raises:
            CutOff: it took longer.
        """
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                self._limits.add(limit)
                self._idle.clear()
                yield
        except TimeoutError as error:
            if limit.expired():
                raise CutOff from error
            raise
        finally:
            self._limits.discard(limit)
            if not self._limits:
                self._idle.set()

    def bound(self, seconds: float) -> None:
        """Let everything that is being written take so many seconds from now; earlier limits no longer count."""
        when = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(when)

    async def drain(self, grace: float) -> bool:
        """Wait until nothing is being written; return whether all of it ended by itself within `grace` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        clean = self._idle.is_set()
        self.bound(0.0)
        await self._idle.wait()
        return clean
