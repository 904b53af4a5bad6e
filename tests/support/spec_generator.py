"""Makes ChronikCluster documents by the thousand from a seed: good ones, nearly good ones, and thoroughly broken ones.

Values come from the schema itself (bounds, enums, examples) and from a pool of texts that have upset parsers before.
`test_schema`, `test_rules` and `test_server_agrees` feed on them; the same seed always makes the same documents.
"""

from __future__ import annotations

import copy
import json
import pathlib
from random import Random
from typing import TYPE_CHECKING, Any

import yaml
from support.metadata_texts import BEGINNINGS, CHARACTERS, NAMES, TIMES, VERSIONS

from chronik.api.schema import Schema
from chronik.api.structural import FREE, LIST_KEYS, Compiler, inlined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronik.api.rules import RuleBook
    from chronik.problem import Path, Problem

_LONG = ["a" * 63, "a" * 64, f"{'a' * 63}/{'b' * 63}", "a" * 253, "a" * 254, f"{'a.' * 94}a/{'b' * 63}", "9" * 32]
_LONG += ["0" * 32, "0" * 33, f"0.{'0' * 28}1", f"a@sha256:{'0' * 64}", f"a:{'b' * 128}", f"a:{'b' * 129}"]
_FILE = pathlib.Path(__file__).with_name("texts.yaml")
TEXTS: list[str] = sum(yaml.safe_load(_FILE.read_text("utf-8")), _LONG)
NUMBERS = [0, 1, -1, 2, 63, 64, 99, 100, 101, 1000, 1001, 65535, 65536, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63]
NUMBERS += [10**15, 10**15 + 1, 10**20, -(2**63), -(2**63) - 1]
JUNK = [None, True, False, 0, 1, -1, 0.5, 1e300, "", "a", [], {}, [None], {"a": None}, [[]], {"": ""}]
LEAVE = 0.03
"""How often a broken rule is left as it is in a document that is meant to be good."""
LIKELY = 0.5
LARGE = ("backup", "components", "networkPolicy", "patches", "replication", "rollout")
SELDOM = 0.15
"""How often a document has one of the large sections."""


class Generator:
    """Documents from one seed."""

    def __init__(self, raw: dict[str, Any], rules: RuleBook, seed: int) -> None:
        self._schema, self._rules, self._random = Schema(raw), rules, Random(seed)
        self._root = inlined(raw, raw)
        self._fitting: dict[str, list[str]] = {}

    def documents(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield documents: a third is good as far as luck goes, a third has one fault, the rest has several."""
        for number in range(count):
            document = self.good()
            for _ in range((0, 1, self._random.randint(2, 4))[number % 3]):
                document = self.broken(document)
            yield document

    def whole_documents(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield documents with metadata and status, of which some have a fault somewhere in those."""
        for number, good in enumerate(self.documents(count)):
            document = good | ({"spec": self.good()["spec"]} if number % 2 else {})
            document["metadata"] |= self._metadata()
            if self._random.random() < LIKELY:
                document["status"] = self._value(self._root["properties"]["status"], LIKELY)
            for _ in range(self._random.choice((0, 0, 1, 2))):
                document = self.broken(document, self._random.choice(("metadata", "metadata", "status", "")))
            if isinstance(metadata := document.get("metadata"), dict) and not metadata.get("name"):
                metadata.pop("generateName", None)  # the server would make a name of it, which chronik cannot render
            yield document

    def nearly_good_metadata(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield documents that are good up to a change of one text, and a status: what lies close to a rule."""
        specs = [self.good() for _ in range(40)]
        small = min(specs, key=lambda each: len(json.dumps(each)))  # metadata is judged faster beside a small spec
        for _ in range(count):
            good = self._random.choice(specs)
            document = copy.deepcopy(good)
            for _ in range(40):
                document["metadata"] = {**good["metadata"], **self._metadata()}
                if not self._schema.admit({**small, "metadata": document["metadata"]}).problems:
                    break
            if self._random.random() < LIKELY:
                document["status"] = self._value(self._root["properties"]["status"], LIKELY)
            if self._random.random() < 0.8:
                self._retype(document)
            if not document["metadata"].get("name"):
                document["metadata"].pop("generateName", None)
            yield document

    def _retype(self, document: dict[str, Any]) -> None:
        """Insert a character into a key or a text of metadata, or put it in the place of one."""
        places = [path for path in _paths(document, ()) if path[0] == "metadata"]
        path = self._random.choice([path for path in places if isinstance(_follow(document, path), str)])
        parent, key = _follow(document, path[:-1]), path[-1]
        is_key = path[1] in ("labels", "annotations") and self._random.random() < LIKELY
        text = key if is_key else parent[key]
        start = self._random.randint(0, len(text))
        new = text[:start] + self._random.choice(CHARACTERS) + text[start + self._random.choice((0, 1)) :]
        if is_key:
            parent[new] = parent.pop(key)
        else:
            parent[key] = new

    def _metadata(self) -> dict[str, Any]:
        """Return fields of metadata, good and bad; none that only an object has that exists."""
        pick, coin = self._random.choice, self._random.random
        makers: dict[str, Callable[[], Any]] = {
            "labels": lambda: {
                pick([*NAMES, *TEXTS]): pick((None, "", "a", "a b", *TEXTS)) for _ in range(pick((0, 1, 2)))
            },
            "annotations": lambda: {
                pick([*NAMES, *TEXTS]): pick((None, "", *TEXTS, "x" * 131_000)) for _ in range(pick((0, 1, 3)))
            },
            "finalizers": lambda: [pick((*NAMES, None)) for _ in range(pick((0, 1, 2)))],
            "ownerReferences": lambda: [self._owner() for _ in range(pick((0, 1, 1, 2)))],
            "generateName": lambda: pick(BEGINNINGS),
            "creationTimestamp": lambda: pick((None, *TIMES)),
            "deletionTimestamp": lambda: pick((None, *TIMES)),
            "namespace": lambda: pick((None, "", "chronik", "a" * 63, "a" * 64, "A", "a.b")),
            "generation": lambda: pick((None, *NUMBERS)),
            "deletionGracePeriodSeconds": lambda: pick((None, *NUMBERS)),
            "uid": lambda: pick((None, "", "a", *TEXTS)),
            "selfLink": lambda: pick((None, "", *TEXTS)),
            "managedFields": lambda: [pick((None, {}, self._entry())) for _ in range(pick((0, 1, 2)))],
        }
        return {name: make() for name, make in makers.items() if coin() < 0.1}

    def _owner(self) -> Any:
        pick = self._random.choice
        owner = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "a",
            "uid": "u",
            "controller": pick((True, False, None)),
        }
        owner |= {"apiVersion": pick((*VERSIONS, None))} if self._random.random() < LIKELY else {}
        owner |= {"kind": "Event"} if self._random.random() < 0.2 else {}
        return pick(
            (owner, owner, owner, {**owner, "blockOwnerDeletion": True}, {"kind": "ConfigMap", "name": "a"}, None)
        )

    def _entry(self) -> dict[str, Any]:
        pick = self._random.choice
        time = pick((None, *TIMES[:4], "yesterday"))
        return {
            "manager": "a",
            "operation": pick(("Apply", "Update")),
            "fieldsType": "FieldsV1",
            "fieldsV1": {},
            "time": time,
        }

    def good(self) -> dict[str, Any]:
        """Return a document that keeps to the schema, and most likely to the rules."""
        properties = self._root["properties"]
        document = {
            "apiVersion": "chronik.stream/v1alpha1",
            "kind": "ChronikCluster",
            "metadata": {"name": self._text(properties["metadata"]["properties"]["name"])},
            "spec": self._object(properties["spec"], likely=self._random.choice((0.1, 0.4, 0.9))),
        }
        for section in LARGE:  # hardly a document with all of them keeps to the rules of each
            if self._random.random() > SELDOM:
                document["spec"].pop(section, None)
        return self._mended(document)

    def _connect(self, metastore: dict[str, Any] | None) -> None:
        """Name the database either by a URL or by its parts, as the rules want it."""
        connection = (metastore or {}).get("connection")
        if not isinstance(connection, dict):
            return
        parts = ("host", "database", "credentialsSecret")
        if "existingUrlSecret" in connection and self._random.random() < SELDOM:
            for key in (*parts, "port"):
                connection.pop(key, None)
            return
        connection.pop("existingUrlSecret", None)
        raw = self._root["properties"]["spec"]["properties"]["metastore"]["properties"]["connection"]["properties"]
        for key in parts:
            connection.setdefault(key, self._value(raw[key], 1.0))

    def with_components(self, document: dict[str, Any], likely: float) -> dict[str, Any]:
        """Return a good document with a section `components` that keeps to schema and rules, and is full of fields."""
        raw = self._root["properties"]["spec"]["properties"]["components"]["additionalProperties"]
        unified = document["spec"].get("topology") == "Unified"
        names = ("node",) if unified else ("controller", "ingest", "search")
        section = {
            name: {
                key: self._value(child, likely)
                for key, child in raw["properties"].items()
                if self._random.random() < 0.3
            }
            for name in names
        }
        for service in (own["service"] for own in section.values() if "service" in own):
            service.pop("nodePort", None)  # which ports there are is the server's own setting
        return self._mended({**document, "spec": {**document["spec"], "components": section}})

    def _mended(self, document: dict[str, Any]) -> dict[str, Any]:
        for _ in range(30):
            self._connect(document["spec"].get("metastore"))
            found = self._rules.check(self._schema.admit(document).document)
            errors = [problem for problem in found if problem.severity == "error"]
            if not errors or self._random.random() < LEAVE:
                break
            for problem in errors:
                self._mend(document["spec"], problem)
        return document

    def broken(self, document: dict[str, Any], part: str = "spec") -> dict[str, Any]:
        """Return the document with one thing in a part of it, or one of its parts, changed, mostly for the worse."""
        document = copy.deepcopy(document)
        parts = {key: None for key in document if key not in {"apiVersion", "kind"}}
        paths = list(_paths(document.get(part) if part else parts, ()))
        if not paths:
            return document
        path = (part, *self._random.choice(paths)) if part else self._random.choice(paths)
        changes: tuple[Callable[[Any, Any], None], ...] = (
            self._junk,
            self._edge,
            self._stranger,
            self._gone,
            self._double,
        )
        change = self._random.choices(changes, (2, 4, 1, 1, 1))[0]
        change(_follow(document, path[:-1]), path[-1])
        return document

    def _value(self, raw: dict[str, Any], likely: float) -> Any:
        match raw.get("type"):
            case None:
                return self._free()
            case "object":
                return self._object(raw, likely) if "properties" in raw else self._map(raw)
            case "array":
                return self._list(raw, likely)
            case "boolean":
                return self._random.random() < likely / 2
            case "integer":
                return self._integer(raw)
            case "string":
                return self._text(raw)
            case _:
                return self._random.choice((self._text, self._text, self._integer))(raw)

    def _object(self, raw: dict[str, Any], likely: float) -> dict[str, Any]:
        needed = raw.get("required", ())
        return {
            name: self._value(child, likely)
            for name, child in raw["properties"].items()
            if name in needed or self._random.random() < likely
        }

    def _free(self, depth: int = 3) -> Any:
        """Return any JSON."""
        kinds = ("text", "number", "junk", "map", "list") if depth else ("text", "number", "junk")
        count = self._random.choice((0, 1, 2))
        match self._random.choice(kinds):
            case "text":
                return self._random.choice(TEXTS)
            case "number":
                return self._random.choice((*NUMBERS, 1.5, -0.0, 1e20, 1e21, 1e-9, 12.0))
            case "junk":
                return copy.deepcopy(self._random.choice(JUNK))
            case "map":
                return {self._random.choice(TEXTS): self._free(depth - 1) for _ in range(count)}
            case _:
                return [self._free(depth - 1) for _ in range(count)]

    def _map(self, raw: dict[str, Any]) -> dict[str, Any]:
        if raw.get(FREE):
            count = self._random.choice((0, 1, 2, 4, 64, 65) if self._random.random() < LIKELY else (1, 2))
            return {f"{number}{self._random.choice(TEXTS)}": self._free() for number in range(count)}
        keys = {self._text(raw["propertyNames"]) for _ in range(self._random.choice((0, 1, 2, 4)))}
        if "properties" in raw["additionalProperties"]:  # components: of their many fields, a few each
            return {
                key: self._object(raw["additionalProperties"], self._random.choice((0.05, 0.2))) for key in sorted(keys)
            }
        return {key: self._text(raw["additionalProperties"]) for key in sorted(keys)}

    def _list(self, raw: dict[str, Any], likely: float) -> list[Any]:
        count = max(raw.get("minItems", 0), min(self._random.choice((0, 1, 1, 2, 3)), raw["maxItems"]))
        items = [self._value(raw["items"], likely) for _ in range(count)]
        if LIST_KEYS in raw:
            return list({tuple(item[key] for key in raw[LIST_KEYS]): item for item in items}.values())
        return list(dict.fromkeys(items)) if raw.get("uniqueItems") else items

    def _integer(self, raw: dict[str, Any]) -> int:
        least, most = raw["minimum"], raw.get("maximum", 1000)
        return self._random.choice((least, most, self._random.randint(least, min(most, least + 20))))

    def _text(self, raw: dict[str, Any]) -> str:
        if "enum" in raw:
            return str(self._random.choice(raw["enum"]))
        key = f"{raw.get('pattern')} {raw.get('maxLength')}"
        if key not in self._fitting:
            check = Compiler(self._root).node({**raw, "type": "string"}).check
            self._fitting[key] = [text for text in TEXTS if check(text)]
        examples = [example for example in raw["examples"] if isinstance(example, str)]
        return self._random.choice(
            [*examples, *self._random.sample(self._fitting[key], min(1, len(self._fitting[key])))]
        )

    def _mend(self, spec: dict[str, Any], problem: Problem) -> None:
        """Undo what broke a rule, in the simplest way; an earlier mend may have done so already."""
        self._mend_topology(spec, problem)
        if len(problem.path) == 1:
            return
        section = problem.path[1]
        if section == "components":
            _mend_component(spec, problem)
            return
        try:
            place = _follow(spec, problem.path[1:])
            parent = _follow(spec, problem.path[1:-1])
        except (KeyError, IndexError):
            return
        if problem.code.endswith("-expression"):
            place["operator"] = "Exists"
            place.pop("values", None)
        elif problem.code.endswith("-section"):
            place["backend"] = "local"
        elif problem.code.startswith(("toleration", "spread", "affinity")) or problem.code.endswith("-unused"):
            del parent[problem.path[-1]]
        elif problem.code.endswith("-range"):
            parent[problem.path[-1]] = "2Gi" if problem.code != "cpu-range" else "1"
        elif section not in ("storage", "metastore", "nodes") and problem.code != "external-ports":
            spec[section] = self._value(self._root["properties"]["spec"]["properties"][section], 0.3)

    def _mend_topology(self, spec: dict[str, Any], problem: Problem) -> None:
        """Undo what broke a rule about the topology."""
        if problem.code == "metastore-required":
            spec["metastore"] = self._value(self._root["properties"]["spec"]["properties"]["metastore"], 0.3)
        elif problem.code in {"nodes-required", "nodes-two"}:
            spec["nodes"] = 3
        elif problem.code in {"roles-unused", "nodes-autoscaled"}:
            for field in ("controllers", "ingestNodes", "searchNodes", "autoscaling"):
                spec.pop(field, None)
        elif problem.code == "external-ports":
            spec["network"]["external"] = {"type": "LoadBalancer", "hostTemplate": "node-{id}.example.com"}

    def _junk(self, parent: Any, key: Any) -> None:
        parent[key] = copy.deepcopy(self._random.choice(JUNK))

    def _edge(self, parent: Any, key: Any) -> None:
        match parent[key]:
            case bool(value):
                parent[key] = not value
            case int(value):
                parent[key] = self._random.choice((*NUMBERS, str(value), value + 1, value - 1))
            case str(value):
                parent[key] = self._random.choice((*TEXTS, f"{value}\n", value.upper(), value * 50, f" {value}", value))
            case list(value):
                parent[key] = value * 40 or [None]
            case dict(value):
                parent[key] = {**value, **{str(number): "x" for number in range(40)}}
            case value:
                parent[key] = [value]

    def _stranger(self, parent: Any, key: Any) -> None:
        if isinstance(parent, dict):
            name = f"{key}s" if self._random.random() < LIKELY else self._random.choice(TEXTS)
            parent[name] = self._random.choice((parent[key], *JUNK))
        else:
            parent.append(self._random.choice(JUNK))

    def _gone(self, parent: Any, key: Any) -> None:
        del parent[key]

    def _double(self, parent: Any, key: Any) -> None:
        if isinstance(parent, list):
            parent.append(parent[key])
        elif isinstance(parent[key], list):
            parent[key] = [*parent[key], *parent[key]]
        else:
            parent[key] = [parent[key]]


def _mend_component(spec: dict[str, Any], problem: Problem) -> None:
    """Leave out what broke a rule: a field of one component or of all, or an item, or else all components."""
    name, field, *inside = (*problem.path[2:], None, None)
    sections = spec.get("components", {})
    if name and name not in sections:  # an earlier mend has removed it
        return
    if problem.code == "component-mount-unknown":
        for holder in (sections[name], *sections[name].get("sidecars", ()), *sections[name].get("initContainers", ())):
            for mount in holder.get("volumeMounts", ()):
                mount["name"] = "data"
    elif problem.code in _FIELDS:
        for each in (sections[name],) if name else sections.values():
            for key in _FIELDS[problem.code]:
                each.pop(key, None)
    elif field is None:
        spec.pop("components", None)
    elif inside[:1] and isinstance(inside[0], int) and len(sections[name].get(field, ())) > inside[0]:
        del sections[name][field][inside[0]]
    else:
        sections.get(name, {}).pop(field, None)


_FIELDS = {
    "component-port-own": ("sidecars", "initContainers"),
    "component-container-twice": ("sidecars",),
    "lifecycle-sleep": ("lifecycle", "sidecars", "initContainers"),
    "service-unused": ("service",),
    "service-class-unused": ("service",),
    "service-ports-unused": ("service",),
    "component-env-credentials": ("env",),
}
"""Which fields of components a rule about all of them, or of one, is about."""


def _paths(value: Any, path: Path) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _follow(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value
