"""Time that passes only when somebody sleeps, so that tests of waiting wait for nothing."""

from __future__ import annotations

import asyncio
import random

from chronik.clock import Clock


class FakeClock:
    """A clock for `ConnectOptions`; `slept` has every pause that was asked for, in seconds.

    Sleepers wake at once, having moved the time on; with `frozen` they sleep until the test calls `advance`.
    """

    def __init__(self, *, seed: int = 0, frozen: bool = False) -> None:
        self.time = 0.0
        self.slept: list[float] = []
        self.clock = Clock(now=lambda: self.time, sleep=self._sleep, chance=random.Random(seed).random)
        self._frozen = frozen
        self._moved = asyncio.Condition()

    async def advance(self, seconds: float) -> None:
        """Move the time on, and wake those whose time has come."""
        async with self._moved:
            self.time += seconds
            self._moved.notify_all()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wakes = self.time + seconds
        if self._frozen:
            async with self._moved:
                await self._moved.wait_for(lambda: self.time >= wakes)
        else:
            await asyncio.sleep(0)
            self.time = max(self.time, wakes)  # those who sleep at the same time do not add up


async def pass_time(time: FakeClock) -> None:
    """Let a frozen clock run, a little faster than ours."""
    while True:
        await asyncio.sleep(0.01)
        await time.advance(0.05)
