"""Failover: whether clients of a source may move to its copy, the one thing that is written for it, and what is next.

Only a mirror is stopped: `paused` of its source, in the document of the cluster that it copies to. Nothing is written
at the source, no mirror is turned round, and no client is moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chronik.api.replication.mirrors import mirrors
from chronik.manifest import FAILOVER_ANNOTATION

if TYPE_CHECKING:
    from chronik.api.replication.copies import CopyState
    from chronik.api.sections.replication import ReplicationSource
    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

Standing = Literal["running", "stopped", "unknown"]
_LONG = 600


class Judgement(NamedTuple):
    """Whether clients may move to a copy.

    `known` says what is known, `lost` what would be lost, and `unknown` what may be, as nobody can tell.
    """

    known: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def safe(self) -> bool:
        """Whether nothing is lost but what nobody can help."""
        return not self.lost and not self.unknown


def judge(state: CopyState | None, *, allowed: float, heartbeats: bool, syncs: bool) -> Judgement:
    """Return what a move of the clients to a copy would lose.

    `allowed` is how many seconds it may be behind. Without `heartbeats` nothing measures that; `syncs` says whether
    offsets of consumer groups are translated at all.
    """
    if state is None:
        return Judgement(unknown=("no probe of the mirror answers, so nobody knows how far the copy is behind",))
    known: list[str] = []
    lost: list[str] = []
    unknown: list[str] = []
    _judge_records(state, allowed, (known, lost, unknown), heartbeats=heartbeats)
    lost += (state if syncs else state._replace(untranslated=None)).lacks
    if state.missing is None or (state.untranslated is None and syncs):
        why = state.trouble or "it has not looked yet"
        unknown.append(f"whether all partitions and groups are here: {why}")
    elif not lost:
        known.append("all partitions are here" + (", and all groups are translated" if syncs else ""))
    if not syncs:
        known.append("no group is translated, as groups.syncOffsets is off: each begins as its consumers say")
    return Judgement(tuple(known), tuple(lost), tuple(unknown))


def _judge_records(
    state: CopyState, allowed: float, said: tuple[list[str], list[str], list[str]], *, heartbeats: bool
) -> None:
    """Judge by the clock: while the source is there by how far the copy is behind, after that by how far it was."""
    known, lost, unknown = said
    behind = state.lag if state.reachable else state.gap
    known.append(f"the source {'can' if state.reachable else 'cannot'} be reached")
    if not heartbeats:
        unknown.append("how far the copy is behind: heartbeats is off")
    elif behind is None:
        unknown.append("how far the copy is behind" + ("" if state.reachable else ", when its source was seen last"))
    elif behind > allowed:
        lost.append(f"what the source took in during {_seconds(behind)}, and {_seconds(allowed)} are allowed")
    elif state.reachable:
        known.append(f"the copy is {_seconds(behind)} behind")
    else:
        known.append(f"the copy was {_seconds(behind)} behind when the source was last seen: that much is lost")


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < _LONG else f"{value / 60:.0f} min"


def standing(document: Manifest, source: ReplicationSource) -> Standing:
    """Return whether a mirror runs, or was stopped by a failover, or was paused in a way that nobody can tell.

    A failover is known by the generation of the document that it made: after any later change of the spec the mirror
    may have run again, and have been paused again, so nobody knows what the copy lacks.
    """
    if not source["paused"]:
        return "running"
    done = _done(document).get(source["name"])
    return "stopped" if done == str(document["metadata"]["generation"]) else "unknown"


def stopping_patch(document: Manifest, name: str) -> dict[str, Any]:
    """Return the merge patch that stops the mirror of a source, if the document is still this one."""
    metadata = document["metadata"]
    sources = [each | {"paused": True} if each["name"] == name else each for each in _sources(document)]
    done = {**_done(document), name: str(metadata["generation"] + 1)}
    text = " ".join(f"{each}@{generation}" for each, generation in sorted(done.items()))
    return {
        "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {FAILOVER_ANNOTATION: text}},
        "spec": {"replication": {"sources": sources}},
    }


def _sources(document: Manifest) -> list[dict[str, Any]]:
    return list(document["spec"]["replication"]["sources"])


def _done(document: Manifest) -> dict[str, str]:
    """Return which mirrors failovers have stopped, and the generation that each has made."""
    text = (document["metadata"].get("annotations") or {}).get(FAILOVER_ANNOTATION, "")
    return {name: generation for name, _, generation in (each.partition("@") for each in text.split())}


def next_steps(cluster: Cluster, source: ReplicationSource) -> list[str]:
    """Return what is left to people once the mirror stands still."""
    name = source["name"]
    target = next(each.target for each in mirrors(cluster) if each.source["name"] == name)
    tls = " over TLS" if cluster.spec["security"]["tlsEnabled"] else ""
    aliases = [f"chronik switch {each} --to {cluster.name}" for each in cluster.spec["network"]["aliases"]]
    return [
        *(f"If clients come by this alias: {each} -n {cluster.namespace}" for each in aliases),
        f"Point the clients to {target}{tls}, or from elsewhere to what `chronik status {cluster.name}` shows.",
        *consumer_steps(source),
        f"Write paused: true for {name} into the file that the document comes from, so that no later apply undoes it.",
        f"Let no client write to {name} again. To go back there, make it anew and copy from here.",
    ]


def consumer_steps(source: ReplicationSource) -> list[str]:
    """Return what those have to know who consume from a copy what they consumed from its source."""
    name, steps = source["name"], []
    if source["naming"] == "Prefixed":
        steps.append(f"Consumers read {name}.TOPIC for what was TOPIC at the source, beside TOPIC for what is new.")
    if source["groups"]["syncOffsets"]:
        steps.append("Groups go on where their place was last translated, or a little before: some records come twice.")
    return steps
