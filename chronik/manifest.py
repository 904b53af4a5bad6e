"""Manifests, how they are named, and in which order they are applied.

A manifest is plain JSON data. `KINDS` is the one table of the kinds that chronik renders: manifests are sorted and
applied by it, URLs are built from it (so known kinds cost no discovery call), and the operator watches these kinds.
Further kinds come with templates of the user's. Which ones a cluster has stands on its ConfigMap, so that what is left
of a template that is gone can be found, as the ApplySets of kubectl have it on their parents.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Manifest = dict[str, Any]
ComponentName = Literal["controller", "ingest", "search", "node"]
COMPONENT_NAMES: tuple[ComponentName, ...] = get_args(ComponentName)
"""What a cluster is made of, in the order in which it is applied; what each is, `api/components` says."""

FIELD_MANAGER = "chronik-operator"
FINALIZER = "chronik.stream/finalizer"
"""The finalizer that holds a ChronikCluster until the operator has done what the garbage collector does not."""
PAUSED_ANNOTATION = "chronik.stream/paused"
"""With the value "true" the operator changes nothing of a ChronikCluster's objects: see `is_paused`."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "chronik-operator"}
INSTANCE_LABEL = "app.kubernetes.io/instance"
"""Volume claims are found by it: a StatefulSet labels them with its selector alone."""
CLUSTER_LABEL = "chronik.stream/cluster"
COMPONENT_LABEL = "chronik.stream/component"
MIRROR_PREFIX = "mirror-"
"""What the component label of a mirror's objects and pods begins with; the name of its source follows."""
MIRROR_SECTION = "mirror"
"""What all mirrors together are called in `spec.components`."""
ARCHIVE = "archive"
"""The component label of what receives the metastore's write-ahead log."""
BACKUP_LABEL = "chronik.stream/backup"
"""On what a backup consists of, and on the Jobs that work for it."""
SCHEDULE_LABEL = "chronik.stream/schedule"
"""On the backups that a schedule made."""
CONFIGURATION = "config"
"""The component that a cluster's ConfigMaps bear: pods of all components read them."""

ALIAS_LABEL = "chronik.stream/alias"
"""On a Service that leads to one of several clusters, and that none of them owns: its own name."""
ALIASES_ANNOTATION = "chronik.stream/aliases"
"""On the Service that clients of a cluster connect to: which aliases may lead there."""
FAILOVER_ANNOTATION = "chronik.stream/failover"
"""Which mirrors `chronik failover` has stopped, each with the generation of the document that it made."""
ROLLOUT_ANNOTATION = "chronik.stream/rollout"
"""What a person asks of a canary: `verb@candidate`, or with the number of a step or attempt `verb@candidate/number`."""
ROLLOUT_NOW_ANNOTATION = "chronik.stream/rollout-now"
"""Up to when a person lets restarts begin outside of windows, as a time in RFC 3339."""
ROLLOUTS = "rollouts"

API_VERSION = "chronik.stream/v1alpha1"
CLUSTER_KIND = "ChronikCluster"
BACKUP_KIND = "ChronikBackup"
FEDERATION_KIND = "ChronikFederation"
DOCUMENT_KINDS = (CLUSTER_KIND, BACKUP_KIND, FEDERATION_KIND)
"""What people write documents of."""


FEDERATION_FEATURE = "federation"
FEATURES = ("backups", FEDERATION_FEATURE, ROLLOUTS)
"""What an operator does if it is asked to, and is given the rights for it: `chronik install --features`."""


class KindName(NamedTuple):
    """What a manifest calls its kind: printed `batch/v1/CronJob`. How URLs spell it, the API server knows."""

    api_version: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> KindName:
        """Return the name of a manifest's kind."""
        return cls(manifest["apiVersion"], manifest["kind"])

    def __str__(self) -> str:
        return f"{self.api_version}/{self.name}"

    @property
    def described(self) -> str:
        """The kind as a sentence names it: `ServiceMonitor (monitoring.coreos.com/v1)`."""
        return f"{self.name} ({self.api_version})"


class Kind(NamedTuple):
    """A kind of object that the API server knows; `stage` orders applies, deletes run in reverse.

    An `optional` one need not be installed, or be in reach of those who have no such objects: a cluster does without,
    and gets its object once the kind is there.
    """

    api_version: str
    name: str
    plural: str
    stage: int
    namespaced: bool = True
    optional: bool = False

    @property
    def id(self) -> KindName:
        """Which kind it is."""
        return KindName(self.api_version, self.name)


RBAC, CONFIG, NETWORK, WORKLOADS, DISRUPTION, SCALING, MONITORING = range(7)
"""The stages. Services come before workloads, because pod DNS and `serviceName` want them first."""

KINDS: tuple[Kind, ...] = (
    Kind("v1", "ServiceAccount", "serviceaccounts", RBAC),
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles", RBAC),
    # A stage after the roles: to bind one that is not there yet takes a right that an operator should not have.
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", CONFIG),
    Kind("v1", "ConfigMap", "configmaps", CONFIG),
    Kind("v1", "Service", "services", NETWORK),
    # Every server has it. It is optional since roles of operators and of people from before may not reach it.
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", NETWORK, optional=True),
    Kind("apps/v1", "StatefulSet", "statefulsets", WORKLOADS),
    Kind("apps/v1", "Deployment", "deployments", WORKLOADS),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", DISRUPTION),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", SCALING),
    # Of the Prometheus operator: https://prometheus-operator.dev/docs/api-reference/api/
    Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors", MONITORING, optional=True),
    Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors", MONITORING, optional=True),
)
WORKLOAD_KINDS = tuple(kind.name for kind in KINDS if kind.stage == WORKLOADS)
"""What keeps pods, and has a replica count."""
KIND_BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
CLUSTER = Kind(API_VERSION, CLUSTER_KIND, "chronikclusters", stage=-1)
BACKUP = Kind(API_VERSION, BACKUP_KIND, "chronikbackups", stage=-1)
FEDERATION = Kind(API_VERSION, FEDERATION_KIND, "chronikfederations", stage=-1)

# What chronik reads, or writes by the way, but does not render.
POD = Kind("v1", "Pod", "pods", stage=-1)
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", stage=-1)
VOLUME = Kind("v1", "PersistentVolume", "persistentvolumes", stage=-1, namespaced=False)
SECRET = Kind("v1", "Secret", "secrets", stage=-1)
EVENT = Kind("v1", "Event", "events", stage=-1)
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases", stage=-1)
STORAGE_CLASS = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", stage=-1, namespaced=False)
JOB = Kind("batch/v1", "Job", "jobs", stage=-1)
SNAPSHOT = Kind("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volumesnapshots", stage=-1)
SNAPSHOT_CONTENT = Kind(
    "snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "volumesnapshotcontents", stage=-1, namespaced=False
)
GROUP_SNAPSHOTS = tuple(
    Kind(f"groupsnapshot.storage.k8s.io/{version}", "VolumeGroupSnapshot", "volumegroupsnapshots", stage=-1)
    for version in ("v1", "v1beta2", "v1beta1")
)
"""The versions of a kind that not every server has, the one to use first: which ones are there is asked for."""
GROUP_SNAPSHOT_CONTENTS = {
    each.api_version: Kind(
        each.api_version, "VolumeGroupSnapshotContent", "volumegroupsnapshotcontents", stage=-1, namespaced=False
    )
    for each in GROUP_SNAPSHOTS
}
"""What such a group is bound to, by versions."""
REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions", stage=-1)
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets", stage=-1)
OTHER_KINDS = (
    *(CLUSTER, BACKUP, FEDERATION, JOB, SNAPSHOT, SNAPSHOT_CONTENT, POD, CLAIM, VOLUME, SECRET, EVENT, LEASE),
    STORAGE_CLASS,
)

OWN_KINDS_ANNOTATION = "chronik.stream/own-kinds"
"""On a cluster's ConfigMap: the kinds beyond `KINDS` that templates of the user's make for it."""
_STAGES: dict[str, int] = {
    # What other objects name: Secrets that controllers make, and limits that pods are held to.
    **dict.fromkeys(("Certificate", "ExternalSecret", "Issuer", "LimitRange", "ResourceQuota", "SealedSecret"), CONFIG),
    **dict.fromkeys(("Endpoints", "EndpointSlice", "HTTPRoute", "Ingress", "NetworkPolicy", "TCPRoute"), NETWORK),
    **dict.fromkeys(("CronJob", "DaemonSet", "Job", "ReplicaSet"), WORKLOADS),
}


def own_kinds(manifests: Iterable[Manifest]) -> set[KindName]:
    """Return the kinds that annotations of ConfigMaps among some manifests name; what is none is passed over."""
    texts = (
        (each["metadata"].get("annotations") or {}).get(OWN_KINDS_ANNOTATION, "")
        for each in manifests
        if each["kind"] == "ConfigMap"
    )
    words = (word.strip().rpartition("/") for text in texts for word in str(text).split(","))
    return {KindName(version, name) for version, _, name in words if version and name and name not in _TAKEN}


def with_own_kinds(manifest: Manifest, kinds: Collection[KindName]) -> Manifest:
    """Return a ConfigMap whose annotation names some kinds, or that has no such annotation if there are none."""
    metadata = manifest["metadata"]
    others = {key: value for key, value in metadata.get("annotations", {}).items() if key != OWN_KINDS_ANNOTATION}
    named = {OWN_KINDS_ANNOTATION: ",".join(sorted(map(str, kinds)))} if kinds else {}
    rest = {key: value for key, value in metadata.items() if key != "annotations"}
    return manifest | {"metadata": rest | ({"annotations": others | named} if others or named else {})}


_TAKEN = frozenset(kind.name for kind in (*KINDS, *OTHER_KINDS))


class ClusterKey(NamedTuple):
    """Which ChronikCluster: printed `namespace/name`."""

    namespace: str
    name: str

    @classmethod
    def of(cls, document: Manifest) -> ClusterKey:
        """Return the key of a ChronikCluster."""
        metadata = document["metadata"]
        return cls(metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class WorkKey(NamedTuple):
    """Which document a pass is over: printed `Kind/namespace/name`."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, cluster: ClusterKey) -> WorkKey:
        """Return the key of a ChronikCluster."""
        return cls(CLUSTER_KIND, cluster.namespace, cluster.name)

    @property
    def place(self) -> ClusterKey:
        """Namespace and name: of a ChronikCluster, its key."""
        return ClusterKey(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def is_paused(document: Manifest) -> bool:
    """Return whether the operator is to change none of a ChronikCluster's objects."""
    return (document["metadata"].get("annotations") or {}).get(PAUSED_ANNOTATION) == "true"


def is_mirror(manifest: Manifest) -> bool:
    """Return whether an object is part of a mirror, without which a cluster is ready all the same."""
    return component_of(manifest).startswith(MIRROR_PREFIX)


def is_beside(manifest: Manifest) -> bool:
    """Return whether an object is part of a mirror or of the archive, without which a cluster is ready all the same."""
    return is_mirror(manifest) or component_of(manifest) == ARCHIVE


def component_of(manifest: Manifest) -> str:
    """Return which component of a cluster an object's label says it is part of; empty if it has no such label."""
    component: str = (manifest["metadata"].get("labels") or {}).get(COMPONENT_LABEL, "")
    return component


def is_configuration(manifest: Manifest) -> bool:
    """Return whether an object is a version of a configuration: a cluster's, or that of one of its mirrors."""
    return manifest["kind"] == "ConfigMap" and (component_of(manifest) == CONFIGURATION or is_mirror(manifest))


_CONTENT = re.compile(r"-[0-9a-f]{8}")


def lasting_name(manifest: Manifest) -> str:
    """Return the name that an object has in all its versions: that of a configuration without what tells its content.

    Files are named for it, so that reviews show what changed in them.
    """
    name: str = manifest["metadata"]["name"]
    labels = manifest["metadata"].get("labels")
    if not isinstance(labels, dict) or not is_configuration(manifest):  # a file that is read may say anything
        return name
    base = f"{labels.get(CLUSTER_LABEL)}-{component_of(manifest)}"
    return base if _CONTENT.fullmatch(name.removeprefix(base)) else name


_KIND_ORDER = {kind.name: position for position, kind in enumerate(KINDS)}
_OTHER_STAGE = MONITORING + 1
_COMPONENT_ORDER: dict[str, int] = {name: position for position, name in enumerate(COMPONENT_NAMES)}


class ObjectRef(NamedTuple):
    """Which object: printed `Kind/namespace/name` everywhere, `Kind/name` without a namespace."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> ObjectRef:
        """Return the reference of a manifest."""
        metadata = manifest["metadata"]
        return cls(manifest["kind"], metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))


def stage_of(kind: str) -> int:
    """Return the stage in which a kind is applied; a kind that nothing is known of comes after all others."""
    known = KIND_BY_NAME.get(kind)
    return known.stage if known else _STAGES.get(kind, _OTHER_STAGE)


def apply_order(manifest: Manifest) -> tuple[int, int, int, str, str]:
    """Sort key: by stage, kinds as in `KINDS`, then components as in `COMPONENT_NAMES`, then what is beside, by name.

    Kinds that chronik does not render by itself come last in their stage.
    """
    metadata = manifest["metadata"]
    return (
        stage_of(manifest["kind"]),
        _KIND_ORDER.get(manifest["kind"], len(_KIND_ORDER)),
        _COMPONENT_ORDER.get(component_of(manifest), len(_COMPONENT_ORDER) if is_beside(manifest) else -1),
        metadata.get("namespace", ""),
        metadata["name"],
    )


def as_stored(manifest: Manifest) -> Manifest:
    """Return a manifest as the server keeps it: with a Secret's stringData, which can only be written, in its data.

    The two are one there, so an apply of stringData would own fields that no object has, and change it every time. What
    is no text, or no base64, stays as it is: the server says what is wrong with it.
    """
    field = _ENCODED.get(manifest["kind"], "")
    data, texts = manifest.get(field), manifest.get("stringData") if manifest["kind"] == "Secret" else None
    if not isinstance(data or {}, dict) or not isinstance(texts or {}, dict) or not (data or texts):
        return manifest
    if not all(isinstance(value, str) for value in (texts or {}).values()):
        return manifest
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in (texts or {}).items()}
    kept = {key: value for key, value in manifest.items() if key != "stringData" or texts is None}
    return kept | {field: {key: _canonical(value) for key, value in (data or {}).items()} | encoded}


_ENCODED = {"ConfigMap": "binaryData", "Secret": "data"}
"""Where each kind keeps bytes, in base64."""


def _canonical(encoded: Any) -> Any:
    """Return base64 in the server's spelling: without line breaks."""
    if not isinstance(encoded, str):
        return encoded
    try:
        return base64.b64encode(base64.b64decode(_LINE_BREAKS.sub("", encoded), validate=True)).decode()
    except ValueError:
        return encoded


_LINE_BREAKS = re.compile("[\r\n]")
