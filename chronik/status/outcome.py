"""The status of a cluster of which only a phase can be said: new, on its way out, or with a spec of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.status.compute import Observation, Reason, condition, merge_conditions, progress, stamped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.status.compute import Condition

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
