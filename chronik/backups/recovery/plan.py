"""Decide what a recovery needs next: the one place where its phases, their order and its ends are.

`plan_recovery` is called again and again with what is there, and returns what to make and what to say. Everything that
a later pass needs stands in `status.recovery` or in the cluster, so an operator may be killed between any two steps.
The order is the choice, the checks, the claims, the metastore, the workloads; no workload is applied before the plan
says `starts`, and it says that only for claims that bear the mark of this backup, and are bound to nothing but what was
made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.backups.document import status_of
from chronik.backups.jobs import removal
from chronik.backups.parts import job_name
from chronik.backups.recovery.checks import refusal
from chronik.backups.recovery.choice import choose, cut_at
from chronik.backups.recovery.claims import bound_volume, class_of, is_marked, nodes_of, strangeness, waits_for_pods
from chronik.backups.recovery.seen import About
from chronik.backups.recovery.tell import begun, summary
from chronik.status.compute import Reason
from chronik.times import later
from chronik.wording import listed, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.backups.recovery.claims import Node
    from chronik.backups.recovery.seen import Seen
    from chronik.backups.steps import Remove
    from chronik.manifest import Manifest

RESTORE = "restore"
"""What the name of the Job ends with that restores the metastore."""
STARTS = frozenset({"Starting", "Recovered"})
"""The phases in which workloads may be there."""
_TRY_AGAIN = 300.0
"""Seconds until a Job that failed is made anew: a person may have put right what was wrong."""


@dataclass(frozen=True, slots=True)
class MakePart:
    """Make the claim of a node, of a StorageClass; or, without a node, the Job that restores the metastore."""

    name: str
    node: Node | None = None
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What to do now: make parts, write the status, remove what is needed no longer.

    `status` is `status.recovery`. `refused` is why it cannot be done, `waiting` what it waits for. `starts`: workloads
    may be applied.
    """

    status: dict[str, Any]
    makes: tuple[MakePart, ...] = ()
    removes: tuple[Remove, ...] = ()
    refused: Reason | None = None
    waiting: Reason | None = None
    starts: bool = False


def is_over(known: Mapping[str, Any]) -> bool:
    """Return whether nothing is left to be done for a recovery, as `status.recovery` says."""
    return known.get("phase") == "Recovered"


def plan_recovery(
    cluster: Cluster, manifests: Sequence[Manifest], known: Mapping[str, Any], seen: Seen, now: str
) -> RecoveryPlan:
    """Return what the recovery of a new cluster needs next; `known` is `status.recovery`, `now` a time in UTC."""
    status = dict(known)
    if not status.get("backup"):
        return _choose(cluster, seen)
    backup = _chosen(status, seen)
    if backup is None:
        text = f"ChronikBackup {status['backup']}, which was chosen, is gone, or is another one of that name"
        return RecoveryPlan(status, refused=Reason("BackupMissing", text))
    about = About(cluster, nodes_of(cluster, manifests, backup), backup, seen, str(status.get("metastoreTarget", "")))
    if status["phase"] == "Checking":
        refused = refusal(about)
        if refused is not None:
            return RecoveryPlan(status, refused=refused)
        status |= {"phase": "Restoring", "startedAt": now, "claims": len(about.restored)}
        return RecoveryPlan(status, waiting=begun(status, about))
    if status["phase"] == "Restoring":
        return _restore(status, about, now)
    return _start(status, about, now)


def _choose(cluster: Cluster, seen: Seen) -> RecoveryPlan:
    """Fix which backup it is. This is written before anything is looked at, so that no later pass takes another."""
    bootstrap = cluster.spec["bootstrap"]
    assert bootstrap
    recovery = bootstrap["recovery"]
    chosen = choose(recovery["from"], seen.backups, recovery["metastore"])
    if isinstance(chosen, Reason):
        return RecoveryPlan({}, refused=chosen)
    name, uid = chosen.backup["metadata"]["name"], chosen.backup["metadata"]["uid"]
    status = {"phase": "Checking", "backup": name, "backupUID": uid, "cutAt": cut_at(chosen.backup)}
    if chosen.base is not None and cluster.spec["topology"] == "Roles":
        about = chosen.base["metadata"]
        status |= {"metastoreBackup": about["name"], "metastoreBackupUID": about["uid"]}
        status |= {"metastoreTarget": chosen.target}
    return RecoveryPlan(status, waiting=Reason("CheckingBackup", f"ChronikBackup {name} is being checked"))


def _chosen(status: Mapping[str, Any], seen: Seen) -> Manifest | None:
    return next((each for each in seen.backups if each["metadata"]["uid"] == status["backupUID"]), None)


# --- volumes ----------------------------------------------------------------------------------------------------------


def _restore(status: dict[str, Any], about: About, now: str) -> RecoveryPlan:
    """Make the claims that are missing, look at what they are bound to, and then restore the metastore."""
    if about.missing:
        refused = refusal(about)
        if refused is not None:
            return RecoveryPlan(status, refused=refused)
        makes = tuple(MakePart(each.claim, each, _class_name(each, about)) for each in about.missing)
        errors = [about.seen.errors[each.name] for each in makes if each.name in about.seen.errors]
        text = f"{len(about.restored) - len(makes)} of {len(about.restored)} claims are made"
        waiting = Reason("MakingVolumes", f"{text}: {listed(dict.fromkeys(errors))}" if errors else text)
        return RecoveryPlan(status, makes, waiting=waiting)
    strange = _strange(about)
    if strange is not None:
        return RecoveryPlan(status, refused=strange)
    unbound = [each for each in _unbound(about) if not waits_for_pods(_live_class(each, about))]
    if unbound:
        text = f"{len(about.restored) - len(unbound)} of {len(about.restored)} volumes are made from their snapshots"
        return RecoveryPlan(status, waiting=Reason("MakingVolumes", f"{text}; not {listed(e.claim for e in unbound)}"))
    return _restore_metastore(status, about, now)


def _class_name(node: Node, about: About) -> str:
    found = class_of(node, about.seen.classes)
    assert found, "it has been checked"
    return str(found["metadata"]["name"])


def _live_class(node: Node, about: About) -> Manifest | None:
    name = about.seen.claims[node.claim]["spec"].get("storageClassName")
    return next((each for each in about.seen.classes if each["metadata"]["name"] == name), None)


def _unbound(about: About) -> list[Node]:
    """Return the nodes whose claim has no volume yet, or one that cannot be read yet."""
    there = {each["metadata"]["name"] for each in about.seen.volumes}
    return [each for each in about.restored if bound_volume(about.seen.claims[each.claim]) not in there]


def _strange(about: About) -> Reason | None:
    """Tell of a claim that is not the one that was made, or that was bound to a volume that is not the snapshot's."""
    volumes = {each["metadata"]["name"]: each for each in about.seen.volumes}
    for node in about.restored:
        claim = about.seen.claims[node.claim]
        if not is_marked(claim, about.uid, node):
            text = f"The claim {node.claim} is not the one that was made from the backup"
            return Reason("ClaimsExist", f"{text}. Delete the cluster and that claim, and recover again")
        name = bound_volume(claim)
        if name not in volumes:
            continue
        found = _live_class(node, about)
        why = strangeness(claim, volumes[name], found["provisioner"]) if found else "its StorageClass is gone"
        if why:
            text = f"The claim {node.claim} is bound to the volume {name}, which was not made from its snapshot: {why}"
            return Reason("RecoveredVolumeStrange", f"{text}. Delete the claim, and it is made anew")
    return None


# --- the metastore ----------------------------------------------------------------------------------------------------


def _restore_metastore(status: dict[str, Any], about: About, now: str) -> RecoveryPlan:
    """Restore the metastore, if that is asked for; when it is there, workloads may start."""
    if not about.wants_metastore or status.get("metastoreCutAt"):
        return _restored(status, about)
    name, job = job_name(about.cluster.name, RESTORE), about.seen.job
    if job is None:
        error = about.seen.errors.get(name)
        waiting = Reason("RestoringMetastore", f"The metastore is being restored{f': {error}' if error else ''}")
        return RecoveryPlan(status, (MakePart(name),), waiting=waiting)
    result = about.seen.result or {}
    failed = _condition(job, "Failed")
    if failed is not None:
        said = sentence(str(result.get("message") or failed.get("message") or "its Job failed"))
        text = f"The metastore was not restored: {said} {_hint(result)}".strip()
        due = now >= later(failed.get("lastTransitionTime") or now, _TRY_AGAIN)
        removes = removal(job) if due else ()
        return RecoveryPlan(status, removes=removes, refused=Reason("MetastoreNotRestored", text))
    if _condition(job, "Complete") is None:
        said = str(result.get("message") or "")
        text = f"The metastore is being restored{f': {said}' if said else ''}"
        return RecoveryPlan(status, waiting=Reason("RestoringMetastore", text))
    cut = (status_of(about.backup).get("metastore") or {}).get("cutAt") or status["cutAt"]
    if about.target:
        if not result.get("recoveredTo"):  # its pod is gone: how far the log went is not known
            waiting = Reason("RestoringMetastore", "What the Job said is lost, so it runs again: it changes nothing")
            return RecoveryPlan(status, removes=removal(job), waiting=waiting)
        cut = str(result["recoveredTo"])
    return _restored(status | {"metastoreCutAt": cut}, about)


def _condition(job: Manifest, kind: str) -> Mapping[str, Any] | None:
    found = (job.get("status") or {}).get("conditions") or ()
    return next((each for each in found if (each["type"], each["status"]) == (kind, "True")), None)


def _hint(result: Mapping[str, Any]) -> str:
    """Return what to do; what the command's own hint names, people cannot tell the Job."""
    if result.get("reason") == "DatabaseNotEmpty":
        return "Empty it, or name another database in a new cluster."
    return str(result.get("hint", ""))


# --- the workloads ----------------------------------------------------------------------------------------------------


def _restored(status: dict[str, Any], about: About) -> RecoveryPlan:
    """Write down that workloads may start; they do once that is written."""
    status |= {"phase": "Starting", "message": summary(status, about)}
    waiting = Reason("StartingNodes", "Volumes and metastore are restored")
    return RecoveryPlan(status, removes=removal(about.seen.job), waiting=waiting, starts=True)


def _start(status: dict[str, Any], about: About, now: str) -> RecoveryPlan:
    """Let workloads start, as long as every claim is what was made from the backup; end once all are bound."""
    if about.missing:
        gone = listed(each.claim for each in about.missing)
        text = f"Claims that were made from the backup are gone: {gone}. Delete the cluster, and recover again"
        return RecoveryPlan(status, refused=Reason("ClaimsGone", text))
    strange = _strange(about)
    if strange is not None:
        return RecoveryPlan(status, refused=strange)
    status |= {"message": summary(status, about)}
    unbound = _unbound(about)
    if unbound:
        text = f"{len(unbound)} volumes are made when their pods are there: {listed(e.claim for e in unbound)}"
        waiting = Reason("StartingNodes", text)
        return RecoveryPlan(status, removes=removal(about.seen.job), waiting=waiting, starts=True)
    if about.seen.job is not None:
        return _restored(status, about)
    return RecoveryPlan(status | {"phase": "Recovered", "finishedAt": now}, starts=True)
