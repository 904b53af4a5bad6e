"""Everything that chronik does without a cluster, wired together: files to clusters, clusters to manifests.

It joins the pure core to the files that hold the schema, the rules and the templates, each loaded once. Beside
ChronikClusters, files and folders may hold objects of other APIs, as GitOps repositories do: they are passed over and
counted.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

from chronik.api.rules import RuleBook
from chronik.api.schema import Schema
from chronik.api.validation import Validator, concern
from chronik.documents.reader import parse_documents
from chronik.errors import InvalidDocuments, PatchError, TemplateError
from chronik.manifest import BACKUP, BACKUP_KIND, CLUSTER, CLUSTER_KIND, FEDERATION, FEDERATION_FEATURE, ClusterKey
from chronik.offline import assets, sources
from chronik.offline.caches import KeptRules, bytecode_cache
from chronik.problem import Problem
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.documents.reader import Document
    from chronik.federation.validation import ValidFederation
    from chronik.manifest import Manifest
    from chronik.offline.sources import Argument, Source
    from chronik.offline.template_sets import TemplateSet
    from chronik.problem import Location, Path
    from chronik.render.origins import Trace
    from chronik.render.patches import Patches

    class Reader(Protocol):
        """Reads what one name stands for."""

        def __call__(self, name: str, *, recursive: bool = False) -> Argument:
            """Return the files, and what is wrong with them."""


_KUSTOMIZATION = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


@cache
def validator() -> Validator:
    """Return the schema and the rules that every document is held to."""
    return Validator(Schema(assets.schema()), RuleBook(assets.rules_text(), _kept_rules()))


@cache
def validator_of(kind: str) -> Validator:
    """Return the schema and the rules that every document of a kind other than a ChronikCluster is held to."""
    rules = RuleBook(assets.rules_text(), _kept_rules(), kind=kind)
    return Validator(Schema(assets.schema(kind)), rules, kind)


@cache
def _kept_rules() -> KeptRules:
    return KeptRules(assets.rules_text())


def load_clusters(  # noqa: PLR0913  # all but the first say how to read, and most are left out
    files: Iterable[str],
    *,
    recursive: bool = False,
    namespace: str | None = None,
    fallback: str = "default",
    domain: str = "cluster.local",
    note: Callable[[str], None] = lambda _text: None,
    read: Reader = sources.read_argument,
    federations: list[ValidFederation] | None = None,
) -> tuple[list[Cluster], list[Problem]]:
    """Return the clusters that files describe, and the warnings about them.

    `namespace` is what the user asked for, `fallback` where a document goes if neither it nor the user says. `note` is
    told what was passed over, if anything was. `read` reads what one name stands for. `federations` gets those that
    there are; without it, one is an error.

    Raises:
        InvalidDocuments: a file cannot be read, or a document is in error; all errors of all of them are in it.
    """
    how: dict[str, Any] = {"recursive": recursive, "namespace": namespace, "fallback": fallback, "read": read}
    clusters, problems = check(files, **how, note=note, federations=federations)
    if any(problem.severity == "error" for problem in problems):
        raise InvalidDocuments(problems)
    return [replace(cluster, domain=domain) for cluster in clusters], problems


def check(  # noqa: PLR0913  # as above
    files: Iterable[str],
    *,
    recursive: bool = False,
    namespace: str | None = None,
    fallback: str = "default",
    note: Callable[[str], None] = lambda _text: None,
    read: Reader = sources.read_argument,
    federations: list[ValidFederation] | None = None,
) -> tuple[list[Cluster], list[Problem]]:
    """Return the valid clusters that files describe, and every problem of every file and document."""
    loading = _Loading(namespace, fallback, federations)
    for name in files:
        loading.take(name, read(name, recursive=recursive), recursive=recursive)
    _kept_rules().save()
    loading.check_loops()
    if loading.others or loading.data:
        note(_passed_over(loading.others, loading.data))
    if loading.backups:
        note(f"{counted(loading.backups, BACKUP_KIND)} checked, which makes no objects of its own")
    return list(loading.clusters.values()), loading.problems


class _Loading:
    """What was found in files so far: clusters, problems, and what is none of chronik's business.

    That is `others`, the kinds of other APIs' objects, and `data`, how many documents are no Kubernetes objects.
    `backups` is how many ChronikBackups are valid.
    """

    def __init__(self, namespace: str | None, fallback: str, federations: list[ValidFederation] | None = None) -> None:
        self.clusters: dict[tuple[str, str], Cluster] = {}
        self.problems: list[Problem] = []
        self.others: list[str] = []
        self.data = 0
        self.backups = 0
        self.federations = federations
        self._namespace = namespace
        self._fallback = fallback

    def take(self, name: str, argument: Argument, *, recursive: bool) -> None:
        """Read a file or a folder. One that holds nothing for us is an error: it was named in vain."""
        self.problems += [error.as_problem() for error in argument.errors]
        ours, others, data = self._ours(), len(self.others), self.data
        for source in argument.sources:
            self._read(source, in_folder=argument.is_folder)
        if not argument.errors and not argument.absent and self._ours() == ours:
            message = _nothing(self.others[others:], self.data - data)
            hint = "-R looks into folders below it." if argument.is_folder and not recursive else ""
            shown = sources.STDIN if name == "-" else name
            self.problems.append(Problem("error", "empty", (), message, hint, subject=shown))

    def check_loops(self) -> None:
        """Hold the clusters to each other: copies that go round in a circle would never end."""
        if not any(cluster.spec["replication"] for cluster in self.clusters.values()):
            return
        from chronik.api.replication.loops import loops  # noqa: PLC0415  # most documents have no replication

        for loop in loops(self.clusters.values()):
            message = f"topics would be copied for ever: {' to '.join((*loop.around[-1:], *loop.around))}"
            hint = "Give each source on the way naming Prefixed, or topics by plain names that others do not copy."
            problem = Problem("error", "replication-loop", loop.path, message, hint)
            self.problems.append(_placed(_documents[loop.cluster.key], problem))

    def _ours(self) -> int:
        return len(self.clusters) + len(self.problems) + self.backups + len(self.federations or ())

    def _read(self, source: Source, *, in_folder: bool) -> None:
        foreign_kind = partial(_foreign_kind, file=source.name, in_folder=in_folder)
        documents, found = parse_documents(
            source.content, source.name, foreign=lambda tree: foreign_kind(tree) is not None
        )
        self.problems += found
        for document in documents:
            kind = foreign_kind(document.tree)
            if kind is None:
                self._take(document)
            elif kind:
                self.others.append(kind)
            else:
                self.data += 1

    def _take(self, document: Document) -> None:
        what = concern(document.tree)
        if what == "backup":
            valid, problems = validator_of(BACKUP_KIND).check(document.tree, namespace=self._namespace)
            self.problems += [_placed(document, problem) for problem in problems]
            self.backups += valid is not None
            return
        if what == "federation":
            self._take_federation(document)
            return
        cluster, found = parse_document(document, self._namespace, self._fallback)
        self.problems += found
        if cluster is None:
            return
        _documents[cluster.key] = document
        if (cluster.namespace, cluster.name) in self.clusters:
            self.problems.append(_placed(document, _second(cluster)))
        self.clusters[cluster.namespace, cluster.name] = cluster

    def _take_federation(self, document: Document) -> None:
        from chronik.federation.validation import NOT_TAKEN, check_federation  # noqa: PLC0415  # most files have none

        if self.federations is None:
            self.problems.append(_placed(document, NOT_TAKEN))
            return
        where: dict[str, Any] = {"namespace": self._namespace, "fallback": self._fallback}
        found, problems = check_federation(document.tree, validator_of(FEDERATION.name), validator(), **where)
        self.problems += [_placed(document, problem) for problem in problems]
        self.federations += [found] if found is not None else []


def _foreign_kind(tree: Any, *, file: str, in_folder: bool) -> str | None:
    """Return the kind of a document to pass over, "" if it is no Kubernetes object, None if it is for us.

    What lies in a folder was not named itself: there may be files that Kubernetes never sees.
    """
    if isinstance(tree, dict) and in_folder and PurePath(file).name.rpartition(":")[2] in sources.KUSTOMIZATIONS:
        tree = _KUSTOMIZATION | tree  # kustomize fills in what is missing
    what = concern(tree)
    if what == "object":
        return str(tree["kind"])
    return "" if what == "data" and in_folder else None


def _nothing(others: Sequence[str], data: int) -> str:
    found = [f"{counted(len(others), 'other object')} ({listed(sorted({*others}))})"] if others else []
    found += [_no_objects(data)] if data else []
    return f"holds no {CLUSTER_KIND}, but {' and '.join(found)}" if found else "holds no document"


def _passed_over(others: Sequence[str], data: int) -> str:
    parts = [f"{counted(len(others), 'other object')} passed over: {listed(sorted({*others}))}"] if others else []
    parts += [f"{_no_objects(data)} passed over"] if data else []
    return "; ".join(parts)


def _no_objects(number: int) -> str:
    what = "is no Kubernetes object" if number == 1 else "are no Kubernetes objects"
    return f"{counted(number, 'document')} that {what}"


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


def renderer(templates: str | None = None, trace: Trace | None = None) -> Callable[[Cluster], list[Manifest]]:
    """Return the function that renders a cluster with chronik's templates and those of a folder.

    `trace` gets to know what each template made.

    Raises:
        InputError: the folder cannot be used.
    """
    if templates is None:
        from chronik.render.cluster import render  # noqa: PLC0415  # schema commands need no templates
        from chronik.render.templates import Templates  # noqa: PLC0415

        compiled = Templates(assets.template_text, bytecode_cache(), assets.template_names, trace)
        return _placing(lambda cluster: render(cluster, compiled, patching=patching))
    from chronik.offline.template_sets import template_set  # noqa: PLC0415  # chronik's own are a plain folder

    return renderer_of(template_set(templates), trace)


def renderer_of(templates: TemplateSet, trace: Trace | None = None) -> Callable[[Cluster], list[Manifest]]:
    """Return the function that renders a cluster with templates that are not all chronik's, and holds them to more."""
    from chronik.render.cluster import render  # noqa: PLC0415
    from chronik.render.kubernetes import FieldTable  # noqa: PLC0415  # chronik's own templates are tested
    from chronik.render.templates import Templates  # noqa: PLC0415

    compiled = Templates(templates.read, bytecode_cache(), lambda: templates.all_names, trace)
    fields = FieldTable(assets.kubernetes_fields())

    def checked(cluster: Cluster) -> list[Manifest]:
        try:
            return render(cluster, compiled, fields, patching, templates.own)
        except TemplateError as error:
            error.location = templates.locate(error)
            raise

    return _placing(checked)


def template_renderer(templates: str | None = None) -> Callable[[str, Mapping[str, Any]], Manifest]:
    """Return the function that renders one template of that name to a manifest, as `renderer` finds them."""
    from chronik.documents.writer import ordered  # noqa: PLC0415  # most commands render no single template
    from chronik.offline.template_sets import template_set  # noqa: PLC0415
    from chronik.render.cluster import render_one  # noqa: PLC0415
    from chronik.render.templates import Templates  # noqa: PLC0415

    found = template_set(templates)
    compiled = Templates(found.read, bytecode_cache(), lambda: found.all_names)
    return lambda name, variables: ordered(render_one(compiled, name, dict(variables)))


def compile_templates(templates: TemplateSet) -> None:
    """Raise TemplateError, with its place, for the first of the user's templates that cannot be compiled."""
    from chronik.render.templates import Templates  # noqa: PLC0415

    compiled = Templates(templates.read)
    for name in sorted(templates.names):
        try:
            compiled.check(name)
        except TemplateError as error:
            error.location = templates.locate(error)
            raise


def _placing(render: Callable[[Cluster], list[Manifest]]) -> Callable[[Cluster], list[Manifest]]:
    """Have an error about the document say where in its file it is, if it came from one."""

    def placed(cluster: Cluster) -> list[Manifest]:
        try:
            return render(cluster)
        except PatchError as error:
            document = _documents.get(cluster.key)
            error.location = document.locate(error.path) if document else None
            raise

    return placed


_documents: dict[ClusterKey, Document] = {}
"""What clusters were read from, for errors that are found later than by reading it."""


def locate(key: ClusterKey, path: Path, *, exactly: bool = False) -> Location | None:
    """Return where a value of a cluster's document stands, None if the cluster was not read from one.

    Of a value that is not there it is the nearest thing around it, or None with `exactly`.
    """
    document = _documents.get(key)
    if document is None or (exactly and not _stands(document.tree, path)):
        return None
    return document.locate(path)


def _stands(data: Any, path: Path) -> bool:
    for step in path:
        if not isinstance(data, dict) or data.get(step) is None:
            return False
        data = data[step]
    return True


def patching(cluster: Cluster) -> Patches:
    """Return what carries out a cluster's patches."""
    from chronik.render.kubernetes import FieldTable  # noqa: PLC0415  # most clusters have no patches
    from chronik.render.patches import Patches  # noqa: PLC0415

    return Patches(cluster, FieldTable(assets.kubernetes_fields()))


def definitions(features: Sequence[str] = ()) -> list[Manifest]:
    """Return the CustomResourceDefinitions, a ChronikCluster's first, and the policy that carries the warnings.

    That of a ChronikFederation is among them if `features` names federation.
    """
    from chronik.api.crd import crd, warning_policy  # noqa: PLC0415

    rules = validator().rules
    others = (BACKUP, FEDERATION) if FEDERATION_FEATURE in features else (BACKUP,)
    return [
        crd(assets.schema(CLUSTER.name), rules),
        *(crd(assets.schema(kind.name), validator_of(kind.name).rules, kind) for kind in others),
        *warning_policy(rules),
    ]


def editor_schema(kind: str = CLUSTER_KIND) -> str:
    """Return the JSON Schema of a whole document of a kind, as text."""
    from chronik.api.crd import editor_schema  # noqa: PLC0415

    return json.dumps(editor_schema(assets.schema(kind)), indent=2, ensure_ascii=False) + "\n"


def reference(kind: str = CLUSTER_KIND) -> str:
    """Return the reference page of a kind, in Markdown."""
    from chronik.api.reference import reference_page  # noqa: PLC0415

    rules = validator().rules if kind == CLUSTER_KIND else validator_of(kind).rules
    return reference_page(assets.schema(kind), rules, kind)
