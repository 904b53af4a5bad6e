"""How the mirrors of a cluster are, from their Deployments and pods alone.

A mirror's two containers say what is wrong by which of them is ready: `mirror` while its source can be reached, `probe`
while the copy is not too far behind. So the operator opens no connection to any broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chronik.api.replication.mirrors import mirror_component, mirror_ref, mirrors
from chronik.manifest import MIRROR_PREFIX, component_of, is_mirror
from chronik.status.health import pod_ready, pod_trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest, ObjectRef

State = Literal["MirrorFailed", "SourceUnreachable", "Lagging", "Starting", "Paused", "Replicating"]
STATES: tuple[State, ...] = ("MirrorFailed", "SourceUnreachable", "Lagging", "Starting", "Paused", "Replicating")
"""All states, the worst first; they are the reasons of the condition, too."""
EXPECTED = frozenset({"Starting", "Paused", "Replicating"})
"""Those that nobody has to be warned of."""


class MirrorStatus(NamedTuple):
    """How one mirror is: `ready` of `wanted` pods replicate. `message` says why, unless they all do."""

    source: str
    state: State
    ready: int
    wanted: int
    message: str = ""

    @property
    def words(self) -> str:
        """The state of the mirror, as conditions tell it."""
        return f"{self.source}: {self.message or _WORDS[self.state]}"


_WORDS: dict[State, str] = {
    "MirrorFailed": "the mirror cannot run",
    "SourceUnreachable": "no broker of the source can be reached",
    "Lagging": "the copy is further behind than maxLag",
    "Starting": "the mirror starts",
    "Paused": "paused",
    "Replicating": "replicating",
}


def mirror_statuses(
    cluster: Cluster, objects: Mapping[ObjectRef, Manifest], pods: Sequence[Manifest]
) -> list[MirrorStatus]:
    """Return how each mirror of a cluster is, in the order of the document."""
    found = ((mirror.source["name"], mirror.replicas) for mirror in mirrors(cluster))
    return [_mirror_status(mirror_ref(cluster.key, name), name, wanted, objects, pods) for name, wanted in found]


def live_mirror_statuses(objects: Mapping[ObjectRef, Manifest], pods: Sequence[Manifest]) -> list[MirrorStatus]:
    """Return how each mirror is of which there is a Deployment, whatever a document says."""
    return [
        _mirror_status(
            ref, component_of(live).removeprefix(MIRROR_PREFIX), live["spec"].get("replicas", 1), objects, pods
        )
        for ref, live in sorted(objects.items())
        if ref.kind == "Deployment" and is_mirror(live)
    ]


def _mirror_status(
    ref: ObjectRef, name: str, wanted: int, objects: Mapping[ObjectRef, Manifest], pods: Sequence[Manifest]
) -> MirrorStatus:
    """Return how a mirror is; one that wants no pods is paused."""
    if not wanted:
        return MirrorStatus(name, "Paused", 0, 0)
    if ref not in objects:
        return MirrorStatus(name, "Starting", 0, wanted, f"{ref.kind} {ref.name} does not exist")
    own = [pod for pod in pods if component_of(pod) == mirror_component(name) and not _gone(pod)]
    ready = sum(map(pod_ready, own))
    if ready:
        return MirrorStatus(name, "Replicating", ready, wanted)
    troubles = [text for pod in own if (text := pod_trouble(pod))]
    if troubles:
        return MirrorStatus(name, "MirrorFailed", 0, wanted, troubles[0])
    return MirrorStatus(name, _worst(map(_pod_state, own)), 0, wanted)


def _gone(pod: Manifest) -> bool:
    ended = (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}
    return ended or bool(pod["metadata"].get("deletionTimestamp"))


def _worst(states: Any) -> State:
    return min(states, key=STATES.index, default="Starting")


def _pod_state(pod: Manifest) -> State:
    """Return what a pod that is not ready says by its containers. One without heartbeats is ready if its source is."""
    found = {each.get("name"): each for each in (pod.get("status") or {}).get("containerStatuses") or ()}
    mirror, probe = found.get("mirror", {}), found.get("probe", {})
    if not mirror.get("started"):
        return "Starting"
    if not mirror.get("ready"):
        return "SourceUnreachable"
    return "Lagging" if probe.get("started") else "Starting"


def summary(found: Sequence[MirrorStatus]) -> tuple[State, str]:
    """Return the state of all mirrors in one, which is the worst of theirs, and what each of them is.

    One that is paused takes nothing from the others.
    """
    running = [each.state for each in found if each.state != "Paused"]
    return (_worst(running) if running else "Paused"), "; ".join(each.words for each in found)
