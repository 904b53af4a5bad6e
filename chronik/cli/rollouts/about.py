"""What all verbs of `chronik rollout` are made of: one ChronikCluster, a look or a write, and what is said of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chronik.cli import parameters
from chronik.cli.common import cluster_options, missing_cluster, report_option
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import print_data
from chronik.cli.streams import say
from chronik.kube import connect
from chronik.manifest import CLUSTER, ClusterKey

if TYPE_CHECKING:
    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import Manifest


class Said(NamedTuple):
    """What a verb has to say of a cluster: lines for people, the same as data, a note on stderr, and its exit code.

    `document` is YAML that stands in place of the lines.
    """

    lines: tuple[str, ...]
    data: Mapping[str, Any]
    note: str = ""
    code: int = 0
    document: str = ""


Verb = Callable[["Kube", "Manifest", Interruption], Awaitable[Said]]


class OneCluster(NamedTuple):
    """The cluster that a verb is about, how to reach it, and for whom the verb reports."""

    name: str
    options: ConnectOptions
    output: str

    def run(self, verb: Verb) -> int:
        """Do what a verb does with the document, report, and return the exit code.

        Raises:
            ObjectMissing: there is no such cluster.
        """

        async def main(interruption: Interruption) -> int:
            async with connect(self.options) as kube:
                document = await cluster_document(kube, self.options.namespace or kube.namespace, self.name)
                said = await verb(kube, document, interruption)
            self._report(ClusterKey.of(document), said)
            return said.code

        return run_async(main)

    def _report(self, key: ClusterKey, said: Said) -> None:
        if self.output == "json":
            from chronik.report.data import to_json  # noqa: PLC0415  # most people read lines

            print_data(to_json({"clusters": [{"namespace": key.namespace, "name": key.name, **said.data}]}))
        elif said.document:
            print_data(said.document)
        else:
            say("\n".join(said.lines))
        if said.note:
            say(said.note, err=True)


def about_cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command NAME, the flags to reach it and -o; it gets them as one `cluster`, a OneCluster."""

    @wraps(command)
    def given(*, name: str, options: ConnectOptions, output: str, **others: Any) -> Any:
        return command(cluster=OneCluster(name, options, output), **others)

    return click.argument("name", type=parameters.CLUSTER_NAME)(cluster_options(report_option(given)))


async def cluster_document(kube: Kube, namespace: str, name: str) -> Manifest:
    """Return a ChronikCluster.

    Raises:
        ObjectMissing: there is none of that name.
    """
    found = await kube.get(CLUSTER, namespace, name)
    if found is None:
        raise await missing_cluster(kube, [ClusterKey(namespace, name)])
    return found
