"""What differs between two texts, line by line: nothing left out, nothing made up, and what is alike folded away.

A reader of a manifest's diff has to be able to trust it: from the lines returned here, either text can be built out of
the other one. tests/report/test_text_diff.py does so for any two texts.
"""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Sign = Literal["-", "+", " ", "@"]

CONTEXT_LINES = 3
_SHORTEST_FOLD = 4  # what is shorter is easier to read than where it is folded
_MOST_PAIRS = 50_000  # of equal lines; beyond, difflib has to look at rare lines first, or takes minutes
_NO_END = "  (no line break at the end of the file)"
_ITEM = "- "


class DiffLine(NamedTuple):
    """One line of a diff: removed, added or unchanged; `@` stands for `folded` unchanged lines, `text` for their end.

    The text of a fold says where in a YAML document the next line stands: `spec.template.spec`.
    """

    sign: Sign
    text: str
    folded: int = 0


def diff_lines(old: str, new: str, context: int = CONTEXT_LINES) -> list[DiffLine]:
    """Return the diff of two texts, with `context` unchanged lines around each change; nothing if they are equal."""
    if old == new:
        return []
    before, after = _lines(old), _lines(new)
    changes = _changes(before, after)
    found: list[DiffLine] = []
    at = 0
    for start, stop, added in changes:
        found += _unchanged(before, at, start, context if found else 0, context)
        found += [DiffLine("-", line) for line in before[start:stop]]
        found += [DiffLine("+", line) for line in added]
        at = stop
    return [*found, *_unchanged(before, at, len(before), context, 0)]


def _lines(text: str) -> list[str]:
    """Cut a text at its line feeds alone, as YAML's writers do; say so if there is none at the end."""
    *lines, rest = text.split("\n")
    return [*lines, rest + _NO_END] if rest else lines


def _changes(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[int, int, Sequence[str]]]:
    """Yield which lines of the old text go, as a range, and what comes in their place; in order."""
    head = _alike(before, after)
    tail = _alike(before[head:][::-1], after[head:][::-1])
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    counts = Counter(new)
    pairs = sum(counts[line] for line in old)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=pairs > _MOST_PAIRS)
    for tag, start, stop, first, last in matcher.get_opcodes():
        if tag != "equal":
            yield head + start, head + stop, new[first:last]


def _alike(left: Sequence[str], right: Sequence[str]) -> int:
    """Return how many lines two texts have in common from their beginnings."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((number for number, (one, two) in pairs if one != two), min(len(left), len(right)))


def _unchanged(lines: Sequence[str], start: int, stop: int, lead: int, trail: int) -> Iterator[DiffLine]:
    """Yield a stretch of unchanged lines: `lead` of them, a fold, and `trail` of them; all if a fold saves nothing."""
    folded = stop - start - lead - trail
    if folded < _SHORTEST_FOLD:
        yield from (DiffLine(" ", line) for line in lines[start:stop])
        return
    yield from (DiffLine(" ", line) for line in lines[start : start + lead])
    at = start + lead + folded
    yield DiffLine("@", _place(lines, at) if at < len(lines) else "", folded)
    yield from (DiffLine(" ", line) for line in lines[at:stop])


def _place(lines: Sequence[str], at: int) -> str:
    """Return the keys that a line of YAML stands below, by its indentation: `spec.containers[name=ingest]`."""
    path, depth = "", _depth(lines[at])
    for line in reversed(lines[:at]):
        if not depth:
            break
        if line.strip() and _depth(line) < depth:
            depth = _depth(line)
            path = _key(line) + ("." if path and not path.startswith("[") else "") + path
    return path


def _depth(line: str) -> float:
    """Return how deep a line is; an item of a list is half a step deeper than its key, which YAML does not indent."""
    spaces = len(line) - len(line.lstrip(" "))
    return spaces + 0.5 * line[spaces:].startswith(_ITEM)


def _key(line: str) -> str:
    key, _, value = line.strip().removeprefix(_ITEM).partition(": ")
    if not line.lstrip().startswith(_ITEM):
        return key.removesuffix(":")
    return f"[name={value}]" if key == "name" and value else "[]"
