"""In which order pods may restart: controllers fully before ingest, ingest before search, and upgrades by turns.

A component whose pods are about to restart waits until those before it are ready, which is read from the cluster and
from nowhere else, so that a roll goes on where it was after the operator was killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.api.components import workload_name, workload_ref
from chronik.manifest import ARCHIVE, CLUSTER_KIND, MIRROR_PREFIX, SECRET, ObjectRef, component_of
from chronik.plan.actions import Apply, Create
from chronik.status.compute import Observation, component_statuses
from chronik.status.health import pod_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import ClusterKey, Manifest
    from chronik.status.compute import ComponentStatus


class Rollout:
    """The order of one cluster's restarts, in one pass.

    `turn` is asked last: it names another cluster that has to be through with its restarts first, or None. `missing`
    names a Secret that a workload needs and that does not exist, or None: pods that run would not start again. A
    workload that `may_start` says no to waits for itself: it has to be held first.
    """

    def __init__(
        self,
        cluster: Cluster,
        objects: Mapping[ObjectRef, Manifest],
        pods: Sequence[Manifest],
        turn: Callable[[], ClusterKey | None] = lambda: None,
        missing: Callable[[Manifest], str | None] = lambda _workload: None,
        may_start: Callable[[Apply], bool] = lambda _action: True,
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._found = component_statuses(cluster, Observation(objects, pods))
        self._turn = turn
        self._missing = missing
        self._may_start = may_start
        self._started: set[ObjectRef] = set()

    def gate(self, action: Create | Apply, started: tuple[ObjectRef, ...]) -> ObjectRef | None:
        """Return what a workload has to wait for: nothing if it is new, for then none of its pods restart.

        A pass may plan more than once: what was let through once stays so, however it looks by then.
        """
        blocker = None if isinstance(action, Create) else self._blocker(action, started)
        if blocker is None and isinstance(action, Apply) and not self._may_start(action):
            return action.ref
        if blocker is None:
            self._started.add(action.ref)
        return blocker

    def outside(self, action: Apply) -> ObjectRef | None:
        """Return what a workload waits for that is no part of its cluster's order: a Secret, or another cluster."""
        secret = self._missing(action.manifest)
        if secret:
            return ObjectRef(SECRET.name, action.ref.namespace, secret)
        other = self._turn()
        return ObjectRef(CLUSTER_KIND, other.namespace, other.name) if other else None

    def _blocker(self, action: Apply, started: tuple[ObjectRef, ...]) -> ObjectRef | None:
        # No data hangs on a new pod of what is beside the cluster, so it may wait for its Secret by itself.
        name = action.ref.name
        is_beside = name.startswith(workload_name(self._cluster.name, MIRROR_PREFIX))
        is_beside = is_beside or name == workload_name(self._cluster.name, ARCHIVE)
        secret = None if is_beside else self._missing(action.manifest)
        return ObjectRef(SECRET.name, action.ref.namespace, secret) if secret else self.before(action.ref, started)

    def is_restarting(self, ref: ObjectRef) -> bool:
        """Return whether this very pass has started the pods of a workload anew, or was to."""
        return ref in self._started

    def before(self, ref: ObjectRef, started: Sequence[ObjectRef] = ()) -> ObjectRef | None:
        """Return what has to be ready before the pods of a workload may restart, or None if nothing has to.

        `started` are workloads whose pods this very pass restarts, besides those that `gate` let through.
        """
        for each in self._found:
            earlier = workload_ref(self._cluster.key, each.component.name)
            if earlier == ref:
                break
            if earlier in started or earlier in self._started or not self._is_ready(each):
                return earlier
        other = self._turn()
        return ObjectRef(CLUSTER_KIND, other.namespace, other.name) if other else None

    def _is_ready(self, each: ComponentStatus) -> bool:
        """Return whether a component has all its pods, ready; counters lag behind pods that are just being replaced."""
        pods = [pod for pod in self._pods if component_of(pod) == each.component.name]
        return each.is_ready and all(pod_ready(pod) or _ended(pod) for pod in pods)


def _ended(pod: Manifest) -> bool:
    """Return whether a pod has run to its end, as evicted pods of a Deployment have, which stay."""
    return (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}
