"""What is known of a Deployment that is held, and what holds it: new pods stand beside the old ones, and none goes.

A Deployment has no partition. So it is held by two fields of its own: while it is `paused` nothing of a new template
starts; and with a `minReadySeconds` that never ends, new pods are ready, so they serve, but never available, so no old
one goes for them: there are as many as `maxSurge` says. To go back the template has to come first, and the hold goes
second: the other way round the candidate's pods would be available at once, and all others would go.
Source: pkg/controller/deployment/rolling.go of Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.manifest import ObjectRef
from chronik.plan.actions import ROLLOUT_MANAGER
from chronik.plan.drift import applied_fields
from chronik.rollout.facts import PodFacts, SetFacts, restarts_of
from chronik.rollout.steps import EVERY_POD, Pins
from chronik.status.health import NEVER_AVAILABLE, pod_ready, pod_trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.manifest import Manifest

HASH_LABEL = "pod-template-hash"
_NO_DEADLINE = 2_147_483_647
"""Seconds: it has to be longer than `minReadySeconds`, and is the longest that there is."""
_ENDED = frozenset({"Failed", "Succeeded"})


class DeploymentFacts(SetFacts):
    """One Deployment and its pods, in the terms of a StatefulSet: a revision is the name of a ReplicaSet.

    The partition is the number of pods less those that may be new; pods on their way out, or at their end, do not
    count. There may be more pods than `replicas`.
    """

    __slots__ = ()

    @property
    def complete(self) -> bool:
        """Whether there are pods enough."""
        return len(self.pods) >= self.replicas

    @property
    def surges(self) -> bool:
        """Whether new pods stand beside the old ones."""
        return True


def held_fields(surge: int, *, paused: bool) -> dict[str, Any]:
    """Return the fields of a Deployment's spec that hold it, with so many pods more than it asks for.

    A paused one that has more pods than that is scaled down, its old pods too: so what is paused keeps its surge.
    """
    return {
        "paused": paused,
        "minReadySeconds": NEVER_AVAILABLE,
        "progressDeadlineSeconds": _NO_DEADLINE,
        "strategy": {"rollingUpdate": {"maxSurge": surge}},
    }


def surge_of(live: Manifest | None) -> int:
    """Return how many pods a Deployment may have more while it is held; before that, one."""
    strategy = ((live or {}).get("spec") or {}).get("strategy") or {}
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge")
    held = live is not None and applied_fields(live, ROLLOUT_MANAGER) is not None
    return surge if held and isinstance(surge, int) else 1


def may_hold(desired: Manifest) -> bool:
    """Return whether a Deployment is as chronik's template says in all that a hold is made of: a patch may differ."""
    spec = desired["spec"]
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    ours = {"paused", "minReadySeconds", "progressDeadlineSeconds"}.isdisjoint(spec)
    return ours and strategy.get("type") == "RollingUpdate" and rolling.get("maxUnavailable") == 0


def without_surge(desired: Manifest) -> Manifest:
    """Return a Deployment that does not say how many pods it may have more, for as long as that is held."""
    strategy = desired["spec"]["strategy"]
    rolling = {name: value for name, value in strategy["rollingUpdate"].items() if name != "maxSurge"}
    return desired | {"spec": desired["spec"] | {"strategy": strategy | {"rollingUpdate": rolling}}}


def without_selector(desired: Manifest) -> Manifest:
    """Return a Service that does not say which pods it leads to, for as long as that is pinned."""
    spec = {name: value for name, value in desired["spec"].items() if name != "selector"}
    return desired | {"spec": spec}


def is_on_its_way(live: Manifest) -> bool:
    """Return whether a Deployment is held, or has pods that are not of its newest revision."""
    status, count = live.get("status") or {}, live["spec"].get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    done = seen and status.get("updatedReplicas") == status.get("replicas") == count
    return applied_fields(live, ROLLOUT_MANAGER) is not None or not done


def is_settled(live: Manifest, pods: Iterable[Manifest]) -> bool:
    """Return whether a Deployment is at rest, so that its pods say all of its revisions."""
    return not is_on_its_way(live) and len({each.revision for each in _pods(live, pods)}) == 1


def deployment_facts(
    live: Manifest, pods: Iterable[Manifest], sets: Sequence[Manifest], stable: str = "", pins: Pins | None = None
) -> DeploymentFacts:
    """Return what is known of a Deployment.

    `sets` are its ReplicaSets, which need not be given if it `is_settled`. `stable` is the one that its pods ran
    before, as far as that was said earlier. `pins` are there if it is blue-green.
    """
    found = _pods(live, pods)
    spec, status = live["spec"], live.get("status") or {}
    held, paused = applied_fields(live, ROLLOUT_MANAGER) is not None, bool(spec.get("paused"))
    replicas = int(spec.get("replicas", 1))
    partition = (EVERY_POD if paused else replicas - surge_of(live)) if held else 0
    update = next((each["metadata"]["name"] for each in sets if template_of(each) == _plain(spec["template"])), "")
    if not sets and found:
        update = found[0].revision
    if any(pod.revision == stable for pod in found):
        current = stable
    elif held and _ran_before(found, update, replicas, pins or Pins()):
        current = update
    else:
        current = _of_most_old(found, update, pins or Pins())
    return DeploymentFacts(
        ref=ObjectRef.of(live),
        replicas=replicas,
        seen=status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0) and bool(paused or update),
        current=current,
        update=update,
        strategy="RollingUpdate",
        partition=partition,
        held=held,
        pods=found,
    )


def _ran_before(pods: Sequence[PodFacts], update: str, replicas: int, pins: Pins) -> bool:
    """Return whether the newest revision of a workload that is held is the one that ran before, so a candidate left.

    Clients are with it, though it was never previewed, so they were not switched to it; or it has pods enough, which
    no candidate has before it is let go.
    """
    if pins.service:
        return pins.service == update != pins.preview
    return sum(pod.revision == update for pod in pods) >= replicas


def _of_most_old(pods: Sequence[PodFacts], update: str, pins: Pins) -> str:
    """Return the revision that clients are with, if it is not the newest, else that of most old pods, else none."""
    old = [pod.revision for pod in pods if pod.revision != update]
    if pins.service in old:
        return pins.service
    return max(sorted(set(old)), key=old.count) if old else update


def template_of(replica_set: Manifest) -> Manifest:
    """Return the pod template that a ReplicaSet was made of."""
    return _plain(replica_set["spec"]["template"])


def _plain(template: Manifest) -> Manifest:
    """Return a pod template without what the server says of no value, and without the label of its ReplicaSet."""
    metadata = {name: value for name, value in template.get("metadata", {}).items() if value is not None}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH_LABEL}
    return template | {"metadata": metadata | {"labels": labels}}


def _pods(live: Manifest, pods: Iterable[Manifest]) -> tuple[PodFacts, ...]:
    """Return the pods of a Deployment's ReplicaSets, which are named for it, by their names."""
    name, found = live["metadata"]["name"], []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        mark = (metadata.get("labels") or {}).get(HASH_LABEL)
        owners = {each["name"] for each in metadata.get("ownerReferences") or () if each["kind"] == "ReplicaSet"}
        if f"{name}-{mark}" not in owners or "deletionTimestamp" in metadata or status.get("phase") in _ENDED:
            continue
        found.append((metadata["name"], f"{name}-{mark}", pod))
    return tuple(
        PodFacts(
            name=pod_name,
            number=number,
            revision=revision,
            ready=pod_ready(pod),
            leaving=False,
            trouble=pod_trouble(pod) or "",
            uid=pod["metadata"]["uid"],
            version=pod["metadata"]["resourceVersion"],
            restarts=restarts_of(pod),
        )
        for number, (pod_name, revision, pod) in enumerate(sorted(found, key=lambda each: each[0]))
    )
