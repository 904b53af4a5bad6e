"""What others do to a cluster, and what comes at a bad moment: none of it may cost data, or a cluster its operator."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from support.operators import (
    CLAIM,
    CLUSTER,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Namespace,
    condition,
    controllers,
    eventually,
    in_phase,
    newer,
    passes,
    quiet,
    running,
    small,
    with_condition,
    world_of,
)
from support.rights import granted, rule

from chronik.apply.executor import Execution
from chronik.clock import Clock
from chronik.manifest import FINALIZER, LEASE, ClusterKey, Kind, ObjectRef, WorkKey
from chronik.operator.cache.cache import Cache, Selection
from chronik.operator.lease import LEASE_NAME, Terms
from chronik.operator.queue import WorkQueue
from chronik.operator.reconcile import reconcile
from chronik.operator.telemetry.metrics import Metrics
from chronik.operator.worker import Workers

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

TEMPLATES = Path(__file__).parents[2] / "templates"
DELETE = {"backend": "local", "retention": {"whenDeleted": "Delete"}}
SECOND = {"controller": "chronik/controller:2.0"}
ANNOTATION = "chronik.stream/secrets"
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", stage=-1)


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


def key(place, name="c"):
    """Return how the operator names a cluster."""
    return ClusterKey(place.name, name)


async def claim(place, name, component, **labels):
    """Create a volume claim that bears the labels which a StatefulSet's claims have."""
    ours = {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": component}
    metadata = {"name": name, "namespace": place.name, "labels": ours | labels}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await place.create({"apiVersion": "v1", "kind": CLAIM.name, "metadata": metadata, "spec": spec})


async def conditions_edited(place, edit):
    """Have somebody else write the conditions of a cluster's status, as `edit` makes them of those that are there."""
    found = edit((await place.cluster("c"))["status"]["conditions"])
    path = place.path(CLUSTER, "c", "status")
    patch = {"status": {"conditions": found}}
    await place.call("PATCH", path, patch, patch="merge", fieldManager="backup-tool")


async def looked_at_again(place, ended):
    """Have an operator pass over the cluster though there is nothing to do; `ended` lists its passes."""
    await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"looked": "again"}}})

    async def done():
        return any(of == key(place) for of, _ in ended)

    await eventually(done)


async def image_of(place, name):
    """Return the image that a cluster's controllers are to run."""
    live = await place.get(STATEFUL_SET, f"{name}-controller")
    return live["spec"]["template"]["spec"]["containers"][0]["image"]


async def secrets_of(place):
    """Return by name of the StatefulSet which state of the Secrets its pods were restarted for, or None."""
    live = await place.list(STATEFUL_SET)
    templates = {each["metadata"]["name"]: each["spec"]["template"]["metadata"] for each in live}
    return {name: metadata.get("annotations", {}).get(ANNOTATION) for name, metadata in templates.items()}


def passes_of(world, **parts):
    """Return passes that a test takes by hand, with a queue that nobody works on."""
    clock = Clock()
    made = {"queue": WorkQueue(clock), "metrics": Metrics(), "clock": clock} | parts
    return Workers(context=world, **made)


# --- volumes of others, and deletions that fail -----------------------------------------------------------------------


async def test_claims_of_other_products_stay(place):
    """A deletion that takes the volumes along leaves claims whose labels are the same, and whose names are not."""
    await claim(place, "data-c-kafka-controller-0", "controller", **{"app.kubernetes.io/name": "kafka"})
    await claim(place, "data-c-controller-0", "controller")
    async with running(place.server, place.name):
        await place.launch(storage=DELETE)
        await place.delete(CLUSTER, "c")

        async def gone():
            return await place.get(CLUSTER, "c") is None

        await eventually(gone)
    left = [each["metadata"] for each in await place.list(CLAIM)]

    assert [each["name"] for each in left if "deletionTimestamp" not in each] == ["data-c-kafka-controller-0"]


async def test_a_deletion_that_fails_says_why(place):
    """What keeps a cluster from going is in its status and an Event, and it goes once that has passed."""
    connect = granted(place, "most", rule(("get", "list", "watch", "create", "update", "patch")))
    await claim(place, "data-c-controller-0", "controller")
    async with running(place.server, place.name, connect=connect):
        await place.launch(storage=DELETE)
        await place.delete(CLUSTER, "c")

        async def told():
            found, events = await place.cluster("c"), await place.events()
            return found if "fails" in condition(found, "Ready")["message"] and "Forbidden" in events else None

        found, events = await eventually(told), await place.events()
        granted(place, "rest", rule(("delete",), (CLAIM.plural,)))
        looks = map(str, count())

        async def gone():
            with suppress(AssertionError):  # it went a moment ago
                await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"looked": next(looks)}}})
            return await place.get(CLUSTER, "c") is None

        await eventually(gone)

    assert found["status"]["phase"] == "Deleting"
    assert "may not delete persistentvolumeclaims" in condition(found, "Ready")["message"]
    assert events["Forbidden"].startswith("Warning: ")
    assert "may not delete persistentvolumeclaims" in events["Forbidden"]


async def test_a_cluster_deleted_before_its_first_status_is_no_hot_loop(place):
    """A cluster that goes while it is being claimed is not asked for again and again until its event comes."""
    document = small(place.name)
    document["metadata"]["finalizers"] = [FINALIZER]
    await place.create(document)
    async with world_of(place) as world:
        cache = Cache(world.kube, Selection(namespaces=(place.name,)), wake=lambda _key: None)
        following = asyncio.create_task(cache.run())
        await cache.wait_synced()
        following.cancel()  # from here on it hears of nothing
        await asyncio.gather(following, return_exceptions=True)
        await place.edit(CLUSTER, "c", {"metadata": {"finalizers": None}})
        await place.delete(CLUSTER, "c")
        taken = passes_of(replace(world, cache=cache))
        outcome = await taken.take(key(place))

    assert outcome.result == "waiting"
    assert (taken.queue.depth, len(taken.queue._due)) == (0, 1)


# --- what others write into a status ----------------------------------------------------------------------------------


async def test_times_that_no_clock_shows_stop_nobody(place, monkeypatch):
    """A time in a status that cannot be read costs neither its own cluster nor others their passes."""
    async with running(place.server, place.name, workers=1):
        await place.launch()
        await place.launch(small(place.name, "d"))
        never = "0000-01-01T00:00:00Z"
        await conditions_edited(place, lambda found: [each | {"lastTransitionTime": never} for each in found])
        with passes(monkeypatch) as ended:
            await quiet(ended)
            ended.clear()
            await looked_at_again(place, ended)
        for name in ("d", "c"):
            await place.change(name, image=SECOND)
            await in_phase(place, name, "Updating")


class Faulty(Metrics):
    """Metrics with a bug in them."""

    def cluster(self, key, phase, since=None):
        """Fail for one cluster."""
        if key.name == "c":
            raise RuntimeError("a bug")
        super().cluster(key, phase, since)


async def test_a_worker_outlives_a_bug(place, caplog):
    """Whatever goes wrong around a pass is logged and tried again later, and its worker goes on with the next one."""
    async with running(place.server, place.name):
        await place.launch()
        await place.launch(small(place.name, "d"))
    async with world_of(place) as world:
        taken = passes_of(world, metrics=Faulty())
        taken.queue.add(WorkKey.of(key(place)))
        taken.queue.add(WorkKey.of(key(place, "d")))
        working = asyncio.create_task(taken.work())

        async def through():
            return key(place, "d") in taken.clean

        await eventually(through)
        assert not working.done()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    assert f"a bug in chronik stopped the work on {WorkKey.of(key(place))}; please report it" in caplog.messages
    assert (taken.queue.depth, len(taken.queue._due)) == (0, 2)


@pytest.mark.both
async def test_conditions_of_others_stay_theirs(place):
    """A condition that somebody else keeps in the status costs no write, and stays when we have something to say."""
    theirs = {
        "type": "BackedUp",
        "status": "True",
        "reason": "Nightly",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    async with running(place.server, place.name):
        await place.launch()
    await conditions_edited(place, lambda found: [*found, theirs])
    before = await place.versions()
    async with world_of(place) as world:
        outcomes = [await reconcile(key(place), world) for _ in range(3)]
    after = await place.versions()
    await place.change("c", image=SECOND)
    async with world_of(place) as world:
        await reconcile(key(place), world)
    cluster = await place.cluster("c")

    assert [(each.result, each.wrote) for each in outcomes] == [("ok", False)] * 3
    assert after == before
    assert condition(cluster, "Ready")["status"] == "False"
    assert condition(cluster, "BackedUp") == theirs


# --- stops ------------------------------------------------------------------------------------------------------------


async def test_a_pass_that_was_cut_short_says_nothing(place):
    """No status is made of what a pass has seen that was told to stop: it would speak of a spec that is nowhere yet."""
    async with running(place.server, place.name):
        before = await place.launch()
    await place.change("c", image=SECOND)
    stop = asyncio.Event()
    stop.set()
    async with world_of(place) as world:
        outcome = await reconcile(key(place), replace(world, execution=Execution(kube=world.kube, stop=stop)))

    assert (outcome.result, outcome.wrote) == ("waiting", False)
    assert await image_of(place, "c") == "chronik/controller:1.0"
    assert (await place.cluster("c"))["status"] == before["status"]


async def test_a_stop_takes_up_nothing_more(place, monkeypatch):
    """After SIGTERM the pass under way comes to its end, no other begins, and no status says what is not so."""
    begun = []

    async def stopped_in_between(of, world):
        begun.append(of.name)

        async def queued():
            return operator.metrics.registry.get_sample_value("chronik_queue_depth")

        await eventually(queued)
        operator.stop.set()
        return await reconcile(of, world)

    async with running(place.server, place.name, workers=1) as operator:
        for name in "ab":
            await place.launch(small(place.name, name))
        with passes(monkeypatch) as ended:
            await quiet(ended)
        monkeypatch.setattr("chronik.operator.worker.reconcile", stopped_in_between)
        for name in "ab":
            await place.change(name, image=SECOND)
        await asyncio.wait_for(operator.stop.wait(), 40)
    clusters = {name: await place.cluster(name) for name in "ab"}

    assert begun == ["a"]
    assert {name: await image_of(place, name) for name in "ab"} == dict.fromkeys("ab", "chronik/controller:1.0")
    assert {condition(each, "Ready")["observedGeneration"] for each in clusters.values()} == {1}


# --- what comes while a pass runs -------------------------------------------------------------------------------------


class Interrupted:
    """An API client in front of another: before it first writes a status, it waits for something else to happen."""

    def __init__(self, kube, happens):
        self._kube = kube
        self._happens = happens

    def __getattr__(self, name):
        return getattr(self._kube, name)

    async def apply(self, manifest, **options):
        """Apply a manifest."""
        if options.get("subresource") == "status" and self._happens:
            happens, self._happens = self._happens, None
            await happens()
        return await self._kube.apply(manifest, **options)


@asynccontextmanager
async def shard(place):
    """Give a world in which there are only ChronikClusters with a label."""
    async with world_of(place) as world:
        cache = Cache(world.kube, Selection(namespaces=(place.name,), selector="shard=a"), wake=lambda _key: None)
        following = asyncio.create_task(cache.run())
        await cache.wait_synced()
        try:
            yield replace(world, cache=cache)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


MOVED = {"metadata": {"labels": {"shard": "b"}}}


async def launched_in_shard(place):
    """Have a cluster Running that bears the label."""
    document = small(place.name)
    document["metadata"]["labels"] = {"shard": "a"}
    async with running(place.server, place.name):
        await place.launch(document)


async def test_a_cluster_that_leaves_during_a_pass_is_let_go(place):
    """A cluster that loses the label while a pass is over it is none of ours, and nothing of it is repaired."""
    await launched_in_shard(place)
    await place.change("c", image=SECOND)
    async with shard(place) as world:

        async def lost():
            return world.cache.cluster(key(place)) is None

        async def moved():
            await place.edit(CLUSTER, "c", MOVED)
            await eventually(lost)

        during = await reconcile(key(place), replace(world, kube=Interrupted(world.kube, moved)))
        assert await lost()
        await place.delete(SERVICE_ACCOUNT, "c-ingest")
        after = await reconcile(key(place), world)

    assert (during.result, during.phase, after.result) == ("ok", "Updating", "gone")
    assert await place.get(SERVICE_ACCOUNT, "c-ingest") is None


async def test_a_cluster_that_left_before_our_answer_is_let_go(place):
    """A cluster is lost though what we wrote to it is newer than the change by which it left."""
    await launched_in_shard(place)
    async with shard(place) as world:  # nothing comes in between the next lines, as nothing is waited for
        place.server.call("PATCH", place.path(CLUSTER, "c"), MOVED, patch="merge")
        status = {"status": {"phase": "Updating"}}
        answer = place.server.call("PATCH", place.path(CLUSTER, "c", "status"), status, patch="merge")
        world.cache.observe_write(answer.body)

        async def lost():
            return world.cache.cluster(key(place)) is None

        await eventually(lost)


async def test_a_spec_that_comes_during_a_pass_is_taken_up_at_once(place, monkeypatch):
    """A pass that ends with a newer spec at hand is followed by the next one without a breath."""
    async with running(place.server, place.name):
        await place.launch()
    async with world_of(place) as world:

        async def changed_meanwhile(of, world):
            outcome = await reconcile(of, world)
            await place.change("c", image=SECOND)

            async def seen():
                return world.cache.cluster(of)["metadata"]["generation"] == 2

            await eventually(seen)
            return outcome

        taken = passes_of(world)
        with monkeypatch.context() as patch:
            patch.setattr("chronik.operator.worker.reconcile", changed_meanwhile)
            await taken.take(key(place))
        outcome = await taken.take(key(place))
        too_soon = await taken.take(key(place))

    assert (outcome.result, outcome.phase) == ("ok", "Updating")
    assert too_soon is None


# --- upgrades of the operator -----------------------------------------------------------------------------------------


async def restarted(place):
    """Return the StatefulSets that a newer chronik has restarted."""
    found = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in await place.list(STATEFUL_SET)}
    return {name for name, spec in found.items() if spec["terminationGracePeriodSeconds"] == 99}


async def test_clusters_that_are_updating_do_not_wait_for_each_other(place):
    """Two clusters that roll out while a newer chronik comes are both brought to it, one after the other."""
    async with running(place.server, place.name):
        for name in "ab":
            await place.launch(small(place.name, name))
        for name in "ab":
            await place.change(name, image=SECOND)
            await in_phase(place, name, "Updating")
    await place.roll_out_all()
    everything = {f"{name}-{component}" for name in "ab" for component in ("controller", "ingest")}
    async with world_of(place, version="99.0.0", render=newer) as world:

        async def round_of_passes():
            outcomes = [await reconcile(key(place, name), world) for name in "ab"]
            await place.roll_out_all()
            return await restarted(place) == everything and {each.phase for each in outcomes} == {"Running"}

        await eventually(round_of_passes)


async def test_a_paused_cluster_holds_back_no_upgrade(place):
    """A cluster that was paused while it rolled out is not waited for: it may be so for as long as people want."""
    async with running(place.server, place.name):
        for name in "ab":
            await place.launch(small(place.name, name))
        await place.roll_out(ObjectRef("StatefulSet", place.name, "b-ingest"), ready=0)
        await in_phase(place, "b", "Updating")
        await place.edit(CLUSTER, "b", {"metadata": {"annotations": {"chronik.stream/paused": "true"}}})
        await with_condition(place, "b", "Paused", "True")
    async with world_of(place, version="99.0.0", render=newer) as world:
        outcomes = {name: await reconcile(key(place, name), world) for name in "ba"}
    phases = {name: each.phase for name, each in outcomes.items()}

    assert phases == {"b": "Updating", "a": "Updating"}
    assert await restarted(place) == {"a-controller"}


async def test_a_standby_counts_from_its_turn(place, monkeypatch):
    """How long clusters wait for a worker counts from when there is one: a standby's metrics begin with its term."""
    async with running(place.server, place.name):
        for name in "ab":
            await place.launch(small(place.name, name))
    lease = {"holderIdentity": "another", "leaseDurationSeconds": 600, "renewTime": "2026-01-01T00:00:00.000000Z"}
    metadata = {"name": LEASE_NAME, "namespace": place.name}
    await place.call("POST", place.path(LEASE), {"metadata": metadata, "spec": lease})
    oldest = []

    async def timed(of, world):
        oldest.append(waited())
        return await reconcile(of, world)

    def waited():
        return operator.metrics.registry.get_sample_value("chronik_queue_oldest_seconds")

    async def stood_by():
        return waited() > 1.5

    monkeypatch.setattr("chronik.operator.worker.reconcile", timed)
    terms = Terms(duration=600, renew_deadline=400, retry=0.1)
    async with running(place.server, place.name, elect=True, identity="standby", terms=terms, workers=1) as operator:
        await eventually(stood_by)
        assert oldest == []
        await place.edit(LEASE, LEASE_NAME, {"spec": {"holderIdentity": ""}})

        async def taken_over():
            return len(oldest) >= 2

        await eventually(taken_over)

    assert max(oldest) < 1


# --- Secrets ----------------------------------------------------------------------------------------------------------


async def test_a_repair_forgets_no_rotation(place):
    """A Secret that changed while nobody was there restarts its pods, though the same pass makes a Service anew."""
    async with running(place.server, place.name):
        await place.launch()
    await place.secret("second")
    await place.delete(SERVICE, "c-controller")
    async with running(place.server, place.name), controllers(place):

        async def all_restarted():
            return all((await secrets_of(place)).values())

        await eventually(all_restarted)

    assert await place.get(SERVICE, "c-controller")


@pytest.fixture
def licensed(tmp_path):
    """Return the folder of an override with which pods use a Secret that no document names."""
    part = TEMPLATES / "parts" / "env.yaml.j2"
    more = "- {name: LICENSE, valueFrom: {secretKeyRef: {name: license, key: username}}}"
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / part.name).write_text(f"{part.read_text('utf-8').rstrip()}\n{more}\n", "utf-8")
    return str(tmp_path)


async def test_a_secret_of_an_override_is_missed_until_it_comes(place, licensed):
    """A missing Secret that only templates name is a condition, which goes as soon as the Secret is there."""
    async with running(place.server, place.name, templates=licensed), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        missed = await with_condition(place, "c", "SecretsAvailable", "False", "SecretMissing")
        await in_phase(place, "c", "Running")
        await place.secret("first", "license")

        async def there():
            return condition(await place.cluster("c"), "SecretsAvailable") == {}

        await eventually(there)
        restarts = await secrets_of(place)

    assert "needs Secret license" in condition(missed, "SecretsAvailable")["message"]
    assert restarts == {"c-controller": None, "c-ingest": None}


async def test_a_changed_secret_of_an_override_restarts_pods_once(place, licensed, monkeypatch):
    """New data of a Secret that only templates name restarts the pods that use it, each once."""
    async with running(place.server, place.name, templates=licensed), controllers(place):
        await place.secret("first")
        await place.secret("first", "license")
        await place.create(small(place.name))
        await in_phase(place, "c", "Running")
        with passes(monkeypatch) as ended:
            await quiet(ended)
            await place.secret("second", "license")

            async def all_restarted():
                return all((await secrets_of(place)).values())

            await eventually(all_restarted)
            await in_phase(place, "c", "Running")
            await quiet(ended)
        live = await place.list(STATEFUL_SET)

    assert {each["metadata"]["generation"] for each in live} == {2}


async def test_a_missing_secret_is_told_once_secrets_may_be_seen(place, monkeypatch):
    """An operator that is given the right to see Secrets says of a cluster at rest that one is missing."""
    monkeypatch.setattr("chronik.kube.reflector.FORBIDDEN_PAUSE", 0.2)
    core = ("configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "pods", "events")
    others = ("chronik.stream", "apps", "policy", "autoscaling", "rbac.authorization.k8s.io", "events.k8s.io")
    connect = granted(place, "most", rule("*", core, ("",)), rule("*", ("*",), others))
    async with running(place.server, place.name, connect=connect, resync=0.3), controllers(place):
        await place.create(small(place.name))
        before = await in_phase(place, "c", "Running")
        with passes(monkeypatch) as ended:
            await quiet(ended, 0.6)  # longer than a resync: now the cluster is known to be as it should
        granted(place, "rest", rule(("get", "list", "watch"), (SECRET.plural,), ("",)))
        found = await with_condition(place, "c", "SecretsAvailable", "False", "SecretMissing")

    assert condition(before, "SecretsAvailable") == {}
    assert "needs Secret credentials" in condition(found, "SecretsAvailable")["message"]


# --- kinds that only templates of somebody's own make -----------------------------------------------------------------


def replaced(folder, api_version, kind, spec):
    """Write an override that makes something else in place of a PodDisruptionBudget, and return its folder."""
    metadata = '{{ part("metadata", name=name ~ "-pdb") }}'
    text = f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"
    (folder / "poddisruptionbudget.yaml.j2").write_text(text, "utf-8")
    return str(folder)


async def comes_up_and_stays_quiet(place, folder, monkeypatch):
    """Have a cluster Running by the templates of an override, and see that further passes write nothing."""
    with passes(monkeypatch) as ended:
        async with running(place.server, place.name, templates=folder), controllers(place):
            await place.secret("first")
            await place.create(small(place.name, podDisruptionBudget={"maxUnavailable": 1}))
            await in_phase(place, "c", "Running")
            await quiet(ended)
            ended.clear()
            before = await place.written()
            await looked_at_again(place, ended)
            await quiet(ended)
            assert await place.written() == before
    assert {(outcome.result, outcome.wrote, outcome.phase) for _, outcome in ended} == {("ok", False, "Running")}


@pytest.mark.both
async def test_an_override_may_make_another_kind(place, tmp_path, monkeypatch):
    """Objects of a kind that chronik itself never makes are made, and then left as they are."""
    folder = replaced(tmp_path, LEASE.api_version, LEASE.name, "{holderIdentity: somebody}")
    await comes_up_and_stays_quiet(place, folder, monkeypatch)

    assert {each["metadata"]["name"] for each in await place.list(LEASE)} == {"c-controller-pdb", "c-ingest-pdb"}


@pytest.mark.real  # the stand-in has no NetworkPolicies
async def test_an_override_may_make_a_network_policy(real_server, tmp_path, monkeypatch):
    """A NetworkPolicy, which the server gives defaults, is made and then left as it is."""
    place = Namespace(real_server, real_server.new_namespace())
    folder = replaced(tmp_path, NETWORK_POLICY.api_version, NETWORK_POLICY.name, "{podSelector: {}}")
    await comes_up_and_stays_quiet(place, folder, monkeypatch)

    assert len(await place.list(NETWORK_POLICY)) == 2
