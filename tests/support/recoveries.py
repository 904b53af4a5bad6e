"""A cluster with data on its nodes, its backup, and the cluster that is made from that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.operators import Namespace, eventually, running, small
from support.snapshots import Played, backup_of

from chronik.manifest import BACKUP, CLUSTER
from chronik.operator.cache.cache import Selection

if TYPE_CHECKING:
    from support.volumes import Volumes

    from chronik.manifest import Kind, Manifest

DESTINATION = {"s3": {"bucket": "acme-backups", "region": "eu-central-1", "credentialsSecret": "backup-s3"}}
IMAGE = "chronik/operator:1.0"


def everywhere(place: Namespace) -> Selection:
    """Return all namespaces, but of their documents only those of this test."""
    return Selection(selector=f"example.com/shard={place.name}", features=frozenset({"backups"}))


def recovering(place: Namespace, **options: Any) -> Any:
    """Run an operator of all namespaces, but of the documents of this one only."""
    defaults = {"selection": everywhere(place), "backup_image": IMAGE, "backup_poll": 0.1}
    return running(place.server, place.name, **(defaults | options))


def ours(place: Namespace, manifest: Manifest) -> Manifest:
    """Return a document that this test's operator looks after."""
    manifest["metadata"].setdefault("labels", {})["example.com/shard"] = place.name
    return manifest


def source(volumes: Volumes, **spec: Any) -> Manifest:
    """Return the cluster that is backed up: a controller and two ingest nodes."""
    place = volumes.place
    storage = {"backend": "local", "size": "1Gi", "storageClass": volumes.storage_class}
    defaults = {"ingestNodes": 2, "backup": {"destination": DESTINATION}, "storage": storage}
    return ours(place, small(place.name, **(defaults | spec)))


def restored(volumes: Volumes, recovery: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    """Return the cluster that is made from its backup."""
    bootstrap = {"recovery": {"from": {"backup": "b"}} | (recovery or {})}
    made = source(volumes, bootstrap=bootstrap, **spec)
    made["metadata"]["name"] = "n"
    return made


NODES = ("controller-0", "ingest-0", "ingest-1")


async def backed_up(place: Namespace, played: Played, volumes: Volumes, **spec: Any) -> Manifest:
    """Have a cluster with data of its own on each node be backed up, and be gone."""
    await launched(played, volumes, **spec)
    await place.create(ours(place, backup_of(place)))
    backup = await usable(place, "b")
    await place.delete(CLUSTER, "c")
    return backup


async def launched(played: Played, volumes: Volumes, **spec: Any) -> None:
    """Have a cluster run with data of its own on each node."""
    await volumes.make_class()
    for node in NODES:
        await played.claim("c", *node.split("-"))
        volumes.write(f"data-c-{node}", f"what {node} has")
    await volumes.place.launch(source(volumes, **spec))


async def usable(place: Namespace, name: str) -> Manifest:
    """Wait until a backup can be used."""

    async def there() -> Manifest | None:
        found = await place.get(BACKUP, name)
        return found if found and (found.get("status") or {}).get("usable") else None

    return dict(await eventually(there))


async def present(place: Namespace, kind: Kind, name: str) -> Manifest:
    """Wait until an object is there, and return it."""
    return dict(await eventually(lambda: place.get(kind, name)))


async def absent(place: Namespace, kind: Kind, name: str) -> None:
    """Wait until an object is gone."""

    async def gone() -> bool:
        return await place.get(kind, name) is None

    await eventually(gone)
