"""Documents of backups and what is there of them, for tests of what is decided from that."""

from __future__ import annotations

from chronik.backups.plan import plan_backup
from chronik.backups.steps import Seen
from chronik.manifest import BACKUP_LABEL
from chronik.offline import loading

NOW, SOON, LATE = "2026-11-29T02:00:00Z", "2026-11-29T02:10:00Z", "2026-11-29T03:00:00Z"
CLAIMS = [{"metadata": {"name": f"data-c-{name}"}} for name in ("ingest-10", "ingest-9", "controller-0", "search-0")]
CLAIMS.append({"metadata": {"name": "data-other-ingest-0"}})


def document(phase="Running", conditions=(), **backup):
    """Return a ChronikCluster that is to be backed up."""
    section = {"destination": {"claim": {"name": "backups"}}} | backup
    return {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": "n", "uid": "uid-c", "generation": 3},
        "spec": {
            "storage": {"backend": "local"},
            "metastore": {"connection": {"host": "db", "database": "d", "credentialsSecret": "s"}},
            "backup": section,
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True", "message": ""}, *conditions]},
    }


def backup(status=None, **spec):
    """Return a ChronikBackup."""
    metadata = {"name": "b", "namespace": "n", "uid": "uid-b", "generation": 1, "creationTimestamp": NOW}
    found = {"metadata": metadata, "spec": {"cluster": "c", "deadline": "1h", "onDelete": "Delete"} | spec}
    return found | ({"status": status} if status else {})


def seen(live=None, **more):
    """Return what is there before a backup begins."""
    live = live or document()
    cluster = loading.validator().validate(live, stored=True).cluster
    assert cluster
    return Seen(**{"document": live, "cluster": cluster, "claims": CLAIMS, "image": "x"} | more)


def begun(**more):
    """Return the backup just begun, and what is there of it."""
    return backup(plan_backup(backup(), seen(**more), NOW).status)


def job(*conditions, name="b-metastore"):
    """Return a Job in a state."""
    told = [{"type": each, "status": "True", "message": "in its words"} for each in conditions]
    return {"metadata": {"name": name, "uid": "uid-j"}, "status": {"conditions": told}}


def snapshot(name, uid="uid-b", **status):
    """Return a snapshot of this backup, or of another."""
    metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": {BACKUP_LABEL: uid}}
    return {"metadata": metadata, "status": status}


def completed(plan):
    """Return reason and message of the condition Completed."""
    found = next(each for each in plan.status["conditions"] if each["type"] == "Completed")
    return found["reason"], found["message"]
