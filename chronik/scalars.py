"""What a plain YAML scalar may be taken for.

YAML 1.1 (PyYAML), YAML 1.2 and kubectl's Go parser read different things out of `on`, `1e3`, `0o17`, `12:30:45` or
`1_000`. `skeleton` refuses such words where a template leaves them unquoted; `emit` always quotes them.
"""

from __future__ import annotations

import re

_AMBIGUOUS = re.compile(
    r"""
      | ~ | null | Null | NULL                                          # nothing, in every version
      | [yYnN] | yes | Yes | YES | no | No | NO                         # booleans of 1.1, and Go's
      | on | On | ON | off | Off | OFF
      | true | True | TRUE | false | False | FALSE
      | << | =                                                          # merge and value keys of 1.1
      | [-+]? 0b [01_]+ | [-+]? 0o [0-7_]+ | [-+]? 0x [0-9a-fA-F_]+     # integers of any base
      | [-+]? [0-9] [0-9_]* (?: : [0-5]? [0-9] )* (?: \. [0-9_]* )?     # 12, 1_000, 012, 12:30:45, 1.5
      | [-+]? (?: [0-9] [0-9_]* )? \.? [0-9_]* [eE] [-+]? [0-9]+        # 1e3, .5e-2
      | [-+]? \. [0-9_]+
      | [-+]? \. (?: inf | Inf | INF ) | \. (?: nan | NaN | NAN )
      | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} (?: [Tt\s] .* )?             # dates and times
    """,
    re.VERBOSE | re.ASCII,
)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def is_ambiguous(text: str) -> bool:
    """Say whether some YAML parser would read an unquoted `text` as anything but that string."""
    return _AMBIGUOUS.fullmatch(text) is not None


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
