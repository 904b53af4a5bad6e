"""Say how an object is doing, from the object alone: a pure function per kind, as kstatus has them.

Rules: sigs.k8s.io/cli-utils, pkg/kstatus/status. On top of them, what kstatus lacks: a StatefulSet is failed when its
pods say why they cannot run, in the pods' own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from chronik.plan.actions import ROLLOUT_MANAGER
from chronik.plan.drift import applied_fields
from chronik.status.creation import replica_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronik.manifest import Manifest


class State(Enum):
    """How far an object is on its way to what its spec asks for."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True)
class Health:
    """The state of an object, and what it waits for or fails on."""

    state: State
    message: str = ""

    @property
    def ready(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.state is State.CURRENT


_CURRENT = Health(State.CURRENT)
NEVER_AVAILABLE = 2_000_000_000
"""Seconds, of the `minReadySeconds` of a Deployment of which new pods stand beside the old ones, so that none goes."""


def health(manifest: Manifest, pods: Iterable[Manifest] = ()) -> Health:
    """Return the health of a live object; `pods` are those that it owns, for a workload."""
    if manifest["metadata"].get("deletionTimestamp"):
        return Health(State.TERMINATING, "is being deleted")
    status = manifest.get("status") or {}
    if not isinstance(status, dict):  # as a custom resource may have it
        return _CURRENT
    observed = status.get("observedGeneration")
    generation = manifest["metadata"].get("generation")
    if isinstance(observed, int) and generation is not None and observed < generation:
        return _waiting("its controller has not seen the newest spec yet")
    found = _RULES.get(manifest["kind"], _by_conditions)(manifest, status)
    if found.state is not State.IN_PROGRESS:
        return found
    trouble = [text for pod in pods if not _replaced(manifest, pod) and (text := pod_trouble(pod))]
    return Health(State.FAILED, _told(trouble)) if trouble else found


def _replaced(manifest: Manifest, pod: Manifest) -> bool:
    """Return whether another pod stands in for this one: a ReplicaSet keeps pods that ended, a StatefulSet does not."""
    return manifest["kind"] == "Deployment" and (pod.get("status") or {}).get("phase") == "Failed"


_TROUBLES_TOLD = 3


def _told(trouble: list[str]) -> str:
    """Tell a few troubles; pods that have the same one are named together."""
    names: dict[str, list[str]] = {}
    for text in trouble:
        name, _, words = text.partition(": ")
        names.setdefault(words, []).append(name)
    told = [f"{', '.join(_some(who))}: {words}" for words, who in names.items()]
    return "; ".join(_some(told))


def _some(texts: list[str]) -> list[str]:
    more = len(texts) - _TROUBLES_TOLD
    return [*texts[:_TROUBLES_TOLD], *([f"and {more} more"] if more > 0 else [])]


def pod_trouble(pod: Manifest) -> str | None:
    """Return why a pod cannot run, in its own words, or None if nothing is wrong or it only starts or ends."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return None
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = condition.get("reason", "Unschedulable")
            return None if reason == "SchedulingGated" else _words(name, reason, condition.get("message"))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return _words(name, waiting["reason"], waiting.get("message")) + _last_exit(container)
    if status.get("phase") == "Failed":
        return _words(name, status.get("reason", "Failed"), status.get("message"))
    return None


def init_wait(pod: Manifest) -> str:
    """Return which init container a pod waits for, and how far that is; empty if for none."""
    for each in (pod.get("status") or {}).get("initContainerStatuses") or ():
        state = each.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if (ended and ended.get("exitCode") == 0) or (each.get("started") and each.get("ready")):
            continue  # it has done its work, or is a sidecar that has started
        name = f"init container {each['name']}"
        if ended:
            return f"{name} failed: {ended.get('reason', 'Error')}, code {ended.get('exitCode')}"
        if "running" in state:
            return f"{name} is still running, and its log says what it waits for{_last_exit(each)}"
        if waiting.get("reason", "PodInitializing") != "PodInitializing":
            return _words(f"{name} waits", waiting["reason"], waiting.get("message")) + _last_exit(each)
        return f"{name} has not started yet"
    return ""


def _words(*parts: str | None) -> str:
    return ": ".join(filter(None, parts))


_STUCK = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)


def _last_exit(container: dict[str, Any]) -> str:
    ended = (container.get("lastState") or {}).get("terminated")
    return f" (last exit: {ended.get('reason', 'Error')}, code {ended.get('exitCode')})" if ended else ""


def pod_ready(pod: Manifest) -> bool:
    """Return whether a pod is ready and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def is_rolling(workload: Manifest) -> bool:
    """Return whether a workload is still on its way to the pods that its spec asks for, ready or not."""
    status, count = workload.get("status") or {}, workload["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0)
        or status.get("updatedReplicas", 0) != count
        or status.get("replicas", 0) != count
        or status.get("currentRevision") != status.get("updateRevision")
    )


def ready_pods(workload: Manifest, wanted: int) -> int:
    """Return how many pods of a workload are ready; those that a canary has on top of a Deployment's do not count."""
    ready: int = (workload.get("status") or {}).get("readyReplicas", 0)
    return min(ready, wanted) if workload["kind"] == "Deployment" and _is_held(workload) else ready


def _is_held(deployment: Manifest) -> bool:
    """Return whether a Deployment is held in the middle of a canary, by an operator or by hand."""
    by_hand = deployment["spec"].get("minReadySeconds") == NEVER_AVAILABLE
    return by_hand or applied_fields(deployment, ROLLOUT_MANAGER) is not None


def _waiting(message: str) -> Health:
    return Health(State.IN_PROGRESS, message)


def _stateful_set(manifest: Manifest, status: dict[str, Any]) -> Health:
    spec = manifest["spec"]
    wanted = spec.get("replicas", 1)
    if "observedGeneration" not in status:
        return _waiting("its controller has not seen it yet")
    existing, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    if existing < wanted:
        told, failure = f"{existing} of {wanted} pods exist", replica_failure(manifest)
        return Health(State.FAILED, f"{told}: {failure}") if failure else _waiting(told)
    if existing > wanted:
        return _waiting(f"{existing - wanted} more than wanted, on the way out")
    strategy = spec.get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
    updated = status.get("updatedReplicas", 0)
    rolls = strategy.get("type") != "OnDelete" or applied_fields(manifest, ROLLOUT_MANAGER) is not None
    if rolls and updated < wanted - partition:
        return _waiting(f"{updated} of {wanted - partition} pods run the newest revision")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} pods ready")
    if rolls and not partition and status.get("currentRevision") != status.get("updateRevision"):
        return _waiting("the roll-out is not finished")
    return _CURRENT


def _deployment(manifest: Manifest, status: dict[str, Any]) -> Health:
    wanted = manifest["spec"].get("replicas", 1)
    if "observedGeneration" not in status:
        return _waiting("its controller has not seen it yet")
    if _is_held(manifest):  # new pods stand beside the old ones, and none goes
        failure, ready = replica_failure(manifest), status.get("readyReplicas", 0)
        if failure:
            return Health(State.FAILED, failure)
        return _CURRENT if ready >= wanted else _waiting(f"{ready} of {wanted} pods ready")
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Health(State.FAILED, condition.get("message", "the roll-out missed its deadline"))
    failure = replica_failure(manifest)
    if failure:
        return Health(State.FAILED, failure)
    updated, existing = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if updated < wanted:
        return _waiting(f"{updated} of {wanted} pods run the newest revision")
    if existing > updated:
        return _waiting(f"{existing - updated} of an older revision, on the way out")
    if existing > wanted:
        return _waiting(f"{existing - wanted} more than wanted, on the way out")
    available = status.get("availableReplicas", 0)
    return _CURRENT if available >= wanted else _waiting(f"{available} of {wanted} pods available")


def _service(manifest: Manifest, status: dict[str, Any]) -> Health:
    if manifest["spec"].get("type") != "LoadBalancer" or (status.get("loadBalancer") or {}).get("ingress"):
        return _CURRENT
    return _waiting("the load balancer has no address yet")


def _claim(manifest: Manifest, status: dict[str, Any]) -> Health:
    del manifest
    if status.get("phase") == "Lost":
        return Health(State.FAILED, "the claim has lost its volume")
    return _CURRENT if status.get("phase") == "Bound" else _waiting("the claim is not bound to a volume")


def _observed(manifest: Manifest, status: dict[str, Any]) -> Health:
    del manifest
    return _CURRENT if "observedGeneration" in status else _waiting("its controller has not seen it yet")


def _daemon_set(manifest: Manifest, status: dict[str, Any]) -> Health:
    del manifest
    if "observedGeneration" not in status:
        return _waiting("its controller has not seen it yet")
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    updated = status.get("updatedNumberScheduled", 0)
    if updated < wanted:
        return _waiting(f"{updated} of {wanted} pods run the newest revision")
    return _CURRENT if ready >= wanted else _waiting(f"{ready} of {wanted} pods available")


def _job(manifest: Manifest, status: dict[str, Any]) -> Health:
    del manifest
    for each in _true_conditions(status):
        if each["type"] == "Failed":
            return Health(State.FAILED, _words("it failed", each.get("reason"), each.get("message")))
        if each["type"] in {"Complete", "Suspended"}:
            return _CURRENT
    return _waiting("it has not completed yet")


def _by_conditions(manifest: Manifest, status: dict[str, Any]) -> Health:
    """Return the health that an object's conditions tell, as most controllers write them; without any it is current."""
    del manifest
    for each in _true_conditions(status):
        if each["type"] == "Stalled":
            return Health(State.FAILED, _words(each.get("reason", "Stalled"), each.get("message")))
        if each["type"] == "Reconciling":
            return _waiting(_words(each.get("reason", "Reconciling"), each.get("message")))
    conditions = status.get("conditions")
    for each in conditions if isinstance(conditions, list) else ():
        if isinstance(each, dict) and each.get("type") == "Ready" and each.get("status") in {"False", "Unknown"}:
            return _waiting(_words(each.get("reason") or "not ready", each.get("message")))
    return _CURRENT


def _true_conditions(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions that are true; in a status of any shape, those that are conditions."""
    found = status.get("conditions")
    conditions = found if isinstance(found, list) else []
    return [each for each in conditions if isinstance(each, dict) and each.get("status") == "True" and "type" in each]


_RULES: dict[str, Callable[[Manifest, dict[str, Any]], Health]] = {
    "StatefulSet": _stateful_set,
    "Deployment": _deployment,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
    "PodDisruptionBudget": _observed,
    "HorizontalPodAutoscaler": lambda _manifest, _status: _CURRENT,  # which is ready as soon as it is there
    "DaemonSet": _daemon_set,
    "Job": _job,
}
