"""`spec.patches` in a running operator: they reach the objects, go with the patch, and are told if they do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from support.operators import STATEFUL_SET, Namespace, condition, eventually, passes, quiet, running, small

INGEST = {"kind": "StatefulSet", "component": "ingest"}
SIDECAR = {
    "spec": {
        "minReadySeconds": 7,
        "template": {"spec": {"containers": [{"name": "shipper", "image": "fluent/fluent-bit:3.1"}]}},
    }
}


@pytest.fixture
def place(server: Any, namespace: str) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


async def ingest(place: Namespace) -> dict[str, Any]:
    """Return what the tests look at of the ingest nodes' StatefulSet."""
    live = await place.get(STATEFUL_SET, "c-ingest")
    if live is None:
        return {}
    spec = live["spec"]
    names = [each["name"] for each in spec["template"]["spec"]["containers"]]
    return {"seconds": spec.get("minReadySeconds", 0), "containers": names}


async def test_patches_come_and_go(place, monkeypatch):
    """A patch is carried out, drift of what it set is repaired, and what it set goes with it; then all is quiet."""
    patched = {"seconds": 7, "containers": ["shipper", "ingest"]}
    async with running(place.server, place.name):
        with passes(monkeypatch) as ended:
            await place.launch(patches=[{"target": INGEST, "patch": SIDECAR}])
            assert await ingest(place) == patched
            await place.edit(STATEFUL_SET, "c-ingest", {"spec": {"minReadySeconds": 1}})
            await eventually(lambda: _is(place, patched))
            await place.roll_out_all()
            await place.change("c", patches=[])
            await eventually(lambda: _is(place, {"seconds": 0, "containers": ["ingest"]}))
            await quiet(ended)


async def test_patch_that_does_not_fit(place):
    """A patch that means nothing stops the cluster with its reason, and a mended one starts it again."""
    broken = {"target": {"kind": "StatefulSet", "name": "nope"}, "patch": {"spec": {"minReadySeconds": 1}}}
    async with running(place.server, place.name):
        await place.create(small(place.name, patches=[broken]))
        await eventually(lambda: _stalled(place, "PatchError"))
        told = condition(await place.cluster("c"), "Stalled")["message"]
        assert told == (
            f"spec.patches[0].target of {place.name}/c: no object matches kind StatefulSet name nope. "
            "Of kind StatefulSet there are c-controller, c-ingest."
        )
        await place.change("c", patches=[{"target": INGEST, "patch": SIDECAR}])
        await eventually(lambda: _is(place, {"seconds": 7, "containers": ["shipper", "ingest"]}))


async def _is(place: Namespace, wanted: dict[str, Any]) -> bool:
    return await ingest(place) == wanted


async def _stalled(place: Namespace, reason: str) -> bool:
    return condition(await place.cluster("c"), "Stalled").get("reason") == reason
