"""Which member gets the change next, and what is said of each: `plan_federation`, from what is known to what to do.

Members are taken wave by wave, in the order of the list, and so many at a time. A member is through once it has been
Ready with the change, at its generation, for as long as the soak asks. What is begun is in the status before it is
sent, so that a hub that dies anywhere never has more members under way than it may. Pure: `now` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from chronik.federation.document import Address, revision_of, sent_document
from chronik.federation.facts import NOT_LOOKED
from chronik.status.compute import Reason
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.federation.document import Federation, Member
    from chronik.federation.facts import Seen
    from chronik.manifest import Manifest

MemberState = Literal["through", "failed", "blocked", "under way", "pending"]
Action = Literal["observe", "apply", "orphan", "delete"]

TIMED_OUT = "RolloutTimedOut"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the status remembers of a member: what it was sent last and since when, and whether it is through with it.

    `target` is empty of one that was never sent anything. `at` is where it was sent.
    """

    name: str
    at: Address
    target: str = ""
    started_at: str = ""
    ready_since: str = ""
    through: bool = False
    last_seen: str = ""

    @classmethod
    def of_status(cls, found: Mapping[str, Any]) -> Progress:
        """Return what a status says of a member."""
        return cls(
            name=found["name"],
            at=Address.of_status(found.get("at") or {}),
            target=found.get("target", ""),
            started_at=found.get("startedAt", ""),
            ready_since=found.get("readySince", ""),
            through=bool(found.get("through")),
            last_seen=found.get("lastSeen", ""),
        )


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """One member after the plan: how far it is, how it is, and what is to be done about it now."""

    progress: Progress
    state: MemberState
    seen: Seen
    action: Action = "observe"
    document: Manifest | None = None
    failure: Reason | None = None
    """Why it has failed, or cannot be gone on with."""
    removing: bool = False
    held: bool = False
    """Whether it is paused in the list: it is sent nothing, and nobody waits for it."""

    @property
    def busy(self) -> bool:
        """Whether something is expected to change soon, so that it is to be looked at more often."""
        return self.removing or self.state == "under way"


@dataclass(frozen=True, slots=True)
class FederationPlan:
    """What to do about all members. `members` come in the order of the roll, and then those that are being removed.

    `begins` are those that get a change from now on: the status has to be written before it is sent. `again_at` is when
    time alone changes something. `revision` is what is rolled; `reverting` says that it is the last good one.
    """

    members: tuple[MemberPlan, ...] = ()
    begins: tuple[str, ...] = ()
    halted: bool = False
    reverting: bool = False
    reverted_from: str = ""
    revision: str = ""
    wave: int | None = None
    again_at: str = ""
    last_good: Mapping[str, Any] | None = None

    @property
    def listed(self) -> list[MemberPlan]:
        """The members of the list, without those that are being removed."""
        return [each for each in self.members if not each.removing]

    @property
    def complete(self) -> bool:
        """Whether all members are through with what they should have, but for those that are held."""
        return all(each.state == "through" or each.held for each in self.listed)

    @property
    def entire(self) -> bool:
        """Whether all members are through, and none is held with something else."""
        return all(each.state == "through" for each in self.listed)


@dataclass(slots=True)
class _Roll:
    """What is still free while members are gone through in order."""

    slots: int
    bad: int
    budget: float
    now: str
    begins: list[str] = field(default_factory=list)

    @property
    def is_stopped(self) -> bool:
        return self.bad > self.budget


def plan_federation(
    federation: Federation,
    status: Mapping[str, Any],
    seen: Mapping[str, Seen],
    now: str,
    *,
    forget: frozenset[str] = frozenset(),
    paused: bool = False,
) -> FederationPlan:
    """Return what to do about all members: `status` is the last one written, `seen` what was found at each member.

    `forget` are members that are let go of if they are not in the list. While `paused`, nothing is sent to anybody.
    """
    known = {each["name"]: Progress.of_status(each) for each in status.get("members") or ()}
    wanted, latched = _effective(federation, status)
    listed = []
    moving = []
    for member in wanted.ordered:
        before = known.get(member.name)
        if before is not None and before.target and before.at.place != member.at.place:
            moving.append(before)  # removed and added again, elsewhere: the old one goes first
        else:
            listed.append(_looked_at(wanted, member, before, seen.get(member.name, NOT_LOOKED), now))
    planned, roll, wave = _rolled(wanted, listed, now, endless=latched, paused=paused)
    failed = sum(each.state == "failed" for each in planned)
    reverts = not latched and federation.rollout.on_failure == "Revert" and failed > federation.rollout.failure_budget
    good = status.get("lastGood") or {}
    if reverts and good and good["revision"] != wanted.revision:
        latest = {**status, "revertedFrom": wanted.revision}
        return plan_federation(federation, latest, seen, now, forget=forget, paused=paused)
    names = {member.name for member in wanted.members}
    leaving = [*moving, *(each for name, each in known.items() if name not in names)]
    removed = plan_removal(leaving, federation.on_delete, seen, now, forget)
    plan = FederationPlan(
        members=(*planned, *removed),
        begins=tuple(roll.begins),
        halted=roll.is_stopped,
        reverting=latched,
        reverted_from=str(status.get("revertedFrom", "")) if latched else "",
        revision=federation.revision,
        wave=wave,
        again_at=_again_at(wanted, planned, now),
        last_good=status.get("lastGood"),
    )
    if paused:
        return replace(plan, members=tuple(replace(each, action="observe") for each in plan.members))
    if plan.entire and not latched and not moving and (status.get("lastGood") or {}).get("revision") != plan.revision:
        plan = replace(plan, last_good={"revision": plan.revision, "spec": federation.content})
    return plan


def _effective(federation: Federation, status: Mapping[str, Any]) -> tuple[Federation, bool]:
    """Return what members should have: what the document says, or the last good one if that was taken back."""
    good = status.get("lastGood")
    if not good or status.get("revertedFrom") != federation.revision:
        return federation, False
    overrides = good["spec"].get("overrides") or {}
    members = tuple(replace(each, overrides=overrides.get(each.name, {})) for each in federation.members)
    return replace(federation, template=good["spec"]["template"], members=members), True


@dataclass(frozen=True, slots=True)
class _Looked:
    """A member with what was found of it, before anything is decided."""

    member: Member
    document: Manifest
    progress: Progress
    seen: Seen
    overdue: bool

    @property
    def revision(self) -> str:
        return revision_of(self.document)

    @property
    def begun(self) -> bool:
        """Whether it is, or was, sent what it should have."""
        return self.progress.target == self.revision

    @property
    def failure(self) -> Reason | None:
        """Why it has failed with what it was sent last."""
        if self.progress.through or not self.progress.target:
            return None
        if self.seen.failure is not None and self.seen.revision == self.progress.target:
            return self.seen.failure
        return Reason(TIMED_OUT, f"it was not Ready in time: {self._why}") if self.overdue else None

    @property
    def _why(self) -> str:
        return (self.seen.blocked.message if self.seen.blocked else self.seen.waits) or "its soak has not ended"

    @property
    def is_on_its_way(self) -> bool:
        """Whether it was sent something that it is not through with, and has not failed with either."""
        return bool(self.progress.target) and not self.progress.through and self.failure is None


def _looked_at(federation: Federation, member: Member, before: Progress | None, seen: Seen, now: str) -> _Looked:
    progress = before if before is not None and before.target else Progress(member.name, member.at)
    progress = replace(progress, at=member.at, last_seen=_last_seen(before, seen, now))
    if progress.target and seen.looked:
        settled = seen.ready and seen.blocked is None and seen.revision == progress.target
        since = (progress.ready_since or now) if settled else ""
        soaked = bool(since) and now >= later(since, federation.rollout.soak)
        progress = replace(progress, ready_since=since, through=progress.through or soaked)
    started = progress.started_at
    overdue = bool(started) and now >= later(started, federation.rollout.timeout)
    return _Looked(member, sent_document(federation, member), progress, seen, overdue)


def _last_seen(before: Progress | None, seen: Seen, now: str) -> str:
    """Return when a member answered last: only of one that does not, so that a status at rest never changes."""
    known = before.last_seen if before is not None else ""
    if not seen.looked:
        return known
    return "" if seen.reachable else known or now


def _rolled(
    federation: Federation, listed: list[_Looked], now: str, *, endless: bool, paused: bool
) -> tuple[list[MemberPlan], _Roll, int | None]:
    """Go through the members in order, and return how each is, and the wave that was come to; None if all are through.

    Of a roll that has stopped it is where it did: nobody of the next wave has got anything.
    """
    active = [each for each in listed if not each.member.paused]
    on_their_way = sum(each.is_on_its_way and not (each.begun and each.seen.blocked) for each in active)
    roll = _Roll(
        slots=0 if paused else federation.rollout.max_concurrent - on_their_way,
        bad=sum(each.begun and not each.progress.through and _is_bad(each) for each in active),
        budget=float("inf") if endless else federation.rollout.failure_budget,
        now=now,
    )
    planned = []
    open_wave: int | None = None
    for each in listed:
        if each.member.paused:
            planned.append(_held(each))
            continue
        closed = open_wave is not None and each.member.wave > open_wave
        plan = _next(each, roll, closed=closed)
        planned.append(plan)
        if plan.state in {"under way", "pending"} and open_wave is None and not _is_passed(plan):
            open_wave = each.member.wave
    reached = [each.member.wave for each, plan in zip(listed, planned, strict=True) if _had_its_turn(plan)]
    goes_on = [open_wave] if open_wave is not None and not roll.is_stopped else []
    return planned, roll, max(reached + goes_on, default=None)


def _had_its_turn(plan: MemberPlan) -> bool:
    """Return whether a member that is not through got the change, or would have."""
    return plan.state in {"under way", "failed", "blocked"} or (plan.state == "pending" and plan.failure is not None)


def _held(each: _Looked) -> MemberPlan:
    """Return how a member is that is paused in the list: it is looked at."""
    through = each.begun and each.progress.through
    return MemberPlan(each.progress, "through" if through else "pending", each.seen, held=True)


def _is_bad(each: _Looked) -> bool:
    return each.failure is not None or (each.seen.blocked is not None and each.seen.looked)


def _is_passed(plan: MemberPlan) -> bool:
    """Return whether a member is left behind for now, at the cost of the budget."""
    return plan.state == "pending" and plan.seen.looked and plan.seen.blocked is not None


def _next(each: _Looked, roll: _Roll, *, closed: bool) -> MemberPlan:
    """Return how a member is, and what it gets, and take what that costs off the roll."""
    if each.begun:
        return _begun(each)
    if each.is_on_its_way or closed or roll.slots <= 0 or roll.is_stopped:
        return MemberPlan(each.progress, "pending", each.seen)
    if not each.seen.looked:  # its turn has come, and the first look at it is under way
        roll.slots -= 1
        return MemberPlan(each.progress, "pending", each.seen)
    if each.seen.blocked is not None:  # its turn has come, and nothing can be sent
        roll.bad += 1
        return MemberPlan(each.progress, "pending", each.seen, failure=each.seen.blocked)
    roll.slots -= 1
    roll.begins.append(each.member.name)
    progress = replace(each.progress, target=each.revision, started_at=roll.now, ready_since="", through=False)
    return MemberPlan(progress, "under way", each.seen, "apply", each.document)


def _begun(each: _Looked) -> MemberPlan:
    progress, seen = each.progress, each.seen
    if progress.through:
        return MemberPlan(progress, "through", seen, "apply", each.document, failure=seen.blocked)
    if each.failure is not None:
        return MemberPlan(progress, "failed", seen, "apply", each.document, failure=each.failure)
    if seen.blocked is not None and seen.looked:
        return MemberPlan(progress, "blocked", seen, "apply", each.document, failure=seen.blocked)
    return MemberPlan(progress, "under way", seen, "apply", each.document)


def _again_at(federation: Federation, planned: Iterable[MemberPlan], now: str) -> str:
    """Return when a soak ends, a time is up or a member is to be counted as Ready, whichever comes first."""
    times = []
    for each in planned:
        progress = each.progress
        if not progress.target or progress.through:
            continue
        times.append(later(progress.started_at, federation.rollout.timeout))
        if each.seen.ready and each.seen.revision == progress.target and not progress.ready_since:
            times.append(later(now, 1))  # it had the change before: no news of it will come
        times += [later(progress.ready_since, federation.rollout.soak)] if progress.ready_since else []
    return min((each for each in times if each > now), default="")


def plan_removal(
    leaving: Iterable[Progress],
    on_delete: Literal["Orphan", "Delete"],
    seen: Mapping[str, Seen],
    now: str,
    forgotten: frozenset[str] = frozenset(),
) -> list[MemberPlan]:
    """Return what is to be done about members that are no longer in the list; those that are let go are left out.

    One that was never sent anything is let go at once, and so is one that a person wants to be forgotten.
    """
    action: Action = "delete" if on_delete == "Delete" else "orphan"
    plans = []
    for each in leaving:
        found = seen.get(each.name, NOT_LOOKED)
        free = found.looked and found.blocked is None and not (found.exists and found.ours)
        if each.name in forgotten or not each.target or free:
            continue
        progress = replace(each, last_seen=_last_seen(each, found, now))
        plans.append(MemberPlan(progress, "pending", found, action, failure=found.blocked, removing=True))
    return plans
