"""How federations and their members are, as their hub has written it, or as the members say where there is no hub.

`chronik federation status` asks the hub; `chronik status -f` does if there is one for a federation in the files.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from chronik.cli.common import cluster_options, table_or_json_option
from chronik.cli.interrupt import Interruption, run_async
from chronik.cli.main import names_argument, print_data, show_note
from chronik.cli.streams import look
from chronik.errors import KindMissing, ObjectMissing
from chronik.kube import connect
from chronik.manifest import FEDERATION
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.cli.federation.members import Federated
    from chronik.federation.validation import ValidFederation
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


async def files_status(
    found: Sequence[ValidFederation], kube: Kube, options: ConnectOptions, federated: Federated, output: str
) -> int:
    """Show federations of files, and return the exit code: 0 if all members have what the file says, and are Ready.

    Raises:
        ObjectMissing: with --hub, no hub has one.
    """
    documents = [await _document(each, kube, options, federated) for each in found]
    _show(documents, output, "")
    revisions = [each.federation.revision for each in found]
    return 0 if all(map(_is_ready, documents, revisions)) else 1


def _is_ready(document: Manifest, revision: str) -> bool:
    status = document.get("status") or {}
    if status.get("revision", revision) != revision:
        key = "{namespace}/{name}".format_map(document["metadata"])
        show_note(f"the hub has another document of {key} than the file: chronik diff --hub shows the difference")
        return False
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    is_seen = status.get("observedGeneration") == document["metadata"].get("generation")
    return is_seen and conditions.get("Ready") == "True"


async def _document(found: ValidFederation, kube: Kube, options: ConnectOptions, federated: Federated) -> Manifest:
    """Return a federation with the status that its hub has written, else with what its members say now."""
    from chronik.apply.roll import Roll  # noqa: PLC0415  # help stays quick
    from chronik.cli.federation.apply import FederationWork  # noqa: PLC0415  # as above

    work = FederationWork(found, federated, kube, options)
    at_hub = None if federated.members or federated.by_contexts else await work.at_hub()
    if at_hub is not None:
        return at_hub
    if federated.hub:
        hint = "Leave --hub out to ask the members themselves."
        raise ObjectMissing("no hub has it", subject=f"{FEDERATION.name} {work.federation.key}", hint=hint)
    async with work.connections() as connections:
        roll = Roll(work.federation, connections.to)
        await roll.look()
    namespace, name = work.federation.key
    return {"metadata": {"namespace": namespace, "name": name}, "status": roll.status()}


def _show(documents: list[Manifest], output: str, namespace: str) -> int:
    from chronik.report.federation.status import federation_data, federation_table, goes_well  # noqa: PLC0415  # help stays quick

    if output == "json":
        from chronik.report.data import to_json  # noqa: PLC0415  # as above

        print_data(to_json(federation_data(documents)))
    elif output == "yaml":
        from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415  # as above

        print_data(to_yaml_stream([federation_data(documents)]))
    elif documents:
        print_data(federation_table(documents, **look(sys.stdout)))
    else:
        click.echo(f"no federations in {namespace}", err=True)
    return 0 if goes_well(documents) else 1
