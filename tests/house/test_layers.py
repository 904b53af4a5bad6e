from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chronik"

LAYERS = (
    ("errors", "kubernetes_types", "manifest", "problem", "quantity", "clock", "times", "tasks", "wording"),
    ("api", "documents"),
    ("plan", "kube", "metastore"),
    ("status", "render"),
    ("rollout", "federation"),
    ("apply", "report", "offline", "backups"),
    ("operator", "probe"),
    ("cli", "testing"),
)
"""From the bottom up: a package imports from itself and from layers below. The first row is chronik's own modules."""
OUTSIDE = ("__init__", "__main__")
"""What stands outside of the layers: the version, which everybody may have, and where the command starts."""

PURE = {
    "errors",
    "kubernetes_types",
    "manifest",
    "problem",
    "quantity",
    "times",
    "wording",
    "api",
    "documents",
    "render",
    "plan",
    "status",
    "rollout",
    "federation",
    "report",
    "backups",
}
"""What may read no file, talk to nobody, look at no clock and print nothing."""

ONLY_IN = {
    "kubernetes": ("kube",),
    # Of the operator, telemetry serves, and membership and analysis ask nodes and a Prometheus, not the API server.
    "aiohttp": ("kube", "operator.telemetry", "operator.membership", "operator.analysis", "probe"),
    "aiokafka": ("probe",),
    "click": ("cli",),
    "rich": ("report", "cli"),
    "structlog": ("operator.telemetry",),
    "pytest": ("testing",),
    "syrupy": ("testing",),
    "prometheus_client": ("operator.telemetry", "probe"),
    "opentelemetry": ("operator.telemetry",),
    "obstore": ("metastore",),
    "cryptography": ("metastore",),
}
IO_LIBRARIES = {
    *("os", "sys", "io", "pathlib", "shutil", "tempfile", "glob", "fileinput"),
    *("time", "sched", "random", "secrets", "uuid", "platform", "locale", "getpass", "pwd"),
    *("socket", "ssl", "select", "selectors", "http", "urllib.request", "asyncio", "threading", "multiprocessing"),
    *("subprocess", "signal", "logging", "warnings", "atexit", "concurrent"),
}
IO_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
CLOCK_CALLS = {"now", "utcnow", "today"}
CORE_LIBRARIES = {"jinja2", "yaml", "jsonschema", "jsonpatch", "jsonpointer", "cel_expr_python", "rich", "cronsim"}
MOST_MODULES, MOST_ROOT_MODULES = 14, 12


class Import(NamedTuple):
    """One import of a module, wherever it stands, for type checking too; `name` is the whole dotted name."""

    name: str
    line: int


def modules() -> list[str]:
    """Return chronik's modules by their dotted names below `chronik`: `errors`, `plan.planner`, `kube.__init__`."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)
    return sorted(".".join(path.parts) for path in paths)


def package(module: str) -> str:
    """Return the package that a module is in, or itself if it is one of chronik's own modules."""
    return module.partition(".")[0]


def layer(module: str) -> int:
    """Return the number of a module's layer, from the bottom up."""
    return next(number for number, names in enumerate(LAYERS) if package(module) in names)


def inner() -> list[str]:
    """Return the modules that the layers are about."""
    return [module for module in modules() if module not in OUTSIDE]


def core() -> list[str]:
    """Return the modules that have to be pure."""
    return [module for module in inner() if package(module) in PURE]


@cache
def tree(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text("utf-8"))


def nodes(node: ast.AST, *, at_import: bool = False, running: bool = False) -> Iterator[ast.AST]:
    """Yield all nodes below a node; `running` leaves out what is for type checking only, `at_import` functions."""
    for child in ast.iter_child_nodes(node):
        if running and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from nodes(child, at_import=at_import, running=running)


@cache
def imports(module: str, **only: bool) -> tuple[Import, ...]:
    """Return what a module imports; of `from chronik.a import b` it is `chronik.a.b` if that is a module."""
    return tuple(_imports(module, **only))


def _imports(module: str, **only: bool) -> Iterator[Import]:
    for node in nodes(tree(module), **only):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: write the whole name of the module"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if _is_ours(whole) else str(node.module), node.lineno)


@cache
def _is_ours(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def ours(module: str, **only: bool) -> Iterator[Import]:
    """Yield those of chronik's modules and packages that a module imports, by their names below `chronik`."""
    for each in imports(module, **only):
        name = each.name.removeprefix("chronik.")
        if name != each.name:
            yield Import(name, each.line)


def is_listed(name: str, listed: set[str]) -> bool:
    """Say whether a library, or a package that it is in, is listed."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in listed for length in range(1, len(parts) + 1))


def test_every_module_has_a_layer():
    """Every package and every module of chronik's own stands in the table, once, and nothing else does."""
    named = [name for names in LAYERS for name in names]

    assert sorted(named) == sorted({package(module) for module in inner()})
    assert {name for name in PURE if name not in named} == set()


def test_packages_are_small():
    """A package has few modules, and chronik itself no more than a dozen files."""
    folders = [path for path in (PACKAGE, *PACKAGE.rglob("*")) if path.is_dir() and "_data" not in path.parts]
    counts = {
        folder.name: len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) for folder in folders
    }

    assert {name: count for name, count in counts.items() if count > MOST_MODULES} == {}
    assert counts["chronik"] <= MOST_ROOT_MODULES


@pytest.mark.parametrize("module", inner())
def test_imports_point_down(module):
    """A module imports from the layers below its own and from its own package, for type checking too."""
    allowed = {package(module), *(name for names in LAYERS[: layer(module)] for name in names)}
    beside = LAYERS[0] if package(module) in LAYERS[0] else ()  # chronik's own modules know each other

    wrong = [each for each in ours(module) if package(each.name) not in {*allowed, *beside, *OUTSIDE}]
    assert wrong == []


def test_no_import_cycles():
    """No module needs itself, by way of others, to be imported."""
    graph = {
        module: {_file_of(each.name) for each in ours(module, at_import=True, running=True)} for module in modules()
    }
    while graph:
        leaves = [module for module, needed in graph.items() if not needed & graph.keys() - {module}]
        assert leaves, f"these import each other: {graph}"
        for leaf in leaves:
            del graph[leaf]


def test_no_type_cycles_between_files():
    """No module needs itself, by way of others, to be understood: imports for type checking count."""
    graph = {module: {_file_of(each.name) for each in ours(module)} for module in modules()}
    while graph:
        leaves = [module for module, needed in graph.items() if not needed & graph.keys() - {module}]
        assert leaves, f"these import each other: {graph}"
        for leaf in leaves:
            del graph[leaf]


def _file_of(name: str) -> str:
    return f"{name}.__init__" if (PACKAGE / name.replace(".", "/")).is_dir() else name


@pytest.mark.parametrize("module", core())
def test_core_libraries(module):
    """A module of the core uses no library that does network, disk, clock, environment or printing."""
    foreign = [each for each in imports(module, running=True) if package(each.name) != "chronik"]

    assert [each for each in foreign if is_listed(each.name, IO_LIBRARIES)] == []
    assert [
        each
        for each in foreign
        if package(each.name) not in sys.stdlib_module_names and not is_listed(each.name, CORE_LIBRARIES)
    ] == []


@pytest.mark.parametrize("module", core())
def test_core_imports_only_the_core(module):
    """A module of the core imports no module of the shell."""
    assert [each for each in ours(module, running=True) if package(each.name) not in {*PURE, *OUTSIDE}] == []


@pytest.mark.parametrize("module", core())
def test_core_calls(module):
    """A module of the core opens and prints nothing, and never asks what time it is."""
    calls = [node for node in nodes(tree(module), running=True) if isinstance(node, ast.Call)]
    names = {(node.func.id, node.lineno) for node in calls if isinstance(node.func, ast.Name)}
    methods = {(node.func.attr, node.lineno) for node in calls if isinstance(node.func, ast.Attribute)}

    assert {(name, line) for name, line in names if name in IO_CALLS} == set()
    assert {(name, line) for name, line in methods if name in CLOCK_CALLS} == set()


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_in_their_place(library):
    """The Kubernetes client is used in kube, Click in cli, and nowhere else."""
    users = [module for module in modules() if any(is_listed(each.name, {library}) for each in imports(module))]
    places = ONLY_IN[library]

    assert [user for user in users if not any(user == place or user.startswith(f"{place}.") for place in places)] == []


REPORT_LOADED = """
import sys
from chronik.cli.main import run
code = run(sys.argv[1:])
print("loaded:", *sys.modules, file=sys.stderr)
sys.exit(code)
"""
SLOW = {"kubernetes", "aiohttp", "rich", "asyncio", "jsonschema", "ssl", "multiprocessing", "pytest", "http"}
OF_THE_OPERATOR = {"prometheus_client", "opentelemetry", "structlog", "aiokafka"}
SLOW |= OF_THE_OPERATOR
EXAMPLE = str(ROOT / "examples" / "production.yaml")


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--help"], {"jinja2", "yaml", "cel_expr_python"}),
        (["render", "--help"], {"jinja2", "yaml", "cel_expr_python"}),
        (["render", "-f", EXAMPLE], set()),
        (["validate", "-f", EXAMPLE], set()),
        (["validate", "-f", EXAMPLE, "-o", "json"], set()),
        (["diff", "--from", EXAMPLE, "-f", EXAMPLE, "-o", "json"], set()),
        (["schema", "crd"], {"jinja2"}),
    ],
)
def test_offline_commands_are_light(arguments, more):
    """Commands that need no cluster load no Kubernetes client, no event loop and nothing else that is slow to load."""
    command = [sys.executable, "-c", REPORT_LOADED, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert run.returncode == 0, run.stderr
    loaded = run.stderr.rpartition("loaded: ")[2].split()
    assert "chronik.cli.main" in loaded
    assert [name for name in loaded if name in SLOW | more] == []


def test_a_diff_of_documents_needs_no_cluster(tmp_path):
    """Two documents are compared without a look at any kubeconfig, and without the client, whatever is printed."""
    (tmp_path / "config").write_text("no kubeconfig")
    command = [sys.executable, "-c", REPORT_LOADED, "diff", "--from", EXAMPLE, "-f", EXAMPLE]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config")}
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)

    assert run.returncode == 0, run.stderr
    loaded = run.stderr.rpartition("loaded: ")[2].split()
    assert [name for name in loaded if name in SLOW - {"rich"}] == []


NOBODY_THERE = """
clusters: [{name: a, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: a, context: {cluster: a, user: a, namespace: ns}}]
users: [{name: a, user: {}}]
current-context: a
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["apply", "-f", EXAMPLE, "--wait"],
        ["diff", "-f", EXAMPLE],
        ["status", "-A"],
        ["delete", "c", "--yes"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_cluster_commands_load_nothing_of_the_operator(arguments, tmp_path):
    """Commands that talk to a cluster load none of the libraries that only the operator needs."""
    (tmp_path / "config").write_text(NOBODY_THERE)
    command = [sys.executable, "-c", REPORT_LOADED, *arguments, "--kubeconfig", str(tmp_path / "config")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert run.returncode == 3, run.stderr
    loaded = run.stderr.rpartition("loaded: ")[2].split()
    assert "aiohttp" in loaded
    assert [name for name in loaded if name in OF_THE_OPERATOR or name.startswith("chronik.operator")] == []
