"""Word what set a value of a rendered object.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.documents.writer import to_yaml
from chronik.report.page import BOLD, CYAN, DIM, GREEN, YELLOW, Page

if TYPE_CHECKING:
    from chronik.problem import Location
    from chronik.render.origins import Explanation

_INDENT = "  "
_MOST_LINES = 20


def explanation_text(found: Explanation, *, width: int | None, color: bool) -> str:
    """Return for a person which template line, which fields of the spec and which patches set a value."""
    page = Page(width, color=color)
    page.line((f"{found.ref}", BOLD))
    _value(page, f"{found.path}:", found.value, "")
    page.line()
    for number, patch in enumerate(reversed(found.patches)):
        verb = "set by" if not number else "before that by"
        page.paragraph(f"{verb} patch {patch.position + 1} of spec.patches{_place(patch.location)}", colour=YELLOW)
        if number:
            _value(page, "value:", patch.value, _INDENT)
    if found.patches and found.before is None:
        page.paragraph("no template makes it", colour=GREEN)
        return page.text
    verb = "before that by" if found.patches else "set by"
    page.paragraph(f"{verb} {found.template.file}:{found.template.line}", colour=GREEN)
    page.line(_INDENT, (found.template.text.strip(), CYAN))
    if found.patches:
        _value(page, "value:", found.before, _INDENT)
    if found.reads:
        page.paragraph("which reads", colour=GREEN)
    for field in found.reads:
        where = _place(field.location) or (": absent" if field.value is None else ": its default")
        value = "" if field.value is None else f" = {_short(field.value)}"
        page.hanging(f"{field.path}{value}{where}", _INDENT)
    return page.text


def explanation_data(found: Explanation) -> dict[str, Any]:
    """Return the same for programs; positions count from 0. `template` is the nearest line if none makes the value."""
    return {
        "object": {"kind": found.ref.kind, "namespace": found.ref.namespace, "name": found.ref.name},
        "path": found.path,
        "value": found.value,
        "templateValue": found.before,
        "template": {"file": found.template.file, "line": found.template.line, "text": found.template.text.strip()},
        "reads": [
            {"path": field.path, "value": field.value, "location": _location(field.location)} for field in found.reads
        ],
        "patches": [
            {"position": patch.position, "value": patch.value, "location": _location(patch.location)}
            for patch in found.patches
        ],
    }


def _location(location: Location | None) -> dict[str, Any] | None:
    return location and {"file": location.file, "line": location.line}


def _place(location: Location | None) -> str:
    return f", {location.file}:{location.line}" if location else ""


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(page: Page, label: str, value: Any, indent: str) -> None:
    """Write a value behind its label: on the same line if it is short, else as YAML below it."""
    if not isinstance(value, dict | list) and "\n" not in str(value):
        page.hanging(f"{label} {_short(value)}", indent)
        return
    page.line(indent, label)
    lines = to_yaml({"value": value}).splitlines()[1:]
    for line in lines[:_MOST_LINES]:
        page.paragraph(line, f"{indent}{_INDENT}")
    if len(lines) > _MOST_LINES:
        page.paragraph(f"… {len(lines) - _MOST_LINES} more lines", f"{indent}{_INDENT}", colour=DIM)
