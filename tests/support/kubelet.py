"""Plays the kubelet for pods that the real controllers make, and reads what an operator wrote of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.operators import running

from chronik.manifest import POD
from chronik.operator.cache.cache import Selection

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from support.operators import Namespace

    from chronik.manifest import Manifest
    from chronik.operator.app import Operator

Write = tuple[str, str, str, str, str]


def with_rights(place: Namespace, **options: Any) -> AbstractAsyncContextManager[Operator]:
    """Run an operator that may delete pods."""
    return running(
        place.server, place.name, selection=Selection((place.name,), features=frozenset({"rollouts"})), **options
    )


async def say(place: Namespace, pod: str, ready: str) -> None:
    """Say of a pod whether it is ready, as a kubelet does."""
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}
    await asyncio.to_thread(place.server.call, "PATCH", place.path(POD, pod, "status"), status, patch="merge")


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def image_of(pod: Manifest) -> str:
    """Return the image of a pod."""
    return str(pod["spec"]["containers"][0]["image"])


def writes(place: Namespace, prefix: str = "c-ingest") -> list[Write]:
    """Return what the operator wrote of pods and StatefulSets: verb, resource, name, and who and what."""
    found = []
    for each in place.server.requests_of(place.name):
        if each.writes and each.resource in {"statefulsets", "pods"} and each.user_agent.startswith("chronik"):
            metadata = {**(each.body or {}).get("metadata", {}), "resourceVersion": None}
            body = repr({**(each.body or {}), "metadata": metadata})
            found.append((each.verb, each.resource, each.name, each.query.get("fieldManager", ""), body))
    return [each for each in found if each[2].startswith(prefix)]


def twice(found: list[Write]) -> list[Write]:
    """Return what was written again right after it had been: of one object by one manager."""
    last: dict[tuple[str, str, str], str] = {}
    again = []
    for verb, resource, name, manager, body in found:
        if last.get((resource, name, manager)) == body and verb != "delete":
            again.append((verb, resource, name, manager, body))
        last[resource, name, manager] = body
    return again
