"""`chronik federation status`: shows how federations and their members are, as their hub has written it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from chronik.cli.common import cluster_options, table_or_json_option
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import names_argument, print_data
from chronik.cli.streams import look
from chronik.errors import KindMissing, ObjectMissing
from chronik.kube import connect
from chronik.manifest import FEDERATION
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.kube import ConnectOptions, Kube
    from chronik.manifest import Manifest


@click.group()
def federation() -> None:
    """Show how federations and their members are."""


@federation.command("status")
@names_argument
@cluster_options
@table_or_json_option
def federation_status(names: tuple[str, ...], options: ConnectOptions, output: str) -> int:
    """Show federations and their members, as their hub sees them: of those named, or of all in the namespace.

    Exits with 0 if all goes well, with 1 if a federation was halted, taken back or refused, and with 3 if one does not
    exist or the API server cannot tell.
    """

    async def main(interruption: Interruption) -> int:
        async with connect(options) as kube:
            found = await interruption.until_asked(_documents(kube, kube.namespace, names))
            return _show(found, output, kube.namespace)

    return run_async(main)


async def _documents(kube: Kube, namespace: str, names: Sequence[str]) -> list[Manifest]:
    """Return the federations that are meant.

    Raises:
        ObjectMissing: one does not exist.
        KindMissing: the definition is not installed.
    """
    try:
        there = {each["metadata"]["name"]: each for each in (await kube.list(FEDERATION, namespace)).items}
    except KindMissing as error:
        error.hint = "Install it: chronik schema crd --features federation | kubectl apply --server-side -f -"
        raise
    missing = [name for name in names if name not in there]
    if missing:
        known = f"There are {listed(sorted(there))}." if there else "There are none in this namespace."
        raise ObjectMissing("does not exist", subject=f"ChronikFederation {namespace}/{missing[0]}", hint=known)
    return [there[name] for name in names or sorted(there)]


def _show(documents: list[Manifest], output: str, namespace: str) -> int:
    from chronik.report.federation.status import federation_data, federation_table, goes_well  # noqa: PLC0415  # help stays quick

    if output == "json":
        from chronik.report.data import to_json  # noqa: PLC0415  # as above

        print_data(to_json(federation_data(documents)))
    elif documents:
        print_data(federation_table(documents, **look(sys.stdout)))
    else:
        click.echo(f"no federations in {namespace}", err=True)
    return 0 if goes_well(documents) else 1
