from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support.chaos import Controllers, Fleet, path
from support.fake_server.server import FakeServer
from support.kube_clients import kubeconfig_for
from support.operator_process import LOOPBACK, OperatorProcess, until

from chronik.manifest import KIND_BY_NAME
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from pathlib import Path

    from support.api import ApiServer

NOWHERE = "http://127.0.0.1:1"
ALONE = "--no-leader-elect"


def once(kubeconfig: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `chronik reconcile --once`."""
    command = [sys.executable, "-m", "chronik", "reconcile", "--once", "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_once_prints_a_line_for_each_cluster(server, namespace):
    """With --once there is one line per cluster on stdout, and JSON on stderr, where there is no terminal."""
    fleet = Fleet(server, [namespace])
    fleet.create("a")
    fleet.create("b")
    run = once(server.kubeconfig, "-n", namespace)

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [f"{namespace}/a: Creating", f"{namespace}/b: Creating"]
    logged = [json.loads(line) for line in run.stderr.splitlines()]
    assert {f"{namespace}/a", f"{namespace}/b"} == {line["cluster"] for line in logged}


def test_once_says_what_is_wrong(server, namespace):
    """With --once a cluster that failed has its reason beside it, the others are done, and the exit code is 5."""
    fleet = Fleet(server, [namespace])
    accounts = path(KIND_BY_NAME["ServiceAccount"], namespace)
    assert server.call("POST", accounts, {"metadata": {"name": "a-ingest"}}).code == 201
    fleet.create("a")
    fleet.create("b")
    run = once(server.kubeconfig, "-n", namespace)

    first, second = run.stdout.splitlines()
    assert first.startswith(f"{namespace}/a: Failed: ResourceConflict: ServiceAccount/{namespace}/a-ingest")
    assert second == f"{namespace}/b: Creating"
    assert run.returncode == 5
    assert "Traceback" not in run.stderr


def test_once_does_not_wait_for_a_server(tmp_path):
    """With --once a server that is gone is an error, in two lines and with the exit code for that."""
    run = once(kubeconfig_for(NOWHERE, tmp_path, {"token": "t"}))

    assert run.returncode == 3
    assert run.stderr.startswith(f"error: {NOWHERE}: the API server did not answer")
    assert len(run.stderr.splitlines()) == 2


def test_a_terminal_gets_text(fake_server):
    """On a terminal the log is for people: a time, a level, and no JSON."""
    ours, theirs = pty.openpty()
    namespace = fake_server.new_namespace()
    command = [sys.executable, "-m", "chronik", "reconcile", "--kubeconfig", str(fake_server.kubeconfig), *LOOPBACK]
    with subprocess.Popen([*command, ALONE, "-n", namespace], stderr=theirs, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        seen = b""
        while b"reconciles 0 clusters" not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    os.close(ours)

    lines = seen.decode().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \x1b\[32mINFO ", line) for line in lines if line), lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(fake_server, tmp_path, number):
    """Ctrl-C and SIGTERM end an operator that does nothing soon, with exit code 0."""
    with OperatorProcess(
        fake_server.kubeconfig, tmp_path / "log", "-n", fake_server.new_namespace(), ALONE
    ) as operator:
        operator.wait_said("reconciles 0 clusters")
        took = operator.terminate(number=number)

        assert operator.process.returncode == 0
        assert took < 20
        assert {line["level"] for line in operator.lines()} == {"info"}


def check_waiting(operator: OperatorProcess, reason: str) -> None:
    """Check that an operator waits, says why in one line and at /ready, and can be ended as ever."""
    with operator:
        operator.wait_said("are waited for")
        page = operator.ready()

        assert page.code == 503
        assert reason in page.text
        assert operator.terminate() < 5
        assert operator.process.returncode == 0
        complaints = [line["message"] for line in operator.lines() if line["level"] != "info"]
        assert len(complaints) == 1
        assert reason in complaints[0]


def test_it_waits_for_the_server(tmp_path):
    """While no server answers, the operator waits, and says so once."""
    kubeconfig = kubeconfig_for(NOWHERE, tmp_path, {"token": "t"})
    check_waiting(OperatorProcess(kubeconfig, tmp_path / "log", "-n", "default", user="c"), "did not answer")


def test_it_waits_for_rights(server, tmp_path):
    """While it may not see ChronikClusters, the operator waits, and says once what it lacks."""
    operator = OperatorProcess(server.kubeconfig, tmp_path / "log", "-n", "default", user="nobody")
    check_waiting(operator, "nobody may not list chronikclusters.chronik.stream in namespace default")


def test_it_waits_for_the_definitions(tmp_path):
    """An operator that was there before the definitions waits, says so once, and starts to work when they come."""
    server = FakeServer.start()
    reason = "ChronikCluster/default: the cluster does not know the kind ChronikCluster"
    check_waiting(OperatorProcess(server.kubeconfig, tmp_path / "log", "-n", "default"), reason)
    with OperatorProcess(server.kubeconfig, tmp_path / "log", "-n", "default", ALONE) as operator:
        operator.wait_said(reason)
        server.install(offline.definitions())
        Fleet(server, ["default"]).create("a")
        operator.wait_said("reconciles 1 cluster")

        assert until(lambda: operator.ready().code == 200)
    server.stop()


def test_namespaced_mode_stays_in_its_namespaces(server, tmp_path):
    """With --namespace every request is about one of these namespaces, or about nothing that belongs to a cluster."""
    namespaces = [server.new_namespace(), server.new_namespace()]
    fleet = Fleet(server, namespaces)
    before = len(server.requests())
    flags = [word for namespace in namespaces for word in ("-n", namespace)]
    environ = {"OPERATOR_NAMESPACE": namespaces[0]}
    operator = OperatorProcess(server.kubeconfig, tmp_path / "log", *flags, environ=environ)
    with Controllers.playing(server, *namespaces), operator:
        fleet.create("a")
        until(lambda: all(fleet.clusters(each) and fleet.all_running(each) for each in namespaces))
        operator.terminate()

    asked = [each for each in server.requests()[before:] if each.user_agent.startswith("chronik")]
    assert len(asked) > 50
    assert {each.namespace for each in asked if not each.path.startswith("/openapi/")} == set(namespaces)


def check_fleet(server: ApiServer, folder: Path, count: int, seconds: float) -> dict[str, float]:
    """Create clusters all at once, let an operator bring them all up, and return what that cost."""
    namespace = server.new_namespace()
    fleet = Fleet(server, [namespace])
    for number in range(count):
        fleet.create(f"c{number}")
    before = len(server.requests())
    with OperatorProcess(server.kubeconfig, folder / "log", "-n", namespace, ALONE) as operator:
        operator.wait_said("reconciles")

        def phases() -> Counter[str]:
            found = fleet.clusters(namespace).values()
            return Counter((each.get("status") or {}).get("phase", "new") for each in found)

        until(lambda: phases() == {"Creating": count}, seconds, lambda: f"{phases()}\n{operator.text[-2000:]}")
        with Controllers.playing(server, namespace):
            until(lambda: phases() == {"Running": count}, seconds, lambda: f"{phases()}\n{operator.text[-2000:]}")
        memory = operator.metrics().get("process_resident_memory_bytes", 0)
    asked = [each for each in server.requests()[before:] if each.user_agent.startswith("chronik")]
    told = [each.name for each in asked if each.resource == "chronikclusters" and each.subresource == "status"]
    last_new = list(dict.fromkeys(told))[-1]
    return {
        "clusters": count,
        "requests per cluster": sum(each.verb not in {"list", "watch"} for each in asked) / count,
        "most status writes": max(Counter(told).values()),
        "status writes per cluster before the last was seen": told.index(last_new) / count,
        "MB": memory / 1e6,
    }


@pytest.mark.parametrize("count", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_many_clusters_at_once(fake_server, tmp_path, count):
    """Clusters that come at once all come up, none after others have been seen to many times."""
    figures = check_fleet(fake_server, tmp_path, count, 60)

    assert figures["requests per cluster"] < 40
    assert figures["most status writes"] <= 8
    assert figures["status writes per cluster before the last was seen"] < 3


@pytest.mark.slow
@pytest.mark.real
def test_three_hundred_clusters_at_once(real_server, tmp_path):
    """Three hundred clusters cost no more requests each than twenty do; the stand-in is too slow for so many."""
    figures = check_fleet(real_server, tmp_path, 300, 300)
    sys.stdout.write(f"{figures}\n")  # pytest -rP shows it

    assert figures["requests per cluster"] < 40
    assert figures["status writes per cluster before the last was seen"] < 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--analysis-token-file", "token"), "need --analysis-url"),
        (
            ("--analysis-url", "prometheus:9090"),
            "'prometheus:9090' is no URL such as http://prometheus.monitoring:9090",
        ),
        (("--analysis-url", "http://me:secret@prometheus"), "without user, query and #"),
        (("--analysis-url", "http://prometheus?x=1"), "is no URL"),
    ],
)
def test_the_address_of_a_prometheus(arguments, said):
    """What is no address of a Prometheus is refused before anything runs, and so are credentials without one."""
    run = once("nowhere", *arguments)

    assert (run.returncode, said in run.stderr) == (2, True), run.stderr
