"""A web server in the test's own loop that answers what the test tells it to: for answers that no real server gives."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class StubServer:
    """Answers every request through `answer`; `requests` has their methods and targets, `bodies` their bodies."""

    def __init__(
        self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        self.requests: list[str] = []
        self.headers: list[Any] = []
        self.bodies: list[bytes] = []
        self.ca: Path | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.rel_url.raw_path_qs}")
        self.headers.append(request.headers)
        self.bodies.append(await request.read())
        return await self._answer(request)


class DeafServer:
    """Takes one connection and reads nothing, as one that hangs; `received` reads what has arrived after all."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.taken = asyncio.Event()
        self._listens = asyncio.Event()
        self._received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._take, sock=listening, limit=1024, ssl=self._tls)
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listens.set()
        self._server.close()
        await self._server.wait_closed()

    async def received(self) -> bytes:
        """Read the first connection to its end, and return what came by it."""
        self._listens.set()
        return await asyncio.wait_for(self._received, 10)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken.set()
        await self._listens.wait()
        text = bytearray()
        with suppress(ConnectionError, ssl.SSLError):
            while chunk := await reader.read(1 << 16):
                text += chunk
        self._received.set_result(bytes(text))
        writer.transport.abort()


def answering(*bodies: dict[str, Any] | web.Response) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    """Answer with these, one after the other."""
    left = iter(bodies)

    async def answer(_: web.BaseRequest) -> web.Response:
        body = next(left)
        return body if isinstance(body, web.Response) else web.json_response(body)

    return answer


def stored(manifest: dict[str, Any], version: str = "7") -> dict[str, Any]:
    """Return a manifest as an API server answers with it: with a uid and a version."""
    return manifest | {"metadata": {**manifest["metadata"], "uid": "u", "resourceVersion": version}}


def status(code: int, reason: str = "", message: str = "", **details: Any) -> dict[str, Any]:
    """Return a Status object, as kube-apiserver writes it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return body | ({"reason": reason} if reason else {}) | ({"details": details} if details else {})


def refusal(
    code: int, reason: str = "", message: str = "", *, retry_after: int | None = None, **details: Any
) -> web.Response:
    """Return an answer that carries a Status object."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response(status(code, reason, message, **details), status=code, headers=headers)
