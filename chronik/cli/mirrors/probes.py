"""Asks the probes of mirrors how their copies are, through the API server. What no probe tells is not known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from chronik.api.replication.copies import CopyState, best_state, copy_state
from chronik.errors import ApiError
from chronik.manifest import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.kube import Kube
    from chronik.manifest import Manifest

_WITHIN = 5.0
"""Seconds that a probe has."""


class Answer(NamedTuple):
    """What the probes of a mirror know of its copy; `why` is what kept them from saying so, if none did."""

    state: CopyState | None
    why: str = ""


async def ask_probes(kube: Kube, pods: Iterable[Manifest]) -> Answer:
    """Return what the pods of one mirror know of its copy."""
    asked = [(ObjectRef.of({"kind": "Pod", **pod}), port) for pod in pods if (port := _port(pod))]
    answers = await asyncio.gather(*(_ask(kube, ref, port) for ref, port in asked))
    state = best_state([each for each in answers if isinstance(each, CopyState)])
    why = next((each for each in answers if isinstance(each, str)), "it has no pod that runs")
    return Answer(state, "" if state else why)


async def _ask(kube: Kube, pod: ObjectRef, port: int) -> CopyState | str:
    """Return what one probe says, or why it does not."""
    try:
        async with asyncio.timeout(_WITHIN):
            data = await kube.ask_pod(pod, port, "/state")
    except TimeoutError:
        return f"the probe of {pod.name} did not answer in {_WITHIN:.0f} s"
    except ApiError as error:
        return f"the probe of {pod.name} cannot be asked: {error.message}"
    found = copy_state(data) if isinstance(data, dict) else None
    return found or f"the probe of {pod.name} is of another version"


def _port(pod: Manifest) -> int:
    """Return where the probe of a pod answers; 0 if the pod is not on the network, or has no probe."""
    if not (pod.get("status") or {}).get("podIP"):
        return 0
    ports = (
        port["containerPort"]
        for container in pod["spec"]["containers"]
        if container["name"] == "probe"
        for port in container.get("ports") or ()
        if port.get("name") == "metrics"
    )
    return next(ports, 0)
