"""Word how far a canary is, and which steps one would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS, is_blue_green

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.spec import Cluster, Pause


def state_text(found: Mapping[str, Any]) -> str:
    """Return how far a canary is in one line, by `status.rollout`."""
    step = f", step {found['step']} of {found['of']}" if 0 < found.get("step", 0) <= found.get("of", 0) else ""
    message = f": {found['message']}" if found.get("message") else ""
    return f"{found.get('phase')}{step}, candidate {found.get('candidate')}{message}"


def component_texts(found: Mapping[str, Any]) -> dict[str, str]:
    """Return how far each component is, by its name."""
    return {
        each["name"]: f"{each['updated']} of {each['of']} pods on it, {each['ready']} of them ready"
        for each in found.get("components") or ()
    }


def step_texts(cluster: Cluster) -> tuple[str, ...]:
    """Return the steps that an operator would take when pods of a cluster change, in words; none if it just rolls."""
    rollout = cluster.spec["rollout"]
    if rollout is None:
        return ()
    found: list[str] = []
    if rollout["canary"] is not None and rollout["strategy"] == "Canary":
        for each in rollout["canary"]["steps"]:
            pods = f"{each['pods']} pod{'s' if each['pods'] != 1 else ''}"
            found.append(f"{pods} of each component{_pause(each['pause'])}")
        found.append("all others")
    if is_blue_green(rollout):
        settings = rollout["blueGreen"]
        after = "" if found else _pause({"duration": settings["autoPromoteAfter"]})
        switched = f"their Service is switched, and the old ones go after {settings['scaleDownDelay']}"
        (nodes,) = (each.plural for each in COMPONENTS.values() if not each.stateful)
        found.append(f"{nodes}: as many new ones beside the old{after}, then {switched}")
    return tuple(found)


def _pause(pause: Pause | None) -> str:
    if pause is None:
        return ""
    return f", then a pause of {pause['duration']}" if pause["duration"] else ", until it is promoted"
