"""The report of a review: every changed line of every object, whatever is in it, and nothing that a terminal obeys."""

from __future__ import annotations

import re
from itertools import takewhile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.hostile import HOSTILE

from chronik.documents.writer import to_yaml
from chronik.manifest import ObjectRef
from chronik.plan.changes import Change
from chronik.report.page import visible
from chronik.report.review import ObjectReview, Review, as_text, visible_whole

REF = ObjectRef("StatefulSet", "ns", "events-ingest")
FOLD = re.compile(r"@ (\d+) unchanged lines?(, then in .*)?")

KEYS = st.sampled_from(["name", "image", "env", "spec", "a", "b", "yes", "1"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(HOSTILE[:150]), st.text(max_size=20))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=25
)
MANIFESTS = st.dictionaries(KEYS, VALUES, max_size=6)


def report(*objects, width=80, color=False):
    """Return the lines of a report."""
    return as_text(Review(objects, "snaps", "pytest --snapshot-update t.py"), width=width, color=color).splitlines()


def diff_of(lines, head="~ "):
    """Return sign and text of each line of the only diff in a report; unchanged lines may be empty, as is the last."""
    start = next(number for number, line in enumerate(lines) if line.startswith(head)) + 1
    shown = [line[4:] or "  " for line in takewhile(lambda line: not line or line.startswith("    "), lines[start:])]
    return [(line[0], line[2:]) for line in shown[:-1]]


def rebuilt(old, diff):
    """Return both texts as a printed diff has them, in lines; what it folded is taken from the old text."""
    before, after = [], []
    for sign, text in diff:
        if sign == "@":
            count = int(FOLD.fullmatch(f"@ {text}")[1])
            part = old[len(before) : len(before) + count]
            before += part
            after += part
        if sign in "- ":
            before.append(text)
        if sign in "+ ":
            after.append(text)
    return before, after


def spelled(text):
    """Return the lines of a manifest's YAML as a terminal may have them."""
    return [visible_whole(line) for line in text.split("\n")[:-1]]


def without_ends(lines):
    """Return lines without spaces at their ends, which are shown in one way where a line changes and not elsewhere."""
    return [re.sub(r"( |\\x20)+$", "", line) for line in lines]


@given(MANIFESTS, MANIFESTS, st.sampled_from([None, 40, 80]))
@example({"a": "x" * 5000 + "1"}, {"a": "x" * 5000 + "2"}, 80)
@example({"a": "x\u202ey"}, {"a": "x\u202dy"}, 80)
def test_report_is_true(old, new, width):
    """For any two manifests, the lines printed with + and - account for every line that differs, and for no other."""
    texts = to_yaml(old), to_yaml(new)
    lines = report(ObjectReview(REF, "changed", *texts), width=width)

    if texts[0] == texts[1]:
        assert not any(line.startswith("    ") for line in lines)
        return
    before, after = map(spelled, texts)
    found = rebuilt(before, diff_of(lines))
    assert tuple(map(without_ends, found)) == (without_ends(before), without_ends(after))
    assert before != after
    assert any(sign in "+-" for sign, _ in diff_of(lines))


@pytest.mark.parametrize("old", HOSTILE[::7])
@pytest.mark.parametrize("color", [False, True])
def test_nothing_hostile_reaches_a_terminal(old, color):
    """Whatever is in a snapshot, a report holds printable text and colours of its own."""
    lines = report(ObjectReview(REF, "changed", old, f"{old}x", notes=(old,)), color=color)

    assert all(re.sub(r"\x1b\[[\d;]*m", "", line).isprintable() for line in lines)


def test_ends_of_lines_are_seen():
    """Spaces at the end of a changed line, and a missing line break, are spelt out: both sides would look alike."""
    diff = diff_of(report(ObjectReview(REF, "changed", "a: b  \nc: d", "a: b\nc: d\n")))

    assert diff == [
        ("-", "a: b\\x20\\x20"),
        ("-", "c: d  (no line break at the end of the file)"),
        ("+", "a: b"),
        ("+", "c: d"),
    ]


def test_whole_report():
    """A report counts, names every object that differs, shows what changed in it, and says what to do."""
    restart = Change('spec.template.spec.containers[name="c"].image', "a", "b")
    lines = report(
        ObjectReview(ObjectRef("Service", "ns", "a"), "unchanged", "x", "x"),
        ObjectReview(REF, "changed", "image: a\n", "image: b\n", (restart,)),
        ObjectReview(ObjectRef("Deployment", "ns", "b"), "changed", "replicas: 1\n", "replicas: 2\n", (), ("note",)),
        ObjectReview(ObjectRef("Role", "ns", "c"), "new"),
        ObjectReview(ObjectRef("Role", "ns", "d"), "removed"),
    )

    assert lines == [
        "2 changed, 1 new, 1 removed, 1 unchanged, compared with the snapshots in snaps",
        "",
        "~ StatefulSet/ns/events-ingest",
        '    its pods restart: spec.containers[name="c"].image',
        "    - image: a",
        "    + image: b",
        "",
        "~ Deployment/ns/b",
        "    its pods do not restart",
        "    note",
        "    - replicas: 1",
        "    + replicas: 2",
        "",
        "+ Role/ns/c is new: no snapshot yet",
        "- Role/ns/d is no longer rendered",
        "",
        "The pods of 1 workload would restart.",
        "If all of this is as you want it, accept it with",
        "  pytest --snapshot-update t.py",
    ]


def test_headline_names_everything():
    """One line, for where there is no more room, has counts first and the names of all that differs."""
    objects = [ObjectReview(REF, "changed"), ObjectReview(ObjectRef("Role", "", "c"), "new")]

    assert Review(objects, "snaps").headline == "1 changed, 1 new: ~ StatefulSet/ns/events-ingest, + Role/c"


def test_colours():
    """Lines are coloured by their sign, if colours are wanted at all."""
    each = ObjectReview(REF, "changed", "b: 0\na: 1\n", "b: 0\na: 2\n", (Change("spec.template.spec.x", 1, 2),))

    assert "\x1b[31m    - a: 1\x1b[0m" in report(each, color=True)
    assert "      b: 0" in report(each, color=True)
    assert "\x1b[32m    + a: 2\x1b[0m" in report(each, color=True)
    assert "\x1b" not in "".join(report(each))


def test_long_lines_are_whole():
    """A line is spelt as everywhere else, and never cut."""
    text = f"{'x' * 1990}\x1b{'y' * 5000}"

    assert visible_whole(text) == f"{'x' * 1990}\\x1b{'y' * 5000}"
    assert len(visible(text)) < len(text)
