"""Deleting a StatefulSet and creating it anew around its pods, so that they notice nothing.

Everything that others have set on it and that pods may see goes along. The create makes that ours; right after it,
field managers of their own take it over, and the next apply lets go of it. We may be cut off between any
two of these writes: the new StatefulSet bears a note of what is whose until all of it has been handed over. While there
is none, its Service bears one, unless all that others have set is on the pods.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chronik.manifest import FIELD_MANAGER, ObjectRef
from chronik.plan.actions import KEPT_MANAGER, REPLICAS_MANAGER, ROLLOUT_MANAGER, Action, Create, Recreate
from chronik.plan.drift import applied_fields
from chronik.plan.managed_fields import Fields, extracted, fields_of, item_field, key_names, keyed, managed_entries
from chronik.plan.replicas import counting, handover
from chronik.plan.rotation import ANNOTATION, ROTATION_MANAGER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.manifest import Manifest
    from chronik.plan.changes import Change

HANDOVER_ANNOTATION = "chronik.stream/handover"
"""Says which fields of a StatefulSet that was created anew are to be handed to which field manager."""
_AS_SET = "stays as others have set it"
_LASTING_PARTS = (
    *("f:template", "f:updateStrategy", "f:minReadySeconds", "f:ordinals", "f:revisionHistoryLimit"),
    "f:persistentVolumeClaimRetentionPolicy",
)
"""What others may set of a StatefulSet that is there, but for its replica count."""

LASTING_ANNOTATIONS = {"kubectl.kubernetes.io/restartedAt": KEPT_MANAGER, ANNOTATION: ROTATION_MANAGER}
"""Annotations of pods that are in no rendered template and made them what they are, and who is to hold each."""

Kept = dict[str, tuple[dict[str, Any], Fields]]
"""By field manager: the fields that it is to get, and their tree."""


def recreation(
    desired: Manifest,
    live: Manifest,
    reason: str,
    changes: tuple[Change, ...],
    restarts: tuple[Change, ...],
    observed: Mapping[ObjectRef, Manifest],
) -> list[Action]:
    """Return how a StatefulSet is created anew, with everything that others have set and pods may see.

    While it is gone, its live Service says what that is, if pods alone do not tell.
    """
    live = _without_note(live)
    manifest, kept = _with_others(desired, {manager: (live, tree) for manager, tree in _trees_of_others(live).items()})
    after = _handovers(desired, kept)
    if "replicas" not in desired["spec"]:
        count = live["spec"]["replicas"]
        manifest = counting(manifest, count)
        fields = {"spec": {"replicas": count}}
        after.append(handover(desired, REPLICAS_MANAGER, fields, f"stays at {count} until the autoscaler acts"))
    anew = Recreate(
        ref=ObjectRef.of(desired),
        reason=reason,
        manifest=manifest,
        propagation="Orphan",
        changes=changes,
        restarts=restarts,
        uid=live["metadata"]["uid"],
        resource_version=live["metadata"]["resourceVersion"],
    )
    service = _service_of(desired, observed)
    if service is None or all(_is_borne(fields) for fields, _ in kept.values()):
        return [anew, *after]
    return [_kept_beside(service, kept), anew, *after, _released(service)]


def resumption(create: Create, pods: Sequence[Manifest], observed: Mapping[ObjectRef, Manifest]) -> list[Action]:
    """Return how a StatefulSet is created over pods that an earlier one left, so that they do not notice.

    We may have been cut off between deleting and creating it. What others had set is what its live Service says, if
    that says anything, and else what the newest of its pods bears: those have the highest ordinals, as a roll goes
    downwards.
    """
    left, service = left_pods(create.ref, pods), _service_of(create.manifest, observed)
    manifest, kept = _with_others(create.manifest, _beside(service) or _borne(left[-1] if left else {}))
    after = _handovers(create.manifest, kept)
    if service is not None and _says_something(service):
        after.append(_released(service))
    return [replace(create, manifest=manifest, keeps_pods=bool(left)), *after]


def left_pods(workload: ObjectRef, pods: Sequence[Manifest]) -> list[Manifest]:
    """Return the pods that a StatefulSet has left which is gone, by ordinal; it takes them back when it is created."""
    if workload.kind != "StatefulSet":
        return []
    return sorted((pod for pod in pods if _was_left(pod, workload)), key=_ordinal)


def left_count(desired: Manifest, pods: Sequence[Manifest]) -> int:
    """Return how many replicas a StatefulSet that is created over the pods of an earlier one needs to keep them all."""
    left = left_pods(ObjectRef.of(desired), pods)
    return _ordinal(left[-1]) - int((desired["spec"].get("ordinals") or {}).get("start", 0)) + 1 if left else 0


def unfinished(desired: Manifest, live: Manifest) -> tuple[list[Action], Manifest]:
    """Return how an object that was created anew gets to whom its parts belong, if we were cut off, and how it is then.

    Until then they are ours alone, and the next apply would drop them: pods would restart.
    """
    owed: Kept = {}
    entries = live["metadata"].get("managedFields") or []
    for manager, tree in _note(live).items():
        fields = extracted(live, tree, desired) if applied_fields(live, manager) is None else {}
        if fields:
            owed[manager] = fields, tree
            owned = fields_of(fields | {"metadata": fields.get("metadata", {})})
            entries = [*entries, {"manager": manager, "operation": "Apply", "fieldsV1": owned}]
    return _handovers(desired, owed), live | {
        "metadata": live["metadata"] | {"managedFields": entries}
    } if owed else live


def _with_others(desired: Manifest, found: Kept) -> tuple[Manifest, Kept]:
    """Return a manifest with what others have set, noting what is whose, and what of it each of them is to get.

    `found` holds where to look for a manager's fields, and their tree.
    """
    manifest = desired
    kept: Kept = {}
    for manager, (source, tree) in found.items():
        fields = extracted(source, tree, manifest)
        if fields:
            manifest = _overlaid(manifest, fields, tree)
            kept[manager] = fields, tree
    return _noted(manifest, {manager: tree for manager, (_, tree) in kept.items()}), kept


def _handovers(desired: Manifest, kept: Kept) -> list[Action]:
    return [handover(desired, manager, fields, _AS_SET) for manager, (fields, _) in kept.items()]


# --- the note of what is whose ----------------------------------------------------------------------------------------


def _noted(manifest: Manifest, trees: Mapping[str, Fields]) -> Manifest:
    """Return a manifest that says which of its fields are whose, in the very write that makes them ours."""
    if not trees:
        return manifest
    metadata = manifest["metadata"]
    note = {HANDOVER_ANNOTATION: json.dumps(trees, separators=(",", ":"), sort_keys=True)}
    return manifest | {"metadata": metadata | {"annotations": metadata.get("annotations", {}) | note}}


def _note(live: Manifest) -> dict[str, Fields]:
    """Return what `_noted` said, by field manager; nothing where anybody else has written something there."""
    text = (live["metadata"].get("annotations") or {}).get(HANDOVER_ANNOTATION, "{}")
    with suppress(ValueError, RecursionError):
        note = json.loads(text)
        if _is_tree(note):
            return {manager: tree for manager, tree in note.items() if _is_ours(manager)}
    return {}


def _is_ours(manager: str) -> bool:
    return manager.startswith(f"{FIELD_MANAGER}-")


def _is_tree(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_tree, value.values()))


def _without_note(live: Manifest) -> Manifest:
    metadata = live["metadata"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != HANDOVER_ANNOTATION}
    return live | {"metadata": metadata | {"annotations": annotations}}


# --- what is kept while it is gone ------------------------------------------------------------------------------------


def unneeded(
    service: Manifest, desired: Sequence[Manifest], observed: Mapping[ObjectRef, Manifest]
) -> Sequence[Action]:
    """Return how a Service says nothing more of its StatefulSet, if that is there again."""
    if not _says_something(service):
        return ()
    ours = {ObjectRef.of(service): service}
    waiting = (each for each in desired if each["kind"] == "StatefulSet" and _service_of(each, ours))
    there = (observed.get(ObjectRef.of(each)) for each in waiting)
    return [_released(service)] if all(each and "deletionTimestamp" not in each["metadata"] for each in there) else ()


def _service_of(desired: Manifest, observed: Mapping[ObjectRef, Manifest]) -> Manifest | None:
    """Return the live Service of a StatefulSet, which outlives it."""
    name = str(desired["spec"].get("serviceName", ""))
    return observed.get(ObjectRef("Service", desired["metadata"].get("namespace", ""), name))


def _says_something(service: Manifest) -> bool:
    return bool(applied_fields(service, KEPT_MANAGER))


def _beside(service: Manifest | None) -> Kept:
    """Return what a Service says of its StatefulSet, which was deleted to be created anew."""
    if service is None or not _says_something(service):
        return {}
    text = (service["metadata"].get("annotations") or {}).get(HANDOVER_ANNOTATION, "{}")
    with suppress(ValueError, RecursionError, TypeError, AttributeError, KeyError):
        found: Kept = {name: (each["fields"], each["tree"]) for name, each in json.loads(text).items()}
        if all(_is_ours(name) and _is_tree(tree) and isinstance(kept, dict) for name, (kept, tree) in found.items()):
            return found
    return {}


def _released(service: Manifest) -> Action:
    return handover(service, KEPT_MANAGER, {}, "its StatefulSet is there again")


def _kept_beside(service: Manifest, kept: Kept) -> Action:
    note = {name: {"fields": fields, "tree": tree} for name, (fields, tree) in kept.items()}
    text = json.dumps(note, separators=(",", ":"), sort_keys=True)
    fields = {"metadata": {"annotations": {HANDOVER_ANNOTATION: text}}}
    return replace(
        handover(service, KEPT_MANAGER, fields, "keeps what others have set, while that is gone"), force=True
    )


def _is_borne(kept: Manifest) -> bool:
    """Return whether pods bear all of what others have set, so that they tell of it."""
    names = kept.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {})
    return kept == _annotating(names) and names.keys() <= LASTING_ANNOTATIONS.keys()


def _borne(pod: Manifest) -> Kept:
    annotations = pod.get("metadata", {}).get("annotations") or {}
    found: Kept = {}
    for name in sorted(LASTING_ANNOTATIONS.keys() & annotations.keys()):
        tree: Fields = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {f"f:{name}": {}}}}}}
        found[LASTING_ANNOTATIONS[name]] = _annotating({name: annotations[name]}), tree
    return found


def _annotating(annotations: Manifest) -> Manifest:
    return {"spec": {"template": {"metadata": {"annotations": annotations}}}}


# --- what others have set ---------------------------------------------------------------------------------------------


def _was_left(pod: Manifest, workload: ObjectRef) -> bool:
    """Return whether a pod is an earlier StatefulSet's of that name; it need not look like an orphan yet."""
    metadata = pod["metadata"]
    owners = (owner for owner in metadata.get("ownerReferences") or () if owner.get("controller"))
    strange = any((owner["kind"], owner["name"]) != (workload.kind, workload.name) for owner in owners)
    if strange or "deletionTimestamp" in metadata:
        return False
    return bool(re.fullmatch(rf"{re.escape(workload.name)}-\d+", metadata["name"]))


def _ordinal(pod: Manifest) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def _trees_of_others(live: Manifest) -> dict[str, Fields]:
    """Return which labels, annotations and parts of the spec others own, by who is to hold them.

    A hold of ours is not among them: its strategy belongs to the roll of the StatefulSet that goes.
    """
    trees: dict[str, Fields] = {}
    for entry in managed_entries(live):
        manager = entry["manager"]
        if entry.get("subresource") or manager in {FIELD_MANAGER, REPLICAS_MANAGER, ROLLOUT_MANAGER}:
            continue
        holder = manager if manager.startswith(FIELD_MANAGER) else KEPT_MANAGER
        fields = entry.get("fieldsV1") or {}
        tree = {
            "f:metadata": _only(fields.get("f:metadata", {}), "f:labels", "f:annotations"),
            "f:spec": _only(fields.get("f:spec", {}), *_LASTING_PARTS),
        }
        trees[holder] = _union(trees.get(holder, {}), tree)
    return trees


def _only(tree: Fields, *keys: str) -> Fields:
    return {key: tree[key] for key in keys if key in tree}


def _union(left: Fields, right: Fields) -> Fields:
    return left | {key: _union(left.get(key, {}), node) for key, node in right.items()}


def _overlaid(value: Any, extra: Any, tree: Fields) -> Any:
    """Lay what was extracted over a value."""
    if isinstance(extra, dict):
        base = value if isinstance(value, dict) else {}
        return base | {name: _overlaid(base.get(name), part, tree.get("f:" + name, {})) for name, part in extra.items()}
    if isinstance(extra, list) and tree:
        names = key_names(tree)
        base = keyed(value or (), names)
        for key, item in keyed(extra, names).items():
            base[key] = _overlaid(base.get(key), item, tree.get(item_field(key, names), {}))
        return list(base.values())
    return extra
