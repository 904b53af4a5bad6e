"""What the operator knows of the cluster it runs in: every ChronikCluster, and everything that belongs to one.

Each kind is listed and watched once, for the whole fleet, so that reconciling reads from memory and asks the server
nothing. Whatever changes wakes its cluster; what the operator has written itself is put in at once (`observe_write`,
`observe_delete`), so that a reconcile never sees less than the one before it did, and wakes no cluster.

A reconcile takes `fingerprint` before it takes `view`. If it then finds nothing to do, there is nothing to do until the
fingerprint changes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from chronik.clock import Clock
from chronik.kube.reflector import KindSelector, Reflector, ReflectorOptions
from chronik.manifest import (
    BACKUP,
    CLAIM,
    CLUSTER,
    COMPONENT_NAMES,
    INSTANCE_LABEL,
    KIND_BY_NAME,
    KINDS,
    MANAGED_BY,
    POD,
    SECRET,
    STORAGE_CLASS,
    WORKLOAD_KINDS,
    ClusterKey,
    ObjectRef,
    WorkKey,
)
from chronik.operator.cache.own import PASSING, OwnKinds
from chronik.operator.cache.packing import Packer
from chronik.operator.cache.sink import PackingSink
from chronik.operator.cache.store import Store
from chronik.plan.live import LiveCluster, not_known
from chronik.tasks import task_group

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from chronik.errors import ChronikError
    from chronik.kube import Kube
    from chronik.manifest import Kind, KindName, Manifest
    from chronik.operator.cache.packing import Record
    from chronik.plan.live import Missing

_log = logging.getLogger("chronik.operator.cache")

LISTS_AT_A_TIME = 2
"""A page takes some 20 MB to read."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts to list or watch, at most."""
MISSING_PAUSE = 15.0
"""Seconds until a kind that is not installed, and that a cluster waits for, is asked for again."""
OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
CLAIMS = f"{INSTANCE_LABEL},app.kubernetes.io/component in ({','.join(COMPONENT_NAMES)})"
"""Claims bear the labels of their StatefulSet's selector, and those only."""
BACKUPS = "backups"
"""The feature of those who watch and make ChronikBackups: `chronik install --features`."""
NO_HELM = "type!=helm.sh/release.v1"
"""Helm keeps its releases in Secrets, up to a megabyte each."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to look after: namespaces (none: all of them), and of the ChronikClusters there those with these labels."""

    namespaces: tuple[str, ...] = ()
    selector: str = ""
    features: frozenset[str] = frozenset()
    """What else is looked after, and watched for it: `chronik install --features` gives the rights."""


class Cache:
    """Everything selected, kept up to date while `run` runs. `on_relist` gets the kind, and why."""

    def __init__(
        self,
        kube: Kube,
        selection: Selection,
        *,
        wake: Callable[[WorkKey], None],
        clock: Clock | None = None,
        on_relist: Callable[[str, str], None] = lambda _kind, _why: None,
    ) -> None:
        self._selection = selection
        self._store = Store(wake)
        self._wake = wake
        options = ReflectorOptions(
            LONGEST_PAUSE,
            missing_pause=MISSING_PAUSE,
            listing=asyncio.Semaphore(LISTS_AT_A_TIME),
            clock=clock or Clock(),
            on_break=_log_break,
            on_relist=self._note_relist,
        )
        selectors = list(_selectors(selection))
        self._on_relist = on_relist
        self._packers = {each.kind.name: Packer(each.kind) for each in selectors}
        self._sinks = [
            PackingSink(each, self._store, self._packers[each.kind.name], self._wake_all) for each in selectors
        ]
        self._reflectors = [Reflector(kube, sink.selector, sink, options) for sink in self._sinks]
        self._epoch = 0
        namespaces: list[str | None] = [*dict.fromkeys(selection.namespaces)] or [None]
        self.own = OwnKinds(kube, namespaces, OURS, self._store, replace(options, retried=PASSING), self.wake_all)
        self._optional = [each for each in self._reflectors if each.selector.optional]
        self._waiting: dict[ClusterKey, frozenset[KindName]] = {}
        self._look_for_missing()

    async def run(self) -> None:
        """List and watch everything, until cancelled; whatever goes wrong is tried again.

        ChronikClusters come first: without a server, the definition or rights one complaint is enough.
        """
        async with task_group() as tasks:
            tasks.create_task(self.own.run(), name="watch kinds of templates")
            for first in (True, False):
                found = [each for each in self._reflectors if (each.selector.kind is CLUSTER) == first]
                for reflector in found:
                    tasks.create_task(reflector.run(), name=f"watch {reflector.selector}")
                for reflector in found:
                    await reflector.ready.wait()

    def _note_relist(self, selector: KindSelector, why: str) -> None:
        _log.info("%s are listed again: %s", selector, why)
        self._on_relist(selector.kind.name, why)

    def _wake_all(self) -> None:
        """Wake every cluster: a kind of which each may want an object has come, or gone."""
        for key in self.clusters():
            self._wake(WorkKey.of(key))

    @property
    def trouble(self) -> str:
        """What is wrong with the first kind that could not be listed; empty if nothing is."""
        return next((each.trouble for each in self._sinks if each.trouble), "")

    @property
    def synced(self) -> bool:
        """Whether everything has been listed once: before that, an object that is not known may exist."""
        return self.own.is_settled and all(reflector.ready.is_set() for reflector in self._reflectors)

    async def wait_synced(self) -> None:
        """Wait until everything has been listed once."""
        for reflector in self._reflectors:
            await reflector.ready.wait()
        await self.own.wait_settled()

    def wake_all(self) -> None:
        """Have a pass over every cluster, though none looks different: what they are rendered with has changed."""
        self._epoch += 1
        for key in self.clusters():
            self._wake(WorkKey.of(key))

    def clusters(self) -> list[ClusterKey]:
        """Return which ChronikClusters there are."""
        return [ClusterKey(ref.namespace, ref.name) for ref in self._store.of_kind(CLUSTER.name)]

    def cluster(self, key: ClusterKey) -> Manifest | None:
        """Return a ChronikCluster, or None if there is none of that name."""
        record = self._store.get(ObjectRef(CLUSTER.name, key.namespace, key.name))
        return record.manifest if record else None

    def backup(self, key: WorkKey) -> Manifest | None:
        """Return a ChronikBackup, or None if there is none of that name."""
        record = self._store.get(ObjectRef(*key))
        return record.manifest if record else None

    def all_backups(self) -> list[WorkKey]:
        """Return which ChronikBackups there are, of whatever cluster."""
        return [WorkKey(*ref) for ref in self._store.of_kind(BACKUP.name)]

    def backups(self, key: ClusterKey) -> list[Manifest]:
        """Return the ChronikBackups of a cluster, by name."""
        found = (record for ref, record in self._store.of_cluster(key) if ref.kind == BACKUP.name)
        return [record.manifest for record in found]

    @property
    def is_namespaced(self) -> bool:
        """Whether nothing may be asked that lies outside of namespaces."""
        return bool(self._selection.namespaces)

    def has_feature(self, name: str) -> bool:
        """Return whether the operator looks after something that not every one does."""
        return name in self._selection.features

    def workloads(self, key: ClusterKey) -> Iterator[Manifest]:
        """Yield the workloads of a cluster, and unpack nothing else that belongs to it."""
        return (record.manifest for ref, record in self._store.of_cluster(key) if ref.kind in WORKLOAD_KINDS)

    def view(self, key: ClusterKey, document: Manifest | None = None) -> LiveCluster:
        """Return all that is there of a cluster, reduced to what plans read.

        What belongs to it is found by its controller or, without one, by its label. `document` is its ChronikCluster if
        it has been read already: to unpack it once more would be a waste.
        """
        objects: dict[ObjectRef, Manifest] = {}
        pods: list[Manifest] = []
        claims: list[Manifest] = []
        own = self.own.packers
        for ref, record in self._store.of_cluster(key):
            if ref.kind == POD.name:
                pods.append(record.manifest)
            elif ref.kind == CLAIM.name:
                claims.append(record.manifest)
            elif ref.kind in KIND_BY_NAME or ref.kind in own:
                objects[ref] = record.manifest
        found = LiveCluster(document or self.cluster(key), objects, pods, claims, self.expandable())
        return replace(found, missing=self.missing(key.namespace))

    def kind(self, name: str) -> Kind | None:
        """Return a kind of objects that are followed; None if it is none, or cannot be had."""
        return KIND_BY_NAME.get(name) or self.own.kind(name)

    def fingerprint(self, key: ClusterKey) -> Hashable:
        """Return what changes whenever something changes that a reconcile of this cluster reads, but for its status.

        That is its spec and metadata, what belongs to it, the Secrets that it names, StorageClasses, which kinds are
        installed, and the templates. It means nothing to another process.
        """
        missing = self.missing(key.namespace)
        return self._epoch, self.sees_secrets(key.namespace), frozenset(missing), self._store.fingerprint(key)

    def uses(self, key: ClusterKey, kind: Kind, names: Iterable[str]) -> None:
        """Record which Secrets or Services a cluster uses that are no part of it: a change of one is one of it."""
        self._store.uses(key, kind.name, names)

    def service(self, namespace: str, name: str) -> Manifest | None:
        """Return a Service of ours, whether or not it is part of a cluster."""
        record = self._store.get(ObjectRef("Service", namespace, name))
        return record.manifest if record else None

    def observe_write(self, manifest: Manifest) -> None:
        """Observe the server's answer to a write of our own; its event then wakes no cluster.

        A ChronikCluster that we have just lost, because it no longer bears the labels that we look after, stays lost.
        """
        ref = ObjectRef.of(manifest)
        if ref.kind == CLUSTER.name and self._store.get(ref) is None:
            return
        packer = self._packers.get(ref.kind) or self.own.packers.get(ref.kind)
        if packer and (not self._selection.namespaces or ref.namespace in self._selection.namespaces):
            self._store.observe_write(ref, packer.pack(manifest))

    def observe_delete(self, ref: ObjectRef, uid: str) -> None:
        """Observe that we have deleted an object; its event then wakes no cluster.

        If a finalizer holds it up, it comes back with the next event, with its deletionTimestamp.
        """
        self._store.observe_delete(ref, uid)

    def secret_digest(self, namespace: str, name: str) -> str | None:
        """Return the digest of a Secret's data; None if there is no such Secret, or none may be seen."""
        record = self._store.get(ObjectRef(SECRET.name, namespace, name))
        return str(record.manifest["digest"]) if record else None

    def sees_secrets(self, namespace: str) -> bool:
        """Return whether Secrets may be seen: if not, a missing one means nothing."""
        return any(
            reflector.ready.is_set() and not reflector.is_refused
            for reflector in self._reflectors
            if reflector.selector.kind == SECRET and reflector.selector.namespace in {None, namespace}
        )

    def missing(self, namespace: str) -> Mapping[KindName, Missing]:
        """Return of which kinds no object can be made, as a namespace sees it, and why."""
        ours = {
            reflector.selector.kind.id: not_known(reflector.selector.kind.id)
            for reflector in self._optional
            if reflector.is_missing and reflector.selector.namespace in {None, namespace}
        }
        return {**ours, **self.own.missing}

    def waits_for(self, key: ClusterKey, kinds: Iterable[KindName]) -> None:
        """Record for which kinds that are not installed a cluster waits: while none does, they are not looked for."""
        self._waiting.pop(key, None)
        if found := frozenset(kinds):
            self._waiting[key] = found
        self._look_for_missing()

    def _look_for_missing(self) -> None:
        for each in self._optional:
            of = each.selector
            if any(
                of.kind.id in kinds and of.namespace in {None, key.namespace} for key, kinds in self._waiting.items()
            ):
                each.wanted.set()
            else:
                each.wanted.clear()

    def expandable(self) -> Mapping[str, bool]:
        """Return which StorageClasses can expand volumes, as far as that is known: in namespaced mode it is not."""
        classes = self._store.of_kind(STORAGE_CLASS.name)
        return {ref.name: _expands(record) for ref, record in classes.items()}


@lru_cache(maxsize=1024)
def _expands(storage_class: Record) -> bool:
    """Return whether a StorageClass expands volumes; records never change, and every pass asks."""
    return bool(storage_class.manifest.get("allowVolumeExpansion"))


def _log_break(selector: KindSelector, version: str, error: ChronikError) -> None:
    _log.info("the watch of %s broke, and goes on from version %s: %s", selector, version, error.message)


def _selectors(selection: Selection) -> Iterator[KindSelector]:
    """Yield what to follow; nothing that lies outside of namespaces if the selection names some."""
    for namespace in dict.fromkeys(selection.namespaces) or (None,):
        yield KindSelector(CLUSTER, namespace, selection.selector)
        if BACKUPS in selection.features:
            yield KindSelector(BACKUP, namespace, selection.selector)  # else operators of other shards would see it
        for kind in (*KINDS, POD):
            yield KindSelector(kind, namespace, OURS, optional=kind.optional)
        yield KindSelector(CLAIM, namespace, CLAIMS)
        yield KindSelector(SECRET, namespace, fields=NO_HELM, optional=True)
    if not selection.namespaces:
        yield KindSelector(STORAGE_CLASS, optional=True)
