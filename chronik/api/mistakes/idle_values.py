"""Values of the right form that mean nothing: a time zone of no name, a day that no month has, a broken expression.

The API server takes them, and what they are for never happens: a window never opens, a backup is never made. Rules in
CEL cannot tell, so it is a warning here, and in the condition `SpecWarnings`. Some are for another machine to decide,
whose time zones are newer or whose expressions are Java's, so none is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.problem import Path

_PLACEHOLDERS = ("canary", "stable", "cluster", "namespace")
_EXPRESSIONS = (("topics", "include"), ("topics", "exclude"), ("groups", "include"), ("groups", "exclude"))
_DAYS_IN = {"2": 29, "FEB": 29, **dict.fromkeys(("4", "6", "9", "11", "APR", "JUN", "SEP", "NOV"), 30)}


def idle_values(spec: Any) -> Iterator[Problem]:
    """Yield what of a spec without errors means nothing where it is checked."""
    rollout, backup, replication = (spec.get(name) or {} for name in ("rollout", "backup", "replication"))
    for index, window in enumerate(rollout.get("windows") or ()):
        path: Path = ("spec", "rollout", "windows", index, "timeZone")
        yield from _time_zone(window["timeZone"], path, "window-time-zone", "this window may never open")
    for index, schedule in enumerate(backup.get("schedules") or ()):
        path = ("spec", "backup", "schedules", index)
        zone = schedule["timeZone"]
        yield from _time_zone(zone, (*path, "timeZone"), "schedule-time-zone", "no backup may ever be made")
        yield from _never(schedule["cron"], (*path, "cron"))
    for index, source in enumerate(replication.get("sources") or ()):
        yield from _expressions(source, ("spec", "replication", "sources", index))
    yield from _placeholders(((rollout.get("canary") or {}).get("analysis") or {}).get("metrics") or ())


def _time_zone(zone: str, path: Path, code: str, so: str) -> Iterator[Problem]:
    """Yield that this machine does not know a time zone: the operator's may know others."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # few documents have any

    try:
        ZoneInfo(zone)
    except (LookupError, ValueError, OSError):  # it raises all of these
        hint = "Write a name of the IANA database, such as Europe/Berlin."
        yield Problem("warning", code, path, f"no time zone is called {zone} here, so {so}", hint)


def _never(cron: str, path: Path) -> Iterator[Problem]:
    """Yield that a schedule names a day which none of its months has."""
    _, _, day, month, weekday = cron.split(" ")
    months = [_DAYS_IN.get(each.lstrip("0"), 31) for each in month.split(",")]
    days = re.split("[,-]", day)
    if weekday == "*" and "*" not in month and all(each.isdigit() and int(each) > max(months) for each in days):
        message = "no backup is ever made, since none of its months has such a day"
        yield Problem("warning", "schedule-never", path, message, "Write a day that the month has, such as 28.")


def _expressions(source: Any, path: Path) -> Iterator[Problem]:
    """Yield which names of topics and groups are no regular expressions; Java's differ from Python's in rare ones."""
    for section, name in _EXPRESSIONS:
        for index, each in enumerate((source.get(section) or {}).get(name) or ()):
            try:
                re.compile(each)
            except re.error as error:
                message = f"{each} is no regular expression that can be read here: {error}"
                hint = "Mend it, unless you know that Java can read it: a mirror does not start otherwise."
                yield Problem("warning", "replication-expression", (*path, section, name, index), message, hint)


def _placeholders(metrics: Any) -> Iterator[Problem]:
    """Yield which queries have a word after `$` that nothing is put in the place of."""
    from chronik.api.mistakes.unknown_fields import closest  # noqa: PLC0415

    for index, metric in enumerate(metrics):
        for name in re.findall(r"\$([A-Za-z_]\w*)", metric["query"]):
            if name not in _PLACEHOLDERS:
                path = ("spec", "rollout", "canary", "analysis", "metrics", index, "query")
                known = f"${', $'.join(_PLACEHOLDERS)}"
                close = closest(name, _PLACEHOLDERS)
                hint = f"Did you mean ${close}?" if close else f"There are {known}."
                yield Problem("warning", "query-placeholder", path, f"${name} stands for nothing in a query", hint)
