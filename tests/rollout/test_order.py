"""Which pod is replaced next: checked against a played controller of StatefulSets, whatever happens in between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from chronik.manifest import ObjectRef
from chronik.rollout.facts import PodFacts, SetFacts
from chronik.rollout.order import ill_before, is_ill, is_own_order, next_repair, next_replacement, right_order

REF = ObjectRef("StatefulSet", "n", "s")


def pod(index, revision="old", *, ready=True, leaving=False):
    """Return a pod."""
    return PodFacts(f"s-{index}", index, revision, ready, leaving, "", f"uid-{index}", "1")


def facts(*pods, replicas=None, seen=True):
    """Return a set that rolls from `old` to `new`, held."""
    count = len(pods) if replicas is None else replicas
    return SetFacts(REF, count, seen, "old", "new", "OnDelete", 0, held=True, pods=pods)


def ill(index, revision="old"):
    """Return a pod that is not ready."""
    return pod(index, revision, ready=False)


CASES = {
    "not seen": (facts(ill(0), pod(1), seen=False), "", "wait", None),
    "the ill one": (facts(ill(0), pod(1), pod(2)), "", "delete", 0),
    "the upper of two ill ones": (facts(ill(0), ill(1), pod(2)), "", "delete", 1),
    "one on its way out": (facts(ill(0), pod(1), pod(2, leaving=True)), "", "wait", None),
    "one missing": (facts(ill(0), pod(1), replicas=3), "", "wait", None),
    "new and not ready": (facts(ill(0, "new"), pod(1), pod(2)), "", "wait", None),
    "broken, of a revision before": (facts(ill(0, "broken"), pod(1), pod(2)), "", "delete", 0),
    "ready again: the rest goes by itself": (facts(pod(0, "new"), pod(1), pod(2)), "", "release", None),
    "all done": (facts(pod(0, "new"), pod(1, "new")), "", "release", None),
    "the top one leads": (facts(pod(0), pod(1), pod(2)), "s-2", "delete", 1),
    "ill before leader": (facts(pod(0), ill(1), pod(2)), "s-2", "delete", 1),
    "only the leader is left": (facts(pod(0, "new"), pod(1, "new"), pod(2)), "s-2", "release", None),
    "an ill one does not lead": (facts(pod(0), pod(1), ill(2)), "s-2", "release", None),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_next(case):
    """Ill pods go first and the leader last, one at a time, each ready before the next; then the set is let go."""
    found, leader, what, index = CASES[case]
    following = next_replacement(found, leader)

    assert (following.what, following.pod and following.pod.number) == (what, index)


REPAIRS = {
    "the ill one": (facts(ill(0), pod(1), pod(2)), "delete", 0),
    "the ill one on top": (facts(pod(0), pod(1), ill(2)), "delete", 2),
    "an ill one is new, and waited for": (facts(ill(0, "new"), pod(1), ill(2)), "wait", None),
    "all others are well": (facts(pod(0, "new"), pod(1), pod(2)), "wait", None),
    "one on its way out": (facts(ill(0), pod(1), pod(2, leaving=True)), "wait", None),
    "a fix that is bad, and fixed": (facts(ill(0, "broken"), pod(1), pod(2)), "delete", 0),
    "none is left": (facts(pod(0, "new"), pod(1, "new")), "release", None),
}


@pytest.mark.parametrize("case", REPAIRS, ids=str)
def test_outside_of_windows_only_ill_pods_go(case):
    """Where only repairs are allowed no pod that is well is taken, and the set is not let go while some are old."""
    found, what, index = REPAIRS[case]
    following = next_repair(found)

    assert (following.what, following.pod and following.pod.number) == (what, index)


def test_which_pods_are_ill():
    """A pod that is not ready is ill; in a roll that is under way, only if it says why it cannot run."""
    at_rest = facts(pod(0, "new"), ill(1, "new"))._replace(current="new")
    crashing = ill(1, "new")._replace(trouble="s-1: CrashLoopBackOff")
    assert is_ill(at_rest)
    assert not is_ill(at_rest._replace(pods=(pod(0, "new"), pod(1, "new", leaving=True))))
    assert not is_ill(facts(pod(0), ill(1, "new")))
    assert is_ill(facts(pod(0), crashing))


def test_whom_to_tell_of():
    """An ill pod matters if the controller would not begin with it."""
    assert ill_before([pod(0), ill(1), pod(2)]).name == "s-1"
    assert ill_before([pod(0), pod(1), ill(2)]) is None
    assert ill_before([ill(0), ill(1)]) is None


class Played:
    """A StatefulSet with the rolls of Kubernetes 1.36: from the top, one at a time, and not at all with OnDelete."""

    def __init__(self, ready, leader):
        self.pods = {index: ["old", is_ready] for index, is_ready in enumerate(ready)}
        self.held = not is_own_order(self.facts().pods, leader)
        self.replaced = []

    def facts(self):
        """Return the set as it is."""
        found = [pod(index, revision, ready=ready) for index, (revision, ready) in sorted(self.pods.items())]
        return facts(*found)

    def control(self):
        """Let the controller do one thing, as it does if nothing is held."""
        for index in () if self.held else sorted(self.pods, reverse=True):
            revision, ready = self.pods[index]
            if revision == "old":
                self.delete(index)
            if revision == "old" or not ready:
                return

    def delete(self, index):
        """Delete a pod, which comes back on the newest revision, and is not ready yet."""
        self.replaced.append((index, self.pods[index][1], sum(not ready for _, ready in self.pods.values())))
        self.pods[index] = ["new", False]


@settings(deadline=None, max_examples=examples(300))
@given(st.lists(st.booleans(), min_size=2, max_size=7), st.integers(0, 6), st.data())
def test_a_roll_ends_and_is_gentle(ready, leads, data):
    """Whichever pods are ill and whoever leads: every pod is replaced once, no well one while another is down."""
    leader = f"s-{leads}" if leads < len(ready) else ""
    played = Played(ready, leader)
    was_held = played.held
    for _ in range(40 * len(ready)):
        match data.draw(st.sampled_from(["kubelet", "controller", "operator"])) if _ < 60 else "kubelet":
            case "kubelet":
                for found in played.pods.values():
                    found[1] = found[1] or found[0] == "new"
        if _ >= 60 or data.draw(st.booleans()):
            played.control()
        following = next_replacement(played.facts(), leader) if played.held else None
        if following and following.what == "delete":
            played.delete(following.pod.number)
        if following and following.what == "release":
            played.held = False

    assert {revision for revision, _ in played.pods.values()} == {"new"}
    assert sorted(index for index, _, _ in played.replaced) == sorted(played.pods)
    ills = [index for index, was_ready, _ in played.replaced if not was_ready]
    assert [index for index, _, _ in played.replaced][: len(ills)] == ills
    if was_held:
        assert all(down == 0 for _, was_ready, down in played.replaced if was_ready)
    well = [f"s-{index}" for index, was_ready, _ in played.replaced if was_ready]
    assert leader not in well or well[-1] == leader


def test_the_right_order():
    """Of pods that are alike, the highest goes first, as the controller has it."""
    assert [each.number for each in right_order([pod(0), pod(1), ill(2), ill(3), pod(4)], "s-4")] == [3, 2, 1, 0, 4]
