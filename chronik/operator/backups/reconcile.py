"""One pass over one ChronikBackup: look, plan, make what is next, say how it is, remove what is needed no longer.

What a backup waits for is asked while it is on its way, and never else: snapshots and Jobs are in no cache.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chronik.backups import manifests
from chronik.backups.deletion import FORGET, Remains, dump_job, plan_deletion, told
from chronik.backups.document import DONE, is_being_imported, phase_of, status_of
from chronik.backups.jobs import RECORD
from chronik.backups.parts import job_name
from chronik.backups.plan import plan_backup
from chronik.backups.verification import asked_for, plan_verification, verify_job
from chronik.errors import ChronikError
from chronik.manifest import BACKUP, FINALIZER, JOB
from chronik.operator.backups.look import group_of, look, recorded_cluster, see_job, site_of, snapshots_of
from chronik.operator.backups.make import make, make_all, remove_all, run
from chronik.operator.lifecycle import hold, let_go, write_status
from chronik.status.assess import describe_error
from chronik.status.events import Announcement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest, WorkKey
    from chronik.operator.backups.look import Site
    from chronik.operator.context import ReconcileContext

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
    site = site_of(context, tools)
    if phase_of(document) == "Deleting":
        return await _delete(document, site, context)
    if phase_of(document) in DONE:
        return await _verify(document, site, context)
    if is_being_imported(document):
        return BackupResult(phase_of(document))
    await hold(document, context, BACKUP)
    now = context.now()
    seen = await look(document, site, context)
    plan = plan_backup(document, seen, now)
    if plan.makes:
        seen = await make_all(document, plan.makes, seen, site)
        plan = plan_backup(document, seen, now)
    await write_status(document, plan.status, context, BACKUP)
    _announce(document, plan.status, context)
    await remove_all(document, plan.removes, site)
    phase = str(plan.status["phase"])
    return BackupResult(phase, tools.poll if plan.waits else None, ended=phase in DONE)


async def _verify(document: Manifest, site: Site, context: ReconcileContext) -> BackupResult:
    """Have a backup that is completed checked, if somebody asks for it."""
    phase, wanted = phase_of(document), asked_for(document)
    if not wanted:
        return BackupResult(phase)
    job, said = await see_job(document, verify_job(document, wanted), site)
    plan = plan_verification(document, wanted, job, said, context.now())
    for each in plan.makes:
        try:
            cluster = recorded_cluster(document, site)
            job = await make(document, each, cluster, site.tools.image_of(cluster), site)
            plan = plan_verification(document, wanted, job, None, context.now())
        except ChronikError as error:
            reason = describe_error(error).message
            plan = plan_verification(document, wanted, None, None, context.now(), reason)
    await write_status(document, plan.status, context, BACKUP)
    found = plan.status["verification"]
    if found["result"] != "Running":
        _log.info("%s: %s", wanted, found["result"])
        if found["result"] == "Failed":
            context.announce(document, Announcement("Warning", "BackupDamaged", str(found.get("message", ""))))
        elif found["result"] == "Passed":
            text = f"{found['rows']:,} rows were restored" if "rows" in found else "The dump was read back"
            context.announce(document, Announcement("Normal", "BackupVerified", text))
    await remove_all(document, plan.removes, site)
    return BackupResult(phase, site.tools.poll if plan.waits else None)


# --- deletion ---------------------------------------------------------------------------------------------------------


async def _delete(backup: Manifest, site: Site, context: ReconcileContext) -> BackupResult:
    """Delete the parts of a backup, and let it go once they are gone."""
    if FINALIZER not in (backup["metadata"].get("finalizers") or ()):
        return BackupResult("Deleting")
    remains, cluster = await _remains(backup, site)
    plan = plan_deletion(backup, remains, context.now())
    await write_status(backup, plan.status, context, BACKUP)
    failure = told(plan.status)
    if failure is not None and failure != told(status_of(backup)):
        context.announce(backup, Announcement("Warning", *failure))
    await remove_all(backup, plan.removes, site)
    if plan.forget and cluster is not None:
        wanted = manifests.JobOf(backup, cluster, plan.forget, manifests.FORGET_COMMAND, remains.image)
        await run(wanted, site)
    if plan.done:
        await let_go(backup, context, BACKUP)
        _log.info("lets the backup go: its parts are deleted, or are to stay")
        return BackupResult("Deleting")
    return BackupResult("Deleting", site.tools.poll)


async def _remains(backup: Manifest, site: Site) -> tuple[Remains, Cluster | None]:
    metadata, checked = backup["metadata"], (status_of(backup).get("verification") or {}).get("requested", "")
    dump = await site.kube.get(JOB, metadata["namespace"], dump_job(backup))
    names = [job_name(metadata["name"], RECORD), *([verify_job(backup, checked)] if checked else [])]
    others = [await site.kube.get(JOB, metadata["namespace"], name) for name in names]
    forget, result = await see_job(backup, job_name(metadata["name"], FORGET), site)
    everything = backup["spec"]["onDelete"] == "Delete"
    found = await snapshots_of(backup, site) if everything else {}
    group = await group_of(backup, site) if everything and status_of(backup).get("group") else None
    cluster = None
    if status_of(backup).get("cluster"):
        try:
            cluster = recorded_cluster(backup, site)
        except ChronikError as error:
            _log.warning("what its cluster was cannot be read: %s", describe_error(error).message)
    remains = Remains(
        dump=dump,
        others=tuple(each for each in others if each is not None),
        forget=forget,
        result=result,
        snapshots=found or {},
        group=group,
        image=site.tools.image_of(cluster) if cluster else "",
        valid=cluster is not None,
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
