"""The forms that Kubernetes wants of names, images and label selectors, for what is part of no document: options.

A document's fields of the same kinds have these forms in the schema, where the API server checks them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_ENDS = "beginning and ending with a letter or digit"


class Form(NamedTuple):
    """What a text has to look like: a pattern of the whole, how long it may be, and both in words.

    The pattern is text, because a command that checks nothing by it should not take the time to compile it.
    """

    pattern: str
    longest: int
    allowed: str

    def fits(self, text: str) -> bool:
        """Return whether a text has the form."""
        return len(text) <= self.longest and re.fullmatch(self.pattern, text) is not None


NAMESPACE = Form(_LABEL, 63, f"at most 63 lower-case letters, digits and -, {_ENDS}")
CLUSTER_NAME = Form(
    "[a-z](?:[-a-z0-9]*[a-z0-9])?",
    41,
    "at most 41 lower-case letters, digits and -, beginning with a letter and ending with a letter or digit",
)
OBJECT_NAME = Form(
    rf"{_LABEL}(?:\.{_LABEL})*",
    253,
    f"at most 253 lower-case letters, digits, - and ., each part between dots {_ENDS}",
)
DNS_DOMAIN = Form(
    r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)*",
    253,
    f"at most 253 lower-case letters, digits, - and ., each part between dots at most 63 and {_ENDS}",
)
BACKUP_NAME = Form(_LABEL, 180, f"at most 180 lower-case letters, digits and -, {_ENDS}")
IMAGE = Form(
    r"(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?",
    512,
    "it looks like registry.example.com/chronik/operator:1.4.2",
)
ADDRESS = Form(
    r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?"
    r"|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?",
    253,
    "a host name, or an IP address",
)
SOURCE_NAME = Form(_LABEL, 20, f"at most 20 lower-case letters, digits and -, {_ENDS}")
SERVER = Form(
    r"(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])"
    r":(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})",
    261,
    "it looks like east-kafka.example.com:9092",
)
LABEL_NAME = Form("[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?", 63, f"at most 63 letters, digits, -, _ and ., {_ENDS}")
"""A label's key, without the DNS name and the slash that can stand before it; and its value, unless that is empty."""

_S = "[ \t\r\n]"
_WORD = "[^ \t\r\n=!()<>,]+"
_REQUIREMENT = (
    rf"{_S}*(?P<key>{_WORD})(?:{_S}*(?P<operator>==|!=|[=<>]){_S}*(?P<value>{_WORD})?"
    rf"|{_S}+(?:in|notin){_S}*\((?P<values>{_S}*(?:{_WORD})?{_S}*(?:,{_S}*(?:{_WORD})?{_S}*)*)\))?{_S}*"
    rf"|{_S}*!{_S}*(?P<absent>{_WORD}){_S}*"
)
_LARGEST_INTEGER = 2**63 - 1


def selector_error(text: str) -> str:
    """Return what is wrong with a label selector, or "" for one that the API server takes.

    Source: apimachinery's `labels.Parse`: `a`, `!a`, `a=b`, `a!=b`, `a in (b, c)`, `a notin (b)`, `a>1`, with commas
    between them.
    """
    if not text.strip(" \t\r\n"):
        return ""
    at, requirement = 0, re.compile(_REQUIREMENT)
    while True:
        found = requirement.match(text, at)
        if found is None or (found.end() < len(text) and text[found.end()] != ","):
            return f"{text[at:].strip()!r} is no requirement; write KEY=VALUE, KEY!=VALUE, KEY, !KEY or KEY in (A,B)"
        error = _requirement_error(found)
        if error or found.end() == len(text):
            return error
        at = found.end() + 1


def _requirement_error(found: re.Match[str]) -> str:
    key = found["key"] or found["absent"]
    prefix, slash, name = key.rpartition("/")
    if not LABEL_NAME.fits(name) or (slash and not OBJECT_NAME.fits(prefix)):
        return f"{key!r} is no key of a label: {LABEL_NAME.allowed}; a DNS name and / can stand before them"
    values = [value.strip(" \t\r\n") for value in (found["values"] or found["value"] or "").split(",")]
    for value in values:
        if value and not LABEL_NAME.fits(value):
            return f"{value!r} is no value of a label: empty, or {LABEL_NAME.allowed}"
    if found["operator"] in ("<", ">") and not (values[0].isdigit() and int(values[0]) <= _LARGEST_INTEGER):
        return f"{values[0]!r} is no integer, which {found['operator']} compares with"
    return ""
