"""What `chronik render --backup` prints: what recovers a cluster, for people who apply it themselves."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from support.cli_place import run

from chronik.backups.recovery.claims import RECOVERED_FROM

SPEC = {
    "controllers": 1,
    "ingestNodes": 1,
    "image": {component: f"chronik/{component}:1.4.2" for component in ("controller", "ingest")},
    "storage": {"backend": "local", "size": "10Gi", "storageClass": "fast"},
    "metastore": {"connection": {"host": "db", "database": "d", "credentialsSecret": "pg"}},
    "backup": {
        "destination": {"s3": {"bucket": "acme", "prefix": "prod", "region": "eu-1", "credentialsSecret": "s3"}},
        "metastore": {"image": "chronik/backup:1"},
    },
}


def volume(component):
    """Return what a description says of the volume of a node."""
    return {
        "claim": f"data-c-{component}-0",
        "component": component,
        "ordinal": 0,
        "snapshot": f"b-{component}-0",
        "driver": "d.csi",
        "handle": f"snap-{component}",
        "restoreSize": "10Gi",
        "ready": True,
    }


DUMP = {"object": "s3://acme/prod/uid-b/metastore-1.dump", "ready": True, "cutAt": "2026-11-29T02:01:00Z"}
DESCRIBED = {
    "apiVersion": "chronik.stream/v1alpha1",
    "kind": "ChronikBackup",
    "metadata": {"name": "b", "namespace": "old", "uid": "uid-b"},
    "spec": {"cluster": "c", "deadline": "1h", "onDelete": "Keep"},
    "status": {
        "phase": "Completed",
        "usable": True,
        "cutAt": "2026-11-29T02:03:11Z",
        "cluster": {"spec": SPEC},
        "volumes": [volume("controller"), volume("ingest")],
        "metastore": DUMP,
    },
}


@pytest.fixture
def rendered(tmp_path):
    """Return what renders a new cluster with --backup."""

    def call(described=DESCRIBED, recovery=None, *arguments, **spec):
        bootstrap = {"recovery": {"from": {"backup": "b"}} if recovery is None else recovery}
        spec = {**SPEC, **({"bootstrap": bootstrap} if recovery != {} else {}), **spec}
        document = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster"}
        document |= {"metadata": {"name": "new", "namespace": "here"}, "spec": spec}
        for name, content in (("new.yaml", document), ("backup.json", described)):
            (tmp_path / name).write_text(json.dumps(content))
        files = ("-f", str(tmp_path / "new.yaml"), "--backup", str(tmp_path / "backup.json"))
        return run("render", *files, *arguments)

    return call


def test_all_that_recovers_a_cluster_is_printed_in_order(rendered):
    """Contents, snapshots and claims, then who the Job runs as and the Job; no workload, and nothing to be pruned."""
    done = rendered()
    assert done.code == 0, done
    found = list(yaml.safe_load_all(done.out))
    kinds = [each["kind"] for each in found]
    assert kinds == [
        *("VolumeSnapshotContent", "VolumeSnapshot") * 2,
        *("PersistentVolumeClaim", "PersistentVolumeClaim", "ServiceAccount", "Job"),
    ]
    claim, job = found[5], found[-1]
    assert claim["metadata"]["name"] == "data-new-ingest-0"
    assert claim["spec"]["dataSource"]["name"] == found[3]["metadata"]["name"] == "new-recovered-ingest-0"
    assert claim["metadata"]["annotations"][RECOVERED_FROM] == "uid-b/new-recovered-ingest-0"
    for each in found[:6]:
        assert each["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false"
    assert found[0]["spec"]["source"] == {"snapshotHandle": "snap-controller"}
    assert {each["metadata"].get("namespace", "here") for each in found} == {"here"}
    assert "ownerReferences" not in job["metadata"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["restore", "metastore", "--id", "uid-b"]
    assert "render here/new without --backup" in done.err


def test_a_group_is_printed_before_its_snapshots(rendered):
    """Volumes that were cut at one moment are known only with their group, and that belongs to nobody here."""
    described = copy.deepcopy(DESCRIBED)
    described["status"]["group"] = {"name": "b-volumes", "handle": "group-1", "ready": True}
    content, group, *others = yaml.safe_load_all(rendered(described).out)
    kinds = ["VolumeGroupSnapshotContent", "VolumeGroupSnapshot", "VolumeSnapshotContent"]
    assert [each["kind"] for each in (content, group, others[0])] == kinds
    assert content["metadata"]["name"] == "chronik-here.new-volumes"
    assert content["spec"]["source"]["groupSnapshotHandles"]["volumeGroupSnapshotHandle"] == "group-1"
    assert (content["spec"]["deletionPolicy"], group["metadata"]["namespace"]) == ("Retain", "here")
    assert "ownerReferences" not in group["metadata"]


def test_without_handles_the_snapshots_have_to_be_there(rendered):
    """A description that lacks what the driver calls them names the snapshots that the backup made, and says so."""
    described = copy.deepcopy(DESCRIBED)
    del described["status"]["volumes"][0]["handle"]
    done = rendered(described)
    kinds = [each["kind"] for each in yaml.safe_load_all(done.out)]
    assert kinds == ["PersistentVolumeClaim", "PersistentVolumeClaim", "ServiceAccount", "Job"]
    assert "b-ingest-0" in done.out
    assert "so those of b have to be there" in done.err


BY_TIME = {"from": {"cluster": "c", "targetTime": "2026-11-29T02:02:00Z"}}
COPIED = DESCRIBED | {"status": DESCRIBED["status"] | {"metastore": DUMP | {"method": "Base"}}}


def test_the_metastore_is_taken_to_the_very_time(rendered):
    """With a copy of the server and a time between it and the volumes, the Job reads the log up to that."""
    found = list(yaml.safe_load_all(rendered(COPIED, BY_TIME).out))
    (container,) = found[-1]["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--target-time", "2026-11-29T02:02:00Z"]


SMALL = {"storage": {"backend": "local", "size": "5Gi", "storageClass": "fast"}}
NO_CLASS = {"storage": {"backend": "local", "size": "10Gi"}}
NO_IMAGE = {"backup": {"destination": SPEC["backup"]["destination"]}}
FAILED = DESCRIBED | {"status": DESCRIBED["status"] | {"phase": "Failed", "usable": False}}
WITHOUT_IMAGE = copy.deepcopy(DESCRIBED)
del WITHOUT_IMAGE["status"]["cluster"]["spec"]["backup"]["metastore"]


@pytest.mark.parametrize(
    ("described", "recovery", "spec", "code", "says"),
    [
        (DESCRIBED, {}, {}, 2, "its document does not say that it is to be recovered"),
        (DESCRIBED, {"from": {"backup": "x"}}, {}, 2, "There is no ChronikBackup x"),
        (DESCRIBED, None, {"ingestNodes": 2}, 2, "The backup has no volume for ingest 1"),
        (DESCRIBED, None, SMALL, 2, "a volume made from the snapshot of data-c-controller-0 takes 10Gi"),
        (DESCRIBED, None, NO_CLASS, 2, "name no StorageClass: a claim of none is bound to whatever is free"),
        (WITHOUT_IMAGE, None, NO_IMAGE, 2, "No image is known for the Job"),
        (FAILED, None, {}, 8, "it is Failed, and cannot be used"),
        ([], None, {}, 8, "this describes no backup"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_printed(rendered, described, recovery, spec, code, says):
    """What an operator would refuse by the documents is refused here, too, and a claim without a class as well."""
    done = rendered(described, recovery, **spec)
    assert (done.code, done.out, says in done.err) == (code, "", True), done
