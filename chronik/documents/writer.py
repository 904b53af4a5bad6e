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
    from collections.abc import Iterable

    from chronik.manifest import Manifest

_FIRST_KEYS = ("apiVersion", "kind", "metadata", "spec")
_WIDTH = 2**31 - 1  # folded lines make diffs hard to read; this is the widest that libyaml knows


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # which base is known only here
    """PyYAML's dumper, with our quoting and without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True  # parts of a spec stand in several manifests; they are values, not references


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_text_style(text))


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


_Dumper.add_representer(str, _represent_text)


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
        return yaml.dump(ordered(manifest), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    except UnicodeEncodeError as error:
        raise _unwritable(error) from error


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
