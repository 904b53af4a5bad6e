"""A proxy that sits before an API server and misbehaves on purpose: as networks and busy control planes do.

It fails requests at a rate, from a seeded generator, or by a script, request by request. `seen` says what came, what
was done to it and whether it got through, so a test can compare what the client believes with what happened.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

import aiohttp
from aiohttp import web
from support.stub_server import refusal
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

Fault = Literal[
    "too many",  # 429 with Retry-After; not forwarded
    "unavailable",  # 503 with Retry-After; not forwarded
    "failure",  # 500; not forwarded
    "leader changed",  # 500 from etcd, after it was done
    "stale",  # 409: the object has been modified; not forwarded
    "conflict",  # 409: FieldManagerConflict; not forwarded
    "reset",  # the connection is reset; not forwarded
    "reset after",  # the connection is reset, after it was done
    "half",  # the answer breaks off in the middle
    "goodbye",  # done and answered, and the connection closes
    "hang up",  # the connection closes without an answer; not forwarded
    "slow",  # answered late
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
PASSING: tuple[Fault, ...] = tuple(fault for fault in FAULTS if fault != "conflict")
"""The faults that a client should get over by itself."""

RETRY_AFTER_SECONDS = 1
_LINGER_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: what it was, what was done to it, and the code that the server behind gave it (0: never asked)."""

    method: str
    target: str
    fault: Fault | None
    code: int

    @property
    def forwarded(self) -> bool:
        """Whether the server behind got it."""
        return self.code > 0


class FaultProxy:
    """Forwards to `upstream`; use it as an async context manager, then talk to `url`.

    The script is used up first, None meaning no fault; after it a request fails with the probability `rate`, in one
    of `faults`. `slow` is how many seconds a late answer is late.
    """

    def __init__(
        self,
        upstream: str,
        *,
        ca: Path | None = None,
        script: Iterable[Fault | None] = (),
        rate: float = 0.0,
        faults: Sequence[Fault] = PASSING,
        seed: int = 0,
    ) -> None:
        self.seen: list[Seen] = []
        self.ca: Path | None = None
        self.slow = 0.02
        self._upstream = upstream
        self._tls = ssl.create_default_context(cafile=ca) if ca else None
        self._script = iter(script)
        self._rate, self._faults = rate, faults
        self._random = random.Random(seed)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls or False, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def forwarded(self, method: str) -> list[Seen]:
        """Return the requests with that method that got through."""
        return [seen for seen in self.seen if seen.method == method and seen.forwarded]

    def _next_fault(self) -> Fault | None:
        try:
            return next(self._script)
        except StopIteration:
            return self._random.choice(self._faults) if self._random.random() < self._rate else None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = self._next_fault()
        canned = _canned(fault)
        if canned is not None or fault in {"reset", "hang up"}:
            self._note(request, fault, 0)
            return canned if canned is not None else _drop(request, reset=fault == "reset")
        if fault == "slow":
            await asyncio.sleep(self.slow)
        return await self._forward(request, fault)

    async def _forward(self, request: web.BaseRequest, fault: Fault | None) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        url = URL(self._upstream + request.rel_url.raw_path_qs, encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as upstream:
            self._note(request, fault, upstream.status)
            if fault == "reset after":
                return _drop(request, reset=True)
            if fault == "leader changed":
                return refusal(500, "", "etcdserver: leader changed")
            return await _pass_on(request, upstream, fault)

    def _note(self, request: web.BaseRequest, fault: Fault | None, code: int) -> None:
        self.seen.append(Seen(request.method, request.rel_url.raw_path_qs, fault, code))


def _canned(fault: Fault | None) -> web.Response | None:
    if fault == "too many":
        return refusal(429, "TooManyRequests", "too many requests", retry_after=RETRY_AFTER_SECONDS)
    if fault == "unavailable":
        return refusal(503, "ServiceUnavailable", "apiserver is shutting down", retry_after=RETRY_AFTER_SECONDS)
    if fault == "failure":
        return refusal(500, "InternalError", "Internal error occurred: something broke")
    if fault == "stale":
        return refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
    if fault == "conflict":
        cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".spec.replicas"}
        return refusal(409, "Conflict", "Apply failed with 1 conflict", causes=[cause])
    return None


async def _pass_on(
    request: web.BaseRequest, upstream: aiohttp.ClientResponse, fault: Fault | None
) -> web.StreamResponse:
    """Pass an answer on as it comes, so that watches work too."""
    kept = ("Content-Type", "Content-Encoding", "Warning", "Retry-After")
    response = web.StreamResponse(
        status=upstream.status, headers={name: upstream.headers[name] for name in kept if name in upstream.headers}
    )
    if fault == "goodbye":
        response.force_close()
    if fault == "half":
        watches = "watch" in request.query
        body = await (upstream.content.readany() if watches else upstream.read())  # a watch does not end by itself
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return _drop(request, reset=False, response=response)
    await response.prepare(request)
    with suppress(ConnectionError):  # the client has seen enough of a watch
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    return response


def _drop(request: web.BaseRequest, *, reset: bool, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """End the connection: with a reset, or by closing it."""
    transport = request.transport
    if transport is not None:
        if reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            transport.abort()
        else:
            transport.close()
    return response or web.Response()


@contextmanager
def beside(proxy: FaultProxy) -> Iterator[FaultProxy]:
    """Run a proxy in a thread of its own while the block runs: for tests that are not asynchronous."""
    started = threading.Event()
    end: list[Callable[[], object]] = []

    async def run() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        end.append(lambda: loop.call_soon_threadsafe(ended.set))
        async with proxy:
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield proxy
    finally:
        end[0]()
        thread.join()
