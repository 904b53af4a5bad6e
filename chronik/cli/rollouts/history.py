"""`chronik rollout history` and `undo`: which specs all pods have run, and back to one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from chronik.cli.rollouts.about import OneCluster, Said, about_cluster
from chronik.errors import InputError
from chronik.manifest import CLUSTER, REVISION, ClusterKey, ObjectRef
from chronik.rollout.history import history_labels, kept_in_git, newest_first, spec_patch

if TYPE_CHECKING:
    from chronik.cli.interrupt import Interruption
    from chronik.kube import Kube
    from chronik.manifest import Manifest

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@click.command()
@about_cluster
def history(cluster: OneCluster) -> int:
    """Show which specs all pods of a cluster have run, the newest first."""

    async def show(kube: Kube, document: Manifest, _interruption: Interruption) -> Said:
        kept = [_entry(each, document) for each in await _kept(kube, document)]
        note = "" if kept else f"{ClusterKey.of(document)}: {_NONE}"
        return Said(tuple(map(_line, kept)), {"history": kept}, note=note)

    return cluster.run(show)


def _entry(kept: Manifest, document: Manifest) -> Manifest:
    """Return a kept spec for programs."""
    spec = kept["data"]["spec"]
    return {
        "digest": _digest(kept),
        "generation": kept["revision"],
        "kept": kept["metadata"].get("creationTimestamp"),
        "current": spec == document["spec"],
        "spec": spec,
    }


def _line(entry: Manifest) -> str:
    mark = "  (as the document is now)" if entry["current"] else ""
    return f"{entry['digest']}  generation {entry['generation']}  first kept {entry['kept'] or ''}{mark}"


@click.command()
@about_cluster
@click.option("--to", "digest", metavar="DIGEST", help="Which spec, as `history` names it. Default: the newest other.")
@click.option("--print", "prints", is_flag=True, help="Print the document with that spec, and change nothing.")
def undo(cluster: OneCluster, digest: str | None, prints: bool) -> int:
    """Give a document the spec back that all pods ran before.

    A spec that Argo CD or Flux brings from Git is not changed, since they would change it back.
    """

    async def go(kube: Kube, document: Manifest, _interruption: Interruption) -> Said:
        chosen = _chosen(document, await _kept(kube, document), digest)
        spec = chosen["data"]["spec"]
        told = {"digest": _digest(chosen), "generation": chosen["revision"]}
        if prints:
            from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415  # only --print needs it

            shown = json.loads(json.dumps(_document(document, spec)))
            return Said((), {**told, "document": shown}, document=to_yaml_stream([shown]))
        if owner := kept_in_git(document):
            raise InputError(
                f"{owner} brings its spec from Git, and would undo this",
                subject=cluster.name,
                hint=f"Revert the commit there. The document as it was: chronik rollout undo {cluster.name} --print.",
            )
        patch = {
            "metadata": {"resourceVersion": document["metadata"]["resourceVersion"]},
            "spec": spec_patch(document["spec"], spec),
        }
        await kube.merge(CLUSTER, ObjectRef.of(document), patch)
        return Said((f"{ClusterKey.of(document)}: has the spec of generation {chosen['revision']} again",), told)

    return cluster.run(go)


_NONE = "no spec is kept yet: an operator with the feature rollouts keeps those that all pods have run"


async def _kept(kube: Kube, document: Manifest) -> list[Manifest]:
    metadata = document["metadata"]
    selector = ",".join(f"{key}={value}" for key, value in history_labels(metadata["name"]).items())
    listing = await kube.list(REVISION, metadata["namespace"], label_selector=selector)
    return newest_first(listing.items, metadata["uid"])


def _digest(kept: Manifest) -> str:
    return str(kept["metadata"]["name"]).rpartition("-")[2]


def _chosen(document: Manifest, kept: list[Manifest], digest: str | None) -> Manifest:
    """Return the kept spec to go back to.

    Raises:
        InputError: there is none.
    """
    name = document["metadata"]["name"]
    if digest is not None:
        found = [each for each in kept if _digest(each) == digest]
        known = ", ".join(map(_digest, kept)) or "none"
        if not found:
            raise InputError(f"there is no spec {digest}", subject=name, hint=f"Kept are: {known}.")
        return found[0]
    others = [each for each in kept if each["data"]["spec"] != document["spec"]]
    if not others:
        raise InputError(
            "has no other spec to go back to" if kept else _NONE,
            subject=name,
            hint=f"`chronik rollout history {name}` shows which there are.",
        )
    return others[0]


def _document(document: Manifest, spec: Manifest) -> Manifest:
    """Return a document with another spec, and without what the server or kubectl has written into it."""
    live = document["metadata"]
    metadata = {key: live[key] for key in ("name", "namespace", "labels") if key in live}
    annotations = live.get("annotations") or {}
    kept = {key: value for key, value in annotations.items() if key != _LAST_APPLIED and "chronik.stream/" not in key}
    metadata |= {"annotations": kept} if kept else {}
    return {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": metadata, "spec": spec}
