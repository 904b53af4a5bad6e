"""The statuses of a cluster that was not looked at: just seen, refused for its spec, or on its way out.

What was known of its pods and its other conditions stays as it is. `reconcile_cluster` writes these, `status` the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.status.compute import Observation, condition, merge_conditions, progress, stamped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from chronik.status.compute import Condition, Trouble

_OF_THE_DOCUMENT = frozenset({"Paused", "SpecWarnings"})


def refused(
    previous: Mapping[str, Any], failure: Trouble, now: str, generation: int, extra: Sequence[Condition] = ()
) -> dict[str, Any]:
    """Return the status of a cluster whose spec cannot be used, for a reason and with a message.

    What was said of an earlier document, that it had warnings or was paused, is only said again if `extra` does.
    """
    found = [
        condition("Ready", met=False, reason=failure[0], message=failure[1]),
        *progress("", Observation({}, failure=failure)),
        *extra,
    ]
    over = _OF_THE_DOCUMENT - {each["type"] for each in extra}
    lasting = [each for each in previous.get("conditions") or () if each["type"] not in over]
    return _outcome_only({**previous, "conditions": lasting}, "Failed", found, now, generation)


def pending(previous: Mapping[str, Any], now: str, generation: int) -> dict[str, Any]:
    """Return the status of a cluster that has just been seen for the first time."""
    return _on_its_way("Pending", "The operator has seen the cluster", previous, now, generation)


def deleting(previous: Mapping[str, Any], now: str, generation: int, trouble: Trouble | None = None) -> dict[str, Any]:
    """Return the status of a cluster that is being deleted; `trouble` is what keeps it from going."""
    held = f", which fails: {trouble[1]}" if trouble else ""
    return _on_its_way("Deleting", f"The cluster is being deleted{held}", previous, now, generation)


def _on_its_way(phase: str, message: str, previous: Mapping[str, Any], now: str, generation: int) -> dict[str, Any]:
    found = [
        condition("Ready", met=False, reason=phase, message=message),
        *progress("", Observation({}, waiting=(phase, message))),
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
