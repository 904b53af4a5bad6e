"""What an apply would change, read from the ownership that the API server recorded.

The server writes down which fields each manager set (`metadata.managedFields`), with its own schema at hand. Walking
our entry beside the wanted and the live object therefore finds every difference, without a schema and without a
request: nothing found means that an apply would change nothing, so none is sent. The server spells some values in its
own way, which is no difference. What this relies on is checked on a real kube-apiserver by
tests/plan/test_planner_real.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chronik.manifest import FIELD_MANAGER
from chronik.plan.managed_fields import (
    FieldPath,
    FieldPlace,
    Fields,
    extracted,
    is_atomic_map,
    item_field,
    key_names,
    keyed,
    leaves,
    list_keys,
    managed_entries,
    node_at,
    owned_key,
    place_of,
    tracked,
)
from chronik.quantity import QuantityError, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chronik.manifest import Manifest

_NONE_OF_IT: Fields = {".": {}}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that an apply would change.

    missing: wanted, but not ours, so another manager changed it or it was never applied. extra: ours, but no longer
    wanted. differs: ours and wanted, with another value. order: the items of a list are all ours, in another order;
    both sides then hold the items' keys. foreign: somebody else's, in what has to be ours whole; a patch removes it.
    """

    path: FieldPath
    kind: Literal["missing", "extra", "differs", "order", "foreign"]
    desired: Any
    live: Any


def applied_fields(live: Manifest, manager: str = FIELD_MANAGER) -> Fields | None:
    """Return what a field manager applied to an object itself (not to its status), or None if it never did."""
    for entry in live["metadata"].get("managedFields") or ():
        if entry["manager"] == manager and entry["operation"] == "Apply" and not entry.get("subresource"):
            fields: Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def drift(desired: Manifest, live: Manifest) -> list[Difference]:
    """Return everything in which an object is not as it is wanted: nothing, if nothing has to be sent."""
    foreign = dict(foreign_fields(desired, live))
    differences = walk(desired, live, applied_fields(live) or {})
    return [
        *(each for each in differences if each.path not in foreign),
        *(Difference(path, "foreign", None, value) for path, value in foreign.items()),
    ]


def walk(desired: Manifest, live: Manifest, fields: Fields) -> list[Difference]:
    """Return what an apply of `desired` would change, `fields` being what the applying manager owns of `live`."""
    found = _Walk(live, fields)
    owned = fields if "f:metadata" in fields else {**fields, "f:metadata": _NONE_OF_IT}
    found.compare_map(tracked(desired), live, owned, (), "")
    return found.differences


def foreign_fields(desired: Manifest, live: Manifest) -> Iterator[tuple[FieldPath, Any]]:
    """Yield what nobody wants in a map that has to be ours whole, with its value, if no apply of ours removes it.

    Each key of a ConfigMap is a file that pods read as configuration, so all of its keys are ours if any is.
    """
    if live["kind"] != "ConfigMap" or not any(desired.get(field) for field in _CONFIGURATION):
        return
    ours = applied_fields(live) or {}
    others = [tree for entry in managed_entries(live) if (tree := entry.get("fieldsV1") or {}) is not ours]
    for field in _CONFIGURATION:
        wanted = desired.get(field) or {}
        for key, value in (live.get(field) or {}).items():
            path = ("f:" + field, "f:" + key)
            if key in wanted:
                continue
            if node_at(ours, path) is None or any(node_at(tree, path) is not None for tree in others):
                yield path, value


_CONFIGURATION = ("data", "binaryData")


class _Walk:
    """One walk; paths are only spelt out for containers, as most objects differ nowhere."""

    __slots__ = ("_fields", "_foreign", "_live", "differences")

    def __init__(self, live: Manifest, fields: Fields) -> None:
        self.differences: list[Difference] = []
        self._live = live
        self._fields = fields
        self._foreign: list[Fields] | None = None

    def compare_map(self, want: Mapping[str, Any], live: Any, owned: Fields, path: FieldPath, name: str) -> None:
        values = live if isinstance(live, dict) else {}
        matched = 0
        for key, value in want.items():
            field = "f:" + key
            node = owned.get(field)
            if node is None:
                self._not_owned(value, values.get(key), (*path, field))
                continue
            matched += 1
            if node or value != values.get(key) or (isinstance(value, dict) and self._others()):
                self._owned(value, values.get(key), node, (*path, field), (name, key))
        if matched + ("." in owned) != len(owned):
            for field in owned:
                if field != "." and field[2:] not in want:
                    self._note((*path, field), "extra", None, values.get(field[2:]))

    def _note(
        self, path: FieldPath, kind: Literal["missing", "extra", "differs", "order"], desired: Any, live: Any
    ) -> None:
        self.differences.append(Difference(path, kind, desired, live))

    def _owned(self, want: Any, live: Any, owned: Fields, path: FieldPath, place: tuple[str, str]) -> None:
        if not owned:
            self._whole(want, live, path, place)
        elif isinstance(want, dict):
            self.compare_map(want, live, owned, path, place[1])
        elif isinstance(want, list):
            self._list(want, live, owned, path, place[1])
        else:
            self._note(path, "differs", want, live)

    def _whole(self, want: Any, live: Any, path: FieldPath, place: tuple[str, str]) -> None:
        """Compare what is owned whole.

        A map that was empty when we applied it looks like an atomic one. So an empty one wants nothing of what is in
        there by now, unless it is a selector; and where others own single fields of it, it is no atomic one, and what
        we want in it now is not ours yet.
        """
        open_map = want == {} and not place[1].endswith("elector")  # other atomic maps are never empty
        if want != live and not open_map and not same(want, live, place):
            self._note(path, "differs", want, live)
        elif want and isinstance(want, dict) and any(node_at(fields, path) for fields in self._others()):
            self._note(path, "missing", want, live)

    def _not_owned(self, want: Any, live: Any, path: FieldPath) -> None:
        """Note what is missing, except empty lists: of a list with keys the server records only the items.

        An atomic list is recorded even if it is empty. Without a schema the two look alike, until another manager owns
        the list as a whole.
        """
        if _is_recorded(want) or any(node_at(fields, path) == {} for fields in self._others()):
            self._note(path, "missing", want, live)

    def _list(self, want: list[Any], live: Any, owned: Fields, path: FieldPath, name: str) -> None:
        names = key_names(owned)
        wanted = keyed(want, names)
        present = keyed(live if isinstance(live, list) else (), names)
        ours = {owned_key(field): field for field in owned if field != "."}
        for key, item in wanted.items():
            field = ours.get(key)
            if field is None:
                self._note((*path, item_field(key, names)), "missing", item, present.get(key))
            else:
                self._owned(item, present.get(key), owned[field], (*path, field), ("", name))
        for key, field in ours.items():
            if key not in wanted:
                self._note((*path, field), "extra", None, present.get(key))
        if list(wanted) != list(present) and wanted.keys() == ours.keys():
            self._order(wanted, present, names, path)

    def _order(
        self, wanted: Mapping[Any, Any], present: Mapping[Any, Any], names: tuple[str, ...], path: FieldPath
    ) -> None:
        """Compare the order of our items in both: an apply restores it, and among env or initContainers it matters."""
        want, live = _common(wanted, present)
        if want != live:
            self.differences.append(_other_order(path, want, live, names))

    def _others(self) -> list[Fields]:
        if self._foreign is None:
            entries = managed_entries(self._live)
            trees = [entry.get("fieldsV1") or {} for entry in entries if entry.get("subresource") != "status"]
            self._foreign = [tree for tree in trees if tree is not self._fields]
        return self._foreign


def _is_recorded(value: Any) -> bool:
    """Return whether the server records a manager for this value."""
    if isinstance(value, dict):
        return not value or any(_is_recorded(part) for part in value.values())
    return not (isinstance(value, list) and not value)


def _common(wanted: Mapping[Any, Any], present: Mapping[Any, Any]) -> tuple[list[Any], list[Any]]:
    """Return the keys of items that are on both sides, in the order of either."""
    return [key for key in wanted if key in present], [key for key in present if key in wanted]


def _other_order(path: FieldPath, want: Iterable[Any], live: Iterable[Any], names: tuple[str, ...]) -> Difference:
    spelt = [[item_field(key, names) for key in side] for side in (want, live)]
    return Difference(path, "order", *spelt)


def split(differences: Iterable[Difference]) -> Iterator[Difference]:
    """Yield differences, with what is missing split field by field as far as the server tells fields apart.

    Of an object of which our manager owns nothing, all of `spec` is one thing that is missing. What an apply does to it
    is decided by its fields: some never change, some make pods restart, and most are as they should be already.
    """
    for each in differences:
        if each.kind == "missing":
            yield from _missing(each.path, each.desired, each.live)
        else:
            yield each


def _missing(path: FieldPath, want: Any, live: Any) -> Iterator[Difference]:
    place = place_of(path)
    names = list_keys(place)
    if not want or not live or type(want) is not type(live):
        yield Difference(path, "missing", want, live)
    elif isinstance(want, dict) and not is_atomic_map(place):
        for key, value in want.items():
            yield from _missing((*path, "f:" + key), value, live.get(key))
    elif isinstance(want, list) and names is not None:
        wanted, present = keyed(want, names), keyed(live, names)
        for key, item in wanted.items():
            yield from _missing((*path, item_field(key, names)), item, present.get(key))
        ours, theirs = _common(wanted, present)
        if ours != theirs:
            yield _other_order(path, ours, theirs, names)
    else:
        yield Difference(path, "missing", want, live)


def alters(difference: Difference, live: Manifest, fields: Fields) -> bool:
    """Return whether an apply would change a value here, not only who owns it; `fields` is what its manager owns."""
    if difference.kind == "missing":
        return not holds(difference.live, difference.desired, place_of(difference.path))
    if difference.kind != "extra":
        return True
    if difference.live is None:
        return False
    entries = managed_entries(live)
    others = [entry.get("fieldsV1") or {} for entry in entries if entry.get("fieldsV1") is not fields]
    ours = (difference.path + leaf for leaf in leaves(node_at(fields, difference.path) or {}))
    return any(all(node_at(tree, leaf) is None for tree in others) for leaf in ours)


def restarting(parts: Iterable[Difference], live: Manifest, fields: Fields) -> list[Difference]:
    """Return the differences of a workload's pod template that would restart its pods."""
    return [each for each in parts if each.path[:2] == _TEMPLATE and alters(each, live, fields)]


_TEMPLATE: FieldPath = ("f:spec", "f:template")


def as_applied(desired: Manifest, live: Manifest) -> Manifest | None:
    """Return a workload with the pod template that was applied last; None if nobody has recorded which that was."""
    template = extracted(live, {"f:spec": _only_template(applied_fields(live) or {})}).get("spec", {}).get("template")
    return desired | {"spec": desired["spec"] | {"template": template}} if template else None


def _only_template(fields: Fields) -> Fields:
    spec = fields.get("f:spec", {})
    return {"f:template": spec["f:template"]} if "f:template" in spec else {}


# --- two spellings of one value ---------------------------------------------------------------------------------------

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
_ADDED: dict[FieldPlace, Any] = {
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
"""What the server adds inside atomic values; tests/plan/test_planner_real.py finds out when it learns another."""
_TELLING = frozenset({"labelSelector", "namespaceSelector", "tolerationSeconds"})
"""Fields that say one thing when they are empty or zero, and another when they are not there."""
_FREE_MAPS = frozenset(
    {"annotations", "binaryData", "data", "labels", "limits", "nodeSelector", "requests", "stringData"}
)
"""Maps whose keys count, whatever stands beside them: an empty value is not the same as none."""
_ALLOCATED = frozenset(
    {("ports", "nodePort"), ("spec", "clusterIP"), ("spec", "clusterIPs"), ("spec", "healthCheckNodePort")}
)
"""Fields of a Service that are as the server has picked them if nothing is asked for."""
_FILLED: dict[FieldPlace, Any] = {
    ("spec", "metrics"): [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    ],
}
"""What the server puts where an empty list was applied."""


def same(want: Any, live: Any, place: FieldPlace) -> bool:
    """Return whether the server shows `live` where `want` was applied; both are owned whole."""
    if want == live or (not want and place in _ALLOCATED):
        return True
    if live is None and (place[1] in _TELLING or place[0] in _FREE_MAPS):
        return False
    if isinstance(want, dict):
        return _same_maps(want, {} if live is None else live, place[1])
    if isinstance(want, list):
        return _same_lists(want, [] if live is None else live, place)
    return _same_scalars(want, live, place)


def holds(live: Any, want: Any, place: FieldPlace) -> bool:
    """Return whether everything of `want` is in `live`, whatever else is there: would an apply change any value?

    Maps may have more keys and lists more items than are wanted, unless they are owned whole.
    """
    if isinstance(want, dict) and not is_atomic_map(place):
        present = live if isinstance(live, dict) else {}
        return all(holds(present.get(key), value, (place[1], key)) for key, value in want.items())
    names = list_keys(place) if isinstance(want, list) else None
    if names is None:
        return same(want, live, place)
    wanted, there = keyed(want, names), keyed(live if isinstance(live, list) else (), names)
    ours, theirs = _common(wanted, there)
    return len(ours) == len(wanted) and ours == theirs and all(holds(there[key], wanted[key], place) for key in ours)


def is_addition(value: Any, place: FieldPlace) -> bool:
    """Return whether a value that was not asked for, inside one that is owned whole, is the server's own doing."""
    return (not value and place[1] not in _TELLING) or _ADDED.get(place) == value


def is_quantity_place(place: FieldPlace) -> bool:
    """Return whether values in a place are quantities: there, and only there, `1` and `1000m` are one value."""
    return place[0] in _QUANTITY_MAPS or place in _QUANTITIES


def _same_maps(want: dict[str, Any], live: Any, name: str) -> bool:
    return (
        isinstance(live, dict)
        and all(same(value, live.get(key), (name, key)) for key, value in want.items())
        and all(key in want or is_addition(value, (name, key)) for key, value in live.items())
    )


def _same_lists(want: list[Any], live: Any, place: FieldPlace) -> bool:
    if not want and live == _FILLED.get(place):
        return True
    return (
        isinstance(live, list)
        and len(want) == len(live)
        and all(same(ours, theirs, place) for ours, theirs in zip(want, live, strict=True))
    )


def _same_scalars(want: Any, live: Any, place: FieldPlace) -> bool:
    if live is None:  # the server leaves out most zeroes, so what is owned and zero may be nowhere to be seen
        return not want
    if is_quantity_place(place) and not isinstance(live, dict | list):
        try:
            return parse_quantity(str(want)) == parse_quantity(str(live))
        except QuantityError:
            return False
    return False
