"""What is wrong with clusters only where several are seen together, once they are rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.offline.loading import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest
    from chronik.problem import Problem


def alias_problems(
    rendered: Sequence[tuple[Cluster, Sequence[Manifest]]], known: Sequence[Cluster] = ()
) -> list[Problem]:
    """Return what forbids to switch aliases between clusters that name them, where it stands in their documents.

    `known` are clusters that are there, beside those of documents.
    """
    naming = [each for each in (*known, *(cluster for cluster, _ in rendered)) if each.spec["network"]["aliases"]]
    if len(naming) <= 1:
        return []
    from chronik.plan.aliases.sharing import hindered  # noqa: PLC0415  # most clusters have no aliases

    return [
        problem._replace(location=locate(cluster.key, problem.path)) for cluster, problem in hindered(rendered, known)
    ]
