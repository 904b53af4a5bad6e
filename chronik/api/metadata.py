"""What the API server asks of a document's metadata beyond types and patterns, which no CRD can say.

A CRD describes a kind's spec and status; metadata is the server's own. Without these checks a document that breaks the
server's rules would pass here and be refused there.

Source: k8s.io/apimachinery, pkg/api/validation/objectmeta.go and pkg/apis/meta/v1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.problem import Path

MOST_BYTES = 262_144
"""What all annotations of an object may take, keys and values together."""

_MAPS = ("labels", "annotations")
_ZEROES: dict[str, Any] = {"finalizers": "", "ownerReferences": {}, "managedFields": {}}
_TIMES = ("creationTimestamp", "deletionTimestamp")
_TIME = r"(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,]\d+)?(?:Z|[+-](\d\d):(\d\d))"  # few documents have one
_BANNED = ("", "v1", "Event")
_FINALIZERS = {"orphan", "foregroundDeletion"}
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTHS, _FEBRUARY, _HOURS, _SIXTY = 12, 2, 24, 60
_LONGEST_PREFIX = 253


def as_decoded(metadata: Any) -> Any:
    """Return metadata as the server decodes it.

    There null is the zero of its type, so that in a map of texts the key counts, and an empty namespace is none.
    """
    if not isinstance(metadata, dict):
        return metadata
    decoded = {key: value for key, value in metadata.items() if (key, value) != ("namespace", "")}
    for name in _MAPS:
        if isinstance(decoded.get(name), dict):
            decoded[name] = {key: "" if value is None else value for key, value in decoded[name].items()}
    for name, zero in _ZEROES.items():
        if isinstance(decoded.get(name), list):
            decoded[name] = [zero if item is None else item for item in decoded[name]]
    return decoded


def metadata_problems(metadata: Any) -> Iterator[Problem]:
    """Yield what is wrong with metadata whose types may be wrong, too; of those nothing is said here."""
    if isinstance(metadata, dict):
        yield from _names(metadata)
        yield from _annotations(metadata.get("annotations"))
        yield from _finalizers(metadata.get("finalizers"))
        yield from _owners(metadata.get("ownerReferences"))
        yield from _times(metadata)


def _error(code: str, path: Path, message: str, hint: str = "") -> Problem:
    return Problem("error", code, ("metadata", *path), message, hint)


def _items(value: Any, kind: type) -> list[tuple[int, Any]]:
    return (
        [(number, item) for number, item in enumerate(value) if isinstance(item, kind)]
        if isinstance(value, list)
        else []
    )


def _names(metadata: dict[str, Any]) -> Iterator[Problem]:
    """Yield names whose DNS part is too long: the name behind the `/` has a length of its own."""
    keys = [((name, key), key) for name in _MAPS if isinstance(metadata.get(name), dict) for key in metadata[name]]
    finalizers = [(("finalizers", number), name) for number, name in _items(metadata.get("finalizers"), str)]
    for path, name in (*keys, *finalizers):
        if "/" in name and len(name.rpartition("/")[0]) > _LONGEST_PREFIX:
            yield _error("length", path, f"what stands before / must have at most {_LONGEST_PREFIX} characters")
    start = metadata.get("generateName")
    if isinstance(start, str) and len(start) > _LONGEST_PREFIX and not start.endswith("-"):
        yield _error("length", ("generateName",), f"must have at most {_LONGEST_PREFIX} characters")


def _annotations(annotations: Any) -> Iterator[Problem]:
    texts = annotations.items() if isinstance(annotations, dict) else ()
    size = sum(_length(key) + _length(value) for key, value in texts if isinstance(value, str))
    if size > MOST_BYTES:
        message = f"must be at most {MOST_BYTES} bytes in all, keys and values, not {size}"
        yield _error("length", ("annotations",), message)


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _finalizers(finalizers: Any) -> Iterator[Problem]:
    if {name for _, name in _items(finalizers, str)} >= _FINALIZERS:
        message = f"must not have both {' and '.join(sorted(_FINALIZERS))}"
        yield _error("finalizers", ("finalizers",), message, "They are contrary ways to delete an object.")


def _owners(owners: Any) -> Iterator[Problem]:
    found = _items(owners, dict)
    for number, owner in found:
        group, _, version = str(owner.get("apiVersion")).rpartition("/")
        if (group, version, owner.get("kind")) == _BANNED:
            yield _error("owner", ("ownerReferences", number), "must not be an Event, which owns nothing")
    controllers = [owner for _, owner in found if owner.get("controller") is True]
    if any(owner != controllers[0] for owner in controllers[1:]):  # the server drops one that is there twice
        yield _error("owner", ("ownerReferences",), "must have at most one controller")


def _times(metadata: dict[str, Any]) -> Iterator[Problem]:
    """Yield the times that have the form of one and are in no calendar."""
    places: list[tuple[Path, Any]] = [((name,), metadata.get(name)) for name in _TIMES]
    for number, entry in _items(metadata.get("managedFields"), dict):
        places.append((("managedFields", number, "time"), entry.get("time")))
    for path, text in places:
        match = re.fullmatch(_TIME, text, re.ASCII) if isinstance(text, str) else None
        if match and not _exists(*(int(part or 0) for part in match.groups())):
            yield _error("time", path, f"there is no such time as {text}")


def _exists(year: int, month: int, day: int, hour: int, minute: int, second: int, *offset: int) -> bool:
    """Tell whether a time exists, as Go reads it: without leap seconds, and with offsets up to 24:60."""
    leaps = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= _MONTHS or not 1 <= day <= _DAYS[month - 1] + (leaps and month == _FEBRUARY):
        return False
    return hour < _HOURS and minute < _SIXTY and second < _SIXTY and offset[0] <= _HOURS and offset[1] <= _SIXTY
