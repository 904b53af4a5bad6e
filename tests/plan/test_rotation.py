from __future__ import annotations

import pytest

from chronik.manifest import COMPONENT_LABEL, ObjectRef
from chronik.plan.actions import TransferOwnership
from chronik.plan.rotation import ANNOTATION, ROTATION_MANAGER, required_secrets, rotation

ORDER = ("controller", "ingest")


def workload(component, *names, annotation=None):
    """Return a StatefulSet whose pods take variables from Secrets."""
    sources = [{"secretRef": {"name": name}} for name in names]
    metadata = {"annotations": {ANNOTATION: annotation}} if annotation else {}
    pod = {"containers": [{"name": component, "envFrom": sources}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": f"c-{component}", "namespace": "ns", "labels": {COMPONENT_LABEL: component}},
        "spec": {"template": {"metadata": metadata, "spec": pod}},
    }


def found(desired, secrets, *, live=None, made_with=None, may_restart=lambda _ref, _started: True):
    """Return the rotation of workloads, which all exist as they are wanted unless `live` says otherwise."""
    observed = {ObjectRef.of(each): each for each in (desired if live is None else live)}
    return rotation(desired, observed, made_with or {}, secrets.get, may_restart)


def restarted(result):
    """Return which workloads are restarted, with the annotation that they get."""
    return {
        action.ref.name: action.manifest["spec"]["template"]["metadata"]["annotations"][ANNOTATION]
        for action in result.restarts.actions
    }


BOTH = [workload(component, "s") for component in ORDER]
FIRST = found(BOTH, {"s": "1"}).digests
SECOND = found(BOTH, {"s": "2"}).digests


def test_the_first_look_restarts_nothing():
    """Of a new cluster the digests are noted, by component, and nothing is restarted."""
    result = found(BOTH, {"s": "1"})

    assert restarted(result) == {}
    assert result.digests.keys() == set(ORDER)


@pytest.mark.parametrize(
    ("annotation", "now", "due"),
    [(None, "1", False), (None, "2", True), ("second", "2", False), ("second", "1", True)],
    ids=["unchanged", "changed", "done", "changed back"],
)
def test_pods_restart_if_their_secrets_are_others(annotation, now, due):
    """What counts is what pods were made with: at first that is in the status, after a restart in the template."""
    held = SECOND["ingest"] if annotation else None
    desired, live = [workload("ingest", "s")], [workload("ingest", "s", annotation=held)]
    result = found(desired, {"s": now}, live=live, made_with=FIRST)
    expected = {"1": FIRST, "2": SECOND}[now]["ingest"]

    assert restarted(result) == ({"c-ingest": expected} if due else {})
    assert result.digests["ingest"] == FIRST["ingest"]


def test_restarts_are_small_applies_of_their_own():
    """A restart is an apply of one annotation by a field manager of its own."""
    (action,) = found([workload("ingest", "s")], {"s": "2"}, made_with=FIRST).restarts.actions

    assert isinstance(action, TransferOwnership)
    assert action.manager == ROTATION_MANAGER
    assert action.manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}


def test_every_restart_is_asked_for():
    """Before each restart it is asked whether it may be, with those that are decided already."""
    asked = []

    def may_restart(ref, started):
        asked.append((ref.name, [each.name for each in started]))
        return not started

    result = found(BOTH, {"s": "2"}, made_with=FIRST, may_restart=may_restart)

    assert asked == [("c-controller", []), ("c-ingest", ["c-controller"])]
    assert restarted(result).keys() == {"c-controller"}
    assert result.digests == FIRST


def test_a_missing_secret_is_named():
    """A Secret that does not exist is named beside its workload, and nothing restarts for what else has changed."""
    desired = [workload("ingest", "s", "t")]
    result = found(desired, {"s": "2"}, made_with=FIRST)

    assert result.missing == {ObjectRef("StatefulSet", "ns", "c-ingest"): ("t",)}
    assert restarted(result) == {}
    assert result.digests == {"ingest": FIRST["ingest"]}


def test_what_does_not_exist_is_not_restarted():
    """A workload that is not there has nothing to restart."""
    assert restarted(found(BOTH, {"s": "2"}, live=[], made_with=FIRST)) == {}


PODS = {
    "nothing": ({}, []),
    "env": ({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "a"}}}]}]}, ["a"]),
    "plain env": ({"containers": [{"env": [{"value": "a"}, {"valueFrom": {"fieldRef": {}}}]}]}, []),
    "optional": ({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "a", "optional": True}}}]}]}, []),
    "init": ({"initContainers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}, ["a"]),
    "volumes": (
        {"volumes": [{"secret": {"secretName": "b"}}, {"projected": {"sources": [{"secret": {"name": "a"}}]}}]},
        ["a", "b"],
    ),
    "twice": ({"volumes": [{"secret": {"secretName": "a"}}, {"secret": {"secretName": "a"}}]}, ["a"]),
    "other volumes": ({"volumes": [{"emptyDir": {}}, {"secret": {"secretName": "a", "optional": True}}]}, []),
}


@pytest.mark.parametrize("name", PODS, ids=str)
def test_secrets_that_pods_need(name):
    """Secrets are found wherever a pod takes them from, unless it starts without."""
    pod, expected = PODS[name]

    assert required_secrets({"spec": {"template": {"spec": pod}}}) == expected
