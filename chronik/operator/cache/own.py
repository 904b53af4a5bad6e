"""Follows the kinds that only templates of the user's make, which may come and go while the operator runs.

How URLs spell such a kind only the server knows, and it may know nothing of it yet: then it is asked again every few
seconds, so that objects are made soon after their CustomResourceDefinition, without a restart.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chronik.apply.observe import own_kind, why_missing
from chronik.errors import ChronikError, Forbidden, KindMissing, ServerBusy, ServerFailure, Unreachable
from chronik.kube.reflector import KindSelector, Reflector
from chronik.manifest import KIND_BY_NAME
from chronik.operator.cache.packing import Packer
from chronik.operator.cache.sink import PackingSink
from chronik.plan.live import Missing
from chronik.tasks import ended
from chronik.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chronik.kube import Kube
    from chronik.kube.reflector import ReflectorOptions
    from chronik.manifest import Kind, KindName
    from chronik.operator.cache.store import Store

_log = logging.getLogger("chronik.operator.cache")

LOOK_AGAIN = 8.0
"""Seconds until a kind that the server does not know, or does not give us, is asked for again."""
PASSING = (Unreachable, ServerBusy, ServerFailure)


@dataclass(slots=True)
class _Followed:
    """One kind: how the server spells it, once it is listed, or else why it is not."""

    name: KindName
    kind: Kind | None = None
    packer: Packer | None = None
    why: Missing | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class OwnKinds:
    """The kinds that templates of the user's make. `changed` is called whenever one can be used, or no longer can."""

    def __init__(
        self,
        kube: Kube,
        namespaces: Sequence[str | None],
        labels: str,
        store: Store,
        options: ReflectorOptions,
        changed: Callable[[], None],
    ) -> None:
        self._kube, self._store, self._options = kube, store, options
        self._namespaces, self._labels = namespaces, labels
        self._changed = changed
        self._followed: dict[KindName, _Followed] = {}
        self._news = asyncio.Event()

    def want(self, kinds: Iterable[KindName]) -> None:
        """Follow these kinds from now on, and no others; those that chronik renders are followed anyway."""
        wanted = {name for name in kinds if name.name not in KIND_BY_NAME}
        self._followed = {
            name: self._followed.get(name) or _Followed(name) for name in sorted(wanted)
        }  # the same kind is the same object: its watch goes on
        self._news.set()

    @property
    def names(self) -> frozenset[KindName]:
        """The kinds that are followed, installed or not."""
        return frozenset(self._followed)

    @property
    def packers(self) -> Mapping[str, Packer]:
        """What makes records of the kinds that are listed, by name."""
        return {each.name.name: each.packer for each in self._followed.values() if each.packer}

    @property
    def missing(self) -> dict[KindName, Missing]:
        """Why no object of a kind can be made, for those of which none can."""
        return {each.name: each.why for each in self._followed.values() if each.why}

    def kind(self, name: str) -> Kind | None:
        """Return a kind that is listed."""
        return next((each.kind for each in self._followed.values() if each.name.name == name and each.kind), None)

    def look_again(self, name: str) -> None:
        """Ask for a kind anew: a request has been answered that there is none, which a watch may not notice."""
        for each in self._followed.values():
            if each.name.name == name and each.kind:
                each.lost.set()

    @property
    def is_settled(self) -> bool:
        """Whether each kind has been listed once, or is known to be missing."""
        return all(each.settled.is_set() for each in self._followed.values())

    async def wait_settled(self) -> None:
        """Wait until each kind has been listed once, or is known to be missing."""
        for each in list(self._followed.values()):
            await each.settled.wait()

    async def run(self) -> None:
        """Follow what is wanted, until cancelled."""
        tasks: dict[KindName, tuple[_Followed, asyncio.Task[None]]] = {}
        try:
            while True:
                self._news.clear()
                for name, (each, task) in list(tasks.items()):
                    if self._followed.get(name) is not each:
                        await ended(task)
                        self._store.forget_kind(name.name)
                        del tasks[name]
                for name, each in self._followed.items():
                    if name not in tasks:
                        tasks[name] = each, asyncio.create_task(self._follow(each), name=f"watch {name}")
                await self._news.wait()
        finally:
            await ended(*(task for _, task in tasks.values()))

    async def _follow(self, each: _Followed) -> None:
        """Follow one kind for ever, whether it is there or not."""
        while True:
            try:
                await self._list_and_watch(each, await own_kind(self._kube, each.name))
                continue
            except KindMissing as error:
                self._settle(each, why=why_missing(each.name, error))
            except Forbidden as error:
                self._settle(each, why=_no_rights(each.name, error))
            except ChronikError as error:
                _log.debug("%s cannot be followed: %s", each.name, error.message)
            clock = self._options.clock
            await clock.sleep(LOOK_AGAIN * (1 + clock.chance() / 2))

    async def _list_and_watch(self, each: _Followed, kind: Kind) -> None:
        """Follow a kind that the server knows, until it is to be asked for anew.

        Raises:
            ChronikError: it is gone or refused.
        """
        each.lost.clear()
        packer = Packer(kind)
        selectors = [KindSelector(kind, namespace, self._labels) for namespace in self._namespaces]
        sinks = [PackingSink(selector, self._store, packer) for selector in selectors]
        reflectors = [Reflector(self._kube, sink.selector, sink, self._options) for sink in sinks]
        tasks = [asyncio.create_task(each.run()) for each in reflectors]
        listed, lost = asyncio.create_task(_all_ready(reflectors)), asyncio.create_task(_until(each.lost))
        try:
            done, _ = await asyncio.wait([*tasks, listed], return_when=asyncio.FIRST_COMPLETED)
            if listed in done:
                self._settle(each, kind, packer)
                done, _ = await asyncio.wait([*tasks, lost], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await ended(*tasks, listed, lost)

    def _settle(
        self, each: _Followed, kind: Kind | None = None, packer: Packer | None = None, why: Missing | None = None
    ) -> None:
        """Note that a kind is listed now, or why it cannot be; what was known of it is forgotten then."""
        is_news = not each.settled.is_set() or (each.kind is None) != (kind is None) or each.why != why
        if why and is_news:
            self._store.forget_kind(each.name.name)
            _log.warning("objects of kind %s cannot be made: %s %s", each.name, sentence(why.message), why.hint)
        elif is_news and each.settled.is_set():
            _log.info("objects of kind %s can be made now", each.name)
        each.kind, each.packer, each.why = kind, packer, why
        each.settled.set()
        if is_news and self._followed.get(each.name) is each:
            self._changed()


def _no_rights(kind: KindName, error: Forbidden) -> Missing:
    message = f"the operator may not list and watch the kind {kind.described}: {error.message}"
    return Missing(error.reason, message, "`chronik install --templates` grants what templates need.")


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _all_ready(reflectors: Iterable[Reflector]) -> None:
    for each in reflectors:
        await each.ready.wait()
