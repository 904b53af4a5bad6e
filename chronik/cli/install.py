"""`chronik install`: print the manifests of the operator itself.

Needs no cluster. `render.install` turns templates, definitions and alerts into manifests; this reads them.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chronik.cli import parameters
from chronik.cli.main import (
    output_dir_option,
    output_option,
    print_manifests,
    templates_configmap_option,
    templates_option,
)
from chronik.manifest import FEATURES
from chronik.render.install import (
    IMAGE,
    MEMBER_NAME,
    NAME,
    NAMESPACE,
    OPERATOR_NAME,
    InstallOptions,
    TemplateSource,
    install_manifests,
    member_manifests,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.manifest import Manifest
    from chronik.offline.template_sets import TemplateSet
    from chronik.render.templates import Templates


_OPERATOR_OPTIONS = (
    click.option(
        "--namespace",
        "-n",
        type=parameters.NAMESPACE,
        metavar="NAME",
        default=NAMESPACE,
        show_default=True,
        help="Where the operator runs. It is created.",
    ),
    click.option(
        "--name",
        type=parameters.form("name", OPERATOR_NAME, "name of an operator"),
        metavar="NAME",
        default=NAME,
        show_default=True,
        help="What the operator's objects are called.",
    ),
    click.option(
        "--watch-namespace",
        "watch",
        multiple=True,
        type=parameters.NAMESPACE,
        metavar="NAMESPACE",
        help="Manage the clusters of this namespace, and ask for no right beyond it. Repeatable.  [default: all]",
    ),
    click.option(
        "--selector",
        "shard",
        type=parameters.SELECTOR,
        metavar="SELECTOR",
        help="Manage only clusters with these labels: KEY=VALUE,…",
    ),
    click.option(
        "--image",
        type=parameters.IMAGE,
        metavar="IMAGE",
        default=IMAGE,
        show_default=True,
        help="The operator's image.",
    ),
    click.option(
        "--image-pull-secret",
        "pull_secrets",
        multiple=True,
        type=parameters.OBJECT_NAME,
        metavar="NAME",
        help="To pull it. Repeatable.",
    ),
    click.option(
        "--replicas",
        type=click.IntRange(0, parameters.MOST_REPLICAS),
        default=2,
        show_default=True,
        help="One leads, the rest wait.",
    ),
    click.option(
        "--priority-class",
        type=parameters.OBJECT_NAME,
        metavar="NAME",
        help="The PriorityClass of the operator's pods.",
    ),
    click.option(
        "--no-crd", is_flag=True, help="Leave out the CRD and its policy, which are the cluster administrator's."
    ),
    parameters.features_option(
        f"What the operator does on top, and gets rights for: {', '.join(FEATURES)}.  [default: none]"
    ),
    click.option(
        "--service-monitor", is_flag=True, help="Add a ServiceMonitor and alerts for the Prometheus operator."
    ),
    templates_option,
    templates_configmap_option,
)
"""What the operator is to be, and how it is installed."""


class _Asked(NamedTuple):
    """An operator as it was asked for, and its templates."""

    options: InstallOptions
    templates: TemplateSet

    def compiled(self) -> Templates:
        """Return the templates, ready to be rendered."""
        from chronik.offline.caches import bytecode_cache  # noqa: PLC0415  # --help stays quick
        from chronik.render.templates import Templates  # noqa: PLC0415  # as above

        return Templates(self.templates.read, bytecode_cache())


def _operator_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say what operator is meant; it gets them as one `asked`."""

    @wraps(command)
    def given(
        *,
        templates: str | None,
        templates_configmap: tuple[str, str] | None,
        no_crd: bool,
        shard: str | None,
        **others: Any,
    ) -> Any:
        from chronik.offline.template_sets import template_set  # noqa: PLC0415  # as above

        mine = {each.name for each in fields(InstallOptions)}
        about = {name: others.pop(name) for name in [*others] if name in mine}
        found = template_set(templates)
        options = InstallOptions(
            shard=shard or "",
            with_definitions=not no_crd,
            own=found.own,
            source=_source(templates_configmap, found),
            **about,
        )
        return command(asked=_Asked(options, found), **others)

    return parameters.with_options(*_OPERATOR_OPTIONS)(given)


@click.command()
@_operator_options
@click.option(
    "--member",
    is_flag=True,
    help="Print what a member of a federation gives its hub instead: an account for one kind in --namespace.",
)
@click.option(
    "--on-delete",
    type=click.Choice(["Orphan", "Delete"]),
    default="Orphan",
    show_default=True,
    help="With --member: whether the hub may delete the ChronikCluster, as spec.onDelete says.",
)
@output_option
@output_dir_option
def install(asked: _Asked, member: bool, on_delete: str, output: str, output_dir: str | None) -> None:
    """Print the manifests of the operator itself.

    Needs no cluster. Rights to the kinds that templates of yours add are granted with --templates. Install or upgrade
    with: chronik install | kubectl apply --server-side -f -
    """
    from chronik.offline import loading as offline  # noqa: PLC0415  # as above

    options = asked.options
    if member:
        account = replace(options, name=MEMBER_NAME) if options.name == NAME else options
        made = member_manifests(account, asked.compiled(), deletes=on_delete == "Delete")
        print_manifests(made, output, output_dir, "chronik install --member")
        return
    definitions = offline.definitions(options.features) if options.with_definitions else []
    alerts = _alerts() if options.service_monitor else []
    manifests = install_manifests(options, asked.compiled(), definitions, alerts)
    print_manifests(manifests, output, output_dir, "chronik install")


def _source(named: tuple[str, str] | None, templates: TemplateSet) -> TemplateSource | None:
    """Return the ConfigMap that the operator reads templates from; those of a folder are what is in it."""
    if named is None:
        return None
    from chronik.offline.template_sets import configmap_data  # noqa: PLC0415  # as above

    return TemplateSource(*named, configmap_data(templates) or None)


def _alerts() -> list[Manifest]:
    """Return the PrometheusRules that come with chronik."""
    import yaml  # noqa: PLC0415  # only for those who want them

    from chronik.offline import assets  # noqa: PLC0415

    return list(yaml.safe_load_all((assets.DEPLOY / "prometheusrule.yaml").read_text("utf-8")))
