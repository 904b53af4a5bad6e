"""A switch with the real controllers: whoever looks the alias up finds nodes of one cluster at any moment."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.kubelet import is_ready, say
from support.operators import CLUSTER, SERVICE, Namespace, eventually, running, small, watched

from chronik.manifest import POD, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.slow]  # what becomes of EndpointSlices is for their controller to say

SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", stage=-1)
NAME = "orders-kafka"
NODES = 2
SWITCHES = 12


@pytest.fixture
def place(real_cluster) -> Iterator[Namespace]:
    """Return a fresh namespace, and have a node: pods without one stand behind headless Services alone."""
    place = Namespace(real_cluster, real_cluster.new_namespace())
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": place.name}}
    assert real_cluster.call("POST", "/api/v1/nodes", node).code == 201
    yield place
    real_cluster.call("DELETE", f"/api/v1/nodes/{place.name}")


async def launched(place, *names):
    """Have clusters of two ingest nodes run that name the alias, each pod with an address of its own."""
    await place.secret("first")
    for name in names:
        await place.create(small(place.name, name, ingestNodes=NODES, network={"aliases": [NAME]}))
    known = []

    async def run():
        for pod in await place.list(POD):
            name = pod["metadata"]["name"]
            if not is_ready(pod):
                known.append(name)
                target = {"target": {"kind": "Node", "name": place.name}, "metadata": {"name": name}}
                await place.call("POST", place.path(POD, name, "binding"), target)
                ip = f"10.9.0.{len(known)}"
                address = {"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}
                await place.call("PATCH", place.path(POD, name, "status"), address, patch="merge")
                await say(place, name, "True")
        found = [(await place.cluster(name)).get("status") or {} for name in names]
        return all(each.get("phase") == "Running" for each in found)

    await eventually(run, 120)


async def switch(place, to, killed_after=None):
    """Run the command in a process of its own, and kill that after some seconds; return its exit code."""
    config = str(place.server.kubeconfig)
    command = [sys.executable, "-m", "chronik", "switch", NAME, "--to", to, "-n", place.name, "--kubeconfig", config]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = await asyncio.to_thread(subprocess.Popen, [*command, "--accept-loss", "--yes"], **pipes)
    if killed_after is not None:
        await asyncio.sleep(killed_after)
        process.kill()
    _, said = await asyncio.to_thread(process.communicate)
    assert process.returncode in ({0, -9} if killed_after is not None else {0}), said
    return process.returncode


async def active(place):
    """Return where the alias leads."""
    found = (await place.get(SERVICE, NAME))["spec"]["selector"]
    assert found["app.kubernetes.io/component"] == "ingest"
    return found["app.kubernetes.io/instance"]


async def behind(place, cluster):
    """Wait until the nodes of a cluster, all of them, are what stands behind the alias."""

    async def there():
        found = (await place.call("GET", place.path(SLICE)))["items"]
        mine = [each for each in found if each["metadata"]["labels"].get("kubernetes.io/service-name") == NAME]
        return sorted(ready(mine)) == [f"{cluster}-ingest-{number}" for number in range(NODES)]

    await eventually(there, 60)


def ready(slices):
    """Return the pods of EndpointSlices that get connections."""
    return [
        one["targetRef"]["name"]
        for each in slices
        for one in each.get("endpoints") or ()
        if one["conditions"].get("ready", True)
    ]


def served(states):
    """Return which pods stood behind the alias, state after state of its EndpointSlices."""
    slices, seen = {}, []
    for each in states:
        metadata = each["metadata"]
        if metadata["labels"].get("kubernetes.io/service-name") == NAME:
            slices[metadata["name"]] = each
            seen.append(sorted(ready(slices.values())))
    return seen


async def test_clients_find_nodes_of_one_cluster_at_any_moment(place):
    """While an alias is switched, its EndpointSlices are never empty, and never of both clusters."""
    async with running(place.server, place.name):
        await launched(place, "blue", "green")
        first = await active(place)
        await behind(place, first)
        other = "green" if first == "blue" else "blue"
        async with watched(place, SLICE) as states:
            for to in (other, first):
                await switch(place, to)
                await behind(place, to)
            told = await place.cluster("green")

    assert told["status"]["aliases"][0]["name"] == NAME
    seen = served(states)
    assert [f"{other}-ingest-{number}" for number in range(NODES)] in seen
    assert [f"{first}-ingest-{number}" for number in range(NODES)] in seen
    assert all(seen), "never none"
    assert [each for each in seen if len({name.partition("-")[0] for name in each}) > 1] == []


@pytest.mark.slow
async def test_a_switch_that_is_killed_is_done_or_not(place):
    """Killed at any moment, the alias leads to one cluster or the other; the same command again brings it there."""
    dice = random.Random(14)
    async with running(place.server, place.name):
        await launched(place, "blue", "green")
        await behind(place, await active(place))
        killed = 0
        async with watched(place, SLICE) as states, watched(place, SERVICE) as services:
            for number in range(SWITCHES):
                to = ("green", "blue")[number % 2]
                code = await switch(place, to, killed_after=dice.uniform(0.2, 1.6))
                killed += code == -9
                assert await active(place) in {"blue", "green"}
                await switch(place, to)
                await behind(place, to)

        async def follow():
            found = [(await place.cluster(name))["status"]["aliases"] for name in ("blue", "green")]
            return found == [[{"name": NAME, "active": "blue"}]] * 2

        await eventually(follow)
    seen = served(states)
    assert killed >= 1
    assert all(seen), "never none"
    assert [each for each in seen if len({name.partition("-")[0] for name in each}) > 1] == []
    selected = [each["spec"]["selector"] for each in services if each["metadata"]["name"] == NAME]
    assert {tuple(sorted(each)) for each in selected} == {("app.kubernetes.io/component", "app.kubernetes.io/instance")}
    assert await place.get(CLUSTER, "blue") is not None
