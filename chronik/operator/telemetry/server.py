"""The operator's two HTTP ports: one that answers probes, one that gives out metrics (S32-S34).

A standby answers too. An answer at all means that the event loop turns; the rest is what the checks say.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from aiohttp import web

from chronik.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

HEALTH_PORT, METRICS_PORT = 8081, 8080

Check: TypeAlias = "Callable[[], str]"
"""Returns what is wrong, in a few words; nothing if all is well."""


class Exposition(Protocol):
    """Metrics, as `metrics.Metrics` gives them out."""

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the text of all metrics in a format that the Accept header allows, and its content type."""


@dataclass(frozen=True, slots=True)
class Probes:
    """The checks by name: those of liveness, and those of readiness.

    A standby is ready. Not being live gets the process killed, so only what a restart mends belongs there.
    """

    live: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)


class Watchdog:
    """Which piece of work each worker is at, and for how long; `check` is for `Probes.live`.

    A worker is stuck after `limit` seconds: far longer than all retries of one reconcile may take.
    """

    def __init__(self, limit: float = 900.0, now: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._now = limit, now
        self._began: dict[object, tuple[str, float]] = {}

    @contextmanager
    def busy(self, what: object) -> Iterator[None]:
        """Say that a worker is at something for as long as the block lasts."""
        token = object()
        self._began[token] = (str(what), self._now())
        try:
            yield
        finally:
            del self._began[token]

    def check(self) -> str:
        """Name the work that a worker is stuck at."""
        late = [(what, self._now() - began) for what, began in self._began.values()]
        return ", ".join(f"{what} takes {seconds / 60:.0f} min" for what, seconds in late if seconds > self._limit)


@dataclass(frozen=True, slots=True)
class Serving:
    """The ports that were opened, as numbers."""

    health_port: int
    metrics_port: int


@asynccontextmanager
async def serving(
    probes: Probes,
    metrics: Exposition,
    health_port: int = HEALTH_PORT,
    metrics_port: int = METRICS_PORT,
    host: str = "",
) -> AsyncIterator[Serving]:
    """Answer while the block runs; 0 is a port that is free, and no host all addresses.

    Raises:
        InputError: a port cannot be had.
    """
    async with AsyncExitStack() as stack:
        health = await stack.enter_async_context(_listening(_health(probes), host, health_port, "--health-port"))
        exposed = await stack.enter_async_context(_listening(_metrics(metrics), host, metrics_port, "--metrics-port"))
        yield Serving(health, exposed)


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int, option: str) -> AsyncIterator[int]:
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.SockSite(runner, _open(host, port)).start()
        except OSError as error:
            address = f"{host or '*'}:{port}"
            hint = f"Choose another with {option}; 0 takes one that is free."
            why = os.strerror(error.errno) if error.errno else str(error)
            raise InputError(f"cannot be listened on: {why}", subject=address, hint=hint) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _open(host: str, port: int) -> socket.socket:
    """Return a listening socket; without a host for IPv4 and IPv6 alike, as far as the machine has both."""
    if not host:
        with suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _health(probes: Probes) -> web.Application:
    async def live(_: web.Request) -> web.Response:
        return _answer(probes.live)

    async def ready(_: web.Request) -> web.Response:
        return _answer(probes.ready)

    app = web.Application()
    app.add_routes(web.get(path, live) for path in ("/health", "/healthz"))
    app.add_routes(web.get(path, ready) for path in ("/ready", "/readyz"))
    return app


def _metrics(metrics: Exposition) -> web.Application:
    async def expose(request: web.Request) -> web.Response:
        text, content_type = metrics.expose(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/metrics", expose)])
    return app


def _answer(checks: Mapping[str, Check]) -> web.Response:
    """Answer 200, or 503 if something is wrong; a line for each check in any case."""
    found = {name: _ask(check) for name, check in checks.items()}
    failed = any(found.values())
    lines = [f"{name}: {wrong or 'ok'}" for name, wrong in found.items()]
    text = "\n".join(["failed" if failed else "ok", *lines, ""])
    return web.Response(status=503 if failed else 200, text=text)


def _ask(check: Check) -> str:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  # a broken check is a failed one, not an error page
        return f"cannot be checked: {error!r}"
