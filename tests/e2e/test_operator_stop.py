"""An operator that is told to stop in the middle of its work, and one that loses a right and gets it back."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support.chaos import Controllers, Fleet, operator_writes, orphans, path
from support.fault_proxy import FaultProxy, beside
from support.kube_clients import kubeconfig_for
from support.operator_process import OperatorProcess, until
from support.operators import (
    CLUSTER,
    STATEFUL_SET,
    Namespace,
    condition,
    eventually,
    in_phase,
    running,
)

from chronik.kube import ConnectOptions
from chronik.manifest import LEASE
from chronik.operator import queue
from chronik.operator.cache.cache import Selection
from chronik.operator.lease import LEASE_NAME

if TYPE_CHECKING:
    from support.api import ApiServer

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

GRACE = 30
"""Seconds that Kubernetes gives a pod to end in, as the operator's own Deployment has it."""
CLUSTERS = tuple(f"c{number}" for number in range(8))
USER = "alice"
RBAC = "rbac.authorization.k8s.io"


def made(server: ApiServer, namespace: str) -> Counter[str]:
    """Return how often operators have written each object of the clusters, their own documents and Events left out."""
    done = [each for each in operator_writes(server, namespace) if each.code < 300]
    return Counter(each.path for each in done if each.resource not in {"events", "leases", CLUSTER.plural})


def test_told_to_stop_in_the_midst_of_work(server, tmp_path):
    """SIGTERM in the midst of long passes ends them in time and frees the lease; the next operator goes on there."""
    namespace = server.new_namespace()
    fleet = Fleet(server, [namespace])
    for name in CLUSTERS:
        fleet.create(name)
    proxy = FaultProxy(server.url, ca=server.ca, rate=1.0, faults=["slow"])
    proxy.slow = 0.25  # so that the passes take seconds
    environ = {"OPERATOR_NAMESPACE": namespace}
    with Controllers.playing(server, namespace):
        with beside(proxy):
            through = kubeconfig_for(proxy.url, tmp_path, {"token": server.token})
            with OperatorProcess(through, tmp_path / "log", "-n", namespace, user="c", environ=environ) as operator:
                until(lambda: made(server, namespace), 90, lambda: operator.text)
                took = operator.terminate(GRACE)
                said = operator.text
        lease = server.call("GET", path(LEASE, namespace, LEASE_NAME)).body["spec"]
        half = made(server, namespace)
        with OperatorProcess(server.kubeconfig, tmp_path / "log", "-n", namespace, environ=environ) as following:
            until(lambda: fleet.all_running(namespace), 90, lambda: following.text)

    whole = made(server, namespace)
    assert took < GRACE / 2
    assert operator.process.returncode == 0
    assert "Traceback" not in said
    assert not lease.get("holderIdentity")
    assert 0 < len(half) < len(whole)
    assert {name: count for name, count in whole.items() if count > 1} == {}  # what was done was not done again
    assert orphans(server, namespace) == []


class Rights:
    """What a user of its own may do in some namespaces: everything, but for status, which is a role of its own."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def grant(self, namespace: str, name: str, rules: list[dict[str, list[str]]]) -> None:
        """Give the user some rights in a namespace."""
        reference = {"apiGroup": RBAC, "kind": "Role", "name": name}
        subject = {"apiGroup": RBAC, "kind": "User", "name": USER}
        for kind, body in (
            ("roles", {"rules": rules}),
            ("rolebindings", {"roleRef": reference, "subjects": [subject]}),
        ):
            answer = self.server.call("POST", self._path(namespace, kind), {"metadata": {"name": name}, **body})
            assert answer.code == 201, answer.body

    def revoke(self, namespace: str, name: str) -> None:
        """Take them back."""
        for kind in ("rolebindings", "roles"):
            assert self.server.call("DELETE", f"{self._path(namespace, kind)}/{name}").code == 200

    def known(self, namespace: str, *, status: bool) -> None:
        """Wait until the server goes by what was granted or revoked last."""
        where = path(CLUSTER, namespace, "nothing", "status")

        def told() -> bool:
            code = self.server.call("PATCH", where, {}, token=USER, patch="merge", fieldManager="suite").code
            return (code != 403) == status

        until(told)

    def _path(self, namespace: str, kind: str) -> str:
        return f"/apis/{RBAC}/v1/namespaces/{namespace}/{kind}"


REST = [
    {"apiGroups": ["", "apps", "policy", "autoscaling", RBAC, "storage.k8s.io"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["events.k8s.io", "networking.k8s.io", "monitoring.coreos.com"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["chronik.stream"], "resources": [CLUSTER.plural, f"{CLUSTER.plural}/finalizers"], "verbs": ["*"]},
]
STATUS = [{"apiGroups": ["chronik.stream"], "resources": [f"{CLUSTER.plural}/status"], "verbs": ["*"]}]


@pytest.mark.both
async def test_a_lost_right_is_told_and_found_again(server, monkeypatch, caplog):
    """Without the right to write status in one namespace, its objects are seen to, and others do not wait."""
    monkeypatch.setitem(queue.RETRY_SECONDS, "permanent", (0.5, 1.0))  # instead of minutes
    rights, names = Rights(server), [server.new_namespace() for _ in range(2)]
    for name in names:
        rights.grant(name, "rest", REST)
        rights.grant(name, "status", STATUS)
        await asyncio.to_thread(rights.known, name, status=True)
    here, there = (Namespace(server, name) for name in names)
    connect = ConnectOptions(kubeconfig=str(server.kubeconfig), context=USER)
    async with running(server, names[0], connect=connect, selection=Selection(namespaces=tuple(names))) as operator:
        for place in (here, there):
            await place.launch()
        rights.revoke(here.name, "status")
        await asyncio.to_thread(rights.known, here.name, status=False)
        told = errors_of(operator)
        for place in (here, there):
            await place.change("c", image={"controller": "chronik/controller:2.0"})
        await eventually(lambda: _has_image(here, "2.0"))  # what it may do it does
        await in_phase(there, "c", "Updating")
        await there.roll_out_all()
        await in_phase(there, "c", "Running")
        await eventually(lambda: _told(operator, told + 2))  # once more, that is: it tries again
        warnings = [each.getMessage() for each in caplog.records if "may not" in each.getMessage()]
        unknown = await here.cluster("c")
        await here.roll_out_all()
        told = errors_of(operator)
        await eventually(lambda: _told(operator, told + 3))  # so that nothing new wakes it from here on

        rights.grant(here.name, "status", STATUS)
        found = await eventually(lambda: _observed(here))

    assert unknown["status"]["observedGeneration"] < unknown["metadata"]["generation"]
    assert len(warnings) == 1  # and not with each pass
    assert re.search(
        rf"alice may not patch chronikclusters\.chronik\.stream/status in namespace {here.name}\.", warnings[0]
    )
    assert found["status"]["phase"] == "Running"
    assert condition(found, "Ready")["status"] == "True"


def errors_of(operator):
    """Return how many passes have failed for a right that is missing."""
    labels = {"class": "permanent", "reason": "Forbidden"}
    return operator.metrics.registry.get_sample_value("chronik_reconcile_errors_total", labels) or 0


async def _told(operator, count):
    return errors_of(operator) >= count


async def _has_image(place, tag):
    live = await place.get(STATEFUL_SET, "c-controller")
    return live["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{tag}")


async def _observed(place):
    found = await place.cluster("c")
    return found if found["status"]["observedGeneration"] == found["metadata"]["generation"] else None
