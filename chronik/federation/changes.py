"""What an apply would do to one object that chronik hands to others whole: a member's ChronikCluster, or a federation.

Neither is part of a cluster, so `plan.planner` does not decide about them: whose they are is in annotations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chronik.federation.document import of_federation
from chronik.manifest import ObjectRef
from chronik.plan.actions import Apply, Create, Foreign, Skip, Wait
from chronik.plan.changes import changes_of, summary
from chronik.plan.conflicts import conflict, field_conflicts
from chronik.plan.drift import applied_fields, walk

if TYPE_CHECKING:
    from chronik.manifest import Manifest
    from chronik.plan.actions import Action
    from chronik.plan.drift import Difference


def change_of(manifest: Manifest, live: Manifest | None, *, manager: str, force: bool = False) -> Action:
    """Return what an apply by a field manager does to an object; with `force` it takes fields from other managers.

    A ChronikCluster of another federation is not touched, and neither is one that is being deleted.
    """
    ref = ObjectRef.of(manifest)
    if live is None:
        return Create(ref=ref, reason="does not exist", manifest=manifest)
    owner = of_federation(live)
    if owner not in {"", of_federation(manifest)}:
        hint = "A ChronikCluster belongs to one federation. Give the member another namespace or cluster."
        return Foreign(ref=ref, reason=f"belongs to the federation {owner}", hint=hint)
    if "deletionTimestamp" in live["metadata"]:
        return Wait(ref=ref, reason="is being deleted", hint="Apply again once it is gone.")
    fields = applied_fields(live, manager) or {}
    differences = [_opened(each) for each in walk(manifest, live, fields)]
    if not differences:
        return Skip(ref=ref, reason="is as it should be")
    owners = tuple(field_conflicts(manifest, live, fields))
    changes = changes_of(differences, live, owners)
    if owners and not force:
        return conflict(ref, owners, changes)
    return Apply(
        ref=ref,
        reason=summary(changes, owners, ()),
        manifest=manifest,
        changes=changes,
        uid=live["metadata"]["uid"],
        resource_version=live["metadata"]["resourceVersion"],
        force=bool(owners),
        takes=owners,
    )


def _opened(difference: Difference) -> Difference:
    """Return a difference of a map as what it is in our kinds: what others have in it, such as defaults, stays.

    One that was empty when it was applied looks as if it were owned whole.
    """
    maps = isinstance(difference.desired, dict) and isinstance(difference.live, dict)
    return replace(difference, kind="missing") if maps and difference.kind == "differs" else difference
