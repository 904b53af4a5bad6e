"""`chronik rollout` against both servers: what it shows, and what it asks the operator for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.cli_place import run
from support.operators import Namespace, small

from chronik.manifest import CLUSTER, REVISION, ROLLOUT_ANNOTATION, ROLLOUT_NOW_ANNOTATION
from chronik.rollout.history import kept_spec

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
    assert chronik(place, "status", "c").out == f"{place.name}/c: no canary: spec.rollout asks for none\n"
    told(place, **PAUSED)
    done = chronik(place, "status", "c")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{place.name}/c: Paused, step 1 of 2, candidate 3f2a91c0: until it is promoted",
        "  ingest: 1 of 3 pods on it, 1 of them ready",
    ]
    told(place, phase="Aborted", step=0)

    assert chronik(place, "status", "c").code == 1


def test_programs_get_a_report(place):
    """With -o json a status is as the operator has written it, and a request is named; errors are reports, too."""
    untold = chronik(place, "status", "c", "-o", "json").json["clusters"][0]
    told(place, **PAUSED)
    shown, asked_for = chronik(place, "status", "c", "-o", "json"), chronik(place, "promote", "c", "-o", "json")
    refused, missing = chronik(place, "retry", "c", "-o", "json"), chronik(place, "pause", "d", "-o", "json")
    begun = chronik(place, "now", "c", "-o", "json").json["clusters"][0]

    assert untold == {
        "namespace": place.name,
        "name": "c",
        "generation": 1,
        "observedGeneration": None,
        "rollout": None,
        "pendingRestarts": None,
    }
    assert shown.json["clusters"][0]["rollout"] == PAUSED
    assert asked_for.json == {"clusters": [{"namespace": place.name, "name": "c", "request": "promote@3f2a91c0/1"}]}
    assert datetime.fromisoformat(begun["until"]) > datetime.now(UTC)
    assert (refused.code, missing.code) == (2, 3)
    assert refused.json["error"]["message"] == "is Paused, neither Halted nor Aborted"
    assert missing.json["error"]["reason"] == "NotFound"


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


# --- history and undo -------------------------------------------------------------------------------------------------


def kept(place, generation, **spec):
    """Keep a spec, as the operator does once all pods have run it; return its digest."""
    document = asyncio.run(place.cluster("c"))
    document["spec"] |= spec
    document["metadata"]["generation"] = generation
    manifest = kept_spec(document)
    asyncio.run(place.call("PATCH", place.path(REVISION, manifest["metadata"]["name"]), manifest, fieldManager="suite"))
    return manifest["metadata"]["name"].rpartition("-")[2]


def test_undo(place):
    """An undo gives the document the newest other spec back that was kept, or the one that is named."""
    done = chronik(place, "undo", "c")
    assert (done.code, "no spec is kept yet" in done.err) == (2, True)
    first = kept(place, 1, controllers=5, podAnnotations={"a": "b"})
    second = kept(place, 2, controllers=3)
    kept(place, 3)
    before = asyncio.run(place.cluster("c"))["spec"]
    lines = chronik(place, "history", "c").out.splitlines()
    assert [line.split()[2] for line in lines] == ["3", "2", "1"]
    assert "as the document is now" in lines[0]
    entries = chronik(place, "history", "c", "-o", "json").json["clusters"][0]["history"]
    assert [(each["generation"], each["current"], each["spec"]["controllers"]) for each in entries] == [
        (3, True, 1),
        (2, False, 3),
        (1, False, 5),
    ]
    assert [each["digest"] for each in entries[1:]] == [second, first]
    wanted = chronik(place, "undo", "c", "--print", "-o", "json").json["clusters"][0]
    assert (wanted["digest"], wanted["document"]["spec"]["controllers"]) == (second, 3)
    printed = chronik(place, "undo", "c", "--print")
    assert "controllers: 3" in printed.out
    assert asyncio.run(place.cluster("c"))["spec"] == before
    assert chronik(place, "undo", "c").code == 0
    assert asyncio.run(place.cluster("c"))["spec"]["controllers"] == 3
    assert chronik(place, "undo", "c", "--to", first).code == 0
    assert asyncio.run(place.cluster("c"))["spec"]["podAnnotations"] == {"a": "b"}
    assert chronik(place, "undo", "c", "--to", second).code == 0
    assert not asyncio.run(place.cluster("c"))["spec"]["podAnnotations"]
    done = chronik(place, "undo", "c", "--to", "00000000")
    assert (done.code, first in done.err) == (2, True)


def test_undo_leaves_what_git_brings(place):
    """A spec that Argo CD applies is not changed, and the way by a commit is named; its document is still printed."""
    kept(place, 1, controllers=5)
    document = small(place.name)
    asyncio.run(place.call("PATCH", place.path(CLUSTER, "c"), document, fieldManager="argocd-controller", force="true"))
    done = chronik(place, "undo", "c")
    assert (done.code, "Argo CD brings its spec from Git" in done.err, "Revert the commit" in done.err) == (
        2,
        True,
        True,
    )
    assert "controllers: 5" in chronik(place, "undo", "c", "--print").out
    assert asyncio.run(place.cluster("c"))["spec"]["controllers"] == 1


CODES = {
    0: {"phase": "Complete", "candidate": "3f2a91c0"},
    1: {"phase": "Halted"},
    6: {"phase": "Paused", "message": "until 2026-01-01T12:10:00Z"},
    7: {"phase": "Paused", "message": "until it is promoted"},
}


def test_status_waits(place):
    """With --wait the exit code says whether a canary is through, has failed, is not yet so far, or wants a person."""
    generation = asyncio.run(place.cluster("c"))["metadata"]["generation"]
    for code, rollout in CODES.items():
        path = place.path(CLUSTER, "c", "status")
        status = {"observedGeneration": generation, "rollout": {**PAUSED, **rollout}}
        asyncio.run(place.call("PATCH", path, {"status": status}, patch="merge", fieldManager="suite"))
        assert chronik(place, "status", "c", "--wait", "--timeout", "1s").code == code


def test_status_without_a_canary(place):
    """Where a canary is asked for and none is under way it says so, and if the operator lacks the feature, that."""
    steps = {"strategy": "Canary", "canary": {"steps": [{"pods": 1}]}}
    asyncio.run(place.call("PATCH", place.path(CLUSTER, "c"), {"spec": {"rollout": steps}}, patch="merge"))
    begun = "no operator has seen one yet; a change of its pods begins one"
    assert chronik(place, "status", "c").out == f"{place.name}/c: no canary: {begun}\n"
    lacks = {"type": "Reconciling", "status": "True", "reason": "FeatureMissing", "message": "A canary needs a feature"}
    status = {"conditions": [lacks | {"lastTransitionTime": "2026-11-29T09:00:00Z"}]}
    path = place.path(CLUSTER, "c", "status")
    asyncio.run(place.call("PATCH", path, {"status": status}, patch="merge", fieldManager="suite"))

    assert chronik(place, "status", "c").out == f"{place.name}/c: no canary: A canary needs a feature\n"


def test_a_document_that_no_operator_has_looked_at(place):
    """What is told of an earlier document is marked as such, and a wait that ends in time says what it waited for."""
    path = place.path(CLUSTER, "c", "status")
    seen = {"observedGeneration": 1, "rollout": {**PAUSED, "phase": "Complete"}}
    asyncio.run(place.call("PATCH", path, {"status": seen}, patch="merge", fieldManager="suite"))
    asyncio.run(place.call("PATCH", place.path(CLUSTER, "c"), {"spec": {"ingestNodes": 5}}, patch="merge"))
    done = chronik(place, "status", "c", "--wait", "--timeout", "1s")

    assert done.code == 6
    assert "  the document has changed since, and no operator has looked at it yet" in done.out.splitlines()
    assert done.err.splitlines()[-2:] == [f"error: {place.name}/c: not through in 1 s", "  Does its operator run?"]


def test_a_wait_tells_how_far_it_is(place, monkeypatch):
    """While `--wait` waits, it tells where the canary stands at each look, which a terminal shows."""
    shown = []
    monkeypatch.setattr("chronik.cli.progress.Progress.tells", lambda _progress, text: shown.append(text))
    told(place, **{**PAUSED, "phase": "Progressing", "message": "1 of 3 pods exist"})
    chronik(place, "status", "c", "--wait", "--timeout", "1s")

    line = f"{place.name}/c: Progressing, step 1 of 2, candidate 3f2a91c0: 1 of 3 pods exist"
    assert {*shown} == {line}
