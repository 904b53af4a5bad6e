"""What the probe answers: the kubelet's questions about both containers of a mirror, and metrics."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from chronik.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from chronik.probe.measure import Measure

PORT = 8080


class Lag:
    """The metrics of a mirror, as they are when they are read."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def collect(self) -> Iterator[Metric]:
        """Yield all families; what is not measured has no series."""
        measure = self._measure
        values = {
            "chronik_replication_lag_seconds": ("How far the copy is behind its source, end to end.", measure.lag),
            "chronik_replication_max_lag_seconds": ("How far it may be behind.", measure.max_lag),
            "chronik_replication_source_reachable": (
                "Whether a broker of the source takes connections: 1 or 0.",
                float(measure.reachable),
            ),
            "chronik_replication_missing_partitions": (
                "Partitions of the source that are not here.",
                None if measure.missing is None else float(len(measure.missing)),
            ),
            "chronik_replication_untranslated_groups": (
                "Consumer groups of the source with a place that has not been translated.",
                None if measure.untranslated is None else float(len(measure.untranslated)),
            ),
        }
        for name, (text, value) in values.items():
            family = GaugeMetricFamily(name, text, labels=["source", "target"])
            if value is not None:
                family.add_metric([measure.source, measure.target], value)
            yield family


def application(measure: Measure) -> web.Application:
    """Return the answers.

    /healthz, /started, /readyz for the lag, /source for the source's brokers, /state for all of it, and /metrics.
    """
    registry = CollectorRegistry()
    registry.register(Lag(measure))

    async def metrics(request: web.Request) -> web.Response:
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(registry), headers={"Content-Type": content_type})

    async def state(_: web.Request) -> web.Response:
        return web.json_response(measure.state().as_data())

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", _answering(lambda: "")),
            web.get("/started", _answering(measure.not_started)),
            web.get("/readyz", _answering(measure.not_ready)),
            web.get("/source", _answering(measure.unreachable)),
            web.get("/state", state),
            web.get("/metrics", metrics),
        ]
    )
    return app


def _answering(check: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    return answer


@asynccontextmanager
async def serving(measure: Measure, host: str = "", port: int = PORT) -> AsyncIterator[int]:
    """Answer while the block runs, and yield the port; 0 is one that is free, and no host all addresses.

    Raises:
        InputError: the port cannot be had.
    """
    runner = web.AppRunner(application(measure), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host or None, port).start()
        except OSError as error:
            raise InputError(f"cannot be listened on: {error.strerror}", subject=f"{host or '*'}:{port}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
