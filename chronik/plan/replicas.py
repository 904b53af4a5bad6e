"""Handing a workload's replica count to an autoscaler, and back, without the count ever dipping.

A field that its only owner stops sending falls back to its default, and the default of `spec.replicas` is 1. So a
manager of its own, `chronik-operator-replicas`, holds the live count while the main manager lets go, and lets go itself
once the autoscaler owns it. On the way back the autoscaler is deleted before the count is taken.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chronik.errors import FieldOwner
from chronik.manifest import FIELD_MANAGER, ObjectRef
from chronik.plan.actions import REPLICAS_MANAGER, Action, Apply, Conflict, Create, TransferOwnership
from chronik.plan.managed_fields import owners_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.manifest import Manifest
    from chronik.plan.managed_fields import FieldPath

REPLICAS: FieldPath = ("f:spec", "f:replicas")
_PATH = ".spec.replicas"
_AUTOSCALER = "kube-controller-manager"

Target = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Autoscalers:
    """The HorizontalPodAutoscalers by kind, namespace and name of what they scale: wanted ones and those that run."""

    wanted: Mapping[Target, Manifest]
    running: Mapping[Target, Manifest]

    @classmethod
    def among(cls, desired: Iterable[Manifest], observed: Iterable[Manifest]) -> Autoscalers:
        """Find the autoscalers among manifests."""
        return cls(_by_target(desired), _by_target(observed))

    def first_count(self, workload: Manifest) -> int | None:
        """Return how many replicas an autoscaled workload starts with; None if no autoscaler is to scale it."""
        target = _target(workload)
        if target not in self.wanted:
            return None
        spec = self.wanted[target]["spec"]
        status = self.running.get(target, {}).get("status", {})
        count = max(spec.get("minReplicas") or 1, status.get("desiredReplicas") or 0)
        return int(min(count, spec["maxReplicas"]))

    def in_the_way(self, workload: Manifest) -> Manifest | None:
        """Return the autoscaler that still scales a workload whose count the spec gives."""
        target = _target(workload)
        return None if target in self.wanted or _counts(workload) is None else self.running.get(target)


def creation(desired: Manifest, autoscalers: Autoscalers, left: int = 0) -> list[Action]:
    """Return how a workload comes to be, with as many replicas as its autoscaler would start with.

    If that autoscaler is there already, the workload was deleted and its pods may be waiting for it; then it must not
    exist for a moment with the default of one replica. Nor may it if it is known that so many of its pods are `left`,
    all of which stay.
    """
    ref = ObjectRef.of(desired)
    first = autoscalers.first_count(desired)
    if first is None or _counts(desired) is not None:
        return [Create(ref=ref, reason="does not exist", manifest=desired)]
    count = max(first, left)
    manifest = counting(desired, count) if left or _target(desired) in autoscalers.running else desired
    held = _handover(desired, count, f"starts with {count} replicas; the autoscaler takes it from there")
    return [Create(ref=ref, reason="does not exist", manifest=manifest), held]


def before_apply(desired: Manifest, live: Manifest, autoscaler: Manifest | None) -> TransferOwnership | None:
    """Return who has to hold the count before the apply: `autoscaler` is the one that is in the way of it."""
    owners = _owners(live)
    if autoscaler is not None:
        # Should we be cut off after deleting the autoscaler, this says that the count is on its way back to us.
        return None if REPLICAS_MANAGER in owners else _handover(desired, _counts(live), "is being taken back")
    if _counts(desired) is None and owners == {FIELD_MANAGER}:
        count = _counts(live)
        return _handover(desired, count, f"stays at {count} replicas until the autoscaler takes over")
    return None


def after_apply(
    desired: Manifest, live: Manifest, autoscalers: Autoscalers, *, holds: bool
) -> TransferOwnership | None:
    """Return who comes to hold the count, or lets go of it, once the apply is through.

    `holds` says that `before_apply` came before.
    """
    owners = _owners(live) | ({REPLICAS_MANAGER} if holds else set())
    wanted, count = _counts(desired), _counts(live)
    if REPLICAS_MANAGER in owners:
        if wanted is not None:  # with another count, the apply takes it by force
            return _handover(desired, None, "the count is the spec's again") if wanted == count else None
        others = owners - {FIELD_MANAGER, REPLICAS_MANAGER}
        return _handover(desired, None, f"{min(others)} has taken over the count") if others else None
    first = autoscalers.first_count(desired)
    if wanted is None and not owners and first is not None and (count or 0) < first:
        return _handover(desired, first, f"starts with {first} replicas; the autoscaler takes it from there")
    return None


def taking_back(apply: Apply) -> Apply:
    """Return an apply that takes the count from our own hand-over, which `before_apply` has just put there."""
    held = FieldOwner(_PATH, REPLICAS_MANAGER)
    return replace(apply, force=True, takes=apply.takes if held in apply.takes else (*apply.takes, held))


def is_coming_back(owner: FieldOwner, live: Manifest, autoscaler: Manifest | None, *, unscaled: bool = False) -> bool:
    """Return whether a conflict is over a count that is ours to take: from our own hand-over, or from our autoscaler.

    An autoscaler that is not ours looks the same, and would only scale back again. But beside it nothing of ours owns
    the count, while what ours left behind is owned by the hand-over too, or, at the same count, by the main manager.
    One that scaled in the very moment that it was deleted leaves nothing of ours; then the server has been asked, and
    `unscaled` is what it said.
    """
    if owner.path != _PATH or owner.manager not in {REPLICAS_MANAGER, _AUTOSCALER}:
        return False
    return unscaled or autoscaler is not None or not _owners(live).isdisjoint({FIELD_MANAGER, REPLICAS_MANAGER})


def is_scaled(owner: FieldOwner) -> bool:
    """Return whether a field is a replica count that any autoscaler has written."""
    return owner.path == _PATH and owner.manager == _AUTOSCALER


def disputed(obstacles: Iterable[Action]) -> frozenset[ObjectRef]:
    """Return the workloads that could not be applied because an autoscaler has written their count."""
    conflicts = (each for each in obstacles if isinstance(each, Conflict))
    return frozenset(each.ref for each in conflicts if any(is_scaled(owner) for owner in each.owners))


def without_autoscaler(workloads: Iterable[ObjectRef], autoscalers: Iterable[Manifest]) -> frozenset[ObjectRef]:
    """Return the workloads that none of the autoscalers scales, ours or not."""
    scaled = _by_target(autoscalers)
    return frozenset(ref for ref in workloads if (ref.kind, ref.namespace, ref.name) not in scaled)


def handover(workload: Manifest, manager: str, fields: Manifest, reason: str) -> TransferOwnership:
    """Return the apply of a few fields of an object by a manager of their own."""
    ref = ObjectRef.of(workload)
    name = {"name": ref.name} | ({"namespace": ref.namespace} if ref.namespace else {})
    identity = {"apiVersion": workload["apiVersion"], "kind": ref.kind}
    manifest = identity | fields | {"metadata": name | fields.get("metadata", {})}
    return TransferOwnership(ref=ref, reason=reason, manager=manager, manifest=manifest)


def counting(workload: Manifest, replicas: int | None) -> Manifest:
    """Return a workload with a replica count."""
    return workload if replicas is None else workload | {"spec": {"replicas": replicas} | workload["spec"]}


def _handover(workload: Manifest, replicas: int | None, reason: str) -> TransferOwnership:
    fields = {} if replicas is None else {"spec": {"replicas": replicas}}
    return handover(workload, REPLICAS_MANAGER, fields, reason)


def _counts(workload: Manifest) -> int | None:
    count: int | None = workload["spec"].get("replicas")
    return count


def _owners(live: Manifest) -> set[str]:
    return {owner.manager for owner in owners_of(REPLICAS, live)}


def _target(workload: Manifest) -> Target:
    metadata = workload["metadata"]
    return workload["kind"], metadata.get("namespace", ""), metadata["name"]


def _by_target(manifests: Iterable[Manifest]) -> dict[Target, Manifest]:
    found = {}
    for manifest in manifests:
        if manifest["kind"] == "HorizontalPodAutoscaler":
            target: dict[str, Any] = manifest["spec"]["scaleTargetRef"]
            found[target["kind"], manifest["metadata"].get("namespace", ""), target["name"]] = manifest
    return found
