"""What keeps a cluster from being made from a backup: each reason is one sentence, and nothing is made for it.

The checks go from what can be seen in the documents to what has to be looked up, and the first that fails is told. They
are made anew as long as a claim is missing, since a claim that is made against a changed world may get an empty volume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.backups.document import status_of
from chronik.backups.recovery.choice import unusable
from chronik.backups.recovery.claims import NO_PROVISIONER, class_of, is_free, is_marked
from chronik.backups.snapshots import Lost, with_snapshot
from chronik.backups.tell import SNAPSHOTS_UNAVAILABLE
from chronik.quantity import parse_quantity
from chronik.status.compute import Reason
from chronik.wording import MOST_NAMED, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronik.backups.parts import Volume
    from chronik.backups.recovery.claims import Node
    from chronik.backups.recovery.seen import About
    from chronik.manifest import Manifest


def refusal(about: About) -> Reason | None:
    """Return the first reason that keeps a recovery from being done, or from going on; None if nothing does."""
    return next((found for check in _CHECKS if (found := check(about))), None)


# --- the documents ----------------------------------------------------------------------------------------------------


def _backup(about: About) -> Reason | None:
    return unusable(about.backup)


def _readable(about: About) -> Reason | None:
    if about.seen.recorded is not None:
        return None
    text = f"This version of chronik does not take the spec that ChronikBackup {_name(about)} has recorded"
    return Reason("BackupUnreadable", text)


def _alike(about: About) -> Reason | None:
    """Tell what the clusters have to have in common: data of one kind is noise to nodes of the other."""
    was, now = about.seen.recorded, about.cluster
    assert was
    pairs = {
        "topology": (was.spec["topology"], now.spec["topology"]),
        "storage.backend": (was.spec["storage"]["backend"], now.spec["storage"]["backend"]),
    }
    for field, (before, after) in pairs.items():
        if before != after:
            text = f"{field} is {after}, and was {before} in the cluster that was backed up: it has to be the same"
            return Reason("ClustersDiffer", text)
    return None


def _counts(about: About) -> Reason | None:
    bootstrap = about.cluster.spec["bootstrap"]
    assert bootstrap
    allowed = bootstrap["recovery"]["nodes"]
    left = left_out(about.backup, about.nodes)
    empty = [each for each in about.nodes if each.volume is None]
    if left and allowed != "Fewer":
        text = f"The backup has volumes that the cluster has no nodes for: {named(left)}"
        hint = "Ask for as many nodes; or write nodes: Fewer, and what only they hold is lost"
        return Reason("NodeCountsDiffer", f"{text}. {hint}")
    if empty and allowed != "More":
        text = f"The backup has no volume for {named((each.component, each.ordinal) for each in empty)}"
        hint = "Ask for as many nodes as it has volumes; or write nodes: More, and they begin empty"
        return Reason("NodeCountsDiffer", f"{text}. {hint}")
    without = next((each for each in about.nodes if each.template is None), None)
    if without is not None:
        text = f"The StatefulSet of {without.component} makes no claim called data, by a template or patch of yours"
        return Reason("NoDataVolume", text)
    return None


def left_out(backup: Manifest, nodes: Iterable[Node]) -> list[tuple[str, int]]:
    """Return component and ordinal of the volumes of a backup that a cluster has no node for."""
    there = {(each.component, each.ordinal) for each in nodes}
    held = ((each["component"], each["ordinal"]) for each in status_of(backup).get("volumes") or ())
    return [each for each in held if each not in there]


def _dump(about: About) -> Reason | None:
    if not about.wants_metastore:
        return None
    if about.target:
        if about.seen.base is None:
            text = "The ChronikBackup with the copy of the metastore's server, which was chosen, is gone"
            return Reason("BackupMissing", f"{text}: see status.recovery.metastoreBackup")
        if about.seen.base_recorded is None:
            text = f"This version of chronik does not take the spec that {about.seen.base['metadata']['name']} has"
            return Reason("BackupUnreadable", f"{text} recorded")
        bad = unusable(about.seen.base)
        if bad is not None:
            return bad
    elif status_of(about.backup).get("metastore") is None:
        text = f"ChronikBackup {_name(about)} has no dump of the metastore"
        return Reason("NoDump", f"{text}. Restore the database otherwise, and write metastore: Skip")
    if not about.seen.image:
        text = "No image is known for the Job that restores the metastore: name one in spec.backup.metastore.image"
        return Reason("NoImage", text)
    return None


# --- what is there ----------------------------------------------------------------------------------------------------


def _snapshots(about: About) -> Reason | None:
    """Tell of the first snapshot from which no volume can be made now."""
    if not about.missing:
        return None
    if not about.seen.has_snapshots:
        return Reason("SnapshotsUnavailable", SNAPSHOTS_UNAVAILABLE)
    for node in about.missing:
        assert node.volume
        name = node.volume["snapshot"]
        if name not in about.seen.snapshots:
            return Reason("SnapshotMissing", f"The VolumeSnapshot {name}, for {node.claim}, does not exist")
        try:
            found = with_snapshot(node.volume, about.backup, about.seen)
        except Lost as lost:
            return Reason("SnapshotMissing", str(lost))
        if not found["ready"]:
            text = f"The VolumeSnapshot {name}, for {node.claim}, is not ready to use"
            return Reason("SnapshotNotReady", f"{text}: {found['error']}" if found.get("error") else text)
        if found.get("content") not in about.seen.contents:
            text = f"The VolumeSnapshot {name}, for {node.claim}, is bound to the content {found.get('content')}"
            return Reason("SnapshotNotReady", f"{text}, which does not exist")
    return None


def _sizes(about: About) -> Reason | None:
    for node in about.missing:
        assert node.template
        size, needed = node.template["spec"]["resources"]["requests"]["storage"], _live(node, about).get("restoreSize")
        if needed and parse_quantity(str(size)) < parse_quantity(str(needed)):
            text = f"A volume made from the VolumeSnapshot {_live(node, about)['snapshot']} takes {needed}"
            return Reason("VolumeTooSmall", f"{text}, and those of {node.component} have {size}: ask for more")
    return None


def _classes(about: About) -> Reason | None:
    """Tell of a class that makes no volumes, or not from these snapshots: its claims could get an empty volume."""
    for node in about.missing:
        assert node.template
        name, found = node.template["spec"].get("storageClassName"), class_of(node, about.seen.classes)
        if name == "":
            text = f"The volumes of {node.component} are to have no StorageClass"
            return Reason("StorageClassNotDynamic", f"{text}, and then they are not made from snapshots: name one")
        if found is None:
            what = f"There is no StorageClass {name}" if name else "There is no default StorageClass"
            return Reason("StorageClassMissing", f"{what}, which the volumes of {node.component} are to have")
        name, driver = found["metadata"]["name"], _live(node, about).get("driver")
        if found["provisioner"] == NO_PROVISIONER:
            text = f"StorageClass {name} makes no volumes, but takes any that is there, and that would be empty"
            return Reason("StorageClassNotDynamic", f"{text}: name a class of a CSI driver")
        if driver and driver != found["provisioner"]:
            text = f"StorageClass {name} is of the driver {found['provisioner']}, and the snapshots are of {driver}"
            return Reason("StorageClassOtherDriver", f"{text}, so no volume can be made from them")
        free = [each["metadata"]["name"] for each in about.seen.volumes if is_free(each, name)]
        if free:
            text = f"StorageClass {name} has volumes that belong to nobody: {listed(free, MOST_NAMED)}"
            hint = "A claim would be bound to one of them, which is empty. Delete them, or name another class"
            return Reason("VolumesPremade", f"{text}. {hint}")
    return None


def _strangers(about: About) -> Reason | None:
    """Tell of claims that are there already, and are not what this recovery makes."""
    found = {each.claim: about.seen.claims[each.claim] for each in about.nodes if each.claim in about.seen.claims}
    strange = [
        node.claim
        for node in about.nodes
        if node.claim in found
        and ("deletionTimestamp" in found[node.claim]["metadata"] or not is_marked(found[node.claim], about.uid, node))
    ]
    if not strange:
        return None
    text = f"There are claims already that are not made from this backup: {listed(strange, MOST_NAMED)}"
    return Reason("ClaimsExist", f"{text}. Delete them if their data is not wanted, or give the cluster another name")


OF_DOCUMENTS: tuple[Callable[[About], Reason | None], ...] = (_backup, _readable, _alike, _counts, _dump)
"""The checks for which no server is asked anything."""
_CHECKS = (*OF_DOCUMENTS, _strangers, _snapshots, _sizes, _classes)


def _live(node: Node, about: About) -> Volume:
    """Return what is known of a node's snapshot by now; the checks before have seen that it is there."""
    assert node.volume
    return with_snapshot(node.volume, about.backup, about.seen)


def _name(about: About) -> str:
    return str(about.backup["metadata"]["name"])


def named(nodes: Iterable[tuple[str, int]]) -> str:
    """Return nodes as people name them: `controller 2, ingest 3, 4`."""
    found: dict[str, list[int]] = {}
    for component, ordinal in nodes:
        found.setdefault(component, []).append(ordinal)
    return ", ".join(f"{component} {listed(ordinals)}" for component, ordinals in found.items())
