"""An event loop in which nobody waits: when all tasks sleep, the time jumps to the first who wakes up.

Unlike `FakeClock`, everything sees the same time, `asyncio.timeout` included, so hours of timing can be simulated in
a second. Only for code that talks to nobody outside: a socket would be skipped over.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

from chronik.clock import Clock

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine


class _Jumping(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            raise RuntimeError("everybody waits, and nobody will wake up")
        if not ready and timeout:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def simulate(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in virtual time, from second 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


def skewed_clock(chance: random.Random, *, drift: float = 0.0) -> Clock:
    """Return a clock of a machine of its own: it began somewhere else, and goes wrong by up to that fraction."""
    began, rate = chance.uniform(0, 1e6), 1 + chance.uniform(-drift, drift)
    return Clock(now=lambda: began + asyncio.get_running_loop().time() * rate, chance=chance.random)
