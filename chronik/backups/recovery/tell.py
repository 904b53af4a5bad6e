"""What a recovery says of itself to people: what the cluster begins with, and to the second what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.backups.document import status_of
from chronik.backups.recovery.checks import left_out, named
from chronik.status.compute import Reason, condition
from chronik.times import moment
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.backups.recovery.seen import About
    from chronik.status.compute import Condition


def begun(status: Mapping[str, Any], about: About) -> Reason:
    """Return that a recovery has passed its checks and begins."""
    parts = [counted(len(about.restored), "volume")] if about.restored else []
    parts += ["the metastore"] if about.wants_metastore else []
    what = " and ".join(parts) or "nothing"
    text = f"Recovers {what} from ChronikBackup {status['backup']}, which was cut at {status['cutAt']}"
    if about.target:
        base = status["metastoreBackup"]
        text = f"{text}, and the metastore to {about.target}, from ChronikBackup {base} and the log after it"
    return Reason("RecoveryStarted", text)


def summary(status: Mapping[str, Any], about: About) -> str:
    """Return what the cluster begins with, and what is lost."""
    recovery = about.cluster.spec["bootstrap"]
    assert recovery
    target = recovery["recovery"]["from"]["targetTime"]
    found = [f"From ChronikBackup {status['backup']}: what was written after {status['cutAt']} is lost"]
    if about.target and moment(about.target) <= moment(status["cutAt"]):
        found = [f"From ChronikBackup {status['backup']}: the volumes are as of {status['cutAt']}"]
    elif target and moment(target) > moment(status["cutAt"]):
        found[0] += f", {span(status['cutAt'], target)} up to the time that was asked for, {target}"
    if about.target:
        found += _to_the_moment(status, about.target)
    elif target and about.wants_metastore and _is_copy(about):
        found.append("The metastore is no newer than these volumes; metastore: Exact would take it to that time")
    lost = left_out(about.backup, about.nodes)
    empty = [(each.component, each.ordinal) for each in about.nodes if each.volume is None]
    found += [f"Left out, and lost where no other node has it: what was on {named(lost)}"] if lost else []
    found += [f"Begin empty: {named(empty)}"] if empty else []
    if not about.wants_metastore and about.cluster.spec["topology"] == "Roles":
        found.append("The metastore was left to others")
    return ". ".join(found)


def _to_the_moment(status: Mapping[str, Any], target: str) -> list[str]:
    """Return how near the metastore came to the moment that was asked for."""
    reached = str(status.get("metastoreCutAt") or target)
    text = f"The metastore is as of {reached}, from ChronikBackup {status['metastoreBackup']} and the log after it"
    if moment(reached) < moment(target):
        text += f": the log ends there, {span(reached, target)} before the time that was asked for"
    return [text]


def _is_copy(about: About) -> bool:
    return (status_of(about.backup).get("metastore") or {}).get("method") == "Base"


def span(since: str, until: str) -> str:
    """Return how long it is from one time to another, to the second: `1d 6h 26m 49s`."""
    seconds = max(0, int((moment(until) - moment(since)).total_seconds()))
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        parts += [f"{number}{unit}"] if number else []
    return " ".join(parts) or "0s"


def conditions(status: Mapping[str, Any], refused: Reason | None, waiting: Reason | None) -> list[Condition]:
    """Return whether a cluster is being recovered, and how far it is."""
    if refused is not None:
        return [condition("Recovering", met=False, reason=refused.reason, message=refused.message)]
    if waiting is not None:
        return [condition("Recovering", met=True, reason=waiting.reason, message=waiting.message)]
    return [condition("Recovering", met=False, reason="Recovered", message=str(status.get("message", "")))]
