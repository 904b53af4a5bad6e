"""What backups need of a Kubernetes and a bare API server lacks: snapshots of volumes, and Jobs that run.

The definitions are written by hand, with the fields that are used, by their names in the public documentation
(https://kubernetes.io/docs/concepts/storage/volume-snapshots/). `Played` plays the snapshot controller, a driver, and
what runs Jobs; it can fail, hang, and lie about what a snapshot is bound to.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support.definitions import definition
from support.group_snapshots import GROUP, PlayedGroups, is_member
from support.pace import Pace

from chronik.manifest import BACKUP, CLAIM, JOB, POD, SNAPSHOT, SNAPSHOT_CONTENT, KindName
from chronik.tasks import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.api import ApiServer
    from support.operators import Namespace

    from chronik.manifest import Kind, Manifest

_GROUP = "snapshot.storage.k8s.io"
_TEXT, _ANY = {"type": "string"}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TIME, _WHOLE = {"type": "string", "format": "date-time"}, {"type": "integer", "format": "int64"}
_QUANTITY = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}
_ERROR = {"type": "object", "properties": {"time": _TIME, "message": _TEXT}}


def _crd(kind: str, plural: str, scope: str, spec: dict[str, Any], status: dict[str, Any]) -> Manifest:
    fields = {name: {"type": "object", "properties": found} for name, found in (("spec", spec), ("status", status))}
    schema = {"type": "object", "properties": {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}}}
    schema["properties"] |= fields
    # The API server asks for it in every group that ends with k8s.io.
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/814"}
    name = KindName(f"{_GROUP}/v1", kind)
    return definition(name, plural, schema, scope=scope, status=True, annotations=approved)


DEFINITIONS = [
    _crd(
        "VolumeSnapshot",
        "volumesnapshots",
        "Namespaced",
        {
            "volumeSnapshotClassName": _TEXT,
            "source": {
                "type": "object",
                "properties": {"persistentVolumeClaimName": _TEXT, "volumeSnapshotContentName": _TEXT},
            },
        },
        {
            "boundVolumeSnapshotContentName": _TEXT,
            "creationTime": _TIME,
            "readyToUse": {"type": "boolean"},
            "restoreSize": _QUANTITY,
            "volumeGroupSnapshotName": _TEXT,
            "error": _ERROR,
        },
    ),
    _crd(
        "VolumeSnapshotContent",
        "volumesnapshotcontents",
        "Cluster",
        {
            "driver": _TEXT,
            "deletionPolicy": _TEXT,
            "volumeSnapshotClassName": _TEXT,
            "source": {"type": "object", "properties": {"volumeHandle": _TEXT, "snapshotHandle": _TEXT}},
            "volumeSnapshotRef": {
                "type": "object",
                "properties": {"name": _TEXT, "namespace": _TEXT, "uid": _TEXT, "kind": _TEXT, "apiVersion": _TEXT},
            },
        },
        {
            "snapshotHandle": _TEXT,
            "volumeGroupSnapshotHandle": _TEXT,
            "creationTime": _WHOLE,
            "restoreSize": _WHOLE,
            "readyToUse": {"type": "boolean"},
            "error": _ERROR,
        },
    ),
]


def install_snapshots(server: ApiServer) -> None:
    """Teach a server what snapshots are."""
    server.install(DEFINITIONS)
    for kind in (SNAPSHOT, SNAPSHOT_CONTENT):
        server.wait_served(f"/apis/{kind.api_version}/{kind.plural}")


def result(command: str = "backup metastore", **more: Any) -> dict[str, Any]:
    """Return what the container of a Job says at its end."""
    said = {
        "result": "ok",
        "command": command,
        "object": "s3://acme-backups/x/metastore.dump",
        "bytes": 4711,
        "sha256": "ab" * 32,
        "server": "15.18",
        "cutAt": _now(),
        "verified": True,
    }
    return said | more


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Played:
    """Plays what makes snapshots and runs Jobs in a namespace.

    `failing` are claims whose snapshots fail, with what the driver says; `hanging` are those whose snapshots are never
    cut, `unready` those that are cut and never ready, `lying` those whose content names another snapshot. `jobs` is how
    Jobs end by their command: ok, failed or never, and `failure` what failed ones say. `order` is what was cut, dumped
    and restored, in that order, and `records` are the descriptions that were stored. `on_cut` gets each claim that is
    cut with the handle of its snapshot; `on_job` runs a Job for real, and returns what it said.
    """

    def __init__(self, place: Namespace) -> None:
        self.place = place
        self.failing: dict[str, str] = {}
        self.hanging: set[str] = set()
        self.unready: set[str] = set()
        self.lying: set[str] = set()
        ok = ("metastore", "base", "forget", "record", "verify", "restore", "drop-slot")
        self.jobs = dict.fromkeys(ok, "ok")
        self.failure: dict[str, Any] = {"result": "failed", "message": "the store is full"}
        self.order: list[str] = []
        self.records: list[str] = []
        self.dumps: dict[str, dict[str, Any]] = {}
        self.on_cut: Callable[[str, str], None] = lambda _claim, _handle: None
        self.on_job: Callable[[Manifest], dict[str, Any] | None] = lambda _job: None
        self.groups: PlayedGroups | None = None

    def play_groups(self, kind: Kind = GROUP) -> PlayedGroups:
        """Play groups of snapshots, too, in one version of their API."""
        self.groups = PlayedGroups(self.place, kind)
        self.groups.cut = self._cut_group
        return self.groups

    def _cut_group(self, handles: dict[str, str]) -> None:
        self.order.append("+".join(sorted(handles)))
        for claim, handle in handles.items():
            self.on_cut(claim, handle)

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[Played]:
        """Play as long as the block runs."""
        async with background(self._play()):
            yield self

    async def _play(self) -> None:
        pace = Pace()
        while True:
            jobs: list[Manifest] = []
            snapshots: list[Manifest] = []
            try:
                jobs = await self.place.list(JOB)
                for each in jobs:
                    await self._job(each)
                snapshots = await self.place.list(SNAPSHOT)
                for each in snapshots:
                    if not is_member(each):
                        await self._snapshot(each)
                if self.groups is not None:
                    await self.groups.step()
            except AssertionError:  # it was deleted a moment ago
                pass
            await pace.rest((*jobs, *snapshots))

    async def claim(self, cluster: str, component: str, ordinal: int) -> str:
        """Create a claim as a StatefulSet would."""
        name = f"data-{cluster}-{component}-{ordinal}"
        labels = {"app.kubernetes.io/instance": cluster, "app.kubernetes.io/component": component}
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        metadata = {"name": name, "namespace": self.place.name, "labels": labels}
        await self.place.create({"apiVersion": "v1", "kind": CLAIM.name, "metadata": metadata, "spec": spec})
        return name

    async def _job(self, job: Manifest) -> None:
        if "foregroundDeletion" in (job["metadata"].get("finalizers") or ()):  # as the garbage collector does
            pod = f"{job['metadata']['name']}-x"
            if await self.place.get(POD, pod) is not None:
                await self.place.call("DELETE", self.place.path(POD, pod), {"gracePeriodSeconds": 0})
            path = self.place.path(JOB, job["metadata"]["name"])
            await self.place.call("PATCH", path, {"metadata": {"finalizers": None}}, patch="merge")
            return
        if (job.get("status") or {}).get("conditions") or "deletionTimestamp" in job["metadata"]:
            return
        args = job["spec"]["template"]["spec"]["containers"][0]["args"]
        what = args[0] if args[0] == "restore" else args[1]
        how = self.jobs[what]
        if how == "never":
            return
        good = how == "ok"
        said = result(" ".join(args[:2]), rows=4711) if good else self.failure
        if good and what in {"metastore", "base"}:  # a run after one that ended finds its dump, and does nothing
            said = self.dumps.setdefault(args[args.index("--id") + 1], said)
        ran = await asyncio.to_thread(self.on_job, job)
        if ran is not None:
            said, good = ran, ran.get("result") == "ok"
        if what == "record":
            said = said | ({"object": "s3://acme-backups/x/backup.json"} if ran is None and good else {})
            self.records.append(job["spec"]["template"]["metadata"]["annotations"]["chronik.stream/backup-record"])
        else:
            self.order.append(what)
        await self._pod(job, json.dumps(said), code=0 if good else 8)
        first, last = ("SuccessCriteriaMet", "Complete") if good else ("FailureTarget", "Failed")
        reason = {"reason": "CompletionsReached" if good else "PodFailurePolicy", "message": "it ended"}
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": _now(), "lastProbeTime": _now(), **reason}
            for kind in (first, last)
        ]
        status: dict[str, Any] = {"conditions": conditions, "startTime": _now()}
        status |= {"succeeded": 1, "completionTime": _now()} if good else {"failed": 1}
        await self.place.call(
            "PATCH", self.place.path(JOB, job["metadata"]["name"], "status"), {"status": status}, patch="merge"
        )

    async def _pod(self, job: Manifest, message: str, code: int) -> None:
        name = f"{job['metadata']['name']}-x"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True, "blockOwnerDeletion": True}
        owner |= {key: job["metadata"][key] for key in ("name", "uid")}
        labels = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
        metadata = {"name": name, "namespace": self.place.name, "labels": labels, "ownerReferences": [owner]}
        spec = {"containers": [{"name": "backup", "image": "x"}]}
        if await self.place.get(POD, name) is not None:
            await self.place.call("DELETE", self.place.path(POD, name), {"gracePeriodSeconds": 0})
        await self.place.create({"apiVersion": "v1", "kind": POD.name, "metadata": metadata, "spec": spec})
        ended = {"exitCode": code, "message": message, "startedAt": _now(), "finishedAt": _now()}
        container = {
            "name": "backup",
            "image": "x",
            "imageID": "x",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": ended},
        }
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
        await self.place.call("PATCH", self.place.path(POD, name, "status"), {"status": status}, patch="merge")

    async def _snapshot(self, snapshot: Manifest) -> None:
        if "volumeSnapshotContentName" in snapshot["spec"]["source"]:
            await self._bind(snapshot)
            return
        claim = snapshot["spec"]["source"]["persistentVolumeClaimName"]
        status = snapshot.get("status") or {}
        if claim in self.hanging or (status.get("readyToUse") and claim not in self.lying):
            return
        if claim in self.failing:
            if not status.get("error"):
                error = {"time": _now(), "message": self.failing[claim]}
                await self._say(snapshot, {"readyToUse": False, "error": error})
            return
        if not status.get("creationTime"):
            self.order.append(claim)
            self.on_cut(claim, f"handle-{snapshot['metadata']['uid']}")
        await self._content(snapshot, claim)
        bound = f"snapcontent-{snapshot['metadata']['uid']}"
        said = {"boundVolumeSnapshotContentName": bound, "creationTime": status.get("creationTime") or _now()}
        ready = claim not in self.unready
        if status.get("readyToUse") != ready or not status.get("creationTime") or status.get("error"):
            await self._say(snapshot, {**said, "readyToUse": ready, "restoreSize": "1Gi", "error": None})

    async def _bind(self, snapshot: Manifest) -> None:
        """Bind a snapshot to the content that it names, if that names it, and the driver has the content's snapshot."""
        metadata, name = snapshot["metadata"], snapshot["spec"]["source"]["volumeSnapshotContentName"]
        if (snapshot.get("status") or {}).get("readyToUse"):
            return
        path = f"/apis/{SNAPSHOT_CONTENT.api_version}/{SNAPSHOT_CONTENT.plural}/{name}"
        content = await self.place.call("GET", path)
        ref = content["spec"]["volumeSnapshotRef"]
        handle = content["spec"]["source"]["snapshotHandle"]
        if (ref["namespace"], ref["name"]) != (metadata["namespace"], metadata["name"]):
            return
        if self.groups is not None and not self.groups.binds(handle):
            return
        if handle in self.unready:
            error = {"time": _now(), "message": f"there is no snapshot {handle}"}
            await self._say(snapshot, {"readyToUse": False, "error": error})
            return
        bound = {"spec": {"volumeSnapshotRef": {**ref, "uid": metadata["uid"]}}}
        await self.place.call("PATCH", path, bound, patch="merge", fieldManager="snapshotter")
        status = {"snapshotHandle": handle, "readyToUse": True, "creationTime": time.time_ns()}
        await self.place.call("PATCH", f"{path}/status", {"status": status}, patch="merge", fieldManager="snapshotter")
        said = {"boundVolumeSnapshotContentName": name, "creationTime": _now(), "readyToUse": True}
        await self._say(snapshot, {**said, "restoreSize": "1Gi", "error": None})

    async def _content(self, snapshot: Manifest, claim: str) -> None:
        metadata = snapshot["metadata"]
        uid = "somebody-elses" if claim in self.lying else metadata["uid"]
        name = f"snapcontent-{metadata['uid']}"
        path = f"/apis/{SNAPSHOT_CONTENT.api_version}/{SNAPSHOT_CONTENT.plural}/{name}"
        content = {
            "apiVersion": SNAPSHOT_CONTENT.api_version,
            "kind": SNAPSHOT_CONTENT.name,
            "metadata": {"name": name},
            "spec": {
                "driver": "played.csi.example.com",
                "deletionPolicy": "Delete",
                "source": {"volumeHandle": claim},
                "volumeSnapshotRef": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": uid},
            },
        }
        await self.place.call("PATCH", path, content, fieldManager="snapshotter", force=True)
        status = {"snapshotHandle": f"handle-{metadata['uid']}", "readyToUse": True, "creationTime": time.time_ns()}
        await self.place.call("PATCH", f"{path}/status", {"status": status}, patch="merge", fieldManager="snapshotter")

    async def _say(self, snapshot: Manifest, status: dict[str, Any]) -> None:
        path = self.place.path(SNAPSHOT, snapshot["metadata"]["name"], "status")
        await self.place.call("PATCH", path, {"status": status}, patch="merge", fieldManager="snapshotter")


def backup_of(place: Namespace, name: str = "b", cluster: str = "c", **spec: Any) -> Manifest:
    """Return a ChronikBackup."""
    return {
        "apiVersion": BACKUP.api_version,
        "kind": BACKUP.name,
        "metadata": {"name": name, "namespace": place.name},
        "spec": {"cluster": cluster, **spec},
    }
