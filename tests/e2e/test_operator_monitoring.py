"""Kinds that need not be installed, policies and a database's certificate in a running operator."""

from __future__ import annotations

from typing import Any

import pytest
from support import monitoring
from support.cli_place import Place
from support.operators import (
    STATEFUL_SET,
    Namespace,
    condition,
    controllers,
    eventually,
    in_phase,
    running,
    small,
    with_condition,
)

from chronik.manifest import KIND_BY_NAME, SECRET
from chronik.operator.cache import cache as cache_module

POD_MONITOR, POLICY = KIND_BY_NAME["PodMonitor"], KIND_BY_NAME["NetworkPolicy"]
WATCHED = {"podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}}}
CLIENTS = [{"namespaceSelector": {"matchLabels": {"team": "a"}}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]


@pytest.fixture
def place(server: Any, namespace: str) -> Namespace:
    """Return a fresh namespace on a server without the kinds of the Prometheus operator."""
    monitoring.uninstall(server)
    return Namespace(server, namespace)


async def has(place: Namespace, name: str) -> bool:
    """Tell whether a PodMonitor is there."""
    return await place.get(POD_MONITOR, name) is not None


async def test_monitors_are_made_when_their_kind_comes(place, monkeypatch):
    """Without the kind the cluster runs and a condition says what is missing; the kind comes, and they are made."""
    monkeypatch.setattr(cache_module, "MISSING_PAUSE", 0.5)
    async with running(place.server, place.name):
        await place.launch(monitoring=WATCHED)
        found = await with_condition(place, "c", "KindsInstalled", "False", "KindNotInstalled")
        assert condition(found, "Ready")["status"] == "True"
        message = condition(found, "KindsInstalled")["message"]
        assert "PodMonitor (monitoring.coreos.com/v1)" in message
        assert f"PodMonitor/{place.name}/c-ingest" in message

        with monitoring.installed(place.server):
            await eventually(lambda: has(place, "c-ingest"))
            await eventually(lambda: has(place, "c-controller"))
            await eventually(lambda: _told(place, told=False))
            live = await place.get(POD_MONITOR, "c-ingest")
            assert live["metadata"]["labels"]["release"] == "prometheus"

            await place.edit(POD_MONITOR, "c-ingest", {"spec": {"podTargetLabels": ["x"]}})
            await eventually(lambda: _repaired(place))
            await place.change("c", monitoring=None)
            await eventually(lambda: _gone(place))
            await place.change("c", monitoring=WATCHED)
            await eventually(lambda: has(place, "c-ingest"))
        await place.change("c", podAnnotations={"looked": "again"})
        await eventually(lambda: _told(place, told=True))


async def _told(place: Namespace, *, told: bool) -> bool:
    found = await place.cluster("c")
    types = {each["type"] for each in found["status"]["conditions"]}
    return ("KindsInstalled" in types) == told


async def _repaired(place: Namespace) -> bool:
    live = await place.get(POD_MONITOR, "c-ingest")
    return live is not None and live["spec"]["podTargetLabels"] == [
        "chronik.stream/cluster",
        "chronik.stream/component",
    ]


async def _gone(place: Namespace) -> bool:
    return not await has(place, "c-ingest") and not await has(place, "c-controller")


async def test_policies_come_and_go(place):
    """A server takes the policies as they are rendered; they go when they are switched off."""
    async with running(place.server, place.name):
        await place.launch(networkPolicy={"enabled": True, "from": CLIENTS})
        live = await place.get(POLICY, "c-ingest")
        assert [each.get("from") for each in live["spec"]["ingress"]][1] == CLIENTS
        await place.change("c", networkPolicy={"enabled": False})

        async def gone() -> bool:
            return await place.get(POLICY, "c-ingest") is None

        await eventually(gone)


DATABASE = {"connection": {"existingUrlSecret": "url", "sslMode": "verify-full", "sslRootCertSecret": "ca"}}


async def test_a_new_root_certificate_restarts_the_pods(place):
    """Pods read a root certificate when they start: a rotated one restarts all that use it, and an Event says why."""

    async def restarted() -> bool:
        found = [await place.get(STATEFUL_SET, name) for name in ("c-controller", "c-ingest")]
        annotations = [each["spec"]["template"]["metadata"].get("annotations") or {} for each in found]
        return all(any("secret" in key.lower() for key in each) for each in annotations)

    async with running(place.server, place.name), controllers(place):
        for name in ("ca", "url"):
            await place.secret("first", name)
        await place.create(small(place.name, metastore=DATABASE))
        await in_phase(place, "c", "Running")
        assert not await restarted()
        await place.secret("rotated", "ca")
        await eventually(restarted)
        await in_phase(place, "c", "Running")
        assert "PodsRestart" in await place.events()


async def test_secrets_of_the_database_are_missed(place):
    """A Secret of the root certificate or of the URL that is not there is told, as others are."""
    async with running(place.server, place.name):
        await place.launch(metastore=DATABASE)
        found = await with_condition(place, "c", "SecretsAvailable", "False", "SecretMissing")
        assert "needs Secret ca, url" in condition(found, "SecretsAvailable")["message"]
        for name in ("ca", "url"):
            await place.create({"apiVersion": "v1", "kind": SECRET.name, "metadata": {"name": name}})

        async def told() -> bool:
            now = await place.cluster("c")
            return "SecretsAvailable" not in {each["type"] for each in now["status"]["conditions"]}

        await eventually(told)


def test_apply_tells_of_a_kind_that_is_missing(server, namespace, tmp_path):
    """`apply` makes everything else, says what is missing and what to do, and succeeds; later it is made."""
    monitoring.uninstall(server)
    place = Place(server, namespace, tmp_path)
    spec = {"monitoring": WATCHED, "networkPolicy": {"enabled": True}}
    shown = place.diff(**spec)
    assert "! PodMonitor" in shown.out
    assert "3 not installed" in shown.out
    done = place.apply(**spec)
    assert done.code == 0, done.err
    assert "3 not installed" in done.out
    assert "note: PodMonitor" in done.err
    told = " ".join(done.err.split())
    assert "the cluster does not know the kind PodMonitor (monitoring.coreos.com/v1)" in told
    assert "Install the CustomResourceDefinition that defines it." in told
    assert place.diff(**spec).code == 0
    assert {ref.name for ref in place.live() if ref.kind == "NetworkPolicy"} == {"c-controller", "c-ingest", "c-search"}
    with monitoring.installed(server):
        assert "3 created" in place.apply(**spec).out
        assert place.apply(**spec).out.startswith(f"{namespace}/c: 0 created, 0 changed")
        assert "3 pruned" in place.apply("--prune", networkPolicy={"enabled": True}).out
