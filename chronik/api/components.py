"""The components of a cluster: what each is called, where, what it runs as, and how its objects are found.

The spec speaks of them under two names (`ingestNodes` counts them, `image.ingest` names their image), conditions and
people under two more. All of that stands here and nowhere else in chronik; templates see it as `component` and `name`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from chronik.api.ports import METRICS_ALONE, METRICS_OF_NODES, Port, Probe
from chronik.manifest import ComponentName, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.api.sections.resources import Resources
    from chronik.api.spec import Autoscaling, Cluster, ComponentAutoscaling, DisruptionBudget, Rollout
    from chronik.manifest import ClusterKey

CountField = Literal["controllers", "ingestNodes", "searchNodes", "nodes"]
Topology = Literal["Roles", "Unified"]


class ComponentType(NamedTuple):
    """What a component is in every cluster.

    `topology` is the shape of cluster that has it. `count_field` is its field in the spec, and in the status. `title`
    is its name in conditions (`IngestNodesReady`), `plural` what people call its pods. `ports` begin with the one that
    its peers and clients connect to. `alive` and `ready` are its probes, `metrics` the port that Prometheus is sent to
    by an annotation, 0 if no one number is right for all pods. `minimum` is the smallest count that a spec may ask for.
    `first` is the ordinal of its first pod. `serves_clients`: clients of the cluster connect to it, through a Service
    of its own. `votes`: its pods elect a leader by majority. `members`: each pod is a member of a group that it has to
    join and leave, with an id of its own, which is its ordinal.
    """

    name: ComponentName
    topology: Topology
    count_field: CountField
    title: str
    plural: str
    workload: Literal["StatefulSet", "Deployment"]
    ports: tuple[Port, ...]
    alive: Probe
    ready: Probe
    metrics: int = 0
    minimum: int = 1
    first: int = 0
    serves_clients: bool = False
    votes: bool = False
    members: bool = False

    @property
    def port(self) -> int:
        """The number of the port that its peers and clients connect to."""
        return self.ports[0].number

    @property
    def stateful(self) -> bool:
        """Whether its pods have volumes of their own, by claims that outlive them."""
        return self.workload == "StatefulSet"


_BESIDE = (Port("metrics", 8080), Port("health", 8081, served=False))
_ALIVE, _READY = Probe("health", "/healthz"), Probe("health", "/readyz")

COMPONENTS: dict[ComponentName, ComponentType] = {
    each.name: each
    for each in (
        ComponentType(
            name="controller",
            topology="Roles",
            count_field="controllers",
            title="Controllers",
            plural="controllers",
            workload="StatefulSet",
            ports=(Port("grpc", 9090), *_BESIDE),
            alive=_ALIVE,
            ready=_READY,
            metrics=8080,
            votes=True,
        ),
        ComponentType(
            name="ingest",
            topology="Roles",
            count_field="ingestNodes",
            title="IngestNodes",
            plural="ingest nodes",
            workload="StatefulSet",
            ports=(Port("kafka", 9092, clients=True), *_BESIDE),
            alive=_ALIVE,
            ready=_READY,
            metrics=8080,
            serves_clients=True,
        ),
        ComponentType(
            name="search",
            topology="Roles",
            count_field="searchNodes",
            title="SearchNodes",
            plural="search nodes",
            workload="Deployment",
            ports=(Port("grpc", 9093, clients=True), *_BESIDE),
            alive=_ALIVE,
            ready=_READY,
            metrics=8080,
            minimum=0,
        ),
        ComponentType(
            name="node",
            topology="Unified",
            count_field="nodes",
            title="Nodes",
            plural="nodes",
            workload="StatefulSet",
            ports=(
                Port("kafka", 9092, clients=True),
                Port("wal", 9291),
                Port("raft", 5001),
                Port("api", 6092, clients=True),
            ),
            # Its HTTP API opens only after ten seconds of looking for a leader: see docs/images.md.
            alive=Probe("kafka"),
            ready=Probe("api", "/health"),
            first=1,
            serves_clients=True,
            votes=True,
            members=True,
        ),
    )
}
"""All components, in the order in which they are applied and their pods restart."""


def component_types(topology: str) -> Iterator[ComponentType]:
    """Yield the components that clusters of a topology are made of."""
    return (each for each in COMPONENTS.values() if each.topology == topology)


def workload_name(cluster: str, component: str) -> str:
    """Return the name of a component's workload, which is also that of its Service, and begins those of its pods."""
    return f"{cluster}-{component}"


def client_service_name(cluster: Cluster) -> str:
    """Return the name of the Service that clients of a cluster connect to."""
    type_ = next(each for each in component_types(cluster.spec["topology"]) if each.serves_clients)
    return f"{workload_name(cluster.name, type_.name)}-client"


def member_name(cluster: str, component: str, member: int) -> str:
    """Return the name of one pod of a StatefulSet by its ordinal, which is also that of the pod's own Service."""
    return f"{workload_name(cluster, component)}-{member}"


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
    external: bool = False
    """Whether each of its pods has an address of its own for clients outside of Kubernetes."""
    serviceAccount: str | None = None  # noqa: N815  # templates see API spellings only
    """The service account of its pods, if that is one which chronik does not make."""

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
        """The name of the port that its peers and clients connect to."""
        return self.type.ports[0].name

    @property
    def port(self) -> int:
        """The number of that port."""
        return self.type.port

    @property
    def ports(self) -> tuple[Port, ...]:
        """All ports, that one first."""
        return self.type.ports

    @property
    def alive(self) -> Probe:
        """What tells that a pod lives."""
        return self.type.alive

    @property
    def ready(self) -> Probe:
        """What tells that a pod is ready."""
        return self.type.ready

    @property
    def metrics(self) -> int:
        """The port of the metrics, 0 if each pod has another."""
        return self.type.metrics

    @property
    def metricsPorts(self) -> list[int]:  # noqa: N802  # as above
        """All ports on which its pods have metrics: one for all, or one for each."""
        if self.metrics:
            return [self.metrics]
        if self.replicas == 1:
            return [METRICS_ALONE]
        return [*range(METRICS_OF_NODES + self.first, METRICS_OF_NODES + self.first + self.replicas)]

    @property
    def clientPorts(self) -> list[int]:  # noqa: N802  # as above
        """The ports that clients of the cluster connect to."""
        return [port.number for port in self.ports if port.clients]

    @property
    def first(self) -> int:
        """The ordinal of its first pod."""
        return self.type.first

    @property
    def member(self) -> bool:
        """Whether each of its pods is a member of a group, with an id of its own."""
        return self.type.members


class Member(NamedTuple):
    """One pod that is a member of the cluster's group of voters.

    `id` is its number there. `host` is where the other members and the operator find it, by a Service that lives as
    long as it is wanted: the nodes look up each other's names when they start, and do not start without. `address` is
    what clients are told, host and port, `api` the URL of its HTTP API, and `nodePort` its port on every machine, or
    None.
    """

    id: int
    name: str
    host: str
    address: str
    api: str
    nodePort: int | None = None  # noqa: N815  # templates see API spellings only


def members(cluster: Cluster, count: int | None = None) -> list[Member]:
    """Return the members that a cluster is to have, or the first `count` of so many; none if it has no such group."""
    found = []
    for each in components(cluster):
        ids = range(each.first, each.first + (each.replicas if count is None else count)) if each.member else ()
        found += [_member(cluster, each, number) for number in ids]
    return found


def _member(cluster: Cluster, component: Component, number: int) -> Member:
    name = member_name(cluster.name, component.name, number)
    host = f"{name}.{cluster.namespace}.svc.{cluster.domain}"
    api = next(f"http://{host}:{port.number}" for port in component.ports if port.name == component.ready.port)
    external = cluster.spec["network"]["external"]
    if external is None:
        return Member(number, name, host, f"{host}:{component.port}", api)
    first = external["firstNodePort"]
    node_port = None if first is None else first + number - component.first
    outside = external["hostTemplate"].replace("{id}", str(number))
    return Member(number, name, host, f"{outside}:{node_port or component.port}", api, node_port)


def components(cluster: Cluster) -> list[Component]:
    """Return the components that a cluster runs: those of its topology of which the spec asks for any."""
    spec = cluster.spec
    found = []
    for type_ in component_types(spec["topology"]):
        name, count = type_.name, spec[type_.count_field]
        if not count:
            continue
        autoscaling = _autoscaling(spec["autoscaling"], type_)
        found.append(
            Component(
                type=type_,
                replicas=count,
                image=spec["image"][name],
                resources=spec["resources"][name] if spec["resources"] else None,
                autoscaling=autoscaling,
                budget=_budget(spec["podDisruptionBudget"], type_, _counts(count, autoscaling)),
                external=type_.members and spec["network"]["external"] is not None,
                serviceAccount=(spec["components"] or {}).get(name, {}).get("serviceAccount", {}).get("name"),
            )
        )
    return found


def quorum_budget(voters: int) -> int:
    """Return how many voters may be away at once: the most that leaves a majority, but never none."""
    return max(1, (voters - 1) // 2)


def _autoscaling(autoscaling: ComponentAutoscaling | None, type_: ComponentType) -> Autoscaling | None:
    found = autoscaling.get(type_.count_field) if autoscaling else None
    return cast("Autoscaling | None", found)


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


def _budget(budget: DisruptionBudget | None, type_: ComponentType, counts: range) -> DisruptionBudget | None:
    """Take the spec's budget, but never let voters lose their quorum to it, however many there are.

    Members hold the data: several of them have a budget even if the spec gives none.
    """
    if budget is None and type_.members and counts.start > 1:
        return {"minAvailable": None, "maxUnavailable": quorum_budget(counts.start)}
    if budget is None or not type_.votes:
        return budget
    if all(evictions_allowed(budget, count) <= quorum_budget(count) for count in counts):
        return budget
    return {"minAvailable": None, "maxUnavailable": quorum_budget(counts.start)}


def _scaled(amount: int | str, replicas: int) -> int:
    if isinstance(amount, int):
        return amount
    return math.ceil(int(amount.removesuffix("%")) * replicas / 100)


def is_blue_green(rollout: Rollout | None) -> bool:
    """Return whether new search nodes stand beside the old ones until clients are switched to them."""
    return rollout is not None and rollout["search"] == "BlueGreen"
