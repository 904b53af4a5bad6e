"""The diff of two texts: true for any two of them, and readable for manifests."""

from __future__ import annotations

import time
from textwrap import dedent

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from chronik.report.text_diff import DiffLine, diff_lines

FEW = st.lists(st.sampled_from(["a", "b", "- name: x", "  c: 1", "", " "]), max_size=40)
MANY = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9).map(lambda lines: (lines * 3000)[:2500])
TEXTS = st.one_of(FEW.map("\n".join), FEW.map(lambda lines: "".join(f"{line}\n" for line in lines)), st.text())


def rebuilt(old: str, lines: list[DiffLine]) -> tuple[list[str], list[str]]:
    """Return both sides as the diff of a text tells them; what it folded is taken from the old text."""
    ours = told(old)
    before: list[str] = []
    after: list[str] = []
    for line in lines:
        if line.sign == "@":
            part = ours[len(before) : len(before) + line.folded]
            assert len(part) == line.folded
            before += part
            after += part
        if line.sign in "- ":
            before.append(line.text)
        if line.sign in "+ ":
            after.append(line.text)
    return before, after


def told(text: str) -> list[str]:
    """Return the lines of a text as a diff tells them."""
    lines = text.split("\n")
    return [*lines[:-1], f"{lines[-1]}  (no line break at the end of the file)"] if lines[-1] else lines[:-1]


@given(TEXTS, TEXTS, st.integers(0, 5))
@example("a\nb", "a\nb\n", 3)
@example("", "a", 3)
@example("a\u2028b\x0cc\n", "a\nb\nc\n", 3)
def test_diff_is_true(old, new, context):
    """From a diff both texts can be built, so it has every changed line and none that is not there."""
    lines = diff_lines(old, new, context)

    if old == new:
        assert lines == []
    else:
        assert rebuilt(old, lines) == (told(old), told(new))
        assert any(line.sign in "-+" for line in lines)


@settings(max_examples=examples(20))
@given(MANY, MANY)
def test_long_diff_is_true(old, new):
    """A text of thousands of lines is no exception."""
    before, after = ("".join(f"{line}\n" for line in side) for side in (old, new))

    assert old == new or rebuilt(before, diff_lines(before, after)) == (old, new)


@given(TEXTS, TEXTS)
def test_unchanged_lines_are_folded(old, new):
    """No more than three unchanged lines stand before or after a change, unless no more than three are to be folded."""
    signs = "".join(line.sign for line in diff_lines(old, new))

    assert " " * 10 not in signs
    assert not signs.startswith(" " * 7)
    assert not signs.endswith(" " * 7)


WORKLOAD = dedent(
    """\
    kind: StatefulSet
    metadata:
      name: a
    spec:
      replicas: 3
      template:
        spec:
          containers:
          - name: other
            image: x
          - name: ingest
            image: chronik/ingest:1
            args:
            - one
            env:
            - name: A
              value: "1"
            - name: B
              value: "2"
          volumes:
          - name: v
            emptyDir: {}
    """
)


@pytest.mark.parametrize(
    ("before", "after", "places"),
    [
        ("replicas: 3", "replicas: 4", [""]),
        ('value: "1"', 'value: "7"', ["spec.template.spec.containers[name=ingest].args"]),
        ('value: "2"', 'value: "7"', ["spec.template.spec.containers[name=ingest].env"]),
        ("name: v", "name: w", ["spec.template.spec.containers[name=ingest].env"]),
        ("kind: StatefulSet", "kind: Deployment", [""]),
    ],
)
def test_folds_say_where_the_diff_goes_on(before, after, places):
    """A fold names the keys that the next line stands below."""
    lines = diff_lines(WORKLOAD, WORKLOAD.replace(before, after))

    assert [line.text for line in lines if line.sign == "@"] == places


def test_context():
    """Three unchanged lines stand on both sides of a change, and a fold says how many more there are."""
    text = "".join(f"{number}\n" for number in range(20))

    assert [(line.sign, line.folded or line.text) for line in diff_lines(text, text.replace("10", "x"))] == [
        ("@", 7),
        *((" ", str(number)) for number in (7, 8, 9)),
        ("-", "10"),
        ("+", "x"),
        *((" ", str(number)) for number in (11, 12, 13)),
        ("@", 6),
    ]


def test_many_lines_alike():
    """Thousands of lines that are all alike take no minutes."""
    started = time.perf_counter()

    assert diff_lines("- name: x\n" * 2000, "- name: y\n- name: x\n" * 1000)
    assert time.perf_counter() - started < 20
