"""Who else owns what we are about to change: conflicts foreseen, and changes that change nothing but the owner.

`plan` asks, so that a conflict is reported by name before anything is sent, and a forced apply takes what it says it
takes. Answers are in the words of the server's own conflicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.errors import FieldOwner
from chronik.plan.equality import holds
from chronik.plan.managed_fields import (
    FieldPath,
    Fields,
    item_field,
    key_names,
    keyed,
    leaves,
    node_at,
    place_of,
    server_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.manifest import Manifest
    from chronik.plan.drift import Difference

BEFORE_FIRST_APPLY = "before-first-apply"
"""The server's name for whoever set what was there when an object came under server-side apply."""


def owners_of(path: FieldPath, live: Manifest) -> list[FieldOwner]:
    """Return everybody who owns the field at a path, us included."""
    owners = []
    for entry in live["metadata"].get("managedFields") or ():
        node = node_at(entry.get("fieldsV1") or {}, path)
        if node is not None and (not node or "." in node):
            owners.append(_owner(entry, path))
    return owners


def collisions(desired: Manifest, live: Manifest, fields: Fields) -> list[FieldOwner]:
    """Return the conflicts that an unforced apply would be answered with; `fields` is what its manager owns.

    Those are the fields that somebody else owns and that are not, letter by letter, as desired: the server compares
    before it respells quantities or drops zeroes. One kind is left to the server to find: with a map that was applied
    empty and still is, only its schema knows whether wanting something in it is a conflict.
    """
    if not live["metadata"].get("managedFields"):
        return _untracked(desired, live)
    entries = [entry for entry in live["metadata"]["managedFields"] if entry.get("fieldsV1") is not fields]
    trees = [entry.get("fieldsV1") or {} for entry in entries]
    found = []
    for entry, tree in zip(entries, trees, strict=True):
        paths = _collided(desired, live, tree, ())
        whole = (path for path in paths if not any(node_at(other, path) for other in (fields, *trees)))
        found += [_owner(entry, path) for path in whole]
    return found


def alters(difference: Difference, live: Manifest, fields: Fields) -> bool:
    """Tell whether an apply would change a value here, not only who owns it; `fields` is what its manager owns."""
    if difference.kind == "missing":
        return not holds(difference.live, difference.desired, place_of(difference.path))
    if difference.kind != "extra":
        return True
    if difference.live is None:
        return False
    entries = live["metadata"].get("managedFields") or ()
    others = [entry.get("fieldsV1") or {} for entry in entries if entry.get("fieldsV1") is not fields]
    ours = (difference.path + leaf for leaf in leaves(node_at(fields, difference.path) or {}))
    return any(all(node_at(tree, leaf) is None for tree in others) for leaf in ours)


def _untracked(desired: Manifest, live: Manifest) -> list[FieldOwner]:
    """Return the conflicts with an object of which the server keeps no owners: it names one for everything.

    Without a schema, lists count as a whole here.
    """
    paths = _collided(desired, live, _everything(live), ())
    return [FieldOwner(server_path(path), BEFORE_FIRST_APPLY, "Update") for path in paths]


def _everything(value: Any) -> Fields:
    return {f"f:{key}": _everything(part) for key, part in value.items()} if isinstance(value, dict) else {}


def _collided(want: Any, live: Any, owned: Fields, path: FieldPath) -> Iterator[FieldPath]:
    """Yield the fields that somebody owns and that we want otherwise, below a path."""
    if not owned or not isinstance(want, dict | list):
        if want != live and not (isinstance(want, dict) and not live):
            yield path
    elif isinstance(want, dict):
        values = live if isinstance(live, dict) else {}
        for key, value in want.items():
            field = "f:" + key
            if field in owned:
                yield from _collided(value, values.get(key), owned[field], (*path, field))
    else:
        names = key_names(owned)
        present = keyed(live or (), names)
        for key, item in keyed(want, names).items():
            field = item_field(key, names)
            if field in owned:
                yield from _collided(item, present.get(key), owned[field], (*path, field))


def _owner(entry: dict[str, Any], path: FieldPath) -> FieldOwner:
    return FieldOwner(server_path(path), entry["manager"], entry["operation"], entry.get("subresource", ""))
