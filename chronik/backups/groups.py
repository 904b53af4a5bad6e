"""All volumes of a backup cut at one moment: what a VolumeGroupSnapshot selects, and which of its snapshots is whose.

The snapshot controller makes a VolumeSnapshot for every claim that the labels select, under a name of its own, and it
goes with the group. chronik labels each as it labels the ones that it makes, so all that comes later finds them alike.
Source: https://github.com/kubernetes-csi/external-snapshotter, pkg/common-controller/groupsnapshot_controller_helper.go
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chronik.api.components import component_types
from chronik.backups.snapshots import Lost, with_snapshot
from chronik.backups.steps import Make
from chronik.manifest import BACKUP_LABEL, GROUP_SNAPSHOTS, INSTANCE_LABEL
from chronik.status.compute import Reason
from chronik.times import moment, written
from chronik.wording import MOST_NAMED, listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.backups.parts import Volume
    from chronik.manifest import Manifest

    class Seen(Protocol):
        """What is there of a backup's group."""

        @property
        def claims(self) -> Sequence[Manifest]:
            """The claims of the cluster."""

        @property
        def snapshots(self) -> Mapping[str, Manifest]:
            """The VolumeSnapshots with the backup's label, by name."""

        @property
        def contents(self) -> Mapping[str, Manifest]:
            """The VolumeSnapshotContents that may be read, by name."""

        @property
        def group(self) -> Manifest | None:
            """The VolumeGroupSnapshot."""

        @property
        def group_content(self) -> Manifest | None:
            """The VolumeGroupSnapshotContent that it is bound to, if that may be read."""

        @property
        def members(self) -> Sequence[Manifest]:
            """The VolumeSnapshots that belong to the group."""

        @property
        def persistent_volumes(self) -> Sequence[Manifest]:
            """The PersistentVolumes, if a member does not say of which claim it is."""

        @property
        def errors(self) -> Mapping[str, str]:
            """Why parts could not be made, by their names."""


_COMPONENT = "app.kubernetes.io/component"
_KIND = GROUP_SNAPSHOTS[0].name
_LONGEST_ERROR = 4096
UNAVAILABLE = (
    "This Kubernetes has no VolumeGroupSnapshots. Install their CRDs, which external-snapshotter (github.com/"
    "kubernetes-csi) has beside those of VolumeSnapshots, and a snapshot controller and a CSI driver with the feature "
    "CSIVolumeGroupSnapshot; or set spec.backup.volumes.method to VolumeSnapshot, which cuts one volume after the other"
)


def is_grouped(cluster: Cluster) -> bool:
    """Return whether the volumes of a cluster are to be cut at one moment."""
    settings = cluster.spec["backup"]
    return settings is not None and settings["volumes"]["method"] == _KIND


def group_name(backup: str) -> str:
    """Return the name of the group of a backup."""
    return f"{backup}-volumes"


def selector_of(cluster: Cluster, volumes: Iterable[Volume]) -> dict[str, str]:
    """Return the labels that select the claims of volumes: those that a StatefulSet gives to the claims that it makes.

    Nothing but labels: the snapshot controller does not read the expressions of a selector.
    """
    whose = {each["component"] for each in volumes}
    stateful = {each.name for each in component_types(cluster.spec["topology"]) if each.stateful}
    one = {_COMPONENT: next(iter(whose))} if len(whose) == 1 and whose != stateful else {}
    return {INSTANCE_LABEL: cluster.name, **one}


def unselected(cluster: Cluster, volumes: Sequence[Volume], claims: Iterable[Manifest]) -> Reason | None:
    """Return which claims a group would leave out, if any: claims that people made may lack the labels."""
    wanted = selector_of(cluster, volumes)
    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in claims}
    lacking = [each["claim"] for each in volumes if not wanted.items() <= labels[each["claim"]].items()]
    if not lacking:
        return None
    text = " ".join(f"{key}={value}" for key, value in wanted.items())
    message = (
        f"A VolumeGroupSnapshot selects claims by their labels, and these lack some: {listed(lacking, MOST_NAMED)}"
    )
    return Reason("ClaimsNotSelected", f"{message}. Label them: kubectl label pvc NAME {text}")


def with_group(
    group: Mapping[str, Any], volumes: Sequence[Volume], backup: Manifest, seen: Seen
) -> tuple[dict[str, Any], list[Volume], tuple[Make, ...]]:
    """Return a group and its volumes with what is known of them by now, and which members are to be labelled.

    Raises:
        Lost: the group or a member is gone after it was cut, belongs to something else, or lacks a volume.
    """
    if seen.group is None:
        if "createdAt" in group:
            raise Lost(f"The {_KIND} {group['name']} was cut, and is gone")
        known = {key: value for key, value in group.items() if key != "error"}
        error = seen.errors.get(group["name"])
        return known | ({"error": error[:_LONGEST_ERROR]} if error else {}), [*volumes], ()
    if (seen.group["metadata"].get("labels") or {}).get(BACKUP_LABEL) != backup["metadata"]["uid"]:
        raise Lost(f"The {_KIND} {group['name']} is there already, and is not of this backup")
    found = _state(group, seen.group, seen.group_content)
    if "createdAt" not in found:
        return found, [*volumes], ()
    sources, parts, makes = _members(seen), [], []
    for each in volumes:
        members = sources.get(each["claim"], [])
        part = _with_member(each, found, members, backup, seen)
        parts.append(part)
        if members and part["snapshot"] not in seen.snapshots:
            makes.append(Make("member", part["snapshot"], part, uid=members[0]["metadata"]["uid"]))
    return found, parts, tuple(makes)


def _state(known: Mapping[str, Any], group: Manifest, content: Manifest | None) -> dict[str, Any]:
    """Return what a VolumeGroupSnapshot says of itself; it is cut only if it and its content name each other."""
    metadata, status = group["metadata"], group.get("status") or {}
    bound = status.get("boundVolumeGroupSnapshotContentName")
    ref = (content or {}).get("spec", {}).get("volumeGroupSnapshotRef") or {}
    strange = ""
    if content is not None and any(ref.get(key) != metadata[key] for key in ("namespace", "name", "uid")):
        other = f"{ref.get('namespace')}/{ref.get('name')}"
        strange = f"the content {bound} that it is bound to names another group, {other}"
    found = {
        "content": bound,
        "createdAt": written(moment(status["creationTime"])) if status.get("creationTime") and not strange else None,
        "handle": ((content or {}).get("status") or {}).get("volumeGroupSnapshotHandle") if not strange else None,
    }
    ready = bool(status.get("readyToUse")) and bool(bound) and not strange
    error = strange or str((status.get("error") or {}).get("message", ""))
    return {
        **{key: value for key, value in known.items() if key not in {"error", "ready"}},
        **{key: value for key, value in found.items() if value},
        **({"error": error[:_LONGEST_ERROR]} if error and not ready else {}),
        "ready": ready,
    }


def _with_member(
    volume: Volume, group: Mapping[str, Any], members: Sequence[Manifest], backup: Manifest, seen: Seen
) -> Volume:
    """Return a volume with its snapshot in the group, once that bears the backup's label."""
    if volume.get("snapshot") in seen.snapshots:
        found = with_snapshot(volume, backup, seen)
        return {**found, "createdAt": group["createdAt"]}  # the group's is the moment of all; a member may have none
    if len(members) > 1:
        names = listed([each["metadata"]["name"] for each in members])
        raise Lost(f"The {_KIND} {group['name']} has several snapshots of {volume['claim']}: {names}")
    if members:
        name = str(members[0]["metadata"]["name"])
        error = seen.errors.get(name)
        return {**volume, "snapshot": name, **({"error": error[:_LONGEST_ERROR]} if error else {})}
    if "createdAt" in volume:
        raise Lost(f"The snapshot {volume['snapshot']} of {volume['claim']} was cut, and is gone")
    if group["ready"]:
        raise Lost(f"The {_KIND} {group['name']} is ready, and has no snapshot of {volume['claim']}")
    return volume


def _members(seen: Seen) -> dict[str, list[Manifest]]:
    """Return the snapshots of a group by the claims that they are of."""
    found: dict[str, list[Manifest]] = {}
    for each in seen.members:
        found.setdefault(source_of(each, seen.contents, seen.persistent_volumes), []).append(each)
    return found


def source_of(member: Manifest, contents: Mapping[str, Manifest], volumes: Iterable[Manifest]) -> str:
    """Return the name of the claim that a member is of; empty if it cannot be known.

    The controller leaves it empty if it does not find the volume that the driver names. Then it is looked for here.
    """
    named = str((member["spec"].get("source") or {}).get("persistentVolumeClaimName") or "")
    content = contents.get(str((member.get("status") or {}).get("boundVolumeSnapshotContentName") or ""))
    if named or content is None:
        return named
    spec = content.get("spec") or {}
    wanted = spec.get("driver"), (spec.get("source") or {}).get("volumeHandle")
    for each in volumes:
        about = each.get("spec") or {}
        csi, claim = about.get("csi") or {}, about.get("claimRef") or {}
        if (csi.get("driver"), csi.get("volumeHandle")) == wanted:
            return str(claim.get("name")) if claim.get("namespace") == member["metadata"]["namespace"] else ""
    return ""


def members_of(group: Manifest, snapshots: Iterable[Manifest]) -> list[Manifest]:
    """Return the snapshots that a group owns, in whichever version of its API it was when they were made."""
    return [each for each in snapshots if _owned_by(each, group["metadata"]["uid"])]


def _owned_by(snapshot: Manifest, uid: str) -> bool:
    owners = snapshot["metadata"].get("ownerReferences") or ()
    return any(each["kind"] == _KIND and each["uid"] == uid for each in owners)


def all_known(volumes: Iterable[Volume], labelled: Collection[str]) -> bool:
    """Return whether each volume's snapshot is among those that bear the backup's label."""
    return all(each.get("snapshot") in labelled for each in volumes)
