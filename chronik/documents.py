"""Read YAML and JSON as kubectl reads it, and know where every value stands.

Scalars mean what they mean to kubectl, which follows goyaml.v2: `y` and `on` are booleans, `0x1F` is 31, dates stay
text. Content never raises: what is wrong with a text comes back as problems with a place, and limits keep hostile text
(alias bombs, deep nesting, thousands of documents) cheap. `offline` is the only caller.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from chronik.problem import Location, Path, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DOCUMENTS = 2_000
MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Values in one document, those that aliases repeat included."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml: the same, slower
_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_BOOLEANS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_JSON = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAGS = {"tag:yaml.org,2002:" + name: name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


class _Broken(Exception):
    """The text is wrong at a mark."""

    def __init__(self, message: str, mark: Any, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.mark, self.hint = message, mark, hint


@dataclass(frozen=True)
class Document:
    """One document of a text: its tree as JSON data, and where its values stand."""

    source: str
    index: int
    tree: Any
    text: str

    def locate(self, path: Path, *, key: bool = False) -> Location:
        """Return where the value of a path stands, or its key; for a path that is not there, its nearest ancestor."""
        for length in range(len(path), -1, -1):
            marks = self._marks.get(path[:length])
            if marks:
                line, column = marks[0] if key or length < len(path) else marks[1]
                return _location(self.source, self.text, line, column)
        return _location(self.source, self.text, 0, 0)

    @cached_property
    def _marks(self) -> dict[Path, tuple[tuple[int, int], tuple[int, int]]]:
        """Where the key and the value of each path stand; read anew, since only problems ask."""
        marks: dict[Path, tuple[tuple[int, int], tuple[int, int]]] = {}
        for index, node in enumerate(_nodes(self.text)):
            if index == self.index:
                _mark(node, (), (node.start_mark.line, node.start_mark.column), marks)
                break
        return marks


def _nodes(text: str) -> Iterator[Any]:
    try:
        yield from (node for node in yaml.compose_all(text, Loader=_LOADER) if not _is_nothing(node))
    except (yaml.YAMLError, RecursionError):
        return


def _is_nothing(node: Any) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and not node.style and node.value in _NULLS)


def _mark(node: Any, path: Path, key: tuple[int, int], marks: dict[Path, Any]) -> None:
    if len(path) > MAX_DEPTH or len(marks) > MAX_VALUES:
        return
    begins_below = not isinstance(node, yaml.ScalarNode) and not node.flow_style
    marks.setdefault(path, (key, key if begins_below else (node.start_mark.line, node.start_mark.column)))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                _mark(value, (*path, name.value), (name.start_mark.line, name.start_mark.column), marks)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _mark(item, (*path, index), (item.start_mark.line, item.start_mark.column), marks)


def _location(source: str, text: str, line: int, column: int) -> Location:
    lines = text.split("\n")
    words = lines[line].rstrip("\r") if line < len(lines) else ""
    return Location(source, line + 1, column + 1, words)


def parse_documents(content: bytes, source: str) -> tuple[list[Document], list[Problem]]:
    """Return the documents of a text and what is wrong with it; documents before a mistake are among them."""
    try:
        text = content.decode("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [_problem(f"not text: byte {error.start + 1} is not UTF-8", source, "", 0, 0)]
    documents: list[Document] = []
    try:
        documents.extend(Document(source, index, tree, text) for index, tree in enumerate(_Reader(text).documents()))
    except _Broken as broken:
        line, column = (broken.mark.line, broken.mark.column) if broken.mark else (0, 0)
        return documents, [_problem(broken.message, source, text, line, column, broken.hint)]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) if isinstance(error.position, int) else 0
        return documents, [_problem(f"the character {error.character!r} is not allowed", source, text, line, 0)]
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        return documents, [_problem(f"not YAML: {error.problem}", source, text, line, column, _yaml_hint(text, line))]
    return documents, []


def _problem(message: str, source: str, text: str, line: int, column: int, hint: str = "") -> Problem:
    return Problem("error", "yaml", (), message, hint, _location(source, text, line, column))


def _yaml_hint(text: str, line: int) -> str:
    lines = text.split("\n")
    here = lines[line] if line < len(lines) else ""
    return "YAML indents with spaces, never with tabs." if here.lstrip(" ").startswith("\t") else ""


class _Reader:
    """Builds trees from libyaml's events; counts what it builds, so that aliases cannot multiply it for ever."""

    def __init__(self, text: str) -> None:
        self._events = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._built = 0

    def documents(self) -> Iterator[Any]:
        """Yield the tree of each document that holds something."""
        found = 0
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            self._anchors, self._built = {}, 0
            tree = self._value(next(self._events), 0)
            if tree is None:
                continue
            if found == MAX_DOCUMENTS:
                raise _Broken(f"more than {MAX_DOCUMENTS:,} documents in one file", event.start_mark, "Split it.")
            found += 1
            yield tree

    def _value(self, event: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _Broken(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        self._count(1, event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._built
        value = self._built_value(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._built - before + 1
        return value

    def _built_value(self, event: Any, depth: int) -> Any:
        if event.tag is not None and event.tag not in _TAGS and event.tag != "!":
            raise _Broken(f"the tag {event.tag} means nothing in JSON", event.start_mark)
        if isinstance(event, yaml.MappingStartEvent):
            return self._map(depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                items.append(self._value(item, depth + 1))
            return items
        return _scalar(event)

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise _Broken(f"the alias *{event.anchor} stands before its anchor, or inside it", event.start_mark)
        value, size = self._anchors[event.anchor]
        self._count(size, event)
        return value

    def _count(self, more: int, event: Any) -> None:
        self._built += more
        if self._built > MAX_VALUES:
            raise _Broken(f"more than {MAX_VALUES:,} values in one document", event.start_mark)

    def _map(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _Broken("a key must be text", event.start_mark)
            value_event = next(self._events)
            value = self._value(value_event, depth + 1)
            if event.value == "<<" and not event.style:
                merged |= _merge(value, value_event)
            elif event.value in result:
                raise _Broken(f"the key {event.value} stands here a second time", event.start_mark)
            else:
                result[event.value] = value
        return {**merged, **result} if merged else result


def _merge(value: Any, event: Any) -> dict[str, Any]:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise _Broken("<< merges maps only", event.start_mark)
    return {key: item for part in reversed(parts) for key, item in part.items()}


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.style or (event.tag is not None and _TAGS.get(event.tag, "str") == "str"):
        return text
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    return _number(text, event)


def _number(text: str, event: Any) -> Any:
    bare = text.replace("_", "")
    if _NOT_JSON.fullmatch(text):
        raise _Broken(f"{text} is no number in JSON", event.start_mark)
    if len(bare) <= _LONGEST_NUMBER and _INTEGER.fullmatch(bare):
        return _integer(bare)
    if len(bare) <= _LONGEST_NUMBER and _FLOAT.fullmatch(bare):
        value = float(bare)
        return value if math.isfinite(value) else text
    return text


_LONGEST_NUMBER = 64


def _integer(text: str) -> int | float:
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-").lower()
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    value = int(digits, 8 if octal else 0)
    return sign * value if value < 2**64 else float(sign * value)
