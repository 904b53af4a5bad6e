"""What an apply would do about a change: which pods restart and why, and what it cannot do.

A snapshot is taken for the live object that chronik applied, with the ownership that the API server would have
recorded. The planner decides the rest, as for `chronik diff`, so a review says what that says, in the same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chronik.manifest import CLUSTER_LABEL, KIND_BY_NAME, WORKLOAD_KINDS, ObjectRef
from chronik.offline.played import server_model
from chronik.plan.actions import Apply, Deferred, Obstacle, Recreate, Wait
from chronik.plan.planner import PlanContext, plan
from chronik.wording import sentence

if TYPE_CHECKING:
    from chronik.manifest import Manifest
    from chronik.plan.actions import Action
    from chronik.plan.changes import Change

UNTOLD = "Whether its pods restart cannot be told: no API server would take this, or what the snapshot says."


class Consequences(NamedTuple):
    """What comes of a change: the fields that restart pods, None where there are no pods to; and what else to know."""

    restarts: tuple[Change, ...] | None = None
    notes: tuple[str, ...] = ()


def consequences(old: Manifest, new: Manifest) -> Consequences:
    """Return what an apply of `new` would do to the object that was applied as `old`."""
    ref = ObjectRef.of(new)
    if ref.kind not in KIND_BY_NAME or ref.name != old["metadata"].get("name"):
        return Consequences()  # another object, by which nothing is done to this one: a configuration's next version
    try:
        actions = _planned(ref, old, new)
    except (AttributeError, KeyError, TypeError, ValueError):  # a snapshot is a file, and may say anything
        return Consequences(notes=(UNTOLD,) if ref.kind in WORKLOAD_KINDS else ())
    notes = tuple(_told(action) for action in actions if isinstance(action, Recreate | Obstacle | Deferred))
    if ref.kind not in WORKLOAD_KINDS or any(_refuses(action) for action in actions):
        return Consequences(notes=notes)
    restarts = [change for action in actions if isinstance(action, Apply | Recreate) for change in action.restarts]
    return Consequences(tuple(restarts), notes)


def _planned(ref: ObjectRef, old: Manifest, new: Manifest) -> tuple[Action, ...]:
    cluster = (old["metadata"].get("labels") or {}).get(CLUSTER_LABEL, "")
    return plan([new], {ref: as_applied(old)}, PlanContext(cluster=cluster, namespace=ref.namespace)).actions


def _refuses(action: Action) -> bool:
    return isinstance(action, Obstacle) and not isinstance(action, Wait)


def _told(action: Action) -> str:
    if isinstance(action, Recreate) and action.restarts:
        return action.reason.partition(";")[0]  # pods keep running through the recreation, and restart after it
    hint = action.hint if isinstance(action, Obstacle | Deferred) else ""
    return f"{sentence(action.reason)} {hint}" if hint else action.reason


def as_applied(manifest: Manifest) -> Manifest:
    """Return a manifest as the API server would hold it once chronik had applied it."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    return server_model().applied(manifest | {"metadata": metadata})
