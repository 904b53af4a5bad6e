"""`chronik failover`: stops the mirror of a source, once it is known what its copy lacks, so that clients can move.

It reads the document, the mirror's pods and their probes, and writes one field and one annotation of the document of
the cluster that is copied to, in one request. So a kill leaves either all of that or nothing, and the same again goes
on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from chronik.cli import parameters
from chronik.cli.common import cluster_options, missing_cluster, timeout_option
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import domain_option
from chronik.cli.mirrors.options import moving_options
from chronik.errors import InputError, KindMissing, ObjectChanged, WaitTimeout
from chronik.kube import ConnectOptions, connect
from chronik.manifest import CLUSTER, KIND_BY_NAME, POD, ClusterKey, ObjectRef, is_paused
from chronik.report.moving import Move, judgement_lines, numbered

if TYPE_CHECKING:
    from chronik.api.replication.failover import Judgement, Standing
    from chronik.api.sections.replication import ReplicationSource
    from chronik.api.spec import Cluster
    from chronik.cli.mirrors.options import Moving
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.report.moving import Outcome

_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Found:
    """A mirror that clients may move behind: its cluster and source, whether it runs, and what its copy lacks."""

    document: Manifest
    cluster: Cluster
    source: ReplicationSource
    standing: Standing
    judgement: Judgement

    @property
    def name(self) -> str:
        return self.source["name"]

    @property
    def outcome(self) -> Outcome:
        """What comes of it if nothing is in the way: what stands still already is not written to."""
        return "stopped" if self.standing == "running" else "unchanged"

    @property
    def move(self) -> Move:
        """What a report says of it."""
        return Move(ClusterKey.of(self.document), {"source": self.name}, self.judgement)


@click.command()
@click.argument("primary", type=parameters.SOURCE_NAME)
@click.argument("standby", type=parameters.CLUSTER_NAME)
@cluster_options
@domain_option
@moving_options(
    behind="How far the copy may be behind.", lacking="Go on though something is lost, or nobody knows what."
)
@timeout_option
def failover(
    primary: str,
    standby: str,
    options: ConnectOptions,
    cluster_domain: str,
    moving: Moving,
    timeout: float,
) -> int:
    """Stop the mirror of a source, so that its clients can move to the copy.

    PRIMARY is the name of a source in spec.replication of the cluster STANDBY. Stop the clients that write to it first,
    if it is there. Nothing is written at the source, and no client is moved: what is left to do is shown in the end.
    After a kill, the same again goes on.

    Exits with 0 if the mirror stands still, with 1 if something would be lost, or nobody knows what, and --accept-loss
    is not given, with 2 if there is no such source or the document comes from Git, and with 6 if the mirror's pods are
    still there in the end.
    """
    moving.need_word()

    def look() -> _Found:
        return _looked(options, standby, primary, moving.max_lag, cluster_domain)

    found = look()
    moving.show(_lines(found, accept_loss=moving.accept_loss))
    if not _may(found, moving):
        return moving.end(found.move, "refused", [])
    _refuse_git(found)
    if moving.dry_run:
        return moving.end(found.move, found.outcome, _steps(found))
    if found.standing == "running" and not moving.yes:
        if not moving.agreed("Stop the mirror?"):
            return moving.end(found.move, "not-tried", [])
        found = look()  # it may have taken a while to answer
        if not _may(found, moving):
            moving.show(_lines(found, accept_loss=moving.accept_loss))
            return moving.end(found.move, "refused", [])
    return run_async(lambda interruption: _stop(options, found, moving, timeout, interruption))


def _may(found: _Found, moving: Moving) -> bool:
    """Return whether the mirror may be stopped, and say it if not."""
    return found.standing == "stopped" or moving.accepts(found.judgement)


def _looked(options: ConnectOptions, standby: str, name: str, max_lag: float, domain: str) -> _Found:
    """Return a mirror, and what its copy lacks.

    Raises:
        InputError: there is no such mirror, or nobody would stop it.
        ObjectMissing: there is no such cluster.
    """
    seen: list[_Found] = []

    async def look(interruption: Interruption) -> int:
        async with connect(options) as kube:
            key = ClusterKey(options.namespace or kube.namespace, standby)
            seen.append(await interruption.until_asked(_look(kube, key, name, max_lag, domain)))
        return 0

    code = run_async(look)
    if not seen:
        raise click.exceptions.Exit(code)
    return seen[0]


async def _look(kube: Kube, key: ClusterKey, name: str, max_lag: float, domain: str) -> _Found:
    from chronik.cli.mirrors.judging import judged_mirror  # noqa: PLC0415  # help and completion stay quick

    document = await _document(kube, key, name)
    cluster, source = _source(document, name, domain)
    if is_paused(document):
        hint = "Take its annotation chronik.stream/paused away first."
        raise InputError("its operator pauses, and would stop no mirror", subject=str(key), hint=hint)
    state, judgement = await judged_mirror(kube, document, source, max_lag)
    return _Found(document, cluster, source, state, judgement)


async def _document(kube: Kube, key: ClusterKey, name: str) -> Manifest:
    from chronik.api.replication.mirrors import mirror_ref  # noqa: PLC0415  # as above

    try:
        document = await kube.get(CLUSTER, key.namespace, key.name)
    except KindMissing:
        document = None
    if document is not None:
        return document
    if await kube.get(KIND_BY_NAME["Deployment"], key.namespace, mirror_ref(key, name).name) is None:
        raise await missing_cluster(kube, [key])
    raise InputError(
        "is kept by no operator, so its document is not here",
        subject=str(key),
        hint=f"Set paused: true for {name} in its file, and apply that. "
        f"`chronik replication status {key.name}` shows the lag.",
    )


def _source(document: Manifest, name: str, domain: str) -> tuple[Cluster, ReplicationSource]:
    from chronik.offline import loading as offline  # noqa: PLC0415  # as above

    key = ClusterKey.of(document)
    cluster = offline.validator().validate(document, stored=True).cluster
    if cluster is None:
        hint = f"chronik status {key.name} says what is wrong with it."
        raise InputError("its document is not valid", subject=str(key), hint=hint)
    sources = (cluster.spec["replication"] or {"sources": []})["sources"]
    for source in sources:
        if source["name"] == name:
            return replace(cluster, domain=domain), source
    known = ", ".join(each["name"] for each in sources)
    hint = f"It copies from {known}." if known else "It copies from no cluster: it has no spec.replication."
    raise InputError(f"has no source {name}", subject=str(key), hint=hint)


def _lines(found: _Found, *, accept_loss: bool) -> list[str]:
    """Return what is known, what is lost, and what is about to be written."""
    key = ClusterKey.of(found.document)
    lines = [f"{found.name} -> {key}"]
    if found.standing == "stopped":
        return [*lines, "  the mirror was stopped by an earlier failover; nothing more is written"]
    lines += judgement_lines(found.judgement, accepted=accept_loss)
    if found.standing == "running":
        lines.append(f"  to be written: paused: true for source {found.name} of ChronikCluster {key}, nothing else")
    return lines


def _refuse_git(found: _Found) -> None:
    from chronik.rollout.history import kept_in_git  # noqa: PLC0415  # as above

    owner = kept_in_git(found.document)
    if owner and found.standing == "running":
        commit = f"Commit paused: true for source {found.name} there. Once its pods are gone:"
        raise InputError(
            f"{owner} brings its spec from Git, and would undo this",
            subject=str(ClusterKey.of(found.document)),
            hint="\n".join([commit, *numbered(_steps(found))]),
        )


def _steps(found: _Found) -> list[str]:
    from chronik.api.replication.failover import next_steps  # noqa: PLC0415  # as above

    return next_steps(found.cluster, found.source)


async def _stop(
    options: ConnectOptions, found: _Found, moving: Moving, seconds: float, interruption: Interruption
) -> int:
    """Have the mirror stopped, and wait until its pods are gone."""
    interruption.notice = "interrupted: the same again goes on"
    key = ClusterKey.of(found.document)
    async with connect(options) as kube:
        if found.standing == "running":
            await _write(kube, found)
        await interruption.until_asked(_gone(kube, key, found.name, seconds))
    steps = _steps(found)
    if moving.output == "text":
        click.echo(f"{key}: the mirror of {found.name} stands still. What is left to do:")
        click.echo("\n".join(numbered(steps)))
    return moving.end(found.move, found.outcome, steps)


async def _write(kube: Kube, found: _Found) -> None:
    """Write into the document that was looked at. Its status may change meanwhile, its spec may not."""
    from chronik.api.replication.failover import stopping_patch  # noqa: PLC0415  # as above

    document, key = found.document, ClusterKey.of(found.document)
    for _ in range(_TRIES):
        try:
            await kube.merge(CLUSTER, ObjectRef.of(document), stopping_patch(document, found.name))
        except ObjectChanged as error:
            changed = error
        else:
            return
        document = await _document(kube, key, found.name)
        if document["metadata"]["generation"] != found.document["metadata"]["generation"]:
            break
    raise changed


async def _gone(kube: Kube, key: ClusterKey, name: str, seconds: float) -> None:
    from chronik.api.replication.mirrors import mirror_component  # noqa: PLC0415  # as above
    from chronik.apply.follow import until  # noqa: PLC0415  # as above
    from chronik.cli.mirrors.judging import component_selector  # noqa: PLC0415
    from chronik.kube.reflector import KindSelector  # noqa: PLC0415

    selector = component_selector(key, mirror_component(name))
    left = [""]

    async def look() -> bool | None:
        pods = (await kube.list(POD, key.namespace, label_selector=selector)).items
        left[:] = [each["metadata"]["name"] for each in pods if _runs(each)]
        return None if left else True

    if not await until(kube, [KindSelector(POD, key.namespace, selector, optional=True)], look, seconds):
        raise WaitTimeout(
            f"the mirror of {name} is to stand still, and {left[0]} is still there",
            subject=str(key),
            hint="Does its operator run? The same command again goes on waiting. Move no client before.",
        )


def _runs(pod: Manifest) -> bool:
    """Return whether a pod may still copy: one that has ended stays on the list for a while, and does nothing."""
    return (pod.get("status") or {}).get("phase") not in {"Failed", "Succeeded"}
