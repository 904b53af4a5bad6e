"""Blue-green of search nodes with the real controllers: clients meet old nodes or new ones, never none or both."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from support.canaries import Clock
from support.kubelet import image_of, is_ready, say, with_rights
from support.operators import DEPLOYMENT, SERVICE, Namespace, eventually, small, watched, with_condition

from chronik.manifest import CLUSTER, POD, ROLLOUT_ANNOTATION, ROLLOUT_NOW_ANNOTATION, Kind
from chronik.operator import app
from chronik.plan.drift import applied_fields

pytestmark = pytest.mark.real  # what the controllers of Deployments and EndpointSlices do is for them to say

SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", stage=-1)
NODES = 3


@pytest.fixture
def place(real_cluster) -> Namespace:
    """Return a fresh namespace of a cluster that has controllers, but no nodes."""
    return Namespace(real_cluster, real_cluster.new_namespace())


class Searchers:
    """Has pods ready, with addresses, as a kubelet; `versions` is what each pod that ever was runs."""

    def __init__(self, place):
        self.place = place
        self.bad = ":none"
        self.versions = {}

    async def look(self):
        """Look once; return the names of ready search nodes by version."""
        found = {}
        for pod in await self.place.list(POD):
            name, version = pod["metadata"]["name"], image_of(pod).rpartition(":")[2]
            self.versions[name] = version
            if "deletionTimestamp" in pod["metadata"]:
                continue
            if not is_ready(pod) and not image_of(pod).endswith(self.bad):
                number = len(self.versions)
                address = {"podIP": f"10.9.0.{number}", "podIPs": [{"ip": f"10.9.0.{number}"}]}
                path = self.place.path(POD, name, "status")
                await self.place.call("PATCH", path, {"status": address}, patch="merge")
                await say(self.place, name, "True")
            if is_ready(pod) and name.startswith("c-search"):
                found.setdefault(version, set()).add(name)
        return found

    async def until(self, phase, seconds=60, **counts):
        """Play until a rollout is in a phase, and so many search nodes of each version are ready."""
        last = {}

        async def there():
            found = await self.look()
            rollout = ((await self.place.cluster("c")).get("status") or {}).get("rollout") or {}
            now = {f"v{version[0]}": len(names) for version, names in found.items()}
            last.update(rollout=rollout, found=now)
            return rollout if rollout.get("phase") == phase and counts in ({}, now) else None

        try:
            return await eventually(there, seconds)
        except AssertionError as error:
            raise AssertionError(f"{phase} {counts}: {last}") from error


async def launched(place, strategy="RollingUpdate", windows=(), **settings):
    """Create a cluster of three search nodes that are blue-green, and have it run."""
    await place.secret("first")
    rollout = {"strategy": strategy, "search": "BlueGreen", "blueGreen": {"scaleDownDelay": "3s", **settings}}
    rollout |= {"windows": [*windows]} if windows else {}
    await place.create(small(place.name, searchNodes=NODES, rollout=rollout))
    searchers = Searchers(place)

    async def runs():
        await searchers.look()
        return ((await place.cluster("c")).get("status") or {}).get("phase") == "Running"

    await eventually(runs)
    return searchers


async def command(place, text):
    """Ask for something, as `kubectl annotate` does."""
    await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: text}}})


def served(states, service, versions):
    """Return which versions stood behind a Service, state after state of its EndpointSlices, as sets."""
    slices, seen = {}, []
    for each in states:
        metadata = each["metadata"]
        if metadata["labels"].get("kubernetes.io/service-name") != service:
            continue
        ready = [one for one in each.get("endpoints") or () if one["conditions"]["ready"]]
        slices[metadata["name"]] = {versions[one["targetRef"]["name"]] for one in ready}
        now = frozenset().union(*slices.values())
        if not seen or seen[-1] != now:
            seen.append(now)
    return seen


async def is_free(place):
    """Return whether nothing is held or pinned any more, and the cluster runs."""
    objects = [await place.get(DEPLOYMENT, "c-search")]
    objects += [await place.get(SERVICE, name) for name in ("c-search", "c-search-preview")]
    held = any(applied_fields(each, "chronik-operator-rollout") is not None for each in objects)
    pinned = any("pod-template-hash" in each["spec"]["selector"] for each in objects[1:])
    return not held and not pinned and (await place.cluster("c"))["status"]["phase"] == "Running"


async def test_clients_are_switched_in_one_write(place):
    """New nodes come beside the old, are previewed, get all clients in one write, and only then the old ones go."""
    async with with_rights(place):
        searchers = await launched(place)
        async with watched(place, SLICE) as slices, watched(place, SERVICE) as services:
            await place.change("c", image={"search": "chronik/search:2.0"})
            rollout = await searchers.until("Paused", v1=NODES, v2=NODES)
            preview = (await place.get(SERVICE, "c-search-preview"))["spec"]["selector"]
            main = (await place.get(SERVICE, "c-search"))["spec"]["selector"]
            assert preview["pod-template-hash"] != main["pod-template-hash"]
            await command(place, f"promote@{rollout['candidate']}/1")
            rollout = await searchers.until("Promoting", v1=NODES, v2=NODES)
            await searchers.until("Complete", v2=NODES)
            await eventually(lambda: is_free(place))
            await asyncio.sleep(1)

    behind = served(slices, "c-search", searchers.versions)
    assert behind == [frozenset({"1.0"}), frozenset({"2.0"})] or behind == [frozenset({"2.0"})], behind
    assert all(behind), "never none"
    hashes = []
    for each in services:
        mark = each["spec"]["selector"].get("pod-template-hash")
        if each["metadata"]["name"] == "c-search" and (not hashes or hashes[-1] != mark):
            hashes.append(mark)
    hashes = hashes[hashes[0] is None :]
    assert hashes == [main["pod-template-hash"], preview["pod-template-hash"], None]


@pytest.mark.slow
async def test_back_before_and_after_the_switch(place):
    """A candidate that is taken back gives clients back to the old nodes first, whether or not they were switched."""
    async with with_rights(place):
        searchers = await launched(place, scaleDownDelay="10m", onFailure="Rollback")
        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout = await searchers.until("Paused", v1=NODES, v2=NODES)
        await command(place, f"abort@{rollout['candidate']}")
        await searchers.until("Aborted", v1=NODES)
        await place.change("c", image={"search": "chronik/search:3.0"})
        rollout = await searchers.until("Paused", v1=NODES, v3=NODES)
        stable = (await searchers.look())["1.0"]
        async with watched(place, SLICE) as slices:
            await command(place, f"promote@{rollout['candidate']}")

            async def switched():
                await searchers.look()
                status = (await place.cluster("c"))["status"]["rollout"]
                return status.get("switchedAt")

            await eventually(switched)
            await command(place, f"abort@{rollout['candidate']}")
            await searchers.until("Aborted", v1=NODES)
            await eventually(lambda: is_pinless(place))
            await asyncio.sleep(1)

    assert (await searchers.look())["1.0"] == stable
    behind = served(slices, "c-search", searchers.versions)
    assert behind[-2:] == [frozenset({"3.0"}), frozenset({"1.0"})]
    assert all(behind), "never none"


async def is_pinless(place):
    """Return whether the Service leads to all search nodes again."""
    return "pod-template-hash" not in (await place.get(SERVICE, "c-search"))["spec"]["selector"]


async def test_new_nodes_that_never_become_ready_get_no_client(place):
    """Clients stay with the old nodes while a new one is not ready, however long that is."""
    async with with_rights(place):
        searchers = await launched(place, autoPromoteAfter="1s")
        searchers.bad = ":bad"
        async with watched(place, SLICE) as slices:
            await place.change("c", image={"search": "chronik/search:bad"})
            rollout = await searchers.until("Progressing", v1=NODES)
            await asyncio.sleep(5)
            assert (await searchers.until("Progressing", v1=NODES))["step"] == 1
            await command(place, f"abort@{rollout['candidate']}")
            await searchers.until("Aborted", v1=NODES)
            await eventually(lambda: is_pinless(place))

    assert set(served(slices, "c-search", searchers.versions)) <= {frozenset({"1.0"})}
    assert served(await place.list(SLICE), "c-search", searchers.versions) == [frozenset({"1.0"})]


@pytest.mark.slow
async def test_the_switch_waits_for_a_window(place, monkeypatch):
    """New nodes, and the switch that a person asked for, wait for a window, which is told; clients stay."""
    window = {"schedule": "0 3 * * *", "duration": "2h", "timeZone": "Etc/UTC"}
    monkeypatch.setattr(app, "timestamp", Clock(datetime(2026, 11, 25, 12, tzinfo=UTC)))

    def opened(until):
        return place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_NOW_ANNOTATION: until}}})

    async def hashes():
        services = [await place.get(SERVICE, name) for name in ("c-search", "c-search-preview")]
        return [each["spec"]["selector"].get("pod-template-hash") for each in services]

    async with with_rights(place):
        searchers = await launched(place, windows=[window])
        await place.change("c", image={"search": "chronik/search:2.0"})
        await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        await searchers.until("Progressing", v1=NODES)
        await opened("2026-11-25T14:00:00Z")
        rollout = await searchers.until("Paused", v1=NODES, v2=NODES)
        old, new = await hashes()
        await opened(None)
        await command(place, f"promote@{rollout['candidate']}/1")
        found = await with_condition(place, "c", "RestartPending", "True", "OutsideWindow")
        assert found["status"]["pendingRestarts"]["workloads"] == ["c-search"]
        await searchers.until("Promoting", v1=NODES, v2=NODES)
        assert await hashes() == [old, new]
        await opened("2026-11-25T14:00:00Z")
        await searchers.until("Complete", v2=NODES)
        await eventually(lambda: is_free(place))
