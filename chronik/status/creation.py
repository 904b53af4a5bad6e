"""Say why a StatefulSet's pods are not created: a quota, a limit or a policy stops them, and only Events tell.

A Deployment has the condition ReplicaFailure for that. A StatefulSet has none, so the newest message of its Events is
given to it as that same condition: the rest is judged alike.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chronik.manifest import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from chronik.manifest import Manifest

_STATEFUL_SET = "StatefulSet"
FAILURE_EVENTS = f"reason=FailedCreate,involvedObject.kind={_STATEFUL_SET}"
"""The field selector of the Events that tell why pods are not created."""

_TOGETHER = timedelta(seconds=60)
"""Events that are no further apart are of one attempt: pods are tried side by side, in any order."""
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_POD = re.compile(r"\bPod (\S+) in StatefulSet\b")
_PREAMBLE = re.compile(r"^.*?\bfailed error: ", re.DOTALL)


def lacks_pods(workload: Manifest) -> bool:
    """Tell whether a StatefulSet's controller has seen its newest spec, and has made fewer pods than that asks for."""
    metadata, status = workload["metadata"], workload.get("status") or {}
    return (
        workload["kind"] == _STATEFUL_SET
        and "deletionTimestamp" not in metadata
        and status.get("observedGeneration", 0) >= metadata.get("generation", 1)
        and status.get("replicas", 0) < workload["spec"].get("replicas", 1)
    )


def creation_failures(
    workloads: Iterable[Manifest], events: Iterable[Manifest], pods: Collection[str] = ()
) -> dict[ObjectRef, str]:
    """Return why pods of StatefulSets that lack some were not created, as the newest Events of each tell.

    `pods` are the names of those that exist: what is told of them is over.
    """
    by_uid: dict[str, list[Manifest]] = {}
    for event in events:
        by_uid.setdefault((event.get("involvedObject") or {}).get("uid", ""), []).append(event)
    found = {}
    for workload in workloads:
        message = _newest(by_uid.get(workload["metadata"]["uid"], ()), pods) if lacks_pods(workload) else ""
        if message:
            found[ObjectRef.of(workload)] = message
    return found


def with_creation_failures(
    objects: Mapping[ObjectRef, Manifest], failures: Mapping[ObjectRef, str]
) -> dict[ObjectRef, Manifest]:
    """Return objects with the condition ReplicaFailure in each StatefulSet that still lacks pods for a known reason."""
    return {
        ref: _failed(manifest, failures[ref]) if ref in failures and lacks_pods(manifest) else manifest
        for ref, manifest in objects.items()
    }


def replica_failure(workload: Manifest) -> str:
    """Return why pods of a workload cannot be created, as its condition ReplicaFailure tells; empty if it does not."""
    for condition in (workload.get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message") or "pods cannot be created")
    return ""


def _failed(workload: Manifest, message: str) -> Manifest:
    status = workload.get("status") or {}
    told = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    return workload | {"status": status | {"conditions": [*(status.get("conditions") or ()), told]}}


def _newest(events: Iterable[Manifest], pods: Collection[str]) -> str:
    """Return the message of the newest Event; of those of one attempt always the same, whatever their order."""
    lasting = [each for each in events if not _is_over(each.get("message") or "", pods)]
    if not lasting:
        return ""
    newest = max(map(_time, lasting))
    told = [each for each in lasting if newest - _time(each) <= _TOGETHER]
    return min(_PREAMBLE.sub("", (each.get("message") or "").strip()) for each in told)


def _is_over(message: str, pods: Collection[str]) -> bool:
    match = _POD.search(message)
    return match is not None and match[1] in pods


def _time(event: Manifest) -> datetime:
    """Return when an Event last happened; each of its writers puts that elsewhere."""
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    try:
        found = datetime.fromisoformat(next(filter(None, times), ""))
    except ValueError:
        return _EARLIEST
    return found if found.tzinfo else found.replace(tzinfo=UTC)
