"""What a backup needs next, by what is there: beginnings, deadlines, lost parts, and passes cut off anywhere."""

from __future__ import annotations

import json

import pytest
from support.backup_plans import CLAIMS, LATE, NOW, SOON, backup, begun, completed, document, job, seen, snapshot
from support.snapshots import result

from chronik.backups.deletion import Remains, plan_deletion
from chronik.backups.jobs import LONGEST_RECORD
from chronik.backups.parts import job_name, size_of
from chronik.backups.plan import plan_backup
from chronik.backups.steps import Make, Remove, Seen
from chronik.backups.verification import VERIFY, asked_for, plan_verification


def test_the_first_step_writes_down_what_there_is_to_do():
    """Nothing is made before the status says which volumes are cut, in which order, and what the cluster is."""
    plan = plan_backup(backup(), seen(), NOW)

    assert plan.makes == ()
    assert [each["snapshot"] for each in plan.status["volumes"]] == ["b-controller-0", "b-ingest-9", "b-ingest-10"]
    assert plan.status["metastore"] == {"method": "Dump", "ready": False}
    assert plan.status["cluster"]["images"].keys() == {"controller", "ingest"}
    assert (plan.status["phase"], plan.status["startedAt"]) == ("Running", NOW)
    assert plan.status["cluster"]["generation"] == 3


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (Seen(), "ClusterMissing"),
        (Seen(document=document()), "ClusterInvalid"),
        (seen(other="a"), "AnotherBackup"),
        (seen(has_snapshots=False), "SnapshotsUnavailable"),
        (seen(claims=[]), "NoVolumes"),
        (seen(image=""), "NoImage"),
        (
            seen(document("Updating", [{"type": "Progressing", "status": "True", "reason": "RolloutInProgress"}])),
            "RolloutInProgress",
        ),
    ],
)
def test_what_keeps_a_backup_from_beginning(there, reason):
    """A backup that cannot begin waits and says why; after its deadline it has failed, and says so."""
    waiting = plan_backup(backup(), there, SOON)
    assert (waiting.status["phase"], completed(waiting)[0], waiting.makes) == ("Pending", reason, ())

    over = plan_backup(backup(), there, LATE)
    assert (over.status["phase"], completed(over)[0]) == ("Failed", "DeadlineExceeded")
    assert "did not begin within 1h" in completed(over)[1]


def test_a_roll_that_comes_no_further_is_not_waited_for():
    """A roll that makes no progress keeps no backup from beginning."""
    stuck = document("Updating", [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}])

    assert plan_backup(backup(), seen(stuck), SOON).status["phase"] == "Running"


def test_each_step_waits_for_the_one_before():
    """The dump, then the controllers, then the ingest nodes: nothing is begun before the last step is whole."""
    begins = begun()
    plan = plan_backup(begins, Seen(claims=CLAIMS), NOW)
    assert plan.makes == (Make("job", "b-metastore"),)

    plan = plan_backup(begins, Seen(claims=CLAIMS, job=job()), NOW)
    assert plan.makes == ()

    dumped = plan_backup(begins, Seen(claims=CLAIMS, job=job("Complete"), result=result()), NOW)
    assert [each.name for each in dumped.makes] == ["b-controller-0"]

    cut = {"b-controller-0": snapshot("b-controller-0", creationTime=SOON)}
    plan = plan_backup(backup(dumped.status), Seen(claims=CLAIMS, job=job("Complete"), snapshots=cut), NOW)
    assert [each.name for each in plan.makes] == ["b-ingest-9", "b-ingest-10"]
    assert plan.removes == (Remove("Job", "b-metastore", "uid-j"),)


def test_a_deadline_tells_what_is_missing_and_then_stops_the_job():
    """Beyond the deadline the status says what is missing first; only then the Job goes, and the backup has failed."""
    begins = begun()
    there = Seen(claims=CLAIMS, job=job())
    failing = plan_backup(begins, there, LATE)
    assert (failing.status["phase"], failing.removes) == ("Finalizing", ())
    assert completed(failing)[0] == "DeadlineExceeded"
    assert "the metastore is not dumped yet; 0 of 3 snapshots are ready" in completed(failing)[1]

    stopping = plan_backup(backup(failing.status), there, LATE)
    assert stopping.removes == (Remove("Job", "b-metastore", "uid-j"),)
    failed = plan_backup(backup(stopping.status), Seen(claims=CLAIMS), LATE)
    assert (failed.status["phase"], failed.makes, failed.status["usable"]) == ("Failed", (), False)
    assert completed(failed) == completed(failing)


@pytest.mark.parametrize(
    ("there", "reason", "said"),
    [
        ({"job": job("Failed")}, "DumpFailed", "in its words"),
        ({"job": job("Failed"), "result": {"message": "full", "hint": "Empty it."}}, "DumpFailed", "full Empty it."),
    ],
)
def test_a_failed_dump_fails_in_its_own_words(there, reason, said):
    """What the Job's container said is what the backup says; without it, what the Job says."""
    plan = plan_backup(begun(), Seen(claims=CLAIMS, **there), NOW)

    assert completed(plan) == (reason, f"The metastore was not dumped: {said}")


def test_a_dump_whose_result_is_lost_runs_again():
    """A Job that ended well, and whose pod is gone, has told nothing: it is made anew."""
    plan = plan_backup(begun(), Seen(claims=CLAIMS, job=job("Complete")), NOW)

    assert plan.removes == (Remove("Job", "b-metastore", "uid-j"),)
    assert plan.status["metastore"]["ready"] is False


@pytest.mark.parametrize("said", [result(verified=False), result(result="failed")])
def test_a_dump_that_was_not_read_back_is_none(said):
    """Only a result that says ok and verified counts."""
    plan = plan_backup(begun(), Seen(claims=CLAIMS, job=job("Complete"), result=said), NOW)

    assert plan.status["metastore"]["ready"] is False


def cut(metastore="None"):
    """Return a backup of volumes alone, all of them cut, and their snapshots."""
    live = document(metastore={"method": metastore})
    begins = backup(plan_backup(backup(), seen(live), NOW).status)
    names = [each["snapshot"] for each in begins["status"]["volumes"]]
    snapshots = {name: snapshot(name, creationTime=SOON, restoreSize="1Gi") for name in names}
    return backup(plan_backup(begins, Seen(claims=CLAIMS, snapshots=snapshots), NOW).status), snapshots


def test_a_snapshot_that_vanishes_fails_the_backup():
    """A snapshot that was cut and is gone is not cut again, for that would break the order."""
    begins, snapshots = cut()
    snapshots.pop("b-controller-0")
    plan = plan_backup(begins, Seen(claims=CLAIMS, snapshots=snapshots), NOW)

    assert completed(plan) == ("SnapshotLost", "The VolumeSnapshot b-controller-0 was cut, and is gone")
    assert plan.makes == ()


def test_a_snapshot_of_somebody_else_is_not_taken():
    """A snapshot of the wanted name that is none of this backup's fails it, and is left alone."""
    begins = backup(plan_backup(backup(), seen(document(metastore={"method": "None"})), NOW).status)
    strange = {"b-controller-0": snapshot("b-controller-0", uid="other", creationTime=SOON)}
    plan = plan_backup(begins, Seen(claims=CLAIMS, snapshots=strange), NOW)

    assert completed(plan)[0] == "SnapshotLost"
    assert "is not of this backup" in completed(plan)[1]


def test_a_claim_that_is_gone_before_it_was_cut_fails_the_backup():
    """There is nothing to cut any more, and that is said at once."""
    begins = backup(plan_backup(backup(), seen(document(metastore={"method": "None"})), NOW).status)
    plan = plan_backup(begins, Seen(claims=[]), NOW)

    assert completed(plan) == ("ClaimGone", "The claim data-c-controller-0 is gone, and was not cut yet")


def test_all_parts_ready_complete_a_backup():
    """Cut is not ready: only snapshots that are ready and bound complete it, and cutAt is the last cut."""
    begins, snapshots = cut()
    assert (begins["status"]["phase"], begins["status"]["cutAt"]) == ("Finalizing", SOON)
    for name, each in snapshots.items():
        each["status"] |= {"readyToUse": True, "boundVolumeSnapshotContentName": f"content-{name}"}
    plan = plan_backup(begins, Seen(claims=CLAIMS, snapshots=snapshots), NOW)

    assert (plan.status["phase"], plan.status["usable"], plan.status["size"]) == ("Completed", True, "3Gi")
    assert plan_backup(backup(plan.status), Seen(), LATE).status == plan.status


def test_an_error_of_the_server_is_told_of_its_part():
    """What keeps one snapshot from being made is said of it, and is no end."""
    begins = backup(plan_backup(backup(), seen(document(metastore={"method": "None"})), NOW).status)
    plan = plan_backup(begins, Seen(claims=CLAIMS, errors={"b-controller-0": "quota"}), NOW)

    assert plan.status["volumes"][0]["error"] == "quota"
    assert "data-c-controller-0 (quota)" in completed(plan)[1]
    assert [each.name for each in plan.makes] == ["b-controller-0"]


def test_names_of_jobs_fit_a_label():
    """A long name is cut, and stays unlike others that begin alike."""
    names = {job_name(f"{'a' * 100}{number}", "metastore") for number in range(10)}

    assert len(names) == 10
    assert all(len(name) <= 63 and name.endswith("-metastore") for name in names)


def test_sizes_are_added_up():
    """Sizes add up in whole GiB, rounded up; without any there is none."""
    assert size_of([{"restoreSize": "1Gi"}, {"restoreSize": "512Mi"}, {}]) == "2Gi"
    assert size_of([{}]) == ""


# --- deletion ---------------------------------------------------------------------------------------------------------

DUMPED = {"phase": "Completed", "metastore": {"ready": True}}


def test_a_backup_that_never_began_goes_at_once():
    """There is nothing of it, and no Job is made."""
    plan = plan_deletion(backup(), Remains(image="x"), NOW)

    assert (plan.done, plan.forget, plan.removes) == (True, "", ())


def test_a_dump_is_forgotten_after_all_that_writes():
    """A Job that still puts the description beside the dump is stopped before anything is forgotten."""
    going = backup({"metastore": {"ready": True}, "phase": "Completed"})
    working = Remains(others=(job(name="b-record"),), image="x")

    plan = plan_deletion(going, working, NOW)
    assert ([each.name for each in plan.removes], plan.forget, plan.done) == (["b-record"], "", False)
    assert plan_deletion(going, Remains(image="x"), NOW).forget == "b-forget"


def test_the_dump_is_forgotten_after_the_job_that_makes_it():
    """A Job under way is stopped before another removes what it wrote; then the backup goes."""
    stopping = plan_deletion(backup(DUMPED), Remains(dump=job(), image="x"), NOW)
    assert (stopping.removes, stopping.forget, stopping.done) == ((Remove("Job", "b-metastore", "uid-j"),), "", False)

    forgetting = plan_deletion(backup(DUMPED), Remains(image="x"), NOW)
    assert (forgetting.forget, forgetting.done) == ("b-forget", False)
    done = plan_deletion(backup(DUMPED), Remains(forget=job("Complete", name="b-forget"), image="x"), NOW)
    assert done.done


def test_a_failed_removal_is_tried_again_after_a_while():
    """A Job that could not remove the dump is told, and made anew after five minutes."""
    failed = job("Failed", name="b-forget")
    failed["status"]["conditions"][0]["lastTransitionTime"] = NOW
    now = plan_deletion(backup(DUMPED), Remains(forget=failed, image="x"), NOW)
    assert (now.removes, now.done) == ((), False)
    assert any(each["type"] == "ForgetFailed" for each in now.status["conditions"])

    later = plan_deletion(backup(DUMPED), Remains(forget=failed, image="x"), SOON)
    assert later.removes == (Remove("Job", "b-forget", "uid-j"),)


@pytest.mark.parametrize("remains", [Remains(), Remains(valid=False, image="x")])
def test_what_cannot_be_forgotten_is_told(remains):
    """Without an image, or a cluster's spec that can be read, the dump stays, and that is said with a way out."""
    plan = plan_deletion(backup(DUMPED), remains, NOW)

    assert not plan.done
    told = next(each for each in plan.status["conditions"] if each["type"] == "ForgetFailed")
    assert "chronik backup delete --leave-data b" in told["message"]


# --- the description in the store -------------------------------------------------------------------------------------


def dumped(**more):
    """Return a backup whose dump and snapshots are all ready, and what is there of it."""
    begins = begun()
    status = dict(begins["status"], metastore={"method": "Dump", "ready": True, "cutAt": NOW, "verified": True})
    names = [each["snapshot"] for each in status["volumes"]]
    ready = {
        name: snapshot(name, creationTime=SOON, readyToUse=True, boundVolumeSnapshotContentName="x") for name in names
    }
    return backup(status), Seen(**{"claims": CLAIMS, "snapshots": ready} | more)


def test_a_backup_is_described_beside_its_dump():
    """What the store gets is the completed ChronikBackup: another Kubernetes needs nothing else to know its parts."""
    plan = plan_backup(*dumped(), SOON)
    (made,) = plan.makes
    told = json.loads(made.text)

    assert (made.part, made.name, plan.status["phase"]) == ("record", "b-record", "Finalizing")
    assert (told["kind"], told["metadata"]["uid"], told["spec"]["cluster"]) == ("ChronikBackup", "uid-b", "c")
    assert (told["status"]["phase"], told["status"]["usable"], told["status"]["cutAt"]) == ("Completed", True, SOON)
    assert [each["snapshot"] for each in told["status"]["volumes"]] == ["b-controller-0", "b-ingest-9", "b-ingest-10"]


@pytest.mark.parametrize(
    ("there", "phase", "record", "told"),
    [
        ({"record": job(name="b-record")}, "Finalizing", {}, None),
        (
            {"record": job("Complete"), "recorded": {"result": "ok", "object": "s3://x"}},
            "Finalizing",
            {"object": "s3://x"},
            "True",
        ),
        ({"record": job("Failed"), "recorded": {"message": "full"}}, "Finalizing", {"error": "full"}, "False"),
        ({"record": job("Complete")}, "Finalizing", {}, None),
        ({"errors": {"b-record": "quota"}}, "Completed", {"error": "quota"}, "False"),
    ],
)  # fmt: skip
def test_a_description_that_is_not_stored_is_told_and_fails_nothing(there, phase, record, told):
    """The Job is waited for and removed; a backup whose description could not be stored is completed, and says so."""
    begins, around = dumped(**there)
    plan = plan_backup(begins, around, SOON)
    said = {each["type"]: each["status"] for each in plan.status["conditions"]}

    assert (plan.status["phase"], plan.status["record"], said.get("Recorded")) == (phase, record, told)
    if record:
        over = plan_backup(backup(plan.status), dumped()[1], SOON)
        assert (over.status["phase"], over.status["usable"], over.status["record"]) == ("Completed", True, record)


def test_a_description_that_is_too_long_for_an_annotation_is_told():
    """Beyond what an annotation may have nothing is tried, and the backup is completed all the same."""
    begins, around = dumped()
    begins["status"]["cluster"]["spec"] = {"long": "x" * LONGEST_RECORD}
    plan = plan_backup(begins, around, SOON)

    assert plan.status["phase"] == "Completed"
    assert "240,000 bytes" in plan.status["record"]["error"]


# --- checks that are asked for ----------------------------------------------------------------------------------------


def checked(asked="1 restore-test", **known):
    """Return a completed backup that is to be checked."""
    found = backup({"phase": "Completed", "usable": True, "metastore": {"ready": True, "verified": True}} | known)
    found["metadata"]["annotations"] = {VERIFY: asked}
    return found


@pytest.mark.parametrize(
    ("there", "result", "usable"),
    [
        ((job("Complete"), {"result": "ok", "rows": 7}), "Passed", True),
        ((job("Failed"), {"reason": "BackupDamaged", "message": "changed"}), "Failed", False),
        ((job("Failed"), {"reason": "BackupNotFound", "message": "gone"}), "Failed", False),
        ((job("Failed"), {"reason": "StoreUnreachable", "message": "away"}), "Unknown", True),
        ((job("Failed"), None), "Unknown", True),
        ((job("Complete"), None), "Unknown", True),
        ((job(), None), "Running", True),
    ],
)
def test_only_a_dump_that_is_known_to_be_bad_makes_a_backup_unusable(there, result, usable):
    """Damage and loss do; what could not be found out changes nothing, and is told as that."""
    plan = plan_verification(checked(), "1 restore-test", *there, SOON)

    assert (plan.status["verification"]["result"], plan.status["usable"]) == (result, usable)
    assert plan.waits == (result == "Running")
    assert bool(plan.removes) == (result != "Running")


def test_each_request_is_checked_once():
    """A new text in the annotation asks once more, with a Job of its own; one that was answered does not."""
    first = plan_verification(checked(), "1 restore-test", None, None, SOON)
    (made,) = first.makes
    assert (made.part, made.restore_test) == ("verify", True)
    done = plan_verification(checked(), "1 restore-test", job("Complete"), {"result": "ok", "rows": 7}, SOON)
    assert asked_for(checked(**done.status)) == ""
    assert asked_for(checked("2", **done.status)) == "2"
    again = plan_verification(checked("2", **done.status), "2", None, None, SOON)
    assert (again.makes[0].name != made.name, again.makes[0].restore_test) == (True, False)
    assert asked_for(backup({"phase": "Failed"}) | {"metadata": checked()["metadata"]}) == ""


def test_snapshots_alone_cannot_be_checked():
    """A backup without a dump is not called checked."""
    plan = plan_verification(checked(metastore=None), "1", None, None, SOON)

    assert plan.status["verification"]["result"] == "Unknown"
