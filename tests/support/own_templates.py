"""Templates that add objects, and a kind of somebody's that they may be of."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from support.definitions import definition

from chronik.manifest import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from support.api import ApiServer

_NUMBERS = count()

CONFIG = """\
{# for: cluster #}
apiVersion: v1
kind: ConfigMap
metadata: {{ part("metadata", name=cluster.name ~ "-extra") }}
data:
  text: TEXT
"""
GADGET = """\
{# for: component #}
{% if component.name == "ingest" %}
apiVersion: GROUP/v1
kind: Gadget
metadata:
  name: {{ name }}
spec:
  size: TEXT
{% endif %}
"""


def new_kind() -> Kind:
    """Return a kind of a group that no other test has."""
    return Kind(f"g{next(_NUMBERS)}x{id(_NUMBERS) % 9999}.example.com/v1", "Gadget", "gadgets", stage=-1)


def free_kind(kind: Kind, *, scope: str = "Namespaced") -> dict[str, Any]:
    """Return the definition of a kind whose spec and status may be anything."""
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": free, "status": free}}
    return definition(kind.id, kind.plural, schema, scope=scope, status=True)


def install(server: ApiServer, kind: Kind) -> None:
    """Install a kind, and wait until it is served."""
    server.install([free_kind(kind)])
    server.wait_served(f"/apis/{kind.api_version}/{kind.plural}")


def texts(kind: Kind, text: str = "one") -> dict[str, str]:
    """Return a ConfigMap and a custom resource, as templates by name."""
    group = kind.api_version.partition("/")[0]
    found = {"extra.yaml.j2": CONFIG, "gadget.yaml.j2": GADGET.replace("GROUP", group)}
    return {name: each.replace("TEXT", text) for name, each in found.items()}


def folder(place: Path, templates: dict[str, str]) -> str:
    """Write templates into a folder, and take all others away; return its name."""
    place.mkdir(exist_ok=True)
    for file in place.iterdir():
        file.unlink()
    for name, text in templates.items():
        (place / name).write_text(text, "utf-8")
    return str(place)
