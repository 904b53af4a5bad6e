"""The types of Kubernetes, and what a document may say where it holds parts of a pod: containers, volumes, probes.

The table is schema/kubernetes.json, taken from the OpenAPI of a kube-apiserver; a test compares the two. From it come
the definitions `kubernetes.Container` and so on of our own schema, so that nobody types them. What OpenAPI does not
tell, such as which names a container may have, stands beside our own definitions under those same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Raw = dict[str, Any]
PREFIX = "kubernetes."
"""How the definitions of Kubernetes' types begin."""
LEFT_OUT = "x-left-out"
"""The keyword of a definition beside the generated one: the fields of the type that a document cannot have."""

_POINTER = "#/$defs/"
_LONGEST, _MOST = 4096, 32
_BITS = {False: 2**31, True: 2**63}


class FieldType(NamedTuple):
    """The type of a value: a struct, a map or list of `element`s, or a scalar. `keys` tell the items of a list apart.

    `flags` are those of the table: `atomic`, `set`, `required`, `embedded`, `kept`, `key=DEFAULT`, `merge=KEY`,
    `enum=A|B`, `int64`.
    """

    form: str
    name: str
    element: str
    keys: tuple[str, ...]
    flags: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> FieldType:
        """Read a type as the table spells it: `[Container] by=name required`."""
        shape, *flags = text.split(" ")
        by = next((flag[3:].split(",") for flag in flags if flag.startswith("by=")), ())
        form = {"[": "list", "{": "map"}.get(shape[0], "struct" if shape[0].isupper() else "scalar")
        element = shape[1:-1] if form in {"list", "map"} else ""
        return cls(form, "" if element else shape, element, tuple(by), frozenset(flags))

    @property
    def default_key(self) -> str | None:
        """What a key of a list's items is if it is not spelt out."""
        return next((flag[4:] for flag in self.flags if flag.startswith("key=")), None)

    @property
    def merge_key(self) -> str | None:
        """By which key a strategic merge patch merges a list: "" for a set, None if it replaces the list."""
        found = next((flag for flag in self.flags if flag.partition("=")[0] == "merge"), None)
        return None if found is None else found.partition("=")[2]

    @property
    def words(self) -> list[str]:
        """The words that a string, or each of a list, can be; none if it can be any."""
        return next((flag[5:].split("|") for flag in self.flags if flag.startswith("enum=")), [])


ANY = FieldType("scalar", "any", "", (), frozenset())
"""The type of what is not in the table."""


class FieldTypes:
    """The types of schema/kubernetes.json, each read once."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._kinds: Mapping[str, str] = table["kinds"]
        self._structs: Mapping[str, Mapping[str, str]] = table["structs"]
        self._types: dict[str, FieldType] = {"": ANY}

    def of_kind(self, manifest: Mapping[str, Any]) -> FieldType:
        """Return the type of a whole object."""
        return self.named(self._kinds.get(f"{manifest['apiVersion']}/{manifest['kind']}", ""))

    def of(self, kind: FieldType, key: str) -> FieldType:
        """Return the type of a field of a struct, or of a value of a map."""
        if kind.form == "struct":
            return self.named(self._structs[kind.name].get(key, ""))
        return self.named(kind.element)

    def named(self, text: str) -> FieldType:
        """Return the type that the table spells so."""
        found = self._types.get(text)
        if found is None:
            found = self._types[text] = FieldType.parse(text)
        return found

    def fields(self, struct: str) -> dict[str, FieldType]:
        """Return the fields of a struct.

        Raises:
            KeyError: the table has no such struct.
        """
        return {name: self.named(text) for name, text in self._structs[struct].items()}


class Definitions(dict[str, Any]):
    """The `$defs` of a schema, and those of Kubernetes' types, each made when it is first asked for.

    `own` may have an entry `kubernetes.Container`: what it says of fields is laid over what the table says. `table`
    returns the table; a document without parts of pods never asks for it.
    """

    def __init__(self, own: Mapping[str, Raw], table: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__({name: raw for name, raw in own.items() if not name.startswith(PREFIX)})
        self._said = {name: raw for name, raw in own.items() if name.startswith(PREFIX)}
        self._table = table
        self._types: list[FieldTypes] = []

    def __missing__(self, name: str) -> Raw:
        """Make the definition of a type of Kubernetes."""
        if not name.startswith(PREFIX):
            raise KeyError(name)
        if not self._types:
            self._types.append(FieldTypes(self._table()))
        made = self[name] = _struct(name.removeprefix(PREFIX), self._types[0], self._said.get(name, {}))
        return made


def kubernetes_type(pointer: str) -> str:
    """Return the type of Kubernetes that a `$ref` names, or "" if it names another definition."""
    name = pointer.removeprefix(_POINTER)
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""


def referenced(raw: Any) -> Iterator[str]:
    """Yield the names of the definitions that a schema refers to."""
    if isinstance(raw, dict):
        if isinstance(raw.get("$ref"), str):
            yield raw["$ref"].removeprefix(_POINTER)
        raw = list(raw.values())
    for each in raw if isinstance(raw, list) else ():
        yield from referenced(each)


def _struct(struct: str, types: FieldTypes, said: Raw) -> Raw:
    fields = {name: kind for name, kind in types.fields(struct).items() if name not in said.get(LEFT_OUT, ())}
    ours: Raw = said.get("properties", {})
    made: Raw = {
        "description": _about(struct),
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: _laid(kind, f"{struct}.{name}", types, ours.get(name, {})) for name, kind in fields.items()
        },
        "required": said.get("required", [name for name, kind in fields.items() if "required" in kind.flags]),
    }
    made["examples"] = said.get("examples") or [
        {name: made["properties"][name]["examples"][0] for name in made["required"]}
    ]
    return made


def _laid(kind: FieldType, path: str, types: FieldTypes, said: Raw) -> Raw:
    """Lay what we say of a field over what the table says; another type or reference takes its place."""
    if "$ref" in said or "type" in said:
        return {"description": _about(path), **said}
    return {**_field(kind, path, types), **said}


_SAID = "As in Kubernetes: "
"""How a description begins that says no more than where to read."""


def is_undescribed(raw: Raw) -> bool:
    """Return whether a schema is of Kubernetes and described there."""
    return str(raw.get("description", "")).startswith(_SAID)


def _about(path: str) -> str:
    return f"{_SAID}{path}."


def _field(kind: FieldType, path: str, types: FieldTypes) -> Raw:
    about = {"description": _about(path)}
    if kind.form == "struct":
        return {"$ref": f"{_POINTER}{PREFIX}{kind.name}", **about}
    if kind.form == "map":
        return {
            **about,
            "type": "object",
            "maxProperties": _MOST,
            "propertyNames": {"type": "string", "maxLength": _LONGEST, "examples": ["name"]},
            "additionalProperties": _field(types.named(kind.element), path, types),
            "examples": [{}],
        }
    if kind.form == "list":
        element = kind.element if not kind.words else f"{kind.element} enum={'|'.join(kind.words)}"
        items = _field(types.named(element), path, types)
        made: Raw = {**about, "type": "array", "maxItems": _MOST, "items": items, "examples": [[]]}
        return {**made, **_unique(kind, types)}
    return {**about, **_scalar(kind)}


def _unique(kind: FieldType, types: FieldTypes) -> Raw:
    """Have no two items of a list with the same keys, if each item has to say its keys."""
    fields = types.fields(kind.element) if kind.keys else {}
    if not kind.keys or any("required" not in fields[key].flags for key in kind.keys):
        return {}
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(kind.keys)}


def _scalar(kind: FieldType) -> Raw:
    match kind.name:
        case "string" if kind.words:
            return {"type": "string", "enum": kind.words, "examples": kind.words[:1]}
        case "string":
            return {"type": "string", "maxLength": _LONGEST, "examples": ["text"]}
        case "integer":
            bound = _BITS["int64" in kind.flags]
            return {"type": "integer", "minimum": -bound, "maximum": bound - 1, "examples": [1]}
        case "boolean":
            return {"type": "boolean", "examples": [True]}
        case "quantity":
            return {"$ref": f"{_POINTER}quantity"}
        case _:
            raise TypeError(f"no document can have a {kind.name} there")
