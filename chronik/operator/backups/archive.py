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
    NOT_DROPPED,
    by_hand,
    dropping,
    ending,
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
_LONGEST = 120.0
"""Seconds that a cluster which is being deleted waits for its slot: its database may be gone already."""


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
    if (wanted and not is_ending) or (not wanted and known is None and not _has_receiver(document, context)):
        return desired, NOTHING_ENDS
    if tools is None:
        return desired, NOTHING_ENDS if wanted else await _left(document, context)
    try:
        plan = await _step(document, tools, context, wanted=wanted)
    except ApiError as error:
        if error.retry_class == "transient":
            raise
        text = f"The slot of its archive is not dropped: {describe_error(error).message}"
        _log.warning(text)
        told = _bare(known) | {"status": "False", "reason": NOT_DROPPED, "message": text} if known else None
        return desired, ArchiveEnd((told,) if told and not wanted else (), later(context.now(), _LONGEST))
    if plan.holds:
        receiver = workload_name(key.name, ARCHIVE)
        manifests = [each for each in desired.manifests if each["metadata"]["name"] != receiver]
        desired = desired._replace(manifests=manifests)
    return desired, ArchiveEnd(plan.conditions, later(context.now(), tools.poll) if plan.waits else "")


def _bare(known: Mapping[str, Any]) -> Condition:
    return {key: known[key] for key in ("type", "status", "reason", "message")}


def _has_receiver(document: Manifest, context: ReconcileContext) -> bool:
    """Return whether the Deployment of this very cluster's receiver is there."""
    key = ClusterKey.of(document)
    ref = ObjectRef(_DEPLOYMENT.name, key.namespace, workload_name(key.name, ARCHIVE))
    found = context.cache.view(key, document).objects.get(ref)
    if found is None or component_of(found) != ARCHIVE:
        return False
    return ownership_of(found, key.name, document["metadata"]["uid"]).owner is Owner.OURS


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
        context.announce(document, Announcement("Warning", NOT_DROPPED, text))
        _log.warning("%s: %s", NOT_DROPPED, text)
    return NOTHING_ENDS


async def _step(document: Manifest, tools: BackupTools, context: ReconcileContext, *, wanted: bool) -> SlotPlan:
    """Take the next step in the end of an archive, and return what was planned.

    Raises:
        ApiError: the server could not be asked, or does not take the Job.
    """
    site = site_of(context, tools)
    name = job_name(document["metadata"]["name"], END)
    job, said = await see_job(document, name, site, running=True)
    receiver = None if wanted else await _receiver(document, context)
    plan = plan_slot(receiver, job, said, wanted=wanted)
    if plan.make and receiver is not None:
        await _say(document, dropping(receiver), context)
        await _make(receiver, document, name, site)
    await remove_all(document, plan.removes, site)
    if job is not None and not plan.waits and plan.removes:
        _log.info("the replication slot of its archive was dropped")
    return plan


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
    if receiver is not None and "deletionTimestamp" not in receiver["metadata"]:  # else it would read the slot
        ref = ObjectRef.of(receiver)
        await context.kube.delete(_DEPLOYMENT, ref, uid=receiver["metadata"]["uid"])
    if job is None and receiver is None:
        return None
    plan = plan_slot(None, job, said, wanted=False)
    if job is not None and not plan.conditions:
        return None
    if job is not None and later(job["metadata"]["creationTimestamp"], _LONGEST) <= now:
        text = f"{plan.conditions[0]['message']}. The cluster goes all the same: {by_hand(job)}"
        context.announce(document, Announcement("Warning", NOT_DROPPED, text))
        _log.warning("%s: %s", NOT_DROPPED, text)
        return None
    waiting = Reason(DROPPING, "its archive's replication slot is being dropped")
    status = deleting(status_of(document), now, int(metadata["generation"]))
    await lifecycle.write_if_possible(document, status, context)
    return ReconcileResult("waiting", phase="Deleting", reason=waiting, again_at=later(now, tools.poll))
