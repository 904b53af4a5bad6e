"""Gathers what there is to say about one live cluster: its phase, its components with their pods, volumes, addresses.

Pure. A cluster may be kept by an operator, whose word is in the ChronikCluster's status, or have been applied from the
command line, which leaves nothing but its objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from chronik.api.components import COMPONENTS, autoscaler_ref, component_types, workload_ref
from chronik.manifest import API_VERSION, CLUSTER_KIND, FINALIZER, ClusterKey, Manifest, is_paused
from chronik.plan.ownership import additions
from chronik.status.compute import Observation, component_statuses, derive
from chronik.status.own import own_health
from chronik.status.view_parts import (
    Address,
    ComponentView,
    addresses_of,
    component_view,
    restarts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chronik.api.components import ComponentType
    from chronik.api.spec import Cluster, ClusterSpec
    from chronik.api.validation import Validated
    from chronik.errors import FieldOwner
    from chronik.manifest import ObjectRef
    from chronik.plan.live import LiveCluster

Origin = Literal["document", "file", "objects"]
"""Where a cluster's spec is from: the ChronikCluster, a file, or what its live objects tell of it."""


class Addition(NamedTuple):
    """Something that others have added to an object of a cluster, and who."""

    ref: ObjectRef
    owner: FieldOwner


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Everything about one cluster. `status` is the operator's, or what it would be; `notes` qualify it.

    `additions` are what others have added to its configuration and pods, as far as the record of that goes.
    `paused`: its operator keeps its hands off, so what is ready need not be what the document says.
    """

    key: ClusterKey
    origin: Origin
    phase: str
    ready: bool
    created: str
    generation: int | None
    status: Mapping[str, Any]
    components: tuple[ComponentView, ...]
    addresses: tuple[Address, ...]
    waits_besides: tuple[str, ...]
    notes: tuple[str, ...]
    paused: bool = False
    additions: tuple[Addition, ...] = ()

    @property
    def state(self) -> str:
        """Its phase, and whether it is paused."""
        return f"{self.phase} (paused)" if self.paused else self.phase

    @property
    def waiting(self) -> tuple[ComponentView, ...]:
        """The components that it waits for."""
        return tuple(part for part in self.components if not part.status.is_ready)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Everything that stands between it and being ready, what needs a person first."""
        return (*self.waits_besides, *(f"{part.words}: {part.reason}" for part in self.waiting))


def cluster_from_objects(key: ClusterKey, found: LiveCluster, validate: Callable[[Manifest], Validated]) -> Cluster:
    """Return a cluster that would have about the objects that are there, whether or not a document may say so.

    A user may have scaled a component to nothing, or given the label a value that no cluster can have as a name.
    """
    validated = validate(_live_document(found, key)).cluster
    assert validated is not None, "what is made up here is valid"
    types = component_types(validated.spec["topology"])
    counts = {each.count_field: _replicas(found, key, each) for each in types}
    return replace(
        validated, name=key.name, namespace=key.namespace, spec=cast("ClusterSpec", {**validated.spec, **counts})
    )


def _replicas(found: LiveCluster, key: ClusterKey, component: ComponentType) -> int:
    workload = found.objects.get(workload_ref(key, component.name))
    return int(workload["spec"].get("replicas", 1)) if workload else component.minimum


def _live_document(found: LiveCluster, key: ClusterKey) -> Manifest:
    """Return a valid document for that; its name, its counts and its storage are made up."""
    there = (each.topology for each in COMPONENTS.values() if workload_ref(key, each.name) in found.objects)
    topology = next(there, COMPONENTS["controller"].topology)
    connection = {"host": "unknown", "database": "unknown", "credentialsSecret": "unknown"}
    metastore = {"metastore": {"database": "postgres", "connection": connection}}
    types = [*component_types(topology)]
    spec: dict[str, Any] = {"topology": topology, "storage": {"backend": "local"}}
    spec |= {} if any(each.members for each in types) else metastore  # members keep the metadata themselves
    for component in types:
        name = component.name
        spec[component.count_field] = 1
        if workload_ref(key, name) in found.objects and autoscaler_ref(key, name) in found.objects:
            bounds = {"minReplicas": 1, "maxReplicas": 9, "targetCpuUtilizationPercentage": 80}
            spec.setdefault("autoscaling", {})[component.count_field] = bounds
    metadata = {"name": "made-up", "namespace": "made-up"}
    return {"apiVersion": API_VERSION, "kind": CLUSTER_KIND, "metadata": metadata, "spec": spec}


def cluster_view(cluster: Cluster, origin: Origin, found: LiveCluster, now: str) -> ClusterView:
    """Return everything there is to say about a cluster; `now` is an RFC 3339 time in UTC."""
    document = found.document or {"metadata": {}}
    metadata, stored = document["metadata"], document.get("status") or {}
    parts = tuple(component_view(cluster, each, found) for each in component_statuses(cluster, _observation(found)))
    ready = all(each.status.is_ready for each in parts)
    derived = derive(cluster, _observation(found), now)
    status = stored or (_undated(derived) if found.document is None else {})
    addresses = tuple(addresses_of(cluster, found.objects.values()))
    content = ready and _is_content(found.document)
    besides = (*_waits_besides(found.document, addresses), *_own_waits(cluster, found))
    if ready and not content and not besides:
        besides = (*_told_waits(document),)
    return ClusterView(
        key=cluster.key,
        origin=origin,
        phase=_phase(found, derived),
        ready=content,
        created=found.created,
        generation=metadata.get("generation"),
        status=status,
        components=parts,
        addresses=addresses,
        waits_besides=besides,
        notes=tuple(_notes(found, origin, ready=ready)),
        additions=tuple(
            Addition(ref, owner) for ref, each in sorted(found.objects.items()) for owner in additions(each)
        ),
        paused=is_paused(document) and not metadata.get("deletionTimestamp"),  # what is deleted goes all the same
    )


def _observation(found: LiveCluster) -> Observation:
    """Return what status is derived from. Without an operator, signs of an earlier life stand in for its memory."""
    if found.document is not None:
        return Observation(found.objects, found.pods, previous=found.document.get("status") or {})
    changed = any(each["metadata"].get("generation", 1) > 1 for each in found.objects.values())
    lived = changed or any(restarts(pod) for pod in found.pods)
    return Observation(found.objects, found.pods, previous={"phase": "Updating"} if lived else {})


def _undated(status: dict[str, Any]) -> dict[str, Any]:
    """Return a derived status without its times: no operator has watched, so they would all be now."""
    conditions = [
        {key: value for key, value in condition.items() if key != "lastTransitionTime"}
        for condition in status["conditions"]
    ]
    return {key: value for key, value in status.items() if key != "lastUpdated"} | {"conditions": conditions}


def _phase(found: LiveCluster, derived: Mapping[str, Any]) -> str:
    if found.document is None:
        return str(derived["phase"])
    if found.document["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return str((found.document.get("status") or {}).get("phase") or "Pending")


def condition_of(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of a status, empty if there is none of that type."""
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


def _is_content(document: Manifest | None) -> bool:
    """Return whether the operator, if there is one, calls the newest spec ready."""
    if document is None:
        return True
    status = document.get("status") or {}
    return (
        "deletionTimestamp" not in document["metadata"]
        and status.get("observedGeneration") == document["metadata"].get("generation")
        and condition_of(status, "Ready").get("status") == "True"
    )


def _waits_besides(document: Manifest | None, addresses: Iterable[Address]) -> Iterator[str]:
    """Yield what stands between a cluster and being ready, apart from its components."""
    metadata, status = (document or {}).get("metadata") or {}, (document or {}).get("status") or {}
    if metadata.get("deletionTimestamp"):
        finalizers = metadata.get("finalizers") or ()
        if FINALIZER in finalizers:
            yield f"its operator, which takes the finalizer {FINALIZER} off when it runs"
        others = [each for each in finalizers if each != FINALIZER]
        if others or not finalizers:
            yield f"its finalizers: {', '.join(others or ['none'])}"
        return
    stalled = condition_of(status, "Stalled")
    if stalled.get("status") == "True":
        yield f"a fix: {stalled.get('reason', '')}: {stalled.get('message', '')}"
    for address in addresses:
        if address.type == "LoadBalancer" and not address.external:
            yield f"{address.service}: the load balancer has no address yet"


def _told_waits(document: Manifest) -> Iterator[str]:
    """Yield what the operator itself waits for, in its words: a window, a Secret, a feature that it lacks."""
    reconciling = condition_of(document.get("status") or {}, "Reconciling")
    seen = (document.get("status") or {}).get("observedGeneration") == document["metadata"].get("generation")
    if seen and reconciling.get("status") == "True" and reconciling.get("message"):
        yield f"its operator: {reconciling['message']}"


def _own_waits(cluster: Cluster, found: LiveCluster) -> Iterator[str]:
    """Yield what templates of the user's have made that is not ready, or not there."""
    if (found.document or {"metadata": {}})["metadata"].get("deletionTimestamp"):
        return
    for ref, each in own_health(cluster, found.objects).items():
        if not each.ready:
            yield f"{ref.kind}/{ref.name}: {each.message}"


def _notes(found: LiveCluster, origin: Origin, *, ready: bool) -> Iterator[str]:
    """Yield what one has to know to read the rest."""
    if origin == "objects":
        subject = "its objects" if found.document is None else "its objects, because its document is not valid"
        yield f"What it should be is read from {subject}; name its file with -f to hold it to that."
    if found.document is None:
        return
    metadata, status = found.document["metadata"], found.document.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return
    generation, observed = metadata.get("generation"), status.get("observedGeneration")
    if not status:
        yield "No operator has looked at it yet: is one running that watches this namespace?"
    elif observed != generation:
        yield f"The operator has seen generation {observed}, and the newest is {generation}: is it running?"
    elif (condition_of(status, "Ready").get("status") == "True") != ready:
        yield f"The operator last called it {status.get('phase')}; the components are as they are now."
    if is_paused(found.document):
        yield "It is paused: the operator changes none of its objects, which may differ from its document."
