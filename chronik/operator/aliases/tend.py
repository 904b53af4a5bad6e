"""Keeps the aliases that a cluster names: makes one that is not there, tells where each leads, and takes the last away.

Where an alias leads is never changed here. Those that are there are in the cache, so a pass asks the server for none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chronik.api.components import workload_name
from chronik.apply.aliases import SERVICE, make_aliases, planned_withdrawal
from chronik.apply.executor import execute
from chronik.errors import ChronikError
from chronik.manifest import ClusterKey, is_paused
from chronik.operator.context import status_of
from chronik.plan.actions import Blocked, Foreign, Obstacle, Prune
from chronik.plan.aliases.services import active_of, alias_ref, client_service, component_behind, is_alias, named_in
from chronik.plan.results import Report
from chronik.status.assess import NOTHING_DONE, describe_error
from chronik.status.compute import Reason, condition
from chronik.times import later
from chronik.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.apply.executor import Execution
    from chronik.manifest import Manifest, ObjectRef
    from chronik.operator.context import ReconcileContext
    from chronik.plan.results import Result
    from chronik.status.compute import Condition

_AGAIN = 60.0
"""Seconds until something that is in the way of an alias is looked for again: no event tells that it has gone."""
_ORPHAN = "orphan"
"""The finalizer that a deletion with --cascade=orphan sets: everything is meant to stay."""


@dataclass(frozen=True, slots=True)
class Aliases:
    """Where the aliases of a cluster lead, and what is wrong with them; `report` is what was written."""

    status: list[dict[str, str]] | None = None
    conditions: tuple[Condition, ...] = ()
    report: Report = NOTHING_DONE
    again_at: str = ""


NO_ALIASES = Aliases()


async def tend_aliases(
    cluster: Cluster, document: Manifest, manifests: Sequence[Manifest], context: ReconcileContext
) -> Aliases:
    """Make the aliases that a cluster names and that are not there, and take away what it alone named before.

    `manifests` are those of the cluster, the Service of its clients among them.
    """
    key, names = cluster.key, cluster.spec["network"]["aliases"]
    before = [each["name"] for each in status_of(document).get("aliases") or ()]
    if not names and not before:
        return NO_ALIASES
    troubles: list[Reason] = []
    dropped = [name for name in before if name not in names]
    written = NOTHING_DONE
    if not is_paused(document):
        try:
            report = await _made(cluster, manifests, context)
            gone = await _withdrawn(key, dropped, context) if dropped else NOTHING_DONE
        except ChronikError as error:
            troubles.append(describe_error(error))
        else:
            report = gone.after(report)
            dropped = dropped if gone.failed else []
            troubles += filter(None, map(_trouble, report.results))
            written = Report(report.written)
    names = [*names, *dropped]  # what could not be taken away stays in the status, so that it is not forgotten
    found = dict(_known(key.namespace, names, context))
    troubles += _astray(key, found.values(), context)
    _follow(key, names, found.values(), context)
    told: tuple[Condition, ...] = ()
    if troubles:
        message = " ".join(dict.fromkeys(sentence(each.message) for each in troubles))
        told = (condition("AliasesUsable", met=False, reason=troubles[0].reason, message=message),)
    return Aliases(
        [_told(name, found.get(alias_ref(key.namespace, name))) for name in names],
        told,
        written,
        later(context.now(), _AGAIN) if troubles else "",
    )


async def end_aliases(document: Manifest, context: ReconcileContext) -> None:
    """Take away the aliases of a cluster that is being deleted, unless another one names them.

    Raises:
        ChronikError: one could not be taken away.
    """
    known = status_of(document).get("aliases") or ()
    names = dict.fromkeys([*named_in(document), *(each["name"] for each in known)])
    if not names or _ORPHAN in (document["metadata"].get("finalizers") or ()):
        return
    report = await _withdrawn(ClusterKey.of(document), list(names), context)
    if (error := report.error()) is not None:
        raise error


async def _made(cluster: Cluster, manifests: Sequence[Manifest], context: ReconcileContext) -> Report:
    """Make what is not there."""
    names = cluster.spec["network"]["aliases"]
    if not names:
        return NOTHING_DONE
    known = dict(_known(cluster.namespace, names, context))
    return await make_aliases(names, client_service(cluster, manifests), known, _execution(context))


async def _withdrawn(key: ClusterKey, names: Collection[str], context: ReconcileContext) -> Report:
    todo = await planned_withdrawal(key, names, context.kube, operated=True)
    return await execute(todo, _execution(context))


def _execution(context: ReconcileContext) -> Execution:
    def remember(result: Result) -> None:
        if result.answer is not None:
            context.cache.observe_write(result.answer)
        elif isinstance(result.action, Prune) and result.outcome == "pruned":
            context.cache.observe_delete(result.ref, result.action.uid)

    return replace(context.execution, on_result=remember)


def _known(
    namespace: str, names: Iterable[str], context: ReconcileContext
) -> Iterator[tuple[ObjectRef, dict[str, Any]]]:
    """Yield the aliases that are there; what is none, and has the name of one, is not among them."""
    for name in names:
        live = context.cache.service(namespace, name)
        if live is not None and is_alias(live):
            yield alias_ref(namespace, name), live


def _trouble(result: Result) -> Reason | None:
    """Return why an alias cannot be used, if that is so."""
    if result.error is not None:
        return describe_error(result.error)
    if not isinstance(result.action, Foreign | Blocked):
        return None
    code = "AliasInTheWay" if isinstance(result.action, Foreign) else "AliasPortsDiffer"
    action: Obstacle = result.action
    return Reason(code, f"{result.ref} {sentence(action.reason)} {action.hint}")


def _astray(key: ClusterKey, found: Iterable[Manifest], context: ReconcileContext) -> Iterator[Reason]:
    """Yield the aliases that lead to a cluster of which nothing is left."""
    for live in found:
        name, active = live["metadata"]["name"], active_of(live)
        if active != key.name and context.cache.service(key.namespace, _behind(live)) is None:
            text = f"Service/{key.namespace}/{name} leads to {active or 'no cluster'}, which is not there"
            yield Reason("AliasLeadsNowhere", f"{text}. Switch it: chronik switch {name} --to {key.name}")


def _behind(live: Manifest) -> str:
    """Return the name of the Service of the clients of the cluster that an alias leads to."""
    return f"{workload_name(active_of(live), component_behind(live))}-client"


def _follow(key: ClusterKey, names: Iterable[str], found: Iterable[Manifest], context: ReconcileContext) -> None:
    """Have the cluster woken when an alias is changed, or what it leads to comes or goes."""
    context.cache.uses(key, SERVICE, {*names, *map(_behind, found)})


def _told(name: str, live: Mapping[str, Any] | None) -> dict[str, str]:
    active = active_of(dict(live)) if live else ""
    return {"name": name, "active": active} if active else {"name": name}
