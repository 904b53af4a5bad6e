"""Where a field belongs that a section does not have.

Charts and operators of others have other names for the same things, or have them elsewhere: `extraEnv`, a
`storageClassName` at the top, `replicas` of a component. The nearest spelling alone would often lead astray.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chronik.problem import Path

    Place = tuple[str, ...]

_COUNT_FIELDS: dict[str, str] = {each.name: each.count_field for each in COMPONENTS.values()}
_MOST_TEXT = 60
_MOST_NAMED = 3
_ANY = "<component>"


def _named(*names: str, field: str) -> dict[str, str]:
    return dict.fromkeys(names, field)


_OF_COMPONENTS = {
    **_named("extraenv", "extraenvvars", "envvars", "environment", "additionalenv", field="env"),
    **_named("containers", "extracontainers", "additionalcontainers", "sidecarcontainers", "sidecar", field="sidecars"),
    **_named("extrainitcontainers", "additionalinitcontainers", "initcontainer", field="initContainers"),
    **_named("extravolumes", "additionalvolumes", "volume", field="volumes"),
    **_named("extravolumemounts", "additionalvolumemounts", "volumemount", field="volumeMounts"),
    **_named("storageclass", "storageclassname", field="storage.storageClass"),
    **_named("storagesize", "volumesize", "disksize", field="storage.size"),
    **_named("persistence", "volumeclaimtemplate", "volumeclaimtemplates", "datavolume", field="storage"),
    **_named("livenessprobe", "customlivenessprobe", field="probes.liveness"),
    **_named("readinessprobe", "customreadinessprobe", field="probes.readiness"),
    **_named("startupprobe", "customstartupprobe", field="probes.startup"),
    **_named("serviceannotations", field="service.annotations"),
    **_named("servicelabels", field="service.labels"),
    **_named("serviceaccountannotations", "rolearn", "iamrole", field="serviceAccount.annotations"),
    **_named("serviceaccountname", field="serviceAccount.name, with create: false"),
    **_named("extraargs", "additionalargs", "arguments", field="args"),
    **_named("priorityclass", field="priorityClassName"),
    **_named("lifecyclehooks", field="lifecycle"),
}
"""Fields of components by other names, in small letters and without hyphens."""
_OF_THE_SPEC = {
    **_named("imagepullpolicy", field="spec.image.pullPolicy"),
    **_named("imagepullsecrets", "imagepullsecret", field="spec.image.pullSecrets, a list of names"),
    **_named("version", "tag", "imagetag", "imagename", "repository", field="the tag of each image: spec.image"),
    **_named("securitycontext", "podsecuritycontext", field="spec.security.podSecurityContext"),
    **_named("containersecuritycontext", field="spec.security.containerSecurityContext"),
    **_named("servicetype", field="spec.network.serviceType"),
    **_named("listeners", "externalaccess", field="a part of spec.network"),
    **_named("metrics", "prometheus", field="a part of spec.monitoring"),
    **_named("pdb", "disruptionbudget", "budget", field="spec.podDisruptionBudget"),
    **_named("hpa", "autoscaler", field="a part of spec.autoscaling"),
}
_COUNTS = frozenset({"replicas", "replicacount", "instances", "nodecount", "nodesets", "nodepools", "brokers"})
_ENV_FROM = (
    "Each variable has an item of its own in {env}, with valueFrom.secretKeyRef or configMapKeyRef. All of a Secret at"
    " once takes a patch: spec.patches."
)
_WHOLE_POD = "What pods have is in {component}. A patch sets what has no field there: spec.patches."
_TOLD = {
    **_named("envfrom", "extraenvfrom", "extraenvvarssecret", "extraenvvarscm", field=_ENV_FROM),
    **_named("podtemplate", "template", "podspec", "pod", "overrides", "podoverrides", field=_WHOLE_POD),
}
_PATCHED = frozenset(
    {
        *("command", "hostaliases", "dnsconfig", "hostpid", "hostipc", "schedulername", "ports", "containerports"),
        *("updatestrategy", "podmanagementpolicy", "shareprocessnamespace", "minreadyseconds", "workingdir"),
        *("revisionhistorylimit", "readinessgates", "automountserviceaccounttoken", "enableservicelinks", "tty"),
        *("terminationmessagepath", "terminationmessagepolicy", "statefulset", "deployment", "hostname", "subdomain"),
    }
)
_BY_PATCH = "No field says this. A patch can: spec.patches."
_IMAGE_PARTS = frozenset({"repository", "registry", "tag", "name", "digest", "version"})


def advice(name: str, parent: Path, known: Iterable[str], spec: Mapping[str, Any]) -> str:
    """Return what to do about a field `name` that the section `parent` does not have; `known` are those that it has.

    `spec` is the schema of the spec, without references.
    """
    known, section = [*known], tuple("[]" if isinstance(step, int) else step for step in parent)
    if "components" in spec["properties"] and (told := _elsewhere(_plain(name), name, section, spec)):
        return told
    if "/" in name and "annotations" in known:
        return "Write it below annotations."
    if close := closest(name, known):
        return f"Did you mean {close}?"
    if places := _nearest(name, section, spec):
        return f"It belongs in {' or '.join(places[:_MOST_NAMED])}."
    return f"Known here: {', '.join(known)}."


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was most likely meant, whatever its case and hyphens, or the end of which it is."""
    plain = {_plain(option): option for option in known}
    found = get_close_matches(_plain(name)[:_MOST_TEXT], plain, n=1, cutoff=0.7)
    found = found or [option for option in plain if option.endswith(_plain(name))]
    return plain[found[0]] if len(found) == 1 else None


def component_key(name: str, fields: Mapping[str, Any]) -> str:
    """Return what to do about a key of `spec.components` that is no component; `fields` are those of a component."""
    if name in fields:
        return f"It belongs in {_section(_ANY)}."
    close = closest(name, _COUNT_FIELDS)
    return f"Did you mean {close}?" if close else ""


def _counts(topology: str) -> str:
    return ", ".join(each.count_field for each in COMPONENTS.values() if each.topology == topology)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _section(component: str) -> str:
    return f"spec.components.{component}"


def _elsewhere(plain: str, name: str, parent: Place, spec: Mapping[str, Any]) -> str:
    """Return where something is that people look for in the spec itself, or in a section of a component."""
    match parent:
        case ("spec",):
            return _in_spec(plain, name, spec)
        case ("spec", "image") if plain in _IMAGE_PARTS:
            return f"Each component has one text: `{_ANY}: registry.example.com/image:1.2.3`."
        case ("spec", "components", component) if component in _COUNT_FIELDS:
            return _in_component(plain, component)
        case ("spec", "components", _, "service") if plain in {"type", "servicetype"}:
            return "It is spec.network.serviceType."
    return ""


def _in_spec(plain: str, name: str, spec: Mapping[str, Any]) -> str:
    if plain in _COUNTS:
        return f"Each component has its own count: {_counts('Roles')}; in topology Unified it is {_counts('Unified')}."
    if name == "service":
        return f"Its type is spec.network.serviceType; all else is {_section(_ANY)}.service."
    if name in spec["properties"]["components"]["additionalProperties"]["properties"]:
        return f"Each component has its own: {_section(_ANY)}.{name}."
    if field := _OF_COMPONENTS.get(plain):
        for_all = field.partition(".")[0] in spec["properties"]
        return f"It is {f'spec.{field}; for one component, ' if for_all else ''}{_section(_ANY)}.{field}."
    return _said(plain, _ANY)


def _in_component(plain: str, component: str) -> str:
    if plain in _COUNTS:
        return f"It is spec.{_COUNT_FIELDS[component]}."
    if plain == "image":
        return f"It is spec.image.{component}."
    field = _OF_COMPONENTS.get(plain)
    return f"Here it is {field}." if field else _said(plain, component)


def _said(plain: str, component: str) -> str:
    if plain in _TOLD:
        return _TOLD[plain].format(component=_section(component), env=f"{_section(component)}.env")
    if plain in _OF_THE_SPEC:
        return f"It is {_OF_THE_SPEC[plain]}."
    return _BY_PATCH if plain in _PATCHED else ""


# --- fields of the same name elsewhere --------------------------------------------------------------------------------

_DEEP = 4  # below a field of a component, or of an item: other sections have nothing to do with what is written there


def _nearest(name: str, parent: Place, spec: Mapping[str, Any]) -> list[str]:
    """Return the sections that have a field of this name and are as near as any, the higher ones first."""
    there = tuple(_places(name, spec, ("spec",)))
    near = {place: _common(place, parent) for place in there}
    most = max(near.values(), default=0)
    if not most or (len(parent) >= _DEEP and most < _DEEP):
        return []
    found = [place for place in there if near[place] == most]
    depth = min(map(len, found))
    return [_written(place, parent) for place in found if len(place) == depth]


def _places(name: str, node: Mapping[str, Any], path: Place) -> Iterator[Place]:
    """Yield the sections that have a field."""
    properties = node.get("properties", {})
    if name in properties:
        yield path
    for key, child in properties.items():
        if not child.get("x-verbatim"):
            yield from _places(name, child, (*path, key))
    if isinstance(node.get("items"), dict):
        yield from _places(name, node["items"], (*path, "[]"))
    if isinstance(node.get("additionalProperties"), dict):
        yield from _places(name, node["additionalProperties"], (*path, "*"))


def _common(place: Place, parent: Place) -> int:
    """Return how many steps from the top two sections have in common."""
    steps = zip(place, parent, strict=False)
    return next(
        (number for number, (one, other) in enumerate(steps) if one not in {other, "*"}), min(len(place), len(parent))
    )


def _written(place: Place, parent: Place) -> str:
    """Return a section as people write it: of the component that the document speaks of, if of one."""
    steps = [parent[number] if step == "*" and number < len(parent) else step for number, step in enumerate(place)]
    return ".".join(_ANY if step == "*" else step for step in steps).replace(".[]", "[]")
