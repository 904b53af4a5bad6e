"""What a cluster may be: a ChronikCluster document, checked, defaulted and typed.

The spec stays what it is, JSON under the API's own names, so that one grep finds a field in the schema, the rules, a
template and the code; TypedDicts let mypy check every access. Everything downstream takes a `Cluster`, never raw input.
Called by `cli` with documents from files and by `reconcile` with documents from the API server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from chronik.manifest import API_VERSION, CLUSTER_KIND, ClusterKey
from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.rules import RuleBook
    from chronik.api.schema import Schema

Quantity = str | int
ComponentName = Literal["controller", "ingest", "search"]


class S3(TypedDict):
    """`spec.storage.s3`."""

    bucket: str
    region: str
    endpoint: str | None
    credentialsSecret: str | None


class Gcs(TypedDict):
    """`spec.storage.gcs`."""

    bucket: str
    credentialsSecret: str | None


class Azure(TypedDict):
    """`spec.storage.azure`."""

    container: str
    account: str
    credentialsSecret: str | None


class Retention(TypedDict):
    """`spec.storage.retention`."""

    whenDeleted: Literal["Retain", "Delete"]
    whenScaled: Literal["Retain", "Delete"]


class Storage(TypedDict):
    """`spec.storage`."""

    backend: Literal["local", "s3", "gcs", "azure"]
    size: Quantity
    storageClass: str | None
    s3: S3 | None
    gcs: Gcs | None
    azure: Azure | None
    retention: Retention


class Connection(TypedDict):
    """`spec.metastore.connection`."""

    host: str
    port: int
    database: str
    credentialsSecret: str


class Metastore(TypedDict):
    """`spec.metastore`."""

    database: Literal["postgres"]
    connection: Connection


class Resources(TypedDict):
    """`spec.resources.<component>`."""

    cpu: Quantity | None
    memory: Quantity | None
    cpuLimit: Quantity | None
    memoryLimit: Quantity | None


class ComponentResources(TypedDict):
    """`spec.resources`."""

    controller: Resources | None
    ingest: Resources | None
    search: Resources | None


class Image(TypedDict):
    """`spec.image`."""

    controller: str
    ingest: str
    search: str
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] | None
    pullSecrets: list[str]


class Monitoring(TypedDict):
    """`spec.monitoring`."""

    prometheus: bool
    tracing: bool
    otlpEndpoint: str | None


class Network(TypedDict):
    """`spec.network`."""

    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    loadBalancerSourceRanges: list[str]
    hostNetwork: bool
    dnsPolicy: str | None


class PodSecurityContext(TypedDict):
    """`spec.security.podSecurityContext`."""

    runAsUser: int | None
    runAsGroup: int | None
    fsGroup: int | None
    runAsNonRoot: bool


class ContainerSecurityContext(TypedDict):
    """`spec.security.containerSecurityContext`."""

    allowPrivilegeEscalation: bool
    privileged: bool
    readOnlyRootFilesystem: bool
    runAsNonRoot: bool | None
    runAsUser: int | None


class Security(TypedDict):
    """`spec.security`."""

    tlsEnabled: bool
    tlsSecret: str | None
    mtlsEnabled: bool
    podSecurityContext: PodSecurityContext
    containerSecurityContext: ContainerSecurityContext


class CustomMetric(TypedDict):
    """An item of `spec.autoscaling.<component>.customMetrics`."""

    name: str
    targetType: str
    targetValue: Quantity


class Autoscaling(TypedDict):
    """`spec.autoscaling.<component>`."""

    minReplicas: int
    maxReplicas: int
    targetCpuUtilizationPercentage: int | None
    targetMemoryUtilizationPercentage: int | None
    customMetrics: list[CustomMetric]


class ComponentAutoscaling(TypedDict):
    """`spec.autoscaling`."""

    controllers: Autoscaling | None
    ingestNodes: Autoscaling | None
    searchNodes: Autoscaling | None


class DisruptionBudget(TypedDict):
    """`spec.podDisruptionBudget`."""

    minAvailable: int | str | None
    maxUnavailable: int | str | None


class ClusterSpec(TypedDict):
    """`spec`, with every field of the schema present: defaults are filled in, and what is absent is None."""

    controllers: int
    ingestNodes: int
    searchNodes: int
    storage: Storage
    metastore: Metastore
    resources: ComponentResources | None
    image: Image
    monitoring: Monitoring
    network: Network
    security: Security
    autoscaling: ComponentAutoscaling | None
    podDisruptionBudget: DisruptionBudget | None
    podAnnotations: dict[str, str]
    podLabels: dict[str, str]
    nodeSelector: dict[str, str]
    tolerations: list[dict[str, Any]]
    affinity: dict[str, Any] | None
    topologySpreadConstraints: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One valid cluster; `uid` is there when it came from an API server, and makes its objects owned."""

    name: str
    namespace: str
    spec: ClusterSpec
    uid: str | None = None
    domain: str = "cluster.local"

    @property
    def key(self) -> ClusterKey:
        """Which cluster it is."""
        return ClusterKey(self.namespace, self.name)


class Parsed(NamedTuple):
    """What became of one document: a cluster if it is valid, and what there is to say about it."""

    cluster: Cluster | None
    problems: tuple[Problem, ...]


class Law:
    """The schema and the rule book together: what a ChronikCluster document may say."""

    def __init__(self, schema: Schema, rules: RuleBook) -> None:
        self._schema = schema
        self.rules = rules

    def parse(
        self,
        raw: Any,
        *,
        namespace: str | None = None,
        fallback: str = "default",
        old: Mapping[str, Any] | None = None,
    ) -> Parsed:
        """Check one document and make it a cluster, or say everything that is wrong with it.

        `namespace` is for a document that names none, and must not contradict one that does; without it that is the
        `fallback`. `old` is the document that this one replaces, if there is one: transition rules compare the two.
        """
        stranger = _not_a_cluster(raw)
        if stranger:
            return Parsed(None, (stranger,))
        admitted = self._schema.admit(raw)
        broken = [problem.path for problem in admitted.problems]
        problems = (*admitted.problems, *self.rules.check(admitted.document, skip=broken, old=old))
        metadata = admitted.document["metadata"] if not broken else {}
        declared = metadata.get("namespace")
        if declared and namespace and declared != namespace:
            problems += (_other_namespace(declared, namespace),)
        if any(problem.severity == "error" for problem in problems):
            return Parsed(None, problems)
        spec: ClusterSpec = self._schema.completed_spec(admitted.document["spec"])
        return Parsed(Cluster(metadata["name"], declared or namespace or fallback, spec, metadata.get("uid")), problems)


def _not_a_cluster(raw: Any) -> Problem | None:
    """Say in one sentence that a document is something else; its every field would be wrong otherwise."""
    if not isinstance(raw, dict):
        return Problem("error", "type", (), "a document must be a map that begins with apiVersion and kind")
    for key, wanted in (("kind", CLUSTER_KIND), ("apiVersion", API_VERSION)):
        found = raw.get(key)
        if found != wanted:
            what = f"not {json.dumps(found)}" if key in raw else "and is missing"
            return Problem("error", key, (key,) if key in raw else (), f"{key} must be {wanted}, {what}")
    return None


def _other_namespace(declared: str, namespace: str) -> Problem:
    message = f"the document says namespace {declared}, and --namespace says {namespace}"
    return Problem("error", "namespace", ("metadata", "namespace"), message, hint="Leave one of the two out.")
