"""How clusters are, as plain data for programs: what `chronik status -o json` and `-o yaml` print.

The keys stay as they are from version to version; new ones may come. Pure; `cli_status` prints it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.status.view import ClusterView
    from chronik.status.view_parts import Address, Autoscaler, ComponentView, Pod, Volume


def as_data(views: Iterable[ClusterView]) -> dict[str, Any]:
    """Return clusters as plain data, for `-o json` and `-o yaml`."""
    return {"clusters": [_data(view) for view in views]}


def as_json(views: Iterable[ClusterView], *, compact: bool = False) -> str:
    """Return clusters as JSON text: indented, or all in one line."""
    return json.dumps(as_data(views), indent=None if compact else 2, ensure_ascii=False) + "\n"


def _data(view: ClusterView) -> dict[str, Any]:
    return {
        "namespace": view.key.namespace,
        "name": view.key.name,
        "phase": view.phase,
        "ready": view.ready,
        "created": view.created or None,
        "generation": view.generation,
        "paused": view.paused,
        "specFrom": view.origin,
        "components": [_component_data(part) for part in view.components],
        "addresses": [_plain(address) for address in view.addresses],
        "waitsFor": list(view.waits_for),
        "notes": list(view.notes),
        "status": dict(view.status),
    }


def _component_data(part: ComponentView) -> dict[str, Any]:
    return {
        "name": part.status.component.count_field,
        "workload": str(part.ref),
        "wanted": part.status.wanted,
        "ready": part.status.ready,
        "existing": part.existing,
        "updated": part.updated,
        "settled": part.status.settled,
        "state": part.status.health.state.value,
        "message": part.reason,
        "endpoints": list(part.status.endpoints),
        "autoscaler": _plain(part.autoscaler) if part.autoscaler else None,
        "pods": [_plain(pod) for pod in part.pods],
        "volumes": [_plain(volume) for volume in part.volumes],
    }


def _plain(thing: Pod | Volume | Autoscaler | Address) -> dict[str, Any]:
    """Return a thing by its fields, under the names that Kubernetes would give them; what is empty is null."""
    return {_camel(name): _json(value) for name, value in asdict(thing).items()}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if value == "" else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))
