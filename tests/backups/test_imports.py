"""How a backup of another Kubernetes is made known to this one, by its description in the store."""

from __future__ import annotations

import copy

import pytest

from chronik.backups.recovery.imports import (
    Import,
    check,
    destination_of,
    document_of,
    parts_of,
    secrets_of,
    status_of,
    without_handle,
)

CONNECTION = {"host": "db", "database": "d", "credentialsSecret": "pg"}
S3 = {"bucket": "old", "prefix": "prod", "region": "eu-1", "endpoint": "http://minio", "credentialsSecret": "s3"}
BACKUP = {"destination": {"s3": S3}, "encryption": {"secret": "key", "keys": ["backup.key"]}}
VOLUME = {
    "claim": "data-c-ingest-0",
    "component": "ingest",
    "ordinal": 0,
    "snapshot": "b-ingest-0",
    "content": "snapcontent-1",
    "driver": "d.csi",
    "handle": "snap-1",
    "ready": True,
}
DESCRIBED = {
    "apiVersion": "chronik.stream/v1alpha1",
    "kind": "ChronikBackup",
    "metadata": {
        "name": "b",
        "namespace": "n",
        "uid": "old-uid",
        "labels": {"chronik.stream/cluster": "c", "chronik.stream/schedule": "nightly", "team": "streaming"},
        "annotations": {"chronik.stream/scheduled-at": "2026-11-29T02:00:00Z"},
    },
    "spec": {"cluster": "c", "deadline": "1h", "onDelete": "Delete"},
    "status": {
        "phase": "Completed",
        "usable": True,
        "cutAt": "2026-11-29T02:03:11Z",
        "expiresAt": "2026-12-29T02:03:11Z",
        "cluster": {"spec": {"backup": BACKUP, "metastore": {"connection": CONNECTION}}},
        "volumes": [VOLUME],
        "metastore": {
            "object": "s3://old/prod/old-uid/metastore-1.dump",
            "ready": True,
            "cutAt": "2026-11-29T02:01:00Z",
        },
    },
}
MADE = {"apiVersion": "v", "kind": "k", "metadata": {"name": "b", "namespace": "m", "uid": "new-uid", "generation": 1}}
MADE |= {"spec": {"cluster": "c"}}


def wanted(**changes):
    """Return what is asked for."""
    destination = {"s3": {"bucket": "copy"}}
    return Import("old-uid", copy.deepcopy(DESCRIBED), "s3://copy", "b", "m", destination)._replace(**changes)


def test_what_is_imported_stays_when_it_is_forgotten():
    """It has no finalizer and no schedule, its data stays, and snapshots are found by what the driver calls them."""
    document, (content, snapshot) = document_of(wanted()), parts_of(MADE, wanted())

    assert document["metadata"]["labels"] == {"chronik.stream/cluster": "c", "team": "streaming"}
    assert document["metadata"]["annotations"] == {"chronik.stream/imported-from": "old-uid"}
    assert ("finalizers" in document["metadata"], document["spec"]["onDelete"]) == (False, "Keep")
    assert content["spec"]["source"] == {"snapshotHandle": "snap-1"}
    assert (content["spec"]["deletionPolicy"], content["spec"]["driver"]) == ("Retain", "d.csi")
    ref = content["spec"]["volumeSnapshotRef"]
    assert (ref["namespace"], ref["name"]) == ("m", snapshot["metadata"]["name"]) == ("m", "b-ingest-0")
    assert snapshot["spec"]["source"]["volumeSnapshotContentName"] == content["metadata"]["name"]
    assert snapshot["metadata"]["labels"]["chronik.stream/backup"] == "new-uid"


def test_what_is_taken_over_goes_with_its_schedule():
    """With that it has all that a backup of this Kubernetes has: finalizer, schedule, and data that goes with it."""
    document, (content, _) = document_of(wanted(owns=True)), parts_of(MADE, wanted(owns=True))

    assert document["metadata"]["labels"]["chronik.stream/schedule"] == "nightly"
    assert document["metadata"]["annotations"]["chronik.stream/scheduled-at"] == "2026-11-29T02:00:00Z"
    assert (document["metadata"]["finalizers"], document["spec"]["onDelete"]) == (
        ["chronik.stream/finalizer"],
        "Delete",
    )
    assert content["spec"]["deletionPolicy"] == "Delete"


def grouped():
    """Return a description whose snapshots are of a group."""
    described = copy.deepcopy(DESCRIBED)
    described["status"]["group"] = {"name": "b-volumes", "content": "x", "handle": "group-1", "ready": True}
    return described


@pytest.mark.parametrize(("owns", "policy"), [(False, "Retain"), (True, "Delete")])
def test_a_group_is_made_known_before_its_snapshots(owns, policy):
    """Its content names what the driver calls the group and each snapshot, in the version that the server has."""
    version = "groupsnapshot.storage.k8s.io/v1beta1"
    asked = wanted(described=grouped(), name="again", owns=owns, group_version=version)
    content, group, *snapshots = parts_of(MADE, asked)

    assert (content["apiVersion"], group["apiVersion"]) == (version, version)
    assert content["spec"] == {
        "deletionPolicy": policy,
        "driver": "d.csi",
        "source": {
            "groupSnapshotHandles": {"volumeGroupSnapshotHandle": "group-1", "volumeSnapshotHandles": ["snap-1"]}
        },
        "volumeGroupSnapshotRef": {"namespace": "m", "name": "again-volumes"},
    }
    assert group["spec"]["source"] == {"volumeGroupSnapshotContentName": content["metadata"]["name"]}
    assert group["metadata"]["ownerReferences"][0]["uid"] == "new-uid"
    assert [each["kind"] for each in snapshots] == ["VolumeSnapshotContent", "VolumeSnapshot"]
    told = status_of(MADE, asked, "2026-11-30T00:00:00Z")["group"]
    assert (told["name"], told["content"]) == ("again-volumes", content["metadata"]["name"])

    alone = wanted(described=grouped(), volumes=False)
    assert parts_of(MADE, alone) == []
    assert "group" not in status_of(MADE, alone, "2026-11-30T00:00:00Z")


def test_the_status_says_where_it_is_now():
    """The store may be a copy of the old one: Jobs look for the dump, and for the settings, where it is now."""
    status = status_of(MADE, wanted(name="again"), "2026-11-30T00:00:00Z")

    assert status["metastore"]["object"] == "s3://copy/old-uid/metastore-1.dump"
    assert status["cluster"]["spec"]["backup"]["destination"] == {"s3": {"bucket": "copy"}}
    assert [each["snapshot"] for each in status["volumes"]] == ["again-ingest-0"]
    assert "expiresAt" not in status
    assert {each["type"]: each["status"] for each in status["conditions"]}["Completed"] == "True"
    claim = wanted(store="file:///here", destination={"claim": {"name": "backups"}})
    assert status_of(MADE, claim, "2026-11-30T00:00:00Z")["metastore"]["object"].startswith("s3://old/prod/old-uid/")
    assert status_of(MADE, wanted(volumes=False), "2026-11-30T00:00:00Z")["volumes"] == []


PLACE = {"url": "s3://old/prod", "endpoint": "", "region": "", "account": ""}
AZURE = {"container": "old", "account": "a"}


@pytest.mark.parametrize(
    ("old", "place", "secret", "found"),
    [
        ({"s3": S3}, {}, None, {"s3": S3}),
        ({"s3": S3}, {}, "other", {"s3": S3 | {"credentialsSecret": "other"}}),
        (
            {"s3": S3},
            {"url": "s3://copy", "region": "us-2"},
            None,
            {"s3": {"bucket": "copy", "region": "us-2", "credentialsSecret": "s3"}},
        ),
        ({"s3": S3}, {"url": "gs://copy/x"}, None, {"gcs": {"bucket": "copy", "prefix": "x"}}),
        ({"azure": AZURE}, {"url": "az://copy"}, None, {"azure": AZURE | {"container": "copy"}}),
        ({"claim": {"name": "backups"}}, {"url": "file:///mnt"}, None, {"claim": {"name": "backups"}}),
        ({"s3": S3}, {"url": "file:///mnt"}, None, None),
    ],
)
def test_jobs_look_for_it_where_it_was_found(old, place, secret, found):
    """The destination is the store that was named, with what is known of the old one if it is that."""
    described = copy.deepcopy(DESCRIBED)
    described["status"]["cluster"]["spec"]["backup"]["destination"] = old
    assert destination_of(described, PLACE | place, secret) == found


def without(*path):
    """Return a description that lacks a field."""
    described = copy.deepcopy(DESCRIBED)
    at = described
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return described


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ([], "this describes no backup"),
        ({"kind": "ChronikCluster"}, "this describes no backup"),
        (DESCRIBED | {"apiVersion": "chronik.stream/v2"}, "it is of chronik.stream/v2"),
        (without("status", "cluster"), "'cluster' is missing"),
        (without("status", "volumes", 0, "snapshot"), "'snapshot' is missing"),
        (DESCRIBED | {"metadata": {"name": "../b"}}, "does not describe a whole backup"),
        (DESCRIBED | {"status": DESCRIBED["status"] | {"phase": "Failed"}}, "it is Failed, and cannot be used"),
    ],
)
def test_a_description_that_is_none_is_refused(described, says):
    """What is not the description of a whole backup is told by what it lacks."""
    problem = check(described)
    assert problem
    assert says in problem.message


def test_a_snapshot_without_its_handle_cannot_be_found():
    """An operator of namespaces may not read what the driver calls a snapshot: the metastore alone can be imported."""
    lacking = without("status", "volumes", 0, "handle")

    assert (without_handle(lacking), without_handle(DESCRIBED), check(lacking)) == ("data-c-ingest-0", "", None)
    assert parts_of(MADE, wanted(described=lacking, volumes=False)) == []


def test_secrets_that_a_recovery_takes():
    """They are named in the description, and none of their values."""
    assert secrets_of(DESCRIBED, BACKUP["destination"]) == ["key", "pg", "s3"]
