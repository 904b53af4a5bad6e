"""What is known of a StatefulSet that rolls, and what holds it: read from the cluster, and from nowhere else.

A hold is what the field manager `chronik-operator-rollout` has set in `spec.updateStrategy`, and nothing that is
remembered: an operator that takes over from another finds it where it was.
Source: pkg/controller/statefulset/stateful_set_control.go of Kubernetes 1.36: with OnDelete a deleted pod comes back on
the newest revision; with a partition, on the newest from that number on, and on the current one below.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.manifest import ObjectRef
from chronik.plan.actions import ROLLOUT_MANAGER, TransferOwnership
from chronik.plan.drift import applied_fields
from chronik.plan.ownership import has_owner
from chronik.plan.replicas import handover
from chronik.status.health import pod_ready, pod_trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.manifest import Manifest

REVISION_LABEL = "controller-revision-hash"
REPAIRS_ANNOTATION = "chronik.stream/repairs-only"
"""On a StatefulSet that is held outside of restart windows: it goes away with the hold."""


class PodFacts(NamedTuple):
    """One pod. `number` counts from 0, whatever ordinal the first pod has. `leaving`: it is being deleted."""

    name: str
    number: int
    revision: str
    ready: bool
    leaving: bool
    trouble: str
    uid: str
    version: str
    restarts: int = 0


class SetFacts(NamedTuple):
    """One StatefulSet and its pods, by their number.

    `seen` says that its controller knows the newest spec, without which the revisions are those of an earlier one.
    `current` is the revision that the last complete roll ended with, `update` the newest. `strategy` is OnDelete or
    RollingUpdate; `held` says that one of the two, or the partition, is ours.
    """

    ref: ObjectRef
    replicas: int
    seen: bool
    current: str
    update: str
    strategy: str
    partition: int
    held: bool
    pods: tuple[PodFacts, ...]

    @property
    def complete(self) -> bool:
        """Whether every pod is there, and none is on its way out."""
        return len(self.pods) == self.replicas and not any(pod.leaving for pod in self.pods)

    @property
    def surges(self) -> bool:
        """Whether new pods stand beside the old ones, and do not take their names."""
        return False

    @property
    def old(self) -> tuple[PodFacts, ...]:
        """The pods that do not run the newest revision."""
        return tuple(pod for pod in self.pods if pod.revision != self.update)

    @property
    def new(self) -> tuple[PodFacts, ...]:
        """The pods that run the newest revision."""
        return tuple(pod for pod in self.pods if pod.revision == self.update)


def set_facts(live: Manifest, pods: Iterable[Manifest]) -> SetFacts:
    """Return what is known of a StatefulSet; of `pods` only its own count."""
    spec, status = live["spec"], live.get("status") or {}
    first = int((spec.get("ordinals") or {}).get("start", 0))
    strategy = spec.get("updateStrategy") or {}
    found = (_pod(pod, first) for pod in pods if has_owner(pod, live["metadata"]["uid"]))
    return SetFacts(
        ref=ObjectRef.of(live),
        replicas=int(spec.get("replicas", 1)),
        seen=status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0),
        current=str(status.get("currentRevision", "")),
        update=str(status.get("updateRevision", "")),
        strategy=str(strategy.get("type", "RollingUpdate")),
        partition=int((strategy.get("rollingUpdate") or {}).get("partition") or 0),
        held=applied_fields(live, ROLLOUT_MANAGER) is not None,
        pods=tuple(sorted(found, key=lambda pod: pod.number)),
    )


def _pod(pod: Manifest, first: int) -> PodFacts:
    metadata = pod["metadata"]
    return PodFacts(
        name=metadata["name"],
        number=int(metadata["name"].rpartition("-")[2]) - first,
        revision=str((metadata.get("labels") or {}).get(REVISION_LABEL, "")),
        ready=pod_ready(pod),
        leaving="deletionTimestamp" in metadata,
        trouble=pod_trouble(pod) or "",
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        restarts=restarts_of(pod),
    )


def restarts_of(pod: Manifest) -> int:
    """Return how often containers of a pod have restarted, all together."""
    return sum(int(each.get("restartCount", 0)) for each in (pod.get("status") or {}).get("containerStatuses") or ())


def leaves_rolls_to_us(desired: Manifest) -> bool:
    """Return whether a StatefulSet is rolled as chronik's template says: a patch may have taken that over."""
    strategy = desired["spec"].get("updateStrategy") or {}
    return strategy.get("type", "RollingUpdate") == "RollingUpdate" and "rollingUpdate" not in strategy


def hold(
    workload: Manifest, strategy: Mapping[str, object], reason: str, *, repairs_only: bool = False
) -> TransferOwnership:
    """Return the apply that holds a StatefulSet: its strategy is ours until `release`, by force.

    With `repairs_only` it bears a mark that pods that are well are left alone, until it is held without that.
    """
    fields: dict[str, Any] = {"spec": {"updateStrategy": dict(strategy)}}
    if repairs_only:
        fields["metadata"] = {"annotations": {REPAIRS_ANNOTATION: "true"}}
    return replace(handover(workload, ROLLOUT_MANAGER, fields, reason), force=True)


def hold_fields(workload: Manifest, fields: Mapping[str, object], reason: str) -> TransferOwnership:
    """Return the apply that holds a workload: these fields of its spec are ours until `release`, by force."""
    return replace(handover(workload, ROLLOUT_MANAGER, {"spec": dict(fields)}, reason), force=True)


def release(workload: Manifest, reason: str) -> TransferOwnership:
    """Return the apply that lets a workload go: it rolls by itself again."""
    return handover(workload, ROLLOUT_MANAGER, {}, reason)


def is_held(live: Manifest | None) -> bool:
    """Return whether a workload is held by us."""
    return live is not None and applied_fields(live, ROLLOUT_MANAGER) is not None


def repairs_only(live: Manifest) -> bool:
    """Return whether a StatefulSet is held so that only pods that are ill are replaced."""
    return is_held(live) and REPAIRS_ANNOTATION in (live["metadata"].get("annotations") or {})


def without_strategy(desired: Manifest) -> Manifest:
    """Return a StatefulSet that says nothing of how it rolls, for as long as that is held."""
    spec = {name: value for name, value in desired["spec"].items() if name != "updateStrategy"}
    return desired | {"spec": spec}
