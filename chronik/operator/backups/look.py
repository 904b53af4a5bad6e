"""Look at what a backup consists of by now: its cluster from the caches, its Job and snapshots from the server."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.backups.document import cluster_of, is_being_imported, phase_of, status_of
from chronik.backups.groups import all_known, is_grouped, members_of, source_of
from chronik.backups.jobs import DUMP, RECORD
from chronik.backups.parts import job_name
from chronik.backups.recovery.claims import reduced
from chronik.backups.steps import Seen
from chronik.errors import InvalidDocuments, KindMissing
from chronik.manifest import (
    BACKUP_LABEL,
    CLUSTER,
    GROUP_SNAPSHOT_CONTENTS,
    GROUP_SNAPSHOTS,
    JOB,
    POD,
    SNAPSHOT,
    SNAPSHOT_CONTENT,
    VOLUME,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.api.validation import Validator
    from chronik.kube import Kube
    from chronik.manifest import Kind, Manifest
    from chronik.operator.context import BackupTools, ReconcileContext

_JOB_LABEL = "batch.kubernetes.io/job-name"


class Site(NamedTuple):
    """Where parts of backups are looked at and made, and with what; without an operator, too.

    `reads_contents`: the contents of snapshots may be read. `owned`: the server knows the ChronikBackups, so that parts
    can belong to them.
    """

    kube: Kube
    validator: Validator
    tools: BackupTools
    reads_contents: bool = True
    owned: bool = True


def site_of(context: ReconcileContext, tools: BackupTools) -> Site:
    """Return where an operator looks at and makes parts of backups."""
    return Site(context.kube, context.validator, tools, reads_contents=not context.cache.is_namespaced)


async def look(backup: Manifest, site: Site, context: ReconcileContext) -> Seen:
    """Return what is there of a backup, and of its cluster.

    Raises:
        ApiError: the server could not be asked.
    """
    if status_of(backup).get("startedAt"):
        return await on_its_way(backup, site, context.cache.view(cluster_of(backup)).claims)
    return await _before(backup, site, context)


async def _before(backup: Manifest, site: Site, context: ReconcileContext) -> Seen:
    """Return what decides whether a backup can begin."""
    key = cluster_of(backup)
    document = context.cache.cluster(key)
    cluster = context.validator.validate(document, stored=True).cluster if document else None
    settings = cluster.spec["backup"] if cluster else None
    has_snapshots = has_groups = True
    if settings and settings["volumes"]["method"] != "None":
        has_snapshots = await snapshots_of(backup, site) is not None
    if cluster and is_grouped(cluster):
        has_groups = await group_kind(site.kube) is not None
    return Seen(
        document=document,
        cluster=cluster,
        claims=context.cache.view(key).claims,
        other=_first(backup, context),
        has_snapshots=has_snapshots,
        has_groups=has_groups,
        image=site.tools.image_of(cluster) if cluster and settings else "",
    )


def _first(backup: Manifest, context: ReconcileContext) -> str:
    """Return the name of a backup of the same cluster that goes first; empty if none does."""
    others = [each for each in context.cache.backups(cluster_of(backup)) if each["metadata"] != backup["metadata"]]
    others = [each for each in others if each["metadata"]["name"] != backup["metadata"]["name"]]
    others = [each for each in others if not is_being_imported(each)]
    running = [each for each in others if phase_of(each) in {"Running", "Finalizing"}]
    before = [each for each in others if phase_of(each) == "Pending" and _age(each) < _age(backup)]
    return next((each["metadata"]["name"] for each in (*running, *before)), "")


def _age(backup: Manifest) -> tuple[str, str]:
    return backup["metadata"].get("creationTimestamp", ""), backup["metadata"]["name"]


async def on_its_way(backup: Manifest, site: Site, claims: Sequence[Manifest]) -> Seen:
    """Return how the parts of a backup are that has begun; `claims` are those of its cluster."""
    status, name = status_of(backup), backup["metadata"]["name"]
    job = result = record = recorded = None
    if status.get("metastore") is not None:
        job, result = await see_job(backup, job_name(name, DUMP), site)
        if status.get("cutAt"):
            record, recorded = await see_job(backup, job_name(name, RECORD), site)
    snapshots = await snapshots_of(backup, site) if status.get("volumes") else {}
    cluster = None
    with suppress(InvalidDocuments):  # it is told when a part is made
        cluster = recorded_cluster(backup, site)
    seen = await _group_seen(backup, snapshots or {}, site) if status.get("group") else Seen()
    return replace(
        seen,
        claims=claims,
        job=job,
        result=result,
        record=record,
        recorded=recorded,
        snapshots=snapshots or {},
        contents={**seen.contents, **await contents_of(snapshots or {}, site)},
        image=site.tools.image_of(cluster) if cluster else "",
    )


async def _group_seen(backup: Manifest, labelled: Mapping[str, Manifest], site: Site) -> Seen:
    """Return the group of a backup and what it is bound to, and its members, as long as not all bear the label.

    The group is read first: one that was ready then has all its members.
    """
    group = await group_of(backup, site)
    if group is None:
        return Seen()
    bound, content = (group.get("status") or {}).get("boundVolumeGroupSnapshotContentName"), None
    if bound and site.reads_contents:
        content = await site.kube.get(GROUP_SNAPSHOT_CONTENTS[group["apiVersion"]], "", bound)
    is_cut = bool((group.get("status") or {}).get("creationTime"))
    if not is_cut or all_known(status_of(backup)["volumes"], labelled):
        return Seen(group=group, group_content=content)
    found = await site.kube.list(SNAPSHOT, backup["metadata"]["namespace"])
    members = members_of(group, found.items)
    unsaid = {each["metadata"]["name"]: each for each in members if not source_of(each, {}, ())}
    contents = await contents_of(unsaid, site)
    persistent = await site.kube.list(VOLUME, None, keep=reduced) if contents else None
    return Seen(
        group=group,
        group_content=content,
        members=members,
        contents=contents,
        persistent_volumes=persistent.items if persistent else (),
    )


async def group_of(backup: Manifest, site: Site) -> Manifest | None:
    """Return the VolumeGroupSnapshot of a backup; None if it has none, or its kind is not there any more."""
    name, kind = (status_of(backup).get("group") or {}).get("name"), await group_kind(site.kube)
    if not name or kind is None:
        return None
    return await site.kube.get(kind, backup["metadata"]["namespace"], name)


async def group_kind(kube: Kube) -> Kind | None:
    """Return VolumeGroupSnapshot in the newest version that the server has; None if it has none."""
    for kind in GROUP_SNAPSHOTS:
        with suppress(KindMissing):
            return await kube.kind(*kind.id)
    return None


async def snapshots_of(backup: Manifest, site: Site) -> dict[str, Manifest] | None:
    """Return the snapshots of a backup by name; None if this Kubernetes has none."""
    metadata = backup["metadata"]
    try:
        selector = f"{BACKUP_LABEL}={metadata['uid']}"
        found = await site.kube.list(SNAPSHOT, metadata["namespace"], label_selector=selector)
    except KindMissing:
        return None
    return {each["metadata"]["name"]: each for each in found.items}


async def contents_of(snapshots: Mapping[str, Manifest], site: Site) -> dict[str, Manifest]:
    """Return the contents that snapshots are bound to; none in namespaced mode, where they may not be read."""
    if not site.reads_contents:
        return {}
    names = (str((each.get("status") or {}).get("boundVolumeSnapshotContentName") or "") for each in snapshots.values())
    found: dict[str, Manifest] = {}
    for name in filter(None, names):
        content = await site.kube.get(SNAPSHOT_CONTENT, "", name)
        if content is not None:
            found[name] = content
    return found


async def see_job(
    backup: Manifest, name: str, site: Site, *, running: bool = False
) -> tuple[Manifest | None, dict[str, Any] | None]:
    """Return a Job of a backup, and what its container said, once it has ended.

    With `running` it is also asked of one that goes on: its container may have failed, and be tried again.
    """
    namespace = backup["metadata"]["namespace"]
    job = await site.kube.get(JOB, namespace, name)
    if job is None or not (running or (job.get("status") or {}).get("conditions")):
        return job, None
    pods = await site.kube.list(POD, namespace, label_selector=f"{_JOB_LABEL}={name}")
    said = [each for pod in pods.items if _is_of(pod, job) for each in _results(pod)]
    good = [each for each in said if each.get("result") == "ok"]
    found = good or said
    return job, found[-1] if found else None


def _is_of(pod: Manifest, job: Manifest) -> bool:
    return any(each.get("uid") == job["metadata"]["uid"] for each in pod["metadata"].get("ownerReferences") or ())


def _results(pod: Manifest) -> list[dict[str, Any]]:
    """Return what containers of a pod said at their end: one JSON object each, if it can be read."""
    found = []
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        for state in ("lastState", "state"):  # a container that was restarted has ended before
            message = ((each.get(state) or {}).get("terminated") or {}).get("message") or ""
            with suppress(ValueError):
                said = json.loads(message.strip().splitlines()[-1] if message.strip() else "")
                found += [said] if isinstance(said, dict) else []
    return found


def recorded_cluster(backup: Manifest, site: Site) -> Cluster:
    """Return the cluster as it was when a backup began, which holds for the whole of it.

    Raises:
        InvalidDocuments: this version of chronik does not take its spec.
    """
    key = cluster_of(backup)
    document = {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": status_of(backup)["cluster"]["spec"],
    }
    validated = site.validator.validate(document, stored=True)
    if validated.cluster is None:
        raise InvalidDocuments(validated.problems, subject=f"the spec of {key} that the backup has recorded")
    return validated.cluster
