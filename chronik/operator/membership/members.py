"""Brings the voters of a cluster a step nearer to its spec, and says how many pods there are to be meanwhile."""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from chronik.api.components import COMPONENTS, components, members, workload_ref
from chronik.errors import ChronikError
from chronik.manifest import SECRET, is_paused
from chronik.operator.context import status_of
from chronik.status.compute import Reason
from chronik.status.health import pod_ready
from chronik.status.membership import Step, is_settled, look_again, next_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.components import Component, Member
    from chronik.api.spec import Cluster, ClusterSpec
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext
    from chronik.operator.membership.admin import AdminClient
    from chronik.plan.live import LiveCluster
    from chronik.status.membership import Group

_log = logging.getLogger("chronik.operator")

_CHANGES = 4
"""Joins and leaves in one pass, at most; the next pass goes on."""
_LOOKS, _PAUSE = 20, 0.25
"""How often, and after how many seconds each, the leader is asked whether the members have agreed on a change."""


class Membership(NamedTuple):
    """How a cluster is to be rendered meanwhile, what that waits for, and who votes, as far as is known.

    `again_at` is when to ask again if nodes that have nothing to wait for did not say who votes.
    """

    cluster: Cluster
    waiting: Reason | None = None
    voters: tuple[int, ...] = ()
    again_at: str = ""


async def membership(cluster: Cluster, document: Manifest, context: ReconcileContext) -> Membership:
    """Take the next step towards the members that a cluster is to have; nothing is asked if there is none to take."""
    group = next((each for each in components(cluster) if each.member), None)
    if group is None or group.replicas == 1:
        return Membership(cluster)
    known = frozenset(status_of(document).get("members") or ())
    found = context.cache.view(cluster.key, document)
    workload = found.objects.get(workload_ref(cluster.key, group.name))
    there = group.replicas if workload is None else int(workload["spec"].get("replicas", 1))
    if workload is None:  # its first pods found the group together; or it was deleted, and all who vote come back
        return Membership(
            _sized(cluster, group, max(group.replicas, max(known, default=0))), None, tuple(sorted(known))
        )
    if is_paused(document):
        return Membership(_sized(cluster, group, there), None, tuple(sorted(known)))
    if is_settled(group.replicas, there, known):
        return Membership(cluster, None, tuple(sorted(known)))
    step, voters = await _settle(cluster, group, _Seen(there, _ready(cluster, found, there, known), known), context)
    unknown = step.waiting is None and not is_settled(group.replicas, step.pods, voters)
    again_at = look_again(_ready_since(document), context.now()) if unknown else ""
    return Membership(_sized(cluster, group, step.pods), step.waiting, tuple(sorted(voters)), again_at)


class _Seen(NamedTuple):
    there: int
    ready: frozenset[int]
    known: frozenset[int]


async def _settle(
    cluster: Cluster, component: Component, seen: _Seen, context: ReconcileContext
) -> tuple[Step, frozenset[int]]:
    """Have nodes join and leave until pods have to come or go first; return that step, and who votes now."""
    import aiohttp  # noqa: PLC0415  # most operators never need a second client

    from chronik.operator.membership.admin import AdminClient, Refused  # noqa: PLC0415  # with it

    all_members = {each.id: each for each in members(cluster, max(seen.there, component.replicas, *seen.known, 1))}
    voters = seen.known
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(_CHANGES):
                told = await AdminClient(session).group(all_members[each] for each in sorted(seen.ready))
                voters = told[0].voters if told else voters
                step = next_step(component.replicas, seen.there, seen.ready, told[0] if told else None, seen.known)
                if told is None or not (step.add or step.remove) or context.execution.stop.is_set():
                    return step, voters
                client = AdminClient(session, await _admin_key(cluster, context))
                voters = await _change(client, step, all_members, told)
            return Step(
                seen.there, waiting=Reason("MembersChanging", "Members join and leave one after the other")
            ), voters
    except Refused as refused:
        return Step(seen.there, waiting=Reason("MembersNotChanged", f"{refused}"[:1024])), voters
    except ChronikError as error:
        message = f"The admin key cannot be read: {error.message}"
        return Step(seen.there, waiting=Reason("MembersNotChanged", message)), voters


async def _change(
    client: AdminClient, step: Step, all_members: Mapping[int, Member], told: tuple[Group, Member]
) -> frozenset[int]:
    """Have one node join or leave, and wait until the members have agreed on it; return who votes then."""
    from chronik.operator.membership.admin import Refused  # noqa: PLC0415  # loaded already

    group, leader = told
    node = step.add or step.remove
    _log.info("node %d %s, by the leader, node %d", node, "joins" if step.add else "leaves", leader.id)
    if step.add:
        await client.add(leader, all_members[node], addresses(all_members[node]))
    else:
        await client.remove(leader, node)
    others = [all_members[each] for each in sorted(group.voters - {step.remove})]
    for _ in range(_LOOKS):
        await asyncio.sleep(_PAUSE)
        now = await client.group(others)
        if now and (node in now[0].voters) == bool(step.add):
            return now[0].voters
    raise Refused(f"node {node} was to {'join' if step.add else 'leave'}, and the others have not agreed on it yet")


async def leader(cluster: Cluster, live: LiveCluster) -> str:
    """Return the name of the pod that says that it leads; empty if none does, or more than one."""
    import aiohttp  # noqa: PLC0415  # as above

    from chronik.operator.membership.admin import AdminClient  # noqa: PLC0415  # with it

    names = {pod["metadata"]["name"] for pod in live.pods if pod_ready(pod)}
    async with aiohttp.ClientSession() as session:
        told = await AdminClient(session).group(each for each in members(cluster) if each.name in names)
    return told[1].name if told else ""


def addresses(member: Member) -> dict[str, str]:
    """Return what the others are told of a member that joins."""
    ports = {port.name: port.number for each in COMPONENTS.values() if each.members for port in each.ports}
    return {
        "kafka_addr": member.address,
        "wal_addr": f"{member.host}:{ports['wal']}",
        "raft_addr": f"{member.host}:{ports['raft']}",
    }


def _ready(cluster: Cluster, found: LiveCluster, there: int, known: frozenset[int]) -> frozenset[int]:
    names = {pod["metadata"]["name"] for pod in found.pods if pod_ready(pod)}
    return frozenset(each.id for each in members(cluster, max(there, *known, 1)) if each.name in names)


def _ready_since(document: Manifest) -> str:
    conditions = status_of(document).get("conditions") or ()
    return next(
        (each["lastTransitionTime"] for each in conditions if each["type"] == "Ready" and each["status"] == "True"), ""
    )


def _sized(cluster: Cluster, component: Component, pods: int) -> Cluster:
    """Return a cluster with another count of a component, without patches of objects that a missing member has."""
    if pods == component.replicas:
        return cluster
    missing = {each.name for each in members(cluster) if each.id not in range(component.first, component.first + pods)}
    patches = [
        each
        for each in cluster.spec["patches"]
        if (name := each["target"].get("name") or "") not in missing and name.rpartition("-")[0] not in missing
    ]
    spec = {**cluster.spec, component.type.count_field: pods, "patches": patches}
    return replace(cluster, spec=cast("ClusterSpec", spec))


async def _admin_key(cluster: Cluster, context: ReconcileContext) -> str:
    """Return the key that the nodes ask for; empty if the spec names none, or its Secret does not have it.

    The cache has only digests of Secrets. A list of one is asked for, since the operator has no other right to them.
    """
    name = cluster.spec["security"]["adminKeySecret"]
    if name is None:
        return ""
    found = await context.kube.list(SECRET, cluster.namespace, field_selector=f"metadata.name={name}")
    data = next((each.get("data") or {} for each in found.items if each["metadata"]["name"] == name), {})
    return base64.b64decode(data.get("apiKey", "")).decode("utf-8", "replace").strip()
