"""Schedules and retention: due times in time zones, missed runs once, nothing twice, and what may go."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronik.backups.cluster import plan_backups
from chronik.backups.document import scheduled_at
from chronik.backups.retention import expired, in_use
from chronik.backups.schedule import ScheduleError, look, next_due
from chronik.manifest import SCHEDULE_LABEL
from chronik.offline import loading


def schedule(cron="0 2 * * *", zone="Etc/UTC", **more):
    """Return a schedule with its defaults."""
    given = {"name": "nightly", "last": 7, "age": None, "late": "1h", "suspend": False, "immediate": False} | more
    return {
        "name": given["name"],
        "cron": cron,
        "timeZone": zone,
        "suspend": given["suspend"],
        "immediate": given["immediate"],
        "startingDeadline": given["late"],
        "keep": {"last": given["last"], "maxAge": given["age"]},
    }


def backup(due, phase="Completed", *, usable=True, name=None, of="nightly"):
    """Return a backup of a schedule that was due, and cut, at a time."""
    return {
        "metadata": {
            "name": name or f"c-{of}-{due}",
            "namespace": "n",
            "labels": {SCHEDULE_LABEL: of} if of else {},
            "annotations": {"chronik.stream/scheduled-at": due},
            "creationTimestamp": due,
        },
        "spec": {"cluster": "c"},
        "status": {"phase": phase, "usable": usable and phase == "Completed", "completedAt": due, "cutAt": due},
    }


def cluster(*schedules):
    """Return a cluster with these schedules."""
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": "n"},
        "spec": {
            "storage": {"backend": "local"},
            "metastore": {"connection": {"host": "db", "database": "d", "credentialsSecret": "s"}},
            "backup": {
                "destination": {"claim": {"name": "backups"}},
                "schedules": [
                    {**each, "keep": {key: value for key, value in each["keep"].items() if value}} for each in schedules
                ],
            },
        },
    }
    found = loading.validator().validate(document)
    assert found.cluster, found.problems
    return found.cluster


def text(time):
    """Return a time as the API server writes it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("cron", "zone", "after", "due"),
    [
        ("0 2 * * *", "Etc/UTC", "2026-11-28T02:00:00Z", "2026-11-29T02:00:00Z"),
        ("0 2 * * *", "Europe/Berlin", "2026-11-28T12:00:00Z", "2026-11-29T01:00:00Z"),
        ("0 2 * * *", "Europe/Berlin", "2026-07-28T12:00:00Z", "2026-07-29T00:00:00Z"),
        # 02:30 does not exist on that night: it is made up for when the hour is over, as Debian's cron does
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
        ("*/15 * * * *", "Etc/UTC", "2026-11-29T00:01:00Z", "2026-11-29T00:15:00Z"),
        ("0 0 29 2 *", "Etc/UTC", "2026-11-29T00:01:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 * * SUN", "Etc/UTC", "2026-11-25T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("0 0 13 * 5", "Etc/UTC", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"),
    ],
)
def test_due_times(cron, zone, after, due):
    """Cron is read in its time zone, with either day enough if both are given."""
    assert next_due(schedule(cron, zone), after) == due


@pytest.mark.parametrize(
    ("cron", "zone", "said"),
    [
        ("0 0 30 2 *", "Etc/UTC", "cannot be read"),
        ("0 0 * * *", "Europe/Nowhere", "there is no time zone 'Europe/Nowhere'"),
        ("50-10 * * * *", "Etc/UTC", "cannot be read"),
    ],
)
def test_schedules_that_name_no_time(cron, zone, said):
    """What has the form of a schedule and means no time is an error that says so, and a condition of the cluster."""
    with pytest.raises(ScheduleError, match=said):
        next_due(schedule(cron, zone), "2026-01-01T00:00:00Z")

    found = plan_backups(cluster(schedule(cron, zone)), {}, [], "2026-01-01T00:00:00Z")
    assert found.conditions[0]["reason"] == "InvalidSchedule"
    assert found.due == ()


def test_a_new_schedule_begins_with_its_next_due_time():
    """What was due before the schedule was known is not caught up."""
    found = look(schedule(), {}, [], "2026-11-29T02:00:30Z", paused=False)

    assert (found.now_due, found.state["next"]) == ("", "2026-11-30T02:00:00Z")


def test_an_immediate_schedule_makes_its_first_backup_at_once():
    """With `immediate` the first one is due when the schedule is first seen, once, and not while it rests."""
    now = schedule("0 2 1 1 *", immediate=True)
    seen = look(now, {}, [], "2026-06-01T12:00:42Z", paused=False)
    assert seen.now_due == "2026-06-01T12:00:00Z"
    assert look(now, {}, [], "2026-06-01T12:00:42Z", paused=True).now_due == ""
    lost = look(now, seen.state, [], "2026-06-01T12:05:00Z", paused=False)
    assert lost.now_due == "2026-06-01T12:05:00Z", "it could not be made, so it is due still"
    made = [backup("2026-06-01T12:00:00Z")]
    after = look(now, seen.state, made, "2026-06-01T12:05:00Z", paused=False)
    assert after.now_due == ""
    assert look(now, after.state, [], "2026-06-01T12:06:00Z", paused=False).now_due == "", "somebody deleted it"


def test_missed_runs_are_caught_up_once():
    """After hours without an operator one backup is made, for the last due time, and no more."""
    known = {"name": "nightly", "since": "2026-11-01T00:00:00Z", "cron": "*/10 * * * * Etc/UTC"}
    every = schedule("*/10 * * * *")
    found = look(every, known, [], "2026-11-29T08:25:00Z", paused=False)
    assert found.now_due == "2026-11-29T08:20:00Z"

    again = look(every, known, [backup("2026-11-29T08:20:00Z")], "2026-11-29T08:25:00Z", paused=False)
    assert again.now_due == ""


def test_what_is_too_late_is_not_caught_up():
    """A due time that lies further back than startingDeadline is let be."""
    known = {"name": "nightly", "since": "2026-11-01T00:00:00Z", "cron": "0 2 * * * Etc/UTC"}

    assert look(schedule(late="30m"), known, [], "2026-11-29T02:30:00Z", paused=False).now_due
    assert not look(schedule(late="30m"), known, [], "2026-11-29T02:31:05Z", paused=False).now_due


def test_a_backup_that_somebody_deleted_is_not_made_again():
    """The due time of the last backup is remembered in the cluster's status."""
    known = {"name": "nightly", "since": "2026-11-01T00:00:00Z", "cron": "0 2 * * * Etc/UTC"}
    known |= {"last": "2026-11-29T02:00:00Z"}

    assert look(schedule(), known, [], "2026-11-29T02:05:00Z", paused=False).now_due == ""


def test_a_backup_under_way_is_not_joined_by_another():
    """While a backup of the schedule is on its way, none is made; it is caught up when that has ended."""
    known = {"name": "nightly", "since": "2026-11-01T00:00:00Z", "cron": "*/5 * * * * Etc/UTC"}
    every = schedule("*/5 * * * *")
    first = backup("2026-11-29T02:00:00Z", "Running")

    assert look(every, known, [first], "2026-11-29T02:07:00Z", paused=False).now_due == ""
    first["status"]["phase"] = "Failed"
    assert look(every, known, [first], "2026-11-29T02:07:00Z", paused=False).now_due == "2026-11-29T02:05:00Z"


@pytest.mark.parametrize("paused", [True, False])
def test_what_was_missed_at_rest_is_not_caught_up(paused):
    """Neither a suspended schedule nor that of a paused cluster makes backups, or makes up for them afterwards."""
    known = {"name": "nightly", "since": "2026-11-01T00:00:00Z", "cron": "0 2 * * * Etc/UTC"}
    rests = look(schedule(suspend=not paused), known, [], "2026-11-29T02:05:00Z", paused=paused)
    assert rests.now_due == ""

    awake = look(schedule(), rests.state, [], "2026-11-29T02:06:00Z", paused=False)
    assert (awake.now_due, awake.state["next"]) == ("", "2026-11-30T02:00:00Z")


def test_a_cluster_without_a_recent_backup_is_overdue():
    """If a due time has no usable backup long after, that is said, with what went wrong; one that is there is fine."""
    made = cluster(schedule())
    known = {"schedules": [{"name": "nightly", "since": "2026-11-01T00:00:00Z", "cron": "0 2 * * * Etc/UTC"}]}
    good = plan_backups(made, known, [backup("2026-11-28T02:00:00Z")], "2026-11-29T03:59:00Z")
    assert good.conditions[0]["status"] == "True"

    bad = [backup("2026-11-28T02:00:00Z"), backup("2026-11-29T02:00:00Z", "Failed")]
    late = plan_backups(made, known, bad, "2026-11-29T04:00:01Z")
    assert late.conditions[0]["reason"] == "BackupOverdue"
    assert late.overdue

    soon = plan_backups(made, known, bad, "2026-11-29T03:00:00Z")
    assert soon.conditions[0]["reason"] == "LastBackupFailed"


# --- retention --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["Completed", "Failed", "Running"]), st.booleans())),
    st.integers(1, 5),
    st.sampled_from([None, "1d", "9d"]),
)
def test_the_newest_usable_backup_never_goes(made, last, age):
    """Whatever there is: the newest usable one stays, only this schedule's go, and no more are kept than asked for."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    backups = [
        backup(text(start + timedelta(days=day)), phase, name=f"b{number}", of="nightly" if mine else "other")
        for number, (day, phase, mine) in enumerate(made)
    ]
    gone = [
        each["metadata"]["name"]
        for each in expired(schedule(last=last, age=age), backups, text(start + timedelta(days=70)))
    ]
    ours = [each for each in backups if each["metadata"]["labels"][SCHEDULE_LABEL] == "nightly"]
    usable = [each for each in ours if each["status"]["usable"]]

    assert {*gone} <= {each["metadata"]["name"] for each in ours if each["status"]["phase"] != "Running"}
    left = [each for each in usable if each["metadata"]["name"] not in gone]
    assert len(left) <= last
    if usable:
        assert max(map(scheduled_at, left)) == max(map(scheduled_at, usable))


@pytest.mark.parametrize(
    ("recovery", "used"),
    [
        ({}, set()),
        ({"phase": "Restoring", "backupUID": "u"}, {"u"}),
        ({"phase": "Restoring", "backupUID": "u", "metastoreBackupUID": "v"}, {"u", "v"}),
        ({"phase": "Recovered", "backupUID": "u", "metastoreBackupUID": "v"}, set()),
    ],
)
def test_a_backup_that_a_cluster_is_made_from_is_in_use(recovery, used):
    """Until a recovery is over, none of its backups is let go of; after that they may be."""
    assert in_use([{"metadata": {"name": "new"}, "status": {"recovery": recovery}}, {"metadata": {}}]) == used


@pytest.mark.parametrize("days", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_days_of_schedules_are_as_calculated_otherwise(days):
    """Days with nights without an operator, failures, and clocks that change: exactly what should be there is.

    The calculation beside it goes by the wall clock, half an hour at a time, and knows nothing of cron.
    """
    chance = random.Random(400)
    zone = ZoneInfo("Europe/Berlin")
    nightly = schedule("30 4 * * *", "Europe/Berlin", last=5, age="9d", late="2h")
    weekly = schedule("0 6 * * 1", "Etc/UTC", last=3, late="24h", name="weekly")
    made = cluster(nightly, weekly)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    away = [(day, chance.randint(0, 9), chance.randint(1, 30)) for day in range(days) if chance.random() < 0.15]
    absent = {
        start + timedelta(days=day, hours=hour, minutes=30 * step)
        for day, hour, hours in away
        for step in range(2 * hours)
    }
    fails = {start + timedelta(days=day) for day in range(days) if chance.random() < 0.2}
    backups, known, runs = [], {}, []
    expected, remembered = {"nightly": [], "weekly": []}, {"nightly": "", "weekly": ""}
    for step in range(days * 24 * 2):
        now = start + timedelta(minutes=30 * step)
        if now in absent:
            continue
        done = plan_backups(made, known, backups, text(now))
        known = done.status
        for each in done.due:
            failed = now.replace(hour=0, minute=0) in fails
            name = each["metadata"]["labels"][SCHEDULE_LABEL]
            due = each["metadata"]["annotations"]["chronik.stream/scheduled-at"]
            runs.append((name, due))
            found = backup(due, "Failed" if failed else "Completed", name=each["metadata"]["name"], of=name)
            found["status"] |= {"cutAt": text(now), "completedAt": text(now)}
            backups.append(found)
        gone = {each["metadata"]["name"] for each in done.expired}
        backups = [each for each in backups if each["metadata"]["name"] not in gone]
        _expect(now, start, zone, expected, remembered, fails)
        # The planner lets go in the pass after the one that made a backup; at the end of a day both have.
        if now.hour == 20 and now.minute == 0:
            there = {
                name: sorted((scheduled_at(each), each["status"]["phase"]) for each in backups if _of(each) == name)
                for name in expected
            }
            assert there == {
                name: sorted((due, phase) for due, phase, _ in found) for name, found in expected.items()
            }, now
    assert len(runs) == len({*runs})
    assert len(runs) > days * 0.8


def _of(each):
    return each["metadata"]["labels"][SCHEDULE_LABEL]


def _expect(now, start, zone, expected, remembered, fails):
    """Do to the expected backups what should happen in the half hour that ends now, by the wall clock alone."""
    local = now.astimezone(zone)
    due = {"nightly": local.replace(hour=4, minute=30), "weekly": now.replace(hour=6, minute=0)}
    late = {"nightly": timedelta(hours=2), "weekly": timedelta(hours=24)}
    for name, first in due.items():
        times = [first - timedelta(days=back) for back in range(3)]
        times = [each for each in times if name == "nightly" or each.astimezone(UTC).weekday() == 0]
        times = [
            each
            for each in times
            if start < each <= now and now - each.astimezone(UTC) <= late[name] + timedelta(seconds=1)
        ]
        if times and text(max(times)) > remembered[name]:
            remembered[name] = text(max(times))
            phase = "Failed" if now.replace(hour=0, minute=0) in fails else "Completed"
            expected[name].append((text(max(times)), phase, now))
    for name, last, age in (("nightly", 5, timedelta(days=9)), ("weekly", 3, None)):
        good = [each for each in expected[name] if each[1] == "Completed"]
        kept = good[-last:]
        kept = [each for each in kept if each is good[-1] or age is None or now - each[2] < age]
        week = [each for each in expected[name] if each[1] == "Failed" and now - each[2] < timedelta(days=7)]
        expected[name] = sorted([*kept, *week])
