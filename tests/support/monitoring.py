"""The kinds of the Prometheus operator, as far as chronik uses them: their definitions, played.

Field names and types: https://prometheus-operator.dev/docs/api-reference/api/
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.definitions import definition

from chronik.manifest import KindName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import ApiServer

GROUP = "monitoring.coreos.com"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

STRING: dict[str, Any] = {"type": "string"}
STRINGS: dict[str, Any] = {"type": "array", "items": STRING}
SELECTOR = {
    "type": "object",
    "x-kubernetes-map-type": "atomic",
    "properties": {"matchLabels": {"type": "object", "additionalProperties": STRING}},
}
RELABELING = {
    "type": "object",
    "properties": {
        "sourceLabels": STRINGS,
        "regex": STRING,
        "replacement": STRING,
        "targetLabel": STRING,
        "action": STRING,
    },
}
_DURATION = {"type": "string", "pattern": r"^(0|(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"}
ENDPOINT = {
    "type": "object",
    "properties": {
        "port": STRING,
        "path": STRING,
        "interval": _DURATION,
        "relabelings": {"type": "array", "items": RELABELING},
    },
}


def _monitor(kind: str, endpoints: str) -> dict[str, Any]:
    """Return the definition of a kind whose spec has its endpoints in such a field."""
    spec = {
        "type": "object",
        "required": [endpoints, "selector"],
        "properties": {
            "selector": SELECTOR,
            "podTargetLabels": STRINGS,
            endpoints: {"type": "array", "items": ENDPOINT},
        },
    }
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    return definition(KindName(f"{GROUP}/v1", kind), f"{kind.lower()}s", schema)


DEFINITIONS = [_monitor("ServiceMonitor", "endpoints"), _monitor("PodMonitor", "podMetricsEndpoints")]


def install(server: ApiServer) -> None:
    """Install the kinds, and wait until they are served."""
    for each in DEFINITIONS:
        name = each["metadata"]["name"]
        answer = server.call("PATCH", f"{_CRDS}/{name}", each, fieldManager="suite", force=True)
        assert answer.code in {200, 201}, answer.body
        _wait(server, each["spec"]["names"]["plural"], 200)


def uninstall(server: ApiServer) -> None:
    """Remove the kinds with all their objects, and wait until they are gone."""
    for each in DEFINITIONS:
        assert server.call("DELETE", f"{_CRDS}/{each['metadata']['name']}").code in {200, 404}
        _wait(server, each["spec"]["names"]["plural"], 404)


@contextmanager
def installed(server: ApiServer) -> Iterator[None]:
    """Have the kinds installed for a while."""
    install(server)
    try:
        yield
    finally:
        uninstall(server)


def _wait(server: ApiServer, plural: str, code: int) -> None:
    deadline = time.monotonic() + 30
    while server.call("GET", f"/apis/{GROUP}/v1/{plural}").code != code:
        assert time.monotonic() < deadline, f"{plural}: not {code}"
        time.sleep(0.05)
