"""One pass over one cluster: the whole product in one function. Start reading chronik here.

`operator` calls it whenever something about a cluster may have changed; `chronik reconcile --once` calls it once for
each. It is level-triggered: everything it decides by is read from the cluster, so it may be called at any time, be cut
off anywhere, and be called again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from chronik.apply import carry_out
from chronik.apply_rounds import converge
from chronik.errors import TemplateError
from chronik.manifest import ClusterKey
from chronik.plan import HUMAN_MANAGERS, PlanContext
from chronik.reconcile_cluster import claim, finalize, is_claimed, is_paused, refuse, write_status
from chronik.reconcile_world import Outcome, World, status_of
from chronik.rollout import Rollout
from chronik.rotation import Rotation, rotation
from chronik.status import Observation, derive
from chronik.verdict import NOTHING_DONE, Verdict, announcements, as_trouble, invalid, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chronik.manifest import Manifest
    from chronik.operator_cache import View
    from chronik.results import Report
    from chronik.spec import Cluster


async def reconcile(key: ClusterKey, world: World) -> Outcome:
    """Bring one cluster to what its document says, and its status to what is there.

    Raises:
        ChronikError: its status or finalizer could not be written; what became of its objects is in the status.
    """
    document = world.cache.cluster(key)
    if document is None:
        world.settled.pop(key, None)
        return Outcome("gone")
    if "deletionTimestamp" in document["metadata"]:
        return await finalize(document, world)
    if not is_claimed(document):
        return await claim(document, world)
    parsed = world.law.parse(document)
    if parsed.cluster is None:
        return await refuse(document, invalid(parsed.problems), world)
    cluster = replace(parsed.cluster, domain=world.domain)
    try:
        desired = world.render(cluster)
    except TemplateError as error:
        return await refuse(document, as_trouble(error), world)

    view = world.cache.view(key)
    paused = is_paused(document)
    rollout = Rollout(cluster, view.objects, view.pods, lambda: _other_upgrade(document, world))
    report = NOTHING_DONE
    if not paused:
        report = await converge(desired, view.objects, _context(cluster, view, rollout, world), world.execution)
        _remember(key, report, world)
    secrets = _rotation(cluster, desired, world, rollout)
    if not paused and report.ok:
        restarted = await carry_out(secrets.restarts, world.execution)
        _remember(key, restarted, world)
        report = replace(report, results=(*report.results, *restarted.results))

    judged = verdict(report, parsed.problems, secrets.missing, paused=paused)
    after = world.cache.view(key)
    details = _details(document, report, secrets, world)
    status = derive(cluster, _observation(document, after, judged, details, paused=paused), world.now())
    wrote = await write_status(document, status, world)
    for news in announcements(report, document.get("status") or {}, status):
        world.announce(document, news)
    outcome = _outcome(report, judged, status, paused=paused)
    return replace(outcome, wrote=wrote or bool(report.written))


def _context(cluster: Cluster, view: View, rollout: Rollout, world: World) -> PlanContext:
    key = ClusterKey(cluster.namespace, cluster.name)
    return PlanContext(
        cluster=cluster.name,
        namespace=cluster.namespace,
        owner_uid=cluster.uid,
        prune=True,
        take_back_managers=HUMAN_MANAGERS,
        settled=frozenset(world.settled.get(key, {}).values()),
        claims=view.claims,
        expandable=world.cache.expandable(),
        gate=rollout.gate,
    )


def _remember(key: ClusterKey, report: Report, world: World) -> None:
    """Let the cache see at once what was written, so that the next look does not see less."""
    for result in report.results:
        if result.answer is not None:
            world.cache.wrote(result.answer)
        elif result.outcome == "pruned":
            world.cache.gone(result.ref, result.action.uid)  # type: ignore[attr-defined]  # pruned: its action is a Prune
        if result.settled:
            world.settled.setdefault(key, {})[result.ref] = result.settled


def _rotation(cluster: Cluster, desired: list[Manifest], world: World, rollout: Rollout) -> Rotation:
    """Compare Secrets; `world` shows the cluster as it is by now, `rollout` as it was when the pass began."""
    key = ClusterKey(cluster.namespace, cluster.name)
    document = world.cache.cluster(key) or {}
    return rotation(
        desired,
        world.cache.view(key).objects,
        (document.get("status") or {}).get("secretDigests") or {},
        lambda name: world.cache.secret_digest(cluster.namespace, name),
        lambda ref: rollout.before(ref) is None,
    )


def _details(document: Manifest, report: Report, secrets: Rotation, world: World) -> dict[str, Any]:
    """Return what else the status says: which version did it, and what the Secrets were."""
    version = world.version if report.ok and report.results else status_of(document).get("operatorVersion")
    return {
        key: value for key, value in {"operatorVersion": version, "secretDigests": secrets.digests}.items() if value
    }


def _observation(
    document: Manifest, view: View, judged: Verdict, details: Mapping[str, Any], *, paused: bool
) -> Observation:
    """Return what status is derived from; while paused, a new spec counts as not seen."""
    generation = document["metadata"]["generation"]
    return Observation(
        objects=view.objects,
        pods=view.pods,
        previous=status_of(document),
        generation=status_of(document).get("observedGeneration", generation) if paused else generation,
        failure=judged.failure,
        waiting=judged.waiting,
        extra=judged.conditions,
        details=details,
    )


def _outcome(report: Report, judged: Verdict, status: Mapping[str, Any], *, paused: bool) -> Outcome:
    result: Literal["failed", "waiting", "paused", "ok"] = "ok"
    if judged.failure:
        result = "failed"
    elif judged.waiting:
        result = "waiting"
    elif paused:
        result = "paused"
    return Outcome(result, judged.retry, str(status["phase"]), report, judged.failure or judged.waiting)


def _other_upgrade(document: Manifest, world: World) -> ClusterKey | None:
    """Return another cluster that is being updated, if this one's pods would restart for no reason but a new chronik.

    A person who changed the spec does not wait for others.
    """
    status, metadata = status_of(document), document["metadata"]
    if status.get("operatorVersion") in {None, world.version}:
        return None
    if status.get("observedGeneration") != metadata["generation"]:
        return None
    mine = ClusterKey(metadata["namespace"], metadata["name"])
    for other in sorted(world.cache.clusters()):
        if other != mine and status_of(world.cache.cluster(other) or {}).get("phase") == "Updating":
            return other
    return None
