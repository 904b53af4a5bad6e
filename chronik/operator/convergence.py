"""Plan and apply for one cluster: what the operator adds to the engine that the command line uses too.

Restarts go in order, what was written is put into the cache at once, the server is asked once more where the caches
could not know, and pods restart when a Secret that they use has changed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from chronik.api.components import is_blue_green, workload_name
from chronik.apply.converge import converge
from chronik.apply.executor import execute
from chronik.apply.observe import named, others, read_own
from chronik.errors import ChronikError, RenderError
from chronik.manifest import CLUSTER_LABEL, KIND_BY_NAME, SECRET, WORKLOAD_KINDS, ObjectRef, is_paused, own_kinds
from chronik.operator.context import status_of
from chronik.operator.lifecycle import other_upgrade, write_status
from chronik.operator.rollout import Rollout
from chronik.operator.staging.canary import CanaryPass
from chronik.operator.staging.replacing import Replacing, as_held
from chronik.operator.staging.windows import is_well, what_waits, windows_of
from chronik.plan.actions import Apply, Create, NotInstalled, Prune, ReplacePod
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext
from chronik.plan.replicas import disputed, without_autoscaler
from chronik.plan.results import Report
from chronik.plan.rotation import Rotation, required_secrets, rotation
from chronik.plan.volumes.recreating import left_pods
from chronik.rollout.facts import is_held
from chronik.rollout.pending import NOTHING_PENDING
from chronik.status.assess import NOTHING_DONE, missing_kinds, rigid_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.apply.executor import Execution
    from chronik.manifest import ClusterKey, Manifest
    from chronik.operator.context import ReconcileContext
    from chronik.plan.live import LiveCluster
    from chronik.plan.planner import RolloutGate
    from chronik.plan.results import Result
    from chronik.rollout.canary import Decision
    from chronik.rollout.pending import Pending
    from chronik.rollout.windows import Standing


class Desired(NamedTuple):
    """What one pass wants: the ChronikCluster as it was read, the valid cluster in it, and its manifests."""

    document: Manifest
    cluster: Cluster
    manifests: list[Manifest]

    @property
    def paused(self) -> bool:
        """Whether nothing is to be changed."""
        return is_paused(self.document)


class Converged(NamedTuple):
    """What became of a pass: a report on every object, which Secrets pods run with or lack, and what is there now.

    `rollout` is what was decided about a canary. `pending` is what waits for a restart window.
    `unread` is why it is not known what is left of templates that are gone.
    """

    report: Report
    secrets: Rotation
    live: LiveCluster
    rollout: Decision | None = None
    pending: Pending = NOTHING_PENDING
    unread: ChronikError | None = None


class _Staging(NamedTuple):
    """How pods are replaced in a pass: in which order, in which windows, and by a canary, if one is asked for."""

    replacing: Replacing
    canary: CanaryPass | None
    windows: Standing

    @property
    def closed(self) -> str:
        """Why templates that restart pods are not written now; those that a canary goes back to are."""
        return "" if self.canary is not None and self.canary.goes_back else self.windows.closed

    @classmethod
    def of(cls, desired: Desired, context: ReconcileContext) -> _Staging:
        about = desired.cluster, desired.document, desired.manifests, context
        wanted = desired.cluster.spec["rollout"]
        asked = wanted is not None and (wanted["strategy"] == "Canary" or is_blue_green(wanted))
        canary = CanaryPass(*about) if asked and not desired.paused else None
        windows = windows_of(desired.cluster, desired.document, context.now())
        replacing = Replacing(*about, closed=not windows.is_open)
        replacing.leave(canary.refs if canary else ())
        return cls(replacing, canary, windows)


async def converge_cluster(desired: Desired, context: ReconcileContext) -> Converged:
    """Bring a cluster's objects to its manifests, in order, and restart the pods whose Secrets have changed."""
    key = desired.cluster.key
    context.cache.uses(key, SECRET, {name for manifest in desired.manifests for name in required_secrets(manifest)})
    found, unread = await _with_left_over(key, context.cache.view(key, desired.document), context)
    staging = _Staging.of(desired, context)
    rollout = _rollout(desired, found, staging.replacing, context)
    if not desired.paused:
        await _note_secrets(desired, found, context)
    report = NOTHING_DONE if desired.paused else await _apply(desired, found, rollout, staging, context)
    context.cache.waits_for(key, missing_kinds(report))
    live = context.cache.view(key)
    secrets = _rotation(desired, live, rollout, report, staging, context)
    if secrets.restarts.stages and not desired.paused:
        report = (await execute(secrets.restarts, _execution(key, context))).after(report)
        live = context.cache.view(key)
    canary = staging.canary
    outside = None if canary is None else canary.outside
    told = NOTHING_PENDING if desired.paused else what_waits(report, secrets, outside, live, staging.windows)
    return Converged(report, secrets, live, canary.decision if canary else None, told, unread)


async def _with_left_over(
    key: ClusterKey, found: LiveCluster, context: ReconcileContext
) -> tuple[LiveCluster, ChronikError | None]:
    """Return a cluster with what is left of kinds that no template makes any more, which the cache does not follow."""
    left = own_kinds(found.objects.values()) - context.cache.own.names
    if not left:
        return found, None
    try:
        own = await read_own(context.kube, left, key.namespace, f"{CLUSTER_LABEL}={key.name}")
    except ChronikError as error:
        return replace(found, unread=frozenset(left)), error
    return replace(found, objects={**found.objects, **{ObjectRef.of(each): each for each in own.objects}}), None


def first_digests(cluster: Cluster | None, context: ReconcileContext) -> Mapping[str, str]:
    """Return the Secrets' digests of a new cluster before its pods are made: we may be killed right after that."""
    if cluster is None:
        return {}
    secret = _secret_of(cluster, context)
    if secret is None:
        return {}
    with suppress(RenderError):  # which the next pass reports
        manifests = context.render(replace(cluster, domain=context.domain))
        return rotation(manifests, {}, {}, secret, lambda _ref, _started: False).digests
    return {}


async def _note_secrets(desired: Desired, found: LiveCluster, context: ReconcileContext) -> None:
    """Write down which Secrets new pods start with before they are made: we may be killed right after that."""
    new = [each for each in desired.manifests if each["kind"] in WORKLOAD_KINDS and _starts_pods(each, found)]
    secret = _secret_of(desired.cluster, context) if new else None
    if secret is None:
        return
    digests = rotation(new, {}, {}, secret, lambda _ref, _started: False).digests
    status = status_of(desired.document)
    known = status.get("secretDigests") or {}
    if not digests.items() <= known.items():
        await write_status(desired.document, {**status, "secretDigests": {**known, **digests}}, context)


def _starts_pods(workload: Manifest, found: LiveCluster) -> bool:
    """Return whether a workload is not there, and no pods of an earlier one are, which it would take back."""
    ref = ObjectRef.of(workload)
    return ref not in found.objects and not left_pods(ref, found.pods)


# --- objects ---------------------------------------------------------------------------------------------------------


async def _apply(
    desired: Desired, found: LiveCluster, rollout: Rollout, staging: _Staging, context: ReconcileContext
) -> Report:
    """Plan and apply, and take the next step in what is held or staged."""
    execution = _execution(desired.cluster.key, context)
    replacing, canary, windows = staging
    if canary is not None:
        try:
            desired = desired._replace(manifests=await canary.manifests(found))
        except ChronikError as error:
            return canary.give_in(error)
    report = await _applied(desired, found, rollout, staging, context)
    holds = (await canary.hold(execution) if canary else None, await replacing.decide(execution))
    done = [each for each in holds if each is not None]
    held = Report(tuple(result for each in done for result in each.results)) if done else None
    if held is not None and not held.failed:
        now = context.cache.view(desired.cluster.key, desired.document)
        again = await _applied(desired, now, rollout, staging, context)
        report = replace(again, results=(*report.written, *held.results, *again.results))
    if report.interrupted:
        return report
    if canary is not None:
        report = (await canary.go_on(report, execution, windows.closed)).after(report)
    if any(is_held(live) for live in found.objects.values()):

        def may_go(ref: ObjectRef) -> bool:
            return windows.is_open and rollout.before(ref) is None

        report = (await replacing.go_on(execution, may_go)).after(report)
    return report


async def _applied(
    desired: Desired, found: LiveCluster, rollout: Rollout, staging: _Staging, context: ReconcileContext
) -> Report:
    """Plan and apply, and once more if the server knows what the caches could not."""
    canary = staging.canary
    key, manifests = desired.cluster.key, as_held(desired.manifests, found.objects)
    knowledge, execution = _knowledge(desired, found, rollout, context), _execution(key, context)
    knowledge = replace(knowledge, closed=staging.closed, repairs=staging.replacing.repairs(found))
    if canary is not None:
        knowledge = replace(knowledge, gate=_staged_gate(canary, rollout, found))
    objects = dict(found.objects)
    with suppress(ChronikError):  # what cannot be read is reported when it cannot be created
        objects |= await named(context.kube, others(manifests), objects, found.missing)
    report = await converge(manifests, objects, knowledge, execution)
    better = await _better_informed(knowledge, report, context)
    if better is None:
        return report
    now = context.cache.view(key, desired.document).objects
    again = await converge(manifests, {**objects, **now}, better, execution)
    return replace(again, results=(*report.written, *again.results))


def _staged_gate(canary: CanaryPass, rollout: Rollout, found: LiveCluster) -> RolloutGate:
    """Return what is asked before pods restart: of what has a canary, only whether it is held."""

    def gate(action: Create | Apply, started: tuple[ObjectRef, ...]) -> ObjectRef | None:
        if isinstance(action, Create):
            return rollout.gate(action, started)
        return canary.gate(action, started, rollout, found)

    return gate


def _knowledge(desired: Desired, found: LiveCluster, rollout: Rollout, context: ReconcileContext) -> PlanContext:
    cluster = desired.cluster
    return PlanContext(
        cluster=cluster.name,
        namespace=cluster.namespace,
        owner_uid=cluster.uid,
        prune=True,
        take_back_managers=HUMAN_MANAGERS,
        flapping=frozenset(context.flapping.get(cluster.key, {}).values()),
        claims=found.claims,
        pods=found.pods,
        expandable=found.expandable,
        missing=found.missing,
        gate=rollout.gate,
        unread=found.unread,
    )


async def _better_informed(known: PlanContext, report: Report, context: ReconcileContext) -> PlanContext | None:
    """Return the plan's context with what has become known since, or None if nothing has.

    Which StorageClasses expand volumes is not known to an operator that only sees some namespaces: then larger volumes
    are refused. And autoscalers of others are in no cache: only if a count is disputed, the server is asked for them.
    """
    rigid = rigid_classes(report, known.claims)
    unscaled: frozenset[ObjectRef] = frozenset()
    workloads = disputed(each.action for each in report.obstacles)
    if workloads:
        with suppress(ChronikError):  # then the conflict is reported as it stands
            autoscalers = await context.kube.list(KIND_BY_NAME["HorizontalPodAutoscaler"], known.namespace)
            unscaled = without_autoscaler(workloads, autoscalers.items)
    if not rigid and not unscaled:
        return None
    return replace(known, expandable={**known.expandable, **dict.fromkeys(rigid, False)}, unscaled=unscaled)


def _execution(key: ClusterKey, context: ReconcileContext) -> Execution:
    return replace(context.execution, on_result=lambda result: _remember(key, result, context))


def _remember(key: ClusterKey, result: Result, context: ReconcileContext) -> None:
    """Let the cache see at once what was written, so that its own event wakes no cluster and the next pass sees it."""
    if result.answer is not None:
        context.cache.observe_write(result.answer)
    elif isinstance(result.action, Prune | ReplacePod) and result.outcome in {"pruned", "replaced"}:
        context.cache.observe_delete(result.ref, result.action.uid)
    elif isinstance(result.action, NotInstalled):
        context.cache.own.look_again(result.ref.kind)
    if result.flapping:
        context.flapping.setdefault(key, {})[result.ref] = result.flapping


# --- restarts and Secrets --------------------------------------------------------------------------------------------


def _rollout(desired: Desired, found: LiveCluster, replacing: Replacing, context: ReconcileContext) -> Rollout:
    """Return the order of restarts, as the cluster was when the pass began."""
    secret = _secret_of(desired.cluster, context)

    def missing(workload: Manifest) -> str | None:
        return next((name for name in required_secrets(workload) if secret and secret(name) is None), None)

    def turn() -> ClusterKey | None:
        return other_upgrade(desired.document, context)

    def may_start(action: Apply) -> bool:
        return replacing.may_start(action, found)

    return Rollout(desired.cluster, found.objects, found.pods, turn, missing, may_start)


def _rotation(
    desired: Desired,
    live: LiveCluster,
    rollout: Rollout,
    report: Report,
    staging: _Staging,
    context: ReconcileContext,
) -> Rotation:
    """Compare the Secrets that pods run with to those that are there, after objects were applied.

    Pods that start anyway start with the Secrets that are there: those of a new workload for the first time, and with
    those of a changed one the restart is one and the same.
    """
    cluster = desired.cluster
    new = (each.action for each in report.written if isinstance(each.action, Create))
    made = {each.ref.name for each in new if each.ref.kind in WORKLOAD_KINDS and not each.keeps_pods}
    not_done = {each.ref for each in (*report.failed, *report.untried, *report.obstacles)}
    digests = status_of(live.document or {}).get("secretDigests") or {}
    made_with = {part: digest for part, digest in digests.items() if workload_name(cluster.name, part) not in made}
    secret = _secret_of(cluster, context)
    if secret is None:
        return Rotation(digests=made_with)

    def may_restart(ref: ObjectRef, started: Sequence[ObjectRef]) -> bool:
        if not staging.windows.is_open and is_well(live.objects.get(ref)):
            return False
        free = rollout.is_restarting(ref) or rollout.before(ref, started) is None
        return free and ref not in not_done and not any(map(is_held, live.objects.values()))

    return rotation(desired.manifests, live.objects, made_with, secret, may_restart)


def _secret_of(cluster: Cluster, context: ReconcileContext) -> Callable[[str], str | None] | None:
    """Return what gives a Secret's digest by its name; None if Secrets may not be seen."""
    if not context.cache.sees_secrets(cluster.namespace):
        return None
    return lambda name: context.cache.secret_digest(cluster.namespace, name)
