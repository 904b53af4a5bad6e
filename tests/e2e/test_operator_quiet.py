"""A day on which nothing happens, in a few seconds: a clock of its own moves on, the server's stands nearly still."""

from __future__ import annotations

import asyncio

from support.clock import FakeClock, pass_time
from support.operators import Namespace, in_phase, running, small

from chronik.kube import ConnectOptions

MINUTES = 24 * 60


async def test_quiet_day(server, namespace):
    """In 24 hours of looking at clusters that are as they should be, nothing is written and nothing is read."""
    place, time = Namespace(server, namespace), FakeClock(frozen=True)
    connect = ConnectOptions(kubeconfig=str(server.kubeconfig), clock=time.clock)
    async with running(server, namespace, connect=connect, resync=60) as operator:
        passing = asyncio.create_task(pass_time(time))
        await place.secret("first")
        for name in ("c", "d"):
            await place.create(small(namespace, name, searchNodes=1))
            await in_phase(place, name, "Creating")
        await place.roll_out_all()
        for name in ("c", "d"):
            await in_phase(place, name, "Running")
        await asyncio.sleep(1.5)
        passing.cancel()
        before, looks = await place.versions(), _looks(operator)
        asked = len(server.requests_of(namespace))

        for _ in range(MINUTES):
            await time.advance(60)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)

        assert _looks(operator) - looks > MINUTES
        assert len(server.requests_of(namespace)) == asked
        assert await place.versions() == before


def _looks(operator):
    """Return how many objects were found to need no write, and how many looks there were that found nothing new."""
    text = operator.metrics.expose()[0].decode()
    lines = (line for line in text.splitlines() if line.startswith("chronik_writes_avoided_total"))
    return float(next(lines).split()[1])
