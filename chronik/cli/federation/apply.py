"""What `chronik apply` and `chronik diff` do with a ChronikFederation: member by member, or the document to its hub."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from chronik.apply.roll import Roll
from chronik.cli.common import CLUSTERS_AT_ONCE, namespace_is_missing, transition_error
from chronik.cli.federation.connections import Connections
from chronik.cli.main import show_note
from chronik.cli.streams import say
from chronik.errors import ChronikError, ConflictError, KindMissing, NamespaceMissing
from chronik.federation.changes import change_of
from chronik.federation.plan import TIMED_OUT
from chronik.manifest import CLUSTER, FEDERATION, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import Apply, Create
from chronik.plan.results import OUTCOMES, Report, Result, undone
from chronik.report.diff import ClusterDiff
from chronik.report.summary import ClusterResult
from chronik.status.health import Health, State
from chronik.status.readiness import Unready
from chronik.tasks import side_by_side
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.apply.roll import TakenBack
    from chronik.cli.federation.members import ApplyFlags, Federated
    from chronik.cli.interrupt import Interruption
    from chronik.federation.document import Member
    from chronik.federation.plan import FederationPlan, MemberPlan
    from chronik.federation.validation import ValidFederation
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import Manifest
    from chronik.report.summary import DryRun


_MANAGER = "chronik-apply"
"""Owns what people apply to a hub: with the name of the operator, what that applies there would take all else away."""
_LONGEST = 7 * 86400.0
"""Seconds that a member may get to be Ready: as many as a document may say."""


class _Hubs(ConflictError):
    """A hub carries the federation out, and would undo whatever the command line does at its members."""


class FederationWork:
    """One federation, and what is done about it. `kube` is the current context's: the hub, if there is one."""

    def __init__(self, found: ValidFederation, federated: Federated, kube: Kube, options: ConnectOptions) -> None:
        self.found = found
        self.federation = federated.chosen(found.federation)
        self._federated = federated
        self._kube = kube
        self._options = options

    def connections(self) -> Connections:
        """Return the connections to its members, for a `with`."""
        return Connections(
            self.federation.namespace, self._kube, self._options, by_contexts=self._federated.by_contexts
        )

    async def at_hub(self) -> Manifest | None:
        """Return the federation as a hub has it, if there is one; that it may not be asked is told, and no error."""
        key = self.federation.key
        try:
            return await self._kube.get(FEDERATION, *key)
        except (KindMissing, NamespaceMissing):
            return None
        except ChronikError as error:
            show_note(f"whether a hub looks after {key} is not known: {error.message}")
            return None

    async def check_hub(self) -> None:
        """Refuse to change members that a hub looks after; one that has no Secrets to go by is no hub's.

        Raises:
            ConflictError: it does.
        """
        document = await self.at_hub() if any(each.at.secret for each in self.federation.members) else None
        if document is not None:
            hint = "Change it in the hub: the same command with --hub. Or delete it there first."
            message = "a hub carries this federation out, so nothing was sent"
            raise _Hubs(message, subject=str(ObjectRef.of(document)), hint=hint)

    def be_patient(self, seconds: float) -> None:
        """Give each member so many seconds, whatever the document says."""
        rollout = replace(self.federation.rollout, timeout=round(min(seconds, _LONGEST)))
        self.federation = replace(self.federation, rollout=rollout)

    def check_transitions(self, roll: Roll) -> None:
        """Note which members will refuse their new document in place of the one they have."""
        for member in self.federation.members:
            live = roll.live.get(member.name)
            cluster = self.found.clusters[member.name]
            problems = offline.validator().transition(cluster, live) if live else ()
            error = transition_error(problems, "its API server will refuse this document in place of the live one")
            if error is not None:
                roll.refuse(member.name, error)


async def run_federations(
    found: Sequence[ValidFederation],
    kube: Kube,
    options: ConnectOptions,
    flags: ApplyFlags,
    interruption: Interruption,
) -> list[ClusterResult]:
    """Apply federations, and return what became of each member, or with --hub of each federation.

    Raises:
        ChronikError: one cannot be applied at all.
    """
    if flags.prune:
        raise click.UsageError("--prune is for clusters: a member of a federation gets one object")
    if flags.step is not None:
        raise click.UsageError("--step is for clusters without an operator: each member's operator leads its canary")
    results: list[ClusterResult] = []
    for each in found:
        if flags.federated.hub:
            results.append(await _at_hub(kube, each, force=flags.force, dry_run=flags.dry_run))
            continue
        work = FederationWork(each, flags.federated, kube, options)
        if flags.patience is not None:
            work.be_patient(flags.patience)
        results += await _applied(work, flags, interruption)
    return results


async def federation_diffs(
    found: Sequence[ValidFederation], kube: Kube, options: ConnectOptions, federated: Federated, *, force: bool
) -> list[ClusterDiff]:
    """Return what an apply of federations would change at each member, or with --hub in the hub."""
    diffs = []
    for each in found:
        if federated.hub:
            diffs.append(ClusterDiff(await _at_hub(kube, each, force=force, dry_run="client")))
            continue
        work = FederationWork(each, federated, kube, options)
        async with work.connections() as connections:
            roll = Roll(work.federation, connections.to, force)
            await roll.look()
            work.check_transitions(roll)
            for member in work.federation.ordered:
                absent = member.name not in roll.errors and roll.live.get(member.name) is None
                missing = absent and await namespace_is_missing(await connections.to(member), member.at.namespace)
                diffs.append(ClusterDiff(_foreseen(roll, member), new_namespace=missing))
    return diffs


async def _applied(work: FederationWork, flags: ApplyFlags, interruption: Interruption) -> list[ClusterResult]:
    """Apply a federation to its members as a hub would, one after the other, and return what became of each."""
    began, wait = time.monotonic(), flags.wait is not None
    if flags.dry_run == "none":
        await interruption.until_asked(work.check_hub())
    async with work.connections() as connections:
        roll = Roll(work.federation, connections.to, flags.force, _tell if flags.output == "text" else _keep_quiet)
        await interruption.until_asked(roll.look())
        work.check_transitions(roll)
        if flags.dry_run == "client":
            return [_foreseen(roll, each) for each in work.federation.ordered]
        if flags.dry_run == "server":
            ask = [each for each in work.federation.ordered if each.name not in roll.errors]
            await side_by_side(lambda each: roll.send(each, dry_run=True), ask, CLUSTERS_AT_ONCE)
            return [_result(roll, each) for each in work.federation.ordered]
        plan = await roll.run(interruption.asked, wait=wait)
    interrupted = interruption.asked.is_set() and not plan.complete
    waited = time.monotonic() - began
    if roll.taken_back is not None:
        done = roll.taken_back
        return [_given_back(roll, done, plan, each, waited=waited) for each in work.federation.ordered]
    ended = partial(_ended, roll, plan, interrupted=interrupted, wait=wait, waited=waited)
    return [ended(each) for each in work.federation.ordered]


async def _at_hub(kube: Kube, found: ValidFederation, *, force: bool, dry_run: DryRun) -> ClusterResult:
    """Apply the federation itself, as an object of the hub."""
    began, key = time.monotonic(), found.federation.key
    document: Manifest = {name: value for name, value in found.document.items() if name != "status"}
    try:
        live = await kube.get(FEDERATION, *key)
        action = change_of(document, live, manager=_MANAGER, force=force)
        if not isinstance(action, Create | Apply):
            return ClusterResult(key, Report((undone(action),)), seconds=time.monotonic() - began)
        outcome, answer = OUTCOMES[type(action)], None
        if dry_run != "client":
            taking = isinstance(action, Apply) and action.force
            answer = await kube.apply(document, manager=_MANAGER, force=taking, dry_run=dry_run == "server")
    except KindMissing as error:
        error.hint = "Install it: chronik install --features federation | kubectl apply --server-side -f -"
        return ClusterResult(key, error=error)
    except ChronikError as error:
        return ClusterResult(key, error=error)
    return ClusterResult(key, Report((Result(action, outcome, answer=answer),)), seconds=time.monotonic() - began)


def _keep_quiet(_name: str, _phase: str, _message: str) -> None:
    """Say nothing: the report does."""


def _tell(name: str, phase: str, message: str) -> None:
    if phase != "Pending":
        say(f"{name}: {phase}{f': {message}' if message else ''}", err=True)


def _foreseen(roll: Roll, member: Member) -> ClusterResult:
    error = roll.errors.get(member.name)
    if error is not None:
        return ClusterResult(member.at.place, error=error, member=member.name)
    action = roll.action(member)
    outcome = OUTCOMES.get(type(action))
    result = Result(action, outcome) if outcome else undone(action)
    return ClusterResult(member.at.place, Report((result,)), member=member.name)


def _result(roll: Roll, member: Member) -> ClusterResult:
    """Return what became of a member that was sent something, or could not be."""
    result, error = roll.results.get(member.name), roll.errors.get(member.name)
    if result is None:
        return ClusterResult(member.at.place, error=error, member=member.name)
    # What was refused is in the result; what went wrong later is why nothing more is known.
    later = error if result.outcome != "failed" else None
    return ClusterResult(member.at.place, Report((result,)), error=later, seconds=result.seconds, member=member.name)


def _ended(
    roll: Roll, plan: FederationPlan, member: Member, *, interrupted: bool, wait: bool, waited: float
) -> ClusterResult:
    """Return what became of a member in a roll, and whether it is through with it."""
    found = next(each for each in plan.listed if each.progress.name == member.name)
    if member.name not in roll.results and member.name not in roll.errors:
        action = roll.action(member)
        result = Result(action, "not-tried", why=_in_front(plan, found))
        return ClusterResult(member.at.place, Report((result,), interrupted=interrupted), member=member.name)
    told = _result(roll, member)
    if found.held or told.failure is not None or (not wait and found.state != "failed") or interrupted:
        return told
    unready = () if found.state == "through" else (_unready(member, found),)
    return replace(told, unready=unready, waited=waited)


def _given_back(roll: Roll, done: TakenBack, plan: FederationPlan, member: Member, *, waited: float) -> ClusterResult:
    """Return what became of a member in a change that was taken back: nobody has it in the end, and it is a failure."""
    action, others = done.untouched.get(member.name), listed(sorted(done.why))
    if action is not None:
        result = Result(action, "not-tried", why=f"the change was taken back at {others}")
        return ClusterResult(member.at.place, Report((result,)), member=member.name)
    told = _result(roll, member)
    found = next(each for each in plan.listed if each.progress.name == member.name)
    back = "it has back what it had" if found.state == "through" else "it is given back what it had"
    cause = done.why.get(member.name) or f"the change was taken back, since it failed at {others}"
    ref = ObjectRef(CLUSTER.name, *member.at.place)
    return replace(told, unready=(Unready(ref, Health(State.FAILED, f"{cause}; {back}")),), waited=waited)


def _unready(member: Member, found: MemberPlan) -> Unready:
    why = found.failure
    state = State.FAILED if why is not None and why.reason != TIMED_OUT else State.IN_PROGRESS
    message = why.message if why is not None else found.seen.waits
    return Unready(ObjectRef(CLUSTER.name, member.at.namespace, member.at.cluster), Health(state, message))


def _in_front(plan: FederationPlan, found: MemberPlan) -> str:
    """Return which member another one waits for."""
    waits = [each.progress.name for each in plan.listed if each.state != "through" and each is not found]
    stopped = [each.progress.name for each in plan.listed if each.state in {"failed", "blocked"} or each.failure]
    names = stopped or waits
    return f"the change was halted at {names[0]}" if plan.halted and names else f"waits for {names[0]}" if names else ""
