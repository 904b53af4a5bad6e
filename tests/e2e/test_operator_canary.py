"""Canaries with the real controller of StatefulSets: good ones, bad ones, and operators that are killed."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from support.canaries import ALL, NEW, STEPS, Kubelet, command, launched, uids
from support.kubelet import twice, with_rights, writes
from support.operator_process import OperatorProcess
from support.operators import STATEFUL_SET, Namespace, condition, eventually, running, small, with_condition

from chronik.plan.drift import applied_fields

pytestmark = pytest.mark.real  # what a StatefulSet's controller does is for it to say


@pytest.fixture
def place(real_cluster) -> Namespace:
    """Return a fresh namespace of a cluster that has controllers, but no nodes."""
    return Namespace(real_cluster, real_cluster.new_namespace())


async def is_free(place):
    """Return whether nothing is held any longer, and the cluster runs."""
    lives = [await place.get(STATEFUL_SET, f"c-{part}") for part in ("controller", "ingest")]
    free = all(applied_fields(live, "chronik-operator-rollout") is None for live in lives)
    return free and (await place.cluster("c"))["status"]["phase"] == "Running"


async def test_a_good_roll(place):
    """A canary takes one pod of each component, waits for a person, takes more, pauses, and takes the rest."""
    async with with_rights(place):
        kubelet = await launched(place)
        await place.change("c", image=NEW)
        rollout, new = await kubelet.until("Paused", 1)
        assert new == {"c-controller-2", "c-ingest-2"}
        cluster = await place.cluster("c")
        assert condition(cluster, "Ready")["reason"] == "RolloutPaused"
        assert condition(cluster, "ControllersReady")["status"] == "True"
        await command(place, "promote@00000000")
        await asyncio.sleep(1)
        assert (await kubelet.until("Paused", 1))[1] == new
        await command(place, f"promote@{rollout['candidate']}/1")
        _, new = await kubelet.until("Paused", 2)
        assert new == ALL - {"c-controller-0", "c-ingest-0"}
        _, new = await kubelet.until("Complete")
        assert new == ALL
        await eventually(lambda: is_free(place))
        events = await place.events()

    assert kubelet.down == {"controller": 1, "ingest": 1}
    assert {"RolloutStep", "RolloutPaused", "RolloutComplete"} <= events.keys()


async def test_a_bad_image_halts_and_goes_back(place):
    """A pod that never becomes ready halts the canary; taken back, all stable pods are the very ones they were."""
    async with with_rights(place):
        kubelet = await launched(place, progressDeadlineSeconds=60)
        before = await uids(place)
        kubelet.bad = ":bad"
        await place.change("c", image={**NEW, "controller": "chronik/controller:bad"})
        rollout, _ = await kubelet.until("Progressing", 1)

        async def replaced():
            new, _ = await kubelet.look()
            return new == {"c-controller-2"}

        await eventually(replaced)
        await command(place, f"abort@{rollout['candidate']}")
        rollout, new = await kubelet.until("Aborted")
        assert new == set()
        found = await with_condition(place, "c", "Stalled", "True", "RolloutAborted")
        assert found["status"]["phase"] == "Failed"
        assert condition(found, "RolloutHalted")["status"] == "True"
        after = await uids(place)
        assert {name for name in ALL if after[name] != before[name]} == {"c-controller-2"}
        await place.change("c", image={"controller": "chronik/controller:3.0"})
        rollout, new = await kubelet.until("Paused", 1)
        assert new == {"c-controller-2", "c-ingest-2"}
        await command(place, f"promote@{rollout['candidate']}")
        await kubelet.until("Complete")
        await eventually(lambda: is_free(place))
        events = await place.events()

    assert "RolloutAborted" in events
    assert kubelet.down == {"controller": 1, "ingest": 1}


@pytest.mark.slow
async def test_a_new_candidate_begins_anew(place):
    """A spec that comes in the middle of a canary is a candidate of its own, from step 1, and back is back."""
    async with with_rights(place):
        kubelet = await launched(place)
        before = await uids(place)
        await place.change("c", image=NEW)
        first, _ = await kubelet.until("Paused", 1)
        await command(place, f"promote@{first['candidate']}/1")
        await kubelet.until("Paused", 2)
        await place.change("c", image={"ingest": "chronik/ingest:3.0"})
        second, new = await kubelet.until("Paused", 1)
        assert second["candidate"] != first["candidate"]
        assert {name for name in new if "ingest" in name} == {"c-ingest-2"}, "those of the first one are gone again"
        assert "c-controller-0" not in new, "what the controllers run has not changed"
        await place.change("c", image={"ingest": "chronik/ingest:1.0", "controller": "chronik/controller:1.0"})
        third, new = await kubelet.until("Complete")
        assert new == set()
        await eventually(lambda: is_free(place))

    assert third["candidate"] == first["stable"]
    assert kubelet.down == {"controller": 1, "ingest": 1}
    after = await uids(place)
    assert all(after[name] == before[name] for name in ("c-controller-0", "c-ingest-0"))


async def test_without_the_feature(place):
    """An operator without the rights moves no pod for a canary, and says what is missing."""
    async with running(place.server, place.name):
        await place.secret("first")
        rollout = {"strategy": "Canary", "canary": {"steps": STEPS}}
        await place.create(small(place.name, controllers=3, ingestNodes=3, rollout=rollout))
        kubelet = Kubelet(place)

        async def runs():
            _, ready = await kubelet.look()
            return ready and (await place.cluster("c"))["status"]["phase"] == "Running"

        await eventually(runs)
        before = await uids(place)
        await place.change("c", image=NEW)
        found = await with_condition(place, "c", "Reconciling", "True", "FeatureMissing")
        await asyncio.sleep(1)

    assert "--features rollouts" in condition(found, "Reconciling")["message"]
    assert await uids(place) == before


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
async def test_killed_at_every_write(place, tmp_path, every):
    """An operator that is killed after each of its writes does each step of a canary, and an abort, exactly once.

    Killed after every fourth, it does no abort.
    """
    arguments = (
        place.server.kubeconfig,
        tmp_path / "log",
        "-n",
        place.name,
        "--no-leader-elect",
        "--features",
        "rollouts",
    )
    process = OperatorProcess(*arguments)
    kills = 0
    steps = []
    try:
        kubelet = await launched(place)
        seen = len(writes(place, "c-"))
        begun = seen

        async def until(phase, step=None):
            nonlocal process, kills, seen
            deadline = time.monotonic() + 150
            while True:
                assert time.monotonic() < deadline, process.text[-2000:]
                await kubelet.look()
                rollout = (await place.cluster("c"))["status"].get("rollout") or {}
                now = rollout.get("candidate"), rollout.get("step"), rollout.get("phase")
                if not steps or steps[-1] != now:
                    steps.append(now)
                if rollout.get("phase") == phase and step in {None, rollout.get("step")}:
                    return rollout
                count = len(writes(place, "c-"))
                if count >= seen + every and process.runs:
                    seen = count
                    process.kill()
                    kills += 1
                if not process.runs:
                    process = OperatorProcess(*arguments)
                await asyncio.sleep(0.02)

        await place.change("c", image=NEW)
        rollout = await until("Paused", 1)
        await command(place, f"promote@{rollout['candidate']}")
        await until("Complete")
        if every == 1:
            await place.change("c", image={"ingest": "chronik/ingest:3.0"})
            rollout = await until("Paused", 1)
            await command(place, f"abort@{rollout['candidate']}")
            await until("Aborted")
        done = writes(place, "c-")[begun:]
    finally:
        process.kill()

    assert kills >= (12 if every == 1 else 2)
    assert kubelet.down == {"controller": 1, "ingest": 1}
    staged = [each for each in twice(done) if each[3] != "chronik-operator"]
    assert staged == [], "only an apply that was under way when the operator died may come again, and changes nothing"
    numbers = [step for _, step, phase in steps if phase != "Complete" and step]
    assert all(after in {before, before + 1, 1} for before, after in pairwise(numbers)), steps
