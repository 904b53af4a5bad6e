"""Derive a cluster's status from what was observed: phase, conditions, endpoints, ready replicas.

Every condition gets its status, reason and message in `_conditions` and the functions that it calls; the reason of a
pass that failed comes from `assess`. Pure: `now` is an argument. Conditions follow the Kubernetes API conventions, so
`kubectl wait` and kstatus tools understand them. Statements S23-S31 and S39-S44 of docs/behaviours.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.components import (
    COMPONENTS,
    Component,
    component_types,
    components,
    workload_name,
    workload_ref,
)
from chronik.manifest import Manifest, ObjectRef, component_of
from chronik.plan.actions import ROLLOUT_MANAGER
from chronik.plan.drift import applied_fields
from chronik.status.archive import archive_state
from chronik.status.health import Health, State, health, pod_ready
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
    ready = (workload.get("status") or {}).get("readyReplicas", 0)
    if ref.kind == "Deployment" and applied_fields(workload, ROLLOUT_MANAGER) is not None:
        ready = min(ready, wanted)  # those of a canary come on top
    endpoints = _endpoints(cluster, component, pods, ready)
    return ComponentStatus(component, wanted, ready, health(workload, pods), endpoints, is_rolling(workload))


def is_rolling(workload: Manifest) -> bool:
    """Return whether a workload is still on its way to the pods that its spec asks for, ready or not."""
    status, count = workload.get("status") or {}, workload["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0)
        or status.get("updatedReplicas", 0) != count
        or status.get("replicas", 0) != count
        or status.get("currentRevision") != status.get("updateRevision")
    )


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
        "conditions": merge_conditions(
            observed.previous.get("conditions") or (),
            [*_conditions(found, observed), *_replication(cluster, observed), *_archive(cluster, observed)],
            now,
            observed.generation,
        ),
        **observed.details,
    }
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


def _replication(cluster: Cluster, observed: Observation) -> list[Condition]:
    """Return whether the mirrors replicate, if there are any. It is no part of Ready: a source may be down for long."""
    found = mirror_statuses(cluster, observed.objects, observed.pods)
    if not found:
        return []
    reason, message = summary(found)
    return [condition("Replicating", met=reason == "Replicating", reason=reason, message=message)]


def _archive(cluster: Cluster, observed: Observation) -> list[Condition]:
    """Return whether the metastore's log is received, if it is to be. It is no part of Ready either."""
    found = archive_state(cluster, observed.objects, observed.pods)
    if found is None:
        return []
    reason, message = found
    return [condition("Archiving", met=reason == "Archiving", reason=reason, message=message)]


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


_OF_THE_DOCUMENT = frozenset({"Paused", "SpecWarnings", "TemplatesUsable"})


def refused(
    previous: Mapping[str, Any], failure: Reason, now: str, generation: int, extra: Sequence[Condition] = ()
) -> dict[str, Any]:
    """Return the status of a cluster whose spec cannot be used; `failure` says why.

    What was said of an earlier document, that it had warnings or was paused, is only said again if `extra` does.
    """
    found = [
        condition("Ready", met=False, reason=failure.reason, message=failure.message),
        *progress("", Observation({}, failure=failure)),
        *extra,
    ]
    over = _OF_THE_DOCUMENT - {each["type"] for each in extra}
    lasting = [each for each in previous.get("conditions") or () if each["type"] not in over]
    return _outcome_only({**previous, "conditions": lasting}, "Failed", found, now, generation)


def pending(previous: Mapping[str, Any], now: str, generation: int) -> dict[str, Any]:
    """Return the status of a cluster that has just been seen for the first time."""
    return _on_its_way("Pending", "The operator has seen the cluster", previous, now, generation)


def recovering(
    previous: Mapping[str, Any], waiting: Reason, now: str, generation: int, extra: Sequence[Condition] = ()
) -> dict[str, Any]:
    """Return the status of a new cluster that is being made from a backup, and has no workloads yet."""
    found = [
        condition("Ready", met=False, reason=waiting.reason, message=waiting.message),
        *progress("", Observation({}, waiting=waiting)),
        *extra,
    ]
    return _outcome_only(previous, "Creating", found, now, generation)


def deleting(previous: Mapping[str, Any], now: str, generation: int, failure: Reason | None = None) -> dict[str, Any]:
    """Return the status of a cluster that is being deleted; `failure` is what keeps it from going."""
    held = f", which fails: {failure.message}" if failure else ""
    return _on_its_way("Deleting", f"The cluster is being deleted{held}", previous, now, generation)


def _on_its_way(phase: str, message: str, previous: Mapping[str, Any], now: str, generation: int) -> dict[str, Any]:
    found = [
        condition("Ready", met=False, reason=phase, message=message),
        *progress("", Observation({}, waiting=Reason(phase, message))),
    ]
    return _outcome_only(previous, phase, found, now, generation)


def _outcome_only(
    previous: Mapping[str, Any], phase: str, found: Sequence[Condition], now: str, generation: int
) -> dict[str, Any]:
    """Return the status of a cluster of which only a phase and some conditions can be said.

    What was known before of its pods and its other conditions stays: a spec that cannot be used changes nothing there.
    """
    types = {each["type"] for each in found}
    kept = [each for each in previous.get("conditions") or () if each["type"] not in types]
    fresh = merge_conditions(previous.get("conditions") or (), found, now, generation)
    status = {**previous, "phase": phase, "observedGeneration": generation, "conditions": [*fresh, *kept]}
    return stamped({key: value for key, value in status.items() if key != "lastUpdated"}, previous, now)
