"""Ask, for clusters that wait, what no watch tells: has the foreign object gone, why are pods not created?

The objects in the way are in no cache, for they are not ours, and Events are too many to be watched. So each is asked
for by itself, less often as time goes, and only for as long as a cluster waits for it. At rest nothing is asked.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chronik.apply.creation import LONGEST_PAUSE, read_creation_failures
from chronik.errors import ChronikError
from chronik.plan.actions import Foreign
from chronik.tasks import side_by_side

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from chronik.clock import Clock
    from chronik.manifest import ClusterKey, ObjectRef
    from chronik.operator.context import ReconcileContext, ReconcileResult

_log = logging.getLogger("chronik.operator")

FIRST, GROWTH = 2.0, 1.5
"""Seconds until a question is asked for the first time, and how much longer each next pause is."""
LONGEST_BLOCKED = 8.0
"""Seconds between two looks at an object that is in the way, at most."""
_TICK = 0.5
_AT_ONCE = 4


@dataclass(slots=True)
class _Question:
    """What is asked again and again; `ask` tells whether the answer is news. `about` is what it is asked for."""

    about: Hashable
    ask: Callable[[], Awaitable[bool]]
    longest: float
    due: float
    pause: float = FIRST


@dataclass(slots=True, kw_only=True)
class Poller:
    """What is asked for clusters that wait. `wake` is told those for which there is news. Run `run` beside."""

    context: ReconcileContext
    clock: Clock
    wake: Callable[[ClusterKey], None]
    _questions: dict[tuple[ClusterKey, str], _Question] = field(default_factory=dict)
    _any: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, key: ClusterKey, outcome: ReconcileResult) -> None:
        """Take in how a pass over a cluster ended, and what it waits for since."""
        blocking = frozenset(
            each.ref
            for each in outcome.report.obstacles
            if isinstance(each.action, Foreign) and self.context.cache.kind(each.ref.kind)
        )
        uids: dict[ObjectRef, str] = {}
        self._want(key, "blocking", blocking, lambda: self._has_moved(blocking, uids), LONGEST_BLOCKED)
        self._want(key, "missing", outcome.missing, lambda: self._has_reason(key), LONGEST_PAUSE)
        if not outcome.missing:
            self.context.creation.pop(key, None)

    async def run(self) -> None:
        """Ask what is due, for ever."""
        while True:
            await self._any.wait()
            now = self.clock.now()
            due = [name for name, each in self._questions.items() if each.due <= now]
            await side_by_side(self._ask, due, _AT_ONCE)
            await self.clock.sleep(_TICK)

    def _want(
        self, key: ClusterKey, name: str, about: frozenset[Hashable], ask: Callable[[], Awaitable[bool]], longest: float
    ) -> None:
        """Ask a question from now on, or no longer; one that is asked already goes on as it is."""
        known = self._questions.get((key, name))
        if not about:
            self._questions.pop((key, name), None)
        elif known is None or known.about != about:
            self._questions[key, name] = _Question(about, ask, longest, self.clock.now() + FIRST)
        if self._questions:
            self._any.set()
        else:
            self._any.clear()

    async def _ask(self, name: tuple[ClusterKey, str]) -> None:
        question = self._questions.get(name)
        if question is None:
            return
        try:
            if await question.ask():
                self.wake(name[0])
        except ChronikError as error:
            _log.debug("what a cluster waits for cannot be asked: %s", error.message)
        except Exception:  # noqa: BLE001  # other clusters' questions have to go on
            _log.exception("a bug in chronik stopped a question; please report it")
        question.pause = min(GROWTH * question.pause, question.longest)
        question.due = self.clock.now() + question.pause

    async def _has_moved(self, refs: frozenset[ObjectRef], uids: dict[ObjectRef, str]) -> bool:
        """Tell whether one of the objects that were in the way is gone, or is another one by now."""
        moved = False
        for ref in sorted(refs):
            kind = self.context.cache.kind(ref.kind)
            live = await self.context.kube.get(kind, ref.namespace, ref.name) if kind else None
            uid = live["metadata"]["uid"] if live else ""
            moved = moved or not uid or uids.setdefault(ref, uid) != uid
        return moved

    async def _has_reason(self, key: ClusterKey) -> bool:
        """Ask why a cluster's pods are not created, and tell whether that is news."""
        view = self.context.cache.view(key)
        objects = (*view.objects.values(), *view.pods)
        found = await read_creation_failures(self.context.kube, key.namespace, objects)
        news = found != self.context.creation.get(key, {})
        self.context.creation[key] = found
        return news
