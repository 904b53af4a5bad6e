"""How a backup is deleted: its Job stops, its snapshots go, a Job removes the dump, and then its finalizer does.

With `onDelete: Keep` nothing goes but the Job. What cannot be deleted is told, and tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chronik.backups.document import LEAVE_DATA, status_of
from chronik.backups.jobs import DUMP
from chronik.backups.parts import job_name
from chronik.backups.steps import Remove
from chronik.status.compute import Reason, condition, merge_conditions
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest

FORGET = "forget"
"""What the name of the Job ends with that removes a dump."""
_TRY_AGAIN = 300.0
"""Seconds until a Job that could not remove a dump is made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is left of a backup that is being deleted. `image` is that of its Jobs; empty if none is known.

    `others` are its Jobs but the one that dumps and the one that forgets: what still writes must be gone first.

    `valid` tells whether the cluster's spec, as it was when the backup began, can still be read.
    """

    dump: Manifest | None = None
    others: tuple[Manifest, ...] = ()
    forget: Manifest | None = None
    result: Mapping[str, Any] | None = None
    snapshots: Mapping[str, Manifest] = field(default_factory=dict)
    group: Manifest | None = None
    image: str = ""
    valid: bool = True


@dataclass(frozen=True, slots=True)
class DeletionPlan:
    """What to do now: write the status, remove objects, make the Job that forgets; `done`: the backup may go."""

    status: dict[str, Any]
    removes: tuple[Remove, ...] = ()
    forget: str = ""
    done: bool = False


def plan_deletion(backup: Manifest, remains: Remains, now: str) -> DeletionPlan:
    """Return what is to be done next for a backup that is being deleted."""
    everything = backup["spec"]["onDelete"] == "Delete"
    leave = (backup["metadata"].get("annotations") or {}).get(LEAVE_DATA) == "true"
    working = [each for each in (remains.dump, *remains.others) if each is not None]
    removes = [each for job in working for each in _removal("Job", job)]
    if everything and remains.group is not None:  # its snapshots go with it, and none before it
        removes += _removal("VolumeGroupSnapshot", remains.group)
    elif everything:
        removes += [each for found in remains.snapshots.values() for each in _removal("VolumeSnapshot", found)]
    forgets = everything and not leave and status_of(backup).get("metastore") is not None
    error, job, more = _forgetting(backup, remains, now) if forgets and not working else ("", "", ())
    forgotten = not forgets or (not job and not error and _is_over(remains.forget, "Complete"))
    left = [*remains.snapshots] if everything else []
    done = forgotten and not left and not working and not (everything and remains.group)
    if done or leave:
        removes += _removal("Job", remains.forget)
    return DeletionPlan(_status(backup, left, error, now), (*removes, *more), job, done)


def _forgetting(backup: Manifest, remains: Remains, now: str) -> tuple[str, str, tuple[Remove, ...]]:
    """Return what is wrong with the Job that removes the dump, its name if it is to be made, and what is to go."""
    if remains.forget is None:
        if not remains.valid:
            return "what its cluster was cannot be read any more, so the dump is not found", "", ()
        if not remains.image:
            return "no image is known for the Job that removes the dump", "", ()
        return "", job_name(backup["metadata"]["name"], FORGET), ()
    failed = _condition(remains.forget, "Failed")
    if failed is None:
        return "", "", ()
    result = remains.result or {}
    text = str(result.get("message") or failed.get("message") or "its Job failed")
    due = now >= later(failed.get("lastTransitionTime") or now, _TRY_AGAIN)
    return text, "", _removal("Job", remains.forget) if due else ()


def _status(backup: Manifest, left: list[str], error: str, now: str) -> dict[str, Any]:
    status = {**status_of(backup), "phase": "Deleting", "usable": False}
    found = [each for each in status.get("conditions") or () if each["type"] != "ForgetFailed"]
    waits = f"{len(left)} snapshots are being deleted" if left else "Its parts are being deleted"
    told = [condition("Completed", met=False, reason="Deleting", message=waits)]
    if error:
        way_out = "To let it go and leave the dump where it is: chronik backup delete --leave-data"
        text = f"The dump cannot be removed: {error}. {way_out} {backup['metadata']['name']}"
        told.append(condition("ForgetFailed", met=True, reason="ForgetFailed", message=text))
    generation = int(backup["metadata"].get("generation", 1))
    types = {each["type"] for each in told}
    old = status.get("conditions") or ()
    kept = [each for each in found if each["type"] not in types]
    return {**status, "conditions": [*merge_conditions(old, told, now, generation), *kept]}


def told(status: Mapping[str, Any]) -> Reason | None:
    """Return why a backup cannot be deleted, if it cannot."""
    found = next((each for each in status.get("conditions") or () if each["type"] == "ForgetFailed"), None)
    return Reason(found["reason"], found["message"]) if found else None


def _condition(job: Manifest | None, kind: str) -> Mapping[str, Any] | None:
    found = ((job or {}).get("status") or {}).get("conditions") or ()
    return next((each for each in found if (each["type"], each["status"]) == (kind, "True")), None)


def _is_over(job: Manifest | None, kind: str) -> bool:
    return _condition(job, kind) is not None


def _removal(
    kind: Literal["Job", "VolumeSnapshot", "VolumeGroupSnapshot"], manifest: Manifest | None
) -> tuple[Remove, ...]:
    if manifest is None or "deletionTimestamp" in manifest["metadata"]:
        return ()
    return (Remove(kind, manifest["metadata"]["name"], manifest["metadata"]["uid"]),)


def dump_job(backup: Manifest) -> str:
    """Return the name of the Job that dumps."""
    return job_name(backup["metadata"]["name"], DUMP)
