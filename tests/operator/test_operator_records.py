"""What the operator's caches keep of an object: all that plans read, nothing that only makes noise, never a secret."""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronik.manifest import CLAIM, CLUSTER, KIND_BY_NAME, POD, SECRET, ClusterKey
from chronik.operator.cache.packing import Packer, Record, data_digest

ENTRIES = [
    {"manager": "chronik-operator", "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}},
    {"manager": "kubectl", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
    {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
]


def live(kind: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": "c-x", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 1}
    metadata |= {"labels": {"chronik.stream/cluster": "c"}, "managedFields": deepcopy(ENTRIES)}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata | fields.pop("metadata", {}), **fields}


def packed(manifest: dict[str, Any]) -> Record:
    kinds = {kind.name: kind for kind in (*KIND_BY_NAME.values(), POD, CLAIM, SECRET, CLUSTER)}
    return Packer(kinds[manifest["kind"]]).pack(manifest)


def test_owners_are_kept_without_their_times():
    """Who owns which field stays, but for status; when they wrote does not, so that a renewed entry is no change."""
    entries = packed(live("ConfigMap")).manifest["metadata"]["managedFields"]

    assert [entry["manager"] for entry in entries] == ["chronik-operator", "kubectl"]
    assert all(entry.keys() == {"manager", "operation", "fieldsV1"} for entry in entries)


def test_an_object_that_only_status_was_written_to_has_owners():
    """Having no owners at all means something else, so the last entry always stays."""
    record = packed(live("ConfigMap", metadata={"managedFields": ENTRIES[2:]}))

    assert record.manifest["metadata"]["managedFields"] == ENTRIES[2:]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_specs_come_back_as_they_were(spec):
    """Whatever a spec holds, the record gives it back, with the object's own version."""
    packer = Packer(KIND_BY_NAME["ConfigMap"])
    for version in ("1", "2", "30", "31", "32"):
        manifest = live("ConfigMap", data=spec, metadata={"resourceVersion": version})
        again = packer.pack(manifest).manifest
        assert again["data"] == spec
        assert again["metadata"]["resourceVersion"] == version


@given(
    st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["tlsSecret", "a"]), x))
)
def test_no_cluster_is_too_strange(spec):
    """A ChronikCluster with any spec at all can be kept, so that it can be told what is wrong with it."""
    assert packed(live("ChronikCluster", spec=spec)).manifest["spec"] == spec


NOISE = [
    ("HorizontalPodAutoscaler", {"currentMetrics": [1]}, {"currentMetrics": [2]}),
    ("PodDisruptionBudget", {"currentHealthy": 1}, {"currentHealthy": 2}),
    ("Deployment", {"conditions": [{"type": "A", "lastUpdateTime": "x"}]}, {"conditions": [{"type": "A"}]}),
    ("Pod", {"podIP": "10.0.0.1"}, {"podIP": "10.0.0.2"}),
    ("Pod", {"containerStatuses": [{"name": "a", "restartCount": 1}]}, {"containerStatuses": [{"name": "a"}]}),
    ("ChronikCluster", {"phase": "Creating"}, {"phase": "Running"}),
]
NEWS = [
    ("HorizontalPodAutoscaler", {"desiredReplicas": 1}, {"desiredReplicas": 2}),
    ("StatefulSet", {"readyReplicas": 1}, {"readyReplicas": 2}),
    ("Pod", {"phase": "Pending"}, {"phase": "Running"}),
    (
        "Pod",
        {"conditions": [{"type": "Ready", "status": "False"}]},
        {"conditions": [{"type": "Ready", "status": "True"}]},
    ),
    (
        "Pod",
        {"containerStatuses": [{"name": "a"}]},
        {"containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
    ),
    ("PersistentVolumeClaim", {"phase": "Pending"}, {"phase": "Bound"}),
    ("Service", {}, {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
]


@pytest.mark.parametrize(
    ("kind", "before", "after", "matters"), [*((*each, False) for each in NOISE), *((*each, True) for each in NEWS)]
)
def test_what_is_news(kind, before, after, matters):
    """A change that nothing reads is none; one that a plan, health or status reads is."""
    first, second = live(kind, status=before), live(kind, status=after, metadata={"resourceVersion": "8"})

    assert (packed(first).mark != packed(second).mark) == matters


def test_whose_it_is():
    """An object is its controller's, be the labels as they may; one without a controller is its label's."""
    owner = {"apiVersion": "chronik.stream/v1beta9", "kind": "ChronikCluster", "name": "d", "uid": "x"}
    replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "y", "controller": True}
    claim_labels = {"labels": {"app.kubernetes.io/instance": "e"}}

    assert packed(live("Pod", metadata={"ownerReferences": [replica_set]})).cluster == ClusterKey("n", "c")
    assert packed(live("Role", metadata={"ownerReferences": [owner]})).cluster == ClusterKey("n", "c")
    owner["controller"] = True
    assert packed(live("Role", metadata={"ownerReferences": [owner]})).cluster == ClusterKey("n", "d")
    assert packed(live("PersistentVolumeClaim", metadata=claim_labels)).cluster == ClusterKey("n", "e")
    assert packed(live("Role", metadata=claim_labels)).cluster is None


def test_a_cluster_names_its_secrets():
    """The Secrets that a cluster uses are found wherever its spec names them."""
    spec = {"storage": {"s3": {"credentialsSecret": "a"}}, "security": {"tlsSecret": "b"}, "x": [{"tlsSecret": "a"}]}

    assert packed(live("ChronikCluster", spec=spec)).secrets == ("a", "b")


def test_secret_values_are_not_kept():
    """Neither a Secret's values nor their base64 are in its record, in whatever form."""
    value = base64.b64encode(b"correct horse battery staple").decode()
    annotation = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": {"p": value}})}
    record = packed(live("Secret", data={"p": value}, metadata={"annotations": annotation}))

    assert value not in json.dumps(record.manifest)
    assert record.manifest["digest"] == data_digest(live("Secret", data={"p": value}))


def test_digests():
    """A digest depends on the data, not on its order, nor on labels; and alike Secrets do not look alike."""
    one = data_digest(live("Secret", data={"a": "MQ==", "b": "Mg=="}))

    assert one == data_digest(live("Secret", data={"b": "Mg==", "a": "MQ=="}, metadata={"labels": {}}))
    assert one != data_digest(live("Secret", data={"a": "MQ==", "b": "Mg=A"}))
    assert one != data_digest(live("Secret", data={"a": "MQ==", "b": "Mg=="}, metadata={"name": "other"}))
    assert data_digest(live("Secret")) == data_digest(live("Secret", data=None))


def test_alike_objects_are_small():
    """After the first few, an object like the others takes a fraction of its size."""
    packer = Packer(KIND_BY_NAME["ConfigMap"])
    sizes = []
    for number in range(6):
        data = {f"key{each}": f"a value of some length, number {each * 7919}" for each in range(100)} | {
            "own": f"{number}"
        }
        sizes.append(len(packer.pack(live("ConfigMap", data=data)).packed))

    assert sizes[-1] < sizes[0] / 5
