"""A backup of another Kubernetes, made known to this one by its description in the store.

It becomes a ChronikBackup whose id in the store is in an annotation, as its uid is a new one, and a VolumeSnapshot and
a VolumeSnapshotContent for each of its snapshots, by what the driver calls them. Fields of those:
https://kubernetes.io/docs/concepts/storage/volume-snapshots/
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from chronik.api.names import BACKUP_NAME
from chronik.backups.document import IMPORTED, SCHEDULED_AT
from chronik.backups.groups import group_name
from chronik.backups.parts import labels, snapshot_name
from chronik.backups.tell import conditions
from chronik.manifest import (
    BACKUP,
    CLUSTER_LABEL,
    FINALIZER,
    GROUP_SNAPSHOT_CONTENTS,
    GROUP_SNAPSHOTS,
    SCHEDULE_LABEL,
    SNAPSHOT,
    SNAPSHOT_CONTENT,
)
from chronik.status.compute import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest


class Import(NamedTuple):
    """What is asked for: the backup of an id in a store, as `described` there, under a name in a namespace.

    `places` are the destinations of `spec.backup` that the store is, by its kind. With `owns` its data goes when the
    ChronikBackup is deleted, and its schedule lets go of it; else all of that stays.
    """

    identity: str
    described: Manifest
    store: str
    name: str
    namespace: str
    destination: Mapping[str, Any]
    owns: bool = False
    volumes: bool = True
    owned: bool = True
    """Whether snapshots belong to the ChronikBackup: there is none if a cluster is recovered without an operator."""
    contents: str = ""
    """What the names of contents begin with after `chronik-`; by default the uid of the ChronikBackup."""
    group_version: str = GROUP_SNAPSHOTS[0].api_version
    """The version of VolumeGroupSnapshots that is there; only a backup whose volumes were cut at one moment has one."""


def check(described: Any) -> Reason | None:
    """Return why a backup cannot be made known by a description, None if it can."""
    if not isinstance(described, dict) or described.get("kind") != BACKUP.name:
        return Reason("BackupDamaged", "this describes no backup: it is no ChronikBackup")
    if described.get("apiVersion") != BACKUP.api_version:
        text = f"it is of {described.get('apiVersion')}, and this chronik knows {BACKUP.api_version}"
        return Reason("BackupDamaged", f"{text}: use the chronik that made it, or a newer one")
    try:
        status, metadata = described["status"], described["metadata"]
        wanted = [metadata["name"], described["spec"]["cluster"], status["cutAt"], status["cluster"]["spec"]["backup"]]
        wanted += [each[key] for each in status["volumes"] for key in ("claim", "component", "ordinal", "snapshot")]
        whole = all(each is not None for each in wanted) and BACKUP_NAME.fits(str(metadata["name"]))
    except (KeyError, TypeError) as error:
        return Reason("BackupDamaged", f"this does not describe a whole backup: {error} is missing")
    if not whole:
        return Reason("BackupDamaged", "this does not describe a whole backup")
    if status.get("phase") != "Completed" or not status.get("usable"):
        return Reason("BackupFailed", f"it is {status.get('phase')}, and cannot be used")
    return None


def without_handle(described: Manifest) -> str:
    """Return the name of a claim of whose snapshot it is not known what the driver calls it; empty if there is none."""
    lacking = (each for each in described["status"]["volumes"] if not each.get("handle") or not each.get("driver"))
    return next((str(each["claim"]) for each in lacking), "")


def name_of(described: Manifest) -> tuple[str, str]:
    """Return the namespace and the name that a backup had."""
    metadata = described["metadata"]
    return str(metadata.get("namespace", "")), str(metadata["name"])


def document_of(wanted: Import) -> Manifest:
    """Return the ChronikBackup, without its status: an operator leaves one alone that says it is being imported."""
    metadata, spec = wanted.described["metadata"], wanted.described["spec"]
    theirs = {key: value for key, value in (metadata.get("labels") or {}).items() if key != SCHEDULE_LABEL}
    annotations = {IMPORTED: wanted.identity}
    if wanted.owns:
        theirs = metadata.get("labels") or {}
        annotations |= {key: value for key, value in (metadata.get("annotations") or {}).items() if key == SCHEDULED_AT}
    return {
        "apiVersion": BACKUP.api_version,
        "kind": BACKUP.name,
        "metadata": {
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": {**theirs, CLUSTER_LABEL: spec["cluster"]},
            "annotations": annotations,
            **({"finalizers": [FINALIZER]} if wanted.owns else {}),
        },
        "spec": {**spec, "onDelete": "Delete" if wanted.owns else "Keep"},
    }


def volumes_of(wanted: Import) -> list[dict[str, Any]]:
    """Return the volumes that are made known, each with the name of its snapshot here."""
    found = []
    for each in wanted.described["status"]["volumes"] if wanted.volumes else ():
        known = {key: value for key, value in each.items() if key not in {"content", "error"}}
        snapshot = snapshot_name(wanted.name, each["component"], each["ordinal"])
        found.append({**known, "snapshot": snapshot, "ready": True})
    return found


def parts_of(backup: Manifest, wanted: Import) -> list[Manifest]:
    """Return the snapshots of a ChronikBackup that is there, each after its content, which names it.

    A content with deletionPolicy Retain leaves the driver's snapshot where it is, whatever becomes of the content.
    """
    uid = backup["metadata"]["uid"]
    parts = _group_of(backup, wanted)
    owner = {"apiVersion": BACKUP.api_version, "kind": BACKUP.name, "name": wanted.name, "uid": uid}
    for each in volumes_of(wanted):
        name = content_name(wanted.contents or uid, each)
        marks = labels(backup, each["component"])
        ref = {"apiVersion": SNAPSHOT.api_version, "kind": SNAPSHOT.name, "namespace": wanted.namespace}
        parts += [
            {
                "apiVersion": SNAPSHOT_CONTENT.api_version,
                "kind": SNAPSHOT_CONTENT.name,
                "metadata": {"name": name, "labels": marks},
                "spec": {
                    "deletionPolicy": "Delete" if wanted.owns else "Retain",
                    "driver": each["driver"],
                    "source": {"snapshotHandle": each["handle"]},
                    "volumeSnapshotRef": {**ref, "name": each["snapshot"]},
                },
            },
            {
                "apiVersion": SNAPSHOT.api_version,
                "kind": SNAPSHOT.name,
                "metadata": {
                    "name": each["snapshot"],
                    "namespace": wanted.namespace,
                    "labels": marks,
                    **({"ownerReferences": [owner]} if wanted.owned else {}),
                },
                "spec": {"source": {"volumeSnapshotContentName": name}},
            },
        ]
    return parts


def is_grouped(wanted: Import) -> bool:
    """Return whether the snapshots that are made known belong to a group."""
    return wanted.volumes and bool((wanted.described["status"].get("group") or {}).get("handle"))


def _group_of(backup: Manifest, wanted: Import) -> list[Manifest]:
    """Return the group of the snapshots, after its content: without it, the snapshot controller binds none of them."""
    if not is_grouped(wanted):
        return []
    uid, name, marks = backup["metadata"]["uid"], group_name(wanted.name), labels(backup, "volumes")
    content, volumes = f"chronik-{wanted.contents or uid}-volumes", volumes_of(wanted)
    handles = {
        "volumeGroupSnapshotHandle": wanted.described["status"]["group"]["handle"],
        "volumeSnapshotHandles": [each["handle"] for each in volumes],
    }
    kind = GROUP_SNAPSHOT_CONTENTS[wanted.group_version]
    about = {"name": name, "namespace": wanted.namespace, "labels": marks}
    owner = {"apiVersion": BACKUP.api_version, "kind": BACKUP.name, "name": wanted.name, "uid": uid}
    return [
        {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": content, "labels": marks},
            "spec": {
                "deletionPolicy": "Delete" if wanted.owns else "Retain",
                "driver": volumes[0]["driver"],
                "source": {"groupSnapshotHandles": handles},
                "volumeGroupSnapshotRef": {"namespace": wanted.namespace, "name": name},
            },
        },
        {
            "apiVersion": kind.api_version,
            "kind": GROUP_SNAPSHOTS[0].name,
            "metadata": about | ({"ownerReferences": [owner]} if wanted.owned else {}),
            "spec": {"source": {"volumeGroupSnapshotContentName": content}},
        },
    ]


def content_name(whose: str, volume: Mapping[str, Any]) -> str:
    """Return the name of the content of an imported snapshot: contents lie in no namespace."""
    return f"chronik-{whose}-{volume['component']}-{volume['ordinal']}"


def status_of(backup: Manifest, wanted: Import, now: str) -> dict[str, Any]:
    """Return the status of an imported backup: the one that was described, with what has other names here."""
    uid, status = backup["metadata"]["uid"], copy.deepcopy(dict(wanted.described["status"]))
    volumes = [{**each, "content": content_name(uid, each)} for each in volumes_of(wanted)]
    folder, _, object_name = str(status["metastore"]["object"]).rpartition("/")
    if "claim" not in wanted.destination:  # a volume is somewhere else in Jobs than where it was read
        folder = f"{wanted.store}/{wanted.identity}"
    status["metastore"]["object"] = f"{folder}/{object_name}"
    status["cluster"]["spec"]["backup"]["destination"] = dict(wanted.destination)
    status |= {"volumes": volumes, "record": {"object": f"{folder}/backup.json"}}
    status.pop("verification", None)
    if is_grouped(wanted):
        status["group"] |= {"name": group_name(wanted.name), "content": f"chronik-{uid}-volumes"}
    else:
        status.pop("group", None)
    if not wanted.owns:
        status.pop("expiresAt", None)
    generation = int(backup["metadata"].get("generation", 1))
    return {**status, "conditions": conditions(status, (), None, now, generation)}


def destination_of(described: Manifest, store: Mapping[str, str], secret: str | None) -> dict[str, Any] | None:
    """Return `spec.backup.destination` for the store that a backup lies in now: it may be a copy of another bucket.

    None if it is a folder of this machine, and Jobs would look for the backup in a bucket.

    `store` has the url, and endpoint, region and account if they were given. `secret` is the name of another Secret
    with its credentials.
    """
    url = urlsplit(store["url"])
    old: dict[str, Any] = described["status"]["cluster"]["spec"]["backup"].get("destination") or {}
    if url.scheme == "file":
        return old if old.get("claim") else None
    kind, container = {"s3": ("s3", "bucket"), "gs": ("gcs", "bucket"), "az": ("azure", "container")}[url.scheme]
    before = {key: value for key, value in (old.get(kind) or {}).items() if value is not None}
    found = {container: url.netloc, **({"prefix": url.path.strip("/")} if url.path.strip("/") else {})}
    found |= {"credentialsSecret": secret} if secret else _kept(before, "credentialsSecret")
    if kind == "s3":
        same = before.get("bucket") == url.netloc
        region = store["region"] or before.get("region") or "us-east-1"
        endpoint = {"endpoint": store["endpoint"]} if store["endpoint"] else _kept(before if same else {}, "endpoint")
        found |= {"region": region, **endpoint}
    if kind == "azure":
        found["account"] = store["account"] or before.get("account", "")
    return {kind: found}


def _kept(before: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: before[key]} if before.get(key) else {}


def secrets_of(described: Manifest, destination: Mapping[str, Any]) -> list[str]:
    """Return the names of the Secrets that a recovery from a backup takes."""
    spec = described["status"]["cluster"]["spec"]
    connection = (spec.get("metastore") or {}).get("connection") or {}
    names = [each.get("credentialsSecret") for each in destination.values() if each]
    names += [(spec["backup"].get("encryption") or {}).get("secret")]
    names += [connection.get(key) for key in ("credentialsSecret", "existingUrlSecret", "sslRootCertSecret")]
    return sorted({name for name in names if name})
