"""The components of a cluster: what each is called, where, what it runs as, and how its objects are found.

The spec speaks of them under two names (`ingestNodes` counts them, `image.ingest` names their image), conditions and
people under two more. All of that stands here and nowhere else in chronik; templates see it as `component` and `name`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from chronik.manifest import ComponentName, ObjectRef

if TYPE_CHECKING:
    from chronik.api.spec import Autoscaling, Cluster, DisruptionBudget, Resources
    from chronik.manifest import ClusterKey

CountField = Literal["controllers", "ingestNodes", "searchNodes"]


class ComponentType(NamedTuple):
    """What a component is in every cluster.

    `count_field` is its field in the spec, and in the status. `title` is its name in conditions (`IngestNodesReady`),
    `plural` what people call its pods. `minimum` is the smallest count that a spec may ask for. `serves_clients`:
    clients of the cluster connect to it, through a Service of its own.
    """

    name: ComponentName
    count_field: CountField
    title: str
    plural: str
    workload: Literal["StatefulSet", "Deployment"]
    port_name: str
    port: int
    minimum: int = 1
    serves_clients: bool = False

    @property
    def stateful(self) -> bool:
        """Whether its pods have volumes of their own, by claims that outlive them."""
        return self.workload == "StatefulSet"


COMPONENTS: dict[ComponentName, ComponentType] = {
    each.name: each
    for each in (
        ComponentType(
            name="controller",
            count_field="controllers",
            title="Controllers",
            plural="controllers",
            workload="StatefulSet",
            port_name="grpc",
            port=9090,
        ),
        ComponentType(
            name="ingest",
            count_field="ingestNodes",
            title="IngestNodes",
            plural="ingest nodes",
            workload="StatefulSet",
            port_name="kafka",
            port=9092,
            serves_clients=True,
        ),
        ComponentType(
            name="search",
            count_field="searchNodes",
            title="SearchNodes",
            plural="search nodes",
            workload="Deployment",
            port_name="grpc",
            port=9093,
            minimum=0,
        ),
    )
}
"""All components, in the order in which they are applied and their pods restart."""


def workload_name(cluster: str, component: str) -> str:
    """Return the name of a component's workload, which is also that of its Service, and begins those of its pods."""
    return f"{cluster}-{component}"


def workload_ref(key: ClusterKey, component: ComponentName) -> ObjectRef:
    """Return which StatefulSet or Deployment a component runs as."""
    return ObjectRef(COMPONENTS[component].workload, key.namespace, workload_name(key.name, component))


def autoscaler_ref(key: ClusterKey, component: ComponentName) -> ObjectRef:
    """Return which HorizontalPodAutoscaler a component has, if it has one."""
    return ObjectRef("HorizontalPodAutoscaler", key.namespace, f"{workload_name(key.name, component)}-hpa")


def claim_name_pattern(workload: str, template: str = "") -> re.Pattern[str]:
    """Return what the whole name of a claim matches that a StatefulSet made; group 1 is the ordinal of its pod.

    Kubernetes itself finds claims by name. `template` is the claim template's name, any if it is empty.
    """
    volume = re.escape(template) if template else "[a-z0-9-]+"
    return re.compile(rf"{volume}-{re.escape(workload)}-(\d+)")


def claim_owner(key: ClusterKey, claim: str) -> ObjectRef | None:
    """Return the StatefulSet of a cluster that a claim of that name belongs to; None if it is none of the cluster's.

    Labels do not tell: another product's claim can have the same ones.
    """
    workloads = (workload_ref(key, each.name) for each in COMPONENTS.values() if each.stateful)
    return next((ref for ref in workloads if claim_name_pattern(ref.name).fullmatch(claim)), None)


class Component(NamedTuple):
    """One component of one cluster. `replicas` is the spec's count, which an autoscaler may overrule.

    This is what templates see as `component`, so what they need of its type stands here too.
    """

    type: ComponentType
    replicas: int
    image: str
    resources: Resources | None
    autoscaling: Autoscaling | None
    budget: DisruptionBudget | None

    @property
    def name(self) -> ComponentName:
        """Its name in the singular."""
        return self.type.name

    @property
    def workload(self) -> Literal["StatefulSet", "Deployment"]:
        """The kind of its workload."""
        return self.type.workload

    @property
    def portName(self) -> str:  # noqa: N802  # templates see API spellings only
        """The name of its port."""
        return self.type.port_name

    @property
    def port(self) -> int:
        """The number of its port."""
        return self.type.port


def components(cluster: Cluster) -> list[Component]:
    """Return the components that a cluster runs: controllers, ingest nodes, and search nodes if there are any."""
    spec = cluster.spec
    found = []
    for name, type_ in COMPONENTS.items():
        count = spec[type_.count_field]
        if count == 0:
            continue
        autoscaling = spec["autoscaling"][type_.count_field] if spec["autoscaling"] else None
        found.append(
            Component(
                type=type_,
                replicas=count,
                image=spec["image"][name],
                resources=spec["resources"][name] if spec["resources"] else None,
                autoscaling=autoscaling,
                budget=_budget(spec["podDisruptionBudget"], name, _counts(count, autoscaling)),
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
