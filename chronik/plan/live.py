"""What is there of one cluster, as it was read: the one type for it, wherever it was read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from chronik.errors import KindMissing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.manifest import KindName, Manifest, ObjectRef


class Missing(NamedTuple):
    """Why no object of a kind can be made: a condition's reason, what is the matter, and what to do about it."""

    reason: str
    message: str
    hint: str


def not_known(kind: KindName) -> Missing:
    """Return that the API server does not know a kind, because nobody has installed it."""
    hint = "Install the CustomResourceDefinition that defines it. An operator makes the object then; without one, apply"
    return Missing(KindMissing.reason, f"the cluster does not know the kind {kind.described}", f"{hint} again.")


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """The live objects of one cluster. What was not read, or may not be read, is empty.

    `document` is its ChronikCluster; `objects` are of the kinds that chronik renders, with their `managedFields`;
    `claims` are PersistentVolumeClaims. `expandable` tells of StorageClasses whether they expand volumes; of one that
    is not in it, that is not known. `missing` says of kinds why no object of them can be made; `unread` are kinds of
    which it is not known what there is.
    """

    document: Manifest | None = None
    objects: Mapping[ObjectRef, Manifest] = field(default_factory=dict)
    pods: Sequence[Manifest] = ()
    claims: Sequence[Manifest] = ()
    expandable: Mapping[str, bool] = field(default_factory=dict)
    missing: Mapping[KindName, Missing] = field(default_factory=dict)
    unread: frozenset[KindName] = frozenset()

    @property
    def exists(self) -> bool:
        """Whether there is anything but leftovers of a cluster: its pods and claims may outlive it."""
        return self.document is not None or bool(self.objects)

    @property
    def created(self) -> str:
        """When the cluster was created, as its ChronikCluster or else its oldest object says; empty if none does."""
        document = (self.document or {}).get("metadata") or {}
        times = (each["metadata"].get("creationTimestamp") for each in self.objects.values())
        return document.get("creationTimestamp") or min(filter(None, times), default="")

    @property
    def pod_counts(self) -> dict[ObjectRef, int]:
        """How many pods each workload has, if it has any."""
        counts = {ref: (each.get("status") or {}).get("replicas") for ref, each in self.objects.items()}
        return {ref: count for ref, count in counts.items() if count}
