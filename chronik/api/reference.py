"""Write the reference page of the spec: every field, its bounds, default, meaning and an example, and then the rules.

Made from the schema and the rule book, so it cannot contradict `chronik validate`. docs/spec-reference.md is the output
of `chronik schema docs`; a test keeps it so.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chronik.api.rules import ITEMS
from chronik.api.structural import FREE, Raw, inlined, resolved, types_of
from chronik.kubernetes_types import kubernetes_type
from chronik.manifest import BACKUP_KIND, CLUSTER_KIND, FEDERATION_KIND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronik.api.rules import Rule, RuleBook

_INTRO = """\
# The spec of a ChronikCluster

<!-- Generated from schema/chronikcluster.schema.json and schema/rules.yaml by `chronik schema docs`. Do not edit. -->

A document says what a cluster should be. This is the shortest one; what it leaves out has the defaults below:

```yaml
apiVersion: chronik.stream/v1alpha1
kind: ChronikCluster
metadata:
  name: demo
spec:
  storage:
    backend: local
  metastore:
    connection: {host: postgres, database: chronik, credentialsSecret: chronik-postgres}
```

A field that is `null` counts as absent. A field that is not listed here is an error.
"""
_BACKUP_INTRO = """\
# The spec of a ChronikBackup

<!-- Generated from schema/chronikbackup.schema.json and schema/rules.yaml by `chronik schema docs`. Do not edit. -->

One backup of a cluster. Schedules make them, `chronik backup create` does, and so does this document:

```yaml
apiVersion: chronik.stream/v1alpha1
kind: ChronikBackup
metadata:
  name: demo-before-upgrade
spec:
  cluster: demo
```

What it consists of, and how it is made and deleted, is in [backup.md](backup.md).
"""
_FEDERATION_INTRO = """\
# The spec of a ChronikFederation

<!-- Generated from chronikfederation.schema.json and rules.yaml in schema/ by `chronik schema docs`. Do not edit. -->

One ChronikCluster for many Kubernetes clusters. Template and overrides are the spec of a
[ChronikCluster](spec-reference.md):

```yaml
apiVersion: chronik.stream/v1alpha1
kind: ChronikFederation
metadata:
  name: orders
spec:
  template:
    spec:
      storage: {backend: local}
      metastore:
        connection: {host: postgres, database: chronik, credentialsSecret: chronik-postgres}
  members:
  - name: east
    kubeconfig: {secret: east-kubeconfig}
  - name: west
    kubeconfig: {secret: west-kubeconfig}
    overrides: {ingestNodes: 6}
```

What the hub does with it is in [federation.md](federation.md).
"""
_INTROS = {CLUSTER_KIND: _INTRO, BACKUP_KIND: _BACKUP_INTRO, FEDERATION_KIND: _FEDERATION_INTRO}
_RULES = """\
## Rules

What no single field can say. The API server knows these rules too, and refuses and warns in the same words.
"""
_KUBERNETES = "https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/"
_LONG_PATH = 100
_POSITION = re.compile(r"\[[^\]]*\]")
_TABLE = "| Field | Type | Default | Meaning |\n|---|---|---|---|\n"


def reference_page(schema: Mapping[str, Any], rules: RuleBook, kind: str = CLUSTER_KIND) -> str:
    """Return the page of a kind as Markdown; `rules` are those of this kind."""
    sections = [section for top in ("spec", "metadata", "status") for section in _sections(schema, top)]
    tables = [
        f"### {title}\n\n" + "".join(f"- {_rule_line(rule)}\n" for rule in rules.rules if rule.severity == severity)
        for severity, title in (("error", "Errors"), ("warning", "Warnings"))
        if kind == CLUSTER_KIND or severity == "error"
    ]
    return "\n".join([_INTROS[kind], *sections, _RULES, *tables])


class UnknownField(LookupError):
    """A path names no field of the schema; `reached` is how far it leads, `there` which fields there are."""

    def __init__(self, name: str, reached: str, there: tuple[str, ...]) -> None:
        super().__init__(f"there is no {name} in {reached}" if reached else f"there is no {name}")
        self.name = name
        self.there = there


def field_page(schema: Mapping[str, Any], rules: RuleBook, path: str) -> str:
    """Return what the page says of one field, as text: its type and default, its meaning, its fields, its rules.

    Raises:
        UnknownField: there is no such field.
    """
    root: Raw = dict(schema)
    raw, needed, reached = root, False, ""
    for name in filter(None, _POSITION.sub("", path).strip(".").split(".")):
        full = resolved(root, raw)
        full = resolved(root, full["items"]) if "items" in full else full
        fields, others = full.get("properties", {}), full.get("additionalProperties")
        if name not in fields and not isinstance(others, dict):
            raise UnknownField(name, reached, tuple(fields))
        raw, needed = fields.get(name, others), name in full.get("required", ())
        reached = f"{reached}.{name}" if reached else name
    full = resolved(root, raw)
    kind, default = _type(inlined(root, raw), reached, {}), _default(full, needed=needed)
    if isinstance(full.get("additionalProperties"), dict) and "properties" in resolved(
        root, full["additionalProperties"]
    ):
        kind = f"map of maps{_at_most(full, 'maxProperties')}"
    head = f"{reached}: {kind}" + (f"; {'default ' if '*' not in default else ''}{default}" if default else "")
    lines = [head.replace("*required*", "required").replace("`", ""), "", _meaning(full).replace("`", "")]
    inner = resolved(root, full["items"]) if "items" in full else full
    lines += ["", f"Fields: {', '.join(inner['properties'])}"] if "properties" in inner else []
    told = [rule for rule in rules.rules if any(f"{rule.path}.".startswith(f"{part}.") for part in (reached,))]
    lines += ["", "Rules:", *(f"- {_rule_line(rule).replace('`', '')}" for rule in told)] if told else []
    return "\n".join(lines) + "\n"


def _sections(schema: Mapping[str, Any], top: str) -> Iterator[str]:
    """Yield a section for each map with fields of its own, outermost first; what several places share comes once."""
    root: Raw = dict(schema)
    places: dict[str, list[str]] = {}
    bodies: dict[str, Raw] = {}
    homes: dict[str, str] = {}
    _visit(root, root["properties"][top], top, places, bodies)
    for paths in places.values():
        homes.update(dict.fromkeys(paths, paths[0]))
    for key, body in bodies.items():
        yield _section(root, body, places[key], homes)


def _visit(root: Raw, raw: Raw, path: str, places: dict[str, list[str]], bodies: dict[str, Raw]) -> None:
    if kubernetes_type(raw.get("$ref", "")):
        return
    full = resolved(root, raw)
    if "items" in full:
        _visit(root, full["items"], f"{path}[]", places, bodies)
    if isinstance(full.get("additionalProperties"), dict):
        _visit(root, full["additionalProperties"], f"{path}.*", places, bodies)
    if "properties" not in full:
        return
    key = raw.get("$ref", path)
    places.setdefault(key, []).append(path)
    if key in bodies:
        return
    bodies[key] = full
    for name, child in full["properties"].items():
        _visit(root, child, f"{path}.{name}", places, bodies)


def _section(root: Raw, body: Raw, paths: list[str], homes: Mapping[str, str]) -> str:
    path, *others = paths
    level = "###" if "." in path else "##"
    likewise = f"\nLikewise: {', '.join(f'`{other}`' for other in others)}.\n" if others else ""
    needed = body.get("required", ())
    rows = [
        f"| `{name}` | {_linked_type(root, child, f'{path}.{name}', homes)} "
        f"| {_default(resolved(root, child), needed=name in needed)} | {_meaning(resolved(root, child))} |\n"
        for name, child in body["properties"].items()
    ]
    return f"{level} {path}\n\n{body['description']}\n{likewise}\n{_TABLE}{''.join(rows)}"


def _linked_type(root: Raw, raw: Raw, path: str, homes: Mapping[str, str]) -> str:
    """Return the type of a field, of which a type of Kubernetes' own is a link to its documentation."""
    full = resolved(root, raw)
    one, each = kubernetes_type(raw.get("$ref", "")), kubernetes_type(full.get("items", {}).get("$ref", ""))
    if one:
        return _link(one)
    return f"list{_at_most(full, 'maxItems')}; each {_link(each)}" if each else _type(inlined(root, raw), path, homes)


def _link(struct: str) -> str:
    return f"[{struct}]({_KUBERNETES}#{struct.lower()}-v1-core)"


def _type(raw: Raw, path: str, homes: Mapping[str, str]) -> str:
    if path in homes:
        return f"[map](#{_anchor(homes[path])})"
    if "items" in raw:
        return _list_type(raw, path, homes)
    if "enum" in raw:
        return ", ".join(f"`{value}`" for value in raw["enum"])
    types = types_of(raw)
    if FREE in raw:
        return f"map of any JSON{_at_most(raw, 'maxProperties')}" if types else "any JSON"
    if f"{path}.*" in homes:
        return f"[map of maps](#{_anchor(homes[f'{path}.*'])})"
    if types == ("object",):
        return f"map of {_values(raw)}{_at_most(raw, 'maxProperties')}" if "propertyNames" in raw else "map"
    if types == ("integer",):
        return f"integer{_bounds(raw)}"
    words = raw.get("x-allowed") or (types[0] if types else "anything")
    return _cell(words) + (
        _at_most(raw, "maxLength", " characters").replace(", ", "; ") if types == ("string",) else ""
    )


def _values(raw: Raw) -> str:
    """Return what a map has, in the plural."""
    inner = raw.get("additionalProperties")
    types = types_of(inner) if isinstance(inner, dict) else ()
    return {"integer": "integers", "array": "lists"}.get("".join(types), "strings")


def _list_type(raw: Raw, path: str, homes: Mapping[str, str]) -> str:
    bounds = _at_most(raw, "maxItems")
    if f"{path}[]" in homes:
        return f"[list](#{_anchor(homes[f'{path}[]'])}){bounds}"
    return f"list{bounds}; each {_type(raw['items'], f'{path}[]', homes)}"


def _bounds(raw: Raw) -> str:
    least, most = raw.get("minimum"), raw.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most}"
    return f", at least {least}" if least is not None else ""


def _at_most(raw: Raw, keyword: str, unit: str = "") -> str:
    return f", at most {raw[keyword]}{unit}" if keyword in raw else ""


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub and most Markdown tools give a heading."""
    return "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "-_")


def _default(raw: Raw, *, needed: bool) -> str:
    if needed:
        return "*required*"
    if "default" not in raw:
        return ""
    return "see there" if raw["default"] == {} and "properties" in raw else f"`{json.dumps(raw['default'])}`"


def _meaning(raw: Raw) -> str:
    if "properties" in raw or "properties" in raw.get("items", ()):
        return _cell(raw["description"])
    example = json.dumps(raw["examples"][0], ensure_ascii=False)
    return f"{_cell(raw['description'])} For example `{example}`."


def _cell(text: str) -> str:
    """Return a text that ends no cell of a table and opens no tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _rule_line(rule: Rule) -> str:
    hint = f" {rule.hint}" if rule.hint else ""
    path = rule.path or rule.field_path.removeprefix(".")
    where = f"`{path}`" if len(path) <= _LONG_PATH else f"`…{_common_end(rule)}`"
    return f"{where}: {rule.message}.{hint} (`{rule.name}`)"


def _common_end(rule: Rule) -> str:
    """Return the segments that all places of a rule end with."""
    ends = []
    for segments in zip(*map(reversed, rule.places), strict=False):
        if len(set(segments)) > 1:
            break
        ends.append(segments[0])
    return ".".join(reversed(ends)).replace(f".{ITEMS}", ITEMS)
