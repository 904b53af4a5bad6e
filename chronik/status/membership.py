"""Decides how a group of voters comes to the size that its cluster's spec asks for: one member at a time.

A node that starts is no member until the leader lets it in, and one whose pod goes is a member, which counts against
the majority, until the leader lets it out: so it joins after its pod has come, and leaves before its pod goes. Pure:
decided by what is there and by what the leader says, and by nothing else, so that it goes on after any interruption.

Source: propose_add_node and propose_remove_node in crates/chronik-server/src/raft_cluster.rs of chronik-stream b652721.
"""

from __future__ import annotations

from typing import NamedTuple

from chronik.status.compute import Reason
from chronik.times import elapsed, later

FEWEST = 3
"""Members that have to remain when one leaves: upstream refuses to go below, unless it is forced."""


class Group(NamedTuple):
    """What the leader says: which nodes vote, by their numbers, and which of them it is itself."""

    voters: frozenset[int]
    leader: int


class Step(NamedTuple):
    """What comes next: `pods` are to be there, and node `add` is to join, or `remove` to leave, if it is not 0.

    `waiting` says what has to happen first.
    """

    pods: int
    add: int = 0
    remove: int = 0
    waiting: Reason | None = None


def is_settled(wanted: int, there: int, known: frozenset[int]) -> bool:
    """Return whether there is nothing to do, by what the leader last said."""
    return there == wanted and known == frozenset(range(1, wanted + 1))


SOONEST, LATEST = 5.0, 300.0
"""Seconds until nodes are asked again that did not say who votes."""


def look_again(ready_since: str, now: str) -> str:
    """Return when to ask again who votes, as no watch tells that a leader was elected; times are in RFC 3339.

    It takes as long again as the cluster has been ready for: nodes that the operator cannot reach are asked less and
    less. `ready_since` is empty if it was not ready yet.
    """
    seconds = elapsed(ready_since, now) if ready_since else 0.0
    return later(now, min(max(seconds, SOONEST), LATEST))


def next_step(
    wanted: int, there: int, ready: frozenset[int], group: Group | None, known: frozenset[int] = frozenset()
) -> Step:
    """Return the next step from `there` pods to `wanted`.

    `ready` are the numbers of the pods that are ready; `group` is None if no node says that it leads. `known` are the
    voters that the leader told of last: pods that were taken away without their leaving come back.
    """
    if group is None:
        back = max(there, max(known, default=0))
        return Step(back, waiting=None if back == wanted else _NO_LEADER)
    needed = max(wanted, *group.voters)
    if there > needed:
        return Step(needed)
    if max(group.voters) > wanted:
        return _leaving(there, ready, group)
    if there < max(group.voters):  # a member without a pod counts against the majority
        return Step(max(group.voters))
    missing = sorted(set(range(1, there + 1)) - group.voters)
    if missing:
        first = missing[0]
        return Step(there, add=first) if first in ready else Step(there, waiting=_joins(first, "its pod is ready"))
    if there < wanted:
        if not group.voters <= ready:
            return Step(there, waiting=_joins(there + 1, f"all others are ready; {_named(group.voters - ready)}"))
        return Step(there + 1)
    return Step(wanted)


def _leaving(there: int, ready: frozenset[int], group: Group) -> Step:
    """Return how the node with the highest number leaves: only if those that stay are enough, and most of them run."""
    leaves = max(group.voters)
    stay = group.voters - {leaves}
    if len(stay) < FEWEST:
        message = f"Node {leaves} cannot leave: {len(stay)} would be left, and {FEWEST} is the fewest"
        return Step(max(there, leaves), waiting=Reason("QuorumTooSmall", message))
    if 2 * len(stay & ready) <= len(stay):
        message = f"Node {leaves} leaves when a majority of the others is ready; {_named(stay - ready)}"
        return Step(max(there, leaves), waiting=Reason("QuorumAtRisk", message))
    return Step(max(there, leaves), remove=leaves)


def _joins(node: int, when: str) -> Reason:
    return Reason("NodeJoining", f"Node {node} joins when {when}")


def _named(nodes: frozenset[int]) -> str:
    return f"not ready: {', '.join(map(str, sorted(nodes)))}"


_NO_LEADER = Reason("NoLeader", "No node says that it leads, so none can join or leave")
