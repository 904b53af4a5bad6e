"""One pass over one ChronikBackup: look, plan, make what is next, say how it is, remove what is needed no longer.

What a backup waits for is asked while it is on its way, and never else: snapshots and Jobs are in no cache.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from chronik.backups import manifests
from chronik.backups.deletion import FORGET, Remains, dump_job, plan_deletion, told
from chronik.backups.document import DONE, phase_of, status_of
from chronik.backups.parts import job_name
from chronik.backups.plan import plan_backup
from chronik.errors import AlreadyExists, ChronikError, ObjectChanged
from chronik.manifest import BACKUP, FINALIZER, JOB, SNAPSHOT, ObjectRef
from chronik.operator.backups.look import look, recorded_cluster, see_job, snapshots_of
from chronik.operator.lifecycle import hold, let_go, write_status
from chronik.status.assess import describe_error
from chronik.status.events import Announcement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.api.spec import Cluster
    from chronik.backups.plan import Make, Remove, Seen
    from chronik.manifest import Kind, Manifest, WorkKey
    from chronik.operator.context import BackupTools, ReconcileContext

_log = logging.getLogger("chronik.operator.backups")


@dataclass(frozen=True, slots=True)
class BackupResult:
    """How a pass over a backup ended: its phase, empty if it is gone, and the seconds until the next look, if any."""

    phase: str
    again: float | None = None
    ended: bool = False
    """Whether it was completed, or has failed, in this very pass."""


async def reconcile_backup(key: WorkKey, context: ReconcileContext) -> BackupResult:
    """Bring a backup one step further, and say in its status how far it is.

    Raises:
        ChronikError: it could not be read or written; whatever was made is found again by the next pass.
    """
    tools = context.backups
    document = context.cache.backup(key)
    if document is None or tools is None:
        return BackupResult("")
    if phase_of(document) == "Deleting":
        return await _delete(document, tools, context)
    if phase_of(document) in DONE:
        return BackupResult(phase_of(document))
    await hold(document, context, BACKUP)
    now = context.now()
    seen = await look(document, tools, context)
    plan = plan_backup(document, seen, now)
    if plan.makes:
        seen = await _make_all(document, plan.makes, seen, tools, context)
        plan = plan_backup(document, seen, now)
    await write_status(document, plan.status, context, BACKUP)
    _announce(document, plan.status, context)
    await _remove_all(document, plan.removes, context)
    phase = str(plan.status["phase"])
    return BackupResult(phase, tools.poll if plan.waits else None, ended=phase in DONE)


# --- parts ------------------------------------------------------------------------------------------------------------


async def _make_all(
    backup: Manifest, makes: Iterable[Make], seen: Seen, tools: BackupTools, context: ReconcileContext
) -> Seen:
    """Make parts, and return what is there then. A part that cannot be made keeps no other from being made."""
    snapshots, errors, job = dict(seen.snapshots), {}, seen.job
    try:
        cluster = recorded_cluster(backup, context)
    except ChronikError as error:
        return replace(seen, errors={each.name: describe_error(error).message for each in makes})
    for each in makes:
        try:
            made = await _make(backup, each, cluster, seen.image, tools, context)
        except ChronikError as error:
            errors[each.name] = describe_error(error).message
            continue
        if each.part == "job":
            job = made
        elif made is not None:
            snapshots[each.name] = made
    return replace(seen, snapshots=snapshots, job=job, errors=errors)


async def _make(
    backup: Manifest, make: Make, cluster: Cluster, image: str, tools: BackupTools, context: ReconcileContext
) -> Manifest | None:
    """Make one part, or return the one of its name that is there already."""
    if make.volume is not None:
        return await _create(manifests.snapshot(backup, cluster, make.volume, tools.render), SNAPSHOT, context)
    return await _run(manifests.JobOf(backup, cluster, make.name, manifests.DUMP_COMMAND, image), tools, context)


async def _run(wanted: manifests.JobOf, tools: BackupTools, context: ReconcileContext) -> Manifest | None:
    account, job = manifests.job(wanted, tools.render)
    await context.kube.apply(account, force=True)
    return await _create(job, JOB, context)


async def _create(manifest: Manifest, kind: Kind, context: ReconcileContext) -> Manifest | None:
    """Create an object unless there is one of its name, which is returned then.

    An apply with a resource version creates, and changes nothing that is there.
    """
    metadata = manifest["metadata"]
    try:
        return await context.kube.apply({**manifest, "metadata": {**metadata, "resourceVersion": "1"}})
    except (ObjectChanged, AlreadyExists):
        return await context.kube.get(kind, metadata["namespace"], metadata["name"])


_KINDS: dict[Literal["Job", "VolumeSnapshot"], Kind] = {"Job": JOB, "VolumeSnapshot": SNAPSHOT}


async def _remove_all(backup: Manifest, removes: Iterable[Remove], context: ReconcileContext) -> None:
    for each in removes:
        kind = _KINDS[each.kind]
        ref = ObjectRef(kind.name, backup["metadata"]["namespace"], each.name)
        await context.kube.delete(kind, ref, uid=each.uid)


# --- deletion ---------------------------------------------------------------------------------------------------------


async def _delete(backup: Manifest, tools: BackupTools, context: ReconcileContext) -> BackupResult:
    """Delete the parts of a backup, and let it go once they are gone."""
    if FINALIZER not in (backup["metadata"].get("finalizers") or ()):
        return BackupResult("Deleting")
    remains, cluster = await _remains(backup, tools, context)
    plan = plan_deletion(backup, remains, context.now())
    await write_status(backup, plan.status, context, BACKUP)
    failure = told(plan.status)
    if failure is not None and failure != told(status_of(backup)):
        context.announce(backup, Announcement("Warning", *failure))
    await _remove_all(backup, plan.removes, context)
    if plan.forget and cluster is not None:
        wanted = manifests.JobOf(backup, cluster, plan.forget, manifests.FORGET_COMMAND, remains.image)
        await _run(wanted, tools, context)
    if plan.done:
        await let_go(backup, context, BACKUP)
        _log.info("lets the backup go: its parts are deleted, or are to stay")
        return BackupResult("Deleting")
    return BackupResult("Deleting", tools.poll)


async def _remains(backup: Manifest, tools: BackupTools, context: ReconcileContext) -> tuple[Remains, Cluster | None]:
    metadata = backup["metadata"]
    dump = await context.kube.get(JOB, metadata["namespace"], dump_job(backup))
    forget, result = await see_job(backup, job_name(metadata["name"], FORGET), context)
    found = await snapshots_of(backup, context) if backup["spec"]["onDelete"] == "Delete" else {}
    cluster = None
    if status_of(backup).get("cluster"):
        try:
            cluster = recorded_cluster(backup, context)
        except ChronikError as error:
            _log.warning("what its cluster was cannot be read: %s", describe_error(error).message)
    image = tools.image_of(cluster) if cluster else ""
    remains = Remains(
        dump=dump, forget=forget, result=result, snapshots=found or {}, image=image, valid=cluster is not None
    )
    return remains, cluster


# --- the document -----------------------------------------------------------------------------------------------------


_TOLD: dict[str, tuple[Literal["Normal", "Warning"], str]] = {
    "Running": ("Normal", "BackupStarted"),
    "Completed": ("Normal", "BackupCompleted"),
    "Failed": ("Warning", "BackupFailed"),
}


def _announce(document: Manifest, status: Mapping[str, Any], context: ReconcileContext) -> None:
    phase = str(status["phase"])
    if phase == phase_of(document) or phase not in _TOLD:
        return
    message = next(each["message"] for each in status["conditions"] if each["type"] == "Completed")
    kind, reason = _TOLD[phase]
    _log.log(logging.WARNING if kind == "Warning" else logging.INFO, "%s: %s", reason, message)
    context.announce(document, Announcement(kind, reason, message))
