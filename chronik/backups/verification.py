"""Checks of a completed backup that somebody asks for: `chronik backup verify NAME`.

An annotation asks, so that kubectl alone can; a Job reads the dump back, or restores it into a server of its own; what
it finds stands in the status. A dump that is damaged or gone makes its backup unusable: it counts for no schedule then.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from chronik.backups.document import phase_of, status_of
from chronik.backups.jobs import has, removal, words
from chronik.backups.parts import job_name
from chronik.backups.steps import BackupPlan, Make
from chronik.backups.tell import conditions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest

VERIFY = "chronik.stream/verify"
"""The annotation that asks for a check: any text that was not asked before, best the time."""
RESTORE_TEST = "restore-test"
"""What the annotation ends with that asks for a restore, too."""
_BAD = frozenset({"BackupDamaged", "BackupNotFound"})
"""Reasons of the data plane that say that the dump is not what was stored."""
_LONGEST = 4096


def asked_for(backup: Manifest) -> str:
    """Return the check that a completed backup is to have and has not had; empty if there is none."""
    wanted = str((backup["metadata"].get("annotations") or {}).get(VERIFY, ""))[:128]
    known = status_of(backup).get("verification") or {}
    if phase_of(backup) != "Completed" or not wanted:
        return ""
    return wanted if known.get("requested") != wanted or known.get("result") == "Running" else ""


def verify_job(backup: Manifest, wanted: str) -> str:
    """Return the name of the Job of a check: another one for each, so that none takes the result of an earlier one."""
    return job_name(backup["metadata"]["name"], f"verify-{hashlib.sha256(wanted.encode()).hexdigest()[:6]}")


def plan_verification(
    backup: Manifest, wanted: str, job: Manifest | None, said: Mapping[str, Any] | None, now: str, error: str = ""
) -> BackupPlan:
    """Return what to do next for a check. `said` is what the Job's container said; `error` why none could be made."""
    restore = wanted.endswith(RESTORE_TEST)
    found: dict[str, Any] = {"requested": wanted, "restoreTest": restore, "result": "Running"}
    if not (status_of(backup).get("metastore") or {}).get("ready"):
        text = "there is no dump to check, and snapshots of volumes cannot be read back"
        return _told(backup, found | {"result": "Unknown", "endedAt": now, "message": text}, now)
    name = verify_job(backup, wanted)
    if job is None:
        waiting = found | ({"message": error[:_LONGEST]} if error else {})
        return _told(backup, waiting, now, makes=(Make("verify", name, restore_test=restore),))
    result = said or {}
    if has(job, "Failed"):
        bad = result.get("reason") in _BAD
        found |= {"result": "Failed" if bad else "Unknown", "endedAt": now, "message": words(job, result)[:_LONGEST]}
        return _told(backup, found, now, job=job)
    if not has(job, "Complete"):
        return _told(backup, found, now)
    if result.get("result") != "ok":
        found |= {"result": "Unknown", "endedAt": now, "message": "what the Job said is lost: ask again"}
        return _told(backup, found, now, job=job)
    rows = {"rows": int(result["rows"])} if restore and "rows" in result else {}
    return _told(backup, found | {"result": "Passed", "endedAt": now, **rows}, now, job=job)


def _told(
    backup: Manifest,
    found: Mapping[str, Any],
    now: str,
    *,
    makes: tuple[Make, ...] = (),
    job: Manifest | None = None,
) -> BackupPlan:
    status = {**status_of(backup), "verification": dict(found)}
    usable = {"Passed": True, "Failed": False}.get(found["result"])
    if usable is not None:
        status["usable"] = usable
    generation = int(backup["metadata"].get("generation", 1))
    old = status.get("conditions") or ()
    said = conditions(status, old, None, now, generation)
    return BackupPlan({**status, "conditions": said}, makes, removal(job), waits=found["result"] == "Running")
