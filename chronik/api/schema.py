"""Check and complete a ChronikCluster document by its JSON Schema, as the API server does by the CRD made from it.

The order is the server's: nulls go, types and bounds are checked, defaults come in; rules (`rules`) follow. A valid
document never meets jsonschema, whose import alone costs more than rendering: the schema is compiled once into closures
that answer yes or no (`structural`), and only a no is explained (`schema_errors`). The schema is handed in.

Source: k8s.io/apiextensions-apiserver, pkg/apiserver/schema/defaulting and pkg/apiserver/validation.
"""

from __future__ import annotations

import copy
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.metadata import as_decoded, metadata_problems
from chronik.api.structural import DEEPEST, Compiler, SchemaNode, inlined, is_integer, is_json
from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronik.problem import Path

_MOST_TEXT = 60
_INT64 = 2**63


class Admitted(NamedTuple):
    """A document without nulls and with defaults, and the errors that it had before."""

    document: dict[str, Any]
    problems: tuple[Problem, ...]


class Schema:
    """A JSON Schema, compiled on first use. No method changes its argument; results may share parts with it."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw

    @cached_property
    def root(self) -> SchemaNode:
        """The compiled node of a whole document."""
        return Compiler(self._raw).node(dict(self._raw))

    def admit(self, document: Mapping[str, Any], *, stored: bool = False) -> Admitted:
        """Drop nulls, find errors and fill in defaults.

        `status` is set aside and comes back as it was: the API server drops it from what people apply, and refuses
        nothing of it but unknown fields. What is `stored` came from the server: then metadata, too, is its business, as
        what another version of it or of the operator has written must not make a spec invalid.
        """
        metadata = document.get("metadata")
        judged = {key: value for key, value in document.items() if key != "status"}
        if stored and isinstance(metadata, dict):
            judged["metadata"] = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
        elif "metadata" in judged:
            judged["metadata"] = as_decoded(metadata)
        judged = self.prune_nulls(judged)
        problems = [] if self.conforms(judged) else self.schema_problems(judged)
        if not stored:
            problems += metadata_problems(judged.get("metadata"))
            problems += self._status_problems(document.get("status"))
        completed = self.apply_defaults(judged)
        aside = {key: document[key] for key in (("metadata", "status") if stored else ("status",)) if key in document}
        return Admitted({**completed, **aside}, tuple(problems))

    def _status_problems(self, status: Any) -> Iterator[Problem]:
        for path in _unknown_fields(status, self.root.properties["status"], ("status",)):
            message = f"unknown field {json.dumps(str(path[-1])[:_MOST_TEXT])}"
            yield Problem("error", "unknown-field", path, message, "Leave status out: the operator writes it.")

    def prune_nulls(self, document: Any) -> Any:
        """Return the document without nulls in known fields, and with whole floats as the integers they mean.

        Nulls in lists and in unknown fields stay, and are errors. YAML's `3.0` is JSON's 3, so it is an integer here.
        """
        return _pruned(document, self.root)

    def apply_defaults(self, document: Any) -> Any:
        """Return the document with the default of every absent field whose parent is there."""
        return _defaulted(document, self.root)

    def without_defaults(self, document: Any) -> Any:
        """Return the document without fields that have the value of their default: `apply_defaults` undone."""
        return _undefaulted(document, self.root)

    def conforms(self, document: Any) -> bool:
        """Return whether types, bounds and patterns hold; exactly when `schema_problems` finds nothing."""
        return self.root.check(document)

    def schema_problems(self, document: Any) -> list[Problem]:
        """Return what is wrong with types, bounds and patterns, one problem per violation."""
        from chronik.api.schema_errors import schema_problems  # noqa: PLC0415  # loads jsonschema; only an invalid document pays for it

        return schema_problems(self._inlined, document)

    @cached_property
    def _inlined(self) -> dict[str, Any]:
        """The schema without references, which nothing but the words of errors needs."""
        return inlined(self._raw, dict(self._raw))

    def completed_spec(self, spec: Any) -> Any:
        """Return a valid, defaulted spec with None for every known field that is absent.

        Parts that go into a pod as they are (affinity, tolerations, topology spread) and maps stay as they are.
        """
        return _completed(spec, self.root.properties["spec"])


def _unknown_fields(value: Any, node: SchemaNode | None, path: Path) -> Iterator[Path]:
    """Yield the places of fields that the API server would prune, whatever their type."""
    if isinstance(value, dict):
        for key, item in value.items():
            child = node and node.reached.properties.get(key, node.reached.values)
            if child is None:
                yield (*path, key)
            else:
                yield from _unknown_fields(item, child, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown_fields(item, node and node.items, (*path, number))


def _pruned(value: Any, node: SchemaNode) -> Any:
    node = node.reached
    if node.free:
        return _decoded(value, DEEPEST)
    if isinstance(value, dict) and (node.properties or node.values):
        kept = {}
        for key, item in value.items():
            child = node.properties.get(key, node.values)
            if child is None:
                kept[key] = item
            elif item is not None:
                kept[key] = _pruned(item, child)
        return kept
    if isinstance(value, list) and node.items:
        return [_pruned(item, node.items) for item in value]
    if isinstance(value, float) and value.is_integer() and "integer" in node.types:
        return int(value)
    return value


def _decoded(value: Any, room: int) -> Any:
    """Return any JSON as it comes back from the API server: whole floats as integers, and integers of 64 bits.

    So templates print the same from a file and from the server. What is nested too deep to be valid stays as it is.
    """
    if isinstance(value, dict) and room:
        return {key: _decoded(item, room - 1) for key, item in value.items()}
    if isinstance(value, list) and room:
        return [_decoded(item, room - 1) for item in value]
    if isinstance(value, float) and value.is_integer() and -_INT64 <= value < _INT64:
        return int(value)
    if is_integer(value) and not -_INT64 <= value < _INT64 and is_json(value):
        return float(value)
    return value


def _defaulted(value: Any, node: SchemaNode) -> Any:
    if not node.fills or not (node := node.reached).fills:
        return value
    if isinstance(value, dict):
        filled = dict(value)
        for name, child in node.properties.items():
            if name in filled:
                filled[name] = _defaulted(filled[name], child)
            elif child.has_default:
                filled[name] = _defaulted(copy.deepcopy(child.default), child)
        return filled
    if isinstance(value, list) and node.items:
        return [_defaulted(item, node.items) for item in value]
    return value


def _undefaulted(value: Any, node: SchemaNode) -> Any:
    if isinstance(value, dict) and node.properties:
        kept = {}
        for name, item in value.items():
            child = node.properties.get(name)
            if child is None:
                kept[name] = item
            elif not child.has_default or item != _defaulted(copy.deepcopy(child.default), child):
                kept[name] = _undefaulted(item, child)
        return kept
    if isinstance(value, list) and node.items:
        return [_undefaulted(item, node.items) for item in value]
    return value


def _completed(value: Any, node: SchemaNode) -> Any:
    if node.verbatim:
        return value
    node = node.reached
    if node.properties:
        return {
            name: _completed(value[name], child) if name in value else None for name, child in node.properties.items()
        }
    if node.items:
        return [_completed(item, node.items) for item in value]
    return value
