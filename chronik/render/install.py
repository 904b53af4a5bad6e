"""Make the operator's own manifests, with the engine that makes a cluster's: options in, manifests out.

Pure: templates, definitions and alerts are handed in. The templates lie in `templates/install/`; what the operator may
do is `templates/install/role.yaml.j2`, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik import __version__
from chronik.api import names
from chronik.documents.writer import ordered
from chronik.errors import InputError
from chronik.manifest import FEATURES, KIND_BY_NAME
from chronik.render.cluster import render_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chronik.manifest import Manifest
    from chronik.render.own import OwnTemplate
    from chronik.render.templates import Templates

NAME = "chronik-operator"
MEMBER_NAME = "chronik-hub"
"""What the account of a hub at a member is called."""
NAMESPACE = "chronik-operator-system"
IMAGE = f"chronik/operator:{__version__}"

_FEATURES = " or ".join(FEATURES)

FOLDER = "install/"
_RIGHTS = ("role", "rolebinding")
_SOURCE_RIGHTS = ("templates-role", "templates-rolebinding")
_PEOPLE = ("view-role", "edit-role")
"""What lets people who may view or edit a namespace do so with its clusters; it comes and goes with the CRD."""
_THE_REST = ("leader-role", "leader-rolebinding", "service", "deployment", "poddisruptionbudget")

OPERATOR_NAME = names.CLUSTER_NAME._replace(longest=55, allowed=names.CLUSTER_NAME.allowed.replace("41", "55"))
"""What an operator may be called: its Service is `<name>-metrics`, and a Service's name is a label of at most 63."""


class TemplateSource(NamedTuple):
    """A ConfigMap of templates, and its data, if it is to be printed as well."""

    namespace: str
    name: str
    data: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """How the operator is installed.

    It watches `watch` (namespaces that exist), or all of them if that is empty, and of their clusters those that the
    label selector `shard` takes, or all. `features` are what it does beside that, each of which takes rights of its
    own. `name` tells operators apart that share API server or namespace. `own` are the templates that add objects, and
    `source` is the ConfigMap that the operator reads templates from.

    Raises:
        InputError: a value is none that Kubernetes would take.
    """

    name: str = NAME
    namespace: str = NAMESPACE
    watch: tuple[str, ...] = ()
    shard: str = ""
    image: str = IMAGE
    pull_secrets: tuple[str, ...] = ()
    replicas: int = 2
    priority_class: str | None = None
    with_definitions: bool = True
    service_monitor: bool = False
    features: tuple[str, ...] = ()
    own: tuple[OwnTemplate, ...] = ()
    source: TemplateSource | None = None

    def __post_init__(self) -> None:
        _check("--name", self.name, OPERATOR_NAME)
        for flag, values, form in (
            ("--namespace", (self.namespace,), names.NAMESPACE),
            ("--watch-namespace", self.watch, names.NAMESPACE),
            ("--image-pull-secret", self.pull_secrets, names.OBJECT_NAME),
            ("--priority-class", () if self.priority_class is None else (self.priority_class,), names.OBJECT_NAME),
            ("--image", (self.image,), names.IMAGE),
        ):
            for value in values:
                _check(flag, value, form)
        for feature in self.features:
            if feature not in FEATURES:
                raise InputError(f"there is no feature {feature!r}", subject="--features", hint=f"Write {_FEATURES}.")
        error = names.selector_error(self.shard)
        if error:
            raise InputError(error, subject="--selector")


def _check(flag: str, value: str, form: names.Form) -> None:
    if not form.fits(value):
        what = "image reference" if form is names.IMAGE else "name that Kubernetes takes here"
        raise InputError(f"{value!r} is no {what}", subject=flag, hint=f"Write {form.allowed}.")


def install_manifests(
    options: InstallOptions, templates: Templates, definitions: Sequence[Manifest], alerts: Sequence[Manifest] = ()
) -> list[Manifest]:
    """Return the operator's manifests in an order in which one pass can apply them: Namespace and CRD come first.

    `definitions` are the CRD and its policy; `alerts` are PrometheusRules, which come along with a ServiceMonitor.

    Raises:
        TemplateError: a template is broken; it names template and line.
    """
    variables = _variables(options)
    return [
        _made("namespace", templates, variables),
        *(definitions if options.with_definitions else ()),
        *_objects(options, templates, variables),
        *((_placed(alert, options, variables["labels"]) for alert in alerts) if options.service_monitor else ()),
    ]


def member_manifests(options: InstallOptions, templates: Templates, *, deletes: bool) -> list[Manifest]:
    """Return what a member of a federation gives its hub: an account with rights to one kind in one namespace.

    With `deletes` the hub may delete the member's ChronikCluster, too.

    Raises:
        TemplateError: a template is broken; it names template and line.
    """
    verbs = ["create", *(["delete"] if deletes else []), "get", "patch", "watch"]
    labels = {"app.kubernetes.io/name": MEMBER_NAME, "app.kubernetes.io/part-of": "chronik"}
    variables = {**_variables(options), "labels": labels, "scope": options.namespace, "verbs": verbs}
    return [_made(name, templates, variables) for name in ("serviceaccount", "member-role", "rolebinding")]


def _objects(options: InstallOptions, templates: Templates, variables: dict[str, Any]) -> Iterator[Manifest]:
    yield _made("serviceaccount", templates, variables)
    if options.with_definitions:
        yield from (_made(name, templates, variables) for name in _PEOPLE)
    for scope in dict.fromkeys(options.watch) or (None,):
        yield from (_made(name, templates, variables | {"scope": scope}) for name in _RIGHTS)
    if options.source:
        yield from (_made(name, templates, variables | {"source": options.source}) for name in _SOURCE_RIGHTS)
        yield from _texts(options.source, variables["labels"])
    yield from (_made(name, templates, variables) for name in _THE_REST)
    if options.service_monitor:
        yield _made("servicemonitor", templates, variables)


def _texts(source: TemplateSource, labels: dict[str, str]) -> Iterator[Manifest]:
    """Yield the ConfigMap of templates, if its data are known."""
    if source.data:
        metadata = {"name": source.name, "namespace": source.namespace, "labels": labels}
        yield ordered({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(source.data)})


def _made(name: str, templates: Templates, variables: dict[str, Any]) -> Manifest:
    return ordered(render_one(templates, f"{FOLDER}{name}.yaml.j2", variables))


def _variables(options: InstallOptions) -> dict[str, Any]:
    selector = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": options.name}
    return {
        "options": options,
        "name": options.name,
        "namespace": options.namespace,
        "selector": selector,
        # Not managed-by: what bears that label is a cluster's, and the operator's to change.
        "labels": {**selector, "app.kubernetes.io/component": "operator", "app.kubernetes.io/part-of": "chronik"},
        "pullSecrets": [{"name": name} for name in dict.fromkeys(options.pull_secrets)],
        "args": arguments(options),
        "own": _groups(options.own),
    }


def _groups(own: Sequence[OwnTemplate]) -> list[dict[str, Any]]:
    """Return the kinds that only templates of the user's make, as access control spells them, by API group."""
    found: dict[str, set[str]] = {}
    for each in own:
        if each.kind.name not in KIND_BY_NAME:
            found.setdefault(each.kind.api_version.rpartition("/")[0], set()).add(each.resource)
    return [{"group": group, "resources": sorted(resources)} for group, resources in sorted(found.items())]


def arguments(options: InstallOptions) -> list[str]:
    """Return the command line of the operator's container, without `chronik`."""
    watched = [f"--namespace={name}" for name in dict.fromkeys(options.watch)]
    lease = [f"--lease-name={options.name}"] if options.name != NAME else []
    source = [f"--templates-configmap={options.source.namespace}/{options.source.name}"] if options.source else []
    shard = [f"--selector={options.shard}"] if options.shard else []
    return ["reconcile", *watched, *shard, *lease, *source, *_feature_arguments(options)]


def _feature_arguments(options: InstallOptions) -> list[str]:
    features = [*dict.fromkeys(options.features)]
    image = [f"--backup-image={options.image}"] if "backups" in features else []
    return [f"--features={','.join(features)}", *image] if features else []


def _placed(alert: Manifest, options: InstallOptions, labels: dict[str, str]) -> Manifest:
    """Return an alert rule as one of the operator's objects, with the labels that Prometheus may select it by."""
    metadata = alert["metadata"]
    ours = {"name": options.name, "namespace": options.namespace, "labels": {**metadata.get("labels", {}), **labels}}
    return ordered({**alert, "metadata": {**metadata, **ours}})
