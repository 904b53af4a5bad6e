"""Names for shell completion, against both API servers, and against what answers nothing of use."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest
from support.cli_place import Place
from support.kube_clients import options_for
from support.stub_server import StubServer, answering

from chronik.kube import ConnectOptions
from chronik.kube.lookup import names_within
from chronik.manifest import CLUSTER_LABEL

LONG = 10.0
STREAM = "/apis/chronik.stream/v1alpha1/namespaces"


def options(folder, url, **user):
    """Return the options for a server that is named by a kubeconfig of one context."""
    place = {"cluster": {"server": url}, "name": "c"}
    file = folder / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "n"}}
    whole = {"clusters": [place], "users": [{"name": "c", "user": user}], "contexts": [context], "current-context": "c"}
    file.write_text(json.dumps(whole))
    return ConnectOptions(kubeconfig=str(file))


def test_namespaces(server, namespace):
    """All namespaces are found, in order."""
    found = names_within(LONG, "namespaces", options_for(server))

    assert {namespace, "default", "kube-system"} <= {*found}
    assert found == sorted(found)


def test_clusters_with_and_without_an_operator(server, namespace, tmp_path):
    """Clusters of the namespace are found by their documents, and by their objects where there is no document."""
    Place(server, namespace, tmp_path, name="operated").operate()
    Place(server, namespace, tmp_path, name="applied").apply()
    chosen = ConnectOptions(kubeconfig=str(server.kubeconfig), namespace=namespace)

    assert names_within(LONG, "clusters", chosen) == ["applied", "operated"]
    assert names_within(LONG, "clusters", ConnectOptions(kubeconfig=str(server.kubeconfig), namespace="none")) == []


def test_contexts_need_no_server(tmp_path):
    """Contexts come from the kubeconfig alone."""
    assert names_within(LONG, "contexts", options(tmp_path, "https://127.0.0.1:1")) == ["c"]


async def test_what_is_sent(tmp_path):
    """One page of names is asked for, with the user's token, in the context's namespace."""
    answer = {"items": [{"metadata": {"name": "a", "labels": {CLUSTER_LABEL: "b"}}}]}
    async with StubServer(answering(answer, answer)) as server:
        found = await _names("clusters", options(tmp_path, server.url, token="t"))

    assert found == ["a", "b"]
    assert server.requests[0] == f"GET {STREAM}/n/chronikclusters?limit=500"
    assert server.requests[1].startswith("GET /apis/apps/v1/namespaces/n/statefulsets?limit=500&labelSelector=")
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer t"}
    assert all("PartialObjectMetadataList" in headers["Accept"] for headers in server.headers)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"items": None}, {"items": [{}]}, {"items": [{"metadata": 1}]}], ids=str
)
async def test_answers_of_no_use(tmp_path, answer):
    """An answer that is no list of objects has no names in it."""
    async with StubServer(answering(answer)) as server:
        assert await _names("namespaces", options(tmp_path, server.url)) == []


@pytest.mark.parametrize("what", ["namespaces", "clusters", "contexts"])
def test_nothing_to_ask(tmp_path, what):
    """Without a usable kubeconfig there are no names, and nothing is said."""
    (tmp_path / "broken").write_text("[")

    assert names_within(LONG, what, ConnectOptions(kubeconfig=str(tmp_path / "broken"))) == []
    assert names_within(LONG, what, ConnectOptions(kubeconfig=str(tmp_path / "missing"))) == []


def test_no_server(tmp_path):
    """A server that refuses connections has no names."""
    assert names_within(LONG, "namespaces", options(tmp_path, "https://127.0.0.1:1")) == []


@pytest.mark.parametrize(
    "user", [{}, {"exec": {"command": "sleep", "args": ["60"], "apiVersion": "v1"}}], ids=["server", "plugin"]
)
def test_what_takes_too_long_is_left(tmp_path, user):
    """A server that does not answer, and a plugin that does not end, are waited for no longer than is said."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = options(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", **user)
        began = time.monotonic()
        found = names_within(0.1, "namespaces", asked)

        assert (found, names_within(-1, "namespaces", asked)) == ([], [])
        assert time.monotonic() - began < 20  # far from a minute, on a busy machine too


async def _names(what, asked):
    """Look something up beside the loop in which the server runs."""
    return await asyncio.to_thread(names_within, LONG, what, asked)
