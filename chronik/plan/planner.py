"""What has to be done to make a cluster what its manifests say: every decision of the commands and of the operator.

`plan` compares what is wanted with what is there, object by object, and returns actions in the order in which they
are to be carried out; nothing is sent from here. For each object it is decided in turn whose it is (`ownership`),
whether an apply would change anything (`drift`), whether that can be changed at all (`conflicts`, `volumes`), and
whether another field manager owns it (`conflicts`) and it may be taken from that one (`_may_take`). `replicas` then
hands the replica count over, if it has to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from chronik.manifest import (
    FIELD_MANAGER,
    WORKLOAD_KINDS,
    KindName,
    ObjectRef,
    apply_order,
    as_stored,
    own_kinds,
    stage_of,
)
from chronik.plan.actions import (
    KEPT_MANAGER,
    ROLLOUT_MANAGER,
    STAGE_NAMES,
    Action,
    Adopt,
    Apply,
    Blocked,
    Create,
    Deferred,
    Foreign,
    Obstacle,
    Plan,
    Prune,
    Skip,
    Stage,
    Step,
    TransferOwnership,
    Wait,
    not_installed,
)
from chronik.plan.changes import NO_SECRETS, Mask, changes_of, summary
from chronik.plan.configuration import predecessor, record_of_kinds, replaced, why_still_read
from chronik.plan.conflicts import (
    conflict,
    field_conflicts,
    foreign_keys,
    immutable_differences,
    port_collisions,
    still_scaled,
    unchangeable,
)
from chronik.plan.drift import applied_fields, as_applied, drift, restarting, split
from chronik.plan.managed_fields import BEFORE_FIRST_APPLY
from chronik.plan.ownership import Owner, additions, ownership_of, pruned
from chronik.plan.replicas import (
    Autoscalers,
    after_apply,
    before_apply,
    creation,
    handover,
    is_coming_back,
    taking_back,
)
from chronik.plan.volumes.recreating import left_count, recreation, resumption, unfinished, unneeded
from chronik.plan.volumes.sizes import (
    at_live_size,
    claim_retention,
    only_sizes_differ,
    owned_claims,
    retaining,
    volumes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from chronik.errors import FieldOwner
    from chronik.manifest import Manifest
    from chronik.plan.configuration import Record
    from chronik.plan.drift import Difference
    from chronik.plan.live import Missing
    from chronik.plan.volumes.sizes import Volumes

    RolloutGate = Callable[[Create | Apply, tuple[ObjectRef, ...]], ObjectRef | None]

HUMAN_MANAGERS = (
    *("kubectl*", "oc", "k9s*", "lens*", "node-fetch*", "headlamp*", "rancher*", "dashboard*", "Mozilla*"),
    BEFORE_FIRST_APPLY,
)
"""Field managers that people write with; what an operator owns by contract, it takes back from them."""

Flapping = tuple[str, str, str]
"""An apply that did not help: uid of the object, digest of the manifest, digest of the differences that it left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """Everything that decides about a plan, but the manifests.

    `owner_uid` is the ChronikCluster's for the operator, whose manifests bear its owner reference, and None for the
    CLI. `take_back_managers` are patterns of field managers whose fields are taken without asking; `force_conflicts`
    takes those of all managers. `claims` are the PersistentVolumeClaims of the namespace, or at least the cluster's,
    `pods` its pods, as far as they are known, and `expandable` tells of StorageClasses whether they expand volumes.
    `gate` is asked before a workload is created or its pods restart, with the workloads of this plan of which that is
    already so; it names the one to wait for, if any. `unscaled` are workloads of which the server has said that no
    autoscaler at all scales them. `missing` says of kinds why no object of them can be made: theirs are left out.
    `unread` are kinds of which it is not known what there is. `closed` says why pods that are ready may not restart
    now; empty if they may. `repairs` are workloads whose template is written even so: the caller spares ready pods.
    """

    cluster: str
    namespace: str
    owner_uid: str | None = None
    prune: bool = False
    force_conflicts: bool = False
    take_back_managers: tuple[str, ...] = ()
    flapping: Collection[Flapping] = frozenset()
    claims: Sequence[Manifest] = ()
    pods: Sequence[Manifest] = ()
    expandable: Mapping[str, bool] = field(default_factory=dict)
    unscaled: Collection[ObjectRef] = frozenset()
    missing: Mapping[KindName, Missing] = field(default_factory=dict)
    mask: Mask = NO_SECRETS
    gate: RolloutGate | None = None
    unread: Collection[KindName] = ()
    closed: str = ""
    repairs: Collection[ObjectRef] = ()


def plan(desired: Sequence[Manifest], observed: Mapping[ObjectRef, Manifest], context: PlanContext) -> Plan:
    """Return what has to be done so that `observed` becomes `desired`.

    `observed` holds the live objects with their `managedFields`: all that bear the cluster's label, and whatever else
    has the name of a desired one. An object that is not in it is taken not to exist.
    """
    return _Planner(desired, observed, context).plan()


def manifest_digest(manifest: Manifest) -> str:
    """Return a digest of a manifest, whatever the order of its keys; for `PlanContext.flapping`."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def left_over(manifest: Manifest, live: Manifest, differences: Iterable[Difference]) -> Flapping:
    """Return how `PlanContext.flapping` recognises differences that an apply has left, whatever else changes."""
    left = [[each.kind, each.path, each.live] for each in differences]
    return live["metadata"]["uid"], manifest_digest(manifest), manifest_digest({"left": left})


class _Planner:
    """One plan in the making. `started` are the workloads that it creates or restarts, in order."""

    def __init__(
        self, desired: Sequence[Manifest], observed: Mapping[ObjectRef, Manifest], context: PlanContext
    ) -> None:
        self.desired = sorted(map(as_stored, desired), key=apply_order)
        self.observed = observed
        self.context = context
        self.autoscalers = Autoscalers.among(desired, observed.values())
        self.started: list[ObjectRef] = []
        self.gone: set[ObjectRef] = set()
        self.own = own_kinds([*desired, *observed.values()])
        self._operated = context.owner_uid is not None

    def plan(self) -> Plan:
        record = self._record()
        if record is not None:
            self.desired = [record.now if each is record.wanted else each for each in self.desired]
        wanted = [(stage_of(manifest["kind"]), self._step(manifest)) for manifest in self.desired]
        unwanted = [(stage_of(step.ref.kind), step) for step in self._prunes()]
        numbers = range(len(STAGE_NAMES))
        applies = [Stage(STAGE_NAMES[number], _steps(wanted, number)) for number in numbers]
        prunes = [Stage(STAGE_NAMES[number], _steps(unwanted, number), prunes=True) for number in reversed(numbers)]
        last = Stage("config", self._forgotten(record) if record else (), prunes=True)
        return Plan(tuple(stage for stage in (*applies, *prunes, last) if stage.steps))

    def _record(self) -> Record | None:
        """Return how the record of kinds changes that templates of the user's make; None if it forgets none."""
        left = [(KindName.of(each), self._pruned(each)) for each in self._unwanted()]
        kept = {kind for kind, action in left if isinstance(action, Skip)} | {*self.context.unread}
        going = {kind for kind, action in left if isinstance(action, Prune)}
        return record_of_kinds(self.desired, self.observed, kept, going)

    def _forgotten(self, record: Record) -> tuple[Step, ...]:
        """Return the apply that forgets the kinds of which the last objects have been pruned before it."""
        ref = ObjectRef.of(record.wanted)
        live = self.observed.get(ref)  # a new one is left to the next apply
        action = self._action_for(record.then, live, "") if live and record.then != record.now else None
        if not isinstance(action, Apply):
            return ()
        return (Step(ref, (replace(action, reason="the last objects of a kind are gone"),)),)

    def _step(self, manifest: Manifest) -> Step:
        ref = ObjectRef.of(manifest)
        if why := self.context.missing.get(kind := KindName.of(manifest)):
            return Step(ref, (not_installed(ref, kind, why),))
        live = self.observed.get(ref)
        if live is None:
            return Step(ref, tuple(self._created(manifest)))
        whose = ownership_of(live, self.context.cluster, self.context.owner_uid)
        if whose.owner is Owner.FOREIGN:
            return Step(ref, (Foreign(ref=ref, reason=whose.reason, hint=whose.hint),))
        if whose.owner is Owner.TERMINATING:
            return Step(ref, (Wait(ref=ref, reason=whose.reason),))
        return Step(ref, tuple(_noted(self._existing(manifest, live, whose.reason), additions(live, manifest))))

    def _created(self, manifest: Manifest) -> list[Action]:
        if manifest["kind"] not in WORKLOAD_KINDS:
            return [self._new(manifest)]
        create, *rest = creation(manifest, self.autoscalers, left_count(manifest, self.context.pods))
        assert isinstance(create, Create)
        gated = self._gated(create)
        return [*resumption(gated, self.context.pods, self.observed), *rest] if isinstance(gated, Create) else [gated]

    def _new(self, manifest: Manifest) -> Create:
        """Return how an object is created, and what it changes if it is the next version of another."""
        ref, older = ObjectRef.of(manifest), predecessor(manifest, self.observed)
        if older is None:
            return Create(ref=ref, reason="does not exist", manifest=manifest)
        before = ObjectRef.of(older)
        changes = replaced(manifest, older, self.context.mask)
        return Create(ref=ref, reason=f"replaces {before.name}", manifest=manifest, changes=changes, replaces=before)

    def _existing(self, manifest: Manifest, live: Manifest, adoption: str) -> list[Action]:
        if manifest["kind"] == "Service":
            return [*self._brought_up(manifest, live, adoption), *unneeded(live, self.desired, self.observed)]
        handovers, live = unfinished(manifest, live)
        if not self._waits_to_restart(manifest, live):
            return [*handovers, *self._brought_up(manifest, live, adoption)]
        kept = as_applied(manifest, live)
        rest = self._brought_up(kept, live, adoption) if kept else []
        return [*handovers, *rest, self._pending(ObjectRef.of(live), "its pods are to restart")]

    def _waits_to_restart(self, manifest: Manifest, live: Manifest) -> bool:
        """Return whether an apply would restart pods that had better wait; if none is ready, nothing is lost."""
        waits = self.context.closed and manifest["kind"] in WORKLOAD_KINDS
        if not waits or ObjectRef.of(live) in self.context.repairs:
            return False
        restarts = restarting(split(drift(manifest, live)), live, applied_fields(live) or {})
        return bool(restarts) and bool((live.get("status") or {}).get("readyReplicas"))

    def _pending(self, ref: ObjectRef, reason: str) -> Deferred:
        return Deferred(ref=ref, code="RestartPending", reason=reason, hint=self.context.closed)

    def _brought_up(self, manifest: Manifest, live: Manifest, adoption: str) -> list[Action]:
        if manifest["kind"] != "StatefulSet":
            return self._updated(manifest, live, adoption)
        found = volumes(manifest, live, self.context.claims, self.context.expandable)
        resizes = found.larger and only_sizes_differ(found.manifest, live)
        rest = self._resized(found, live, adoption) if resizes else self._updated(found.manifest, live, adoption)
        return [*found.held, *found.grow, *rest]

    def _updated(self, manifest: Manifest, live: Manifest, adoption: str) -> list[Action]:
        """Return the apply, if one is needed, and what happens to the replica count around it."""
        if manifest["kind"] not in WORKLOAD_KINDS:
            return [self._action_for(manifest, live, adoption)]
        autoscaler = self.autoscalers.in_the_way(manifest)
        main = self._action_for(manifest, live, adoption, autoscaler)
        before: list[Action] = []
        if isinstance(main, Obstacle):
            return [main]
        if isinstance(main, Apply):
            if not any(change.path == "spec.replicas" for change in main.changes):
                autoscaler = None
            held = before_apply(manifest, live, autoscaler)
            gone = self._pruned(autoscaler) if autoscaler is not None else None
            if autoscaler is not None and not isinstance(gone, Prune):
                return [still_scaled(main, gone, ObjectRef.of(autoscaler), operated=self._operated)]
            before = [action for action in (held, gone) if action]
            if gone is not None:
                self.gone.add(gone.ref)
                main = taking_back(main)
        after = after_apply(
            manifest, live, self.autoscalers, holds=any(isinstance(each, TransferOwnership) for each in before)
        )
        return [*before, main, *([after] if after else ()), *self._released(manifest, live)]

    def _released(self, manifest: Manifest, live: Manifest) -> list[Action]:
        """Return how a hold of an operator that is no longer there ends: without one, a StatefulSet rolls by itself."""
        if self._operated or applied_fields(live, ROLLOUT_MANAGER) is None:
            return []
        return [handover(manifest, ROLLOUT_MANAGER, {}, "rolls by itself again, as no operator leads it")]

    def _resized(self, found: Volumes, live: Manifest, adoption: str) -> list[Action]:
        """Return how a StatefulSet gets larger claim templates; its claims must not hang on it when it is deleted."""
        level, ref = at_live_size(found.manifest, live), ObjectRef.of(live)
        independent = claim_retention(live) == "Retain" and not owned_claims(found.claims, live["metadata"]["uid"])
        actions = self._updated(level if independent else retaining(level), live, adoption)
        if self.context.closed:
            return [*actions, self._pending(ref, "is to be created anew with larger volumes")]
        if any(isinstance(action, Obstacle) for action in actions):
            return actions
        if not independent:
            reason = "lets go of its claims first; then it is created anew with larger volumes"
            return [*(each for each in actions if not isinstance(each, Skip)), Wait(ref=ref, reason=reason)]
        changes = changes_of(drift(found.manifest, live), live, mask=self.context.mask)
        restarts = next((action.restarts for action in actions if isinstance(action, Apply)), ())
        anew = recreation(found.manifest, live, "its volumes grow; pods keep running", changes, restarts, self.observed)
        # Should we be cut off once the autoscaler is gone, the count is held for us.
        return [*actions[: next((at for at, each in enumerate(actions, 1) if isinstance(each, Prune)), 0)], *anew]

    def _action_for(
        self, manifest: Manifest, live: Manifest, adoption: str, autoscaler: Manifest | None = None
    ) -> Action:
        """Return what becomes of one object, leaving replica counts and volumes aside."""
        ref, metadata = ObjectRef.of(manifest), live["metadata"]
        fields = applied_fields(live) or {}
        differences = drift(manifest, live)
        if not differences:
            return Skip(ref=ref, reason="is as it should be")
        owners = tuple(field_conflicts(manifest, live, fields))
        removes, removal = foreign_keys(manifest, live)
        parts = list(split(differences))
        reordered = (each for each in parts if each.kind == "order" and each not in differences)
        changes = changes_of((*differences, *reordered), live, (*owners, *removes), self.context.mask)
        stuck = immutable_differences(manifest, live, fields, parts)
        if stuck:
            return unchangeable(manifest, live, changes, changes_of(stuck, live), operated=self._operated)
        version = metadata["resourceVersion"]
        if self.context.flapping and left_over(manifest, live, differences) in self.context.flapping:
            return Skip(
                ref=ref, why="settled", reason="is changed back by something else on every apply", changes=changes
            )
        in_the_way, clearing = port_collisions(manifest, live)
        owners = (*owners, *in_the_way)
        refused = tuple(owner for owner in (*owners, *removes) if not self._may_take(owner, live, autoscaler))
        if refused:
            added = tuple(owner for owner in removes if owner in refused)
            return conflict(ref, refused, changes, added, operated=self._operated)
        restarts = restarting(parts, live, fields)
        return self._gated(
            (Adopt if adoption else Apply)(
                ref=ref,
                reason=adoption or summary(changes, owners, removes),
                manifest=manifest,
                changes=changes,
                restarts=changes_of(restarts, live, mask=self.context.mask),
                uid=metadata["uid"],
                resource_version=version,
                force=bool(owners),
                takes=owners,
                removes=removes,
                clearing=clearing or removal or None,
            )
        )

    def _may_take(self, owner: FieldOwner, live: Manifest, autoscaler: Manifest | None) -> bool:
        """Return whether a field may be taken from another manager: one of our own, or one that we were told to."""
        patterns = (FIELD_MANAGER, KEPT_MANAGER, ROLLOUT_MANAGER, *self.context.take_back_managers)
        return (
            self.context.force_conflicts
            or any(fnmatchcase(owner.manager, pattern) for pattern in patterns)
            or is_coming_back(owner, live, autoscaler, unscaled=ObjectRef.of(live) in self.context.unscaled)
        )

    def _gated(self, action: Create | Apply) -> Action:
        if action.ref.kind not in WORKLOAD_KINDS or (isinstance(action, Apply) and not action.restarts):
            return action
        blocker = self.context.gate(action, tuple(self.started)) if self.context.gate else None
        if blocker is not None:
            changes = action.changes if isinstance(action, Apply) else ()
            return Blocked(ref=action.ref, by=blocker, reason=f"waits for {blocker}", changes=changes)
        self.started.append(action.ref)
        return action

    def _prunes(self) -> list[Step]:
        actions = [self._pruned(live) for live in sorted(self._unwanted(), key=apply_order, reverse=True)]
        return [Step(action.ref, (action,)) for action in actions if action]

    def _unwanted(self) -> list[Manifest]:
        wanted = {ObjectRef.of(manifest) for manifest in self.desired} | self.gone
        here = {ref: live for ref, live in self.observed.items() if ref.namespace == self.context.namespace}
        return [live for ref, live in here.items() if ref not in wanted]

    def _pruned(self, live: Manifest) -> Prune | Skip | None:
        prune = self.context.prune and bool(self.desired)  # nothing rendered is a mistake, not a wish
        action = pruned(live, self.context.cluster, self.context.owner_uid, prune=prune, own=self.own)
        if action is None or (isinstance(action, Skip) and action.why == "kept"):
            return action
        read = why_still_read(live, self.desired, self.observed, self.context.pods)
        return Skip(ref=ObjectRef.of(live), why="kept", reason=read) if read else action


def _steps(numbered: Iterable[tuple[int, Step]], stage: int) -> tuple[Step, ...]:
    return tuple(step for number, step in numbered if number == stage)


def _noted(actions: Sequence[Action], added: tuple[FieldOwner, ...]) -> Sequence[Action]:
    """Return the actions about an object with what others have added to it, unless they remove it."""
    first, *rest = actions
    return [replace(first, additions=added), *rest] if added and first.ref.kind in WORKLOAD_KINDS else actions
