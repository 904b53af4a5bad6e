"""Differences made readable: one value before and after, who else set it, and nothing secret.

Secrets are masked here, where a change is made, so that no printer, log or Event has to remember to. Whether a masked
value is a Secret's own or turned up in an annotation, and whether two of them are equal, cannot be told from the mask.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chronik.plan.drift import is_addition, same
from chronik.plan.managed_fields import field_path, item_field, keyed, place_of, server_path
from chronik.problem import format_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from chronik.errors import FieldOwner
    from chronik.manifest import Manifest
    from chronik.plan.drift import Difference
    from chronik.plan.managed_fields import FieldPath

Side = Literal["before", "after"]
_Part = tuple["FieldPath", Any, Any]

_SECRET_FIELDS = {"f:data", "f:stringData"}
_TELLING_LENGTH = 6  # a shorter secret turns up inside other words by chance


@dataclass(frozen=True, slots=True)
class Change:
    """One value that an apply changes; None is nothing there. `owner` names the managers that hold it against us.

    `patch` is the position in `spec.patches` of the patch that the new value comes from, as far as that was asked for.
    """

    path: str
    old: Any
    new: Any
    owner: str = ""
    patch: int | None = None


class Mask:
    """Hides secret values: those of Secrets, and `secrets` (plain, not base64) wherever they turn up."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        plain = {secret for secret in secrets if secret}
        encoded = {base64.b64encode(secret.encode()).decode() for secret in plain}
        self._secrets = plain | encoded
        self._telling = [secret for secret in self._secrets if len(secret) >= _TELLING_LENGTH]

    @classmethod
    def over(cls, manifests: Iterable[Manifest]) -> Mask:
        """Return what hides the values of all Secrets among the manifests."""
        secrets: list[str] = []
        for manifest in manifests:
            if manifest["kind"] == "Secret":
                secrets += map(str, (manifest.get("stringData") or {}).values())
                secrets += map(_decoded, (manifest.get("data") or {}).values())
        return cls(secrets)

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


def hidden_secrets(before: Manifest, after: Manifest) -> tuple[Manifest, Manifest]:
    """Return two states of an object with the values of a Secret hidden on both sides; equal ones look equal.

    Nothing is hidden in objects of other kinds, whatever turns up there.
    """
    if "Secret" not in {before.get("kind"), after.get("kind")}:
        return before, after
    left, right = dict(before), dict(after)
    for field in (name.removeprefix("f:") for name in sorted(_SECRET_FIELDS)):
        old, new = before.get(field), after.get(field)
        if old:
            left[field] = _hidden_values(old, new, _hidden("before"))
        if new:
            right[field] = _hidden_values(new, old, _hidden("after"))
    return left, right


def _hidden_values(values: Any, others: Any, mark: str) -> Any:
    if not isinstance(values, dict) or not isinstance(others, dict | None):
        return mark
    return {key: "***" if others and others.get(key) == value else mark for key, value in values.items()}


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


def _decoded(text: Any) -> str:
    """Return the text behind a value of a Secret's `data`, or the value itself if it is not text in base64."""
    try:
        return base64.b64decode(str(text)).decode()
    except ValueError:
        return str(text)


def _hidden(side: Side) -> str:
    return f"*** ({side})"


def _all_hidden(value: Any, side: Side) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(side) for key in value}
    return None if value is None else _hidden(side)


def _related(left: str, right: str) -> bool:
    """Return whether one of two paths, in the server's spelling, is the other or leads to it."""
    short, long = sorted((left, right), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in {"", ".", "["}


def _narrowed(difference: Difference) -> Iterator[_Part]:
    """Yield the smallest parts of a difference that change a value.

    If only the owner changes, yield the whole of it, equal on both sides: what they differ in is in spelling alone.
    """
    path, old, new = difference.path, difference.live, difference.desired
    if difference.kind in {"extra", "foreign"}:
        yield path, old, None
    elif difference.kind == "order":
        yield path, [_item_name(key) for key in old], [_item_name(key) for key in new]
    else:
        parts = list(_parts(path, old, new, whole=difference.kind == "differs"))
        yield from parts or [(path, new, new)]


def _parts(path: FieldPath, old: Any, new: Any, *, whole: bool) -> Iterator[_Part]:
    """Yield what differs; what is only on the old side goes too if the value is replaced as a whole."""
    pairs = _pairs(path, old, new)
    if pairs is None:
        if not same(new, old, place_of(path)):
            yield path, old, new
        return
    for part, before, after in pairs:
        if after is not None:
            yield from _parts(part, before, after, whole=whole)
        elif whole and not is_addition(before, place_of(part)):
            yield part, before, None


def _pairs(path: FieldPath, old: Any, new: Any) -> list[_Part] | None:
    """Put the parts of two values side by side; None if they have no parts in common."""
    if not old or not new or type(old) is not type(new) or not isinstance(new, dict | list):
        return None
    if isinstance(new, list):
        before, after = keyed(old, ("name",)), keyed(new, ("name",))
        named = all(isinstance(item, dict) and "name" in item for item in (*old, *new))
        if named and (len(before), len(after)) == (len(old), len(new)):  # mounts of one volume all have its name
            return [((*path, item_field(key, ("name",))), before.get(key), after.get(key)) for key in before | after]
        if len(old) != len(new):
            return None
        return [((*path, f"i:{i}"), *pair) for i, pair in enumerate(zip(old, new, strict=True))]
    return [((*path, "f:" + key), old.get(key), new.get(key)) for key in old | new]


def _item_name(field: str) -> str:
    return str(field_path((field,))[0])


def summary(changes: Sequence[Change], takes: Sequence[FieldOwner], removes: Sequence[FieldOwner]) -> str:
    """Return how many changes there are, and what they take from other field managers."""
    count = f"{len(changes)} change{'s' if len(changes) > 1 else ''}"
    taken, removed = (", ".join(sorted({owner.manager for owner in owners})) for owners in (takes, removes))
    parts = (count, taken and f"fields taken from {taken}", removed and f"what {removed} added is removed")
    return ", ".join(filter(None, parts))
