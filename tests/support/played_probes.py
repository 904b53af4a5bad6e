"""Play the probes of mirrors: what they answer, and the pods that they answer from."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cli_place import Place

    from chronik.api.replication.copies import CopyState


def own_address() -> str:
    """Return an address of this machine that a real API server takes for a pod's: none of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened, suppress(OSError):
        opened.connect(("192.0.2.1", 9))  # sends nothing: it only chooses where packets would leave from
        return str(opened.getsockname()[0])
    return "127.0.0.1"


@contextmanager
def probe(state: CopyState) -> Iterator[tuple[str, int]]:
    """Answer as the probe of a mirror does while the block runs, and yield where."""
    from chronik.report.data import to_json  # noqa: PLC0415  # the tests that need it

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = to_json(state.as_data()).encode()
            self.send_response(200 if self.path == "/state" else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    address = own_address()
    server = ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address, server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def mirror_pod(place: Place, workload: str, at: tuple[str, int], name: str) -> None:
    """Play a pod of a mirror, whose probe answers at an address."""
    template = place.call("GET", "Deployment", workload).body["spec"]["template"]
    metadata = {"name": name, "namespace": place.namespace, "labels": template["metadata"]["labels"]}
    containers = [
        {"name": each["name"], "image": "x", "ports": each["ports"]} for each in template["spec"]["containers"]
    ]
    for each in containers:
        each["ports"] = [port | {"containerPort": at[1]} for port in each["ports"] if port["name"] == "metrics"]
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}
    assert place.call("POST", "Pod", body=whole).code == 201
    said = {"status": {"phase": "Running", "podIP": at[0], "podIPs": [{"ip": at[0]}]}}
    assert place.call("PATCH", "Pod", f"{name}/status", said, patch="merge").code == 200
