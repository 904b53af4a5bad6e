"""What a YAML parser's complaint means, in words for people who never read its source, and at the place that matters.

libyaml says `did not find expected key` for a wrong indentation and `could not find expected ':'` for a missing quote.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.documents.nodes import Mistake

if TYPE_CHECKING:
    import yaml

_CLOSING = frozenset("]}")
_QUOTE = "Put the value in quotes."
# Compiled when there is a mistake to explain.
_TIGHT_COLON = r"[ ]*(?:-[ ]+)*[A-Za-z_][\w.-]*:(?=[^\s:/])"
_SECOND_COLON = r"""\s*(?:-\s+)*[^\s"'#{\[][^#{\[]*?:\s"""


class _Complaint(NamedTuple):
    """What the parser said: its words, where it stopped, and where what it was reading began."""

    text: str
    words: str
    stop: int
    begin: int

    @property
    def character(self) -> str:
        return self.text[self.stop : self.stop + 1]

    @property
    def before(self) -> str:
        """The line up to where the parser stopped."""
        return self.text[self.text.rfind("\n", 0, self.stop) + 1 : self.stop]

    @property
    def on_one_line(self) -> bool:
        return "\n" not in self.text[self.begin : self.stop]


def syntax_mistake(error: yaml.YAMLError, text: str) -> Mistake:
    """Return the mistake behind a parser's error, at its offset in `text`."""
    fields: dict[str, Any] = vars(error)
    words = " ".join(filter(None, (fields.get("context"), fields.get("problem"))))
    stop, begin = (mark and mark.index for mark in (fields.get("problem_mark"), fields.get("context_mark")))
    stop = min(stop or 0, len(text))
    complaint = _Complaint(text, words or str(error), stop, stop if begin is None else begin)
    for pattern, describe in _MEANINGS:
        if re.search(pattern, complaint.words):
            return describe(complaint)
    return _mistake(complaint.stop, f"this is no YAML: {complaint.words}", "")


def _mistake(start: int, message: str, hint: str, other: int | None = None) -> Mistake:
    return Mistake("syntax", (), start, message, hint, other)


def _unknown_start(found: _Complaint) -> Mistake:
    if found.character == "\t":
        return _tab(found)
    return _mistake(found.stop, f"an unquoted value cannot begin with {found.character}", _QUOTE)


def _tab(found: _Complaint) -> Mistake:
    line = found.text.rfind("\n", 0, found.stop) + 1
    start = found.text.find("\t", line)
    return _mistake(found.stop if start < 0 else start, "a tab cannot indent YAML", "Indent with spaces.")


def _stray_colon(found: _Complaint) -> Mistake:
    if re.match(_SECOND_COLON, found.before):
        return _mistake(found.stop, "an unquoted value cannot hold a colon and a space", _QUOTE)
    line = found.stop - len(found.before)
    tight = _tight_colon(found.text, found.text.rfind("\n", 0, max(line - 1, 0)) + 1)
    hint = "Indent it like its neighbours, and see that the line above is complete: `key: value`, or `key:`."
    return tight or _mistake(found.stop - len(found.before.lstrip(" -")), "a key cannot stand here", hint)


def _tight_colon(text: str, line: int) -> Mistake | None:
    match = re.compile(_TIGHT_COLON).match(text, line)
    return _mistake(match.end(), "a space is missing after the colon", "Write `key: value`.") if match else None


def _stray_item(found: _Complaint) -> Mistake:
    hint = (
        "Begin each item on a line of its own, indented like its neighbours; put text that begins with `- ` in quotes."
    )
    return _mistake(found.stop, "a list item cannot begin here", hint)


def _no_colon(found: _Complaint) -> Mistake:
    tight = _tight_colon(found.text, found.text.rfind("\n", 0, found.begin) + 1)
    if tight:
        return tight
    hint = "Write a colon and a space after the key. Close quotes on the line that opens them."
    return _mistake(found.begin, "this is no `key: value`", hint)


def _no_key(found: _Complaint) -> Mistake:
    if found.before.rstrip().endswith(("'", '"')):
        hint = "Put the whole value in one pair of quotes, of the kind that is not in it."
        return _mistake(found.stop, "nothing can follow the closing quote", hint)
    if re.match(r"[&*!]", found.character):
        return _mistake(found.stop, "a value has one anchor, or one tag, or is one alias", _QUOTE)
    if found.character in _CLOSING:
        return _no_value(found)
    if found.begin == found.stop:
        return _mistake(found.stop, "a key is missing here", "Write `key: value`.")
    if found.character == "-":
        return _mistake(found.stop, "this item does not continue the list above it", "Indent all items alike.")
    hint = "Indent it like the line above, or like the keys of the map that begins in line {line}."
    return _mistake(found.stop, "this does not continue the map it stands in", hint, found.begin)


def _no_item(found: _Complaint) -> Mistake:
    hint = "Indent it like the items of the list that begins in line {line}, or less to end the list."
    return _mistake(found.stop, "this does not continue the list it stands in", hint, found.begin)


def _open_bracket(found: _Complaint) -> Mistake:
    opening = found.text[found.begin : found.begin + 1]
    closing, what = ("]", "list") if opening == "[" else ("}", "map")
    if not found.text[found.stop :].strip() or (found.character == ":" and not found.on_one_line):
        return _mistake(found.begin, f"the {what} that begins here is not closed", f"Write {closing} at its end.")
    hint = "The " + what + " begins in line {line}. Put text with , [ ] {{ or }} in quotes."
    return _mistake(found.stop, f"a , or {closing} is missing before this", hint, found.begin)


def _open_quote(found: _Complaint) -> Mistake:
    return _mistake(
        found.begin, "the quote that opens here is not closed", "Close it, or put the value in other quotes."
    )


def _no_value(found: _Complaint) -> Mistake:
    if found.character in _CLOSING:
        return _mistake(
            found.stop, f"{found.character} closes nothing", "Take it out, or put it in quotes if it is text."
        )
    return _mistake(found.stop, "a value is missing here", "Write it, or take out what stands before it.")


def _escape(found: _Complaint) -> Mistake:
    start = found.text.rfind("\\", 0, found.stop + 1)
    if found.text[start + 1 : start + 2] in {"u", "U"}:
        return _mistake(start, "this escape names no character", "Write the character itself.")
    hint = r"Write \\ for a backslash, or use single quotes, which take it as it is."
    return _mistake(max(start, found.begin), "this is no escape that a double-quoted text can hold", hint)


def _block_text(found: _Complaint) -> Mistake:
    hint = "Begin the text on the next line, and indent it with spaces."
    return _mistake(found.stop, "nothing but a comment can follow | or >", hint)


def _name(found: _Complaint) -> Mistake:
    sign = found.text[found.begin : found.begin + 1]
    return _mistake(
        found.begin, f"an unquoted value that begins with {sign} must be a name of letters and digits", _QUOTE
    )


def _deep(found: _Complaint) -> Mistake:
    return _mistake(found.stop, "maps and lists are nested too deeply", "Flatten them.")


def _tag(found: _Complaint) -> Mistake:
    return _mistake(found.begin, "an unquoted value cannot begin with !", _QUOTE)


def _outside(found: _Complaint) -> Mistake:
    if found.text.lstrip().startswith("%"):
        message = "directives such as %YAML mean nothing to Kubernetes"
        return _mistake(found.text.index("%"), message, "Take the line out.")
    if not re.search(r"^\.\.\.", found.text[: found.stop], re.MULTILINE):
        return _mistake(found.stop, "this is indented less than the beginning of the document", "Indent both alike.")
    message = "this stands after the end of the document, and kubectl ignores it"
    return _mistake(found.stop, message, "Write --- before it.")


_MEANINGS = (
    (r"exceeded max", _deep),
    (r"tab character", _tab),
    (r"cannot start any token", _unknown_start),
    (r"mapping values are not allowed", _stray_colon),
    (r"block sequence entries are not allowed|sequence entries are not allowed", _stray_item),
    (r"quoted scalar.*(unexpected end of stream|unexpected document)", _open_quote),
    (r"quoted scalar.*(escape|hexdecimal|hexadecimal|Unicode)", _escape),
    (r"could not find expected ':'", _no_colon),
    (r"block mapping.*expected", _no_key),
    (r"block collection.*expected|'-' indicator", _no_item),
    (r"expected ',' or", _open_bracket),
    (r"expected node content|expected the node content", _no_value),
    (r"scanning a block scalar", _block_text),
    (r"scanning an? (alias|anchor)", _name),
    (r"a tag|tag handle|tag suffix", _tag),
    (r"document start|directive", _outside),
)
