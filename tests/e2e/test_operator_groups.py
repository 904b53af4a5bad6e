"""Backups whose volumes are cut at one moment, as one VolumeGroupSnapshot, and clusters that are made from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.group_snapshots import GROUP, install_groups, is_member
from support.operators import Namespace, eventually, with_condition
from support.recoveries import DESTINATION, NODES, absent, launched, ours, recovering, restored, usable
from support.snapshots import Played, backup_of, install_snapshots

from chronik.manifest import BACKUP, CLUSTER, GROUP_SNAPSHOTS, SNAPSHOT

if TYPE_CHECKING:
    from support.volumes import Volumes

    from chronik.manifest import Manifest

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

METHOD = "VolumeGroupSnapshot"
SECTION = {"destination": DESTINATION, "volumes": {"method": METHOD}}


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace on a server that knows groups of snapshots."""
    install_snapshots(server)
    install_groups(server)
    return Namespace(server, namespace)


def said(backup: Manifest) -> str:
    """Return what the condition Completed says."""
    conditions = (backup.get("status") or {}).get("conditions") or ()
    return next((f"{each['reason']}: {each['message']}" for each in conditions if each["type"] == "Completed"), "")


async def saying(place: Namespace, name: str, text: str) -> Manifest:
    """Wait until a backup says something, and return it."""

    async def there() -> Manifest | None:
        found = await place.get(BACKUP, name)
        return found if found and text in said(found) else None

    return dict(await eventually(there, 60))


async def members(place: Namespace) -> list[Manifest]:
    """Return the snapshots that belong to groups."""
    return [each for each in await place.list(SNAPSHOT) if is_member(each)]


@pytest.mark.both
async def test_volumes_are_cut_at_one_moment_and_restored_to_their_own_nodes(place, played, volumes):
    """One group for all claims; each node of a new cluster has its own data; the group goes with its backup."""
    played.play_groups().untimed = True
    async with played.playing(), volumes.playing(), recovering(place):
        await launched(played, volumes, backup=SECTION)
        await place.create(ours(place, backup_of(place)))
        status = (await usable(place, "b"))["status"]
        assert played.order == ["metastore", "+".join(f"data-c-{node}" for node in NODES)]
        assert (status["group"]["name"], status["group"]["ready"]) == ("b-volumes", True)
        assert {each["createdAt"] for each in status["volumes"]} == {status["cutAt"]} == {status["group"]["createdAt"]}
        (group,) = await place.list(GROUP)
        assert group["spec"]["source"]["selector"] == {"matchLabels": {"app.kubernetes.io/instance": "c"}}
        assert [each["kind"] for each in group["metadata"]["ownerReferences"]] == ["ChronikBackup"]
        named = {each["snapshot"]: each["claim"] for each in status["volumes"]}
        found = {each["metadata"]["name"]: each["spec"]["source"] for each in await members(place)}
        assert {name: {"persistentVolumeClaimName": claim} for name, claim in named.items()} == found

        await place.delete(CLUSTER, "c")
        await place.create(restored(volumes))
        await with_condition(place, "n", "Recovering", "False", "Recovered")
        assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]
        await place.delete(BACKUP, "b")
        await absent(place, BACKUP, "b")
        assert await place.list(GROUP) == []
        await eventually(lambda: none(members(place)))


async def none(found: Any) -> bool:
    """Return whether nothing is there."""
    return await found == []
