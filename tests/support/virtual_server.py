"""An API server without sockets, for the client's transport in virtual time: slow in every part that can be slow."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from multidict import CIMultiDict

from chronik.clock import Clock
from chronik.kube import ConnectOptions
from chronik.kube.client import ApiKube
from chronik.kube.credentials import Access, FixedToken
from chronik.kube.transport import open_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chronik.kube import WriteGuard
    from chronik.kube.credentials import Credentials

_OBJECT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7"},
    "items": [],
}
"""What every answer holds: the one object that is asked for, or a list of none."""


class VirtualServer:
    """Takes requests as aiohttp's session does.

    `connecting` and `answering` are the seconds before a request goes out and after it. `refusals` are answered first,
    one after the other: an HTTP code and the seconds of its Retry-After. `sent` are the methods and targets of what
    went out, `done` of what was answered well. `before_sending` is called the moment before the first byte.
    """

    def __init__(self, *, connecting: float = 0.01, answering: float = 0.01) -> None:
        self.connecting, self.answering = connecting, answering
        self.refusals: list[tuple[int, int]] = []
        self.before_sending: Callable[[], object] = lambda: None
        self.sent: list[str] = []
        self.done: list[str] = []

    async def request(self, method: str, *, url: Any, data: aiohttp.BytesPayload | None, **_: Any) -> _Answer:
        """Send a request, unless its body does not let itself be written, and answer it."""
        await asyncio.sleep(self.connecting)
        self.before_sending()
        target = f"{method} {url.raw_path_qs}"
        if data is not None:
            await self._write(data)
        self.sent.append(target)
        await asyncio.sleep(self.answering)
        if self.refusals:
            return _Answer(*self.refusals.pop(0))
        self.done.append(target)
        return _Answer()

    async def _write(self, data: aiohttp.BytesPayload) -> None:
        """Fail as aiohttp does, which writes bodies in a task of its own."""
        try:
            await data.write_with_length(_Wire(), None)
        except Exception as error:
            raise aiohttp.ClientConnectionError(f"Failed to send bytes: {error!r}") from error

    async def close(self) -> None:
        """Do nothing."""


class _Wire:
    transport = None  # there is no connection to be reset

    async def write(self, chunk: bytes) -> None:
        assert chunk


class _Answer:
    def __init__(self, status: int = 200, retry_after: int | None = None) -> None:
        self.status = status
        self.headers = CIMultiDict({} if retry_after is None else {"Retry-After": str(retry_after)})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self) -> bytes:
        return json.dumps(_OBJECT if self.status < 300 else {"message": "no"}).encode()


@asynccontextmanager
async def virtual_kube(
    server: VirtualServer, guard: WriteGuard, credentials: Credentials | None = None, **options: Any
) -> AsyncIterator[ApiKube]:
    """Give a client of that server whose writes are guarded."""
    access = Access("http://virtual", "a test", "n", credentials or FixedToken("Bearer t"))
    clock = Clock(now=asyncio.get_running_loop().time)
    async with open_transport(access, ConnectOptions(guard=guard, clock=clock, **options)) as transport:
        await transport._session.close()
        transport._session = server  # type: ignore[assignment]  # it has what the transport uses
        yield ApiKube(transport)
