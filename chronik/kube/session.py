"""Connections to the API server, and what their failures are.

A client has one session. `diagnose` names the fault behind every exception that comes out of it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp

from chronik import __version__

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

    from chronik.kube.classify import Fault
    from chronik.kube.credentials import Access

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0  # the server closes idle connections after 90 s and more
LEAVE_SECONDS = 0.5
_RESET = struct.pack("ii", 1, 0)  # linger for no time: close with a reset
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a dead watch is noticed within a minute

TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, json.JSONDecodeError, UnicodeDecodeError)
"""All that can go wrong between two ends; TimeoutError and SSLError are OSErrors."""


def open_session(access: Access, tls: ssl.SSLContext | None, sockets: Sockets) -> aiohttp.ClientSession:
    """Return a session that sends our headers with every request; it does not limit how many run at a time."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, ssl=tls or True, keepalive_timeout=IDLE_SECONDS, socket_factory=sockets
        ),
        headers=[("User-Agent", f"chronik/{__version__}"), ("Accept", "application/json"), *access.headers],
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_send_once,),
    )


class Sockets:
    """The sockets of a session. They close later than the session does: a TLS shutdown waits for the server."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def __call__(self, address: tuple[Any, ...]) -> socket.socket:
        """Return a socket that notices when the other side is gone without a word: a watch may be silent for long."""
        connection = socket.socket(*address[:3])
        self._sockets.add(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return connection

    async def closed(self, within: float = LEAVE_SECONDS) -> None:
        """Wait until all are closed, which takes some turns of the loop and no longer than `within` seconds."""
        deadline = time.monotonic() + within
        await asyncio.sleep(0)
        while any(each.fileno() >= 0 for each in self._sockets) and time.monotonic() < deadline:  # noqa: ASYNC110  # no event says so
            await asyncio.sleep(0.005)


def reset_connection(transport: asyncio.WriteTransport) -> None:
    """End a connection at once, and drop what was written to it and has not arrived, in the kernel's buffers too."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def proxy_of_environment(server: str) -> str:
    """Return $HTTPS_PROXY or $HTTP_PROXY, unless $NO_PROXY or a loopback address says otherwise."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    if host in {"localhost", "::1"} or host.startswith("127.") or proxy_bypass(host):
        return ""
    return getproxies().get(parts.scheme, "")


async def _send_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from repeating a request whose connection broke: it would repeat any deletion."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(_detail(error)) from error


def diagnose(error: Exception) -> tuple[Fault, str]:
    """Return which fault an exception stands for, and its words; the first line that fits decides."""
    cause = getattr(error, "os_error", error)
    for kinds, fault in _FAULTS:
        if isinstance(error, kinds) or isinstance(cause, kinds):
            return fault, _detail(error)
    return "cut", _detail(error)


def _detail(error: Exception) -> str:
    """Return what the operating system or TLS said, without the wrapping."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, ssl.SSLError):
        return str(cause)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno)
    return getattr(cause, "strerror", None) or str(cause) or "no answer in time"


_FAULTS: tuple[tuple[tuple[type[BaseException], ...], Fault], ...] = (
    ((aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError), "certificate"),
    ((aiohttp.ClientConnectorSSLError, ssl.SSLError), "tls"),
    ((aiohttp.ClientConnectorDNSError,), "unknown host"),
    ((aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError), "refused"),
    ((TimeoutError,), "timeout"),
    ((json.JSONDecodeError, UnicodeDecodeError, aiohttp.ClientResponseError), "garbage"),
)
