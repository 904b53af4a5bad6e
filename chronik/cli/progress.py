"""How far a command is, on a line or a few of a terminal's stderr that are gone at the end; nothing without a terminal.

What is over within half a second never shows, and never loads what draws it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Self

from chronik.cli.streams import can_redraw, use_colour
from chronik.report.page import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from chronik.manifest import ObjectRef
    from chronik.plan.actions import Action
    from chronik.plan.results import Result
    from chronik.status.readiness import WaitState

SHOWN_AFTER = 0.5
"""Seconds."""
_ROOM_FOR_A_BAR = 80
"""Columns; where there are fewer, the cause of a wait needs them more."""


class Progress:
    """A progress line of `total` objects; a context manager, inside an event loop."""

    def __init__(self, total: int = 0, text: str = "reading") -> None:
        self._total = total
        self._done: set[ObjectRef] = set()
        self._text = text
        self._share = (0, total)
        self._bar: Bar | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if can_redraw(sys.stderr):
            self._timer = asyncio.get_running_loop().call_later(SHOWN_AFTER, self._show)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._bar is not None:
            self._bar.stop()

    def started(self, action: Action) -> None:
        """Note that something is about to be sent."""
        self._update(f"applying {action.ref}")

    def ended(self, result: Result) -> None:
        """Note what became of an action."""
        self._done.add(result.ref)
        self._share = (len(self._done), max(self._total, len(self._done)))
        self._update(self._text)

    def waits(self, state: WaitState) -> None:
        """Note how many objects are ready, and what the first of the others waits for."""
        self._share = (state.ready, state.total)
        first = state.unready[0] if state.unready else None
        self._update(f"waiting for {first.ref}: {first.health.message}" if first else "ready")

    def tells(self, text: str) -> None:
        """Note in a line of its own what is waited for."""
        self._update(text)

    def _update(self, text: str) -> None:
        self._text = text
        if self._bar is not None:
            done, total = self._share
            count = f"{done}/{total}" if total else ""  # how many there are may come to be known later
            self._bar.update(
                self._bar.task_ids[0], completed=done, total=total or None, text=visible(text), count=count
            )

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415  # a tenth of a second, for those who look at it only
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415
        from rich.table import Column  # noqa: PLC0415

        console = Console(stderr=True, no_color=not use_colour(sys.stderr))
        self._bar = Bar(
            *([BarColumn(bar_width=10)] if console.width >= _ROOM_FOR_A_BAR else []),
            TextColumn("{task.fields[count]}", markup=False, style="green"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(ratio=1, overflow="fold")),
            console=console,
            transient=True,
            expand=True,
        )
        self._bar.add_task("", total=None, text="", count="")
        self._update(self._text)
        self._bar.start()
