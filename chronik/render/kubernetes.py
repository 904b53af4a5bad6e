"""Holds manifests to the fields that Kubernetes knows, so that typing mistakes in templates are found at once.

The API server's strict validation finds the same, but only when it is asked. The table is schema/kubernetes.json,
taken from the OpenAPI of a kube-apiserver; a test compares the two. A kind that is not in it is not checked: it may
be defined by a CustomResourceDefinition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.kubernetes_types import ANY, FieldType, FieldTypes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronik.manifest import Manifest

_SCALARS: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "a string"),
    "time": ((str,), "a time"),
    "microtime": ((str,), "a time"),
    "bytes": ((str,), "base64"),
    "boolean": ((bool,), "true or false"),
    "integer": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "quantity": ((int, float, str), "a quantity"),
    "int-or-string": ((int, str), "a whole number or a string"),
}
_BUILT_IN_GROUPS = frozenset({"", "apps", "autoscaling", "batch", "policy"})
_MOST_NAMED = 12


class FieldProblem(NamedTuple):
    """What is wrong in a manifest: where, in words, what to do, and the key that is at fault."""

    path: str
    message: str
    hint: str
    key: str


class FieldTable:
    """The kinds of Kubernetes and their fields."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.types = FieldTypes(table)
        self._kinds: Mapping[str, str] = table["kinds"]
        self._structs: Mapping[str, Mapping[str, str]] = table["structs"]

    def problems(self, manifest: Manifest) -> Iterator[FieldProblem]:
        """Yield what the API server would refuse: unknown kinds and fields, and values of a wrong type."""
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = self.types.of_kind(manifest)
        if root is not ANY:
            yield from self._struct(manifest, root, "")
            return
        group = version.rpartition("/")[0]
        if group in _BUILT_IN_GROUPS or group.endswith(".k8s.io"):
            from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it

            close = get_close_matches(f"{version}/{kind}", self._kinds, n=1, cutoff=0.85)
            if close:
                hint = f"Did you mean {close[0].rpartition('/')[2]} of {close[0].rpartition('/')[0]}?"
                yield FieldProblem("kind", f"Kubernetes has no kind {kind} in {version}", hint, str(kind))

    def _value(self, value: Any, kind: FieldType, path: str, key: str) -> Iterator[FieldProblem]:
        if value is None or kind.name == "any":
            return
        if kind.name in _SCALARS:
            types, words = _SCALARS[kind.name]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                yield FieldProblem(path, f"must be {words}, and is {_what(value)}", "", key)
        elif kind.form == "list":
            if not isinstance(value, list):
                yield FieldProblem(path, f"must be a list, and is {_what(value)}", "Begin each item with `- `.", key)
                return
            for number, item in enumerate(value):
                yield from self._value(item, self.types.named(kind.element), f"{path}[{number}]", key)
        elif not isinstance(value, dict):
            yield FieldProblem(path, f"must be a map, and is {_what(value)}", "", key)
        elif kind.form == "map":
            for name, item in value.items():
                yield from self._value(item, self.types.named(kind.element), f"{path}[{name}]", name)
        else:
            yield from self._struct(value, kind, path)

    def _struct(self, value: Mapping[str, Any], kind: FieldType, path: str) -> Iterator[FieldProblem]:
        fields = self._structs[kind.name]
        for name, item in value.items():
            here = f"{path}.{name}" if path else name
            if name in fields:
                yield from self._value(item, self.types.of(kind, name), here, name)
            else:
                yield FieldProblem(here, "is no field that Kubernetes knows", _suggestion(name, fields), name)


def _what(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a map"}
    return names[type(value)]


def _suggestion(name: str, fields: Mapping[str, str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it

    close = get_close_matches(name, fields, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"There are {', '.join(sorted(fields))}." if len(fields) <= _MOST_NAMED else ""
