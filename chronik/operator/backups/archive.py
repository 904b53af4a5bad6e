"""End an archive that was switched off: have its replication slot dropped, since it would fill the server's disk.

Nothing is asked of the server for a cluster whose archive runs, or that has none. The status says that a slot is being
dropped before the Job is made, so an operator that is killed anywhere finds the Job again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.api.components import workload_name
from chronik.api.sections.backup import archives
from chronik.backups.archiving.slot import (
    DROPPING,
    END,
    ENDING,
    LONGEST,
    NOT_DROPPED,
    by_hand,
    ending,
    host_of,
    is_elsewhere,
    plan_move,
    plan_slot,
    slot_job,
)
from chronik.backups.parts import job_name
from chronik.errors import ApiError, ChronikError
from chronik.manifest import ARCHIVE, JOB, KIND_BY_NAME, ClusterKey, ObjectRef, component_of
from chronik.operator import lifecycle
from chronik.operator.backups.look import see_job, site_of
from chronik.operator.backups.make import create, remove_all
from chronik.operator.context import ReconcileResult, status_of
from chronik.plan.ownership import Owner, ownership_of
from chronik.status.assess import describe_error
from chronik.status.compute import Reason, merge_conditions
from chronik.status.events import Announcement
from chronik.status.outcomes import deleting
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.backups.archiving.slot import SlotPlan
    from chronik.manifest import Manifest
    from chronik.operator.backups.look import Site
    from chronik.operator.context import BackupTools, ReconcileContext
    from chronik.operator.convergence import Desired
    from chronik.status.compute import Condition

_log = logging.getLogger("chronik.operator.backups")

_DEPLOYMENT = KIND_BY_NAME["Deployment"]


@dataclass(frozen=True, slots=True)
class ArchiveEnd:
    """How the end of an archive stands, for the status; empty for the clusters that have none, or still have one."""

    conditions: tuple[Condition, ...] = ()
    again_at: str = ""
    status: None = None


NOTHING_ENDS = ArchiveEnd()


async def end_archive(desired: Desired, context: ReconcileContext) -> tuple[Desired, ArchiveEnd]:
    """Have the slot of an archive that was switched off dropped; return what is desired, and how far that is.

    As long as the Job of an end before may be there, a receiver is not desired: its slot could be dropped under it.
    """
    document, wanted = desired.document, archives(desired.cluster.spec["backup"])
    known = ending(status_of(document).get("conditions") or ())
    is_ending = known is not None and known["reason"] in ENDING
    if desired.paused:
        return desired, ArchiveEnd((_bare(known),)) if known is not None and is_ending and not wanted else NOTHING_ENDS
    key, tools = desired.cluster.key, context.backups
    target = _wanted_receiver(desired) if wanted else None
    moves = target is not None and is_elsewhere(_cached_receiver(document, context), target)
    is_over = not wanted and known is None and not _has_receiver(document, context)
    if is_over or (wanted and not is_ending and not moves):
        return desired, NOTHING_ENDS
    if tools is None:
        return desired, NOTHING_ENDS if wanted and not moves else await _left(document, context)
    try:
        plan = await _step(document, tools, context, target, wanted=wanted)
    except ApiError as error:
        if error.retry_class == "transient":
            raise
        text = f"The slot of its archive is not dropped: {describe_error(error).message}"
        _log.warning(text)
        if moves and (before := _cached_receiver(document, context)):  # a receiver of the new server takes its place
            text = f"{text}. On {host_of(before)}, {by_hand(before)}"
            context.announce(document, Announcement("Warning", NOT_DROPPED, text))
        told = _bare(known) | {"status": "False", "reason": NOT_DROPPED, "message": text} if known else None
        return desired, ArchiveEnd((told,) if told and not wanted else (), later(context.now(), LONGEST))
    if plan.holds:
        receiver = workload_name(key.name, ARCHIVE)
        manifests = [each for each in desired.manifests if each["metadata"]["name"] != receiver]
        desired = desired._replace(manifests=manifests)
    return desired, ArchiveEnd(plan.conditions, later(context.now(), tools.poll) if plan.waits else "")


def _bare(known: Mapping[str, Any]) -> Condition:
    return {key: known[key] for key in ("type", "status", "reason", "message")}


def _has_receiver(document: Manifest, context: ReconcileContext) -> bool:
    return _cached_receiver(document, context) is not None


def _cached_receiver(document: Manifest, context: ReconcileContext) -> Manifest | None:
    """Return the Deployment of this very cluster's receiver, if it is there."""
    key = ClusterKey.of(document)
    ref = ObjectRef(_DEPLOYMENT.name, key.namespace, workload_name(key.name, ARCHIVE))
    found = context.cache.view(key, document).objects.get(ref)
    if found is None or component_of(found) != ARCHIVE:
        return None
    return found if ownership_of(found, key.name, document["metadata"]["uid"]).owner is Owner.OURS else None


def _wanted_receiver(desired: Desired) -> Manifest | None:
    """Return the receiver that a cluster is to have."""
    name = workload_name(desired.cluster.key.name, ARCHIVE)
    ours = (each for each in desired.manifests if each["kind"] == _DEPLOYMENT.name)
    return next((each for each in ours if each["metadata"]["name"] == name), None)


async def _receiver(document: Manifest, context: ReconcileContext) -> Manifest | None:
    if not _has_receiver(document, context):
        return None
    key = ClusterKey.of(document)
    return await context.kube.get(_DEPLOYMENT, key.namespace, workload_name(key.name, ARCHIVE))


async def _left(document: Manifest, context: ReconcileContext) -> ArchiveEnd:
    """Say that a slot stays, as this operator makes no Jobs; it is said once, when the receiver goes."""
    receiver = await _receiver(document, context)
    if receiver is not None:
        text = f"This operator makes no Jobs, so the slot of the archive stays and fills the disk: {by_hand(receiver)}"
        text = f"{text}, on {host_of(receiver)}"
        context.announce(document, Announcement("Warning", NOT_DROPPED, text))
        _log.warning("%s: %s", NOT_DROPPED, text)
    return NOTHING_ENDS


async def _step(
    document: Manifest, tools: BackupTools, context: ReconcileContext, target: Manifest | None, *, wanted: bool
) -> SlotPlan:
    """Take the next step in the end of an archive, and return what was planned; `target` is the receiver to be.

    Raises:
        ApiError: the server could not be asked, or does not take the Job.
    """
    site = site_of(context, tools)
    name = job_name(document["metadata"]["name"], END)
    job, said = await see_job(document, name, site, running=True)
    before = job if job is not None else _cached_receiver(document, context)
    if target is not None and is_elsewhere(before, target) and not _goes(job):
        receiver = await _receiver(document, context)
        receiver = receiver if is_elsewhere(receiver, target) else None
        plan, gives_up = plan_move(receiver, job, said, context.now())
        if gives_up:
            context.announce(document, Announcement("Warning", NOT_DROPPED, gives_up))
            _log.warning("%s: %s", NOT_DROPPED, gives_up)
    else:
        receiver = None if wanted else await _receiver(document, context)
        plan = plan_slot(receiver, job, said, wanted=wanted)
    if plan.make and receiver is not None:
        await _say(document, plan.conditions[0], context)
        await _make(receiver, document, name, site)
    if receiver is not None and plan.holds:  # nothing is pruned while pods are rolled, and a new server rolls them all
        await _stop(receiver, context)
    await remove_all(document, plan.removes, site)
    if job is not None and not plan.waits and plan.removes:
        _log.info("the replication slot of its archive was dropped")
    return plan


def _goes(job: Manifest | None) -> bool:
    return job is not None and "deletionTimestamp" in job["metadata"]


async def _say(document: Manifest, told: Condition, context: ReconcileContext) -> None:
    """Write down that a slot is being dropped, before anything is made for it."""
    status = status_of(document)
    before = status.get("conditions") or ()
    others = [each for each in before if each["type"] != told["type"]]
    generation = int(document["metadata"]["generation"])
    stamped = merge_conditions(before, [told], context.now(), generation)
    await lifecycle.write_status(document, {**status, "conditions": [*others, *stamped]}, context)


async def _make(receiver: Manifest, document: Manifest, name: str, site: Site) -> None:
    await create(slot_job(receiver, document, name, site.tools.render), JOB, site)
    _log.info("made Job %s, which drops the replication slot of its archive", name)


async def _stop(receiver: Manifest, context: ReconcileContext) -> None:
    """Delete a receiver: its slot is not dropped as long as it is read."""
    if "deletionTimestamp" not in receiver["metadata"]:
        await context.kube.delete(_DEPLOYMENT, ObjectRef.of(receiver), uid=receiver["metadata"]["uid"])


async def end_with_cluster(document: Manifest, context: ReconcileContext) -> ReconcileResult | None:
    """Have the slot of a cluster that is being deleted dropped; None once nothing of that is waited for any more.

    It is never waited for long: a slot that stays is told in an Event, and the cluster goes.
    """
    known = ending(status_of(document).get("conditions") or ())
    if known is None and not _has_receiver(document, context):
        return None
    if context.backups is None:
        await _left(document, context)
        return None
    try:
        return await _step_of_deletion(document, context.backups, context)
    except ChronikError as error:
        if isinstance(error, ApiError) and error.retry_class == "transient":
            raise
        text = f"The slot of its archive was not dropped: {describe_error(error).message}"
        context.announce(document, Announcement("Warning", NOT_DROPPED, text))
        _log.warning(text)
        return None


async def _step_of_deletion(
    document: Manifest, tools: BackupTools, context: ReconcileContext
) -> ReconcileResult | None:
    site, now, metadata = site_of(context, tools), context.now(), document["metadata"]
    name = job_name(metadata["name"], END)
    job, said = await see_job(document, name, site, running=True)
    receiver = await _receiver(document, context)
    if job is None and receiver is not None:
        await _make(receiver, document, name, site)
    if receiver is not None:
        await _stop(receiver, context)
    if job is None and receiver is None:
        return None
    plan = plan_slot(None, job, said, wanted=False)
    if job is not None and not plan.conditions:
        return None
    if job is not None and later(job["metadata"]["creationTimestamp"], LONGEST) <= now:
        text = f"{plan.conditions[0]['message']}. The cluster goes all the same: {by_hand(job)}"
        context.announce(document, Announcement("Warning", NOT_DROPPED, text))
        _log.warning("%s: %s", NOT_DROPPED, text)
        return None
    waiting = Reason(DROPPING, "its archive's replication slot is being dropped")
    status = deleting(status_of(document), now, int(metadata["generation"]))
    await lifecycle.write_if_possible(document, status, context)
    return ReconcileResult("waiting", phase="Deleting", reason=waiting, again_at=later(now, tools.poll))
