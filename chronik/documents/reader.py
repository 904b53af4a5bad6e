"""Read the documents of a file: YAML as kubectl reads it, or JSON, with the place of every value at hand.

A file is cut at its `---` lines first, so a mistake in one document hides none in the others, and all are reported at
once. Places are found when one is asked for, by reading that document again: correct documents cost nothing extra.
Pure: it is given the content of files.
"""

from __future__ import annotations

import bisect
import codecs
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from chronik.documents.json_reader import JsonReader, split_json, yaml_start
from chronik.documents.nodes import Abandoned, Limits, Mistake, Node, tree_of
from chronik.documents.scalars import SURROGATE
from chronik.documents.syntax_errors import syntax_mistake
from chronik.documents.yaml_reader import YamlReader
from chronik.manifest import API_VERSION, CLUSTER_KIND
from chronik.problem import Location, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronik.problem import Path

_SEPARATOR = re.compile(r"^---(.*)$", re.MULTILINE)
# Written as what it holds: its complement, with everything beyond the first plane, takes 4 ms to compile.
_UNREADABLE = "[\0-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]"
_BLANK = re.compile(r"\s*")
_COMMENT = re.compile(r"\s*(?:#.*)?")
_MARK = "\ufeff"  # the byte order mark
_SAVE = "Save the file as UTF-8."
_LISTS = {"List": "v1", f"{CLUSTER_KIND}List": API_VERSION}
"""The lists that are taken apart, and their apiVersion; in one of another kind kubectl would find no cluster."""
_ALWAYS_TOLD = {"separator", "limit"}
"""Mistakes after which more documents may follow that were not read."""


@dataclass(slots=True)
class _Text:
    """A file's text, and where its lines begin."""

    source: str
    text: str
    _starts: list[int] = field(default_factory=list)
    _lines: dict[int, str] = field(default_factory=dict)  # a long line with many problems is one string

    def character(self, offset: int) -> str:
        return self.text[offset : offset + 1]

    def place(self, offset: int) -> Location:
        if not self._starts:
            self._starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect.bisect_right(self._starts, offset)
        start = self._starts[line - 1]
        if line not in self._lines:
            end = self.text.find("\n", start)
            self._lines[line] = self.text[start : end if end >= 0 else None]
        return Location(self.source, line, offset - start + 1, self._lines[line])


@dataclass(slots=True)
class _Chunk:
    """The part of a text that one document fills, and its nodes once a place was asked for."""

    file: _Text
    start: int
    end: int
    is_json: bool
    _root: Node | None = None

    def reader(self, limits: Limits, values: int = 0) -> YamlReader | JsonReader:
        part = self.file.text[self.start : self.end]
        return JsonReader(part, limits, values) if self.is_json else YamlReader(part, limits, values)

    def root(self, limits: Limits) -> Node | None:
        if self._root is None:
            self._root = self.reader(limits).read()
        return self._root


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One document, or one item of a `List`: `tree` is what kubectl would send, `index` counts in its file from 0."""

    source: str
    index: int
    tree: Any
    _chunk: _Chunk = field(repr=False)
    _limits: Limits = field(repr=False)
    _prefix: Path = ()

    def locate(self, path: Path, *, key: bool = False) -> Location:
        """Return where a value stands, or its key; if it is not there, where the nearest thing around it does.

        For a block of several lines, and for nothing at all, the key says it better than the first line of the value.
        """
        node = self._chunk.root(self._limits)
        start = node.start if node else 0
        for depth, part in enumerate((*self._prefix, *path), start=1 - len(self._prefix)):
            if node is None:
                break
            child = _child(node, part)
            if child is None:
                break
            name = node.keys.get(str(part))
            on_the_way = depth < len(path)
            start = child.start if name is None or not (on_the_way or key or self._needs_key(child)) else name
            node = child
        return self._chunk.file.place(self._chunk.start + start)

    def _needs_key(self, node: Node) -> bool:
        first = self._chunk.file.character(self._chunk.start + node.start)
        if isinstance(node.value, dict | list):
            return first not in {"{", "["}
        return node.value is None and first not in {"~", "n", "N"}


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node.value, dict):
        found: Node | None = node.value.get(part)
        return found
    if isinstance(node.value, list) and isinstance(part, int) and 0 <= part < len(node.value):
        item: Node = node.value[part]
        return item
    return None


def parse_documents(
    content: bytes | str,
    source: str,
    limits: Limits | None = None,
    *,
    foreign: Callable[[Any], bool] = lambda _tree: False,
) -> tuple[list[Document], list[Problem]]:
    """Return the documents of a file, and what is wrong with it; bad content never raises.

    Empty documents are left out, and the items of a `List` are documents of their own. A document that says something
    unclear, such as one key twice, is returned with what kubectl makes of it; one that says nothing certain is not.
    What is unclear in a document that is `foreign` is not reported, since nothing is made of it.
    """
    try:
        text = content if isinstance(content, str) else _decoded(content)
    except UnicodeDecodeError as error:
        message = f"this begins like UTF-16, and is not: {error.reason}"
        return [], [Problem("error", "text", (), message, _SAVE, Location(source, 1, 1, ""))]
    text = text.removeprefix(_MARK).replace("\r\n", "\n").replace("\r", "\n")
    file = _Text(source, text if text.endswith("\n") else f"{text}\n")  # kubectl ends the last line, too
    reading = _Reading(file, limits or Limits(), foreign)
    reading.run()
    return reading.documents, reading.problems


def _decoded(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with its byte order mark; what is not UTF-8 becomes surrogates, which `_read` finds."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8", "surrogateescape")


class _Reading:
    """One file being read: what was found so far."""

    def __init__(self, file: _Text, limits: Limits, foreign: Callable[[Any], bool]) -> None:
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self._file = file
        self._limits = limits
        self._foreign = foreign
        self._values = 0

    def run(self) -> None:
        """Read document by document, until the end or a limit of the whole file."""
        try:
            for count, chunk in enumerate(self._chunks()):
                self._check_count(count, chunk)
                self._read(chunk)
        except Abandoned:
            return

    def _chunks(self) -> Iterator[_Chunk]:
        start = 0
        for separator in _SEPARATOR.finditer(self._file.text):
            yield from self._cut(start, separator.start())
            start = separator.end() + 1
            if not _COMMENT.fullmatch(separator[1]):
                first = separator.end() - len(separator[1].lstrip())
                message = "a line that begins with --- separates documents, and only a comment can follow"
                hint = "Begin the document on the next line; indent the line if it is text."
                self._add(Mistake("separator", (), first, message, hint))
        yield from self._cut(start, len(self._file.text))

    def _cut(self, start: int, end: int) -> Iterator[_Chunk]:
        text = self._file.text
        blank = _BLANK.match(text, start + text.startswith(_MARK, start), end)
        first = blank.end() if blank else start
        if first == end:
            return
        if text[first] == "{":
            yield from self._cut_json(start, end)
        else:
            yield _Chunk(self._file, start + text.startswith(_MARK, start), end, is_json=False)

    def _cut_json(self, start: int, end: int) -> Iterator[_Chunk]:
        """Cut what begins like JSON: all of it may be, or none, or at the head of a file the first object.

        There kubectl takes what follows for YAML if it is no JSON; after two objects it gives up.
        """
        text = self._file.text
        spans, stop = split_json(text[start:end], self._limits.documents + 1)
        rest = yaml_start(text, start + stop, end)
        if stop < end - start and (start or len(spans) > 1):
            spans, rest = [], start
        elif spans and stop < end - start and not text[rest:end].strip():
            message = f"the character U+{ord(text[start + stop]):04X} cannot stand after JSON"
            self._add(Mistake("text", (), start + stop, message, "It may be invisible. Take it out."))
        yield from (_Chunk(self._file, start + begin, start + end, is_json=True) for begin, end in spans)
        if rest < end:
            mark = text.startswith(_MARK, rest) and not start  # elsewhere kubectl trips over it
            yield _Chunk(self._file, rest + mark, end, is_json=False)

    def _read(self, chunk: _Chunk) -> None:
        if unreadable := _unreadable_in(self._file.text, chunk):
            self._add(_unreadable(unreadable))
            return
        root = None
        reader = chunk.reader(self._limits, self._values)
        try:
            root = reader.read()
        except Abandoned:
            pass
        except yaml.YAMLError as error:
            reader.mistakes.append(syntax_mistake(error, self._file.text[chunk.start : chunk.end]))
        self._values = reader.values
        tree = None if root is None else tree_of(root)
        for mistake in sorted(reader.mistakes, key=lambda mistake: mistake.start):
            if mistake.code in _ALWAYS_TOLD or not self._is_foreign(tree, mistake.path, broken=reader.broken):
                self._add(mistake, chunk.start)
        if self._values > self._limits.values:
            raise Abandoned
        if not reader.broken or self._is_foreign(tree, (), broken=True):
            self._take(chunk, tree)

    def _is_foreign(self, tree: Any, path: Path, *, broken: bool) -> bool:
        """Return whether a path leads into a foreign document. A List of which one value is unknown is all ours."""
        if _list_kind(tree) is None:
            return tree is not None and self._foreign(tree)
        match path, tree.get("items"):
            case ("items", int(number), *_), [*items] if not broken and number < len(items):
                return self._foreign(items[number])
        return False

    def _take(self, chunk: _Chunk, tree: Any) -> None:
        """Add what a chunk holds: one document, or the items of a List."""
        if tree is None:
            return
        kind = _list_kind(tree)
        if kind is None:
            self._keep(chunk, tree)
            return
        if tree.get("apiVersion") != _LISTS[kind]:
            found = f"not {json.dumps(tree['apiVersion'])}" if "apiVersion" in tree else "and is missing"
            self._complain(chunk, ("apiVersion",), f"apiVersion of a {kind} must be {_LISTS[kind]}, {found}")
        items = tree.get("items")
        if not isinstance(items, list):
            self._complain(chunk, ("items",), f"the items of a {kind} must be a list")
            return
        for number, item in enumerate(items):
            self._take_item(chunk, kind, item, ("items", number))

    def _take_item(self, chunk: _Chunk, kind: str, item: Any, path: Path) -> None:
        """Add an item of a List, unless it is one that kubectl refuses."""
        if not isinstance(item, dict):
            self._complain(chunk, path, f"an item of a {kind} must be an object")
        elif _list_kind(item) is not None:
            self._complain(chunk, path, "a list cannot be an item of another one", "Put its items in the outer list.")
        else:
            if kind != "List" and not (item.get("kind") or item.get("apiVersion")):
                item = {**item, "apiVersion": API_VERSION, "kind": CLUSTER_KIND}  # as kubectl fills it in
            self._keep(chunk, item, path)

    def _keep(self, chunk: _Chunk, tree: Any, prefix: Path = ()) -> None:
        self._check_count(len(self.documents), chunk)
        self.documents.append(Document(self._file.source, len(self.documents), tree, chunk, self._limits, prefix))

    def _complain(self, chunk: _Chunk, path: Path, message: str, hint: str = "") -> None:
        """Note what is wrong with a List."""
        place = Document(self._file.source, 0, None, chunk, self._limits).locate(path)
        self._report(Problem("error", "list", path, message, hint, place))

    def _check_count(self, count: int, chunk: _Chunk) -> None:
        if count >= self._limits.documents:
            message = f"the file holds more than {self._limits.documents:,} documents"
            self._add(Mistake("limit", (), chunk.start, message, "Split the file."))
            raise Abandoned

    def _add(self, mistake: Mistake, base: int = 0) -> None:
        place, hint = self._file.place(base + mistake.start), mistake.hint
        if mistake.other is not None:
            hint = hint.format(line=self._file.place(base + mistake.other).line)
        self._report(Problem("error", mistake.code, mistake.path, mistake.message, hint, place))

    def _report(self, problem: Problem) -> None:
        full = len(self.problems) >= self._limits.problems
        if full:
            message, hint = "there are more mistakes from here on", "Correct these first."
            problem = Problem("error", "limit", (), message, hint, problem.location)
        self.problems.append(problem)
        if full:
            raise Abandoned


def _list_kind(tree: Any) -> str | None:
    """Return the kind of a tree that is a List of any objects, or of ChronikClusters; None of any other."""
    kind = tree.get("kind") if isinstance(tree, dict) else None
    return kind if isinstance(kind, str) and kind in _LISTS else None


def _unreadable_in(text: str, chunk: _Chunk) -> re.Match[str] | None:
    """Return the first character that a document must not hold; what is printable needs no pattern to say so."""
    if text[chunk.start : chunk.end].replace("\n", "").replace("\t", "").isprintable():
        return None
    return re.compile(SURROGATE if chunk.is_json else _UNREADABLE).search(text, chunk.start, chunk.end)


def _unreadable(match: re.Match[str]) -> Mistake:
    code = ord(match[0])
    hint = _SAVE
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004  # where surrogateescape puts bytes
        message = f"the byte 0x{code - 0xDC00:02x} here is not UTF-8"
    elif re.match(SURROGATE, match[0]):
        message = f"U+{code:04X} is one half of a surrogate pair, and no character"
    elif code == 0:
        message = "a NUL character stands here: this is no text, or it is UTF-16 without a byte order mark"
    else:
        message = f"the character U+{code:04X} cannot stand in YAML"
        hint = f'It may be invisible. Take it out, or write it as "\\u{code:04x}" in double quotes.'
    return Mistake("text", (), match.start(), message, hint)
