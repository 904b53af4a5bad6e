"""Backups whose volumes are cut at one moment, as one VolumeGroupSnapshot, and clusters that are made from them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support import real_server as real
from support.cli_place import run
from support.dying import Dying, pass_over_backup_until
from support.fake_server.server import FakeServer
from support.group_snapshots import GROUP, install_groups, is_member
from support.operators import Namespace, eventually, small, with_condition, world_of
from support.recoveries import DESTINATION, IMAGE, NODES, absent, launched, ours, recovering, restored, usable
from support.snapshots import Played, backup_of, install_snapshots
from support.volumes import Volumes

from chronik.manifest import BACKUP, CLUSTER, GROUP_SNAPSHOTS, SNAPSHOT, WorkKey
from chronik.offline import loading
from chronik.operator.cache.cache import Selection
from chronik.operator.context import BackupTools

if TYPE_CHECKING:
    from chronik.manifest import Manifest

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

IN_PROCESS, REAL = "in-process", "kube-apiserver"
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


@pytest.mark.slow
async def test_a_group_is_made_without_an_operator(place, played, tmp_path):
    """`chronik backup create -f` makes a group, says how it is deleted, and leaves it to nobody."""
    played.play_groups()
    for node in NODES:
        await played.claim("c", *node.split("-"))
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(small(place.name, ingestNodes=2, backup=SECTION)))
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name, "-f", str(file), "--image", IMAGE)
    async with played.playing():
        done = await asyncio.to_thread(run, "backup", "create", "c", "--name", "b", *flags)
        assert done.code == 0, done
        assert "snapshots: 3, kubectl get volumegroupsnapshots -n " in done.out
        assert played.order == ["metastore", "+".join(f"data-c-{node}" for node in NODES)]
        (group,) = await place.list(GROUP)
        assert "ownerReferences" not in group["metadata"]
        assert json.loads(played.records[0])["status"]["group"]["handle"] == f"group-{group['metadata']['uid']}"


@pytest.fixture(params=[IN_PROCESS, pytest.param(REAL, marks=pytest.mark.slow)])
def fresh(request):
    """Return a namespace on a server of its own, which has snapshots, and no groups of them yet."""
    if request.param == REAL and not real.available():
        pytest.skip(real.MISSING)
    server = FakeServer.start() if request.param == IN_PROCESS else real.RealServer.start()
    server.install(loading.definitions())
    for kind in (CLUSTER, BACKUP):
        server.wait_served(f"/apis/{kind.api_version}/{kind.plural}")
    install_snapshots(server)
    yield Namespace(server, server.new_namespace())
    server.stop()


async def test_without_groups_it_is_said_what_to_install(fresh, tmp_path):
    """It waits, and cuts nothing one by one; an older version of groups that is installed later is taken."""
    played, oldest = Played(fresh), GROUP_SNAPSHOTS[-1]
    disks = Volumes(fresh, tmp_path)
    async with played.playing(), recovering(fresh):
        await launched(played, disks, backup=SECTION)
        await fresh.create(ours(fresh, backup_of(fresh)))
        backup = await saying(fresh, "b", "SnapshotsUnavailable: This Kubernetes has no VolumeGroupSnapshots")
        assert (backup["status"]["phase"], await fresh.list(SNAPSHOT)) == ("Pending", [])

        install_groups(fresh.server, oldest)
        played.play_groups(oldest).failing = "the volumes are of several pools"
        backup = await saying(fresh, "b", "b-volumes: the volumes are of several pools")
        assert backup["status"]["phase"] == "Running"
        assert played.groups
        played.groups.failing = ""
        status = (await usable(fresh, "b"))["status"]
        assert [each["apiVersion"] for each in await fresh.list(oldest)] == ["groupsnapshot.storage.k8s.io/v1beta1"]
        assert "error" not in status["group"]


MOST_WRITES = 40


@pytest.mark.slow
@pytest.mark.parametrize("arrives", [True, False], ids=["the write arrives", "the write is lost"])
async def test_a_kill_at_any_write_changes_nothing_of_the_end(place, played, volumes, arrives):
    """An operator that is killed at any write of a backup, and of its deletion: one group, whole, and then nothing."""
    played.play_groups()
    tools = BackupTools(render=loading.template_renderer(), image=IMAGE, poll=0.1)
    parts = {"selection": Selection(namespaces=(place.name,), features=frozenset({"backups"})), "backups": tools}
    async with played.playing():
        async with recovering(place):
            await launched(played, volumes, backup=SECTION)
        kills = 0
        for writes in range(MOST_WRITES):
            played.order.clear()
            name = f"b{writes}"
            key, before = WorkKey(BACKUP.name, place.name, name), len(await place.list(SNAPSHOT))
            await place.create(backup_of(place, name))

            async def is_usable(name: str = name) -> bool:
                return bool(((await place.get(BACKUP, name) or {}).get("status") or {}).get("usable"))

            async def is_gone(name: str = name) -> bool:
                return await place.get(BACKUP, name) is None

            made = await killed_and_again(key, is_usable, writes, arrives=arrives, **parts, place=place)
            assert played.order == ["metastore", "+".join(f"data-c-{node}" for node in NODES)], f"killed at {writes}"
            assert len(await place.list(SNAPSHOT)) - before == len(NODES)
            await place.delete(BACKUP, name)
            went = await killed_and_again(key, is_gone, writes, arrives=arrives, **parts, place=place)
            assert [each["metadata"]["name"] for each in await place.list(GROUP)] == []
            await eventually(lambda: none(members(place)))
            kills += made + went
            if not made and not went:
                break
        assert kills >= 12


async def killed_and_again(
    key: WorkKey, holds: Any, writes: int, *, arrives: bool, place: Namespace, **parts: Any
) -> bool:
    """Pass over a backup until its operator is killed, and then with another until something holds."""
    killed = False
    for left in (writes, None):
        async with world_of(place, **parts) as world:
            dying = Dying(world.kube, 10_000 if left is None else left, arrives=arrives)
            for _ in range(1500):
                await pass_over_backup_until(key, world, dying)
                if dying.killed or await holds():
                    break
                await asyncio.sleep(0.05)
            killed |= dying.killed
            if await holds():
                return killed
    raise AssertionError((killed, writes, await place.get(BACKUP, key.name)))


async def none(found: Any) -> bool:
    """Return whether nothing is there."""
    return await found == []
