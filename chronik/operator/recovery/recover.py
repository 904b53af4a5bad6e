"""Recover a new cluster from a backup, one step a pass, before any of its workloads is applied.

A pass looks, plans, makes what is next, and says how it is; it holds back everything else until workloads may start.
What it has found out is written before what follows from it is done, so it may be cut off anywhere.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chronik.backups import manifests
from chronik.backups.document import status_of as backup_status
from chronik.backups.recovery.claims import claim_of
from chronik.backups.recovery.plan import STARTS, RecoveryPlan, is_over, plan_recovery
from chronik.backups.recovery.tell import conditions
from chronik.errors import AlreadyExists, ApiError, ChronikError, ObjectChanged
from chronik.manifest import FIELD_MANAGER, JOB, WORKLOAD_KINDS, ObjectRef
from chronik.operator import lifecycle
from chronik.operator.context import ReconcileResult, status_of
from chronik.operator.recovery.look import look
from chronik.plan.ownership import Owner, ownership_of
from chronik.status.assess import NOTHING_DONE, describe_error
from chronik.status.compute import Reason
from chronik.status.events import Announcement
from chronik.status.outcomes import recovering, refused
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.backups.recovery.plan import MakePart
    from chronik.backups.recovery.seen import Seen
    from chronik.manifest import Manifest
    from chronik.operator.context import BackupTools, ReconcileContext
    from chronik.operator.convergence import Desired
    from chronik.status.compute import Condition

_log = logging.getLogger("chronik.operator.recovery")

RECOVERY_MANAGER = f"{FIELD_MANAGER}-recovery"
"""Owns what claims are made with. The main manager sets their size when they grow, and must not take the rest away."""
_REFUSED_LOOKS = 6
"""How many times longer it is between looks at a recovery that cannot be done."""

_NOT_ALLOWED_AGAIN = 30.0
"""Seconds until the server is asked again that refused to tell."""

_NOT_INSTALLED = Reason(
    "BackupsNotInstalled",
    "spec.bootstrap.recovery is there, and this operator recovers nothing: install it with --features backups."
    " Until then no node is started, since it would begin empty",
)
_REMOVED = Reason(
    "RecoveryRemoved",
    "spec.bootstrap was removed before the recovery was over: write it again, or delete the cluster",
)
_NAMESPACED = Reason(
    "RecoveryNotPermitted",
    "This operator may read nothing outside of its namespaces, so it cannot see what volumes are made from: recover"
    " with an operator that was installed without --watch-namespace",
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How the recovery of a cluster stands, for its status; empty for the clusters that begin empty.

    `held` is how a pass ended that must not go on, because workloads may not start.
    """

    status: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    held: ReconcileResult | None = None
    again_at: str = ""


NO_RECOVERY = Recovery()


async def recover(desired: Desired, context: ReconcileContext) -> Recovery:
    """Bring the recovery of a cluster one step further, if it asks for one and that is not over."""
    known = status_of(desired.document).get("recovery") or {}
    if is_over(known):
        return Recovery(known, tuple(conditions(known, None, None)))
    if desired.cluster.spec["bootstrap"] is None:
        return await _hold(desired, RecoveryPlan({**known}, refused=_REMOVED), "", context) if known else NO_RECOVERY
    if not known and _has_run(desired, context):
        return NO_RECOVERY  # its status was lost; workloads are there only because all was well before
    if desired.paused:
        return Recovery(known)
    if context.backups is None:
        return await _hold(desired, RecoveryPlan({**known}, refused=_NOT_INSTALLED), "", context)
    if context.cache.is_namespaced:
        return await _hold(desired, RecoveryPlan({**known}, refused=_NAMESPACED), "", context)
    try:
        return await _step(desired, known, context.backups, context)
    except ApiError as error:
        if error.retry_class == "transient":
            raise
        plan = RecoveryPlan({**known}, refused=describe_error(error))  # a right that is missing, most likely
        return await _hold(desired, plan, later(context.now(), _NOT_ALLOWED_AGAIN), context)


def _has_run(desired: Desired, context: ReconcileContext) -> bool:
    """Return whether a workload of this very cluster is there."""
    cluster = desired.cluster
    found = context.cache.view(cluster.key, desired.document).objects
    return any(
        ref.kind in WORKLOAD_KINDS and ownership_of(each, cluster.name, cluster.uid).owner is Owner.OURS
        for ref, each in found.items()
    )


async def _step(desired: Desired, known: Mapping[str, Any], tools: BackupTools, context: ReconcileContext) -> Recovery:
    seen = await look(desired, known, tools, context)
    plan = plan_recovery(desired.cluster, desired.manifests, known, seen, context.now())
    if plan.makes:
        errors = await _make_all(desired, plan.makes, seen, tools, context)
        if errors:
            plan = plan_recovery(desired.cluster, desired.manifests, known, replace(seen, errors=errors), context.now())
    again_at = later(context.now(), tools.poll * (_REFUSED_LOOKS if plan.refused else 1))
    if plan.refused is not None or not plan.starts or known.get("phase") not in STARTS:
        held = await _hold(desired, plan, again_at, context)  # also once when all is there: it is written first
        await _remove_all(desired, plan, context)
        return held
    await _remove_all(desired, plan, context)
    if is_over(plan.status):
        message = str(plan.status["message"])
        _log.info("recovered: %s", message)
        context.announce(desired.document, Announcement("Normal", "Recovered", message))
        again_at = ""
    return Recovery(plan.status, tuple(conditions(plan.status, None, plan.waiting)), again_at=again_at)


async def _hold(desired: Desired, plan: RecoveryPlan, again_at: str, context: ReconcileContext) -> Recovery:
    """Say how far a recovery is, or why it cannot be done; nothing else of the cluster is made in this pass."""
    document, reason = desired.document, plan.refused or plan.waiting or Reason("StartingNodes", "All is restored")
    previous = {**status_of(document), **({"recovery": plan.status} if plan.status else {})}
    told, generation = conditions(plan.status, plan.refused, reason), int(document["metadata"]["generation"])
    make = refused if plan.refused else recovering
    status = make(previous, reason, context.now(), generation, told)
    before = status_of(document)
    wrote = await lifecycle.write_status(document, status, context)
    lifecycle.record_events(document, NOTHING_DONE, status, context)
    if plan.status.get("startedAt") and not (before.get("recovery") or {}).get("startedAt"):
        context.announce(document, Announcement("Normal", *reason))
    elif plan.refused and before.get("phase") == "Failed" and reason.message not in _said(before):
        context.announce(document, Announcement("Warning", *reason))
    result = ReconcileResult(
        "failed" if plan.refused else "waiting",
        "permanent" if plan.refused else None,
        str(status["phase"]),
        reason=reason,
        wrote=wrote or bool(plan.makes),
        again_at=again_at,
    )
    return Recovery(plan.status, held=result)


def _said(status: Mapping[str, Any]) -> set[str]:
    """Return what the conditions of a status say."""
    return {str(each["message"]) for each in status.get("conditions") or ()}


# --- parts ------------------------------------------------------------------------------------------------------------


async def _make_all(
    desired: Desired, makes: tuple[MakePart, ...], seen: Seen, tools: BackupTools, context: ReconcileContext
) -> dict[str, str]:
    """Make parts, and return why some could not be made; one that cannot be keeps no other from it."""
    errors = {}
    for each in makes:
        try:
            if each.node is not None:
                uid = seen.backups[0]["metadata"]["uid"]
                await _create(claim_of(each.node, uid, each.storage_class), RECOVERY_MANAGER, context)
            else:
                await _run(desired, each.name, seen, tools, context)
        except ChronikError as error:
            errors[each.name] = describe_error(error).message
    return errors


async def _run(desired: Desired, name: str, seen: Seen, tools: BackupTools, context: ReconcileContext) -> None:
    assert seen.recorded, "it has been checked"
    (backup,) = seen.backups
    wanted = manifests.RestoreOf(desired.document, desired.cluster, backup, seen.recorded, name, seen.image)
    target = str((status_of(desired.document).get("recovery") or {}).get("metastoreTarget", ""))
    if target:
        assert seen.base
        assert seen.base_recorded
        wanted = wanted._replace(backup=seen.base, recorded=seen.base_recorded, target=target, exact=_is_exact(desired))
    assert backup_status(wanted.backup)["metastore"]
    account, job = manifests.restore_job(wanted, tools.render)
    await context.kube.apply(account, force=True)
    await _create(job, FIELD_MANAGER, context)


def _is_exact(desired: Desired) -> bool:
    bootstrap = desired.cluster.spec["bootstrap"]
    assert bootstrap
    return bootstrap["recovery"]["metastore"] == "Exact"


async def _create(manifest: Manifest, manager: str, context: ReconcileContext) -> None:
    """Create an object, unless there is one of its name: an apply with a resource version changes nothing there is."""
    wanted = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "1"}}
    try:
        made = await context.kube.apply(wanted, manager=manager)
    except (ObjectChanged, AlreadyExists):
        return  # the next pass looks at it
    context.cache.observe_write(made)
    _log.info("made %s", ObjectRef.of(manifest))


async def _remove_all(desired: Desired, plan: RecoveryPlan, context: ReconcileContext) -> None:
    for each in plan.removes:
        ref = ObjectRef(JOB.name, desired.cluster.namespace, each.name)
        await context.kube.delete(JOB, ref, uid=each.uid)
