"""The contents of the operator's caches: records by kind and by cluster, and who is to be woken when one changes.

What the API server says comes in beside what we have just written ourselves, which is newer: an event that is older
than what is known changes nothing. Nothing here waits.
Resource versions compare as integers: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chronik.manifest import BACKUP, CLUSTER, SECRET, STORAGE_CLASS, ClusterKey, ObjectRef, WorkKey
from chronik.operator.cache.packing import by_others

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chronik.operator.cache.packing import Record

ListScope = tuple[str, str | None]
"""A kind, and the namespace that it is watched in: None for all."""

_64_BITS = (1 << 64) - 1


@dataclass(slots=True)
class _Group:
    """What belongs to one cluster; `total` is the sum of its records' marks, whatever their order."""

    refs: set[ObjectRef] = field(default_factory=set)
    total: int = 0


class Store:
    """All records. `wake` gets the cluster of whatever changes, if there is one, and each backup that changes."""

    def __init__(self, wake: Callable[[WorkKey], None]) -> None:
        self._wake = wake
        self._records: dict[str, dict[ObjectRef, Record]] = defaultdict(dict)
        self._groups: dict[ClusterKey, _Group] = {}
        self._users: dict[ObjectRef, set[ClusterKey]] = {}
        self._named: dict[ClusterKey, dict[str, frozenset[ObjectRef]]] = {}
        self._gone: dict[ObjectRef, str] = {}
        self._reached: dict[ListScope, int] = {}

    def get(self, ref: ObjectRef) -> Record | None:
        """Return what is known of an object."""
        return self._records[ref.kind].get(ref)

    def of_kind(self, kind: str) -> Mapping[ObjectRef, Record]:
        """Return all records of a kind; not to be changed."""
        return self._records[kind]

    def of_cluster(self, key: ClusterKey) -> list[tuple[ObjectRef, Record]]:
        """Return the records of what belongs to a cluster, in a stable order."""
        group = self._groups.get(key)
        return [(ref, self._records[ref.kind][ref]) for ref in sorted(group.refs)] if group else []

    def fingerprint(self, key: ClusterKey) -> tuple[int, ...]:
        """Return what changes whenever something changes that a reconcile of this cluster reads."""
        cluster = self.get(_cluster_ref(key))
        group = self._groups.get(key)
        classes = sum(_weight(ref, record) for ref, record in self._records[STORAGE_CLASS.name].items())
        used = (self.get(ref) for ref in sorted({*_secret_refs(key, cluster), *self._names_of(key)}))
        marks = (record.mark if record else 0 for record in (cluster, *used))
        return (group.total if group else 0, classes & _64_BITS, *marks)

    def uses(self, key: ClusterKey, kind: str, names: Iterable[str]) -> None:
        """Record which objects of a kind a cluster uses that are no part of it: more than its document may name."""
        named = frozenset(ObjectRef(kind, key.namespace, name) for name in names)
        kinds = self._named.pop(key, {})
        before = kinds.pop(kind, frozenset())
        kinds |= {kind: named} if named else {}
        if kinds:
            self._named[key] = kinds
        for ref in before - named:
            self._unused(ref, key)
        for ref in named - before:
            self._users.setdefault(ref, set()).add(key)

    def _names_of(self, key: ClusterKey) -> Iterator[ObjectRef]:
        return (ref for refs in self._named.get(key, {}).values() for ref in refs)

    def _unused(self, ref: ObjectRef, key: ClusterKey) -> None:
        users = self._users[ref]
        if ref in self._names_of(key) or ref in _secret_refs(key, self.get(_cluster_ref(key))):
            return
        users.discard(key)
        if not users:
            del self._users[ref]

    def is_stale(self, ref: ObjectRef, version: int) -> bool:
        """Return whether an object is not known yet, or only in an older version."""
        known = self.get(ref)
        return known is None or known.version < version

    def take(self, ref: ObjectRef, record: Record) -> None:
        """Observe an event or a listed object."""
        known = self.get(ref)
        if not self.is_stale(ref, record.version):
            return
        if known is None and self._gone.get(ref) == record.uid:
            if "deletionTimestamp" not in record.manifest["metadata"]:
                return  # from before it was deleted
            del self._gone[ref]
        self._put(ref, record)
        wiped = known is not None and known.reports and not record.reports  # our own writes take no status away
        if known is None or known.mark != record.mark or wiped:
            self._notify(ref, known, record)

    def remove(self, ref: ObjectRef, uid: str, version: int) -> None:
        """Observe that an object is gone, or no longer among those that are watched."""
        if self._gone.get(ref) == uid:
            del self._gone[ref]
        known = self.get(ref)
        # A ChronikCluster that we wrote to after it ceased to be ours is gone all the same, and is not reported again.
        outdated = known is not None and known.version > version and ref.kind != CLUSTER.name
        if known is not None and known.uid == uid and not outdated:
            self._drop(ref, known)
            self._notify(ref, known)

    def replace(self, selection: ListScope, listed: Mapping[ObjectRef, Record], version: int) -> None:
        """Observe a list of a kind in a namespace, or all: what it lacks is gone, unless it is newer than the list."""
        kind, namespace = selection
        for ref, record in listed.items():
            self.take(ref, record)
        for ref, known in list(self._records[kind].items()):
            missing = ref not in listed and namespace in {None, ref.namespace}
            if missing and known.version <= version:
                self._drop(ref, known)
                self._notify(ref, known)
        for ref in [ref for ref in self._gone if ref.kind == kind and namespace in {None, ref.namespace}]:
            if ref not in listed:
                del self._gone[ref]
        self.reached(selection, version)

    def forget_kind(self, kind: str) -> None:
        """Forget all objects of a kind that is no longer followed; no cluster is woken."""
        for ref, known in list(self._records[kind].items()):
            self._drop(ref, known)
        for ref in [ref for ref in self._gone if ref.kind == kind]:
            del self._gone[ref]
        for scope in [scope for scope in self._reached if scope[0] == kind]:
            del self._reached[scope]

    def forget(self, selection: ListScope) -> None:
        """Forget all objects of a kind in a namespace, or all: the server does not know the kind any more."""
        kind, namespace = selection
        for ref, known in list(self._records[kind].items()):
            if namespace in {None, ref.namespace}:
                self._drop(ref, known)
                self._notify(ref, known)

    def reached(self, selection: ListScope, version: int) -> None:
        """Observe that all events up to a version have come."""
        self._reached[selection] = max(version, self._reached.get(selection, 0))

    def observe_write(self, ref: ObjectRef, record: Record) -> None:
        """Observe the answer to a write of our own: it wakes no cluster, unless others changed something meanwhile.

        That change's own event is older than the answer, and will be ignored when it comes.
        """
        known = self.get(ref)
        if record.version <= (known.version if known else self._told(ref)):
            return  # if it is not known, it has been deleted since, and that event has come already
        self._put(ref, record)
        if known is None and ref.kind == BACKUP.name:  # made for a schedule, in its cluster's pass
            self._wake(WorkKey(*ref))
        if known is not None and by_others(known.manifest) != by_others(record.manifest):
            self._notify(ref, known, record)

    def observe_delete(self, ref: ObjectRef, uid: str) -> None:
        """Observe that we have deleted an object ourselves; events from before that change nothing."""
        known = self.get(ref)
        if known is not None and known.uid == uid:
            self._gone[ref] = uid
            self._drop(ref, known)

    def _told(self, ref: ObjectRef) -> int:
        return max(self._reached.get((ref.kind, namespace), 0) for namespace in (None, ref.namespace))

    def _put(self, ref: ObjectRef, record: Record) -> None:
        known = self.get(ref)
        if known is not None:
            self._drop(ref, known)
        self._records[ref.kind][ref] = record
        if record.cluster is not None:
            group = self._groups.setdefault(record.cluster, _Group())
            group.refs.add(ref)
            group.total = (group.total + _weight(ref, record)) & _64_BITS
        for secret in _secret_refs(ref, record):
            self._users.setdefault(secret, set()).add(ClusterKey(ref.namespace, ref.name))

    def _drop(self, ref: ObjectRef, record: Record) -> None:
        del self._records[ref.kind][ref]
        if record.cluster is not None:
            group = self._groups[record.cluster]
            group.refs.remove(ref)
            group.total = (group.total - _weight(ref, record)) & _64_BITS
            if not group.refs:
                del self._groups[record.cluster]
        for secret in _secret_refs(ref, record):
            self._unused(secret, ClusterKey(ref.namespace, ref.name))

    def _notify(self, ref: ObjectRef, *states: Record | None) -> None:
        """Wake the clusters that have to do with an object that was and is in these states."""
        if ref.kind == CLUSTER.name:
            self._wake(WorkKey(*ref))
            return
        if ref.kind == BACKUP.name:
            self._wake(WorkKey(*ref))
        for key in self._concerned(ref, states):
            if self.get(_cluster_ref(key)) is not None:
                self._wake(WorkKey.of(key))

    def _concerned(self, ref: ObjectRef, states: Iterable[Record | None]) -> list[ClusterKey]:
        if ref.kind == STORAGE_CLASS.name:
            return [ClusterKey(each.namespace, each.name) for each in self._records[CLUSTER.name]]
        owners = {state.cluster for state in states if state is not None and state.cluster is not None}
        return sorted(owners | self._users.get(ref, set()))


def _weight(ref: ObjectRef, record: Record) -> int:
    return hash((ref, record.mark)) & _64_BITS


def _cluster_ref(key: ClusterKey) -> ObjectRef:
    return ObjectRef(CLUSTER.name, key.namespace, key.name)


def _secret_refs(cluster: ClusterKey | ObjectRef, record: Record | None) -> list[ObjectRef]:
    return [ObjectRef(SECRET.name, cluster.namespace, name) for name in (record.secrets if record else ())]
