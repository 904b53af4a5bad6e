"""Decides, of objects that were just applied, which are ready, which are still under way and which have failed.

Pure: the time is an argument. A failure has to last before it counts, because much of what pods fail on clears up by
itself: a node comes, a volume is bound, a registry answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from chronik.manifest import (
    CLUSTER_LABEL,
    KIND_BY_NAME,
    POD,
    WORKLOAD_KINDS,
    ClusterKey,
    ObjectRef,
    component_of,
    is_beside,
)
from chronik.status.health import Health, State, health

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.manifest import Manifest


def takes_time(manifest: Manifest) -> bool:
    """Return whether an object becomes ready only some time after it was applied, and its cluster waits for that.

    A mirror is ready while its source is there, and an archive while its store is: no cluster waits for those.
    """
    if is_beside(manifest):
        return False
    if manifest["kind"] == "Service":
        return bool(manifest["spec"].get("type") == "LoadBalancer")
    return manifest["kind"] in _TAKE_TIME or manifest["kind"] not in KIND_BY_NAME  # whose conditions tell


_TAKE_TIME = {*WORKLOAD_KINDS, "PodDisruptionBudget"}


class Unready(NamedTuple):
    """An object that is not ready, and the last word on why; its health is a failure only if that has lasted."""

    ref: ObjectRef
    health: Health

    @property
    def failed(self) -> bool:
        """Whether it has been wrong for so long that waiting is no use."""
        return self.health.state is State.FAILED


@dataclass(frozen=True, slots=True)
class WaitState:
    """How far a wait is: how many objects are ready, of how many, and what the others wait for."""

    ready: int
    total: int
    unready: tuple[Unready, ...]

    @property
    def done(self) -> bool:
        """Whether everything is ready."""
        return not self.unready


class Readiness:
    """What is known so far of the objects that are waited for.

    `grace` is how long, in seconds, an object has to fail before that counts. It may seem to recover in between, as a
    container that crashes again and again does: only `grace` seconds without a failure make good for one.
    """

    def __init__(self, desired: Mapping[ClusterKey, Sequence[Manifest]], grace: float) -> None:
        self._clusters = {
            ObjectRef.of(manifest): key
            for key, manifests in desired.items()
            for manifest in manifests
            if takes_time(manifest)
        }
        self._grace = grace
        self._troubles: dict[ObjectRef, _Trouble] = {}

    def look(self, objects: Mapping[ObjectRef, Manifest], now: float) -> WaitState:
        """Return how far everything is; `now` is in seconds, on any clock that only goes up."""
        pods = _by_workload(objects.values())
        unready = [
            self._unready(ref, found, now)
            for ref in self._clusters
            if not (found := _health(ref, objects.get(ref), pods)).ready
        ]
        for ref in self._troubles.keys() - {each.ref for each in unready}:
            del self._troubles[ref]
        return WaitState(len(self._clusters) - len(unready), len(self._clusters), tuple(unready))

    def is_hopeless(self, state: WaitState) -> bool:
        """Return whether waiting longer helps no cluster: each that is not ready has something that failed for good."""
        waiting = {self._clusters[each.ref] for each in state.unready}
        failed = {self._clusters[each.ref] for each in state.unready if each.failed}
        return bool(waiting) and waiting == failed

    def concluded(self, state: WaitState) -> tuple[Unready, ...]:
        """Return what is not ready at the end of the wait: what fails now has failed, however long it did."""
        failing = {ref for ref, trouble in self._troubles.items() if trouble.current}
        return tuple(
            Unready(each.ref, Health(State.FAILED, each.health.message)) if each.ref in failing else each
            for each in state.unready
        )

    def next_verdict(self, now: float) -> float:
        """Return in how many seconds a failure will have lasted long enough, if nothing changes; inf if none can."""
        due = (trouble.since + self._grace - now for trouble in self._troubles.values() if trouble.current)
        return min((seconds for seconds in due if seconds > 0), default=float("inf"))

    def _unready(self, ref: ObjectRef, found: Health, now: float) -> Unready:
        trouble = self._troubles.get(ref)
        if found.state is State.FAILED:
            lasting = trouble is not None and (trouble.current or now - trouble.seen <= self._grace)
            since = trouble.since if trouble is not None and lasting else now
            self._troubles[ref] = _Trouble(since, now, found.message, current=True)
            return Unready(ref, found if now - since >= self._grace else Health(State.IN_PROGRESS, found.message))
        if trouble is None:
            return Unready(ref, found)
        seen = now if trouble.current else trouble.seen
        self._troubles[ref] = _Trouble(trouble.since, seen, trouble.message, current=False)
        return Unready(ref, Health(found.state, f"{found.message}; last trouble: {trouble.message}"))


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A failure: since when, when it was last seen, and whether it is there now."""

    since: float
    seen: float
    message: str
    current: bool


def _health(ref: ObjectRef, live: Manifest | None, pods: Mapping[tuple[str, str, str], list[Manifest]]) -> Health:
    if live is None:
        return Health(State.IN_PROGRESS, "does not exist")
    if ref.kind not in WORKLOAD_KINDS:
        return health(live)
    return health(live, pods.get(_workload(live), ()))


def _workload(manifest: Manifest) -> tuple[str, str, str]:
    """Return what a workload and its pods have in common: namespace, cluster and component."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    return metadata.get("namespace", ""), labels.get(CLUSTER_LABEL, ""), component_of(manifest)


def _by_workload(objects: Iterable[Manifest]) -> dict[tuple[str, str, str], list[Manifest]]:
    found: dict[tuple[str, str, str], list[Manifest]] = {}
    for manifest in objects:
        if manifest["kind"] == POD.name:
            found.setdefault(_workload(manifest), []).append(manifest)
    return found
