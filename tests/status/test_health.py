"""The cases are tests/status/observed/*.yaml, one a file: an object, maybe its pods, and how it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from chronik.status.health import Health, State, health, pod_ready

CASES = sorted(Path(__file__).with_name("observed").glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_health(path):
    """An object is as its case says, in the same words."""
    case = yaml.safe_load(path.read_text("utf-8"))
    expected = Health(State(case["expected"]["state"]), case["expected"]["message"])

    assert health(case["object"], case.get("pods", ())) == expected


def test_every_state_has_a_case():
    """The cases reach each state that there is, so an empty folder passes nothing."""
    cases = [yaml.safe_load(path.read_text("utf-8")) for path in CASES]

    assert {case["expected"]["state"] for case in cases} == {state.value for state in State}


@pytest.mark.parametrize("state", State)
def test_only_current_is_ready(state):
    """Only what is current leaves nothing to wait for."""
    assert Health(state).ready == (state is State.CURRENT)


@pytest.mark.parametrize(
    ("pod", "ready"),
    [
        ({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True),
        ({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
        ({"metadata": {}, "status": {"conditions": [{"type": "ContainersReady", "status": "True"}]}}, False),
        ({"metadata": {}, "status": {}}, False),
        ({"metadata": {}}, False),
        (
            {
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
            False,
        ),
    ],
    ids=["ready", "not-ready", "containers-only", "no-conditions", "no-status", "terminating"],
)
def test_pod_ready(pod, ready):
    """A pod is ready if its Ready condition says so and nobody is deleting it."""
    assert pod_ready(pod) == ready
