"""Clients for tests: of any address without a kubeconfig, and kubeconfigs for addresses that have none."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from support.api import ADMIN
from support.clock import FakeClock

from chronik.kube import ConnectOptions
from chronik.kube.client import ApiKube
from chronik.kube.credentials import Access, Credentials, FixedToken
from chronik.kube.transport import open_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

    from support.api import ApiServer

    from chronik.errors import ApiError
    from chronik.manifest import Manifest


@asynccontextmanager
async def client(
    url: str, time: FakeClock | None = None, credentials: Credentials | None = None, **options: Any
) -> AsyncIterator[ApiKube]:
    """Give a client of that server, whose time does not pass by itself."""
    access = Access(url, "a test", "default", credentials or FixedToken("Bearer t"))
    connect_options = ConnectOptions(clock=(time or FakeClock()).clock, **options)
    async with open_transport(access, connect_options) as transport:
        yield ApiKube(transport)


class ScriptedGuard:
    """Lets every write begin, and refuses at the last moment with `refusal`, if there is one; `log` has what it saw."""

    def __init__(self, refusal: ApiError | None = None) -> None:
        self.refusal = refusal
        self.log: list[str] = []

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Enclose a write."""
        self.log.append("begins")
        try:
            yield
        finally:
            self.log.append("ends")

    def check(self) -> None:
        """Refuse, or not."""
        self.log.append("check")
        if self.refusal is not None:
            raise self.refusal


def options_for(server: ApiServer, context: str = ADMIN, **options: Any) -> ConnectOptions:
    """Return how to connect to one of the suite's servers, as one of its users."""
    return ConnectOptions(kubeconfig=str(server.kubeconfig), context=context, clock=FakeClock().clock, **options)


def kubeconfig_for(url: str, folder: Path, user: dict[str, Any], **cluster: str) -> str:
    """Write a kubeconfig of one context, and return its path."""
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def config_map(namespace: str, name: str = "a", **data: str) -> Manifest:
    """Return the smallest manifest that has something in it."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}
