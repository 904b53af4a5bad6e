"""What recovers a cluster, for people who apply it themselves: snapshots, claims, and the Job of the metastore.

Nobody looks at what a claim was bound to then, so each has to name a StorageClass. Tools that prune what is gone from
Git are told to leave claims and snapshots: the workloads come in a later commit, and by then these need not be there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.backups import manifests as jobs
from chronik.backups.document import status_of
from chronik.backups.parts import job_name
from chronik.backups.recovery import imports
from chronik.backups.recovery.checks import OF_DOCUMENTS
from chronik.backups.recovery.choice import choose
from chronik.backups.recovery.claims import claim_of, nodes_of
from chronik.backups.recovery.plan import RESTORE
from chronik.backups.recovery.seen import About, Seen
from chronik.errors import InputError
from chronik.quantity import parse_quantity
from chronik.status.compute import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.api.spec import Cluster
    from chronik.backups.recovery.claims import Node
    from chronik.manifest import Manifest

KEPT = {"argocd.argoproj.io/sync-options": "Prune=false", "kustomize.toolkit.fluxcd.io/prune": "disabled"}
"""Annotations that have Argo CD and Flux keep what is gone from Git."""


def printed_recovery(
    cluster: Cluster, rendered: Sequence[Manifest], described: Manifest, recorded: Cluster | None, render: jobs.Render
) -> list[Manifest]:
    """Return what recovers a cluster from a described backup, in the order in which it is to be applied.

    `rendered` are the manifests of the cluster, and `recorded` is the cluster that was backed up, as it was then.

    Raises:
        InputError: the document does not ask for it, or the backup does not fit.
    """
    subject = str(cluster.key)
    if cluster.spec["bootstrap"] is None:
        hint = f"Write spec.bootstrap.recovery: {{from: {{backup: {described['metadata']['name']}}}}}."
        raise InputError("its document does not say that it is to be recovered", subject=subject, hint=hint)
    recovery = cluster.spec["bootstrap"]["recovery"]
    chosen = choose(recovery["from"], [described], recovery["metastore"])
    if isinstance(chosen, Reason):
        raise InputError(f"this is not the backup that its document asks for: {chosen.message}", subject=subject)
    backup, snapshots = _here(cluster, described)
    nodes = nodes_of(cluster, rendered, backup)
    image = _image(cluster) or (_image(recorded) if recorded else "")
    seen = Seen(recorded=recorded, image=image, base=backup, base_recorded=recorded)
    about = About(cluster, nodes, backup, seen, chosen.target)
    refused = next((why for check in OF_DOCUMENTS if (why := check(about))), None)
    if refused is not None:
        raise InputError(refused.message, subject=subject)
    claims = [_kept(claim_of(each, described["metadata"]["uid"], _class_of(each, subject))) for each in about.restored]
    found = [*map(_kept, snapshots), *claims]
    if about.wants_metastore:
        assert recorded
        document = {"metadata": {"name": cluster.name}}
        wanted = jobs.RestoreOf(document, cluster, backup, recorded, job_name(cluster.name, RESTORE), image)
        exact = recovery["metastore"] == "Exact"
        found += jobs.restore_job(wanted._replace(target=chosen.target, exact=exact), render)
    return found


def _here(cluster: Cluster, described: Manifest) -> tuple[Manifest, list[Manifest]]:
    """Return a backup as it is known in the namespace of a cluster, and its snapshots, if they can be found again.

    Without what the driver calls them, the snapshots that the backup made have to be there.
    """
    moved = {**described, "metadata": {**described["metadata"], "namespace": cluster.namespace}}
    if imports.without_handle(described):
        return moved, []
    name = f"{cluster.name}-recovered"
    contents = f"{cluster.namespace}.{cluster.name}"  # a namespace has no dot, so no two clusters share it
    identity = described["metadata"]["uid"]
    wanted = imports.Import(identity, described, "", name, cluster.namespace, {}, owned=False, contents=contents)
    moved["status"] = {**status_of(described), "volumes": imports.volumes_of(wanted)}
    return moved, imports.parts_of(moved, wanted)


def _class_of(node: Node, subject: str) -> str:
    """Return the StorageClass of a node's claim.

    Raises:
        InputError: it names none, or asks for less than its snapshot holds.
    """
    assert node.template
    assert node.volume
    name = node.template["spec"].get("storageClassName")
    if not name:
        message = f"the volumes of {node.component} name no StorageClass: a claim of none is bound to whatever is free"
        raise InputError(message, subject=subject, hint="Name a class of the snapshots' driver: spec.storage.")
    size, needed = node.template["spec"]["resources"]["requests"]["storage"], node.volume.get("restoreSize")
    if needed and parse_quantity(str(size)) < parse_quantity(str(needed)):
        claim = node.volume["claim"]
        message = f"a volume made from the snapshot of {claim} takes {needed}, and {node.claim} has {size}"
        raise InputError(message, subject=subject, hint="Ask for more: spec.storage.size.")
    return str(name)


def _image(cluster: Cluster) -> str:
    settings = cluster.spec["backup"]
    return (settings["metastore"]["image"] if settings else None) or ""


def _kept(manifest: Manifest) -> Manifest:
    metadata: dict[str, Any] = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **KEPT}}}
