"""Turn a cluster into its manifests: which templates run for which component, and in which order they come out.

Pure: templates are handed in as `Templates`. What this returns is exactly what `chronik render` prints and what apply
and the operator send. To find where a field of the spec becomes a line of a manifest, grep its last name in
`templates/`: `spec.storage.size` is in `parts/data-claim.yaml.j2`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.components import Component, components, is_blue_green, members, workload_name
from chronik.documents.writer import content_digest, ordered
from chronik.errors import TemplateError
from chronik.manifest import (
    ARCHIVE,
    CLUSTER_LABEL,
    COMPONENT_LABEL,
    CONFIGURATION,
    KIND_BY_NAME,
    MANAGED_BY,
    Manifest,
    ObjectRef,
    apply_order,
    with_own_kinds,
)
from chronik.render.pods import pod_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chronik.api.replication.mirrors import Mirror
    from chronik.api.sections.backup import Receiver
    from chronik.api.spec import Cluster, ClusterSpec, Monitor, NetworkPolicy
    from chronik.render.kubernetes import FieldTable
    from chronik.render.own import OwnTemplate
    from chronik.render.patches import Patches
    from chronik.render.templates import Templates


def _always(component: Component) -> bool:
    del component
    return True


def _in_every_spec(spec: ClusterSpec) -> bool:
    del spec
    return True


class _Use(NamedTuple):
    """One template, and the components that it runs for; `each_member` says that it runs for each member of those.

    `asked` tells of a spec whether it asks for such objects at all.
    """

    template: str
    wanted: Callable[[Component], bool] = _always
    each_member: bool = False
    asked: Callable[[ClusterSpec], bool] = _in_every_spec


def _enabled(section: NetworkPolicy | Monitor | None) -> bool:
    return section is not None and section["enabled"]


CONFIG_TEMPLATE = "configmap.yaml.j2"
"""Runs once a cluster. Its ConfigMap is named for its content: pods of each revision keep the one they began with."""

_HASH_LENGTH = 8  # hexadecimal digits of the name: 32 bits, and a cluster has two or three at a time

COMPONENT_TEMPLATES = (
    _Use("serviceaccount.yaml.j2", lambda component: component.serviceAccount is None),
    _Use("role.yaml.j2"),
    _Use("rolebinding.yaml.j2"),
    _Use("service.yaml.j2"),
    _Use("clientservice.yaml.j2", lambda component: component.type.serves_clients),
    _Use(
        "previewservice.yaml.j2",
        lambda component: component.workload == "Deployment",
        asked=lambda spec: is_blue_green(spec["rollout"]),
    ),
    _Use("memberservice.yaml.j2", lambda component: component.member, each_member=True),
    _Use("externalservice.yaml.j2", lambda component: component.external, each_member=True),
    _Use("networkpolicy.yaml.j2", asked=lambda spec: _enabled(spec["networkPolicy"])),
    _Use("statefulset.yaml.j2", lambda component: component.workload == "StatefulSet"),
    _Use("deployment.yaml.j2", lambda component: component.workload == "Deployment"),
    _Use("poddisruptionbudget.yaml.j2", lambda component: component.budget is not None),
    _Use("horizontalpodautoscaler.yaml.j2", lambda component: component.autoscaling is not None),
    _Use("servicemonitor.yaml.j2", asked=lambda spec: _enabled(spec["monitoring"]["serviceMonitor"])),
    _Use("podmonitor.yaml.j2", asked=lambda spec: _enabled(spec["monitoring"]["podMonitor"])),
)

MIRROR_CONFIG_TEMPLATE = "mirrorconfigmap.yaml.j2"
MIRROR_TEMPLATES = ("serviceaccount.yaml.j2", "mirrordeployment.yaml.j2", "poddisruptionbudget.yaml.j2")
"""Each runs once for each source of `spec.replication`."""
MIRROR_MONITOR_TEMPLATE = "mirrorpodmonitor.yaml.j2"
"""Runs for each source, too, if `spec.monitoring` asks for PodMonitors."""
RECEIVER_TEMPLATES = ("serviceaccount.yaml.j2", "backup-receiver.yaml.j2")
"""Each runs once, with `spec.backup.metastore.archive`."""


def render(
    cluster: Cluster,
    templates: Templates,
    fields: FieldTable | None = None,
    patching: Callable[[Cluster], Patches] | None = None,
    own: Sequence[OwnTemplate] = (),
) -> list[Manifest]:
    """Return all manifests of a cluster, in the order in which they are applied.

    With `fields` they are held to what Kubernetes knows, which chronik's own templates keep to. `patching` returns what
    carries out `spec.patches`; a cluster without any does not need it. `own` are templates that add objects.

    Raises:
        TemplateError: a template is broken or does not make a Kubernetes object; it names template and line.
        PatchError: a patch does not fit.
    """
    patches = patching(cluster) if patching and cluster.spec["patches"] else None
    made: dict[ObjectRef, Manifest] = {}
    for file, manifest in (*_manifests(cluster, templates, patches, own), *_added(cluster, templates, patches, own)):
        for problem in fields.problems(manifest) if fields else ():
            about = problem.message if problem.path == "kind" else f"{problem.path} {problem.message}"
            message = f"{ObjectRef.of(manifest)}: {about}"
            raise TemplateError(message, template=file, hint=problem.hint, word=problem.key)
        ref = ObjectRef.of(manifest)
        if ref in made:
            raise TemplateError(f"{ref} is made a second time: its name has to tell it from the first", template=file)
        made[ref] = ordered(manifest)
    if patches:
        patches.check_all_used()
    return sorted(made.values(), key=apply_order)


def _manifests(
    cluster: Cluster, templates: Templates, patches: Patches | None, own: Sequence[OwnTemplate]
) -> Iterator[tuple[str, Manifest]]:
    patched = patches.patched if patches else lambda manifest: manifest
    group = members(cluster)
    shared = {"cluster": cluster, "spec": cluster.spec, "members": group}
    base = f"{cluster.name}-{CONFIGURATION}"
    config = {**shared, "name": base, "labels": _labels(cluster, CONFIGURATION)}
    with _rendering(str(cluster.key)):
        config_map = hashed = patched(render_one(templates, CONFIG_TEMPLATE, config))
        # Members come and go while the others run, and learn of it by the admin API. They read the list when they
        # start, so it has to grow in place, under a name that stays: another name would change the pod template, and
        # restart every node of a cluster that is to grow from 3 to 5. What is said of the first alone is all the rest.
        if group:
            hashed = patched(render_one(templates, CONFIG_TEMPLATE, {**config, "members": group[:1]}))
    configuration = _named_for_content(config_map, hashed, base)
    kinds = {each.kind for each in own if each.kind.name not in KIND_BY_NAME}
    yield CONFIG_TEMPLATE, with_own_kinds(config_map, kinds) if kinds else config_map
    uses = [use for use in COMPONENT_TEMPLATES if use.asked(cluster.spec)]
    for component in components(cluster):
        variables = {
            **shared,
            "component": component,
            "pod": pod_settings(cluster, component.name),
            "name": workload_name(cluster.name, component.name),
            "labels": _labels(cluster, component.name),
            "selector": _selector(cluster, component.name),
            **configuration,
        }
        for use in uses:
            if not use.wanted(component):
                continue
            for more in [{"member": each} for each in group] if use.each_member else [{}]:
                with _rendering(f"component {component.name} of {cluster.key}"):
                    made = render_one(templates, use.template, {**variables, **more})
                yield use.template, patched(made)
    for mirror in _mirrors(cluster):
        with _rendering(f"the mirror of {mirror.source['name']} in {cluster.key}"):
            yield from _mirror_manifests(shared, mirror, templates, patched)
    archive = _receiver(cluster)
    if archive:
        with _rendering(f"the archive of {cluster.key}"):
            yield from _receiver_manifests(shared, archive, templates, patched)


def _receiver_manifests(
    shared: dict[str, Any], archive: Receiver, templates: Templates, patched: Callable[[Manifest], Manifest]
) -> Iterator[tuple[str, Manifest]]:
    cluster = shared["cluster"]
    variables = {
        **shared,
        "component": archive,
        "receiver": archive,
        "database": True,
        "record": "",
        "pod": pod_settings(cluster, ARCHIVE),
        "name": workload_name(cluster.name, ARCHIVE),
        "labels": _labels(cluster, ARCHIVE),
        "selector": _selector(cluster, ARCHIVE),
    }
    for template in RECEIVER_TEMPLATES:
        yield template, patched(render_one(templates, template, variables))


def _mirror_manifests(
    shared: dict[str, Any], mirror: Mirror, templates: Templates, patched: Callable[[Manifest], Manifest]
) -> Iterator[tuple[str, Manifest]]:
    cluster = shared["cluster"]
    pod = pod_settings(cluster, mirror.name)
    variables = {
        **shared,
        "component": mirror,
        "mirror": mirror,
        "pod": {**pod, "resources": None} if mirror.resources else pod,  # the source's own win over all mirrors'
        "name": workload_name(cluster.name, mirror.name),
        "labels": _labels(cluster, mirror.name),
        "selector": _selector(cluster, mirror.name),
    }
    config_map = patched(render_one(templates, MIRROR_CONFIG_TEMPLATE, variables))
    variables |= _named_for_content(config_map, config_map, variables["name"])
    yield MIRROR_CONFIG_TEMPLATE, config_map
    monitors = _enabled(cluster.spec["monitoring"]["podMonitor"])
    for template in (*MIRROR_TEMPLATES, *([MIRROR_MONITOR_TEMPLATE] if monitors else [])):
        yield template, patched(render_one(templates, template, variables))


def _named_for_content(config_map: Manifest, hashed: Manifest, base: str) -> dict[str, str]:
    """Name a ConfigMap for what is `hashed` of its content, and return what its pods' templates say of it."""
    config_hash = content_digest([hashed.get("data", {}), hashed.get("binaryData", {})])
    if config_map["metadata"]["name"] == base:  # an override may give it a name of its own
        config_map["metadata"]["name"] = f"{base}-{config_hash[:_HASH_LENGTH]}"
    return {"configHash": config_hash, "configName": config_map["metadata"]["name"]}


def _added(
    cluster: Cluster, templates: Templates, patches: Patches | None, own: Sequence[OwnTemplate]
) -> Iterator[tuple[str, Manifest]]:
    """Yield what templates of the user's add; one that prints nothing adds nothing."""
    if not own:
        return
    from chronik.render.own import part_of, uses  # noqa: PLC0415  # most users have no such template

    patched = patches.patched if patches else lambda manifest: manifest
    shared = {"cluster": cluster, "spec": cluster.spec, "members": members(cluster)}
    for each, more, component, words in uses(own, cluster):
        variables = {**shared, **more, "labels": _labels(cluster, component), "selector": _selector(cluster, component)}
        with _rendering(words):
            made = templates.render(each.file, variables)
            if made is not None:
                manifest = _manifest(made, each.file)
                yield each.file, patched(part_of(cluster, each, manifest, variables))


@contextmanager
def _rendering(what: str) -> Iterator[None]:
    """Have an error say for what its template was rendered."""
    try:
        yield
    except TemplateError as error:
        error.rendering = what
        raise


def _labels(cluster: Cluster, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "chronik-stream",
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/component": component,
        **MANAGED_BY,
        CLUSTER_LABEL: cluster.name,
        COMPONENT_LABEL: component,
    }


def _selector(cluster: Cluster, component: str) -> dict[str, str]:
    """Return what selects a component's pods: never a version or a user's label, for selectors cannot change."""
    return {"app.kubernetes.io/instance": cluster.name, "app.kubernetes.io/component": component}


_API_VERSION = re.compile(r"([a-z0-9.-]+/)?v[0-9][a-z0-9]*")


def render_one(templates: Templates, file: str, variables: dict[str, Any]) -> Manifest:
    """Return the manifest that one template makes, of a cluster or of the operator itself.

    Raises:
        TemplateError: the template is broken or does not make a Kubernetes object.
    """
    return _manifest(templates.render(file, variables), file)


def _receiver(cluster: Cluster) -> Receiver | None:
    if not cluster.spec["backup"]:
        return None
    from chronik.api.sections.backup import receiver  # noqa: PLC0415  # most clusters have none

    return receiver(cluster.spec["backup"], cluster.key)


def _mirrors(cluster: Cluster) -> list[Mirror]:
    if not cluster.spec["replication"]:
        return []
    from chronik.api.replication.mirrors import mirrors  # noqa: PLC0415  # most clusters have none

    return mirrors(cluster)


def _manifest(made: Any, file: str) -> Manifest:
    """Return what a template has made, if it is a Kubernetes object."""
    if not isinstance(made, dict):
        raise TemplateError("the template does not make a map", template=file)
    if not _API_VERSION.fullmatch(str(made.get("apiVersion"))) or not isinstance(made.get("kind"), str):
        raise TemplateError("the template does not say which apiVersion and kind it makes", template=file)
    metadata = made.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise TemplateError(
            'the template makes no metadata.name: begin with `metadata: {{ part("metadata") }}`', template=file
        )
    for field, kind in (("namespace", str), ("labels", dict), ("annotations", dict)):
        if not isinstance(metadata.get(field, kind()), kind):
            raise TemplateError(f"metadata.{field} has to be a {'map' if kind is dict else 'string'}", template=file)
    return made
