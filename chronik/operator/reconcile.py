"""One pass over one cluster: the whole product in one function. Start reading chronik here.

`worker` decides when a pass begins, and times, counts and logs it. A pass is level-triggered: everything it decides by
is read from the cluster, so it may be called at any time, be cut off anywhere, and be called again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from chronik.apply.creation import missing_pods
from chronik.errors import RenderError
from chronik.manifest import is_paused
from chronik.operator import lifecycle
from chronik.operator.aliases.tend import tend_aliases
from chronik.operator.backups.archive import end_archive, end_with_cluster
from chronik.operator.backups.tend import tend_backups
from chronik.operator.context import ReconcileResult, status_of
from chronik.operator.convergence import Desired, converge_cluster, first_digests
from chronik.operator.membership.members import membership
from chronik.operator.recovery.recover import recover
from chronik.rollout.analysis import analysis_conditions
from chronik.rollout.pending import deferred
from chronik.status.assess import assess, describe_error, invalid, with_pending, with_rollout
from chronik.status.compute import RESTART_PENDING, Observation, derive, is_rollout
from chronik.status.creation import with_creation_failures
from chronik.status.own import own_conditions, template_conditions
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from chronik.backups.cluster import Backups
    from chronik.manifest import ClusterKey, Manifest
    from chronik.operator.aliases.tend import Aliases
    from chronik.operator.backups.archive import ArchiveEnd
    from chronik.operator.context import ReconcileContext
    from chronik.operator.convergence import Converged
    from chronik.operator.membership.members import Membership
    from chronik.operator.recovery.recover import Recovery
    from chronik.plan.live import LiveCluster
    from chronik.problem import Problem
    from chronik.status.assess import Assessment
    from chronik.status.compute import Condition, Reason


_BACKUP_AGAIN = 60.0
"""Seconds until a backup is tried again that could not be made or deleted."""


async def reconcile(key: ClusterKey, context: ReconcileContext) -> ReconcileResult:
    """Bring one cluster to what its document says, and its status to what is there.

    Raises:
        ChronikError: its status or finalizer could not be written; what became of its objects is in the status.
    """
    # 1. Observe (caches, no request). Clusters that are gone, being deleted or new end here (client).
    document = context.cache.cluster(key)
    if document is None:
        return lifecycle.forget(key, context)
    if lifecycle.is_deleting(document):
        return await end_with_cluster(document, context) or await lifecycle.finalize(document, context)

    # 2. Validate (no client): schema and rules, as `chronik validate` does.
    validated = context.validator.validate(document, stored=True)
    if not lifecycle.is_claimed(document):
        return await lifecycle.claim(document, first_digests(validated.cluster, context), context)
    if validated.cluster is None:
        return await lifecycle.reject(document, invalid(validated.problems), context)

    # 3. Render: what `chronik render` prints, but nodes that vote come and go one at a time (asks them, if any does).
    cluster = replace(validated.cluster, domain=context.domain)
    group = await membership(cluster, document, context)
    try:
        desired = Desired(document, cluster, context.render(group.cluster))
    except RenderError as error:
        return await lifecycle.reject(document, describe_error(error), context)

    # 4. Plan and apply (client): only what differs is sent; nothing while paused. Before its first workload, a cluster
    # that begins with what a backup holds is given that, over several passes.
    recovery = await recover(desired, context)
    if recovery.held is not None:
        return recovery.held
    desired, ended = await end_archive(desired, context)
    converged = await converge_cluster(desired, context)
    if converged.report.interrupted:  # the next pass, ours or another leader's, finds out how far this one came
        return ReconcileResult("waiting", report=converged.report, wrote=bool(converged.report.written))

    # 5. Status (client): one write, if it says anything new. What schedules and aliases want comes first, if there are
    # any.
    backups = await tend_backups(cluster, document, context)
    aliases = await tend_aliases(cluster, document, desired.manifests, context)
    converged = converged._replace(report=aliases.report.after(converged.report))
    kept = (recovery, backups, ended, aliases)
    return await _update_status(desired, converged, group, kept, validated.problems, context)


async def _update_status(
    desired: Desired,
    converged: Converged,
    group: Membership,
    kept: tuple[Recovery, Backups, ArchiveEnd, Aliases],
    problems: Sequence[Problem],
    context: ReconcileContext,
) -> ReconcileResult:
    """Derive the status from what is there now, write it, record Events, and return how the pass ended."""
    document, report = desired.document, converged.report
    recovery, backups, ended, aliases = kept
    extra = _about_templates(desired, converged, context)
    assessment = assess(report, problems, converged.secrets.missing, paused=desired.paused, extra=extra)
    if converged.unread and assessment.failure is None and assessment.waiting is None:
        assessment = replace(assessment, waiting=describe_error(converged.unread), retry="permanent")
    if assessment.failure is None and assessment.waiting is None:
        assessment = replace(assessment, waiting=group.waiting)
    pending = converged.pending
    assessment = with_pending(assessment, pending.conditions, pending.waiting)
    if converged.rollout:
        told = analysis_conditions(converged.rollout.status)
        assessment = replace(assessment, conditions=(*assessment.conditions, *told))
        assessment = with_rollout(assessment, converged.rollout.failure, converged.rollout.waiting)
    observation = _observation(desired, converged, assessment, context)
    for name, each in (("recovery", recovery), ("backup", backups), ("archive", ended), ("aliases", aliases)):
        if each.conditions or each.status:
            details = {**observation.details, **({name: each.status} if each.status else {})}
            observation = replace(observation, extra=(*observation.extra, *each.conditions), details=details)
    if group.voters:
        observation = replace(observation, details={**observation.details, "members": [*group.voters]})
    status = derive(desired.cluster, observation, context.now())
    wrote = await lifecycle.write_status(document, status, context)
    lifecycle.record_events(document, report, status, context)
    result = _result(converged, assessment, status, paused=desired.paused)
    missing = missing_pods(converged.live.objects)
    backup_again = later(context.now(), _BACKUP_AGAIN) if backups.failed else backups.again_at
    again = (backup_again, recovery.again_at, pending.again_at, ended.again_at, group.again_at, aliases.again_at)
    times = (*again, converged.rollout.again_at if converged.rollout else "")
    again_at = min(filter(None, times), default="")
    rollout = (status.get("rollout") or {}).get("phase", "")
    done = wrote or bool(report.written)
    return replace(result, wrote=done, missing=missing, backups=backups, again_at=again_at, rollout=rollout)


def _about_templates(desired: Desired, converged: Converged, context: ReconcileContext) -> list[Condition]:
    """Return what is to be said of templates of the user's, and of what they make."""
    own = own_conditions(
        desired.cluster,
        desired.manifests,
        converged.live.objects,
        converged.unread,
    )
    return [*own, *template_conditions(context.templates_trouble())]


def _observation(
    desired: Desired, converged: Converged, assessment: Assessment, context: ReconcileContext
) -> Observation:
    """Return what status is derived from; while paused, a new spec counts as not seen."""
    document, live = desired.document, converged.live
    generation = document["metadata"]["generation"]
    return Observation(
        objects=with_creation_failures(live.objects, context.creation.get(desired.cluster.key, {})),
        pods=live.pods,
        previous=status_of(document),
        generation=status_of(document).get("observedGeneration", generation) if desired.paused else generation,
        failure=assessment.failure,
        waiting=assessment.waiting,
        overdue=_is_overdue(desired, live, context),
        extra=assessment.conditions,
        details=_details(document, converged, context),
    )


def _is_overdue(desired: Desired, live: LiveCluster, context: ReconcileContext) -> bool:
    """Tell whether a roll has made no progress for too long; while paused, or when all is ready, none goes on."""
    key, previous = desired.cluster.key, status_of(desired.document)
    if desired.paused or previous.get("phase") != "Updating" or previous.get("pendingRestarts"):
        context.deadlines.forget(key)
        return False
    return context.deadlines.exceeded(key, live.objects, previous, context.monotonic())


def _details(document: Manifest, converged: Converged, context: ReconcileContext) -> dict[str, Any]:
    """Return what else the status says: which version of chronik did it, and what the Secrets were."""
    report = converged.report
    is_done = report.results and not report.hindered and not deferred(report)
    version = context.version if is_done else status_of(document).get("operatorVersion")
    previous = status_of(document).get("rollout") if is_paused(document) else None
    rollout = converged.rollout.status if converged.rollout else previous
    details = {
        "operatorVersion": version,
        "secretDigests": converged.secrets.digests,
        "rollout": rollout,
        "pendingRestarts": converged.pending.status,
    }
    return {key: value for key, value in details.items() if value}


def _result(
    converged: Converged, assessment: Assessment, status: Mapping[str, Any], *, paused: bool
) -> ReconcileResult:
    report, waits = converged.report, bool(converged.pending.status)
    result: Literal["failed", "waiting", "paused", "ok"] = "ok"
    if assessment.failure:
        result = "failed"
    elif assessment.waiting and not (waits and _is_for_window(converged, assessment.waiting)):
        result = "waiting"
    elif paused:
        result = "paused"
    reason = assessment.failure or assessment.waiting
    return ReconcileResult(result, assessment.retry, str(status["phase"]), report, reason, pending=waits)


def _is_for_window(converged: Converged, waiting: Reason) -> bool:
    """Return whether a window is all that is waited for: its opening is known, so nothing has to be looked at."""
    outside = converged.rollout is not None and converged.rollout.outside
    return waiting.reason == RESTART_PENDING or (outside and is_rollout(waiting))
