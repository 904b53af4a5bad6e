from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "chronik"

# The shell: what may read files, talk to a cluster, look at the clock or print. A name covers `name_*` too.
# Everything else in the package is the pure core, new modules included.
SHELL = ("__main__", "assets", "caches", "inputs", "output", "offline", "testing", "snapshots", "cli", "kube", "apply")
SHELL += ("observe", "wait", "reconcile", "operator")

IO_LIBRARIES = {
    *("os", "sys", "io", "pathlib", "shutil", "tempfile", "glob", "fileinput"),
    *("time", "sched", "random", "secrets", "uuid", "platform", "locale", "getpass", "pwd"),
    *("socket", "ssl", "select", "selectors", "http", "urllib.request", "asyncio", "threading", "multiprocessing"),
    *("subprocess", "signal", "logging", "warnings", "atexit", "concurrent"),
}
IO_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
CLOCK_CALLS = {"now", "utcnow", "today"}
CORE_LIBRARIES = {"jinja2", "yaml", "jsonschema", "cel_expr_python"}
ONLY_IN = {"kubernetes": ("kube",), "aiohttp": ("kube", "operator"), "click": ("cli",), "pytest": ("testing",)}
ONLY_IN |= {"prometheus_client": ("operator",), "opentelemetry": ("operator",)}


@dataclass(frozen=True)
class Import:
    """One import of a module, wherever it stands, but not for type checking only."""

    module: str
    line: int


def modules() -> list[str]:
    """Return the names of chronik's modules."""
    return sorted(path.stem for path in PACKAGE.glob("*.py"))


def belongs(module: str, names: tuple[str, ...]) -> bool:
    """Say whether a module is one of the names, or a part of one: `kube_http` is a part of `kube`."""
    return any(module == name or module.startswith(f"{name}_") for name in names)


def core() -> list[str]:
    """Return the names of the modules that have to be pure."""
    return [module for module in modules() if not belongs(module, SHELL)]


@cache
def tree(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))


def running(node: ast.AST, *, at_import: bool = False) -> Iterator[ast.AST]:
    """Yield all nodes below a node but those that only a type checker sees; `at_import` leaves out functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from running(child, at_import=at_import)


def imports(module: str, *, at_import: bool = False) -> Iterator[Import]:
    """Yield what a module imports, at its top or inside a function; `from chronik import x` is `chronik.x`."""
    for node in running(tree(module), at_import=at_import):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "chronik":
            yield from (Import(f"chronik.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: write the whole name of the module"
            yield Import(str(node.module), node.lineno)


def ours(module: str, *, at_import: bool = False) -> Iterator[str]:
    """Yield the names of those of chronik's modules that a module imports."""
    for each in imports(module, at_import=at_import):
        name = each.module.removeprefix("chronik.")
        if name != each.module and (PACKAGE / f"{name}.py").exists():
            yield name


def is_listed(name: str, listed: set[str]) -> bool:
    """Say whether a library, or a package that it is in, is listed."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in listed for length in range(1, len(parts) + 1))


def test_the_core_is_there():
    """The modules that the design calls pure are, by the table above, in the core."""
    named = {
        "errors",
        "problem",
        "quantity",
        "scalars",
        "manifest",
        "skeleton",
        "filters",
        "binding",
        "emit",
        "components",
    }
    named |= {
        "render",
        "spec",
        "schema",
        "rules",
        "crd",
        "reference",
        "documents",
        "problem_report",
        "ownership",
        "status",
    }

    assert named <= set(core())
    assert {"kube", "cli", "caches", "inputs", "output", "assets"}.isdisjoint(core())


@pytest.mark.parametrize("module", core())
def test_core_imports_only_the_core(module):
    """A module of the core imports no module of the shell."""
    assert [name for name in ours(module) if name not in core()] == []


@pytest.mark.parametrize("module", core())
def test_core_libraries(module):
    """A module of the core uses no library that does network, disk, clock, environment or printing."""
    foreign = [each for each in imports(module) if not each.module.startswith("chronik")]
    reports = module == "report" or module.endswith("_report")
    allowed = CORE_LIBRARIES | ({"rich"} if reports else set())

    assert [each for each in foreign if is_listed(each.module, IO_LIBRARIES)] == []
    assert [
        each
        for each in foreign
        if each.module.split(".")[0] not in sys.stdlib_module_names and not is_listed(each.module, allowed)
    ] == []


@pytest.mark.parametrize("module", core())
def test_core_calls(module):
    """A module of the core opens and prints nothing, and never asks what time it is."""
    calls = [node for node in running(tree(module)) if isinstance(node, ast.Call)]
    names = {(node.func.id, node.lineno) for node in calls if isinstance(node.func, ast.Name)}
    methods = {(node.func.attr, node.lineno) for node in calls if isinstance(node.func, ast.Attribute)}

    assert {(name, line) for name, line in names if name in IO_CALLS} == set()
    assert {(name, line) for name, line in methods if name in CLOCK_CALLS} == set()


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_in_their_place(library):
    """The Kubernetes client is used in kube, Click in cli, and nowhere else."""
    users = [module for module in modules() if any(is_listed(each.module, {library}) for each in imports(module))]

    assert [module for module in users if not belongs(module, ONLY_IN[library])] == []


def test_no_import_cycles():
    """No module needs itself, by way of others, to be imported."""
    graph = {module: set(ours(module, at_import=True)) for module in modules()}
    while graph:
        leaves = [module for module, needed in graph.items() if not needed & graph.keys()]
        assert leaves, f"these import each other: {graph}"
        for leaf in leaves:
            del graph[leaf]


REPORT_LOADED = """
import sys
from chronik.cli.main import run
code = run(sys.argv[1:])
print("loaded:", *sys.modules, file=sys.stderr)
sys.exit(code)
"""
SLOW = {"kubernetes", "aiohttp", "rich", "asyncio", "jsonschema", "ssl", "multiprocessing", "pytest", "http"}
SLOW |= {"prometheus_client", "opentelemetry"}
EXAMPLE = str(ROOT / "examples" / "production.yaml")


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--help"], {"jinja2", "yaml", "cel_expr_python"}),
        (["render", "--help"], {"jinja2", "yaml", "cel_expr_python"}),
        (["render", "-f", EXAMPLE], set()),
        (["validate", "-f", EXAMPLE], set()),
        (["schema", "crd"], {"jinja2"}),
    ],
)
def test_offline_commands_are_light(arguments, more):
    """Commands that need no cluster load no Kubernetes client, no event loop and nothing else that is slow to load."""
    command = [sys.executable, "-c", REPORT_LOADED, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert run.returncode == 0, run.stderr
    loaded = run.stderr.rpartition("loaded: ")[2].split()
    assert "chronik.cli" in loaded
    assert [name for name in loaded if name in SLOW | more] == []
