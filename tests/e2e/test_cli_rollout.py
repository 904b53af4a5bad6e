"""`chronik rollout` against both servers: what it shows, and what it asks the operator for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.cli_place import run
from support.operators import Namespace, small

from chronik.manifest import CLUSTER, ROLLOUT_ANNOTATION, ROLLOUT_NOW_ANNOTATION

PAUSED = {
    "phase": "Paused",
    "candidate": "3f2a91c0",
    "step": 1,
    "of": 2,
    "attempt": 1,
    "message": "until it is promoted",
    "components": [{"name": "ingest", "stable": "c-ingest-1", "updated": 1, "ready": 1, "of": 3}],
}


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a namespace with a cluster `c`."""
    found = Namespace(server, namespace)
    asyncio.run(found.create(small(namespace)))
    return found


def told(place, **rollout):
    """Have the status say this of the canary."""
    path = place.path(CLUSTER, "c", "status")
    asyncio.run(place.call("PATCH", path, {"status": {"rollout": rollout}}, patch="merge", fieldManager="suite"))


def chronik(place, *arguments):
    """Run `chronik rollout` in the namespace."""
    return run("rollout", *arguments, "--kubeconfig", str(place.server.kubeconfig), "-n", place.name)


def asked(place):
    """Return what the operator is asked for."""
    annotations = asyncio.run(place.cluster("c"))["metadata"].get("annotations") or {}
    return annotations.get(ROLLOUT_ANNOTATION)


ASKED = {
    ("promote",): "promote@3f2a91c0/1",
    ("promote", "--full"): "promote@3f2a91c0",
    ("pause",): "pause@3f2a91c0",
    ("resume",): "resume@3f2a91c0",
    ("abort",): "abort@3f2a91c0",
}


def test_requests_name_their_candidate(place):
    """Each request is for the candidate that is under way, and a promotion for its step."""
    told(place, **PAUSED)
    for arguments, wanted in ASKED.items():
        done = chronik(place, *arguments, "c")
        assert (done.code, asked(place)) == (0, wanted), done.err
    told(place, phase="Halted", attempt=2)
    assert chronik(place, "retry", "c").code == 0

    assert asked(place) == "retry@3f2a91c0/2"


def test_what_makes_no_sense_is_refused(place):
    """Nothing is asked for where no canary is under way, or where it is in no state for it."""
    assert chronik(place, "abort", "c").code == 2
    told(place, **PAUSED)
    done = chronik(place, "retry", "c")
    assert (done.code, "is Paused, neither Halted nor Aborted" in done.err) == (2, True)
    told(place, phase="Progressing")
    done = chronik(place, "promote", "c")
    assert (done.code, "is Progressing, and not Paused" in done.err) == (2, True)
    assert chronik(place, "pause", "d").code == 3

    assert asked(place) is None


def test_status(place):
    """The canary is shown step by step, and the exit code is 1 if it failed."""
    assert "no canary" in chronik(place, "status", "c").out
    told(place, **PAUSED)
    done = chronik(place, "status", "c")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{place.name}/c: Paused, step 1 of 2, candidate 3f2a91c0: until it is promoted",
        "  ingest: 1 of 3 pods on it, 1 of them ready",
    ]
    told(place, phase="Aborted", step=0)

    assert chronik(place, "status", "c").code == 1


def test_restarts_begin_now(place):
    """`now` writes up to when restarts may begin, at most seven days ahead, and says if there is no window to open."""
    done = chronik(place, "now", "c", "--for", "2h")
    annotations = asyncio.run(place.cluster("c"))["metadata"]["annotations"]
    until = datetime.fromisoformat(annotations[ROLLOUT_NOW_ANNOTATION])

    assert timedelta(minutes=119) < until - datetime.now(UTC) <= timedelta(hours=2)
    assert done.code == 0
    assert done.out.endswith("; it has no windows, so they always may\n")
    refused = chronik(place, "now", "c", "--for", "169h")
    assert (refused.code, "at most 7 days" in refused.err) == (2, True)


def test_what_waits_for_a_window_is_shown(place):
    """`status` names the workloads whose restart waits, and when their window opens."""
    pending = {"opensAt": "2026-11-30T01:00:00Z", "workloads": ["c-ingest"]}
    path = place.path(CLUSTER, "c", "status")
    asyncio.run(place.call("PATCH", path, {"status": {"pendingRestarts": pending}}, patch="merge"))

    assert "  waits for a window, which opens at 2026-11-30T01:00:00Z: c-ingest" in chronik(place, "status", "c").out


def test_metrics_are_shown(place):
    """`status` has a line for each metric: how it was when it was last asked for."""
    metric = {"name": "errors", "state": "Breached", "value": "0.2", "failures": 1, "at": "2026-11-29T12:00:00Z"}
    told(place, **PAUSED, analysis=[{**metric, "message": "errors is 0.2, more than 0.01"}])

    assert chronik(place, "status", "c").out.splitlines()[2:] == ["  metric errors is 0.2, more than 0.01 (Breached)"]
