"""What commands that talk to a cluster have in common: kubectl's flags, which clusters they are about, and options."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chronik.cli import parameters
from chronik.cli.main import documents_options, domain_option, show_note, show_problems, templates_option
from chronik.kube import ConnectOptions
from chronik.manifest import ClusterKey
from chronik.report.page import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

    Command = Callable[..., Any]
    Rendered = tuple[Cluster, list[Manifest]]

T = TypeVar("T")

CLUSTERS_AT_ONCE = 8
"""How many clusters are worked on side by side; the client bounds the requests of all of them together."""

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
        """Tell a warning, if it is new."""
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

    def rendered(self, namespace: str, fallback: str) -> list[Rendered]:
        """Return each cluster with its manifests, and write warnings about documents to stderr.

        `namespace` is what -n says, `fallback` is the context's.

        Raises:
            InputError: something cannot be read, parsed or rendered; nothing was sent yet.
        """
        from chronik.offline import loading as offline  # noqa: PLC0415  # `--help` stays quick

        clusters, warnings = offline.load_clusters(
            self.files,
            recursive=self.recursive,
            namespace=namespace or None,
            fallback=fallback,
            domain=self.domain,
            note=show_note,
        )
        render = offline.renderer(self.templates)
        rendered = [(cluster, render(cluster)) for cluster in clusters]
        show_problems(warnings)
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
    names: Iterable[str], files: tuple[str, ...], *, recursive: bool, namespace: str, fallback: str
) -> dict[ClusterKey, Cluster | None]:
    """Return which clusters a command is about: by name, or by file, and then with what the file says.

    `namespace` is what -n says, `fallback` is the context's.

    Raises:
        InputError: a file cannot be read, or a document is not valid.
    """
    if not files:
        return {ClusterKey(fallback, name): None for name in names}
    from chronik.offline import loading as offline  # noqa: PLC0415  # a name needs no schema

    found, _ = offline.load_clusters(
        files, recursive=recursive, namespace=namespace or None, fallback=fallback, note=show_note
    )
    return {cluster.key: cluster for cluster in found}


def columns(stream: Any) -> int | None:
    """Return how wide a terminal is, or None for what is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def tell(text: str) -> None:
    """Write text to stderr."""
    if text:
        sys.stdout.flush()
        click.echo(text, err=True, nl=False, color=True)
