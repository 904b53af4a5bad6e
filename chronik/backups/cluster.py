"""What a cluster's own pass does about backups: which are due, which may go, and what its status says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chronik.backups.document import SCHEDULED_AT, ended_at, is_usable, phase_of, schedule_of, scheduled_at
from chronik.backups.retention import expired, next_expiry
from chronik.backups.schedule import ScheduleError, look, next_due
from chronik.manifest import BACKUP, CLUSTER_LABEL, SCHEDULE_LABEL
from chronik.quantity import seconds_of
from chronik.status.compute import condition
from chronik.times import later, moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.sections.backup import BackupSchedule
    from chronik.api.spec import Cluster
    from chronik.errors import ChronikError
    from chronik.manifest import Manifest
    from chronik.status.compute import Condition

DEADLINE = "1h"
"""How long a backup that a schedule makes may take: the default of the API."""


@dataclass(frozen=True, slots=True)
class Backups:
    """What is to be done about a cluster's backups, and said; `again_at` is when time alone changes that."""

    due: tuple[Manifest, ...] = ()
    expired: tuple[Manifest, ...] = ()
    status: dict[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    again_at: str = ""
    overdue: bool = False
    since: str = ""
    """When the newest usable backup was cut."""
    failed: ChronikError | None = None
    """What kept it from being done."""


def feature_missing() -> Backups:
    """Return what is said of a cluster that is to be backed up by an operator that does not do that."""
    message = "spec.backup is there, and this operator makes no backups: install it with --features backups"
    return Backups(conditions=(condition("FeatureMissing", met=True, reason="BackupsNotInstalled", message=message),))


def plan_backups(
    cluster: Cluster, known: Mapping[str, Any], backups: Sequence[Manifest], now: str, *, paused: bool = False
) -> Backups:
    """Return what the schedules of a cluster want; `known` is `status.backup`, `backups` are all of the cluster."""
    settings = cluster.spec["backup"]
    assert settings is not None
    states, due, gone, times, wrong, late = [], [], [], [], [], []
    remembered = {each["name"]: each for each in known.get("schedules") or ()}
    for schedule in settings["schedules"]:
        try:
            found = look(schedule, remembered.get(schedule["name"], {}), backups, now, paused=paused)
            overdue_at = _overdue_at(schedule, found.state, backups)
        except ScheduleError as error:
            wrong.append(f"schedule {schedule['name']}: {error}")
            states.append(remembered.get(schedule["name"], {"name": schedule["name"]}))
            continue
        states.append(found.state)
        due += [_scheduled(cluster, schedule, found.now_due)] if found.now_due else []
        gone += expired(schedule, backups, now)
        rests = found.state.get("suspended")
        late += [schedule["name"]] if overdue_at <= now and not rests else []
        times += [found.state.get("next", ""), "" if rests else overdue_at, next_expiry(schedule, backups, now)]
    status = _status(states, backups)
    told = _conditions(settings["schedules"], wrong, late, backups)
    again = min((time for time in times if time > now), default="")
    since = max((ended_at(each) for each in backups if is_usable(each)), default="")
    return Backups(tuple(due), tuple(gone), status, told, again, bool(late), since)


def _scheduled(cluster: Cluster, schedule: BackupSchedule, due: str) -> Manifest:
    """Return the backup of a due time; always the same, so that two attempts make one."""
    minute = moment(due).strftime("%Y%m%dt%H%Mz")
    return {
        "apiVersion": BACKUP.api_version,
        "kind": BACKUP.name,
        "metadata": {
            "name": f"{cluster.name}-{schedule['name']}-{minute}",
            "namespace": cluster.namespace,
            # With the cluster's own, by which an operator of a shard finds it.
            "labels": {**cluster.labels, CLUSTER_LABEL: cluster.name, SCHEDULE_LABEL: schedule["name"]},
            "annotations": {SCHEDULED_AT: due},
        },
        "spec": {"cluster": cluster.name},
    }


def _overdue_at(schedule: BackupSchedule, state: Mapping[str, Any], backups: Sequence[Manifest]) -> str:
    """Return when there should have been another usable backup: due, begun at the latest, and through."""
    mine = [scheduled_at(each) for each in backups if schedule_of(each) == schedule["name"] and is_usable(each)]
    due = next_due(schedule, max([state["since"], *mine]) if not mine else max(mine))
    return later(due, seconds_of(schedule["startingDeadline"]) + seconds_of(DEADLINE))


def _status(states: list[dict[str, Any]], backups: Sequence[Manifest]) -> dict[str, Any]:
    status: dict[str, Any] = {"schedules": states} if states else {}
    usable = [each for each in backups if is_usable(each)]
    failed = [each for each in backups if phase_of(each) == "Failed"]
    for name, found in (("lastUsable", usable), ("lastFailed", failed)):
        if found:
            newest = max(found, key=ended_at)
            status[name] = {"name": newest["metadata"]["name"], "at": ended_at(newest)}
    return status


def _conditions(
    schedules: Sequence[BackupSchedule], wrong: list[str], late: list[str], backups: Sequence[Manifest]
) -> tuple[Condition, ...]:
    """Return whether the cluster is backed up as its schedules say; nothing is said without any."""
    if not schedules:
        return ()
    if wrong:
        return (condition("BackupsCurrent", met=False, reason="InvalidSchedule", message="; ".join(wrong)),)
    ended = [each for each in backups if schedule_of(each) and phase_of(each) in {"Completed", "Failed"}]
    newest = max(ended, key=ended_at, default=None)
    failed = newest if newest is not None and phase_of(newest) == "Failed" else None
    if late:
        beside = f". The last one failed: {_why(failed)}" if failed else ""
        message = f"There is no usable backup of the last due time of: {', '.join(late)}{beside}"
        return (condition("BackupsCurrent", met=False, reason="BackupOverdue", message=message),)
    if failed is not None:
        message = f"{failed['metadata']['name']}: {_why(failed)}"
        return (condition("BackupsCurrent", met=False, reason="LastBackupFailed", message=message),)
    return (condition("BackupsCurrent", met=True, reason="Current", message=""),)


def _why(backup: Manifest) -> str:
    found = (backup.get("status") or {}).get("conditions") or ()
    return next((str(each["message"]) for each in found if each["type"] == "Completed"), "")
