"""When to send a request again, and how long to wait before.

Nothing here talks to a server; time and chance come in as a `Clock`, so tests wait for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik.kube.classify import Retry

if TYPE_CHECKING:
    from chronik.clock import Clock
    from chronik.kube.classify import Classification


LONGEST_HOLD = 600.0  # a mistaken Retry-After of a day must not silence an operator for a day


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retry budget of one request: so many attempts, begun within so many seconds.

    Pauses double from `first` to `longest` seconds, and half of each is chance. `conflicts` bounds the attempts that
    end in a 409.
    """

    attempts: int = 8
    budget: float = 60.0
    first: float = 0.2
    longest: float = 30.0
    conflicts: int = 5

    def pause(self, attempt: int, chance: float) -> float:
        """Return how long to wait after the attempt of that number (from 0)."""
        whole = min(self.longest, self.first * 2.0 ** min(attempt, 32))
        return whole * (0.5 + chance / 2)


class RetryAfterGate:
    """Holds back the whole client when the server has asked for a pause (Retry-After)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opens = 0.0

    def hold(self, seconds: float) -> None:
        """Close for so many seconds, ten minutes at most; a later end wins."""
        self._opens = max(self._opens, self._clock.now() + min(seconds, LONGEST_HOLD))

    @property
    def remaining(self) -> float:
        """How many seconds the gate stays closed."""
        return max(0.0, self._opens - self._clock.now())

    async def wait(self, patience: float, spread: float) -> bool:
        """Wait until the gate is open; return False, at once, if that takes more than `patience` seconds.

        Up to `spread` seconds come on top, so that not all requests pass at the same moment.
        """
        gives_up = self._clock.now() + patience
        while self.remaining:
            if self._opens > gives_up:
                return False
            await self._clock.sleep(self.remaining + spread * self._clock.chance())
        return True


class Attempts:
    """The attempts of one request: counts them, and says how long to wait for the next one, if there is to be one."""

    def __init__(self, policy: RetryPolicy, clock: Clock, *, idempotent: bool, conditional: bool) -> None:
        self._policy = policy
        self._clock = clock
        self._idempotent = idempotent
        self._conditional = conditional
        self._conflicts = 0
        self._ends: float | None = None
        self.count = 0

    def begin(self) -> None:
        """Start the budget, the first time: waiting for one's turn before that does not count."""
        if self._ends is None:
            self._ends = self._clock.now() + self._policy.budget

    @property
    def remaining(self) -> float:
        """How many seconds of the budget are left."""
        return self._policy.budget if self._ends is None else max(0.0, self._ends - self._clock.now())

    def pause_after(self, classification: Classification, *, reached: bool) -> float | None:
        """Count an attempt that ended so, and return the seconds to wait, or None: give up.

        `reached` says whether the server has ever answered this client.
        """
        self.count += 1
        self._conflicts += classification.retry is Retry.CONFLICT
        if self.count >= self._policy.attempts or not self._may_repeat(classification.retry, reached=reached):
            return None
        pause = self._policy.pause(self.count - 1, self._clock.chance())
        pause = max(pause, classification.error.answer.retry_after or 0.0)
        return pause if pause <= self.remaining else None

    def _may_repeat(self, retry: Retry, *, reached: bool) -> bool:
        if retry is Retry.CONFLICT:
            return self._idempotent and not self._conditional and self._conflicts < self._policy.conflicts
        if retry is Retry.AMBIGUOUS:
            return self._idempotent
        return retry is Retry.UNPROCESSED or (retry is Retry.IF_REACHED_BEFORE and reached)
