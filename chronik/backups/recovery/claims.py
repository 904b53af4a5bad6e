"""The claims that a recovered cluster's pods find: made before its StatefulSets, each from the snapshot of its ordinal.

A StatefulSet takes over a claim of the name that it would give, and asks no more of it. So a claim that is not what it
seems would give a pod an empty volume, and everything here is about noticing that: the mark that a claim bears, and the
volume that it was bound to.
Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#volume-snapshot-and-restore-volume-from-snapshot-support
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.components import components, workload_name
from chronik.backups.document import status_of
from chronik.manifest import CLAIM, SNAPSHOT, component_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.backups.parts import Volume
    from chronik.manifest import Manifest

RECOVERED_FROM = "chronik.stream/recovered-from"
"""The annotation of a claim that was made from a snapshot: the uid of its backup, a slash, and the snapshot's name."""
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
"""What a StorageClass says that makes no volumes, but takes those that people have made."""
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
"""The annotation of a volume that a driver has made; one that a person has made lacks it."""
_TEMPLATE = "data"


class Node(NamedTuple):
    """One node that the cluster is to have: `template` is its claim as its StatefulSet would make it.

    `volume` is what the backup has of it; None if it has nothing, and the node begins empty.
    """

    claim: str
    component: str
    ordinal: int
    template: Manifest | None
    volume: Volume | None


def nodes_of(cluster: Cluster, manifests: Iterable[Manifest], backup: Manifest) -> list[Node]:
    """Return the nodes with volumes that a cluster is to have, in the order of its components."""
    sets = {component_of(each): each for each in manifests if each["kind"] == "StatefulSet"}
    held = {(each["component"], each["ordinal"]): each for each in status_of(backup).get("volumes") or ()}
    found = []
    for component in components(cluster):
        if not component.type.stateful:
            continue
        template = _template(sets.get(component.name))
        workload = workload_name(cluster.name, component.name)
        for ordinal in range(component.first, component.first + component.replicas):
            name = f"{_TEMPLATE}-{workload}-{ordinal}"
            found.append(Node(name, component.name, ordinal, template, held.get((component.name, ordinal))))
    return found


def _template(workload: Manifest | None) -> Manifest | None:
    """Return the claim that a StatefulSet makes for each pod, with the labels that it gives it."""
    if workload is None:
        return None
    templates = workload["spec"].get("volumeClaimTemplates") or ()
    found = next((each for each in templates if each["metadata"]["name"] == _TEMPLATE), None)
    if found is None:
        return None
    metadata = found["metadata"]
    labels = {**metadata.get("labels", {}), **workload["spec"]["selector"]["matchLabels"]}
    namespace = workload["metadata"]["namespace"]
    annotations = {**metadata.get("annotations", {})}
    return {**found, "metadata": {"namespace": namespace, "labels": labels, "annotations": annotations}}


def mark(backup_uid: str, node: Node) -> str:
    """Return what the claim of a node bears, if it was made from this backup."""
    assert node.volume
    return f"{backup_uid}/{node.volume['snapshot']}"


def is_marked(claim: Manifest, backup_uid: str, node: Node) -> bool:
    """Return whether a claim was made for this very node from this very backup."""
    found = (claim["metadata"].get("annotations") or {}).get(RECOVERED_FROM)
    return node.volume is not None and bool(found == mark(backup_uid, node))


def claim_of(node: Node, backup_uid: str, storage_class: str) -> Manifest:
    """Return the claim of a node that is made from its snapshot.

    It names its class, though that may be the default: a claim of no class is bound to whatever is free.
    """
    assert node.template
    assert node.volume
    metadata = node.template["metadata"]
    source = {
        "apiGroup": SNAPSHOT.api_version.partition("/")[0],
        "kind": SNAPSHOT.name,
        "name": node.volume["snapshot"],
    }
    return {
        "apiVersion": CLAIM.api_version,
        "kind": CLAIM.name,
        "metadata": {
            "name": node.claim,
            **metadata,
            "annotations": {**metadata["annotations"], RECOVERED_FROM: mark(backup_uid, node)},
        },
        "spec": {**node.template["spec"], "storageClassName": storage_class, "dataSource": source},
    }


def class_of(node: Node, classes: Sequence[Manifest]) -> Manifest | None:
    """Return the StorageClass of a node's claim, the default one if it names none; None if there is no such class."""
    assert node.template
    name = node.template["spec"].get("storageClassName")
    if name is not None:
        return next((each for each in classes if each["metadata"]["name"] == name), None)
    defaults = [each for each in classes if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"]
    return max(defaults, key=lambda each: str(each["metadata"].get("creationTimestamp")), default=None)


def waits_for_pods(storage_class: Manifest | None) -> bool:
    """Return whether volumes of a class are made only when a pod is there that wants them."""
    return bool(storage_class and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer")


def bound_volume(claim: Manifest) -> str:
    """Return the name of the volume that a claim is bound to; empty if it is to none yet."""
    if (claim.get("status") or {}).get("phase") != "Bound":
        return ""
    return str(claim["spec"].get("volumeName") or "")


def strangeness(claim: Manifest, volume: Manifest, provisioner: str) -> str:
    """Return why the volume that a claim is bound to cannot have been made from its snapshot; empty if it can."""
    spec, metadata = volume.get("spec") or {}, volume["metadata"]
    by = (metadata.get("annotations") or {}).get(_PROVISIONED_BY)
    driver = (spec.get("csi") or {}).get("driver")
    if (spec.get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
        return "it belongs to another claim"
    if not by:
        return "no driver made it, so it was there before, and is empty"
    if driver != provisioner or by != provisioner:
        return f"it is of the driver {driver or by}, and the snapshot of {provisioner}"
    if str(metadata.get("creationTimestamp")) < str(claim["metadata"].get("creationTimestamp")):
        return "it is older than its claim, and is empty"
    return ""


def is_free(volume: Manifest, storage_class: str) -> bool:
    """Return whether a volume of a class waits for any claim to take it."""
    spec, going = volume.get("spec") or {}, "deletionTimestamp" in volume["metadata"]
    return spec.get("storageClassName") == storage_class and not spec.get("claimRef") and not going


def reduced(volume: Mapping[str, Any]) -> Manifest:
    """Return of a PersistentVolume what is read here: a large Kubernetes has thousands."""
    metadata, spec = volume["metadata"], volume.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    kept = {key: metadata[key] for key in ("name", "creationTimestamp", "deletionTimestamp") if key in metadata}
    return {
        "metadata": {
            **kept,
            "annotations": {key: annotations[key] for key in (_PROVISIONED_BY,) if key in annotations},
        },
        "spec": {key: spec[key] for key in ("storageClassName", "claimRef", "csi") if key in spec},
    }
