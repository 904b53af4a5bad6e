"""Whether restarts may begin now, and if not, when: cron, a duration and a time zone, or a person who says so.

cronsim reads cron as Debian's cron does. What is set for an hour that a night skips opens when that is over, and what
is set for one that comes twice opens the first time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from chronik.quantity import seconds_of
from chronik.times import written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chronik.api.sections.rollout import RestartWindow

LONGEST = timedelta(days=7)
"""How far ahead a person may have restarts begin: what is forgotten, or mistyped, must not hold for ever."""
_LAST_YEARS = timedelta(days=366 * 8)
"""So far ahead the next opening is looked for: 29 February is at most eight years away."""


class WindowError(Exception):
    """A window means no time: its time zone is not known, or its cron no day. The text says which."""


class Standing(NamedTuple):
    """Whether restarts may begin. `opens` is when the next window does, if none is open and one ever opens.

    `troubles` are windows that cannot be read; they never open, and the others are not affected.
    """

    is_open: bool
    opens: str = ""
    troubles: tuple[str, ...] = ()

    @property
    def closed(self) -> str:
        """Why restarts have to wait, in a sentence; empty if they need not."""
        if self.is_open:
            return ""
        return f"Restarts begin in windows; the next one opens at {self.opens}." if self.opens else _NEVER

    def while_open(self) -> Standing:
        """Return this for what does not wait for any window."""
        return self._replace(is_open=True, opens="")


_NEVER = "Restarts begin in windows, and none of spec.rollout.windows ever opens."
ALWAYS = Standing(is_open=True)
"""How a cluster stands that has no windows."""


def standing(windows: Sequence[RestartWindow], now: str, until: str = "") -> Standing:
    """Return whether restarts may begin at a time.

    `now` is RFC 3339 in UTC; `until` is what a person wrote, up to when they may at any time.
    """
    if not windows:
        return ALWAYS
    time = datetime.fromisoformat(now)
    troubles: list[str] = []
    openings: list[datetime] = []
    is_open = _overridden(time, until)
    for each in windows:
        try:
            is_open = is_open or opened(each, time)
            openings += filter(None, (next(_openings(each, time), None),))
        except WindowError as error:
            troubles.append(str(error))
    troubles += [_override_trouble(time, until)] if until and _override_trouble(time, until) else []
    opens = "" if is_open or not openings else written(min(openings))
    return Standing(is_open, opens, tuple(dict.fromkeys(troubles)))


def opened(window: RestartWindow, time: datetime) -> bool:
    """Return whether a window is open at a time: it has opened, and its duration is not over.

    Raises:
        WindowError: it cannot be read.
    """
    began = next(_openings(window, time - timedelta(seconds=seconds_of(window["duration"]))), None)
    return began is not None and began <= time


def _openings(window: RestartWindow, after: datetime) -> Iterator[datetime]:
    """Yield when a window opens after a time, one after the other, for some years.

    Raises:
        WindowError: it cannot be read.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # only clusters with windows need it

    from cronsim import CronSim, CronSimError  # noqa: PLC0415  # with it

    cron, zone = window["schedule"], window["timeZone"]
    try:
        found = CronSim(cron, after.astimezone(ZoneInfo(zone)))
    except CronSimError as error:
        raise WindowError(f"schedule {cron!r} means no time: {error}") from error
    except (LookupError, ValueError, OSError) as error:  # ZoneInfo raises all of these
        raise WindowError(f"there is no time zone {zone!r}") from error
    for each in found:
        if each > after + _LAST_YEARS:
            return
        if each.astimezone(UTC) > after:  # in an hour that comes twice, cronsim begins with the first one
            yield each


def _overridden(time: datetime, until: str) -> bool:
    ends = _time(until)
    return ends is not None and time < ends <= time + LONGEST


def _override_trouble(time: datetime, until: str) -> str:
    """Return what is wrong with what a person wrote; what has ended is not."""
    ends = _time(until)
    if ends is None:
        return f"rollout-now: {until[:64]!r} is no time such as {time.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return f"rollout-now: {until} is more than {LONGEST.days} days ahead" if ends > time + LONGEST else ""


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
