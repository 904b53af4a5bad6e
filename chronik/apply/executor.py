"""Carry out a plan: stage after stage, side by side within a stage, and say truthfully what became of each action.

All decisions are the plan's; here they are sent, in its order and under its conditions. An object that turns out to
have changed since it was read is not forced into anything: it is reported, to be read and planned again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chronik.errors import ChronikError, KindMissing, ObjectChanged, Unauthorized, Unreachable, UntrustedServer
from chronik.manifest import CLAIM, FIELD_MANAGER, KIND_BY_NAME, POD, KindName, ObjectRef
from chronik.plan.actions import (
    Apply,
    Create,
    GrowClaim,
    Prune,
    Recreate,
    ReplacePod,
    TransferOwnership,
    not_installed,
)
from chronik.plan.conflicts import without_ports
from chronik.plan.drift import drift
from chronik.plan.planner import left_over
from chronik.plan.results import OUTCOMES, Report, Result, hinders, undone
from chronik.tasks import task_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.plan.actions import Action, Plan, Stage, Step
    from chronik.plan.planner import Flapping

ABSENT = "1"
"""A resource version that no object has: a server-side apply with it creates what is missing, or is refused.

So a Create can never take over an object that is not ours, and needs no read before it.
"""

_GONE_WITHIN = 30.0
_GONE_POLLS = (0.02, 0.05, 0.1, 0.2, 0.5)


def _ignore(_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How plans are carried out.

    `concurrency` objects are written at once. Once `stop` is set nothing new is sent; what is under way is finished.
    With `dry_run` the server checks everything and keeps nothing. `on_start` gets every action that is about to be
    sent, `on_result` every result, in the order in which they happen.
    """

    kube: Kube
    concurrency: int = 8
    dry_run: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    on_start: Callable[[Action], None] = _ignore
    on_result: Callable[[Result], None] = _ignore


async def execute(todo: Plan, execution: Execution) -> Report:
    """Carry out a plan, and report what became of each of its actions, in its order.

    A failure stops the rest of its own step, and all pruning; everything else goes on. If the API server is lost, or no
    longer lets us in, nothing else is tried.
    """
    return await _Run(execution).plan(todo)


class _Run:
    """One plan being carried out.

    `trouble` is the first thing that went wrong, after which nothing is pruned; with `lost` nothing at all is sent.
    """

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.trouble: ObjectRef | None = None
        self.lost = ""
        self._free = asyncio.Semaphore(execution.concurrency)

    async def plan(self, todo: Plan) -> Report:
        results: list[Result] = []
        for stage in todo.stages:
            for step_results in await self._stage(stage):
                results += step_results
            bad = (result.ref for result in results if hinders(result))
            self.trouble = self.trouble or next(bad, None)
        return Report(tuple(results), interrupted=self._stopped and any(each.why == _STOPPED for each in results))

    @property
    def _stopped(self) -> bool:
        return self.execution.stop.is_set()

    async def _stage(self, stage: Stage) -> list[list[Result]]:
        if not any(_sends(action) for step in stage.steps for action in step.actions):
            return [[self._told(undone(action)) for action in step.actions] for step in stage.steps]
        untried = f"because of {self.trouble}" if stage.prunes and self.trouble else ""
        async with task_group() as group:
            tasks = [group.create_task(self._step(step, untried)) for step in stage.steps]
        return [task.result() for task in tasks]

    async def _step(self, step: Step, untried: str) -> list[Result]:
        """Carry out the actions about one object; the version that each leaves is what the next one expects."""
        results: list[Result] = []
        latest: Manifest | None = None
        async with self._free:
            for action in step.actions:
                if not _sends(action):
                    result = undone(action)
                elif why_not := untried or self.lost or (_STOPPED if self._stopped else ""):
                    result = Result(action, "not-tried", why=why_not)
                else:
                    result = await self._send(action, latest)
                results.append(self._told(result))
                if result.ref == step.ref:
                    latest = result.answer or latest
                if result.outcome in {"failed", "not-tried"}:
                    untried = untried or (_STOPPED if self._stopped else f"because of {result.ref}")
        return results

    def _told(self, result: Result) -> Result:
        self.execution.on_result(result)
        return result

    async def _send(self, action: Action, latest: Manifest | None) -> Result:
        self.execution.on_start(action)
        began = time.monotonic()
        try:
            answer = await self._sent(action, latest)
        except ChronikError as error:
            if isinstance(error, KindMissing) and isinstance(action, Create | Apply) and _is_optional(action.ref):
                return undone(not_installed(action.ref, KindName.of(action.manifest)))  # gone since it was looked for
            if isinstance(error, Unreachable | UntrustedServer | Unauthorized):
                self.lost = f"because of {error.subject}"
            return Result(action, "failed", error=error, seconds=time.monotonic() - began)
        return Result(
            action,
            OUTCOMES[type(action)],
            answer=answer,
            seconds=time.monotonic() - began,
            flapping=None if self.execution.dry_run else _flapping(action, answer),
        )

    async def _sent(self, action: Action, latest: Manifest | None) -> Manifest | None:
        """Send one action, and return the object as it is then; None if it is gone."""
        kube, dry_run = self.execution.kube, self.execution.dry_run
        match action:
            case Create(manifest=manifest):
                return await kube.apply(_at(manifest, ABSENT), dry_run=dry_run)
            case Apply(force=force):
                version = (latest or {}).get("metadata", {}).get("resourceVersion", action.resource_version)
                if action.clearing:
                    action = await cleared(kube, action, version, dry_run=dry_run)
                    version = action.resource_version
                pinned = _at(action.manifest, version if force else None, action.uid)
                return await kube.apply(pinned, force=force, dry_run=dry_run)
            case TransferOwnership(manifest=manifest, manager=manager, force=force):
                return await kube.apply(manifest, manager=manager, force=force, dry_run=dry_run)
            case GrowClaim():
                return await kube.apply(_claim(action), manager=FIELD_MANAGER, force=True, dry_run=dry_run)
            case Prune(ref=ref, uid=uid, resource_version=version):
                version = version if latest is None else latest["metadata"]["resourceVersion"]
                kind = _KNOWN.get(ref.kind) or await kube.kind(action.api_version, ref.kind)
                await kube.delete(kind, ref, uid=uid, resource_version=version, dry_run=dry_run)
                return None
            case ReplacePod(ref=ref, uid=uid, resource_version=version):
                await kube.delete(POD, ref, uid=uid, resource_version=version, dry_run=dry_run)
                return None
            case Recreate():
                return await self._recreate(action, latest)
        raise AssertionError(action)

    async def _recreate(self, action: Recreate, latest: Manifest | None) -> Manifest | None:
        kube, dry_run, ref = self.execution.kube, self.execution.dry_run, action.ref
        version = action.resource_version if latest is None else latest["metadata"]["resourceVersion"]
        await kube.delete(
            KIND_BY_NAME[ref.kind],
            ref,
            uid=action.uid,
            resource_version=version,
            propagation=action.propagation,
            dry_run=dry_run,
        )
        if dry_run:  # the old one is still there, and would refuse what its successor may have
            return None
        await _until_gone(kube, action)
        return await kube.apply(_at(action.manifest, ABSENT))


_STOPPED = "interrupted"


def _is_optional(ref: ObjectRef) -> bool:
    kind = KIND_BY_NAME.get(ref.kind)  # of templates of the user's, if it is none of chronik's
    return kind is None or kind.optional


def _sends(action: Action) -> bool:
    return type(action) in OUTCOMES


_KNOWN = KIND_BY_NAME | {CLAIM.name: CLAIM, POD.name: POD}
"""The kinds of what is pruned that need no discovery: those that chronik renders, and claims and pods of a cluster."""


def _at(manifest: Manifest, version: str | None, uid: str | None = None) -> Manifest:
    """Return a manifest with preconditions: the object's uid, or None for any, and its version."""
    wanted = {"uid": uid, "resourceVersion": version}
    preconditions = {key: value for key, value in wanted.items() if value is not None}
    return manifest | {"metadata": manifest["metadata"] | preconditions}


def _claim(action: GrowClaim) -> Manifest:
    """Return what is applied to a claim: its size, if it still is the claim that was planned for."""
    metadata = {"name": action.ref.name, "namespace": action.ref.namespace}
    preconditions = {"uid": action.uid, "resourceVersion": action.resource_version}
    return {
        "apiVersion": CLAIM.api_version,
        "kind": CLAIM.name,
        "metadata": metadata | preconditions,
        "spec": {"resources": {"requests": {"storage": action.storage}}},
    }


def _flapping(action: Action, answer: Manifest | None) -> Flapping | None:
    """Return what to remember of an apply that left a difference, or None if it left none."""
    if not isinstance(action, Create | Apply) or answer is None:
        return None
    differences = drift(action.manifest, answer)
    return left_over(action.manifest, answer, differences) if differences else None


async def _until_gone(kube: Kube, action: Recreate) -> None:
    """Wait until a deleted object is really gone, which with orphaned dependents takes the garbage collector a moment.

    Raises:
        ObjectChanged: it is still there after half a minute, so something holds it.
    """
    deadline = time.monotonic() + _GONE_WITHIN
    polls = iter(_GONE_POLLS)
    ref = action.ref
    while True:
        live = await kube.get(KIND_BY_NAME[ref.kind], ref.namespace, ref.name)
        if live is None or live["metadata"]["uid"] != action.uid:
            return
        if time.monotonic() > deadline:
            message = f"was deleted to be created anew, and is still there after {_GONE_WITHIN:.0f} s"
            raise ObjectChanged(message, subject=str(ref), hint=_held_by(live))
        with suppress(StopIteration):
            pause = next(polls)
        await asyncio.sleep(pause)


def _held_by(live: Manifest) -> str:
    finalizers = ", ".join(live["metadata"].get("finalizers") or ())
    return f"It waits for {finalizers}." if finalizers else "Try again."


async def cleared(kube: Kube, action: Apply, version: str, *, dry_run: bool) -> Apply:
    """Send the patch that has to come before an apply, and return the apply of what the patch leaves to do.

    A dry run keeps nothing of the patch, so the ports that it makes room for are left out of the apply: the server has
    checked them with the patch, and checks everything else with the apply.
    """
    assert action.clearing is not None, "nothing is in the way"
    patch = action.clearing | {"metadata": {"resourceVersion": version}}
    answer = await kube.merge(KIND_BY_NAME[action.ref.kind], action.ref, patch, dry_run=dry_run)
    if dry_run:
        return replace(action, manifest=without_ports(action.manifest), resource_version=version)
    return replace(action, resource_version=answer["metadata"]["resourceVersion"])
