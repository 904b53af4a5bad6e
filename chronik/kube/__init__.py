"""The API server: get, list, watch, apply, create, delete, and typed errors. Nothing else talks to one.

May import the root modules only. Open `interface.py` first: `Kube` is what the rest of chronik sees.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chronik.kube.interface import ConnectOptions, Kube, Listing, Propagation, WatchEvent, WriteGuard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ConnectOptions", "Kube", "Listing", "Propagation", "WatchEvent", "WriteGuard", "connect", "connect_with"]


@asynccontextmanager
async def connect(options: ConnectOptions | None = None) -> AsyncIterator[Kube]:
    """Give access to the API server that the options name, for as long as the block lasts.

    Raises:
        KubeconfigError: nothing usable is configured. No request is sent yet.
    """
    from chronik.kube.client import ApiKube  # noqa: PLC0415  # the HTTP client takes 150 ms to import
    from chronik.kube.kubeconfig import find_access  # noqa: PLC0415
    from chronik.kube.transport import open_transport  # noqa: PLC0415

    options = options or ConnectOptions()
    async with open_transport(find_access(options), options) as transport:
        yield ApiKube(transport)


@asynccontextmanager
async def connect_with(kubeconfig: bytes, name: str, options: ConnectOptions) -> AsyncIterator[Kube]:
    """Give access by a kubeconfig that came from elsewhere, such as a Secret; `name` is what it is called in errors.

    Raises:
        KubeconfigError: it cannot be used, or would have us read files or run programs. No request is sent yet.
    """
    from chronik.kube.client import ApiKube  # noqa: PLC0415  # as above
    from chronik.kube.kubeconfig import handed_access  # noqa: PLC0415
    from chronik.kube.transport import open_transport  # noqa: PLC0415

    async with open_transport(handed_access(kubeconfig, name, options), options) as transport:
        yield ApiKube(transport)
