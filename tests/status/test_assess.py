from __future__ import annotations

from dataclasses import replace

import pytest

from chronik.errors import FieldConflict, FieldOwner, Forbidden, InvalidObject, PartialFailure, ServerBusy
from chronik.manifest import KindName, ObjectRef
from chronik.plan.actions import (
    Apply,
    Blocked,
    Conflict,
    Create,
    Deferred,
    Foreign,
    GrowClaim,
    Prune,
    Recreate,
    Skip,
    Wait,
    not_installed,
)
from chronik.plan.conflicts import conflict
from chronik.plan.results import Report, Result
from chronik.problem import Problem
from chronik.status.assess import assess, describe_error, invalid, rigid_classes
from chronik.status.compute import condition
from chronik.status.events import announcements

REF = ObjectRef("Service", "ns", "c-ingest")
OTHER = ObjectRef("StatefulSet", "ns", "c-controller")
NEIGHBOUR = ObjectRef("ChronikCluster", "ns", "d")
OWNER = FieldOwner(".spec.type", "mesh")


def report(*results):
    """Return a report of actions and what became of them."""
    return Report(tuple(Result(action, outcome, error=error) for action, outcome, error in results))


def failed(error):
    """Return the result of a create that an error ended."""
    return Create(ref=REF, manifest={}), "failed", error


FOREIGN = (Foreign(ref=REF, reason="is somebody else's", hint="Delete it."), "foreign", None)
CONFLICT = (Conflict(ref=REF, reason="in conflict", owners=(OWNER,), changes=()), "conflict", None)
STUCK = (Blocked(ref=REF, reason="cannot be changed"), "blocked", None)
ORDERED = (Blocked(ref=REF, by=OTHER, reason=f"waits for {OTHER}"), "blocked", None)
NEXT = (Blocked(ref=OTHER, by=NEIGHBOUR, reason=f"waits for {NEIGHBOUR}"), "blocked", None)
WAITS = (Wait(ref=REF, reason="is being deleted"), "waiting", None)
BUSY, REFUSED = failed(ServerBusy("busy")), failed(InvalidObject("will not do"))
UNKNOWN = failed(PartialFailure("odd"))
FINE = (Skip(ref=REF), "unchanged", None)

VERDICTS = {
    "nothing": ([FINE], None, None, None),
    "foreign": ([FOREIGN], "ResourceConflict", None, "transient"),
    "conflict": ([CONFLICT], "FieldConflict", None, "permanent"),
    "immutable": ([STUCK], "ImmutableField", None, "permanent"),
    "refused": ([REFUSED], "InvalidObject", None, "permanent"),
    "foreign first": ([REFUSED, CONFLICT, FOREIGN], "ResourceConflict", None, "transient"),
    "failure before waiting": ([BUSY, REFUSED], "InvalidObject", None, "permanent"),
    "busy": ([BUSY], None, "ApiServerBusy", "transient"),
    "unknown": ([BUSY, UNKNOWN], None, "ApiServerBusy", "unknown"),
    "in order": ([ORDERED], None, "Waiting", None),
    "being deleted": ([WAITS], None, "Waiting", None),
    "after other clusters": ([NEXT, NEXT], None, "WaitingForTurn", None),
    "after other clusters, and in order": ([NEXT, ORDERED], None, "Waiting", None),
    "after other clusters, and being deleted": ([WAITS, NEXT], None, "Waiting", None),
}


@pytest.mark.parametrize("case", VERDICTS, ids=str)
def test_verdicts(case):
    """What a pass amounts to, and when to try again: what an event tells of needs no time."""
    results, failure, waiting, retry = VERDICTS[case]
    found = assess(report(*results))

    assert (found.failure and found.failure.reason, found.waiting and found.waiting.reason) == (failure, waiting)
    assert found.retry == retry


def test_messages_name_what_and_what_to_do():
    """A message says which object, what is wrong, and what to do; many are cut short, and the same told once."""
    many = [(replace(FOREIGN[0], ref=REF._replace(name=f"s{number}")), "foreign", None) for number in range(5)]

    assert assess(report(FOREIGN)).failure.message == "Service/ns/c-ingest is somebody else's. Delete it."
    assert assess(report(*many)).failure.message.endswith(" Delete it. (and 2 more)")
    assert assess(report(BUSY, BUSY)).waiting.message == "busy"


def test_conflicts_are_told_in_sentences():
    """A conflict names fields and managers, and what to do about it is something that can be done with an operator."""
    one = conflict(REF, (OWNER,), (), operated=True)
    two = conflict(REF, (OWNER, FieldOwner(".spec.ports", "flux")), (), operated=True)

    both = "Remove them from the configuration of flux and mesh, or have flux and mesh give them up."

    assert [assess(report((each, "conflict", None))).failure.message for each in (one, two)] == [
        f"{REF}: spec.type is held by mesh. Remove it from the configuration of mesh, or have mesh give it up.",
        f"{REF}: spec.ports, spec.type are held by flux and mesh. {both}",
    ]


GIVE_UP = "Remove these fields from the configuration of their managers, or have those give them up."
ERRORS = {
    "message": (InvalidObject("will not do"), "will not do"),
    "hint": (InvalidObject("will not do", subject="x", hint="Ask for less."), "x: will not do. Ask for less."),
    "sentence": (InvalidObject("It will not.", hint="Ask for less."), "It will not. Ask for less."),
    "details": (InvalidObject("it refuses:\n  a: b\n  c: d", hint="Ask."), "it refuses: a: b; c: d. Ask."),
    "conflict": (
        FieldConflict("others own fields:\n  .spec.x: mesh (apply)", hint="Take them with --force-conflicts."),
        f"others own fields: .spec.x: mesh (apply). {GIVE_UP}",
    ),
}


@pytest.mark.parametrize("case", ERRORS, ids=str)
def test_errors_are_told_in_sentences(case):
    """An error becomes one line: what it is about, what is wrong, and what to do, with a stop in between."""
    error, told = ERRORS[case]

    assert describe_error(error) == (error.reason, told)


HELD = (Deferred(ref=OTHER, code="StorageShrink", reason="never shrinks", hint="Ask for more."), "held", None)
NO_KIND = not_installed(OTHER, KindName("example.com/v1", "Gadget"))
CONDITIONS = {
    "conflict": ([CONFLICT], {}, "FieldConflict", "True", f"{REF}: spec.type is held by mesh"),
    "kinds": (
        [(NO_KIND, "not-installed", None)],
        {},
        "KindsInstalled",
        "False",
        f"the cluster does not know the kind Gadget (example.com/v1), for {OTHER}. Made as soon as",
    ),
    "held": ([HELD], {}, "StorageResizable", "False", f"{OTHER}: never shrinks. Ask for more."),
    "settled": ([(Skip(ref=REF, why="settled"), "settled", None)], {}, "ApplyFlapping", "True", str(REF)),
    "paused": ([], {"paused": True}, "Paused", "True", "chronik.stream/paused"),
    "secrets": ([], {"missing": {OTHER: ("s", "t")}}, "SecretsAvailable", "False", f"{OTHER} needs Secret s, t"),
    "warnings": (
        [],
        {"warnings": [Problem("warning", "x", ("spec",), "unwise")]},
        "SpecWarnings",
        "True",
        "spec: unwise",
    ),
}


@pytest.mark.parametrize("case", CONDITIONS, ids=str)
def test_conditions(case):
    """What should be known, but stops nothing, is a condition; without it there is none."""
    results, more, kind, status, message = CONDITIONS[case]
    (found,) = assess(report(*results), **more).conditions

    assert (found["type"], found["status"]) == (kind, status)
    assert message in found["message"]
    assert assess(report(FINE)).conditions == ()


def test_a_held_volume_is_no_failure():
    """Volumes that cannot be resized leave the verdict good."""
    found = assess(report(HELD))

    assert (found.failure, found.waiting, found.retry) == (None, None, None)


def test_every_error_is_told():
    """The message of a spec in error has all its errors, with their places, and no warning."""
    problems = [
        Problem("error", "x", ("spec", "controllers"), "must be at least 1"),
        Problem("warning", "x", ("spec",), "is unwise"),
        Problem("error", "x", (), "cannot be read"),
    ]

    assert invalid(problems) == ("InvalidSpec", "spec.controllers: must be at least 1; cannot be read")


CLAIM = {"metadata": {"name": "data-0"}, "spec": {"storageClassName": "rigid"}}
GROW = GrowClaim(
    ref=ObjectRef("PersistentVolumeClaim", "ns", "data-0"), storage="2Gi", was="1Gi", uid="u", resource_version="1"
)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("only dynamically provisioned pvc can be resized and the storageclass must support resize", {"rigid"}),
        ("may not patch persistentvolumeclaims", set()),
    ],
    ids=["class", "rights"],
)
def test_classes_that_do_not_expand(message, found):
    """That a class expands no volumes is told from missing rights by the server's words."""
    assert rigid_classes(report((GROW, "failed", Forbidden(message))), [CLAIM]) == found


# --- Events -----------------------------------------------------------------------------------------------------------


def status(phase, *conditions, ready="y"):
    """Return a status."""
    return {"phase": phase, "conditions": [condition("Ready", met=True, reason="R", message=ready), *conditions]}


def test_phases_are_announced():
    """A new phase is an Event, a failure a warning with its reason; the same phase again is none."""
    assert announcements(report(), status("Running"), status("Running")) == []
    assert announcements(report(), {}, status("Creating")) == [("Normal", "Creating", "y")]
    assert announcements(report(), status("Running"), status("Failed")) == [("Warning", "R", "y")]


BAD = {
    "Paused": ("Normal", True),
    "FieldConflict": ("Warning", True),
    "ApplyFlapping": ("Warning", True),
    "SpecWarnings": ("Warning", True),
    "StorageResizable": ("Warning", False),
    "KindsInstalled": ("Warning", False),
    "SecretsAvailable": ("Warning", False),
}


@pytest.mark.parametrize("kind", BAD, ids=str)
def test_conditions_are_announced(kind):
    """A condition that has turned bad, or says something else, is an Event, once."""
    level, met = BAD[kind]
    bad = status("Running", condition(kind, met=met, reason="Why", message="m"))
    worse = status("Running", condition(kind, met=met, reason="Why", message="n"))

    assert announcements(report(), status("Running"), bad) == [(level, "Why", "m")]
    assert announcements(report(), bad, bad) == []
    assert announcements(report(), bad, worse) == [(level, "Why", "n")]
    assert announcements(report(), bad, status("Running")) == []


APPLY = Apply(ref=REF, manifest={}, changes=(), uid="u", resource_version="1")
RECREATE = Recreate(
    ref=REF, reason="its volumes grow", manifest={}, propagation="Orphan", changes=(), uid="u", resource_version="1"
)
SCALED = FieldOwner(".spec.replicas", "kube-controller-manager", "Update", "scale")
HANDED = FieldOwner(".spec.replicas", "chronik-operator-replicas")
DEEDS = {
    "quiet": (APPLY, "changed", None),
    "taken": (replace(APPLY, takes=(OWNER,)), "changed", ("Warning", "FieldsTakenBack")),
    "asked back": (replace(APPLY, takes=(SCALED, HANDED)), "changed", None),
    "never asked": (replace(APPLY, takes=(SCALED,)), "changed", ("Warning", "FieldsTakenBack")),
    "recreated": (RECREATE, "recreated", ("Normal", "Recreated")),
    "grown": (GROW, "grown", ("Normal", "VolumeGrows")),
    "pruned": (Prune(ref=REF, uid="u", resource_version="1"), "pruned", ("Normal", "Pruned")),
}


@pytest.mark.parametrize("case", DEEDS, ids=str)
def test_deeds_are_announced(case):
    """What a person would want to know of was done is an Event that names the object."""
    action, outcome, expected = DEEDS[case]
    told = announcements(report((action, outcome, None)), status("Running"), status("Running"))

    assert [each[:2] for each in told] == ([expected] if expected else [])
    assert all(str(action.ref) in each.note for each in told)
