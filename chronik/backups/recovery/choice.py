"""Which backup a cluster is made from, and to which moment. It is chosen once, and written down before all else.

A backup is one moment. Where the log of the metastore's server was archived, the metastore can be as of any time: by
the newest copy of the server from before it, and the log from there. Volumes come from the first backup that was cut
after it, if there is one: data that no metadata names does no harm, and metadata without data does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chronik.backups.document import is_usable, phase_of, status_of
from chronik.status.compute import Reason
from chronik.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.api.sections.bootstrap import RecoverySource
    from chronik.manifest import Manifest


class Choice(NamedTuple):
    """What a cluster is made from: the volumes of `backup`, and its dump.

    With a `base` the metastore comes from the copy of the server in that backup, and is as of `target`.
    """

    backup: Manifest
    base: Manifest | None = None
    target: str = ""


def choose(source: RecoverySource, backups: Iterable[Manifest], metastore: str = "Restore") -> Choice | Reason:
    """Return what `spec.bootstrap.recovery` means by `from` and `metastore`, or why there is nothing like it.

    `backups` are those that it may mean: of its name, or of its cluster.
    """
    if source["backup"]:
        named = next((each for each in backups if each["metadata"]["name"] == source["backup"]), None)
        if named is None:
            return Reason("BackupMissing", f"There is no ChronikBackup {source['backup']} in this namespace")
        return unusable(named) or Choice(named)
    name, target = source["cluster"], source["targetTime"]
    usable = [each for each in backups if each["spec"]["cluster"] == name and is_usable(each)]
    if not usable:
        return Reason("NoUsableBackup", f"This namespace has no usable backup of ChronikCluster {name}")
    if target is None:
        return Choice(max(usable, key=_age))
    base = _base(usable, target) if metastore != "Skip" else None
    if base is not None:
        return _around(usable, base, target, exact=metastore == "Exact")
    if metastore == "Exact":
        text = f"No usable backup of {name} has a copy of the metastore's server from before {target}, which"
        return Reason("NoBaseBackup", f"{text} metastore: Exact begins with: was its log archived then?")
    early = [each for each in usable if moment(cut_at(each)) <= moment(target)]
    if early:
        return Choice(max(early, key=_age))
    oldest = min(usable, key=_age)
    text = f"No usable backup of {name} was cut by {target}: the oldest is {oldest['metadata']['name']}"
    return Reason("NoUsableBackup", f"{text}, cut at {cut_at(oldest)}")


def _base(usable: Iterable[Manifest], target: str) -> Manifest | None:
    """Return the newest backup with a copy of the metastore's server that the log leads on from to a time."""
    copies = ((each, status_of(each).get("metastore") or {}) for each in usable)
    fit = [
        (moment(copy["cutAt"]), each["metadata"]["name"], each)
        for each, copy in copies
        if copy.get("method") == "Base" and copy.get("cutAt") and moment(copy["cutAt"]) <= moment(target)
    ]
    return max(fit, key=lambda each: each[:2])[2] if fit else None


def _around(usable: Iterable[Manifest], base: Manifest, target: str, *, exact: bool) -> Choice:
    """Return the volumes that go with the metastore of a time, and that time if they let the metastore be as of it."""
    late = [each for each in usable if moment(cut_at(each)) >= moment(target)]
    if late:
        return Choice(min(late, key=_age), base, target)
    newest = max(usable, key=_age)
    storage = (status_of(newest).get("cluster") or {}).get("spec", {}).get("storage") or {}
    if exact or storage.get("backend", "local") != "local":  # then the bucket has the data
        return Choice(newest, base, target)
    return Choice(newest)


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
