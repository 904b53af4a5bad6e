"""Make the aliases that a cluster names, and take away those that none names any more.

An alias that is there is never written to again, so this cannot fight with a switch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chronik.api.components import client_service_name
from chronik.apply.executor import execute
from chronik.errors import ConflictError, KindMissing, NamespaceMissing
from chronik.manifest import CLUSTER, KIND_BY_NAME, MANAGED_BY, ObjectRef
from chronik.plan.actions import Plan, Skip
from chronik.plan.aliases.services import (
    active_of,
    alias_plan,
    alias_ref,
    is_alias,
    named_elsewhere,
    named_in,
    named_on,
    withdrawal,
)
from chronik.plan.results import Report
from chronik.tasks import gathered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from chronik.api.spec import Cluster
    from chronik.apply.executor import Execution
    from chronik.kube import Kube
    from chronik.manifest import ClusterKey, Manifest
    from chronik.plan.deletion import Deletion
    from chronik.plan.live import LiveCluster

SERVICE = KIND_BY_NAME["Service"]
_OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())


async def make_aliases(
    names: Collection[str], client: Manifest, known: Mapping[ObjectRef, Manifest], execution: Execution
) -> Report:
    """Make the aliases that are not there, and report what is in the way of others.

    `client` is the Service of the cluster's clients. `known` are the Services of these names that need not be read.
    """
    namespace = client["metadata"]["namespace"]
    report = await execute(await planned_aliases(names, client, known, execution.kube), execution)
    if not any(isinstance(each.error, ConflictError) for each in report.failed):
        return report
    found = await read_aliases(execution.kube, namespace, names)  # another cluster was faster, or something else was
    again = await execute(alias_plan(names, client, found), execution)
    made = {each.ref for each in report.written}
    return Report((*report.written, *(each for each in again.results if each.ref not in made)), again.interrupted)


async def planned_aliases(
    names: Collection[str], client: Manifest, known: Mapping[ObjectRef, Manifest], kube: Kube
) -> Plan:
    """Return what is to be done about aliases; those that are not known are read."""
    namespace = client["metadata"]["namespace"]
    unknown = [name for name in names if alias_ref(namespace, name) not in known]
    return alias_plan(names, client, {**known, **await read_aliases(kube, namespace, unknown)})


async def read_aliases(kube: Kube, namespace: str, names: Iterable[str]) -> dict[ObjectRef, Manifest]:
    """Return the Services that have the names of aliases."""
    refs = [alias_ref(namespace, name) for name in names]
    answers = await gathered(*(_get(kube, ref) for ref in refs))
    return {ref: live for ref, live in zip(refs, answers, strict=True) if live is not None}


async def _get(kube: Kube, ref: ObjectRef) -> Manifest | None:
    try:
        return await kube.get(SERVICE, ref.namespace, ref.name)
    except NamespaceMissing:
        return None


async def planned_withdrawal(
    key: ClusterKey, names: Collection[str], kube: Kube, *, operated: bool, gone: Collection[str] = ()
) -> Plan:
    """Return what becomes of aliases that a cluster names no more: they go, unless another cluster names them.

    The server itself is asked: what goes by mistake is missed by clients. Clusters that will be `gone` do not count.
    """
    found = await read_aliases(kube, key.namespace, names)
    if not found:
        return Plan(())
    documents, services = await gathered(_documents(kube, key.namespace), _services(kube, key.namespace))
    clusters = {key.name, *gone}
    return withdrawal(names, found, named_elsewhere(clusters, documents, services, operated=operated))


async def dropped_aliases(cluster: Cluster, found: LiveCluster, kube: Kube) -> Plan:
    """Return what becomes of aliases that a cluster without an operator named, and does not name any more.

    What it named stands on its Service until that is applied: take them away before.
    """
    live = found.objects.get(ObjectRef("Service", cluster.namespace, client_service_name(cluster)))
    names = set(named_on(live)) - {*cluster.spec["network"]["aliases"]} if live else set()
    return await planned_withdrawal(cluster.key, names, kube, operated=False)


async def alias_deletion(
    shown: Deletion, found: LiveCluster, kube: Kube, before: Iterable[ClusterKey] = ()
) -> Deletion:
    """Return the deletion of a cluster with what becomes of the aliases that it names; most name none.

    `before` are clusters that are deleted before it.
    """
    gone = {each.name for each in before if each.namespace == shown.key.namespace}
    document, key = found.document, shown.key
    names = {name for live in found.objects.values() for name in named_on(live)} | {*named_in(document or {})}
    if not names:
        return shown
    todo = await planned_withdrawal(key, names, kube, operated=document is not None, gone=gone)
    going = {action.ref for action in todo.actions}
    there = await read_aliases(kube, key.namespace, names)
    why = "is named by another cluster, and leads to nobody until it is switched: chronik switch"
    kept = [
        Skip(ref=ref, why="kept", reason=f"{why} {ref.name} --to CLUSTER")
        for ref, live in there.items()
        if ref not in going and is_alias(live) and active_of(live) == key.name
    ]
    if document is not None:  # its operator takes them away
        follows = (*shown.follows, *(there[ref] for ref in going if ref in there))
        return replace(shown, follows=follows, kept=(*shown.kept, *kept))
    return replace(shown, plan=Plan((*todo.stages, *shown.plan.stages)), kept=(*shown.kept, *kept))


async def _documents(kube: Kube, namespace: str) -> list[Manifest]:
    try:
        return (await kube.list(CLUSTER, namespace)).items
    except KindMissing:  # all clusters here do without an operator
        return []


async def _services(kube: Kube, namespace: str) -> list[Manifest]:
    return (await kube.list(SERVICE, namespace, label_selector=_OURS)).items
