"""What a YAML scalar means to kubectl, which parses in Go.

PyYAML resolves by other rules: it reads dates, `12:30` as 750 and `1e3` as text. This follows `resolve.go` of
go.yaml.in/yaml v2, the float parser of Go, and the way through JSON that every document takes to the API server: there
`3.0` and `1e3` are integers, and times are text.
"""

from __future__ import annotations

import base64
import json
import math
import re

Scalar = str | int | float | bool | None

SURROGATE = "[\ud800-\udfff]"
"""Half of a surrogate pair: Python's text can hold it, UTF-8 and so Kubernetes cannot."""

TAG_PREFIX = "tag:yaml.org,2002:"
_BINARY = TAG_PREFIX + "binary"
_TYPES = {TAG_PREFIX + name: name for name in ("str", "bool", "int", "float", "null", "timestamp")}
KNOWN_TAGS = frozenset(["!", _BINARY, *_TYPES])
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|(0|[1-9][0-9]*))")
_BASES = {2: 16, 3: 2, 4: 8, 5: 8, 6: 10}  # by group of _INTEGER
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
# Compiled when the first such scalar comes.
_GO_FLOAT = rf"\.{_DIGITS}(?:[eE][-+]?{_DIGITS})?"
_DATE = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ][0-9:.Z+-]+)?"
_MIN, _MAX = -(2**63), 2**63 - 1
_MAX_UNSIGNED = 2**64 - 1
_MAX_LENGTH = 512  # characters; what is longer is not meant as a number
_SHOWN = 40


class ScalarError(ValueError):
    """A scalar means nothing that JSON, and so Kubernetes, can hold; `hint` says what to write."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def resolve(text: str, tag: str | None, *, plain: bool) -> Scalar:
    """Return the value that kubectl sends for a scalar; `plain` is one that stands unquoted.

    Raises:
        ScalarError: JSON has no such number, or the text does not fit its tag.
    """
    if tag is None:
        return resolve_plain(text) if plain else text
    if tag == _BINARY:
        return _decode(text)
    if tag in _TYPES:
        return _cast(text, _TYPES[tag])
    return text


def resolve_plain(text: str) -> Scalar:
    """Return what an unquoted scalar without a tag means. Raises what `resolve` does."""
    if text in _WORDS:
        value = _WORDS[text]
        return _finite(value, text) if isinstance(value, float) else value
    if len(text) > _MAX_LENGTH:
        return text
    if text[0] == ".":
        # Unlike other numbers, this one goes to Go's own parser with its underscores.
        return _real(text.replace("_", ""), text) if re.fullmatch(_GO_FLOAT, text) else text
    return _number(text) if text[0] in "+-0123456789" else text


def _number(text: str) -> Scalar:
    digits = text.replace("_", "")
    integer = _INTEGER.fullmatch(digits)
    if not integer:
        return _real(digits, text) if _FLOAT.fullmatch(digits) else text
    value = int(integer[1] + integer[integer.lastindex or 0], _BASES[integer.lastindex or 0])
    return value if _MIN <= value <= _MAX else _large(text, digits, value)


def _large(text: str, digits: str, value: int) -> str:
    """Tell an integer that Go would round from one that it gives up on and leaves as text."""
    if _FLOAT.fullmatch(digits):
        if math.isinf(float(digits)):
            return text
    elif digits[0] in "+-" or value > _MAX_UNSIGNED:
        return text
    message = f"{_cut(text)} is beyond the integers that Kubernetes keeps exactly, -2^63 to 2^63-1"
    raise ScalarError("number", message, "Write a smaller number, or put it in quotes if it is text.")


def _real(digits: str, text: str) -> Scalar:
    value = float(digits)
    if math.isinf(value):
        return text
    return int(value) if value.is_integer() and _MIN <= value <= _MAX else value


def _finite(value: float, text: str) -> float:
    if math.isfinite(value):
        return value
    raise ScalarError("number", f"{text} is no number that JSON knows", f'Write a number, or "{text}" if it is text.')


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _cast(text: str, kind: str) -> Scalar:
    if kind == "str":
        return text
    if kind == "timestamp":
        return text if re.fullmatch(_DATE, text) else _misfit(text, kind)
    value = resolve_plain(text)
    fits = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool) and _INTEGER.fullmatch(text.replace("_", "")),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "null": value is None,
    }
    return value if fits[kind] else _misfit(text, kind)


def _misfit(text: str, kind: str) -> Scalar:
    raise ScalarError(
        "tag", f"{json.dumps(_cut(text), ensure_ascii=False)} does not fit its tag !!{kind}", "Leave the tag out."
    )


def _decode(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
    except ValueError as error:
        wanted = "Write base64 of UTF-8 text, or the text itself without the tag."
        raise ScalarError("tag", "a !!binary value is not base64 of text", wanted) from error


def key_of(text: str, value: Scalar) -> str:
    """Return the key that kubectl makes of a scalar; a JSON object has only text for keys.

    Raises:
        ScalarError: the key is null, or would not be spelled as it is written: `on` becomes `true`, `010` becomes `8`.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise ScalarError("key", "a key is missing or null", 'Write a key; "" and "null" are text.')
    spelled = json.dumps(value)
    if spelled == text and not isinstance(value, float):
        return text
    raise ScalarError("key", f"the key {_cut(text)} is read as {spelled}, not as text", "Put it in quotes.")


_AMBIGUOUS_WORDS = frozenset([*_WORDS, "<<", "="])
"""What kubectl, or a parser of YAML 1.1, does not read as text; the last two are merge and value keys of 1.1."""
_NUMBER_STARTS = frozenset("+-.0123456789")
_NUMBER = re.compile(
    r"""
        [-+]? 0 (?: [bB] [01]* | [oO] [0-7]* | [xX] [0-9a-fA-F]* )
      | [-+]? [0-9]+ (?: : [0-5]? [0-9] )* (?: \. [0-9]* )?                # 12, 012, 12:30:45, 1.5
      | [-+]? \. [0-9]+
      | [-+]? (?: [0-9]+ (?: \. [0-9]* )? | \. [0-9]+ ) [eE] [-+]? [0-9]+  # 1e3, .5E-2
      | [-+]? \. (?: inf | Inf | INF ) | \. (?: nan | NaN | NAN )
    """,
    re.VERBOSE | re.ASCII,
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt\s].*)?", re.ASCII)
_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_PLAIN_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_AGREED_WORDS: dict[str, Scalar] = {
    word: value for word, value in _WORDS.items() if word.lower() in {"true", "false"} or value is None
}
"""Words that all parsers read alike."""


def is_ambiguous(text: str) -> bool:
    """Return whether some YAML parser would read an unquoted `text` as anything but that string."""
    if text in _AMBIGUOUS_WORDS:
        return True
    if text[0] not in _NUMBER_STARTS:
        return False
    # kubectl's parser drops every underscore before it looks for a number: `0_x1F` is 31 to it.
    return bool(_NUMBER.fullmatch(text.replace("_", "")) or _TIME.fullmatch(text))


def read_plain(text: str) -> Scalar:
    """Return what every YAML parser agrees that an unquoted scalar means; empty and null words are None.

    Raises:
        ValueError: parsers disagree, so the scalar has to be quoted.
    """
    if text in _AGREED_WORDS:
        return _AGREED_WORDS[text]
    if _PLAIN_INTEGER.fullmatch(text):
        return int(text)
    if _PLAIN_FLOAT.fullmatch(text):
        return float(text)
    if is_ambiguous(text):
        raise ValueError(f"YAML parsers disagree about an unquoted {text}: quote it")
    return text
