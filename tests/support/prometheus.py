"""A real Prometheus on loopback, and an exporter that a test steers: it exposes what it is told, a gauge a line."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson
import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
    from pathlib import Path

BINARY = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(BINARY is None, reason="no prometheus found in PATH")
_START_SECONDS = 60


class Exporter:
    """What is scraped: `lines` in Prometheus' text format, by series."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        host, _, port = address.partition(":")
        self.series: dict[str, float] = {}
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = "".join(f"{name} {value}\n" for name, value in [*exporter.series.items()])
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                with suppress(BrokenPipeError):  # it asks again
                    self.wfile.write(text.encode())

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, int(port)), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


class PrometheusServer:
    """A Prometheus with a configuration."""

    exporter: Exporter

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "prometheus.yml"
        config.write_bytes(orjson.dumps(configuration))  # JSON is YAML
        self._log = (folder / "prometheus.log").open("w")
        assert BINARY is not None
        command = [BINARY, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--query.lookback-delta=3s"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.1)
        self.close()
        raise AssertionError("prometheus does not start")

    def value(self, query: str) -> str | None:
        """Return the first value of an instant query, or None."""
        result = self._result(query)
        return str(result[0]["value"][1]) if result else None

    def labels(self, query: str) -> list[dict[str, str]]:
        """Return the labels of each series of an instant query."""
        return [each["metric"] for each in self._result(query)]

    def _result(self, query: str) -> list[dict[str, Any]]:
        text = urllib.parse.quote(query)
        with urllib.request.urlopen(f"{self.url}/api/v1/query?query={text}", timeout=5) as answer:
            found: list[dict[str, Any]] = orjson.loads(answer.read())["data"]["result"]
        return found

    def until(self, query: str, value: str | None) -> None:
        """Wait until a query has a value."""
        deadline = time.monotonic() + 20
        while self.value(query) != value:
            assert time.monotonic() < deadline, (query, self.value(query))
            time.sleep(0.1)

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()


@contextmanager
def prometheus_server(folder: Path) -> Iterator[PrometheusServer]:
    """Give a Prometheus that scrapes an exporter every 200 ms, for as long as the block runs."""
    exporter = Exporter()
    targets = [{"targets": [f"127.0.0.1:{exporter.port}"]}]
    job = {"job_name": "suite", "honor_labels": True, "static_configs": targets}
    try:
        server = PrometheusServer(folder, {"global": {"scrape_interval": "200ms"}, "scrape_configs": [job]})
        server.exporter = exporter
        try:
            yield server
        finally:
            server.close()
    finally:
        exporter.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
