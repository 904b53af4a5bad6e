"""What a plain YAML scalar may be taken for.

YAML 1.1 (PyYAML), YAML 1.2 and kubectl's Go parser read different things out of `on`, `1e3`, `0o17`, `12:30:45` or
`1_000`. `skeleton` refuses such words where a template leaves them unquoted; `emit` always quotes them.
"""

from __future__ import annotations

import re

_AMBIGUOUS_WORDS = frozenset(
    [
        *("", "~", "null", "Null", "NULL"),
        *("true", "True", "TRUE", "false", "False", "FALSE"),
        *("y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO"),  # booleans of 1.1, and kubectl's
        *("on", "On", "ON", "off", "Off", "OFF"),
        *("<<", "="),  # merge and value keys of 1.1
    ]
)
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
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def is_ambiguous(text: str) -> bool:
    """Say whether some YAML parser would read an unquoted `text` as anything but that string."""
    if text in _AMBIGUOUS_WORDS:
        return True
    if text[0] not in _NUMBER_STARTS:
        return False
    # kubectl's parser drops every underscore before it looks for a number: `0_x1F` is 31 to it.
    return bool(_NUMBER.fullmatch(text.replace("_", "")) or _TIME.fullmatch(text))


def read_plain(text: str) -> str | int | float | bool | None:
    """Return what every YAML parser agrees that an unquoted scalar means; empty and null words are None.

    Raises:
        ValueError: parsers disagree, so the scalar has to be quoted.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if is_ambiguous(text):
        raise ValueError(f"YAML parsers disagree about an unquoted {text}: quote it")
    return text
