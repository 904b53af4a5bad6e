"""What is there of one cluster, as it was read: the one type for it, wherever it was read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from chronik.manifest import KindName, Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """The live objects of one cluster. What was not read, or may not be read, is empty.

    `document` is its ChronikCluster; `objects` are of the kinds that chronik renders, with their `managedFields`;
    `claims` are PersistentVolumeClaims. `expandable` tells of StorageClasses whether they expand volumes; of one that
    is not in it, that is not known. `missing` are the optional kinds that are not installed. `uninstalled` says of
    kinds of user templates, by name, why nothing of them can be made; `unread` are those of which it is not known what
    there is.
    """

    document: Manifest | None = None
    objects: Mapping[ObjectRef, Manifest] = field(default_factory=dict)
    pods: Sequence[Manifest] = ()
    claims: Sequence[Manifest] = ()
    expandable: Mapping[str, bool] = field(default_factory=dict)
    missing: Collection[KindName] = frozenset()
    uninstalled: Mapping[str, str] = field(default_factory=dict)
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
