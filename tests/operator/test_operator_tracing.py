"""Spans: nothing without a collector, everything with one, and never a word from offline commands."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from aiohttp import web

from chronik.operator.telemetry import tracing
from chronik.operator.telemetry.tracing import span

NOT_INSTALLED = "opentelemetry-sdk is not installed: chronik[tracing] has it"


@pytest.fixture
def spans():
    """Give what has been measured, and stop measuring at the end."""
    exporting = pytest.importorskip("opentelemetry.sdk.trace.export", reason=NOT_INSTALLED)
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=NOT_INSTALLED)
    exporter = memory.InMemorySpanExporter()
    tracing.send_to(exporting.SimpleSpanProcessor(exporter), {"OTEL_SERVICE_NAME": "mine"})
    yield exporter.get_finished_spans
    tracing.shutdown()


def test_spans_nest(spans):
    """A span within another is its child; both have their names and attributes, and those of the service."""
    with span("reconcile", cluster="n/a"), span("apply", objects=22):
        pass

    apply, reconcile = spans()
    assert (apply.name, dict(apply.attributes)) == ("apply", {"objects": 22})
    assert (reconcile.name, dict(reconcile.attributes)) == ("reconcile", {"cluster": "n/a"})
    assert apply.parent.span_id == reconcile.context.span_id
    assert reconcile.resource.attributes["service.name"] == "mine"


def test_failed_span(spans):
    """An exception that leaves a span is noted in it, and goes on."""
    with pytest.raises(KeyError), span("reconcile"):
        raise KeyError("spec")

    (failed,) = spans()
    assert not failed.status.is_ok
    assert failed.events[0].attributes["exception.type"] == "KeyError"


def test_nothing_without_an_endpoint():
    """Without an endpoint nothing is set up, and a span is only its block."""
    assert tracing.setup({}) is False
    with span("reconcile", cluster="n/a"):
        assert tracing.trace_id() == ""


def test_missing_extra_is_a_warning(monkeypatch, caplog):
    """An endpoint without OpenTelemetry installed gets a warning that says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    assert tracing.setup({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}) is False
    assert "install chronik[tracing]" in caplog.text


async def test_spans_arrive_at_a_collector(monkeypatch):
    """Spans are sent to the endpoint over HTTP, at the latest when the operator ends."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason=NOT_INSTALLED)
    received = []

    async def collect(request: web.Request) -> web.Response:
        received.append((request.path, await request.read()))
        return web.Response()

    runner = web.ServerRunner(web.Server(collect))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        assert tracing.setup() is True
        with span("reconcile", cluster="n/a"):
            pass
        await asyncio.to_thread(tracing.shutdown)
    finally:
        await runner.cleanup()

    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"reconcile" in body
    assert b"chronik-operator" in body


def test_nothing_is_loaded_before_it_is_needed():
    """Importing the module, and using spans without a collector, loads no OpenTelemetry."""
    code = """
import sys
from chronik.operator.telemetry.tracing import setup, span
setup({})
with span("x"):
    pass
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
