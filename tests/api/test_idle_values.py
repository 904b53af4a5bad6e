"""What has the right form and means nothing is warned of, and is no error."""

from __future__ import annotations

import pytest

from chronik.offline import loading


def warnings_of(**spec):
    """Return the warnings about idle values of a small cluster with these sections: place, message and hint."""
    connection = {"host": "db", "database": "d", "credentialsSecret": "s"}
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c"},
        "spec": {"storage": {"backend": "local"}, "metastore": {"connection": connection}, **spec},
    }
    found = loading.validator().validate(document)
    assert found.cluster
    codes = {"window-time-zone", "schedule-time-zone", "schedule-never", "replication-expression", "query-placeholder"}
    return [
        (each.path[-3:], each.message, each.hint)
        for each in found.problems
        if each.code in codes and each.severity == "warning"
    ]


def backups(**schedule):
    """Return a section backup with one schedule."""
    destination = {"s3": {"bucket": "acme", "region": "eu"}}
    return {"destination": destination, "schedules": [{"name": "nightly", "cron": "0 2 * * *", **schedule}]}


@pytest.mark.parametrize(
    "cron", ["0 2 31 2 *", "0 2 30,31 FEB *", "0 2 31 4,6,9,11 *", "0 2 30-31 02 *", "0 2 31 JUN *"]
)
def test_a_schedule_of_a_day_that_no_month_has(cron):
    """A schedule that never means a time is warned of: no backup would be made, and nobody would miss it at once."""
    told = "no backup is ever made, since none of its months has such a day"
    assert warnings_of(backup=backups(cron=cron)) == [
        ((("schedules", 0, "cron")), told, "Write a day that the month has, such as 28.")
    ]


@pytest.mark.parametrize(
    "cron", ["0 2 29 2 *", "0 2 31 2,3 *", "0 2 31 2 1", "0 2 31 * *", "0 2 31 2-3 *", "0 2 30 4 *"]
)
def test_a_schedule_that_comes_now_and_then(cron):
    """A day that one of the months has, or a day of the week beside it, is a time."""
    assert warnings_of(backup=backups(cron=cron)) == []


def test_time_zones_of_no_name():
    """Windows and schedules with a time zone that this machine does not know are warned of."""
    rollout = {"windows": [{"schedule": "0 2 * * *", "duration": "1h", "timeZone": "Europe/Berln"}]}
    hint = "Write a name of the IANA database, such as Europe/Berlin."
    assert warnings_of(rollout=rollout, backup=backups(timeZone="CEST")) == [
        (("windows", 0, "timeZone"), "no time zone is called Europe/Berln here, so this window may never open", hint),
        (("schedules", 0, "timeZone"), "no time zone is called CEST here, so no backup may ever be made", hint),
    ]


def test_expressions_that_cannot_be_read():
    """An expression for topics or groups that is none is warned of, since a mirror with it does not start."""
    source = {
        "name": "east",
        "bootstrapServers": ["east:9092"],
        "topics": {"include": ["orders.*", "orders.("]},
        "groups": {"include": ["*"]},
    }
    assert [(place, message) for place, message, _ in warnings_of(replication={"sources": [source]})] == [
        (
            ("topics", "include", 1),
            "orders.( is no regular expression that can be read here: missing ), unterminated subpattern at position 7",
        ),
        (("groups", "include", 0), "* is no regular expression that can be read here: nothing to repeat at position 0"),
    ]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ('up{pod=~"$canary|$stable", cluster="$cluster", namespace="$namespace", job=~"a$"}', []),
        ('up{pod=~"$canry"}', [("$canry stands for nothing in a query", "Did you mean $canary?")]),
        (
            'up{pod=~"$POD_NAME"}',
            [("$POD_NAME stands for nothing in a query", "There are $canary, $stable, $cluster, $namespace.")],
        ),
    ],
)
def test_placeholders_of_queries(query, told):
    """A word after a dollar sign that nothing is put in the place of is warned of; a dollar at the end is an anchor."""
    analysis = {"metrics": [{"name": "errors", "query": query, "max": "1"}]}
    canary = {"steps": [{"pods": 1}], "analysis": analysis}
    found = warnings_of(rollout={"strategy": "Canary", "canary": canary})

    assert [(message, hint) for _, message, hint in found] == told
