"""Warns before documents are applied that aliases could not be switched between them and clusters that run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from chronik.cli.main import show_problems
from chronik.errors import ChronikError
from chronik.manifest import CLUSTER
from chronik.tasks import gathered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.api.spec import Cluster
    from chronik.cli.common import Rendered
    from chronik.kube import Kube
    from chronik.manifest import ClusterKey, Manifest

_WITHIN = 5.0
"""Seconds for what is asked for a warning alone, which must not hold up what was asked for."""


async def warn_of_unlike(kube: Kube, rendered: Sequence[Rendered]) -> None:
    """Say which fields of documents keep `chronik switch` from moving an alias from or to a cluster of an operator.

    Nothing is asked where no document names an alias, and nothing said of what may not be read.
    """
    from chronik.offline.together import alias_problems  # noqa: PLC0415  # most documents name no alias

    naming = [each for each in rendered if each[0].spec["network"]["aliases"]]
    if not naming:
        return
    ours = {cluster.key for cluster, _ in rendered}
    places = {cluster.namespace for cluster, _ in naming}
    known = [each for found in await gathered(*(_others(kube, place, ours) for place in places)) for each in found]
    for each in naming:
        show_problems(alias_problems([each], known))


async def _others(kube: Kube, namespace: str, ours: Iterable[ClusterKey]) -> list[Cluster]:
    from chronik.offline import loading as offline  # noqa: PLC0415  # as above

    documents: list[Manifest] = []
    with suppress(ChronikError, TimeoutError):
        async with asyncio.timeout(_WITHIN):
            documents = (await kube.list(CLUSTER, namespace)).items
    found = (offline.validator().validate(each, stored=True).cluster for each in documents)
    return [each for each in found if each is not None and each.key not in ours]
