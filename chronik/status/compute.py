"""Derive a cluster's status from what was observed: phase, conditions, endpoints, ready replicas.

Every condition gets its status, reason and message in `_conditions` and the functions that it calls; the reason of a
pass that failed comes from `assess`. Pure: `now` is an argument. Conditions follow the Kubernetes API conventions, so
`kubectl wait` and kstatus tools understand them. Statements S23-S31 and S39-S44 of docs/behaviours.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.components import COMPONENTS, Component, component_types, components, workload_name, workload_ref
from chronik.manifest import Manifest, ObjectRef, component_of
from chronik.status.archive import GOES_WELL, archive_state
from chronik.status.health import Health, State, health, is_rolling, pod_ready, ready_pods
from chronik.status.replication import mirror_statuses, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.components import ComponentType
    from chronik.api.spec import Cluster

Condition = dict[str, Any]


class Reason(NamedTuple):
    """Why a cluster is as it is: `reason` is one CamelCase word, as in conditions, `message` are sentences."""

    reason: str
    message: str


TURN = "WaitingForTurn"
"""The reason of a cluster that is as its spec says, and waits for others before a newer chronik restarts its pods."""
RESTART_PENDING = "RestartPending"
"""The reason of a cluster whose spec waits for a restart window."""
DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
"""The reason of a roll-out that goes on without progress for too long, as Deployments have it."""
OWN_CONDITIONS = frozenset(
    {
        *("Ready", *(f"{each.title}Ready" for each in COMPONENTS.values()), "Reconciling", "Stalled", "Progressing"),
        *("Paused", "FieldConflict", "StorageResizable", "KindsInstalled", "ApplyFlapping", "SecretsAvailable"),
        *("SpecWarnings", "OwnObjectsReady", "TemplatesUsable", "Replicating", "BackupsCurrent", "FeatureMissing"),
        *("RolloutHalted", "Archiving", "Recovering", "RestartPending", "WindowsUsable", "AnalysisConclusive"),
        "AliasesUsable",
    }
)
"""The conditions that we write. Others in a status belong to other writers, and stay."""

_LONGEST = 32_768
"""Characters that a condition's message may have: metav1.Condition."""


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """How one component is: `wanted` is the autoscaler's number where there is one."""

    component: Component
    wanted: int
    ready: int
    health: Health
    endpoints: tuple[str, ...]
    rolling: bool = True
    """Whether pods are still being made or replaced; if not, and some are not ready, they have come to harm."""
    images: tuple[str, ...] = ()
    """What its pods run: more than one while they are replaced."""

    @property
    def is_ready(self) -> bool:
        """Whether the wanted pods, no more and no fewer, are ready and run the newest revision."""
        return self.health.ready and self.ready == self.wanted


@dataclass(frozen=True, slots=True)
class Observation:
    """What status is derived from: the live workloads and pods of one cluster, and what is known of the last pass."""

    objects: Mapping[ObjectRef, Manifest]
    pods: Sequence[Manifest] = ()
    previous: Mapping[str, Any] = field(default_factory=dict)
    generation: int | None = None
    failure: Reason | None = None
    """The permanent error that the last pass ended in, if it did."""
    waiting: Reason | None = None
    """What the last pass could not do yet, and will try again by itself."""
    overdue: bool = False
    """Whether a roll-out has made no progress for too long."""
    extra: Sequence[Condition] = ()
    """Further conditions, which are shown as they are."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the status, which are shown as they are."""


def component_statuses(cluster: Cluster, observed: Observation) -> list[ComponentStatus]:
    """Return how each component of a cluster is."""
    return [_component_status(cluster, component, observed) for component in components(cluster)]


def _component_status(cluster: Cluster, component: Component, observed: Observation) -> ComponentStatus:
    ref = workload_ref(cluster.key, component.name)
    workload = observed.objects.get(ref)
    pods = [pod for pod in observed.pods if component_of(pod) == component.name]
    if workload is None:
        missing = Health(State.IN_PROGRESS, f"{ref.kind} {ref.name} does not exist")
        return ComponentStatus(component, component.replicas, 0, missing, ())
    wanted = workload["spec"].get("replicas", 1) if component.autoscaling else component.replicas
    ready = ready_pods(workload, wanted)
    endpoints = _endpoints(cluster, component, pods, ready)
    images = tuple(sorted({image for pod in pods if (image := _image_of(pod, component.name))}))
    return ComponentStatus(component, wanted, ready, health(workload, pods), endpoints, is_rolling(workload), images)


def _image_of(pod: Manifest, name: str) -> str:
    """Return the image of a component's own container in a pod; nothing of one that has ended, or is about to."""
    if "deletionTimestamp" in pod["metadata"] or (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
        return ""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next((str(each.get("image") or "") for each in containers if each["name"] == name), "")


def _endpoints(cluster: Cluster, component: Component, pods: Iterable[Manifest], ready: int) -> tuple[str, ...]:
    """Return the addresses of pods that are really ready; search nodes share one, having no names of their own."""
    host = workload_name(cluster.name, component.name)
    service = f"{host}.{cluster.namespace}.svc.{cluster.domain}:{component.port}"
    if not component.type.stateful:
        return (service,) if ready else ()
    names = (pod["metadata"]["name"] for pod in pods if pod_ready(pod))
    return tuple(f"{name}.{service}" for name in sorted(names, key=_ordinal))


def _ordinal(pod_name: str) -> int:
    tail = pod_name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


def derive(cluster: Cluster, observed: Observation, now: str) -> dict[str, Any]:
    """Return the status of a cluster; `now` is an RFC 3339 time in UTC, and is used only where something changed."""
    found = component_statuses(cluster, observed)
    types = [*component_types(cluster.spec["topology"])]
    status: dict[str, Any] = {
        "phase": _phase(found, observed),
        **{each.count_field: _endpoints_of(found, each) for each in types},
        "readyReplicas": {each.count_field: _ready_of(found, each) for each in types},
        "replicas": {each.component.type.count_field: each.wanted for each in found},
        "conditions": merge_conditions(
            observed.previous.get("conditions") or (),
            [*_conditions(found, observed), *_beside(cluster, observed)],
            now,
            observed.generation,
        ),
        **observed.details,
    }
    images = {each.component.type.count_field: list(each.images) for each in found if each.images}
    status |= {"images": images} if images else {}
    if observed.generation is not None:
        status["observedGeneration"] = observed.generation
    return stamped(status, observed.previous, now)


def own(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status without the conditions of other writers: a change of those is never news to us."""
    conditions = status.get("conditions") or ()
    ours = [each for each in conditions if each.get("type") in OWN_CONDITIONS]
    return {**status, "conditions": ours} if len(ours) < len(conditions) else dict(status)


def stamped(status: dict[str, Any], previous: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return a status with `lastUpdated`, which moves only if something else in it did."""
    rest = {key: value for key, value in previous.items() if key != "lastUpdated"}
    same = rest == status and "lastUpdated" in previous
    return {**status, "lastUpdated": previous["lastUpdated"] if same else now}


def _endpoints_of(found: Iterable[ComponentStatus], component: ComponentType) -> list[str]:
    return [endpoint for each in found if each.component.type == component for endpoint in each.endpoints]


def _ready_of(found: Iterable[ComponentStatus], component: ComponentType) -> int:
    return sum(each.ready for each in found if each.component.type == component)


def _phase(found: Sequence[ComponentStatus], observed: Observation) -> str:
    """Return the phase: a cluster that ran once and is not all healthy is Updating, never Creating again."""
    if observed.failure:
        return "Failed"
    if all(each.is_ready for each in found) and not _is_on_its_way(observed):
        return "Running"
    return "Updating" if _ran_before(observed.previous) else "Creating"


def _is_on_its_way(observed: Observation) -> bool:
    """Return whether what is there, however healthy, is not what the spec asks for by now.

    If a cluster runs and its spec is the same, what waits is a repair, which takes nothing from it. Nor does an upgrade
    of the operator that waits for its turn: clusters that called that an update would wait for each other for ever.
    """
    if observed.waiting and observed.waiting.reason == TURN:
        return False
    if is_rollout(observed.waiting):
        return True
    last = observed.previous.get("observedGeneration", observed.generation)
    fresh = observed.previous.get("phase") != "Running" or last != observed.generation
    return bool(observed.waiting) and fresh


def is_rollout(waiting: Reason | None) -> bool:
    """Return whether what is waited for is a step of a canary: until its last one the spec is not what runs."""
    return waiting is not None and waiting.reason.startswith("Rollout")


def _is_staged(waiting: Reason) -> bool:
    """Return whether what is waited for is no pod, but a step or a window: all pods may well be ready."""
    return is_rollout(waiting) or waiting.reason == RESTART_PENDING


def _ran_before(previous: Mapping[str, Any]) -> bool:
    """Return whether a cluster ever ran. Failed hides the phase before it; pods that were ready stand in for it."""
    if previous.get("phase") == "Failed":
        return any((previous.get("readyReplicas") or {}).values())
    return previous.get("phase") in {"Running", "Updating"}


def _conditions(found: Sequence[ComponentStatus], observed: Observation) -> list[Condition]:
    waiting = _waiting(each for each in found if not each.is_ready)
    if observed.failure:
        ready = condition("Ready", met=False, reason=observed.failure.reason, message=observed.failure.message)
    elif waiting or _is_on_its_way(observed):
        message = waiting or (observed.waiting.message if observed.waiting else "")
        reason = observed.waiting.reason if observed.waiting and _is_staged(observed.waiting) else "ComponentsNotReady"
        ready = condition("Ready", met=False, reason=reason, message=message)
    else:
        ready = condition(
            "Ready", met=True, reason="AllComponentsReady", message="All Chronik Stream components are running"
        )
    return [
        ready,
        *map(_component_condition, found),
        *progress(waiting, observed),
        _progressing(found, observed),
        *observed.extra,
    ]


def progress(rolling: str, observed: Observation) -> list[Condition]:
    """Return the two conditions that kstatus tools read; never both are true. `rolling` is what pods are waited for."""
    if observed.failure:
        return [
            condition("Reconciling", met=False, reason="Stalled", message=""),
            condition("Stalled", met=True, reason=observed.failure.reason, message=observed.failure.message),
        ]
    rollout = Reason("RolloutInProgress", rolling) if rolling else Reason("Settled", "")
    reason, message = observed.waiting or rollout
    return [
        condition("Reconciling", met=bool(message), reason=reason, message=message),
        condition("Stalled", met=False, reason="NotStalled", message=""),
    ]


def _progressing(found: Sequence[ComponentStatus], observed: Observation) -> Condition:
    """Return whether a roll-out goes on or is through; a cluster that ran and lost pods since does neither (A12)."""
    if observed.failure:
        return condition("Progressing", met=False, reason=observed.failure.reason, message="")
    if observed.waiting and _is_staged(observed.waiting):
        return condition("Progressing", met=True, reason=observed.waiting.reason, message="")
    ill = [each.component.type.plural for each in found if not each.is_ready and not each.rolling]
    if all(each.is_ready for each in found):
        return condition("Progressing", met=True, reason="RolloutComplete", message="")
    if ill and _ran_before(observed.previous) and not any(each.rolling for each in found):
        message = f"Nothing is being rolled out, and pods are not ready: {', '.join(ill)}"
        return condition("Progressing", met=False, reason="ComponentsNotReady", message=message)
    if observed.overdue:
        return condition("Progressing", met=False, reason=DEADLINE_EXCEEDED, message=_OVERDUE)
    return condition("Progressing", met=True, reason="RolloutInProgress", message="")


_OVERDUE = "No pod has come further for 10 minutes; upgrades of other clusters do not wait for this one any longer"


def _beside(cluster: Cluster, observed: Observation) -> list[Condition]:
    """Return how what runs beside a cluster is, if there is any. It is no part of Ready: a source may be away."""
    found, archive = mirror_statuses(cluster, observed.objects, observed.pods), archive_state(cluster, observed)
    told = []
    if found:
        reason, message = summary(found)
        told.append(condition("Replicating", met=reason == "Replicating", reason=reason, message=message))
    if archive and all(each["type"] != "Archiving" for each in observed.extra):  # which one from before may say more
        told.append(condition("Archiving", met=archive[0] in GOES_WELL, reason=archive[0], message=archive[1]))
    return told


def _waiting(unready: Iterable[ComponentStatus]) -> str:
    """Return what is waited for; components that wait for the same are named together."""
    who: dict[str, list[str]] = {}
    for each in unready:
        who.setdefault(_reason(each), []).append(each.component.type.plural)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in who.items())


def _reason(each: ComponentStatus) -> str:
    """Return what a component waits for; a workload may be fine by itself and not have the spec's count yet."""
    return each.health.message or f"{each.ready} of {each.wanted} ready"


def _component_condition(each: ComponentStatus) -> Condition:
    title = each.component.type.title
    return condition(
        f"{title}Ready",
        met=each.is_ready,
        reason=f"All{title}Ready" if each.is_ready else f"{title}NotReady",
        message=f"{each.ready}/{each.wanted} {each.component.type.plural} ready",
    )


def condition(kind: str, *, met: bool, reason: str, message: str) -> Condition:
    """Return a condition without its times, which `merge_conditions` knows."""
    return {"type": kind, "status": "True" if met else "False", "reason": reason, "message": message[:_LONGEST]}


def merge_conditions(
    old: Iterable[Condition], new: Iterable[Condition], now: str, generation: int | None
) -> list[Condition]:
    """Return the new conditions; each keeps its transition time unless its status changed."""
    since = {(last.get("type"), last.get("status")): last.get("lastTransitionTime") for last in old}
    merged = []
    for condition in new:
        stamp: dict[str, Any] = {"lastTransitionTime": since.get((condition["type"], condition["status"])) or now}
        if generation is not None:
            stamp["observedGeneration"] = generation
        merged.append({**condition, **stamp})
    return merged
