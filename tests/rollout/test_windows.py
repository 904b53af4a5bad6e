"""Restart windows: against a calculation minute by minute, in zones whose clocks change in all kinds of ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from chronik.offline import loading
from chronik.quantity import seconds_of
from chronik.rollout.windows import standing

ZONES = (
    "Etc/UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # changed at midnight, until 2019
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",  # 5:45 ahead
    "Pacific/Apia",  # skipped a whole day in 2011
)
CHANGES = ("2026-03-29T00", "2026-10-25T00", "2026-03-08T06", "2026-11-01T05", "2018-11-04T02", "2026-04-04T14")
MINUTE = timedelta(minutes=1)


def window(schedule, duration, zone="Etc/UTC"):
    """Return a window."""
    return {"schedule": schedule, "duration": duration, "timeZone": zone}


def numbers(field, first, last):
    """Return what a field of cron means; only numbers, ranges, lists and steps."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = (f"{first}-{last}" if span == "*" else span).partition("-")
        found |= set(range(int(low), int(high or low) + 1, int(step or 1)))
    return found


def matches(schedule, local):
    """Return whether a time by the clock on the wall is one of cron."""
    minute, hour, day, month, weekday = schedule.split()
    days = local.day in numbers(day, 1, 31)
    weekdays = local.isoweekday() % 7 in {each % 7 for each in numbers(weekday, 0, 7)}
    both = day.startswith("*") or weekday.startswith("*")
    return (
        local.minute in numbers(minute, 0, 59)
        and local.hour in numbers(hour, 0, 23)
        and local.month in numbers(month, 1, 12)
        and (days and weekdays if both else days or weekdays)
    )


def openings(schedule, zone, first, last):
    """Return when a window opens, minute by minute: as Debian's cron starts jobs."""
    by_real_time = schedule.startswith("*") or schedule.split()[1].startswith("*")
    zone = ZoneInfo(zone)
    found = set()
    time = first
    while time <= last:
        local = time.astimezone(zone)
        wall = local.replace(tzinfo=None)
        before = (time - MINUTE).astimezone(zone).replace(tzinfo=None)
        if by_real_time or zone.key == "Etc/UTC":
            found |= {time} if matches(schedule, wall) else set()
        else:
            skipped = (before + MINUTE * each for each in range(1, int((wall - before) / MINUTE)))
            due = (local.fold == 0 and matches(schedule, wall)) or any(matches(schedule, each) for each in skipped)
            found |= {time} if due else set()
        time += MINUTE
    return sorted(found)


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/20", "15,45", "59"]),
    st.sampled_from(["0", "2", "1-3", "23", "*", "*/6", "0,3"]),
    st.sampled_from(["*", "*", "29", "4", "1"]),
    st.sampled_from(["*", "*", "3,10,11"]),
    st.sampled_from(["*", "*", "0", "1-5", "6,7"]),
)
TIMES = st.one_of(
    st.builds(
        lambda hour, minutes: datetime.fromisoformat(f"{hour}:00:00+00:00") + minutes * MINUTE,
        st.sampled_from(CHANGES),
        st.integers(-600, 600),
    ),
    st.integers(0, 6 * 24 * 60).map(lambda minutes: datetime(2011, 12, 28, tzinfo=UTC) + minutes * MINUTE),
    st.integers(0, 4 * 365 * 24 * 60).map(lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + minutes * MINUTE),
)


@settings(deadline=None, max_examples=examples(150))
@given(FIELDS, st.sampled_from(ZONES), st.sampled_from(["1m", "45m", "3h", "26h"]), TIMES)
def test_as_minute_by_minute(fields, zone, duration, time):
    """A window is open, and opens next, when a calculation says so that looks at every minute of the days around."""
    time = time.replace(second=0, microsecond=0)
    schedule, length = " ".join(fields), timedelta(seconds=seconds_of(duration))
    around = openings(schedule, zone, time - length, time + timedelta(days=2))
    found = standing([window(schedule, duration, zone)], time.strftime("%Y-%m-%dT%H:%M:%SZ"))

    assert found.is_open == any(each <= time < each + length for each in around)
    later = [each for each in around if each > time]
    if not found.is_open and later:
        assert datetime.fromisoformat(found.opens) == later[0]
    elif not found.is_open:
        assert datetime.fromisoformat(found.opens) > time + timedelta(days=2)


@pytest.mark.parametrize(
    ("schedule", "duration", "zone", "now", "expected"),
    [
        ("0 2 * * 1-5", "3h", "Etc/UTC", "2026-11-27T02:00:00Z", ""),
        ("0 2 * * 1-5", "3h", "Etc/UTC", "2026-11-27T04:59:59Z", ""),
        ("0 2 * * 1-5", "3h", "Etc/UTC", "2026-11-27T05:00:00Z", "2026-11-30T02:00:00Z"),
        ("0 23 * * 5", "4h", "Etc/UTC", "2026-11-28T02:59:59Z", ""),
        ("0 23 * * 5", "4h", "Etc/UTC", "2026-11-28T03:00:00Z", "2026-12-04T23:00:00Z"),
        ("0 2 * * *", "1h", "Europe/Berlin", "2026-07-01T00:30:00Z", ""),
        ("0 2 * * *", "1h", "Europe/Berlin", "2026-12-01T00:30:00Z", "2026-12-01T01:00:00Z"),
        # the night that has no 02:30 opens at 03:00, for one hour of real time
        ("30 2 * * *", "1h", "Europe/Berlin", "2026-03-29T01:00:00Z", ""),
        ("30 2 * * *", "1h", "Europe/Berlin", "2026-03-29T02:00:00Z", "2026-03-30T00:30:00Z"),
        # the night that has it twice opens the first time, and not again
        ("30 2 * * *", "45m", "Europe/Berlin", "2026-10-25T00:30:00Z", ""),
        ("30 2 * * *", "45m", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
        # three hours from 01:00 end at 05:00 by the clock when it leaps, and at 03:00 when it falls back
        ("0 1 * * *", "3h", "Europe/Berlin", "2026-03-29T02:59:00Z", ""),
        ("0 1 * * *", "3h", "Europe/Berlin", "2026-10-25T02:00:00Z", "2026-10-26T00:00:00Z"),
        ("0 0 29 2 *", "1d", "Etc/UTC", "2026-11-27T02:00:00Z", "2028-02-29T00:00:00Z"),
    ],
)
def test_windows(schedule, duration, zone, now, expected):
    """A window is open from its opening on for its duration, over midnight and through changes of clocks."""
    found = standing([window(schedule, duration, zone)], now)

    assert (found.is_open, found.opens) == (not expected, expected)


def test_the_first_of_several_counts():
    """With several windows one open is enough, and the next one to open is told."""
    both = [window("0 2 * * *", "1h"), window("0 12 * * *", "1h", "Asia/Kathmandu")]

    assert standing(both, "2026-11-27T06:20:00Z").is_open
    assert standing(both, "2026-11-27T03:00:00Z").opens == "2026-11-27T06:15:00Z"


def test_what_cannot_be_read_never_opens():
    """A window that means no time is told and never opens; others go on, and without any restarts wait."""
    bad = [window("0 0 * * *", "1h", "Europe/Nowhere"), window("0 0 30 2 1-3/9", "1h")]
    bad[1]["schedule"] = "0 0 30 2 *"
    alone = standing(bad, "2026-11-27T02:00:00Z")
    assert (alone.is_open, alone.opens) == (False, "")
    assert "none of spec.rollout.windows ever opens" in alone.closed
    assert alone.troubles[0] == "there is no time zone 'Europe/Nowhere'"
    assert "means no time" in alone.troubles[1]

    found = standing([*bad, window("0 3 * * *", "1h")], "2026-11-27T02:00:00Z")
    assert found.opens == "2026-11-27T03:00:00Z"


@pytest.mark.parametrize(
    ("until", "is_open", "said"),
    [
        ("2026-11-27T06:00:00Z", True, ""),
        ("2026-11-27T07:00:00+02:00", False, ""),
        ("2026-11-27T08:00:00+02:00", True, ""),
        ("2026-11-27T05:00:00Z", False, ""),
        ("2026-12-27T06:00:00Z", False, "is more than 7 days ahead"),
        ("2026-11-27T06:00:00", False, "is no time such as 2026-11-27T05:00:00Z"),
        ("now", False, "is no time"),
    ],
)
def test_a_person_opens_a_window(until, is_open, said):
    """An annotation lets restarts begin up to its time, which is at most seven days ahead."""
    found = standing([window("0 2 * * *", "1h")], "2026-11-27T05:00:00Z", until)

    assert found.is_open == is_open
    assert said in "".join(found.troubles)
    assert bool(said) == bool(found.troubles)


def test_without_windows_nothing_waits():
    """A cluster without windows restarts at any time."""
    assert standing([], "2026-11-27T05:00:00Z").closed == ""


def test_time_zones_are_looked_up_before_the_operator_does():
    """A window whose time zone is not known where a document is checked is warned of, and the document is valid."""
    spec = {
        "storage": {"backend": "local"},
        "metastore": {"connection": {"host": "db", "database": "d", "credentialsSecret": "s"}},
        "rollout": {"windows": [window("0 2 * * *", "1h", "Europe/Berlin"), window("0 2 * * *", "1h", "Europe/Berln")]},
    }
    document = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": {"name": "c"}}
    found = loading.validator().validate(document | {"spec": spec})

    assert found.cluster
    told = [(each.severity, each.path) for each in found.problems if each.code == "window-time-zone"]
    assert told == [("warning", ("spec", "rollout", "windows", 1, "timeZone"))]
