"""When two spellings are one value: what the API server does to a value between taking and showing it.

It respells quantities, leaves out zeroes, and fills in defaults. Fields that it adds beside ours are nobody's business,
but inside a value that we own whole (an atomic list, say) they stand in the middle of ours. Only the additions in
`_ADDED` are forgiven there: anything else that we did not ask for is something that we no longer want.
`ownership` and `changes` compare with this.
"""

from __future__ import annotations

from typing import Any

from chronik.quantity import QuantityError, parse_quantity

Place = tuple[str, str]
"""Where a value stands: the name of the enclosing field, and its own; list items bear their list's name."""

_QUANTITY_MAPS = frozenset({"requests", "limits", "overhead", "capacity"})
_QUANTITIES = frozenset(
    {
        ("emptyDir", "sizeLimit"),
        ("resourceFieldRef", "divisor"),
        ("scaleDown", "tolerance"),
        ("scaleUp", "tolerance"),
        ("target", "averageValue"),
        ("target", "value"),
    }
)
_ADDED: dict[Place, Any] = {
    ("fieldRef", "apiVersion"): "v1",
    ("ports", "protocol"): "TCP",
    ("resourceFieldRef", "divisor"): "0",
    ("roleRef", "apiGroup"): "rbac.authorization.k8s.io",
    ("serviceAccountToken", "expirationSeconds"): 3600,
    ("spec", "volumeMode"): "Filesystem",
    ("subjects", "apiGroup"): "rbac.authorization.k8s.io",
    ("volumeClaimTemplates", "apiVersion"): "v1",
    ("volumeClaimTemplates", "kind"): "PersistentVolumeClaim",
    ("volumeClaimTemplates", "status"): {"phase": "Pending"},
}
"""What the server adds inside atomic values; tests/test_plan_real.py finds out when it learns another."""
_TELLING = frozenset({"labelSelector", "namespaceSelector", "tolerationSeconds"})
"""Fields that say one thing when they are empty or zero, and another when they are not there."""
_FILLED: dict[Place, Any] = {
    ("spec", "metrics"): [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    ],
}
"""What the server puts where an empty list was applied."""


def same(want: Any, live: Any, place: Place) -> bool:
    """Tell whether the server shows `live` where `want` was applied; both are owned whole."""
    if want == live:
        return True
    if live is None and place[1] in _TELLING:
        return False
    if isinstance(want, dict):
        return _same_maps(want, {} if live is None else live, place[1])
    if isinstance(want, list):
        return _same_lists(want, [] if live is None else live, place)
    return _same_scalars(want, live, place)


def holds(live: Any, want: Any, place: Place) -> bool:
    """Tell whether everything of `want` is in `live`, whatever else is there: would an apply change any value?

    Lists of objects may hold more items, in any order; lists of scalars are compared as they are.
    """
    if isinstance(want, dict):
        present = live if isinstance(live, dict) else {}
        return all(holds(present.get(key), value, (place[1], key)) for key, value in want.items())
    if isinstance(want, list) and any(isinstance(item, dict) for item in want):
        items = live if isinstance(live, list) else []
        return all(any(holds(item, value, place) for item in items) for value in want)
    return same(want, live, place)


def is_addition(value: Any, place: Place) -> bool:
    """Tell whether a value that nobody asked for, inside one that is owned whole, is the server's own doing."""
    return (not value and place[1] not in _TELLING) or _ADDED.get(place) == value


def is_quantity_place(place: Place) -> bool:
    """Tell whether values in a place are quantities: there, and only there, `1` and `1000m` are one value."""
    return place[0] in _QUANTITY_MAPS or place in _QUANTITIES


def _same_maps(want: dict[str, Any], live: Any, name: str) -> bool:
    return (
        isinstance(live, dict)
        and all(same(value, live.get(key), (name, key)) for key, value in want.items())
        and all(key in want or is_addition(value, (name, key)) for key, value in live.items())
    )


def _same_lists(want: list[Any], live: Any, place: Place) -> bool:
    if not want and live == _FILLED.get(place):
        return True
    return (
        isinstance(live, list)
        and len(want) == len(live)
        and all(same(ours, theirs, place) for ours, theirs in zip(want, live, strict=True))
    )


def _same_scalars(want: Any, live: Any, place: Place) -> bool:
    if live is None:  # the server leaves out most zeroes, so what is owned and zero may be nowhere to be seen
        return not want
    if is_quantity_place(place) and not isinstance(live, dict | list):
        try:
            return parse_quantity(str(want)) == parse_quantity(str(live))
        except QuantityError:
            return False
    return False
