"""Where a value of a rendered object comes from: the line of the template that made it, or the patch that changed it.

A template's skeleton is text with lines, and the data that it becomes has the same shape. So the way to a value can be
walked in both at once, into the parts too: what a part made is known by its identity. What a filter or a function has
put together out of several values counts as made by the line where that stands.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from chronik.manifest import lasting_name
from chronik.problem import format_path
from chronik.render.skeleton import OMIT, PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chronik.manifest import Manifest, ObjectRef
    from chronik.problem import Location, Path

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STEP = re.compile(
    r"""\.?(?P<name>[^.\[\]]+)                           # .spec
      | \[(?P<number>\d+)\]                              # [0]
      | \[(?P<keys>\w+=(?:"(?:[^"\\]|\\.)*"|[^"\],]*)(?:,\w+=(?:"(?:[^"\\]|\\.)*"|[^"\],]*))*)\]   # [name="x",port=1]
      | \["?(?P<key>[^\]"]+)"?\]                         # [kafka], [example.com/owner]
    """,
    re.VERBOSE,
)
_KEY = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^",]*)')


class FieldPathError(ValueError):
    """A path to a field cannot be read, or leads nowhere; `reached` is how far it leads, `there` what stands there."""

    def __init__(self, message: str, reached: Path = (), there: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reached = reached
        self.there = there


def resolve(value: Any, text: str) -> Path:
    """Return the way to a field that is written as people and `chronik diff` write it.

    Items of lists are named by position, by name or by their keys: `containers[0]`, `ports[kafka]`,
    `ports[containerPort=9092,protocol="TCP"]`.

    Raises:
        FieldPathError: it is no path, or there is no such field in `value`.
    """
    path: list[str | int] = []
    place = 0
    while place < len(text):
        found = _STEP.match(text, place)
        if found is None:
            raise FieldPathError(f"{text[place:]} is no field")
        place = found.end()
        step = _step(value, found)
        if step is None:
            raise FieldPathError(f"there is no {found[0].lstrip('.')}", tuple(path), tuple(_names(value)))
        path.append(step)
        value = value[step]
    return tuple(path)


def _step(value: Any, found: re.Match[str]) -> str | int | None:
    wanted = found["name"] or found["key"] or found["number"] or found["keys"]
    if isinstance(value, dict):
        return wanted if wanted in value else None
    if not isinstance(value, list):
        return None
    if found["number"]:
        return int(wanted) if int(wanted) < len(value) else None
    keys = {key: _read(word) for key, word in _KEY.findall(wanted)} if found["keys"] else {"name": wanted}
    items = [{"name": item, **item} if isinstance(item, dict) else {"name": item} for item in _named(value)]
    return next((place for place, item in enumerate(items) if keys.items() <= item.items()), None)


def _named(items: list[Any]) -> Iterator[Any]:
    """Yield items with only what can tell them apart: their plain fields."""
    for item in items:
        plain = isinstance(item, dict)
        yield {key: part for key, part in item.items() if not isinstance(part, dict | list)} if plain else str(item)


def _read(word: str) -> Any:
    return json.loads(word) if word.startswith('"') or word.isdigit() else word


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield str(item.get("name", place)) if isinstance(item, dict) else str(place)


def by_name(value: Any, path: Path) -> tuple[str, ...]:
    """Return the steps of a path, each as it is written, with items of lists by name where they have one.

    So they mean the same item in an object with fewer items before it. `"".join` makes one text of them.
    """
    steps: list[str] = []
    for step in path:
        value = value[step]
        named = isinstance(step, int) and isinstance(value, dict) and isinstance(value.get("name"), str)
        text = f"[{value['name']}]" if named else format_path((step,))
        steps.append(text if not steps or text.startswith("[") else f".{text}")
    return tuple(steps)


def at(value: Any, path: Sequence[str | int]) -> Any:
    """Return what stands at a path, None where nothing does."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


class Origin(NamedTuple):
    """A line of a template; `line` counts from 1, None if it cannot be told."""

    template: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Made:
    """What one template made: `value` out of `text`, the skeleton, and what was bound into it.

    `template_line` turns a line of the skeleton into one of the template.
    """

    template: str
    text: str
    placeholders: list[Any]
    value: Any
    template_line: Callable[[int], int | None]


class Trace:
    """Remembers what templates make. It is given to `Templates`, and asked when all is rendered."""

    def __init__(self) -> None:
        self._made: dict[int, Made] = {}
        self._objects: dict[tuple[str, str], Made] = {}

    def add(self, made: Made) -> None:
        """Remember one result."""
        if not isinstance(made.value, dict | list):  # numbers and texts have no identity of their own
            return
        self._made.setdefault(id(made.value), made)
        if isinstance(made.value, dict) and {"kind", "metadata"} <= made.value.keys():
            # A configuration is rendered twice, for its name; the first is what is used.
            self._objects.setdefault((made.value["kind"], lasting_name(made.value)), made)

    def object(self, manifest: Manifest) -> Manifest:
        """Return an object as its template made it, before patches."""
        value: Manifest = self._objects[manifest["kind"], lasting_name(manifest)].value
        return value

    def origin(self, manifest: Manifest, path: Path) -> Origin:
        """Return the line that made a value of an object; of what is not in the template, the nearest around it."""
        return self._origin(self._objects[manifest["kind"], lasting_name(manifest)], path)

    def _origin(self, made: Made, path: Path) -> Origin:
        node: yaml.Node | None = yaml.compose(made.text, Loader=_LOADER)
        line = 1
        steps = list(path)
        while node is not None:
            if isinstance(node, yaml.ScalarNode):
                line = node.start_mark.line + 1
                inner = self._part(made, node)
                if inner is not None:
                    return self._origin(inner, tuple(steps))
                break
            found = _child(made, node, steps.pop(0)) if steps else None
            if found is None:
                break
            line, node = found
        return Origin(made.template, made.template_line(line))

    def _part(self, made: Made, node: yaml.ScalarNode) -> Made | None:
        bound = _bound(made, node)
        found = self._made.get(id(bound))
        return found if found is not None and found.value is bound else None


def _bound(made: Made, node: yaml.Node) -> Any:
    """Return the value that a node stands for as a whole, None if it is no placeholder."""
    whole = PLACEHOLDER.fullmatch(node.value) if isinstance(node, yaml.ScalarNode) and not node.style else None
    return made.placeholders[int(whole[1])] if whole else None


def _child(made: Made, node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    """Return what stands behind a key or at a position, with the line that begins it."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            text = PLACEHOLDER.sub(lambda found: str(made.placeholders[int(found[1])]), key.value)
            if text == step:
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        items = [item for item in node.value if _bound(made, item) is not OMIT]
        if step < len(items):
            return items[step].start_mark.line + 1, items[step]
    return None


@dataclass(frozen=True, slots=True)
class PatchStep:
    """A patch that changed a value: its position in `spec.patches`, what it made of it, and where it is written."""

    position: int
    value: Any
    location: Location | None


@dataclass(frozen=True, slots=True)
class SpecField:
    """A field of the spec that a template's line reads; without a location the document leaves it to its default."""

    path: str
    value: Any
    location: Location | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A value of an object, and what set it. `before` is what the template made of it, None if nothing."""

    ref: ObjectRef
    path: str
    value: Any
    before: Any
    template: Location
    reads: tuple[SpecField, ...]
    patches: tuple[PatchStep, ...]
