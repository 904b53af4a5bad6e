"""Leader election: which of several operators may write (behaviour B25).

A `Leadership` keeps the lease by one connection, and is the `WriteGuard` of the connection that the work is done by. A
holder counts from the moment it *asked* for a renewal, and stops well before the others, who count from when they *saw*
that renewal, may take over.

kubernetes.aio.leaderelection 37.0 has a Lease and optimistic concurrency too, but measures by the wall clock, lets a
renewal hang (writes go on past the expiry), counts no transitions, and never gives the lease away.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from chronik.clock import Clock, micro_timestamp
from chronik.errors import ChronikError, ObjectChanged
from chronik.manifest import LEASE
from chronik.operator.fence import CutOff, NotLeading, Writes
from chronik.status.assess import describe_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chronik.kube import Kube
    from chronik.manifest import Manifest

_log = logging.getLogger("chronik.operator.lease")

LEASE_NAME = "chronik-operator"
# A machine that was suspended must know that time went by; where there is such a clock, it is this one.
_CLOCK = Clock(
    now=partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a lease is kept, in seconds; the defaults are those of Kubernetes' own controllers.

    Others may take the lease `duration` after its last renewal. The leader counts on it for `renew_deadline` only: what
    lies between is time for its last requests to end. All candidates look every `retry`, or a little sooner.
    """

    duration: int = 15
    renew_deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew_deadline < self.duration:
            raise ValueError(f"must be 0 < retry < renew_deadline < duration, are {self}")

    @property
    def attempt(self) -> float:
        """How long one attempt may take: so that after one that hangs there is time for another."""
        return self.renew_deadline * 0.4


class Leadership:
    """One candidate, and the guard of what it writes.

    What its identity begins with, the host's name by default, is for people; the rest is random. Two replicas that were
    given one name are two candidates all the same.

    Needs get and patch on the Lease, and create on leases. The Lease is not to be deleted: a candidate that begins just
    then cannot know of a holder that is cut off. Source of the rules: client-go's tools/leaderelection.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str = LEASE_NAME,
        identity: str = "",
        terms: Terms = Terms(),
        clock: Clock = _CLOCK,
    ) -> None:
        self.identity = f"{identity or socket.gethostname()}_{uuid.uuid4()}"
        self._kube, self._namespace, self._name = kube, namespace, name
        self._terms, self._clock = terms, clock
        self._version = ""  # of the Lease as last seen; empty: there is none
        self._record: dict[str, Any] = {}  # its spec
        self._seen = 0.0  # when that spec was first seen
        self._current = False  # no other candidate can have written since
        self._asked: float | None = None  # when the last successful renewal was asked for
        self._term = 0
        self._leads = False  # as the log has it
        self._gained = asyncio.Event()
        self._let_go = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writes = Writes()
        self._complaint = ""

    @property
    def remaining(self) -> float:
        """For how many seconds writing is safe, if no renewal succeeds any more."""
        if self._asked is None or self._let_go.is_set():
            return 0.0
        return max(0.0, self._asked + self._terms.renew_deadline - self._clock.now())

    @property
    def holds(self) -> bool:
        """Whether this process may write."""
        return self.remaining > 0

    @property
    def holder(self) -> str:
        """Who has the lease, as far as is known; empty if it is free."""
        return self._record.get("holderIdentity") or ""

    async def acquired(self) -> None:
        """Wait until this process may write."""
        while not self.holds:
            self._gained.clear()
            await self._gained.wait()

    async def lost(self) -> None:
        """Wait until this process may no longer write, or might not have been allowed to for a moment."""
        term = self._term
        while self.holds and self._term == term:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._let_go.wait(), min(self.remaining, self._terms.retry))

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Let a write take as long as the lease is held; it is cut off before the lease can lapse.

        Raises:
            NotLeading: another process may write now, or could before the block was done.
        """
        if not self.holds:
            raise self._refusal("was not sent")
        try:
            async with self._writes.bounded(self.remaining):
                yield
        except CutOff as error:
            raise self._refusal("was cut off") from error

    def check(self) -> None:
        """Refuse, if writing is not safe at this moment.

        Raises:
            NotLeading: another process may write now.
        """
        if not self.holds:
            raise self._refusal("was held back")

    async def run(self) -> None:
        """Try to get the lease, renew it, and after a loss try again; until `release`."""
        while not self._let_go.is_set():
            await self._turn()
            await self._sleep(self._pause())

    async def release(self, grace: float = 3.0) -> None:
        """Give the lease away, so that another takes over at once, and stop `run`.

        Nothing new may be written from now on. What is being written may end, within `grace` seconds, and is cut off
        after that; the server may still do it, so the lease is left to lapse then. Never fails.
        """
        self._let_go.set()
        if not await self._writes.drain(grace):
            _log.warning("the lease lapses by itself: some of the last requests had no answer")
            return
        try:
            async with asyncio.timeout(self._terms.attempt), self._writing:
                await self._give_away()
        except (ChronikError, TimeoutError) as error:
            _log.warning("the lease could not be given away, and lapses by itself: %s", error or "no answer in time")

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not past `release`."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        stopping = asyncio.ensure_future(self._let_go.wait())
        try:
            await asyncio.wait((sleeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()

    def _pause(self) -> float:
        """Return how long to wait: with jitter; a standby not past the expiry, a holder in trouble less and less."""
        pause = self._terms.retry * (1.0 - 0.2 * self._clock.chance())
        if self.holds:
            return min(pause, max(self.remaining / 4, self._terms.retry / 4)) if self._complaint else pause
        if self.holder in {"", self.identity}:
            return pause
        return min(pause, max(self._expires - self._clock.now(), self._terms.retry / 20))

    async def _turn(self) -> None:
        """Take or renew the lease, if that may be done now; report a failure once."""
        try:
            async with asyncio.timeout(self._terms.attempt), self._writing:
                await self._attempt()
        except ChronikError as error:
            self._complain(describe_error(error).message)
        except TimeoutError:
            self._complain(f"{self._subject}: no answer in {self._terms.attempt:.0f} s")
        except Exception:  # noqa: BLE001  # a loop that ended silently would leave no leader
            _log.exception("a bug in chronik stopped this renewal; please report it")
            self._complain(f"{self._subject}: a bug")
        else:
            self._complaint = ""
        if self._leads and not self.holds:
            self._leads = False
            _log.warning("this process no longer has the lease")

    def _complain(self, text: str) -> None:
        self._current = False
        level = logging.DEBUG if text == self._complaint else logging.WARNING
        self._complaint = text
        _log.log(level, "cannot keep the lease: %s", text)

    @property
    def _subject(self) -> str:
        return f"Lease/{self._namespace}/{self._name}"

    async def _attempt(self) -> None:
        """Read the lease, unless the last read is still current, and write it; after a conflict, do both once more."""
        for _ in range(2):
            if not self._current:
                await self._look()
            if not self._free:
                return
            try:
                await self._take()
            except ObjectChanged:
                self._current = False
            else:
                return

    @property
    def _expires(self) -> float:
        return self._seen + (self._record.get("leaseDurationSeconds") or self._terms.duration)

    @property
    def _free(self) -> bool:
        """Whether the lease is ours, free, or was not renewed for as long as its holder promised to renew it in."""
        if self._let_go.is_set():
            return False
        return self.holder in {"", self.identity} or self._clock.now() >= self._expires

    async def _look(self) -> None:
        """Read the lease. One that was deleted is still its last holder's until it would have lapsed."""
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        self._note(lease or {"metadata": {}, "spec": self._record})

    def _note(self, lease: Manifest) -> None:
        record, before = lease.get("spec") or {}, self.holder
        self._version = lease["metadata"].get("resourceVersion", "")
        if record != self._record:
            self._record, self._seen = record, self._clock.now()
        if self.holder not in {"", self.identity}:
            self._asked = None
            self._writes.bound(0.0)
            if self.holder != before:
                _log.info("%s has the lease", self.holder)

    async def _take(self) -> None:
        asked, was_held = self._clock.now(), self.holds
        mine, now = self.holder == self.identity, micro_timestamp()
        acquired = self._record.get("acquireTime") if mine else None
        transitions = int(self._record.get("leaseTransitions") or 0) + (bool(self._version) and not mine)
        await self._write(acquireTime=acquired or now, renewTime=now, leaseTransitions=transitions)
        self._asked, self._current = asked, True
        self._writes.bound(self.remaining)
        if self.holds and not was_held:
            self._term += 1
            self._leads = True
            _log.info("this process, %s, has the lease", self.identity)
        self._gained.set()

    async def _give_away(self) -> None:
        for _ in range(2):
            await self._look()
            if self.holder != self.identity:
                return
            now = micro_timestamp()
            with suppress(ObjectChanged):
                await self._write(holderIdentity="", leaseDurationSeconds=1, acquireTime=now, renewTime=now)
                _log.info("the lease is given away")
                return

    async def _write(self, **spec: Any) -> None:
        """Apply the record, if no other candidate was faster: "1" is the version that no existing object has."""
        metadata = {"name": self._name, "namespace": self._namespace, "resourceVersion": self._version or "1"}
        mine = {"holderIdentity": self.identity, "leaseDurationSeconds": self._terms.duration}
        kept = {"leaseTransitions": int(self._record.get("leaseTransitions") or 0)}
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": mine | kept | spec}
        self._note(await self._kube.apply(lease, force=True))

    def _refusal(self, what: str) -> NotLeading:
        holder = f"{self.holder} does" if self.holder not in {"", self.identity} else "another one may"
        return NotLeading(
            f"the request {what}: this operator no longer holds the lease, {holder}",
            subject=f"{LEASE.name}/{self._namespace}/{self._name}",
            hint="Nothing to do: the operator that holds it reconciles all clusters anew.",
        )
