"""What `chronik switch` and `chronik failover` found and did about clients that move: lines for people, or JSON.

    {"clusters": [{
        "namespace", "name":   the cluster that clients move to
        "alias", "from":       of a switch: the alias, and the cluster that it led to, "" if to none
        "source":              of a failover: the source whose mirror is to stand still
        "ok", "dryRun": "none" | "client",
        "outcome":             "switched" | "stopped" | "unchanged" | "refused" | "not-tried"
        "obstacles": [text]    what is in the way, which nobody can accept
        "known", "lost", "unknown": [text]
        "next": [text]         what is left to people, once it is done
    }]}

In a dry run an outcome is what it would be. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.replication.failover import Judgement
    from chronik.manifest import ClusterKey

Outcome = Literal["switched", "stopped", "unchanged", "refused", "not-tried"]
"""What became of it; `not-tried` is what a person has said no to."""


class Move(NamedTuple):
    """Clients that are to move to a cluster: which `about` says, what is known of that, and what stands in the way."""

    key: ClusterKey
    about: Mapping[str, str]
    judgement: Judgement
    obstacles: tuple[str, ...] = ()


def judgement_lines(judgement: Judgement, *, accepted: bool) -> list[str]:
    """Return what is known, what is lost and what nobody knows, for people."""
    lost = "will be lost" if accepted else "would be lost"
    return [
        *(f"  {each}" for each in judgement.known),
        *(f"  {lost}: {each}" for each in judgement.lost),
        *(f"  not known: {each}" for each in judgement.unknown),
    ]


def numbered(steps: list[str]) -> list[str]:
    """Return what is left to people, for people."""
    return [f"  {number}. {each}" for number, each in enumerate(steps, 1)]


def move_data(move: Move, outcome: Outcome, steps: list[str], *, dry_run: bool) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "clusters": [
            {
                "namespace": move.key.namespace,
                "name": move.key.name,
                **move.about,
                "ok": outcome not in {"refused", "not-tried"},
                "dryRun": "client" if dry_run else "none",
                "outcome": outcome,
                "obstacles": list(move.obstacles),
                "known": list(move.judgement.known),
                "lost": list(move.judgement.lost),
                "unknown": list(move.judgement.unknown),
                "next": steps,
            }
        ]
    }
