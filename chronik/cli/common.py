"""What commands that talk to a cluster have in common: kubectl's flags, which clusters they are about, and options."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chronik.api.components import workload_name
from chronik.cli import parameters
from chronik.cli.main import documents_options, domain_option, show_note, show_problems, templates_option
from chronik.errors import ChronikError, Forbidden, InvalidTransition, KindMissing, NamespaceMissing, ObjectMissing
from chronik.kube import ConnectOptions
from chronik.manifest import API_VERSION, ARCHIVE, CLUSTER, CLUSTER_LABEL, KIND_BY_NAME, ClusterKey, Kind, ObjectRef
from chronik.problem import Problem, format_path
from chronik.report.page import visible
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.federation.validation import ValidFederation
    from chronik.kube import Kube
    from chronik.manifest import Manifest
    from chronik.offline.loading import Reader
    from chronik.plan.results import Report
    from chronik.report.summary import ClusterResult

    Command = Callable[..., Any]
    Rendered = tuple[Cluster, list[Manifest]]

T = TypeVar("T")

_NAMESPACE = Kind("v1", "Namespace", "namespaces", stage=-1, namespaced=False)
CLUSTERS_AT_ONCE = 8
"""How many clusters are worked on side by side; the client bounds the requests of all of them together."""

_NOTE_WITHIN = 2.0
"""Seconds for what is asked for a note alone, which must not hold up what was asked for."""

_CLUSTER_OPTIONS = (
    click.option("--kubeconfig", type=parameters.FILE, metavar="FILE", help="Which kubeconfig.  [default: as kubectl]"),
    click.option(
        "--context",
        type=parameters.CONTEXT,
        metavar="NAME",
        help="Which context of the kubeconfig.  [default: the current one]",
    ),
    click.option(
        "-n",
        "--namespace",
        type=parameters.NAMESPACE,
        metavar="NAME",
        help="Namespace for documents that name none.  [default: the context's]",
    ),
    click.option(
        "--request-timeout",
        metavar="DURATION",
        type=parameters.Duration(),
        default="30s",
        show_default=True,
        help="How long one attempt of one request may take.",
    ),
)


def cluster_options(command: Command) -> Command:
    """Give a command kubectl's flags for the cluster; it gets them as one `options`, a ConnectOptions.

    Warnings of the API server go to stderr, each once.
    """

    @wraps(command)
    def connected(
        *, kubeconfig: str | None, context: str | None, namespace: str | None, request_timeout: float, **others: Any
    ) -> Any:
        options = ConnectOptions(
            kubeconfig=kubeconfig or "",
            context=context or "",
            namespace=namespace or "",
            request_timeout=request_timeout or float("inf"),
            on_warning=Warnings(),
        )
        return command(options=options, **others)

    return _with(connected, _CLUSTER_OPTIONS)


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


class Warnings:
    """Writes the API server's warnings to stderr, each once, whatever they are about."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, subject: str, text: str) -> None:
        """Print a warning, if it is new."""
        if text not in self._told:
            self._told.add(text)
            click.echo(f"warning: {visible(subject)}: {visible(text)}", err=True)


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """Where clusters are described, and what they are rendered with."""

    files: tuple[str, ...]
    recursive: bool
    templates: str | None
    domain: str

    def rendered(
        self,
        namespace: str,
        fallback: str,
        *,
        read: Reader | None = None,
        quiet: bool = False,
        federations: list[ValidFederation] | None = None,
    ) -> list[Rendered]:
        """Return each cluster with its manifests, and write warnings about documents to stderr, unless `quiet`.

        `namespace` is what -n says, `fallback` is the context's. `read` reads what one name stands for. `federations`
        gets those that there are; without it, one is an error.

        Raises:
            InputError: something cannot be read, parsed or rendered; nothing was sent yet.
        """
        from chronik.offline import loading as offline  # noqa: PLC0415  # `--help` stays quick
        from chronik.offline.sources import read_argument  # noqa: PLC0415  # as above
        from chronik.offline.together import alias_problems  # noqa: PLC0415  # as above

        clusters, warnings = offline.load_clusters(
            self.files,
            recursive=self.recursive,
            namespace=namespace or None,
            fallback=fallback,
            domain=self.domain,
            note=(lambda _text: None) if quiet else show_note,
            read=read or read_argument,
            federations=federations,
        )
        render = offline.renderer(self.templates)
        rendered = [(cluster, render(cluster)) for cluster in clusters]
        if not quiet:
            show_problems([*warnings, *alias_problems(rendered)])
        return rendered

    def owned(self, cluster: Cluster, uid: str) -> Rendered:
        """Return a cluster as its operator renders it: its objects belong to the ChronikCluster with this uid."""
        from chronik.offline import loading as offline  # noqa: PLC0415

        theirs = replace(cluster, uid=uid)
        return theirs, offline.renderer(self.templates)(theirs)

    def for_operator(self, namespace: str) -> str:
        """Return the command that hands the same documents to an operator; `namespace` is what -n says."""
        flags = [f"-f {shlex.quote(file)}" for file in self.files]
        flags += ["-R"] if self.recursive else []
        flags += [f"-n {shlex.quote(namespace)}"] if namespace else []
        return f"`kubectl apply {' '.join(flags)}`"


def source_options(command: Command) -> Command:
    """Give a command the flags of `chronik render` that say what to render; it gets them as one `source`."""

    @wraps(command)
    def sourced(
        *, files: tuple[str, ...], recursive: bool, templates: str | None, cluster_domain: str, **others: Any
    ) -> Any:
        return command(source=DocumentSource(files, recursive, templates, cluster_domain), **others)

    return documents_options(_with(sourced, (templates_option, domain_option)))


timeout_option = click.option(
    "--timeout",
    metavar="DURATION",
    type=parameters.Duration(),
    default="5m",
    show_default=True,
    help="How long to wait.",
)
report_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to report."
)


def named_clusters(
    names: Iterable[str],
    files: tuple[str, ...],
    *,
    recursive: bool,
    namespace: str,
    fallback: str,
    federations: list[ValidFederation] | None = None,
) -> dict[ClusterKey, Cluster | None]:
    """Return which clusters a command is about: by name, or by file, and then with what the file says.

    `namespace` is what -n says, `fallback` is the context's. `federations` gets those that there are; without it, one
    is an error.

    Raises:
        InputError: a file cannot be read, or a document is not valid.
    """
    if not files:
        return {ClusterKey(fallback, name): None for name in names}
    from chronik.offline import loading as offline  # noqa: PLC0415  # a name needs no schema

    found, _ = offline.load_clusters(
        files,
        recursive=recursive,
        namespace=namespace or None,
        fallback=fallback,
        note=show_note,
        federations=federations,
    )
    return {cluster.key: cluster for cluster in found}


async def live_document(kube: Kube, cluster: Cluster) -> Manifest | None:
    """Return the live ChronikCluster that a cluster's document is about to replace; None if it cannot be read.

    Raises:
        InvalidTransition: the API server will refuse the new document, since a rule compares it with the live one.
    """
    from chronik.offline import loading as offline  # noqa: PLC0415  # `--help` stays quick

    try:
        document = await kube.get(CLUSTER, cluster.namespace, cluster.name)
    except (Forbidden, KindMissing):
        return None
    problems = offline.validator().transition(cluster, document) if document else ()
    if error := transition_error(problems, "the API server will refuse this document in place of the live one"):
        raise error
    return document


def refused_change(cluster: Cluster, objects: Mapping[ObjectRef, Manifest]) -> InvalidTransition | None:
    """Return why a cluster that no operator manages cannot become what its document says; None if it can.

    No API server compares the documents then, but data and volumes stay where they are just the same.
    """
    from chronik.apply.replaced import document_that_runs  # noqa: PLC0415  # `--help` stays quick
    from chronik.offline import loading as offline  # noqa: PLC0415  # likewise

    problems = offline.validator().transition(cluster, document_that_runs(cluster, objects))
    return transition_error(problems, "the cluster that runs cannot become what this document says")


def transition_error(problems: Sequence[Problem], message: str) -> InvalidTransition | None:
    """Return the error of a document that must not take the place of another, with each problem; None without any."""
    if not problems:
        return None
    found = [f"{format_path(each.path)}: {each.message}" for each in problems]
    return InvalidTransition(
        "\n".join([message, *found]), hint="\n".join(dict.fromkeys(each.hint for each in problems if each.hint))
    )


def slot_warnings(rendered: Rendered, objects: Mapping[ObjectRef, Manifest], report: Report) -> tuple[str, ...]:
    """Return what stays on the metastore's server of an archive that ends or moves, if there is such a thing."""
    ref = ObjectRef("Deployment", rendered[0].namespace, workload_name(rendered[0].name, ARCHIVE))
    if ref not in objects:
        return ()
    from chronik.backups.archiving.slot import slot_left  # noqa: PLC0415  # most clusters have no archive

    wanted = next((each for each in rendered[1] if ObjectRef.of(each) == ref), None)
    outcome = next((each.outcome for each in report.results if each.ref == ref), "")
    left = slot_left(objects[ref], wanted, outcome)
    return (left,) if left else ()


def show_warnings(results: Iterable[ClusterResult]) -> None:
    """Write to stderr what a person has to see to."""
    for each in results:
        for text in each.warnings:
            click.echo(f"warning: {visible(f'{each.title}: {text}')}", err=True)


async def namespace_is_missing(kube: Kube, namespace: str) -> bool:
    """Return whether there is no such namespace; one that may not be looked at is taken to be there."""
    try:
        return await kube.get(_NAMESPACE, "", namespace) is None
    except NamespaceMissing:
        return True
    except Forbidden:
        return False


async def missing_cluster(kube: Kube, keys: Iterable[ClusterKey]) -> ObjectMissing:
    """Return the error for clusters that do not exist; it names the cluster of the namespace whose name is nearest."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it

    missing = sorted(keys)
    near: list[str] = []
    for namespace in {key.namespace: None for key in missing}:
        names = await cluster_names(kube, namespace)
        wanted = [key for key in missing if key.namespace == namespace]
        near += [f"{namespace}/{name}" for key in wanted for name in get_close_matches(key.name, names, n=1)]
    meant = f"Did you mean {listed(dict.fromkeys(near))}? " if near else ""
    return ObjectMissing(
        "there is no such cluster: no ChronikCluster of that name, and no objects labelled as part of it",
        subject=", ".join(map(str, missing)),
        hint=f"{meant}`chronik status -A` shows all clusters.",
    )


async def cluster_names(kube: Kube, namespace: str) -> list[str]:
    """Return the names of the clusters of a namespace, as far as they may be read, with or without an operator."""
    names: set[str] = set()
    with suppress(ChronikError):
        names |= {each["metadata"]["name"] for each in (await kube.list(CLUSTER, namespace)).items}
    with suppress(ChronikError):
        found = await kube.list(KIND_BY_NAME["StatefulSet"], namespace, label_selector=CLUSTER_LABEL)
        names |= {each["metadata"]["labels"][CLUSTER_LABEL] for each in found.items}
    return sorted(names)


async def note_outdated_definition(kube: Kube) -> None:
    """Say on stderr which fields the CRD in the cluster does not know, if it is older and can be read at once."""
    import asyncio  # noqa: PLC0415  # `--help` stays quick

    from chronik.api.skew import outdated, unknown_fields  # noqa: PLC0415  # only clusters of an operator need it
    from chronik.offline import loading as offline  # noqa: PLC0415

    with suppress(ChronikError, TimeoutError):
        async with asyncio.timeout(_NOTE_WITHIN):
            published = await kube.openapi(API_VERSION)
        fields = unknown_fields(offline.definitions()[0], published)
        if fields:
            show_note(outdated(fields))


def tell(text: str) -> None:
    """Write text to stderr."""
    if text:
        sys.stdout.flush()
        click.echo(text, err=True, nl=False, color=True)


table_or_json_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people, or for programs.",
)
