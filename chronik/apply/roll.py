"""A change to the members of a federation from the command line, one after the other, as a hub would send it.

`plan_federation` decides who gets it next; what a hub keeps in a status is read from the members here, so that the same
call again goes on where an earlier one ended. Members are asked side by side: one that does not answer delays no other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chronik.apply.members import why_blocked
from chronik.clock import Clock, timestamp
from chronik.errors import ChronikError, Unreachable
from chronik.federation.changes import change_of
from chronik.federation.document import BEFORE_ANNOTATION, FEDERATION_MANAGER, revision_of, sent_document
from chronik.federation.facts import NOT_LOOKED, Seen, see
from chronik.federation.plan import plan_federation
from chronik.federation.status import WAITS, derive
from chronik.federation.taking_back import last_good, recorded, taken_back
from chronik.manifest import CLUSTER
from chronik.plan.actions import Apply, Create, Deferred, Skip
from chronik.plan.results import OBSTACLES, OUTCOMES, Result, undone
from chronik.status.compute import Reason
from chronik.tasks import ended, first_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from chronik.federation.document import Federation, Member
    from chronik.federation.plan import FederationPlan
    from chronik.federation.taking_back import Before
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.plan.actions import Action

LOOK_SECONDS = 30.0
"""How long one look at a member may take."""
_POLL = 1.0
"""Seconds between two looks at members that are waited for."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A change that was taken back: the federation that gives members what they had, and `why`, by member.

    `untouched` is what would have been done about those that never got it.
    """

    federation: Federation
    why: Mapping[str, str]
    untouched: Mapping[str, Action]


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
    taken_back: TakenBack | None = None
    """What was taken back, if anything was; then `results` is about that."""
    _good: dict[str, Before] | None = None
    """What members had that they may get back; None before there is anything to be sent."""
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
        document = self._document(member)
        action = change_of(document, self.live.get(member.name), manager=FEDERATION_MANAGER, force=self.force)
        if not member.paused or isinstance(action, Skip):
            return action
        hint = "Take `paused` away from it in spec.members, and apply again."
        reason = "the member is paused in the list, and keeps what it has"
        return Deferred(ref=action.ref, code="MemberPaused", reason=reason, hint=hint)

    def _document(self, member: Member) -> Manifest:
        """Return what to send to a member; what it had before goes with it while that may be taken back."""
        document = sent_document(self.federation, member)
        kept = {member.name: recorded(self.live.get(member.name))} if self._good is None else self._good
        before = kept.get(member.name)
        if before is None:
            return document
        metadata = document["metadata"]
        marked = {**metadata["annotations"], BEFORE_ANNOTATION: before.text}
        return {**document, "metadata": {**metadata, "annotations": marked}}

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
        self._good = self._last_good()
        try:
            while True:
                plan = plan_federation(self.federation, status, self._seen(), timestamp())
                status = derive(plan, status, timestamp(), 0)
                self._tell(status["members"])
                if self._takes_back(plan):
                    continue
                held = self.taken_back is None
                todo = [each.progress.name for each in plan.members if each.action == "apply" or (each.held and held)]
                done = self.results.keys() | self.errors.keys()
                new = [each for each in self.federation.members if each.name in todo and each.name not in done]
                if stop.is_set() or (not new and _is_over(plan, wait=wait)):
                    if plan.entire:
                        await self._forget()
                    return plan
                await asyncio.gather(*map(self.send, new))
                if not new:
                    await first_of(stop.wait(), self.clock.sleep(_POLL))
                    await self._look_again()
        finally:
            await ended(*self._looking.values())

    def _last_good(self) -> dict[str, Before]:
        """Return what each member gets back should the change fail, for those of which it is known."""
        if self.federation.rollout.on_failure != "Revert":
            return {}
        key = str(self.federation.key)
        unfinished = not all(see(live, key).ready for live in self.live.values() if live is not None)
        found: dict[str, Before | None] = {}
        for member in self.federation.members:
            live, action = self.live.get(member.name), self.action(member)
            if live is not None and revision_of(live) == revision_of(sent_document(self.federation, member)):
                found[member.name] = recorded(live)
            elif not isinstance(action, Apply) or not action.takes:  # what is taken from others was not ours to give
                found[member.name] = last_good(live, key, unfinished=unfinished)
        return {name: before for name, before in found.items() if before is not None}

    def _takes_back(self, plan: FederationPlan) -> bool:
        """Go on with what members had, if the change has failed and is to be taken back; return whether it is."""
        rollout, failed = self.federation.rollout, [each for each in plan.listed if each.state == "failed"]
        if rollout.on_failure != "Revert" or len(failed) <= rollout.failure_budget:
            return False
        members = self.federation.members
        got = {each.name for each in members if self._has_it(each)}
        found = taken_back(self.federation, got, self._good or {})
        if isinstance(found, str):
            self.federation = replace(self.federation, rollout=replace(rollout, on_failure="Halt"))
            self.told(failed[0].progress.name, "Failed", found)
            return True
        actions = {each.name: self.action(each) for each in members if each.name not in got}
        why = {each.progress.name: each.failure.message for each in failed if each.failure is not None}
        self.taken_back = TakenBack(found, why, actions)
        self.federation, self._good, self.results = found, {}, {}
        return True

    def _has_it(self, member: Member) -> bool:
        live = self.live.get(member.name)
        return live is not None and revision_of(live) == revision_of(sent_document(self.federation, member))

    async def _forget(self) -> None:
        """Take away what members had before, since all are through; what cannot be is no harm."""
        for member in self.federation.members:
            if recorded(self.live.get(member.name)) is not None:
                with suppress(ChronikError, TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        kube, document = await self.connect(member), sent_document(self.federation, member)
                        self.live[member.name] = await kube.apply(document, manager=FEDERATION_MANAGER)

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
