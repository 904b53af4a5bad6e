"""What `chronik delete` does with a ChronikFederation: lets its members go as it says, or deletes it in the hub."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from chronik.apply.follow import named, until
from chronik.apply.members import let_go
from chronik.apply.roll import LOOK_SECONDS, Roll
from chronik.cli.common import CLUSTERS_AT_ONCE, tell
from chronik.cli.federation.apply import FederationWork
from chronik.cli.interrupt import Interrupted, run_async
from chronik.cli.main import print_data
from chronik.cli.streams import look
from chronik.errors import ChronikError, PartialFailure, Unreachable
from chronik.federation.facts import is_ours
from chronik.kube import connect
from chronik.manifest import CLUSTER, FEDERATION, ObjectRef
from chronik.report.federation.deletion import LettingGo, deletion_data, forecast, outcome, question, troubles
from chronik.tasks import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.cli.federation.connections import Connections
    from chronik.cli.federation.members import DeleteFlags, Federated
    from chronik.cli.interrupt import Interruption
    from chronik.federation.document import Member
    from chronik.federation.validation import ValidFederation
    from chronik.kube import ConnectOptions, Kube


def delete_federations(
    found: Sequence[ValidFederation], options: ConnectOptions, flags: DeleteFlags, federated: Federated
) -> int:
    """Show what becomes of each member, ask, do it, and return the exit code."""
    shown: list[LettingGo] = []

    async def find(interruption: Interruption) -> int:
        async with connect(options) as kube:
            for each in found:
                shown.extend(await interruption.until_asked(_looked(each, kube, options, federated)))
        return 0

    code = run_async(find)
    if code:
        return code
    if not flags.yes and any(each.how != "absent" and each.error is None for each in shown):
        tell(forecast(shown, **look(sys.stderr)))
        if not click.confirm(question(shown), err=True):
            click.echo("nothing was deleted", err=True)
            return 0

    async def go(interruption: Interruption) -> int:
        interruption.notice = "interrupted: finishing what is under way; Ctrl-C again ends at once"
        done: list[LettingGo] = []
        async with connect(options) as kube:
            for each in found:
                work = FederationWork(each, federated, kube, options)
                done += await _let_go(work, kube, [one for one in shown if _is_of(one, work)], flags, interruption)
        return _finish(done, flags)

    return run_async(go)


def _finish(done: Sequence[LettingGo], flags: DeleteFlags) -> int:
    if flags.output == "json":
        print_data(deletion_data(done, dry_run=flags.dry_run))
    else:
        click.echo(outcome(done, **look(sys.stdout), dry_run=flags.dry_run), nl=False, color=True)
    tell(troubles(done, **look(sys.stderr)))
    codes = {each.failure.exit_code if each.failure else 0 for each in done}
    return codes.pop() if len(codes) == 1 else PartialFailure.exit_code


def _is_of(one: LettingGo, work: FederationWork) -> bool:
    """Return whether something that was shown is this federation's."""
    if not one.member:
        return (one.ref.namespace, one.ref.name) == tuple(work.found.federation.key)
    return any(
        (one.member, one.ref.namespace, one.ref.name) == (each.name, *each.at.place) for each in work.federation.members
    )


async def _looked(found: ValidFederation, kube: Kube, options: ConnectOptions, federated: Federated) -> list[LettingGo]:
    """Return what is to become of a federation's members, or of it in the hub."""
    federation = found.federation
    if federated.hub:
        live = await kube.get(FEDERATION, *federation.key)
        ref = ObjectRef(FEDERATION.name, *federation.key)
        return [LettingGo("", ref, "absent" if live is None else "delete")]
    work = FederationWork(found, federated, kube, options)
    await work.check_hub()
    async with work.connections() as connections:
        roll = Roll(work.federation, connections.to)
        await roll.look()
    return [_planned(roll, each, federation.on_delete) for each in work.federation.ordered]


def _planned(roll: Roll, member: Member, on_delete: str) -> LettingGo:
    ref, error = ObjectRef(CLUSTER.name, *member.at.place), roll.errors.get(member.name)
    live = roll.live.get(member.name)
    if error is None and (live is None or not is_ours(live, str(roll.federation.key))):
        return LettingGo(member.name, ref, "absent")
    return LettingGo(member.name, ref, "delete" if on_delete == "Delete" else "orphan", error)


async def _let_go(
    work: FederationWork, kube: Kube, shown: Sequence[LettingGo], flags: DeleteFlags, interruption: Interruption
) -> list[LettingGo]:
    """Let go of all that was shown, side by side: one that cannot be reached holds up no other."""
    members = {each.name: each for each in work.federation.members}

    async with work.connections() as connections:

        async def one(each: LettingGo) -> LettingGo:
            if each.error is not None or each.how == "absent" or interruption.asked.is_set():
                return each
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    there = await _reached(each, members, kube, connections)
                    await _begin(there, each, str(work.federation.key), dry_run=flags.dry_run)
            except (ChronikError, TimeoutError) as error:
                failed = error if isinstance(error, ChronikError) else Unreachable.after(LOOK_SECONDS)
                return replace(each, error=failed)
            if flags.wait is None or each.how != "delete":
                return replace(each, done=True)
            with suppress(Interrupted):
                return await interruption.until_asked(_gone(there, each, flags.wait))
            return replace(each, done=True)

        return await side_by_side(one, shown, CLUSTERS_AT_ONCE)


async def _reached(each: LettingGo, members: dict[str, Member], hub: Kube, connections: Connections) -> Kube:
    return await connections.to(members[each.member]) if each.member else hub


async def _begin(kube: Kube, each: LettingGo, federation: str, *, dry_run: bool) -> None:
    kind = CLUSTER if each.member else FEDERATION
    live = await kube.get(kind, each.ref.namespace, each.ref.name)
    if live is None:
        return
    if each.member:
        await let_go(kube, live, federation, "orphan" if each.how == "orphan" else "delete", dry_run=dry_run)
    else:
        await kube.delete(kind, each.ref, uid=live["metadata"]["uid"], dry_run=dry_run)


async def _gone(kube: Kube, each: LettingGo, seconds: float) -> LettingGo:
    """Wait until an object is gone, and return whether it is."""
    kind, began = CLUSTER if each.member else FEDERATION, time.monotonic()

    async def look() -> bool | None:
        return True if await kube.get(kind, each.ref.namespace, each.ref.name) is None else None

    try:
        gone = await until(kube, [named(kind, each.ref)], look, seconds)
    except ChronikError as error:
        return replace(each, done=True, error=error)
    waited = max(time.monotonic() - began, 0.001)
    return replace(each, done=True, left=not gone, waited=waited)
