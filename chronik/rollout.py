"""In which order pods may restart: controllers fully before ingest, ingest before search, and upgrades by turns.

A component whose pods are about to restart waits until those before it have settled, which is read from the cluster and
from nowhere else, so that a roll goes on where it was after the operator was killed. `reconcile` hands this to `plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.actions import Apply, Create
from chronik.health import pod_ready
from chronik.manifest import CLUSTER_KIND, COMPONENT_LABEL, ObjectRef
from chronik.status import Observation, component_statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronik.manifest import ClusterKey, Manifest
    from chronik.spec import Cluster
    from chronik.status import ComponentStatus


class Rollout:
    """The order of one cluster's restarts, in one pass.

    `turn` is given if the restarts are not the user's doing but come with a new version of chronik: it names another
    cluster that is restarting, which has to be through with it first, or None.
    """

    def __init__(
        self,
        cluster: Cluster,
        objects: Mapping[ObjectRef, Manifest],
        pods: Sequence[Manifest],
        turn: Callable[[], ClusterKey | None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._found = component_statuses(cluster, Observation(objects, pods))
        self._turn = turn

    def gate(self, action: Create | Apply, started: tuple[ObjectRef, ...]) -> ObjectRef | None:
        """Return what a workload has to wait for: nothing if it is new, for then none of its pods restart."""
        return None if isinstance(action, Create) else self.before(action.ref, started)

    def before(self, ref: ObjectRef, started: Sequence[ObjectRef] = ()) -> ObjectRef | None:
        """Return what has to settle before the pods of a workload may restart, or None if nothing has to.

        `started` are workloads whose pods this very pass restarts.
        """
        for each in self._found:
            earlier = ObjectRef(each.component.workload, ref.namespace, f"{self._cluster.name}-{each.component.name}")
            if earlier == ref:
                break
            if earlier in started or not self._settled(each):
                return earlier
        other = self._turn()
        return ObjectRef(CLUSTER_KIND, other.namespace, other.name) if other else None

    def _settled(self, each: ComponentStatus) -> bool:
        """Tell whether a component has all its pods, ready; counters lag behind pods that are just being replaced."""
        pods = [pod for pod in self._pods if pod["metadata"]["labels"].get(COMPONENT_LABEL) == each.component.name]
        return each.settled and all(pod_ready(pod) or _ended(pod) for pod in pods)


def _ended(pod: Manifest) -> bool:
    """Tell whether a pod has run to its end, as evicted ones of a Deployment do that nobody removes."""
    return (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}
