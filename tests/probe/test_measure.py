"""What the probe makes of heartbeats: a lag, and answers to the kubelet."""

from __future__ import annotations

import struct

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from chronik.probe.measure import Measure, heartbeat_time, heartbeat_topic
from chronik.probe.server import application


class Time:
    """A wall clock that the test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def heartbeat(seconds: float, version: int = 0) -> bytes:
    """Return a heartbeat as MirrorMaker 2 writes it."""
    return struct.pack(">hq", version, int(seconds * 1000))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (heartbeat(12.5), 12.5),
        (bytes.fromhex("0000000001994f2a8c00"), 1757969812.48),
        (heartbeat(12.5, version=1), None),
        (heartbeat(12.5)[:-1], None),
        (heartbeat(12.5) + b"x", None),
        (b"", None),
        (None, None),
    ],
)
def test_heartbeats_are_read(value, expected):
    """A heartbeat of version 0 has a time in milliseconds; anything else is none."""
    assert heartbeat_time(value) == expected


def test_heartbeats_lie_below_the_name_of_their_source():
    """Heartbeats keep the name of their source before them under every naming."""
    assert heartbeat_topic("east") == "east.heartbeats"


def test_the_lag_is_the_age_of_the_newest_heartbeat():
    """The newest heartbeat counts, whatever comes after it, and a time in the future is no lag."""
    time = Time()
    measure = Measure("east", 60, time)
    for each in (990, 995, 980):
        measure.heard(heartbeat(each))
    measure.heard(b"garbage")

    assert measure.lag == 5
    time.seconds += 60
    assert measure.lag == 65
    measure.heard(heartbeat(5000))
    assert measure.lag == 0


def test_until_the_first_heartbeat_the_lag_is_at_least_as_long():
    """Before the first heartbeat the copy is behind by as long as the probe has waited, and is not ready."""
    time = Time()
    measure = Measure("east", 60, time)
    time.seconds += 7

    assert measure.lag == 7
    assert measure.not_started() == measure.not_ready() == "no heartbeat has come to east.heartbeats yet"
    measure.trouble = "cannot read"
    assert measure.not_ready() == "cannot read"


def test_a_copy_that_is_too_far_behind_is_not_ready():
    """The copy is ready up to maxLag, and says beyond it how far behind it is."""
    time = Time()
    measure = Measure("east", 60, time)
    measure.heard(heartbeat(1000))
    time.seconds += 60

    assert (measure.not_started(), measure.not_ready()) == ("", "")
    time.seconds += 1.5
    assert measure.not_ready() == "61.5 s behind, and 60 s are allowed"


def test_without_heartbeats_nothing_is_measured():
    """A source without heartbeats has no lag, and the probe no reason to be unready."""
    measure = Measure("east", None, Time())

    assert (measure.lag, measure.not_started(), measure.not_ready()) == (None, "", "")


async def test_answers():
    """The kubelet's questions get 200 or 503, and a reason."""
    time = Time()
    measure = Measure("east", 60, time)
    async with TestClient(TestServer(application(measure))) as client:

        async def ask(path: str) -> tuple[int, str]:
            answer = await client.get(path)
            return answer.status, (await answer.text()).strip()

        assert [(await ask(path))[0] for path in ("/healthz", "/started", "/readyz", "/source")] == [200, 503, 503, 503]
        measure.heard(heartbeat(1000))
        measure.reachable = True
        assert [await ask(path) for path in ("/started", "/readyz", "/source")] == [(200, "ok")] * 3
        time.seconds += 90
        measure.reachable = False
        assert await ask("/readyz") == (503, "90.0 s behind, and 60 s are allowed")
        assert await ask("/source") == (503, "none of the brokers of east can be reached")
        assert (await ask("/started"))[0] == 200


@pytest.mark.parametrize(
    ("max_lag", "expected"),
    [
        (60, {"chronik_replication_lag_seconds": 30, "chronik_replication_max_lag_seconds": 60}),
        (None, {}),
    ],
)
async def test_metrics(max_lag, expected):
    """The lag, what is allowed and whether the source is there are metrics of the source; what is unknown is none."""
    time = Time()
    measure = Measure("east", max_lag, time)
    time.seconds += 30
    async with TestClient(TestServer(application(measure))) as client:
        text = await (await client.get("/metrics")).text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    assert {sample.name: sample.value for sample in samples} == {"chronik_replication_source_reachable": 0, **expected}
    assert {sample.labels["source"] for sample in samples} == {"east"}
