"""Find and read `templates/`, `schema/` and `deploy/`, in a checkout and in an installed wheel alike.

They lie at the top of the repository, where people look for them, and inside the wheel as `chronik/_data`. This module
is the only one that knows; the pure core is handed texts.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from chronik.api.kubernetes_types import Definitions

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
def schema() -> dict[str, Any]:
    """Return the JSON Schema of a ChronikCluster document."""
    document: dict[str, Any] = json.loads((SCHEMA / "chronikcluster.schema.json").read_text("utf-8"))
    return document | {"$defs": Definitions(document["$defs"], kubernetes_fields)}


@cache
def kubernetes_fields() -> dict[str, Any]:
    """Return the table of the kinds of Kubernetes and their fields."""
    table: dict[str, Any] = json.loads((SCHEMA / "kubernetes.json").read_text("utf-8"))
    return table


@cache
def rules_text() -> str:
    """Return the rule book, as YAML text."""
    return (SCHEMA / "rules.yaml").read_text("utf-8")
