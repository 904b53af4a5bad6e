from __future__ import annotations

import pytest

from chronik.api.components import claim_owner
from chronik.manifest import ClusterKey, ObjectRef
from chronik.plan.deletion import left_behind, leftovers, when_deleted
from chronik.plan.live import LiveCluster

DELETE = {"storage": {"retention": {"whenDeleted": "Delete"}}}


def claim(name, **metadata):
    """Return a claim."""
    identity = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "7"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": identity | metadata}


CLAIMS = [
    claim("data-c-ingest-0"),
    claim("data-c-ingest-1", ownerReferences=[{"kind": "StatefulSet"}]),
    claim("data-c-ingest-2", deletionTimestamp="now"),
    claim("data-c-kafka-ingest-3"),
]


def document(spec, *finalizers):
    """Return a cluster that is being deleted."""
    return {"metadata": {"name": "c", "uid": "u", "finalizers": list(finalizers)}, "spec": spec}


def child(*owners):
    """Return an object of the cluster with these owners."""
    return {"metadata": {"ownerReferences": [{"uid": uid} for uid in owners]}}


def test_free_claims_go():
    """Of a cluster's own claims, what nobody else deletes is deleted, if it still is what was seen."""
    (action,) = leftovers(document(DELETE), CLAIMS, [child("u")]).actions

    assert (action.ref.name, action.uid, action.resource_version) == ("data-c-ingest-0", "uid-data-c-ingest-0", "7")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("data-c-controller-0", "c-controller"),
        ("data-c-ingest-12", "c-ingest"),
        ("write-ahead-log-c-ingest-0", "c-ingest"),
        ("data-c-controller-c-ingest-0", "c-ingest"),
        ("data-c-search-0", None),
        ("data-c-kafka-controller-0", None),
        ("data-d-ingest-0", None),
        ("c-ingest-0", None),
        ("data-c-ingest-0-copy", None),
        ("data-c-ingest", None),
        ("data-cxd-ingest-0", None),
    ],
)
def test_data_is_told_by_name(name, expected):
    """A claim is of a cluster if it is called as its StatefulSets' claims are; labels, others can have too."""
    ref = expected and ObjectRef("StatefulSet", "ns", expected)

    assert claim_owner(ClusterKey("ns", "c"), name) == ref


def test_names_are_no_patterns():
    """A dot in the name of a cluster stands for itself."""
    owners = [claim_owner(ClusterKey("ns", "c.d"), name) for name in ("data-c.d-ingest-0", "data-cxd-ingest-0")]

    assert owners == [ObjectRef("StatefulSet", "ns", "c.d-ingest"), None]


@pytest.mark.parametrize("children", [[child()], [child("u"), child()], [child("another")]])
def test_claims_of_orphans_stay(children):
    """If children have lost their owner, they were orphaned, though the finalizer that says so is gone by now."""
    assert leftovers(document(DELETE), CLAIMS, children).actions == ()


@pytest.mark.parametrize(
    "kept",
    [document({}), document({"storage": {"retention": {"whenDeleted": "Retain"}}}), document(DELETE, "orphan")],
    ids=["default", "retain", "orphan"],
)
def test_claims_stay(kept):
    """Without a clear wish, or when all children are to stay, no claim is deleted."""
    assert leftovers(kept, CLAIMS, [child("u")]).actions == ()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [(DELETE, "Delete"), ({}, "Retain"), (None, "Retain"), ({"storage": "x"}, "Retain"), ({"storage": None}, "Retain")],
)
def test_specs_that_make_no_sense_keep_data(spec, expected):
    """Whatever a spec looks like, volumes are kept unless it clearly says otherwise."""
    assert when_deleted({"spec": spec}) == expected


SET = ObjectRef("StatefulSet", "ns", "c-ingest")


@pytest.mark.parametrize(
    ("sets", "pod", "goes"),
    [
        ({}, {}, True),
        ({}, {"name": "other-0"}, False),
        ({}, {"name": "c-ingest-new"}, False),
        ({}, {"deletionTimestamp": "now"}, False),
        ({}, {"ownerReferences": [{"uid": "ours"}]}, False),
        ({SET: {}}, {}, False),
        ({SET: {"deletionTimestamp": "now"}}, {"ownerReferences": [{"uid": "ours"}]}, False),
        ({SET: {"deletionTimestamp": "now", "finalizers": ["orphan"]}}, {}, True),
        ({SET: {"deletionTimestamp": "now", "finalizers": ["orphan"]}}, {"ownerReferences": [{"uid": "ours"}]}, True),
        ({SET: {"deletionTimestamp": "now", "finalizers": ["orphan"]}}, {"ownerReferences": [{"uid": "x"}]}, False),
    ],
)
def test_pods_that_nothing_takes_along(sets, pod, goes):
    """A pod is left behind if its StatefulSet is gone, or is going without it."""
    labels = {"chronik.stream/component": "ingest"}
    pods = [{"metadata": {"name": "c-ingest-0", "namespace": "ns", "labels": labels} | pod}]
    objects = {ref: {"metadata": {"uid": "ours"} | metadata} for ref, metadata in sets.items()}

    assert left_behind(LiveCluster(objects=objects, pods=pods)) == (pods if goes else [])
