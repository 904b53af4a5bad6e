"""Creating a StatefulSet anew under its running pods, so that they do not notice.

The pods stay as they are only if the new StatefulSet has the very pod template and count of the old one, down to what
others have put there: the annotation of a restart that somebody asked for, an autoscaler's count. So those go into the
new object, and managers of their own hold them until the main manager, which never renders them, has let go again.
`plan` asks; `volumes` says why it comes to this.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chronik.manifest import FIELD_MANAGER, ObjectRef
from chronik.plan.actions import KEPT_MANAGER, REPLICAS_MANAGER, Action, Create, Recreate
from chronik.plan.managed_fields import Fields, item_field, key_names, keyed, owned_key
from chronik.plan.replicas import counting, handover
from chronik.plan.rotation import ANNOTATION, ROTATION_MANAGER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.manifest import Manifest
    from chronik.plan.changes import Change

LASTING_ANNOTATIONS = {"kubectl.kubernetes.io/restartedAt": KEPT_MANAGER, ANNOTATION: ROTATION_MANAGER}
"""Annotations of pods that are in no rendered template and made them what they are, and who is to hold each."""


def recreation(
    desired: Manifest, live: Manifest, reason: str, changes: tuple[Change, ...], restarts: tuple[Change, ...]
) -> list[Action]:
    """Return how a StatefulSet is created anew, with everything that others have set and pods may see."""
    manifest = desired
    after: list[Action] = []
    for manager, tree in _trees_of_others(live).items():
        fields = _extracted(live, tree, manifest)
        if fields:
            manifest = _overlaid(manifest, fields, tree)
            after.append(handover(desired, manager, fields, "stays as others have set it"))
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
    return [anew, *after]


def resumption(create: Create, pods: Sequence[Manifest]) -> list[Action]:
    """Return how a StatefulSet is created over pods that an earlier one left, so that they do not notice.

    We may have been cut off between deleting and creating it. What others had put into its pod template is gone then,
    but for what the newest of its pods bears: those have the highest ordinals, as a roll goes downwards.
    """
    left = sorted((pod for pod in pods if _was_left(pod, create.ref)), key=_ordinal)
    annotations = left[-1]["metadata"].get("annotations") or {} if left else {}
    manifest = create.manifest
    after: list[Action] = []
    for name in LASTING_ANNOTATIONS.keys() & annotations.keys():
        fields = {"spec": {"template": {"metadata": {"annotations": {name: annotations[name]}}}}}
        manifest = _overlaid(manifest, fields, {})
        holder = LASTING_ANNOTATIONS[name]
        after.append(handover(create.manifest, holder, fields, "stays as it is on the pods that are there"))
    return [replace(create, manifest=manifest), *after]


def _was_left(pod: Manifest, workload: ObjectRef) -> bool:
    """Tell whether a pod is an earlier StatefulSet's of that name; that it is an orphan may not have been heard yet."""
    metadata = pod["metadata"]
    owners = (owner for owner in metadata.get("ownerReferences") or () if owner.get("controller"))
    strange = any((owner["kind"], owner["name"]) != (workload.kind, workload.name) for owner in owners)
    if strange or "deletionTimestamp" in metadata:
        return False
    return bool(re.fullmatch(rf"{re.escape(workload.name)}-\d+", metadata["name"]))


def _ordinal(pod: Manifest) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def retains(live: Manifest) -> bool:
    """Tell whether a StatefulSet keeps its claims when it is deleted."""
    policy = live["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get("whenDeleted", "Retain") == "Retain")


def retaining(desired: Manifest) -> Manifest:
    """Return a StatefulSet that keeps its claims when it is deleted."""
    field = "persistentVolumeClaimRetentionPolicy"
    policy = desired["spec"].get(field, {}) | {"whenDeleted": "Retain"}
    return desired | {"spec": desired["spec"] | {field: policy}}


def _trees_of_others(live: Manifest) -> dict[str, Fields]:
    """Return which labels, annotations and parts of the pod template others own, by who is to hold them."""
    trees: dict[str, Fields] = {}
    for entry in live["metadata"].get("managedFields") or ():
        manager = entry["manager"]
        if entry.get("subresource") or manager in {FIELD_MANAGER, REPLICAS_MANAGER}:
            continue
        holder = manager if manager.startswith(FIELD_MANAGER) else KEPT_MANAGER
        fields = entry.get("fieldsV1") or {}
        tree = {
            "f:metadata": _only(fields.get("f:metadata", {}), "f:labels", "f:annotations"),
            "f:spec": _only(fields.get("f:spec", {}), "f:template"),
        }
        trees[holder] = _union(trees.get(holder, {}), tree)
    return trees


def _only(tree: Fields, *keys: str) -> Fields:
    return {key: tree[key] for key in keys if key in tree}


def _union(left: Fields, right: Fields) -> Fields:
    return left | {key: _union(left.get(key, {}), node) for key, node in right.items()}


def _extracted(live: Any, tree: Fields, without: Any) -> Any:
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
            part = _extracted(live[name], node, inside)
            if part:
                found[name] = part
        elif inside is None:
            found[name] = live[name]
    return found


def _extracted_items(live: list[Any], tree: Fields, without: Any) -> list[Any]:
    names = key_names(tree)
    present, inside = keyed(live, names), keyed(without, names)
    found = []
    for field, node in tree.items():
        key = None if field == "." else owned_key(field)
        if field == "." or key not in present:
            continue
        item = present[key]
        if key in inside and not node.keys() - {"."}:
            continue
        part = _extracted(item, node, inside.get(key)) if node.keys() - {"."} else item
        if part:
            found.append({name: item[name] for name in names if name in item} | part if names else part)
    return found


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
