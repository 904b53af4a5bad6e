"""Watches: events arrive whole and in order, and the caller learns how a watch ended."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from aiohttp import web
from support.kube_clients import client, config_map
from support.stub_server import StubServer, answering, refusal, status, stored

from chronik.errors import Unreachable, WatchExpired
from chronik.kube.retry import RetryPolicy
from chronik.manifest import CLUSTER, KIND_BY_NAME

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
LIVE = stored(config_map("n"))


def event(kind: str, version: int) -> bytes:
    cluster = {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "metadata": {"name": "c", "namespace": "n", "generation": 1},
    }
    change = {"type": kind, "object": stored(cluster, str(version))}
    return json.dumps(change).encode() + b"\n"


def streaming(*chunks: bytes, broken: bool = False):
    """Answer a watch in these chunks, and end it, well or with a broken connection."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.001)
        if broken:
            request.transport.close()
        return response

    return answer


async def watched(*chunks: bytes, broken: bool = False, seen: list | None = None) -> list[tuple[str, str]]:
    seen = [] if seen is None else seen
    async with StubServer(streaming(*chunks, broken=broken)) as stub, client(stub.url) as kube:
        async for change in kube.watch(CLUSTER, None, resource_version="5"):
            seen.append((change.type, change.resource_version))
    return seen


async def test_watch_puts_lines_together():
    """Events arrive whole, however the network cuts them, until the server ends the watch."""
    text = event("ADDED", 6) + event("MODIFIED", 7) + event("BOOKMARK", 8)

    assert await watched(*(text[at : at + 7] for at in range(0, len(text), 7))) == [
        ("ADDED", "6"),
        ("MODIFIED", "7"),
        ("BOOKMARK", "8"),
    ]


async def test_watch_that_breaks_is_an_error_after_its_events():
    """A broken watch yields what came, and says that it broke: the rest may be missing."""
    seen = []
    with pytest.raises(Unreachable):
        await watched(event("ADDED", 6), event("ADDED", 7)[:20], broken=True, seen=seen)

    assert seen == [("ADDED", "6")]


async def test_watch_that_ends_within_a_line_is_an_error():
    """An answer that ends well but within an event has lost something on the way."""
    with pytest.raises(Unreachable, match="within a line"):
        await watched(event("ADDED", 6)[:20])


async def test_watch_expires_underway():
    """An ERROR event with 410 is the one error after which to list again."""
    error = json.dumps({"type": "ERROR", "object": status(410, "Expired", "too old resource version: 5 (9)")})
    with pytest.raises(WatchExpired, match="too old resource version"):
        await watched(event("ADDED", 6), error.encode() + b"\n")


async def test_watch_expires_at_its_start():
    """So is the status 410."""
    async with StubServer(answering(refusal(410, "Expired", "too old"))) as stub, client(stub.url) as kube:
        with pytest.raises(WatchExpired):
            async for _ in kube.watch(CLUSTER, "n", resource_version="5", label_selector="a=b"):
                pass

    path, _, query = stub.requests[0].partition("?")
    assert path == "GET /apis/chronik.stream/v1alpha1/namespaces/n/chronikclusters"
    assert "watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=" in query
    assert query.endswith("&labelSelector=a%3Db")


async def test_watch_start_is_retried_like_any_request():
    """A server that is just busy does not end a watch before it began."""
    async with (
        StubServer(answering(refusal(429, retry_after=1), web.Response())) as stub,
        client(stub.url, retry=RetryPolicy(attempts=2)) as kube,
    ):
        assert [change async for change in kube.watch(CLUSTER, None, resource_version="5")] == []

    assert len(stub.requests) == 2


async def test_watch_takes_no_place():
    """A watch lasts minutes and does not count among the requests in flight."""
    stop = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "watch=true" not in request.rel_url.raw_query_string:
            return web.json_response(LIVE)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("ADDED", 6))
        await stop.wait()
        return response

    async with StubServer(answer) as stub, client(stub.url, in_flight=1) as kube:
        async with aclosing(kube.watch(CLUSTER, None, resource_version="5")) as changes:
            await anext(changes)
            assert await asyncio.wait_for(kube.get(CONFIG_MAP, "n", "a"), 1) == LIVE
        stop.set()
