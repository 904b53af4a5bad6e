"""Waits for what was applied to become ready, or for what was deleted to be gone: by watches, never by polling.

When an object is ready is decided in `health`, and how long a failure must last to count in `readiness`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.apply.creation import CreationFailures
from chronik.clock import Clock
from chronik.kube.informer import informer
from chronik.kube.reflector import KindSelector
from chronik.manifest import CLUSTER_LABEL, KIND_BY_NAME, POD, WORKLOAD_KINDS, ClusterKey, KindName
from chronik.status.creation import with_creation_failures
from chronik.status.health import Health, State
from chronik.status.readiness import Readiness, Unready, WaitState, takes_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from chronik.api.spec import Cluster
    from chronik.kube import Kube
    from chronik.manifest import Manifest, ObjectRef

__all__ = ["GRACE", "Unready", "WaitState", "cluster_selector", "wait_gone", "wait_ready"]

GRACE = 20.0
"""Seconds that an object has to fail before waiting for it is given up."""

_PATIENCE = 2.0
"""Seconds that pods may be missing before it is asked why."""
_MOST_NAMED = 40
"""Clusters that a selector names; of more, all clusters of the namespace are looked at."""


async def wait_ready(  # noqa: PLR0913  # what the caller chooses goes by name, and the clock is for tests
    kube: Kube,
    clusters: Sequence[Cluster],
    desired: Mapping[ClusterKey, Sequence[Manifest]],
    *,
    timeout: float,  # noqa: ASYNC109  # it ends in a list of what is not ready, not in an exception
    grace: float = GRACE,
    on_change: Callable[[WaitState], None] = lambda _: None,
    clock: Clock | None = None,
) -> list[Unready]:
    """Wait until all that was applied is ready, and return what is not: nothing, if all went well.

    Ends early once every cluster that is not ready has an object that fails for `grace` seconds; whatever fails then is
    `failed`, and says why in its pods' own words. After `timeout` seconds each object has its last reason. `on_change`
    gets how far it is, at the start and whenever that changes.

    Raises:
        ApiError: the objects cannot be read.
    """
    clock = clock or Clock()
    waited_for = {each.key: desired[each.key] for each in clusters}
    readiness = Readiness(waited_for, grace)
    deadline = clock.now() + timeout
    told: WaitState | None = None
    creation = CreationFailures(kube, clock, patience=_PATIENCE)
    async with informer(kube, await _scopes(kube, waited_for), clock) as live:
        while True:
            now = clock.now()
            state = readiness.look(with_creation_failures(live.objects, await creation.of(live.objects)), now)
            if state != told:
                on_change(state)
                told = state
            if readiness.is_hopeless(state):
                return list(readiness.concluded(state))
            if state.done or now >= deadline:
                return list(state.unready)
            await live.change(min(deadline - now, readiness.next_verdict(now), creation.next_look()))


async def wait_gone(
    kube: Kube,
    scopes: Sequence[KindSelector],
    uids: Collection[str],
    *,
    timeout: float,  # noqa: ASYNC109
    on_change: Callable[[WaitState], None] = lambda _: None,
    clock: Clock | None = None,
) -> list[Unready]:
    """Wait until the objects with these uids are gone, and return those that are left after `timeout` seconds.

    An object that is created anew under the same name is another object.

    Raises:
        ApiError: the objects cannot be read.
    """
    clock = clock or Clock()
    deadline = clock.now() + timeout
    told: WaitState | None = None
    async with informer(kube, scopes, clock) as live:
        while True:
            state = _leaving(live.objects, uids)
            if state != told:
                on_change(state)
                told = state
            now = clock.now()
            if state.done or now >= deadline:
                return list(state.unready)
            await live.change(deadline - now)


def _leaving(objects: Mapping[ObjectRef, Manifest], uids: Collection[str]) -> WaitState:
    left = [
        Unready(ref, Health(State.TERMINATING, _why_left(manifest["metadata"])))
        for ref, manifest in sorted(objects.items())
        if manifest["metadata"]["uid"] in uids
    ]
    return WaitState(len(uids) - len(left), len(uids), tuple(left))


def _why_left(metadata: Mapping[str, Any]) -> str:
    if not metadata.get("deletionTimestamp"):
        return "waits for the garbage collector"
    finalizers = ", ".join(metadata.get("finalizers") or ())
    return f"is being deleted; finalizer {finalizers} holds it" if finalizers else "is being deleted"


def cluster_selector(names: Sequence[str]) -> str:
    """Return the label selector of everything that belongs to some clusters."""
    if not names or len(names) > _MOST_NAMED:
        return CLUSTER_LABEL
    return f"{CLUSTER_LABEL} in ({','.join(sorted(names))})" if len(names) > 1 else f"{CLUSTER_LABEL}={names[0]}"


async def _scopes(kube: Kube, desired: Mapping[ClusterKey, Sequence[Manifest]]) -> list[KindSelector]:
    """Return what to look at: in each namespace the kinds that are waited for there, and the pods."""
    wanted: dict[str, tuple[set[str], set[KindName]]] = {}
    for key, manifests in desired.items():
        names, kinds = wanted.setdefault(key.namespace, (set(), set()))
        names.add(key.name)
        kinds.update(KindName.of(manifest) for manifest in manifests if takes_time(manifest))
    scopes: list[KindSelector] = []
    for namespace, (names, kinds) in wanted.items():
        selector = cluster_selector(sorted(names))
        found = [KIND_BY_NAME.get(kind.name) or await kube.kind(*kind) for kind in sorted(kinds)]
        scopes += [KindSelector(kind, namespace, selector) for kind in found]
        if any(kind.name in WORKLOAD_KINDS for kind in kinds):
            scopes.append(KindSelector(POD, namespace, selector, optional=True))
    return scopes
