"""What the shell is told when it completes a command line: names of what there is, at once or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from click.shell_completion import BashComplete
from support.cli_place import Place, environment

from chronik.cli import parameters
from chronik.cli.main import main


def completed(*words, **env):
    """Return what the shell is given for the last one of some words, and check that nothing else is said."""
    line = {"_CHRONIK_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-m", "chronik"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(**line, **env))
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def names(monkeypatch):
    """Return what gives the names for the last one of some words; it has all the time that a busy machine needs."""
    monkeypatch.setattr(parameters, "COMPLETE_WITHIN", 1e6)

    def given(*words):
        *before, last = words
        return [each.value for each in BashComplete(main, {}, "chronik", "").get_completions(before, last)]

    return given


@pytest.mark.parametrize("command", ["status", "delete"])
def test_names_of_clusters(server, namespace, tmp_path, monkeypatch, names, command):
    """A NAME is completed by the clusters of the namespace that stands before it."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    for name in ("events", "evening", "orders"):
        Place(server, namespace, tmp_path, name=name).apply()

    assert names(command, "-n", namespace, "ev") == ["evening", "events"]
    assert names(command, "-n", "default", "ev") == []


def test_namespaces(server, namespace, names):
    """A namespace is completed by those that begin so, of the server that the options before it lead to."""
    assert names("status", "--kubeconfig", str(server.kubeconfig), "-n", namespace[:12]) == [namespace]


def test_contexts(server, monkeypatch, names):
    """A context is completed by those of the kubeconfig."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))

    assert names("diff", "--context", "adm") == ["admin"]
    assert names("reconcile", "--context", "adm") == ["admin"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["apply", "-f", "crl"], ["file,crl"]),
        (["validate", "crl"], ["file,crl"]),
        (["render", "--templates", "t"], ["dir,t"]),
        (["diff", "-n", "x"], []),
        (["status", "x"], []),
        (["apply", "--timeout", "x"], []),
    ],
    ids=" ".join,
)
def test_without_a_cluster(words, told):
    """Files and folders are the shell's to complete; where no cluster is configured, names are not completed."""
    assert completed("chronik", *words, KUBECONFIG="/nonexistent") == told


def test_a_server_that_does_not_answer(tmp_path):
    """A server that hangs does not hold up the shell: it gets nothing, about as soon as it gets anything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        file = tmp_path / "kubeconfig"
        file.write_text(
            f"clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\n"
            "contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
        )
        began = time.monotonic()
        found = completed("chronik", "status", "-n", "x", KUBECONFIG=str(file))
        took = time.monotonic() - began

    assert found == []
    assert took < 0.3 * (1 + os.getloadavg()[0])
