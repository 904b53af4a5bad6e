"""An operator that is killed at a write that a test chooses, and pods that mount what their workloads say."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.operators import CONFIG_MAP, Namespace, world_of

from chronik.apply.executor import Execution
from chronik.manifest import CLUSTER_LABEL, POD
from chronik.operator.backups.reconcile import reconcile_backup
from chronik.operator.reconcile import reconcile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from chronik.kube import Kube
    from chronik.manifest import ClusterKey, Manifest, WorkKey
    from chronik.operator.context import ReconcileContext

_WRITES = {"apply", "merge", "create", "delete"}


class _Killed(BaseException):
    """Ends everything, as SIGKILL does: no code of ours catches it."""


class Dying:
    """An API client that kills its operator at a write, which the server still gets or never sees."""

    def __init__(self, kube: Kube, after: int, *, arrives: bool) -> None:
        self._kube, self._left, self._arrives = kube, after, arrives
        self.killed = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._kube, name)
        return self._counted(method) if name in _WRITES else method

    def _counted(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def write(*arguments: Any, **options: Any) -> Any:
            if not self.killed and self._left > 0:
                self._left -= 1
                return await method(*arguments, **options)
            if not self.killed:
                self.killed = True
                if self._arrives:
                    await method(*arguments, **options)
            raise _Killed

        return write


async def pass_until(key: ClusterKey, world: ReconcileContext, kube: Dying) -> None:
    """Run a pass that dies as `kube` says, if it gets so far."""
    with suppress(_Killed, BaseExceptionGroup):
        await reconcile(key, replace(world, kube=kube, execution=Execution(kube=kube)))


async def pass_over_backup_until(key: WorkKey, world: ReconcileContext, kube: Dying) -> None:
    """Run a pass over a backup that dies as `kube` says, if it gets so far."""
    with suppress(_Killed, BaseExceptionGroup):
        await reconcile_backup(key, replace(world, kube=kube, execution=Execution(kube=kube)))


async def killed_pass(place: Namespace, key: ClusterKey, after: int, *, arrives: bool, **parts: Any) -> bool:
    """Run one pass of a new operator that is killed after so many writes; return whether there were more than that."""
    async with world_of(place, **parts) as world:
        dying = Dying(world.kube, after, arrives=arrives)
        await pass_until(key, world, dying)
    return dying.killed


def mounted(spec: Manifest) -> Iterator[str]:
    """Yield the ConfigMaps that a pod mounts."""
    for volume in spec.get("volumes") or ():
        if "configMap" in volume and volume["name"] == "config":
            yield volume["configMap"]["name"]


async def replace_pods(place: Namespace) -> None:
    """Replace the first pod of each workload that changed by one of its new template, and say that all is ready."""
    for ref, live in (await place.workloads()).items():
        if (live.get("status") or {}).get("observedGeneration") == live["metadata"]["generation"]:
            continue
        name = f"{ref.name}-0"
        if await place.get(POD, name):
            await place.delete(POD, name)
        template = live["spec"]["template"]
        metadata = {"name": name, "namespace": place.name, "labels": template["metadata"]["labels"]}
        volumes = [{"name": "config", "configMap": {"name": each}} for each in mounted(template["spec"])]
        spec = {"containers": [{"name": "x", "image": "x"}], "volumes": volumes}
        await place.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await place.call("PATCH", place.path(POD, name, "status"), status, patch="merge")
        await place.roll_out(ref)


async def lost_mounts(place: Namespace) -> set[str]:
    """Return the ConfigMaps that pods or workloads name and that are gone: a pod that starts anew would hang."""
    here = {each["metadata"]["name"] for each in await place.list(CONFIG_MAP)}
    specs = [each["spec"] for each in await place.list(POD)]
    specs += [each["spec"]["template"]["spec"] for each in (await place.workloads()).values()]
    return {name for spec in specs for name in mounted(spec)} - here


async def configurations(place: Namespace) -> dict[str, Manifest]:
    """Return the ConfigMaps of chronik's by name."""
    found = await place.list(CONFIG_MAP)
    return {each["metadata"]["name"]: each for each in found if CLUSTER_LABEL in each["metadata"].get("labels", {})}
