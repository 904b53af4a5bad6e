"""Sends requests to the API server: connections, deadlines, retries, one pause for all when the server asks for one.

Everything that comes out of here is of the tree in `errors`.

Own code, although the official client sends requests too. With 32 in flight on one machine, this sends 3,600 to 3,700
a second, the official client 665 to 805, bare aiohttp 5,100 to 5,600. That client takes 171 to 235 ms to import,
repeats DELETE where it retries, has no common pause after Retry-After, and its bodies are JSON that the YAML 1.1 reader
of server-side apply does not always read as JSON.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from chronik.errors import Answer, ApiError, ConflictError, ServerBusy
from chronik.kube.checks.addresses import without_password
from chronik.kube.classify import Classification, Reply, Retry, fail, refuse
from chronik.kube.interface import UNGUARDED
from chronik.kube.messages import ServerInfo, redact
from chronik.kube.retry import Attempts, RetryAfterGate
from chronik.kube.session import (
    CONNECT_SECONDS,
    TRANSPORT_ERRORS,
    Sockets,
    diagnose,
    open_session,
    proxy_for,
    reset_connection,
)
from chronik.kube.tls import load_certificates, make_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp import ClientResponse
    from aiohttp.abc import AbstractStreamWriter

    from chronik.kube.credentials import Access
    from chronik.kube.interface import ConnectOptions, WriteGuard
    from chronik.kube.messages import RequestInfo
    from chronik.kube.requests import Request
    from chronik.kube.session import Proxy

T = TypeVar("T")

_FIRST_BAD_CODE = 300


class _Failed(Exception):
    """An attempt that failed: what to make of it, and which Authorization header it was sent with."""

    def __init__(self, classification: Classification, authorization: str) -> None:
        super().__init__(str(classification.error))
        self.classification = classification
        self.authorization = authorization


class _Body(aiohttp.BytesPayload):
    """A body that is held back, and its headers with it, if the guard refuses when it would go out; see `refusal`.

    A process may be stopped anywhere, and go on minutes later: what the guard said a moment before may be stale.
    """

    def __init__(self, content: bytes, guard: WriteGuard) -> None:
        super().__init__(content)
        self._guard = guard
        self._transport: asyncio.WriteTransport | None = None
        self.refusal: ApiError | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        try:
            self._guard.check()  # nothing may be awaited between this and the first byte
        except ApiError as refusal:
            self.refusal = refusal
            raise
        self._transport = writer.transport
        await super().write_with_length(writer, content_length)

    def recall(self) -> None:
        """Drop what is still on its way, with the connection; one that is only closed sends the rest, however late."""
        if self._transport is not None:
            reset_connection(self._transport)


class Transport:
    """Connections to one API server. Use `open_transport`."""

    def __init__(self, access: Access, options: ConnectOptions, tls: ssl.SSLContext | None, proxy: Proxy) -> None:
        self.access = access
        self.options = options
        self._tls = tls
        self.where = ServerInfo(access.server, access.origin, without_password(proxy.address), proxy.origin)
        self._gate = RetryAfterGate(options.clock)
        self._slots = asyncio.Semaphore(options.in_flight)
        self._reached = False
        self._proxy = None if proxy.is_socks else proxy.address or None
        self._sockets = Sockets()
        self._session = open_session(access, tls, self._sockets, proxy)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._sockets.closed()

    async def send(self, request: Request) -> Any:
        """Send a request and return the JSON that comes back, whatever it is; retried as its class of failure allows.

        The guard bounds all of a write: waiting for its turn, and for the server, all attempts and the pauses between.

        Raises:
            ApiError, ConflictError: see `errors`; the guard's own if it refuses.
        """

        async def attempt(attempts: Attempts) -> Any:
            async with self._slots:
                return await self._attempt(request, attempts, _read_json)

        async with self._guard(request).writing():
            return await self._retrying(request, attempt)

    def _guard(self, request: Request) -> WriteGuard:
        return self.options.guard if request.writes else UNGUARDED

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncIterator[Any]]:
        """Send a request and yield the JSON of its answer, one value a line, as they come; it takes no slot.

        Only the start is retried: what fails later is raised from the iterator.
        """
        async with await self._retrying(
            request, lambda attempts: self._attempt(request, attempts, _keep_open)
        ) as response:
            try:
                yield self._objects(request, response)
            finally:
                _hang_up(response)

    async def _retrying(self, request: Request, attempt: Callable[[Attempts], Awaitable[T]]) -> T:
        attempts = Attempts(
            self.options.retry, self.options.clock, idempotent=request.idempotent, conditional=request.conditional
        )
        renewed = False
        while True:
            try:
                return await attempt(attempts)
            except _Failed as failure:
                classification, authorization, cause = failure.classification, failure.authorization, failure.__cause__
            if classification.pause is not None:
                self._gate.hold(classification.pause)
            if classification.retry is Retry.CREDENTIALS and not renewed:
                renewed = True
                if await self._renew(authorization):
                    continue
            pause = attempts.pause_after(classification, reached=self._reached)
            if pause is None or not _allows(self._guard(request)):
                raise _with_count(classification.error, attempts.count) from cause
            await self.options.clock.sleep(pause)

    async def _pass_gate(self, request: Request, attempts: Attempts) -> None:
        if not await self._gate.wait(attempts.remaining, self.options.retry.first):
            seconds = self._gate.remaining
            raise ServerBusy(
                f"the API server asked this client to wait for {seconds:.0f} s more",
                subject=request.info.subject,
                answer=Answer(request.info.verb, request.info.resource, retry_after=seconds),
            )

    async def _renew(self, rejected: str) -> bool:
        """Read credentials and certificates again; return whether another attempt may end otherwise."""
        renewed = await self.access.credentials.renew(rejected)
        if self._tls is None:
            return renewed
        load_certificates(self._tls, self.access)
        return renewed or isinstance(self.access.authority, Path) or self.access.certificate is not None

    async def _attempt(self, request: Request, attempts: Attempts, read: Callable[[ClientResponse], Awaitable[T]]) -> T:
        attempts.begin()
        await self._pass_gate(request, attempts)  # last, so that nothing slips through while it waits for its turn
        authorization = await self.access.credentials.authorization()
        info, started, code = request.info, self.options.clock.now(), 0
        body = None if request.body is None else _Body(request.body, self._guard(request))
        try:
            response = await self._begin(request.method, body, self._arguments(request, authorization))
            self._reached, code = True, response.status
            if code >= _FIRST_BAD_CODE:
                raise _Failed(refuse(info, await _reply(response), self.where), authorization)
            self._pass_on_warnings(info, response)
            return await read(response)
        except TRANSPORT_ERRORS as error:
            if body is not None and body.refusal is not None:
                raise body.refusal from error
            fault, detail = diagnose(error)
            raise _Failed(fail(info, fault, detail, self.where), authorization) from error
        finally:
            self.options.on_request(info.verb, info.kind.name, code, self.options.clock.now() - started)

    async def _begin(self, method: str, body: _Body | None, arguments: dict[str, Any]) -> ClientResponse:
        """Send a request and wait for the head of its answer; one that is given up must not arrive any more."""
        try:
            return await self._session.request(method, data=body, **arguments)
        except BaseException:
            if body is not None:
                body.recall()
            raise

    def _arguments(self, request: Request, authorization: str) -> dict[str, Any]:
        headers = {"Authorization": authorization} if authorization else {}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        query = f"?{urlencode(request.query)}" if request.query else ""
        return {
            "url": URL(f"{self.access.server}{request.path}{query}", encoded=True),
            "headers": headers,
            "timeout": aiohttp.ClientTimeout(
                total=request.timeout or self.options.request_timeout, sock_connect=CONNECT_SECONDS
            ),
            "allow_redirects": False,
            "proxy": self._proxy,
            "server_hostname": self.access.server_name or None,
        }

    def _pass_on_warnings(self, info: RequestInfo, response: ClientResponse) -> None:
        for header in response.headers.getall("Warning", ()):
            for text in _WARNING.findall(header):
                self.options.on_warning(info.subject, redact(re.sub(r"\\(.)", r"\1", text), info.secrets))

    async def _objects(self, request: Request, response: ClientResponse) -> AsyncIterator[Any]:
        rest = b""
        try:
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield parse(line)
        except TRANSPORT_ERRORS as error:
            fault, detail = diagnose(error)
            raise fail(request.info, fault, detail, self.where).error from error
        if rest:
            raise fail(request.info, "cut", "it ended within a line", self.where).error


@asynccontextmanager
async def open_transport(access: Access, options: ConnectOptions) -> AsyncIterator[Transport]:
    """Get credentials and certificates ready, but connect nothing yet; close all connections at the end.

    Raises:
        KubeconfigError: credentials or certificates cannot be had, or the proxy cannot be used.
    """
    proxy = proxy_for(access)
    await access.credentials.authorization()  # a plugin may hand out the certificate that TLS needs
    transport = Transport(access, options, make_context(access), proxy)
    try:
        yield transport
    finally:
        await transport.close()


_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
"""`299 - "text"`, several of them separated by commas (RFC 7234, 5.5)."""


_MOST_DEPTH = 200
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


def parse(text: bytes) -> Any:
    """Read JSON, and empty the maps and lists that are nested deeper than any object of ours may be.

    The API server takes ten thousand levels where a spec is free, and no parser here does. One such object must not
    keep all others of its list from being read.

    Raises:
        JSONDecodeError: it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        shallow = _without_depths(text)
        if shallow == text:
            raise
        return orjson.loads(shallow)


def _without_depths(text: bytes) -> bytes:
    parts, depth, start = [], 0, 0
    for match in _BRACKET.finditer(text):
        if match[0] in b"{[":
            depth += 1
            if depth == _MOST_DEPTH:
                parts.append(text[start : match.end()])
        elif match[0] in b"}]":
            if depth == _MOST_DEPTH:
                start = match.start()
            depth -= 1
    return b"".join([*parts, text[start:]])


async def _read_json(response: ClientResponse) -> Any:
    async with response:
        return parse(await response.read())


async def _keep_open(response: ClientResponse) -> ClientResponse:
    return response


def _hang_up(response: ClientResponse) -> None:
    """Cut off an answer that is not read to its end; a polite end of TLS would outlive the session, and the loop."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


async def _reply(response: ClientResponse) -> Reply:
    async with response:
        text = (await response.read()).decode("utf-8", "replace")
    seconds = response.headers.get("Retry-After", "")
    sensible = seconds.isascii() and seconds.isdecimal() and len(seconds) <= _MOST_DIGITS
    return Reply(response.status, text, float(seconds) if sensible else None)


_MOST_DIGITS = 9  # of a Retry-After: thirty years


def _allows(guard: WriteGuard) -> bool:
    """Return whether a guard lets another attempt begin."""
    try:
        guard.check()
    except ApiError:
        return False
    return True


def _with_count(error: ApiError | ConflictError, count: int) -> ApiError | ConflictError:
    if count > 1:
        error.message += f" (after {count} attempts)"
    return error
