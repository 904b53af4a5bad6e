"""The task of one member: looks at its ChronikCluster, brings it what it should have, and says what it found.

Each member has its own, with its own deadline and pauses, so one that does not answer costs the others nothing.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from chronik.apply.members import let_go, why_blocked
from chronik.errors import AlreadyExists, ChronikError, Unreachable
from chronik.federation.document import FEDERATION_MANAGER, of_federation, revision_of
from chronik.federation.facts import NOT_LOOKED, UNREACHABLE, see
from chronik.manifest import CLUSTER, ClusterKey, ObjectRef
from chronik.operator.federation.watch import MemberWatch
from chronik.operator.fence import NotLeading
from chronik.plan.drift import applied_fields, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from chronik.clock import Clock
    from chronik.federation.document import Address
    from chronik.federation.facts import Seen
    from chronik.federation.plan import Action
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.operator.federation.connection import MemberConnection

_log = logging.getLogger("chronik.operator.federation")

LOOK_SECONDS = 30.0
"""How long one look may take, with all that is sent in it."""
POLL = 30.0
"""Seconds between two looks at a member that is as it should be."""
_BUSY_PART = 1 / 20
"""How much of that lies between two looks at a member where something is under way, and no watch tells of it."""
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
_JITTER = 0.2
_TRY_AGAIN = 300.0
"""Seconds until what a member has refused is sent once more though nothing has changed there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done about a member, and whether something is about to change there."""

    at: Address
    action: Action = "observe"
    document: Manifest | None = None
    busy: bool = False


@dataclass(slots=True)
class _Sent:
    """What was sent last to a member that looked so, when, and what it was refused for, if it was."""

    looked: Hashable
    at: float
    error: ChronikError | None = None


class MemberTask:
    """Looks at one member for ever. `changed` is called when a look finds something else than the one before."""

    def __init__(
        self,
        federation: ClusterKey,
        name: str,
        connection: MemberConnection,
        clock: Clock,
        changed: Callable[[], None],
        poll: float = POLL,
    ) -> None:
        self.name = name
        self.seen: Seen = NOT_LOOKED
        self._federation = str(federation)
        self._connection = connection
        self._clock = clock
        self._changed = changed
        self._poll = poll
        self._wanted: Wanted | None = None
        self._sent: _Sent | None = None
        self._failures = 0
        self._wake = asyncio.Event()
        self._watch = MemberWatch(clock, self._wake.set)

    def want(self, wanted: Wanted) -> None:
        """Have this done from now on; something new is done at once."""
        if wanted == self._wanted:
            return
        if self._wanted is not None and self._wanted.at != wanted.at:
            self.seen, self._sent = NOT_LOOKED, None
        self._wanted = wanted
        self._wake.set()

    def rest(self) -> None:
        """Look from now on, and send nothing."""
        if self._wanted is not None:
            self.want(Wanted(self._wanted.at))

    def check_secret(self) -> None:
        """Look at once if the Secret with the kubeconfig has changed."""
        if self._wanted is not None and self._connection.is_stale(self._wanted.at):
            self._failures = 0
            self._wake.set()

    async def run(self) -> None:
        """Look, and look again, until cancelled."""
        try:
            while True:
                self._wake.clear()
                wanted = self._wanted
                if wanted is not None:
                    found = await self._look(wanted)
                    if self._wanted is None or self._wanted.at != wanted.at:
                        continue  # what was found is of another place
                    if found != self.seen:
                        self._note(found)
                await self._pause()
        finally:
            await self._watch.close()
            await self._connection.close()

    def _note(self, found: Seen) -> None:
        if found.blocked != self.seen.blocked and found.blocked is not None:
            _log.warning("member %s: %s: %s", self.name, *found.blocked)
        elif found.blocked is None and self.seen.looked and self.seen.blocked is not None:
            _log.info("member %s: can be reached and written to again", self.name)
        self.seen = found
        self._changed()

    async def _pause(self) -> None:
        """Wait for the next look, or until something is wanted."""
        seconds = self._poll * (1 - _JITTER + 2 * _JITTER * self._clock.chance())
        if self._failures:
            growth = min(2.0 ** min(self._failures - 1, 16) * _FIRST_PAUSE, _LONGEST_PAUSE)
            seconds = min(growth, 2 * self._poll) * (0.75 + 0.5 * self._clock.chance())
        elif self._wanted is not None and self._wanted.busy and not self._watch.is_open:
            seconds *= _BUSY_PART
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _look(self, wanted: Wanted) -> Seen:
        """Look once, and bring what is wanted; whatever goes wrong is part of what was found."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                kube = await self._connection.use(wanted.at)
                live = await kube.get(CLUSTER, *wanted.at.place)
                self._failures = 0
                await self._watch.follow(kube, wanted.at.place, live)
                try:
                    live = await self._bring(kube, live, wanted)
                except ChronikError as error:
                    if isinstance(error, NotLeading):
                        return self.seen
                    return see(live, self._federation, why_blocked(error))
                return see(live, self._federation)
        except TimeoutError:
            failure: ChronikError = Unreachable.after(LOOK_SECONDS)
        except ChronikError as error:
            failure = error
        except Exception:  # noqa: BLE001  # other members' tasks have to go on, and this one, too
            _log.exception("a bug in chronik stopped a look at member %s; please report it", self.name)
            failure = ChronikError("see the log of the operator")
        return await self._failed(failure)

    async def _failed(self, error: ChronikError) -> Seen:
        """Return what was known before, and why nothing newer is. A failed connection is made anew, Secret and all."""
        self._failures += 1
        reason = why_blocked(error)
        if reason.reason in UNREACHABLE:
            await self._watch.close()
            await self._connection.close()
        known = self.seen if self.seen.looked else replace(NOT_LOOKED, looked=True)
        return replace(known, blocked=reason)

    async def _bring(self, kube: Kube, live: Manifest | None, wanted: Wanted) -> Manifest | None:
        """Do what is wanted, if it is not so yet, and return the ChronikCluster as it is then."""
        match wanted.action:
            case "apply" if wanted.document is not None:
                return await self._apply(kube, live, wanted.document)
            case "orphan" | "delete" as how if live is not None:
                return await let_go(kube, live, self._federation, how)
        return live

    async def _apply(self, kube: Kube, live: Manifest | None, document: Manifest) -> Manifest | None:
        """Apply a document unless the member has it already; never by force.

        What was sent to a member that looked the same is not sent again: neither what it has refused, nor what changed
        nothing, since the server spells a value in its own way.
        """
        if live is not None:
            owner = of_federation(live)
            if owner not in {"", self._federation}:
                hint = "A ChronikCluster belongs to one federation. Give the member another namespace or cluster."
                raise AlreadyExists(f"it belongs to the federation {owner}", subject=str(ObjectRef.of(live)), hint=hint)
            fields = applied_fields(live, FEDERATION_MANAGER) or {}
            if "deletionTimestamp" in live["metadata"] or not walk(document, live, fields):
                self._sent = None
                return live
        looks = _looks(document, live)
        if self._sent is not None and self._sent.looked == looks:
            if self._sent.error is None and live is not None:
                return live
            if self._sent.error is not None and self._clock.now() < self._sent.at + _TRY_AGAIN:
                raise self._sent.error
        try:
            applied = await kube.apply(document, manager=FEDERATION_MANAGER)
        except NotLeading:
            raise
        except ChronikError as error:
            lasting = error.retry_class != "transient"
            self._sent = _Sent(looks, self._clock.now(), error) if lasting else None
            raise
        self._sent = _Sent(_looks(document, applied), self._clock.now())
        _log.info("member %s: applied revision %s", self.name, revision_of(document))
        return applied


def _looks(document: Manifest, live: Manifest | None) -> Hashable:
    """Return what decides what an apply would do."""
    if live is None:
        return revision_of(document), None
    metadata = live["metadata"]
    managers = [(each["manager"], each["operation"]) for each in metadata.get("managedFields") or ()]
    texts = orjson.dumps([metadata.get("labels"), metadata.get("annotations"), managers], option=orjson.OPT_SORT_KEYS)
    return revision_of(document), metadata["uid"], metadata["generation"], texts
