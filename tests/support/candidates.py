"""Candidates for one Lease, in virtual time: no server, no sockets, and links that are cut when the test says so."""

from __future__ import annotations

import asyncio
import random
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from support.virtual_time import skewed_clock

from chronik.errors import ObjectChanged, Unreachable
from chronik.operator.lease import Leadership, Terms

if TYPE_CHECKING:
    from collections.abc import Callable

TERMS = Terms()


class Etcd:
    """A Lease where writes are conditional; every request takes a moment, and is lost when the test says so."""

    def __init__(self) -> None:
        self.lease: dict | None = None
        self.version = 100
        self.writes: list[tuple[float, str]] = []

    def apply(self, manifest: dict) -> dict:
        """Store a Lease, if it is based on the one that is stored."""
        wanted, now = manifest["metadata"]["resourceVersion"], asyncio.get_running_loop().time()
        if self.lease is not None and wanted != self.lease["metadata"]["resourceVersion"]:
            raise ObjectChanged("the object has been modified")
        self.version += 1
        self.lease = deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append((now, named(manifest["spec"]["holderIdentity"])))
        return deepcopy(self.lease)


class Link:
    """One candidate's way to `etcd`: up to `slow` seconds there and back; on the way that is `cut` all is lost."""

    namespace = "n"

    def __init__(self, etcd: Etcd, chance: random.Random, slow: float = 0.01) -> None:
        self._etcd, self._chance, self.slow, self.cut = etcd, chance, slow, ""
        self.hangs = (0.0, 60.0)

    async def get(self, _kind, _namespace, _name):
        """Return the Lease."""
        return await self._ask(lambda: deepcopy(self._etcd.lease))

    async def apply(self, manifest, **_):
        """Write the Lease."""
        return await self._ask(lambda: self._etcd.apply(manifest))

    async def _ask(self, do):
        await self._travel("there")
        answer = do()
        await self._travel("back")
        return answer

    async def _travel(self, way: str) -> None:
        await asyncio.sleep(self._chance.uniform(0, self.slow))
        if self.cut == way:
            await asyncio.sleep(self._chance.choice(self.hangs))
            raise Unreachable("no answer")


class Candidate:
    """An operator: its leadership, its way to the server, and the task that keeps the lease.

    `suspended` are the seconds that its machine was suspended for: its clock has them, the event loop's has not.
    """

    def __init__(self, etcd: Etcd, chance: random.Random, name: str, drift: float = 0.0) -> None:
        self.link = Link(etcd, chance)
        self.suspended = 0.0
        clock = skewed_clock(chance, drift=drift)
        clock = replace(clock, now=partial(self._now, clock.now))
        self.leadership = Leadership(self.link, namespace="n", identity=name, terms=TERMS, clock=clock)
        self.task = asyncio.ensure_future(self.leadership.run())

    def _now(self, now: Callable[[], float]) -> float:
        return now() + self.suspended

    def kill(self) -> None:
        """End it without a word."""
        self.task.cancel()


def named(identity: str) -> str:
    """Return the name that an identity begins with."""
    return identity.partition("_")[0]


def holders(candidates: list[Candidate]) -> list[str]:
    """Return the names of those that hold the lease."""
    return [named(each.leadership.identity) for each in candidates if not each.task.done() and each.leadership.holds]


async def until_held(candidates: list[Candidate]) -> float:
    """Return how long it takes until somebody holds the lease."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not holders(candidates):
        await asyncio.sleep(0.01)
        assert loop.time() - began < 60
    return loop.time() - began


async def two(seed: int = 0) -> tuple[Etcd, Candidate, Candidate]:
    """Return a leader and a standby that has watched it for a while."""
    etcd, chance = Etcd(), random.Random(seed)
    leader = Candidate(etcd, chance, "a")
    await until_held([leader])
    standby = Candidate(etcd, chance, "b")
    await asyncio.sleep(20 + chance.random() * 2)
    assert holders([leader, standby]) == ["a"]
    return etcd, leader, standby
