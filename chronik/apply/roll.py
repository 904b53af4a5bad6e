"""A change to the members of a federation from the command line, one after the other, as a hub would send it.

`plan_federation` decides who gets it next; what a hub keeps in a status is read from the members here, so that the same
call again goes on where an earlier one ended. Members are asked side by side: one that does not answer delays no other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chronik.apply.members import why_blocked
from chronik.clock import Clock, timestamp
from chronik.errors import ChronikError, Unreachable
from chronik.federation.changes import change_of
from chronik.federation.document import FEDERATION_MANAGER, revision_of, sent_document
from chronik.federation.facts import NOT_LOOKED, Seen, see
from chronik.federation.plan import plan_federation
from chronik.federation.status import WAITS, derive
from chronik.manifest import CLUSTER
from chronik.plan.actions import Apply, Create, Deferred, Skip
from chronik.plan.results import OBSTACLES, OUTCOMES, Result, undone
from chronik.status.compute import Reason
from chronik.tasks import ended, first_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from chronik.federation.document import Federation, Member
    from chronik.federation.plan import FederationPlan
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.plan.actions import Action

LOOK_SECONDS = 30.0
"""How long one look at a member may take."""
_POLL = 1.0
"""Seconds between two looks at members that are waited for."""


@dataclass(slots=True)
class Roll:
    """One change to all members of a federation. `connect` returns a member's API server.

    `told` is called with a member's name, its phase and a message whenever one of these changes. `live` is what was
    found last, `errors` why a member could not be asked or written to, and `results` what became of what was sent.
    """

    federation: Federation
    connect: Callable[[Member], Awaitable[Kube]]
    force: bool = False
    told: Callable[[str, str, str], None] = lambda _name, _phase, _message: None
    clock: Clock = field(default_factory=Clock)
    live: dict[str, Manifest | None] = field(default_factory=dict)
    errors: dict[str, ChronikError] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _looking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _told: dict[str, tuple[str, str]] = field(default_factory=dict)

    async def look(self) -> None:
        """Read the ChronikClusters of all members, side by side; what goes wrong is in `errors`."""
        await asyncio.gather(*map(self._look, self.federation.members))

    def refuse(self, name: str, error: ChronikError) -> None:
        """Send nothing to a member, and look at it no more: it is known to be no use."""
        self._refused.add(name)
        self.errors[name] = error

    def action(self, member: Member) -> Action:
        """Return what is to be done about a member that was looked at."""
        document = sent_document(self.federation, member)
        action = change_of(document, self.live.get(member.name), manager=FEDERATION_MANAGER, force=self.force)
        if not member.paused or isinstance(action, Skip):
            return action
        hint = "Take `paused` away from it in spec.members, and apply again."
        reason = "the member is paused in the list, and keeps what it has"
        return Deferred(ref=action.ref, code="MemberPaused", reason=reason, hint=hint)

    async def send(self, member: Member, *, dry_run: bool = False) -> None:
        """Bring a member what it should have, if it has something else; what comes of it is in `results`."""
        action = self.action(member)
        if not isinstance(action, Create | Apply):
            self.results[member.name] = undone(action)
            return
        began = self.clock.now()
        force = isinstance(action, Apply) and action.force
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                kube = await self.connect(member)
                answer = await kube.apply(action.manifest, manager=FEDERATION_MANAGER, force=force, dry_run=dry_run)
        except (ChronikError, TimeoutError) as error:
            failure = _as_error(error)
            self.refuse(member.name, failure)
            self.results[member.name] = Result(action, "failed", failure, seconds=self.clock.now() - began)
            return
        self.live[member.name] = answer
        outcome = OUTCOMES[type(action)]
        self.results[member.name] = Result(action, outcome, answer=answer, seconds=self.clock.now() - began)

    async def run(self, stop: asyncio.Event, *, wait: bool) -> FederationPlan:
        """Send the change to one member after the other, until all have it, nothing goes on, or `stop` is set.

        With `wait` until all are through with it. Returns how far it is.
        """
        status: dict[str, Any] = {"members": self._begun()}
        try:
            while True:
                plan = plan_federation(self.federation, status, self._seen(), timestamp())
                status = derive(plan, status, timestamp(), 0)
                self._tell(status["members"])
                todo = [each.progress.name for each in plan.members if each.action == "apply" or each.held]
                done = self.results.keys() | self.errors.keys()
                new = [each for each in self.federation.members if each.name in todo and each.name not in done]
                if stop.is_set() or (not new and _is_over(plan, wait=wait)):
                    return plan
                await asyncio.gather(*map(self.send, new))
                if not new:
                    await first_of(stop.wait(), self.clock.sleep(_POLL))
                    await self._look_again()
        finally:
            await ended(*self._looking.values())

    def status(self) -> dict[str, Any]:
        """Return how far the members are that were looked at, as a hub's status says it, but for times of its own."""
        before = {"members": self._begun()}
        plan = plan_federation(self.federation, before, self._seen(), timestamp(), paused=True)
        found = derive(plan, before, timestamp(), 0)
        for each in found["members"]:
            each.pop("startedAt", None)
            if each.get("reason") == WAITS:
                each["message"] = "it does not have what the document says"
        conditions = [{**each, "lastTransitionTime": None} for each in found["conditions"]]
        found["conditions"] = [{key: value for key, value in each.items() if value} for each in conditions]
        return {key: value for key, value in found.items() if key not in {"observedGeneration", "revision", "lastGood"}}

    def _begun(self) -> list[dict[str, Any]]:
        """Return what a status would say of the members that have the change already."""
        found = []
        for member in self.federation.members:
            live, revision = self.live.get(member.name), revision_of(sent_document(self.federation, member))
            if live is None or revision_of(live) != revision:
                continue
            known = {"name": member.name, "at": member.at.as_status(), "target": revision, "startedAt": timestamp()}
            seen = see(live, str(self.federation.key))
            found.append({**known, "readySince": _ready_since(live)} if seen.ready else known)
        return found

    def _seen(self) -> dict[str, Seen]:
        return {each.name: self._seen_of(each.name) for each in self.federation.members}

    def _seen_of(self, name: str) -> Seen:
        error = self.errors.get(name)
        blocked = why_blocked(error) if error is not None else self._obstacle(name)
        if name not in self.live:
            return Seen(blocked=blocked) if blocked is not None else NOT_LOOKED
        return see(self.live[name], str(self.federation.key), blocked)

    def _obstacle(self, name: str) -> Reason | None:
        """Return why nothing was sent to a member, if something else stands there."""
        result = self.results.get(name)
        return Reason(result.outcome, result.action.reason) if result and result.outcome in OBSTACLES else None

    async def _look_again(self) -> None:
        """Look at all members, but wait no longer than for those that answer at once."""
        for member in self.federation.members:
            if member.name not in self._refused and member.name not in self._looking:
                self._looking[member.name] = asyncio.create_task(self._look(member))
        if self._looking:
            await asyncio.wait(self._looking.values(), timeout=_POLL)
        self._looking = {name: task for name, task in self._looking.items() if not task.done()}

    async def _look(self, member: Member) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                kube = await self.connect(member)
                self.live[member.name] = await kube.get(CLUSTER, *member.at.place)
        except (ChronikError, TimeoutError) as error:
            self.errors[member.name] = _as_error(error)
        else:
            self.errors.pop(member.name, None)

    def _tell(self, members: Iterable[dict[str, Any]]) -> None:
        for each in members:
            state = each["phase"], str(each.get("message", ""))
            if self._told.get(each["name"]) != state:
                self._told[each["name"]] = state
                self.told(each["name"], *state)


def _as_error(error: Exception) -> ChronikError:
    return error if isinstance(error, ChronikError) else Unreachable.after(LOOK_SECONDS)


def _is_over(plan: FederationPlan, *, wait: bool) -> bool:
    """Return whether nothing more is to be waited for: nobody is under way, or those that are need no one to look."""
    if plan.complete or not any(each.state == "under way" for each in plan.listed):
        return True
    waiting = any(each.state == "pending" and each.failure is None for each in plan.listed)
    return not wait and (not waiting or plan.halted)


def _ready_since(live: Manifest) -> str:
    """Return since when a member has been Ready with what it has: not before it was sent that."""
    conditions = (live.get("status") or {}).get("conditions") or ()
    ready = [str(each.get("lastTransitionTime") or "") for each in conditions if each["type"] == "Ready"]
    managers = live["metadata"].get("managedFields") or ()
    sent = [str(each.get("time") or "") for each in managers if each["manager"] == FEDERATION_MANAGER]
    return max(*ready, *sent, "")
