"""Differences made readable: one value before and after, who else set it, and nothing secret.

Secrets are masked here, where a change is made, so that no printer, log or Event has to remember to. Whether a masked
value is a Secret's own or turned up in an annotation, and whether two of them are equal, cannot be told from the mask.
`plan` makes changes, `report` words them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chronik.equality import holds, same
from chronik.fieldpath import field_path, item_field, keyed, place_of, server_path
from chronik.problem import format_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from chronik.errors import FieldOwner
    from chronik.fieldpath import FieldPath
    from chronik.manifest import Manifest
    from chronik.ownership import Difference

Side = Literal["before", "after"]

_SECRET_FIELDS = {"f:data", "f:stringData"}
_TELLING_LENGTH = 6  # a shorter secret turns up inside other words by chance


@dataclass(frozen=True, slots=True)
class Change:
    """One value that an apply changes; None is nothing there. `owner` names the managers that hold it against us."""

    path: str
    old: Any
    new: Any
    owner: str = ""


class Mask:
    """Hides secret values: those of Secrets, and `secrets` (plain, not base64) wherever they turn up."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        plain = {secret for secret in secrets if secret}
        encoded = {base64.b64encode(secret.encode()).decode() for secret in plain}
        self._secrets = plain | encoded
        self._telling = [secret for secret in self._secrets if len(secret) >= _TELLING_LENGTH]

    def shown(self, value: Any, side: Side) -> Any:
        """Return a value as it may be shown."""
        if isinstance(value, dict):
            return {key: self.shown(part, side) for key, part in value.items()}
        if isinstance(value, list):
            return [self.shown(part, side) for part in value]
        return _hidden(side) if isinstance(value, str) and self._tells(value) else value

    def _tells(self, text: str) -> bool:
        return text in self._secrets or any(secret in text for secret in self._telling)


NO_SECRETS = Mask()


def changes_of(
    differences: Iterable[Difference], live: Manifest, owners: Sequence[FieldOwner] = (), mask: Mask = NO_SECRETS
) -> tuple[Change, ...]:
    """Return what an apply of these differences would change, in their order; `owners` are its conflicts."""
    is_secret = live["kind"] == "Secret"
    found = []
    for difference in differences:
        for path, old, new in _narrowed(difference):
            secret = is_secret and path[0] in _SECRET_FIELDS
            before, after = (_all_hidden(old, "before"), _all_hidden(new, "after")) if secret else (old, new)
            managers = sorted({owner.manager for owner in owners if _related(owner.path, server_path(path))})
            shown = mask.shown(before, "before"), mask.shown(after, "after")
            found.append(Change(format_path(field_path(path)), *shown, ", ".join(managers)))
    return tuple(found)


def _hidden(side: Side) -> str:
    return f"*** ({side})"


def _all_hidden(value: Any, side: Side) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(side) for key in value}
    return None if value is None else _hidden(side)


def _related(left: str, right: str) -> bool:
    """Tell whether one of two paths, in the server's spelling, is the other or leads to it."""
    short, long = sorted((left, right), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in {"", ".", "["}


def _narrowed(difference: Difference) -> Iterator[tuple[FieldPath, Any, Any]]:
    """Yield the smallest parts of a difference that change a value, or the whole if only its owner changes."""
    if difference.kind == "extra":
        yield difference.path, difference.live, None
        return
    if difference.kind == "order":
        before, after = ([format_path(field_path((key,))) for key in side] for side in (difference.live, difference.desired))
        yield difference.path, before, after
        return
    parts = list(_parts(difference.path, difference.live, difference.desired))
    yield from parts or [(difference.path, difference.live, difference.desired)]


def _parts(path: FieldPath, old: Any, new: Any) -> Iterator[tuple[FieldPath, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        for key in [*new, *(key for key in old if key not in new)]:
            yield from _parts_of_field((*path, "f:" + key), old.get(key), new.get(key), key in new)
        return
    names = _telling_names(old, new)
    if names is not None:
        before, after = keyed(old, names), keyed(new, names)
        for key in [*after, *(key for key in before if key not in after)]:
            yield from _parts_of_field((*path, item_field(key, names)), before.get(key), after.get(key), key in after)
    elif _are_lists(old, new) and len(old) == len(new):
        for position, (ours, theirs) in enumerate(zip(old, new, strict=True)):
            yield from _parts((*path, f"i:{position}"), ours, theirs)
    elif not same(new, old, place_of(path)):
        yield path, old, new
