"""One pass over one cluster: the whole product in one function. Start reading chronik here.

`operator` calls it whenever something about a cluster may have changed; `chronik reconcile --once` calls it once for
each. It is level-triggered: everything it decides by is read from the cluster, so it may be called at any time, be cut
off anywhere, and be called again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from chronik.apply.converge import converge
from chronik.apply.executor import execute
from chronik.apply.observe import named, others
from chronik.errors import ChronikError, TemplateError
from chronik.manifest import KIND_BY_NAME, ClusterKey
from chronik.operator.context import ReconcileContext, ReconcileResult, status_of
from chronik.operator.lifecycle import claim, finalize, is_claimed, is_paused, other_upgrade, refuse, tell, write_status
from chronik.operator.rollout import Rollout
from chronik.plan.actions import Create, Prune
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext
from chronik.plan.replicas import SCALED_KINDS, disputed, without_autoscaler
from chronik.plan.rotation import Rotation, rotation, secrets_of
from chronik.status.assess import NOTHING_DONE, Assessment, assess, describe_error, invalid, rigid_classes
from chronik.status.compute import Observation, derive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from chronik.api.spec import Cluster
    from chronik.apply.executor import Execution
    from chronik.manifest import Manifest, ObjectRef
    from chronik.operator.cache.cache import View
    from chronik.plan.results import Report, Result


async def reconcile(key: ClusterKey, world: ReconcileContext) -> ReconcileResult:
    """Bring one cluster to what its document says, and its status to what is there.

    Raises:
        ChronikError: its status or finalizer could not be written; what became of its objects is in the status.
    """
    document = world.cache.cluster(key)
    if document is None:
        world.settled.pop(key, None)
        world.cache.uses(key, ())
        return ReconcileResult("gone")
    if "deletionTimestamp" in document["metadata"]:
        return await finalize(document, world)
    validated = world.validator.validate(document)
    if not is_claimed(document):
        return await claim(document, _first_secrets(validated.cluster, world), world)
    if validated.cluster is None:
        return await refuse(document, invalid(validated.problems), world)
    cluster = replace(validated.cluster, domain=world.domain)
    try:
        desired = world.render(cluster)
    except TemplateError as error:
        return await refuse(document, describe_error(error), world)

    world.cache.uses(key, {name for manifest in desired for name in secrets_of(manifest)})
    view = world.cache.view(key)
    paused = is_paused(document)
    rollout = _rollout(document, cluster, view, world)
    report = NOTHING_DONE if paused else await _converged(cluster, desired, view, rollout, world)
    after = world.cache.view(key)
    secrets = _rotation(cluster, desired, after, world, rollout, report)
    if secrets.restarts.stages and not paused:
        report = (await execute(secrets.restarts, _execution(key, world))).after(report)
        after = world.cache.view(key)
    if report.interrupted:  # whoever comes next finds out how far this one came
        return ReconcileResult("waiting", report=report, wrote=bool(report.written))

    judged = assess(report, validated.problems, secrets.missing, paused=paused)
    details = _details(document, report, secrets, world)
    status = derive(cluster, _observation(document, after, judged, details, paused=paused), world.now())
    wrote = await write_status(document, status, world)
    tell(document, report, status, world)
    outcome = _outcome(report, judged, status, paused=paused)
    return replace(outcome, wrote=wrote or bool(report.written))


def _context(cluster: Cluster, view: View, rollout: Rollout, world: ReconcileContext) -> PlanContext:
    key = cluster.key
    return PlanContext(
        cluster=cluster.name,
        namespace=cluster.namespace,
        owner_uid=cluster.uid,
        prune=True,
        take_back_managers=HUMAN_MANAGERS,
        settled=frozenset(world.settled.get(key, {}).values()),
        claims=view.claims,
        pods=view.pods,
        expandable=world.cache.expandable(),
        gate=rollout.gate,
    )


async def _converged(
    cluster: Cluster, desired: list[Manifest], view: View, rollout: Rollout, world: ReconcileContext
) -> Report:
    """Bring a cluster to its manifests, and try once more if the server now tells what the caches could not."""
    key = cluster.key
    context, execution = _context(cluster, view, rollout, world), _execution(key, world)
    found = dict(view.objects)
    with suppress(ChronikError):  # what cannot be looked at is told when it cannot be made
        found |= await named(world.kube, others(desired), found)
    report = await converge(desired, found, context, execution)
    better = await _better_informed(context, report, world)
    if better is None:
        return report
    again = await converge(desired, found | world.cache.view(key).objects, better, execution)
    return replace(again, results=(*report.written, *again.results))


async def _better_informed(context: PlanContext, report: Report, world: ReconcileContext) -> PlanContext | None:
    """Return the context with what has become known since, or None if that is nothing.

    Which StorageClasses expand volumes is not known to an operator that only sees some namespaces: then larger volumes
    are refused. And autoscalers of others are in no cache: only if a count is disputed, the server is asked for them.
    """
    rigid = rigid_classes(report, context.claims)
    unscaled: frozenset[ObjectRef] = frozenset()
    workloads = disputed(each.action for each in report.obstacles)
    if workloads:
        with suppress(ChronikError):  # then the dispute is told as it stands
            autoscalers = await world.kube.list(KIND_BY_NAME["HorizontalPodAutoscaler"], context.namespace)
            unscaled = without_autoscaler(workloads, autoscalers.items)
    if not rigid and not unscaled:
        return None
    return replace(context, expandable={**context.expandable, **dict.fromkeys(rigid, False)}, unscaled=unscaled)


def _execution(key: ClusterKey, world: ReconcileContext) -> Execution:
    return replace(world.execution, on_result=lambda result: _remember(key, result, world))


def _remember(key: ClusterKey, result: Result, world: ReconcileContext) -> None:
    """Let the cache see at once what was written, so that its own event wakes nobody and the next look sees it."""
    if result.answer is not None:
        world.cache.observe_write(result.answer)
    elif isinstance(result.action, Prune) and result.outcome == "pruned":
        world.cache.observe_delete(result.ref, result.action.uid)
    if result.settled:
        world.settled.setdefault(key, {})[result.ref] = result.settled


def _rollout(document: Manifest, cluster: Cluster, view: View, world: ReconcileContext) -> Rollout:
    secret = _secret_of(cluster, world)

    def missing(workload: Manifest) -> str | None:
        return next((name for name in secrets_of(workload) if secret and secret(name) is None), None)

    return Rollout(cluster, view.objects, view.pods, lambda: other_upgrade(document, world), missing)


def _rotation(
    cluster: Cluster, desired: list[Manifest], now: View, world: ReconcileContext, rollout: Rollout, report: Report
) -> Rotation:
    """Compare Secrets; `now` is the cluster as it is by now, `rollout` knows it as it was when the pass began.

    Pods that start anyway start with the Secrets that are there: those of a new workload for the first time, and with
    those of a changed one the restart is one and the same.
    """
    key = cluster.key
    new = (each.ref for each in report.written if isinstance(each.action, Create))
    made = {ref.name for ref in new if ref.kind in SCALED_KINDS}
    hindered = {each.ref for each in (*report.failed, *report.untried, *report.obstacles)}
    digests = status_of(world.cache.cluster(key) or {}).get("secretDigests") or {}
    made_with = {part: digest for part, digest in digests.items() if f"{cluster.name}-{part}" not in made}
    secret = _secret_of(cluster, world)
    if secret is None:
        return Rotation(digests=made_with)

    def may_restart(ref: ObjectRef, started: Sequence[ObjectRef]) -> bool:
        free = rollout.is_restarting(ref) or rollout.before(ref, started) is None
        return free and ref not in hindered

    return rotation(desired, now.objects, made_with, secret, may_restart)


def _first_secrets(cluster: Cluster | None, world: ReconcileContext) -> Mapping[str, str]:
    """Return what the Secrets of a new cluster are before its pods are made, should we be killed right after that."""
    if cluster is None:
        return {}
    secret = _secret_of(cluster, world)
    if secret is None:
        return {}
    with suppress(TemplateError):  # which the next pass tells
        desired = world.render(replace(cluster, domain=world.domain))
        return rotation(desired, {}, {}, secret, lambda _ref, _started: False).digests
    return {}


def _secret_of(cluster: Cluster, world: ReconcileContext) -> Callable[[str], str | None] | None:
    """Return what tells one state of a Secret from another, by name; None if nobody may see Secrets."""
    if not world.cache.sees_secrets(cluster.namespace):
        return None
    return lambda name: world.cache.secret_digest(cluster.namespace, name)


def _details(document: Manifest, report: Report, secrets: Rotation, world: ReconcileContext) -> dict[str, Any]:
    """Return what else the status says: which version did it, and what the Secrets were."""
    version = world.version if report.ok and report.results else status_of(document).get("operatorVersion")
    return {
        key: value for key, value in {"operatorVersion": version, "secretDigests": secrets.digests}.items() if value
    }


def _observation(
    document: Manifest, view: View, judged: Assessment, details: Mapping[str, Any], *, paused: bool
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


def _outcome(report: Report, judged: Assessment, status: Mapping[str, Any], *, paused: bool) -> ReconcileResult:
    result: Literal["failed", "waiting", "paused", "ok"] = "ok"
    if judged.failure:
        result = "failed"
    elif judged.waiting:
        result = "waiting"
    elif paused:
        result = "paused"
    return ReconcileResult(result, judged.retry, str(status["phase"]), report, judged.failure or judged.waiting)
