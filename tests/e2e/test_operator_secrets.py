from __future__ import annotations

import pytest
from support.operators import (
    DEPLOYMENT,
    SECRET,
    STATEFUL_SET,
    Namespace,
    condition,
    controllers,
    eventually,
    in_phase,
    key_of,
    passes,
    quiet,
    running,
    small,
    watched,
    with_condition,
    world_of,
)

from chronik.manifest import ObjectRef
from chronik.operator.reconcile import reconcile

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

ANNOTATION = "chronik.stream/secrets"
WORKLOADS = ((STATEFUL_SET, "c-controller"), (STATEFUL_SET, "c-ingest"), (DEPLOYMENT, "c-search"))


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


async def templates(place):
    """Return the pod templates by name of their workload."""
    found = {name: await place.get(kind, name) for kind, name in WORKLOADS}
    return {name: live["spec"]["template"] for name, live in found.items() if live}


def digest(template):
    """Return the annotation that names the Secrets, if any."""
    return template["metadata"].get("annotations", {}).get(ANNOTATION)


async def test_a_new_cluster_starts_its_pods_once(place, monkeypatch):
    """No annotation is added to a new cluster: its pods start with the Secrets that are there."""
    async with running(place.server, place.name), controllers(place):
        with passes(monkeypatch) as ended:
            await place.secret("first")
            await place.create(small(place.name, searchNodes=1))
            cluster = await in_phase(place, "c", "Running")
            await quiet(ended)
    found = await templates(place)

    assert {name: digest(each) for name, each in found.items()} == dict.fromkeys(found)
    assert cluster["status"]["secretDigests"].keys() == {"controller", "ingest", "search"}
    assert {(await place.get(kind, name))["metadata"]["generation"] for kind, name in WORKLOADS} == {1}


async def test_a_changed_secret_restarts_pods_once(place, monkeypatch):
    """New data of a Secret restarts the pods that use it, component by component, each once."""
    async with running(place.server, place.name):
        await place.launch(searchNodes=1)
        with passes(monkeypatch) as ended:
            await place.secret("second")
            for done, (kind, name) in enumerate(WORKLOADS, 1):
                await eventually(lambda expected=done: _restarted(place, expected))
                await quiet(ended, 0.2)
                assert await _restarted(place, done)
                await place.roll_out(ObjectRef(kind.name, place.name, name))
            await in_phase(place, "c", "Running")
            await quiet(ended)
        generations = {(await place.get(kind, name))["metadata"]["generation"] for kind, name in WORKLOADS}
        again = {name: digest(each) for name, each in (await templates(place)).items()}
        await place.secret("first")
        await eventually(lambda: _differs(place, again["c-controller"]))

    assert generations == {2}


async def _restarted(place, count):
    found = (await templates(place)).values()
    return [bool(digest(each)) for each in found] == [True] * count + [False] * (len(found) - count)


async def _differs(place, before):
    return digest((await templates(place))["c-controller"]) != before


class Killed(BaseException):
    """Cuts a pass off, as the end of the process does."""


async def killed_before_the_status(key, world, monkeypatch):
    """Have a pass be killed when everything is done but its status."""

    async def cut(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("chronik.operator.lifecycle.write_status", cut)
        with pytest.raises(Killed):
            await reconcile(key, world)


async def test_a_kill_before_the_first_status_forgets_no_secret(place, monkeypatch):
    """Pods whose operator was killed right after it made them restart if their Secret changes before the next comes."""
    await place.secret("first")
    key = key_of(await place.create(small(place.name)))
    async with world_of(place) as world:
        assert (await reconcile(key, world)).result == "claimed"
        await killed_before_the_status(key, world, monkeypatch)
    assert (await templates(place)).keys() == {"c-controller", "c-ingest"}
    await place.roll_out_all()  # with the Secret of the first hour
    await place.secret("second")
    async with running(place.server, place.name), controllers(place):
        await eventually(lambda: _restarted(place, 2))


async def test_a_kill_before_the_status_forgets_no_secret_of_a_new_component(place, monkeypatch):
    """So do pods of a component that was added when the operator was killed."""
    async with running(place.server, place.name), controllers(place):
        await place.launch()
    key = key_of(await place.change("c", searchNodes=1))
    async with world_of(place) as world:
        await killed_before_the_status(key, world, monkeypatch)
    assert "c-search" in await templates(place)
    await place.roll_out_all()
    await place.secret("second")
    async with running(place.server, place.name), controllers(place):
        await eventually(lambda: _restarted(place, 3))


async def test_a_secret_that_changes_while_a_statefulset_is_gone_restarts_its_pods(place):
    """Pods that a StatefulSet takes back, because we were cut off while it was created anew, have the old Secret."""
    async with running(place.server, place.name), controllers(place):
        await place.launch()
    live = await place.get(STATEFUL_SET, "c-controller")
    metadata = {"name": "c-controller-0", "namespace": place.name} | live["spec"]["template"]["metadata"]
    spec = {"containers": [{"name": "x", "image": "x"}]}
    await place.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    await place.delete(STATEFUL_SET, "c-controller", "Orphan")
    await place.secret("second")
    async with running(place.server, place.name), controllers(place):
        await eventually(lambda: _restarted(place, 1))


async def test_only_users_of_a_secret_restart(place, monkeypatch):
    """The Secret of the object store is the brokers' only, and a Secret that no pod uses concerns nobody."""
    s3 = {"backend": "s3", "s3": {"bucket": "bucket", "region": "eu-central-1", "credentialsSecret": "store"}}
    async with running(place.server, place.name), controllers(place):
        await place.secret("first", "store")
        await place.secret("first", "other")
        await place.secret("first")
        await place.create(small(place.name, storage=s3))
        await in_phase(place, "c", "Running")
        users = {name for name, each in (await templates(place)).items() if "'store'" in str(each)}
        with passes(monkeypatch) as ended:
            await place.secret("second", "other")
            await quiet(ended)
            assert ended == []
            await place.secret("second", "store")

            async def all_restarted():
                return users <= {name for name, each in (await templates(place)).items() if digest(each)}

            await eventually(all_restarted)
            await quiet(ended)
        restarted = {name for name, each in (await templates(place)).items() if digest(each)}

    assert users
    assert restarted == users


async def test_a_missing_secret_restarts_nothing(place, monkeypatch):
    """A Secret that is gone is a condition and an Event, and no pod is restarted, not even for a new image."""
    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Running")
        before = await templates(place)
        await place.delete(SECRET, "credentials")
        found = await with_condition(place, "c", "SecretsAvailable", "False", "SecretMissing")
        with passes(monkeypatch) as ended:
            await place.change("c", image={"ingest": "chronik/ingest:2.0"})
            await quiet(ended)
        assert await templates(place) == before
        events = await place.events()
        await place.secret("first")

        async def new():
            return (await templates(place))["c-ingest"]["spec"]["containers"][0]["image"].endswith(":2.0")

        await eventually(new)
        await in_phase(place, "c", "Running")
        after = await templates(place)
        cluster = await place.cluster("c")

    assert "needs Secret credentials" in condition(found, "SecretsAvailable")["message"]
    assert events["SecretMissing"].startswith("Warning: ")
    assert [digest(each) for each in after.values()] == [None, None]
    assert condition(cluster, "SecretsAvailable") == {}


@pytest.mark.both
async def test_another_secret_is_one_restart(place):
    """A spec that names another Secret restarts each workload's pods once, not twice."""
    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.secret("else", "others")
        await place.create(small(place.name))
        await in_phase(place, "c", "Running")
        connection = {"connection": {"credentialsSecret": "others"}}
        async with watched(place, STATEFUL_SET) as states:
            await place.change("c", metastore=connection)
            await in_phase(place, "c", "Updating")
            await in_phase(place, "c", "Running")
    rolls: dict[str, dict[str, set[int]]] = {}
    for each in states:
        seen = rolls.setdefault(each["metadata"]["name"], {}).setdefault(str(each["spec"]["template"]), set())
        seen.add(each["status"]["observedGeneration"])

    for name, seen in rolls.items():  # all templates that there were on the way, before their controller saw the last
        assert len(set.intersection(*seen.values())) == 1, name


async def test_a_changed_configuration_rolls_its_users(place):
    """A changed configuration reaches the ConfigMap and restarts the pods that mount it, in order and once."""
    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Running")
        connection = {"connection": {"host": "elsewhere"}}
        await place.change("c", metastore=connection)
        await in_phase(place, "c", "Updating")
        await in_phase(place, "c", "Running")
        (config,) = [each for ref, each in (await place.objects()).items() if ref.kind == "ConfigMap"]
        generations = {(await place.get(STATEFUL_SET, name))["metadata"]["generation"] for _, name in WORKLOADS[:2]}

    assert config["data"]["metastore.host"] == "elsewhere"
    assert generations == {2}


async def test_unseen_secrets_are_not_missing(place, monkeypatch):
    """An operator that may not see Secrets calls none missing, restarts nothing, and keeps what it knew of them."""
    async with running(place.server, place.name):
        cluster = await place.launch()
    async with world_of(place) as world:
        monkeypatch.setattr(world.cache, "sees_secrets", lambda _namespace: False)
        monkeypatch.setattr(world.cache, "secret_digest", lambda _namespace, _name: None)
        outcome = await reconcile(key_of(cluster), world)

    assert (outcome.result, outcome.wrote) == ("ok", False)
    assert (await place.cluster("c"))["status"] == cluster["status"]
