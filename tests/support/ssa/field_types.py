"""The types of Kubernetes fields, as far as server-side apply and defaulting depend on them.

The stand-in server walks objects beside these types: which lists are maps and by which key, what is atomic, which
values are quantities, which zero values survive. `schema/kubernetes.json` holds them, taken from kube-apiserver's own
OpenAPI; chronik holds what templates make to the same table.
`python -m support.ssa.field_types` (in tests/, with binaries at hand) writes it anew, and a test compares it with
what the server says.

A field reads `TYPE [flag…]`. TYPE is a scalar (`string`, `integer`, `quantity`, `any`, …), the name of a struct,
`{TYPE}` for a map, `[TYPE]` for a list. Flags: `atomic` (a map or struct that is owned as a whole), `set` and
`by=name,…` (lists; without either a list is atomic), `required`, `embedded` (a struct that is never absent: `{}`),
`kept` (a pointer in Go: false, 0 and "" stay instead of vanishing), `key=VALUE` (what a merge key defaults to),
`merge=name` and `merge` (lists that a strategic merge patch merges, by that key or as a set; it replaces the others),
`enum=A|B` (the words that a string can be, or those of a list), `int64` (an integer of 64 bits; others have 32).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLE_FILE = Path(__file__).parents[3] / "schema" / "kubernetes.json"

SCALARS = frozenset(
    {"string", "integer", "number", "boolean", "quantity", "int-or-string", "time", "microtime", "bytes", "any"}
)


@dataclass(frozen=True)
class Type:
    """The type of a value; `fields` is the struct's, `element` the map's or list's."""

    form: str  # scalar, struct, map or list
    name: str = ""  # of the scalar or the struct
    element: Type | None = None
    atomic: bool = False
    keys: tuple[str, ...] = ()
    required: bool = False
    embedded: bool = False
    kept: bool = False
    key_default: Any = None
    open: bool = False  # a struct that keeps fields it does not know
    own_fields: dict[str, Type] | None = field(default=None, compare=False)  # a struct that the table does not hold

    @cached_property
    def fields(self) -> dict[str, Type]:
        """The fields of a struct by name."""
        return _structs()[self.name] if self.own_fields is None else self.own_fields

    def of(self, key: str) -> Type:
        """Return the type of a struct's field or a map's value; an unknown field can hold anything."""
        if self.form == "struct":
            return self.fields.get(key, ANY)
        return self.element or ANY

    def names(self, key: str) -> bool:
        """Tell whether `key` is a field by name, and not just an entry of a map."""
        return self.form == "struct" and key in self.fields


ANY = Type("scalar", "any")


def parse(text: str) -> Type:
    """Read a type from the table's notation."""
    shape, *flags = text.split(" ")
    named = dict(flag.partition("=")[::2] for flag in flags)
    common: dict[str, Any] = {
        "required": "required" in named,
        "embedded": "embedded" in named,
        "kept": "kept" in named,
        "key_default": named.get("key"),
    }
    if shape.startswith("["):
        keys = tuple(named["by"].split(",")) if "by" in named else ()
        atomic = not keys and "set" not in named
        return Type("list", element=parse(shape[1:-1]), atomic=atomic, keys=keys, **common)
    if shape.startswith("{"):
        return Type("map", element=parse(shape[1:-1]), atomic="atomic" in named, **common)
    if shape in SCALARS:
        return Type("scalar", shape, **common)
    return Type("struct", shape, atomic="atomic" in named or shape in _table()["atomic"], **common)


def kind_type(api_version: str, kind: str) -> Type:
    """Return the type of a built-in kind; raise KeyError for one that the table lacks."""
    return Type("struct", _table()["kinds"][f"{api_version}/{kind}"])


@cache
def _table() -> dict[str, Any]:
    return json.loads(TABLE_FILE.read_text())


@cache
def _structs() -> dict[str, dict[str, Type]]:
    return {name: {key: parse(text) for key, text in fields.items()} for name, fields in _table()["structs"].items()}


# --- from a CRD's structural schema -----------------------------------------------------------------------------------


def from_crd(schema: dict[str, Any], **flags: Any) -> Type:
    """Return the type of a structural schema: lists are atomic and maps granular unless it says otherwise."""
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    if schema.get("x-kubernetes-int-or-string"):
        return Type("scalar", "int-or-string", kept=True, **flags)
    if schema.get("type") == "array":
        list_type = schema.get("x-kubernetes-list-type", "atomic")
        keys = tuple(schema.get("x-kubernetes-list-map-keys", ())) if list_type == "map" else ()
        return Type(
            "list", element=from_crd(schema["items"]), atomic=list_type == "atomic", keys=keys, kept=True, **flags
        )
    is_open = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if "properties" in schema:
        fields = {
            key: from_crd(value, required=key in schema.get("required", ()), key_default=value.get("default"))
            for key, value in schema["properties"].items()
        }
        return Type("struct", own_fields=fields, atomic=atomic, kept=True, open=is_open, **flags)
    if schema.get("type") == "object" and not is_open:
        extra = schema.get("additionalProperties", {})
        return Type("map", element=from_crd(extra) if extra else ANY, atomic=atomic, kept=True, **flags)
    return Type("scalar", "any" if is_open else schema.get("type", "any"), kept=True, **flags)


# --- from a running server's OpenAPI ----------------------------------------------------------------------------------

KINDS = (
    *(
        ("apis/admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1", kind)
        for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    ),
    *(("api/v1", "v1", kind) for kind in ("ConfigMap", "Event", "Namespace", "PersistentVolumeClaim", "Pod")),
    *(("api/v1", "v1", kind) for kind in ("Secret", "Service", "ServiceAccount")),
    *(("apis/apps/v1", "apps/v1", kind) for kind in ("DaemonSet", "Deployment", "StatefulSet")),
    *(("apis/batch/v1", "batch/v1", kind) for kind in ("CronJob", "Job")),
    *(("apis/networking.k8s.io/v1", "networking.k8s.io/v1", kind) for kind in ("Ingress", "NetworkPolicy")),
    ("apis/autoscaling/v1", "autoscaling/v1", "Scale"),
    ("apis/autoscaling/v2", "autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apis/coordination.k8s.io/v1", "coordination.k8s.io/v1", "Lease"),
    ("apis/events.k8s.io/v1", "events.k8s.io/v1", "Event"),
    ("apis/policy/v1", "policy/v1", "PodDisruptionBudget"),
    *(
        ("apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1", kind)
        for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    ),
    ("apis/storage.k8s.io/v1", "storage.k8s.io/v1", "StorageClass"),
)
_SPECIAL = {
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string",
    "v1.Time": "time",
    "v1.MicroTime": "microtime",
    "v1.FieldsV1": "any",
    "runtime.RawExtension": "any",
}


def table_from_openapi(documents: dict[str, dict[str, Any]], kept: Iterable[str]) -> dict[str, Any]:
    """Build the table from OpenAPI v3 documents by path; `kept` lists `Struct.field`, which OpenAPI does not tell."""
    schemas: dict[str, Any] = {}
    for document in documents.values():
        schemas |= document["components"]["schemas"]
    roots = {f"{version}/{kind}": _full_name(schemas, version, kind) for _, version, kind in KINDS}
    reachable = sorted(_reachable(schemas, roots.values()))
    by_short = {_short(name): name for name in reversed(reachable)}
    short = {name: _short(name) if by_short[_short(name)] == name else _long(name) for name in reachable}
    kept = set(kept)
    return {
        "kinds": {key: short[name] for key, name in sorted(roots.items())},
        "atomic": sorted(short[name] for name in reachable if schemas[name].get("x-kubernetes-map-type") == "atomic"),
        "structs": {
            short[name]: {
                key: _notation(value, key, schemas[name], short) + " kept" * (f"{short[name]}.{key}" in kept)
                for key, value in sorted(schemas[name].get("properties", {}).items())
            }
            for name in reachable
        },
    }


def kept_fields() -> Iterator[str]:
    """Yield `Struct.field` of all fields that the present table marks as kept."""
    for struct, fields in _table()["structs"].items():
        yield from (f"{struct}.{key}" for key, text in fields.items() if " kept" in text)


def _full_name(schemas: dict[str, Any], api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    for name, schema in schemas.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            if gvk == {"group": group, "version": version, "kind": kind}:
                return name
    raise LookupError(f"{api_version}/{kind} is in none of the OpenAPI documents")


def _reachable(schemas: dict[str, Any], roots: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in seen and _special(name) is None:
            seen.add(name)
            text = json.dumps(schemas[name].get("properties", {}))
            todo += [part.split('"', 1)[0] for part in text.split("#/components/schemas/")[1:]]
    return seen


def _notation(schema: dict[str, Any], key: str, owner: dict[str, Any], short: dict[str, str]) -> str:
    flags = ["atomic"] if schema.get("x-kubernetes-map-type") == "atomic" else []
    if schema.get("x-kubernetes-list-type") == "set":
        flags.append("set")
    elif schema.get("x-kubernetes-list-type") == "map":
        flags.append("by=" + ",".join(schema["x-kubernetes-list-map-keys"]))
    if "merge" in schema.get("x-kubernetes-patch-strategy", "").split(","):
        merge_key = schema.get("x-kubernetes-patch-merge-key")
        flags.append(f"merge={merge_key}" if merge_key else "merge")
    words = schema.get("enum") or schema.get("items", {}).get("enum")
    if words and all(words):
        flags.append("enum=" + "|".join(words))
    if schema.get("format") == "int64":
        flags.append("int64")
    if key in owner.get("required", ()):
        flags.append("required")
    if schema.get("default") == {}:
        flags.append("embedded")
    elif schema.get("default"):
        flags.append(f"key={schema['default']}")
    return " ".join([_shape(schema, short), *flags])


def _shape(schema: dict[str, Any], short: dict[str, str]) -> str:
    reference = schema.get("$ref") or schema.get("allOf", [{}])[0].get("$ref")
    if reference:
        name = reference.rpartition("/")[2]
        return _special(name) or short[name]
    if schema.get("type") == "array":
        return f"[{_shape(schema['items'], short)}]"
    if "additionalProperties" in schema:
        return "{" + _shape(schema["additionalProperties"], short) + "}"
    if schema.get("format") == "byte":
        return "bytes"
    return schema.get("type", "any")


def _special(name: str) -> str | None:
    return next((scalar for end, scalar in _SPECIAL.items() if name.endswith(f".{end}")), None)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _long(name: str) -> str:
    return "".join(part.title() for part in name.split(".")[-3:-2]) + _short(name)


def documents_of(server: Any) -> dict[str, dict[str, Any]]:
    """Fetch the OpenAPI documents that the table needs from a running server."""
    answers = {path: server.call("GET", f"/openapi/v3/{path}").body for path, _, _ in KINDS}
    return {path: json.loads(body) if isinstance(body, str) else body for path, body in answers.items()}


def dump(table: dict[str, Any]) -> str:
    """Write a table as JSON, one field a line."""
    return json.dumps(table, indent=1) + "\n"


if __name__ == "__main__":
    from support.real_server import RealServer

    running = RealServer.start(audit=False)
    TABLE_FILE.write_text(dump(table_from_openapi(documents_of(running), kept_fields())))
    running.stop()
