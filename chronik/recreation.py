"""Creating a StatefulSet anew under its running pods, so that they do not notice.

The pods stay as they are only if the new StatefulSet has the very pod template and count of the old one, down to what
others have put there: the annotation of a restart that somebody asked for, an autoscaler's count. So those go into the
new object, and managers of their own hold them until the main manager, which never renders them, has let go again.
`plan` asks; `volumes` says why it comes to this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.actions import KEPT_MANAGER, REPLICAS_MANAGER, Action, Handover, Recreate
from chronik.fieldpath import node_at
from chronik.handover import counting, handover, holding
from chronik.manifest import FIELD_MANAGER, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.changes import Change
    from chronik.manifest import Manifest

_TEXTS = (
    ("metadata", "labels"),
    ("metadata", "annotations"),
    ("spec", "template", "metadata", "labels"),
    ("spec", "template", "metadata", "annotations"),
)


def recreation(
    desired: Manifest, live: Manifest, reason: str, changes: tuple[Change, ...], restarts: tuple[Change, ...]
) -> list[Action]:
    """Return how a StatefulSet is created anew with everything that others have set on it and pods may see."""
    manifest, handovers = desired, []
    for manager, fields in _kept(desired, live).items():
        manifest = _merged(manifest, fields)
        handovers.append(handover(desired, manager, fields, "is what others had set; it stays"))
    if "replicas" not in desired["spec"]:
        manifest = counting(manifest, live["spec"]["replicas"])
        handovers.append(holding(desired, live["spec"]["replicas"], "the autoscaler's count stays"))
    anew = Recreate(
        ref=ObjectRef.of(desired),
        reason=reason,
        manifest=manifest,
        propagation="Orphan",
        changes=changes,
        restarts=restarts,
        uid=live["metadata"]["uid"],
        resource_version=live["metadata"]["resourceVersion"],
    )
    return [anew, *handovers]


def retained(desired: Manifest) -> Manifest:
    """Return a StatefulSet that keeps its claims when it is deleted: its controller then lets go of them first."""
    field = "persistentVolumeClaimRetentionPolicy"
    return desired | {"spec": desired["spec"] | {field: desired["spec"].get(field, {}) | {"whenDeleted": "Retain"}}}


def retains(live: Manifest) -> bool:
    """Tell whether a StatefulSet keeps its claims when it is deleted."""
    policy = live["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get("whenDeleted", "Retain") == "Retain")


def lost(live: Manifest, desired: Manifest) -> list[str]:
    """Return the managers whose fields of the pod template, other than labels and annotations, would be lost."""
    return sorted(
        {
            entry["manager"]
            for entry in _foreign_entries(live)
            if (node_at(entry.get("fieldsV1") or {}, ("f:spec", "f:template", "f:spec")) or {}).keys() - {"."}
        }
    )
