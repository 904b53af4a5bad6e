"""What snapshots of several volumes at one moment need of a Kubernetes, and a bare API server lacks.

Written by hand after the snapshot controller of external-snapshotter, v8.6.0: fields of client/apis/volumegroupsnapshot
and what pkg/common-controller/groupsnapshot_controller_helper.go does with them. It selects claims by `matchLabels`
alone; refuses a group if one of them is bound to nothing; makes a VolumeSnapshot and its content for each volume, named
by a hash of the group's uid and the driver's name of the volume, owned by the group and held by a finalizer; and
deletes them when the group is deleted, none of them before it.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from support.definitions import definition

from chronik.manifest import (
    CLAIM,
    GROUP_SNAPSHOT_CONTENTS,
    GROUP_SNAPSHOTS,
    SNAPSHOT,
    SNAPSHOT_CONTENT,
    VOLUME,
    Kind,
    KindName,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.api import ApiServer
    from support.operators import Namespace

    from chronik.manifest import Manifest

GROUP = GROUP_SNAPSHOTS[0]
IN_GROUP = "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection"
BOUND = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection"
_DRIVER = "played.csi.example.com"
_TEXT, _TIME = {"type": "string"}, {"type": "string", "format": "date-time"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_ERROR = {"type": "object", "properties": {"time": _TIME, "message": _TEXT}}
_READY = {"type": "boolean"}


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def _crd(kind: Kind, scope: str, spec: dict[str, Any], status: dict[str, Any]) -> Manifest:
    schema = _object(apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, status=status)
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/1337"}
    name = KindName(kind.api_version, kind.name)
    return definition(name, kind.plural, schema, scope=scope, status=True, annotations=approved)


def group_definitions(group: Kind = GROUP) -> list[Manifest]:
    """Return the definitions of VolumeGroupSnapshots and their contents, in one version."""
    infos = {"type": "array", "items": _object(volumeHandle=_TEXT, snapshotHandle=_TEXT, readyToUse=_READY)}
    texts = {"type": "array", "items": _TEXT}
    reference = _object(name=_TEXT, namespace=_TEXT, uid=_TEXT, kind=_TEXT, apiVersion=_TEXT)
    selector = {
        "type": "object",
        "properties": {"matchLabels": _TEXTS},
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "selector is immutable"}],
    }
    named = {
        "type": "string",
        "x-kubernetes-validations": [
            {
                "rule": "size(self) > 0",
                "message": "volumeGroupSnapshotClassName must not be the empty string when set",
            }
        ],
    }
    return [
        _crd(
            group,
            "Namespaced",
            _object(
                volumeGroupSnapshotClassName=named,
                source=_object(selector=selector, volumeGroupSnapshotContentName=_TEXT),
            ),
            _object(boundVolumeGroupSnapshotContentName=_TEXT, creationTime=_TIME, readyToUse=_READY, error=_ERROR),
        ),
        _crd(
            GROUP_SNAPSHOT_CONTENTS[group.api_version],
            "Cluster",
            _object(
                driver=_TEXT,
                deletionPolicy=_TEXT,
                volumeGroupSnapshotClassName=_TEXT,
                source=_object(
                    volumeHandles=texts,
                    groupSnapshotHandles=_object(volumeGroupSnapshotHandle=_TEXT, volumeSnapshotHandles=texts),
                ),
                volumeGroupSnapshotRef=reference,
            ),
            _object(
                volumeGroupSnapshotHandle=_TEXT,
                creationTime=_TIME,
                readyToUse=_READY,
                volumeSnapshotInfoList=infos,
                error=_ERROR,
            ),
        ),
    ]


def install_groups(server: ApiServer, group: Kind = GROUP) -> None:
    """Teach a server what groups of snapshots are, in one version."""
    server.install(group_definitions(group))
    for kind in (group, GROUP_SNAPSHOT_CONTENTS[group.api_version]):
        server.wait_served(f"/apis/{kind.api_version}/{kind.plural}")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class PlayedGroups:
    """Plays the snapshot controller and a driver for the groups of a namespace.

    `failing` is what the driver says instead of cutting a group, `hanging`: it never answers, `unready`: what was cut
    is never ready, `lying`: the content names another group. `unbound` are claims that are bound to nothing, `left_out`
    those that the driver forgets, and `unnamed` those whose volume the controller does not find.
    """

    def __init__(self, place: Namespace, kind: Kind = GROUP) -> None:
        self.place, self.kind = place, kind
        self.failing = ""
        self.hanging = self.unready = self.lying = False
        self.unbound: set[str] = set()
        self.left_out: set[str] = set()
        self.unnamed: set[str] = set()
        self.untimed = False
        self.cut: Callable[[dict[str, str]], None] = lambda _handles: None
        self.groups: dict[str, str] = {}
        """What the driver calls the group of each snapshot."""
        self.known: set[str] = set()
        """The groups whose contents the controller knows."""

    async def step(self) -> None:
        """Bring every group one step further, and let go of what is deleted."""
        answer = await self.place.call("GET", self.place.path(SNAPSHOT))
        snapshots = answer["items"]
        if not await self._served():
            return
        for group in await self.place.list(self.kind):
            await self._group(group, [each for each in snapshots if is_member(each, group["metadata"]["uid"])])
        for each in snapshots:
            if "deletionTimestamp" in each["metadata"] and IN_GROUP in (each["metadata"].get("finalizers") or ()):
                await self._let_go(each)

    async def _served(self) -> bool:
        found = self.place.server.call("GET", self.place.path(self.kind))
        return bool(found.code == 200)

    async def _group(self, group: Manifest, members: list[Manifest]) -> None:
        metadata, status = group["metadata"], group.get("status") or {}
        if "deletionTimestamp" in metadata:
            await self._delete(group, members)
            return
        if BOUND not in (metadata.get("finalizers") or ()):
            patch = {"metadata": {"finalizers": [BOUND]}}
            await self.place.call("PATCH", self._path(group), patch, patch="merge", fieldManager="snapshotter")
        if self.hanging or status.get("readyToUse"):
            return
        if "volumeGroupSnapshotContentName" in group["spec"]["source"]:
            await self._bind(group)
            return
        claims, error = await self._selected(group)
        if error or self.failing:
            await self._fail(group, error or self.failing)
            return
        handles = {each["metadata"]["name"]: await self._volume_handle(each) for each in claims}
        handles = {name: handle for name, handle in handles.items() if name not in self.left_out}
        if f"group-{metadata['uid']}" not in self.groups.values():
            found = {name: self._name(group, handle, "handle") for name, handle in handles.items()}
            self.groups |= dict.fromkeys(found.values(), f"group-{metadata['uid']}")
            self.cut(found)
        content = await self._content(group, handles)
        for name, handle in handles.items():
            await self._member(group, name, handle)
        said = {"boundVolumeGroupSnapshotContentName": content, "creationTime": status.get("creationTime") or _now()}
        await self._say(self._path(group), {**said, "readyToUse": not self.unready, "error": None})

    async def _bind(self, group: Manifest) -> None:
        """Bind a group to the content that it names, if that names it, and the driver has that group."""
        metadata, name = group["metadata"], group["spec"]["source"]["volumeGroupSnapshotContentName"]
        path = _path(GROUP_SNAPSHOT_CONTENTS[self.kind.api_version], name)
        content = await self.place.call("GET", path)
        reference, handles = (
            content["spec"]["volumeGroupSnapshotRef"],
            content["spec"]["source"]["groupSnapshotHandles"],
        )
        if (reference["namespace"], reference["name"]) != (metadata["namespace"], metadata["name"]):
            return
        if {self.groups.get(each) for each in handles["volumeSnapshotHandles"]} != {
            handles["volumeGroupSnapshotHandle"]
        }:
            await self._fail(group, "the driver has no such group of these snapshots")
            return
        bound = {"spec": {"volumeGroupSnapshotRef": {**reference, "uid": metadata["uid"]}}}
        await self.place.call("PATCH", path, bound, patch="merge", fieldManager="snapshotter")
        self.known.add(handles["volumeGroupSnapshotHandle"])
        status = {"volumeGroupSnapshotHandle": handles["volumeGroupSnapshotHandle"], "readyToUse": True}
        await self._say(path, status | {"creationTime": _now()})
        said = {"boundVolumeGroupSnapshotContentName": name, "creationTime": _now(), "readyToUse": True}
        await self._say(self._path(group), {**said, "error": None})

    def binds(self, handle: str) -> bool:
        """Return whether the controller binds a snapshot: a member needs its group to be known in this Kubernetes."""
        return handle not in self.groups or self.groups[handle] in self.known

    async def _selected(self, group: Manifest) -> tuple[list[Manifest], str]:
        labels = group["spec"]["source"]["selector"]["matchLabels"].items()
        every = await self.place.list(CLAIM)
        found = [each for each in every if labels <= (each["metadata"].get("labels") or {}).items()]
        text = ",".join(f"{key}={value}" for key, value in labels)
        if not found:
            return [], f"label selector {text} for group snapshot not applied to any PVC"
        unbound = [each["metadata"]["name"] for each in found if each["metadata"]["name"] in self.unbound]
        if unbound:
            return [], f"the PVC {unbound[0]} is not yet bound to a PV, will not attempt to take a group snapshot"
        return found, ""

    async def _volume_handle(self, claim: Manifest) -> str:
        name = claim["spec"].get("volumeName")
        if not name:  # of tests without volumes
            return str(claim["metadata"]["name"])
        volume = await self.place.call("GET", f"/api/{VOLUME.api_version}/{VOLUME.plural}/{name}")
        return str(volume["spec"]["csi"]["volumeHandle"])

    async def _fail(self, group: Manifest, error: str) -> None:
        if ((group.get("status") or {}).get("error") or {}).get("message") != error:
            said = {"readyToUse": False, "error": {"time": _now(), "message": error}}
            await self._say(self._path(group), said)

    async def _content(self, group: Manifest, handles: dict[str, str]) -> str:
        metadata, kind = group["metadata"], GROUP_SNAPSHOT_CONTENTS[self.kind.api_version]
        name = f"groupsnapcontent-{metadata['uid']}"
        uid = "somebody-elses" if self.lying else metadata["uid"]
        reference = {"kind": group["kind"], "name": metadata["name"], "namespace": metadata["namespace"], "uid": uid}
        spec = {
            "driver": _DRIVER,
            "deletionPolicy": "Delete",
            "source": {"volumeHandles": sorted(handles.values())},
            "volumeGroupSnapshotRef": reference,
        }
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, "spec": spec}
        await self._apply(_path(kind, name), body)
        infos = [
            {"volumeHandle": each, "snapshotHandle": self._name(group, each, "handle"), "readyToUse": True}
            for each in handles.values()
        ]
        status = {"volumeGroupSnapshotHandle": f"group-{metadata['uid']}", "volumeSnapshotInfoList": infos}
        await self._say(_path(kind, name), {**status, "creationTime": _now(), "readyToUse": not self.unready})
        return name

    def _name(self, group: Manifest, handle: str, what: str) -> str:
        digest = hashlib.sha256(f"{group['metadata']['uid']}{handle}".encode()).hexdigest()
        return f"{what}-{digest}"

    async def _member(self, group: Manifest, claim: str, handle: str) -> None:
        metadata, name = group["metadata"], self._name(group, handle, "snapshot")
        content = self._name(group, handle, "snapcontent")
        owner = {"apiVersion": group["apiVersion"], "kind": group["kind"], "name": metadata["name"]}
        about = {"name": name, "namespace": metadata["namespace"], "finalizers": [IN_GROUP]}
        body = {
            "apiVersion": SNAPSHOT.api_version,
            "kind": SNAPSHOT.name,
            "metadata": {**about, "ownerReferences": [owner | {"uid": metadata["uid"]}]},
            "spec": {"source": {"persistentVolumeClaimName": "" if claim in self.unnamed else claim}},
        }
        made = await self._apply(self.place.path(SNAPSHOT, name), body)
        reference = {"kind": SNAPSHOT.name, "name": name, "namespace": metadata["namespace"]}
        spec = {
            "driver": _DRIVER,
            "deletionPolicy": "Delete",
            "source": {"volumeHandle": handle},
            "volumeSnapshotRef": reference | {"uid": made["metadata"]["uid"]},
        }
        stored = {"apiVersion": SNAPSHOT_CONTENT.api_version, "kind": SNAPSHOT_CONTENT.name, "spec": spec}
        path = _path(SNAPSHOT_CONTENT, content)
        await self._apply(path, stored | {"metadata": {"name": content}})
        status = {"snapshotHandle": self._name(group, handle, "handle"), "readyToUse": not self.unready}
        await self._say(path, status | {"volumeGroupSnapshotHandle": f"group-{metadata['uid']}"})
        said = {"boundVolumeSnapshotContentName": content, "volumeGroupSnapshotName": metadata["name"]}
        said |= {"readyToUse": not self.unready, "restoreSize": "1Gi"} | (
            {} if self.untimed else {"creationTime": _now()}
        )
        await self._say(self.place.path(SNAPSHOT, name), said)

    async def _delete(self, group: Manifest, members: list[Manifest]) -> None:
        for each in members:
            if "deletionTimestamp" not in each["metadata"]:
                await self.place.call("DELETE", self.place.path(SNAPSHOT, each["metadata"]["name"]), {})
        content = (group.get("status") or {}).get("boundVolumeGroupSnapshotContentName")
        if content:
            await self.place.call("DELETE", _path(GROUP_SNAPSHOT_CONTENTS[self.kind.api_version], content), {})
        patch = {"metadata": {"finalizers": None}}
        await self.place.call("PATCH", self._path(group), patch, patch="merge", fieldManager="snapshotter")

    async def _let_go(self, member: Manifest) -> None:
        """Let a member go that is deleted, once its group is gone; until then it stays."""
        owner = next(each for each in member["metadata"]["ownerReferences"] if each["kind"] == self.kind.name)
        group = await self.place.get(self.kind, owner["name"])
        if group is not None and group["metadata"]["uid"] == owner["uid"]:
            return
        content = (member.get("status") or {}).get("boundVolumeSnapshotContentName")
        if content:
            await self.place.call("DELETE", _path(SNAPSHOT_CONTENT, content), {})
        path = self.place.path(SNAPSHOT, member["metadata"]["name"])
        await self.place.call("PATCH", path, {"metadata": {"finalizers": None}}, patch="merge", fieldManager="suite")

    async def _apply(self, path: str, body: Manifest) -> Manifest:
        return dict(await self.place.call("PATCH", path, body, fieldManager="snapshotter", force=True))

    async def _say(self, path: str, status: dict[str, Any]) -> None:
        body = {"status": status}
        await self.place.call("PATCH", f"{path}/status", body, patch="merge", fieldManager="snapshotter")

    def _path(self, group: Manifest) -> str:
        return self.place.path(self.kind, group["metadata"]["name"])


def is_member(snapshot: Manifest, group: str = "") -> bool:
    """Return whether a snapshot belongs to a group, or to the one of a uid."""
    owners = snapshot["metadata"].get("ownerReferences") or ()
    return any(each["kind"] == GROUP.name and group in {"", each["uid"]} for each in owners)


def _path(kind: Kind, name: str) -> str:
    return f"/apis/{kind.api_version}/{kind.plural}/{name}"
