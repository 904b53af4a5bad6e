"""What a cluster may be: a ChronikCluster document, checked, defaulted and typed.

The spec stays what it is, JSON under the API's own names, so that one grep finds a field in the schema, the rules, a
template and the code; TypedDicts let mypy check every access. Everything downstream takes a `Cluster`, never raw input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chronik.manifest import ClusterKey

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.sections.backup import Backup
    from chronik.api.sections.bootstrap import Bootstrap
    from chronik.api.sections.replication import Replication
    from chronik.api.sections.resources import Quantity, Resources
    from chronik.api.sections.rollout import Analysis, RestartWindow


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

    host: str | None
    port: int
    database: str | None
    credentialsSecret: str | None
    sslMode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None
    sslRootCertSecret: str | None
    existingUrlSecret: str | None


class Metastore(TypedDict):
    """`spec.metastore`."""

    database: Literal["postgres"]
    connection: Connection


class ComponentResources(TypedDict):
    """`spec.resources`."""

    controller: Resources | None
    ingest: Resources | None
    search: Resources | None
    node: Resources | None


class Image(TypedDict):
    """`spec.image`."""

    controller: str
    ingest: str
    search: str
    node: str
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] | None
    pullSecrets: list[str]


class Monitor(TypedDict):
    """`spec.monitoring.serviceMonitor` and `podMonitor`."""

    enabled: bool
    interval: str
    labels: dict[str, str]


class Monitoring(TypedDict):
    """`spec.monitoring`."""

    prometheus: bool
    tracing: bool
    otlpEndpoint: str | None
    serviceMonitor: Monitor | None
    podMonitor: Monitor | None


class External(TypedDict):
    """`spec.network.external`."""

    type: Literal["LoadBalancer", "NodePort"]
    hostTemplate: str
    firstNodePort: int | None
    annotations: dict[str, str]


class Network(TypedDict):
    """`spec.network`."""

    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    loadBalancerSourceRanges: list[str]
    hostNetwork: bool
    dnsPolicy: str | None
    external: External | None
    aliases: list[str]


NetworkPolicy = TypedDict("NetworkPolicy", {"enabled": bool, "from": list[dict[str, Any]]})
"""`spec.networkPolicy`; its peers are Kubernetes' own."""


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
    adminKeySecret: str | None
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


class Pause(TypedDict):
    """`spec.rollout.canary.steps[].pause`."""

    duration: str | None


class CanaryStep(TypedDict):
    """An item of `spec.rollout.canary.steps`."""

    pods: int | str
    pause: Pause | None


class Canary(TypedDict):
    """`spec.rollout.canary`."""

    steps: list[CanaryStep]
    progressDeadlineSeconds: int
    onFailure: Literal["Halt", "Rollback"]
    analysis: Analysis | None


class BlueGreen(TypedDict):
    """`spec.rollout.blueGreen`."""

    autoPromoteAfter: str | None
    scaleDownDelay: str
    progressDeadlineSeconds: int
    onFailure: Literal["Halt", "Rollback"]


class Rollout(TypedDict):
    """`spec.rollout`."""

    strategy: Literal["RollingUpdate", "Canary"]
    windows: list[RestartWindow]
    history: int
    canary: Canary | None
    search: Literal["BlueGreen"] | None
    blueGreen: BlueGreen


class ComponentStorage(TypedDict, total=False):
    """`spec.components.*.storage`."""

    size: Quantity
    storageClass: str


class ServiceAccount(TypedDict, total=False):
    """`spec.components.*.serviceAccount`."""

    annotations: dict[str, str]
    create: bool
    name: str


class ClientServiceOverrides(TypedDict, total=False):
    """`spec.components.*.service`."""

    annotations: dict[str, str]
    labels: dict[str, str]
    loadBalancerClass: str
    externalTrafficPolicy: Literal["Cluster", "Local"]
    nodePort: int


class Probes(TypedDict, total=False):
    """`spec.components.*.probes`; each as in a container."""

    startup: dict[str, Any]
    liveness: dict[str, Any]
    readiness: dict[str, Any]


class ComponentOverrides(TypedDict, total=False):
    """`spec.components.*`; what is absent is as for all components. What is a map or list of Any is as in a pod."""

    env: list[dict[str, Any]]
    args: list[str]
    resources: dict[str, Any]
    storage: ComponentStorage
    nodeSelector: dict[str, str]
    tolerations: list[dict[str, Any]]
    affinity: dict[str, Any]
    topologySpreadConstraints: list[dict[str, Any]]
    priorityClassName: str
    runtimeClassName: str
    terminationGracePeriodSeconds: int
    podAnnotations: dict[str, str]
    podLabels: dict[str, str]
    serviceAccount: ServiceAccount
    service: ClientServiceOverrides
    probes: Probes
    lifecycle: dict[str, Any]
    volumes: list[dict[str, Any]]
    volumeMounts: list[dict[str, Any]]
    initContainers: list[dict[str, Any]]
    sidecars: list[dict[str, Any]]


class PatchTarget(TypedDict):
    """`spec.patches[].target`."""

    kind: str
    name: str | None
    component: str | None


class Patch(TypedDict):
    """An item of `spec.patches`: a strategic merge patch, or a list of operations of a JSON Patch."""

    target: PatchTarget
    patch: dict[str, Any] | list[Any]


class ClusterSpec(TypedDict):
    """`spec`, with every field of the schema present: defaults are filled in, and what is absent is None."""

    topology: Literal["Roles", "Unified"]
    controllers: int
    ingestNodes: int
    searchNodes: int
    nodes: int | None
    storage: Storage
    metastore: Metastore | None
    resources: ComponentResources | None
    image: Image
    monitoring: Monitoring
    network: Network
    networkPolicy: NetworkPolicy | None
    security: Security
    autoscaling: ComponentAutoscaling | None
    podDisruptionBudget: DisruptionBudget | None
    rollout: Rollout | None
    backup: Backup | None
    bootstrap: Bootstrap | None
    podAnnotations: dict[str, str]
    podLabels: dict[str, str]
    nodeSelector: dict[str, str]
    tolerations: list[dict[str, Any]]
    affinity: dict[str, Any] | None
    topologySpreadConstraints: list[dict[str, Any]]
    replication: Replication | None
    components: dict[str, ComponentOverrides] | None
    patches: list[Patch]
    templateValues: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One valid cluster; `uid` is there when it came from an API server, and makes its objects owned.

    `labels`, `annotations` and `templateValues` are the document's own, for templates; chronik's use none of them.
    """

    name: str
    namespace: str
    spec: ClusterSpec
    uid: str | None = None
    domain: str = "cluster.local"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def templateValues(self) -> Mapping[str, Any]:  # noqa: N802  # templates know it by the API's name
        """`spec.templateValues`."""
        return self.spec["templateValues"]

    @property
    def key(self) -> ClusterKey:
        """Which cluster it is."""
        return ClusterKey(self.namespace, self.name)
