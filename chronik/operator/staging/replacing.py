"""Holds a StatefulSet whose pods would be replaced in the wrong order, and replaces them one by one.

Everything is derived from the cluster in each pass: an operator that dies in the middle leaves a set that waits, and
the next one goes on. Which pod is next, `chronik.rollout.order` decides.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chronik.api.components import components, workload_name, workload_ref
from chronik.apply.executor import execute
from chronik.errors import Forbidden, ObjectChanged
from chronik.manifest import CLUSTER_LABEL, POD, ROLLOUTS, ObjectRef, component_of
from chronik.operator.membership.members import leader
from chronik.operator.staging.windows import is_well
from chronik.plan.actions import Plan, ReplacePod, Stage, Step
from chronik.plan.results import Report
from chronik.plan.volumes.sizes import at_live_size
from chronik.rollout.facts import (
    hold,
    is_held,
    leaves_rolls_to_us,
    release,
    repairs_only,
    set_facts,
    without_strategy,
)
from chronik.rollout.order import ill_before, is_ill, is_own_order, next_repair, next_replacement
from chronik.rollout.surge import is_on_its_way, may_hold, without_selector, without_surge
from chronik.status.events import Announcement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from chronik.api.spec import Cluster
    from chronik.apply.executor import Execution
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext
    from chronik.plan.actions import Action, Apply
    from chronik.plan.live import LiveCluster
    from chronik.rollout.facts import SetFacts
    from chronik.rollout.order import Replacement

_log = logging.getLogger("chronik.operator")

_REPAIRS = "only pods that are ill are replaced until restarts may begin"
_ON_DELETE = {"type": "OnDelete", "rollingUpdate": None}
"""The null takes away the partition that the server has filled in, which OnDelete may not have beside it."""


class Replacing:
    """The order in which one cluster's pods are replaced, in one pass; `desired` are its manifests, by reference.

    While windows are `closed`, only pods that are ill are.
    """

    def __init__(
        self,
        cluster: Cluster,
        document: Manifest,
        desired: Iterable[Manifest],
        context: ReconcileContext,
        *,
        closed: bool = False,
    ) -> None:
        self._cluster = cluster
        self._document = document
        self._desired = component_sets(cluster, desired)
        self._deployments = component_deployments(cluster, desired)
        self._context = context
        self._closed = closed
        self._votes = {workload_ref(cluster.key, each.name) for each in components(cluster) if each.member}
        self._undecided: dict[ObjectRef, Apply] = {}
        self._decided: set[ObjectRef] = set()
        self._repaired: set[ObjectRef] = set()
        self._leader: str | None = None

    def leave(self, refs: Collection[ObjectRef]) -> None:
        """Leave some workloads to somebody else: a canary."""
        self._desired = {ref: each for ref, each in self._desired.items() if ref not in refs}
        self._deployments = {ref: each for ref, each in self._deployments.items() if ref not in refs}

    def repairs(self, live: LiveCluster) -> frozenset[ObjectRef]:
        """Return the StatefulSets that get a new template outside of windows, since some pods are ill: only for those.

        It takes the right to delete pods. Without it the controller would take pods that are well, too.
        """
        if not self._closed or not self._context.cache.has_feature(ROLLOUTS):
            return frozenset()
        found = {ref: live.objects[ref] for ref in self._desired if ref in live.objects}
        return frozenset(ref for ref, each in found.items() if self._is_repaired(each, self._desired[ref], live))

    def _is_repaired(self, found: Manifest, desired: Manifest, live: LiveCluster) -> bool:
        if not leaves_rolls_to_us(desired) or (is_held(found) and not repairs_only(found)):
            return False
        facts = set_facts(found, live.pods)
        return facts.replicas > 1 and facts.seen and is_well(found) and is_ill(facts)

    def may_start(self, action: Apply, live: LiveCluster) -> bool:
        """Return whether the pods of a workload may restart as its controller does it; if not, `decide` has to."""
        ref = action.ref
        found, desired = live.objects.get(ref), self._desired.get(ref)
        if (
            ref in self._decided
            or found is None
            or desired is None
            or is_held(found)
            or not leaves_rolls_to_us(desired)
        ):
            return True
        if ref in self.repairs(live):
            self._undecided[ref] = action
            self._repaired.add(ref)
            return False
        facts = set_facts(found, live.pods)
        ill = ill_before(facts.pods)
        if facts.replicas < 2 or (ill is None and ref not in self._votes):  # noqa: PLR2004  # one pod has no order
            return True
        if not self._context.cache.has_feature(ROLLOUTS):
            if ill is not None:
                self._tell(ref, ill.name)
            return True
        self._undecided[ref] = action
        return False

    def _tell(self, ref: ObjectRef, pod: str) -> None:
        """Say that the order is the wrong one, and what would make it right."""
        self._decided.add(ref)
        note = f"{ref}: pod {pod} is not ready, and others are replaced before it. {_NO_RIGHT}"
        _log.warning("RollsFromTheTop: %s", note)
        self._context.announce(self._document, Announcement("Warning", "RollsFromTheTop", note))

    async def decide(self, execution: Execution) -> Report | None:
        """Hold what has to be held, and return what was written; None if there was nothing to decide."""
        if not self._undecided:
            return None
        undecided, self._undecided = self._undecided, {}
        live = self._context.cache.view(self._cluster.key, self._document)
        holds: list[Action] = []
        for ref, action in undecided.items():
            self._decided.add(ref)
            pods = set_facts(live.objects[ref], live.pods).pods
            if ref in self._repaired:
                holds.append(hold(action.manifest, _ON_DELETE, _REPAIRS, repairs_only=True))
            elif not is_own_order(pods, await self._leads(ref, live)):
                holds.append(hold(action.manifest, _ON_DELETE, "pods are replaced in another order than its own"))
        return await execute(_plan(holds), execution) if holds else Report(())

    async def go_on(self, execution: Execution, may_go: Callable[[ObjectRef], bool]) -> Report:
        """Take the next step in each set that is held, and return what was written.

        A set that a canary had held, before the document said otherwise, goes on when it `may_go`: in its turn.
        """
        live = self._context.cache.view(self._cluster.key, self._document)
        actions: list[Action] = [
            release(each, "no canary holds it any longer")
            for ref, each in self._deployments.items()
            if is_held(live.objects.get(ref)) and (may_go(ref) or not may_hold(each))
        ]
        for ref, desired in self._desired.items():
            found = live.objects.get(ref)
            if found is None or not is_held(found) or "deletionTimestamp" in found["metadata"]:
                continue
            if not leaves_rolls_to_us(desired):
                actions.append(release(desired, "its strategy is the document's"))
                continue
            facts = set_facts(found, live.pods)
            if facts.strategy == "OnDelete" and not repairs_only(found):
                actions += self._step(desired, next_replacement(facts, await self._leads(ref, live)))
            elif may_go(ref):
                actions.append(_let_on(desired, found, facts))
            elif repairs_only(found):
                actions += self._step(desired, next_repair(facts))
        if not actions:
            return Report(())
        report = await execute(_plan(actions), execution)
        refused = [each for each in report.failed if isinstance(each.action, ReplacePod)]
        if any(isinstance(each.error, Forbidden) for each in refused):
            return await self._without_the_right(report, execution)
        kept = tuple(each for each in report.results if not (each in refused and isinstance(each.error, ObjectChanged)))
        return Report(kept, interrupted=report.interrupted)  # a pod that has changed since is looked at again

    def _step(self, desired: Manifest, following: Replacement) -> list[Action]:
        if following.what == "release":
            return [release(desired, f"goes on by itself: {following.reason}")]
        if following.what == "wait" or following.pod is None:
            return []
        pod = following.pod
        ref = ObjectRef(POD.name, self._cluster.namespace, pod.name)
        return [ReplacePod(ref=ref, reason=following.reason, uid=pod.uid, resource_version=pod.version)]

    async def _without_the_right(self, report: Report, execution: Execution) -> Report:
        """Let go of every set again: who may not delete pods must not keep their controller from it."""
        live = self._context.cache.view(self._cluster.key, self._document)
        held = [each for ref, each in self._desired.items() if is_held(live.objects.get(ref))]
        note = f"Pods may not be deleted, so sets roll from the top. {_NO_RIGHT}"
        self._context.announce(self._document, Announcement("Warning", "RollsFromTheTop", note))
        written = Report(report.written, interrupted=report.interrupted)
        return (await execute(_plan([release(each, "pods may not be deleted") for each in held]), execution)).after(
            written
        )

    async def _leads(self, ref: ObjectRef, live: LiveCluster) -> str:
        """Return the name of the pod that leads, if the set votes and one says so; asked once in a pass."""
        if ref not in self._votes:
            return ""
        if self._leader is None:
            self._leader = await leader(self._cluster, live)
        return self._leader


_NO_RIGHT = "`chronik install --features rollouts` gives the operator the right to replace the ill ones first."


def _let_on(desired: Manifest, found: Manifest, facts: SetFacts) -> Action:
    """Return how a set goes on whose restarts had to wait until now."""
    if repairs_only(found):
        return hold(desired, _ON_DELETE, "restarts may begin, and all others follow")
    if is_own_order(facts.old):
        return release(desired, "no canary holds it any longer")
    return hold(desired, _ON_DELETE, "no canary holds it any longer, and a pod is ill")


def component_sets(cluster: Cluster, desired: Iterable[Manifest]) -> dict[ObjectRef, Manifest]:
    """Return the StatefulSets of a cluster's components; a template of the user's may make others."""
    ours = {workload_ref(cluster.key, each.name) for each in components(cluster) if each.type.stateful}
    return {ref: each for each in desired if (ref := ObjectRef.of(each)) in ours}


def component_deployments(cluster: Cluster, desired: Iterable[Manifest]) -> dict[ObjectRef, Manifest]:
    """Return the Deployments of a cluster's components."""
    ours = {workload_ref(cluster.key, each.name) for each in components(cluster) if not each.type.stateful}
    return {ref: each for each in desired if (ref := ObjectRef.of(each)) in ours}


def as_held(desired: Iterable[Manifest], objects: Mapping[ObjectRef, Manifest]) -> list[Manifest]:
    """Return manifests that leave alone what is held: how a set rolls, and its volumes, which would create it anew."""
    found = []
    for each in desired:
        live = objects.get(ObjectRef.of(each)) if each["kind"] == "StatefulSet" else None
        held = live is not None and is_held(live) and leaves_rolls_to_us(each)
        found.append(at_live_size(without_strategy(each), live) if held and live is not None else each)
    found = [without_surge(each) if _is_held_deployment(each, objects) else each for each in found]
    return [without_selector(each) if _is_pinned(each, objects) else each for each in found]


def _is_pinned(desired: Manifest, objects: Mapping[ObjectRef, Manifest]) -> bool:
    """Return whether a Service leads to one revision of a Deployment only, as long as that is on its way."""
    if desired["kind"] != "Service" or not is_held(objects.get(ObjectRef.of(desired))):
        return False
    metadata = desired["metadata"]
    name = workload_name(metadata["labels"][CLUSTER_LABEL], component_of(desired))
    live = objects.get(ObjectRef("Deployment", metadata.get("namespace", ""), name))
    return live is not None and is_on_its_way(live)


def _is_held_deployment(desired: Manifest, objects: Mapping[ObjectRef, Manifest]) -> bool:
    return desired["kind"] == "Deployment" and is_held(objects.get(ObjectRef.of(desired))) and may_hold(desired)


def _plan(actions: Iterable[Action]) -> Plan:
    return Plan((Stage("rollout", tuple(Step(action.ref, (action,)) for action in actions)),))
