"""Ask why pods are not created, as seldom as possible: one LIST of a few Events, and only while pods are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.clock import Clock
from chronik.errors import ApiError
from chronik.manifest import EVENT, POD
from chronik.status.creation import FAILURE_EVENTS, creation_failures, lacks_pods
from chronik.tasks import gathered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.kube import Kube
    from chronik.manifest import Manifest, ObjectRef

PAUSE, LONGEST_PAUSE = 5.0, 30.0
"""Seconds between two looks at the Events of the same missing pods: more with each, so much at most."""


async def read_creation_failures(kube: Kube, namespace: str, objects: Iterable[Manifest]) -> dict[ObjectRef, str]:
    """Return why pods of the StatefulSets among the objects of a namespace were not created.

    Raises:
        ApiError: Events cannot be listed.
    """
    present = [each for each in objects if each["metadata"].get("namespace") == namespace]
    pods = {each["metadata"]["name"] for each in present if each["kind"] == POD.name}
    listing = await kube.list(EVENT, namespace, field_selector=FAILURE_EVENTS)
    return creation_failures((each for each in present if each["kind"] != POD.name), listing.items, pods)


class CreationFailures:
    """Why pods of the objects that a command looks at are not created.

    `patience` is how many seconds pods may be missing before anything is asked. What cannot be asked is not told.
    """

    def __init__(self, kube: Kube, clock: Clock | None = None, *, patience: float = 0.0) -> None:
        self._kube, self._clock, self._patience = kube, clock or Clock(), patience
        self._lacking: frozenset[tuple[ObjectRef, int, int]] = frozenset()
        self._told: Mapping[ObjectRef, str] = {}
        self._due, self._pause = 0.0, PAUSE

    async def of(self, objects: Mapping[ObjectRef, Manifest]) -> Mapping[ObjectRef, str]:
        """Return the failures that are known of these objects, after another look at the Events if one is due."""
        lacking = missing_pods(objects)
        if lacking != self._lacking:
            self._lacking, self._due, self._pause = lacking, self._clock.now() + self._patience, PAUSE
        if not lacking:
            self._told = {}
        elif self._clock.now() >= self._due:
            self._told = await self._read(objects)
            self._due = self._clock.now() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return self._told

    def next_look(self) -> float:
        """Return in how many seconds another look is due; inf if no pods are missing."""
        return max(0.0, self._due - self._clock.now()) if self._lacking else float("inf")

    async def _read(self, objects: Mapping[ObjectRef, Manifest]) -> dict[ObjectRef, str]:
        namespaces = sorted({ref.namespace for ref, _, _ in self._lacking})
        found = await gathered(*(self._read_one(namespace, objects) for namespace in namespaces))
        return {ref: message for each in found for ref, message in each.items()}

    async def _read_one(self, namespace: str, objects: Mapping[ObjectRef, Manifest]) -> dict[ObjectRef, str]:
        try:
            return await read_creation_failures(self._kube, namespace, objects.values())
        except ApiError:
            return {}


def missing_pods(objects: Mapping[ObjectRef, Manifest]) -> frozenset[tuple[ObjectRef, int, int]]:
    """Return the StatefulSets that lack pods, each with how many it has and how many it should have."""
    return frozenset(
        (ref, (live.get("status") or {}).get("replicas", 0), live["spec"].get("replicas", 1))
        for ref, live in objects.items()
        if lacks_pods(live)
    )
