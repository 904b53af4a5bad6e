"""Which backups a schedule lets go of.

Only those that it made itself, and never its newest usable one, nor one that a cluster is being made from. Failed ones
do not count as kept, and go after a week.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.backups.document import ended_at, is_usable, phase_of, schedule_of, scheduled_at
from chronik.backups.recovery.plan import is_over
from chronik.quantity import seconds_of
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.api.sections.backup import BackupSchedule
    from chronik.manifest import Manifest

FAILED_KEPT = 7 * 86_400
"""Seconds that a failed backup is kept, for people to look at."""


def expired(schedule: BackupSchedule, backups: Sequence[Manifest], now: str) -> list[Manifest]:
    """Return the backups that a schedule lets go of now, oldest first; those that are being deleted are not in it."""
    mine = sorted((each for each in backups if schedule_of(each) == schedule["name"]), key=_age)
    usable = [each for each in mine if is_usable(each)]
    newest, surplus = usable[-1:], usable[: -schedule["keep"]["last"]]
    age = schedule["keep"]["maxAge"]
    old = [each for each in usable if age and later(ended_at(each), seconds_of(age)) <= now]
    failed = [each for each in mine if phase_of(each) == "Failed" and later(ended_at(each), FAILED_KEPT) <= now]
    return [each for each in mine if each not in newest and (each in surplus or each in old or each in failed)]


def in_use(clusters: Iterable[Manifest]) -> frozenset[str]:
    """Return the uids of the backups that clusters are being made from: none of them may go meanwhile."""
    recoveries = ((each.get("status") or {}).get("recovery") or {} for each in clusters)
    fields = ("backupUID", "metastoreBackupUID")
    used = (known.get(field) for known in recoveries if not is_over(known) for field in fields)
    return frozenset(str(uid) for uid in used if uid)


def next_expiry(schedule: BackupSchedule, backups: Sequence[Manifest], now: str) -> str:
    """Return when the next backup grows too old to be kept; empty if none does."""
    times = []
    age = schedule["keep"]["maxAge"]
    for each in backups:
        if schedule_of(each) != schedule["name"]:
            continue
        if phase_of(each) == "Failed":
            times.append(later(ended_at(each), FAILED_KEPT))
        elif is_usable(each) and age:
            times.append(later(ended_at(each), seconds_of(age)))
    return min((time for time in times if time > now), default="")


def _age(backup: Manifest) -> tuple[str, str, str]:
    return scheduled_at(backup), ended_at(backup), backup["metadata"]["name"]
