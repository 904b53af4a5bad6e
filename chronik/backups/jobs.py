"""The Jobs of a backup: the one that dumps or copies the metastore, and the one that puts the description beside that.

A Job is made, ends, has said something, and is removed. What it said is written down before it is removed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chronik.backups.document import SCHEDULED_AT
from chronik.backups.parts import job_name
from chronik.backups.steps import Make, Remove
from chronik.manifest import BACKUP
from chronik.status.compute import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.backups.steps import Seen
    from chronik.manifest import Manifest

DUMP = "metastore"
"""What the name of the Job ends with that dumps or copies the metastore."""
RECORD = "record"
"""What the name of the Job ends with that puts the description into the store."""
LONGEST_RECORD = 240_000
"""Bytes of a description: it travels in an annotation of the Job's pod, and those have 256 KiB in all."""
_RESULT = ("object", "bytes", "sha256", "server", "cutAt", "verified")
_LONGEST_ERROR = 4096


def dump(
    backup: Manifest, status: Mapping[str, Any], seen: Seen
) -> tuple[dict[str, Any] | None, tuple[Make, ...], tuple[Remove, ...], Reason | None]:
    """Return how the dump is, what to do for it, and why it has failed, if it has."""
    before = status.get("metastore")
    if before is None:
        return None, (), (), None
    if before["ready"]:
        return before, (), removal(seen.job), None
    if seen.job is None:
        name = job_name(backup["metadata"]["name"], DUMP)
        return before | ({"error": seen.errors[name]} if name in seen.errors else {}), (Make("job", name),), (), None
    result = seen.result or {}
    if has(seen.job, "Failed"):
        text = words(seen.job, result)
        return {**before, "error": text}, (), (), Reason("DumpFailed", f"The metastore was not dumped: {text}")
    if not has(seen.job, "Complete"):
        error = {"error": str(result["message"])} if result.get("message") else {}
        return {**{key: value for key, value in before.items() if key != "error"}, **error}, (), (), None
    if result.get("result") != "ok" or not result.get("verified"):  # its pod is gone: what it wrote is not known
        return {**before, "error": "What the Job said is lost, so it runs again"}, (), removal(seen.job), None
    method = {"method": before["method"]} if "method" in before else {}
    return {**method, "ready": True, **{key: result[key] for key in _RESULT if key in result}}, (), (), None


def record(
    backup: Manifest, whole: Mapping[str, Any], seen: Seen
) -> tuple[dict[str, Any], tuple[Make, ...], tuple[Remove, ...]]:
    """Return how the description in the store is, empty while it is on its way, and what to do for it.

    `whole` is the status of the completed backup. Without the description the backup can be used all the same, so that
    it could not be stored is told, and fails nothing.
    """
    known = dict(whole.get("record") or {})
    if known:
        return known, (), removal(seen.record)
    name = job_name(backup["metadata"]["name"], RECORD)
    if seen.record is None:
        if name in seen.errors:
            return {"error": seen.errors[name][:_LONGEST_ERROR]}, (), ()
        text = description(backup, whole)
        if len(text.encode()) > LONGEST_RECORD:
            return {"error": f"it would have more than {LONGEST_RECORD:,} bytes"}, (), ()
        return {}, (Make("record", name, text=text),), ()
    said = seen.recorded or {}
    if has(seen.record, "Failed"):
        return {"error": words(seen.record, said)[:_LONGEST_ERROR]}, (), ()
    if not has(seen.record, "Complete"):
        return {}, (), ()
    if said.get("result") != "ok":
        return {}, (), removal(seen.record)
    return {"object": str(said.get("object", ""))}, (), ()


def description(backup: Manifest, whole: Mapping[str, Any]) -> str:
    """Return a completed backup as the store keeps it: the ChronikBackup, with what another Kubernetes needs of it."""
    metadata = backup["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "labels") if metadata.get(key)}
    due = (metadata.get("annotations") or {}).get(SCHEDULED_AT)
    status = {key: value for key, value in whole.items() if key not in {"conditions", "record"}}
    found = {
        "apiVersion": BACKUP.api_version,
        "kind": BACKUP.name,
        "metadata": kept | ({"annotations": {SCHEDULED_AT: due}} if due else {}),
        "spec": backup["spec"],
        "status": status,
    }
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def has(job: Manifest, condition: str) -> bool:
    """Return whether a Job has ended so: Complete, or Failed."""
    found = (job.get("status") or {}).get("conditions") or ()
    return any((each["type"], each["status"]) == (condition, "True") for each in found)


def words(job: Manifest, result: Mapping[str, Any]) -> str:
    """Return why a Job failed: in its container's words, or else in its own."""
    said = " ".join(str(each) for each in (result.get("message"), result.get("hint")) if each)
    found = (job.get("status") or {}).get("conditions") or ()
    own = next((str(each.get("message", "")) for each in found if each["type"] == "Failed"), "")
    return said or own or "its Job failed"


def removal(job: Manifest | None) -> tuple[Remove, ...]:
    """Return what removes a Job, unless it goes already."""
    if job is None or "deletionTimestamp" in job["metadata"]:
        return ()
    return (Remove("Job", job["metadata"]["name"], job["metadata"]["uid"]),)
