"""Which objects are no longer wanted, and which of those may go.

Deleted is only what is this cluster's beyond doubt: labels, field manager and (for an operator) owner all say so,
chronik renders that kind, nobody has asked to keep it, and it holds no data. `plan` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.manifest import CLUSTER_LABEL, KIND_BY_NAME, MANAGED_BY, ObjectRef
from chronik.plan.actions import Prune, Skip
from chronik.plan.ownership import KEEP, PRUNE_ANNOTATION, Owner, applied_by_us, standing

if TYPE_CHECKING:
    from chronik.manifest import Manifest

_UNWANTED = "is no longer part of the cluster"
NEVER_PRUNED = frozenset({"PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition"})


def pruned(live: Manifest, cluster: str, owner_uid: str | None, *, prune: bool) -> Prune | Skip | None:
    """Return what becomes of an object that is not wanted; None if it is none of this cluster's business."""
    labels = live["metadata"].get("labels") or {}
    ref = ObjectRef.of(live)
    if labels.get(CLUSTER_LABEL) != cluster or ref.kind in NEVER_PRUNED:
        return None
    kept = _why_kept(live, cluster, owner_uid)
    if kept:
        return Skip(ref=ref, why="kept", reason=kept)
    if not prune:
        return Skip(ref=ref, why="orphaned", reason=f"{_UNWANTED}, but pruning is off")
    metadata = live["metadata"]
    return Prune(ref=ref, reason=_UNWANTED, uid=metadata["uid"], resource_version=metadata["resourceVersion"])


def _why_kept(live: Manifest, cluster: str, owner_uid: str | None) -> str:
    metadata = live["metadata"]
    whose = standing(live, cluster, owner_uid)
    if whose.owner is not Owner.OURS:
        return whose.reason
    if live["kind"] not in KIND_BY_NAME:
        return f"is a {live['kind']}, which chronik by itself never makes; delete it by hand"
    if not (metadata.get("labels") or {}).items() >= MANAGED_BY.items() or not applied_by_us(live):
        return "is labelled as part of the cluster, but chronik did not make it"
    if (metadata.get("annotations") or {}).get(PRUNE_ANNOTATION) == KEEP:
        return f"is annotated {PRUNE_ANNOTATION}: {KEEP}"
    return ""
