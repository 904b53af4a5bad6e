"""What a member's ChronikCluster says of itself, as far as a federation goes by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS
from chronik.federation.document import FEDERATION_MANAGER, of_federation, revision_of
from chronik.plan.drift import applied_fields
from chronik.status.compute import DEADLINE_EXCEEDED, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest

    Runs = Mapping[str, Any]

UNREACHABLE = frozenset(
    {
        *("ApiServerUnreachable", "ApiServerBusy", "ApiServerFailure", "UntrustedServer", "Unauthorized"),
        *("InvalidKubeconfig", "NotFound"),  # what is not found is the Secret
    }
)
"""The reasons of a member whose API server cannot be asked; with any other it has answered, and said no."""
_NOT_YET = Reason("NotLookedAt", "the hub has not looked at it yet")
_COUNT_FIELDS = frozenset(each.count_field for each in COMPONENTS.values())
_LONGEST_VERSION = 64
_TAKEN_BACK = frozenset({"Halted", "Aborting", "Aborted"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last look at a member found; `blocked` is why it found nothing, or why nothing could be sent.

    `looked` is False before the first look has ended. `failure` is why the member's own operator does not get it Ready.
    """

    looked: bool = True
    blocked: Reason | None = None
    exists: bool = False
    ours: bool = False
    """Whether it still bears our annotations, or our manager owns any of it."""
    revision: str = ""
    generation: int = 0
    ready: bool = False
    waits: str = ""
    failure: Reason | None = None
    runs: Runs = field(default_factory=dict)
    """What runs there, in the words of a status."""

    @property
    def reachable(self) -> bool:
        """Whether its API server answered."""
        return self.looked and (self.blocked is None or self.blocked.reason not in UNREACHABLE)

    @property
    def is_known(self) -> bool:
        """Whether a look has found its ChronikCluster, or that there is none."""
        return self.exists or (self.looked and self.blocked is None)


RUNS = ("version", "readyReplicas", "replicas", "images")
"""What a federation's status has of what runs at a member."""
NOT_LOOKED = Seen(looked=False, blocked=_NOT_YET)


def see(live: Manifest | None, federation: str, blocked: Reason | None = None) -> Seen:
    """Return what a member's ChronikCluster says, if there is one; `federation` is `namespace/name` of the hub's."""
    if live is None:
        return Seen(blocked=blocked)
    status = live.get("status") or {}
    generation = int(live["metadata"].get("generation", 0))
    current = status.get("observedGeneration") == generation
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    return Seen(
        blocked=blocked,
        exists=True,
        ours=is_ours(live, federation),
        revision=revision_of(live),
        generation=generation,
        ready=current and status.get("phase") == "Running" and ready.get("status") == "True",
        waits=_waits(status, ready, current=current),
        failure=_failure(status, conditions) if _is_about(ready, generation) else None,
        runs=_runs(status, live.get("spec") or {}),
    )


def _runs(status: Mapping[str, Any], spec: Mapping[str, Any]) -> Runs:
    """Return what runs at a member, as its operator tells: chronik's version, pods that are ready, and their images.

    One of an earlier version does not tell how many pods there should be; then the spec does. What is no component's is
    left out: the hub's API server would refuse it.
    """
    ready = _of_components(status.get("readyReplicas"))
    wanted = _of_components(status.get("replicas")) or {name: spec.get(name) or ready[name] for name in ready}
    found = {
        "version": str(status.get("operatorVersion") or "")[:_LONGEST_VERSION],
        "readyReplicas": {name: count for name, count in ready.items() if name in wanted},
        "replicas": wanted,
        "images": _of_components(status.get("images")),
    }
    return {name: value for name, value in found.items() if value}


def _of_components(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (found or {}).items() if name in _COUNT_FIELDS}


def is_ours(live: Manifest, federation: str) -> bool:
    """Return whether a ChronikCluster is a federation's: by its annotation, or else since the hub's manager owns some.

    A person may have taken the annotation away.
    """
    named = of_federation(live)
    return named == federation if named else applied_fields(live, FEDERATION_MANAGER) is not None


def _is_about(ready: Mapping[str, Any], generation: int) -> bool:
    return int(ready.get("observedGeneration") or 0) >= generation


def _waits(status: Mapping[str, Any], ready: Mapping[str, Any], *, current: bool) -> str:
    """Return what a member waits for, in its operator's words."""
    if not status:
        return "no operator has taken it up there yet"
    if not current:
        return "its operator has not taken up the change yet"
    return "" if ready.get("status") == "True" else str(ready.get("message") or "")


def _failure(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> Reason | None:
    """Return why a member will not be Ready by itself, if it will not."""
    stalled, progressing = conditions.get("Stalled") or {}, conditions.get("Progressing") or {}
    if stalled.get("status") == "True":
        return Reason(str(stalled["reason"]), str(stalled["message"]))
    if progressing.get("reason") == DEADLINE_EXCEEDED:
        return Reason(DEADLINE_EXCEEDED, str(progressing.get("message") or ""))
    rollout = status.get("rollout") or {}
    if rollout.get("phase") in _TAKEN_BACK:
        return Reason(f"Rollout{rollout['phase']}", str(rollout.get("message") or "its canary did not go through"))
    return None
