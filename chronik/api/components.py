"""The components of a cluster: controllers, ingest nodes and search nodes, each as templates and status see it.

The spec speaks of them under two names (`ingestNodes` counts them, `image.ingest` names their image); this is the one
place that brings both together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from chronik.api.spec import Autoscaling, Cluster, ComponentName, DisruptionBudget, Resources

CountField = Literal["controllers", "ingestNodes", "searchNodes"]


class Component(NamedTuple):
    """One component of one cluster. `replicas` is the spec's count, which an autoscaler may overrule."""

    name: ComponentName
    count_field: CountField
    workload: Literal["StatefulSet", "Deployment"]
    portName: str  # noqa: N815  # templates see API spellings only
    port: int
    replicas: int
    image: str
    resources: Resources | None
    autoscaling: Autoscaling | None
    budget: DisruptionBudget | None


_SHAPES: tuple[tuple[ComponentName, CountField, Literal["StatefulSet", "Deployment"], str, int], ...] = (
    ("controller", "controllers", "StatefulSet", "grpc", 9090),
    ("ingest", "ingestNodes", "StatefulSet", "kafka", 9092),
    ("search", "searchNodes", "Deployment", "grpc", 9093),
)


def components(cluster: Cluster) -> list[Component]:
    """Return the components that a cluster runs: controllers, ingest nodes, and search nodes if there are any."""
    spec = cluster.spec
    found = []
    for name, count_field, workload, port_name, port in _SHAPES:
        if spec[count_field] == 0:
            continue
        autoscaling = spec["autoscaling"][count_field] if spec["autoscaling"] else None
        found.append(
            Component(
                name=name,
                count_field=count_field,
                workload=workload,
                portName=port_name,
                port=port,
                replicas=spec[count_field],
                image=spec["image"][name],
                resources=spec["resources"][name] if spec["resources"] else None,
                autoscaling=autoscaling,
                budget=_budget(spec["podDisruptionBudget"], name, _counts(spec[count_field], autoscaling)),
            )
        )
    return found


def quorum_budget(controllers: int) -> int:
    """Return how many controllers may be away at once: the most that leaves a majority, but never none."""
    return max(1, (controllers - 1) // 2)


def evictions_allowed(budget: DisruptionBudget, replicas: int) -> int:
    """Return how many of `replicas` healthy pods a budget lets go; percentages round up, as the server's do."""
    if budget["minAvailable"] is not None:
        return max(0, replicas - _scaled(budget["minAvailable"], replicas))
    assert budget["maxUnavailable"] is not None  # a rule sees to exactly one of the two
    return min(replicas, _scaled(budget["maxUnavailable"], replicas))


def _counts(replicas: int, autoscaling: Autoscaling | None) -> range:
    """Return every number of pods that a component may come to have."""
    if autoscaling is None:
        return range(replicas, replicas + 1)
    return range(autoscaling["minReplicas"], autoscaling["maxReplicas"] + 1)


def _budget(budget: DisruptionBudget | None, name: ComponentName, counts: range) -> DisruptionBudget | None:
    """Take the spec's budget, but never let controllers lose their quorum to it, however many there are."""
    if budget is None or name != "controller":
        return budget
    if all(evictions_allowed(budget, count) <= quorum_budget(count) for count in counts):
        return budget
    return {"minAvailable": None, "maxUnavailable": quorum_budget(counts.start)}


def _scaled(amount: int | str, replicas: int) -> int:
    if isinstance(amount, int):
        return amount
    return math.ceil(int(amount.removesuffix("%")) * replicas / 100)
