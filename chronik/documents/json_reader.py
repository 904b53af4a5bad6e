"""JSON documents as nodes.

kubectl reads a file that begins with `{` as JSON first, several objects in a row included; whatever is not quite JSON
it reads as YAML, and so do we. A YAML parser alone would stumble over surrogate pairs.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from chronik.documents.nodes import NO_KEYS, Node, NodeReader
from chronik.documents.scalars import SURROGATE, ScalarError, resolve_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronik.documents.nodes import Limits

_SPACE = re.compile(r"[ \t\n\r]*")
_UNICODE_SPACE = r"[ \t\v\f\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*\n?"
_VALUE = r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[-+.0-9eE]+|true|false|null'
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def split_json(text: str, at_most: int) -> tuple[list[tuple[int, int]], int]:
    """Return where each JSON value of a text begins and ends, and where JSON ends: with the text, if all is JSON."""
    decode = json.JSONDecoder(parse_constant=_refuse).raw_decode
    spans: list[tuple[int, int]] = []
    end = 0
    start = _skip_space(text, 0)
    while start < len(text) and len(spans) < at_most:
        try:
            _, end = decode(text, start)
        except (ValueError, RecursionError):
            return spans, end
        spans.append((start, end))
        start = _skip_space(text, end)
    return spans, len(text)


def yaml_start(text: str, start: int, end: int) -> int:
    """Return where kubectl goes on with YAML after what it has read as JSON: it skips any space, up to a line's end.

    Space is what Unicode says, and not only JSON's own: a no-break space before JSON makes YAML of it.
    """
    if start == end or not text[start].isspace():  # as most files of YAML do
        return start
    match = re.compile(_UNICODE_SPACE).match(text, start, end)
    return match.end() if match else start


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are Python's, not JSON's


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


class JsonReader(NodeReader):
    """Reads one JSON value that is known to be well-formed; what it says may still be wrong."""

    def __init__(self, text: str, limits: Limits, values: int = 0) -> None:
        super().__init__(limits, values)
        self._text = text
        tokens: Iterator[re.Match[str]] = re.finditer(_VALUE, text)
        self._next: Callable[[], re.Match[str]] = tokens.__next__

    def read(self) -> Node:
        """Return the document's root.

        Raises:
            Abandoned: it goes beyond a limit.
        """
        return self._value(self._next(), 1)

    def _value(self, token: re.Match[str], depth: int) -> Node:
        start = token.start()
        match token[0][0]:
            case "{":
                return self._map(start, depth)
            case "[":
                return self._list(start, depth)
            case '"':
                value: Any = self._string(token)
            case _:
                value = self._word(token)
        self.count(start, token[0])
        return Node(start, value, NO_KEYS)

    def _map(self, start: int, depth: int) -> Node:
        self.check_depth(start, depth)
        self.count(start)
        node = Node(start, {}, {})
        self.path.append("")
        while (token := self._next())[0] != "}":
            key = self._string(token)
            self.path[-1] = key
            self.put(node, key, token.start(), self._value(self._next(), depth + 1))
        self.path.pop()
        return node

    def _list(self, start: int, depth: int) -> Node:
        self.check_depth(start, depth)
        self.count(start)
        items: list[Node] = []
        self.path.append(0)
        while (token := self._next())[0] != "]":
            self.path[-1] = len(items)
            items.append(self._value(token, depth + 1))
        self.path.pop()
        return Node(start, items, NO_KEYS)

    def _string(self, token: re.Match[str]) -> str:
        if "\\" not in token[0]:
            return token[0][1:-1]
        text: str = json.loads(token[0])
        if re.search(SURROGATE, text):
            message = "a \\u escape here is one half of a surrogate pair, and no character"
            self.note_broken("text", token.start(), message, "Write both halves, or the character itself.")
        return text

    def _word(self, token: re.Match[str]) -> Any:
        if token[0] in _WORDS:
            return _WORDS[token[0]]
        try:
            value = resolve_plain(token[0])
        except ScalarError as error:
            return self.note_scalar(token.start(), error)
        if isinstance(value, str):
            self.note_broken("number", token.start(), "the number is larger than any that Kubernetes can hold")
        return value
