"""Write manifests as text that kubectl, written in Go, and Python read back as the same tree.

YAML is for people and files; JSON is for the wire and for digests. Nothing here prints.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import yaml

from chronik.documents.scalars import is_ambiguous
from chronik.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.manifest import Manifest

_FIRST_KEYS = ("apiVersion", "kind", "metadata", "spec")
_WIDTH = 2**31 - 1  # folded lines make diffs hard to read; this is the widest that libyaml knows


_EMITTER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _events(manifest: Manifest) -> Iterator[yaml.Event]:
    """Yield the events of a document.

    PyYAML's dumper would make a tree of nodes first, look for anchors in it (parts of a spec stand in several
    manifests; they are values, not references), and ask of every text again what YAML 1.1 might take it for.
    """
    yield yaml.StreamStartEvent()
    yield yaml.DocumentStartEvent(explicit=False)
    yield from _value_events(manifest)
    yield yaml.DocumentEndEvent(explicit=False)
    yield yaml.StreamEndEvent()


def _value_events(value: Any) -> Iterator[yaml.Event]:
    if isinstance(value, str):
        yield yaml.ScalarEvent(None, None, (True, True), value, style=_text_style(value))
    elif isinstance(value, dict):
        yield yaml.MappingStartEvent(None, None, True, flow_style=False)
        for key, item in value.items():
            yield from _value_events(key)
            yield from _value_events(item)
        yield yaml.MappingEndEvent()
    elif isinstance(value, list | tuple):
        yield yaml.SequenceStartEvent(None, None, True, flow_style=False)
        for item in value:
            yield from _value_events(item)
        yield yaml.SequenceEndEvent()
    else:
        yield yaml.ScalarEvent(None, None, (True, False), _spelt(value))


def _spelt(value: Any) -> str:
    """Return how YAML spells what is no text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    spelt: str = yaml.representer.SafeRepresenter().represent_float(value).value
    return spelt


def _text_style(text: str) -> str | None:
    """Quote what some parser could read as another type; write several lines as a block where that loses nothing."""
    if is_ambiguous(text) or (not text.isprintable() and "\n" not in text):
        return '"'
    if "\n" in text:
        lines = text.split("\n")
        readable = all(line.isprintable() and line == line.rstrip() for line in lines) and not text.startswith(
            (" ", "\n")
        )
        return "|" if readable else '"'
    return None


def ordered(manifest: Manifest) -> Manifest:
    """Return a manifest with apiVersion, kind, metadata and spec first; the rest keeps its order."""
    first = {key: manifest[key] for key in _FIRST_KEYS if key in manifest}
    return {**first, **manifest}


def to_yaml(manifest: Manifest) -> str:
    """Write one manifest as a YAML document, without the `---`.

    Raises:
        InputError: some text holds half of a surrogate pair, which no file and no request can carry.
    """
    try:
        text: str = yaml.emit(_events(ordered(manifest)), Dumper=_EMITTER, allow_unicode=True, width=_WIDTH)
    except UnicodeEncodeError as error:
        raise _unwritable(error) from error
    return text


def to_yaml_stream(manifests: Iterable[Manifest]) -> str:
    """Write manifests as one stream of YAML documents, each begun by `---`."""
    return "".join(f"---\n{to_yaml(manifest)}" for manifest in manifests)


def to_json_list(manifests: Iterable[Manifest]) -> str:
    """Write manifests as one JSON object that kubectl takes: a `List`. Raises what `to_yaml` does."""
    items = [ordered(manifest) for manifest in manifests]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _unwritable(error) from error
    return text


def _unwritable(error: UnicodeEncodeError) -> InputError:
    around = error.object[max(0, error.start - 20) : error.end + 20]
    return InputError(f"the text {around!r} holds half of a surrogate pair", hint="Write the whole character instead.")


def content_digest(data: Any) -> str:
    """Return the SHA-256 of data as canonical JSON: equal data have equal digests, whatever the order of keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
