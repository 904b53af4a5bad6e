"""Look at what a recovery goes by: all of it is asked of the server itself, since a cache may be a moment behind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from chronik.backups.parts import job_name
from chronik.backups.recovery.claims import nodes_of, reduced
from chronik.backups.recovery.plan import RESTORE
from chronik.backups.recovery.seen import Seen
from chronik.errors import InvalidDocuments
from chronik.manifest import BACKUP, CLAIM, STORAGE_CLASS, VOLUME
from chronik.operator.backups.look import contents_of, recorded_cluster, see_job, site_of, snapshots_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest
    from chronik.operator.context import BackupTools, ReconcileContext
    from chronik.operator.convergence import Desired


async def look(desired: Desired, known: Mapping[str, Any], tools: BackupTools, context: ReconcileContext) -> Seen:
    """Return what is there for the recovery of a cluster, as far as its next step asks.

    Raises:
        ApiError: the server could not be asked.
    """
    cluster, kube, site = desired.cluster, context.kube, site_of(context, tools)
    if not known.get("backup"):
        return Seen(backups=await _meant(cluster, context))
    backup = await kube.get(BACKUP, cluster.namespace, known["backup"])
    if backup is None or backup["metadata"]["uid"] != known["backupUID"]:
        return Seen()
    recorded = base_recorded = None
    with suppress(InvalidDocuments):  # it is told
        recorded = recorded_cluster(backup, site)
    base = await _base(cluster, known, context)
    with suppress(InvalidDocuments):
        base_recorded = recorded_cluster(base, site) if base else None
    claims = await kube.list(CLAIM, cluster.namespace)
    classes = await kube.list(STORAGE_CLASS, None)
    volumes = await kube.list(VOLUME, None, keep=reduced)
    job, result = await see_job(desired.document, job_name(cluster.name, RESTORE), site)
    found = Seen(
        backups=[backup],
        recorded=recorded,
        base=base,
        base_recorded=base_recorded,
        claims={each["metadata"]["name"]: each for each in claims.items},
        classes=classes.items,
        volumes=volumes.items,
        job=job,
        result=result,
        image=tools.image_of(cluster) or (tools.image_of(recorded) if recorded else ""),
    )
    nodes = nodes_of(cluster, desired.manifests, backup)
    if all(each.claim in found.claims for each in nodes if each.volume):
        return found  # the snapshots are needed until each claim is there, and may be gone after that
    snapshots = await snapshots_of(backup, site)
    contents = await contents_of(snapshots or {}, site)
    return replace(found, has_snapshots=snapshots is not None, snapshots=snapshots or {}, contents=contents)


async def _base(cluster: Cluster, known: Mapping[str, Any], context: ReconcileContext) -> Manifest | None:
    """Return the backup with the copy of the metastore's server, as long as that is not restored."""
    if not known.get("metastoreBackup") or known.get("metastoreCutAt"):
        return None
    found = await context.kube.get(BACKUP, cluster.namespace, known["metastoreBackup"])
    return found if found and found["metadata"]["uid"] == known["metastoreBackupUID"] else None


async def _meant(cluster: Cluster, context: ReconcileContext) -> list[Manifest]:
    """Return the backups that a document may mean: the one of a name, or all of the namespace."""
    bootstrap = cluster.spec["bootstrap"]
    assert bootstrap
    name = bootstrap["recovery"]["from"]["backup"]
    if name is None:
        return (await context.kube.list(BACKUP, cluster.namespace)).items
    found = await context.kube.get(BACKUP, cluster.namespace, name)
    return [found] if found else []
