"""Which restarts of a cluster wait for a window: those of templates, of Secrets, and the steps of canaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.manifest import ROLLOUT_NOW_ANNOTATION
from chronik.rollout.facts import is_held, repairs_only
from chronik.rollout.pending import deferred, pending
from chronik.rollout.windows import ALWAYS, standing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest, ObjectRef
    from chronik.plan.live import LiveCluster
    from chronik.plan.results import Report
    from chronik.plan.rotation import Rotation
    from chronik.rollout.pending import Pending
    from chronik.rollout.windows import Standing


def windows_of(cluster: Cluster, document: Manifest, now: str) -> Standing:
    """Return whether restarts of a cluster may begin now."""
    wanted = cluster.spec["rollout"]
    if not wanted or not wanted["windows"]:
        return ALWAYS
    annotations = document["metadata"].get("annotations") or {}
    return standing(wanted["windows"], now, annotations.get(ROLLOUT_NOW_ANNOTATION, ""))


def is_well(live: Manifest | None) -> bool:
    """Return whether any pod of a workload is ready; if none is, a restart takes nothing, and waits for nothing."""
    return live is not None and bool((live.get("status") or {}).get("readyReplicas"))


def what_waits(
    report: Report, secrets: Rotation, outside: Iterable[ObjectRef] | None, live: LiveCluster, windows: Standing
) -> Pending:
    """Return what is to be told of restarts that wait.

    `outside` are workloads of a canary that do; without a canary, what one has left held waits. So do the pods that
    are well of a workload of which ill ones were replaced.
    """
    if windows.is_open:
        return pending((), (), windows)
    if outside is None:
        outside = [ref for ref, each in live.objects.items() if is_held(each) and _waits(each)]
    return pending((*deferred(report), *outside), secrets.waiting, windows)


def _waits(live: Manifest) -> bool:
    """Return whether a held workload waits for a window: a canary has left it so, or it was only repaired."""
    return repairs_only(live) or (live["spec"].get("updateStrategy") or {}).get("type") != "OnDelete"
