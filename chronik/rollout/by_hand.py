"""A canary without an operator: objects as they are at one of its steps, for `apply` and for what lies in Git.

Whoever applies them goes from step to step. There is no other state than the objects themselves: how many pods of a
workload may be new is its partition or, of a Deployment, the surge that it is held with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.api.components import components, is_blue_green, workload_ref
from chronik.errors import InputError
from chronik.manifest import ObjectRef
from chronik.plan.actions import Apply
from chronik.rollout.facts import is_held, leaves_rolls_to_us
from chronik.rollout.steps import pods_of_step
from chronik.rollout.surge import held_fields, may_hold
from chronik.status.health import NEVER_AVAILABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import CanaryStep, Cluster
    from chronik.manifest import Manifest
    from chronik.plan.results import Report


def steps_of(cluster: Cluster) -> Sequence[CanaryStep]:
    """Return the steps of a cluster's canary; none if it has no canary."""
    rollout = cluster.spec["rollout"]
    asked = rollout is not None and rollout["strategy"] == "Canary" and rollout["canary"] is not None
    return rollout["canary"]["steps"] if asked else []  # type: ignore[index]  # mypy does not follow `asked`


def at_step(
    cluster: Cluster, manifests: Sequence[Manifest], step: int, live: Mapping[ObjectRef, Manifest] | None = None
) -> list[Manifest]:
    """Return a cluster's manifests as they are at a step, from 1; those of one that is not `live` are as ever.

    Without `live` nothing is known of what runs: then all are at the step.

    Raises:
        InputError: there is no such step, or how many pods a workload has is not known.
    """
    count = len(steps_of(cluster))
    if not count:
        raise InputError("has no canary, so it has no steps", subject=str(cluster.key), hint=_HOW)
    if not 1 <= step <= count:
        raise InputError(f"has no step {step}", subject=str(cluster.key), hint=f"Its canary has steps 1 to {count}.")
    staged = _staged(cluster, manifests)
    return [
        _held(cluster, each, step, (live or {}).get(ref, each))
        if (ref := ObjectRef.of(each)) in staged and (live is None or ref in live)
        else each
        for each in manifests
    ]


_HOW = "spec.rollout with strategy: Canary and canary.steps says which."


def begins(cluster: Cluster, manifests: Sequence[Manifest], simulated: Report) -> bool:
    """Return whether an apply would change the pods of a workload that has a canary, by how it was simulated."""
    staged = _staged(cluster, manifests)
    actions = (each.action for each in simulated.results if each.ref in staged)
    return any(isinstance(action, Apply) and action.restarts for action in actions)


def step_under_way(cluster: Cluster, manifests: Sequence[Manifest], live: Mapping[ObjectRef, Manifest]) -> int:
    """Return the step that live workloads are held at by hand; 0 if none is held so.

    It is the first step that asks for as many pods as may be new by now.
    """
    there = [live[ref] for ref in _staged(cluster, manifests) if ref in live]
    held = [found for each in there if (found := _held_by_hand(each))]
    numbers = range(1, len(steps_of(cluster)) + 1) if held else ()
    fits = (each for each in numbers if all(new <= _target(cluster, each, count) for count, new in held))
    return next(fits, len(numbers))


def _staged(cluster: Cluster, manifests: Sequence[Manifest]) -> set[ObjectRef]:
    """Return the workloads that a step is about: a patch may have taken over how one rolls."""
    ours = {workload_ref(cluster.key, each.name) for each in components(cluster)}
    return {
        ref
        for each in manifests
        if (ref := ObjectRef.of(each)) in ours
        and (leaves_rolls_to_us(each) if each["kind"] == "StatefulSet" else may_hold(each))
    }


def _held(cluster: Cluster, manifest: Manifest, step: int, live: Manifest) -> Manifest:
    spec = manifest["spec"]
    replicas = spec.get("replicas", live["spec"].get("replicas"))
    if replicas is None:
        raise InputError(
            "has as many pods as its autoscaler says, so a step of it cannot be rendered",
            subject=str(ObjectRef.of(manifest)),
            hint="`chronik apply --step` asks the server how many there are.",
        )
    # What has one pod follows at the end, and so do blue-green nodes: no operator is there to switch their clients.
    is_green = manifest["kind"] == "Deployment" and is_blue_green(cluster.spec["rollout"])
    last = is_green or int(replicas) <= 1
    target = 0 if last else _target(cluster, step, int(replicas))
    if manifest["kind"] == "StatefulSet":
        strategy: dict[str, Any] = {"type": "RollingUpdate", "rollingUpdate": {"partition": int(replicas) - target}}
        return manifest | {"spec": spec | {"updateStrategy": strategy}}
    fields = held_fields(max(1, target), paused=last)
    rolling = spec["strategy"]["rollingUpdate"] | fields["strategy"]["rollingUpdate"]
    return manifest | {"spec": spec | fields | {"strategy": spec["strategy"] | {"rollingUpdate": rolling}}}


def _target(cluster: Cluster, step: int, replicas: int) -> int:
    """Return how many pods a step asks for; no step asks for fewer than one before it."""
    return max(pods_of_step(each["pods"], replicas) for each in steps_of(cluster)[:step])


def _held_by_hand(live: Manifest) -> tuple[int, int] | None:
    """Return how many pods a workload has, and how many may be new while it is held by hand; None if it is not."""
    spec = live["spec"]
    replicas = int(spec.get("replicas", 1))
    if is_held(live):
        return None
    if live["kind"] == "StatefulSet":
        partition = int(((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)
        return (replicas, max(0, replicas - partition)) if partition else None
    if spec.get("minReadySeconds") != NEVER_AVAILABLE:
        return None
    surge = ((spec.get("strategy") or {}).get("rollingUpdate") or {}).get("maxSurge")
    return replicas, surge if isinstance(surge, int) and not spec.get("paused") else 0
