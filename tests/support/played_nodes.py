"""Plays the nodes of a cluster of topology Unified: their pods, and the admin API that they answer.

The API does what upstream's handlers do: crates/chronik-server/src/admin_api.rs and propose_add_node and
propose_remove_node in raft_cluster.rs, chronik-stream b652721. All nodes are reached through one HTTP proxy, as no name
of a Service can be looked up here: an operator finds it by $HTTP_PROXY.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from support.chaos import Controllers, path

from chronik.manifest import KIND_BY_NAME, POD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.api import ApiServer

_NODE = re.compile(r"http://(?P<workload>[a-z0-9-]+)-(?P<id>\d+)\.[^/:]+:6092/admin/(?P<action>[a-z-]+)")
STATEFUL_SET = KIND_BY_NAME["StatefulSet"]
FEWEST = 3


class PlayedNodes:
    """The nodes of one cluster. `calls` are the changes that were asked for, `faults` what must never happen.

    `before` and `after` are called with each change that a node is asked for, before it does anything and before it
    answers. `lag` is how long a change is only proposed, in seconds. While `elects` is False, no node leads.
    """

    def __init__(self, voters: int, leader: int = 1, key: str = "", lag: float = 0.2) -> None:
        self.voters = set(range(1, voters + 1))
        self.leader = leader
        self.key = key
        self.lag = lag
        self.elects = True
        self.up: set[int] = set()
        self.calls: list[tuple[str, int]] = []
        self.faults: list[str] = []
        self.before: Callable[[str, int], None] = lambda _action, _node: None
        self.after: Callable[[str, int], None] = lambda _action, _node: None
        self._lock = threading.RLock()
        self._timers: list[threading.Timer] = []

    @contextmanager
    def playing(self) -> Iterator[str]:
        """Answer, and yield the URL of the proxy."""
        nodes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Any) -> None:
                code, answer = nodes.answer(self.path, self.headers.get("X-API-Key"), body)
                text = json.dumps(answer).encode()
                try:
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    pass  # the one who asked was killed

            def log_message(self, *_args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            for timer in self._timers:
                timer.cancel()

    def answer(self, url: str, key: str | None, body: Any) -> tuple[int, dict[str, Any]]:
        """Return what a node answers: status code and body."""
        found = _NODE.fullmatch(url)
        if found is None or int(found["id"]) not in self.up:
            return 502, {"error": f"nobody at {url}"}
        me, action = int(found["id"]), found["action"]
        if action == "health":
            return 200, self._health(me)
        if self.key and key != self.key:
            words = "invalid X-API-Key" if key else "missing X-API-Key header"
            return 401, {"status": 401, "error": words}
        node = int(body["node_id"])
        self.before(action, node)
        with self._lock:
            self.calls.append((action, node))
            refusal = self._refusal(me, action, body)
            if refusal is None:
                self._propose(action, node)
        self.after(action, node)
        verb, noun = ("add", "addition") if action == "add-node" else ("remove", "removal")
        if refusal is not None:
            return 200, {"success": False, "message": f"Failed to {verb} node: {refusal}"}
        return 200, {"success": True, "message": f"Node {node} {noun} proposed.", "node_id": node}

    def _health(self, me: int) -> dict[str, Any]:
        with self._lock:
            leads = self.elects and me == self.leader and len(self.voters & self.up) * 2 > len(self.voters)
            return {"status": "ok", "node_id": me, "is_leader": leads, "cluster_nodes": sorted(self.voters)}

    def _refusal(self, me: int, action: str, body: Any) -> str | None:
        node = int(body["node_id"])
        if me != self.leader:
            return f"this node (id={me}) is not the leader"
        if action == "add-node":
            if not all(":" in body[name] for name in ("kafka_addr", "wal_addr", "raft_addr")):
                return "Invalid address format. Expected 'host:port'"
            return f"Node {node} already exists in cluster" if node in self.voters else None
        if node not in self.voters:
            return f"Node {node} does not exist in cluster"
        if len(self.voters) - 1 < FEWEST and not body.get("force"):
            return f"Cannot remove node {node}: would leave {len(self.voters) - 1} nodes"
        if node == me and not body.get("force"):
            return f"Cannot remove self (node {node})"
        return None

    def _propose(self, action: str, node: int) -> None:
        timer = threading.Timer(self.lag, self._commit, (action, node))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _commit(self, action: str, node: int) -> None:
        with self._lock:
            if action == "add-node":
                if node not in self.up:
                    self.faults.append(f"node {node} joined before its pod came")
                self.voters.add(node)
            else:
                self.voters.discard(node)
            self._elect()

    def see(self, pods: set[int]) -> None:
        """Take note of which pods there are."""
        with self._lock:
            for gone in self.up - pods:
                if gone in self.voters:
                    self.faults.append(f"the pod of node {gone} went while the node was a member")
            self.up = set(pods)
            self._elect()

    def _elect(self) -> None:
        able = self.voters & self.up
        if able and self.leader not in able:
            self.leader = min(able)


class NodePods(Controllers):
    """Plays StatefulSets with their pods, all of which are ready at once, and tells nodes which of them there are."""

    def __init__(self, server: ApiServer, namespace: str, nodes: PlayedNodes) -> None:
        super().__init__(server, [namespace])
        self._nodes = nodes

    @contextmanager
    def running(self) -> Iterator[None]:
        """Play them as long as the block runs."""
        self.start()
        try:
            yield
        finally:
            self._ended.set()
            self.join()

    def _step(self, namespace: str) -> None:
        super()._step(namespace)
        for live in self._items(STATEFUL_SET, namespace):
            name, first = live["metadata"]["name"], live["spec"].get("ordinals", {}).get("start", 0)
            wanted = {f"{name}-{first + number}" for number in range(live["spec"].get("replicas", 1))}
            there = {each["metadata"]["name"] for each in self._items(POD, namespace)}
            for pod in wanted - there:
                self._start(namespace, live, pod)
            for pod in there - wanted:
                self._server.call("DELETE", path(POD, namespace, pod), {"gracePeriodSeconds": 0})
            self._nodes.see({int(pod.rpartition("-")[2]) for pod in wanted})

    def _start(self, namespace: str, live: dict[str, Any], name: str) -> None:
        template = live["spec"]["template"]
        metadata = {"name": name, "labels": template["metadata"]["labels"]}
        pod = {"metadata": metadata, "spec": {"containers": [{"name": "node", "image": "x"}]}}
        made = self._server.call("POST", path(POD, namespace), pod)
        if made.code == 201:
            status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
            self._server.call("PATCH", path(POD, namespace, name, "status"), status, patch="merge")
