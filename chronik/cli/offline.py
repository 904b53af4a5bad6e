"""The commands that need no cluster: render, validate and schema. None of them loads the Kubernetes client."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from chronik.cli import parameters, streams
from chronik.cli.federation.render import federation_options, render_all, valid_text, write_members
from chronik.cli.main import (
    documents_options,
    domain_option,
    files_option,
    namespace_option,
    output_dir_option,
    output_option,
    print_data,
    print_manifests,
    print_problems,
    recursive_option,
    show_note,
    show_problems,
    templates_option,
)
from chronik.errors import InputError, InvalidDocuments
from chronik.manifest import CLUSTER_KIND, DOCUMENT_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.api.spec import Cluster
    from chronik.federation.validation import ValidFederation
    from chronik.manifest import Manifest, ObjectRef
    from chronik.problem import Problem


@click.command()
@documents_options
@namespace_option
@templates_option
@domain_option
@output_option
@output_dir_option
@federation_options
@click.option(
    "--step",
    type=click.IntRange(1, 10),
    metavar="N",
    help="As they are at this step of a canary, for clusters without an operator.",
)
@click.option(
    "--backup",
    "described",
    type=parameters.FILE,
    metavar="FILE",
    help="The backup.json of a backup: print what recovers a cluster from it, and not the cluster.",
)
def render(
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    templates: str | None,
    cluster_domain: str,
    output: str,
    output_dir: str | None,
    members: tuple[str, ...],
    objects: bool,
    step: int | None,
    described: str | None,
) -> None:
    """Print every Kubernetes object of the clusters.

    Needs no cluster. What this prints is, field for field, what apply and the operator send. Of a ChronikFederation it
    is the ChronikCluster of each member, in a folder for each with --output-dir. With --backup it is what a cluster
    begins with: snapshots, claims, and the Job that restores the metastore, to be applied before the cluster.
    """
    from chronik.offline import loading as offline  # noqa: PLC0415  # help and completion stay quick

    federations: list[ValidFederation] = []
    clusters, warnings = offline.load_clusters(
        files, recursive=recursive, namespace=namespace, domain=cluster_domain, note=show_note, federations=federations
    )
    if (members or objects) and not federations:
        raise click.UsageError("--members and --objects are for a ChronikFederation, and there is none")
    if step is not None and federations:
        raise click.UsageError("--step is for clusters without an operator: each member's operator leads its canary")
    manifests = offline.render_clusters(clusters, templates) if step is None else _at_step(clusters, templates, step)
    if described is not None:
        if len(clusters) != 1 or federations:
            raise click.UsageError("--backup recovers one cluster: name its document alone")
        from chronik.cli.backup.printing import recovery_of  # noqa: PLC0415  # most renders recover nothing

        found = recovery_of(clusters[0], manifests, described, templates)
        show_problems(warnings)
        print_manifests(found, output, output_dir, "chronik render --backup")
        return
    made = render_all(federations, members, objects=objects, templates=templates, domain=cluster_domain)
    show_problems(warnings)
    for each in clusters:
        if each.spec["bootstrap"]:
            show_note(f"{each.key}: an operator carries spec.bootstrap out; with these objects alone nodes begin empty")
    if output_dir is None:
        manifests += [manifest for each in made.values() for manifest in each]
    if output_dir is None or clusters:
        print_manifests(manifests, output, output_dir, "chronik render")
    if output_dir is not None and made:
        write_members(made, output, output_dir)


def _at_step(clusters: Iterable[Cluster], templates: str | None, step: int) -> list[Manifest]:
    """Return the manifests of all clusters as they are at a step of their canaries."""
    from chronik.offline import loading as offline  # noqa: PLC0415  # as above
    from chronik.rollout.by_hand import at_step  # noqa: PLC0415  # most are rendered whole

    render = offline.renderer(templates)
    return [manifest for cluster in clusters for manifest in at_step(cluster, render(cluster), step)]


@click.command()
@documents_options
@namespace_option
@templates_option
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "github"]), default="text", show_default=True, help="For whom."
)
def validate(files: tuple[str, ...], recursive: bool, namespace: str | None, templates: str | None, output: str) -> int:
    """Check documents against the schema, the rules and the templates.

    Exits with 2 if there are errors; warnings alone leave it at 0.
    """
    from chronik.offline import loading as offline  # noqa: PLC0415

    federations: list[ValidFederation] = []
    clusters, problems = offline.check(
        files, recursive=recursive, namespace=namespace, note=show_note, federations=federations
    )
    inner = [cluster for each in federations for cluster in each.clusters.values()]
    problems += _rendered_problems(clusters, inner, templates)
    if output == "text":
        show_problems(problems)
    else:
        print_problems(problems, output)
    if any(problem.severity == "error" for problem in problems):
        return InvalidDocuments.exit_code
    if output == "text" and (clusters or not federations):
        click.echo(f"{len(clusters)} cluster{'' if len(clusters) == 1 else 's'} valid")
    if output == "text" and federations:
        click.echo(valid_text(federations))
    return 0


def _rendered_problems(clusters: Sequence[Cluster], members: Iterable[Cluster], templates: str | None) -> list[Problem]:
    """Return what is wrong once clusters are rendered: with templates, for one alone, or with several together."""
    from chronik.offline import loading as offline  # noqa: PLC0415
    from chronik.offline.together import alias_problems  # noqa: PLC0415

    found: dict[Problem, None] = {}
    try:
        render = offline.renderer(templates)
    except InputError as error:
        return [error.as_problem()]
    rendered = []
    for at, cluster in enumerate((*clusters, *members)):
        try:
            manifests = render(cluster)
        except InputError as error:
            found[error.as_problem()] = None
        else:
            rendered += [(cluster, manifests)] if at < len(clusters) else []  # members are each somewhere else
    return [*found, *alias_problems(rendered)]


@click.command()
@click.argument("field", type=parameters.FIELD)
@click.option(
    "--of",
    "target",
    type=parameters.Object(),
    metavar="KIND/NAME",
    help="Say what set a field of this rendered object: `service/events`. Needs -f.",
)
@files_option
@recursive_option
@namespace_option
@templates_option
@domain_option
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For whom."
)
def explain(
    field: str,
    target: ObjectRef | None,
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    templates: str | None,
    cluster_domain: str,
    output: str,
) -> None:
    """Say what a field of the spec means, or with --of what set a field of a rendered object.

    FIELD is written as `spec.storage.size`, and of an object as `spec.ports[kafka].port`. With
    --of it names the line of the template, the fields of the spec that it reads, and the patches that changed the
    value.
    """
    from chronik.offline import loading as offline  # noqa: PLC0415

    if target is None:
        if files or output == "json":
            raise click.UsageError(
                "which object is meant? Say --of KIND/NAME; without it a field of the spec is explained"
            )
        from chronik.offline.explanation import field_page  # noqa: PLC0415  # as above

        click.echo(field_page(field), nl=False)
        return
    if not files:
        raise click.UsageError("which cluster is meant? -f FILE says it")
    from chronik.offline.explanation import explain as explained  # noqa: PLC0415
    from chronik.report.explain import explanation_data, explanation_text  # noqa: PLC0415

    clusters, _ = offline.load_clusters(
        files, recursive=recursive, namespace=namespace, domain=cluster_domain, note=show_note
    )
    found = explained(clusters, target, field, templates)
    if output == "json":
        from chronik.report.data import to_json  # noqa: PLC0415

        print_data(to_json(explanation_data(found)))
        return
    click.echo(explanation_text(found, **streams.look(sys.stdout)), nl=False, color=True)


@click.group()
def schema() -> None:
    """Print the CRD, the editor schema or the reference page."""


@schema.command("crd")
@parameters.features_option("Which features bring definitions of their own: federation.  [default: none]")
def schema_crd(features: tuple[str, ...]) -> None:
    """Print the CustomResourceDefinitions, and the policy that makes the API server warn.

    Install with: chronik schema crd | kubectl apply --server-side -f -
    """
    from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415
    from chronik.offline import loading as offline  # noqa: PLC0415

    print_data(to_yaml_stream(offline.definitions(features)))


_kind_option = click.option(
    "--kind", type=click.Choice(DOCUMENT_KINDS), default=CLUSTER_KIND, show_default=True, help="Of what."
)


@schema.command("json")
@_kind_option
def schema_json(kind: str) -> None:
    """Print the JSON Schema of a document, for editors."""
    from chronik.offline import loading as offline  # noqa: PLC0415

    print_data(offline.editor_schema(kind))


@schema.command("docs")
@_kind_option
def schema_docs(kind: str) -> None:
    """Print the reference page of the spec, in Markdown."""
    from chronik.offline import loading as offline  # noqa: PLC0415

    print_data(offline.reference(kind))
