"""What a backup of volumes cut at one moment needs next: members and their claims, what is lost, and how it goes."""

from __future__ import annotations

import pytest
from support.backup_plans import CLAIMS, NOW, SOON, backup, completed, document, job, seen, snapshot

from chronik.backups.deletion import Remains, plan_deletion
from chronik.backups.groups import selector_of, source_of
from chronik.backups.manifests import group, member
from chronik.backups.plan import plan_backup
from chronik.backups.steps import Make, Remove
from chronik.manifest import BACKUP_LABEL
from chronik.offline import loading

LABELLED = [
    {"metadata": {"name": f"data-c-{name}-0", "labels": {"app.kubernetes.io/instance": "c"}}}
    for name in ("controller", "ingest")
]


def grouped(**volumes):
    """Return a cluster whose volumes are cut at one moment, and whose metastore others back up."""
    section = {"metastore": {"method": "None"}, "volumes": {"method": "VolumeGroupSnapshot", **volumes}}
    return document(**section)


def there(**more):
    """Return what is there of such a cluster."""
    return seen(grouped(), **({"claims": LABELLED} | more))


def begun():
    """Return its backup, just begun."""
    return backup(plan_backup(backup(), there(), NOW).status)


def the_group(uid="uid-b", **status):
    """Return the group of the backup."""
    metadata = {"name": "b-volumes", "namespace": "n", "uid": "uid-g", "labels": {BACKUP_LABEL: uid}}
    return {"kind": "VolumeGroupSnapshot", "metadata": metadata, "status": status}


def a_member(name, claim, *, labelled=False, **status):
    """Return a snapshot that belongs to the group."""
    owner = {"kind": "VolumeGroupSnapshot", "name": "b-volumes", "uid": "uid-g"}
    found = snapshot(name, **status)
    labels = found["metadata"]["labels"] if labelled else {}
    found["metadata"] |= {"ownerReferences": [owner], "labels": labels}
    return found | {"spec": {"source": {"persistentVolumeClaimName": claim}}}


CUT = {"boundVolumeGroupSnapshotContentName": "x", "creationTime": SOON}
READY = CUT | {"readyToUse": True}
MEMBERS = [a_member("s-1", "data-c-controller-0"), a_member("s-2", "data-c-ingest-0")]


def test_nothing_is_made_before_it_is_written_down():
    """The status names the group first, and volumes without snapshots, whose names the controller chooses."""
    plan = plan_backup(backup(), there(), NOW)
    assert plan.status["group"] == {"name": "b-volumes", "ready": False}
    assert [sorted(each) for each in plan.status["volumes"]] == [["claim", "component", "ordinal"]] * 2
    assert plan.makes == ()
    assert plan_backup(begun(), there(), NOW).makes == (Make("group", "b-volumes"),)


def test_the_group_waits_for_the_dump():
    """Metadata comes first: no group is made before the metastore is dumped."""
    live = document(volumes={"method": "VolumeGroupSnapshot"})
    started = backup(plan_backup(backup(), seen(live, claims=LABELLED), NOW).status)
    assert [each.part for each in plan_backup(started, seen(live, claims=LABELLED), NOW).makes] == ["job"]
    waits = plan_backup(started, seen(live, claims=LABELLED, job=job()), NOW)
    assert waits.makes == ()


@pytest.mark.parametrize(
    ("components", "selector"),
    [
        (None, {"app.kubernetes.io/instance": "c"}),
        (["controller", "ingest"], {"app.kubernetes.io/instance": "c"}),
        (["ingest"], {"app.kubernetes.io/instance": "c", "app.kubernetes.io/component": "ingest"}),
    ],
)
def test_claims_are_selected_by_labels_alone(components, selector):
    """The labels are those that a StatefulSet gives its claims, and name a component if not all are to be cut."""
    live = grouped(**({"components": components} if components else {}))
    cluster = loading.validator().validate(live, stored=True).cluster
    volumes = [{"component": each} for each in components or ("controller", "ingest")]
    assert selector_of(cluster, volumes) == selector


@pytest.mark.parametrize(
    ("more", "reason", "text"),
    [
        ({"has_groups": False}, "SnapshotsUnavailable", "set spec.backup.volumes.method to VolumeSnapshot"),
        ({"has_snapshots": False}, "SnapshotsUnavailable", "This Kubernetes has no VolumeSnapshots"),
        ({"claims": CLAIMS}, "ClaimsNotSelected", "kubectl label pvc NAME app.kubernetes.io/instance=c"),
        ({"claims": []}, "NoVolumes", "no volumes yet"),
    ],
)
def test_what_keeps_it_from_beginning(more, reason, text):
    """It waits and says what to do; it never cuts one volume after the other instead."""
    plan = plan_backup(backup(), there(**more), NOW)
    assert (plan.status["phase"], plan.makes, completed(plan)[0]) == ("Pending", (), reason)
    assert text in completed(plan)[1]


def test_members_are_labelled_and_then_known_like_others():
    """Each member is found by its claim, gets the backup's label, and its volume has the moment of the group."""
    plan = plan_backup(begun(), there(group=the_group(**READY), members=MEMBERS), SOON)
    assert [(each.part, each.name, each.uid) for each in plan.makes] == [
        ("member", "s-1", "uid-s-1"),
        ("member", "s-2", "uid-s-2"),
    ]
    assert [each["snapshot"] for each in plan.status["volumes"]] == ["s-1", "s-2"]
    assert "cutAt" not in plan.status, "it is not cut as long as a member could be lost again"

    late = "2026-11-29T02:30:00Z"
    labelled = {
        name: a_member(name, claim, labelled=True, readyToUse=True, boundVolumeSnapshotContentName=f"c-{name}", **when)
        for name, claim, when in (
            ("s-1", "data-c-controller-0", {}),
            ("s-2", "data-c-ingest-0", {"creationTime": late}),
        )
    }
    done = plan_backup(backup(plan.status), there(group=the_group(**READY), snapshots=labelled), late)
    assert (done.status["phase"], done.status["usable"], done.makes) == ("Completed", True, ())
    assert [each["createdAt"] for each in done.status["volumes"]] == [SOON, SOON]
    assert done.status["cutAt"] == SOON
    assert done.status["group"] == {"name": "b-volumes", "content": "x", "createdAt": SOON, "ready": True}


def test_what_the_driver_says_is_told_until_the_deadline():
    """A group that fails is shown and waited for; after the deadline the backup has failed for that."""
    failing = there(group=the_group(error={"message": "the PVC data-c-ingest-0 is not yet bound to a PV"}))
    plan = plan_backup(begun(), failing, SOON)
    assert plan.status["phase"] == "Running"
    assert "the VolumeGroupSnapshot b-volumes: the PVC data-c-ingest-0 is not yet bound" in completed(plan)[1]
    over = plan_backup(backup(plan.status), failing, "2026-11-29T03:00:00Z")
    assert completed(over)[0] == "DeadlineExceeded"
    assert "is not yet bound to a PV" in completed(over)[1]

    refused = plan_backup(begun(), there(errors={"b-volumes": "the quota is full"}), SOON)
    assert "b-volumes: the quota is full" in completed(refused)[1]


OTHER = the_group(**READY) | {"metadata": the_group("another")["metadata"]}
LOST = {
    "it is another backup's": ({"group": OTHER}, "is there already, and is not of this backup"),
    "the driver left a volume out": (
        {"group": the_group(**READY), "members": MEMBERS[:1]},
        "is ready, and has no snapshot of data-c-ingest-0",
    ),
    "two of one claim": (
        {"group": the_group(**CUT), "members": [*MEMBERS, a_member("s-3", "data-c-ingest-0")]},
        "has several snapshots of data-c-ingest-0: s-2, s-3",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_what_is_not_whole_has_failed(case):
    """A group that is not this backup's, or not of all its volumes, fails the backup and says which."""
    more, text = LOST[case]
    plan = plan_backup(begun(), there(**more), SOON)
    assert (completed(plan)[0], plan.makes) == ("SnapshotLost", ())
    assert text in completed(plan)[1]


@pytest.mark.parametrize("what", ["the group", "a member"])
def test_what_was_cut_and_is_gone_has_failed(what):
    """A group or a member that goes after it was cut fails the backup."""
    cut = begun()["status"] | {"group": {"name": "b-volumes", "createdAt": SOON, "ready": False}}
    cut["volumes"] = [
        each | {"snapshot": f"s-{number}", "createdAt": SOON} for number, each in enumerate(cut["volumes"])
    ]
    live = there() if what == "the group" else there(group=the_group(**CUT), members=[])
    plan = plan_backup(backup(cut), live, SOON)
    assert completed(plan)[0] == "SnapshotLost"
    assert completed(plan)[1].endswith("was cut, and is gone")


def test_a_content_that_names_another_group_is_no_cut():
    """As long as the group's content names another one, nothing of it is taken, and that is said."""
    content = {"spec": {"volumeGroupSnapshotRef": {"namespace": "n", "name": "b-volumes", "uid": "somebody-elses"}}}
    plan = plan_backup(begun(), there(group=the_group(**READY), group_content=content, members=MEMBERS), SOON)
    assert plan.makes == ()
    assert "createdAt" not in plan.status["group"]
    assert "names another group" in completed(plan)[1]


def test_a_claim_that_is_gone_is_not_left_out():
    """A claim that goes before the group is made fails the backup: the group would be without it."""
    plan = plan_backup(begun(), there(claims=LABELLED[:1]), SOON)
    assert (completed(plan)[0], plan.makes) == ("ClaimGone", ())


def volume(handle, claim, namespace="n", driver="d"):
    """Return a PersistentVolume."""
    claimed = {"name": claim, "namespace": namespace}
    return {"spec": {"csi": {"driver": driver, "volumeHandle": handle}, "claimRef": claimed}}


@pytest.mark.parametrize(
    ("volumes", "claim"),
    [
        ([volume("v-1", "data-c-ingest-0"), volume("v-2", "data-c-ingest-1")], "data-c-ingest-1"),
        ([volume("v-2", "data-c-ingest-1", driver="another")], ""),
        ([volume("v-2", "data-c-ingest-1", namespace="another")], ""),
        ([], ""),
    ],
)
def test_a_member_without_a_claim_is_known_by_its_volume(volumes, claim):
    """The controller may not find whose a volume is: then the driver's name of it tells, or nothing does."""
    content = {"spec": {"driver": "d", "source": {"volumeHandle": "v-2"}}}
    found = a_member("s-1", "", boundVolumeSnapshotContentName="x")
    assert source_of(found, {"x": content}, volumes) == claim


def test_manifests():
    """A group names a class only if there is one, and a member gets labels and nothing else."""
    render, made = loading.template_renderer(), begun()
    for name, spec in (("fast", {"volumeGroupSnapshotClassName": "fast"}), (None, {})):
        live = grouped(**({"snapshotClass": name} if name else {}))
        cluster = loading.validator().validate(live, stored=True).cluster
        found = group(made, cluster, "b-volumes", "groupsnapshot.storage.k8s.io/v1beta1", render)
        assert found["apiVersion"] == "groupsnapshot.storage.k8s.io/v1beta1"
        labels = {"app.kubernetes.io/instance": "c"}
        assert found["spec"] == spec | {"source": {"selector": {"matchLabels": labels}}}
        assert found["metadata"]["labels"][BACKUP_LABEL] == "uid-b"
        assert [each["kind"] for each in found["metadata"]["ownerReferences"]] == ["ChronikBackup"]
        kept = group(backup(made["status"], onDelete="Keep"), cluster, "b-volumes", "x/v1", render)
        assert "ownerReferences" not in kept["metadata"]
    part = member(made, Make("member", "s-1", {"component": "ingest"}, uid="uid-s-1"))
    assert part.keys() == {"apiVersion", "kind", "metadata"}
    assert part["metadata"].keys() == {"name", "namespace", "uid", "labels"}


def test_the_group_is_deleted_and_its_members_with_it():
    """The group goes first, since none of its members may go before it; what is left after it goes one by one."""
    going = backup(begun()["status"] | {"phase": "Completed"})
    there_are = {each["metadata"]["name"]: each for each in MEMBERS}
    first = plan_deletion(going, Remains(group=the_group(), snapshots=there_are), NOW)
    assert (first.removes, first.done) == ((Remove("VolumeGroupSnapshot", "b-volumes", "uid-g"),), False)
    then = plan_deletion(going, Remains(snapshots=there_are), NOW)
    assert [each.kind for each in then.removes] == ["VolumeSnapshot", "VolumeSnapshot"]
    assert not then.done
    assert plan_deletion(going, Remains(), NOW).done
    alone = plan_deletion(going, Remains(group=the_group()), NOW)
    assert not alone.done
    kept = plan_deletion(backup(begun()["status"], onDelete="Keep"), Remains(group=the_group()), NOW)
    assert (kept.removes, kept.done) == ((), True)
