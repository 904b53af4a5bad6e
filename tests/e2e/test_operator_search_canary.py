"""Canaries of search nodes with the real controller of Deployments: new pods stand beside the old until the end."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from support.cli_place import run
from support.kubelet import image_of, is_ready, say, with_rights
from support.operator_process import OperatorProcess
from support.operators import DEPLOYMENT, Namespace, condition, eventually, rendered, small

from chronik.manifest import CLUSTER, POD, REVISION, ROLLOUT_ANNOTATION
from chronik.plan.drift import applied_fields

pytestmark = pytest.mark.real  # what a Deployment's controller does is for it to say

STEPS = [{"pods": 1, "pause": {}}, {"pods": "50%", "pause": {}}]
NODES = 4


@pytest.fixture
def place(real_cluster) -> Namespace:
    """Return a fresh namespace of a cluster that has controllers, but no nodes."""
    return Namespace(real_cluster, real_cluster.new_namespace())


class Searchers:
    """Has pods ready, but for those of a bad image; `fewest` is how many search nodes of any version were ready."""

    def __init__(self, place, bad=":none"):
        self.place, self.bad = place, bad
        self.fewest = 100

    async def look(self):
        """Look once; return the uids of ready search nodes by version."""
        pods = [pod for pod in await self.place.list(POD) if "deletionTimestamp" not in pod["metadata"]]
        found = {}
        for pod in pods:
            name = pod["metadata"]["name"]
            if not is_ready(pod) and not image_of(pod).endswith(self.bad):
                await say(self.place, name, "True")
            if is_ready(pod) and name.startswith("c-search"):
                found.setdefault(image_of(pod).rpartition(":")[2], set()).add(pod["metadata"]["uid"])
        self.fewest = min(self.fewest, sum(map(len, found.values())))
        return found

    async def until(self, phase, step=None, seconds=60, **counts):
        """Play until a rollout is in a phase, at a step, and so many search nodes of each version are ready."""
        last = {}

        async def there():
            found = await self.look()
            rollout = ((await self.place.cluster("c")).get("status") or {}).get("rollout") or {}
            last.update(rollout=rollout, found={version: len(uids) for version, uids in found.items()})
            counted = not counts or {f"v{version[0]}": len(uids) for version, uids in found.items()} == counts
            return (
                (rollout, found)
                if counted
                and (rollout.get("phase"), step or rollout.get("step"))
                == (
                    phase,
                    rollout.get("step"),
                )
                else None
            )

        try:
            return await eventually(there, seconds)
        except AssertionError as error:
            raise AssertionError(f"{phase} {step} {counts}: {last}") from error


async def launched(place, nodes=NODES, **canary):
    """Create a cluster of so many search nodes with a canary, and have it run."""
    await place.secret("first")
    rollout = {"strategy": "Canary", "canary": {"steps": STEPS, **canary}}
    await place.create(small(place.name, searchNodes=nodes, rollout=rollout))
    searchers = Searchers(place)

    async def runs():
        await searchers.look()
        return ((await place.cluster("c")).get("status") or {}).get("phase") == "Running"

    await eventually(runs)
    found = await searchers.look()
    searchers.fewest = 100
    return searchers, found["1.0"]


async def command(place, text):
    """Ask for something, as `kubectl annotate` does."""
    await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: text}}})


async def held(place):
    """Return whether the search nodes are held."""
    live = await place.get(DEPLOYMENT, "c-search")
    return applied_fields(live, "chronik-operator-rollout") is not None


async def is_free(place):
    """Return whether nothing is held, all is as rendered, and the cluster runs."""
    live = await place.get(DEPLOYMENT, "c-search")
    rolling = live["spec"]["strategy"]["rollingUpdate"]
    free = not await held(place) and rolling == {"maxSurge": 1, "maxUnavailable": 0}
    return free and (await place.cluster("c"))["status"]["phase"] == "Running"


async def test_a_good_roll(place):
    """One new pod stands beside all old ones, then half, then all are new; never fewer serve than there should be."""
    async with with_rights(place):
        searchers, stable = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout, found = await searchers.until("Paused", 1, v1=4, v2=1)
        assert found["1.0"] == stable
        cluster = await place.cluster("c")
        assert condition(cluster, "SearchNodesReady")["message"] == "4/4 search nodes ready"
        await command(place, f"promote@{rollout['candidate']}/1")
        await searchers.until("Paused", 2, v1=4, v2=2)
        await command(place, f"promote@{rollout['candidate']}/2")
        await searchers.until("Complete", v2=4)
        await eventually(lambda: is_free(place))

    assert searchers.fewest >= NODES


async def test_a_bad_image_goes_back(place):
    """A candidate that never becomes ready is taken back, and all stable pods are the very ones they were."""
    async with with_rights(place):
        searchers, stable = await launched(place, progressDeadlineSeconds=60)
        searchers.bad = ":bad"
        await place.change("c", image={"search": "chronik/search:bad"})
        rollout, _ = await searchers.until("Progressing", 1)

        async def there():
            await searchers.look()
            return any(image_of(pod).endswith(":bad") for pod in await place.list(POD))

        await eventually(there)
        await command(place, f"abort@{rollout['candidate']}")
        _, found = await searchers.until("Aborted", v1=4)
        assert found["1.0"] == stable
        await place.change("c", image={"search": "chronik/search:3.0"})
        rollout, found = await searchers.until("Paused", 1, v1=4, v3=1)
        assert found["1.0"] == stable
        await command(place, f"promote@{rollout['candidate']}")
        await searchers.until("Complete", v3=4)
        await eventually(lambda: is_free(place))

    assert searchers.fewest >= NODES


@pytest.mark.slow
async def test_a_new_candidate_in_the_middle(place):
    """Pods of an earlier candidate go before those of the next come; and back to the spec of before is back."""
    async with with_rights(place):
        searchers, stable = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        await searchers.until("Paused", 1, v1=4, v2=1)
        await place.change("c", image={"search": "chronik/search:3.0"})
        _, found = await searchers.until("Paused", 1, v1=4, v3=1)
        assert found["1.0"] == stable
        await place.change("c", image={"search": "chronik/search:1.0"})
        _, found = await searchers.until("Complete", v1=4)
        assert found["1.0"] == stable
        await eventually(lambda: is_free(place))

    assert searchers.fewest >= NODES


@pytest.mark.slow
async def test_half_of_them_go_back(place):
    """A candidate that half of the nodes stand beside the old ones of is taken back without one old pod less."""
    async with with_rights(place):
        searchers, stable = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout, _ = await searchers.until("Paused", 1, v1=4, v2=1)
        await command(place, f"promote@{rollout['candidate']}/1")
        await searchers.until("Paused", 2, v1=4, v2=2)
        await command(place, f"abort@{rollout['candidate']}")
        _, found = await searchers.until("Aborted", v1=4)
        assert found["1.0"] == stable

    assert searchers.fewest >= NODES


@pytest.mark.slow
async def test_scaled_in_the_middle(place):
    """More nodes come mostly on the old revision while one is held; the next step's percentage is of the new count."""
    async with with_rights(place):
        searchers, _ = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout, _ = await searchers.until("Paused", 1, v1=4, v2=1)
        await place.change("c", searchNodes=8)
        await searchers.until("Paused", 1, v1=7, v2=2)
        await command(place, f"promote@{rollout['candidate']}/1")
        _, found = await searchers.until("Paused", 2)
        assert len(found["2.0"]) >= 4
        await command(place, f"promote@{rollout['candidate']}/2")
        await searchers.until("Complete", v2=8)
        await eventually(lambda: is_free(place))

    assert searchers.fewest >= NODES


@pytest.mark.slow
async def test_the_strategy_is_taken_away(place):
    """Without spec.rollout what is held is let go, and rolls by itself."""
    async with with_rights(place):
        searchers, _ = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        await searchers.until("Paused", 1, v1=4, v2=1)
        await place.change("c", rollout=None)

        async def rolled():
            return {version: len(uids) for version, uids in (await searchers.look()).items()} == {"2.0": 4}

        await eventually(rolled)
        await eventually(lambda: is_free(place))

    assert searchers.fewest >= NODES


@pytest.mark.slow
async def test_killed_at_every_write(place, tmp_path):
    """An operator that is killed after each of its writes skips no step, and takes no pod of the stable revision."""
    arguments = (place.server.kubeconfig, tmp_path / "log", "-n", place.name, "--no-leader-elect")
    arguments = (*arguments, "--features", "rollouts")
    process, kills, steps = OperatorProcess(*arguments), 0, []

    def count():
        found = place.server.requests_of(place.name)
        agents = (each for each in found if each.writes and each.user_agent.startswith("chronik"))
        return sum(each.resource in {"deployments", "chronikclusters"} for each in agents)

    try:
        searchers, stable = await launched(place)
        seen = count()

        async def until(phase, step=None):
            nonlocal process, kills, seen
            deadline = time.monotonic() + 120
            while True:
                assert time.monotonic() < deadline, process.text[-2000:]
                found = await searchers.look()
                rollout = (await place.cluster("c"))["status"].get("rollout") or {}
                now = rollout.get("phase"), rollout.get("step")
                if not steps or steps[-1] != now:
                    steps.append(now)
                if now == (phase, step or now[1]):
                    return rollout, found
                if count() > seen and process.runs:
                    seen = count()
                    process.kill()
                    kills += 1
                if not process.runs:
                    process = OperatorProcess(*arguments)
                await asyncio.sleep(0.02)

        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout, found = await until("Paused", 1)
        assert found["1.0"] == stable
        await command(place, f"abort@{rollout['candidate']}")
        await until("Aborted")
        assert stable <= (await searchers.look())["1.0"]
        await command(place, f"retry@{rollout['candidate']}/1")
        await until("Paused", 1)
        await command(place, f"promote@{rollout['candidate']}")
        await until("Complete")
    finally:
        process.kill()

    assert kills >= 12
    assert searchers.fewest >= NODES
    assert [step for phase, step in steps if phase == "Paused"] == [1, 1]


async def test_specs_are_kept_for_an_undo(place):
    """A spec is kept once all pods have run it, and once only; one that was taken back is not; an undo goes back."""
    async with with_rights(place):
        searchers, _ = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout, _ = await searchers.until("Paused", 1, v1=4, v2=1)
        await command(place, f"abort@{rollout['candidate']}")
        await searchers.until("Aborted", v1=4)
        kept = [each for each in await place.list(REVISION) if "-spec-" in each["metadata"]["name"]]
        done = await asyncio.to_thread(
            run, "rollout", "undo", "c", "--kubeconfig", str(place.server.kubeconfig), "-n", place.name
        )
        assert done.code == 0, done.err
        await searchers.until("Complete", v1=4)
        await eventually(lambda: is_free(place))

    assert [each["data"]["spec"]["image"]["search"] for each in kept] == ["chronik/search:1.0"]
    ours = [each for each in place.server.requests_of(place.name) if each.user_agent.startswith("chronik")]
    writes = [each for each in ours if each.writes and each.resource == "controllerrevisions"]
    assert len(writes) == 2, "when it ran first, and when it ran again"


def differing(desired, live, path=""):
    """Yield where live differs from desired in what desired says, as Argo CD and Flux compare."""
    if isinstance(desired, dict):
        for name, value in desired.items():
            yield from differing(value, live.get(name) if isinstance(live, dict) else None, f"{path}.{name}")
    elif isinstance(desired, list):
        there = live if isinstance(live, list) and len(live) == len(desired) else [None] * len(desired)
        for number, (one, other) in enumerate(zip(desired, there, strict=True)):
            yield from differing(one, other, f"{path}[{number}]")
    elif desired != live:
        yield path


RUN_TIME = ("pod-template-hash", "minReadySeconds", "paused", "partition", "progressDeadlineSeconds")


async def test_what_git_brings_does_not_differ(place):
    """In the middle of a canary the document is as Git has it, and what is rendered has no run-time values.

    Where a held workload differs from what is rendered, another manager owns the field, and the operator leaves it.
    """
    async with with_rights(place):
        searchers, _ = await launched(place)
        await place.change("c", image={"search": "chronik/search:2.0"})
        wanted = small(place.name, searchNodes=NODES, rollout={"strategy": "Canary", "canary": {"steps": STEPS}})
        wanted["spec"]["image"] = wanted["spec"]["image"] | {"search": "chronik/search:2.0"}
        await searchers.until("Paused", 1, v1=4, v2=1)
        document = await place.cluster("c")
        assert [*differing(wanted, document)] == []
        objects, found = await place.objects(), {}
        made = rendered(document)
        assert not any(word in json.dumps(list(made.values())) for word in RUN_TIME)
        for ref, manifest in made.items():
            paths = [*differing({key: manifest[key] for key in manifest if key != "metadata"}, objects[ref])]
            if paths:
                found[ref.kind] = paths
        live = objects[next(ref for ref in made if ref.kind == "Deployment")]
        before = live["metadata"]["resourceVersion"]
        await asyncio.sleep(2)
        after = (await place.get(DEPLOYMENT, "c-search"))["metadata"]["resourceVersion"]

    held = applied_fields(live, "chronik-operator-rollout")["f:spec"]
    assert set(held) == {f"f:{name}" for name in ("minReadySeconds", "paused", "progressDeadlineSeconds", "strategy")}
    assert held["f:strategy"] == {"f:rollingUpdate": {"f:maxSurge": {}}}
    assert set(found.get("Deployment", [])) <= {".spec.strategy.rollingUpdate.maxSurge"}
    assert after == before, "nobody fights over it"


@pytest.mark.slow
@pytest.mark.parametrize("on_failure", ["Halt", "Rollback"])
async def test_the_deadline(place, on_failure):
    """A node that is not ready in time halts the canary, or takes it back; once it is well, a retry goes through."""
    async with with_rights(place):
        searchers, stable = await launched(place, progressDeadlineSeconds=60, onFailure=on_failure)
        searchers.bad = ":2.0"
        await place.change("c", image={"search": "chronik/search:2.0"})
        rollout, found = await searchers.until("Halted" if on_failure == "Halt" else "Aborted", seconds=120)
        assert "no pod has come further for 60 s" in rollout["message"]
        assert found["1.0"] == stable
        searchers.bad = ":none"
        await command(place, f"retry@{rollout['candidate']}/1")
        await searchers.until("Paused", 1, v1=4, v2=1)
        await command(place, f"promote@{rollout['candidate']}")
        await searchers.until("Complete", v2=4)
        await eventually(lambda: is_free(place))

    assert searchers.fewest >= NODES
