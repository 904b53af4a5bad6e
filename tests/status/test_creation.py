"""Why pods are not created: read from Events, told by health, and asked for only while pods are missing."""

from __future__ import annotations

import pytest
from support.clock import FakeClock

from chronik.apply.creation import CreationFailures
from chronik.errors import Forbidden
from chronik.kube import Listing
from chronik.manifest import ObjectRef
from chronik.status.creation import creation_failures, lacks_pods, with_creation_failures
from chronik.status.health import Health, State, health

REF = ObjectRef("StatefulSet", "ns", "c-ingest")
QUOTA = 'pods "c-ingest-0" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0'


def workload(existing=0, wanted=3, **metadata):
    """Return a StatefulSet whose controller has seen it."""
    return {
        "kind": "StatefulSet",
        "metadata": {"name": REF.name, "namespace": "ns", "uid": "u", "generation": 1, **metadata},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 1, "replicas": existing},
    }


def event(message=QUOTA, at="2026-01-01T00:00:00Z", pod="c-ingest-0", uid="u", **more):
    """Return an Event as the StatefulSet controller writes it."""
    text = f"create Pod {pod} in StatefulSet c-ingest failed error: {message}"
    about = {"kind": "StatefulSet", "name": "c-ingest", "uid": uid}
    return {"metadata": {"name": "e"}, "involvedObject": about, "message": text, "lastTimestamp": at, **more}


OLD = event("limits must be set", at="2025-12-31T00:00:00Z")
FOUND = {
    "one": ([event()], (), QUOTA),
    "the newest": ([OLD, event()], (), QUOTA),
    "the newest, first": ([event(), OLD], (), QUOTA),
    "of one attempt always the same": ([event("b"), event("a", at="2026-01-01T00:00:05Z")], (), "a"),
    "one of a series": ([OLD | {"series": {"lastObservedTime": "2026-02-01T00:00:00.000000Z"}}, event()], (), None),
    "of an earlier StatefulSet of the name": ([event(uid="other")], (), ""),
    "of a pod that exists by now": ([event()], {"c-ingest-0"}, ""),
    "without a time": ([event(at=None)], (), QUOTA),
    "with a time that is none": ([event(at="yesterday")], (), QUOTA),
    "without the words of the controller": ([event() | {"message": "no room"}], (), "no room"),
    "none": ([], (), ""),
}


@pytest.mark.parametrize(("events", "pods", "message"), FOUND.values(), ids=FOUND)
def test_the_newest_event_tells(events, pods, message):
    """The newest message of the StatefulSet's own Events is found, unless the pod exists by now."""
    expected = "limits must be set" if message is None else message
    assert creation_failures([workload()], events, pods).get(REF, "") == expected


LACKING = {
    "none of three": (workload(), True),
    "all": (workload(3), False),
    "not seen by its controller": (workload(generation=2), False),
    "never seen by its controller": (workload() | {"status": {}}, False),
    "being deleted": (workload(deletionTimestamp="now"), False),
    "a Deployment, which tells by itself": (workload() | {"kind": "Deployment"}, False),
}


@pytest.mark.parametrize(("live", "lacks"), LACKING.values(), ids=LACKING)
def test_what_lacks_pods(live, lacks):
    """Pods are missing only where the controller has seen the newest spec and made too few."""
    assert lacks_pods(live) is lacks


def test_health_tells_the_failure():
    """A StatefulSet whose pods are refused has failed, and says how many exist and why."""
    told = with_creation_failures({REF: workload(1)}, {REF: QUOTA})[REF]
    assert health(told) == Health(State.FAILED, f"1 of 3 pods exist: {QUOTA}")


def test_a_failure_is_over_when_the_pods_are_there():
    """What was told of missing pods is not told of a StatefulSet that has them all."""
    complete = {REF: workload(3)}
    assert with_creation_failures(complete, {REF: QUOTA}) == complete


class Kube:
    """Answers with Events, and counts how often it is asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def list(self, kind, namespace, *, field_selector):
        """Return the Events, or raise what stands for them."""
        self.asked.append((kind.name, namespace, field_selector))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Listing(self.answer, "1")


async def test_events_are_asked_for_seldom():
    """While the same pods are missing, Events are listed after some seconds and then less and less often."""
    kube, time = Kube([event()]), FakeClock(frozen=True)
    failures = CreationFailures(kube, time.clock, patience=2.0)
    asked = {}
    for second in range(80):
        await failures.of({REF: workload()})
        asked.setdefault(len(kube.asked), second)
        await time.advance(1.0)

    assert asked == {0: 0, 1: 2, 2: 7, 3: 17, 4: 37, 5: 67}
    assert set(kube.asked) == {("Event", "ns", "reason=FailedCreate,involvedObject.kind=StatefulSet")}


async def test_nothing_is_asked_while_no_pods_are_missing():
    """Where all pods exist, Events are not asked for, and no look at them is due."""
    kube = Kube([event()])
    failures = CreationFailures(kube)

    assert await failures.of({REF: workload(3)}) == {}
    assert (kube.asked, failures.next_look()) == ([], float("inf"))


async def test_events_that_may_not_be_read():
    """Somebody who may not list Events is told everything else."""
    assert await CreationFailures(Kube(Forbidden("no"))).of({REF: workload()}) == {}
