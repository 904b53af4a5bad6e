"""Which pod of a StatefulSet is replaced next: those that are ill first, and whoever leads the others last.

The controller of StatefulSets begins with the highest number, whatever is ill. While a voter is down it then takes
another, and of three that is the majority; and a leader that goes early is elected more than once in a roll. So where
its order is not the right one the operator holds the set (`OnDelete`), and deletes the pods one by one; as soon as what
is left is in the controller's own order, it lets go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.rollout.facts import PodFacts, SetFacts


class Replacement(NamedTuple):
    """What comes next in a set that is held: `delete` a pod, `wait`, or `release`; `reason` says why."""

    what: Literal["delete", "wait", "release"]
    reason: str = ""
    pod: PodFacts | None = None


def right_order(pods: Iterable[PodFacts], leader: str = "") -> list[PodFacts]:
    """Return in which order pods are to be replaced; `leader` is the name of the one that leads, if that is known."""
    return sorted(pods, key=lambda pod: (pod.ready, pod.ready and pod.name == leader, -pod.number))


def is_own_order(pods: Iterable[PodFacts], leader: str = "") -> bool:
    """Return whether the controller of StatefulSets would replace pods in the right order by itself."""
    found = list(pods)
    return right_order(found, leader) == sorted(found, key=lambda pod: -pod.number)


def ill_before(pods: Iterable[PodFacts]) -> PodFacts | None:
    """Return the first pod that is ill and that the controller would not begin with, if there is one."""
    found = list(pods)
    ill = right_order(pod for pod in found if not pod.ready)
    return ill[0] if ill and not is_own_order(found) else None


def next_replacement(facts: SetFacts, leader: str = "") -> Replacement:
    """Return what comes next in a set that is held with `OnDelete`.

    A pod is deleted only if all pods of the newest revision are ready and none is missing or on its way out. A pod that
    is well is deleted only if all others are well, too: so never more than one voter is away because of us.
    """
    if not facts.seen:
        return Replacement("wait", "its controller has not seen the newest spec yet")
    gone = [pod.name for pod in facts.pods if pod.leaving]
    if gone:
        return Replacement("wait", f"pod {gone[0]} is on its way out")
    if not facts.complete:
        return Replacement("wait", f"{len(facts.pods)} of {facts.replicas} pods exist")
    unready = [pod.name for pod in facts.new if not pod.ready]
    if unready:
        return Replacement("wait", f"pod {unready[0]} runs the newest revision, and is not ready yet")
    if is_own_order(facts.old, leader):
        return Replacement("release", "what is left is in the right order by itself")
    first = right_order(facts.old, leader)[0]
    why = "is ill, so it goes first" if not first.ready else "goes before the one that leads"
    return Replacement("delete", why, first)


def next_repair(facts: SetFacts) -> Replacement:
    """Return what comes next in a set that is held with `OnDelete` outside of restart windows: only ill pods go."""
    following = next_replacement(facts)
    if following.what == "wait" or not facts.old:
        return following
    first = right_order(facts.old)[0]
    if first.ready:
        return Replacement("wait", "what is left is well, and waits for a window")
    return Replacement("delete", "is ill, so it waits for no window", first)


def is_ill(facts: SetFacts) -> bool:
    """Return whether a pod needs another template; one that only starts, in a roll that is under way, does not."""
    at_rest = facts.current == facts.update
    return any(not pod.ready and not pod.leaving and (at_rest or pod.trouble) for pod in facts.pods)
