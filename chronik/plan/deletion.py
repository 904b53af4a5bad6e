"""How a cluster is deleted: what goes by request, what the garbage collector takes along, and what stays.

A StatefulSet whose retention policy says Delete owns its claims, and they go with it. While volumes grow it lets go of
them for a moment, and a claim that is just being made is not owned yet: those would stay, so the finalizer deletes
them. Without an operator everything is deleted one by one, in reverse order of an apply.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chronik.api.components import claim_owner, workload_name
from chronik.errors import ConflictError
from chronik.manifest import (
    COMPONENT_LABEL,
    WORKLOAD_KINDS,
    ClusterKey,
    ObjectRef,
    apply_order,
    component_of,
    own_kinds,
    stage_of,
)
from chronik.plan.actions import STAGE_NAMES, Plan, Prune, Skip, Stage, Step
from chronik.plan.ownership import Owner, has_owner, ownership_of, pruned
from chronik.plan.volumes.sizes import claim_retention

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from chronik.manifest import KindName, Manifest
    from chronik.plan.live import LiveCluster

# --- claims that nothing would take along -----------------------------------------------------------------------------

_ORPHAN = "orphan"
"""The finalizer that a deletion with --cascade=orphan sets: everything is meant to stay."""


def leftovers(document: Manifest, claims: Iterable[Manifest], children: Iterable[Manifest]) -> Plan:
    """Return the deletion of claims that are to go with a cluster and that nothing owns; its spec need not be valid.

    `children` are live objects of the cluster, as the server has them now. If one of them no longer names the cluster
    as its owner, all have been orphaned, and the finalizer that said so may be gone already: then nothing is deleted.
    """
    if when_deleted(document) != "Delete" or is_orphaning(document):
        return Plan(())
    if is_orphaned(children, document["metadata"]["uid"]):
        return Plan(())
    key = ClusterKey.of(document)
    data = (claim for claim in claims if claim_owner(key, claim["metadata"]["name"]))
    steps = tuple(
        Step(ObjectRef.of(claim), (_deleted(claim),))
        for claim in data
        if not claim["metadata"].get("ownerReferences") and "deletionTimestamp" not in claim["metadata"]
    )
    return Plan((Stage("volumes", steps),)) if steps else Plan(())


def is_orphaning(document: Manifest) -> bool:
    """Return whether a cluster is deleted so that everything of it stays."""
    return _ORPHAN in (document["metadata"].get("finalizers") or ())


def is_orphaned(children: Iterable[Manifest], uid: str) -> bool:
    """Return whether an object of a cluster no longer names it as its owner: all have been orphaned then."""
    return any(not has_owner(child, uid) for child in children)


def when_deleted(document: Manifest) -> str:
    """Return what is to become of volumes: Retain, unless the spec clearly says Delete."""
    found: Any = document
    for key in ("spec", "storage", "retention", "whenDeleted"):
        found = found.get(key) if isinstance(found, dict) else None
    return "Delete" if found == "Delete" else "Retain"


def backups_go(document: Manifest) -> bool:
    """Return whether the backups of a cluster go with it: only if the spec clearly says so."""
    found: Any = document
    for key in ("spec", "backup", "onClusterDeletion"):
        found = found.get(key) if isinstance(found, dict) else None
    return bool(found == "Delete")


def _deleted(claim: Manifest) -> Prune:
    """Return the deletion of a claim that nothing else takes along."""
    metadata = claim["metadata"]
    reason = "goes with its cluster: storage.retention.whenDeleted is Delete"
    return Prune(
        ref=ObjectRef.of(claim), reason=reason, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
    )


def left_behind(found: LiveCluster) -> list[Manifest]:
    """Return the pods that nothing takes along: their StatefulSet is gone, since a cut kept it from coming back."""
    sets = {ref: live["metadata"] for ref, live in found.objects.items() if ref.kind == "StatefulSet"}
    going = {metadata["uid"] for metadata in sets.values() if _lets_go(metadata)}
    staying = {(ref.namespace, ref.name) for ref, metadata in sets.items() if metadata["uid"] not in going}
    return [pod for pod in found.pods if _is_left_behind(pod["metadata"], staying, going)]


def _lets_go(metadata: Manifest) -> bool:
    """Return whether an object is on its way out, and what belongs to it is to stay."""
    return "deletionTimestamp" in metadata and _ORPHAN in (metadata.get("finalizers") or ())


def _is_left_behind(metadata: Manifest, sets: Collection[tuple[str, str]], going: Collection[str]) -> bool:
    """Return whether a pod is nobody's, or soon will be, though it is called as one of a StatefulSet."""
    name, _, number = metadata["name"].rpartition("-")
    component = (metadata.get("labels") or {}).get(COMPONENT_LABEL, "")
    ours = number.isdigit() and bool(component) and name.endswith(f"-{component}")
    return (
        ours
        and "deletionTimestamp" not in metadata
        and all(owner["uid"] in going for owner in metadata.get("ownerReferences") or ())
        and (metadata.get("namespace", ""), name) not in sets
    )


# --- the whole of a cluster -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deletion:
    """How a cluster is deleted.

    `document` is its ChronikCluster, to be deleted first. `plan` deletes what that does not take along, in reverse
    order of an apply. `follows` goes by itself: what the ChronikCluster or a StatefulSet owns, and what is being
    deleted already. `kept` stays, and says why; `volumes` are the claims that stay with their data. `error` is what
    forbids the whole deletion.
    """

    key: ClusterKey
    document: Manifest | None = None
    plan: Plan = Plan(())  # noqa: RUF009  # frozen
    follows: tuple[Manifest, ...] = ()
    kept: tuple[Skip, ...] = ()
    volumes: tuple[ObjectRef, ...] = ()
    error: ConflictError | None = None
    retention: str | None = None
    """What becomes of volumes, if the spec is known."""

    @property
    def removes(self) -> tuple[ObjectRef, ...]:
        """Everything that is deleted by a request of ours, in order."""
        first = (ObjectRef.of(self.document),) if self.document else ()
        return (*first, *(action.ref for action in self.plan.actions))

    @property
    def uids(self) -> frozenset[str]:
        """The uids of everything that will be gone."""
        planned = {action.uid for action in self.plan.actions if isinstance(action, Prune)}
        others = (*self.follows, *((self.document,) if self.document else ()))
        return frozenset({*planned, *(each["metadata"]["uid"] for each in others)})

    def only(self, uids: Collection[str]) -> Deletion:
        """Return what is left of the deletion if nothing may go but what was shown."""
        steps = (
            (stage, tuple(step for step in stage.steps if any(_uid(action) in uids for action in step.actions)))
            for stage in self.plan.stages
        )
        plan = Plan(tuple(Stage(stage.name, kept, stage.prunes) for stage, kept in steps if kept))
        document = self.document if self.document and self.document["metadata"]["uid"] in uids else None
        follows = tuple(each for each in self.follows if each["metadata"]["uid"] in uids)
        return replace(self, document=document, plan=plan, follows=follows)


def _uid(action: object) -> str:
    return action.uid if isinstance(action, Prune) else ""


def deletion(key: ClusterKey, found: LiveCluster, retention: str | None = None) -> Deletion:
    """Return how to delete a cluster.

    `retention` is what a file says of volumes: Retain or Delete. Without one the ChronikCluster's spec decides, and
    without that each StatefulSet's own policy.
    """
    if found.document is not None:
        retention = when_deleted(found.document)
    document_uid = found.document["metadata"]["uid"] if found.document else None
    own = own_kinds(found.objects.values())
    decided = [_decided(live, key, document_uid, own) for live in sorted(found.objects.values(), key=apply_order)]
    kept = tuple(action for action in decided if isinstance(action, Skip))
    prunes = [action for action in reversed(decided) if isinstance(action, Prune)]
    staying = {action.ref.name for action in kept if action.ref.kind in WORKLOAD_KINDS}
    claims = [
        _Claim.of(claim, owner, found, retention, staying)
        for claim in found.claims
        if (owner := claim_owner(key, claim["metadata"]["name"]))
    ]
    going = [claim for claim in claims if claim.goes]
    pods = [] if found.document is not None else left_behind(found)
    explicit = [_deleted(claim.live) for claim in going if not claim.follows and found.document is None]
    alone = {each["metadata"]["uid"] for each in pods}
    gone = {action.ref for action in explicit}
    return Deletion(
        key,
        found.document,
        _plan(prunes, [*(_ended(each) for each in pods), *explicit]),
        follows=(
            *(live for live in found.objects.values() if _goes_by_itself(live, key, document_uid)),
            *(
                pod
                for pod in found.pods
                if workload_name(key.name, component_of(pod)) not in staying and pod["metadata"]["uid"] not in alone
            ),
            *(claim.live for claim in going if ObjectRef.of(claim.live) not in gone),
        ),
        kept=kept,
        volumes=tuple(sorted(ObjectRef.of(claim.live) for claim in claims if not claim.goes)),
        error=_contradiction(found, kept, retention),
        retention=retention,
    )


def _ended(pod: Manifest) -> Prune:
    """Return the deletion of a pod that nothing else takes along."""
    metadata = pod["metadata"]
    return Prune(
        ref=ObjectRef.of({"kind": "Pod", **pod}),
        reason="its StatefulSet is gone",
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        api_version="v1",
    )


def _decided(
    live: Manifest, key: ClusterKey, document_uid: str | None, own: Collection[KindName]
) -> Prune | Skip | None:
    if _goes_by_itself(live, key, document_uid):
        return None
    found = pruned(live, key.name, None, prune=True, own=own)
    return replace(found, reason="") if isinstance(found, Prune) else found


def _goes_by_itself(live: Manifest, key: ClusterKey, document_uid: str | None) -> bool:
    """Return whether an object goes along with its ChronikCluster, or is on its way out already."""
    if document_uid and ownership_of(live, key.name, document_uid).owner is Owner.OURS:
        return True
    return ownership_of(live, key.name, None).owner is Owner.TERMINATING


def _plan(prunes: Iterable[Prune], claims: Iterable[Prune]) -> Plan:
    """Return the stages of an apply in reverse, and the volumes after them."""
    steps = [(stage_of(action.ref.kind), Step(action.ref, (action,))) for action in prunes]
    stages = [
        Stage(name, tuple(step for stage, step in steps if stage == number), prunes=True)
        for number, name in reversed([*enumerate(STAGE_NAMES)])
    ]
    volumes = Stage("volumes", tuple(Step(action.ref, (action,)) for action in claims), prunes=True)
    return Plan(tuple(stage for stage in (*stages, volumes) if stage.steps))


@dataclass(frozen=True, slots=True)
class _Claim:
    """A volume claim; whether it goes, and whether it does so with its StatefulSet."""

    live: Manifest
    goes: bool
    follows: bool

    @classmethod
    def of(
        cls, live: Manifest, owner: ObjectRef, found: LiveCluster, retention: str | None, staying: Collection[str]
    ) -> _Claim:
        """Return what becomes of a claim of the StatefulSet `owner`; of one that stays it is still in use."""
        workload = found.objects.get(owner)
        owned = workload is not None and has_owner(live, workload["metadata"]["uid"])
        leaving = "deletionTimestamp" in live["metadata"]
        wish = retention or (claim_retention(workload) if workload else "Retain")
        if owner.name in staying:
            return cls(live, goes=leaving, follows=leaving)
        return cls(live, goes=leaving or wish == "Delete", follows=leaving or owned)


def _contradiction(found: LiveCluster, kept: Iterable[Skip], retention: str | None) -> ConflictError | None:
    """Return why a deletion would destroy volumes that are to stay: a StatefulSet was applied with another policy."""
    if retention != "Retain":
        return None
    stays = {action.ref for action in kept}
    for ref, live in found.objects.items():
        if ref.kind == "StatefulSet" and ref not in stays and claim_retention(live) == "Delete":
            return ConflictError(
                "was applied with storage.retention.whenDeleted: Delete, so its volumes would go with it,"
                " and the document says Retain",
                subject=str(ref),
                hint=_HINT_OPERATOR if found.document else _HINT_APPLY,
            )
    return None


_HINT_APPLY = "Run `chronik apply` first to keep the volumes, or delete the cluster by name to let them go."
_HINT_OPERATOR = "Its operator has not applied the newest spec yet: is it running?"
