"""Everything that chronik does without a cluster, wired together: files to clusters, clusters to manifests.

`cli` and `testing` call this; it joins the pure core to the files that hold the schema, the rules and the templates,
each loaded once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from chronik.api.rules import RuleBook
from chronik.api.schema import Schema
from chronik.api.validation import Validator
from chronik.documents.reader import parse_documents
from chronik.errors import InvalidDocuments, TemplateError
from chronik.offline import assets
from chronik.offline import sources as inputs
from chronik.offline.caches import KeptRules, bytecode_cache
from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chronik.api.spec import Cluster
    from chronik.documents.reader import Document
    from chronik.manifest import Manifest


@cache
def validator() -> Validator:
    """Return the schema and the rules that every document is held to."""
    return Validator(Schema(assets.schema()), RuleBook(assets.rules_text(), _kept_rules()))


@cache
def _kept_rules() -> KeptRules:
    return KeptRules(assets.rules_text())


def load_clusters(
    files: Iterable[str],
    *,
    recursive: bool = False,
    namespace: str | None = None,
    fallback: str = "default",
    domain: str = "cluster.local",
) -> tuple[list[Cluster], list[Problem]]:
    """Return the clusters that files describe, and the warnings about them.

    `namespace` is somebody's wish, `fallback` where a document goes if neither it nor anybody says.

    Raises:
        InputError: a file cannot be read.
        InvalidDocuments: some document is in error; all errors of all documents are in it.
    """
    clusters, problems = check(files, recursive=recursive, namespace=namespace, fallback=fallback)
    if any(problem.severity == "error" for problem in problems):
        raise InvalidDocuments(problems)
    return [replace(cluster, domain=domain) for cluster in clusters], problems


def check(
    files: Iterable[str], *, recursive: bool = False, namespace: str | None = None, fallback: str = "default"
) -> tuple[list[Cluster], list[Problem]]:
    """Return the valid clusters that files describe, and every problem of every document."""
    clusters: dict[tuple[str, str], Cluster] = {}
    problems: list[Problem] = []
    for source, content in inputs.read_inputs(files, recursive=recursive):
        documents, found = parse_documents(content, source)
        problems += found
        if not documents and not found:
            problems.append(Problem("error", "empty", (), f"{source} holds no document"))
        for document in documents:
            cluster, found = parse_document(document, namespace, fallback)
            problems += found
            if cluster is None:
                continue
            if (cluster.namespace, cluster.name) in clusters:
                problems.append(_placed(document, _second(cluster)))
            clusters[cluster.namespace, cluster.name] = cluster
    _kept_rules().save()
    return list(clusters.values()), problems


def parse_document(
    document: Document, namespace: str | None = None, fallback: str = "default"
) -> tuple[Cluster | None, list[Problem]]:
    """Check one document; its problems say where in the file they are."""
    validated = validator().validate(document.tree, namespace=namespace, fallback=fallback)
    return validated.cluster, [_placed(document, problem) for problem in validated.problems]


def _placed(document: Document, problem: Problem) -> Problem:
    return problem._replace(location=document.locate(problem.path, key=problem.code == "unknown-field"))


def _second(cluster: Cluster) -> Problem:
    message = f"{cluster.namespace}/{cluster.name} was described before, in this or another file"
    return Problem("error", "duplicate", ("metadata", "name"), message)


def render_clusters(clusters: Sequence[Cluster], templates: str | None = None) -> list[Manifest]:
    """Return the manifests of all clusters, cluster by cluster, each in apply order."""
    render = renderer(templates)
    return [manifest for cluster in clusters for manifest in render(cluster)]


def renderer(templates: str | None = None) -> Callable[[Cluster], list[Manifest]]:
    """Return the function that renders a cluster with chronik's templates and those of a folder that replace some."""
    from chronik.render.cluster import render  # noqa: PLC0415  # schema commands need no templates
    from chronik.render.templates import Templates  # noqa: PLC0415

    read = inputs.template_reader(templates)
    compiled = Templates(read, bytecode_cache(), lambda: inputs.template_names(templates))
    if templates is None:
        return lambda cluster: render(cluster, compiled)
    from chronik.render.kubernetes import FieldTable  # noqa: PLC0415  # chronik's own templates are tested

    fields = FieldTable(assets.kubernetes_fields())

    def checked(cluster: Cluster) -> list[Manifest]:
        try:
            return render(cluster, compiled, fields)
        except TemplateError as error:
            error.location = inputs.locate_in_template(error, templates, read)
            raise

    return checked


def definitions() -> list[Manifest]:
    """Return the CustomResourceDefinition, and the admission policy that carries the warnings."""
    from chronik.api.crd import crd, warning_policy  # noqa: PLC0415

    rules = validator().rules
    return [crd(assets.schema(), rules), *warning_policy(rules)]


def editor_schema() -> str:
    """Return the JSON Schema of a whole document, as text."""
    from chronik.api.crd import editor_schema  # noqa: PLC0415

    return json.dumps(editor_schema(assets.schema()), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return the reference page of the spec, in Markdown."""
    from chronik.api.reference import reference_page  # noqa: PLC0415

    return reference_page(assets.schema(), validator().rules)
