"""Objects as chronik applied them and as a real kube-apiserver then showed them: tests/plan/observed.

`test_ownership` and `test_plan` read them; `test_plan_real` checks that servers still answer so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "plan" / "observed"
FILES = sorted(FOLDER.glob("*.yaml"))

Object = dict[str, Any]


@cache
def _read(path: Path) -> str:
    return path.read_text("utf-8")


def recorded(path: Path) -> tuple[Object, Object]:
    """Return what was applied and what was shown, both to do with as one pleases."""
    applied, live = yaml.load_all(_read(path), yaml.CSafeLoader)
    return applied, live


def at(value: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path of `fieldsV1` keys; raise LookupError if there is none."""
    for key in path:
        form, name = key[0], key[2:]
        value = value[name] if form == "f" else next(item for item in value if _is_item(item, form, name))
    return value


def with_value(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """Return a copy with another value at a path, which must exist; None removes it."""
    if not path:
        return new
    form, name = path[0][0], path[0][2:]
    if form == "f":
        part = with_value(value[name], path[1:], new)
        return {key: child for key, child in (value | {name: part}).items() if key != name or part is not None}
    items = [with_value(item, path[1:], new) if _is_item(item, form, name) else item for item in value]
    return [item for item in items if item is not None]


def _is_item(item: Any, form: str, text: str) -> bool:
    key = yaml.safe_load(text)
    if form == "v":
        return bool(item == key)
    return all(item.get(name, "TCP" if name == "protocol" else None) == part for name, part in key.items())
