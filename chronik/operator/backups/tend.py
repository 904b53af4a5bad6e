"""Do in a cluster's own pass what its schedules want: make the backups that are due, and delete those that may go."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from chronik.backups.cluster import Backups, feature_missing, plan_backups
from chronik.backups.retention import in_use
from chronik.errors import AlreadyExists, ChronikError, ObjectChanged
from chronik.manifest import BACKUP, FIELD_MANAGER, ObjectRef, is_paused
from chronik.operator.cache.cache import BACKUPS
from chronik.operator.context import status_of
from chronik.operator.recovery.use import made_from
from chronik.status.assess import describe_error
from chronik.status.compute import condition
from chronik.status.events import Announcement
from chronik.wording import listed

if TYPE_CHECKING:
    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext

_log = logging.getLogger("chronik.operator.backups")

NO_BACKUPS = Backups()
SCHEDULES_MANAGER = f"{FIELD_MANAGER}-schedules"
"""Owns the spec of the backups that schedules make: the main manager applies finalizer and status, and no spec."""


async def tend_backups(cluster: Cluster, document: Manifest, context: ReconcileContext) -> Backups:
    """Make and delete backups as schedules want it, and return what is to be said; nothing for most clusters.

    What cannot be made or deleted is said, and tried again: nothing else of the pass depends on it.
    """
    if cluster.spec["backup"] is None:
        return NO_BACKUPS
    if not context.cache.has_feature(BACKUPS):
        return feature_missing()
    paused = is_paused(document)
    known = status_of(document).get("backup") or {}
    plan = plan_backups(cluster, known, context.cache.backups(cluster.key), context.now(), paused=paused)
    if paused:
        return plan
    if plan.expired:
        documents = (
            context.cache.cluster(key) for key in context.cache.clusters() if key.namespace == cluster.namespace
        )
        used = in_use(each for each in documents if each is not None)
        plan = replace(plan, expired=tuple(each for each in plan.expired if each["metadata"]["uid"] not in used))
    try:
        await _carry_out(plan, document, context)
    except ChronikError as error:
        _log.warning("a backup could not be made or deleted: %s", describe_error(error).message)
        return replace(plan, conditions=(_failed(error),), failed=error)
    if plan.due or plan.expired:  # what has just been made or deleted counts
        known = plan.status
        return plan_backups(cluster, known, context.cache.backups(cluster.key), context.now(), paused=paused)
    return plan


async def _carry_out(plan: Backups, document: Manifest, context: ReconcileContext) -> None:
    for manifest in plan.due:
        metadata = manifest["metadata"]
        try:  # with a resource version it is created, and never changed: two operators make one backup
            wanted = {**manifest, "metadata": {**metadata, "resourceVersion": "1"}}
            made = await context.kube.apply(wanted, manager=SCHEDULES_MANAGER)
        except (ObjectChanged, AlreadyExists):
            continue
        context.cache.observe_write(made)
        _log.info("made the backup %s, which is due", metadata["name"])
    for backup in plan.expired:
        ref, users = ObjectRef.of(backup), made_from(backup, context)
        if users:
            _log.info("keeps the backup %s, which %s is being made from", ref.name, listed(users))
            continue
        await context.kube.delete(BACKUP, ref, uid=backup["metadata"]["uid"])
        context.announce(document, Announcement("Normal", "BackupExpired", f"{ref.name}: its schedule lets go of it"))


def _failed(error: ChronikError) -> dict[str, str]:
    reason, message = describe_error(error)
    return condition("BackupsCurrent", met=False, reason=reason, message=message)
