"""`chronik switch`: has an alias lead to another cluster, once it is known that clients find there what they need.

It reads the alias, both clusters and the probes of the mirrors between them, and writes one field of the alias, in one
request. So a kill leaves the alias as it was or switched, and never without a cluster.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from chronik.cli import parameters
from chronik.cli.common import cluster_options, missing_cluster
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.mirrors.options import moving_options
from chronik.errors import ConflictError, KindMissing, ObjectChanged, ObjectMissing
from chronik.kube import ConnectOptions, connect
from chronik.manifest import CLUSTER, CLUSTER_LABEL, KIND_BY_NAME, POD, ClusterKey, ObjectRef
from chronik.report.moving import Move, judgement_lines, numbered

if TYPE_CHECKING:
    from chronik.api.replication.failover import Judgement
    from chronik.cli.mirrors.options import Moving
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.plan.aliases.switching import Side

_TRIES = 5
_SERVICE = KIND_BY_NAME["Service"]


@dataclass(frozen=True, slots=True)
class _Found:
    """An alias, where it leads and is to lead, what forbids that, and what the other cluster lacks."""

    alias: Manifest
    active: Side
    target: Side
    obstacles: tuple[str, ...]
    judgement: Judgement

    @property
    def name(self) -> str:
        return str(self.alias["metadata"]["name"])

    @property
    def done(self) -> bool:
        """Whether it leads there already."""
        return self.active.key == self.target.key

    @property
    def move(self) -> Move:
        """What a report says of it."""
        about = {"alias": self.name, "from": self.active.key.name}
        return Move(self.target.key, about, self.judgement, self.obstacles)

    @property
    def title(self) -> str:
        return f"{self.alias['metadata']['namespace']}/{self.name}"


@click.command()
@click.argument("alias", type=parameters.OBJECT_NAME)
@click.option("--to", "target", type=parameters.CLUSTER_NAME, required=True, help="The cluster that it is to lead to.")
@cluster_options
@moving_options(
    behind="How far the copy there may be behind.",
    lacking="Go on though something is lacking there, or nobody knows what.",
)
def switch(alias: str, target: str, options: ConnectOptions, moving: Moving) -> int:
    """Have an alias lead to another cluster.

    ALIAS is a Service that both clusters name in network.aliases. The other one has to be ready, on the same ports and
    with the same TLS, and its copy of the first must not be behind. New connections go there then; those that are open
    stay. What is left to do is shown in the end.

    Exits with 0 if the alias leads there, with 1 if it may not, or if something would be lacking there, or nobody knows
    what, and --accept-loss is not given, with 2 or 3 if there is no such alias or cluster, and with 4 if somebody else
    has switched it meanwhile.
    """
    moving.need_word()

    def look() -> _Found:
        return _looked(options, alias, target, moving.max_lag)

    found = look()
    moving.show(_lines(found, accept_loss=moving.accept_loss))
    if found.done:
        return moving.end(found.move, "unchanged", [])
    if not _may(found, moving):
        return moving.end(found.move, "refused", [])
    if moving.dry_run:
        return moving.end(found.move, "switched", _steps(found))
    if not moving.yes:
        if not moving.agreed("Switch it?"):
            return moving.end(found.move, "not-tried", [])
        before, found = found, look()  # it may have taken a while to answer
        if before.active.key != found.active.key:
            raise _switched(found, found.active.key.name)
        if not _may(found, moving):
            moving.show(_lines(found, accept_loss=moving.accept_loss))
            return moving.end(found.move, "refused", [])
    return run_async(lambda interruption: _switch(options, found, moving, interruption))


def _may(found: _Found, moving: Moving) -> bool:
    """Return whether the alias may be switched, and say it if not."""
    if found.obstacles:
        click.echo("nothing was written: fix that and try again", err=True)
        return False
    return moving.accepts(found.judgement)


def _switched(found: _Found, active: str) -> ConflictError:
    text = f"somebody has switched it to {active or 'no cluster'} meanwhile, so nothing was written"
    return ConflictError(text, subject=found.title, hint="Look again with --dry-run.")


# --- looking ---------------------------------------------------------------------------------------------------------


def _looked(options: ConnectOptions, alias: str, target: str, max_lag: float) -> _Found:
    """Return an alias, and whether it may lead to a cluster.

    Raises:
        ObjectMissing: there is no such alias or cluster.
        ConflictError: what has that name is no alias.
    """
    seen: list[_Found] = []

    async def look(interruption: Interruption) -> int:
        async with connect(options) as kube:
            key = ClusterKey(options.namespace or kube.namespace, target)
            seen.append(await interruption.until_asked(_look(kube, key, alias, max_lag)))
        return 0

    code = run_async(look)
    if not seen:
        raise click.exceptions.Exit(code)
    return seen[0]


async def _look(kube: Kube, key: ClusterKey, name: str, max_lag: float) -> _Found:
    from chronik.api.replication.failover import Judgement  # noqa: PLC0415  # help and completion stay quick
    from chronik.plan.aliases.services import active_of  # noqa: PLC0415
    from chronik.plan.aliases.switching import copies_of, doubts, obstacles, standing  # noqa: PLC0415

    alias = await _alias(kube, key.namespace, name)
    leads_to = key._replace(name=active_of(alias))
    target, active = await asyncio.gather(_side(kube, key), _side(kube, leads_to))
    if target.document is None and target.service is None:
        raise await missing_cluster(kube, [key])
    if target.key == active.key:
        return _Found(alias, active, target, (), Judgement())
    forbidden = tuple(obstacles(alias, target, active))
    if forbidden:
        return _Found(alias, active, target, forbidden, Judgement())
    said = [await _mirror(kube, target, each["name"], max_lag) for each in copies_of(target, active)]
    judgement = Judgement(
        (*standing(alias, target, active), *(text for each in said for text in each.known)),
        tuple(text for each in said for text in each.lost),
        (*doubts(target, active), *(text for each in said for text in each.unknown)),
    )
    return _Found(alias, active, target, (), judgement)


async def _mirror(kube: Kube, target: Side, name: str, max_lag: float) -> Judgement:
    """Return what the copy of a source lacks; one whose mirror a failover has stopped was whole then."""
    from chronik.api.replication.failover import Judgement  # noqa: PLC0415  # as above
    from chronik.cli.mirrors.judging import judged_mirror  # noqa: PLC0415  # as above

    assert target.document is not None, "only a document names sources"
    assert target.cluster is not None, "as above"
    replication = target.cluster.spec["replication"]
    assert replication is not None, "as above"
    source = next(each for each in replication["sources"] if each["name"] == name)
    state, judgement = await judged_mirror(kube, target.document, source, max_lag)
    if state == "stopped":
        return Judgement(known=(f"the mirror of {name} was stopped by an earlier failover",))
    return judgement


async def _alias(kube: Kube, namespace: str, name: str) -> Manifest:
    from chronik.plan.aliases.services import is_alias  # noqa: PLC0415  # as above

    found = await kube.get(_SERVICE, namespace, name)
    subject = f"{namespace}/{name}"
    if found is None:
        hint = f"The first cluster that is applied with network.aliases: [{name}] makes it."
        raise ObjectMissing("there is no such alias", subject=subject, hint=hint)
    if not is_alias(found):
        hint = "Give the alias another name in network.aliases, or delete this Service: then a cluster makes the alias."
        if owner := (found["metadata"].get("labels") or {}).get(CLUSTER_LABEL):
            hint = f"It is a Service of cluster {owner} itself. Name one of those that stand in network.aliases."
        raise ConflictError("this Service was not made as an alias, so it is not touched", subject=subject, hint=hint)
    return found


async def _side(kube: Kube, key: ClusterKey) -> Side:
    """Return what is known of a cluster; nothing if there is none of that name."""
    from chronik.api.components import COMPONENTS, client_service_name, workload_name  # noqa: PLC0415  # as above
    from chronik.cli.mirrors.judging import component_selector  # noqa: PLC0415
    from chronik.manifest import component_of  # noqa: PLC0415
    from chronik.offline import loading as offline  # noqa: PLC0415
    from chronik.plan.aliases.switching import Side  # noqa: PLC0415
    from chronik.status.health import pod_ready  # noqa: PLC0415

    if not key.name:
        return Side(key)
    try:
        document = await kube.get(CLUSTER, key.namespace, key.name)
    except KindMissing:
        document = None
    cluster = offline.validator().validate(document, stored=True).cluster if document else None
    names = [f"{workload_name(key.name, each.name)}-client" for each in COMPONENTS.values() if each.serves_clients]
    names = [client_service_name(cluster)] if cluster else names
    found = [each for name in names if (each := await kube.get(_SERVICE, key.namespace, name))]
    if not found:
        return Side(key, document, cluster)
    selector = component_selector(key, component_of(found[0]))
    pods = (await kube.list(POD, key.namespace, label_selector=selector)).items
    return Side(key, document, cluster, found[0], sum(map(pod_ready, pods)))


# --- saying and writing ----------------------------------------------------------------------------------------------


def _lines(found: _Found, *, accept_loss: bool) -> list[str]:
    """Return what is known, what forbids it or is lacking, and what is about to be written."""
    lines = [f"{found.title}: {found.active.key.name or 'no cluster'} -> {found.target.key.name}"]
    if found.done:
        return [*lines, "  it leads there already; nothing is written"]
    if found.obstacles:
        return lines + [f"  in the way: {each}" for each in found.obstacles]
    lines += judgement_lines(found.judgement, accepted=accept_loss)
    return [*lines, f"  to be written: the selector of Service {found.title}, nothing else"]


def _steps(found: _Found) -> list[str]:
    from chronik.plan.aliases.switching import next_steps  # noqa: PLC0415  # as above

    return next_steps(found.name, found.target, found.active)


async def _switch(options: ConnectOptions, found: _Found, moving: Moving, interruption: Interruption) -> int:
    interruption.notice = "interrupted: finishing what is under way"
    async with connect(options) as kube:
        await _write(kube, found)
    steps = _steps(found)
    if moving.output == "text":
        click.echo(f"{found.title}: leads to {found.target.key.name}. What is left to do:")
        click.echo("\n".join(numbered(steps)))
    return moving.end(found.move, "switched", steps)


async def _write(kube: Kube, found: _Found) -> None:
    """Write the selector, if the alias still leads where it was seen to lead; anything else of it may change."""
    from chronik.plan.aliases.services import active_of  # noqa: PLC0415  # as above
    from chronik.plan.aliases.switching import switching_patch  # noqa: PLC0415  # as above

    alias, ref = found.alias, ObjectRef.of(found.alias)
    assert found.target.service is not None, "an obstacle forbids that"
    for _ in range(_TRIES):
        try:
            await kube.merge(_SERVICE, ref, switching_patch(alias, found.target.service))
        except ObjectChanged as error:
            changed = error
        else:
            return
        alias = await _alias(kube, ref.namespace, ref.name)
        if active_of(alias) != found.active.key.name:
            raise _switched(found, active_of(alias))
    raise changed
