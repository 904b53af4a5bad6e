"""Probes and metrics over HTTP: what answers, with which status, and what the answer says."""

from __future__ import annotations

import socket
from contextlib import suppress

import aiohttp
import pytest

from chronik.errors import InputError
from chronik.operator.telemetry.metrics import Metrics
from chronik.operator.telemetry.server import Probes, Watchdog, serving

HOST = "127.0.0.1"


async def get(port: int, path: str, method: str = "GET", host: str = HOST, **headers: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{host}:{port}{path}", headers=headers) as response,
    ):
        return response.status, await response.text(), response.headers["Content-Type"]


def fine() -> str:
    return ""


def broken() -> str:
    raise KeyError("spec")


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready", "/readyz"])
async def test_all_is_well(path):
    """Both spellings of both probes answer 200, in plain text, with a line for each check."""
    probes = Probes(live={"workers": fine}, ready={"workers": fine})
    async with serving(probes, Metrics(), 0, 0, HOST) as ports:
        assert await get(ports.health_port, path) == (200, "ok\nworkers: ok\n", "text/plain; charset=utf-8")
        assert (await get(ports.health_port, path, "HEAD"))[0] == 200


async def test_failing_check_is_named():
    """A check that fails turns the answer into 503 and says what is wrong; the others are told beside it."""
    probes = Probes(ready={"definition": fine, "caches": lambda: "waiting for the first list of Service"})
    async with serving(probes, Metrics(), 0, 0, HOST) as ports:
        status, text, _ = await get(ports.health_port, "/readyz")

        assert (status, text) == (503, "failed\ndefinition: ok\ncaches: waiting for the first list of Service\n")
        assert (await get(ports.health_port, "/healthz"))[0] == 200


async def test_broken_check_fails():
    """A check that raises is a failed check, in the same form."""
    async with serving(Probes(live={"workers": broken}), Metrics(), 0, 0, HOST) as ports:
        assert await get(ports.health_port, "/health") == (
            503,
            "failed\nworkers: cannot be checked: KeyError('spec')\n",
            "text/plain; charset=utf-8",
        )


async def test_checks_are_asked_each_time():
    """An answer is of now, not of the last time."""
    wrong = ["still starting"]
    async with serving(Probes(ready={"caches": lambda: wrong[0]}), Metrics(), 0, 0, HOST) as ports:
        assert (await get(ports.health_port, "/ready"))[0] == 503
        wrong[0] = ""
        assert (await get(ports.health_port, "/ready"))[0] == 200


def test_stuck_worker_is_named():
    """A piece of work that takes too long fails the check, by name, until it is done."""
    now = [0.0]
    workers = Watchdog(limit=600, now=lambda: now[0])
    with workers.busy("n/quick"):
        now[0] = 599
        assert workers.check() == ""
    with workers.busy("n/slow"), workers.busy("n/other"):
        now[0] = 1200
        assert workers.check() == "n/slow takes 10 min, n/other takes 10 min"
    assert workers.check() == ""


def test_worker_that_fails_is_not_stuck():
    """Work that ends in an error has ended."""
    now = [0.0]
    workers = Watchdog(limit=600, now=lambda: now[0])
    with pytest.raises(KeyError), workers.busy("n/a"):
        raise KeyError
    now[0] = 10_000

    assert workers.check() == ""


async def test_metrics_have_a_port_of_their_own():
    """Metrics are on their port only, probes on theirs only."""
    metrics = Metrics()
    metrics.wrote("created", 3)
    async with serving(Probes(), metrics, 0, 0, HOST) as ports:
        status, text, content_type = await get(ports.metrics_port, "/metrics")
        assert status == 200
        assert 'chronik_writes_total{action="created"} 3.0' in text
        assert content_type.startswith("text/plain")
        assert (await get(ports.health_port, "/metrics"))[0] == 404
        assert (await get(ports.metrics_port, "/health"))[0] == 404


async def test_metrics_as_prometheus_asks():
    """The Accept header of Prometheus gets OpenMetrics, with its end mark."""
    async with serving(Probes(), Metrics(), 0, 0, HOST) as ports:
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
        _, text, content_type = await get(ports.metrics_port, "/metrics", Accept=accept)

    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize("address", [HOST, "[::1]"])
async def test_all_addresses(address):
    """Without a host, every address of the machine answers, so that pods may have addresses of either family."""
    if address != HOST and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with serving(Probes(), Metrics(), 0, 0) as ports:
        assert (await get(ports.health_port, "/health", host=address))[:2] == (200, "ok\n")


async def test_port_in_use():
    """A port that somebody else has is an error that names it and the option, and leaves nothing open."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"{HOST}:{port}: cannot be listened on.*\n.*--metrics-port"):
            async with serving(Probes(), Metrics(), 0, port, HOST):
                pytest.fail("a port cannot be had twice")


async def test_ports_are_free_again():
    """When the block ends, both ports are closed."""
    async with serving(Probes(), Metrics(), 0, 0, HOST) as ports:
        pass
    async with serving(Probes(), Metrics(), ports.health_port, ports.metrics_port, HOST) as again:
        assert again == ports
