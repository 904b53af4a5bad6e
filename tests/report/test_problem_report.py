from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import HOSTILE

from chronik.problem import Location, Problem
from chronik.report.page import cells, visible
from chronik.report.problems import problems_github, problems_json, problems_text

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
HERE = Location("examples/x.yaml", 12, 14, "    backend: s33")
WRONG = Problem(
    "error",
    "enum",
    ("spec", "storage", "backend"),
    'must be one of local, s3, gcs, azure, not "s33"',
    'Did you mean "s3"?',
    HERE,
)


def problem(text, column, **changes):
    """Return a problem at a column of a line."""
    location = Location(changes.pop("file", "x.yaml"), changes.pop("line", 7), column, text)
    return Problem(
        **{"severity": "error", "code": "c", "path": (), "message": "wrong", "location": location, **changes}
    )


def snippet(text, column, width=80):
    """Return the source line and the line of the caret of a report, without their margin."""
    lines = problems_text([problem(text, column)], width=width, color=False).splitlines()
    return lines[3].removeprefix("7 | "), lines[4].removeprefix("  | ")


def test_a_report():
    """A problem is one paragraph: what and where, the line with a mark below the value, and what to do."""
    assert problems_text([WRONG], width=80, color=False) == (
        'error: spec.storage.backend: must be one of local, s3, gcs, azure, not "s33"\n'
        "  --> examples/x.yaml:12:14\n"
        "   |\n"
        "12 |     backend: s33\n"
        "   |              ^^^\n"
        'help: Did you mean "s3"?\n'
        "\n"
        "1 error in 1 file\n"
    )


def test_a_narrow_report():
    """Long messages and hints are wrapped at words, below the words above them."""
    assert problems_text([WRONG], width=44, color=False).startswith(
        "error: spec.storage.backend: must be one of\n"
        '       local, s3, gcs, azure, not "s33"\n'
        "  --> examples/x.yaml:12:14\n"
    )


def test_a_report_in_a_file():
    """Where there is no terminal no message is wrapped, and of a long source line as much is shown as people read."""
    long = problem("x" * 500, 251, message="m " * 300, hint="h " * 300)
    lines = problems_text([long], width=None, color=False).splitlines()

    assert lines[0] == f"error: {'m ' * 300}".rstrip()
    assert lines[5] == f"help: {'h ' * 300}".rstrip()
    assert lines[3].startswith("7 | …xxx")
    assert len(lines[3]) == 120


def test_no_problems():
    """Nothing is said about nothing."""
    assert problems_text([], width=80, color=True) == problems_github([]) == ""
    assert json.loads(problems_json([])) == []


def test_colour():
    """Colour marks what a report says, and takes nothing away from it; errors and warnings differ."""
    problems = [WRONG, problem("a: b", 1, severity="warning")]

    coloured = problems_text(problems, width=80, color=True)

    assert ESCAPE.sub("", coloured) == problems_text(problems, width=80, color=False)
    assert "\x1b[1;31merror:\x1b[0m" in coloured
    assert "\x1b[1;33mwarning:\x1b[0m" in coloured
    assert coloured.count("\x1b[0m") * 2 == coloured.count("\x1b[")


@pytest.mark.parametrize(
    ("severities", "files", "summary"),
    [
        (["error"], ["a"], "1 error in 1 file"),
        (["error", "error", "warning"], ["a", "a", "b"], "2 errors, 1 warning in 2 files"),
        (["warning", "warning"], ["a", "b"], "2 warnings in 2 files"),
    ],
)
def test_summary(severities, files, summary):
    """The last line counts errors, warnings and files."""
    problems = [problem("x", 1, severity=severity, file=file) for severity, file in zip(severities, files, strict=True)]

    assert problems_text(problems, width=80, color=False).splitlines()[-1] == summary


def test_order():
    """Files keep their order, and inside a file the problems run from top to bottom; what has no place comes first."""
    problems = [
        problem("", 2, file="b", line=9, message="4"),
        problem("", 1, file="a", line=1, message="5"),
        problem("", 2, file="b", line=2, message="3"),
        problem("", 1, file="b", line=2, message="2"),
        problem("", 1, message="1", location=None),
    ]

    assert [each["message"] for each in json.loads(problems_json(problems))] == ["1", "2", "3", "4", "5"]


def test_without_a_place():
    """A problem of no file says what is wrong and what to do."""
    text = problems_text([problem("", 1, location=None, hint="Do this.")], width=80, color=False)

    assert text == "error: wrong\nhelp: Do this.\n\n1 error\n"


def test_standard_input():
    """Standard input has a name for people, and is no file to GitHub."""
    problems = [problem("a: b", 4, file="<stdin>")]

    assert " --> <stdin>:7:4\n" in problems_text(problems, width=80, color=False)
    assert problems_github(problems) == "::error title=c::standard input, line 7: wrong\n"
    assert json.loads(problems_json(problems))[0]["file"] == "-"


def test_a_whole_file():
    """A problem of a file as a whole names the file, without a line; one of no file has none."""
    of_file = problem("", 1, location=None, subject="./a.yaml")
    of_none = problem("", 1, location=None)

    assert problems_github([of_file, of_none]) == "::error file=a.yaml,title=c::wrong\n::error title=c::wrong\n"
    assert [each["file"] for each in json.loads(problems_json([of_file, of_none]))] == ["./a.yaml", None]


def test_a_whole_standard_input():
    """A problem of all that came in on standard input says so where no file can be named."""
    whole = problem("", 1, location=None, subject="<stdin>")

    assert problems_github([whole]) == "::error title=c::standard input: wrong\n"
    assert json.loads(problems_json([whole]))[0]["file"] == "-"


@pytest.mark.parametrize(
    ("text", "column", "source", "mark"),
    [
        ("a: b", 1, "a: b", "^"),
        ("key: value # note", 6, "key: value # note", "     ^^^^^"),
        ("key: 'a b' # note", 6, "key: 'a b' # note", "     ^^^^^"),
        ('key: "a \\" b", x', 6, 'key: "a \\" b", x', "     ^^^^^^^^"),
        ("image: registry:5000/a/b:1.2", 8, "image: registry:5000/a/b:1.2", "       ^^^^^^^^^^^^^^^^^^^^^"),
        ("{a: [1, 22], b: 3}", 9, "{a: [1, 22], b: 3}", "        ^^"),
        ("{a: [1, 22], b: 3}", 5, "{a: [1, 22], b: 3}", "    ^"),
        ("a:", 3, "a:", "  ^"),
        ("\ta:\tb", 5, "    a:    b", "          ^"),
        ("\tb", 1, "    b", "^^^^"),
        ("名前: 値値 # x", 5, "名前: 値値 # x", "      ^^^^"),
        ("e\u0301: x", 5, "e\u0301: x", "   ^"),
        ("❤\ufe0f: x", 5, "❤\ufe0f: x", "    ^"),
        ("👍🏽: x", 5, "👍🏽: x", "    ^"),
        ("x: ⚠\ufe0f", 4, "x: ⚠\ufe0f", "   ^^"),
        ("👩\u200d🚀: x", 6, "👩\\u200d🚀: x", "            ^"),
        ("\u202ea: \x1b[1mb", 5, "\\u202ea: \\x1b[1mb", "         ^^^^"),
        ("caf\udce9: x", 4, "caf\\xe9: x", "   ^^^^"),
        ("a\xa0b", 2, "a\\xa0b", " ^^^^"),
    ],
)
def test_marks(text, column, source, mark):
    """The mark stands below the value, however many columns the characters before it take."""
    assert snippet(text, column) == (source, mark)


@pytest.mark.parametrize("column", [1, 2, 39, 40, 41, 500, 960, 999, 1000])
@pytest.mark.parametrize("width", [40, 60, 140])
@pytest.mark.parametrize("letter", ["x", "値", "\t", "\x1b", "e\u0301", "❤\ufe0f"])
def test_windows(letter, width, column):
    """Of a long line the part around the mark is shown, as wide as fits, and an ellipsis where it is cut."""
    left, right = letter * (column - 1), f"{letter * (1000 - column)}."

    source, mark = snippet(f"{left}Q{right}", len(left) + 1, width)

    shown_left, shown_right = source.split("Q")
    assert (cells(shown_left), max(cells(source), cells(mark)) <= width - 4) == (mark.index("^"), True)
    assert shown_left.startswith("…") is (cells(shown_left) < columns(left))
    assert shown_right.endswith("…") is (cells(shown_right) < columns(right))
    assert cells(source) > width - 6 - 3 * columns(letter)
    assert not unicodedata.combining(f"{shown_left.lstrip('…')}Q"[0])


def columns(text):
    """Return how wide a text is once it is spelled out, with tabs four columns wide."""
    return cells(visible(text.replace("\t", "    ")))


def test_line_of_ten_megabytes():
    """A line of any length costs no more than its window."""
    source, mark = snippet("x" * 10_000_000, 5_000_000)

    assert source == f"…{'x' * 74}…"
    assert set(mark) == {" ", "^"}


def test_as_json():
    """JSON has the same eight keys for every problem, with the path as Kubernetes writes it."""
    assert json.loads(problems_json([WRONG, problem("", 1, location=None, path=("a", 0, "b/c"))])) == [
        {
            "file": None,
            "line": None,
            "column": None,
            "path": "a[0][b/c]",
            "severity": "error",
            "code": "c",
            "message": "wrong",
            "hint": "",
        },
        {
            "file": "examples/x.yaml",
            "line": 12,
            "column": 14,
            "path": "spec.storage.backend",
            "severity": "error",
            "code": "enum",
            "message": 'must be one of local, s3, gcs, azure, not "s33"',
            "hint": 'Did you mean "s3"?',
        },
    ]


def test_as_github():
    """An annotation is one line, with what has a meaning to GitHub escaped."""
    found = problem(
        "",
        3,
        file="./a,b:c%.yaml",
        path=("spec", "x"),
        message="100% wrong: a,\nb",
        hint="Do: this.",
        severity="warning",
    )

    assert problems_github([found, WRONG]) == (
        "::warning file=a%2Cb%3Ac%25.yaml,line=7,col=3,title=spec.x::spec.x: 100%25 wrong: a,\\nb%0ADo: this.\n"
        "::error file=examples/x.yaml,line=12,col=14,title=spec.storage.backend::spec.storage.backend: must be one of "
        'local, s3, gcs, azure, not "s33"%0ADid you mean "s3"?\n'
    )


texts = st.text() | st.sampled_from(HOSTILE) | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Mn"]))
places = st.builds(
    Location, texts, st.integers(1, 10**6), st.integers(1, 300), texts.map(lambda text: text.replace("\n", ""))
)
problems = st.builds(
    Problem,
    st.sampled_from(["error", "warning"]),
    texts,
    st.tuples(texts, st.integers(0, 9)),
    texts,
    texts,
    st.none() | places,
)


@given(found=st.lists(problems, min_size=1, max_size=3), width=st.integers(0, 200), color=st.booleans())
def test_nothing_hostile_reaches_the_terminal(found, width, color):
    """Whatever a document says, a report is printable text and our own colours, and can be written as UTF-8."""
    for text in (
        ESCAPE.sub("", problems_text(found, width=width, color=color)),
        problems_json(found),
        problems_github(found),
    ):
        assert text.replace("\n", "").isprintable()
        assert text.encode()


@given(found=st.lists(problems, min_size=1, max_size=3))
def test_as_many_annotations_as_problems(found):
    """No text in a problem adds a workflow command or takes one away."""
    lines = problems_github(found).splitlines()

    assert len(lines) == len(found)
    assert all(re.match(r"::(error|warning) [^\n]*::", line) for line in lines)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("漢字", 4),
        ("ｱＡ", 3),
        ("e\u0301", 1),
        ("\u1112\u1161\u11ab", 2),
        ("😀", 2),
        ("❤", 1),
        ("❤\ufe0f", 2),
        ("⚠\ufe0f 1\ufe0f\u20e3", 5),
        ("🇩🇪", 2),
        ("👍🏽", 2),
        ("👩\u200d🚀", 2),
        ("⚊🫩", 4),
    ],
)
def test_cells(text, columns):
    """A text is as wide as a terminal shows it: marks take nothing, wide letters and all sorts of emoji two columns."""
    assert cells(text) == columns


def test_import_is_light():
    """A report needs none of the large libraries."""
    code = "import sys, chronik.report.problems as _; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {"rich", "yaml", "jsonschema", "jinja2", "kubernetes", "click"}.isdisjoint(loaded)
