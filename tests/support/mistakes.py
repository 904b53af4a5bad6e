"""The documents of tests/api/invalid and tests/api/warnings, and what their first comments say is wrong with them.

`# no warning` at the head of a file says that nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Mistake:
    """One document; `expected` is what there is to say about it, sorted, as `severity: path: message`."""

    name: str
    document: dict[str, Any]
    expected: list[str]

    def __str__(self) -> str:
        return self.name


def _mistake(path: Path) -> Mistake:
    text = path.read_text("utf-8")
    heads = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    if not heads:
        raise ValueError(f"{path} does not begin with what is wrong with it")
    return Mistake(path.stem, yaml.safe_load(text), sorted(head for head in heads if head != "no warning"))


def _mistakes(folder: str) -> list[Mistake]:
    return [_mistake(path) for path in sorted((Path(__file__).parents[1] / "api" / folder).glob("*.yaml"))]


INVALID, WARNINGS = _mistakes("invalid"), _mistakes("warnings")
