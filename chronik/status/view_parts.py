"""The parts of the view of one live cluster: components with their pods and volumes, addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.api.components import autoscaler_ref, claim_name_pattern, workload_ref
from chronik.manifest import Manifest, ObjectRef, component_of
from chronik.quantity import QuantityError, parse_quantity
from chronik.status.creation import replica_failure
from chronik.status.health import init_wait, pod_ready, pod_trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.plan.live import LiveCluster
    from chronik.status.compute import ComponentStatus


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod; `trouble` is why it cannot run, in its own words, `waits` which init container it waits for."""

    name: str
    phase: str
    ready: bool
    restarts: int
    trouble: str
    waits: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume claim: what it asks for, what it has, and its phase. `spare`: no pod of the wanted count uses it."""

    name: str
    requested: str
    capacity: str
    phase: str
    storage_class: str
    spare: bool


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What an autoscaler may do and does; `trouble` is why it does nothing."""

    minimum: int
    maximum: int
    current: int
    desired: int
    trouble: str


@dataclass(frozen=True, slots=True)
class ComponentView:
    """One component. `existing` pods, of which `updated` run the newest revision."""

    status: ComponentStatus
    ref: ObjectRef
    existing: int
    updated: int
    pods: tuple[Pod, ...]
    volumes: tuple[Volume, ...]
    autoscaler: Autoscaler | None
    uncreated: str = ""
    """Why pods of it cannot be created."""

    @property
    def name(self) -> str:
        """The name in the singular: controller, ingest or search."""
        return self.status.component.name

    @property
    def words(self) -> str:
        """What people call it."""
        return self.status.component.type.plural

    @property
    def troubles(self) -> list[str]:
        """Why pods cannot be created or run, each reason once, with the pods that say so before it."""
        ill = _grouped((pod.trouble, pod.name) for pod in self.pods if pod.trouble)
        return [self.uncreated, *ill] if self.uncreated else ill

    @property
    def unready(self) -> list[str]:
        """Pods that are not ready without anything being wrong with them, and how far each is."""
        return _grouped((_stage(pod), pod.name) for pod in self.pods if not (pod.trouble or pod.ready))

    @property
    def reason(self) -> str:
        """What it waits for, in one line; empty if for nothing."""
        if self.status.is_ready:
            return ""
        own = self.status.health.message or f"{self.status.ready} of {self.status.wanted} ready"
        waits = _grouped((pod.waits, pod.name) for pod in self.pods if pod.waits and not pod.trouble)
        return "; ".join(self.troubles or [own, *waits])


@dataclass(frozen=True, slots=True)
class Address:
    """Where clients reach a component: the Service's type, its name in DNS, and what leads there from outside."""

    service: str
    type: str
    internal: str
    external: tuple[str, ...]


def component_view(cluster: Cluster, status: ComponentStatus, found: LiveCluster) -> ComponentView:
    """Return one component of a cluster, with what belongs to it."""
    component, key = status.component, cluster.key
    ref = workload_ref(key, component.name)
    workload = found.objects.get(ref) or {}
    counts, failure = workload.get("status") or {}, replica_failure(workload)
    pods = (pod for pod in found.pods if component_of(pod) == component.name)
    stand_ins = not component.type.stateful  # a ReplicaSet keeps pods that ended, and makes others for them
    return ComponentView(
        status=status,
        ref=ref,
        existing=counts.get("replicas", 0),
        updated=counts.get("updatedReplicas", 0),
        pods=tuple(pod for pod in sorted(map(_pod, pods), key=_natural) if not (stand_ins and pod.phase == "Failed")),
        volumes=tuple(_volumes(ref, component.first + status.wanted, found.claims)) if component.type.stateful else (),
        autoscaler=_scaling(found.objects.get(autoscaler_ref(key, component.name))),
        uncreated=status.health.message if failure and failure in status.health.message else "",
    )


def _natural(pod: Pod) -> tuple[int, str]:
    return len(pod.name), pod.name


def _pod(pod: Manifest) -> Pod:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    phase = "Terminating" if pod["metadata"].get("deletionTimestamp") else status.get("phase", "Unknown")
    trouble = (pod_trouble(pod) or "").removeprefix(f"{name}: ")
    return Pod(name, phase, pod_ready(pod), restarts(pod), trouble, init_wait(pod) if phase == "Pending" else "")


def restarts(pod: Manifest) -> int:
    """Return how often the containers of a pod were started again."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(container.get("restartCount", 0) for container in containers)


def _stage(pod: Pod) -> str:
    return pod.waits or ("runs, but is not ready" if pod.phase == "Running" else f"is {pod.phase}")


def _grouped(told: Iterable[tuple[str, str]]) -> list[str]:
    """Return texts about several names, each text once, after the names that it is about."""
    names: dict[str, list[str]] = {}
    for text, name in told:
        names.setdefault(text, []).append(name)
    return [f"{_named(those)}: {text}" for text, those in names.items()]


def _named(names: Sequence[str]) -> str:
    """Name pods in as few words as possible: `c-ingest-0`, `c-ingest-{0,1,2}`, `c-search-x and 4 more`."""
    stems = {name.rpartition("-")[0] for name in names}
    if len(names) == 1:
        return names[0]
    if len(stems) == 1 and len(names) <= _MOST_NAMED:
        return f"{stems.pop()}-{{{','.join(name.rpartition('-')[2] for name in names)}}}"
    return f"{names[0]} and {len(names) - 1} more"


_MOST_NAMED = 6


def _volumes(ref: ObjectRef, spare: int, claims: Iterable[Manifest]) -> list[Volume]:
    """Return the claims that a StatefulSet made, in the order of its pods; those from an ordinal on are spare."""
    named = claim_name_pattern(ref.name)
    found = []
    for claim in claims:
        match = named.fullmatch(claim["metadata"]["name"])
        if match:
            found.append((int(match[1]), _volume(claim, spare=int(match[1]) >= spare)))
    return [volume for _, volume in sorted(found, key=lambda item: item[0])]


def _volume(claim: Manifest, *, spare: bool) -> Volume:
    spec, status = claim["spec"], claim.get("status") or {}
    return Volume(
        name=claim["metadata"]["name"],
        requested=str(spec.get("resources", {}).get("requests", {}).get("storage", "")),
        capacity=str(status.get("capacity", {}).get("storage", "")),
        phase="Terminating" if claim["metadata"].get("deletionTimestamp") else status.get("phase", "Pending"),
        storage_class=spec.get("storageClassName") or "",
        spare=spare,
    )


def is_growing(volume: Volume) -> bool:
    """Return whether a bound volume does not have yet what its claim asks for."""
    try:
        return volume.phase == "Bound" and parse_quantity(volume.capacity) < parse_quantity(volume.requested)
    except QuantityError:
        return False


def _scaling(scaler: Manifest | None) -> Autoscaler | None:
    if scaler is None:
        return None
    spec, status = scaler["spec"], scaler.get("status") or {}
    broken = (each for each in status.get("conditions") or () if each["type"] in _NEEDED and each["status"] == "False")
    return Autoscaler(
        minimum=spec.get("minReplicas", 1),
        maximum=spec["maxReplicas"],
        current=status.get("currentReplicas", 0),
        desired=status.get("desiredReplicas", 0),
        trouble=next((each.get("message") or each.get("reason", "") for each in broken), ""),
    )


_NEEDED = frozenset({"AbleToScale", "ScalingActive"})


def addresses_of(cluster: Cluster, objects: Iterable[Manifest]) -> list[Address]:
    """Return where clients connect to: Services that are not headless, and lead to ready pods alone."""
    found = []
    for service in sorted(objects, key=lambda each: str(each["metadata"]["name"])):
        if service["kind"] != "Service":
            continue
        name, spec = service["metadata"]["name"], service["spec"]
        if spec.get("clusterIP") == "None" or not spec.get("ports"):  # headless, or an alias that somebody made
            continue
        if spec.get("publishNotReadyAddresses"):  # members find each other by it
            continue
        port = spec["ports"][0]
        internal = f"{name}.{cluster.namespace}.svc.{cluster.domain}:{port['port']}"
        found.append(Address(name, spec.get("type", "ClusterIP"), internal, tuple(_external(service, port))))
    return found


def _external(service: Manifest, port: Mapping[str, Any]) -> list[str]:
    kind = service["spec"].get("type", "ClusterIP")
    if kind == "NodePort":
        return [f"any node:{port.get('nodePort', '?')}"]
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [f"{each.get('hostname') or each.get('ip')}:{port['port']}" for each in ingress]
