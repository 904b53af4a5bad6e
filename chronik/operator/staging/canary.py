"""Leads a canary: holds StatefulSets and Deployments, lets them go step by step, and takes a candidate back.

What comes next, `chronik.rollout.canary` decides. In a pass the templates are written first, into sets that are held so
that no pod moves; then one decision is made by what is there, and carried out.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS, is_blue_green
from chronik.apply.executor import execute
from chronik.errors import ChronikError, ObjectChanged
from chronik.manifest import POD, REPLICA_SET, REVISION, ROLLOUT_ANNOTATION, ROLLOUTS, ObjectRef, component_of
from chronik.operator.context import status_of
from chronik.operator.staging.history import keep_spec
from chronik.operator.staging.replacing import component_deployments, component_sets
from chronik.plan.actions import Apply, Obstacle, Plan, ReplacePod, Stage, Step
from chronik.plan.drift import alters, applied_fields, drift, holds, split
from chronik.plan.ownership import has_owner
from chronik.plan.results import Report
from chronik.plan.volumes.recreating import LASTING_ANNOTATIONS
from chronik.quantity import seconds_of
from chronik.rollout.canary import Decision, is_given_up, plan_rollout
from chronik.rollout.facts import hold, hold_fields, is_held, leaves_rolls_to_us, release, set_facts
from chronik.rollout.pending import deferred
from chronik.rollout.steps import EVERY_POD, Pins, Staged
from chronik.rollout.surge import HASH_LABEL, deployment_facts, held_fields, is_settled, may_hold, surge_of, template_of
from chronik.rollout.trial import Gates
from chronik.status.assess import NOTHING_DONE, describe_error
from chronik.status.compute import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from chronik.api.spec import Canary, Cluster
    from chronik.apply.executor import Execution
    from chronik.manifest import ComponentName, Manifest
    from chronik.operator.context import ReconcileContext
    from chronik.operator.rollout import Rollout
    from chronik.plan.actions import Action
    from chronik.plan.live import LiveCluster
    from chronik.rollout.facts import SetFacts
    from chronik.rollout.steps import Move


class CanaryPass:
    """One pass over a cluster that asks for a canary or blue-green; `desired` are its manifests by the document."""

    def __init__(
        self, cluster: Cluster, document: Manifest, desired: Sequence[Manifest], context: ReconcileContext
    ) -> None:
        wanted = cluster.spec["rollout"]
        assert wanted is not None, "it asks for none"
        self._spec, self._blue_green = wanted, is_blue_green(wanted)
        self._staged_all = wanted["strategy"] == "Canary"
        sets = component_sets(cluster, desired) if self._staged_all else {}
        deployments = component_deployments(cluster, desired)
        self._sets = {
            **{ref: each for ref, each in sets.items() if leaves_rolls_to_us(each)},
            **{ref: each for ref, each in deployments.items() if may_hold(each)},
        }
        self._services = {each["metadata"]["name"]: each for each in desired if each["kind"] == "Service"}
        self._cluster = cluster
        self._document = document
        self._desired = desired
        self._context = context
        self._undecided: dict[ObjectRef, Apply] = {}
        self._previous: Mapping[str, Any] = status_of(document).get("rollout") or {}
        self._stable = {each["name"]: each.get("stable", "") for each in self._previous.get("components") or ()}
        self._returning: set[ObjectRef] = set()
        self.candidate = _digest({ref.name: each["spec"]["template"] for ref, each in self._sets.items()})
        self.decision: Decision | None = None
        self.outside: tuple[ObjectRef, ...] = ()

    @property
    def goes_back(self) -> bool:
        """Whether the candidate was taken back, which waits for nothing."""
        return is_given_up(self._previous, self.candidate)

    @property
    def refs(self) -> frozenset[ObjectRef]:
        """The workloads that it leads."""
        return frozenset(self._sets)

    @property
    def _has_rights(self) -> bool:
        return self._context.cache.has_feature(ROLLOUTS)

    async def manifests(self, live: LiveCluster) -> list[Manifest]:
        """Return what is wanted now: of a candidate that was taken back, the pods of the revision before.

        So do those of a Deployment that still has pods of an earlier candidate: they go before another one comes.

        Raises:
            ChronikError: that revision cannot be read.
        """
        given_up = self.goes_back
        found = []
        for each in self._desired:
            ref = ObjectRef.of(each)
            there = live.objects.get(ref) if ref in self._sets else None
            name = ""
            if there is not None and given_up:
                name = self._stable.get(component_of(each), "")
            elif there is not None and self._has_rights and ref.kind == "Deployment":
                name = await self._returns_to(each, there, live)
            found.append(await self._with_revision(each, name) if name else each)
        return found

    async def _returns_to(self, desired: Manifest, there: Manifest, live: LiveCluster) -> str:
        """Return the revision that a Deployment has to go back to before it gets its next template, if it has to."""
        if is_settled(there, live.pods) or not _new_template(desired, there):
            return ""
        facts = await self._facts(there, live)
        if all(pod.revision == facts.current for pod in facts.pods):
            return ""
        stable = (await self._with_revision(desired, facts.current))["spec"]["template"]
        if holds(stable, desired["spec"]["template"], ("spec", "template")):
            return ""  # back is where it is to go
        self._returning.add(ObjectRef.of(desired))
        return facts.current

    async def _with_revision(self, manifest: Manifest, name: str) -> Manifest:
        """Return a workload with the pod template of one of its revisions, which never change."""
        key, kind = (self._cluster.key, name), REVISION if manifest["kind"] == "StatefulSet" else REPLICA_SET
        if key not in self._context.revisions:
            found = await self._context.kube.get(kind, self._cluster.namespace, name)
            if found is None:
                raise ObjectChanged("is gone, so its pods cannot go back to it", subject=f"{kind.name}/{name}")
            self._context.revisions[key] = _template(found)
        return manifest | {"spec": manifest["spec"] | {"template": self._context.revisions[key]}}

    def give_in(self, error: ChronikError) -> Report:
        """Leave everything as it is, since what pods are to go back to cannot be read, and have that told."""
        self.decision = Decision(dict(self._previous), failure=describe_error(error))
        return NOTHING_DONE

    def gate(
        self, action: Apply, started: tuple[ObjectRef, ...], rollout: Rollout, live: LiveCluster
    ) -> ObjectRef | None:
        """Return what a workload has to wait for before its template is written: itself, if it has to be held first."""
        ref = action.ref
        there = live.objects.get(ref)
        blue_green = self._blue_green and ref.kind == "Deployment"
        if ref in self._sets and (there is None or blue_green or int(there["spec"].get("replicas", 1)) > 1):
            blocker = rollout.outside(action) if self._staged_all else rollout.before(ref, started)
            if blocker is not None:
                return blocker
            if self._has_rights and there is not None and _holds_all(there):
                return None
            self._undecided[ref] = action
            return ref
        if not self._staged_all:
            return rollout.gate(action, started)
        busy = (each for each in self._sets if each in self._undecided or is_held(live.objects.get(each)))
        return next(busy, None) or rollout.gate(action, started)

    async def hold(self, execution: Execution) -> Report | None:
        """Hold what is to get a new template, and return what was written; None if nothing had to be."""
        if not self._undecided or not self._has_rights:
            return None
        undecided, self._undecided = self._undecided, {}
        live = self._context.cache.view(self._cluster.key, self._document).objects
        actions = [_held(each.manifest, live.get(ref)) for ref, each in undecided.items()]
        return await execute(_plan(actions), execution)

    async def go_on(self, report: Report, execution: Execution, closed: str) -> Report:
        """Decide what comes next by what is there after `report`, do it, and return what was written.

        `closed` says why no restart may begin, if none may.
        """
        steps = self._steps()
        live = self._context.cache.view(self._cluster.key, self._document)
        if not self._has_rights:
            if self._undecided:
                self.decision = Decision(dict(self._previous), waiting=Reason("FeatureMissing", _NO_RIGHT))
            return Report(())
        pending = {each.ref for each in report.results if _is_pending(each.action)} | {*deferred(report)}
        try:
            staged = [each async for each in self._staged(live, pending)]
        except ChronikError as error:
            return self.give_in(error)
        analyst = self._context.analyst
        annotations = self._document["metadata"].get("annotations") or {}
        self.decision = plan_rollout(
            steps,
            staged,
            self.candidate,
            self._previous,
            annotations.get(ROLLOUT_ANNOTATION, ""),
            self._context.now(),
            Gates(closed, analyst.answer(self._cluster.key) if analyst else None),
        )
        analysis = steps["analysis"]
        if self.decision.question and analysis and analyst:
            analyst.ask(self._cluster.key, self.decision.question, analysis["metrics"])
        if self.decision.outside:
            self.outside = tuple(each.facts.ref for each in staged if each.changes)
        if self._is_complete(self.decision.status):
            await keep_spec(self._document, self._spec["history"], self._context)
        if not self.decision.moves:
            return Report(())
        if any(each.what in {"pin", "preview"} for each in self.decision.moves):  # no controller answers to that
            self.decision = self.decision._replace(again_at=self._context.now())
        done = await execute(_plan([self._action(each) for each in self.decision.moves]), execution)
        kept = (each for each in done.results if not (isinstance(each.action, ReplacePod) and _has_changed(each.error)))
        return replace(done, results=tuple(kept))  # a pod that has changed since is looked at again

    def _is_complete(self, status: Mapping[str, Any]) -> bool:
        """Return whether all pods run the candidate, and that is news."""
        place = ("phase", "candidate")
        return status.get("phase") == "Complete" and any(status.get(each) != self._previous.get(each) for each in place)

    async def _staged(self, live: LiveCluster, pending: set[ObjectRef]) -> AsyncIterator[Staged]:
        for ref, manifest in self._sets.items():
            there = live.objects.get(ref)
            if there is not None:
                component: ComponentName = component_of(manifest)  # type: ignore[assignment]  # chronik's own label
                type_ = COMPONENTS[component]
                facts = await self._facts(there, live)
                returns = ref in self._returning and ref not in pending
                votes, pins = type_.votes or type_.members, self._pins(there, live)
                yield Staged(component, facts, votes, ref in pending, returns, pins)

    def _steps(self) -> Canary:
        """Return the steps to take; blue-green alone is one, after which clients are switched."""
        if self._spec["canary"] is not None:
            return self._spec["canary"]
        settings = self._spec["blueGreen"]
        return {
            "steps": [{"pods": 1, "pause": {"duration": settings["autoPromoteAfter"]}}],
            "progressDeadlineSeconds": settings["progressDeadlineSeconds"],
            "onFailure": settings["onFailure"],
            "analysis": None,
        }

    def _pins(self, there: Manifest, live: LiveCluster) -> Pins | None:
        """Return where the Services of a blue-green workload lead to; None if it is none."""
        if not self._blue_green or there["kind"] != "Deployment":
            return None
        name = there["metadata"]["name"]

        def pinned(service: str) -> str:
            of = live.objects.get(ObjectRef("Service", self._cluster.namespace, service)) or {"spec": {}}
            mark = (of["spec"].get("selector") or {}).get(HASH_LABEL)
            return f"{name}-{mark}" if mark else ""

        delay = seconds_of(self._spec["blueGreen"]["scaleDownDelay"])
        return Pins(pinned(name), pinned(f"{name}-preview"), delay)

    async def _facts(self, there: Manifest, live: LiveCluster) -> SetFacts:
        """Return what is known of a workload; of a Deployment that is on its way, its ReplicaSets are asked for."""
        if there["kind"] == "StatefulSet":
            return set_facts(there, live.pods)
        sets: Sequence[Manifest] = ()
        if not is_settled(there, live.pods):
            labels = there["spec"]["selector"]["matchLabels"]
            selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
            listing = await self._context.kube.list(REPLICA_SET, self._cluster.namespace, label_selector=selector)
            sets = [each for each in listing.items if has_owner(each, there["metadata"]["uid"])]
        stable = self._stable.get(component_of(there), "")
        return deployment_facts(there, live.pods, sets, stable, self._pins(there, live))

    def _action(self, move: Move) -> Action:
        ref, manifest = move.staged.facts.ref, self._sets[move.staged.facts.ref]
        if move.what == "partition":
            if ref.kind == "Deployment":
                surge = max(1, move.staged.facts.replicas - move.partition)
                return hold_fields(manifest, held_fields(surge, paused=False), move.reason)
            return _partition(manifest, move.partition, move.reason)
        if move.what in {"pin", "preview"}:
            service = self._services[ref.name if move.what == "pin" else f"{ref.name}-preview"]
            mark = {HASH_LABEL: move.revision.removeprefix(f"{ref.name}-")}
            return hold_fields(service, {"selector": service["spec"]["selector"] | mark}, move.reason)
        if move.what == "release" or move.pod is None:
            return release(manifest, move.reason)
        pod = ObjectRef(POD.name, ref.namespace, move.pod.name)
        return ReplacePod(ref=pod, reason=move.reason, uid=move.pod.uid, resource_version=move.pod.version)


_NO_RIGHT = "A canary needs an operator that was installed with --features rollouts; until then no pod changes"


def _held(workload: Manifest, live: Manifest | None) -> Action:
    """Return the hold in which no pod moves, whatever is written into the template."""
    reason = "its pods wait for their step of a canary"
    if workload["kind"] == "Deployment":
        return hold_fields(workload, held_fields(surge_of(live), paused=True), reason)
    return _partition(workload, EVERY_POD, reason)


def _partition(workload: Manifest, number: int, reason: str) -> Action:
    return hold(workload, {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}, reason)


def _holds_all(live: Manifest) -> bool:
    if live["kind"] == "Deployment":
        return is_held(live) and bool(live["spec"].get("paused"))
    facts = set_facts(live, ())
    return facts.held and facts.strategy == "RollingUpdate" and facts.partition >= facts.replicas


def _is_pending(action: Action) -> bool:
    """Return whether a workload's new pod template was not written, or only in this pass: nothing is decided by it."""
    if isinstance(action, Obstacle):
        return any(change.path.startswith("spec.template") for change in getattr(action, "changes", ()))
    return isinstance(action, Apply) and bool(action.restarts)


def _has_changed(error: object) -> bool:
    return isinstance(error, ObjectChanged)


def _new_template(desired: Manifest, live: Manifest) -> bool:
    """Return whether an apply would change the pods of a workload."""
    fields = applied_fields(live) or {}
    found = (each for each in split(drift(desired, live)) if each.path[:2] == ("f:spec", "f:template"))
    return any(alters(each, live, fields) for each in found)


def _template(revision: Manifest) -> Manifest:
    """Return the pod template that a revision holds, without what others than chronik put there."""
    if revision["kind"] == REPLICA_SET.name:
        template = template_of(revision)
    else:
        template = {name: value for name, value in revision["data"]["spec"]["template"].items() if name != "$patch"}
    metadata = {name: value for name, value in template["metadata"].items() if value is not None}
    annotations = metadata.get("annotations") or {}
    ours = {name: value for name, value in annotations.items() if name not in LASTING_ANNOTATIONS}
    return template | {"metadata": metadata | ({"annotations": ours} if annotations else {})}


def _digest(templates: Mapping[str, Manifest]) -> str:
    text = json.dumps(templates, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _plan(actions: Iterable[Action]) -> Plan:
    return Plan((Stage("rollout", tuple(Step(action.ref, (action,)) for action in actions)),))
