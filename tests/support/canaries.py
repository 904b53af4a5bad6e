"""Canaries on a cluster that has controllers and no nodes: a kubelet that is played, and a cluster that rolls."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from support.kubelet import image_of, is_ready, say
from support.operators import Namespace, eventually, small

from chronik.manifest import CLUSTER, POD, ROLLOUT_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = [{"pods": 1, "pause": {}}, {"pods": "60%", "pause": {"duration": "1s"}}]
NEW = {"ingest": "chronik/ingest:2.0", "controller": "chronik/controller:2.0"}
ALL = {f"c-controller-{number}" for number in range(3)} | {f"c-ingest-{number}" for number in range(3)}


class Clock:
    """What time the operator takes it to be: it goes on from when it was last set."""

    def __init__(self, now: datetime) -> None:
        self.set(now)

    def set(self, now: datetime) -> None:
        """Have it be another time."""
        self._base, self._began = now, time.monotonic()

    def __call__(self) -> str:
        """Return the time, as the API server writes it."""
        now = self._base + timedelta(seconds=time.monotonic() - self._began)
        return now.strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """Has pods ready, but for those whose image ends in one that is bad; `most_new` is how many were new at a time."""

    def __init__(self, place: Namespace, bad: str = ":none") -> None:
        self.place, self.bad = place, bad
        self.down: Counter[str] = Counter()

    async def look(self) -> tuple[set[str], bool]:
        """Look once; return the names of pods on version 2, and whether all pods are ready."""
        pods = [pod for pod in await self.place.list(POD) if "deletionTimestamp" not in pod["metadata"]]
        ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
        for part in ("controller", "ingest"):
            count = 3 - sum(name.startswith(f"c-{part}") for name in ready)
            self.down[part] = max(self.down[part], count)
        for pod in pods:
            if not is_ready(pod) and not image_of(pod).endswith(self.bad):
                await say(self.place, pod["metadata"]["name"], "True")
        new = {pod["metadata"]["name"] for pod in pods if not image_of(pod).endswith(":1.0")}
        return new, len(ready) == len(ALL)

    async def until(self, phase: str, step: int | None = None, seconds: float = 60) -> Any:
        """Play until a rollout is in a phase, and at a step; return its status and which pods are new."""
        last: dict[str, Any] = {}

        async def there() -> Any:
            new, _ = await self.look()
            status = (await self.place.cluster("c")).get("status") or {}
            rollout = last["rollout"] = status.get("rollout") or {}
            ours = rollout.get("phase") == phase and step in {None, rollout.get("step")}
            return (rollout, new) if ours else None

        try:
            return await eventually(there, seconds)
        except AssertionError as error:
            raise AssertionError(f"{phase} {step}: {last}") from error


async def launched(place: Namespace, windows: Sequence[dict[str, str]] = (), **canary: Any) -> Kubelet:
    """Create a cluster of three controllers and three ingest nodes with a canary, and have it run."""
    await place.secret("first")
    rollout = {"strategy": "Canary", "canary": {"steps": STEPS, **canary}, "windows": [*windows]}
    await place.create(small(place.name, controllers=3, ingestNodes=3, rollout=rollout))
    kubelet = Kubelet(place)
    await kubelet.until("Complete")

    async def runs() -> bool:
        _, ready = await kubelet.look()
        return bool(ready and (await place.cluster("c"))["status"]["phase"] == "Running")

    await eventually(runs)
    kubelet.down.clear()
    return kubelet


async def command(place: Namespace, text: str) -> None:
    """Ask for something, as `kubectl annotate` does."""
    await place.edit(CLUSTER, "c", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: text}}})


async def uids(place: Namespace) -> dict[str, str]:
    """Return the pods by name."""
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await place.list(POD)}
