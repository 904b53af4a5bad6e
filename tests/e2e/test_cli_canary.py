"""`chronik apply` takes a canary from step to step, where no operator does."""

from __future__ import annotations

import pytest
import yaml
from support.cli_place import Place, run

CANARY = {
    "controllers": 3,
    "ingestNodes": 3,
    "searchNodes": 4,
    "rollout": {
        "strategy": "Canary",
        "canary": {"steps": [{"pods": 1, "pause": {"duration": "1s"}}, {"pods": "60%", "pause": {}}]},
    },
}
NEW = {"image": {name: f"chronik/{name}:2.0" for name in ("controller", "ingest", "search")}}


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


def held(place):
    """Return the partitions of StatefulSets, and the surge of the Deployment with its seconds until available."""
    live = {ref.name: each["spec"] for ref, each in place.live().items() if ref.kind in {"StatefulSet", "Deployment"}}
    strategies = [live[name]["updateStrategy"] for name in ("c-controller", "c-ingest")]
    partitions = [(each.get("rollingUpdate") or {}).get("partition") or 0 for each in strategies]
    search = live["c-search"]
    return [*partitions, search["strategy"]["rollingUpdate"]["maxSurge"], search.get("minReadySeconds", 0) > 0]


def test_from_step_to_step(place):
    """A change of pods is held at the first step, which an apply leaves alone; each step is asked for, and then all."""
    assert (place.apply(**CANARY).code, held(place)) == (0, [0, 0, 1, False])
    changed = {**CANARY, **NEW}
    done = place.apply(**changed)
    assert (done.code, held(place)) == (7, [2, 2, 1, True])
    assert "held at step 1 of 2. Go on: --step 2. All at once: --step all." in done.err
    writes = [each for each in place.asked() if each.writes]
    assert (place.apply(**changed).code, held(place)) == (7, [2, 2, 1, True])
    assert [each for each in place.asked() if each.writes] == writes
    assert (place.apply("--step", "2", **changed).code, held(place)) == (0, [1, 1, 3, True])
    done = place.apply(**changed)
    assert (done.code, "held at step 2 of 2. Go on: --step all." in done.err) == (7, True)
    assert (place.apply("--step", "all", **changed).code, held(place)) == (0, [0, 0, 1, False])
    done = place.apply(**changed)
    assert (done.code, done.err) == (0, "")


def test_nothing_is_held_that_need_not_be(place):
    """A change that restarts nothing is applied as ever; a dry run says what would be held, and exits with 0."""
    place.apply(**CANARY)
    more = {**CANARY, "ingestNodes": 4}
    assert (place.apply(**more).code, held(place)) == (0, [0, 0, 1, False])
    done = place.apply("--dry-run", "client", **more, **NEW)
    assert (done.code, "held at step 1 of 2" in done.err, held(place)) == (0, True, [0, 0, 1, False])
    assert place.apply("--step", "3", **more).code == 2
    assert place.apply("--step", "first", **more).code == 2


def test_waits_and_goes_on(place):
    """With --wait what is not ready ends an apply at its step; nothing further is taken."""
    place.apply(**CANARY)
    done = place.apply("--wait", "--timeout", "1s", **CANARY, **NEW)
    assert (done.code, held(place)) == (6, [2, 2, 1, True])


def test_a_step_for_git(place):
    """`render --step` prints what an apply of that step sends, and without the option nothing of it is there."""
    document = place.document(**CANARY)
    whole, step = run("render", "-f", document), run("render", "-f", document, "--step", "2")
    assert (whole.code, step.code) == (0, 0)
    differ = {
        new["kind"]: new["spec"]
        for old, new in zip(yaml.safe_load_all(whole.out), yaml.safe_load_all(step.out), strict=True)
        if old != new
    }
    assert set(differ) == {"StatefulSet", "Deployment"}
    assert differ["StatefulSet"]["updateStrategy"]["rollingUpdate"] == {"partition": 1}
    assert differ["Deployment"]["strategy"]["rollingUpdate"]["maxSurge"] == 3
    done = run("render", "-f", place.document(), "--step", "1")
    assert (done.code, "has no canary, so it has no steps" in done.err) == (2, True)
