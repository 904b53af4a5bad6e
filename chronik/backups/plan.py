"""Decide what a backup needs next: the one place where its phases, their order and its ends are.

`plan_backup` is called again and again with what is there, and returns what to make, what to remove and what to say.
Everything that a later pass needs stands in the status or in the cluster, so an operator may be killed between any two
steps. The order is the metastore, then the controllers' volumes, then those of the ingest nodes, each cut whole before
the next: metadata that names data which is not there is worse than data that no metadata names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.api.components import components
from chronik.api.sections.backup import archives
from chronik.backups.document import DONE, schedule_of, status_of
from chronik.backups.groups import UNAVAILABLE, group_name, is_grouped, unselected, with_group
from chronik.backups.jobs import dump, record, removal
from chronik.backups.parts import Volume, size_of, stages, volumes_of
from chronik.backups.snapshots import Lost, with_snapshot
from chronik.backups.steps import BackupPlan, Make, Remove, Seen
from chronik.backups.tell import SNAPSHOTS_UNAVAILABLE, conditions, progress_of, unhealthy
from chronik.quantity import seconds_of
from chronik.status.compute import Reason
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest


def plan_backup(backup: Manifest, seen: Seen, now: str) -> BackupPlan:
    """Return what a backup needs next; `now` is an RFC 3339 time in UTC."""
    status = {**status_of(backup)}
    if status.get("phase") in DONE:
        return BackupPlan(status, waits=False)
    if not status.get("startedAt"):
        return _begin(backup, status, seen, now)
    failure = failure_of(status)
    if failure is not None:
        return _fail(backup, status, failure, seen, now)
    return _go_on(backup, status, seen, now)


# --- the beginning ----------------------------------------------------------------------------------------------------


def _begin(backup: Manifest, status: dict[str, Any], seen: Seen, now: str) -> BackupPlan:
    """Fix what the backup is to have, if nothing keeps it from beginning; nothing is made yet."""
    wait = _wait(backup, seen)
    if wait is None and seen.document is not None and seen.cluster is not None:
        return _started(backup, seen.document, seen.cluster, seen, now)
    assert wait is not None
    if now >= _deadline(backup, backup["metadata"].get("creationTimestamp") or now):
        message = f"It did not begin within {backup['spec']['deadline']}: {wait.message}"
        status |= {"phase": "Failed", "usable": False, "completedAt": now}
        return _told(backup, status, Reason("DeadlineExceeded", message), now, waits=False)
    return _told(backup, status | {"phase": "Pending", "usable": False}, wait, now)


def _wait(backup: Manifest, seen: Seen) -> Reason | None:
    """Return what keeps a backup from beginning, if anything does."""
    name = backup["spec"]["cluster"]
    if seen.document is None:
        return Reason("ClusterMissing", f"There is no ChronikCluster {name} in this namespace")
    if seen.cluster is None:
        return Reason("ClusterInvalid", f"The spec of ChronikCluster {name} is in error: see its status")
    settings = seen.cluster.spec["backup"]
    if settings is None:
        return Reason(
            "NotConfigured", f"ChronikCluster {name} has no spec.backup, which says what is backed up, and where"
        )
    if seen.other:
        return Reason("AnotherBackup", f"ChronikBackup {seen.other} of this cluster goes first")
    if _is_rolling(seen.document):
        return Reason("RolloutInProgress", f"Pods of ChronikCluster {name} are being replaced")
    if settings["volumes"]["method"] != "None" and (wait := _wait_for_volumes(backup, seen.cluster, seen)):
        return wait
    if settings["metastore"]["method"] == "Dump" and not seen.image:
        text = "No image is known for the Job that dumps the metastore: name one in spec.backup.metastore.image"
        return Reason("NoImage", text)
    return None


def _wait_for_volumes(backup: Manifest, cluster: Cluster, seen: Seen) -> Reason | None:
    """Return what keeps volumes from being cut, if anything does. One way of cutting them never stands for another."""
    if not seen.has_snapshots:
        return Reason("SnapshotsUnavailable", SNAPSHOTS_UNAVAILABLE)
    if is_grouped(cluster) and not seen.has_groups:
        return Reason("SnapshotsUnavailable", UNAVAILABLE)
    volumes = volumes_of(backup["metadata"]["name"], cluster, seen.claims)
    if not volumes:
        return Reason("NoVolumes", f"ChronikCluster {cluster.name} has no volumes yet")
    return unselected(cluster, volumes, seen.claims) if is_grouped(cluster) else None


def _is_rolling(document: Manifest) -> bool:
    """Return whether a roll is on its way and comes further: one that does not is not waited for."""
    status = document.get("status") or {}
    progress: dict[str, Any] = next(
        (each for each in status.get("conditions") or () if each["type"] == "Progressing"), {}
    )
    rolls = progress.get("status") == "True" and progress.get("reason") == "RolloutInProgress"
    return status.get("phase") == "Updating" and rolls


def _started(backup: Manifest, document: Manifest, cluster: Cluster, seen: Seen, now: str) -> BackupPlan:
    """Return the status that says what the backup is to have. It is written before any part is made."""
    settings = cluster.spec["backup"]
    assert settings is not None
    was = document.get("status") or {}
    about = {
        "uid": document["metadata"]["uid"],
        "generation": document["metadata"]["generation"],
        "phase": was.get("phase", ""),
        "unhealthy": unhealthy(document),
        "images": {each.name: each.image for each in components(cluster)},
        "spec": document["spec"],
    }
    status: dict[str, Any] = {
        "phase": "Running",
        "usable": False,
        "startedAt": now,
        "cluster": {key: value for key, value in about.items() if value != ""},
        "volumes": volumes_of(backup["metadata"]["name"], cluster, seen.claims),
    }
    if is_grouped(cluster):
        status["group"] = {"name": group_name(backup["metadata"]["name"]), "ready": False}
    if settings["metastore"]["method"] == "Dump":
        status["metastore"] = {"method": "Base" if archives(settings) else "Dump", "ready": False}
    return _told(backup, status, None, now, waits=False)


# --- on its way -------------------------------------------------------------------------------------------------------


def _go_on(backup: Manifest, status: dict[str, Any], seen: Seen, now: str) -> BackupPlan:
    """Note how the parts are, make those whose turn it is, and find out whether all are there."""
    metastore, makes, removes, failure = dump(backup, status, seen)
    if metastore is not None:
        status["metastore"] = metastore
    labels: tuple[Make, ...] = ()
    try:
        if "group" in status:
            status["group"], status["volumes"], labels = with_group(status["group"], status["volumes"], backup, seen)
        else:
            status["volumes"] = [with_snapshot(_with_error(each, seen), backup, seen) for each in status["volumes"]]
    except Lost as lost:
        failure = Reason("SnapshotLost", str(lost))
    if failure is None and now >= _deadline(backup, status["startedAt"]):
        failure = Reason("DeadlineExceeded", f"It took longer than {backup['spec']['deadline']}: {progress_of(status)}")
    if failure is not None:
        return _told(backup, status | {"phase": "Finalizing"}, failure, now, waits=False)
    if metastore is None or metastore["ready"]:
        missing = _next(status, seen)
        present = {claim["metadata"]["name"] for claim in seen.claims}
        gone = next((each for each in missing if each["claim"] not in present), None)
        if gone is not None:
            lost_claim = Reason("ClaimGone", f"The claim {gone['claim']} is gone, and was not cut yet")
            return _told(backup, status | {"phase": "Finalizing"}, lost_claim, now, waits=False)
        if missing and "group" in status:
            makes = (*makes, Make("group", status["group"]["name"]))
        elif missing:
            makes = (*makes, *(Make("snapshot", each["snapshot"], each) for each in missing))
    return _found(backup, status, (*makes, *labels), removes, seen, now)


def _next(status: Mapping[str, Any], seen: Seen) -> list[Volume]:
    """Return the volumes that are to be cut now: those of one component, or all of a group."""
    if "group" in status:
        return status["volumes"] if seen.group is None else []
    turn = next((each for each in stages(status["volumes"]) if not all(map(_is_cut, each))), [])
    return [each for each in turn if each["snapshot"] not in seen.snapshots]


def _found(
    backup: Manifest, status: dict[str, Any], makes: tuple[Make, ...], removes: tuple[Remove, ...], seen: Seen, now: str
) -> BackupPlan:
    """Return the status of a backup that may have all its parts by now."""
    metastore, volumes = status.get("metastore"), status["volumes"]
    cut = all(map(_is_cut, volumes)) and (metastore is None or metastore["ready"])
    if cut:
        times = [each["createdAt"] for each in volumes] + ([metastore["cutAt"]] if metastore else [])
        status |= {"phase": "Finalizing", "cutAt": max(times)}
    if not cut or not all(each.get("ready") for each in volumes) or seen.job is not None:
        return _told(backup, status, None, now, makes=makes, removes=removes)
    whole = status | {"phase": "Completed", "usable": True, "completedAt": now}
    whole |= {"size": size_of(volumes)} if size_of(volumes) else {}
    age = _longest_age(backup, status)
    whole |= {"expiresAt": later(status["cutAt"], seconds_of(age))} if age else {}
    if metastore is not None:  # there is a place for the description, too
        found, makes, removes = record(backup, whole, seen)
        status["record"] = whole["record"] = found
        if not found or seen.record is not None:
            return _told(backup, status, None, now, makes=makes, removes=removes)
    return _told(backup, whole, None, now, waits=False)


def _longest_age(backup: Manifest, status: Mapping[str, Any]) -> str:
    """Return how old the schedule of a backup lets it become; empty if it does not go by age."""
    schedules = (status["cluster"]["spec"].get("backup") or {}).get("schedules") or ()
    found: dict[str, Any] = next((each for each in schedules if each["name"] == schedule_of(backup)), {})
    return str((found.get("keep") or {}).get("maxAge") or "")


def _with_error(volume: Volume, seen: Seen) -> Volume:
    error = seen.errors.get(volume["snapshot"])
    return {**volume, "error": error[:4096]} if error else volume


def _is_cut(volume: Volume) -> bool:
    return "createdAt" in volume


# --- the end ----------------------------------------------------------------------------------------------------------


def failure_of(status: Mapping[str, Any]) -> Reason | None:
    """Return why a backup is failing: this stands in its status before anything is taken away for it."""
    if status.get("phase") not in {"Finalizing", "Failed"}:
        return None
    said = (each for each in status.get("conditions") or () if each["type"] == "Completed")
    return next((Reason(each["reason"], each["message"]) for each in said if each["reason"] in FAILURES), None)


FAILURES = frozenset({"DeadlineExceeded", "DumpFailed", "SnapshotLost", "ClaimGone"})


def _fail(backup: Manifest, status: dict[str, Any], failure: Reason, seen: Seen, now: str) -> BackupPlan:
    """Stop the Jobs; once they are gone, the backup has failed. Snapshots stay until it is deleted."""
    jobs = [each for each in (seen.job, seen.record) if each is not None]
    if jobs:
        return _told(backup, status, failure, now, removes=tuple(each for job in jobs for each in removal(job)))
    status |= {"phase": "Failed", "usable": False, "completedAt": now}
    return _told(backup, status, failure, now, waits=False)


def _deadline(backup: Manifest, since: str) -> str:
    return later(since, seconds_of(backup["spec"]["deadline"]))


def _told(  # noqa: PLR0913  # all but the first four are mostly left out
    backup: Manifest,
    status: dict[str, Any],
    why: Reason | None,
    now: str,
    *,
    makes: tuple[Make, ...] = (),
    removes: tuple[Remove, ...] = (),
    waits: bool = True,
) -> BackupPlan:
    """Return a plan whose status says all that is known in its conditions."""
    generation = int(backup["metadata"].get("generation", 1))
    said = conditions(status, status_of(backup).get("conditions") or (), why, now, generation)
    return BackupPlan({**status, "conditions": said}, makes, removes, waits)
