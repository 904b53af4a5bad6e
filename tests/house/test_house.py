from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "chronik").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
EXCEPTION = re.compile(r"# (?P<rules>noqa(: [\w, -]+)?|type: ignore(\[[\w, -]+\])?)(?P<reason>  # \S.*)?$")

PHRASES_OF_USE = (
    r"\b(asked|called|loaded|printed|used) by `|\bcalled by\b|\bonly caller\b"
    r"|\b(asks?|calls?|shares?|uses?) (it|this)\b"
)
VERBS_OF_USE = (
    "asks?|calls?|finds?|gives?|hands?|has|have|keeps?|loads?|makes?|opens?|parses?|prints?|puts?|reads?|runs?|sends?"
    "|shares?|takes?|tells?|uses?|words?"
)
FORMER_FAMILIES = r"(cli|document|kube|operator)_(\w+|\*)"
FORMER_NAMES = (
    r"(apply|reconcile|report)_(\w+|\*)|accounts|binding|cel_functions|clashes|cluster_parts|cluster_view|deletion_report"
    "|diff_report|emit|equality|explain|fieldpath|handover|immutable|inputs|owners|problem_report|pruning|recreation"
    "|refusals|retention|standing|status_data|status_outcomes|status_report|structure|verdict|violations|wait_first"
    "|wait_mirror"
)

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
def test_modules_do_not_say_who_uses_them(path):
    """A module's docstring leaves it to the imports to say which modules use it."""
    modules = "|".join(sorted({part for source in SOURCES for part in (source.stem, source.parent.name)}))
    use = rf"`({modules}|{FORMER_FAMILIES}|{FORMER_NAMES})`(,? (and )?`\w+`)* ({VERBS_OF_USE})\b"
    docstring = " ".join((ast.get_docstring(tree(path)) or "").split())

    assert [found[0] for found in re.finditer(f"{PHRASES_OF_USE}|{use}", docstring, re.IGNORECASE)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_do_not_speak_of_former_modules(path):
    """No module that was moved or renamed is spoken of by its old name."""
    docstring = ast.get_docstring(tree(path)) or ""
    found = list(re.finditer(rf"`({FORMER_FAMILIES}|{FORMER_NAMES})(\.\w+)*`", docstring))
    found += re.finditer(rf"`{FORMER_FAMILIES}(\.\w+)*`", path.read_text("utf-8"))

    assert [each[0] for each in found] == []


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


def test_files_that_run_first_exist():
    """Every file that the suite's workers are to begin with is there, and is named once."""
    assigned = {
        target.id: node.value
        for node in tree(ROOT / "tests/conftest.py").body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    listed = ast.literal_eval(assigned["LONGEST_FIRST"])

    assert [file for file in listed if not (ROOT / "tests" / file).is_file()] == []
    assert len(listed) == len(set(listed))
