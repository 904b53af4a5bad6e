"""An in-process stand-in for kube-apiserver: the server that integration tests always run against.

It serves HTTP on loopback from a thread of its own, so clients of any kind reach it. What it claims is proven by
test_fake_server.py, which asks the same of a real kube-apiserver. What it does not claim: webhooks, the verdicts of
admission policies, Pod Security, RBAC escalation, more than one version of a kind, tables, and controllers other than
garbage collection and namespace deletion.

kmock stands in front and lets a test script any answer (`server.kmock[...] << ...`); what no script wants goes to the
store. Of kmock 0.8 only that is used: its emulator merges plain dicts (no field management, resource versions, status
or preconditions), its parser fails on `/api/v1/namespaces` and knows no PUT, its responses cannot vary their status by
request, and its `Server` redirects every aiohttp client of the process.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import kmock
import orjson
from aiohttp import web
from multidict import CIMultiDict
from support.api import ApiServer, Request, write_kubeconfig
from support.fake_server.api import Api
from support.fake_server.call import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GC_DELAY = 0.01
_REMEMBERED = 50


class _Front(kmock.RawHandler):
    """Scripted answers first, then the store's."""

    def __init__(
        self,
        serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        log: Callable[[Call, int], None],
    ) -> None:
        super().__init__()
        self.serve = serve
        self.log = log

    async def __call__(self, raw_request: web.BaseRequest) -> web.StreamResponse:
        # kmock takes as long over a request as the store does, and its parser fails on the list of namespaces.
        scripted = any(not payload._disabled.is_set() for payload in self._payloads)
        if not scripted or raw_request.path.rstrip("/") == "/api/v1/namespaces":
            return await self.serve(raw_request)
        return await super().__call__(raw_request)

    async def _handle(self, request: kmock.Request) -> web.StreamResponse:
        raw = request._raw_request
        assert raw is not None  # only in kmock's own tests
        del self._requests[:-_REMEMBERED]  # kmock holds each request against all before it
        try:
            scripted = await super()._handle(request)
        except NotImplementedError:  # no script wants it
            return await self.serve(raw)
        self.log(await _call(raw), scripted.status)
        return scripted


class FakeServer(ApiServer):
    """The stand-in; see `start`. `kmock` scripts answers, `fail_next` covers the usual ones."""

    def __init__(self) -> None:
        self.api = Api()
        self.kmock = _Front(self._serve, self._note)
        self._folder = tempfile.TemporaryDirectory(prefix="chronik-fake-")
        self._log: list[Request] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)
        self._collecting = False

    @classmethod
    def start(cls) -> Self:
        """Start a server and return once it listens."""
        server = cls()
        server._thread.start()
        server._ready.wait()
        server.kubeconfig = write_kubeconfig(Path(server._folder.name) / "kubeconfig", server)
        return server

    def stop(self) -> None:
        """Close all connections and end the thread."""
        self.hang_up()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()

    def requests(self) -> list[Request]:
        """Return everything asked so far, oldest first."""
        return list(self._log)

    def fail_next(
        self, *criteria: Any, code: int, reason: str = "", times: int = 1, retry_after: int | None = None
    ) -> None:
        """Answer the next requests that meet kmock's criteria with a failure, and do nothing else for them.

        `server.fail_next("patch", kmock.resource("apps/v1/statefulsets"), code=503, retry_after=1)`
        """
        left = iter(range(times))
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}
        status |= {"reason": reason, "message": f"scripted by the test: {code} {reason}".rstrip()}

        def answer() -> Any:
            return NotImplemented if next(left, None) is None else status

        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.kmock[criteria] << kmock.Response(  # type: ignore[attr-defined]  # kmock's own docs use it so
            status=code, payload=answer, headers=headers
        )

    def compact(self) -> None:
        """Forget the past: watches that resume from before now get 410 Gone, and those that run are cut off."""
        self._in_loop(self.api.store.compact)

    def drop_namespace(self, name: str) -> None:
        """Forget everything in a namespace: whatever is scanned as a whole stays short."""
        self._in_loop(lambda: self.api.store.drop_namespace(name))

    def restart(self, down: float = 0.3) -> None:
        """Cut all connections, refuse new ones for some seconds, and forget the past; the objects stay."""
        self.hang_up()
        asyncio.run_coroutine_threadsafe(self._restart(down), self._loop).result()

    async def _restart(self, down: float) -> None:
        port = self._runner.addresses[0][1]
        await self._site.stop()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        self.api.store.compact()
        await asyncio.sleep(down)
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()

    def _note(self, call: Call, code: int) -> None:
        self._log.append(call.logged(code))

    def _in_loop(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait()

    async def _run(self) -> None:
        async with self.kmock:
            self._server = web.Server(
                self.kmock, access_log=None, handler_cancellation=True
            )  # a watch ends with its client
            self._runner = web.ServerRunner(self._server, shutdown_timeout=0)
            await self._runner.setup()
            self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await self._site.start()
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
            self._ready.set()
            await self._stopping.wait()
            self.api.store.cut_watches()
            await self._runner.cleanup()

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        call = await _call(raw)
        if call.watches:
            return await self._stream(raw, call)
        code, body, headers = self.api.answer(call)
        self._note(call, code)
        self._collect_soon()
        if isinstance(body, str):
            return web.Response(status=code, text=body)
        return web.Response(
            body=_encoded(body), status=code, headers=CIMultiDict(headers), content_type="application/json"
        )

    async def _stream(self, raw: web.BaseRequest, call: Call) -> web.StreamResponse:
        refusal = self.api.refusal(call)
        self._note(call, refusal[0] if refusal else 200)
        if refusal:
            return web.json_response(refusal[1], status=refusal[0])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(raw)
        try:
            async for event in self.api.events(call):
                await response.write(_encoded(event) + b"\n")
            await response.write_eof()
        except ConnectionError:  # the client has seen enough
            pass
        return response

    def _collect_soon(self) -> None:
        if self.api.collector.due and not self._collecting:
            self._collecting = True
            self._loop.call_later(GC_DELAY, self._collect)

    def _collect(self) -> None:
        self._collecting = False
        self.api.collector.step(self._loop.time())
        self._collect_soon()


def _encoded(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # half a character, or a number of more than 64 bits
        return json.dumps(body).encode()


async def _call(raw: web.BaseRequest) -> Call:
    return Call.parse(raw.method, raw.path, dict(raw.query), raw.headers, await raw.read())


if __name__ == "__main__":
    import signal
    import sys

    running = FakeServer.start()
    sys.stdout.write(f"export KUBECONFIG={running.kubeconfig}   # Ctrl-C stops it\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGINT})
    running.stop()
