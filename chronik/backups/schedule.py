"""When backups are due: cron in a time zone, missed ones caught up once, and never twice for one due time.

What was due and when it was first known is in `status.backup.schedules` of the cluster; without that, the newest backup
of a schedule tells. cronsim reads cron as Debian's cron does, daylight saving time included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.backups.document import DONE, phase_of, schedule_of, scheduled_at
from chronik.quantity import seconds_of
from chronik.times import later, moment, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from chronik.api.sections.backup import BackupSchedule
    from chronik.manifest import Manifest


class ScheduleError(Exception):
    """A schedule names no time: its time zone is not known, or its cron means no day. The text says which."""


@dataclass(frozen=True, slots=True)
class Due:
    """How one schedule stands. `now_due` is the due time of a backup to be made now; empty if there is none."""

    now_due: str
    state: dict[str, Any]


def due_times(cron: str, time_zone: str, after: str) -> Iterator[str]:
    """Yield the due times after a time, one after the other, as RFC 3339 in UTC.

    Raises:
        ScheduleError: there are none.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # only clusters with schedules need it

    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  # an extra, and only clusters with schedules need it
    except ImportError as error:
        raise ScheduleError("the operator's image lacks the library cronsim: install chronik[backup]") from error
    try:
        found: Iterator[datetime] = CronSim(cron, moment(after).astimezone(ZoneInfo(time_zone)))
    except CronSimError as error:
        raise ScheduleError(f"cron {cron!r} cannot be read: {error}") from error
    except (LookupError, ValueError, OSError) as error:  # ZoneInfo raises all of these
        raise ScheduleError(f"there is no time zone {time_zone!r}") from error
    return map(written, found)


def next_due(schedule: BackupSchedule, after: str) -> str:
    """Return the first due time after a time.

    Raises:
        ScheduleError: there is none.
    """
    found = next(due_times(schedule["cron"], schedule["timeZone"], after), "")
    if not found:
        raise ScheduleError(f"cron {schedule['cron']!r} means a day that no calendar has")
    return found


def look(
    schedule: BackupSchedule, known: Mapping[str, Any], backups: Sequence[Manifest], now: str, *, paused: bool
) -> Due:
    """Return how a schedule stands; `known` is its entry in the status, and `backups` are those of the cluster.

    Raises:
        ScheduleError: it names no time.
    """
    mine = [each for each in backups if schedule_of(each) == schedule["name"]]
    rests = schedule["suspend"] or paused
    state = _state(schedule, known, mine, now, rests=rests)
    after = max(state["since"], state.get("last", ""))
    if rests:
        return Due("", state)
    if any(phase_of(each) not in {*DONE, "Deleting"} for each in mine):  # one at a time
        return Due("", {**state, "next": next_due(schedule, max(after, now))})
    due = _latest(schedule, max(after, later(now, -seconds_of(schedule["startingDeadline"]) - 1)), now)
    if not due and schedule["immediate"] and not state.get("last"):
        due = written(moment(now).replace(second=0))
    return Due(due, {**state, "next": next_due(schedule, max(after, now))})


def _latest(schedule: BackupSchedule, after: str, now: str) -> str:
    """Return the last due time that has come; of several that were missed, only that one counts."""
    latest = ""
    for due in due_times(schedule["cron"], schedule["timeZone"], after):
        if due > now:
            break
        latest = due
    return latest


def _state(
    schedule: BackupSchedule, known: Mapping[str, Any], mine: Sequence[Manifest], now: str, *, rests: bool
) -> dict[str, Any]:
    """Return what is to be remembered of a schedule.

    What was due before it was known, before it was written as it is now, or while it rested, is not caught up.
    """
    text = f"{schedule['cron']} {schedule['timeZone']}"
    newest = max(map(scheduled_at, mine), default="")
    last = max(known.get("last", ""), newest)
    awake = bool(known.get("suspended")) and not rests
    if known.get("cron", text) != text or awake or not (known.get("since") or newest):
        since = now
    else:
        since = known.get("since") or newest
    state = {"name": schedule["name"], "cron": text, "since": since, "last": last, "suspended": rests}
    return {key: value for key, value in state.items() if value not in ("", False)}
