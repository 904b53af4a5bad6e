"""Addresses of API servers and proxies, checked before anything is sent to them."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

SOCKS_PORT = 1080
_NOT_PRINTED = re.compile("[\x00-\x20\x7f-\xa0\ud800-\udfff]")
_HOST = re.compile(r"[\w-][\w.~-]*")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_USER = re.compile(r"(?<=//).*@|^[^/]*@", re.DOTALL)
_LOCAL_NAME = "localhost"


class AddressError(ValueError):
    """An address cannot be used; the words fit behind the name of what it is an address of."""


def server_address(text: str) -> str:
    """Return an API server's URL in its plain form: lower case scheme and host, no query, no slash at the end.

    Raises:
        AddressError: it is no http or https URL of a host.
    """
    parts = _parts(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise AddressError(f"must be http(s)://HOST, is {_shown(text)}")
    if "@" in parts.netloc:
        raise AddressError("must not have a user name or password in it: they belong to the user")
    if _BAD_ESCAPE.search(parts.path):
        raise AddressError(f"has a % in its path that is no escape: {_shown(text)}")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~").rstrip("/")
    return f"{parts.scheme}://{_host_and_port(parts)}{path}"


def proxy_address(text: str) -> str:
    """Return a proxy's URL, with the user and password that it may have.

    Raises:
        AddressError: it is no http, https or socks5 URL of a host.
    """
    parts = _parts(text)
    if parts.scheme not in {"http", "https", "socks5", "socks5h"} or not parts.hostname:
        raise AddressError("must be http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
    user, _, _ = parts.netloc.rpartition("@")
    if ":" in unquote(parts.username or "") or _cannot_be_sent(unquote(user)):
        raise AddressError("has a user name or password that cannot be sent")
    scheme = parts.scheme.removesuffix("h")  # it is always the proxy that looks a host name up
    host_and_port = _host_and_port(parts)
    port = f":{SOCKS_PORT}" if scheme == "socks5" and parts.port is None else ""
    return f"{scheme}://{f'{user}@' if user else ''}{host_and_port}{port}"


def without_password(address: str) -> str:
    """Return an address as it may be shown: without user and password."""
    return _USER.sub("", address)


def _shown(text: str) -> str:
    return repr(without_password(text))


def check_host(host: str) -> str:
    """Return a host name or IP address in ASCII.

    Raises:
        AddressError: it is neither.
    """
    if ":" in host:
        return _ip(host)
    if not _HOST.fullmatch(host):
        raise AddressError(f"is no host name or IP address: {host!r}")
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise AddressError(f"is no host name: a part of it is empty, or too long: {host!r}") from None


def is_loopback(server: str) -> bool:
    """Tell whether a server is on this machine, as far as its name says so."""
    host = urlsplit(server).hostname or ""
    if host == _LOCAL_NAME:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(text: str) -> SplitResult:
    if _NOT_PRINTED.search(text):
        raise AddressError(f"has a space or a control character in it: {_shown(text)}")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise AddressError(f"has brackets without an IPv6 address in them: {_shown(text)}") from None
    if "[" in parts.netloc and ":" not in (parts.hostname or ""):
        raise AddressError(f"has brackets without an IPv6 address in them: {_shown(text)}")
    return parts


def _host_and_port(parts: SplitResult) -> str:
    try:
        host = check_host(parts.hostname or "")
    except AddressError as error:
        raise AddressError(f"has a host that {error}") from None
    shown = f"[{host}]" if ":" in host else host
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise AddressError(f"has a port that is no number from 1 to 65535: {_shown(parts.netloc)}")
    return shown if port is None else f"{shown}:{port}"


def _ip(host: str) -> str:
    try:
        return str(ip_address(unquote(host)))
    except ValueError:
        raise AddressError(f"is no IP address: {host!r}") from None


def _cannot_be_sent(text: str) -> bool:
    try:
        return not text.encode("latin-1").decode("latin-1").isprintable()
    except UnicodeEncodeError:
        return True
