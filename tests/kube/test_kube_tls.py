"""TLS: whom the client trusts, what it shows, and that it follows when either is rotated."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from support.clock import FakeClock
from support.kube_clients import config_map, kubeconfig_for
from support.pki import locked, make_pair, needs_openssl
from support.stub_server import DeafServer, StubServer, stored

from chronik.errors import KubeconfigError, Unreachable, UntrustedServer
from chronik.kube import ConnectOptions, connect
from chronik.manifest import KIND_BY_NAME

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return certificates and keys by name."""
    folder = tmp_path_factory.mktemp("pki")
    hosts = {"server": "127.0.0.1", "named": "kube.example.com", "client": "jane.example.com", "other": "127.0.0.1"}
    return {name: make_pair(folder, name, host) for name, host in hosts.items()}


def data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@asynccontextmanager
async def server_with(pair, client_authority: Path | None = None):
    """Run a server with that certificate, which may ask for one of the client's."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*pair)
    if client_authority:
        tls.load_verify_locations(client_authority)
        tls.verify_mode = ssl.CERT_REQUIRED

    async def answer(request: web.BaseRequest) -> web.Response:
        peer = request.transport.get_extra_info("peercert") or {}
        subject = [value for part in peer.get("subject", ()) for _, value in part]
        return web.json_response(stored(config_map("n", client=",".join(subject))))

    async with StubServer(answer, tls) as stub:
        yield stub


async def send(url: str, folder: Path, user: dict | None = None, **cluster: str) -> dict:
    """Ask for an object with that configuration, and return the answer."""
    options = ConnectOptions(kubeconfig=kubeconfig_for(url, folder, user or {}, **cluster), clock=FakeClock().clock)
    async with connect(options) as kube:
        return (await kube.get(CONFIG_MAP, "n", "a"))["data"]


async def test_authority_as_text_or_file(pairs, tmp_path):
    """The authority may be in the kubeconfig or in a file."""
    async with server_with(pairs["server"]) as stub:
        assert await send(stub.url, tmp_path, **{"certificate-authority-data": data(pairs["server"][0])})
        assert await send(stub.url, tmp_path, **{"certificate-authority": str(pairs["server"][0])})


async def test_cut_off_write_does_not_arrive_late(pairs, tmp_path):
    """What a write that was cut off had not delivered yet never arrives, by TLS either."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*pairs["server"])
    async with DeafServer(tls) as server:
        path = kubeconfig_for(server.url, tmp_path, {}, **{"certificate-authority": str(pairs["server"][0])})
        async with connect(ConnectOptions(kubeconfig=path)) as kube:
            writing = asyncio.create_task(kube.apply(config_map("n", text="x" * 500_000)))
            await server.taken.wait()
            await asyncio.sleep(0.1)
            writing.cancel()
            await asyncio.wait({writing})
            assert len(await server.received()) < 500_000


async def test_unknown_authority_is_refused(pairs, tmp_path):
    """A certificate that the authority did not sign is not trusted, and the error says so."""
    async with server_with(pairs["server"]) as stub:
        with pytest.raises(UntrustedServer, match=r"self-signed certificate.*\n.*certificate-authority"):
            await send(stub.url, tmp_path, **{"certificate-authority": str(pairs["client"][0])})


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "hTTps"])
async def test_scheme_in_capitals_is_verified_too(pairs, tmp_path, scheme):
    """However https is spelt, a server that nobody vouches for is not trusted, and learns no token."""
    async with server_with(pairs["server"]) as stub:
        with pytest.raises(UntrustedServer, match="self-signed certificate"):
            await send(stub.url.replace("https", scheme), tmp_path, {"token": "t"})

    assert stub.requests == []


async def test_locked_key_is_an_error(pairs, tmp_path):
    """A key with a password is an error, and nobody is asked for it in the middle of a command."""
    certificate, key = pairs["client"]
    user = {"client-certificate": str(certificate), "client-key": str(locked(key, tmp_path))}

    with pytest.raises(
        KubeconfigError, match="client-certificate with client-key cannot be used: the key is encrypted"
    ):
        await send("https://127.0.0.1:9", tmp_path, user)


async def test_host_name_must_fit(pairs, tmp_path):
    """A certificate for another host is not trusted, unless tls-server-name says that this is the one."""
    authority = {"certificate-authority": str(pairs["named"][0])}
    async with server_with(pairs["named"]) as stub:
        with pytest.raises(UntrustedServer, match=r"mismatch.*127\.0\.0\.1"):
            await send(stub.url, tmp_path, **authority)

        assert await send(stub.url, tmp_path, **authority, **{"tls-server-name": "kube.example.com"})


async def test_verification_can_be_left_out(pairs, tmp_path):
    """With insecure-skip-tls-verify any certificate will do."""
    async with server_with(pairs["server"]) as stub:
        assert await send(stub.url, tmp_path, **{"insecure-skip-tls-verify": True})


async def test_client_certificate_is_shown(pairs, tmp_path):
    """A client certificate, as text or in files, is shown to a server that asks; none is left behind on disk."""
    certificate, key = pairs["client"]
    authority = {"certificate-authority": str(pairs["server"][0])}
    as_text = {"client-certificate-data": data(certificate), "client-key-data": data(key)}
    as_files = {"client-certificate": str(certificate), "client-key": str(key)}
    async with server_with(pairs["server"], certificate) as stub:
        assert await send(stub.url, tmp_path, as_text, **authority) == {"client": "client"}
        assert await send(stub.url, tmp_path, as_files, **authority) == {"client": "client"}
        with pytest.raises((UntrustedServer, Unreachable)):
            await send(stub.url, tmp_path, **authority)

    assert [path.name for path in tmp_path.iterdir()] == ["kubeconfig"]


async def test_replaced_authority_is_followed(pairs, tmp_path):
    """When server certificate and authority file are replaced, a client that lives goes on."""
    authority = tmp_path / "ca.crt"
    authority.write_bytes(pairs["other"][0].read_bytes())
    options = {"certificate-authority": str(authority)}
    async with server_with(pairs["server"]) as stub:
        kubeconfig = kubeconfig_for(stub.url, tmp_path, {}, **options)
        async with connect(ConnectOptions(kubeconfig=kubeconfig, clock=FakeClock().clock)) as kube:
            authority.write_bytes(pairs["server"][0].read_bytes())

            assert await kube.get(CONFIG_MAP, "n", "a")


async def test_https_is_not_http(tmp_path):
    """An https address where plain http is spoken is named as such."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response({})

    async with StubServer(answer) as stub:
        with pytest.raises(UntrustedServer, match=r"(?i)wrong version number|record layer failure"):
            await send(stub.url.replace("http:", "https:"), tmp_path)


async def test_certificate_that_is_none(tmp_path):
    """An authority that is no certificate is an error before anything is sent."""
    with pytest.raises(KubeconfigError, match="certificate-authority cannot be used"):
        await send("https://127.0.0.1:9", tmp_path, **{"certificate-authority-data": base64.b64encode(b"x").decode()})
