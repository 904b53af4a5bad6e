"""What a request to the stand-in is about and how it wants it done: the terms that its parts talk in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.fake_server.kinds import Kind

Object = dict[str, Any]
Answered = tuple[int, Object]
"""The code and the body of an answer."""


@dataclass(frozen=True)
class Target:
    """What a request is about."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass
class Options:
    """How a request wants it done; `warnings` collects what the answer's Warning headers say."""

    dry_run: bool = False
    manager: str = ""
    force: bool = False
    validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)


def now() -> str:
    """Return the time as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
