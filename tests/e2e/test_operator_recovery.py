"""Recovery of a new cluster by the operator: the right data on the right node, or no node at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.operators import Namespace, eventually, in_phase, running, small, with_condition
from support.snapshots import Played, backup_of, install_snapshots
from support.volumes import Volumes

from chronik.manifest import BACKUP, CLAIM, CLUSTER, JOB
from chronik.operator.cache.cache import Selection

if TYPE_CHECKING:
    from chronik.manifest import Manifest

DESTINATION = {"s3": {"bucket": "acme-backups", "region": "eu-central-1", "credentialsSecret": "backup-s3"}}
IMAGE = "chronik/operator:1.0"


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace on a server that knows snapshots."""
    install_snapshots(server)
    return Namespace(server, namespace)


def recovering(place: Namespace, **options: Any) -> Any:
    """Run an operator of all namespaces, but of the documents of this one only."""
    selection = Selection(selector=f"example.com/shard={place.name}", features=frozenset({"backups"}))
    defaults = {"selection": selection, "backup_image": IMAGE, "backup_poll": 0.1}
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


async def backed_up(place: Namespace, played: Played, volumes: Volumes) -> Manifest:
    """Have a cluster with data of its own on each node be backed up, and be gone."""
    await volumes.make_class()
    for node in NODES:
        await played.claim("c", *node.split("-"))
        volumes.write(f"data-c-{node}", f"what {node} has")
    await place.launch(source(volumes))
    await place.create(ours(place, backup_of(place)))
    backup = await usable(place, "b")
    await place.delete(CLUSTER, "c")
    return backup


async def usable(place: Namespace, name: str) -> Manifest:
    """Wait until a backup can be used."""

    async def there() -> Manifest | None:
        found = await place.get(BACKUP, name)
        return found if found and (found.get("status") or {}).get("usable") else None

    return dict(await eventually(there))


@pytest.fixture
def played(place) -> Played:
    """Return what makes snapshots and runs Jobs."""
    return Played(place)


@pytest.fixture
def volumes(place, played, tmp_path) -> Volumes:
    """Return what binds claims; it has what is cut."""
    found = Volumes(place, tmp_path)
    played.on_cut = found.cut
    return found


async def test_a_cluster_is_made_from_a_backup(place, played, volumes):
    """Each node finds the data of its own number, after the metastore, and the status says what it is."""
    async with played.playing(), volumes.playing(), recovering(place):
        backup = await backed_up(place, played, volumes)
        played.order.clear()
        await place.create(restored(volumes))
        cluster = await with_condition(place, "n", "Recovering", "False", "Recovered")

        status = cluster["status"]["recovery"]
        assert (status["phase"], status["backup"], status["claims"]) == ("Recovered", "b", 3)
        assert status["cutAt"] == backup["status"]["cutAt"]
        assert status["metastoreCutAt"] == backup["status"]["metastore"]["cutAt"]
        assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]
        assert played.order == ["restore"]
        assert await place.list(JOB) == []
        await place.roll_out_all()
        await in_phase(place, "n", "Running")
        claim = await place.get(CLAIM, "data-n-ingest-1")
        assert claim["metadata"]["annotations"]["chronik.stream/recovered-from"].endswith("/b-ingest-1")

        async def told() -> bool:
            return {"RecoveryStarted", "Recovered"} <= (await place.events()).keys()

        await eventually(told)
