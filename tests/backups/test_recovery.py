"""What a recovery needs next, by what is there: the choice, each refusal, the claims, and the volumes they get."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chronik.backups.manifests import RestoreOf, restore_job
from chronik.backups.recovery.choice import choose
from chronik.backups.recovery.claims import RECOVERED_FROM, claim_of, reduced
from chronik.backups.recovery.plan import plan_recovery
from chronik.backups.recovery.seen import Seen
from chronik.backups.recovery.tell import span
from chronik.manifest import BACKUP_LABEL
from chronik.offline import loading
from chronik.status.compute import Reason

NOW, LATE = "2026-11-29T09:00:00Z", "2026-11-29T09:10:00Z"
CUT = "2026-11-29T02:03:11Z"
DRIVER = "disks.csi.example.com"
NODES = ("controller-0", "ingest-0", "ingest-1")


def cluster(name="n", nodes="Same", metastore="Restore", source=None, **spec):
    """Return a valid cluster that is to be recovered."""
    recovery = {"from": source or {"backup": "b"}, "nodes": nodes, "metastore": metastore}
    found = {
        "controllers": 1,
        "ingestNodes": 2,
        "storage": {"backend": "local", "size": "10Gi", "storageClass": "fast"},
        "metastore": {"connection": {"host": "db", "database": "d", "credentialsSecret": "s"}},
        "backup": {"destination": {"claim": {"name": "backups"}}},
        "bootstrap": {"recovery": recovery},
    }
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": name, "namespace": "x", "uid": f"uid-{name}"},
        "spec": {key: value for key, value in (found | spec).items() if value is not None},
    }
    validated = loading.validator().validate(document, stored=True)
    assert validated.cluster, validated.problems
    return validated.cluster


def volume(node):
    """Return what a backup says of the volume of a node."""
    component, _, ordinal = node.partition("-")
    found = {"claim": f"data-c-{node}", "component": component, "ordinal": int(ordinal), "snapshot": f"b-{node}"}
    return found | {"createdAt": CUT, "ready": True, "restoreSize": "10Gi", "driver": DRIVER}


def backup(name="b", cut=CUT, nodes=NODES, of="c", **status):
    """Return a backup that can be used."""
    dump = {"object": "s3://bucket/prefix/uid-b/metastore-1.dump", "cutAt": "2026-11-29T02:01:00Z", "ready": True}
    whole: dict[str, Any] = {"phase": "Completed", "usable": True, "cutAt": cut}
    whole |= {"volumes": [*map(volume, nodes)], "metastore": dump}
    metadata = {"name": name, "namespace": "x", "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": {"cluster": of}, "status": whole | status}


def snapshot(node, uid="uid-b", **status):
    """Return a snapshot that a volume can be made from."""
    metadata = {"name": f"b-{node}", "namespace": "x", "uid": f"uid-b-{node}", "labels": {BACKUP_LABEL: uid}}
    told = {"readyToUse": True, "boundVolumeSnapshotContentName": f"of-{node}", "restoreSize": "10Gi"}
    return {"metadata": metadata, "status": told | {"creationTime": CUT} | status}


def content(node, names=None):
    """Return the content of a snapshot, which names it."""
    ref = {"namespace": "x", "name": f"b-{node}", "uid": f"uid-b-{node}"} if names is None else names
    return {"metadata": {"name": f"of-{node}"}, "spec": {"driver": DRIVER, "volumeSnapshotRef": ref}}


def storage_class(name="fast", provisioner=DRIVER, **more):
    """Return a StorageClass."""
    return {"metadata": {"name": name, "annotations": more.pop("annotations", {})}, "provisioner": provisioner} | more


def disk(name, claim=None, storage_class="fast", by=DRIVER, created=NOW):
    """Return a PersistentVolume."""
    annotations = {"pv.kubernetes.io/provisioned-by": by} if by else {}
    spec: dict[str, Any] = {"storageClassName": storage_class, "csi": {"driver": by or DRIVER}}
    spec |= {"claimRef": {"uid": claim}} if claim else {}
    return reduced({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}, "spec": spec})


def claim(node, mark="", bound="", **more):
    """Return a claim of the new cluster."""
    metadata = {"name": f"data-n-{node}", "namespace": "x", "uid": f"uid-{node}", "creationTimestamp": NOW}
    metadata |= {"annotations": {RECOVERED_FROM: mark or f"uid-b/b-{node}"}}
    found = {"metadata": metadata | more, "spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}
    return found | ({"spec": {**found["spec"], "volumeName": bound}, "status": {"phase": "Bound"}} if bound else {})


def there(*nodes, **more):
    """Return what is there if all is well: snapshots, a class, and the claims of some nodes, which are bound."""
    claims = {f"data-n-{node}": claim(node, bound=f"pv-{node}") for node in nodes}
    found = {
        "backups": [backup()],
        "recorded": cluster("c", bootstrap=None),
        "snapshots": {f"b-{node}": snapshot(node) for node in NODES},
        "contents": {f"of-{node}": content(node) for node in NODES},
        "classes": [storage_class()],
        "volumes": [disk(f"pv-{node}", f"uid-{node}") for node in nodes],
        "claims": claims,
        "image": "chronik/operator:1",
    }
    return Seen(**(found | more))


CHOSEN = {"phase": "Checking", "backup": "b", "backupUID": "uid-b", "cutAt": CUT}
BEGUN = CHOSEN | {"phase": "Restoring", "startedAt": NOW, "claims": 3}


def plan(seen, known=CHOSEN, wanted=None, now=NOW):
    """Return what is next for a cluster."""
    wanted = wanted or cluster()
    return plan_recovery(wanted, loading.renderer()(wanted), known, seen, now)


def job(*conditions, since=NOW):
    """Return the Job of the metastore in a state."""
    told = [{"type": each, "status": "True", "message": "it ended", "lastTransitionTime": since} for each in conditions]
    return {"metadata": {"name": "n-restore", "uid": "uid-j"}, "status": {"conditions": told}}


# --- the choice -------------------------------------------------------------------------------------------------------

BACKUPS = [
    backup("early", "2026-11-28T02:00:00Z"),
    backup("late", "2026-11-30T02:00:00Z"),
    backup("middle", "2026-11-29T02:00:00Z"),
    backup("others", "2026-11-29T02:30:00Z", of="d"),
    backup("failed", "2026-11-29T03:00:00Z", usable=False, phase="Failed"),
]


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        (None, "late"),
        ("2026-11-29T02:00:00Z", "middle"),
        ("2026-11-29T01:59:59.9Z", "early"),
        ("2026-11-29T03:00:00+01:00", "middle"),
        ("2026-11-29T02:59:59+01:00", "early"),
        ("2026-11-29T23:00:00Z", "middle"),
        ("2030-01-01T00:00:00Z", "late"),
    ],
)
def test_the_newest_usable_backup_by_a_time_is_taken(target, chosen):
    """Of a cluster's usable backups the newest is taken that was cut by the time, in whatever zone that is written."""
    found = choose({"backup": None, "cluster": "c", "targetTime": target}, BACKUPS)

    assert not isinstance(found, Reason)
    assert (found.backup["metadata"]["name"], found.base, found.target) == (chosen, None, "")


@pytest.mark.parametrize(
    ("source", "reason", "says"),
    [
        ({"backup": "x"}, "BackupMissing", "There is no ChronikBackup x in this namespace"),
        ({"backup": "failed"}, "BackupNotUsable", "ChronikBackup failed cannot be used: it is Failed"),
        ({"cluster": "e"}, "NoUsableBackup", "This namespace has no usable backup of ChronikCluster e"),
        (
            {"cluster": "c", "targetTime": "2026-11-28T01:59:59Z"},
            "NoUsableBackup",
            "No usable backup of c was cut by 2026-11-28T01:59:59Z: the oldest is early, cut at 2026-11-28T02:00:00Z",
        ),
    ],
)
def test_there_may_be_no_backup(source, reason, says):
    """A backup that is not there or cannot be used is said in one sentence, and what there is instead."""
    assert choose({"backup": None, "cluster": None, "targetTime": None} | source, BACKUPS) == (reason, says)


def copied(name, base, cut, backend="local", **status):
    """Return a backup with a copy of the metastore's server, which was copied at a time."""
    dump = {"method": "Base", "object": f"s3://bucket/prefix/uid-{name}/base-1.tar.gz", "cutAt": base, "ready": True}
    recorded = {"spec": {"storage": {"backend": backend}}}
    return backup(name, cut, metastore=dump, cluster=recorded, **status)


COPIES = [
    copied("first", "2026-11-28T02:00:00.5Z", "2026-11-28T02:03:00Z"),
    copied("second", "2026-11-29T02:00:00.5Z", "2026-11-29T02:03:00Z"),
    backup("dumped", "2026-11-29T12:00:00Z"),
    copied("failed", "2026-11-29T13:00:00Z", "2026-11-29T13:03:00Z", usable=False, phase="Failed"),
]
IN_BUCKET = [copied("first", "2026-11-28T02:00:00.5Z", "2026-11-28T02:03:00Z", "s3")]
BETWEEN, WITHIN, AFTER = "2026-11-28T15:00:00+01:00", "2026-11-29T02:01:00Z", "2026-11-29T20:00:00Z"


@pytest.mark.parametrize(
    ("backups", "target", "metastore", "chosen"),
    [
        (COPIES, BETWEEN, "Restore", ("second", "first", BETWEEN)),  # volumes of after it, and the copy of before it
        (COPIES, "2026-11-28T02:00:00Z", "Restore", "NoUsableBackup"),
        (COPIES, WITHIN, "Restore", ("second", "second", WITHIN)),
        (COPIES, "2026-11-29T09:00:00Z", "Restore", ("dumped", "second", "2026-11-29T09:00:00Z")),
        (COPIES, AFTER, "Restore", ("dumped", None, "")),  # no metadata without data
        (COPIES, AFTER, "Exact", ("dumped", "second", AFTER)),
        (COPIES, BETWEEN, "Skip", ("first", None, "")),
        (IN_BUCKET, AFTER, "Restore", ("first", "first", AFTER)),  # the data is in the bucket
        (BACKUPS, AFTER, "Exact", "NoBaseBackup"),
    ],
)
def test_with_an_archive_the_metastore_is_as_of_the_very_time(backups, target, metastore, chosen):
    """The newest copy of before the time and the log after it; volumes of after the time, or else the newest."""
    found = choose({"backup": None, "cluster": "c", "targetTime": target}, backups, metastore)

    if isinstance(found, Reason):
        assert found.reason == chosen
        return
    base = found.base and found.base["metadata"]["name"]
    assert (found.backup["metadata"]["name"], base, found.target) == chosen


TO = {"metastoreBackup": "first", "metastoreBackupUID": "uid-first", "metastoreTarget": BETWEEN}


def test_the_log_is_read_to_the_very_time():
    """The choice is written with both backups; what the Job says it reached is what the metastore is as of."""
    source = {"cluster": "c", "targetTime": BETWEEN}
    wanted = cluster(source=source)
    first = plan(there(backups=COPIES), {}, wanted).status
    second = {"phase": "Checking", "backup": "second", "backupUID": "uid-second", "cutAt": "2026-11-29T02:03:00Z"}
    assert first == second | TO

    known = BEGUN | TO
    seen = {"base": COPIES[0], "base_recorded": cluster("c", bootstrap=None)}
    reached = {"result": "ok", "recoveredTo": "2026-11-28T14:00:00.000000Z"}
    found = plan(there(*NODES, job=job("Complete"), result=reached, **seen), known, wanted)
    assert found.status["metastoreCutAt"] == reached["recoveredTo"]
    assert found.status["message"].endswith(
        "The metastore is as of 2026-11-28T14:00:00.000000Z, from ChronikBackup first and the log after it"
    )
    short = reached | {"recoveredTo": "2026-11-28T13:59:00.000000Z"}
    found = plan(there(*NODES, job=job("Complete"), result=short, **seen), known, wanted)
    assert found.status["message"].endswith(": the log ends there, 1m before the time that was asked for")

    lost = plan(there(*NODES, job=job("Complete"), **seen), known, wanted)
    assert [each.name for each in lost.removes] == ["n-restore"]
    assert "metastoreCutAt" not in lost.status
    refused = plan(there(), CHOSEN | TO, wanted).refused
    assert refused
    assert refused.reason == "BackupMissing"


def test_the_choice_is_written_before_anything_is_looked_at():
    """The first step chooses and makes nothing; a better backup that comes later is not taken any more."""
    by_cluster = cluster(source={"cluster": "c"})
    first = plan(Seen(backups=[backup("early", "2026-11-28T02:00:00Z")]), {}, by_cluster)
    assert (first.status["backup"], first.makes, first.starts) == ("early", (), False)

    both = there(backups=[*BACKUPS])
    assert plan(both, first.status, by_cluster).status["backup"] == "early"


# --- refusals ---------------------------------------------------------------------------------------------------------

WITHOUT = object()


def changed(value, path, new):
    """Return a copy of a value in which one thing is different, or gone."""
    value = copy.deepcopy(value)
    *way, last = path
    inner = value
    for key in way:
        inner = inner[key]
    if new is WITHOUT:
        del inner[last]
    else:
        inner[last] = new
    return value


def fine(part, *path, to=WITHOUT):
    """Return what is there, but for one thing."""
    return there(**{part: changed(getattr(there(), part), path, to)})


REFUSALS = {
    "the backup is not usable": (
        there(backups=[backup(usable=False, phase="Deleting")]),
        {},
        "BackupNotUsable",
        "ChronikBackup b cannot be used: it is Deleting",
    ),
    "another backup of that name": (
        there(backups=[changed(backup(), ("metadata", "uid"), "other")]),
        {},
        "BackupMissing",
        "ChronikBackup b, which was chosen, is gone, or is another one of that name",
    ),
    "a spec that cannot be read": (
        there(recorded=None),
        {},
        "BackupUnreadable",
        "This version of chronik does not take the spec that ChronikBackup b has recorded",
    ),
    "another backend": (
        there(),
        {"storage": {"backend": "s3", "storageClass": "fast", "s3": {"bucket": "abc", "region": "r"}}},
        "ClustersDiffer",
        "storage.backend is s3, and was local in the cluster that was backed up: it has to be the same",
    ),
    "fewer nodes": (
        there(),
        {"ingestNodes": 1},
        "NodeCountsDiffer",
        (
            "The backup has volumes that the cluster has no nodes for: ingest 1. Ask for as many nodes; or write"
            " nodes: Fewer, and what only they hold is lost"
        ),
    ),
    "more nodes": (
        there(),
        {"ingestNodes": 4, "controllers": 2},
        "NodeCountsDiffer",
        (
            "The backup has no volume for controller 1, ingest 2, 3. Ask for as many nodes as it has volumes; or write"
            " nodes: More, and they begin empty"
        ),
    ),
    "no dump": (
        there(backups=[changed(backup(), ("status", "metastore"), WITHOUT)]),
        {},
        "NoDump",
        "ChronikBackup b has no dump of the metastore. Restore the database otherwise, and write metastore: Skip",
    ),
    "no image": (there(image=""), {}, "NoImage", None),
    "no snapshots in this Kubernetes": (there(has_snapshots=False), {}, "SnapshotsUnavailable", None),
    "a snapshot is gone": (
        fine("snapshots", "b-ingest-1"),
        {},
        "SnapshotMissing",
        "The VolumeSnapshot b-ingest-1, for data-n-ingest-1, does not exist",
    ),
    "a snapshot of something else": (
        fine("snapshots", "b-ingest-1", "metadata", "labels", to={}),
        {},
        "SnapshotMissing",
        "The VolumeSnapshot b-ingest-1 is there already, and is not of this backup",
    ),
    "a snapshot that is not ready": (
        fine("snapshots", "b-ingest-0", "status", "readyToUse", to=False),
        {},
        "SnapshotNotReady",
        "The VolumeSnapshot b-ingest-0, for data-n-ingest-0, is not ready to use",
    ),
    "a snapshot that is bound to nothing": (
        fine("snapshots", "b-ingest-0", "status", "boundVolumeSnapshotContentName"),
        {},
        "SnapshotNotReady",
        "The VolumeSnapshot b-ingest-0, for data-n-ingest-0, is not ready to use",
    ),
    "a content that is gone": (
        fine("contents", "of-ingest-0"),
        {},
        "SnapshotNotReady",
        "The VolumeSnapshot b-ingest-0, for data-n-ingest-0, is bound to the content of-ingest-0, which does not exist",
    ),
    "a content that names another snapshot": (
        fine("contents", "of-ingest-0", to=content("ingest-0", {"namespace": "y", "name": "z", "uid": "u"})),
        {},
        "SnapshotNotReady",
        (
            "The VolumeSnapshot b-ingest-0, for data-n-ingest-0, is not ready to use: the content"
            " of-ingest-0 that it is"
            " bound to names another snapshot, y/z, so its data may be of something else"
        ),
    ),
    "volumes that are too small": (
        fine("snapshots", "b-controller-0", "status", "restoreSize", to="11Gi"),
        {},
        "VolumeTooSmall",
        (
            "A volume made from the VolumeSnapshot b-controller-0 takes 11Gi, and those of controller"
            " have 10Gi: ask for more"
        ),
    ),
    "no such class": (
        there(classes=[]),
        {},
        "StorageClassMissing",
        "There is no StorageClass fast, which the volumes of controller are to have",
    ),
    "no default class": (
        there(),
        {"storage": {"backend": "local", "size": "10Gi"}},
        "StorageClassMissing",
        "There is no default StorageClass, which the volumes of controller are to have",
    ),
    "a class that makes no volumes": (
        there(classes=[storage_class(provisioner="kubernetes.io/no-provisioner")]),
        {},
        "StorageClassNotDynamic",
        (
            "StorageClass fast makes no volumes, but takes any that is there, and that would be"
            " empty: name a class of a"
            " CSI driver"
        ),
    ),
    "a class of another driver": (
        there(classes=[storage_class(provisioner="other.example.com")]),
        {},
        "StorageClassOtherDriver",
        (
            f"StorageClass fast is of the driver other.example.com, and the snapshots are of"
            f" {DRIVER}, so no volume can be"
            " made from them"
        ),
    ),
    "volumes that wait for any claim": (
        there(volumes=[disk("pool-1", by=""), disk("pool-2", by=""), disk("elsewhere", storage_class="slow")]),
        {},
        "VolumesPremade",
        (
            "StorageClass fast has volumes that belong to nobody: pool-1, pool-2. A claim would be"
            " bound to one of them,"
            " which is empty. Delete them, or name another class"
        ),
    ),
    "claims of something else": (
        there(claims={"data-n-ingest-0": claim("ingest-0", mark="uid-other/b-ingest-0")}),
        {},
        "ClaimsExist",
        (
            "There are claims already that are not made from this backup: data-n-ingest-0. Delete"
            " them if their data is not"
            " wanted, or give the cluster another name"
        ),
    ),
    "a claim of another node's snapshot": (
        there(claims={"data-n-ingest-0": claim("ingest-0", mark="uid-b/b-ingest-1")}),
        {},
        "ClaimsExist",
        None,
    ),
    "a claim that is being deleted": (
        there(claims={"data-n-ingest-0": claim("ingest-0", deletionTimestamp=NOW)}),
        {},
        "ClaimsExist",
        None,
    ),
    "a claim of a node that is to begin empty": (
        there(claims={"data-n-ingest-2": claim("ingest-2")}),
        {"ingestNodes": 3, "nodes": "More"},
        "ClaimsExist",
        None,
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("known", [CHOSEN, BEGUN], ids=["at first", "after a kill"])
def test_what_keeps_a_recovery_from_being_done(case, known):
    """Each thing that is not as it has to be is told in a sentence of its own, and nothing is made or started."""
    seen, spec, reason, says = REFUSALS[case]
    found = plan(seen, known, cluster(**spec))

    assert found.refused is not None
    assert found.refused.reason == reason
    assert says is None or found.refused.message == says
    assert (found.makes, found.starts) == ((), False)
    assert found.status == known, "it is tried again from where it was"


def test_a_class_without_a_name_is_refused():
    """An empty class is no dynamic one: its claims are bound to whatever is free."""
    wanted = cluster()
    manifests = loading.renderer()(wanted)
    for each in manifests:
        if each["kind"] == "StatefulSet":
            each["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = ""
    found = plan_recovery(wanted, manifests, CHOSEN, there(), NOW)

    assert found.refused
    assert found.refused.reason == "StorageClassNotDynamic"


# --- the way ----------------------------------------------------------------------------------------------------------


def test_all_is_checked_before_the_first_claim():
    """If all is well the beginning is written down; only then the claims are made, all of them at once."""
    checked = plan(there())
    assert (checked.refused, checked.makes, checked.status) == (None, (), BEGUN)
    assert checked.waiting
    assert checked.waiting.message == (
        "Recovers 3 volumes and the metastore from ChronikBackup b, which was cut at 2026-11-29T02:03:11Z"
    )

    makes = plan(there(), BEGUN).makes
    assert [each.name for each in makes] == [f"data-n-{node}" for node in NODES]
    made = claim_of(makes[2].node, "uid-b", makes[2].storage_class)
    assert made["spec"]["dataSource"] == {
        "apiGroup": "snapshot.storage.k8s.io",
        "kind": "VolumeSnapshot",
        "name": "b-ingest-1",
    }
    assert made["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/instance": "n",
        "app.kubernetes.io/component": "ingest",
    }
    assert made["metadata"]["annotations"] == {RECOVERED_FROM: "uid-b/b-ingest-1"}


def test_the_default_class_is_named_in_the_claim():
    """A cluster without a class gets the newest default one by name, so that a claim is never without any."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    wanted = cluster(storage={"backend": "local", "size": "10Gi"})
    found = plan(there(classes=[storage_class("a"), storage_class("fast", annotations=default)]), BEGUN, wanted)

    assert {each.storage_class for each in found.makes} == {"fast"}


def test_only_missing_claims_are_made_after_a_kill():
    """What an earlier pass made is not made again, and what the snapshots of those are by now does not matter."""
    seen = there("controller-0", "ingest-0", snapshots={"b-ingest-1": snapshot("ingest-1")})

    assert [each.name for each in plan(seen, BEGUN).makes] == ["data-n-ingest-1"]


def test_the_metastore_waits_for_the_volumes():
    """No Job runs before every claim is bound, unless their class makes volumes only for pods."""
    pending = there(*NODES, volumes=[], claims={f"data-n-{node}": claim(node) for node in NODES})
    found = plan(pending, BEGUN)
    assert (found.makes, found.waiting and found.waiting.reason) == ((), "MakingVolumes")

    late = [storage_class(volumeBindingMode="WaitForFirstConsumer")]
    found = plan(there(*NODES, volumes=[], claims=pending.claims, classes=late), BEGUN)
    assert [each.name for each in found.makes] == ["n-restore"]
    assert [each.name for each in plan(there(*NODES), BEGUN).makes] == ["n-restore"]


@pytest.mark.parametrize(
    ("got", "why"),
    [
        (disk("pv-ingest-0", "uid-ingest-0", by=""), "no driver made it, so it was there before, and is empty"),
        (disk("pv-ingest-0", "uid-ingest-0", by="other.example.com"), "it is of the driver other.example.com"),
        (disk("pv-ingest-0", "uid-ingest-1"), "it belongs to another claim"),
        (disk("pv-ingest-0", "uid-ingest-0", created="2026-11-29T08:59:59Z"), "it is older than its claim"),
    ],
)
@pytest.mark.parametrize("known", [BEGUN, BEGUN | {"phase": "Starting"}], ids=["before pods", "with pods"])
def test_a_volume_that_was_not_made_from_the_snapshot_starts_nothing(got, why, known):
    """A claim that was bound to anything but a volume of the snapshot's driver, made for it, starts no workload."""
    seen = there(*NODES)
    found = plan(
        there(*NODES, volumes=[*(each for each in seen.volumes if each["metadata"]["name"] != "pv-ingest-0"), got]),
        known,
    )

    assert found.refused
    assert found.refused.reason == "RecoveredVolumeStrange"
    assert found.refused.message.startswith(
        "The claim data-n-ingest-0 is bound to the volume pv-ingest-0, which was not"
    )
    assert why in found.refused.message
    assert (found.makes, found.starts) == ((), False)


def test_a_metastore_that_is_not_restored_starts_nothing_and_is_tried_again():
    """A Job that failed is told in its own words; five minutes later it is removed, and so made anew."""
    said = {
        "result": "failed",
        "message": "database d: it is not empty",
        "hint": "Say --allow-overwrite.",
        "reason": "DatabaseNotEmpty",
    }
    failed = there(*NODES, job=job("Failed"), result=said)
    found = plan(failed, BEGUN)
    assert found.refused == (
        "MetastoreNotRestored",
        (
            "The metastore was not restored: database d: it is not empty."
            " Empty it, or name another database in a new cluster."
        ),
    )
    assert (found.removes, found.starts) == ((), False)

    assert [each.name for each in plan(failed, BEGUN, now=LATE).removes] == ["n-restore"]


def test_workloads_start_when_all_is_restored():
    """When the Job has ended, workloads may start; once it is removed and all volumes are bound, it is over."""
    found = plan(there(*NODES, job=job("Complete")), BEGUN)
    assert (found.starts, found.status["phase"], found.status["metastoreCutAt"]) == (
        True,
        "Starting",
        "2026-11-29T02:01:00Z",
    )
    assert [each.name for each in found.removes] == ["n-restore"]

    over = plan(there(*NODES), found.status, now=LATE)
    assert (over.starts, over.status["phase"], over.status["finishedAt"], over.waiting) == (
        True,
        "Recovered",
        LATE,
        None,
    )
    assert over.status["message"] == f"From ChronikBackup b: what was written after {CUT} is lost"


def test_volumes_that_are_made_for_pods_are_looked_at_when_these_are_there():
    """With a class that waits for pods workloads start, and it is over only when each volume has been seen."""
    late = [storage_class(volumeBindingMode="WaitForFirstConsumer")]
    known = BEGUN | {"phase": "Starting", "metastoreCutAt": CUT}
    pending = {f"data-n-{node}": claim(node) for node in NODES}
    found = plan(there(*NODES, volumes=[], claims=pending, classes=late), known)
    assert (found.starts, found.status["phase"]) == (True, "Starting")
    assert found.waiting

    assert plan(there(*NODES, classes=late), known).status["phase"] == "Recovered"


def test_a_claim_that_is_gone_before_its_pod_came_starts_nothing():
    """Its StatefulSet would make an empty one of the same name."""
    found = plan(there("controller-0", "ingest-0"), BEGUN | {"phase": "Starting", "metastoreCutAt": CUT})

    assert found.refused
    assert (found.refused.reason, found.starts) == ("ClaimsGone", False)


@pytest.mark.parametrize(
    ("spec", "made", "says"),
    [
        (
            {"nodes": "Fewer", "ingestNodes": 1},
            2,
            "Left out, and lost where no other node has it: what was on ingest 1",
        ),
        ({"nodes": "More", "ingestNodes": 4}, 3, "Begin empty: ingest 2, 3"),
        ({"metastore": "Skip"}, 3, "The metastore was left to others"),
        (
            {"source": {"cluster": "c", "targetTime": "2026-11-29T09:30:00+01:00"}},
            3,
            (
                f"what was written after {CUT} is lost, 6h 26m 49s up to the time that was asked for,"
                " 2026-11-29T09:30:00+01:00"
            ),
        ),
    ],
)
def test_what_is_lost_is_said(spec, made, says):
    """Nodes that are left out, those that begin empty, and to the second what was written too late."""
    known = BEGUN | {"phase": "Starting", "metastoreCutAt": CUT}
    assert len(plan(there(), BEGUN, cluster(**spec)).makes) == made

    assert says in plan(there(*NODES), known, cluster(**spec)).status["message"]


def test_nodes_that_are_all_alike_have_no_metastore_to_restore():
    """In topology Unified volumes are all there is, and they are counted from 1."""
    nodes = ("node-1", "node-2", "node-3")
    document = cluster().spec
    spec = {"topology": "Unified", "nodes": 3, "storage": document["storage"], "bootstrap": document["bootstrap"]}
    raw = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster"}
    raw |= {"metadata": {"name": "n", "namespace": "x"}, "spec": spec}
    wanted = loading.validator().validate(raw).cluster
    assert wanted
    seen = there(
        *nodes,
        backups=[changed(backup(nodes=nodes), ("status", "metastore"), WITHOUT)],
        recorded=wanted,
    )

    assert plan(seen, BEGUN, wanted).status["phase"] == "Starting"


@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (CUT, CUT, "0s"),
        (CUT, "2026-11-29T02:03:12Z", "1s"),
        (CUT, "2026-12-01T02:03:11Z", "2d"),
        (CUT, "2026-11-29T09:30:00+01:00", "6h 26m 49s"),
        ("2026-11-29T02:03:12Z", CUT, "0s"),
    ],
)
def test_spans_are_to_the_second(since, until, text):
    """How long it is between two times is written to the second, and never less than nothing."""
    assert span(since, until) == text


@pytest.mark.parametrize(
    ("method", "more", "args"),
    [
        ("Dump", {}, []),
        ("Base", {}, ["--target-time", "2026-11-29T02:01:00Z"]),
        ("Base", {"target": AFTER}, ["--target-time", AFTER]),
        ("Base", {"target": AFTER, "exact": True}, ["--target-time", AFTER, "--exact"]),
    ],
)
def test_the_job_restores_to_the_moment_of_the_backup(method, more, args):
    """A copy of the whole server is recovered to its own moment, as its log is newer than the volumes, or as asked."""
    dump = changed(backup()["status"]["metastore"], ("method",), method)
    source, wanted = cluster("c", bootstrap=None), cluster()
    document = {"metadata": {"name": "n", "uid": "uid-n"}}
    asked = RestoreOf(document, wanted, backup(metastore=dump), source, "n-restore", "chronik/operator:1", **more)
    account, made = restore_job(asked, loading.template_renderer())

    assert account["metadata"]["name"] == "n-backup"
    assert [(each["kind"], each["name"]) for each in made["metadata"]["ownerReferences"]] == [("ChronikCluster", "n")]
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["restore", "metastore", "--id", "uid-b", *args]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert (variables["CHRONIK_STORE"], variables["PGDATABASE"]) == ("file:///mnt/backups", "d")
