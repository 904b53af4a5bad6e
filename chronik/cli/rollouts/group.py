"""`chronik rollout`: shows how far a canary is, and asks the operator to go on, to wait or to go back.

It writes one annotation of the ChronikCluster, `chronik.stream/rollout`, which `kubectl annotate` can do as well. Each
request names the candidate that it is for, so that none is ever taken for a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters
from chronik.cli.progress import Progress
from chronik.cli.rollouts.about import OneCluster, Said, about_cluster, cluster_document
from chronik.cli.rollouts.history import history, undo
from chronik.clock import timestamp
from chronik.errors import InputError
from chronik.manifest import CLUSTER, ROLLOUT_ANNOTATION, ROLLOUT_NOW_ANNOTATION, ClusterKey, ObjectRef
from chronik.rollout.windows import LONGEST
from chronik.rollout.words import component_texts, state_text
from chronik.times import later

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronik.cli.interrupt import Interruption
    from chronik.kube import Kube
    from chronik.manifest import Manifest


@click.group()
def rollout() -> None:
    """Show a canary, and have it go on, wait or go back."""


@rollout.command()
@about_cluster
@click.option("--wait", is_flag=True, help="Wait until the canary is through, has failed, or waits for a person.")
@click.option("--timeout", "seconds", type=parameters.Duration(), default="10m", show_default=True, help="With --wait.")
def status(cluster: OneCluster, wait: bool, seconds: float) -> int:
    """Show how far the canary of a cluster is.

    Exits with 0 if it is through or under way, and with 1 if it was halted or taken back. With --wait, it exits with 6
    if it is not through in time, and with 7 if it is paused until somebody promotes it.
    """

    async def show(kube: Kube, document: Manifest, interruption: Interruption) -> Said:
        if wait:
            document = await interruption.until_asked(_ended(kube, document, seconds))
        told = document.get("status") or {}
        found, pending = told.get("rollout"), told.get("pendingRestarts")
        lines = (*_lines(document), *_pending(pending or {}))
        seen = {
            "generation": document["metadata"].get("generation"),
            "observedGeneration": told.get("observedGeneration"),
        }
        data = {**seen, "rollout": found or None, "pendingRestarts": pending or None}
        code = _code(document, wait=wait)
        note = f"error: {ClusterKey.of(document)}: not through in {seconds:g} s\n  {_hint(document)}"
        return Said(lines, data, note=note if code == NOT_IN_TIME else "", code=code)

    return cluster.run(show)


def _hint(document: Manifest) -> str:
    return "Does its operator run?" if _is_new(document) else "The same command again goes on waiting."


FAILED, NOT_IN_TIME, PAUSED = 1, 6, 7


async def _ended(kube: Kube, document: Manifest, seconds: float) -> Manifest:
    """Return a ChronikCluster once its canary is through, has failed or waits for a person, or time is up."""
    from chronik.apply.follow import named, until  # noqa: PLC0415  # most do not wait

    ref, seen = ObjectRef.of(document), [document]

    async def look() -> Manifest | None:
        seen.append(await cluster_document(kube, ref.namespace, ref.name))
        progress.tells(_lines(seen[-1])[0])
        return None if _code(seen[-1], wait=True) == NOT_IN_TIME else seen[-1]

    with Progress(text=_lines(document)[0]) as progress:
        return await until(kube, [named(CLUSTER, ref)], look, seconds) or seen[-1]


def _code(document: Manifest, *, wait: bool) -> int:
    """Return the exit code for how far a canary is."""
    told = document.get("status") or {}
    found = told.get("rollout") or {}
    if found.get("phase") in {"Halted", "Aborting", "Aborted"}:
        return FAILED if not wait or found["phase"] != "Aborting" else NOT_IN_TIME
    if not wait:
        return 0
    if _is_new(document):
        return NOT_IN_TIME
    if found.get("phase", "Complete") == "Complete":
        return 0
    by_a_person = found["phase"] == "Paused" and str(found.get("message")) in {_PROMOTED, _BY_A_PERSON}
    return PAUSED if by_a_person else NOT_IN_TIME


def _is_new(document: Manifest) -> bool:
    """Return whether a document has changed since an operator looked at it."""
    told = document.get("status") or {}
    return bool(told.get("observedGeneration") != document["metadata"].get("generation"))


_PROMOTED, _BY_A_PERSON = "until it is promoted", "paused by a person"


# --- requests --------------------------------------------------------------------------------------------------------


@rollout.command()
@about_cluster
@click.option("--full", is_flag=True, help="End all pauses that are still to come, too.")
def promote(cluster: OneCluster, full: bool) -> int:
    """End the pause of a canary, so that its next step begins."""

    def text(found: Mapping[str, Any]) -> str:
        if not full:
            _check_phase(cluster, found, "and not Paused", {"Paused"})
        return f"promote@{found['candidate']}" + ("" if full else f"/{found['step']}")

    return _asked(cluster, text)


@rollout.command()
@about_cluster
def pause(cluster: OneCluster) -> int:
    """Have a canary wait where it is, until `resume` or `promote`."""
    return _asked(cluster, lambda found: f"pause@{found['candidate']}")


@rollout.command()
@about_cluster
def resume(cluster: OneCluster) -> int:
    """Have a canary go on that `pause` has stopped."""
    return _asked(cluster, lambda found: f"resume@{found['candidate']}")


@rollout.command()
@about_cluster
def abort(cluster: OneCluster) -> int:
    """Take a canary back: its pods go back to what the others run. The document stays as it is."""
    return _asked(cluster, lambda found: f"abort@{found['candidate']}")


@rollout.command()
@about_cluster
def retry(cluster: OneCluster) -> int:
    """Try a canary again that was halted or taken back."""

    def text(found: Mapping[str, Any]) -> str:
        _check_phase(cluster, found, "neither Halted nor Aborted", {"Halted", "Aborted"})
        return f"retry@{found['candidate']}/{found.get('attempt', 1)}"

    return _asked(cluster, text)


@rollout.command()
@about_cluster
@click.option(
    "--for",
    "seconds",
    type=parameters.Duration(),
    metavar="DURATION",
    default="1h",
    show_default=True,
    help="How long restarts may begin at any time.",
)
def now(cluster: OneCluster, seconds: float) -> int:
    """Have restarts begin now that wait for a window of spec.rollout.windows."""
    if seconds > LONGEST.total_seconds():
        raise click.UsageError(f"--for: at most {LONGEST.days} days, after which a window is to open by itself")

    async def ask(kube: Kube, document: Manifest, _interruption: Interruption) -> Said:
        until = later(timestamp(), seconds)
        await _annotate(kube, document, ROLLOUT_NOW_ANNOTATION, until)
        windows = ((document["spec"].get("rollout") or {}).get("windows")) or ()
        note = "" if windows else "; it has no windows, so they always may"
        return Said((f"{ClusterKey.of(document)}: restarts may begin until {until}{note}",), {"until": until})

    return cluster.run(ask)


def _asked(cluster: OneCluster, text: Callable[[Mapping[str, Any]], str]) -> int:
    """Write a request into the annotation, for the candidate that is under way now."""

    async def ask(kube: Kube, document: Manifest, _interruption: Interruption) -> Said:
        found = (document.get("status") or {}).get("rollout") or {}
        if found.get("phase", "Complete") == "Complete":
            raise InputError("has no canary under way", subject=cluster.name, hint="A change of its pods begins one.")
        wanted = text(found)
        await _annotate(kube, document, ROLLOUT_ANNOTATION, wanted)
        return Said((f"{ClusterKey.of(document)}: asked the operator to {wanted}",), {"request": wanted})

    return cluster.run(ask)


def _check_phase(cluster: OneCluster, found: Mapping[str, Any], not_one: str, phases: set[str]) -> None:
    """Raise InputError if a canary is in no phase for a request."""
    if found["phase"] not in phases:
        hint = f"`chronik rollout status {cluster.name}` shows what it waits for."
        raise InputError(f"is {found['phase']}, {not_one}", subject=cluster.name, hint=hint)


async def _annotate(kube: Kube, document: Manifest, name: str, text: str) -> None:
    metadata = {"annotations": {name: text}, "resourceVersion": document["metadata"]["resourceVersion"]}
    await kube.merge(CLUSTER, ObjectRef.of(document), {"metadata": metadata})


# --- words -----------------------------------------------------------------------------------------------------------


def _lines(document: Manifest) -> list[str]:
    """Return how far a canary is, in lines."""
    key, told = ClusterKey.of(document), document.get("status") or {}
    found = told.get("rollout") or {}
    if not found:
        return [f"{key}: no canary: {_why_none(document['spec'].get('rollout') or {}, told)}"]
    lines = [f"{key}: {state_text(found)}"]
    lines += [f"  {name}: {text}" for name, text in component_texts(found).items()]
    if "observedGeneration" in told and _is_new(document):
        lines.append("  the document has changed since, and no operator has looked at it yet")
    return lines + [f"  metric {each['message']} ({each['state']})" for each in found.get("analysis") or ()]


def _why_none(wanted: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Say why a cluster has no canary under way."""
    for each in told.get("conditions") or ():
        if each["type"] == "Reconciling" and each.get("reason") == "FeatureMissing":
            return str(each.get("message"))
    if not any(each in ("Canary", "BlueGreen") for each in wanted.values()):
        return "spec.rollout asks for none"
    return "no operator has seen one yet; a change of its pods begins one"


def _pending(found: Mapping[str, Any]) -> list[str]:
    """Return which restarts wait for a window, in lines."""
    if not found:
        return []
    opens = f"which opens at {found['opensAt']}" if found.get("opensAt") else "and none ever opens"
    return [f"  waits for a window, {opens}: {', '.join(found.get('workloads') or ())}"]


rollout.add_command(history)
rollout.add_command(undo)
