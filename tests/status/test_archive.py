"""What is said of the archive of a metastore, by its Deployment and pod: apart from whether the cluster is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronik.manifest import COMPONENT_LABEL, ObjectRef
from chronik.offline.loading import load_clusters
from chronik.status.archive import archive_state
from chronik.status.compute import Observation

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


def test_a_cluster_without_an_archive():
    """Nothing is said of what was not asked for."""
    [cluster], _ = load_clusters([str(EXAMPLES / "backup.yaml")])

    assert archive_state(cluster, Observation({})) is None
