"""A backup without an operator: the same steps, taken by this very command until the backup is whole.

It knows what it has made by names and labels, which come from the backup's name: the same command with the same name
goes on where one stopped that was killed. No ChronikBackup is made. What is known of the backup lies in the store.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chronik.apply.follow import until
from chronik.backups.groups import is_grouped
from chronik.backups.plan import plan_backup
from chronik.backups.steps import Seen
from chronik.cli.streams import say
from chronik.clock import timestamp
from chronik.errors import Forbidden, InputError, KindMissing, WaitTimeout
from chronik.kube.reflector import KindSelector
from chronik.manifest import (
    BACKUP,
    BACKUP_LABEL,
    CLAIM,
    CLUSTER_LABEL,
    INSTANCE_LABEL,
    JOB,
    KIND_BY_NAME,
    POD,
    SNAPSHOT,
    SNAPSHOT_CONTENT,
)
from chronik.metastore.errors import BackupError
from chronik.offline import loading as offline
from chronik.operator.backups.look import Site, group_kind, on_its_way, snapshots_of
from chronik.operator.backups.make import make_all, remove_all
from chronik.operator.context import BackupTools
from chronik.times import later

if TYPE_CHECKING:
    from chronik.api.spec import Cluster
    from chronik.kube import Kube
    from chronik.manifest import Manifest

_RESYNC = 2.0
"""Seconds between two looks if nothing is heard: no watch tells of the contents of snapshots."""
_STATEFUL_SET = KIND_BY_NAME["StatefulSet"]
_NAMESPACE = uuid.UUID("8a6a8e9e-6c1f-5d43-9b83-4d6f3a0f7c11")
"""Of the ids of backups that no server knows."""


@dataclass(frozen=True, slots=True)
class OneShot:
    """What is asked for: a backup of that name of a cluster. `image` is that of its Jobs, if its spec names none."""

    cluster: Cluster
    name: str
    image: str
    seconds: float


async def back_up_here(kube: Kube, wanted: OneShot) -> Manifest:
    """Make a backup, and return it when it is completed: as a ChronikBackup with its status, which no server has.

    Raises:
        BackupError: it cannot begin, or failed.
        WaitTimeout: it took too long; what was made stays, and the same again goes on.
    """
    cluster, render = wanted.cluster, offline.template_renderer()
    site = Site(kube, offline.validator(), BackupTools(render=render, image=wanted.image), owned=False)
    site = site._replace(reads_contents=await _may_read_contents(kube))
    claims = (await kube.list(CLAIM, cluster.namespace, label_selector=f"{INSTANCE_LABEL}={cluster.name}")).items
    backup = _backup(wanted, claims)
    seen = Seen(
        document=await _document(kube, cluster),
        cluster=cluster,
        claims=claims,
        has_snapshots=await snapshots_of(backup, site) is not None,
        has_groups=not is_grouped(cluster) or await group_kind(site.kube) is not None,
        image=site.tools.image_of(cluster),
    )
    plan = plan_backup(backup, seen, timestamp())
    if plan.status["phase"] == "Pending":
        raise BackupError(_message(plan.status), subject=wanted.name)
    hint = f"if this command is cut off, the same one with --name {wanted.name} goes on"
    say(f"{wanted.name}: begun; {hint}", err=True)
    return await _completed({**backup, "status": plan.status}, claims, site, wanted)


async def _completed(backup: Manifest, claims: list[Manifest], site: Site, wanted: OneShot) -> Manifest:
    """Take one step after the other until the backup is completed, and say what is waited for."""
    now, said = [backup], [""]

    async def look() -> Manifest | None:
        while True:
            now[:], waits = await _stepped(now[0], claims, site)
            status = now[0]["status"]
            phase, message = status["phase"], _message(status)
            if phase == "Completed":
                _check_order(status, wanted.name)
                _warn(now[0])
                return now[0]
            if phase == "Failed":
                hint = f"Snapshots that were made stay: kubectl get {_snapshots_of(now[0])}"
                raise BackupError(message, subject=wanted.name, hint=hint)
            if message != said[-1]:
                said.append(message)
                say(f"{wanted.name}: {phase}: {message}", err=True)
            if waits:
                return None

    parts = await _parts(backup, site)
    if (found := await until(site.kube, parts, look, wanted.seconds, resync=_RESYNC)) is None:
        hint = f"The same command with --name {wanted.name} goes on."
        raise WaitTimeout(f"it is not completed yet: {said[-1]}", subject=wanted.name, hint=hint)
    return found


async def _stepped(backup: Manifest, claims: list[Manifest], site: Site) -> tuple[list[Manifest], bool]:
    """Take the next step of a backup; return how it is then, and whether it waits for others."""
    seen = await on_its_way(backup, site, claims)
    plan = plan_backup(backup, seen, timestamp())
    if plan.makes:
        seen = await make_all(backup, plan.makes, seen, site)
        plan = plan_backup(backup, seen, timestamp())
    await remove_all(backup, plan.removes, site)
    return [{**backup, "status": plan.status}], plan.waits


async def _parts(backup: Manifest, site: Site) -> list[KindSelector]:
    """Return what the steps of a backup wait for; contents of snapshots are nobody's, and looked at now and then."""
    groups = await group_kind(site.kube) if "group" in backup["status"] else None
    kinds = (JOB, POD, *((SNAPSHOT,) if backup["status"].get("volumes") else ()), *((groups,) if groups else ()))
    metadata = backup["metadata"]
    labels = f"{BACKUP_LABEL}={metadata['uid']}"
    return [KindSelector(each, metadata["namespace"], labels, optional=True) for each in kinds]


def _check_order(status: dict[str, Any], name: str) -> None:
    """Raise BackupError if a volume was cut before the dump: then this is a rerun whose first dump was removed."""
    metastore, volumes = status.get("metastore"), status["volumes"]
    first = min((each["createdAt"] for each in volumes), default="")
    if metastore is not None and first and metastore["cutAt"] > later(first, 1):
        message = f"its first volume was cut at {first}, before the dump at {metastore['cutAt']}, so they do not fit"
        raise BackupError(message, subject=name, hint="Make it anew under another name.")


def _warn(backup: Manifest) -> None:
    """Say it if nothing tells a later Kubernetes what the backup consists of."""
    record = backup["status"].get("record") or {}
    if "object" not in record:
        why = record.get("error") or "there is no destination in spec.backup"
        click.echo(f"warning: it is described in no store, so keep the names of its snapshots: {why}", err=True)


def lines_of(backup: Manifest) -> list[str]:
    """Return for people where the parts of a completed backup are."""
    status = backup["status"]
    metastore, volumes, record = status.get("metastore"), status["volumes"], status.get("record") or {}
    return [
        *([f"metastore: {metastore['object']}"] if metastore is not None else []),
        *([f"snapshots: {len(volumes)}, kubectl get {_snapshots_of(backup)}"] if volumes else []),
        *([f"described: {record['object']}"] if "object" in record else []),
        f"{backup['metadata']['name']}: completed, cut at {status['cutAt']}",
    ]


def _snapshots_of(backup: Manifest) -> str:
    """Return what kubectl finds the snapshots by; those of a group are deleted with it, and only so."""
    metadata, kind = backup["metadata"], "volumegroupsnapshots" if "group" in backup["status"] else "volumesnapshots"
    return f"{kind} -n {metadata['namespace']} -l {BACKUP_LABEL}={metadata['uid']}"


def _message(status: dict[str, Any]) -> str:
    return next(str(each["message"]) for each in status["conditions"] if each["type"] == "Completed")


def _backup(wanted: OneShot, claims: list[Manifest]) -> Manifest:
    """Return the backup that no server knows; its uid is always the same for a name in one cluster.

    Two Kubernetes may write to one store, and have clusters of one name: the uids of their claims tell them apart.
    """
    cluster = wanted.cluster
    first = min((f"{each['metadata']['name']} {each['metadata']['uid']}" for each in claims), default="")
    return {
        "apiVersion": BACKUP.api_version,
        "kind": BACKUP.name,
        "metadata": {
            "name": wanted.name,
            "namespace": cluster.namespace,
            "uid": str(uuid.uuid5(_NAMESPACE, f"{cluster.key} {wanted.name} {first}")),
            "labels": {CLUSTER_LABEL: cluster.name},
            "creationTimestamp": timestamp(),
            "generation": 1,
        },
        # Snapshots that belonged to it would be collected as garbage, since there is no such object.
        "spec": {"cluster": cluster.name, "deadline": "1h", "onDelete": "Keep"},
    }


async def _document(kube: Kube, cluster: Cluster) -> Manifest:
    """Return the cluster as a document, with what its workloads say of its health."""
    found = await kube.list(_STATEFUL_SET, cluster.namespace, label_selector=f"{CLUSTER_LABEL}={cluster.name}")
    ill = []
    for each in found.items:
        count, ready = each["spec"].get("replicas", 1), (each.get("status") or {}).get("readyReplicas", 0)
        ill += [f"{each['metadata']['name']}: {ready} of {count} ready"] if ready < count else []
    ready = {"type": "Ready", "status": "False" if ill else "True", "message": "; ".join(ill)}
    return {
        "metadata": {"name": cluster.name, "namespace": cluster.namespace, "uid": "", "generation": 1},
        "spec": cluster.spec,
        "status": {"conditions": [ready]},
    }


async def _may_read_contents(kube: Kube) -> bool:
    """Return whether the contents of snapshots may be read, which are no namespace's."""
    try:
        await kube.get(SNAPSHOT_CONTENT, "", "any")
    except Forbidden:
        note = (
            "note: VolumeSnapshotContents may not be read, so the description lacks what the driver calls the snapshots"
        )
        say(note, err=True)
        return False
    except KindMissing:  # the plan says what to install, if it wants snapshots
        return False
    return True


def described(files: tuple[str, ...], name: str, namespace: str, fallback: str) -> Cluster:
    """Return the cluster of a name that files describe.

    Raises:
        InputError: they describe none of that name, or several.
    """
    clusters, _ = offline.load_clusters(files, namespace=namespace or None, fallback=fallback)
    found = [each for each in clusters if each.name == name]
    if len(found) != 1:
        what = f"{len(found)} clusters" if found else "no cluster"
        raise InputError(f"the files describe {what} of that name", subject=name)
    return found[0]
