"""Puts TLS and SASL in front of a broker that has neither: what a mirror's clients prove themselves to.

Sources: https://kafka.apache.org/protocol (SaslHandshake, SaslAuthenticate), RFC 4616 (PLAIN) and RFC 5802 (SCRAM).
Requests before a client has proven itself are answered here, but ApiVersions; everything after is passed on as it is.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_API_VERSIONS, _HANDSHAKE, _AUTHENTICATE = 18, 17, 36
_FLEXIBLE = 2
"""From which version on SaslAuthenticate has compact fields."""
_REFUSED = 58
_MORE = 128
_ITERATIONS = 4096


@dataclass
class Secured:
    """How clients have to prove themselves, and who did: `proven` has mechanisms, `certificates` client certificates.

    With `certificate` and `key` it speaks TLS, with `trusted` it wants a certificate of that authority, with
    `mechanism` a user and a password.
    """

    certificate: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    mechanism: str = ""
    user: str = ""
    password: str = ""
    proven: list[str] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)

    def context(self) -> ssl.SSLContext | None:
        """Return how TLS is spoken, if it is."""
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if self.trusted:
            context.load_verify_locations(self.trusted)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@asynccontextmanager
async def secured(wanted: Secured, port: int, behind: str) -> AsyncIterator[str]:
    """Stand in front of the broker `behind`, which has to give out this port as its own; yield the address."""
    host, _, inner = behind.rpartition(":")
    open_now: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(task := asyncio.current_task())  # type: ignore[arg-type]  # there is one: asyncio started it
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _serve(wanted, reader, writer, host, int(inner))
        finally:
            open_now.discard(task)  # type: ignore[arg-type]  # as above
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=wanted.context())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        for task in list(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _serve(
    wanted: Secured, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    certificate = writer.get_extra_info("peercert")
    if certificate:
        wanted.certificates.append(str(dict(each[0] for each in certificate["subject"])["commonName"]))
    back_reader, back_writer = await asyncio.open_connection(host, port)
    try:
        if wanted.mechanism:
            await _Gate(wanted, reader, writer, back_reader, back_writer).pass_through()
            wanted.proven.append(wanted.mechanism)
        await asyncio.gather(_pipe(reader, back_writer), _pipe(back_reader, writer))
    finally:
        back_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@dataclass
class _Gate:
    """A connection until its client has proven itself."""

    wanted: Secured
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    back_reader: asyncio.StreamReader
    back_writer: asyncio.StreamWriter
    server: _Plain | _Scram | None = None

    async def pass_through(self) -> None:
        """Answer until the client has proven itself; a client that cannot is cut off."""
        self.server = _server(self.wanted)
        while not self.server.done:
            request = await _frame(self.reader)
            api, version, number, length = struct.unpack_from(">hhih", request)
            body = request[10 + max(length, 0) :]
            if api == _API_VERSIONS:
                _send(self.back_writer, request)
                _send(self.writer, await _frame(self.back_reader))
            elif api == _HANDSHAKE:
                name = self.wanted.mechanism.encode()
                code = 0 if body[2:] == name else 33
                _send(self.writer, struct.pack(">ihi", number, code, 1) + struct.pack(">h", len(name)) + name)
            elif api == _AUTHENTICATE:
                self._authenticate(version, number, body)
            else:
                raise ConnectionError(f"request {api} before anybody is known")
            await self.writer.drain()

    def _authenticate(self, version: int, number: int, body: bytes) -> None:
        assert self.server is not None
        if version >= _FLEXIBLE:
            answer = self.server.answer(_without_length(body[1:-1]))  # no tags before it, and none behind
            said = b"\1" + _length(len(answer or b"") + 1) + (answer or b"")
            head, tail = struct.pack(">ib", number, 0), struct.pack(">q", 0) + b"\0"
        else:
            answer = self.server.answer(body[4:])
            said = struct.pack(">h", -1) + struct.pack(">i", len(answer or b"")) + (answer or b"")
            head, tail = struct.pack(">i", number), struct.pack(">q", 0) if version else b""
        _send(self.writer, head + struct.pack(">h", _REFUSED if answer is None else 0) + said + tail)


def _without_length(data: bytes) -> bytes:
    """Return what stands behind an unsigned varint."""
    return data[next(index for index, each in enumerate(data) if each < _MORE) + 1 :]


def _length(number: int) -> bytes:
    """Return a number as an unsigned varint."""
    return bytes([number]) if number < _MORE else bytes([number % _MORE + _MORE, number // _MORE])


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(struct.pack(">i", len(data)) + data)


class _Plain:
    """PLAIN: user and password as they are."""

    def __init__(self, wanted: Secured) -> None:
        self.wanted, self.done = wanted, False

    def answer(self, token: bytes) -> bytes | None:
        """Return the answer, None for no."""
        self.done = token.split(b"\0")[1:] == [self.wanted.user.encode(), self.wanted.password.encode()]
        return b"" if self.done else None


class _Scram:
    """SCRAM: both sides prove that they know the password, and neither says it."""

    def __init__(self, wanted: Secured, digest: str) -> None:
        self.wanted, self.digest, self.done = wanted, digest, False
        self.salt, self.nonce = os.urandom(16), base64.b64encode(os.urandom(12)).decode()
        self.first = self.said = ""

    def answer(self, token: bytes) -> bytes | None:
        """Return the answer to the first or the last message, None for no."""
        text = token.decode()
        if not self.first:
            self.first = text.split(",", 2)[2]
            given = _fields(self.first)
            self.said = f"r={given['r']}{self.nonce},s={base64.b64encode(self.salt).decode()},i={_ITERATIONS}"
            return self.said.encode() if given["n"] == self.wanted.user else None
        bare, _, proof = text.rpartition(",p=")
        salted = hashlib.pbkdf2_hmac(self.digest, self.wanted.password.encode(), self.salt, _ITERATIONS)
        client, server = (hmac.digest(salted, name, self.digest) for name in (b"Client Key", b"Server Key"))
        whole = f"{self.first},{self.said},{bare}".encode()
        signature = hmac.digest(hashlib.new(self.digest, client).digest(), whole, self.digest)
        expected = bytes(one ^ other for one, other in zip(client, signature, strict=True))
        self.done = hmac.compare_digest(expected, base64.b64decode(proof))
        return b"v=" + base64.b64encode(hmac.digest(server, whole, self.digest)) if self.done else None


def _fields(text: str) -> dict[str, str]:
    return dict(each.split("=", 1) for each in text.split(","))


def _server(wanted: Secured) -> _Plain | _Scram:
    digests = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
    return _Plain(wanted) if wanted.mechanism == "PLAIN" else _Scram(wanted, digests[wanted.mechanism])
