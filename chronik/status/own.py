"""How the objects are that only templates of the user's make, and the templates themselves.

They say nothing about the platform: a cluster is ready without them, so they have a condition of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.api.components import components, workload_ref
from chronik.manifest import KIND_BY_NAME, WORKLOAD_KINDS, ObjectRef, is_beside
from chronik.status.compute import condition
from chronik.status.health import Health, State, health
from chronik.wording import MOST_NAMED, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.errors import ChronikError
    from chronik.manifest import Manifest
    from chronik.status.compute import Condition


def own_objects(cluster: Cluster, manifests: Iterable[Manifest]) -> list[ObjectRef]:
    """Return those objects that only templates of the user's make and that can be unwell, as ConfigMaps cannot.

    Mirrors and the archive are none of these: they have conditions of their own.
    """
    workloads = {workload_ref(cluster.key, each.name) for each in components(cluster)}
    refs = {ObjectRef.of(each) for each in manifests if not is_beside(each)}
    return sorted(
        ref for ref in refs if ref.kind not in KIND_BY_NAME or (ref.kind in WORKLOAD_KINDS and ref not in workloads)
    )


def own_health(cluster: Cluster, objects: Mapping[ObjectRef, Manifest]) -> dict[ObjectRef, Health]:
    """Return how the live objects are that only templates of the user's make; those that are well are in it, too."""
    return {ref: health(objects[ref]) for ref in own_objects(cluster, objects.values())}


def own_conditions(
    cluster: Cluster,
    desired: Sequence[Manifest],
    objects: Mapping[ObjectRef, Manifest],
    unread: ChronikError | None = None,
) -> list[Condition]:
    """Return the condition of the objects that templates of the user's add; none if there are no such objects.

    `unread` is why it is not known what is left of templates that are gone. Objects of kinds that are not installed are
    not ready; that their kinds are missing is told in a condition that all such kinds have in common.
    """
    wanted = own_objects(cluster, desired)
    if unread is not None:
        told = f"What templates that are gone have made cannot be found: {sentence(unread.message)} {unread.hint}"
        return [condition("OwnObjectsReady", met=False, reason="LeftoversUnknown", message=told.strip())]
    if not wanted:
        return []
    unwell = [f"{ref}: {_words(objects.get(ref))}" for ref in wanted if not _health(objects.get(ref)).ready]
    reason = "ObjectsNotReady" if unwell else "AllObjectsReady"
    return [condition("OwnObjectsReady", met=not unwell, reason=reason, message=_joined(unwell, "; "))]


def _health(live: Manifest | None) -> Health:
    return Health(State.IN_PROGRESS, "does not exist") if live is None else health(live)


def _words(live: Manifest | None) -> str:
    return _health(live).message or "is not ready"


def template_conditions(trouble: str) -> list[Condition]:
    """Return the condition that says that newer templates are broken; none if there is no trouble."""
    return [condition("TemplatesUsable", met=False, reason="TemplateError", message=trouble)] if trouble else []


def _joined(texts: Sequence[str], mark: str) -> str:
    more = len(texts) - MOST_NAMED
    return mark.join(texts[:MOST_NAMED]) + (f" (and {more} more)" if more > 0 else "")
