"""What is wrong with a document, as data: how it is worded and printed is decided elsewhere."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Path = tuple[str | int, ...]
"""The way from a document's root to a value: `("spec", "tolerations", 0, "key")`."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Location(NamedTuple):
    """A place in a text; `line` and `column` count from 1, `text` is the whole line."""

    file: str
    line: int
    column: int
    text: str


class Problem(NamedTuple):
    """One finding: `message` says what is wrong and what is allowed, `hint` what to do, `code` which check it was.

    `subject` is the file or folder that is meant as a whole, if there is no place in it.
    """

    severity: Literal["error", "warning"]
    code: str
    path: Path
    message: str
    hint: str = ""
    location: Location | None = None
    subject: str = ""


def format_path(path: Path) -> str:
    """Write a path as Kubernetes does: `spec.tolerations[0].key`, `spec.podLabels[a/b]`."""
    text = ""
    for part in path:
        if isinstance(part, str) and _PLAIN_KEY.fullmatch(part):
            text += f".{part}"
        else:
            text += f"[{part}]"
    return text.removeprefix(".")
