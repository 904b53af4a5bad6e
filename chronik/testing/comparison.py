"""Compare the manifests of one call of `assert_manifests` with their snapshots: all, before anything is said."""

from __future__ import annotations

import shlex
from os.path import relpath, sep
from typing import TYPE_CHECKING, Any

from chronik.documents.writer import to_yaml
from chronik.errors import InputError
from chronik.manifest import ObjectRef
from chronik.plan.changes import hidden_secrets
from chronik.report.review import ObjectReview, Review
from chronik.testing.consequences import consequences
from chronik.testing.leftovers import Leftovers, manifest_in, manifest_of
from chronik.testing.places import SUFFIX, SnapshotPath, SnapshotPlace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from chronik.manifest import Manifest

_SAME_DATA = "Only the spelling differs: the snapshot was not written by chronik."
_UNREADABLE = "The snapshot cannot be read as a manifest, so nobody can tell what becomes of pods."


def compare(manifests: Sequence[Manifest], snapshot: Any, item: pytest.Item, call: int) -> Review:
    """Return how manifests differ from the snapshots of a test's so-manieth call, from 1; update them if asked to.

    `snapshot` is syrupy's, with chronik's extension.

    Raises:
        InputError: two different manifests are one object, so one of them would not be looked at.
    """
    leftovers = Leftovers.of(item.config)
    place = SnapshotPlace.of(item, leftovers.policy.dirname)
    paths = _paths(manifests, call)
    reviews = [_compared(path, manifest, snapshot) for path, manifest in paths.items()]
    used = {place.file(path) for path in paths}
    gone = dict(_removed(place.call(call), used)) if leftovers.policy.looks else {}
    if leftovers.policy.deletes:
        leftovers.remove(gone)
    elif leftovers.policy.fails or any(review.verdict != "unchanged" for review in reviews):
        reviews += [ObjectReview(ref, "removed") for ref in gone.values()]
    return Review(reviews, _relative(place.call(call), item), _command(item))


def _paths(manifests: Iterable[Manifest], call: int) -> dict[SnapshotPath, Manifest]:
    found: dict[SnapshotPath, Manifest] = {}
    for manifest in manifests:
        path = SnapshotPath.of(manifest, call)
        if found.setdefault(path, manifest) != manifest:
            raise InputError(
                "there are two of this object, and they differ",
                subject=str(ObjectRef.of(manifest)),
                hint="An API server has one object of a kind, namespace and name. Compare them in calls of their own.",
            )
    return found


def _compared(path: SnapshotPath, manifest: Manifest, snapshot: Any) -> ObjectReview:
    """Compare one manifest; syrupy writes it if it was asked to, and counts."""
    ref = ObjectRef.of(manifest)
    if snapshot(name=path) == manifest:
        return ObjectReview(ref, "unchanged")
    result = snapshot.executions[snapshot.num_executions - 1]
    if result.exception is not None:
        return ObjectReview(ref, "changed", notes=(f"The snapshot cannot be compared: {result.exception}",))
    if result.recalled_data is None:
        return ObjectReview(ref, "new")
    return _changed(ref, result.recalled_data, manifest, result.asserted_data)


def _changed(ref: ObjectRef, text: str, manifest: Manifest, rendered: str) -> ObjectReview:
    old = manifest_of(text)
    before, after = hidden_secrets(old or {}, manifest)
    if after is not manifest:
        text, rendered = to_yaml(before) if old else "***\n", to_yaml(after)
    if old is None:
        return ObjectReview(ref, "changed", text, rendered, notes=(_UNREADABLE,))
    restarts, notes = consequences(old, manifest)
    same = (_SAME_DATA,) if old == manifest else ()
    return ObjectReview(ref, "changed", text, rendered, restarts, (*same, *notes))


def _removed(folder: Path, used: Collection[Path]) -> Iterator[tuple[Path, ObjectRef]]:
    """Yield the snapshots of a call that were not compared with anything, and what they are of."""
    for file in sorted(folder.glob(f"*/*{SUFFIX}")):
        if file not in used:
            manifest = manifest_in(file)
            yield file, ObjectRef.of(manifest) if manifest else ObjectRef("File", file.parent.name, file.name)


def _command(item: pytest.Item) -> str:
    test = item.nodeid.partition("::")[2]
    return f"pytest --snapshot-update {shlex.quote(f'{_relative(item.path, item)}::{test}')}"


def _relative(path: Path, item: pytest.Item) -> str:
    return relpath(path, item.config.invocation_params.dir).replace(sep, "/")
