"""The work queue: one entry for each cluster, never two at a time, first come first served, pauses after failures."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import FakeClock

from chronik.manifest import ClusterKey
from chronik.operator.queue import RETRY_SECONDS, WorkQueue

A, B, C = (ClusterKey("n", name) for name in "abc")
HOUR = 3600.0


@pytest.fixture
def time_stands():
    """Return a clock that moves only when the test says so."""
    return FakeClock(frozen=True)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def waiting(queue):
    """Return how many clusters wait for their time."""
    return len(queue._due)


async def taken(queue, count):
    return [await asyncio.wait_for(queue.get(), 1) for _ in range(count)]


async def test_first_come_first_served(time_stands):
    """Clusters come in the order in which they were added, each once."""
    queue = WorkQueue(time_stands.clock)
    for key in (B, A, B, C, A):
        queue.add(key)

    assert queue.depth == 3
    assert await taken(queue, 3) == [B, A, C]
    assert queue.depth == 0


async def test_never_two_at_a_time(time_stands):
    """A cluster that is added while it is worked on is worked on again, but only afterwards, and once."""
    queue = WorkQueue(time_stands.clock)
    queue.add(A)
    await queue.get()
    queue.add(A)
    queue.add(A)
    queue.add(B)

    assert await taken(queue, 1) == [B]
    assert queue.depth == 0
    queue.done(A)
    assert await taken(queue, 1) == [A]
    queue.done(A)
    assert queue.depth == 0


async def test_done_without_more_work(time_stands):
    """A cluster that nobody has added since does not come again."""
    queue = WorkQueue(time_stands.clock)
    queue.add(A)
    queue.done(await queue.get())

    assert queue.depth == 0


async def test_one_busy_cluster_does_not_starve_the_others(time_stands):
    """A cluster that is always added again queues up behind those that were there before."""
    queue = WorkQueue(time_stands.clock)
    for key in (A, B, C):
        queue.add(key)
    order = []
    for _ in range(9):
        key = await queue.get()
        order.append(key)
        queue.add(key)
        queue.done(key)

    assert order == [A, B, C] * 3


async def test_get_waits_for_add(time_stands):
    """Workers that wait get what is added, one each."""
    queue = WorkQueue(time_stands.clock)
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.add(A)
    queue.add(B)
    await settle()

    assert sorted(worker.result() for worker in workers if worker.done()) == [A, B]
    [idle] = [worker for worker in workers if not worker.done()]
    queue.add(C)
    assert await asyncio.wait_for(idle, 1) == C


async def test_a_cancelled_worker_takes_nothing_with_it(time_stands):
    """What was added for a worker that is cancelled at that moment goes to the next one."""
    queue = WorkQueue(time_stands.clock)
    worker = asyncio.create_task(queue.get())
    await settle()
    queue.add(A)
    worker.cancel()
    await settle()

    assert worker.cancelled()
    assert await taken(queue, 1) == [A]


async def test_add_after_waits(time_stands):
    """What is added for later comes then, in the order of its time."""
    queue = WorkQueue(time_stands.clock)
    queue.add_after(A, 20)
    queue.add_after(B, 10)
    await settle()
    await time_stands.advance(9.9)
    await settle()
    assert (queue.depth, waiting(queue)) == (0, 2)
    await time_stands.advance(10.1)
    await settle()

    assert (queue.depth, waiting(queue)) == (2, 0)
    assert await taken(queue, 2) == [B, A]


async def test_the_earlier_of_two_waits_holds(time_stands):
    """A second wait for the same cluster counts only if it ends earlier."""
    queue = WorkQueue(time_stands.clock)
    queue.add_after(A, 20)
    queue.add_after(A, 30)
    queue.add_after(A, 10)
    await settle()
    await time_stands.advance(10)
    await settle()

    assert (queue.depth, waiting(queue)) == (1, 0)
    queue.done(await queue.get())
    await time_stands.advance(60)
    await settle()
    assert queue.depth == 0


async def test_add_cuts_a_wait_short(time_stands):
    """A change ends the pause after a failure at once, and the pause does not ring later."""
    queue = WorkQueue(time_stands.clock)
    queue.add(A)
    await queue.get()
    queue.retry(A, "permanent")
    queue.done(A)
    assert (queue.depth, waiting(queue)) == (0, 1)
    queue.add(A)

    assert (queue.depth, waiting(queue)) == (1, 0)
    queue.done(await queue.get())
    await time_stands.advance(HOUR)
    await settle()
    assert queue.depth == 0


async def test_a_change_during_a_failing_pass_comes_before_the_pause(time_stands):
    """What changed while a pass failed may be what it failed for, so the next pass does not wait."""
    queue = WorkQueue(time_stands.clock)
    queue.add(A)
    await queue.get()
    queue.add(A)
    queue.retry(A, "permanent")
    queue.done(A)

    assert (queue.depth, waiting(queue)) == (1, 0)


async def test_a_failure_replaces_an_earlier_wait(time_stands):
    """After a permanent error, a resync that was planned before it does not come sooner."""
    queue = WorkQueue(time_stands.clock)
    queue.add(A)
    await queue.get()
    queue.add_after(A, 60)
    queue.retry(A, "permanent")
    queue.done(A)
    await settle()
    await time_stands.advance(299)
    await settle()

    assert (queue.depth, waiting(queue)) == (0, 1)


@pytest.mark.parametrize(
    ("retry_class", "shortest", "longest"),
    [("transient", 30, 60), ("permanent", 300, 600), ("unknown", 110, 130)],
)
async def test_pauses_grow_within_their_bounds(retry_class, shortest, longest):
    """Each class of failure has its bounds (S13 to S15); pauses grow inside them, and no two clusters keep step."""
    queue = WorkQueue(FakeClock(frozen=True, seed=7).clock)
    pauses = [[queue.retry(key, retry_class) for _ in range(12)] for key in (A, B)]

    assert RETRY_SECONDS[retry_class] == (shortest, longest)
    for series in pauses:
        assert all(shortest <= pause <= longest for pause in series)
        assert series[0] < series[2] < series[6]
    assert pauses[0] != pauses[1]


async def test_forget_starts_over(time_stands):
    """After a success, and after a failure of another class, pauses start short again."""
    queue = WorkQueue(time_stands.clock)
    for _ in range(8):
        late = queue.retry(A, "transient")
    queue.forget(A)
    after_success = queue.retry(A, "transient")
    for _ in range(8):
        queue.retry(A, "transient")
    queue.retry(A, "permanent")
    after_another = queue.retry(A, "transient")

    assert max(after_success, after_another) < 38
    assert late > 50


async def test_oldest_wait(time_stands):
    """The wait that metrics show is that of the cluster at the head of the queue."""
    queue = WorkQueue(time_stands.clock)
    assert queue.oldest_wait == 0
    queue.add(A)
    await time_stands.advance(4)
    queue.add(B)
    await time_stands.advance(3)

    assert queue.oldest_wait == 7
    await queue.get()
    assert queue.oldest_wait == 3


async def test_waits_begin_with_the_workers(time_stands):
    """What was queued while nobody worked, as in a standby, counts from when somebody begins, in the same order."""
    queue = WorkQueue(time_stands.clock)
    queue.begin()
    queue.add(B)
    await time_stands.advance(100)
    queue.add(A)
    queue.begin()
    await time_stands.advance(2)

    assert (queue.oldest_wait, queue.depth) == (2, 2)
    assert await taken(queue, 2) == [B, A]


async def test_a_day_of_failures_takes_no_time():
    """Over 24 simulated hours, clusters that always fail are tried as often as their class says, and no more."""
    fake = FakeClock(seed=3)
    queue = WorkQueue(fake.clock)
    tried: dict[ClusterKey, list[float]] = {A: [], B: [], C: []}
    classes = {A: "transient", B: "permanent", C: "unknown"}
    for key in classes:
        queue.add(key)
    while fake.time < 24 * HOUR:
        key = await queue.get()
        tried[key].append(fake.time)
        queue.retry(key, classes[key])
        queue.done(key)

    for key, times in tried.items():
        shortest, longest = RETRY_SECONDS[classes[key]]
        assert all(shortest - 0.001 <= later - earlier <= longest + 0.001 for earlier, later in pairwise(times))
    assert 24 * HOUR / 60 <= len(tried[A]) <= 24 * HOUR / 50
    assert 24 * 6 <= len(tried[B]) <= 24 * 7
    assert 24 * 27 <= len(tried[C]) <= 24 * 33


async def test_ten_thousand_clusters(time_stands):
    """A large fleet that waits, wakes and waits again costs one timer, no piled-up waits and little time."""
    queue = WorkQueue(time_stands.clock)
    keys = [ClusterKey("n", f"c{number}") for number in range(10_000)]
    shuffled = random.Random(1).sample(keys, len(keys))
    began = time.process_time()
    for _ in range(5):
        for number, key in enumerate(shuffled):
            queue.add_after(key, 60 + number / 1000)
        for key in keys:
            queue.add(key)
        for _ in keys:
            queue.done(await queue.get())
    for key in shuffled:
        queue.add_after(key, 60)
    await settle()

    assert len(queue._heap) <= 2 * len(keys) + 65
    assert len([task for task in asyncio.all_tasks() if "timer" in task.get_name()]) == 1
    await time_stands.advance(60)
    await settle()
    assert queue.depth == 10_000
    assert time.process_time() - began < 5


@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done", "later", "retry", "tick"]), st.integers(0, 2))))
def test_any_sequence_keeps_the_promises(steps):
    """Whatever happens in whatever order: nothing runs twice at a time, and nothing that was added is lost."""

    async def play():
        time_stands = FakeClock(frozen=True)
        queue = WorkQueue(time_stands.clock)
        working, owed = [], set()
        for verb, number in steps:
            key = (A, B, C)[number]
            if verb == "add":
                queue.add(key)
                owed.add(key)
            elif verb == "get" and queue.depth:
                key = await queue.get()
                assert key not in working
                working.append(key)
                owed.discard(key)
            elif verb == "done" and working:
                queue.done(working.pop(0))
            elif verb == "later":
                queue.add_after(key, 1)
                owed.add(key)
            elif verb == "retry" and working:
                queue.retry(working[0], "transient")
                owed.add(working[0])
            elif verb == "tick":
                await settle()
                await time_stands.advance(1)
                await settle()
        for key in working:
            queue.done(key)
        await settle()
        await time_stands.advance(HOUR)
        await settle()
        assert owed <= {await queue.get() for _ in range(queue.depth)}

    asyncio.run(play())
