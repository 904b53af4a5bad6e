"""What a component's pods are made with: `spec.components.<component>` laid over what the spec says for all of them.

Pure, and in one place, so that templates read one value each and need not know which of the two it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.manifest import MIRROR_PREFIX, MIRROR_SECTION
from chronik.quantity import canonical_quantity

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.sections.resources import Quantity
    from chronik.api.spec import Cluster, ComponentOverrides

Parts = list[dict[str, Any]]

_QUANTITIES = frozenset({("resources", "requests"), ("resources", "limits")})
_QUANTITY = frozenset({("emptyDir", "sizeLimit")})


class Volume(TypedDict):
    """The size and the class of a data volume; None is the default class of the Kubernetes cluster."""

    size: Quantity
    storageClass: str | None


class ClientService(TypedDict):
    """What clients' Service has beside chronik's own."""

    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    loadBalancerClass: str | None
    externalTrafficPolicy: str | None
    nodePort: int | None


class Pod(TypedDict):
    """The settings of a component's pods. Templates see them as `pod`; what is absent is None, or empty.

    `annotations` are those of this component alone, as they win over chronik's. `resources` have the shape of
    Kubernetes, and take the place of `component.resources`. `startup`, `liveness` and `readiness` are what probes have
    beside or instead of chronik's own.
    """

    # The names are the API's, as templates have them.
    labels: dict[str, str]
    annotations: dict[str, str]
    nodeSelector: dict[str, str]
    tolerations: Parts
    affinity: dict[str, Any] | None
    topologySpreadConstraints: Parts
    storage: Volume
    serviceAccountAnnotations: dict[str, str]
    service: ClientService
    env: Parts
    args: list[str]
    resources: dict[str, Any] | None
    priorityClassName: str | None
    runtimeClassName: str | None
    terminationGracePeriodSeconds: int
    startup: dict[str, Any]
    liveness: dict[str, Any]
    readiness: dict[str, Any]
    lifecycle: dict[str, Any]
    volumes: Parts
    volumeMounts: Parts
    initContainers: Parts
    sidecars: Parts


def pod_settings(cluster: Cluster, component: str) -> Pod:
    """Return the settings of a component's pods.

    Labels are laid over each other key by key, probes field by field; any other field of the component takes the place
    of the one for all, even if it is empty.
    """
    spec = cluster.spec
    own: ComponentOverrides = (spec["components"] or {}).get(_section(component), {})
    storage, probes, service = own.get("storage", {}), own.get("probes", {}), own.get("service", {})
    return Pod(
        labels={**spec["podLabels"], **own.get("podLabels", {})},
        annotations=own.get("podAnnotations", {}),
        nodeSelector=own.get("nodeSelector", spec["nodeSelector"]),
        tolerations=own.get("tolerations", spec["tolerations"]),
        affinity=own.get("affinity", spec["affinity"]),
        topologySpreadConstraints=own.get("topologySpreadConstraints", spec["topologySpreadConstraints"]),
        storage=Volume(
            size=storage.get("size", spec["storage"]["size"]),
            storageClass=storage.get("storageClass", spec["storage"]["storageClass"]),
        ),
        serviceAccountAnnotations=own.get("serviceAccount", {}).get("annotations", {}),
        service=ClientService(
            annotations=service.get("annotations", {}),
            labels=service.get("labels", {}),
            loadBalancerClass=service.get("loadBalancerClass"),
            externalTrafficPolicy=service.get("externalTrafficPolicy"),
            nodePort=service.get("nodePort"),
        ),
        env=own.get("env", []),
        args=own.get("args", []),
        resources=canonical({"resources": own["resources"]})["resources"] if "resources" in own else None,
        priorityClassName=own.get("priorityClassName"),
        runtimeClassName=own.get("runtimeClassName"),
        terminationGracePeriodSeconds=own.get("terminationGracePeriodSeconds", 60),
        startup=probes.get("startup", {}),
        liveness=probes.get("liveness", {}),
        readiness=probes.get("readiness", {}),
        lifecycle=own.get("lifecycle", {}),
        volumes=canonical(own.get("volumes", [])),
        volumeMounts=own.get("volumeMounts", []),
        initContainers=canonical(own.get("initContainers", [])),
        sidecars=canonical(own.get("sidecars", [])),
    )


def _section(component: str) -> str:
    """Return what `spec.components` calls a component: all mirrors are one there."""
    return MIRROR_SECTION if component.startswith(MIRROR_PREFIX) else component


_WRITTEN = {
    "labels": "podLabels",
    "annotations": "podAnnotations",
    "serviceAccountAnnotations": "serviceAccount.annotations",
    "startup": "probes.startup",
    "liveness": "probes.liveness",
    "readiness": "probes.readiness",
}
"""How `spec.components` calls what templates see under another name."""
_FOR_ALL = ("podLabels", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "storage")


def written_in(cluster: Cluster, component: str, setting: str) -> list[tuple[str, ...]]:
    """Return where in the spec a setting of a component's pods is written, such as `storage.size`.

    In `spec.components` if it is there, else where it is written for all components; labels are in both.
    """
    name, _, rest = setting.partition(".")
    field = (*_WRITTEN.get(name, name).split("."), *filter(None, rest.split(".")))
    section = _section(component)
    own: Any = (cluster.spec["components"] or {}).get(section, {})
    for step in field:
        own = own.get(step) if isinstance(own, dict) else None
    there = ("spec", "components", section, *field)
    if field[0] not in _FOR_ALL:
        return [there]
    if field[0] == "podLabels":
        return [("spec", *field), *([there] if own is not None else [])]
    return [there if own is not None else ("spec", *field)]


def canonical(value: Any, place: tuple[str, str] = ("", "")) -> Any:
    """Return parts of a pod with quantities spelt as the API server does, so that they never look changed.

    `place` is the name of the field that a value is in, and of the one around that.
    """
    if isinstance(value, dict):
        if place in _QUANTITIES:
            return {name: canonical_quantity(each) for name, each in value.items()}
        return {name: canonical(each, (place[1], name)) for name, each in value.items()}
    if isinstance(value, list):
        return [canonical(each, place) for each in value]
    return canonical_quantity(value) if place in _QUANTITY else value
