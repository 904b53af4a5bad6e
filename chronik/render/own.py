"""Templates of the user's that replace none of chronik's: each adds an object, for the cluster or for each component.

For what it adds one stands in a comment in its first line. Its apiVersion and kind are plain text, because they have to
be known before anything is rendered: the operator watches the kind, and `chronik install` grants the rights to it.
Whatever the template prints, its object is made part of the cluster: it lies in its namespace, with its labels and its
owner.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from chronik.api.components import components, workload_name
from chronik.errors import TemplateError
from chronik.manifest import (
    CLAIM,
    CLUSTER_KIND,
    COMPONENT_LABEL,
    COMPONENT_NAMES,
    INSTANCE_LABEL,
    KIND_BY_NAME,
    OTHER_KINDS,
    POD,
    SECRET,
    KindName,
    ObjectRef,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

FIRST_LINES = "{# for: cluster #} or {# for: component #}"
_FOR = re.compile(r"\{#-?\s*for:\s*(?P<for>\w+)\s*(,\s*resource:\s*(?P<resource>[a-z][a-z0-9]*)\s*)?-?#\}")
_BEGINS = re.compile(r"\{#-?\s*(for|scope)\b")
_PLAIN = re.compile(r"(apiVersion|kind):[ \t]*([\"']?)([\w./-]+)\2[ \t]*(?:#.*)?")
_COMPONENT_PART = "app.kubernetes.io/component"

CLUSTER_SCOPED_KINDS = frozenset(
    {
        *("APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterIssuer", "ClusterRole"),
        *("ClusterRoleBinding", "ClusterSecretStore", "ClusterTrustBundle", "ComponentStatus"),
        *("CustomResourceDefinition", "DeviceClass", "FlowSchema", "GatewayClass", "IPAddress", "IngressClass"),
        *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "Namespace"),
        *("Node", "PersistentVolume", "PriorityClass", "PriorityLevelConfiguration", "ResourceSlice", "RuntimeClass"),
        *("SelfSubjectAccessReview", "SelfSubjectReview", "SelfSubjectRulesReview", "ServiceCIDR", "StorageClass"),
        *("StorageVersion", "StorageVersionMigration", "SubjectAccessReview", "TokenReview"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
        *("VolumeAttachment", "VolumeAttributesClass", "VolumeGroupSnapshotClass", "VolumeGroupSnapshotContent"),
        *("VolumeSnapshotClass", "VolumeSnapshotContent"),
    }
)
"""Kinds whose objects lie in no namespace, as far as they are known here; of others the server is asked."""
CLUSTER_SCOPED = (
    "A cluster's objects lie in its namespace: Kubernetes would not delete this one along with its cluster, and"
    " clusters of one name in two namespaces would fight for it. Keep it beside the clusters."
)
_REFUSED = {
    CLAIM.name: "chronik never deletes a volume claim, so it would stay. Volumes of pods are volumes in the spec.",
    POD.name: "A pod by itself is not made again where its node fails. Write a Deployment, Job or CronJob.",
    SECRET.name: (
        "What is in it would stand in templates or documents, and the operator may write no Secrets. Name a Secret that"
        " is there, or write an ExternalSecret or a SealedSecret."
    ),
    CLUSTER_KIND: "A cluster is no part of another one. Write a second document.",
}


class OwnTemplate(NamedTuple):
    """A template that adds an object. `resource` is how URLs and access control spell its kind, as far as is known."""

    file: str
    made_for: Literal["cluster", "component"]
    kind: KindName
    resource: str


def own_template(file: str, text: str) -> OwnTemplate:
    """Read what a template that replaces none says of itself.

    Raises:
        TemplateError: it does not say for what it is or which kind it makes, or chronik cannot keep such a kind.
    """
    lines = text.splitlines() or [""]
    found = _FOR.match(lines[0])
    if found is None or found["for"] not in {"cluster", "component"}:
        raise _no_first_line(file, lines[0], found)
    kind = KindName(_said(file, lines, "apiVersion"), _said(file, lines, "kind"))
    _check_kind(file, kind, _line_of(lines, "kind"))
    known = KIND_BY_NAME.get(kind.name)
    resource = known.plural if known else found["resource"] or resource_of(kind.name)
    return OwnTemplate(file, cast('Literal["cluster", "component"]', found["for"]), kind, resource)


def is_own(text: str) -> bool:
    """Return whether a template says for what it adds an object."""
    return _FOR.match(text) is not None


def check_together(own: Iterable[OwnTemplate]) -> None:
    """Raise TemplateError for a kind that two templates take from two APIs: objects are told apart by kind and name."""
    seen: dict[str, OwnTemplate] = {}
    for each in own:
        other = seen.setdefault(each.kind.name, each)
        if other.kind != each.kind:
            here, there = each.kind.api_version, other.kind.api_version
            message = f"{each.kind.name} is of {here} here, and of {there} in {other.file}"
            raise TemplateError(message, template=each.file, hint="Take both from the same API.", word=here)


def resource_of(kind: str) -> str:
    """Return how URLs spell a kind, as far as its name tells: `networkpolicies`, `gateways`, `ingresses`."""
    name = kind.lower()
    if name.endswith("endpoints"):
        return name
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return f"{name}es"
    return f"{name[:-1]}ies" if _CONSONANT_Y.search(name) else f"{name}s"


_CONSONANT_Y = re.compile("[^aeiou]y$")


def _no_first_line(file: str, line: str, found: re.Match[str] | None) -> TemplateError:
    if found is not None:
        message = f"an object is added for the cluster or for each component, and not for {found['for']!r}"
        hint = f"Write {FIRST_LINES} as the first line."
        if found["for"] in COMPONENT_NAMES:
            condition = f'{{% if component.name == "{found["for"]}" %}}'
            hint = f"Write {{# for: component #}} as the first line, and {condition} below it, with its {{% endif %}}."
        return TemplateError(message, template=file, line=1, hint=hint, word=found["for"])
    if _BEGINS.match(line):
        message = f"the first line does not say for what this adds an object: {line.strip()[:60]}"
        hint = f"Write {FIRST_LINES}, and nothing else in that line."
        return TemplateError(message, template=file, line=1, hint=hint)
    message = "replaces no template of chronik's, and its first line does not say for what it adds an object"
    return TemplateError(message, template=file, hint=f"To add an object, write {FIRST_LINES} as the first line.")


def _said(file: str, lines: list[str], key: str) -> str:
    """Return the plain value of a key at the top of a template."""
    values = {found[3] for line in lines if (found := _PLAIN.fullmatch(line.rstrip())) and found[1] == key}
    if len(values) == 1 and _line_of(lines, key, plain=False) == 1:
        return values.pop()
    example = "monitoring.coreos.com/v1" if key == "apiVersion" else "ServiceMonitor"
    hint = f"Write one line such as `{key}: {example}`, not indented, and without {{{{ }}}}."
    message = f"{key} has to be plain text: it is known before anything is rendered, for rights and watches"
    if len(values) > 1:
        message = f"says {' and '.join(sorted(values))} for {key}, and a template makes objects of one kind"
    raise TemplateError(message, template=file, line=_line_of(lines, key), hint=hint)


def _line_of(lines: list[str], key: str, *, plain: bool = True) -> int | None:
    """Return in which line a key stands at the top of a template; not `plain`: how many different values it has."""
    found = [(number, line) for number, line in enumerate(lines, start=1) if re.match(rf"{key}\s*:", line)]
    if not plain:
        return len({line.partition("#")[0].strip() for _, line in found})
    return found[0][0] if found else None


def _check_kind(file: str, kind: KindName, line: int | None) -> None:
    def refused(message: str, hint: str) -> TemplateError:
        return TemplateError(message, template=file, line=line, hint=hint, word=kind.name)

    if kind.name in _REFUSED:
        raise refused(f"chronik keeps no object of kind {kind.name}", _REFUSED[kind.name])
    if kind.name in CLUSTER_SCOPED_KINDS:
        raise refused(f"{kind.name} lies in no namespace, so it cannot be part of a cluster", CLUSTER_SCOPED)
    taken = {each.name: each for each in (*KIND_BY_NAME.values(), *OTHER_KINDS)}.get(kind.name)
    if taken and taken.api_version != kind.api_version:
        message = f"{kind.name} of {kind.api_version} cannot be told from {kind.name} of {taken.api_version}"
        raise refused(message, "chronik tells objects apart by kind and name. Keep it beside the clusters.")
    if taken and taken in OTHER_KINDS:
        raise refused(f"chronik keeps no object of kind {kind.name}", "It writes some for purposes of its own.")


# --- the object -------------------------------------------------------------------------------------------------------


def uses(own: Iterable[OwnTemplate], cluster: Cluster) -> list[tuple[OwnTemplate, dict[str, Any], str, str]]:
    """Return for what each template runs: itself, its variables, what its object is part of, and in words."""
    found: list[tuple[OwnTemplate, dict[str, Any], str, str]] = []
    for each in own:
        if each.made_for == "cluster":
            found.append((each, {"name": cluster.name}, "cluster", str(cluster.key)))
            continue
        for component in components(cluster):
            variables = {"component": component, "name": workload_name(cluster.name, component.name)}
            found.append((each, variables, component.name, f"component {component.name} of {cluster.key}"))
    return found


def part_of(cluster: Cluster, own: OwnTemplate, manifest: Manifest, variables: Mapping[str, Any]) -> Manifest:
    """Return what a template has made as a part of the cluster: in its namespace, with its labels and its owner.

    Raises:
        TemplateError: it is of another kind than the template says, in another namespace, or has pods that would be
            taken for those of a component.
    """
    if KindName.of(manifest) != own.kind:
        message = f"makes a {KindName.of(manifest)}, and says {own.kind} in its text"
        raise TemplateError(message, template=own.file, word="kind")
    metadata = manifest["metadata"]
    if metadata.get("namespace", cluster.namespace) != cluster.namespace:
        message = f"puts {ObjectRef.of(manifest)} into another namespace than that of its cluster, {cluster.namespace}"
        hint = 'Begin with `metadata: {{ part("metadata") }}`, or leave the namespace out.'
        raise TemplateError(message, template=own.file, hint=hint, word="namespace")
    _check_pods(cluster, own, manifest)
    ours: dict[str, Any] = {"namespace": cluster.namespace}
    ours["labels"] = {**metadata.get("labels", {}), **variables["labels"]}
    if cluster.uid:
        ours["ownerReferences"] = [_owner(cluster)]
    return manifest | {"metadata": {**metadata, **ours}}


def _owner(cluster: Cluster) -> dict[str, Any]:
    """Return the owner reference that parts/metadata.yaml.j2 prints."""
    names = {"apiVersion": "chronik.stream/v1alpha1", "kind": CLUSTER_KIND, "name": cluster.name, "uid": cluster.uid}
    return {**names, "controller": True, "blockOwnerDeletion": True}


def _check_pods(cluster: Cluster, own: OwnTemplate, manifest: Manifest) -> None:
    for template in _pod_templates(manifest.get("spec")):
        metadata = template.get("metadata") or {}
        labels = (metadata.get("labels") if isinstance(metadata, dict) else None) or {}
        if not isinstance(labels, dict) or labels.get(INSTANCE_LABEL) != cluster.name:
            continue
        component = labels.get(COMPONENT_LABEL, labels.get(_COMPONENT_PART))
        if component in COMPONENT_NAMES:
            message = f"the pods of {ObjectRef.of(manifest)} have the labels of component {component},"
            message += " whose Services and budgets would take them for its own"
            hint = f"Give them labels of their own, such as {INSTANCE_LABEL}: {{{{ name }}}}-{own.kind.name.lower()}."
            raise TemplateError(message, template=own.file, hint=hint, word="labels")


def _pod_templates(spec: Any) -> list[dict[str, Any]]:
    """Return the pod templates of a workload: of a Deployment, a Job, or a CronJob's Job."""
    if not isinstance(spec, dict):
        return []
    job = spec.get("jobTemplate")
    inner = _pod_templates(job.get("spec")) if isinstance(job, dict) else []
    template = spec.get("template")
    return [template, *inner] if isinstance(template, dict) else inner
