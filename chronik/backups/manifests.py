"""Make the manifests of parts of backups and recoveries from their templates: snapshots, Jobs, and whom Jobs run as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.sections.backup import archives
from chronik.backups.document import status_of, stored_id
from chronik.backups.groups import selector_of
from chronik.backups.parts import labels
from chronik.manifest import BACKUP, CLUSTER, CLUSTER_LABEL, SNAPSHOT
from chronik.quantity import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronik.api.spec import Cluster
    from chronik.backups.parts import Volume
    from chronik.backups.steps import Make
    from chronik.manifest import Manifest

    Render = Callable[[str, Mapping[str, Any]], Manifest]
    """Renders one template by its name."""

SNAPSHOT_TEMPLATE = "volumesnapshot.yaml.j2"
GROUP_TEMPLATE = "volumegroupsnapshot.yaml.j2"
JOB_TEMPLATE = "backup-job.yaml.j2"
ACCOUNT_TEMPLATE = "backup-serviceaccount.yaml.j2"

DUMP_COMMAND = ("backup", "metastore")
BASE_COMMAND = ("backup", "base")
FORGET_COMMAND = ("backup", "forget")
RECORD_COMMAND = ("backup", "record")
VERIFY_COMMAND = ("backup", "verify")
RESTORE_TEST_COMMAND = ("backup", "verify", "--restore-test")
_OF_DATABASE = (DUMP_COMMAND, BASE_COMMAND)
_RECORD_FILE = "/etc/chronik/record/backup.json"
_VERIFIED_KEPT = 600
"""Seconds that the Job of a check stays, if an operator that was killed has not removed it."""
RESTORE_COMMAND = ("restore", "metastore")
RESTORE_SECONDS = 86_400
"""How long a restore may take."""


def snapshot(backup: Manifest, cluster: Cluster, volume: Volume, render: Render) -> Manifest:
    """Return the snapshot of a volume; one that is to outlive its backup has no owner."""
    return render(
        SNAPSHOT_TEMPLATE,
        {
            **_shared(backup, cluster, volume["component"]),
            "name": volume["snapshot"],
            "volume": volume,
            "owned": backup["spec"]["onDelete"] == "Delete",
        },
    )


def group(backup: Manifest, cluster: Cluster, name: str, api_version: str, render: Render) -> Manifest:
    """Return the one snapshot of all volumes, in a version of its API that the server has."""
    return render(
        GROUP_TEMPLATE,
        {
            **_shared(backup, cluster, "volumes"),
            "name": name,
            "apiVersion": api_version,
            "selector": selector_of(cluster, status_of(backup)["volumes"]),
            "owned": backup["spec"]["onDelete"] == "Delete",
        },
    )


def member(backup: Manifest, wanted: Make) -> Manifest:
    """Return what labels a snapshot that a group has made as one of this backup, and changes nothing else of it."""
    assert wanted.volume
    metadata = {"name": wanted.name, "namespace": backup["metadata"]["namespace"], "uid": wanted.uid}
    metadata["labels"] = labels(backup, wanted.volume["component"])
    return {"apiVersion": SNAPSHOT.api_version, "kind": SNAPSHOT.name, "metadata": metadata}


class JobOf(NamedTuple):
    """A Job of a backup: its name, the command of chronik that it runs, and the image with it.

    `record` is the text that it puts into the store. One of a backup that no server knows is `owned` by nothing.
    """

    backup: Manifest
    cluster: Cluster
    name: str
    command: tuple[str, ...]
    image: str
    record: str = ""
    owned: bool = True


def dump_command(cluster: Cluster) -> tuple[str, ...]:
    """Return what backs up the metastore of a cluster: a copy of the whole server, if its log is received, too."""
    return BASE_COMMAND if archives(cluster.spec["backup"]) else DUMP_COMMAND


def job(wanted: JobOf, render: Render) -> list[Manifest]:
    """Return a Job, and before it the ServiceAccount that it runs under."""
    args = [*wanted.command, "--id", stored_id(wanted.backup)]
    if wanted.command in _OF_DATABASE:
        args += ["--cluster", str(wanted.cluster.key)]
    if wanted.command == RECORD_COMMAND:
        args += ["--describe", _RECORD_FILE]
    variables = {
        **_shared(wanted.backup, wanted.cluster, "backup"),
        "name": wanted.name,
        "args": args,
        "image": wanted.image,
        "database": wanted.command in _OF_DATABASE,
        "record": wanted.record,
        "ttl": _VERIFIED_KEPT if wanted.command[:2] == VERIFY_COMMAND else None,
        "seconds": seconds_of(wanted.backup["spec"]["deadline"]),
        "owned": wanted.owned,
    }
    return [render(ACCOUNT_TEMPLATE, variables), render(JOB_TEMPLATE, variables)]


class RestoreOf(NamedTuple):
    """The Job that restores a dump for a new cluster, of which `document` is the ChronikCluster.

    `recorded` is the cluster that was backed up: where the dump lies is in its spec. With a `target` a copy of the
    server is recovered to that moment, or if it is `exact` not at all.
    """

    document: Manifest
    cluster: Cluster
    backup: Manifest
    recorded: Cluster
    name: str
    image: str
    target: str = ""
    exact: bool = False


def restore_job(wanted: RestoreOf, render: Render) -> list[Manifest]:
    """Return the Job that restores a dump into a new cluster's database, and before it its ServiceAccount.

    The Job belongs to the cluster, not to the backup. The dump is found by what the backup says of where it lies, since
    a backup that was imported has another uid than the one that made it.
    """
    about, key = wanted.document["metadata"], wanted.cluster.key
    dump = wanted.backup["status"]["metastore"]
    # Of a copy of the server all of its log would be read, and the metastore be newer than the volumes.
    moment = ["--target-time", wanted.target or dump["cutAt"]] if dump.get("method") == "Base" else []
    moment += ["--exact"] if wanted.exact else []
    variables = {
        **_shared(wanted.backup, wanted.cluster, "restore"),
        "spec": {**wanted.cluster.spec, "backup": wanted.recorded.spec["backup"]},
        "labels": {**labels(wanted.backup, "restore"), CLUSTER_LABEL: key.name},
        "owner": {"kind": CLUSTER.name, "name": about["name"], "uid": about.get("uid")},
        "name": wanted.name,
        "args": [*RESTORE_COMMAND, "--id", dump["object"].split("/")[-2], *moment],
        "image": wanted.image,
        "database": True,
        "record": "",
        "ttl": None,
        "seconds": RESTORE_SECONDS,
        "owned": "uid" in about,  # a document that no server has yet owns nothing
    }
    return [render(ACCOUNT_TEMPLATE, variables), render(JOB_TEMPLATE, variables)]


def _shared(backup: Manifest, cluster: Cluster, component: str) -> dict[str, Any]:
    metadata = backup["metadata"]
    return {
        "cluster": cluster,
        "spec": cluster.spec,
        "backup": {key: metadata[key] for key in ("name", "namespace", "uid")},
        "owner": {"kind": BACKUP.name, "name": metadata["name"], "uid": metadata["uid"]},
        "labels": labels(backup, component),
        "account": f"{cluster.name}-backup",
    }
