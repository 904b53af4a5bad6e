"""What a cluster looks like once a document has been applied: manifests played as live objects, without a cluster.

The plan that `chronik apply` makes for an empty namespace is carried out on a model of the API server. So what is there
is there for the same reasons as in a live one, the replica counts that autoscalers start with included. Then come the
parts of controllers: volume claims, all bound, and pods, all running.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from chronik.manifest import CLAIM, FIELD_MANAGER, KIND_BY_NAME, WORKLOAD_KINDS, ObjectRef, own_kinds
from chronik.offline import assets
from chronik.plan.actions import Create, TransferOwnership
from chronik.plan.live import LiveCluster
from chronik.plan.planner import PlanContext, plan
from chronik.render.stored import ServerModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest


@cache
def server_model() -> ServerModel:
    """Return the model of the API server, with the table of Kubernetes' fields."""
    return ServerModel(assets.kubernetes_fields())


def played(cluster: Cluster, manifests: Sequence[Manifest]) -> LiveCluster:
    """Return what there is of a cluster that runs as its manifests say.

    Its StorageClasses are not known; they are taken to expand volumes, as in `plan.volumes`.
    """
    objects = _applied(cluster, manifests)
    running = {ref: _running(live) if ref.kind in WORKLOAD_KINDS else live for ref, live in objects.items()}
    claims = [claim for live in running.values() if live["kind"] == "StatefulSet" for claim in _claims(live)]
    return LiveCluster(objects=running, claims=sorted(claims, key=ObjectRef.of))  # as a server lists them


def seen(found: LiveCluster, desired: Iterable[Manifest] = ()) -> LiveCluster:
    """Return what a command sees of a cluster: the kinds that it is known to have, and objects of desired names.

    Objects of other kinds, which templates make in place of chronik's, are read by name alone, and never pruned.
    """
    desired = list(desired)
    named = {ObjectRef.of(manifest) for manifest in desired}
    kinds = KIND_BY_NAME.keys() | {kind.name for kind in own_kinds([*found.objects.values(), *desired])}
    objects = {ref: live for ref, live in found.objects.items() if ref.kind in kinds or ref in named}
    return replace(found, objects=objects)


def _applied(cluster: Cluster, manifests: Sequence[Manifest]) -> dict[ObjectRef, Manifest]:
    context = PlanContext(cluster=cluster.name, namespace=cluster.namespace)
    objects: dict[ObjectRef, Manifest] = {}
    for action in plan(manifests, {}, context).actions:
        if isinstance(action, Create):
            objects[action.ref] = server_model().applied(action.manifest)
        elif isinstance(action, TransferOwnership):
            objects[action.ref] = server_model().also_applied(objects[action.ref], action.manifest, action.manager)
    return objects


def _running(live: Manifest) -> Manifest:
    """Return a workload with the pods that it asks for."""
    return live | {"status": {"replicas": live["spec"].get("replicas", 1)}}


def _claims(live: Manifest) -> Iterator[Manifest]:
    """Yield the volume claims that a StatefulSet makes, one for each template and pod."""
    spec: dict[str, Any] = live["spec"]
    first = (spec.get("ordinals") or {}).get("start", 0)
    for template in spec.get("volumeClaimTemplates") or ():
        for number in range(first, first + spec.get("replicas", 1)):
            yield _claim(live, template, f"{template['metadata']['name']}-{live['metadata']['name']}-{number}")


def _claim(live: Manifest, template: Manifest, name: str) -> Manifest:
    metadata, template_metadata = live["metadata"], template["metadata"]
    labels = (template_metadata.get("labels") or {}) | (live["spec"]["selector"].get("matchLabels") or {})
    claim = {
        "apiVersion": CLAIM.api_version,
        "kind": CLAIM.name,
        "metadata": {"name": name, "namespace": metadata.get("namespace", ""), "labels": labels},
        "spec": template["spec"],
    }
    found = server_model().applied(claim, FIELD_MANAGER)
    retention = live["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    if retention.get("whenDeleted") == "Delete":
        owner = {
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        found["metadata"]["ownerReferences"] = [owner]
    requests = (template["spec"].get("resources") or {}).get("requests") or {}
    return found | {"status": {"phase": "Bound", "capacity": {"storage": requests.get("storage")}}}
