"""YAML documents as nodes, read the way that kubectl's parser reads them.

libyaml, in C, does the scanning; where PyYAML was built without it, its own scanner does, with the same results and
about thirty times slower.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from chronik.documents.nodes import NO_KEYS, Node, NodeReader
from chronik.documents.scalars import KNOWN_TAGS, SURROGATE, TAG_PREFIX, ScalarError, key_of, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.documents.nodes import Limits

_QUOTE = re.compile(r"(?<!\\)((?:\\\\)*)\\'")
_SLASH = re.compile(r"(?<!\\)(?:\\\\)*\\/")
_MERGE = "<<"
_MERGE_TAGS = (None, "!", TAG_PREFIX + "merge")
_TEMPLATE_HINT = "Put text in quotes. If {{ }} belongs to a template, render that first."


class _Events(Protocol):
    def get_event(self) -> Any: ...


class _PurePython(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """PyYAML's own scanner and parser, for where libyaml is missing."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)

    def get_event(self) -> Any:
        """Return the next event; refuse halves of surrogate pairs, as libyaml does."""
        event: Any = super().get_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        if isinstance(event, ScalarEvent) and re.search(SURROGATE, event.value):
            mark: Any = event.start_mark  # typed as either library's mark
            raise yaml.scanner.ScannerError("while parsing a quoted scalar", mark, "found invalid Unicode escape", mark)
        return event


try:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs know it under its private name
except ImportError:  # PyYAML was built without libyaml
    CParser = _PurePython  # type: ignore[misc, assignment]  # one name for whichever parser there is


class _Anchor(NamedTuple):
    """What an alias stands for: `size` in values and `height` in levels, aliases inside it expanded."""

    node: Node
    size: int
    height: int


class YamlReader(NodeReader):
    """Reads one YAML document."""

    def __init__(self, text: str, limits: Limits, values: int = 0) -> None:
        super().__init__(limits, values)
        self._text = text
        self._has_slashes = "\\/" in text
        self._mark = _unused(text) if "\\'" in text else ""
        events: _Events = CParser(_QUOTE.sub(rf"\1{self._mark}'", text) if self._mark else text)
        self._next: Callable[[], Any] = events.get_event
        self._anchors: dict[str, _Anchor | None] = {}
        self._aliased = 0
        self._deepest = 0

    def read(self) -> Node | None:
        """Return the document's root, or None if there is nothing but comments.

        Raises:
            yaml.YAMLError: the text is no YAML.
            Abandoned: the document goes beyond a limit.
        """
        self._next()  # the stream begins
        if type(self._next()) is StreamEndEvent:
            return None
        root = self._node(self._next(), 1)
        self._next()  # the document ends
        rest = self._next()
        if type(rest) is not StreamEndEvent:
            self.note_broken("separator", rest.start_mark.index, "another document begins here", "Write --- before it.")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if type(event) is AliasEvent:
            return self._alias(event, depth)
        if event.anchor is not None:
            return self._anchored(event, depth)
        return self._value(event, depth)

    def _value(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is ScalarEvent:
            return self._scalar(event)
        self.check_depth(event.start_mark.index, depth)
        self.count(event.start_mark.index)
        self._deepest = max(self._deepest, depth)
        return self._map(event, depth) if kind is MappingStartEvent else self._list(event, depth)

    def _anchored(self, event: Any, depth: int) -> Node:
        outside, before = self._deepest, self.values
        self._deepest = depth
        self._anchors[event.anchor] = None  # until it is complete, an alias to it would contain itself
        node = self._value(event, depth)
        self._anchors[event.anchor] = _Anchor(node, self.values - before, self._deepest - depth)
        self._deepest = max(outside, self._deepest)
        return node

    def _alias(self, event: Any, depth: int) -> Node:
        name, start = event.anchor, event.start_mark.index
        anchor = self._anchors.get(name)
        if anchor is None:
            self._note_alias(name, start)
            return Node(start, None, NO_KEYS)
        self.check_depth(start, depth + anchor.height)
        self._deepest = max(self._deepest, depth + anchor.height)
        self._aliased += anchor.size
        self.values += anchor.size - 1
        if self._aliased > self.limits.aliased:
            message = f"aliases expand to more than {self.limits.aliased:,} values"
            raise self.abandon(start, message, "Write the values out, or share less.")
        self.count(start)
        return Node(start, anchor.node.value, anchor.node.keys)

    def _note_alias(self, name: str, start: int) -> None:
        if name in self._anchors:
            self.note_broken(
                "alias", start, f"the alias *{name} stands inside what it stands for", "Write the value out."
            )
            return
        hint = "Put the value in quotes if it is text."
        self.note_broken("alias", start, f"the alias *{name} stands for nothing: there is no &{name} above it", hint)

    def _scalar(self, event: Any) -> Node:
        start = event.start_mark.index
        self.count(start, event.value)
        if self._mark:
            event.value = event.value.replace(self._mark, "" if event.style == '"' else "\\")
        if event.style == '"':
            self._check_escapes(start, event.end_mark.index)
        try:
            return Node(start, self._resolve(event), NO_KEYS)
        except ScalarError as error:
            self.note_scalar(start, error)
            return Node(start, None, NO_KEYS)

    def _check_escapes(self, start: int, end: int) -> None:
        """Refuse the one escape that JSON and YAML 1.2 know and kubectl's parser does not."""
        slash = _SLASH.search(self._text, start, end) if self._has_slashes else None
        if slash:
            hint = r"Write / without the backslash, or \\/ for a backslash and a slash."
            message = "this is no escape that a double-quoted text can hold"
            self.note_broken("syntax", slash.end() - 2, message, hint)

    def _resolve(self, event: Any) -> Any:
        if event.tag is not None and event.tag not in KNOWN_TAGS:
            self._note_tag(event)
        return resolve(event.value, event.tag, plain=event.implicit[0])

    def _note_tag(self, event: Any) -> None:
        tag = event.tag.replace(TAG_PREFIX, "!!", 1)
        self.note("tag", event.start_mark.index, f"the tag {tag} means nothing to Kubernetes", "Leave it out.")

    def _list(self, event: Any, depth: int) -> Node:
        if event.tag not in (None, "!", TAG_PREFIX + "seq"):
            self._note_tag(event)
        items: list[Node] = []
        self.path.append(0)
        while type(item := self._next()) is not SequenceEndEvent:
            self.path[-1] = len(items)
            items.append(self._node(item, depth + 1))
        self.path.pop()
        return Node(event.start_mark.index, items, NO_KEYS)

    def _map(self, event: Any, depth: int) -> Node:
        if event.tag not in (None, "!", TAG_PREFIX + "map"):
            self._note_tag(event)
        node = Node(event.start_mark.index, {}, {})
        merged: dict[str, int] = {}
        self.path.append("")
        while type(event := self._next()) is not MappingEndEvent:
            start = event.start_mark.index
            merges = _is_merge(event)
            key = _MERGE if merges else self._key(event, depth)
            self.path[-1] = key or ""
            value = self._node(self._next(), depth + 1)
            if merges:
                self._merge(node, start, value, merged)
            elif key is not None:
                if merged.pop(key, None) is not None:
                    del node.keys[key]  # what is merged in gives way to what is written
                self.put(node, key, start, value)
        self.path.pop()
        return node

    def _key(self, event: Any, depth: int) -> str | None:
        self.path[-1] = event.value if type(event) is ScalarEvent else ""
        node = self._node(event, depth + 1)
        if isinstance(node.value, str):
            return node.value
        if type(event) is not ScalarEvent:
            self.path.pop()
            self.note_broken("key", node.start, "a key must be text, not a map or a list", _TEMPLATE_HINT)
            self.path.append("")
            return None
        try:
            return key_of(event.value, node.value)
        except ScalarError as error:
            self.note(error.code, node.start, str(error), error.hint)
            self.broken |= node.value is None
            return str(event.value)

    def _merge(self, node: Node, start: int, value: Node, merged: dict[str, int]) -> None:
        """Merge maps in; the first of several counts, and all give way to keys that are written after them."""
        sources = value.value if isinstance(value.value, list) else [value]
        if not all(isinstance(source.value, dict) for source in sources):
            self.note_broken("merge", start, "must be a map or a list of maps", "Name anchors of maps: `<<: *name`.")
            return
        if merged:
            self.note("duplicate-key", start, "set twice in one map", "Merge several maps with `<<: [*a, *b]`.")
        for source in reversed(sources):
            for key, child in source.value.items():
                if key in node.keys and key not in merged:
                    self._note_late_merge(start, key)
                node.value[key] = child
                node.keys[key] = merged[key] = source.keys[key]

    def _note_late_merge(self, start: int, key: str) -> None:
        message = f"brings in {key}, which is set above it, and parsers disagree on which of the two counts"
        self.note("merge", start, message, "Put << first in the map.")


def _unused(text: str) -> str:
    r"""Return a character to put for the backslash of `\'`; empty if there is none that is not in the text.

    kubectl's parser takes `\'` in double quotes for a quote, and libyaml refuses it. So the backslash is put away, and
    comes back wherever it is no escape.
    """
    private = map(chr, range(0xE000, 0xE100))
    return next((character for character in private if character not in text), "")


def _is_merge(event: Any) -> bool:
    """Return whether a key is the merge key: `<<`, unquoted, or with its tag."""
    return (
        type(event) is ScalarEvent
        and event.value == _MERGE
        and event.tag in _MERGE_TAGS
        and (event.implicit[0] or event.tag is not None)
    )
