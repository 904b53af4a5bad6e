"""Find and read `templates/`, `schema/` and `deploy/`, in a checkout and in an installed wheel alike.

They lie at the top of the repository, where people look for them, and inside the wheel as `chronik/_data`. This module
is the only one that knows; the pure core is handed texts.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronik.manifest import CLUSTER_KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

from chronik.kubernetes_types import Definitions

_PACKAGE = Path(__file__).parents[1]
_ROOT = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent

TEMPLATES = _ROOT / "templates"
SCHEMA = _ROOT / "schema"
DEPLOY = _ROOT / "deploy"


def template_text(name: str) -> str | None:
    """Return one of chronik's own templates, or None if there is none of that name."""
    try:
        return (TEMPLATES / name).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


@cache
def template_names() -> frozenset[str]:
    """Return the names of chronik's own templates."""
    return frozenset(file.relative_to(TEMPLATES).as_posix() for file in TEMPLATES.rglob("*.j2"))


@cache
def schema(kind: str = CLUSTER_KIND) -> dict[str, Any]:
    """Return the JSON Schema of a document of a kind."""
    document: dict[str, Any] = json.loads((SCHEMA / f"{kind.lower()}.schema.json").read_text("utf-8"))
    if kind == CLUSTER_KIND:
        return document | {"$defs": Definitions(document["$defs"], kubernetes_fields)}
    return _with_metadata(document, schema(CLUSTER_KIND)["$defs"])


def _with_metadata(document: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose objectMeta is that of a ChronikCluster, but for what it says itself."""
    own, theirs = document["$defs"]["objectMeta"], shared["objectMeta"]
    meta = {**theirs, **own, "properties": {**theirs["properties"], **own["properties"]}}
    used = {name: shared[name] for name in _referenced(meta, shared)}
    return {**document, "$defs": {**used, **document["$defs"], "objectMeta": meta}}


def _referenced(raw: Any, shared: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the definitions that a schema refers to, and those that they refer to."""
    if isinstance(raw, dict):
        name = str(raw.get("$ref", "")).removeprefix("#/$defs/")
        if name:
            yield name
            yield from _referenced(shared[name], shared)
    for part in raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ():
        yield from _referenced(part, shared)


@cache
def kubernetes_fields() -> dict[str, Any]:
    """Return the table of the kinds of Kubernetes and their fields."""
    table: dict[str, Any] = json.loads((SCHEMA / "kubernetes.json").read_text("utf-8"))
    return table


@cache
def rules_text() -> str:
    """Return the rule book, as YAML text."""
    return (SCHEMA / "rules.yaml").read_text("utf-8")
