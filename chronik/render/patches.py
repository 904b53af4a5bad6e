"""`spec.patches`: what a user changes in rendered objects that no field of the spec can say.

A patch is a strategic merge patch, or a list of operations of a JSON Patch (RFC 6902). It may change anything but what
chronik finds its objects by: the result is held to that, and to the fields that Kubernetes knows. A patch that changes
nothing, because there is no such object, is an error: it would be a wish that nobody hears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS
from chronik.errors import PatchError
from chronik.manifest import COMPONENT_LABEL, ObjectRef
from chronik.render.strategic_merge import MergeError, strategic_merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.api.spec import Cluster, Patch
    from chronik.manifest import Manifest
    from chronik.problem import Path
    from chronik.render.kubernetes import FieldTable

_IDENTITY: tuple[tuple[str, ...], ...] = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "ownerReferences"),
    ("spec", "selector"),
    ("spec", "serviceName"),
    ("spec", "scaleTargetRef"),
    ("roleRef",),
)
"""What tells an object, its pods and its owner; whoever changes that makes another object."""
_LABELS = (("metadata", "labels"), ("spec", "template", "metadata", "labels"))
_OWN_LABELS = ("app.kubernetes.io/", "chronik.stream/")
_REPLICAS = ("spec", "replicas")
_COUNTS = f"Use {', '.join(each.count_field for each in COMPONENTS.values())} or autoscaling of the spec."


class Patches:
    """The patches of one cluster. Objects are handed in one by one; then `check_all_used` tells of the rest."""

    def __init__(self, cluster: Cluster, fields: FieldTable) -> None:
        self._cluster = cluster
        self._patches = cluster.spec["patches"]
        self._fields = fields
        self._used: set[int] = set()
        self._seen: list[ObjectRef] = []

    def patched(self, manifest: Manifest) -> Manifest:
        """Return an object as the patches want it, in their order; the argument stays as it is.

        Raises:
            PatchError: a patch does not fit the object, or would change its identity.
        """
        self._seen.append(ObjectRef.of(manifest))
        after = manifest
        for number, patched in self.steps(manifest):
            self._used.add(number)
            after = patched
        return after

    def steps(self, manifest: Manifest) -> Iterator[tuple[int, Manifest]]:
        """Yield the position of each patch that means an object, with the object after it."""
        result = manifest
        for number, patch in enumerate(self._patches):
            if _means(patch, manifest):
                result = self._one(number, result)
                yield number, result

    def check_all_used(self) -> None:
        """Raise PatchError for the first patch that meant no object."""
        for number, patch in enumerate(self._patches):
            if number not in self._used:
                self._unmatched(number, patch)

    def _unmatched(self, number: int, patch: Patch) -> None:
        target = patch["target"]
        wanted = " ".join(f"{key} {value}" for key, value in target.items() if value)
        alike = [ref.name for ref in self._seen if ref.kind == target["kind"]]
        if alike:
            hint = f"Of kind {target['kind']} there are {', '.join(sorted({*alike}))}."
        else:
            hint = f"This cluster has objects of the kinds {', '.join(sorted({ref.kind for ref in self._seen}))}."
        raise self._error(number, ("target",), f"no object matches {wanted}", hint)

    def _one(self, number: int, manifest: Manifest) -> Manifest:
        patch, ref = self._patches[number]["patch"], ObjectRef.of(manifest)
        if isinstance(patch, list):
            try:
                result = json_patch(manifest, patch)
            except OperationError as error:
                path: Path = ("patch", error.place)
                raise self._error(number, path, f"does not fit {ref}: {error}", error.hint) from None
        elif not isinstance(patch, dict):
            raise self._error(number, ("patch",), "must be a map, a strategic merge patch, or a list, a JSON Patch")
        elif "$patch" in patch:
            message = f"would remove or replace {ref} as a whole"
            raise self._error(number, ("patch", "$patch"), message, "A patch changes parts of an object.")
        else:
            try:
                result = strategic_merge(manifest, patch, self._fields.types)
            except MergeError as error:
                raise self._error(number, ("patch", *error.path), f"{error} (of {ref})") from None
        for path in _changed_identity(manifest, result):
            dotted = ".".join(path)
            hint = _COUNTS if path == _REPLICAS else "By it chronik finds the object, its pods or its owner."
            raise self._error(number, ("patch",), f"{dotted} of {ref} cannot be patched", hint)
        for problem in self._fields.problems(result):
            message = f"{problem.path} of {ref} {problem.message}"
            raise self._error(number, ("patch",), message, problem.hint)
        return result

    def _error(self, number: int, path: Path, message: str, hint: str = "") -> PatchError:
        return PatchError(message, cluster=str(self._cluster.key), path=("spec", "patches", number, *path), hint=hint)


class OperationError(ValueError):
    """An operation of a JSON Patch cannot be carried out; `place` is its index, and `hint` what to do."""

    def __init__(self, message: str, place: int, hint: str = "") -> None:
        super().__init__(message)
        self.place = place
        self.hint = hint


def json_patch(manifest: Manifest, operations: list[Any]) -> Manifest:
    """Return an object after the operations of a JSON Patch; nulls that they leave are absent fields.

    Raises:
        OperationError: an operation is none, or does not fit.
    """
    from jsonpatch import JsonPatch, JsonPatchException  # noqa: PLC0415  # most clusters have no such patch
    from jsonpointer import JsonPointerException  # noqa: PLC0415

    # What templates print twice is one object, and would stay one in a deepcopy: a copy each is needed.
    result: Any = _without_nulls(manifest)
    for place, operation in enumerate(operations):
        try:
            result = JsonPatch([operation]).apply(result)
        except (JsonPatchException, JsonPointerException, TypeError, KeyError) as error:
            from chronik.render.mistakes import misfit  # noqa: PLC0415  # only what fails needs words

            message, hint = misfit(operation, result, error)
            raise OperationError(message, place, hint) from None
        if not isinstance(result, dict):
            raise OperationError("it would put something else in place of the object", place)
    cleaned = _without_nulls(result)
    assert isinstance(cleaned, dict)
    return cleaned


def _means(patch: Patch, manifest: Manifest) -> bool:
    target, metadata = patch["target"], manifest["metadata"]
    return (
        target["kind"] == manifest["kind"]
        and target["name"] in {None, metadata["name"]}
        and target["component"] in {None, metadata.get("labels", {}).get(COMPONENT_LABEL)}
    )


def _changed_identity(before: Manifest, after: Manifest) -> Iterator[tuple[str, ...]]:
    """Yield what of an object's identity differs."""
    for path in (*_IDENTITY, _REPLICAS):
        if _at(before, path) != _at(after, path):
            yield path
    for path in _LABELS:
        kept = _at(after, path) or {}
        labels = _at(before, path) or {}
        for key in sorted({*labels, *kept} if isinstance(kept, dict) else labels):
            if key.startswith(_OWN_LABELS) and (not isinstance(kept, dict) or labels.get(key) != kept.get(key)):
                yield (*path, key)


def _at(value: Any, path: Iterable[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _without_nulls(value: Any) -> Any:
    """Return a value without the nulls in it: to the API server they are absent fields."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
