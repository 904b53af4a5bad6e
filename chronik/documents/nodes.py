"""A document as nodes: values with their places, before the places are stripped off.

What reading YAML and reading JSON have in common: the node, the mistakes after which they go on, and the bounds at
which they give up. A document is read once for its tree, and once more when a place in it is asked for, so that correct
documents keep no places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from chronik.documents.scalars import ScalarError

_CHARACTERS_A_VALUE = 6  # as a power of two: long text counts as more than one value


class Limits(NamedTuple):
    """How much of a file is read before it is refused; each is far beyond any set of clusters.

    `depth` counts maps and lists inside each other, `values` everything in a file with its aliases expanded (text by
    its length), `aliased` what aliases add to one document, and `problems` is where reporting stops.
    """

    documents: int = 10_000
    depth: int = 100
    values: int = 1_500_000
    aliased: int = 100_000
    problems: int = 100


@dataclass(slots=True)
class Node:
    """A value that begins at the offset `start`: a scalar, a list of nodes, or a map of them.

    `keys` says where each key of a map begins.
    """

    start: int
    value: Any
    keys: dict[str, int]


NO_KEYS: dict[str, int] = {}


class Mistake(NamedTuple):
    """Something wrong at an offset; if `other` is a second place, `hint` names it as `{line}`."""

    code: str
    path: tuple[str | int, ...]
    start: int
    message: str
    hint: str = ""
    other: int | None = None


class Abandoned(Exception):
    """The document goes beyond a limit, which is noted, and reading it ends."""


class NodeReader:
    """What every reader does: know the path, note mistakes, count values, and fill maps."""

    def __init__(self, limits: Limits, values: int = 0) -> None:
        self.limits = limits
        self.values = values
        self.mistakes: list[Mistake] = []
        self.path: list[str | int] = []
        self.broken = False

    def note(self, code: str, start: int, message: str, hint: str = "", *, other: int | None = None) -> None:
        """Note a mistake that leaves it clear what the document means to kubectl; after too many, give up."""
        self.mistakes.append(Mistake(code, tuple(self.path), start, message, hint, other))
        if len(self.mistakes) > self.limits.problems:
            self.broken = True
            raise Abandoned

    def note_broken(self, code: str, start: int, message: str, hint: str = "") -> None:
        """Note a mistake that leaves a value unknown."""
        self.broken = True
        self.note(code, start, message, hint)

    def note_scalar(self, start: int, error: ScalarError) -> None:
        """Note a scalar that has no value."""
        self.note_broken(error.code, start, str(error), error.hint)

    def abandon(self, start: int, message: str, hint: str) -> Abandoned:
        """Note the limit that a document exceeds, and return what to raise."""
        self.path = []  # it is about the whole document, and may be very long
        self.note_broken("limit", start, message, hint)
        return Abandoned()

    def count(self, start: int, text: str = "") -> None:
        """Count one value, a long text as several."""
        self.values += 1 + (len(text) >> _CHARACTERS_A_VALUE)
        if self.values > self.limits.values:
            message = f"the file holds more than {self.limits.values:,} values up to here"
            raise self.abandon(start, message, "Split the file.")

    def check_depth(self, start: int, depth: int) -> None:
        """Give up if maps and lists are nested too deeply."""
        if depth > self.limits.depth:
            raise self.abandon(start, f"maps and lists are nested more than {self.limits.depth} deep", "Flatten them.")

    def put(self, node: Node, key: str, start: int, value: Node) -> None:
        """Set a key of a map; of two that are the same the later one counts, as it does for kubectl."""
        if key in node.keys:
            self._note_duplicate(key, start, node.keys[key])
        node.keys[key] = start
        node.value[key] = value

    def _note_duplicate(self, key: str, start: int, first: int) -> None:
        parents, self.path = self.path, [*self.path[:-1], key]
        self.note("duplicate-key", start, "set twice in one map", "Line {line} sets it, too: keep one.", other=first)
        self.path = parents


def tree_of(node: Node) -> Any:
    """Return the plain value of a node; aliases become copies, so that changing one changes no other."""
    value = node.value
    if type(value) is dict:
        return {key: tree_of(child) for key, child in value.items()}
    if type(value) is list:
        return [tree_of(child) for child in value]
    return value
