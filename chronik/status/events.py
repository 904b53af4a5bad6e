"""Which Events a pass records: for what it did, and for what it changed in the status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from chronik.manifest import FIELD_MANAGER
from chronik.plan.actions import (
    REPLICAS_MANAGER,
    ROLLOUT_MANAGER,
    Apply,
    GrowClaim,
    Prune,
    Recreate,
    ReplacePod,
    TransferOwnership,
)
from chronik.plan.replicas import is_scaled
from chronik.plan.rotation import ROTATION_MANAGER
from chronik.status.archive import SLOT_LEFT
from chronik.status.compute import DEADLINE_EXCEEDED
from chronik.status.replication import EXPECTED
from chronik.wording import MOST_NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from chronik.errors import FieldOwner
    from chronik.plan.results import Report, Result
    from chronik.status.compute import Condition


class Announcement(NamedTuple):
    """An Event to be recorded."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def announcements(report: Report, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return the Events of a pass: for what it did, and for what it changed in the status."""
    told = [*_of_rollout(before, after), *_of_analysis(before, after), *_of_aliases(before, after)]
    told += _of_archive(before, after)
    return [*_of_actions(report.written), *told, *_of_conditions(before, after)]


_ROLLOUT_PHASES = {
    "Progressing": "RolloutStep",
    "Promoting": "RolloutStep",
    "Paused": "RolloutPaused",
    "Complete": "RolloutComplete",
}


def _of_rollout(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return what is new in a canary: a step, a pause, its end. What went wrong is a condition's to tell."""
    was, now = before.get("rollout") or {}, after.get("rollout") or {}
    place = ("phase", "candidate", "step", "attempt")
    new = [now.get(each) for each in place] != [was.get(each) for each in place]
    reason = _ROLLOUT_PHASES.get(now.get("phase", ""))
    if not new or not reason or (reason == "RolloutComplete" and was.get("phase") in {None, "Complete"}):
        return []
    step = f", step {now['step']} of {now['of']}" if 0 < now.get("step", 0) <= now.get("of", 0) else ""
    message = f": {now['message']}" if now.get("message") else ""
    return [Announcement("Normal", reason, f"Candidate {now['candidate']}{step}{message}")]


def _of_analysis(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return which metrics of a canary have just been out of bounds; what comes of it is a condition's to tell."""
    old = {each["name"]: each["failures"] for each in (before.get("rollout") or {}).get("analysis") or ()}
    new = (after.get("rollout") or {}).get("analysis") or ()
    worse = (each for each in new if each["failures"] > old.get(each["name"], 0))
    return [Announcement("Warning", "MetricBreached", each["message"]) for each in worse]


def _of_aliases(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return which aliases lead to another cluster than before."""
    was = {each["name"]: each.get("active", "") for each in before.get("aliases") or ()}
    now = {each["name"]: each.get("active", "") for each in after.get("aliases") or ()}
    return [
        Announcement("Normal", "AliasSwitched", f"{name} leads to {active}, and led to {was[name]} before")
        for name, active in now.items()
        if active and was.get(name) and was[name] != active
    ]


def _of_archive(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return that an archive has left a slot on another server: the archive goes well, and that server does not."""
    was, now = _by_type(before).get("Archiving", {}), _by_type(after).get("Archiving", {})
    if now.get("reason") != SLOT_LEFT or was.get("message") == now["message"]:
        return []
    return [Announcement("Warning", "SlotNotDropped", now["message"])]


def _of_actions(written: Iterable[Result]) -> list[Announcement]:
    found: list[Announcement] = []
    for each in written:
        match each.action:
            case Apply(takes=takes) if lost := _taken_unasked(takes):
                fields = ", ".join(f"{owner.field} (from {owner.manager})" for owner in lost)
                found.append(Announcement("Warning", "FieldsTakenBack", f"{each.ref}: took back {fields}"))
            case TransferOwnership(manager=manager, reason=reason) if manager == ROTATION_MANAGER:
                found.append(Announcement("Normal", "PodsRestart", f"{each.ref}: {reason}"))
            case Recreate(reason=reason):
                found.append(Announcement("Normal", "Recreated", f"{each.ref}: {reason}"))
            case GrowClaim(storage=storage, was=was):
                found.append(Announcement("Normal", "VolumeGrows", f"{each.ref}: {was} to {storage}"))
            case Prune(reason=reason):
                found.append(Announcement("Normal", "Pruned", f"{each.ref} {reason}"))
        found += _of_roll(each)
        if isinstance(each.action, Apply) and each.action.removes:
            keys = ", ".join(f"{owner.field} (set by {owner.manager})" for owner in each.action.removes)
            found.append(Announcement("Warning", "KeysRemoved", f"{each.ref}: removed {keys}"))
        if isinstance(each.action, Apply | Recreate) and each.action.restarts:
            paths = ", ".join(change.path for change in each.action.restarts[:MOST_NAMED])
            found.append(Announcement("Normal", "PodsRestart", f"{each.ref}: {paths} changed"))
    return found


def _of_roll(result: Result) -> list[Announcement]:
    """Return what was done to lead a roll: a StatefulSet was held or let go, or one of its pods replaced."""
    action = result.action
    if isinstance(action, ReplacePod):
        return [Announcement("Normal", "PodReplaced", f"{action.ref} {action.reason}")]
    if isinstance(action, TransferOwnership) and action.manager == ROLLOUT_MANAGER:
        reason = "RollHeld" if "spec" in action.manifest else "RollReleased"
        return [Announcement("Normal", reason, f"{action.ref}: {action.reason}")]
    return []


def _taken_unasked(takes: Iterable[FieldOwner]) -> list[FieldOwner]:
    """Return what was taken from others, but for a count from our own autoscaler: its removal was asked for.

    Then the count was held for the hand-over back, and is taken from that, too.
    """
    asked_back = any(owner.manager == REPLICAS_MANAGER for owner in takes)
    return [
        owner
        for owner in takes
        if not owner.manager.startswith(FIELD_MANAGER) and not (asked_back and is_scaled(owner))
    ]


_GOOD = frozenset(
    {
        "Ready",
        "StorageResizable",
        "KindsInstalled",
        "SecretsAvailable",
        "OwnObjectsReady",
        "TemplatesUsable",
        "Replicating",
        "BackupsCurrent",
        "WindowsUsable",
        "AnalysisConclusive",
        "Archiving",
        "AliasesUsable",
    }
)
_TOLD_CONDITIONS = (
    *("Paused", "FieldConflict", "StorageResizable", "KindsInstalled", "ApplyFlapping", "SecretsAvailable"),
    *("SpecWarnings", "OwnObjectsReady", "TemplatesUsable", "Replicating", "BackupsCurrent", "FeatureMissing"),
    *("RolloutHalted", "Archiving", "RestartPending", "WindowsUsable", "AnalysisConclusive", "AliasesUsable"),
)
_NO_NEWS = frozenset({"ObjectsNotReady"})
"""Reasons that come and go as objects start."""


def _of_conditions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Announcement]:
    """Return an announcement for a new phase, and for each condition that has turned bad or says something else."""
    old, new = _by_type(before), _by_type(after)
    found: list[Announcement] = []
    if after["phase"] != before.get("phase"):
        ready = new["Ready"]
        kind: Literal["Normal", "Warning"] = "Warning" if after["phase"] == "Failed" else "Normal"
        found.append(Announcement(kind, _phase_reason(after["phase"], ready), ready["message"] or after["phase"]))
    rolls, rolled = new.get("Progressing", {}), old.get("Progressing", {})
    if rolls.get("reason") == DEADLINE_EXCEEDED != rolled.get("reason"):
        found.append(Announcement("Warning", DEADLINE_EXCEEDED, f"{rolls['message']}. {new['Ready']['message']}"))
    for name in _TOLD_CONDITIONS:
        now, was = new.get(name), old.get(name)
        if now and now["reason"] in _NO_NEWS:
            continue
        if now and (was is None or was["message"] != now["message"]) and (now["status"] == "True") != (name in _GOOD):
            expected = name in {"Paused", "RestartPending"} or (name == "Replicating" and now["reason"] in EXPECTED)
            found.append(Announcement("Normal" if expected else "Warning", now["reason"], now["message"]))
    return found


def _phase_reason(phase: str, ready: Condition) -> str:
    return str(ready["reason"]) if phase == "Failed" else str(phase)


def _by_type(status: Mapping[str, Any]) -> dict[str, Condition]:
    return {each["type"]: each for each in status.get("conditions") or ()}
