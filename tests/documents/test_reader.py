from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.hostile import HOSTILE, STRUCTURE
from support.kubectl import kubectl, kubectl_reads

from chronik.documents import yaml_reader
from chronik.documents.nodes import Limits
from chronik.documents.reader import parse_documents
from chronik.documents.writer import to_yaml
from chronik.report.problems import problems_text

HERE = Path(__file__).parent
BROKEN = sorted(path for path in (HERE / "broken").iterdir() if path.suffix != ".txt")
EXAMPLES = sorted((HERE.parents[1] / "examples").glob("*.yaml"))
HEAD = "apiVersion: v1\nkind: Reading\nmetadata: {name: reading}\n"
FILE = """\
# a comment
spec:
  storage:   {backend: s33, size: "10Gi"}
  image:
  - name: a   # the first
    tags: [x, yes, 3]
  -   name: "b c"
  empty:
  text: |
    two
    lines
  shared: &s
    cpu: 1
  again: *s
  merged:
    <<: *s
    memory: 2
"""


def parse(content, limits=None):
    """Return the trees and the problems of a file."""
    documents, problems = parse_documents(content, "file.yaml", limits)
    return [document.tree for document in documents], problems


def codes(problems):
    """Return what kind of problem each is."""
    return [problem.code for problem in problems]


def pointed_at(location):
    """Return the rest of the line that a location points at."""
    return location.text[location.column - 1 :]


# What is wrong with a file


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.name)
def test_broken_file(path):
    """The first problem of a broken file reads as the text beside it says."""
    _, problems = parse_documents(path.read_bytes(), path.name)

    report = problems_text(problems[:1], width=100, color=False)
    assert report.rpartition("\n\n")[0] + "\n" == path.with_name(f"{path.name}.txt").read_text("utf-8")


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.name)
def test_python_parser_finds_the_same(path, monkeypatch):
    """Without libyaml, the same mistake is found in the same line."""
    expected = [(problem.code, problem.location.line) for problem in parse_documents(path.read_bytes(), path.name)[1]]
    monkeypatch.setattr(yaml_reader, "CParser", yaml_reader._PurePython)

    _, problems = parse_documents(path.read_bytes(), path.name)

    assert [(problem.code, problem.location.line) for problem in problems] == expected


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_python_parser_reads_the_same(path, monkeypatch):
    """Without libyaml, a document reads the same."""
    expected = parse(path.read_bytes())
    monkeypatch.setattr(yaml_reader, "CParser", yaml_reader._PurePython)

    assert parse(path.read_bytes()) == expected
    assert expected[1] == []


def test_mistakes_hide_no_documents():
    """Documents before, between and after broken ones come through, and every mistake is reported, in order."""
    trees, problems = parse('a: 1\n---\nb: "\n---\nc: 3\n---\n- d\n e\n  f: g\n---\nh: .nan\ni: *j\n---\nk: 5\n')

    assert trees == [{"a": 1}, {"c": 3}, {"k": 5}]
    assert [(problem.code, problem.location.line) for problem in problems] == [
        ("syntax", 3),
        ("syntax", 9),
        ("number", 11),
        ("alias", 12),
    ]


def test_unclear_documents_come_through():
    """A document that says a thing twice is a mistake, and still there to be checked, as kubectl reads it."""
    trees, problems = parse("a: 1\n'a': 2\n0x1: x\non: y\nb: !thing z\n")

    assert trees == [{"a": 2, "0x1": "x", "on": True, "b": "z"}]
    assert codes(problems) == ["duplicate-key", "key", "key", "tag"]


@pytest.mark.parametrize("second", ["a", "'a'", '"a"', '"\\x61"', "!!str a", "? a\n"])
def test_duplicate_keys(second):
    """One key in two spellings is a duplicate."""
    assert codes(parse(f"a: 1\n{second}: 2\n")[1]) == ["duplicate-key"]


def test_the_first_of_two_keys_is_named():
    """A duplicate is reported at the second key, and the hint names the line of the first in the file."""
    _, (problem,) = parse("x: 1\n---\n\na: 1\nb: 2\na: 3\n")

    assert problem.path == ("a",)
    assert (problem.location.line, problem.hint) == (6, "Line 4 sets it, too: keep one.")


# What a file says


@pytest.mark.parametrize(
    "content", ["", "\n", "# only\n", "---\n", "---\n---\n# x\n---\n", "\ufeff", b"\xff\xfe", "~\n"]
)
def test_empty_documents(content):
    """What holds nothing but comments and separators holds no document, and that is no mistake."""
    assert parse(content) == ([], [])


@pytest.mark.parametrize(
    "content",
    [
        b"a: caf\xc3\xa9\n",
        b"\xef\xbb\xbfa: caf\xc3\xa9",
        "a: café".encode("utf-16"),
        b"\xfe\xff" + "a: café\n".encode("utf-16-be"),
        b"a: caf\xc3\xa9\r\n",
        b"a: caf\xc3\xa9\r",
        b'{"a": "caf\\u00e9"}',
        b"--- # first\na: caf\xc3\xa9\n---\n",
    ],
)
def test_encodings(content):
    """UTF-8 and UTF-16, with and without a mark, and every kind of line end read the same."""
    assert parse(content) == ([{"a": "café"}], [])


def test_json_stream():
    """Several JSON objects in a row are documents, with escapes that YAML does not know."""
    trees, problems = parse('{"a": "\\ud83d\\ude00", "b": [1.0, -2, 1e3, true, null]}\n\n{"c": "\\/"}{"d": {}}')

    assert problems == []
    assert trees == [{"a": "😀", "b": [1, -2, 1000, True, None]}, {"c": "/"}, {"d": {}}]


def test_nearly_json():
    """What begins like JSON and is none is read as YAML."""
    assert parse('{"a": 1, b: 010,}\n---\n{"c": 3}\n') == ([{"a": 1, "b": 8}, {"c": 3}], [])


def test_lists_are_taken_apart():
    """The items of a List are documents, numbered through; paths begin at the item, places at the file."""
    text = "apiVersion: v1\nkind: List\nitems:\n- {kind: A, x: 1}\n- kind: B\n  v: 2\n---\nkind: C\n"

    documents, problems = parse_documents(text, "file.yaml")

    assert problems == []
    assert [(document.index, document.tree["kind"]) for document in documents] == [(0, "A"), (1, "B"), (2, "C")]
    assert documents[1].locate(("v",)).line == 6
    assert pointed_at(documents[1].locate(("z",))) == "kind: B"


def test_items_of_a_typed_list_get_its_type():
    """The API server leaves kind and apiVersion out of what a ChronikClusterList holds, and kubectl fills them in."""
    text = "apiVersion: chronik.stream/v1alpha1\nkind: ChronikClusterList\nitems:\n- a: 1\n- kind: X\n"

    assert parse(text) == (
        [{"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "a": 1}, {"kind": "X"}],
        [],
    )


LISTS = yaml.safe_load((HERE / "lists.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case["name"])
def test_lists(case):
    """A List is what kubectl takes for one; of any other the mistake is told, and where it is."""
    trees, problems = parse(json.dumps(case["document"], indent=1))

    assert len(trees) == case["documents"]
    assert [problem.message for problem in problems] == case.get("messages", [])
    assert all(pointed_at(problem.location) for problem in problems)


@pytest.mark.parametrize("case", [case for case in LISTS if "kubectl" in case], ids=lambda case: case["name"])
def test_lists_as_kubectl_takes_them(case):
    """What kubectl itself says: it takes a List, or refuses it, as the table says."""
    text = json.dumps(case["document"])
    if case["kubectl"] == "takes":
        assert kubectl_labels(text).count('"read": "yes"') == case["documents"]
    else:
        with pytest.raises(AssertionError, match=case["kubectl"]):
            kubectl_labels(text)


def kubectl_labels(text):
    """Have kubectl write down the objects of a text, each with a label; an AssertionError if it refuses."""
    return kubectl("label", "--local", "-f", "-", "-o", "json", "read=yes", stdin=text)


FOREIGN = """\
apiVersion: v1
kind: Secret
metadata: {name: s}
a: 1
a: 2
on: !thing x
b: .nan
---
apiVersion: v1
kind: List
items:
- kind: Other
  a: 1
  a: 2
- kind: Ours
  b: 1
  b: 2
"""


def test_foreign_documents_are_taken_as_they_are():
    """What is unclear in a document of another API is not told; what is unclear in one of ours still is."""
    documents, problems = parse_documents(
        FOREIGN, "file.yaml", foreign=lambda tree: isinstance(tree, dict) and tree.get("kind") in {"Secret", "Other"}
    )

    assert [document.tree["kind"] for document in documents] == ["Secret", "Other", "Ours"]
    assert [(problem.code, problem.location.line) for problem in problems] == [("duplicate-key", 17)]


@pytest.mark.parametrize(
    "text",
    [
        "kind: Other\n...\nkind: Ours\n",
        "apiVersion: v1\nkind: List\nitems:\n- {kind: Other, a: .nan}\n- {kind: Ours}\n",
    ],
)
def test_nothing_hides_behind_a_foreign_document(text):
    """Where a mistake in another API's document keeps one of ours from being read, it is told."""
    _, problems = parse_documents(text, "file.yaml", foreign=lambda tree: tree.get("kind") in {"Other", "List"})

    assert len(problems) == 1


def test_items_that_are_set_twice():
    """A List whose items are set twice is one mistake, whatever each of the two holds."""
    text = "apiVersion: v1\nkind: List\nitems: [{a: 1}, {a: 1, a: 2}]\nitems: [{b: 1}]\n"
    _, problems = parse_documents(text, "file.yaml", foreign=lambda _tree: True)

    assert "duplicate-key" in codes(problems)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a: &x {p: 1}\nb: *x\nc: [*x, *x]\n", {"a": {"p": 1}, "b": {"p": 1}, "c": [{"p": 1}, {"p": 1}]}),
        ("a: &x 1\nb: &x 2\nc: *x\n", {"a": 1, "b": 2, "c": 2}),
        ("a: &k key\n*k : 1\n", {"a": "key", "key": 1}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("b: {<<: [{p: 1}, {p: 2, q: 2}]}\n", {"b": {"p": 1, "q": 2}}),
        ("b: {'<<': {p: 1}}\n", {"b": {"<<": {"p": 1}}}),
        ("b: {! <<: {p: 1}}\n", {"b": {"p": 1}}),
        ("b: {! '<<': {p: 1}}\n", {"b": {"p": 1}}),
        ("b: {!!str <<: {p: 1}}\n", {"b": {"<<": {"p": 1}}}),
        ("b: {!!merge <<: {p: 1}}\n", {"b": {"p": 1}}),
        ("t: |+\n  a\n\nu: >-\n  b\n  c\nv: |2\n   d\nw: plain\n  goes on\n", {}),
        ("8080: a\n-1: b\ntrue: c\n2001-01-01: d\n", {"8080": "a", "-1": "b", "true": "c", "2001-01-01": "d"}),
        ("? |\n  block\n: 1\n", {"block\n": 1}),
        ("a: |\n  no line end", {"a": "no line end\n"}),
        ('a: "it\\\'s"\n', {"a": "it's"}),
        ("a: \"\\\\'\\'\\\\\\'\"\n", {"a": "\\''\\'"}),
        ("a: it\\'s \\'\nb: |\n  it\\'s\n# \\'\n", {"a": "it\\'s \\'", "b": "it\\'s\n"}),
        ("a: 'it\\''s\\'\n", {"a": "it\\'s\\"}),
        ("a: \\'\n\"b\\'\": 1\n? \\'c\n: [\\', \"\\'\"]\n", {"a": "\\'", "b'": 1, "\\'c": ["\\'", "'"]}),
        ('a: "\\N\\_\\L\\P\\e\\0\\x41\\\n  b"\n', {"a": "\x85\xa0\u2028\u2029\x1b\0Ab"}),
        ("a: /\\/\nb: '\\/'\nc: \"\\\\/\"\n", {"a": "/\\/", "b": "\\/", "c": "\\/"}),
    ],
)
def test_kubectl_reads_the_same(text, tree):
    """Anchors, merge keys, block texts and keys mean what kubectl makes of them."""
    trees, problems = parse(HEAD + text)
    expected = kubectl_reads(HEAD + text)
    del expected["metadata"]["annotations"]

    assert problems == []
    assert trees == [expected]
    assert tree.items() <= trees[0].items()


@pytest.mark.parametrize("escape", ["\\/", "\\\\\\/", "\\z", "\\'\\z", "\\ud800", "\\1"])
def test_escapes_that_kubectl_does_not_know(escape):
    """What is no escape to kubectl is an error, and points at it; of text that is not in double quotes it is none."""
    text = f'{HEAD}a: "x{escape}y"\n'
    trees, problems = parse(text)

    assert (trees, codes(problems)) == ([], ["syntax"])
    with pytest.raises(AssertionError):
        kubectl_reads(text)
    assert parse(f"{HEAD}a: x{escape}y\n")[1] == []


SPACES = ("\xa0", "\xa0\n\t", "\x85", "\u3000", "\u2028", "\v", "\f", "\ufeff", "\u200b", "\x1c", "\u180e", "\xad")


@pytest.mark.parametrize("space", SPACES, ids=ascii)
@pytest.mark.parametrize("place", ["before", "between", "after", "after a separator"])
def test_spaces_around_json(space, place):
    """What kubectl takes for space before JSON is space, and text everywhere else."""
    one = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    text = {
        "before": space + one,
        "between": one + space + one,
        "after": f"{one}{space}\n",
        "after a separator": f"---\n{space}{one}",
    }[place]
    trees, problems = parse(text)
    ours = not problems and all(isinstance(tree, dict) and "kind" in tree for tree in trees) and len(trees)

    assert ours == taken_by_kubectl(text)


def taken_by_kubectl(text):
    """Return how many objects kubectl finds in a text; none if it refuses it."""
    try:
        return kubectl_labels(text).count('"read": "yes"')
    except AssertionError:
        return 0


def test_aliases_are_copies():
    """Changing what an alias stands for in one place of a tree changes it in no other."""
    (tree,), _ = parse("a: &x {p: [1]}\nb: *x\nc: {<<: *x}\n")

    tree["b"]["p"].append(2)

    assert tree == {"a": {"p": [1]}, "b": {"p": [1, 2]}, "c": {"p": [1]}}


# Where things are


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), "spec:", "spec:"),
        (("spec",), "spec:", "spec:"),
        (("spec", "storage"), "{backend", "storage:"),
        (("spec", "storage", "backend"), "s33", "backend:"),
        (("spec", "storage", "size"), '"10Gi"', "size:"),
        (("spec", "storage", "class"), "storage:", "storage:"),
        (("spec", "storage", "s3", "bucket"), "storage:", "storage:"),
        (("spec", "image"), "image:", "image:"),
        (("spec", "image", 0), "name: a", "name: a"),
        (("spec", "image", 0, "tags", 1), "yes", "yes"),
        (("spec", "image", 1, "name"), '"b c"', 'name: "b'),
        (("spec", "image", 2), "image:", "image:"),
        (("spec", "image", "name"), "image:", "image:"),
        (("spec", "empty"), "empty:", "empty:"),
        (("spec", "empty", "more"), "empty:", "empty:"),
        (("spec", "text"), "|", "text:"),
        (("spec", "again", "cpu"), "1", "cpu:"),
        (("spec", "again"), "again:", "again:"),
        (("spec", "merged", "cpu"), "1", "cpu:"),
        (("spec", "merged", "memory"), "2", "memory:"),
        (("status",), "spec:", "spec:"),
    ],
)
def test_locate(path, value, key):
    """A path leads to its value or key; one that leads nowhere, to what is nearest; a block or nothing, to its key."""
    (document,), _ = parse_documents(FILE, "file.yaml")

    assert pointed_at(document.locate(path)).startswith(value)
    assert pointed_at(document.locate(path, key=True)).startswith(key)


def test_locate_counts_lines_of_the_file():
    """Lines and columns count from 1, in characters, over all documents and line ends."""
    content = "a: é\r\n---\r\n# x\r\nb: {名前: 漢字, c: 1}\r\n".encode()

    documents, _ = parse_documents(content, "dir/file.yaml")

    location = documents[1].locate(("b", "c"))
    assert (location.file, location.line, location.column) == ("dir/file.yaml", 4, 16)
    assert location.text == "b: {名前: 漢字, c: 1}"


trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer())
    | st.sampled_from([text for text in HOSTILE if len(text) < 100])
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abc<=y1.~ é", max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)


@given(tree=st.dictionaries(st.sampled_from(["spec", "status"]), trees, min_size=1))
def test_json_means_itself(tree):
    """A tree written as JSON, in one line or in many, comes back the same."""
    for indent in (None, 2):
        assert parse(json.dumps(tree, indent=indent)) == ([tree], [])


@given(tree=st.dictionaries(st.sampled_from(["spec", "status"]), trees, min_size=1))
def test_what_we_write_we_read(tree):
    """A tree that `emit` wrote as YAML comes back the same."""
    assert parse(to_yaml(tree)) == ([tree], [])


@given(tree=st.dictionaries(st.sampled_from(["spec", "status"]), trees, min_size=1), data=st.data())
def test_places_show_what_they_say(tree, data):
    """Where a path leads, the text begins with the value that is there, and for a key, with the key."""
    (document,), _ = parse_documents(json.dumps(tree, indent=1, ensure_ascii=True), "file.json")
    path, value = data.draw(st.sampled_from(list(paths(tree))))

    assert pointed_at(document.locate(path)).startswith(json.dumps(value, indent=1)[:1])
    if not isinstance(value, dict | list):
        assert pointed_at(document.locate(path)).rstrip(",") == json.dumps(value)
    if path and isinstance(path[-1], str):
        assert pointed_at(document.locate(path, key=True)).startswith(f"{json.dumps(path[-1])}: ")


def paths(tree, path=()):
    """Yield every path of a tree, and its value."""
    yield path, tree
    for step, child in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from paths(child, (*path, step))


# What no content can do

PIECES = [
    *STRUCTURE,
    "a",
    ": ",
    ":",
    " ",
    "\n",
    "\n  ",
    "- ",
    "&x ",
    "*x",
    "!!int ",
    "<<: ",
    "\t",
    "é",
    "1",
    "null",
    "{",
    "[",
]
PIECES += ["}", "]", ", ", '"', "\\", "\r\n", "\u2028", "\x85", "\ufeff", "\0", "---\n", "%", "apiVersion: v1\n"]
PIECES += ["kind: List\nitems:\n- "]


def check(content):
    """Parse anything at all, and hold the answer to what everybody relies on."""
    parse_documents(content, "file.yaml", foreign=lambda _tree: True)
    documents, problems = parse_documents(content, "file.yaml")
    for document in documents:
        json.dumps(document.tree, allow_nan=False, ensure_ascii=False).encode()
        for path, _ in paths(document.tree):
            assert document.locate(path).line > 0
            assert document.locate((*path, "nowhere"), key=True).column > 0
    for problem in problems:
        assert (problem.severity, bool(problem.message)) == ("error", True)
        assert 0 <= problem.location.column - 1 <= len(problem.location.text)
    return documents, problems


@given(content=st.binary(max_size=200))
def test_any_bytes(content):
    """No bytes make the parser raise, and what comes out is JSON with places."""
    check(content)


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
@settings(max_examples=examples(400))
def test_any_pieces_of_yaml(pieces):
    """No heap of YAML's own characters makes the parser raise."""
    check("".join(pieces))


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pieces_of_yaml_in_python(pieces, monkeypatch):
    """No heap of YAML's own characters makes the parser raise where libyaml is missing."""
    with monkeypatch.context() as patch:
        patch.setattr(yaml_reader, "CParser", yaml_reader._PurePython)
        check("".join(pieces))


@given(at=st.integers(0, 10**4), piece=st.sampled_from(PIECES), example=st.sampled_from(EXAMPLES))
def test_any_slip_of_the_hand(at, piece, example):
    """An example with something typed into it anywhere never makes the parser raise."""
    text = example.read_text("utf-8")
    check(text[: at % len(text)] + piece + text[at % len(text) :])


BOMBS = {
    "brackets": "[" * 1_000_000,
    "braces": "{" * 1_000_000,
    "dashes": "- " * 500_000,
    "questions": "? " * 500_000,
    "JSON": '{"a":' * 200_000,
    "junk": bytes(range(256)) * 4_000,
    "NUL": b"\0" * 1_000_000,
    "tabs": "\t" * 1_000_000,
    "quote": 'a: "' + "x" * 1_000_000,
    "separators": "---\n" * 250_000,
    "wrong separators": "--- x\n" * 150_000,
    "duplicates": "a: 1\n" * 200_000,
    "no numbers": f"[{'.nan,' * 200_000}]",
    "tags": "- !x y\n" * 140_000,
    "JSON stream": "{}" * 500_000,
    "documents": "a: 1\n---\n" * 11_000,
    "list": f"apiVersion: v1\nkind: List\nitems: [{'{},' * 11_000}]",
    "aliases": "a: &a [x]\n" + "".join(f"b{n}: &b{n} [{f'*b{n - 1},' * 9 if n else '*a'}]\n" for n in range(30)),
    "chain": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 20_000)),
    "merges": "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}\n" for n in range(1, 2_000)),
    "long alias": f"a: &a {'x' * 100_000}\nb: [{'*a,' * 100_000}]\n",
    "directives": "%\n" * 300_000,
    "key": "x" * 1_000_000 + ": 1",
    "line separators": "a: 1\n" + "\u2028--- 1" * 100_000,
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_bombs(content):
    """What is made to exhaust a parser is refused, in little time, with few problems and no documents to speak of."""
    begin = time.process_time()

    documents, problems = parse_documents(content, "file.yaml")

    assert time.process_time() - begin < 5
    assert len(problems) <= Limits().problems + 1
    assert len(documents) <= Limits().documents
    assert problems or not documents


@pytest.mark.parametrize(
    ("limits", "text", "count"),
    [
        (Limits(documents=3), "a: 1\n---\n" * 4, 3),
        (Limits(documents=3), '{"a": 1}' * 4, 3),
        (Limits(documents=3), "apiVersion: v1\nkind: List\nitems: [{}, {}, {}, {}]", 3),
        (Limits(depth=3), "a: {b: [c]}\n---\na: {b: [{}]}\n", 1),
        (Limits(depth=3), '{"a": {"b": [1]}}{"a": {"b": [{}]}}', 1),
        (Limits(depth=3), "a: &a [[x]]\n---\na: &a [x]\nb: [*a]\n---\na: &a [x]\nb: [[*a]]\n", 2),
        (Limits(aliased=4), "a: &a [x, x]\nb: *a\n---\na: &a [x, x]\nb: [*a, *a]\n", 1),
        (Limits(values=8), "a: [1, 2]\n---\na: [1, 2]\n", 1),
        (Limits(values=10), f"a: 1\n---\na: {'x' * 1_000}\n", 1),
    ],
)
def test_limits(limits, text, count):
    """Each limit stops what is beyond it, says so, and lets through what comes before."""
    trees, problems = parse(text, limits)

    assert (len(trees), codes(problems)) == (count, ["limit"])


def test_problems_have_an_end():
    """After as many problems as anybody reads, one more says that there are others."""
    _, problems = parse("a: .nan\n---\n" * 20, Limits(problems=5))

    assert codes(problems) == [*["number"] * 5, "limit"]
    assert problems[-1].location.line == 11
