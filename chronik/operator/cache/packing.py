"""What the operator's caches keep of an object: what plan, health and status read, packed to a few hundred bytes.

A Secret is reduced to a digest before anything else sees it. Objects of one kind look alike across a fleet, so the
first ones serve as a dictionary that the rest are compressed against: a StatefulSet of 10 kB becomes about 700 bytes.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from chronik.manifest import (
    BACKUP,
    CLAIM,
    CLUSTER,
    CLUSTER_KIND,
    CLUSTER_LABEL,
    FIELD_MANAGER,
    INSTANCE_LABEL,
    KIND_BY_NAME,
    POD,
    SECRET,
    STORAGE_CLASS,
    ClusterKey,
    is_beside,
)
from chronik.plan.ownership import is_cluster
from chronik.plan.volumes.recreating import LASTING_ANNOTATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chronik.manifest import Kind, Manifest


_SECRET_FIELDS = frozenset(
    {
        *("credentialsSecret", "tlsSecret", "adminKeySecret", "sslRootCertSecret", "existingUrlSecret"),
        *("caSecret", "certSecret", "secret"),
    }
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SAMPLES, _LONGEST_DICTIONARY = 3, 16_384
_MOST_DEPTH = 200


@dataclass(frozen=True, slots=True)
class Record:
    """One object, packed.

    `mark` changes whenever something does that may matter to a reconcile; the resource version by itself does not.
    `cluster` is the cluster that it is part of, `secrets` the names of the Secrets that a ChronikCluster uses,
    `reports` whether the status of a ChronikCluster has what each status of ours has.
    """

    uid: str
    version: int
    mark: int
    packed: bytes
    dictionary: bytes
    cluster: ClusterKey | None = None
    secrets: tuple[str, ...] = ()
    reports: bool = False

    @property
    def manifest(self) -> Manifest:
        """What was kept of the object, unpacked anew: the caller may change it."""
        unzip = zlib.decompressobj(-zlib.MAX_WBITS, self.dictionary) if self.dictionary else zlib.decompressobj(-15)
        manifest: Manifest = orjson.loads(unzip.decompress(self.packed))
        manifest["metadata"]["resourceVersion"] = str(self.version)
        return manifest


class Packer:
    """Makes records of one kind. The first objects become the dictionary for all that follow."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._reduce = _REDUCERS.get(kind.name, _child)
        self._dictionary = b""
        self._samples: list[bytes] = []
        self._zip = _compressor(b"")

    def pack(self, manifest: Manifest) -> Record:
        """Return what is kept of an object, which must have a uid and a resource version."""
        kept = self._reduce(manifest)
        text = _text(kept)
        metadata = manifest["metadata"]
        is_cluster = self._kind.name == CLUSTER_KIND
        zipper = self._zip.copy()  # cheaper than to read the dictionary again
        record = Record(
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            mark=hash(_news(self._kind.name, kept, text)),
            packed=zipper.compress(text) + zipper.flush(),
            dictionary=self._dictionary,
            cluster=_cluster_of(kept),
            secrets=tuple(sorted(set(_secrets_in(kept.get("spec"))))) if is_cluster else (),
            reports=is_cluster and _reports(kept.get("status") or {}),
        )
        self._learn(text)
        return record

    def _learn(self, text: bytes) -> None:
        if self._dictionary:
            return
        self._samples.append(text)
        if len(self._samples) == _SAMPLES:
            self._dictionary = b"".join(self._samples)[-_LONGEST_DICTIONARY:]
            self._zip = _compressor(self._dictionary)
            self._samples.clear()


def _news(kind: str, kept: Manifest, text: bytes) -> bytes:
    """Return what of an object is news: of a container that has restarted, only that it is ready or not."""
    if kind == CLUSTER_KIND:
        return _text(_waking(kept))
    if kind != POD.name or b'"restartCount"' not in text:
        return text
    fields = ("containerStatuses", "initContainerStatuses")
    containers = {
        field: [_without(each, "restartCount") for each in kept["status"][field]]
        for field in fields
        if field in kept["status"]
    }
    return _text(kept | {"status": kept["status"] | containers})


def by_others(manifest: Manifest) -> Any:
    """Return what our own writes leave alone in an object: if that changed, another client wrote too."""
    metadata = manifest["metadata"]
    if manifest["kind"] == CLUSTER_KIND:
        return _waking(manifest) | {"finalizers": None}
    foreign = [entry for entry in metadata.get("managedFields") or () if not entry["manager"].startswith(FIELD_MANAGER)]
    return manifest.get("status"), metadata.get("deletionTimestamp"), foreign


def data_digest(manifest: Manifest) -> str:
    """Return a digest of a Secret's data, whatever the order of its keys.

    Namespace and name go in too, so that digests, which are shown, do not show which Secrets are alike.
    """
    metadata = manifest["metadata"]
    text = _text([metadata.get("namespace", ""), metadata["name"], manifest.get("data") or {}])
    return hashlib.sha256(text).hexdigest()[:32]


def _reports(status: Mapping[str, Any]) -> bool:
    return bool(status.get("phase")) and any(each.get("type") == "Ready" for each in status.get("conditions") or ())


def _text(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _compressor(dictionary: bytes) -> zlib._Compress:
    """Return a raw deflate stream (no checksum); level 1 finds in the dictionary all that others find."""
    if not dictionary:
        return zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return zlib.compressobj(1, wbits=-zlib.MAX_WBITS, zdict=dictionary)


def _cluster_of(manifest: Manifest) -> ClusterKey | None:
    """Return the cluster of an object: its controller, which lives beside it, else the one that its labels name."""
    metadata = manifest["metadata"]
    name = next((owner["name"] for owner in metadata.get("ownerReferences") or () if is_cluster(owner)), None)
    labels = metadata.get("labels") or {}
    if manifest["kind"] == BACKUP.name:
        name = (manifest.get("spec") or {}).get("cluster")
    # All that identifies a claim's cluster: a StatefulSet gives its claims no labels but those of its selector.
    name = name or labels.get(CLUSTER_LABEL) or (labels.get(INSTANCE_LABEL) if manifest["kind"] == CLAIM.name else None)
    namespace = metadata.get("namespace")
    return ClusterKey(sys.intern(namespace), sys.intern(name)) if name and namespace else None


def _secrets_in(value: Any) -> Iterator[str]:
    """Yield the names of Secrets in a spec, which may be anything at all."""
    if isinstance(value, list):
        for item in value:
            yield from _secrets_in(item)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key in _SECRET_FIELDS and isinstance(part, str):
                yield part
            else:
                yield from _secrets_in(part)


# --- what is kept -----------------------------------------------------------------------------------------------------


def _waking(cluster: Manifest) -> dict[str, Any]:
    """Return the part of a ChronikCluster that is not our own status; its generation stands for the spec."""
    metadata = cluster["metadata"]
    fields = ("uid", "generation", "annotations", "labels", "deletionTimestamp", "finalizers")
    return {field: metadata.get(field) for field in fields}


def _only(value: Mapping[str, Any] | None, *fields: str) -> dict[str, Any]:
    return {field: value[field] for field in fields if field in value} if value else {}


def _without(value: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: part for field, part in value.items() if field not in fields}


def _cluster(manifest: Manifest) -> Manifest:
    metadata = _metadata(manifest)
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = _without(metadata["annotations"], _LAST_APPLIED)
    return _shallow(manifest | {"metadata": metadata})


def _shallow(manifest: Manifest) -> Manifest:
    """Empty what is nested deeper than can be packed; where a spec is free, the API server takes any depth.

    Such a spec is not valid, and what is left of it is still too deep to be.
    """
    level: list[Any] = [manifest]
    for _ in range(_MOST_DEPTH):
        level = [part for value in level for part in (value.values() if isinstance(value, dict) else value)]
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            break
    for value in level:
        value.clear()
    return manifest


def _child(manifest: Manifest) -> Manifest:
    kept = _without(manifest, "status") | {"metadata": _without(_metadata(manifest), "creationTimestamp")}
    fields = _STATUS.get(manifest["kind"], () if manifest["kind"] in KIND_BY_NAME else _GENERIC)
    whole = manifest.get("status")
    status = _only(whole if isinstance(whole, dict) else None, *fields)  # a custom resource may have anything there
    if status.get("conditions"):
        status["conditions"] = _conditions(status["conditions"])
    return kept | ({"status": status} if status else {})


_GENERIC = ("observedGeneration", "conditions")
"""What is read of the status of a kind that only templates of the user's make."""
_STATUS: dict[str, tuple[str, ...]] = {
    "StatefulSet": (
        *("observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "availableReplicas"),
        *("currentReplicas", "currentRevision", "updateRevision"),
    ),
    "Deployment": (
        *("observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "availableReplicas"),
        *("unavailableReplicas", "conditions"),
    ),
    "DaemonSet": ("observedGeneration", "desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable"),
    "Service": ("loadBalancer",),
    "PodDisruptionBudget": ("observedGeneration",),  # the rest changes with every pod
    "HorizontalPodAutoscaler": ("currentReplicas", "desiredReplicas"),  # the rest changes four times a minute
}


def _metadata(manifest: Manifest) -> dict[str, Any]:
    """Return metadata with the owners of fields, but not when they wrote, and not those of status."""
    metadata = _without(manifest["metadata"], "resourceVersion", "selfLink")
    entries = metadata.get("managedFields")
    if entries:
        lasting = [entry for entry in entries if entry.get("subresource") != "status"]
        # An object without any entry was never applied to, which is another case.
        metadata["managedFields"] = [_without(entry, "time") for entry in lasting or entries]
    return metadata


def _pod(manifest: Manifest) -> Manifest:
    status = manifest.get("status")
    kept = _only(status, "phase", "reason", "message", "startTime")
    beside = is_beside(manifest)
    if status and status.get("conditions"):
        kept["conditions"] = _conditions(status["conditions"])
    for field in ("containerStatuses", "initContainerStatuses"):
        if status and status.get(field):
            kept[field] = [_container(container, beside=beside) for container in status[field]]
    identity = _identity(manifest)
    lasting = _only(manifest["metadata"].get("annotations"), *LASTING_ANNOTATIONS)
    identity["metadata"] |= {"annotations": lasting} if lasting else {}
    spec = manifest.get("spec") or {}
    images = [_only(each, "name", "image") for each in spec.get("containers") or ()]
    return identity | {"spec": {"containers": images, "volumes": list(_volumes(spec))}, "status": kept}


def _identity(manifest: Manifest, *more: str) -> Manifest:
    """Return an object of which only metadata is left, and not much of that."""
    fields = ("name", "namespace", "uid", "labels", "ownerReferences", "deletionTimestamp", *more)
    return _only(manifest, "apiVersion", "kind") | {"metadata": _only(manifest["metadata"], *fields)}


def _volumes(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield which claims and ConfigMaps a pod uses."""
    for volume in spec.get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield _only(volume, "name", "persistentVolumeClaim")
        elif "configMap" in volume:
            yield {"name": volume["name"], "configMap": _only(volume["configMap"], "name")}


def _conditions(conditions: Any) -> list[dict[str, Any]]:
    found = conditions if isinstance(conditions, list) else []
    return [_only(each, "type", "status", "reason", "message") for each in found if isinstance(each, dict)]


def _container(status: Mapping[str, Any], *, beside: bool) -> dict[str, Any]:
    """Return how a container is: ready, or why it waits, and how it last ended; `beside`: in its own words, too."""
    kept = _only(status, "name", "ready", *(("started",) if beside else ()))
    kept |= _only(status, "restartCount") if status.get("restartCount") else {}  # which is no news by itself
    waiting = (status.get("state") or {}).get("waiting")
    ended = (status.get("lastState") or {}).get("terminated")
    kept |= {"state": {"waiting": _only(waiting, "reason", "message")}} if waiting else {}
    told = ("reason", "exitCode", *(("message",) if beside else ()))
    return kept | ({"lastState": {"terminated": _only(ended, *told)}} if ended else {})


def _claim(manifest: Manifest) -> Manifest:
    status = _only(manifest.get("status"), "phase", "capacity", "conditions")
    if status.get("conditions"):
        status["conditions"] = _conditions(status["conditions"])
    return _identity(manifest, "annotations", "finalizers") | _only(manifest, "spec") | {"status": status}


def _backup(manifest: Manifest) -> Manifest:
    """Return a whole backup: its status is what retention and recovery go by."""
    metadata = _metadata(manifest)
    metadata.pop("managedFields", None)
    return manifest | {"metadata": metadata}


def _secret(manifest: Manifest) -> Manifest:
    metadata = _only(manifest["metadata"], "name", "namespace", "uid")
    return _only(manifest, "apiVersion", "kind") | {"metadata": metadata, "digest": data_digest(manifest)}


def _storage_class(manifest: Manifest) -> Manifest:
    return _only(manifest, "apiVersion", "kind", "allowVolumeExpansion") | {
        "metadata": _only(manifest["metadata"], "name", "uid")
    }


_REDUCERS: dict[str, Callable[[Manifest], Manifest]] = {
    BACKUP.name: _backup,
    CLUSTER.name: _cluster,
    POD.name: _pod,
    CLAIM.name: _claim,
    SECRET.name: _secret,
    STORAGE_CLASS.name: _storage_class,
}
