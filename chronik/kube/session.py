"""Connections to the API server, through a proxy or not, and what their failures are.

A client has one session. `diagnose` names the fault behind every exception that comes out of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import time
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp

from chronik import __version__
from chronik.errors import KubeconfigError
from chronik.kube.checks.addresses import AddressError, is_loopback, proxy_address, without_password
from chronik.kube.tls import system_words

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

    from chronik.kube.classify import Fault
    from chronik.kube.credentials import Access

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0  # the server closes idle connections after 90 s and more
LEAVE_SECONDS = 0.5
_RESET = struct.pack("ii", 1, 0)  # linger for no time: close with a reset
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a dead watch is noticed within a minute

TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, json.JSONDecodeError, UnicodeDecodeError)
"""All that can go wrong between two ends; TimeoutError and SSLError are OSErrors."""


def open_session(access: Access, tls: ssl.SSLContext | None, sockets: Sockets, proxy: Proxy) -> aiohttp.ClientSession:
    """Return a session that sends our headers with every request; it does not limit how many run at a time."""
    options: dict[str, Any] = {"limit": 0, "ssl": tls or _for_plain_http(proxy), "keepalive_timeout": IDLE_SECONDS}
    middlewares: tuple[ClientMiddlewareType, ...] = (_send_once,)
    if proxy.is_socks:
        connector, middleware = _socks(proxy, options)
        middlewares = (*middlewares, middleware)
    else:
        connector = aiohttp.TCPConnector(socket_factory=sockets, **options)
    return aiohttp.ClientSession(
        connector=connector,
        headers=[("User-Agent", f"chronik/{__version__}"), ("Accept", "application/json"), *access.headers],
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=middlewares,
    )


def _for_plain_http(proxy: Proxy) -> ssl.SSLContext | bool:
    """Return what a session of a plain http server verifies: its proxy. Never False, which would verify nothing."""
    return ssl.create_default_context() if proxy.address.startswith("https:") else True


class ProxyFailure(aiohttp.ClientError):
    """A SOCKS proxy cannot be reached, or refuses to connect."""


def _socks(proxy: Proxy, options: dict[str, Any]) -> tuple[aiohttp.TCPConnector, ClientMiddlewareType]:
    """Return a connector that goes through a SOCKS5 proxy, and what makes a ProxyFailure of its errors."""
    from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError  # noqa: PLC0415  # an extra

    async def named(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        try:
            return await handler(request)
        except (ProxyConnectionError, ProxyError, ProxyTimeoutError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise ProxyFailure(_detail(cause)) from error

    return ProxyConnector.from_url(proxy.address, rdns=True, **options), named


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


class Proxy(NamedTuple):
    """The proxy that requests go through, and where that is configured; no address is no proxy."""

    address: str = ""
    origin: str = ""

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5, not HTTP."""
        return self.address.startswith("socks5:")


def proxy_for(access: Access) -> Proxy:
    """Return the proxy that the kubeconfig or the environment names for a server.

    Raises:
        KubeconfigError: it cannot be used.
    """
    variable = f"${urlsplit(access.server).scheme.upper()}_PROXY"
    if access.proxy:
        proxy = Proxy(access.proxy, "its proxy-url")
    else:
        proxy = Proxy(proxy_of_environment(access.server), variable)
    if not proxy.is_socks:
        return proxy
    subject = access.origin if access.proxy else variable
    if find_spec("aiohttp_socks") is None:
        raise KubeconfigError(
            f"{without_password(proxy.address)} is a SOCKS proxy, which chronik speaks to with an extra only",
            subject=subject,
            hint="Install it: pip install 'chronik[socks]'",
        )
    if access.server_name:
        raise KubeconfigError("a SOCKS proxy cannot be used with a tls-server-name", subject=subject)
    return proxy


def proxy_of_environment(server: str) -> str:
    """Return $HTTPS_PROXY or $HTTP_PROXY, unless $NO_PROXY or a loopback address says otherwise.

    Raises:
        KubeconfigError: the variable's value is no address of a proxy.
    """
    parts = urlsplit(server)
    host = parts.hostname or ""
    if is_loopback(server) or proxy_bypass(host) or _in_networks(host, getproxies().get("no", "")):
        return ""
    address = getproxies().get(parts.scheme, "")
    if not address:
        return ""
    try:
        return proxy_address(address if "://" in address else f"http://{address}")
    except AddressError as error:
        name = f"{parts.scheme.upper()}_PROXY"
        raise KubeconfigError(
            f"it {error}", subject=f"${name}", hint=f"Mend it, or leave it out: unset {name}"
        ) from error


def _in_networks(host: str, listed: str) -> bool:
    """Tell whether $NO_PROXY has a network with this address in it, such as 10.0.0.0/8; Python knows only names."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for part in listed.split(","):
        with suppress(ValueError):
            if "/" in part and address in ip_network(part.strip(), strict=False):
                return True
    return False


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
    """Return what the operating system, TLS or a proxy said, without the wrapping."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"it answered {error.status} {error.message}"
    cause = getattr(error, "certificate_error", getattr(error, "os_error", error))
    return system_words(cause) or "no answer in time"


_FAULTS: tuple[tuple[tuple[type[BaseException], ...], Fault], ...] = (
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError, ProxyFailure), "proxy"),
    ((aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError), "certificate"),
    ((aiohttp.ClientConnectorSSLError, ssl.SSLError), "tls"),
    ((aiohttp.ClientConnectorDNSError,), "unknown host"),
    ((aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError), "refused"),
    ((TimeoutError,), "timeout"),
    ((json.JSONDecodeError, UnicodeDecodeError, aiohttp.ClientResponseError), "garbage"),
)
