from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronik.status.membership import FEWEST, Group, Step, is_settled, look_again, next_step
from chronik.times import later


def ids(count):
    return frozenset(range(1, count + 1))


def step(wanted, there, voters, ready=None, leader=1, known=()):
    """Return the next step where all pods are ready, if `ready` does not say otherwise, by numbers and a reason."""
    found = frozenset(voters) if voters else None
    group = Group(found, leader) if found else None
    made = next_step(wanted, there, ids(there) if ready is None else frozenset(ready), group, frozenset(known))
    return made.pods, made.add, made.remove, made.waiting.reason if made.waiting else ""


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"wanted": 3, "there": 3, "voters": ids(3)}, (3, 0, 0, "")),
        ({"wanted": 5, "there": 3, "voters": ids(3)}, (4, 0, 0, "")),
        ({"wanted": 5, "there": 3, "voters": ids(3), "ready": {1, 2}}, (3, 0, 0, "NodeJoining")),
        ({"wanted": 5, "there": 4, "voters": ids(3)}, (4, 4, 0, "")),
        ({"wanted": 5, "there": 4, "voters": ids(3), "ready": ids(3)}, (4, 0, 0, "NodeJoining")),
        ({"wanted": 5, "there": 4, "voters": ids(4)}, (5, 0, 0, "")),
        ({"wanted": 5, "there": 5, "voters": ids(4)}, (5, 5, 0, "")),
        ({"wanted": 3, "there": 5, "voters": ids(5)}, (5, 0, 5, "")),
        ({"wanted": 3, "there": 5, "voters": ids(5), "leader": 5}, (5, 0, 5, "")),
        ({"wanted": 3, "there": 5, "voters": ids(4)}, (4, 0, 0, "")),
        ({"wanted": 3, "there": 4, "voters": ids(4)}, (4, 0, 4, "")),
        ({"wanted": 3, "there": 4, "voters": ids(3)}, (3, 0, 0, "")),
        ({"wanted": 3, "there": 5, "voters": ids(5), "ready": {1, 2, 5}}, (5, 0, 0, "QuorumAtRisk")),
        ({"wanted": 3, "there": 5, "voters": ids(5), "ready": {1, 2, 3}}, (5, 0, 5, "")),
        ({"wanted": 2, "there": 3, "voters": ids(3)}, (3, 0, 0, "QuorumTooSmall")),
        ({"wanted": 5, "there": 3, "voters": None}, (3, 0, 0, "NoLeader")),
        ({"wanted": 3, "there": 3, "voters": None}, (3, 0, 0, "")),
        ({"wanted": 5, "there": 2, "voters": None, "known": ids(5)}, (5, 0, 0, "")),
        ({"wanted": 3, "there": 2, "voters": None, "known": ids(5)}, (5, 0, 0, "NoLeader")),
        ({"wanted": 3, "there": 4, "voters": ids(5)}, (5, 0, 5, "")),
        ({"wanted": 5, "there": 4, "voters": ids(5), "ready": ids(4)}, (5, 0, 0, "")),
    ],
)
def test_steps(case, expected):
    """Pods come, then their nodes join; nodes leave, then their pods go; one at a time, and with a majority."""
    assert step(**case) == expected


def test_settled():
    """Nothing is asked of the nodes once the leader has said that just the wanted ones vote."""
    assert is_settled(3, 3, ids(3))
    assert not is_settled(3, 4, ids(3))
    assert not is_settled(3, 3, ids(4))
    assert not is_settled(3, 3, frozenset())


@given(st.sampled_from([3, 4, 5, 7]), st.sampled_from([3, 4, 5, 7]), st.integers(1, 7))
def test_every_way_is_safe_and_ends(before, after, leader):
    """Whatever the sizes, each step changes one thing, no member's pod goes, and none joins without a pod."""
    there, voters = before, set(range(1, before + 1))
    for _ in range(40):
        made = next_step(after, there, ids(there), Group(frozenset(voters), min(leader, len(voters))))
        if made == Step(after) and there == after and voters == ids(after):
            return
        assert made.waiting is None
        assert voters <= ids(made.pods)
        assert abs(made.pods - there) <= 1
        if made.add:
            assert made.add <= there
            voters.add(made.add)
        elif made.remove:
            voters.remove(made.remove)
            assert len(voters) >= FEWEST
        there = made.pods
    pytest.fail("it never ends")


@pytest.mark.parametrize(
    ("ready_since", "seconds"),
    [("", 5), ("2026-01-01T11:59:58Z", 5), ("2026-01-01T11:59:00Z", 60), ("2025-01-01T00:00:00Z", 300)],
)
def test_nodes_are_asked_less_and_less(ready_since, seconds):
    """Nodes that do not say who votes are asked again after as long as the cluster has been ready, within bounds."""
    assert look_again(ready_since, "2026-01-01T12:00:00Z") == later("2026-01-01T12:00:00Z", seconds)
