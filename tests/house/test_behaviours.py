from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "behaviours.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| ([SB]\d+) \| (.*) \|$", PAGE, re.MULTILINE))
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


@cache
def names_in(file: str) -> set[str]:
    """Return the names of the tests in a file."""
    (path,) = TESTS.rglob(file)  # the name of a test file stands for one file only
    found = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_nothing_is_left_out():
    """Every statement and every behaviour has a row, and only one."""
    expected = [*(f"S{number}" for number in range(1, 63)), *(f"B{number}" for number in range(1, 33))]

    assert list(ROWS) == expected
    assert len(re.findall(r"^\| [SB]\d+ \|", PAGE, re.MULTILINE)) == len(expected)


@pytest.mark.parametrize("row", ROWS)
def test_named_tests_exist(row):
    """Whatever a row names as its proof is a test, and it names at least one."""
    named = NAMED.findall(ROWS[row])

    assert named
    assert [(file, test) for file, test in named if test not in names_in(file)] == []
