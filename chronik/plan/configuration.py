"""ConfigMaps that are named for their content: which one comes after which, which are still read, what they remember.

A pod of an earlier revision that restarts while a roll goes on, is halted or is undone has to find the configuration
that it was made with. So a superseded ConfigMap stays until no pod names it and no roll is under way.

The newest one remembers the kinds that templates of the user's make. A kind is forgotten once nothing of it is left:
before that, what a template that is gone has made could never be found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.manifest import WORKLOAD_KINDS, ObjectRef, component_of, is_configuration, own_kinds, with_own_kinds
from chronik.plan.changes import Change
from chronik.problem import format_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from chronik.manifest import KindName, Manifest
    from chronik.plan.changes import Mask


def predecessor(desired: Manifest, observed: Mapping[ObjectRef, Manifest]) -> Manifest | None:
    """Return the configuration that a new one replaces: the one that workloads name now, if there is one."""
    if not is_configuration(desired):
        return None
    named = [name for live in observed.values() for name in _named_by(live)]
    of = component_of(desired)
    versions = (live for live in observed.values() if is_configuration(live) and component_of(live) == of)
    older = {live["metadata"]["name"]: live for live in versions}
    return next((older[name] for name in named if name in older), None)


def replaced(desired: Manifest, older: Manifest, mask: Mask) -> tuple[Change, ...]:
    """Return what differs between two versions of a configuration, key by key."""
    before, after = older.get("data") or {}, desired.get("data") or {}
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return tuple(
        Change(format_path(("data", key)), mask.shown(before.get(key), "before"), mask.shown(after.get(key), "after"))
        for key in keys
    )


def why_still_read(
    live: Manifest, desired: Iterable[Manifest], observed: Mapping[ObjectRef, Manifest], pods: Sequence[Manifest]
) -> str:
    """Return why a configuration that is no longer wanted has to stay, or an empty text if nothing reads it.

    `pods` are those of the cluster, as far as they are known: without them, workloads tell of theirs.
    """
    if not is_configuration(live):
        return ""
    name = live["metadata"]["name"]
    wanted = {ObjectRef.of(each) for each in desired if each["kind"] in WORKLOAD_KINDS}
    workloads = [observed[ref] for ref in wanted if ref in observed]  # others go, and make no pods any more
    if any(name in _names(pod.get("spec")) for pod in pods):
        return "is an earlier configuration, which pods still read"
    if any(name in _named_by(each) or _is_rolling(each) for each in workloads):
        return "is an earlier configuration, which pods may still read until the roll is over"
    if len(workloads) < len(wanted):
        return "is an earlier configuration, which pods may still read that an earlier workload left"
    return ""


def _named_by(live: Manifest) -> list[str]:
    return list(_names(live["spec"]["template"].get("spec"))) if live["kind"] in WORKLOAD_KINDS else []


def _names(spec: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the ConfigMaps that a pod's volumes name."""
    for volume in (spec or {}).get("volumes") or ():
        if "configMap" in volume:
            yield str(volume["configMap"].get("name", ""))


def _is_rolling(workload: Manifest) -> bool:
    """Return whether pods of an earlier revision may be there, or be made again."""
    status, metadata = workload.get("status") or {}, workload["metadata"]
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return True
    on_delete = (workload["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"
    if status.get("currentRevision") != status.get("updateRevision") and not on_delete:  # which never brings it up
        return True
    return bool(status.get("updatedReplicas", 0) < status.get("replicas", 0))


class Record(NamedTuple):
    """The ConfigMap that remembers kinds: as rendered, as it is applied now, and as it is once all has been pruned."""

    wanted: Manifest
    now: Manifest
    then: Manifest


def record_of_kinds(
    desired: Iterable[Manifest],
    observed: Mapping[ObjectRef, Manifest],
    kept: Collection[KindName],
    going: Collection[KindName],
) -> Record | None:
    """Return how the record of kinds changes; None if it forgets none.

    Of the `kept` kinds something stays that is not wanted, of those that are `going` it is pruned now.
    """
    wanted = next((each for each in desired if is_configuration(each)), None)
    leaving = own_kinds(observed.values()) - own_kinds([wanted]) if wanted else set()
    if wanted is None or not leaving:
        return None
    then = own_kinds([wanted]) | {kind for kind in leaving if kind in kept}
    now = then | {kind for kind in leaving if kind in going}
    return Record(wanted, with_own_kinds(wanted, now), with_own_kinds(wanted, then))
