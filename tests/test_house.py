from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "chronik").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
EXCEPTION = re.compile(r"# (?P<rules>noqa(: [\w, -]+)?|type: ignore(\[[\w, -]+\])?)(?P<reason>  # \S.*)?$")

functions = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


def name(path: Path) -> str:
    """Return a file's name from the top of the repository."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_say_why_they_exist(path):
    """Every module begins with a docstring."""
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_are_short(path):
    """No module is longer than one can read in a sitting."""
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short(path):
    """No function is longer than a screen."""
    found = [node for node in ast.walk(tree(path)) if isinstance(node, functions)]

    assert [node.name for node in found if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_public_names_are_documented(path):
    """Every public class, function and method has a docstring, unless it is one that Python or a base class names."""
    public = []
    for node in tree(path).body:
        if isinstance(node, (*functions, ast.ClassDef)) and not node.name.startswith("_"):
            public.append(node)
            if isinstance(node, ast.ClassDef) and not node.bases:
                public += [each for each in node.body if isinstance(each, functions) and not each.name.startswith("_")]

    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_say_what_they_state(path):
    """Every test has a docstring of one sentence that states a behaviour."""
    tests = [node for node in ast.walk(tree(path)) if isinstance(node, functions) and node.name.startswith("test_")]
    first_lines = {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in tests}

    assert [test for test, line in first_lines.items() if not line.endswith(".")] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, ROOT / "noxfile.py"], ids=name)
def test_exceptions_to_the_linters_have_reasons(path):
    """Every `noqa` and `type: ignore` says beside it why, or one for the same rule further up in the file does."""
    bare, explained = [], set()
    for line in path.read_text("utf-8").splitlines():
        found = EXCEPTION.search(line)
        if found and found["reason"]:
            explained.add(found["rules"])
        elif found and found["rules"] not in explained:
            bare.append(line.strip())

    assert bare == []
