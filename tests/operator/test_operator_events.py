"""Events: they arrive and can be read with kubectl, they never stand in the way, and nobody is flooded with them."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress

import pytest
from support.clock import FakeClock

from chronik.errors import Forbidden, NamespaceTerminating
from chronik.kube import ConnectOptions, connect
from chronik.operator.telemetry.events import BURST, LONGEST_MESSAGE, REFILL, WINDOW, Recorder, shorten

CLUSTER = {
    "apiVersion": "chronik.stream/v1alpha1",
    "kind": "ChronikCluster",
    "metadata": {"name": "a", "namespace": "n", "uid": "u-1", "resourceVersion": "7"},
}


class Sink:
    """A Kube that keeps what is created, and fails or hangs if it is told to."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def create(self, manifest: dict) -> dict:
        """Keep it."""
        await self.open.wait()
        if self.error:
            raise self.error
        self.events.append(manifest)
        return manifest


@asynccontextmanager
async def recording(kube, time: FakeClock | None = None):
    """Give a recorder that sends what it is told."""
    recorder = Recorder(kube, "chronik-operator-0", clock=(time or FakeClock()).clock)
    task = asyncio.ensure_future(recorder.run())
    yield recorder
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_namespace_that_is_being_deleted_is_left_alone(caplog):
    """Once a namespace has said that it is being deleted, no more events are sent there, and nobody is told."""
    sink, asked = Sink(), []
    sink.error = NamespaceTerminating("being deleted")
    send = sink.create

    async def create(manifest):
        asked.append(manifest["reason"])
        return await send(manifest)

    sink.create = create
    other = CLUSTER | {"metadata": CLUSTER["metadata"] | {"namespace": "m", "uid": "u-2"}}
    async with recording(sink) as recorder:
        for reason in ("First", "Second", "Third"):
            recorder.record(CLUSTER, "Normal", reason, "x")
        await recorder.flush(1)
        recorder.record(CLUSTER, "Normal", "Fourth", "x")
        sink.error = None
        recorder.record(other, "Normal", "Elsewhere", "x")
        await recorder.flush(1)

    assert asked == ["First", "Elsewhere"]
    assert caplog.records == []


async def test_same_event_is_counted():
    """The same event within ten minutes is written once; the next one written has the count of those held back."""
    sink, now = Sink(), FakeClock()
    async with recording(sink, now) as recorder:
        for _ in range(5):
            recorder.record(CLUSTER, "Warning", "Forbidden", "no right")
            now.time += WINDOW / 10
        await recorder.flush(1)
        assert [event["count"] for event in sink.events] == [1]
        now.time += WINDOW
        recorder.record(CLUSTER, "Warning", "Forbidden", "no right")
        await recorder.flush(1)

    assert [event["count"] for event in sink.events] == [1, 5]
    assert sink.events[0]["metadata"]["name"] != sink.events[1]["metadata"]["name"]


@pytest.mark.parametrize(
    "other",
    [
        (CLUSTER, "Normal", "Forbidden", "no right"),
        (CLUSTER, "Warning", "Updating", "no right"),
        (CLUSTER, "Warning", "Forbidden", "other"),
        ({**CLUSTER, "metadata": {**CLUSTER["metadata"], "uid": "u-2"}}, "Warning", "Forbidden", "no right"),
    ],
    ids=["type", "reason", "note", "object"],
)
async def test_other_events_are_written(other):
    """An event of another type, reason or note, or about another object of that name, is another event."""
    sink = Sink()
    async with recording(sink) as recorder:
        recorder.record(CLUSTER, "Warning", "Forbidden", "no right")
        recorder.record(*other)
        await recorder.flush(1)

    assert len(sink.events) == 2


async def test_one_object_cannot_flood():
    """An object with ever new notes gets a burst of events, then one in five minutes; others are not held up by it."""
    sink, now = Sink(), FakeClock()
    async with recording(sink, now) as recorder:
        for number in range(BURST * 3):
            recorder.record(CLUSTER, "Normal", "Changed", f"note {number}")
        recorder.record({**CLUSTER, "metadata": {"name": "b", "namespace": "n"}}, "Normal", "Changed", "note")
        await recorder.flush(1)
        assert len(sink.events) == BURST + 1
        now.time += REFILL
        for number in range(3):
            recorder.record(CLUSTER, "Normal", "Changed", f"later {number}")
        await recorder.flush(1)

    assert len(sink.events) == BURST + 2


async def test_slow_server_delays_nobody(caplog):
    """While the server does not answer, recording takes no time and memory has an end; the loss is logged once."""
    sink = Sink()
    sink.open.clear()
    caplog.set_level(logging.DEBUG)
    async with recording(sink) as recorder:
        await asyncio.sleep(0)
        began = time.monotonic()
        for number in range(3000):
            recorder.record({**CLUSTER, "metadata": {"name": f"c{number}", "namespace": "n"}}, "Normal", "Created", "x")
        assert time.monotonic() - began < 10
        await recorder.flush(0.01)
        assert sink.events == []
        sink.open.set()
        await recorder.flush(60)

    assert 1000 <= len(sink.events) < 3000
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


async def test_failure_is_logged_once(caplog):
    """A refused event is swallowed and logged; a second one is not, unless one got through in between."""
    sink = Sink()
    sink.error = Forbidden("may not create events", subject="Event/n/a")
    async with recording(sink) as recorder:
        for number in range(3):
            recorder.record(CLUSTER, "Normal", "Created", f"{number}")
        await recorder.flush(1)
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "an event was not written: Event/n/a: may not create events"
        ]
        sink.error = None
        recorder.record(CLUSTER, "Normal", "Created", "works")
        await recorder.flush(1)
        sink.error = Forbidden("again")
        recorder.record(CLUSTER, "Normal", "Created", "fails")
        await recorder.flush(1)

    assert [event["message"] for event in sink.events] == ["works"]
    assert [record.levelname for record in caplog.records].count("WARNING") == 2


@pytest.mark.parametrize(
    ("text", "length"),
    [("short", 5), ("x" * 1024, 1024), ("x" * 5000, 1024), ("ä" * 600, 1023), ("🙂" * 256, 1024), ("🙂" * 257, 1023)],
)
def test_messages_are_cut(text, length):
    """A note is cut to what the API server takes, in bytes, between characters, and ends in an ellipsis then."""
    short = shorten(text)

    assert len(short.encode()) == length <= LONGEST_MESSAGE
    assert short == text or (short[-1] == "…" and text.startswith(short[:-1]))


async def test_cluster_scoped_and_long_names():
    """An event about something without a namespace is in `default`, and one about a long name has a valid name."""
    sink = Sink()
    async with recording(sink) as recorder:
        recorder.record(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x" * 199 + "-" + "y" * 53}}, "Normal", "R", "n"
        )
        await recorder.flush(1)

    (event,) = sink.events
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]
    assert len(event["metadata"]["name"]) <= 253
    assert "-." not in event["metadata"]["name"]


# --- on servers -------------------------------------------------------------------------------------------------------


def cluster_on(server, namespace: str) -> dict:
    """Create a ChronikCluster and return it."""
    spec = {
        "storage": {"backend": "local"},
        "metastore": {"database": "postgres", "connection": {"host": "db", "database": "x", "credentialsSecret": "s"}},
    }
    document = {**CLUSTER, "metadata": {"name": "a", "namespace": namespace}, "spec": spec}
    path = f"/apis/chronik.stream/v1alpha1/namespaces/{namespace}/chronikclusters/a"
    answer = server.call("PATCH", path, document, fieldManager="suite")
    assert answer.code == 201, answer.body
    return answer.body


async def test_event_on_a_server(server, namespace):
    """Both servers take an event as it is made, with all that names its object, its source and its times."""
    cluster = cluster_on(server, namespace)
    async with connect(ConnectOptions(kubeconfig=str(server.kubeconfig))) as kube, recording(kube) as recorder:
        recorder.record(cluster, "Warning", "SecretMissing", "ü" * 2000)
        await recorder.flush(5)

    (event,) = server.call("GET", f"/api/v1/namespaces/{namespace}/events").body["items"]
    assert event["involvedObject"] == {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "name": "a",
        "namespace": namespace,
        "uid": cluster["metadata"]["uid"],
        "resourceVersion": cluster["metadata"]["resourceVersion"],
    }
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "SecretMissing", 1)
    assert (event["reportingComponent"], event["reportingInstance"]) == ("chronik-operator", "chronik-operator-0")
    assert event["firstTimestamp"] == event["lastTimestamp"]
    assert len(event["message"].encode()) <= LONGEST_MESSAGE


@pytest.mark.real
async def test_kubectl_shows_events(real_server):
    """`kubectl describe` and `kubectl events --for` show an event, as kubectl itself looks for it."""
    namespace = real_server.new_namespace()
    cluster = cluster_on(real_server, namespace)
    async with connect(ConnectOptions(kubeconfig=str(real_server.kubeconfig))) as kube, recording(kube) as recorder:
        recorder.record(cluster, "Normal", "Created", "22 objects created")
        await recorder.flush(5)

    described = real_server.kubectl("describe", "chronikcluster", "a", "-n", namespace)
    listed = real_server.kubectl("events", "--for", "chronikcluster.chronik.stream/a", "-n", namespace)
    for shown in (described.partition("Events:")[2], listed):
        assert "Created" in shown
        assert "22 objects created" in shown
    assert "chronik-operator" in described.partition("Events:")[2]
