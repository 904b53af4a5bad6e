"""`chronik status` against both servers, as somebody uses it: with an operator, without one, once and looking on."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli_place import SPEC, Place, environment, run

from chronik.manifest import CLUSTER, ObjectRef

NOW = "2026-01-01T00:00:00Z"


class StatusPlace(Place):
    """A place in which controllers and an operator are played by the test."""

    def status(self, *arguments: str) -> Any:
        """Run `chronik status` in the namespace."""
        return run("status", *self.flags(), "-n", self.namespace, *arguments)

    def finish(self, kind: str, name: str, ready: int | None = None) -> None:
        """Say of a workload that it has rolled out, and that some or all of its pods are ready."""
        live = self.call("GET", kind, name).body
        count = live["spec"].get("replicas", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas"), count)
        ready = count if ready is None else ready
        generation = live["metadata"]["generation"]
        status = {"observedGeneration": generation, **counts, "readyReplicas": ready, "availableReplicas": ready}
        answer = self.call("PATCH", kind, f"{name}/status", {"status": status}, patch="merge")
        assert answer.code == 200, answer.body

    def finish_all(self) -> None:
        """Say of all workloads that they are ready."""
        for ref in self.live():
            if ref.kind in {"StatefulSet", "Deployment"}:
                self.finish(ref.kind, ref.name)

    def document_url(self, subresource: str = "") -> str:
        """Return the path of the ChronikCluster."""
        return f"/apis/{CLUSTER.api_version}/namespaces/{self.namespace}/{CLUSTER.plural}/{self.name}{subresource}"

    def declare(self, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        """Create or change the ChronikCluster, and write its status, as an operator would."""
        whole = yaml.safe_load(Path(self.document(**spec)).read_text("utf-8"))
        answer = self.server.call("PATCH", self.document_url(), whole, fieldManager="somebody", force=True)
        assert answer.code in {200, 201}, answer.body
        if status is not None:
            part = {**{key: whole[key] for key in ("apiVersion", "kind", "metadata")}, "status": status}
            answer = self.server.call("PATCH", self.document_url("/status"), part, fieldManager="op", force=True)
            assert answer.code == 200, answer.body
        return answer.body

    def pod(self, component: str, ordinal: int, waiting: str) -> None:
        """Create a pod that is stuck."""
        labels = {"chronik.stream/cluster": self.name, "chronik.stream/component": component}
        name = f"{self.name}-{component}-{ordinal}"
        body = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "a", "image": "b"}]},
        }
        answer = self.call("POST", "Pod", body=body)
        assert answer.code == 201, answer.body
        container = {
            "name": "a",
            "image": "b",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": waiting, "message": "no such image"}},
        }
        answer = self.call(
            "PATCH", "Pod", f"{name}/status", {"status": {"containerStatuses": [container]}}, patch="merge"
        )
        assert answer.code == 200, answer.body

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `chronik status` in a process of its own."""
        command = [sys.executable, "-m", "chronik", "status", *self.flags(), "-n", self.namespace, *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(PYTHONUNBUFFERED="1")
        )


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return StatusPlace(server, namespace, tmp_path)


# --- once -------------------------------------------------------------------------------------------------------------


def test_ready_without_an_operator(place):
    """A cluster that was applied from the command line is found by its label alone, and exits with 0 when ready."""
    place.apply()
    place.finish_all()

    done = place.status("c")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{place.namespace}/c  Running\n  created ")
    assert "  ingest nodes  2/2\n" in done.out
    assert done.out.endswith("\nReady\n")


def test_not_ready(place):
    """A cluster that is not ready exits with 1, and says what it waits for in the words of its pods."""
    place.apply()
    place.finish_all()
    place.finish("StatefulSet", "c-ingest", ready=1)
    place.pod("ingest", 1, "ErrImagePull")

    done = place.status("c")

    assert done.code == 1
    assert "  ingest nodes  1/2\n    c-ingest-1: ErrImagePull: no such image\n" in done.out
    assert done.out.endswith("\nWaits for ingest nodes (1/2)\n")


def test_a_file_says_what_should_be(place):
    """With a file a cluster is held to it, whatever has been applied."""
    place.apply()
    place.finish_all()

    done = place.status("-f", place.document(ingestNodes=4))

    assert done.code == 1
    assert "  ingest nodes  2/4  2 of 4 ready\n" in done.out
    assert "What it should be is read from" not in done.out


def test_a_fresh_operator(place):
    """A ChronikCluster that no operator has looked at is pending, and says so."""
    place.declare()

    done = place.status("c")

    assert done.code == 1
    assert f"{place.namespace}/c  Pending\n" in done.out
    assert "No operator has looked at it yet" in done.out


def test_the_word_of_an_operator(place):
    """With an operator its phase and conditions are shown, and its spec is what counts."""
    place.apply()
    place.finish_all()
    condition = {"type": "Ready", "status": "True", "reason": "AllComponentsReady", "message": "All is well"}
    place.declare(
        {
            "phase": "Running",
            "observedGeneration": 1,
            "conditions": [{**condition, "lastTransitionTime": NOW}],
        }
    )

    done = place.status("c")

    assert done.code == 0, done.out
    assert "  Ready  True   " in done.out
    assert "AllComponentsReady: All is well\n" in done.out


def test_an_operator_that_is_gone(place):
    """A spec that its operator has not seen is not ready, and a note asks whether there is an operator."""
    place.declare({"phase": "Running", "observedGeneration": 1}, ingestNodes=2)
    place.declare(ingestNodes=5)

    done = place.status("c")

    assert done.code == 1
    assert "The operator has seen generation 1, and the newest is 2: is it running?" in done.out


def test_no_such_cluster(place):
    """A cluster that does not exist is an error of its own, whatever is like it."""
    place.apply()

    done = place.status("c", "d")

    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"error: {place.namespace}/d: there is no such cluster")
    assert done.err.endswith("\n  `chronik status -A` shows all clusters.\n")


def test_a_slip_in_a_name(place):
    """Of a name that no cluster has, the error names the cluster that may have been meant, and no other."""
    quickstart = StatusPlace(place.server, place.namespace, place.folder, name="quickstart")
    quickstart.apply()

    slip, other = quickstart.status("quickstrat"), quickstart.status("zebra")

    assert (slip.code, other.code) == (3, 3)
    assert f"Did you mean {place.namespace}/quickstart?" in slip.err
    assert "Did you mean" not in other.err


def test_all_of_a_namespace(place):
    """Without a name all clusters of the namespace are shown: one in full, several in a table."""
    assert place.status() == (1, "", f"no clusters in namespace {place.namespace}\n")
    place.apply()
    assert place.status().out.startswith(f"{place.namespace}/c  ")
    Place(place.server, place.namespace, place.folder, name="d").apply()

    rows = place.status().out.splitlines()

    assert [row.split()[:2] for row in rows] == [["NAMESPACE", "NAME"], [place.namespace, "c"], [place.namespace, "d"]]


def test_all_namespaces(place):
    """-A shows clusters wherever they are, those with nothing but a ChronikCluster included."""
    place.declare()
    elsewhere = Place(place.server, place.server.new_namespace(), place.folder)
    elsewhere.apply()

    done = run("status", *place.flags(), "-A", "-o", "json")

    found = {(each["namespace"], each["phase"]) for each in done.json["clusters"]}
    assert {(place.namespace, "Pending"), (elsewhere.namespace, "Creating")} <= found


def test_json_and_yaml(place):
    """Both forms for programs hold the same, and the exit code stays what it is."""
    place.apply()
    place.finish_all()

    as_json, as_yaml = (place.status("c", "-o", output) for output in ("json", "yaml"))

    assert (as_json.code, as_yaml.code) == (0, 0)
    assert json.loads(as_json.out) == yaml.safe_load(as_yaml.out)
    (cluster,) = as_json.json["clusters"]
    assert (cluster["name"], cluster["ready"], cluster["specFrom"]) == ("c", True, "objects")
    assert [each["wanted"] for each in cluster["components"]] == [1, 2, 1]


def test_one_list_for_each_kind(place):
    """However many clusters there are, each kind is read once."""
    place.apply()
    Place(place.server, place.namespace, place.folder, name="d").apply()
    before = len(place.asked())

    place.status()

    asked = [(each.verb, each.resource) for each in place.asked()[before:]]
    kinds = (
        "chronikclusters",
        "configmaps",
        "deployments",
        "horizontalpodautoscalers",
        "persistentvolumeclaims",
        "pods",
    )
    assert sorted(asked) == [("list", kind) for kind in (*kinds, "services", "statefulsets")]


def test_little_rights(place):
    """Who may only read workloads gets a picture of them; who may not even that, an error that names the right."""
    place.apply()
    rule = {"apiGroups": ["apps"], "resources": ["statefulsets", "deployments"], "verbs": ["list", "watch"]}
    place.grant("alice", rule, proof=place.url("StatefulSet"))
    alice, bob = (StatusPlace(place.server, place.namespace, place.folder, context=user) for user in ("alice", "bob"))

    allowed, refused = alice.status("c"), bob.status("c")

    assert allowed.code == 1
    assert "  ingest nodes  0/2" in allowed.out
    assert refused.code == 3
    assert "bob" in refused.err
    assert "statefulsets" in refused.err or "deployments" in refused.err


def test_contradictory_questions(place):
    """Names, files and -A exclude each other."""
    done = place.status("c", "-A")

    assert done.code == 2
    assert "exclude each other" in done.err


def test_without_the_definition(bare_server, tmp_path):
    """Where ChronikClusters are not installed, clusters from the command line are shown all the same."""
    place = StatusPlace(bare_server, bare_server.new_namespace(), tmp_path)
    place.apply()
    place.finish_all()

    assert place.status("c").code == 0
    assert place.status("c").err == ""
    for done in (place.status(), run("status", "-A", *place.flags())):
        assert done.code == 0
        assert done.err.startswith("note: the kind ChronikCluster is not installed")
        assert "Running" in done.out


# --- looking on -------------------------------------------------------------------------------------------------------


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return the first line that holds a text."""
    assert process.stdout is not None
    for row in process.stdout:
        if text in row:
            return row
    raise AssertionError(f"it ended before it said {text!r}: {process.communicate()}")


def test_watch_tells_every_change(place):
    """Off a terminal every change is a line, and Ctrl-C ends with 0 if all was ready."""
    place.apply()
    process = place.start("c", "--watch")
    read_until(process, "ingest nodes 0/2")
    for kind, name in (("StatefulSet", "c-controller"), ("StatefulSet", "c-ingest"), ("Deployment", "c-search")):
        place.finish(kind, name)
    last = read_until(process, "; ready")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert f"{place.namespace}/c Running: controllers 1/1, ingest nodes 2/2, search nodes 1/1; ready" in last
    assert (process.returncode, out, err) == (0, "", "")


def test_watch_that_is_interrupted(place):
    """Ctrl-C before a cluster is ready ends as an interruption does."""
    place.apply()
    process = place.start("c", "--watch", "-o", "json")
    first = json.loads(read_until(process, "ingestNodes"))

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)

    assert process.returncode == 130
    assert first["clusters"][0]["ready"] is False


def test_watch_until_it_is_gone(place):
    """A cluster that is deleted ends the watch, which says so."""
    place.apply()
    process = place.start("c", "--watch")
    read_until(process, "ingest nodes 0/2")
    for ref in place.live():
        if ref.kind in {"StatefulSet", "Deployment", "Service"}:
            place.call("DELETE", ref.kind, ref.name)

    _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (1, f"{place.namespace}/c: gone\n")


@pytest.mark.parametrize(("lines", "addresses"), [("40", True), ("11", False)], ids=["high", "low"])
def test_watch_on_a_terminal(place, lines, addresses):
    """On a terminal the picture is drawn over itself, with bars and colours; a low one sees the end all the same."""
    place.apply()
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "chronik", "status", *place.flags(), "-n", place.namespace, "c", "--watch"]
    terminal = environment(TERM="xterm-256color", COLUMNS="80", LINES=lines)
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=terminal) as process:
        os.close(follower)
        shown = terminal_text(leader, "2/2", lambda: place.finish("StatefulSet", "c-ingest"))
        process.send_signal(signal.SIGINT)
        process.wait(20)
    os.close(leader)

    assert process.returncode == 130
    assert "░░░░░░░░░░░░" in shown
    assert "████████████" in shown
    assert ("Addresses" in shown) == addresses
    assert "\x1b[1A" in shown  # up a line: it is drawn anew


@pytest.mark.parametrize("which", [["c"], ["-o", "table"]], ids=["picture", "table"])
def test_watch_on_a_dumb_terminal(place, which):
    """A terminal that cannot draw over itself gets a line for each change, and nothing that it cannot show."""
    place.apply()
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "chronik", "status", *place.flags(), "-n", place.namespace, *which, "--watch"]
    dumb = environment(TERM="dumb", COLUMNS="80")
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=dumb) as process:
        os.close(follower)
        shown, acted, deadline = "", False, time.monotonic() + 20
        while "ingest nodes 2/2" not in shown and time.monotonic() < deadline:
            if select.select([leader], [], [], 1)[0]:
                shown += os.read(leader, 65536).decode(errors="replace")
            if not acted and "ingest nodes 0/2" in shown:
                place.finish("StatefulSet", "c-ingest")
                acted = True
        process.send_signal(signal.SIGINT)
        process.wait(20)
    os.close(leader)

    assert process.returncode == 130
    assert f"{place.namespace}/c Creating: controllers 0/1, ingest nodes 2/2" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 4  # one for each change, of which the server may tell in two


def terminal_text(leader: int, awaited: str, act: Any) -> str:
    """Return what a terminal shows until a text comes, having acted once the first picture was there."""
    shown, acted, deadline = "", False, time.monotonic() + 30
    while awaited not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(leader, 65536).decode(errors="replace")
        if not acted and "Waits for" in shown:
            act()
            acted = True
    return shown


# --- with controllers -------------------------------------------------------------------------------------------------


@pytest.mark.real  # only real controllers make pods and claims
def test_pods_of_a_real_controller(real_cluster, tmp_path):
    """Pods and claims that a real StatefulSet controller makes are found, and told of."""
    place = StatusPlace(real_cluster, real_cluster.new_namespace(), tmp_path)
    place.apply()
    deadline = time.monotonic() + 60
    while "2 x 10Gi" not in (done := place.status("c")).out or "c-ingest-{0,1}" not in done.out:
        assert time.monotonic() < deadline, done.out
        time.sleep(0.3)

    assert done.code == 1
    assert "    c-ingest-{0,1}: is Pending\n" in done.out
    assert "  ingest nodes  2 x 10Gi, data-c-ingest-0, data-c-ingest-1 pending\n" in done.out


def test_the_place_is_what_was_meant(place):
    """The cluster that these tests apply has the counts that they expect."""
    assert (SPEC["controllers"], SPEC["ingestNodes"], SPEC["searchNodes"]) == (1, 2, 1)
    assert ObjectRef("StatefulSet", place.namespace, "c-ingest") in {ObjectRef.of(each) for each in place.rendered()}


@pytest.mark.real
def test_pods_that_a_quota_forbids(real_cluster, tmp_path):
    """A quota that stands in the way of pods is named by `status` and by `apply --wait`, in the API server's words."""
    place = StatusPlace(real_cluster, real_cluster.new_namespace(), tmp_path)
    quotas = f"/api/v1/namespaces/{place.namespace}/resourcequotas"
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    answer = place.server.call("POST", quotas, quota)
    assert answer.code == 201, answer.body
    deadline = time.monotonic() + 60
    while not place.server.call("GET", f"{quotas}/none").body["status"].get("used"):
        assert time.monotonic() < deadline, "the quota is not counted"
        time.sleep(0.1)

    waited = place.apply("--wait", "--timeout", "60s")
    done = place.status("c")

    assert (waited.code, "pods exist: pods" in waited.err) == (5, True), waited
    assert "exceeded quota: none" in waited.err
    assert done.code == 1
    assert "exceeded quota: none" in done.out
