"""What a manifest becomes on an API server, compared with what a real one made of the same."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from support.recorded import FILES, recorded

from chronik.offline.played import server_model
from chronik.plan.drift import applied_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_THE_SERVER_TO_SAY = {
    ".status",
    ".metadata.uid",
    ".metadata.resourceVersion",
    ".metadata.creationTimestamp",
    ".metadata.generation",
    ".metadata.managedFields",
    ".spec.clusterIP",
    ".spec.clusterIPs",
    ".spec.healthCheckNodePort",
    ".spec.template.spec.volumes.ephemeral.volumeClaimTemplate.metadata",  # {}, which is the same as nothing
}
"""What a model cannot know, or what says nothing."""

recordings = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the places in which two values differ."""
    if path in FOR_THE_SERVER_TO_SAY:
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            yield from differences(ours.get(key, "nothing"), theirs.get(key, "nothing"), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for left, right in zip(ours, theirs, strict=True):
            yield from differences(left, right, path)
    elif ours != theirs:
        yield path, ours, theirs


@recordings
def test_values_are_the_servers(path):
    """An applied manifest holds what a real API server showed: its spelling, its defaults, its zeroes left out."""
    applied, live = recorded(path)

    assert list(differences(server_model().applied(applied), live)) == []


@recordings
def test_ownership_is_the_servers(path):
    """Who owns which fields is what a real API server recorded."""
    applied, live = recorded(path)

    assert applied_fields(server_model().applied(applied)) == applied_fields(live)


@recordings
def test_the_manifest_stays_as_it_is(path):
    """What is stored is a copy: the manifest is still what it was."""
    applied, _ = recorded(path)
    before = deepcopy(applied)
    server_model().applied(applied)

    assert applied == before


def test_another_manager_owns_a_field_beside_us():
    """A count that another manager applies is the object's, and both managers are on record."""
    live = server_model().applied(recorded(next(file for file in FILES if file.stem == "statefulset"))[0])
    count = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"}, "spec": {"replicas": 7}}
    found = server_model().also_applied(live, count, "scaler")

    assert found["spec"]["replicas"] == 7
    assert found["spec"]["template"] == live["spec"]["template"]
    assert applied_fields(found, "scaler") == {"f:spec": {"f:replicas": {}}}
    assert applied_fields(found) == applied_fields(live)


def test_kinds_of_others_are_kept_as_they_are():
    """Of a kind that Kubernetes does not define, maps are owned field by field, lists whole, and nothing is added."""
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "m", "namespace": "n", "labels": {"a": "b"}},
        "spec": {"endpoints": [{"port": "metrics"}], "selector": {"matchLabels": {"a": "b"}}},
    }
    found = server_model().applied(monitor)

    assert found["spec"] == monitor["spec"]
    assert applied_fields(found) == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {"f:endpoints": {}, "f:selector": {"f:matchLabels": {"f:a": {}}}},
    }
