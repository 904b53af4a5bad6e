"""Makes ChronikCluster documents by the thousand from a seed: good ones, nearly good ones, and thoroughly broken ones.

Values come from the schema itself (bounds, enums, examples) and from a pool of texts that have upset parsers before.
`test_schema`, `test_rules` and `test_server_agrees` feed on them; the same seed always makes the same documents.
"""

from __future__ import annotations

import copy
import pathlib
from random import Random
from typing import TYPE_CHECKING, Any

import yaml

from chronik.api.schema import Schema
from chronik.api.structural import Compiler, inlined

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

    def good(self) -> dict[str, Any]:
        """Return a document that keeps to the schema, and most likely to the rules."""
        properties = self._root["properties"]
        document = {
            "apiVersion": "chronik.stream/v1alpha1",
            "kind": "ChronikCluster",
            "metadata": {"name": self._text(properties["metadata"]["properties"]["name"])},
            "spec": self._object(properties["spec"], likely=self._random.choice((0.1, 0.4, 0.9))),
        }
        for _ in range(8):
            found = self._rules.check(self._schema.admit(document).document)
            errors = [problem for problem in found if problem.severity == "error"]
            if not errors or self._random.random() < LEAVE:
                break
            for problem in errors:
                self._mend(document["spec"], problem)
        return document

    def broken(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the document with one thing changed, most likely for the worse."""
        document = copy.deepcopy(document)
        path = self._random.choice(list(_paths(document["spec"], ())))
        changes: tuple[Callable[[Any, Any], None], ...] = (
            self._junk,
            self._edge,
            self._stranger,
            self._gone,
            self._double,
        )
        change = self._random.choices(changes, (2, 4, 1, 1, 1))[0]
        change(_follow(document["spec"], path[:-1]), path[-1])
        return document

    def _value(self, raw: dict[str, Any], likely: float) -> Any:
        match raw["type"]:
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

    def _map(self, raw: dict[str, Any]) -> dict[str, Any]:
        keys = {self._text(raw["propertyNames"]) for _ in range(self._random.choice((0, 1, 2, 4)))}
        return {key: self._text(raw["additionalProperties"]) for key in sorted(keys)}

    def _list(self, raw: dict[str, Any], likely: float) -> list[Any]:
        count = max(raw.get("minItems", 0), min(self._random.choice((0, 1, 1, 2, 3)), raw["maxItems"]))
        items = [self._value(raw["items"], likely) for _ in range(count)]
        return list(dict.fromkeys(items)) if raw.get("uniqueItems") else items

    def _integer(self, raw: dict[str, Any]) -> int:
        least, most = raw["minimum"], raw["maximum"]
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


def _paths(value: Any, path: Path) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _follow(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value
