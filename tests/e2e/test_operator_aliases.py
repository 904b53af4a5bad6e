"""Aliases and the operator: made once, followed, left alone, and taken away with the last cluster that names them."""

from __future__ import annotations

import pytest
from support.dying import killed_pass
from support.operators import (
    CLUSTER,
    SERVICE,
    Namespace,
    condition,
    eventually,
    passes,
    quiet,
    running,
    small,
    with_condition,
    world_of,
)

from chronik.apply import aliases
from chronik.apply.executor import Execution
from chronik.kube import ConnectOptions, connect
from chronik.manifest import ClusterKey
from chronik.operator.reconcile import reconcile
from chronik.plan.aliases.services import alias_plan

NAME = "orders-kafka"
NAMED = {"serviceType": "ClusterIP", "aliases": [NAME]}


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


async def told(place, cluster, *expected):
    """Wait until the status of a cluster says where its aliases lead."""

    async def there():
        found = (await place.cluster(cluster)).get("status") or {}
        return found.get("aliases", []) == list(expected)

    await eventually(there)


def leads_to(active):
    """Return what a status says of the alias."""
    return {"name": NAME, "active": active}


def selector(cluster):
    """Return the selector of the ingest nodes of a cluster."""
    return {"app.kubernetes.io/instance": cluster, "app.kubernetes.io/component": "ingest"}


async def gone(place, kind, name):
    """Wait until an object is gone."""

    async def is_gone():
        return await place.get(kind, name) is None

    await eventually(is_gone)


async def test_two_clusters_share_an_alias(place, monkeypatch):
    """The first makes it, no one else writes it, both follow a switch, and it goes with the last that names it."""
    await place.secret("first")
    with passes(monkeypatch) as ended:
        await shared(place, ended)


async def shared(place, ended):
    """Have two clusters, switch, and delete one after the other."""
    async with running(place.server, place.name):
        await place.create(small(place.name, "blue", network=NAMED))
        await told(place, "blue", leads_to("blue"))
        made = await place.get(SERVICE, NAME)
        await place.create(small(place.name, "green", network=NAMED))
        await told(place, "green", leads_to("blue"))
        await quiet(ended)
        same = await place.get(SERVICE, NAME)
        await place.edit(SERVICE, NAME, {"spec": {"selector": selector("green")}}, manager="chronik-operator")
        await told(place, "blue", leads_to("green"))
        await told(place, "green", leads_to("green"))
        events = await place.events()
        await place.delete(CLUSTER, "blue")
        await gone(place, CLUSTER, "blue")
        kept = await place.get(SERVICE, NAME)
        await quiet(ended)
        await place.delete(CLUSTER, "green")
        await gone(place, CLUSTER, "green")
        last = await place.get(SERVICE, NAME)
        written = [each for each in await place.written() if each[:2] == ("services", NAME)]

    assert "ownerReferences" not in made["metadata"]
    assert "chronik.stream/cluster" not in made["metadata"]["labels"]
    assert made["spec"]["selector"] == selector("blue")
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert events["AliasSwitched"] == f"Normal: {NAME} leads to green, and led to blue before"
    assert kept["spec"]["selector"] == selector("green")
    assert last is None
    assert len(written) == 2, written


async def test_what_is_in_the_way_is_told_and_left(place):
    """A Service of that name that is none of ours is never touched, and the cluster runs all the same."""
    ports = [{"port": 80}]
    await place.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME, "namespace": place.name},
            "spec": {"selector": {"app": "other"}, "ports": ports},
        }
    )
    before = await place.get(SERVICE, NAME)
    async with running(place.server, place.name):
        await place.launch(network=NAMED)
        found = condition(await with_condition(place, "c", "AliasesUsable", "False"), "AliasesUsable")
        await with_condition(place, "c", "Ready", "True")
        after = await place.get(SERVICE, NAME)
        await place.delete(CLUSTER, "c")
        await gone(place, CLUSTER, "c")
        last = await place.get(SERVICE, NAME)
        events = await place.events()

    assert found["reason"] == "AliasInTheWay"
    assert "was not made as one. Delete it, or give the alias another name." in found["message"]
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert last is not None
    assert events["AliasInTheWay"].startswith("Warning: ")


async def test_an_alias_that_leads_to_a_cluster_that_is_gone_stays_and_is_told(place):
    """The operator never switches: what is left says so, and how to."""
    await place.secret("first")
    async with running(place.server, place.name):
        await place.create(small(place.name, "blue", network=NAMED))
        await told(place, "blue", leads_to("blue"))
        await place.create(small(place.name, "green", network=NAMED))
        await told(place, "green", leads_to("blue"))
        await place.delete(CLUSTER, "blue")
        await gone(place, CLUSTER, "blue")
        for each in await place.list(SERVICE):  # as the garbage collector, which a server alone does not have
            if each["metadata"]["name"].startswith("blue-"):
                place.server.call("DELETE", place.path(SERVICE, each["metadata"]["name"]))
        found = condition(await with_condition(place, "green", "AliasesUsable", "False"), "AliasesUsable")
        left = await place.get(SERVICE, NAME)

    assert found["reason"] == "AliasLeadsNowhere"
    assert f"leads to blue, which is not there. Switch it: chronik switch {NAME} --to green" in found["message"]
    assert left["spec"]["selector"] == selector("blue")


async def test_a_name_that_is_taken_back_takes_its_alias_along(place):
    """An alias that no cluster names any more goes, and one that was deleted by hand comes back."""
    await place.secret("first")
    async with running(place.server, place.name):
        await place.create(small(place.name, network=NAMED))
        await told(place, "c", leads_to("c"))
        first = await place.get(SERVICE, NAME)
        await place.delete(SERVICE, NAME)

        async def is_back():
            found = await place.get(SERVICE, NAME)
            return found is not None and found["metadata"]["uid"] != first["metadata"]["uid"]

        await eventually(is_back)
        await place.change("c", network={"aliases": []})
        await gone(place, SERVICE, NAME)
        await told(place, "c")


@pytest.mark.parametrize(
    ("labels", "outcome"),
    [
        ({"app.kubernetes.io/managed-by": "chronik-operator", "chronik.stream/alias": NAME}, "unchanged"),
        ({"app": "other"}, "foreign"),
    ],
    ids=["alias", "foreign"],
)
async def test_whoever_was_faster_wins(place, monkeypatch, labels, outcome):
    """An alias that came to be since it was looked for is taken as it is, and what is none is left alone."""
    ports = [{"name": "kafka", "port": 9092, "protocol": "TCP", "targetPort": "kafka"}]
    client = {
        "kind": "Service",
        "metadata": {"name": "green-ingest-client", "namespace": place.name},
        "spec": {"selector": selector("green"), "ports": ports},
    }
    there = {"apiVersion": "v1", "kind": "Service", "spec": {"selector": selector("blue"), "ports": ports}}
    await place.create(there | {"metadata": {"name": NAME, "namespace": place.name, "labels": labels}})
    before = await place.get(SERVICE, NAME)

    async def planned(names, client, *_):
        return alias_plan(names, client, {})  # as it was a moment before

    monkeypatch.setattr(aliases, "planned_aliases", planned)
    async with connect(ConnectOptions(kubeconfig=str(place.server.kubeconfig))) as kube:
        report = await aliases.make_aliases([NAME], client, {}, Execution(kube=kube))

    assert [each.outcome for each in report.results] == [outcome]
    assert await place.get(SERVICE, NAME) == before


MOMENTS = [(after, arrives) for after in range(4) for arrives in (True, False)]


@pytest.mark.stand_in
@pytest.mark.parametrize(
    ("after", "arrives"),
    [each if each == (1, True) else pytest.param(*each, marks=pytest.mark.slow) for each in MOMENTS],
)
async def test_an_operator_that_is_killed_anywhere_forgets_no_alias(place, after, arrives):
    """Killed at any write while an alias is made or taken away, the next one makes it once, or takes it away."""
    key = ClusterKey(place.name, "c")

    async def whole():
        async with world_of(place) as world:
            return [await reconcile(key, world) for _ in range(3)]

    await place.secret("first")
    await place.create(small(place.name))
    await whole()
    await place.change("c", network=NAMED)
    killed = await killed_pass(place, key, after, arrives=arrives)
    await whole()
    made = await place.get(SERVICE, NAME)
    status = (await place.cluster("c"))["status"]
    await place.change("c", network={"aliases": []})
    await killed_pass(place, key, after, arrives=arrives)
    await whole()
    left = await place.get(SERVICE, NAME)
    after_all = (await place.cluster("c"))["status"]
    await place.change("c", network=NAMED)
    await whole()
    await place.delete(CLUSTER, "c")
    await killed_pass(place, key, after, arrives=arrives)
    await whole()

    assert killed is (after < 3)
    assert made["spec"]["selector"] == selector("c")
    assert status["aliases"] == [leads_to("c")]
    assert (left, "aliases" in after_all) == (None, False)
    assert await place.get(SERVICE, NAME) is None
    assert await place.get(CLUSTER, "c") is None


async def test_a_cluster_without_aliases_asks_nothing(place, monkeypatch):
    """Nothing is read or written for aliases where none is named."""
    with passes(monkeypatch) as ended:
        async with running(place.server, place.name):
            await place.launch()
            await quiet(ended)
    asked = await place.asked()

    assert ("get", "services") not in asked
    assert asked.count(("list", "services")) == 1
    assert asked.count(("list", "chronikclusters")) == 1
