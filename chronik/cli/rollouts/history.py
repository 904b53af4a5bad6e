"""`chronik rollout history` and `undo`: which specs all pods have run, and back to one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from chronik.cli import parameters
from chronik.cli.common import cluster_options, missing_cluster
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import print_data
from chronik.errors import InputError
from chronik.kube import ConnectOptions, connect
from chronik.manifest import CLUSTER, REVISION, ClusterKey, ObjectRef
from chronik.rollout.history import history_labels, kept_in_git, newest_first, spec_patch

if TYPE_CHECKING:
    from chronik.kube import Kube
    from chronik.manifest import Manifest

_name = click.argument("name", type=parameters.CLUSTER_NAME)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


async def cluster_document(kube: Kube, namespace: str, name: str) -> Manifest:
    """Return a ChronikCluster.

    Raises:
        ObjectMissing: there is none of that name.
    """
    found = await kube.get(CLUSTER, namespace, name)
    if found is None:
        raise await missing_cluster(kube, [ClusterKey(namespace, name)])
    return found


@click.command()
@_name
@cluster_options
def history(name: str, options: ConnectOptions) -> int:
    """Show which specs all pods of a cluster have run, the newest first."""

    async def show(_interruption: Interruption) -> int:
        async with connect(options) as kube:
            document = await cluster_document(kube, options.namespace or kube.namespace, name)
            kept = await _kept(kube, document)
        for each in kept:
            mark = "  (as the document is now)" if each["data"]["spec"] == document["spec"] else ""
            made = each["metadata"].get("creationTimestamp", "")
            click.echo(f"{_digest(each)}  generation {each['revision']}  first kept {made}{mark}")
        if not kept:
            click.echo(f"{ClusterKey.of(document)}: {_NONE}", err=True)
        return 0

    return run_async(show)


@click.command()
@_name
@cluster_options
@click.option("--to", "digest", metavar="DIGEST", help="Which spec, as `history` names it. Default: the newest other.")
@click.option("--print", "prints", is_flag=True, help="Print the document with that spec, and change nothing.")
def undo(name: str, options: ConnectOptions, digest: str | None, prints: bool) -> int:
    """Give a document the spec back that all pods ran before.

    A spec that Argo CD or Flux brings from Git is not changed, since they would change it back.
    """

    async def go(_interruption: Interruption) -> int:
        async with connect(options) as kube:
            document = await cluster_document(kube, options.namespace or kube.namespace, name)
            chosen = _chosen(document, await _kept(kube, document), digest)
            spec = chosen["data"]["spec"]
            if prints:
                _print(document, spec)
                return 0
            if owner := kept_in_git(document):
                raise InputError(
                    f"{owner} brings its spec from Git, and would undo this",
                    subject=name,
                    hint=f"Revert the commit there. The document as it was: chronik rollout undo {name} --print.",
                )
            patch = {
                "metadata": {"resourceVersion": document["metadata"]["resourceVersion"]},
                "spec": spec_patch(document["spec"], spec),
            }
            await kube.merge(CLUSTER, ObjectRef.of(document), patch)
        click.echo(f"{ClusterKey.of(document)}: has the spec of generation {chosen['revision']} again")
        return 0

    return run_async(go)


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


def _print(document: Manifest, spec: Manifest) -> None:
    from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415  # only --print needs it

    live = document["metadata"]
    metadata = {key: live[key] for key in ("name", "namespace", "labels") if key in live}
    annotations = live.get("annotations") or {}
    kept = {key: value for key, value in annotations.items() if key != _LAST_APPLIED and "chronik.stream/" not in key}
    metadata |= {"annotations": kept} if kept else {}
    found = {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": metadata, "spec": spec}
    print_data(to_yaml_stream([json.loads(json.dumps(found))]))
