"""The life of mirrors under the operator: they appear, are told of, roll, stand still, go; the cluster is Running."""

from __future__ import annotations

from typing import Any

import pytest
from support.operators import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    passes,
    quiet,
    running,
    with_condition,
)

from chronik.manifest import component_of

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

SECRETS = "chronik.stream/secrets"
CONFIG = "chronik.stream/config-hash"
EAST = {
    "name": "east",
    "bootstrapServers": ["east:9092"],
    "topics": {"include": ["orders.*"]},
    "tls": {},
    "sasl": {"mechanism": "SCRAM-SHA-512", "secret": "east-user"},
}
KINDS = ["ConfigMap", "Deployment", "PodDisruptionBudget", "ServiceAccount"]


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


def copying(**more: Any) -> dict[str, Any]:
    """Return the section of a cluster that copies from east."""
    return {"sources": [EAST | more]}


async def kinds(place: Namespace) -> list[str]:
    """Return the kinds of the mirror's objects that are there."""
    return sorted(ref.kind for ref in await place.objects() if "mirror" in ref.name)


async def template(place: Namespace, name: str = "c-mirror-east", kind=DEPLOYMENT) -> dict[str, Any]:
    """Return the pod template of a workload."""
    found = await place.get(kind, name)
    assert found is not None
    return dict(found["spec"]["template"])


async def pod(place: Namespace, *, mirror: bool, probe: bool) -> None:
    """Play a pod of the mirror: say which of its containers are ready. Both have started."""
    labels = (await template(place))["metadata"]["labels"]
    metadata = {"name": "c-mirror-east-1", "namespace": place.name, "labels": labels}
    spec = {"containers": [{"name": each, "image": "x"} for each in ("mirror", "probe")]}
    await place.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    containers = [
        {"name": name, "ready": ready, "started": True, "image": "x", "imageID": "x", "restartCount": 0}
        for name, ready in (("mirror", mirror), ("probe", probe))
    ]
    conditions = [{"type": "Ready", "status": str(mirror and probe)}]
    status = {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": containers}}
    await place.call("PATCH", place.path(POD, "c-mirror-east-1", "status"), status, patch="merge")


async def launched(place: Namespace) -> None:
    """Bring up a cluster that copies from east; of its mirror no pod is there."""
    await place.secret("first", "east-user")
    await place.launch(replication=copying())


@pytest.mark.both
async def test_a_cluster_runs_whatever_its_mirror_does(place):
    """A mirror is made with its cluster, and tells of itself in a condition and Events, but never in Ready."""
    async with running(place.server, place.name):
        await launched(place)
        made = await kinds(place)
        told = []
        for mirror, probe, reason in (
            (True, True, "Replicating"),
            (True, False, "Lagging"),
            (False, False, "SourceUnreachable"),
        ):
            await pod(place, mirror=mirror, probe=probe)
            found = await with_condition(place, "c", "Replicating", str(reason == "Replicating"), reason)
            told.append((found["status"]["phase"], condition(found, "Ready")["status"]))
            assert "OwnObjectsReady" not in {each["type"] for each in found["status"]["conditions"]}
        events = await eventually(lambda: _events(place, "SourceUnreachable"))

    assert made == KINDS
    assert told == [("Running", "True")] * 3
    assert events["Lagging"] == "Warning: east: the copy is further behind than maxLag"
    assert events["SourceUnreachable"] == "Warning: east: no broker of the source can be reached"


async def _events(place: Namespace, reason: str) -> dict[str, str]:
    events = await place.events()
    return events if reason in events else {}


async def test_a_changed_secret_rolls_the_mirror_alone(place, monkeypatch):
    """Another password of the source restarts the mirror, once, and no node of the cluster."""
    async with running(place.server, place.name):
        await launched(place)
        digests = (await place.cluster("c"))["status"]["secretDigests"]
        before = await template(place)
        with passes(monkeypatch) as ended:
            await place.secret("second", "east-user")
            await eventually(lambda: _differs(place, SECRETS, before))
            await quiet(ended)
        mirror = await place.get(DEPLOYMENT, "c-mirror-east")
        others = [await template(place, f"c-{each}", STATEFUL_SET) for each in ("controller", "ingest")]

    assert "mirror-east" in digests
    assert mirror is not None
    assert (mirror["metadata"]["generation"], CONFIG in before["metadata"]["annotations"]) == (2, True)
    assert not any(SECRETS in each["metadata"]["annotations"] for each in others)


async def _differs(place: Namespace, annotation: str, before: dict[str, Any]) -> bool:
    now = (await template(place))["metadata"]["annotations"]
    return bool(now.get(annotation) != before["metadata"]["annotations"].get(annotation))


async def test_a_changed_setting_rolls_the_mirror_alone(place, monkeypatch):
    """Another list of topics is in the mirror's file, restarts its pods, and no node of the cluster."""
    async with running(place.server, place.name):
        await launched(place)
        before = await template(place)
        nodes = [await template(place, f"c-{each}", STATEFUL_SET) for each in ("controller", "ingest")]
        with passes(monkeypatch) as ended:
            await place.change("c", replication=copying(topics={"include": ["prices"]}))
            await eventually(lambda: _differs(place, CONFIG, before))
            await in_phase(place, "c", "Running")
            await quiet(ended)
        configs = [each for each in await place.list(CONFIG_MAP) if component_of(each) == "mirror-east"]
        after = [await template(place, f"c-{each}", STATEFUL_SET) for each in ("controller", "ingest")]

    # No controller plays here, so the roll is not over, and pods may read the earlier one.
    topics = {line for each in configs for line in each["data"]["mm2.properties"].splitlines() if "c.topics" in line}
    assert topics == {"east->c.topics = orders.*", "east->c.topics = prices"}
    assert after == nodes


async def test_a_mirror_stands_still_and_goes(place):
    """A paused mirror has no pods and keeps its objects; without its source they are pruned, and the condition goes."""
    async with running(place.server, place.name):
        await launched(place)
        await place.change("c", replication=copying(paused=True))
        paused = await with_condition(place, "c", "Replicating", "False", "Paused")
        still = await place.get(DEPLOYMENT, "c-mirror-east")
        kept = await kinds(place)
        await place.change("c", replication=None)
        await eventually(lambda: _gone(place))
        plain = await eventually(lambda: _without_condition(place))

    assert still is not None
    assert still["spec"]["replicas"] == 0
    assert (kept, paused["status"]["phase"]) == (KINDS, "Running")
    assert plain["status"]["phase"] == "Running"


async def _gone(place: Namespace) -> bool:
    return await kinds(place) == []


async def _without_condition(place: Namespace) -> dict[str, Any]:
    cluster = await place.cluster("c")
    there = any(each["type"] == "Replicating" for each in cluster["status"]["conditions"])
    return {} if there else cluster


async def _seen(place: Namespace, generation: int) -> dict[str, Any]:
    cluster = await place.cluster("c")
    return cluster if cluster["status"].get("observedGeneration") == generation else {}


async def test_a_missing_secret_is_told_of(place):
    """A mirror whose Secret does not exist makes SecretsAvailable say so, and the cluster runs."""
    async with running(place.server, place.name):
        await place.launch(replication=copying())
        found = await with_condition(place, "c", "SecretsAvailable", "False", "SecretMissing")

        await place.change("c", replication=copying(tasks=1))
        changed = await eventually(lambda: _seen(place, found["metadata"]["generation"] + 1))

    assert (changed["status"]["phase"], condition(changed, "Ready")["status"]) == ("Running", "True")
    assert "c-mirror-east needs Secret east-user" in condition(found, "SecretsAvailable")["message"]
    assert condition(found, "Ready")["status"] == "True"
