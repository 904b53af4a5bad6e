"""What is said of the archive of a metastore, by its Deployment and pod: apart from whether the cluster is ready."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chronik.manifest import COMPONENT_LABEL, ObjectRef
from chronik.offline.loading import load_clusters
from chronik.plan.results import Report
from chronik.status.archive import archive_state
from chronik.status.compute import Observation
from chronik.status.events import Announcement, announcements

EXAMPLES = Path(__file__).parents[2] / "examples"
REF = ObjectRef("Deployment", "streaming", "archived-archive")


def pod(ready="False", **container):
    """Return the pod of a receiver."""
    labels = {COMPONENT_LABEL: "archive"}
    state = {"name": "receiver", "state": {"running": {}}} | container
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [state]}
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "streaming", "labels": labels}, "status": status}


CRASHED = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}


@pytest.mark.parametrize(
    ("objects", "pods", "reason"),
    [
        ({}, [], "Starting"),
        ({REF: {}}, [], "Starting"),
        ({REF: {}}, [pod(started=False)], "Starting"),
        ({REF: {}}, [pod("True", started=True)], "Archiving"),
        ({REF: {}}, [pod(started=True)], "ArchiveBehind"),
        ({REF: {}}, [pod(started=False, state=CRASHED, restartCount=3)], "ArchiveFailed"),
    ],
)
def test_states(objects, pods, reason):
    """A receiver starts, archives, is behind, or cannot run; each but archiving says why."""
    [cluster], _ = load_clusters([str(EXAMPLES / "backup-archive.yaml")])
    found = archive_state(cluster, Observation(objects, pods))

    assert found is not None
    assert found[0] == reason
    assert bool(found[1]) == (reason != "Archiving")


def ended(text):
    """Return what the kubelet keeps of a container that ended with some words."""
    return {"terminated": {"exitCode": 9, "message": text}}


LEFT = {
    "result": "failed",
    "reason": "SlotLeft",
    "message": "chronik_c: the archive is on another server than before, db-2:5432: …",
    "hint": "On db-1:5432: SELECT pg_drop_replication_slot('chronik_c')",
}
TOLD = f"{LEFT['message']}. {LEFT['hint']}"


def test_a_slot_that_is_left_on_another_server_is_told():
    """What the receiver said of it before it went on stands beside its state, and is no reason to worry about that."""
    [cluster], _ = load_clusters([str(EXAMPLES / "backup-archive.yaml")])
    said = ended(json.dumps(LEFT))
    behind, whole = (pod(ready, started=True, lastState=said) for ready in ("False", "True"))
    found = [archive_state(cluster, Observation({REF: {}}, [each])) for each in (behind, whole)]
    other = archive_state(cluster, Observation({REF: {}}, [pod("True", lastState=ended("SlotLeft, or so"))]))

    assert (found[0][0], found[0][1].endswith(TOLD)) == ("ArchiveBehind", True)
    assert found[1] == ("SlotLeft", TOLD)
    assert other == ("Archiving", "")


def test_a_slot_that_is_left_is_an_event_once():
    """It is announced when it is first seen, though the condition is True, and not again."""
    before, after = (
        {"phase": "Running", "conditions": [{"type": "Archiving", "status": "True", "reason": reason, "message": text}]}
        for reason, text in (("Archiving", ""), ("SlotLeft", TOLD))
    )
    (told,) = announcements(Report(()), before, after)

    assert told == Announcement("Warning", "SlotNotDropped", TOLD)
    assert announcements(Report(()), after, after) == []


def test_a_cluster_without_an_archive():
    """Nothing is said of what was not asked for."""
    [cluster], _ = load_clusters([str(EXAMPLES / "backup.yaml")])

    assert archive_state(cluster, Observation({})) is None
