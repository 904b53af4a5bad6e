"""Volumes for a server that makes none: claims are bound, from snapshots or to what is free, as Kubernetes does it.

Each volume is a folder, and so is each snapshot, so that a test can compare what pods would find byte by byte. A claim
is first offered the free volumes of its class, whatever its dataSource says: that is how a bare Kubernetes behaves, and
what recovery has to be safe from.
"""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support.pace import Pace

from chronik.manifest import CLAIM, POD, SNAPSHOT, SNAPSHOT_CONTENT, STORAGE_CLASS, VOLUME
from chronik.tasks import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.operators import Namespace

    from chronik.manifest import Kind, Manifest

DRIVER = "played.csi.example.com"


def path_of(kind: Kind, name: str = "") -> str:
    """Return the path of an object that lies in no namespace, or of the collection."""
    group = "apis" if "/" in kind.api_version else "api"
    return "/".join(filter(None, (f"/{group}/{kind.api_version}/{kind.plural}", name)))


class Volumes:
    """Plays the volume controller and a CSI driver for the claims of a namespace.

    `late` are claims that get no volume for now. Classes are told apart by the namespace, which is part of their names,
    since servers are shared.
    """

    def __init__(self, place: Namespace, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.late: set[str] = set()
        self.storage_class = f"fast-{place.name}"

    async def make_class(self, name: str = "", **more: Any) -> str:
        """Make a StorageClass, by default a dynamic one of the driver; return its name."""
        name = name or self.storage_class
        body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
        body |= {"provisioner": DRIVER} | more
        await self.place.call("PATCH", path_of(STORAGE_CLASS, name), body, fieldManager="suite", force=True)
        return name

    async def make_free_volume(self, name: str, storage_class: str, **csi: str) -> None:
        """Make a volume by hand, as administrators fill a pool; it is empty."""
        source = {"driver": DRIVER, "volumeHandle": name} | csi
        await self._volume(name, {"storageClassName": storage_class, "csi": source}, {})

    async def _volume(self, name: str, spec: dict[str, Any], annotations: dict[str, str]) -> None:
        whole = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], **spec}
        whole["persistentVolumeReclaimPolicy"] = "Retain"
        metadata = {"name": name, "annotations": annotations}
        body = {"apiVersion": "v1", "kind": VOLUME.name, "metadata": metadata, "spec": whole}
        await self.place.call("PATCH", path_of(VOLUME, name), body, fieldManager="binder", force=True)
        (self.folder / "volumes" / name).mkdir(parents=True, exist_ok=True)

    def write(self, volume: str, text: str) -> None:
        """Write a file into a volume, as a node does."""
        (self.folder / "volumes" / volume).mkdir(parents=True, exist_ok=True)
        (self.folder / "volumes" / volume / "segment").write_text(text)

    def cut(self, claim: str, handle: str) -> None:
        """Copy what a volume holds, as a snapshot does. The claim of the cluster that is backed up names its folder."""
        source = self.folder / "volumes" / claim
        source.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, self.folder / "snapshots" / handle)

    async def content(self, claim: str) -> str | None:
        """Return what a pod with this claim finds; None if its volume is empty."""
        found = await self.place.get(CLAIM, claim)
        assert found, claim
        file = self.folder / "volumes" / found["spec"]["volumeName"] / "segment"
        return file.read_text() if file.exists() else None

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[Volumes]:
        """Bind claims as long as the block runs."""
        async with background(self._play()):
            yield self

    async def _play(self) -> None:
        pace = Pace()
        while True:
            claims: list[Manifest] = []
            try:
                claims = await self.place.list(CLAIM)
                for each in claims:
                    if not each["spec"].get("volumeName") and each["metadata"]["name"] not in self.late:
                        await self._bind(each)
            except AssertionError:  # it was deleted a moment ago
                pass
            await pace.rest(claims)

    async def _all(self, kind: Kind) -> dict[str, Manifest]:
        items = (await self.place.call("GET", path_of(kind)))["items"]
        return {each["metadata"]["name"]: each for each in items}

    async def _bind(self, claim: Manifest) -> None:
        name, classes = claim["spec"].get("storageClassName"), await self._all(STORAGE_CLASS)
        if not name or self.place.name not in name:  # another test's
            return
        free = [each for each in (await self._all(VOLUME)).values() if _is_free(each, name)]
        if free:
            await self._take(claim, free[0]["metadata"]["name"])
            return
        found = classes.get(name)
        if found is None or found["provisioner"] == "kubernetes.io/no-provisioner":
            return
        if found.get("volumeBindingMode") == "WaitForFirstConsumer" and not await self._has_pod(claim):
            return
        await self._provision(claim, found)

    async def _has_pod(self, claim: Manifest) -> bool:
        return any(
            f"data-{each['metadata']['name']}" == claim["metadata"]["name"] for each in await self.place.list(POD)
        )

    async def _provision(self, claim: Manifest, storage_class: Manifest) -> None:
        source, name = claim["spec"].get("dataSource"), f"pvc-{claim['metadata']['uid']}"
        handle = await self._handle(source["name"]) if source else None
        if source and handle is None:
            return
        reference = {key: claim["metadata"][key] for key in ("name", "namespace", "uid")}
        driver = storage_class["provisioner"]
        spec = {"storageClassName": storage_class["metadata"]["name"], "csi": {"driver": driver, "volumeHandle": name}}
        spec["claimRef"] = {"apiVersion": "v1", "kind": CLAIM.name, **reference}
        await self._volume(name, spec, {"pv.kubernetes.io/provisioned-by": driver})
        if handle is not None:
            shutil.copytree(self.folder / "snapshots" / handle, self.folder / "volumes" / name, dirs_exist_ok=True)
        await self._bound(claim, name)

    async def _handle(self, snapshot: str) -> str | None:
        found = await self.place.get(SNAPSHOT, snapshot)
        bound = ((found or {}).get("status") or {}).get("boundVolumeSnapshotContentName")
        if not bound:
            return None
        content = await self.place.call("GET", path_of(SNAPSHOT_CONTENT, bound))
        return str(content["status"]["snapshotHandle"])

    async def _take(self, claim: Manifest, volume: str) -> None:
        reference = {key: claim["metadata"][key] for key in ("name", "namespace", "uid")}
        patch = {"spec": {"claimRef": {"apiVersion": "v1", "kind": CLAIM.name, **reference}}}
        await self.place.call("PATCH", path_of(VOLUME, volume), patch, patch="merge", fieldManager="binder")
        await self._bound(claim, volume)

    async def _bound(self, claim: Manifest, volume: str) -> None:
        name = claim["metadata"]["name"]
        patch = {"spec": {"volumeName": volume}}
        await self.place.call("PATCH", self.place.path(CLAIM, name), patch, patch="merge", fieldManager="binder")
        status = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}
        path = self.place.path(CLAIM, name, "status")
        await self.place.call("PATCH", path, status, patch="merge", fieldManager="binder")


def _is_free(volume: Manifest, storage_class: str) -> bool:
    going = "deletionTimestamp" in volume["metadata"]
    return volume["spec"].get("storageClassName") == storage_class and not volume["spec"].get("claimRef") and not going
