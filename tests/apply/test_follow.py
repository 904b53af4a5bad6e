"""Following something until it is decided: by watches, and without them by a look every so often."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.kube_clients import config_map, options_for

from chronik.apply.follow import named, until
from chronik.errors import Forbidden, Unreachable
from chronik.kube import connect
from chronik.manifest import KIND_BY_NAME, ObjectRef

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
NEVER = 600.0


async def test_a_change_is_looked_at_when_it_comes(server, namespace):
    """What is waited for is found by a watch, long before the next look would be due."""
    ref = ObjectRef("ConfigMap", namespace, "a")
    looks = 0
    async with connect(options_for(server)) as kube, connect(options_for(server)) as other:

        async def look() -> str | None:
            nonlocal looks
            looks += 1
            found = await kube.get(CONFIG_MAP, namespace, "a")
            if looks == 2:  # the watch has begun
                await other.apply(config_map(namespace, "a", key="value"))
            return found and found["data"]["key"]

        began = time.monotonic()
        found = await until(kube, [named(CONFIG_MAP, ref)], look, NEVER, resync=NEVER)

    assert found == "value"
    assert looks >= 3
    assert time.monotonic() - began < NEVER / 2


class Deaf:
    """An API server that nobody may list or watch at, or that does not answer to that."""

    def __init__(self, error: type[Exception]) -> None:
        self.error, self.asked = error, 0

    async def list(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        self.asked += 1
        raise self.error("no")


A = named(CONFIG_MAP, ObjectRef("ConfigMap", "n", "a"))


@pytest.mark.parametrize("error", [Forbidden, Unreachable])
async def test_without_a_watch_it_is_looked_at_now_and_then(error):
    """Who may not watch, or hears nothing, looks every so often, and gets no error of that."""
    looks, deaf = 0, Deaf(error)

    async def look() -> str | None:
        nonlocal looks
        looks += 1
        return "found" if looks == 4 else None

    found = await until(deaf, [A], look, NEVER, resync=0.01)

    assert (found, looks) == ("found", 4)
    assert deaf.asked >= 1


async def test_time_is_over():
    """After its time nothing was found, by a last look; without any time there is one look, and nothing is listed."""
    looks, deaf = 0, Deaf(Forbidden)

    async def look() -> None:
        nonlocal looks
        looks += 1

    at_once = await until(deaf, [A], look, 0)
    first = (looks, deaf.asked)
    later = await until(deaf, [A], look, 0.05, resync=NEVER)

    assert (at_once, first) == (None, (1, 0))
    assert (later, looks) == (None, 3)


async def test_what_a_look_raises_ends_it(server, namespace):
    """An error of a look is raised, and nothing goes on watching."""
    calls = 0

    async def look() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Unreachable("gone")

    async with connect(options_for(server)) as kube:
        before = len(asyncio.all_tasks())
        with pytest.raises(Unreachable):
            await until(kube, [named(CONFIG_MAP, ObjectRef("ConfigMap", namespace, "a"))], look, NEVER)
        assert len(asyncio.all_tasks()) == before
