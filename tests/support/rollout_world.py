"""What worlds have in common in which rollouts are played: an operator that may be killed, and how all ends."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chronik.rollout.canary import is_given_up

if TYPE_CHECKING:
    from collections.abc import Callable

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = "broken"
"""What the revisions are called whose pods never become ready."""


class Killed(Exception):
    """The operator was killed."""


class RolloutWorld:
    """One cluster with an operator that passes over it, and may be killed before any write.

    `measured` is what a Prometheus last answered this operator; another one does not know of it.
    """

    def __init__(self) -> None:
        self.wanted, self.command, self.closed = "v0", "", ""
        self.status: dict[str, Any] = {}
        self.now = BEGAN
        self.fuse: int | None = None
        self.measured: Any = None
        self.other: Any = None

    def once(self) -> Any:
        """Pass over the cluster once, as the shell does."""
        raise NotImplementedError

    def life(self, times: int = 1) -> None:
        """Let everybody act in turn."""
        raise NotImplementedError

    @property
    def time(self) -> str:
        """What time it is, as the status says it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def write(self, change: Callable[[], object]) -> None:
        """Write something, unless the operator is killed right before."""
        if self.fuse == 0:
            raise Killed
        if self.fuse is not None:
            self.fuse -= 1
        change()

    def killed_after(self, writes: int) -> None:
        """Have the operator pass once, and be killed after so many writes; the next one knows of no answer."""
        self.fuse = writes
        with suppress(Killed):
            self.once()
        self.fuse, self.measured = None, None

    def another_leads(self) -> None:
        """Have the other of two operators lead, which has answers of its own, from when it led last."""
        self.measured, self.other = self.other, self.measured

    def to_the_end(self, *, gives_up: bool) -> str:
        """Take a rollout back, or promote it, and try it again if it was halted; return its phase a day and more later.

        What cannot become ready is not tried again.
        """
        self.now += timedelta(days=1)
        self.closed = ""
        if gives_up:
            self.command = f"abort@{self.wanted}"
        elif not is_given_up(self.status, self.wanted):
            self.command = f"promote@{self.wanted}"
        for _ in range(60):
            self.life(3)
            self.now += timedelta(seconds=90)
            if self.status["phase"] == "Halted" and not gives_up and not self.wanted.startswith(BROKEN):
                self.command = f"retry@{self.wanted}/{self.status['attempt']}"
                self.life()
                self.command = f"promote@{self.wanted}"
            if self.status["phase"] == "Paused" and not gives_up:  # it was tried again as the last that happened
                self.command = f"promote@{self.wanted}"
        return str(self.status["phase"])
