"""`chronik replication status` against both servers, for clusters with an operator and without one."""

from __future__ import annotations

from typing import Any

import pytest
from support.cli_place import Place, run

EAST = {"name": "east", "bootstrapServers": ["east:9092"], "topics": {"include": ["orders"]}}
SOUTH = {"name": "south", "bootstrapServers": ["south:9092"], "topics": {"include": ["orders"]}, "paused": True}
BOTH = {"replication": {"sources": [EAST, SOUTH]}}


@pytest.fixture
def place(server, namespace, tmp_path) -> Place:
    """Return a fresh namespace."""
    return Place(server, namespace, tmp_path)


def status(place: Place, *arguments: str) -> Any:
    """Run the command in the namespace."""
    return run("replication", "status", *place.flags(), "-n", place.namespace, *arguments)


def pod(place: Place, *, probe: bool) -> None:
    """Play a pod of the mirror of east whose source is there; say whether its copy is not too far behind."""
    template = place.call("GET", "Deployment", "c-mirror-east").body["spec"]["template"]
    name = "c-mirror-east-x"
    metadata = {"name": name, "namespace": place.namespace, "labels": template["metadata"]["labels"]}
    spec = {"containers": [{"name": each, "image": "x"} for each in ("mirror", "probe")]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    assert place.call("PATCH", "Pod", name, whole, fieldManager="x", force=True).code in {200, 201}
    containers = [
        {"name": each, "ready": ready, "started": True, "image": "x", "imageID": "x", "restartCount": 0}
        for each, ready in (("mirror", True), ("probe", probe))
    ]
    conditions = [{"type": "Ready", "status": str(probe)}]
    said = {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": containers}}
    assert place.call("PATCH", "Pod", f"{name}/status", said, patch="merge").code == 200


@pytest.mark.parametrize("operated", [True, False], ids=["operator", "applied"])
def test_mirrors_are_shown(place, operated):
    """Each mirror is a line with its state, and the exit code says whether all that are not paused replicate."""
    if operated:
        place.operate(**BOTH)
    else:
        assert place.apply(**BOTH).code == 0
    pod(place, probe=False)
    behind = status(place, "c")
    pod(place, probe=True)
    follows = status(place, "c", "-o", "json")

    assert [line.split()[1:5] for line in behind.out.splitlines()] == [
        ["CLUSTER", "SOURCE", "STATE", "PODS"],
        ["c", "east", "Lagging", "0/2"],
        ["c", "south", "Paused", "0/0"],
    ]
    assert (behind.code, behind.err) == (1, "")
    (cluster,) = follows.json["clusters"]
    assert [(each["source"], each["state"], each["ready"]) for each in cluster["mirrors"]] == [
        ("east", "Replicating", 1),
        ("south", "Paused", 0),
    ]
    assert follows.code == 0


def test_a_cluster_without_mirrors(place):
    """A cluster that copies from nobody has nothing to show, and one that does not exist is an error."""
    assert place.apply().code == 0
    plain, missing = status(place, "c"), status(place, "nobody")

    assert (plain.code, plain.out) == (1, "")
    assert plain.err == f"no mirrors in {place.namespace}/c: they come from spec.replication of a ChronikCluster\n"
    assert missing.code == 3
    assert f"{place.namespace}/nobody: there is no such cluster" in missing.err


def test_a_cluster_is_ready_without_its_mirrors(place):
    """`apply --wait` waits for the cluster's own workloads, and for no mirror."""
    assert place.apply(**BOTH).code == 0
    for ref in place.live():
        if ref.kind in {"StatefulSet", "Deployment"} and "mirror" not in ref.name:
            _finish(place, ref.kind, ref.name)
    for name in ("c-mirror-east-pdb", "c-mirror-south-pdb"):
        assert place.call("GET", "PodDisruptionBudget", name).code == 200

    assert place.apply("--wait", "--timeout", "20s", **BOTH).code == 0


def _finish(place: Place, kind: str, name: str) -> None:
    live = place.call("GET", kind, name).body
    count, generation = live["spec"].get("replicas", 1), live["metadata"]["generation"]
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    revisions = {"currentRevision": "r", "updateRevision": "r"} if kind == "StatefulSet" else {}
    said = {"status": {"observedGeneration": generation, **counts, **revisions}}
    assert place.call("PATCH", kind, f"{name}/status", said, patch="merge").code == 200
