"""Write the text of a Java properties file, so that `java.util.Properties.load` reads back exactly what was meant.

Source: the JavaDoc of java.util.Properties, `load(Reader)`. Values hold passwords' places, regular expressions and what
users write, so every character that means something there is escaped; what is not printable ASCII becomes an escape of
its UTF-16 units, which is right whatever encoding the file is read in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ESCAPED = {
    "\\": "\\\\",
    "\t": "\\t",
    "\n": "\\n",
    "\r": "\\r",
    "\f": "\\f",
    "=": "\\=",
    ":": "\\:",
    "#": "\\#",
    "!": "\\!",
}
_FIRST_PRINTABLE, _LAST_PRINTABLE = " ", "~"


def properties(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of a properties file. Each section's settings begin with its key and a dot; "" adds nothing.

    Values are strings, integers or booleans. A later section wins over an earlier one that has the same setting.
    """
    settings = {
        f"{prefix}.{name}" if prefix else name: value
        for prefix, section in sections.items()
        for name, value in section.items()
    }
    return "".join(f"{_key(name)} = {_value(_text(value))}\n" for name, value in settings.items())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key(name: str) -> str:
    return "".join(_characters(name)).replace(" ", "\\ ")


def _value(text: str) -> str:
    """Return a value. Of its spaces only those before it would be lost."""
    inner = text.lstrip(" ")
    return "\\ " * (len(text) - len(inner)) + "".join(_characters(inner))


def _characters(text: str) -> Iterator[str]:
    for character in text:
        if character in _ESCAPED:
            yield _ESCAPED[character]
        elif _FIRST_PRINTABLE <= character <= _LAST_PRINTABLE:
            yield character
        else:
            units = character.encode("utf-16-be", "surrogatepass")
            yield "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
