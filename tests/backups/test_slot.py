"""What is done about the replication slot of an archive that was switched off."""

from __future__ import annotations

import pytest

from chronik.backups.archiving.slot import (
    END,
    by_hand,
    is_elsewhere,
    plan_move,
    plan_slot,
    slot_job,
    slot_left,
    slot_of,
)
from chronik.offline import loading

SLOT = "chronik_c_12345678"
DOCUMENT = {"metadata": {"name": "c", "namespace": "n", "uid": "uid-c", "generation": 2}}


def workload(name="c-archive", args=("backup", "receive", f"--slot={SLOT}"), **metadata):
    """Return a Deployment of a receiver, or a Job."""
    container = {
        "name": "receiver",
        "image": "chronik/backup:1",
        "args": [*args],
        "env": [{"name": "PGHOST", "value": "old-server"}],
        "volumeMounts": [{"name": "temp", "mountPath": "/tmp"}],  # a path in a container
    }
    sidecar = {"name": "sidecar", "image": "theirs", "args": ["--slot=theirs"]}
    pod = {"containers": [container, sidecar], "volumes": [{"name": "temp", "emptyDir": {}}]}
    return {"metadata": {"name": name, "uid": f"uid-{name}", **metadata}, "spec": {"template": {"spec": pod}}}


def job(*conditions, **metadata):
    """Return the Job that drops the slot, with conditions that are True."""
    found = workload("c-archive-end", ("backup", "drop-slot", f"--slot={SLOT}"), **metadata)
    return found | {"status": {"conditions": [{"type": each, "status": "True"} for each in conditions]}}


FAILED = {"result": "failed", "message": "no such user", "hint": "Correct it."}


GONE = job("Complete", deletionTimestamp="now")
CASES = [  # wanted, the receiver, the Job, what that said: what is made, how many are removed, the reason, and the rest
    ((False, None, None, None), (False, 0, None, "")),
    ((False, workload(), None, None), (True, 0, "DroppingSlot", "waits")),
    ((False, None, job(), None), (False, 0, "DroppingSlot", "waits")),
    ((False, None, job(), FAILED), (False, 0, "SlotNotDropped", "waits")),
    ((False, None, job("Failed"), None), (False, 0, "SlotNotDropped", "waits")),
    ((False, None, job("Complete"), {"result": "ok"}), (False, 1, None, "")),
    ((False, workload(), job("Complete"), {"result": "ok"}), (False, 1, "DroppingSlot", "waits")),
    ((False, None, GONE, None), (False, 0, None, "")),
    ((True, workload(), None, None), (False, 0, None, "")),
    ((True, None, job(), None), (False, 1, None, "holds")),
    ((True, None, GONE, None), (False, 0, None, "holds")),
]


@pytest.mark.parametrize(("there", "planned"), CASES)
def test_a_slot_is_dropped_when_its_archive_has_ended(there, planned):
    """A Job is made while the receiver is there, told until it has ended well, and gone before another archive."""
    wanted, *seen = there
    plan = plan_slot(*seen, wanted=wanted)
    make, removes, reason, rest = planned

    assert (plan.make, len(plan.removes), plan.waits, plan.holds) == (make, removes, bool(rest), rest == "holds")
    assert [each["reason"] for each in plan.conditions] == ([reason] if reason else [])
    assert all(SLOT in each["message"] for each in plan.conditions)


NOW, EARLIER, LONG_AGO = "2026-11-29T02:02:00Z", "2026-11-29T02:01:00Z", "2026-11-29T02:00:00Z"
MOVES = [  # the receiver on the old server, the Job, what that said: what is made, what is removed, and the reason
    ((workload(), None, None), (True, 0, "DroppingSlot")),
    ((workload(), job(creationTimestamp=LONG_AGO), None), (False, 0, "DroppingSlot")),
    ((None, job(creationTimestamp=EARLIER), None), (False, 0, "DroppingSlot")),
    ((None, job(creationTimestamp=EARLIER), FAILED), (False, 0, "SlotNotDropped")),
    ((None, job("Complete", creationTimestamp=LONG_AGO), {"result": "ok"}), (False, 1, None)),
    ((None, job(creationTimestamp=LONG_AGO), FAILED), (False, 1, None)),
]


@pytest.mark.parametrize(("there", "planned"), MOVES)
def test_a_slot_is_dropped_where_the_archive_was_before(there, planned):
    """A Job is made of the old receiver; none starts on the new server before it has ended, or two minutes are over."""
    plan, given_up = plan_move(*there, NOW)
    make, removes, reason = planned

    assert (plan.make, len(plan.removes), plan.holds, plan.waits) == (make, removes, True, True)
    assert [each["reason"] for each in plan.conditions] == ([reason] if reason else [])
    assert all(f"{SLOT} on old-server" in each["message"] for each in plan.conditions)
    gives_up = there[2] is FAILED and not reason
    assert (f"on old-server, SELECT pg_drop_replication_slot('{SLOT}')" in given_up) is gives_up
    assert bool(given_up) is gives_up


def reading(**variables):
    """Return a receiver with variables."""
    found = workload()
    texts = [{"name": key, "value": value} for key, value in variables.items() if not key.startswith("CHRONIK")]
    refs = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": value, "key": "url"}}}
        for key, value in variables.items()
        if key.startswith("CHRONIK")
    ]
    found["spec"]["template"]["spec"]["containers"][0]["env"] = [*texts, *refs]
    return found


HERE = {"PGHOST": "db", "PGPORT": "5432", "PGDATABASE": "d"}


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        (HERE, HERE, False),
        (HERE, HERE | {"PGDATABASE": "other", "PGSSLMODE": "require"}, False),
        (HERE, HERE | {"PGHOST": "db-2"}, True),
        (HERE, HERE | {"PGPORT": "5433"}, True),
        (HERE, {"CHRONIK_DATABASE_URL": "pg-url"}, True),
        ({"CHRONIK_DATABASE_URL": "pg-url"}, {"CHRONIK_DATABASE_URL": "pg-url"}, False),
        ({"CHRONIK_DATABASE_URL": "pg-url"}, {"CHRONIK_DATABASE_URL": "other"}, True),
    ],
)
def test_an_archive_moves_with_its_server(before, now, moved):
    """Host, port, or the Secret with the URL make another server; another database of it does not."""
    assert is_elsewhere(reading(**before), reading(**now)) is moved
    assert not is_elsewhere(None, reading(**now))


@pytest.mark.parametrize(
    ("wanted", "outcome", "said"),
    [
        (reading(**HERE), "changed", ""),
        (reading(**HERE | {"PGHOST": "db-2"}), "changed", "goes on at db-2"),
        (reading(**HERE | {"PGHOST": "db-2"}), "failed", ""),
        (None, "pruned", "ends"),
        (None, "orphaned", ""),
    ],
)
def test_without_an_operator_the_slot_that_stays_is_told(wanted, outcome, said):
    """A receiver that was sent to another server, or is gone, leaves its slot: where, and what drops it, is told."""
    text = slot_left(reading(**HERE), wanted, outcome)

    assert bool(text) is bool(said)
    assert not said or f"the archive of the metastore {said}, and its replication slot {SLOT} stays on db" in text
    assert not said or text.endswith(f"Once the receiver is gone, on db: SELECT pg_drop_replication_slot('{SLOT}')")
    assert slot_left(None, wanted, outcome) == ""


def test_what_keeps_a_slot_is_said_with_what_to_do():
    """A Job that fails is told in its own words; one that has given up says the statement for the server too."""
    [tried] = plan_slot(None, job(), FAILED, wanted=False).conditions
    [given_up] = plan_slot(None, job("Failed"), FAILED, wanted=False).conditions

    assert "was not dropped: no such user Correct it. It is tried again." in tried["message"]
    assert f"SELECT pg_drop_replication_slot('{SLOT}'), and then delete Job c-archive-end" in given_up["message"]
    assert by_hand(job()) == f"SELECT pg_drop_replication_slot('{SLOT}')"


def test_the_job_runs_with_what_the_receiver_ran_with():
    """Its image, variables and volumes are the live receiver's: the spec may name another server by now."""
    made = slot_job(workload(), DOCUMENT, f"c-{END}", loading.template_renderer())

    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert slot_of(made) == SLOT
    assert container["args"] == ["backup", "drop-slot", f"--slot={SLOT}"]
    assert (container["image"], container["env"]) == ("chronik/backup:1", [{"name": "PGHOST", "value": "old-server"}])
    assert made["spec"]["template"]["spec"]["volumes"] == [{"name": "temp", "emptyDir": {}}]
    assert made["metadata"]["ownerReferences"][0] == {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "name": "c",
        "uid": "uid-c",
        "controller": True,
        "blockOwnerDeletion": True,
    }
