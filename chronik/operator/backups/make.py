"""Make and remove the parts of a backup on a server: each once, under a name that is always the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from chronik.backups import manifests
from chronik.backups.groups import UNAVAILABLE
from chronik.errors import AlreadyExists, ChronikError, KindMissing, ObjectChanged
from chronik.manifest import JOB, SNAPSHOT, ObjectRef
from chronik.operator.backups.look import group_kind, recorded_cluster
from chronik.status.assess import describe_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.api.spec import Cluster
    from chronik.backups.steps import Make, Remove, Seen
    from chronik.manifest import Kind, Manifest
    from chronik.operator.backups.look import Site


async def make_all(backup: Manifest, makes: Iterable[Make], seen: Seen, site: Site) -> Seen:
    """Make parts, and return what is there then. A part that cannot be made keeps no other from being made."""
    snapshots, errors, job, record, group = dict(seen.snapshots), {}, seen.job, seen.record, seen.group
    try:
        cluster = recorded_cluster(backup, site)
    except ChronikError as error:
        return replace(seen, errors={each.name: describe_error(error).message for each in makes})
    for each in makes:
        try:
            made = await make(backup, each, cluster, seen.image, site)
        except ChronikError as error:
            errors[each.name] = describe_error(error).message
            continue
        if each.part == "job":
            job = made
        elif each.part == "record":
            record = made
        elif each.part == "group":
            group = made
        elif made is not None:
            snapshots[each.name] = made
    return replace(seen, snapshots=snapshots, group=group, job=job, record=record, errors=errors)


async def make(backup: Manifest, wanted: Make, cluster: Cluster, image: str, site: Site) -> Manifest | None:
    """Make one part, or return the one of its name that is there already.

    Raises:
        ChronikError: the server does not take it.
    """
    if wanted.part == "group":
        kind = await group_kind(site.kube)
        if kind is None:
            raise KindMissing(UNAVAILABLE, subject=wanted.name)
        manifest = manifests.group(backup, cluster, wanted.name, kind.api_version, site.tools.render)
        return await create(manifest, kind, site)
    if wanted.part == "member":
        return await site.kube.apply(manifests.member(backup, wanted))
    if wanted.volume is not None:
        return await create(manifests.snapshot(backup, cluster, wanted.volume, site.tools.render), SNAPSHOT, site)
    command = {
        "job": manifests.dump_command(cluster),
        "record": manifests.RECORD_COMMAND,
        "verify": manifests.RESTORE_TEST_COMMAND if wanted.restore_test else manifests.VERIFY_COMMAND,
    }[wanted.part]
    return await run(manifests.JobOf(backup, cluster, wanted.name, command, image, wanted.text, site.owned), site)


async def run(wanted: manifests.JobOf, site: Site) -> Manifest | None:
    """Make a Job, and before it the ServiceAccount that it runs under."""
    account, job = manifests.job(wanted, site.tools.render)
    await site.kube.apply(account, force=True)
    return await create(job, JOB, site)


async def create(manifest: Manifest, kind: Kind, site: Site) -> Manifest | None:
    """Create an object unless there is one of its name, which is returned then.

    An apply with a resource version creates, and changes nothing that is there.
    """
    metadata = manifest["metadata"]
    try:
        return await site.kube.apply({**manifest, "metadata": {**metadata, "resourceVersion": "1"}})
    except (ObjectChanged, AlreadyExists):
        return await site.kube.get(kind, metadata["namespace"], metadata["name"])


async def remove_all(backup: Manifest, removes: Iterable[Remove], site: Site) -> None:
    """Delete parts. A Job is there until its pods are gone: one that still wrote could undo what comes after it."""
    for each in removes:
        kinds = {"Job": JOB, "VolumeSnapshot": SNAPSHOT}
        kind = kinds.get(each.kind) or await group_kind(site.kube)
        if kind is None:
            continue  # the definition is gone, and the group with it
        ref = ObjectRef(kind.name, backup["metadata"]["namespace"], each.name)
        how: Literal["Foreground", "Background"] = "Foreground" if kind is JOB else "Background"
        await site.kube.delete(kind, ref, uid=each.uid, propagation=how)
