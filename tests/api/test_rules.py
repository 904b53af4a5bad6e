"""The rule book: what it says about documents, and what it refuses to hold.

tests/api/invalid and tests/api/warnings hold one file a mistake; the comments at its head are all that chronik has to
say about it. A new rule wants a file there.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from support.mistakes import INVALID, WARNINGS, Mistake

from chronik.api.cel import environment
from chronik.api.rules import ITEMS, RuleBook, RuleBookError
from chronik.api.schema import Schema
from chronik.offline import assets
from chronik.problem import format_path

SCHEMA = Schema(assets.schema())
BOOK = RuleBook(assets.rules_text())
EXAMPLE = yaml.safe_load((Path(__file__).parents[2] / "examples/production.yaml").read_text())


def check(document):
    admitted = SCHEMA.admit(document)
    return [*admitted.problems, *BOOK.check(admitted.document, skip=[p.path for p in admitted.problems])]


def lines(problems):
    return sorted(f"{p.severity}: {format_path(p.path) or 'document'}: {p.message}" for p in problems)


def book_of(**entry):
    return RuleBook(yaml.safe_dump([{"name": "n", "path": "spec", "message": "m", "severity": "error", **entry}]))


@pytest.mark.parametrize("mistake", INVALID, ids=str)
def test_mistakes_are_errors(mistake: Mistake):
    """Each mistake gives exactly the errors that its file announces, all at once."""
    assert lines(p for p in check(mistake.document) if p.severity == "error") == mistake.expected


@pytest.mark.parametrize("mistake", WARNINGS, ids=str)
def test_doubtful_choices_are_warned_of(mistake: Mistake):
    """Each doubtful document is valid and gives exactly the warnings that its file announces."""
    assert lines(check(mistake.document)) == mistake.expected


def test_every_rule_is_broken_somewhere():
    """Each rule has a file that breaks it; transition rules have their own test."""
    broken = {problem.code for mistake in (*INVALID, *WARNINGS) for problem in check(mistake.document)}

    assert {rule.name for rule in BOOK.rules if not rule.compares} <= broken


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"size": "10Gi"}, {"size": "10Gi"}, []),
        ({"size": "1Gi"}, {"size": "1024Mi"}, []),
        ({"size": "10Gi"}, {"size": "20Gi"}, []),
        ({}, {"size": 10737418240}, []),
        ({"size": "10Gi"}, {"size": "10G"}, ["error: spec.storage.size: a volume can grow, but never shrink"]),
        ({}, {"size": "9Gi"}, ["error: spec.storage.size: a volume can grow, but never shrink"]),
        (
            {},
            {"backend": "gcs", "gcs": {"bucket": "data"}},
            ["error: spec.storage.backend: the backend of a cluster never changes, since its data would stay behind"],
        ),
    ],
)
def test_transitions(before, after, expected):
    """A change is compared with what is there: no volume shrinks, by amount and not by text, and no data moves."""
    old, new = copy.deepcopy(EXAMPLE), copy.deepcopy(EXAMPLE)
    old["spec"]["storage"] = {"backend": "local", **before}
    new["spec"]["storage"] = {"backend": "local", **after}
    found = BOOK.check(SCHEMA.admit(new).document, old=SCHEMA.admit(old).document)

    assert lines(found) == expected


SHRINKS = "error: spec.components: the volumes of a component can grow, but never shrink"
OWN_SIZE = {"ingest": {"storage": {"size": "100Gi"}}}
LARGE, LESS = {"ingest": {"storage": {"size": "200Gi"}}}, {"ingest": {"storage": {"size": "50Gi"}}}
CLASS = {"ingest": {"service": {"loadBalancerClass": "a/b"}}}
CLASS_CHANGES = "Kubernetes never changes the loadBalancerClass of a Service"
CLASS_SET = f"error: spec.components.ingest.service.loadBalancerClass: {CLASS_CHANGES}"
CLASS_GONE = f"error: spec.components: {CLASS_CHANGES}"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"size": "100Gi"}, {"size": "100Gi", "components": OWN_SIZE}, []),
        ({"size": "100Gi"}, {"size": "100Gi", "components": LARGE}, []),
        ({"size": "100Gi"}, {"size": "100Gi", "components": LESS}, [SHRINKS]),
        ({"size": "10Gi", "components": OWN_SIZE}, {"size": "10Gi", "components": LARGE}, []),
        ({"size": "10Gi", "components": OWN_SIZE}, {"size": "10Gi", "components": LESS}, [SHRINKS]),
        ({"size": "10Gi", "components": OWN_SIZE}, {"size": "10Gi"}, [SHRINKS]),
        ({"size": "10Gi", "components": OWN_SIZE}, {"size": "100Gi"}, []),
        ({"size": "10Gi", "components": OWN_SIZE}, {"size": "10Gi", "components": {"ingest": {"args": []}}}, [SHRINKS]),
        ({"size": "10Gi"}, {"size": "10Gi", "components": {"search": {"storage": {"size": "1Gi"}}}}, []),
        ({"size": "10Gi"}, {"size": "10Gi", "components": CLASS}, [CLASS_SET]),
        ({"size": "10Gi", "components": CLASS}, {"size": "10Gi"}, [CLASS_GONE]),
        ({"size": "10Gi", "components": CLASS}, {"size": "10Gi", "components": CLASS}, []),
    ],
)
def test_transitions_of_components(before, after, expected):
    """The volume of a component never shrinks, whether its size comes from it or from all; nor does a class change."""
    found = BOOK.check(changed(after), old=changed(before))

    assert lines(found) == expected


def changed(storage):
    """Return the example, admitted, with a size for all components and settings of some."""
    document = copy.deepcopy(EXAMPLE)
    document["spec"]["storage"] = {"backend": "local", "size": storage["size"]}
    document["spec"] |= {"components": storage["components"]} if "components" in storage else {}
    return SCHEMA.admit(document).document


def test_rules_of_a_section_are_read_with_it():
    """The rules of a section are not read for documents without it, on either side of a change."""
    text = (
        "[{name: all, path: spec, rule: 'true', message: m, severity: error}]\n# section: part\n"
        "[{name: late, path: spec.part, rule: 'false', message: m, severity: error}]\n"
    )
    for document, old, read in (
        ({"spec": {}}, None, 1),
        ({"spec": {"part": 1}}, None, 2),
        ({"spec": {}}, {"spec": {"part": 1}}, 2),
    ):
        book = RuleBook(text)
        found = book.check(document, old=old)

        assert len(book._read) == read
        assert [problem.code for problem in found] == ["late"] * ("part" in document["spec"])
    assert [rule.name for rule in RuleBook(text).rules] == ["all", "late"]


def test_a_section_that_comes_later_joins_rules_that_were_evaluated():
    """Rules of a section at a place that others were evaluated at before are evaluated too, with the next document."""
    text = (
        "[{name: all, path: spec, rule: 'self == oldSelf', message: m, severity: error}]\n# section: part\n"
        "[{name: late, path: spec, rule: 'self != oldSelf', message: m, severity: error}]\n"
    )
    book = RuleBook(text)
    without, having = {"spec": {}}, {"spec": {"part": 1}}

    assert [each.code for each in book.check(without, old=without)] == []
    assert [each.code for each in book.check(having, old=having)] == ["late"]
    assert [each.code for each in book.check(having, old=without)] == ["all"]


def test_values_of_a_map():
    """A rule about the values of a map is asked about each, and compares each with the one of the same key."""
    book = book_of(path="spec.map.*", rule="self.a >= oldSelf.a", fieldPath=".a")
    new = {"spec": {"map": {"x": {"a": 1}, "y": {"a": 1}, "z": {"a": 0}}}}
    old = {"spec": {"map": {"x": {"a": 2}, "y": {"a": 1}}}}

    assert [format_path(p.path) for p in book.check(new, old=old)] == ["spec.map.x.a"]
    with pytest.raises(RuleBookError, match="name the keys of maps"):
        book_of(path="spec.map.*", rule="true", severity="warning")


def test_transition_rules_need_an_old_document():
    """Without an old document nothing is compared, and an old document without the section compares nothing."""
    book = book_of(path="spec.storage", rule="self.size == oldSelf.size")
    new = {"spec": {"storage": {"size": 1}}}

    assert book.check(new) == book.check(new, old={"spec": {}}) == []
    assert len(book.check(new, old={"spec": {"storage": {"size": 2}}})) == 1


def test_spoilt_parts_are_left_alone():
    """A rule is not asked about a part that has another error in it; rules elsewhere are."""
    document = {"spec": {"a": {"b": 1}, "c": {"d": 1}}}
    book = RuleBook(
        "[{name: a, path: spec.a, rule: 'false', message: m, severity: error},"
        " {name: c, path: spec.c, rule: 'false', message: m, severity: error},"
        " {name: all, path: spec, rule: 'false', message: m, severity: error}]"
    )

    assert [p.code for p in book.check(document)] == ["all", "a", "c"]
    assert [p.code for p in book.check(document, skip=[("spec", "a", "b")])] == ["c"]
    assert [p.code for p in book.check(document, skip=[("spec",)])] == ["a", "c"]


def test_items_and_field_paths():
    """A rule about the items of a list is asked about each, and points at the field it names."""
    book = book_of(path="spec.list[]", rule="self.a > 0", fieldPath=".a")
    found = book.check({"spec": {"list": [{"a": 1}, {"a": 0}, {"a": -1}]}})

    assert [format_path(p.path) for p in found] == ["spec.list[1].a", "spec.list[2].a"]


def test_one_failing_rule_does_not_hide_others():
    """Rules of one place are evaluated together, yet each has its own verdict when one of them fails to evaluate."""
    text = "[{name: bad, path: spec, rule: 'self.nope > 1', message: m, severity: error}]"
    book = RuleBook(
        text.replace("}]", "}, {name: good, path: spec, rule: 'self.a == 1', message: m, severity: error}]")
    )
    (problem,) = book.check({"spec": {"a": 1}})

    assert problem.code == "bad"
    assert "could not be evaluated" in problem.message


def test_warning_that_cannot_be_evaluated_is_none():
    """What cannot be evaluated is an error if the rule is one, and nothing if it only warns, as on the server."""
    assert len(book_of(rule="self.nope > 1").check({"spec": {}})) == 1
    assert book_of(rule="self.nope > 1", severity="warning").check({"spec": {}}) == []


@pytest.mark.parametrize("rule", [rule for rule in BOOK.rules if rule.guard], ids=lambda rule: rule.name)
def test_guarded_rules_hold_without_their_field(rule):
    """A rule that begins with !has(self.x) is true where x is absent, since it is then not even compiled."""
    assert environment().compile(rule.rule).eval(data={"self": {}}).plain_value() is True


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rule": "true", "severity": "fatal"}, "severity must be error or warning"),
        ({"rule": "true", "reason": "Because"}, "reason must be one of"),
        ({"rule": "true", "hint": "two\nlines"}, "one line each"),
        ({"rule": "true", "colour": "red"}, "can have hint, fieldPath, reason"),
        ({}, "must have message, name, path, rule, severity"),
        ({"rule": "self == oldSelf", "severity": "warning"}, "oldSelf must be an error"),
        ({"rule": "self == oldSelf", "path": "spec.list[]"}, "oldSelf must be an error and lie outside lists"),
        ({"rule": "true", "severity": "warning", "path": "spec.list[]"}, "a warning must lie outside lists"),
    ],
)
def test_faulty_rules_are_refused(change, fault):
    """An entry that could not work on the server is refused when the book is read, by name."""
    with pytest.raises(RuleBookError, match=f"rule n: .*{fault}"):
        book_of(**change)


def test_braces_expand_as_in_a_shell():
    """Braces stand for each of their choices, and may nest."""
    (rule,) = book_of(path="{spec.{a,b}[].c,spec.d}", rule="true").rules

    assert set(rule.places) == {("spec", "a", ITEMS, "c"), ("spec", "b", ITEMS, "c"), ("spec", "d")}
    assert len(rule.places) == 3


def evaluate(expression, **data):
    return environment().compile(expression).eval(data={"self": data}).plain_value()


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        *(("1Gi", "1024Mi", 0), ("1", 1, 0), ("500m", "0.5", 0), ("1e3", "1k", 0), ("1k", "1Ki", -1)),
        *(("1", "999m", 1), ("0", "0.0000000001", -1), ("9Ei", "1E", 1), ("99999999999Ei", "9Ei", 0)),
    ],
)
def test_quantities_compare_by_amount(left, right, order):
    """The function compareTo orders quantities by amount; beyond what can be counted all are alike, and the most."""
    assert evaluate("quantity(string(self.a)).compareTo(quantity(string(self.b)))", a=left, b=right) == order


@pytest.mark.parametrize(
    "expression", ["'1Gi'.compareTo('1Gi')", "quantity('much')", "cidr('here')", "quantity('1') > 0"]
)
def test_misuse_is_an_error(expression):
    """What the server's type checker or runtime refuses is no verdict here either."""
    try:
        found = environment().compile(expression).eval(data={})
    except RuntimeError:
        return

    assert str(found.type()) == "ERROR"


@pytest.mark.parametrize(
    ("text", "network", "masked"),
    [
        *(("10.0.0.0/8", True, True), ("10.0.0.1/8", True, False), ("0.0.0.0/0", True, True), ("::/0", True, True)),
        *(("2001:db8::/32", True, True), ("2001:DB8::1/32", True, False), ("::10.0.0.0/124", True, True)),
        *(("10.0.0.0", False, None), ("10.0.0.0/33", False, None), ("10.0.0.0/08", False, None), ("/8", False, None)),
        *(("10.0.0.0/255.0.0.0", False, None), ("fe80::1%eth0/64", False, None), ("::/129", False, None)),
        *(("::ffff:10.0.0.0/104", False, None), ("010.0.0.0/8", False, None), ("10.0.0.0/٨", False, None)),
    ],
)
def test_networks(text, network, masked):
    """The functions isCIDR and masked read networks as the server does; test_server_agrees asks it."""
    assert evaluate("isCIDR(self.a)", a=text) is network
    if network:
        assert evaluate("cidr(self.a) == cidr(self.a).masked()", a=text) is masked


UNIFIED = {"topology": "Unified", "nodes": 3, "storage": {"backend": "local"}}
ROLES = {key: EXAMPLE["spec"][key] for key in ("metastore", "image")} | {"storage": {"backend": "local"}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (UNIFIED, UNIFIED | {"nodes": 5}, []),
        (UNIFIED | {"nodes": 5}, UNIFIED, []),
        (ROLES, UNIFIED, ["topology-changes"]),
        (UNIFIED, ROLES, ["topology-changes"]),
        (ROLES, ROLES | {"topology": "Roles"}, []),
        (UNIFIED, UNIFIED | {"nodes": 1}, ["nodes-alone"]),
        (UNIFIED | {"nodes": 1}, UNIFIED, ["nodes-alone"]),
    ],
)
def test_a_cluster_keeps_its_topology(before, after, expected):
    """Roles never become nodes that are all alike, nor a single node several, and the hint says how data moves."""
    old, new = ({**EXAMPLE, "spec": spec} for spec in (before, after))
    found = BOOK.check(SCHEMA.admit(new).document, old=SCHEMA.admit(old).document)
    errors = [problem for problem in found if problem.severity == "error"]

    assert [problem.code for problem in errors] == expected
    assert all("MirrorMaker" in problem.hint for problem in errors)


FROM_B, FROM_D = ({"recovery": {"from": {"backup": name}}} for name in "bd")


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ({}, {"searchNodes": 2}, True),
        ({"bootstrap": FROM_B}, {"bootstrap": FROM_B, "searchNodes": 2}, True),
        ({}, {"bootstrap": FROM_B}, False),
        ({"bootstrap": FROM_B}, {}, False),
        ({"bootstrap": FROM_B}, {"bootstrap": FROM_D}, False),
        ({"bootstrap": FROM_B}, {"bootstrap": {"recovery": {"from": {"backup": "b"}, "nodes": "More"}}}, False),
    ],
)
def test_what_a_cluster_begins_with_never_changes(before, after, allowed):
    """A recovery is neither added to a cluster that is there, nor changed or removed once it is in its document."""
    old, new = ({**EXAMPLE, "spec": ROLES | spec} for spec in (before, after))
    found = BOOK.check(SCHEMA.admit(new).document, old=SCHEMA.admit(old).document)

    assert [each.code for each in found if each.severity == "error"] == ([] if allowed else ["bootstrap-changes"])


@pytest.mark.parametrize(
    ("day", "exists"),
    [
        *(("2024-02-29", True), ("2026-02-29", False), ("2000-02-29", True), ("2100-02-29", False)),
        *(("2026-02-30", False), ("2026-04-30", True), ("2026-04-31", False), ("2026-12-31", True)),
    ],
)
def test_a_target_time_is_a_day_of_the_calendar(day, exists):
    """Days that no calendar has are refused, leap years as they are."""
    recovery = {"recovery": {"from": {"cluster": "c", "targetTime": f"{day}T08:30:00Z"}}}
    document = SCHEMA.admit({**EXAMPLE, "spec": ROLES | {"bootstrap": recovery}})
    codes = [each.code for each in (*document.problems, *BOOK.check(document.document)) if each.severity == "error"]

    assert codes == ([] if exists else ["recovery-target-time"])
