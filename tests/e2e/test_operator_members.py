from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support.chaos import path
from support.operator_process import OperatorProcess, until
from support.played_nodes import STATEFUL_SET, NodePods, PlayedNodes

from chronik.manifest import CLUSTER, KIND_BY_NAME, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

KEY = "s3cret"
SERVICE = KIND_BY_NAME["Service"]
EXTERNAL = {"type": "LoadBalancer", "hostTemplate": "n{id}.example.com"}
GROWS_AND_SHRINKS = [("add-node", 4), ("add-node", 5), ("remove-node", 5), ("remove-node", 4)]


class Place:
    """A namespace with a cluster `u` of nodes that are all alike, and operators of it that can be killed."""

    def __init__(self, server: Any, namespace: str, log: Any) -> None:
        self.server, self.namespace, self.log = server, namespace, log
        self.nodes = PlayedNodes(3, leader=2, key=KEY)
        self.proxy = ""
        self.operator: OperatorProcess | None = None
        self.kills = 0

    def create(self, nodes: int = 3, **spec: Any) -> None:
        """Create the Secret and the cluster."""
        data = {"metadata": {"name": "admin"}, "stringData": {"apiKey": KEY}}
        assert self.server.call("POST", path(SECRET, self.namespace), data).code == 201
        spec = {
            "topology": "Unified",
            "nodes": nodes,
            "storage": {"backend": "local"},
            "security": {"adminKeySecret": "admin"},
            **spec,
        }
        cluster = {"apiVersion": CLUSTER.api_version, "kind": CLUSTER.name, "metadata": {"name": "u"}, "spec": spec}
        answer = self.server.call("PATCH", path(CLUSTER, self.namespace, "u"), cluster, fieldManager="kubectl")
        assert answer.code < 300, answer.body

    def change(self, **spec: Any) -> None:
        """Edit the spec."""
        where = path(CLUSTER, self.namespace, "u")
        answer = self.server.call("PATCH", where, {"spec": spec}, patch="merge", fieldManager="kubectl-edit")
        assert answer.code < 300, answer.body

    def start(self) -> None:
        """Start an operator."""
        arguments = (self.server.kubeconfig, self.log, "-n", self.namespace, "--no-leader-elect")
        self.operator = OperatorProcess(*arguments, environ={"HTTP_PROXY": self.proxy, "NO_PROXY": "127.0.0.1"})

    def kill(self, *_about: Any) -> None:
        """Kill the operator, as the kernel does, if one runs."""
        if self.operator is not None and self.operator.runs:
            self.operator.kill()
            self.kills += 1

    def cluster(self) -> dict[str, Any]:
        """Return the cluster."""
        found: dict[str, Any] = self.server.call("GET", path(CLUSTER, self.namespace, "u")).body
        return found

    def replicas(self) -> int:
        """Return how many pods there are to be."""
        return int(self.server.call("GET", path(STATEFUL_SET, self.namespace, "u-node")).body["spec"]["replicas"])

    def is_running(self, nodes: int) -> bool:
        """Tell whether the cluster runs, with so many nodes, all of which vote."""
        cluster = self.cluster()
        status = cluster.get("status") or {}
        return (
            status.get("phase") == "Running"
            and status.get("observedGeneration") == cluster["metadata"]["generation"]
            and status.get("members") == [*range(1, nodes + 1)]
            and self.replicas() == nodes == status["readyReplicas"]["nodes"]
        )

    def wait_running(self, nodes: int, seconds: float = 90) -> None:
        """Wait for that, and start the operator again whenever it was killed."""

        def runs() -> bool:
            if self.operator is None or not self.operator.runs:
                self.start()
            return self.is_running(nodes)

        until(runs, seconds, lambda: f"{nodes} nodes: {self.cluster().get('status')} {self.nodes.calls} {self._log()}")

    def services(self) -> set[str]:
        """Return the names of all Services."""
        return {
            each["metadata"]["name"] for each in self.server.call("GET", path(SERVICE, self.namespace)).body["items"]
        }

    def condition(self, kind: str) -> tuple[str, str]:
        """Return reason and message of a condition."""
        found = (self.cluster().get("status") or {}).get("conditions") or ()
        return next(((each["reason"], each["message"]) for each in found if each["type"] == kind), ("", ""))

    def _log(self) -> str:
        return self.operator.text[-3000:] if self.operator else ""


@pytest.fixture
def place(server: Any, namespace: str, tmp_path: Any) -> Iterator[Place]:
    """Yield a place where pods come and go, and nodes answer; see to it that no member ever lost its pod."""
    found = Place(server, namespace, tmp_path / "log")
    with found.nodes.playing() as found.proxy, NodePods(server, namespace, found.nodes).running():
        yield found
        found.kill()
    assert found.nodes.faults == []


def test_a_cluster_grows_and_shrinks_by_one(place):
    """Nodes join after their pods came and leave before they go; Services follow, and in the end nothing is written."""
    place.create(network={"external": EXTERNAL})
    place.wait_running(3)
    place.change(nodes=5)
    place.wait_running(5)
    grown = place.services()
    place.change(nodes=3)
    place.wait_running(3)
    until(lambda: "u-node-4" not in place.services(), 90, lambda: f"{place.services()}")

    assert place.nodes.calls == GROWS_AND_SHRINKS
    assert {f"u-node-{number}{end}" for number in range(1, 6) for end in ("", "-external")} <= grown
    assert place.services() - {"kubernetes"} == {
        *("u-node", "u-node-client"),
        *(f"u-node-{number}{end}" for number in range(1, 4) for end in ("", "-external")),
    }
    restarts = place.server.call("GET", path(STATEFUL_SET, place.namespace, "u-node")).body["spec"]["template"]
    assert restarts == place_template(place), "members come and go without a restart of the others"


def place_template(place: Place) -> Any:
    """Return the pod template that a new operator leaves, which has to be the one that is there."""
    place.kill()
    place.start()
    until(lambda: place.operator is not None and place.operator.said("reconciles"), 90, lambda: "it reconciles")
    time.sleep(1.5)
    return place.server.call("GET", path(STATEFUL_SET, place.namespace, "u-node")).body["spec"]["template"]


@pytest.mark.parametrize(
    ("nodes", "calls", "kills"),
    [
        pytest.param(4, [GROWS_AND_SHRINKS[0], GROWS_AND_SHRINKS[-1]], 4, marks=pytest.mark.stand_in),
        pytest.param(5, GROWS_AND_SHRINKS, 8, marks=pytest.mark.slow),
    ],
)
def test_killed_at_every_step(place, nodes, calls, kills):
    """An operator that is killed at each step goes on where it was; nothing joins, leaves or is written twice."""
    place.create()
    place.wait_running(3)
    seen: Counter[tuple[str, str, int]] = Counter()

    def kill_once(when: str, action: str, node: int) -> None:
        seen[when, action, node] += 1
        if seen[when, action, node] == 1:
            place.kill()

    place.nodes.before = lambda action, node: kill_once("before", action, node)
    place.nodes.after = lambda action, node: kill_once("after", action, node)
    ended = threading.Event()
    watcher = threading.Thread(target=_kill_at_changes, args=(place, ended), daemon=True)
    watcher.start()
    place.change(nodes=nodes)
    place.wait_running(nodes)
    place.change(nodes=3)
    place.wait_running(3)
    ended.set()
    watcher.join()

    done = [call for number, call in enumerate(place.nodes.calls) if call not in place.nodes.calls[:number]]
    assert done == calls
    assert place.kills >= kills, "it was killed at each request, and at each change of the StatefulSet"
    assert written_twice(place) == []


def _kill_at_changes(place: Place, ended: threading.Event) -> None:
    """Kill the operator right after each change of the count of pods."""
    last = place.replicas()
    while not ended.wait(0.05):
        now = place.replicas()
        if now != last:
            last = now
            place.kill()


def written_twice(place: Place) -> list[str]:
    """Return what was sent again although it was there: applies of objects, the status aside, with the same body."""
    last: dict[tuple[str, str], Any] = {}
    twice = []
    for each in place.server.requests_of(place.namespace):
        if not each.writes or each.user_agent.startswith(("suite", "kubectl")) or each.subresource or not each.name:
            continue
        if each.resource in {"events", "chronikclusters"}:
            continue
        body = _without_version(each.body)
        if last.get((each.resource, each.name)) == body:
            twice.append(f"{each.verb} {each.resource}/{each.name}")
        last[each.resource, each.name] = body
    return twice


def _without_version(body: Any) -> Any:
    metadata = {key: value for key, value in ((body or {}).get("metadata") or {}).items() if key != "resourceVersion"}
    return {**(body or {}), "metadata": metadata}


@pytest.mark.both
def test_a_leader_leaves_by_force(place):
    """The leader refuses to let itself out, so that it is forced to where enough others stay."""
    place.create(nodes=5)
    place.nodes.voters, place.nodes.leader = {1, 2, 3, 4, 5}, 5
    place.wait_running(5)
    place.change(nodes=3)
    place.wait_running(3)

    assert place.nodes.calls == [("remove-node", 5), ("remove-node", 4)]


def test_a_wrong_key_is_told(place):
    """Where the nodes refuse, nothing changes, and a condition says why in their words."""
    place.nodes.key = "another"
    place.create()
    place.start()
    until(lambda: (place.cluster().get("status") or {}).get("members") == [1, 2, 3], 90, lambda: f"{place.cluster()}")
    place.change(nodes=5)
    until(lambda: place.condition("Reconciling")[0] == "MembersNotChanged", 90, lambda: f"{place.cluster()}")

    assert place.condition("Reconciling")[1] == "node 2 answered 401: invalid X-API-Key"
    assert place.replicas() == 4
    place.nodes.key = KEY
    place.wait_running(5)


def test_a_leader_that_is_late_is_found(place):
    """Where all pods are ready before a leader is elected, status names the members soon after."""
    place.nodes.elects = False
    place.create()
    place.start()
    until(lambda: (place.cluster().get("status") or {}).get("phase") == "Running", 90, lambda: f"{place.cluster()}")
    asked_in_vain = place.cluster()["status"].get("members")
    place.nodes.elects = True
    place.wait_running(3, 45)

    assert asked_in_vain is None
