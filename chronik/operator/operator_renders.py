"""What was rendered last, for the passes that follow each other while a cluster settles.

`operator` puts it before the renderer. A manifest is never changed once it is made, so several passes may share it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

_KEPT = 64
"""Clusters, of some hundred kilobytes each. A whole fleet would be too much to keep."""


class RecentRenders:
    """Render a cluster, or return what it was rendered to a moment ago."""

    def __init__(self, render: Callable[[Cluster], list[Manifest]], kept: int = _KEPT) -> None:
        self._render = render
        self._kept = kept
        self._recent: OrderedDict[tuple[str | bytes, ...], list[Manifest]] = OrderedDict()

    def __call__(self, cluster: Cluster) -> list[Manifest]:
        """Return the manifests of a cluster."""
        key = (cluster.namespace, cluster.name, cluster.uid or "", cluster.domain, orjson.dumps(cluster.spec))
        if key not in self._recent:
            self._recent[key] = self._render(cluster)
            if len(self._recent) > self._kept:
                self._recent.popitem(last=False)
        self._recent.move_to_end(key)
        return self._recent[key]
