"""What to say when an object cannot be brought to what is wanted: whose fault it is, and what to do.

`plan` finds out, and has these say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.manifest import ObjectRef
from chronik.plan.actions import Action, Apply, Blocked, Conflict, Recreate
from chronik.plan.immutable import way_out
from chronik.plan.replicas import is_scaled

if TYPE_CHECKING:
    from chronik.errors import FieldOwner
    from chronik.manifest import Manifest
    from chronik.plan.changes import Change


def unchangeable(
    manifest: Manifest,
    live: Manifest,
    changes: tuple[Change, ...],
    stuck: tuple[Change, ...],
    *,
    operated: bool = False,
) -> Recreate | Blocked:
    """Return what becomes of an object of which fields would have to change that never do: `stuck`.

    `operated`: it is an operator that wants them to.
    """
    ref, paths = ObjectRef.of(manifest), ", ".join(change.path for change in stuck)
    if ref.kind != "RoleBinding":
        hint = way_out(ref, operated=operated)
        return Blocked(ref=ref, reason=f"{paths} cannot be changed", hint=hint, changes=changes)
    return Recreate(
        ref=ref,
        reason=f"{paths} cannot be changed; a RoleBinding is safe to create anew",
        manifest=manifest,
        propagation="Background",
        changes=changes,
        uid=live["metadata"]["uid"],
        resource_version=live["metadata"]["resourceVersion"],
    )


def conflict(
    ref: ObjectRef, owners: tuple[FieldOwner, ...], changes: tuple[Change, ...], *, operated: bool = False
) -> Conflict:
    """Say who owns fields that are wanted otherwise; `operated`: it is an operator that wants them so."""
    managers = " and ".join(sorted({owner.manager for owner in owners}))
    hint = f"Have {managers} let go of them, set the same values, or take them with --force-conflicts."
    paths = sorted({owner.path.removeprefix(".") for owner in owners})
    if all(is_scaled(owner) for owner in owners):
        hint = "A HorizontalPodAutoscaler that is not chronik's scales it. Delete that one, or use spec.autoscaling."
    elif operated:
        it = "it" if len(paths) == 1 else "them"
        hint = f"Remove {it} from the configuration of {managers}, or have {managers} give {it} up."
    fields = ", ".join(paths)
    return Conflict(ref=ref, owners=owners, changes=changes, reason=f"{managers} set {fields}", hint=hint)


def still_scaled(main: Apply, kept: Action | None, autoscaler: ObjectRef, *, operated: bool = False) -> Blocked:
    """Say which autoscaler would undo the replica count; `kept` is why it is not pruned. `operated`: as above."""
    why = f", and {kept.reason}" if kept else ""
    hint = f"Delete {autoscaler}{'.' if operated else ', or apply with --prune, which does so first.'}"
    reason = f"{autoscaler} still scales it{why}"
    return Blocked(ref=main.ref, by=autoscaler, reason=reason, hint=hint, changes=main.changes)
