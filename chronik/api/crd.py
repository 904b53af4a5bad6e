"""Turn the schema and the rule book into what the API server understands: a CRD, and a policy that warns.

Errors become `x-kubernetes-validations`; warnings a ValidatingAdmissionPolicy whose action is Warn, which needs neither
webhook nor certificate. schema/*.yaml holds both for people who install without chronik. Pure: data in, data out.

Source: structural schemas, kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.rules import ITEMS, VALUES, RuleBookError
from chronik.api.structural import DEFERRED, FREE, LIST_KEYS, Raw, SchemaError, inlined, types_of
from chronik.kubernetes_types import referenced
from chronik.manifest import API_VERSION, BACKUP, CLUSTER, FEDERATION, Kind, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.rules import Rule, RuleBook, SchemaPath

GROUP, VERSION = API_VERSION.split("/")
POLICY_NAME = "chronik-warnings"

_SAME = (
    "description", "type", "format", "enum", "pattern", "default", "required", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "maxProperties", "x-kubernetes-list-type",
    LIST_KEYS, FREE,
)  # fmt: skip  # keywords that mean the same to JSON Schema and to Kubernetes
_DROPPED = frozenset({
    "$ref", "$schema", "$id", "$comment", "$defs", "title", "examples", "x-allowed", "x-verbatim", DEFERRED,
})  # fmt: skip  # for people, editors and ourselves
_TURNED = frozenset({"properties", "items", "additionalProperties", "propertyNames", "uniqueItems"})

_PARTS_OF_PODS = ("spec", "components", "*")
"""Where below each field there are types of Kubernetes: described by Kubernetes, they are too many to describe here."""
_SELECTORS = frozenset({"labelSelector", "namespaceSelector", "podSelector", "nodeSelectorTerms", "preference"})
"""Fields that are described themselves, but nothing below them: they are selectors of Kubernetes, and stand often."""


class _Shown(NamedTuple):
    """How kubectl shows a kind: its short name, and the columns of a list, each with its type and where it is."""

    short: str
    columns: tuple[tuple[str, str, str], ...]


_SHOWN = {
    CLUSTER.name: _Shown("ck", (
    ("Phase", "string", ".status.phase"),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
    ("Controllers", "integer", ".status.readyReplicas.controllers"),
    ("Ingest", "integer", ".status.readyReplicas.ingestNodes"),
    ("Search", "integer", ".status.readyReplicas.searchNodes"),
    ("Rollout", "string", ".status.rollout.phase"),
    ("Age", "date", ".metadata.creationTimestamp"),
    )),
    BACKUP.name: _Shown("ckb", (
    ("Cluster", "string", ".spec.cluster"),
    ("Phase", "string", ".status.phase"),
    ("Usable", "boolean", ".status.usable"),
    ("Cut", "date", ".status.cutAt"),
    ("Size", "string", ".status.size"),
    ("Age", "date", ".metadata.creationTimestamp"),
    )),
    FEDERATION.name: _Shown("ckf", (
    ("Phase", "string", ".status.phase"),
    ("Ready", "string", ".status.ready"),
    ("Wave", "integer", ".status.wave"),
    ("Revision", "string", ".status.revision"),
    ("Age", "date", ".metadata.creationTimestamp"),
    )),
}  # fmt: skip


def crd(schema: Mapping[str, Any], rules: RuleBook, kind: Kind = CLUSTER) -> Manifest:
    """Return the CustomResourceDefinition of a kind, a ChronikCluster by default; `rules` are those of this kind.

    Raises:
        SchemaError: the schema says something that a structural schema cannot.
        RuleBookError: a rule is about a place that the schema does not have.
    """
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [_SHOWN[kind.name].short],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root(schema, rules)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path}
                        for name, type_, path in _SHOWN[kind.name].columns
                    ],
                }
            ],
        },
    }


def warning_policy(rules: RuleBook) -> list[Manifest]:
    """Return the ValidatingAdmissionPolicy that warns, and its binding.

    It never blocks a request: a policy that cannot be evaluated is ignored.
    """
    policy = {
        "failurePolicy": "Ignore",
        # One atomic value: were the server's defaults left out, the apply of any other manager would conflict.
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": [VERSION],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [CLUSTER.plural],
                    "scope": "*",
                }
            ],
        },
        "validations": [
            {"expression": _about_object(place, rule.rule), "message": rule.words}
            for rule in rules.rules
            if rule.severity == "warning"
            for place in rule.places
        ],
    }
    binding = {"policyName": POLICY_NAME, "validationActions": ["Warn"]}
    return [_admission("ValidatingAdmissionPolicy", policy), _admission("ValidatingAdmissionPolicyBinding", binding)]


def editor_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a whole document for editors: null stands for an absent field, as on the API server."""
    found: dict[str, Raw] = {}
    todo = [*schema["$defs"]]
    while todo:  # types of Kubernetes are made as they are met
        name = todo.pop(0)
        if name not in found:
            found[name] = _for_editor(schema["$defs"][name])
            todo += referenced(found[name])
    return {**_for_editor(dict(schema)), "$defs": found}


def _admission(kind: str, spec: dict[str, Any]) -> Manifest:
    name = {"name": POLICY_NAME}
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": name, "spec": spec}


def _about_object(place: SchemaPath, rule: str) -> str:
    """Bind `self` to a place of `object`, so that the rule's own text can stay as it is; an absent place is fine."""
    paths = ["object." + ".".join(place[:length]) for length in range(1, len(place) + 1)]
    return " || ".join([*(f"!has({path})" for path in paths), f"[{paths[-1]}].all(self, {rule})"])


# --- the structural schema -------------------------------------------------------------------------------------------


def _root(schema: Mapping[str, Any], rules: RuleBook) -> Raw:
    """Return the schema of the object; of metadata a CRD can say something about the name only."""
    root = inlined(schema, dict(schema))
    used: set[SchemaPath] = {()}
    parts = {name: _structural(root["properties"][name], (name,), rules, used) for name in ("spec", "status")}
    stray = [rule.name for rule in rules.rules if not used.issuperset(rule.places)]
    if stray:
        raise RuleBookError(f"rule {stray[0]}: the schema has no such place")
    name = _structural(root["properties"]["metadata"]["properties"]["name"], ("metadata", "name"), rules, used)
    made = {
        "description": root["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            **parts,
        },
    }
    return _validated(made, [_validation(rule) for rule in rules.at(()) if rule.severity == "error"])


def _structural(raw: Raw, place: SchemaPath, rules: RuleBook, used: set[SchemaPath]) -> Raw:
    unknown = raw.keys() - _DROPPED - _TURNED - set(_SAME)
    if unknown:
        raise SchemaError(f"{'.'.join(place)}: a CRD cannot say {', '.join(sorted(unknown))}")
    used.add(place)
    made = {keyword: raw[keyword] for keyword in _SAME if keyword in raw}
    if _is_of_kubernetes(place):
        made.pop("description", None)
    if "default" in made:
        made["default"] = _filled(raw)
    if len(types_of(raw)) > 1:
        del made["type"]
        made["x-kubernetes-int-or-string"] = True
    if raw.get("uniqueItems"):
        made["x-kubernetes-list-type"] = "set"
    if "properties" in raw:
        below = raw["properties"].items()
        made["properties"] = {name: _structural(child, (*place, name), rules, used) for name, child in below}
    if isinstance(raw.get("additionalProperties"), dict):
        made["additionalProperties"] = _structural(raw["additionalProperties"], (*place, VALUES), rules, used)
    if "items" in raw:
        made["items"] = _structural(raw["items"], (*place, ITEMS), rules, used)
    own = (_validation(rule) for rule in rules.at(place) if rule.severity == "error")
    return _validated(made, [*_key_validations(raw), *own])


def _validated(made: Raw, validations: Sequence[Mapping[str, str]]) -> Raw:
    return {**made, "x-kubernetes-validations": validations} if validations else made


def _is_of_kubernetes(place: SchemaPath) -> bool:
    """Return whether a place is inside of something that Kubernetes describes, and not the whole of it."""
    parts = place[: len(_PARTS_OF_PODS)] == _PARTS_OF_PODS and len(place) > len(_PARTS_OF_PODS) + 1
    return parts or not _SELECTORS.isdisjoint(place[:-1])


def _filled(raw: Raw) -> Any:
    """Return a default with the defaults below it in place: the API server holds it to the rules as it stands."""
    below = raw.get("properties", {}).items()
    if not isinstance(raw["default"], dict):
        return raw["default"]
    return {**{name: _filled(child) for name, child in below if "default" in child}, **raw["default"]}


def _key_validations(raw: Raw) -> list[dict[str, str]]:
    """Say in CEL what OpenAPI cannot: what the keys of a map have to be."""
    names = raw.get("propertyNames", {})
    if "pattern" not in names:
        return []
    rule = f"self.all(key, key.size() <= {names['maxLength']} && key.matches(r'{names['pattern']}'))"
    return [{"rule": rule, "message": f"each key must be {names['x-allowed']}"}]


def _validation(rule: Rule) -> dict[str, str]:
    made = {"rule": rule.rule, "message": rule.words, "fieldPath": rule.field_path, "reason": rule.reason}
    return {key: value for key, value in made.items() if value}


def _for_editor(raw: Raw) -> Raw:
    """Return a schema that any JSON Schema 2020-12 tool reads, without keywords of our own."""
    made = {key: value for key, value in raw.items() if not key.startswith("x-") and key not in {"$comment", "$defs"}}
    needed = raw.get("required", ())
    if "properties" in raw:
        made["properties"] = {
            name: _for_editor(child) if name in needed else _or_null(child) for name, child in raw["properties"].items()
        }
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(raw.get(keyword), dict):
            made[keyword] = _for_editor(raw[keyword])
    return made


def _or_null(raw: Raw) -> Raw:
    about: Raw = {key: raw[key] for key in ("description", "default", "examples") if key in raw}
    rest = {key: value for key, value in _for_editor(raw).items() if key not in about}
    return {**about, "anyOf": [rest, {"type": "null"}]}
