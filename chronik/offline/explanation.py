"""What set a value of a rendered object: the line of a template, the fields of the spec that it names, and patches.

Nothing of this is kept while rendering for any other purpose: the cluster is rendered once more, with a trace.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS
from chronik.errors import InputError
from chronik.manifest import KINDS, ObjectRef, component_of, lasting_name
from chronik.offline import assets, loading
from chronik.offline.template_sets import template_reader
from chronik.problem import Location, format_path
from chronik.render.origins import Explanation, FieldPathError, PatchStep, SpecField, Trace, at, by_name, resolve
from chronik.render.pods import written_in
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest
    from chronik.plan.results import Report, Result
    from chronik.problem import Path as FieldPath
    from chronik.render.origins import Origin

    Version = tuple[int | None, Manifest]

_FIELD = re.compile(r"(?<![.\w])(spec|pod|component)((?:\.\w+)+)")
_DEFINITION = re.compile(r"\{%-? *(?:set|for) +(\w+) *(?:=|\bin\b)(.+?)-?%\}")
_MOST_LISTED = 12


def field_page(path: str) -> str:
    """Return what the reference page says of one field of a document, as text.

    Raises:
        InputError: there is no such field.
    """
    from chronik.api import reference  # noqa: PLC0415  # explaining a rendered object does without

    try:
        return reference.field_page(assets.schema(), loading.validator().rules, path)
    except reference.UnknownField as error:
        close = get_close_matches(error.name, error.there, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {listed(error.there)}." if error.there else ""
        raise InputError(str(error), hint=hint) from error


def explain(clusters: Sequence[Cluster], target: ObjectRef, field: str, templates: str | None) -> Explanation:
    """Return what set a field of a rendered object; a `target` without a namespace may be in any.

    Raises:
        InputError: no cluster has such an object, or the object no such field.
    """
    rendered: list[Manifest] = []
    for cluster in clusters:
        trace = Trace()
        manifests = loading.renderer(templates, trace)(cluster)
        for manifest in manifests:
            if _means(target, manifest):
                return _explained(cluster, (trace, manifest), field, templates)
        rendered += manifests
    kinds = _kinds(target.kind)
    there = sorted({each["metadata"]["name"] for each in rendered if each["kind"].lower() in kinds})
    if there:
        hint = f"Of this kind there are {', '.join(there)}."
    else:
        hint = f"There are objects of the kinds {', '.join(sorted({each['kind'] for each in rendered}))}."
    raise InputError(
        f"there is no object {'/'.join(filter(None, (target.kind, target.namespace, target.name)))}", hint=hint
    )


def with_patches(report: Report, cluster: Cluster, templates: str | None) -> Report:
    """Return a report whose changes say which patch of the spec set their new values, of a cluster that has some."""
    trace = Trace()
    manifests = {ObjectRef.of(each): each for each in loading.renderer(templates, trace)(cluster)}

    def told(result: Result) -> Result:
        changes, manifest = getattr(result.action, "changes", ()), manifests.get(result.ref)
        if not changes or manifest is None:
            return result
        versions = _versions(cluster, trace.object(manifest))
        marked = tuple(replace(each, patch=_last_patch(versions, each.path)) for each in changes)
        return replace(result, action=replace(result.action, changes=marked))  # type: ignore[call-arg]  # it has them

    return replace(report, results=tuple(map(told, report.results)))


def _last_patch(versions: Sequence[Version], path: str) -> int | None:
    return max((number for number, _ in _patched_values(versions, (path,))), default=None)


def _explained(cluster: Cluster, found: tuple[Trace, Manifest], field: str, templates: str | None) -> Explanation:
    trace, manifest = found
    ref = ObjectRef.of(manifest)
    try:
        path = resolve(manifest, field)
    except FieldPathError as error:
        raise _no_field(ref, error) from error
    made, spelt = trace.object(manifest), by_name(manifest, path)
    line, above = _template_line(trace.origin(manifest, _longest(made, spelt)), templates)
    reads = tuple(_reads(cluster, component_of(manifest), line.text, above))
    steps = _patches(cluster, _versions(cluster, made), spelt)
    return Explanation(ref, "".join(spelt), at(manifest, path), _value(made, spelt), line, reads, steps)


def _kinds(kind: str) -> set[str]:
    """Return how a kind is written in manifests, in small letters, by its name or its plural."""
    return {kind.lower(), *(each.name.lower() for each in KINDS if each.plural == kind.lower())}


def _means(target: ObjectRef, manifest: Manifest) -> bool:
    metadata = manifest["metadata"]
    return (
        manifest["kind"].lower() in _kinds(target.kind)
        and target.name in {metadata["name"], lasting_name(manifest)}
        and target.namespace in {"", metadata.get("namespace", "")}
    )


def _no_field(ref: ObjectRef, error: FieldPathError) -> InputError:
    place = f"{format_path(error.reached)} of {ref}" if error.reached else str(ref)
    close = get_close_matches(str(error).rsplit(" ", 1)[-1].strip("[]"), error.there, n=1)
    if not error.there:
        hint = "Write a field as `spec.template.spec.containers[0].image`."
    elif close:
        hint = f"Did you mean {close[0]}?"
    else:
        hint = f"There are {', '.join(error.there[:_MOST_LISTED])}{', …' if len(error.there) > _MOST_LISTED else ''}."
    return InputError(f"{error} in {place}", hint=hint)


def _versions(cluster: Cluster, made: Manifest) -> list[Version]:
    """Return an object as its template made it, and after each patch that means it, with that one's position."""
    patched = loading.patching(cluster).steps(made) if cluster.spec["patches"] else ()
    return [(None, made), *patched]


def _patches(cluster: Cluster, versions: Sequence[Version], spelt: Sequence[str]) -> tuple[PatchStep, ...]:
    """Return the patches that changed a value, in their order."""
    return tuple(
        PatchStep(number, value, loading.locate(cluster.key, ("spec", "patches", number, "patch")))
        for number, value in _patched_values(versions, spelt)
    )


def _patched_values(versions: Sequence[Version], spelt: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the position of each patch that changed a value, and the value then."""
    for (_, before), (number, after) in pairwise(versions):
        value = _value(after, spelt)
        if number is not None and value != _value(before, spelt):
            yield number, value


def _value(manifest: Manifest, spelt: Sequence[str]) -> Any:
    """Return what stands at a path, None if nothing does."""
    try:
        return at(manifest, resolve(manifest, "".join(spelt)))
    except FieldPathError:
        return None


def _longest(made: Manifest, spelt: Sequence[str]) -> FieldPath:
    """Return as much of a path as leads somewhere in what the template made: a patch may have added the rest."""
    for length in range(len(spelt), 0, -1):
        with suppress(FieldPathError):
            return resolve(made, "".join(spelt[:length]))
    return ()


def _template_line(origin: Origin, templates: str | None) -> tuple[Location, str]:
    """Return a line of a template, and what stands above it."""
    number = origin.line or 1
    lines = (template_reader(templates)(origin.template) or "").splitlines()
    own = Path(templates or "") / origin.template
    text = lines[number - 1] if number <= len(lines) else ""
    name = str(own) if templates and own.exists() else f"templates/{origin.template}"
    return Location(name, number, len(text) - len(text.lstrip()) + 1, text), "\n".join(lines[: number - 1])


def _reads(cluster: Cluster, component: str, line: str, above: str) -> Iterator[SpecField]:
    """Yield the fields of the spec that a line reads, by itself or by names that `set` and `for` give them above it."""
    defined = dict(_DEFINITION.findall(above))
    text = line
    for name in reversed(defined):
        if re.search(rf"(?<![.\w\"]){name}\b(?! *=)", text):
            text += defined[name]
    paths = (path for found in _FIELD.findall(text) for path in _written(cluster, component, *found))
    for path in dict.fromkeys(paths):
        value = _spec_value(cluster, path)
        yield SpecField(format_path(path), value, loading.locate(cluster.key, path, exactly=True))


def _written(cluster: Cluster, component: str, name: str, fields: str) -> list[FieldPath]:
    """Return the fields of the spec that a name of templates stands for, in objects of a component."""
    first, *rest = fields.strip(".").split(".")
    if name == "spec":
        return [("spec", first, *rest)]
    if component not in COMPONENTS:
        return []
    if name == "pod":
        return [*written_in(cluster, component, fields.strip("."))]
    count = COMPONENTS[component].count_field
    match first:
        case "replicas":
            return [("spec", count)]
        case "image" | "resources":
            return [("spec", first, component, *rest)]
        case "autoscaling":
            return [("spec", first, count, *rest)]
        case "budget":
            return [("spec", "podDisruptionBudget", *rest)]
        case "serviceAccount":
            return [("spec", "components", component, first)]
    return []


def _spec_value(cluster: Cluster, path: FieldPath) -> Any:
    """Return what the spec says at a path, None if nothing."""
    value: Any = {"spec": cluster.spec}
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value
