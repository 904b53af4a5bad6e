"""Parse the text that a template made, with placeholders where values go, into a tree that can be filled.

A placeholder that is a whole plain scalar takes a value of any type; inside quotes or other text it takes scalars and
makes a string. Anything that would let text act as structure is refused: duplicate keys, tags, anchors, aliases, merge
keys, a second document, a placeholder without a value. Values are JSON data, `OMIT` or None; compiled skeletons are
kept, so a fleet of equal clusters parses YAML once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import yaml

from chronik.documents.scalars import read_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fill = Callable[[list[Any]], Any]

PLACEHOLDER_MARK: Final = "Zq0q"
PLACEHOLDER = re.compile(rf"{PLACEHOLDER_MARK}(\d+)Z")
_UNREADABLE = "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml: the same tree, slower
_KEPT_SKELETONS = 2048


class _Omit:
    """The value that takes its key, or its list item, with it."""

    def __repr__(self) -> str:
        return "omit"


OMIT: Final = _Omit()


class SkeletonError(Exception):
    """The skeleton is no single YAML document, or a value does not fit its place; `line` counts from 1."""

    def __init__(self, message: str, line: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


def placeholder(number: int) -> str:
    """Return the token that stands for the value with that number."""
    return f"{PLACEHOLDER_MARK}{number}Z"


@lru_cache(maxsize=_KEPT_SKELETONS)
def compile_skeleton(text: str) -> Fill:
    """Parse a skeleton and return the function that fills its placeholders with values; an empty one makes None.

    Raises:
        SkeletonError: the text is not one plain YAML document. The function raises it too, for a value that does not
            fit its place.
    """
    printed = _lines_of_placeholders(text)
    events = _events(text)
    fill: Fill = _constant(None)
    for number, start in enumerate(event for event in events if isinstance(event, yaml.DocumentStartEvent)):
        if number:
            raise SkeletonError("a template makes one document, and a second one starts here", _line(start))
        fill = _compile(next(events), events)

    def fill_all(placeholders: list[Any]) -> Any:
        if len(printed) > len(placeholders):
            raise SkeletonError(f"the text {placeholder(len(placeholders))} is reserved", printed[len(placeholders)])
        return fill(placeholders)

    return fill_all


def _lines_of_placeholders(text: str) -> list[int]:
    """Return the line of each placeholder, and check that they are those which were printed: each once, in order."""
    lines = []
    for expected, found in enumerate(PLACEHOLDER.finditer(text)):
        line = text.count("\n", 0, found.start()) + 1
        if found[1] != str(expected):
            raise SkeletonError(f"the text {found[0]} is reserved", line)
        lines.append(line)
    return lines


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        return iter(list(yaml.parse(text, Loader=_LOADER)))
    except yaml.MarkedYAMLError as error:
        from chronik.documents.syntax_errors import syntax_mistake  # noqa: PLC0415  # only a broken text pays for it

        mistake = syntax_mistake(error, text)
        line = text.count("\n", 0, mistake.start) + 1
        other = text.count("\n", 0, mistake.other) + 1 if mistake.other is not None else 0
        hint = mistake.hint.replace("{line}", str(other))
        raise SkeletonError(f"not YAML: {PLACEHOLDER.sub('{{ … }}', mistake.message)}", line, hint) from error
    except (yaml.reader.ReaderError, UnicodeEncodeError) as error:
        place = re.search(_UNREADABLE, text)
        line = text.count("\n", 0, place.start()) + 1 if place else 1
        raise SkeletonError("YAML cannot hold a control character or half of a surrogate pair", line) from error


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark  # always there on events that a parser made
    return int(mark.line) + 1


def _compile(event: yaml.Event, events: Iterator[yaml.Event]) -> Fill:
    _refuse_references(event)
    if isinstance(event, yaml.MappingStartEvent):
        return _compile_mapping(events)
    if isinstance(event, yaml.SequenceStartEvent):
        return _compile_sequence(events)
    assert isinstance(event, yaml.ScalarEvent)
    return _compile_scalar(event)


def _refuse_references(event: yaml.Event) -> None:
    if getattr(event, "anchor", None) is not None:  # an alias has one too
        raise SkeletonError("anchors and aliases are not allowed: use {% set %} or part()", _line(event))
    if getattr(event, "tag", None) is not None:
        raise SkeletonError(f"tags are not allowed: {event.tag}", _line(event))  # type: ignore[attr-defined]  # just seen


def _compile_mapping(events: Iterator[yaml.Event]) -> Fill:
    entries: list[tuple[Fill, Fill, int]] = []
    literal_keys: set[str] = set()
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        key = _compile_key(event, literal_keys)
        entries.append((key, _compile(next(events), events), _line(event)))
    if len(literal_keys) == len(entries):
        return _fill_known_keys(
            list(zip((key([]) for key, _, _ in entries), (value for _, value, _ in entries), strict=True))
        )
    return _fill_any_keys(entries)


def _compile_key(event: yaml.Event, literal_keys: set[str]) -> Fill:
    line = _line(event)
    _refuse_references(event)
    if not isinstance(event, yaml.ScalarEvent):
        raise SkeletonError("a key must be a scalar", line)
    if PLACEHOLDER.search(event.value):
        return _compile_text(event.value, line)
    if event.value == "<<" and not event.style:
        raise SkeletonError("merge keys are not allowed: use merged()", line)
    if not event.value and not event.style:
        raise SkeletonError("a key is missing before the colon", line)
    if event.value in literal_keys:
        raise SkeletonError(f"the key {event.value} stands here a second time", line)
    literal_keys.add(event.value)
    return _constant(event.value)


def _fill_known_keys(entries: list[tuple[str, Fill]]) -> Fill:
    def fill(placeholders: list[Any]) -> dict[str, Any]:
        return {key: bound for key, value in entries if (bound := value(placeholders)) is not OMIT}

    return fill


def _fill_any_keys(entries: list[tuple[Fill, Fill, int]]) -> Fill:
    def fill(placeholders: list[Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value, line in entries:
            name = key(placeholders)
            if name in result:
                raise SkeletonError(f"the key {name} stands here a second time", line)
            if (bound := value(placeholders)) is not OMIT:
                result[name] = bound
        return result

    return fill


def _compile_sequence(events: Iterator[yaml.Event]) -> Fill:
    items: list[Fill] = []
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        items.append(_compile(event, events))

    def fill(placeholders: list[Any]) -> list[Any]:
        return [bound for item in items if (bound := item(placeholders)) is not OMIT]

    return fill


def _compile_scalar(event: yaml.ScalarEvent) -> Fill:
    text, line = event.value, _line(event)
    if event.style:  # quoted or block: always a string
        return _compile_text(text, line) if PLACEHOLDER.search(text) else _constant(text)
    whole = PLACEHOLDER.fullmatch(text)
    if whole:
        return _whole(int(whole[1]), line)
    if PLACEHOLDER.search(text):
        return _compile_text(text, line)
    return _constant(_read_literal(text, line))


def _read_literal(text: str, line: int) -> Any:
    try:
        value = read_plain(text)
    except ValueError as error:
        raise SkeletonError(str(error), line) from error
    if value is None:
        raise SkeletonError("nothing stands here: write {} or [], or leave the key out", line)
    return value


def _constant(value: Any) -> Fill:
    return lambda _: value


def _whole(number: int, line: int) -> Fill:
    def fill(placeholders: list[Any]) -> Any:
        value = placeholders[number]
        if value is None:
            raise SkeletonError("the value is null: guard it with {% if %}, or add `| optional` to drop the key", line)
        return value

    return fill


def _compile_text(text: str, line: int) -> Fill:
    pieces = PLACEHOLDER.split(text)  # text, number, text, number, … text
    literals, numbers = pieces[0::2], [int(number) for number in pieces[1::2]]

    def fill(placeholders: list[Any]) -> str:
        words = [literals[0]]
        for number, literal in zip(numbers, literals[1:], strict=True):
            words += (_as_text(placeholders[number], line), literal)
        return "".join(words)

    return fill


def _as_text(value: Any, line: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    described = "null" if value is None else "omitted" if value is OMIT else f"a {type(value).__name__}"
    raise SkeletonError(f"text needs a string or a number here, and the value is {described}", line)
