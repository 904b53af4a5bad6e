"""Recovery of a new cluster by the operator: the right data on the right node, or no node at all."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.dying import Dying, pass_until
from support.operator_process import OperatorProcess
from support.operators import (
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    key_of,
    with_condition,
    world_of,
)
from support.recoveries import (
    DESTINATION,
    IMAGE,
    NODES,
    backed_up,
    everywhere,
    ours,
    recovering,
    restored,
    source,
    usable,
)
from support.snapshots import Played, backup_of, install_snapshots
from support.volumes import Volumes, path_of

from chronik.errors import Forbidden
from chronik.manifest import BACKUP, CLAIM, CLUSTER, JOB, SNAPSHOT, VOLUME
from chronik.offline import loading
from chronik.operator.cache.cache import Selection
from chronik.operator.context import BackupTools
from chronik.operator.reconcile import reconcile

if TYPE_CHECKING:
    from pathlib import Path

    from chronik.manifest import Manifest

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers


@pytest.mark.both
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


# --- the trap ---------------------------------------------------------------------------------------------------------


async def no_workload(place: Namespace, name: str = "n") -> None:
    """Assert that no StatefulSet of a cluster is there."""
    found = [each["metadata"]["name"] for each in await place.list(STATEFUL_SET)]
    assert not [each for each in found if each.startswith(f"{name}-")]


async def refused(place: Namespace, reason: str, name: str = "n") -> str:
    """Wait until a recovery is refused for a reason, and return what is said; nothing has been made then."""
    cluster = await with_condition(place, name, "Recovering", "False", reason)
    assert cluster["status"]["phase"] == "Failed"
    assert condition(cluster, "Ready")["reason"] == condition(cluster, "Stalled")["reason"] == reason
    assert not [each for each in await place.list(CLAIM) if each["metadata"]["name"].startswith(f"data-{name}-")]
    await no_workload(place, name)
    return str(condition(cluster, "Recovering")["message"])


@pytest.mark.parametrize("provisioner", ["played.csi.example.com", pytest.param("kubernetes.io/no-provisioner")])
async def test_a_pool_of_empty_volumes_is_never_taken(place, played, volumes, provisioner):
    """A class with volumes that wait for any claim is refused before a claim is made; without them all is restored."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        pool = await volumes.make_class(f"pool-{place.name}", provisioner=provisioner)
        free = [f"free-{place.name}-{number}" for number in range(3)]
        for name in free:
            await volumes.make_free_volume(name, pool)
        storage = {"backend": "local", "size": "1Gi", "storageClass": pool}
        await place.create(restored(volumes, storage=storage))

        dynamic = provisioner != "kubernetes.io/no-provisioner"
        said = await refused(place, "VolumesPremade" if dynamic else "StorageClassNotDynamic")
        assert "empty" in said
        for name in free:
            await place.call("DELETE", path_of(VOLUME, name), {})
        if dynamic:  # what was wrong is put right, and it goes on by itself
            await with_condition(place, "n", "Recovering", "False", "Recovered")
            assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]


async def test_a_pool_that_is_filled_between_check_and_claim_starts_nothing(place, played, volumes):
    """A claim that was bound to an empty volume all the same starts no workload, and is made anew once deleted."""
    async with played.playing(), recovering(place):
        await backed_up(place, played, volumes)
        await place.create(restored(volumes))

        async def claims() -> bool:
            return len([each for each in await place.list(CLAIM) if "-n-" in each["metadata"]["name"]]) == len(NODES)

        await eventually(claims)
        await volumes.make_free_volume(f"free-{place.name}", volumes.storage_class)
        async with volumes.playing():
            cluster = await with_condition(place, "n", "Recovering", "False", "RecoveredVolumeStrange")
            await asyncio.sleep(1)
            await no_workload(place)
            said = condition(cluster, "Recovering")["message"]
            (bad,) = [node for node in NODES if f"data-n-{node} " in said]
            assert await volumes.content(f"data-n-{bad}") is None
            await place.delete(CLAIM, f"data-n-{bad}")
            finalizers = {"metadata": {"finalizers": None}}  # which a controller takes off, where there is one
            path = place.path(CLAIM, f"data-n-{bad}")
            await asyncio.to_thread(place.server.call, "PATCH", path, finalizers, patch="merge")
            await with_condition(place, "n", "Recovering", "False", "Recovered")
            assert await volumes.content(f"data-n-{bad}") == f"what {bad} has"


# --- refusals and waits, as a person sees them ------------------------------------------------------------------------


async def test_what_is_wrong_is_told_and_goes_on_by_itself_when_it_is_right(place, played, volumes):
    """A snapshot that is gone is told in one sentence; once it is there again the recovery goes on."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        live = await place.get(SNAPSHOT, "b-ingest-1")
        assert live
        labels = live["metadata"]["labels"]
        await place.edit(SNAPSHOT, "b-ingest-1", {"metadata": {"labels": dict.fromkeys(labels)}})
        await place.create(restored(volumes))
        said = await refused(place, "SnapshotMissing")
        assert said == "The VolumeSnapshot b-ingest-1, for data-n-ingest-1, does not exist"
        assert "SnapshotMissing" in await place.events()

        await place.edit(SNAPSHOT, "b-ingest-1", {"metadata": {"labels": labels}})
        await with_condition(place, "n", "Recovering", "False", "Recovered")


async def test_an_operator_that_cannot_see_enough_starts_nothing(place, played, volumes):
    """Without the feature, or bound to namespaces, the operator says what it lacks, and starts no node."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
    await place.create(restored(volumes))
    features = frozenset({"backups"})
    for reason, selection in (
        ("BackupsNotInstalled", replace(everywhere(place), features=frozenset())),
        ("RecoveryNotPermitted", Selection(namespaces=(place.name,), features=features)),
    ):
        async with recovering(place, selection=selection):
            assert "install" in await refused(place, reason)


class _Blind:
    """An API client that may not list PersistentVolumes."""

    def __init__(self, kube: Any) -> None:
        self._kube = kube

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def list(self, kind: Any, namespace: str | None, **options: Any) -> Any:
        if kind is VOLUME:
            raise Forbidden("the user may not list persistentvolumes", hint="Run `chronik install` again.")
        return await self._kube.list(kind, namespace, **options)


async def test_a_right_that_is_missing_is_told(place, played, volumes):
    """An operator whose role is older than it is says which right it lacks, in the status too, and starts no node."""
    tools = BackupTools(render=loading.template_renderer(), image=IMAGE, poll=0)
    async with played.playing(), volumes.playing():
        async with recovering(place):
            await backed_up(place, played, volumes)
        document = restored(volumes)
        await place.create(document)
        async with world_of(place, selection=everywhere(place), backups=tools) as world:
            blind = replace(world, kube=_Blind(world.kube))
            for _ in range(4):
                await reconcile(key_of(document), blind)
            said = await refused(place, "Forbidden")
            assert said == "the user may not list persistentvolumes. Run `chronik install` again."


async def test_a_metastore_that_is_not_restored_starts_nothing(place, played, volumes):
    """A Job that fails is told in its own words, and no workload is there."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        played.jobs["restore"] = "failed"
        await place.create(restored(volumes))
        cluster = await with_condition(place, "n", "Recovering", "False", "MetastoreNotRestored")
        assert condition(cluster, "Ready")["message"] == "The metastore was not restored: the store is full."
        await no_workload(place)


async def test_volumes_that_are_made_for_pods(place, played, volumes):
    """With a class that waits for pods the nodes are started, and the recovery is over when their volumes are seen."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        late = await volumes.make_class(f"late-{place.name}", volumeBindingMode="WaitForFirstConsumer")
        await place.create(restored(volumes, storage={"backend": "local", "size": "1Gi", "storageClass": late}))
        await with_condition(place, "n", "Recovering", "True", "StartingNodes")

        async def workloads() -> bool:
            return len([ref for ref in await place.workloads() if ref.name.startswith("n-")]) == 2

        await eventually(workloads)
        for node in NODES:
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"n-{node}", "namespace": place.name}}
            await place.create(pod | {"spec": {"containers": [{"name": "x", "image": "x"}]}})
        await with_condition(place, "n", "Recovering", "False", "Recovered")
        assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]


async def test_a_paused_cluster_is_not_recovered_until_it_goes_on(place, played, volumes):
    """While it is paused nothing is made; after that the recovery goes its way."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        document = restored(volumes)
        document["metadata"]["annotations"] = {"chronik.stream/paused": "true"}
        await place.create(document)
        await with_condition(place, "n", "Paused", "True")
        await asyncio.sleep(0.5)
        assert not [each for each in await place.list(CLAIM) if "-n-" in each["metadata"]["name"]]
        await no_workload(place)
        await place.edit(CLUSTER, "n", {"metadata": {"annotations": {"chronik.stream/paused": None}}})
        await with_condition(place, "n", "Recovering", "False", "Recovered")


async def test_a_schedule_keeps_the_backup_that_a_cluster_is_made_from(place, played, volumes):
    """What a schedule would let go of stays for as long as a new cluster is being made from it, and then goes."""
    schedule = {"name": "often", "cron": "0 0 1 1 *", "keep": {"last": 1}}
    label = {"chronik.stream/schedule": "often", "example.com/shard": place.name}
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        played.jobs["restore"] = "never"
        await place.create(restored(volumes))
        await with_condition(place, "n", "Recovering", "True", "RestoringMetastore")
        await place.edit(BACKUP, "b", {"metadata": {"labels": label}})
        newer = backup_of(place, "newer")
        newer["metadata"]["labels"] = label
        await place.create(source(volumes, backup={"destination": DESTINATION, "schedules": [schedule]}))
        await with_condition(place, "c", "BackupsCurrent", "True")
        await place.create(newer)
        await usable(place, "newer")
        await asyncio.sleep(1)
        assert await place.get(BACKUP, "b") is not None

        played.jobs["restore"] = "ok"
        await with_condition(place, "n", "Recovering", "False", "Recovered")
        await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"look": "again"}}})

        async def gone() -> bool:
            return await place.get(BACKUP, "b") is None

        await eventually(gone)


# --- a real volume controller -----------------------------------------------------------------------------------------


@pytest.mark.real
async def test_the_trap_is_one_and_is_noticed(real_cluster, tmp_path):
    """Kubernetes binds a claim with a dataSource to an empty volume at once; no node is ever started on it."""
    install_snapshots(real_cluster)
    place = Namespace(real_cluster, real_cluster.new_namespace())
    played, volumes = Played(place), Volumes(place, tmp_path)
    played.on_cut = volumes.cut
    without: dict[str, Any] = {"backup": {"metastore": {"method": "None"}}}
    free = [f"free-{place.name}-{number}" for number in range(len(NODES))]
    async with played.playing(), recovering(place):
        await volumes.make_class()
        for node in NODES:
            await played.claim("c", *node.split("-"))
        await place.secret("first")
        await place.create(source(volumes, **without))

        async def claimed() -> bool:
            return len(await place.list(STATEFUL_SET)) == 2

        await eventually(claimed)
        await place.create(ours(place, backup_of(place)))
        await usable(place, "b")
        pool = await volumes.make_class(f"pool-{place.name}", provisioner="kubernetes.io/no-provisioner")
        await place.create(restored(volumes, {"metastore": "Skip"}, **without))

        async def made() -> bool:
            return len([each for each in await place.list(CLAIM) if "-n-" in each["metadata"]["name"]]) == len(NODES)

        await eventually(made)
        for name in free:  # nobody provisions here, so the real controller takes what turns up
            await volumes.make_free_volume(name, volumes.storage_class)
        cluster = await with_condition(place, "n", "Recovering", "False", "RecoveredVolumeStrange")
        assert "no driver made it" in condition(cluster, "Recovering")["message"]
        bound = await place.get(CLAIM, "data-n-ingest-0")
        assert bound
        assert (bound["status"]["phase"], bound["spec"]["dataSource"]["name"]) == ("Bound", "b-ingest-0")
        await asyncio.sleep(1)
        await no_workload(place)

        storage = {"backend": "local", "size": "1Gi", "storageClass": pool}
        document = restored(volumes, {"metastore": "Skip"}, storage=storage, **without)
        document["metadata"]["name"] = "m"
        await place.create(document)
        await refused(place, "StorageClassNotDynamic", "m")


# --- kills ------------------------------------------------------------------------------------------------------------


async def check_nothing_began_empty(place: Namespace, volumes: Volumes, name: str) -> None:
    """Assert that no workload is there beside a claim that is missing, unbound or without the data of its node."""
    if not [each for each in await place.list(STATEFUL_SET) if each["metadata"]["name"].startswith(f"{name}-")]:
        return
    for node in NODES:
        claim = await place.get(CLAIM, f"data-{name}-{node}")
        assert claim, f"there are workloads, and no claim for {node}"
        assert claim["spec"].get("volumeName"), f"there are workloads, and {node} has no volume"
        assert await volumes.content(f"data-{name}-{node}") == f"what {node} has"


async def ended_alike(place: Namespace, volumes: Volumes, name: str) -> str:
    """Return how a recovery has ended, without what two of them have differently."""
    cluster = await place.cluster(name)
    recovery = {key: value for key, value in cluster["status"]["recovery"].items() if not key.endswith("At")}
    claims = {}
    for node in NODES:
        claim = await place.get(CLAIM, f"data-{name}-{node}")
        assert claim
        kept = {key: claim["metadata"].get(key) for key in ("labels", "annotations")}
        spec = {key: value for key, value in claim["spec"].items() if key != "volumeName"}
        claims[node] = [kept, spec, await volumes.content(f"data-{name}-{node}")]
    made = sorted(str(ref) for ref in await place.objects() if ref.name.startswith(f"{name}-"))
    jobs = [each["metadata"]["name"] for each in await place.list(JOB)]
    conditions = sorted((each["type"], each["status"], each["reason"]) for each in cluster["status"]["conditions"])
    text = json.dumps([recovery, claims, made, jobs, conditions, cluster["status"]["phase"]], sort_keys=True)
    return text.replace(f"{name}-", "N-").replace(f'"{name}"', '"N"')


@pytest.mark.parametrize("arrives", [True, False], ids=["the write arrives", "the write is lost"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "each"])
async def test_a_kill_at_any_write_changes_nothing_of_the_end(place, played, volumes, arrives, step):
    """Killed at any of its writes in turn, a new operator goes on: no node begins empty, and the end is alike."""
    tools = BackupTools(render=loading.template_renderer(), image=IMAGE, poll=0)
    parts: dict[str, Any] = {"selection": everywhere(place), "backups": tools}
    async with played.playing(), volumes.playing():
        async with recovering(place):
            await backed_up(place, played, volumes)

        async def recover(name: str, after: int) -> tuple[bool, str]:
            """Recover a cluster with an operator that is killed after so many writes; return whether it was."""
            document = restored(volumes)
            document["metadata"]["name"] = name
            await place.create(document)
            killed = await _passes(place, volumes, document, parts, after, arrives=arrives)
            if killed:
                await _passes(place, volumes, document, parts, 10_000, arrives=arrives)
            end = await ended_alike(place, volumes, name)
            await place.delete(CLUSTER, name)
            return killed, end

        _, undisturbed = await recover("u", 10_000)
        assert '"Recovered"' in undisturbed
        for writes in range(14)[arrives if step > 1 else 0 :: step]:  # after these come the objects of any cluster
            killed, end = await recover(f"k{writes}", writes)
            assert killed
            assert end == undisturbed


async def _passes(
    place: Namespace, volumes: Volumes, document: Manifest, parts: dict[str, Any], after: int, *, arrives: bool
) -> bool:
    """Pass over a cluster until its recovery is over and it has its objects, or the operator is killed."""
    key = key_of(document)
    async with world_of(place, **parts) as world:
        dying = Dying(world.kube, after, arrives=arrives)
        for _ in range(1500):
            await pass_until(key, world, dying)
            await check_nothing_began_empty(place, volumes, key.name)
            if dying.killed:
                return True
            found = (await place.cluster(key.name)).get("status") or {}
            if (found.get("recovery") or {}).get("phase") == "Recovered" and found.get("controllers") is not None:
                return False
            await asyncio.sleep(0.03)
    raise AssertionError(found)


@pytest.mark.slow
async def test_kills_at_random_start_nothing_empty(place, played, volumes, tmp_path: Path):
    """An operator that is killed with SIGKILL again and again: no node ever begins empty, and the end is right."""
    chance = random.Random(13)
    arguments = ("--selector", f"example.com/shard={place.name}", "--no-leader-elect", "--features", "backups")
    arguments += ("--backup-image", IMAGE, "--backup-poll", "0.1")
    async with played.playing(), volumes.playing():
        async with recovering(place):
            await backed_up(place, played, volumes)
        for number in range(2):
            document = restored(volumes)
            name = document["metadata"]["name"] = f"n{number}"
            await place.create(document)
            for _ in range(4):
                operator = await asyncio.to_thread(
                    OperatorProcess, place.server.kubeconfig, tmp_path / "log", *arguments
                )
                with operator:
                    await asyncio.to_thread(operator.wait_said, "reconciles", 60)
                    await asyncio.sleep(chance.uniform(0, 0.7))
                await check_nothing_began_empty(place, volumes, name)
            async with recovering(place):
                await with_condition(place, name, "Recovering", "False", "Recovered")
            await check_nothing_began_empty(place, volumes, name)
            assert await place.list(JOB) == []
