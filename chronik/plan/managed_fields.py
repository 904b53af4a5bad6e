"""Who owns which fields, as the API server records it: paths and trees of fields in its own spelling, `fieldsV1`.

A tree's keys are `f:` a field, `k:` a list item by its key fields, `v:` a member of a set, `.` the place itself. A key
without children is a value that is owned whole: a scalar, an atomic map or list, or a map that was empty when it was
applied. Source: structured-merge-diff v6, package fieldpath.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chronik.errors import FieldOwner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.manifest import Manifest
    from chronik.problem import Path

# --- paths and trees --------------------------------------------------------------------------------------------------

FieldPath = tuple[str, ...]
"""The way to a field in the server's own keys: `("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}')`."""
Fields = dict[str, Any]
"""A `fieldsV1` tree."""
ItemKey = Any
"""What tells the items of one list apart: the value of the key field, of all of them if several, or of the item."""
FieldPlace = tuple[str, str]
"""Where a value stands: the name of the enclosing field, and its own; list items bear their list's name."""

UNTRACKED = frozenset({"apiVersion", "kind", "status"})
"""What no manager of an object owns: its type, and its status, which belongs to another endpoint."""
UNTRACKED_METADATA = frozenset(
    ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
)
_IN_CONTAINERS = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
}
_LIST_KEYS: dict[FieldPlace, tuple[str, ...]] = {
    ("", "secrets"): ("name",),
    ("metadata", "finalizers"): (),
    ("metadata", "ownerReferences"): ("uid",),
    ("resources", "claims"): ("name",),
    ("spec", "hostAliases"): ("ip",),
    ("spec", "ports"): ("port", "protocol"),
    ("spec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    **{
        ("spec", name): ("name",)
        for name in (
            *("containers", "ephemeralContainers", "imagePullSecrets", "initContainers"),
            *("resourceClaims", "schedulingGates", "volumes"),
        )
    },
    **{
        (name, field): keys
        for name in ("containers", "ephemeralContainers", "initContainers")
        for field, keys in _IN_CONTAINERS.items()
    },
}
_ATOMIC_MAPS = frozenset(
    {
        *("selector", "labelSelector", "podSelector", "nodeSelector", "requiredDuringSchedulingIgnoredDuringExecution"),
        *("configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"),
        *("dataSource", "nodePublishSecretRef", "roleRef", "secretRef"),
        *("imagePullSecrets", "ownerReferences", "secrets"),  # each of their items
    }
)
_KEY_DEFAULTS = {"protocol": "TCP", "name": ""}  # what the server takes for a key field that is not spelt out


def node_at(fields: Fields, path: FieldPath) -> Fields | None:
    """Return the part of a tree at a path: None if nothing there is owned, `{}` if it is owned whole."""
    node: Fields | None = fields
    for key in path:
        if node is None:
            break
        node = node.get(key)
    return node


def leaves(fields: Fields) -> Iterator[FieldPath]:
    """Yield the paths below a tree that are owned; a tree without children is itself one."""
    if not fields:
        yield ()
    for key, node in fields.items():
        if key == ".":
            yield ()
        else:
            yield from ((key, *rest) for rest in leaves(node))


def field_path(path: FieldPath) -> Path:
    """Return a path as people read it: `("spec", "ports", 'port=80,protocol="TCP"', "name")`."""
    return tuple(key[2:] if key[:2] == "f:" else _spelt(key) for key in path)


def server_path(path: FieldPath) -> str:
    """Spell a path as the server does in a conflict: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join("." + key[2:] if key[:2] == "f:" else f"[{_spelt(key)}]" for key in path)


def place_of(path: FieldPath) -> FieldPlace:
    """Return the names of the enclosing field and of the field itself, which say what kind of value it is."""
    names = ["", "", *(key[2:] for key in path if key[:2] == "f:")]
    return names[-2], names[-1]


def list_keys(place: FieldPlace) -> tuple[str, ...] | None:
    """Return the fields that tell the items of a list apart, none for a set; None if the list is owned whole.

    It knows the kinds that chronik renders; a list of any other kind counts as one that is owned whole.
    """
    return _LIST_KEYS.get(place)


def is_atomic_map(place: FieldPlace) -> bool:
    """Return whether a map, of the kinds that chronik renders, is owned whole."""
    return place[1] in _ATOMIC_MAPS


def fields_of(manifest: Manifest) -> Fields:
    """Return the tree that the server records for a manager who sets everything in a manifest."""
    return _tree(tracked(manifest), ("", ""))


def tracked(manifest: Manifest) -> Manifest:
    """Return the part of a manifest that has owners."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in UNTRACKED_METADATA}
    return {key: value for key, value in manifest.items() if key not in UNTRACKED} | {"metadata": metadata}


def _tree(value: Any, place: FieldPlace) -> Fields:
    if isinstance(value, dict) and not is_atomic_map(place):
        parts = {key: (part, (place[1], key)) for key, part in value.items()}
        return {f"f:{key}": _tree(*part) for key, part in parts.items() if not _is_unrecorded(*part)}
    keys = list_keys(place) if isinstance(value, list) else None
    if keys is None:
        return {}
    items = {key: _tree(item, ("", place[1])) for key, item in keyed(value, keys).items()}
    return {item_field(key, keys): {".": {}, **tree} if tree else {} for key, tree in items.items()}


def _is_unrecorded(value: Any, place: FieldPlace) -> bool:
    """Return whether nothing is recorded of a value: of a list with keys only the items are."""
    return value == [] and list_keys(place) is not None


def key_names(owned: Fields) -> tuple[str, ...]:
    """Return the key fields of a list of which some items are owned; none for a set."""
    item = next((field for field in owned if field != "."), "v:null")
    return tuple(_parsed(item)) if item[0] == "k" else ()


def keyed(items: Iterable[Any], names: tuple[str, ...]) -> dict[ItemKey, Any]:
    """Return the items of a list by what tells them apart."""
    if len(names) == 1:  # nearly always, so without a tuple
        name, default = names[0], _KEY_DEFAULTS.get(names[0])
        return {scalar_key(item.get(name, default)) if isinstance(item, dict) else str(item): item for item in items}
    return {_item_key(item, names): item for item in items}


def scalar_key(value: Any) -> ItemKey:
    """Return a value that can be a key: a map or a list, where no API server puts one, as its text."""
    return str(value) if isinstance(value, dict | list) else value


def _item_key(item: Any, names: tuple[str, ...]) -> ItemKey:
    if names and isinstance(item, dict):
        return tuple([scalar_key(item.get(name, _KEY_DEFAULTS.get(name))) for name in names])
    return scalar_key(item)


@lru_cache(maxsize=4096)
def owned_key(field: str) -> ItemKey:
    """Return the same of an owned item, from its key in the tree."""
    value = _parsed(field)
    if isinstance(value, dict):
        return tuple(value.values()) if len(value) > 1 else next(iter(value.values()))
    return value


def item_field(key: ItemKey, names: tuple[str, ...]) -> str:
    """Return an item's key in a tree, as the server would write it."""
    if names:
        values = key if len(names) > 1 else (key,)
        return "k:" + json.dumps(dict(zip(names, values, strict=True)), separators=(",", ":"), ensure_ascii=False)
    return "v:" + json.dumps(key, ensure_ascii=False)


@lru_cache(maxsize=4096)
def _parsed(field: str) -> Any:
    return json.loads(field[2:])


def _spelt(field: str) -> str:
    value = _parsed(field)
    if field[0] == "k":
        return ",".join(f"{name}={json.dumps(part, ensure_ascii=False)}" for name, part in value.items())
    return f"={json.dumps(value, ensure_ascii=False)}" if field[0] == "v" else str(value)


# --- owners -----------------------------------------------------------------------------------------------------------

BEFORE_FIRST_APPLY = "before-first-apply"
"""The server's name for the manager of all that was set before an object's first server-side apply."""


def managed_entries(live: Manifest) -> list[dict[str, Any]]:
    """Return the entries that say who owns which fields of an object.

    Of an object without any, because it is older than server-side apply or its record was cleared, the server makes one
    entry for everything that is there as soon as it is applied to.
    """
    entries: list[dict[str, Any]] = live["metadata"].get("managedFields") or []
    return entries or [{"manager": BEFORE_FIRST_APPLY, "operation": "Update", "fieldsV1": fields_of(live)}]


def owners_of(path: FieldPath, live: Manifest) -> list[FieldOwner]:
    """Return all managers that own the field at a path, ours included."""
    owners = []
    for entry in managed_entries(live):
        node = node_at(entry.get("fieldsV1") or {}, path)
        if node is not None and (not node or "." in node):
            owners.append(owner_of(entry, path))
    return owners


def owner_of(entry: dict[str, Any], path: FieldPath) -> FieldOwner:
    """Return who owns the field at a path, by an entry of `managedFields`."""
    return FieldOwner(server_path(path), entry["manager"], entry["operation"], entry.get("subresource", ""))


def extracted(live: Any, tree: Fields, without: Any = None) -> Any:
    """Return the owned part of a value, less what is in `without` already."""
    if isinstance(live, list):
        return _extracted_items(live, tree, without or ())
    found = {}
    for field, node in tree.items():
        name = field[2:]
        if field == "." or not isinstance(live, dict) or name not in live:
            continue
        inside = without.get(name) if isinstance(without, dict) else None
        if node.keys() - {"."}:
            part = extracted(live[name], node, inside)
            if part:
                found[name] = part
        elif inside is None:
            found[name] = live[name]
    return found


def _extracted_items(live: list[Any], tree: Fields, without: Any) -> list[Any]:
    names = key_names(tree)
    inside = keyed(without, names)
    owned = {owned_key(field): node for field, node in tree.items() if field != "."}
    found = []
    for key, item in keyed(live, names).items():  # in the order in which they are there
        node = owned.get(key)
        if node is None or (key in inside and not node.keys() - {"."}):
            continue
        part = extracted(item, node, inside.get(key)) if node.keys() - {"."} else item
        if part:
            found.append({name: item[name] for name in names if name in item} | part if names else part)
    return found
