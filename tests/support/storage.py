"""StorageClasses and bound claims, as an administrator and a volume's driver make them."""

from __future__ import annotations

import asyncio
from typing import Any

from support.operators import CLAIM, STORAGE_CLASS, Namespace

from chronik.operator.cache.cache import Selection


async def make_class(place: Namespace, name: str, *, expands: bool) -> None:
    """Make a StorageClass."""
    path = f"/apis/{STORAGE_CLASS.api_version}/storageclasses"
    body = {
        "metadata": {"name": name},
        "provisioner": "example.com/none",
        "allowVolumeExpansion": expands,
        "volumeBindingMode": "Immediate",
    }
    await asyncio.to_thread(place.server.call, "POST", path, body)


async def make_claim(place: Namespace, component: str, size: str, storage_class: str) -> None:
    """Make a bound claim of a component's first pod."""
    labels = {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": component}
    name = f"data-c-{component}-0"
    resources = {"requests": {"storage": size}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": storage_class}
    metadata = {"name": name, "namespace": place.name, "labels": labels}
    await place.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    status = {"status": {"phase": "Bound", "capacity": {"storage": size}}}
    await place.call("PATCH", place.path(CLAIM, name, "status"), status, patch="merge")


async def everywhere(place: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run in a cluster-wide scope, which alone sees StorageClasses, and look after one namespace's clusters."""
    labels = {"metadata": {"labels": {"shard": place.name}}}
    return {"selection": Selection(selector=f"shard={place.name}")}, labels
