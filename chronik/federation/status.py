"""What a federation's status says: each member in a word and a sentence, all of them in a number, and conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from chronik.federation.facts import RUNS, UNREACHABLE
from chronik.status.compute import condition, merge_conditions
from chronik.status.events import Announcement
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.federation.plan import FederationPlan, MemberPlan
    from chronik.status.compute import Condition, Reason

MEMBER_PHASES = (
    *("Pending", "Updating", "Soaking", "Ready", "NotReady", "Failed", "Blocked", "Unreachable", "Paused", "Removing"),
)
PHASES = (*("Pending", "Progressing", "Complete", "Halted", "Reverting", "Reverted", "Paused", "Invalid", "Deleting"),)
CONFLICT = "MemberConflict"
"""The reason of a member where another manager has taken over a field that the template sets."""
WAITS = "WaitingForTurn"
"""The reason of a member whose turn has not come."""
_LONGEST = 4096
"""Characters that the message about a member may have."""


def member_phase(plan: MemberPlan) -> str:
    """Return how a member is, in a word."""
    blocked = plan.seen.blocked if plan.seen.looked else None
    if plan.removing:
        return "Removing"
    if blocked is not None:
        return "Unreachable" if blocked.reason in UNREACHABLE else "Blocked"
    if plan.state == "through":
        return "Ready" if plan.seen.ready or not plan.seen.looked else "NotReady"
    if plan.state == "failed":
        return "Failed"
    if plan.state == "under way":
        return "Soaking" if plan.progress.ready_since else "Updating"
    return "Paused" if plan.held else "Pending"


def derive(
    plan: FederationPlan, previous: Mapping[str, Any], now: str, generation: int, *, paused: bool = False
) -> dict[str, Any]:
    """Return the status of a federation that a plan is carried out of."""
    phase = _phase(plan, paused=paused)
    ready = sum(member_phase(each) == "Ready" for each in plan.listed)
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "phase": phase,
        "revision": plan.revision,
        "ready": f"{ready}/{len(plan.listed)}",
        "members": _members(plan.members, previous),
        "conditions": merge_conditions(
            previous.get("conditions") or (), _conditions(plan, phase, ready), now, generation
        ),
    }
    if plan.wave is not None:
        status["wave"] = plan.wave
    if plan.reverted_from:
        status["revertedFrom"] = plan.reverted_from
    if plan.last_good:
        status["lastGood"] = dict(plan.last_good)
    return status


def refused(previous: Mapping[str, Any], failure: Reason, now: str, generation: int) -> dict[str, Any]:
    """Return the status of a federation whose document cannot be used: what its members have stays as it is."""
    told = [
        condition("Ready", met=False, reason=failure.reason, message=failure.message),
        condition("Stalled", met=True, reason=failure.reason, message=failure.message),
    ]
    conditions = merge_conditions(previous.get("conditions") or (), told, now, generation)
    return {**previous, "observedGeneration": generation, "phase": "Invalid", "conditions": conditions}


def deleting(left: Iterable[MemberPlan], previous: Mapping[str, Any], now: str, generation: int) -> dict[str, Any]:
    """Return the status of a federation that is being deleted, and waits for the members that are left."""
    plans = list(left)
    stuck = [each for each in plans if each.failure is not None]
    waits = f"{counted(len(plans), 'member')} still to be let go: {listed(each.progress.name for each in plans)}"
    told = [condition("Ready", met=False, reason="Deleting", message=waits)]
    if stuck:
        names = listed(each.progress.name for each in stuck)
        first = stuck[0].failure
        why = first.message if first is not None else ""
        message = f"{names}: {why}. To let go without a word to them: annotate chronik.stream/forget={names}"
        told.append(condition("Stalled", met=True, reason="MembersUnreachable", message=message))
    return {
        **{key: value for key, value in previous.items() if key not in {"wave", "ready"}},
        "observedGeneration": generation,
        "phase": "Deleting",
        "members": _members(plans, previous),
        "conditions": merge_conditions(previous.get("conditions") or (), told, now, generation),
    }


def _phase(plan: FederationPlan, *, paused: bool) -> str:
    if paused:
        return "Paused"
    if plan.reverting:
        return "Reverted" if plan.complete else "Reverting"
    if plan.complete:
        return "Complete"
    if plan.halted:
        return "Halted"
    begun = any(each.state in {"under way", "failed", "blocked"} for each in plan.listed)
    return "Progressing" if begun or plan.begins else "Pending"


def _members(plans: Iterable[MemberPlan], previous: Mapping[str, Any]) -> list[dict[str, Any]]:
    before = {each["name"]: each for each in previous.get("members") or ()}
    return [_member(each, before.get(each.progress.name, {})) for each in plans]


def _member(plan: MemberPlan, before: Mapping[str, Any]) -> dict[str, Any]:
    progress, seen = plan.progress, plan.seen
    reason = _reason(plan)
    found = {
        "name": progress.name,
        "phase": member_phase(plan),
        "revision": seen.revision,
        "target": progress.target,
        "startedAt": progress.started_at,
        "readySince": progress.ready_since,
        "lastSeen": progress.last_seen,
        "reason": reason[0],
        "message": reason[1][:_LONGEST],
        "at": progress.at.as_status(),
    }
    found = {key: value for key, value in found.items() if value}
    flags = {"ready": seen.ready, "reachable": seen.reachable} if seen.looked else {}
    generation = {"generation": seen.generation} if seen.generation else {}
    # Of one that has not been looked at yet, or cannot be asked, it is what was known last.
    same_place = before.get("at") == found.get("at")
    known = {name: before[name] for name in RUNS if name in before} if same_place and not seen.is_known else {}
    return found | {**known, **seen.runs} | flags | generation | ({"through": True} if progress.through else {})


def _reason(plan: MemberPlan) -> tuple[str, str]:
    """Return why a member is not Ready, and in a sentence."""
    if plan.failure is not None:
        return plan.failure
    if plan.seen.blocked is not None:
        return plan.seen.blocked
    if plan.state == "through" and plan.seen.ready:
        return "", ""
    if plan.state == "pending" and plan.held:
        return "Paused", "it is paused in the list of members, and keeps what it has"
    if plan.state == "pending" and not plan.removing:
        return WAITS, "others come first"
    if plan.progress.ready_since and plan.state == "under way":
        return "Soaking", "it is Ready, and has to stay so for a while"
    return ("NotReady", plan.seen.waits) if plan.seen.waits else ("", "")


def _conditions(plan: FederationPlan, phase: str, ready: int) -> list[Condition]:
    members = plan.listed
    away = [each for each in members if each.seen.looked and not each.seen.reachable]
    blocked = [each for each in members if member_phase(each) == "Blocked"]
    failed = [each for each in members if each.state == "failed"]
    everybody = plan.entire and ready == len(members) and not plan.reverting
    message = f"{ready} of {counted(len(members), 'member')} ready"
    told = [
        condition("Ready", met=everybody, reason="AllMembersReady" if everybody else phase, message=message),
        condition(
            "Progressing",
            met=phase in {"Progressing", "Reverting", "Complete"},
            reason=phase,
            message=_on_their_way(plan),
        ),
        _stalled(plan, phase, [*failed, *blocked, *away]),
        condition(
            "MembersReachable",
            met=not away,
            reason="MembersUnreachable" if away else "AllReachable",
            message="; ".join(_told(each) for each in away[:3]) + (f"; and {len(away) - 3} more" if away[3:] else ""),
        ),
    ]
    if blocked:
        conflicts = any(each.seen.blocked and each.seen.blocked.reason == CONFLICT for each in blocked)
        reason = CONFLICT if conflicts else "MembersBlocked"
        text = "; ".join(_told(each) for each in blocked[:3])
        told.append(condition("MembersBlocked", met=True, reason=reason, message=text))
    return told


def _on_their_way(plan: FederationPlan) -> str:
    names = [each.progress.name for each in plan.listed if each.state == "under way"]
    held = [each.progress.name for each in plan.listed if member_phase(each) == "Paused"]
    told = (("under way", names), ("paused", held))
    return "; ".join(f"{word}: {listed(found)}" for word, found in told if found)


def _stalled(plan: FederationPlan, phase: str, causes: list[MemberPlan]) -> Condition:
    if phase == "Halted":
        text = "; ".join(_told(each) for each in causes[:3])
        return condition("Stalled", met=True, reason="RolloutHalted", message=f"Nobody else gets the change: {text}")
    if plan.reverting:
        message = f"Revision {plan.reverted_from} was taken back: more members failed than the budget allows"
        return condition("Stalled", met=True, reason="RolloutReverted", message=message)
    return condition("Stalled", met=False, reason="NotStalled", message="")


def _told(plan: MemberPlan) -> str:
    why = plan.failure or plan.seen.blocked
    return f"{plan.progress.name}: {why.message if why else plan.seen.waits}"


def announcements(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return the Events of a pass: what is new in the status."""
    found = _of_phase(before, after)
    was = {each["name"]: each for each in before.get("members") or ()}
    for each in after.get("members") or ():
        old = was.get(each["name"], {})
        news = _of_member(old, each)
        if news is not None:
            found.append(news)
    return found


_PHASE_EVENTS: dict[str, tuple[Literal["Normal", "Warning"], str]] = {
    "Progressing": ("Normal", "RolloutStarted"),
    "Complete": ("Normal", "RolloutComplete"),
    "Halted": ("Warning", "RolloutHalted"),
    "Reverting": ("Warning", "RolloutReverted"),
    "Invalid": ("Warning", "InvalidSpec"),
}


def _of_phase(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    phase = str(after.get("phase", ""))
    changed = phase != before.get("phase") or (phase == "Progressing" and before.get("revision") != after["revision"])
    if not changed or phase not in _PHASE_EVENTS:
        return []
    kind, reason = _PHASE_EVENTS[phase]
    told = {each["type"]: str(each["message"]) for each in after.get("conditions") or ()}
    note = told.get("Stalled") or told.get("Ready") or ""
    return [Announcement(kind, reason, f"revision {after.get('revision', '')}: {note}")]


_MEMBER_EVENTS: dict[str, tuple[Literal["Normal", "Warning"], str]] = {
    "Updating": ("Normal", "MemberUpdating"),
    "Failed": ("Warning", "MemberFailed"),
    "Unreachable": ("Warning", "MemberUnreachable"),
    "Blocked": ("Warning", "MemberBlocked"),
    "Removing": ("Normal", "MemberRemoving"),
}


def _of_member(before: Mapping[str, Any], after: Mapping[str, Any]) -> Announcement | None:
    phase = str(after["phase"])
    same = phase == before.get("phase") and (phase != "Blocked" or before.get("reason") == after.get("reason"))
    if same and not (phase == "Updating" and before.get("target") != after.get("target")):
        return None
    if phase not in _MEMBER_EVENTS:
        return None
    kind, reason = _MEMBER_EVENTS[phase]
    reason = CONFLICT if phase == "Blocked" and after.get("reason") == CONFLICT else reason
    note = f"revision {after.get('target')}" if phase == "Updating" else str(after.get("message", ""))
    return Announcement(kind, reason, f"{after['name']}: {note}")
