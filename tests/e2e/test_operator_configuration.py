from __future__ import annotations

import pytest
from support.operators import Namespace, controllers, eventually, in_phase, running, small


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a namespace to keep a cluster in."""
    return Namespace(server, namespace)


async def test_the_operator_keeps_it_until_the_roll_is_over(place):
    """While pods are replaced both configurations are there; once all are, the earlier one goes."""

    async def configurations():
        return {ref for ref in await place.objects() if ref.kind == "ConfigMap"}

    async with running(place.server, place.name), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        await in_phase(place, "c", "Running")
        before = await configurations()
        await place.change("c", metastore={"connection": {"host": "elsewhere"}})
        await in_phase(place, "c", "Updating")
        during = await configurations()
        await in_phase(place, "c", "Running")

        async def only_the_new_one():
            return await configurations() == during - before

        await eventually(only_the_new_one)

    assert len(before) == 1
    assert before < during
    assert len(during) == 2
