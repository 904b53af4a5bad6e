from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import HOSTILE, LOOK_ALIKES

from chronik.render import skeleton
from chronik.render.skeleton import OMIT, SkeletonError, compile_skeleton, placeholder

A, B = placeholder(0), placeholder(1)


@pytest.fixture(params=[yaml.CSafeLoader, yaml.SafeLoader], ids=["libyaml", "python"], autouse=True)
def loader(request, monkeypatch):
    """Run every test with both of PyYAML's parsers."""
    monkeypatch.setattr(skeleton, "_LOADER", request.param)
    compile_skeleton.cache_clear()
    yield
    compile_skeleton.cache_clear()


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("# nothing but words\n", None),
        ("a: 1\nb: [x, 1.5, true]\nc: {d: {}, e: []}\n", {"a": 1, "b": ["x", 1.5, True], "c": {"d": {}, "e": []}}),
        ("- a\n-\n  - b\n", ["a", ["b"]]),
        ("---\na: 1\n", {"a": 1}),
        ("a: 1\n...\n", {"a": 1}),
        ("a: 'yes'\nb: \"012\"\nc: |\n  on\n", {"a": "yes", "b": "012", "c": "on\n"}),
        ("on: a\n12: b\nyes: c\n", {"on": "a", "12": "b", "yes": "c"}),
        ("a: one\n  two\n", {"a": "one two"}),
        ("? a\n: b\n", {"a": "b"}),
        ("words", "words"),
    ],
)
def test_literals(text, tree):
    """Without placeholders a skeleton is what YAML says it is; keys are always strings."""
    assert compile_skeleton(text)([]) == tree


@pytest.mark.parametrize(
    ("place", "value", "tree"),
    [
        (f"a: {A}", "x", {"a": "x"}),
        (f"a: {A}", 3, {"a": 3}),
        (f"a: {A}", True, {"a": True}),
        (f"a: {A}", 1.5, {"a": 1.5}),
        (f"a: {A}", {"b": [1]}, {"a": {"b": [1]}}),
        (f"a: {A}", [], {"a": []}),
        (f"- {A}", {"b": 1}, [{"b": 1}]),
        (f"[x, {A}]", [1], ["x", [1]]),
        (A, {"b": 1}, {"b": 1}),
        (f"a: x-{A}", 3, {"a": "x-3"}),
        (f"a: {A}-x", True, {"a": "true-x"}),
        (f"a: x{A}", False, {"a": "xfalse"}),
        (f'a: "{A}"', 8080, {"a": "8080"}),
        (f"a: '{A}'", 1.5, {"a": "1.5"}),
        (f"a: |\n  {A}\n", True, {"a": "true\n"}),
        (f"a: >-\n  x\n  {A}\n", 3, {"a": "x 3"}),
        (f"{A}: x", "b", {"b": "x"}),
        (f"{A}: x", 1, {"1": "x"}),
        (f"x-{A}: x", True, {"x-true": "x"}),
    ],
)
def test_one_placeholder(place, value, tree):
    """A placeholder that is the whole scalar keeps the value's type; one inside quotes or text makes a string."""
    found = compile_skeleton(place)([value])

    assert found == tree
    assert repr(found) == repr(tree)  # 1 is not True


@pytest.mark.parametrize("text", [*LOOK_ALIKES, *HOSTILE[:60]])
def test_strings_stay_strings(text):
    """A string keeps its type, whatever it looks like."""
    assert compile_skeleton(f"a: {A}")([text]) == {"a": text}


def test_several_placeholders():
    """Holes are filled in their order, in one scalar or in many."""
    fill = compile_skeleton(f"a: {A}.{B}.svc\nb: {placeholder(2)}\n")

    assert fill(["x", "y", 3]) == {"a": "x.y.svc", "b": 3}
    assert fill(["{", "}", "z"]) == {"a": "{.}.svc", "b": "z"}


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        (f"a: {A}\nb: 1", {"b": 1}),
        (f"- {A}\n- b", ["b"]),
        (f"{{a: {A}}}", {}),
        (f"a: [{A}]", {"a": []}),
        (f"x{B}: 1\na: {A}".replace(A, "_").replace(B, A).replace("_", B), {"x1": 1}),
    ],
)
def test_omit(text, tree):
    """OMIT takes its key, or its list item, with it."""
    assert compile_skeleton(text)([OMIT] if B not in text else ["1", OMIT]) == tree


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key a stands here a second time"),
        ("a: 1\n'a': 2", 2, "the key a stands here a second time"),
        ("x: {a: 1, a: 2}", 1, "the key a stands here a second time"),
        ("x: 1\na: &anchor 1", 2, "anchors and aliases are not allowed"),
        ("&anchor a: 1", 1, "anchors and aliases are not allowed"),
        ("x: 1\na: *alias", 2, "anchors and aliases are not allowed"),
        ("a: &map {b: 1}", 1, "anchors and aliases are not allowed"),
        ("a: &list [1]", 1, "anchors and aliases are not allowed"),
        ("a: !!int '3'", 1, "tags are not allowed: tag:yaml.org,2002:int"),
        ("a: !!python/object:os.system {}", 1, "tags are not allowed: tag:yaml.org,2002:python/object:os.system"),
        ("a: ! x", 1, "tags are not allowed: !"),
        ("!!set {a}", 1, "tags are not allowed: tag:yaml.org,2002:set"),
        ("a: 1\n<<: {b: 1}", 2, r"merge keys are not allowed: use merged\(\)"),
        ("a: 1\n---\nb: 2", 2, "a second one starts here"),
        ("a: 1\n...\n---\nb: 2", 3, "a second one starts here"),
        ("? [a]\n: b", 1, "a key must be a scalar"),
        ("{a: 1}: b", 1, "a key must be a scalar"),
        ("?\n: b", 1, "a key is missing before the colon"),
        ("a: 1\nb:\nc: 2", 2, r"nothing stands here: write \{\} or \[\], or leave the key out"),
        ("a: ~", 1, "nothing stands here"),
        ("a: null", 1, "nothing stands here"),
        ("- a\n-\n- b", 2, "nothing stands here"),
        ("a: 1\nb: yes", 2, "YAML parsers disagree about an unquoted yes: quote it"),
        ("a: 0x1F", 1, "YAML parsers disagree about an unquoted 0x1F: quote it"),
        ("a: 012", 1, "quote it"),
        ("a: 2001-01-01", 1, "quote it"),
        ("a: b: c", 1, "not YAML: an unquoted value cannot hold a colon and a space"),
        ("a: 1\n\tb: 2", 2, "not YAML: "),
        ("a: 1\nb: [1\n]]", 3, "not YAML: "),
        ('a: 1\nb: "\\q"', 2, "not YAML: this is no escape that a double-quoted text can hold"),
        ("a: 1\nb: \x07", 2, "YAML cannot hold a control character or half of a surrogate pair"),
        ("a: 1\nb: \ud800", 2, "YAML cannot hold a control character or half of a surrogate pair"),
        (f"a: {A}\nb: {A}", 2, "the text Zq0q0Z is reserved"),
        (f"a: {B}", 1, "the text Zq0q1Z is reserved"),
        ("a: 1\n# Zq0q007Z", 2, "the text Zq0q007Z is reserved"),
    ],
)
def test_refused(text, line, message):
    """What would let text act as structure is refused, as is what parsers dispute; the error says in which line."""
    with pytest.raises(SkeletonError, match=message) as caught:
        compile_skeleton(text)([1])

    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        (f"x: 1\na: {A}", None, "the value is null: guard it"),
        (f"x: 1\na: x{A}", None, "the value is null"),
        (f"x: 1\na: '{A}'", {}, "the value is a dict"),
        (f"x: 1\na: x{A}", [1], "the value is a list"),
        (f"x: 1\na: x{A}", OMIT, "the value is omitted"),
        (f"x: 1\n{A}: a", OMIT, "the value is omitted"),
        (f"x: 1\n{A}: a", None, "the value is null"),
        (f"x: 1\n{A}: a", {}, "the value is a dict"),
        (f"y: 1\n{A}: a", "y", "the key y stands here a second time"),
    ],
)
def test_value_that_does_not_fit(text, value, message):
    """A value that its place cannot hold is an error in that line."""
    with pytest.raises(SkeletonError, match=message) as caught:
        compile_skeleton(text)([value])

    assert caught.value.line == 2


def test_two_placeholders_make_one_key():
    """Two keys that turn out equal are an error, not a silent loss."""
    fill = compile_skeleton(f"{A}: 1\n{B}: 2")

    assert fill(["a", "b"]) == {"a": 1, "b": 2}
    with pytest.raises(SkeletonError, match="the key a stands here a second time"):
        fill(["a", "a"])


def test_fills_are_independent():
    """Every fill makes maps and lists of its own."""
    fill = compile_skeleton("a: {b: [1]}")

    first, second = fill([]), fill([])
    first["a"]["b"].append(2)

    assert second == {"a": {"b": [1]}}


def test_kept_skeletons_are_bounded():
    """Skeletons are kept, so equal texts are parsed once; and no more of them than the bound, whatever comes."""
    assert compile_skeleton("a: 1") is compile_skeleton("a: 1")

    bound = compile_skeleton.cache_info().maxsize
    assert bound is not None
    for number in range(bound + 100):
        compile_skeleton(f"- {number}")

    assert compile_skeleton.cache_info().currsize == bound


@given(st.text(alphabet="Zq0123Z", max_size=12))
def test_no_text_passes_for_a_placeholder(text):
    """Text that is a placeholder, or has one in it, is refused unless it is the one expected; other text is text."""
    placeholders = re.findall(r"Zq0q\d+Z", text)
    if placeholders in ([], [A]):
        assert compile_skeleton(f"'{text}'")(["value"]) == text.replace(A, "value")
    else:
        with pytest.raises(SkeletonError, match="is reserved"):
            compile_skeleton(f"'{text}'")(["value"])
