"""Spans: how long the parts of a reconcile take, sent to an OpenTelemetry collector over OTLP/HTTP (S16, S36).

`span` does nothing unless the extra `chronik[tracing]` is installed and OTEL_EXPORTER_OTLP_ENDPOINT is set; everything
else is set by OpenTelemetry's own variables (headers, sampler, name).
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chronik import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Tracer

_log = logging.getLogger("chronik.operator.tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE_NAME = "chronik-operator"


class _State:
    """Where spans go: nowhere until `setup`."""

    provider: TracerProvider | None = None
    tracer: Tracer | None = None


_state = _State()


def setup(environ: Mapping[str, str] = os.environ) -> bool:
    """Begin to send spans, if the environment says where to; return whether they are sent."""
    if not any(environ.get(name) for name in ENDPOINTS):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        _log.warning("spans are not sent: %s; install chronik[tracing]", error)
        return False
    send_to(BatchSpanProcessor(OTLPSpanExporter()), environ)
    return True


def send_to(processor: SpanProcessor, environ: Mapping[str, str] = os.environ) -> None:
    """Let a processor have all spans from now on."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    named = {"service.name": environ.get("OTEL_SERVICE_NAME", SERVICE_NAME), "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    _state.provider, _state.tracer = provider, provider.get_tracer("chronik", __version__)


def shutdown() -> None:
    """Send what has not been sent yet, and stop. Blocks for as long as the exporter's timeout (10 s) at most."""
    provider, _state.provider, _state.tracer = _state.provider, None, None
    if provider is not None:
        provider.shutdown()


@contextmanager
def span(name: str, **attributes: str | float | bool) -> Iterator[None]:
    """Measure the block as a span; an exception that leaves it is noted, and marks the span as failed."""
    if _state.tracer is None:
        yield
        return
    with _state.tracer.start_as_current_span(name, attributes=attributes):
        yield


def trace_id() -> str:
    """Return the id of the trace that is being recorded, in 32 hex digits; empty if there is none."""
    if _state.tracer is None:
        return ""
    from opentelemetry.trace import format_trace_id, get_current_span  # noqa: PLC0415

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""
