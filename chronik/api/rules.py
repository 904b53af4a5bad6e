"""Hold a document to the rule book: what two fields decide together, and whatever else a type cannot say.

schema/rules.yaml is the one place where rules live. This module evaluates them on a laptop and in CI; the API server
gets the same expressions by the CRD and its policy. A rule is compiled when a document first has what it is about, and
the rules of a section are not even read before that. The text of the book is handed in.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import yaml

from chronik.api.cel import environment
from chronik.manifest import CLUSTER_KIND, DOCUMENT_KINDS
from chronik.problem import Path, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

    from cel_expr_python import cel

ITEMS = "[]"
"""The segment of a place that stands for every item of a list."""

VALUES = "*"
"""The segment that stands for every value of a map."""

SchemaPath = tuple[str, ...]
"""Where a rule applies, without indices: `("spec", "tolerations", "[]")`."""

_SECTION = re.compile(r"^# section: (\w+)$", re.MULTILINE)
_GUARD = re.compile(r"!has\(self\.(\w+)\) \|\| ")
_NEEDED = {"name", "path", "rule", "message", "severity"}
_KNOWN = _NEEDED | {"hint", "fieldPath", "reason", "kind", "about"}
_REASONS = {"", "FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"}


class RuleBookError(ValueError):
    """The rule book itself is broken; the message names the rule."""


class Rule(NamedTuple):
    """One entry of the rule book. `path` is as written; `field_path` is `.name`, or empty for the place itself.

    `about` are the places below it that may be to blame, each alone: offline, the one that is gets the caret.
    """

    name: str
    path: str
    places: tuple[SchemaPath, ...]
    rule: str
    message: str
    severity: Literal["error", "warning"]
    hint: str = ""
    field_path: str = ""
    reason: str = ""
    kind: str = CLUSTER_KIND
    about: tuple[SchemaPath, ...] = ()

    @property
    def compares(self) -> bool:
        """Return whether this is a transition rule: it compares with the document that is being replaced."""
        return "oldSelf" in self.rule

    @property
    def guard(self) -> str:
        """The field without which the rule holds, as `!has(self.field) || …` says; empty if there is none.

        It saves compiling long rules about sections that most documents do not have.
        """
        found = _GUARD.match(self.rule)
        return found[1] if found else ""

    @property
    def here(self) -> str:
        """The expression as it is evaluated here: of fields named as words of CEL's, only the server wants escapes."""
        return self.rule.replace("__namespace__", "namespace")

    @property
    def words(self) -> str:
        """Message and hint as one text: what the API server says."""
        return f"{self.message}. {self.hint}" if self.hint else self.message


class RuleBook:
    """The rules about one kind of document, by place; the text is the whole book.

    `kept` keeps compiled expressions by their text, from one process to the next: reading one back takes a seventh of
    the time of compiling it. It keeps what the book says, too. What stands behind `# section: NAME` in the text is
    about that section of the spec, and is read when a document has it.

    Raises:
        RuleBookError: an entry lacks something, says too much, or contradicts itself.
    """

    def __init__(self, text: str, kept: MutableMapping[str, bytes] | None = None, *, kind: str = CLUSTER_KIND) -> None:
        self._kind = kind
        common, *sections = _SECTION.split(text)
        self._unread = dict(zip(sections[::2], sections[1::2], strict=True))
        self._order = {section: number for number, section in enumerate(("", *self._unread))}
        self._section_of: dict[str, int] = {}
        self._read: tuple[Rule, ...] = ()
        self._by_place: dict[SchemaPath, list[Rule]] = {}
        self._kept = kept if kept is not None else {}
        self._root = _RuleNode(self._kept)
        self._add("", common)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order of the book."""
        for section in tuple(self._unread):
            self._add(section, self._unread.pop(section))
        return self._read

    def _add(self, section: str, text: str) -> None:
        added = tuple(rule for rule in map(_rule, self._entries(text)) if rule.kind == self._kind)
        self._section_of.update(dict.fromkeys((rule.name for rule in added), self._order[section]))
        self._read = tuple(sorted((*self._read, *added), key=lambda rule: self._section_of[rule.name]))
        self._by_place.clear()
        for rule in added:
            for place in rule.places:
                self._root.at(place).add(rule, section)

    def _entries(self, text: str) -> Sequence[Any]:
        """Return the entries of a section; to read YAML takes many times as long as to read what is kept of it."""
        key = f"entries {hashlib.sha256(text.encode()).hexdigest()}"
        if key not in self._kept:
            entries = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe
            self._kept[key] = json.dumps(entries or ()).encode()
        found: list[Any] = json.loads(self._kept[key])
        return found

    def at(self, place: SchemaPath) -> tuple[Rule, ...]:
        """Return the rules of one place, in the order of the book."""
        rules = self.rules
        if not self._by_place:
            for rule in rules:
                for each in dict.fromkeys(rule.places):
                    self._by_place.setdefault(each, []).append(rule)
        return tuple(self._by_place.get(place, ()))

    def check(
        self, document: Mapping[str, Any], skip: Iterable[Path] = (), old: Mapping[str, Any] | None = None
    ) -> list[Problem]:
        """Return what breaks a rule, in a document whose defaults are filled in.

        A rule is left out where `skip`, the paths of other errors, leads into what it looks at. Transition rules run
        only with `old`, the document being replaced, and only where that has a value too.
        """
        for spec in (document.get("spec"), old and old.get("spec")):
            for section in [name for name in self._unread if name in spec] if isinstance(spec, dict) else ():
                self._add(section, self._unread.pop(section))
        spoilt = {path[:length] for path in skip for length in range(len(path) + 1)}
        return [
            problem
            for node, path, value, before in _walk(self._root, (), document, old)
            if path not in spoilt
            for problem in node.check(path, value, before)
        ]


@dataclass
class _Group:
    """Rules of one place, read together, that see the same variables: one expression, compiled and called once."""

    kept: MutableMapping[str, bytes]
    rules: list[Rule] = field(default_factory=list)

    @cached_property
    def _together(self) -> cel.Expression:
        text = f"[{', '.join(rule.here for rule in self.rules)}]"
        if text in self.kept:
            return environment().deserialize(self.kept[text])
        expression = environment().compile(text)
        self.kept[text] = expression.serialize()
        return expression

    def check(self, path: Path, data: dict[str, Any]) -> Iterator[Problem]:
        """Yield a problem for each rule that does not hold."""
        verdicts = _evaluate(self._together, data)
        if isinstance(verdicts, str):  # one error hides the other verdicts
            verdicts = [_evaluate(environment().compile(rule.here), data) for rule in self.rules]
        for rule, verdict in zip(self.rules, verdicts, strict=True):
            if verdict is not True:
                yield from _problem(rule, path, verdict, _to_blame(rule, data) if verdict is False else ())


@dataclass
class _RuleNode:
    """A place, its rules and the places below it."""

    kept: MutableMapping[str, bytes]
    groups: dict[tuple[bool, str, str], _Group] = field(default_factory=dict)
    below: dict[str, _RuleNode] = field(default_factory=dict)

    def at(self, place: SchemaPath) -> _RuleNode:
        """Return the node of a place from here, made if need be."""
        return self.below.setdefault(place[0], _RuleNode(self.kept)).at(place[1:]) if place else self

    def add(self, rule: Rule, section: str) -> None:
        """Let a rule hold here; that of a section is compiled apart, since others may have been compiled before."""
        self.groups.setdefault((rule.compares, rule.guard, section), _Group(self.kept)).rules.append(rule)

    def check(self, path: Path, value: Any, old: Any) -> Iterator[Problem]:
        """Yield a problem for each rule that a value breaks."""
        for (compares, guard, _), group in self.groups.items():
            if (compares and old is None) or (guard and guard not in value):
                continue
            yield from group.check(path, {"self": value, "oldSelf": old} if compares else {"self": value})


def _walk(node: _RuleNode, path: Path, value: Any, old: Any) -> Iterator[tuple[_RuleNode, Path, Any, Any]]:
    """Yield every node that a document reaches, with its value and that of the old document; None where it has none."""
    yield node, path, value, old
    for segment, below in node.below.items():
        if segment == ITEMS:
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from _walk(below, (*path, index), item, None)
        elif segment == VALUES:
            for key, item in value.items() if isinstance(value, dict) else ():
                yield from _walk(below, (*path, key), item, old.get(key) if isinstance(old, dict) else None)
        elif isinstance(value, dict) and segment in value:
            before = old.get(segment) if isinstance(old, dict) else None
            yield from _walk(below, (*path, segment), value[segment], before)


def _evaluate(expression: cel.Expression, data: dict[str, Any]) -> Any:
    """Return what an expression yields, and an error as text: no rule yields text."""
    try:
        result = expression.eval(data=data)
    except RuntimeError as error:  # the runtime could not even take the data
        return str(error)
    value = result.plain_value()
    return value if isinstance(value, bool | list) else str(value)


def _to_blame(rule: Rule, data: Mapping[str, Any]) -> list[Path]:
    """Return the places that break a rule by themselves: it breaks without all others that it is about, too."""
    if not rule.about:
        return []
    expression = environment().compile(rule.rule)
    found = [path for pattern in rule.about for path in _matching(data["self"], pattern)]
    alone = ({name: _only(value, path, rule.about) for name, value in data.items()} for path in found)
    return [path for path, each in zip(found, alone, strict=True) if _evaluate(expression, each) is False]


def _matching(value: Any, pattern: SchemaPath) -> Iterator[Path]:
    """Yield the paths in a value that a pattern leads to."""
    if not pattern:
        yield ()
    elif pattern[0] == ITEMS:
        for number, item in enumerate(value if isinstance(value, list) else ()):
            yield from ((number, *rest) for rest in _matching(item, pattern[1:]))
    elif isinstance(value, dict):
        for key in value if pattern[0] == VALUES else {pattern[0]} & value.keys():
            yield from ((key, *rest) for rest in _matching(value[key], pattern[1:]))


def _only(value: Any, path: Path, patterns: Iterable[SchemaPath]) -> Any:
    """Return a value of which, of the items that patterns lead through, only those on a path are left."""
    patterns = [pattern for pattern in patterns if pattern]
    step, rest = (path[0], path[1:]) if path else (None, ())
    if isinstance(value, list) and any(pattern[0] == ITEMS for pattern in patterns):
        below = [pattern[1:] for pattern in patterns]
        return [_only(item, rest, below) for number, item in enumerate(value) if number == step]
    if not isinstance(value, dict):
        return value
    left = {}
    for key, item in value.items():
        below = [pattern[1:] for pattern in patterns if pattern[0] in {key, VALUES}]
        if key == step or not any(pattern[0] == VALUES for pattern in patterns):
            left[key] = _only(item, rest if key == step else (), below) if below else item
    return left


def _problem(rule: Rule, path: Path, verdict: Any, blamed: Sequence[Path] = ()) -> Iterator[Problem]:
    """Word a broken rule; one that cannot be evaluated counts as broken if it is an error, as on the server."""
    message = rule.message
    if verdict is not False:
        if rule.severity == "warning":
            return
        message = f"{message} (the rule {rule.name} could not be evaluated: {verdict})"
    for below in blamed or [tuple(filter(None, rule.field_path.split(".")))]:
        yield Problem(rule.severity, rule.name, (*path, *below), message, rule.hint)


# --- reading the book ------------------------------------------------------------------------------------------------


def _rule(entry: Any) -> Rule:
    name = entry.get("name", entry) if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or not _NEEDED <= entry.keys() <= _KNOWN:
        raise RuleBookError(
            f"rule {name}: must have {', '.join(sorted(_NEEDED))}, and can have hint, fieldPath, reason, kind, about"
        )
    rule = Rule(
        name=entry["name"],
        path=entry["path"],
        places=_places(entry["path"]),
        rule=entry["rule"],
        message=entry["message"],
        severity=entry["severity"],
        hint=entry.get("hint", ""),
        field_path=entry.get("fieldPath", ""),
        reason=entry.get("reason", ""),
        kind=entry.get("kind", CLUSTER_KIND),
        about=_places(entry["about"]) if "about" in entry else (),
    )
    fault = _fault(rule)
    if fault:
        raise RuleBookError(f"rule {rule.name}: {fault}")
    return rule


def _fault(rule: Rule) -> str | None:
    if rule.kind not in DOCUMENT_KINDS:
        return f"kind must be {' or '.join(DOCUMENT_KINDS)}, not {rule.kind}"
    if rule.severity == "warning" and rule.kind != CLUSTER_KIND:
        return f"only a {CLUSTER_KIND} has warnings: there is no policy for other kinds"
    if rule.severity not in {"error", "warning"}:
        return f"severity must be error or warning, not {rule.severity}"
    if rule.reason not in _REASONS:
        return f"reason must be one of {', '.join(sorted(filter(None, _REASONS)))}"
    if "\n" in rule.words:
        return "message and hint must be one line each, as the API server asks"
    listed = any(ITEMS in place for place in rule.places)
    unnamed = listed or any(VALUES in place for place in rule.places)
    if rule.compares and (rule.severity == "warning" or listed):
        return "a rule with oldSelf must be an error and lie outside lists: only there are old and new values a pair"
    if rule.severity == "warning" and unnamed:
        return "a warning must lie outside lists, and name the keys of maps"
    return None


@cache  # most rules stand at one of a few places
def _places(path: str) -> tuple[SchemaPath, ...]:
    """Return the places that a path stands for."""
    return tuple(dict.fromkeys(tuple(_segments(each)) for each in _expanded(path)))


def _expanded(path: str) -> list[str]:
    """Return the paths that braces stand for, as a shell does; braces within braces make some of them come twice."""
    start = path.rfind("{")
    if start < 0:
        return [path]
    end = path.index("}", start)
    options = path[start + 1 : end].split(",")
    return [found for option in options for found in _expanded(path[:start] + option + path[end + 1 :])]


def _segments(path: str) -> Iterator[str]:
    for part in filter(None, path.split(".")):
        name = part.removesuffix(ITEMS)
        yield name
        if name != part:
            yield ITEMS
