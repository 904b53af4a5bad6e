"""Which backup a cluster is made from. It is chosen once, and written down before anything else is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.backups.document import is_usable, phase_of, status_of
from chronik.backups.times import moment
from chronik.status.compute import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.api.sections.bootstrap import RecoverySource
    from chronik.manifest import Manifest


def choose(source: RecoverySource, backups: Iterable[Manifest]) -> Manifest | Reason:
    """Return the backup that `spec.bootstrap.recovery.from` means, or why there is none.

    `backups` are those that it may mean: of its name, or of its cluster.
    """
    if source["backup"]:
        named = next((each for each in backups if each["metadata"]["name"] == source["backup"]), None)
        if named is None:
            return Reason("BackupMissing", f"There is no ChronikBackup {source['backup']} in this namespace")
        return unusable(named) or named
    name, target = source["cluster"], source["targetTime"]
    usable = [each for each in backups if each["spec"]["cluster"] == name and is_usable(each)]
    if not usable:
        return Reason("NoUsableBackup", f"This namespace has no usable backup of ChronikCluster {name}")
    early = [each for each in usable if target is None or moment(cut_at(each)) <= moment(target)]
    if early:
        return max(early, key=_age)
    oldest = min(usable, key=_age)
    text = f"No usable backup of {name} was cut by {target}: the oldest is {oldest['metadata']['name']}"
    return Reason("NoUsableBackup", f"{text}, cut at {cut_at(oldest)}")


def unusable(backup: Manifest) -> Reason | None:
    """Return why no cluster can be made from a backup, if none can."""
    if is_usable(backup):
        return None
    phase = phase_of(backup)
    said = (each for each in status_of(backup).get("conditions") or () if each["type"] == "Completed")
    why = next((str(each["message"]) for each in said if each["status"] != "True"), "")
    text = f"ChronikBackup {backup['metadata']['name']} cannot be used: it is {phase}"
    return Reason("BackupNotUsable", f"{text}: {why}" if why else text)


def cut_at(backup: Manifest) -> str:
    """Return the time that a usable backup was cut at."""
    return str(status_of(backup).get("cutAt") or status_of(backup).get("completedAt"))


def _age(backup: Manifest) -> tuple[str, str]:
    return cut_at(backup), backup["metadata"]["name"]
