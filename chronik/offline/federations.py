"""Read ChronikFederations from documents, and render them: for each member its ChronikCluster, or the objects of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chronik.errors import InputError
from chronik.federation.document import sent_document
from chronik.federation.validation import ValidFederation, check_federation
from chronik.manifest import FEDERATION_KIND
from chronik.offline import loading
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.manifest import Manifest
    from chronik.problem import Problem


def read_federation(
    tree: Any, namespace: str | None, fallback: str, *, stored: bool = False
) -> tuple[ValidFederation | None, tuple[Problem, ...]]:
    """Check one document, and return the federation with the cluster of each member; None if it is in error."""
    return check_federation(
        tree,
        loading.validator_of(FEDERATION_KIND),
        loading.validator(),
        namespace=namespace,
        fallback=fallback,
        stored=stored,
    )


def render_federation(
    found: ValidFederation,
    members: Sequence[str] = (),
    *,
    objects: bool = False,
    templates: str | None = None,
    domain: str = "cluster.local",
) -> dict[str, list[Manifest]]:
    """Return the manifests of each member, or of those named, in the order in which they get a change.

    Raises:
        InputError: there is no such member, or its cluster cannot be rendered.
    """
    federation = found.federation
    there = [each.name for each in federation.ordered]
    for name in members:
        if name not in there:
            hint = f"There are {listed(there, most=len(there))}."
            raise InputError(f"{federation.key} has no member {name}", subject="--members", hint=hint)
    wanted = [each for each in federation.ordered if not members or each.name in members]
    if not objects:
        return {each.name: [sent_document(federation, each)] for each in wanted}
    render = loading.renderer(templates)
    return {each.name: render(replace(found.clusters[each.name], domain=domain)) for each in wanted}
