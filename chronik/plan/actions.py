"""What a plan says: one dataclass for each thing that can be done to an object, or be left undone, and why.

Whatever names a `uid` and a `resource_version` holds only for that very state of the object, or the one that earlier
actions of the same step left it in: send both along, so that what changed in the meantime is planned anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chronik.plan.live import not_known

if TYPE_CHECKING:
    from chronik.errors import FieldOwner
    from chronik.manifest import KindName, Manifest, ObjectRef
    from chronik.plan.changes import Change
    from chronik.plan.live import Missing

REPLICAS_MANAGER = "chronik-operator-replicas"
"""The field manager that holds a replica count while it is handed to an autoscaler, or back."""
ROLLOUT_MANAGER = "chronik-operator-rollout"
"""The field manager that holds how a StatefulSet replaces its pods, while the operator has a say in it."""
KEPT_MANAGER = "chronik-operator-kept"
"""The field manager that holds what others had set on an object that was created anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, or not to do, about one object; `reason` says why, in a sentence without its subject.

    `additions` is what others have put into the object that its pods see, and that stays.
    """

    ref: ObjectRef
    reason: str = ""
    additions: tuple[FieldOwner, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(Action):
    """Apply `manifest`, which is not there yet. Do nothing if it turns out to be there: it may not be ours.

    `changes` is what differs from the object that it `replaces`, if it is the next version of one. `keeps_pods` says
    that it takes back the pods of an earlier one, which do not start anew.
    """

    manifest: Manifest
    changes: tuple[Change, ...] = ()
    replaces: ObjectRef | None = None
    keeps_pods: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply(Action):
    """Apply `manifest` to the object that is there.

    `changes` is all that is different; `restarts` is the part that makes every pod start anew. With `force`, fields are
    taken from other managers: those in `takes`, and no others as long as the resource version holds. `clearing` is a
    merge patch that has to come first, to make room, or to remove what others have added: `removes`.
    """

    manifest: Manifest
    changes: tuple[Change, ...]
    restarts: tuple[Change, ...] = ()
    uid: str
    resource_version: str
    force: bool = False
    takes: tuple[FieldOwner, ...] = ()
    removes: tuple[FieldOwner, ...] = ()
    clearing: Manifest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt(Apply):
    """Apply that makes the cluster the owner of an object that chronik applied without one, from the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recreate(Action):
    """Delete the object, with the given propagation, and apply `manifest` anew at once; pods go on running.

    `manifest` is not quite the desired one: what others manage is in it too, until they do so again.
    """

    manifest: Manifest
    propagation: Literal["Orphan", "Background"]
    changes: tuple[Change, ...]
    restarts: tuple[Change, ...] = ()
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOwnership(Action):
    """Apply `manifest`, a few fields only, as the field manager `manager`, to hold them while others let go of them.

    A manifest without fields lets go of all. Not forced unless it says so: if a value has changed since, the server
    answers with a conflict, and everything is planned anew.
    """

    manager: str
    manifest: Manifest
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacePod(Action):
    """Delete a pod of a StatefulSet, which makes another of its newest revision in its place."""

    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowClaim(Action):
    """Set the storage that a PersistentVolumeClaim requests."""

    storage: str
    was: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(Action):
    """Delete an object that is ours and no longer wanted, in the background; `api_version` is its own."""

    uid: str
    resource_version: str
    api_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip(Action):
    """Leave the object as it is.

    unchanged: an apply would change nothing. settled: it would, but one did not help, because something changes the
    object back while it is stored. orphaned: no longer wanted, but pruning was not asked for. kept: no longer wanted,
    but not to be deleted.
    """

    why: Literal["unchanged", "settled", "orphaned", "kept"] = "unchanged"
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred(Action):
    """Part of the object stays as it is, though something else is wanted; the rest goes on. `hint`: what to do."""

    code: Literal["StorageNotExpandable", "StorageShrink", "RestartPending", "MemberPaused"]
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotInstalled(Action):
    """No object of its kind can be made yet. Everything else goes on; `code` is a condition's, `hint` what to do."""

    kind: KindName
    code: str
    hint: str


def not_installed(ref: ObjectRef, kind: KindName, why: Missing | None = None) -> NotInstalled:
    """Return that an object cannot be there: its kind is not installed, unless `why` says something else."""
    code, message, hint = why or not_known(kind)
    return NotInstalled(ref=ref, kind=kind, reason=message, code=code, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle(Action):
    """The object cannot be brought to what is wanted now. `hint` says what to do."""

    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict(Obstacle):
    """Other field managers own fields that we want otherwise: `owners`, as the server's conflict would list them.

    Some of them no apply sets: they are to go, and come last: `removes`.
    """

    owners: tuple[FieldOwner, ...]
    removes: tuple[FieldOwner, ...] = ()
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign(Obstacle):
    """The object has the wanted name, but is not ours; it is never touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Obstacle):
    """Something else has to come first: `by` another object, or else a person."""

    by: ObjectRef | None = None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Obstacle):
    """It resolves itself: the object is being deleted, or the garbage collector is on its way."""


@dataclass(frozen=True, slots=True)
class Step:
    """The actions about one object, in order; if one fails, the rest must not be tried."""

    ref: ObjectRef
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps that may run side by side. A stage that prunes runs only if everything before it went well."""

    name: str
    steps: tuple[Step, ...]
    prunes: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything to do about a cluster, stage after stage."""

    stages: tuple[Stage, ...]

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, in order."""
        return tuple(action for stage in self.stages for step in stage.steps for action in step.actions)

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """What stands in the way of some object."""
        return tuple(action for action in self.actions if isinstance(action, Obstacle))


STAGE_NAMES = ("rbac", "config", "network", "workloads", "disruption", "scaling", "monitoring", "other")
"""The stages of `manifest.stage_of`, by number."""
