"""What the documentation says of commands, metrics, conditions, errors and modules is what the code has."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from itertools import takewhile
from pathlib import Path

import click
import pytest
import yaml
from support import kubernetes_schemas

from chronik import errors
from chronik.cli.backup.restore import RestoreGroup
from chronik.cli.main import main
from chronik.errors import ChronikError
from chronik.metastore import errors as backup_errors
from chronik.offline import loading as offline
from chronik.operator.fence import NotLeading
from chronik.operator.telemetry.metrics import PHASES, Metrics
from chronik.quantity import parse_quantity

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
QUICKSTART = ROOT / "examples" / "quickstart"

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CALL = re.compile(r"(?:^|[\s(|&;])(?:[^\s(]*/)?chronik\s+([a-z].*)")
OTHERS_OPTIONS = {"--cascade", "--server-side", "--previous", "--build-arg"}  # kubectl's and docker's
OTHERS_OPTIONS |= {
    "--tb",
    "--full-trace",
    "--snapshot-update",
    "--snapshot-warn-unused",
    "--snapshot-details",
}  # pytest's

per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def text(page: Path) -> str:
    """Return a page."""
    return page.read_text("utf-8")


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", text(page))


def section(page: str, heading: str) -> str:
    """Return what stands below a heading of a page, up to the next heading of that level or a higher one."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", text(DOCS / page), re.DOTALL | re.MULTILINE
    )
    assert found, f"{page} has no section {heading}"
    return found[2]


def rows(markdown: str) -> list[list[str]]:
    """Return the cells of all tables, headings left out."""
    lines = [line.strip() for line in markdown.splitlines() if line.startswith("|")]
    rules = [set(line) <= set("|-") for line in lines]
    body = [line for line, rule, under in zip(lines, rules, [*rules[1:], False], strict=True) if not rule and not under]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body]


def names(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def first_names(markdown: str) -> set[str]:
    """Return what stands in backticks in the first column of tables."""
    return {name for row in rows(markdown) for name in names(row[0])}


def literals(module: str, function: str, position: int) -> set[str]:
    """Return the strings that a module passes to a function at that position."""
    tree = ast.parse((ROOT / "chronik" / f"{module}.py").read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    given = [call.args[position] for call in calls if call.func.id == function and len(call.args) > position]
    return {each.value for each in given if isinstance(each, ast.Constant)}


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@per_page
def test_links_resolve(page):
    """Every link within the repository leads to a file that exists, and to a heading that it has."""
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@per_page
def test_pages_can_be_reached(page):
    """The README leads to every page, by way of others or at once."""
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        each = todo.pop()
        if each in reached or each.suffix != ".md":
            continue
        reached.add(each)
        links = [link.partition("#")[0] for link in LINK.findall(prose(each)) if not link.startswith("http")]
        todo += [(each.parent / link).resolve() for link in links if link]

    assert page in reached


@per_page
def test_yaml_is_yaml(page):
    """Every YAML block of a page can be parsed; one that cannot raises."""
    for language, block in FENCE.findall(text(page)):
        if language == "yaml":
            list(yaml.safe_load_all(block))


def test_the_two_commands():
    """The README begins with the command that CI runs, and with one that renders an example."""
    first, second = [
        block.strip() for language, block in FENCE.findall(text(ROOT / "README.md")) if language == "bash"
    ][:2]

    assert first.endswith("&& .venv/bin/chronik render -f examples/production.yaml")
    assert second == (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]


# --- commands ---------------------------------------------------------------------------------------------------------


def command(name: str) -> click.Command:
    """Return a command of chronik's."""
    found = main.get_command(click.Context(main), name)
    assert found, f"there is no command {name}"
    return found


def options(of: click.Command) -> set[str]:
    """Return the options that a command takes."""
    below = of.commands.values() if isinstance(of, click.Group) else ()
    own = {"--help", "-h"} | {name for each in of.params for name in (*each.opts, *each.secondary_opts)}
    return own.union(*map(options, below))


def calls(page: Path) -> list[list[str]]:
    """Return the arguments of every call of chronik in a page: in its shell blocks, and in its text."""
    lines = [name for name in names(prose(page)) if name.startswith("chronik ")]
    for language, block in FENCE.findall(text(page)):
        shell = block.replace("\\\n", " ").splitlines()
        lines += [line for line in shell if language == "bash" or (language == "console" and line.startswith("$ "))]
    found = [argument for line in lines for argument in CALL.findall(line)]
    return [list(takewhile(lambda word: word not in {"|", "&&", ";", ">", "2>", "||"}, _words(each))) for each in found]


def _words(line: str) -> list[str]:
    return shlex.split(re.sub(r"([;|()])", r" \1 ", line), comments=True)


@per_page
def test_commands_exist(page):
    """Every call of chronik in a page is one of a command that exists, with options that it takes."""
    for name, *arguments in calls(page):
        called, words = command(name), arguments
        if isinstance(called, click.Group) and words:
            first, *words = called.whole(words) if isinstance(called, RestoreGroup) else words
            called = called.commands[first]
        given = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}

        assert given - options(called) == set(), f"{name} {' '.join(arguments)}"


@per_page
def test_options_exist(page):
    """Every option that the text of a page names is one of chronik's, or of a tool that is known."""
    known = OTHERS_OPTIONS.union(*(options(command(name)) for name in main.list_commands(click.Context(main))))
    named = {re.split(r"[ =]", name)[0] for name in names(prose(page)) if name.startswith("--")}

    assert page.name == "CONTRIBUTING.md" or named - known == set()


def test_readme_has_all_commands():
    """The README's table has every command and no other."""
    there = {
        name.removeprefix("chronik ") for name in first_names(text(ROOT / "README.md")) if name.startswith("chronik ")
    }

    assert there == set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("name", ["validate", "diff", "apply", "status", "delete"])
def test_readme_has_the_exit_codes(name):
    """The exit codes in the README's table are those that the command's own help lists."""
    (cell,) = [row[-1] for row in rows(text(ROOT / "README.md")) if row[0] == f"`chronik {name}`"]
    told = re.search(r"Exits with (.*)", " ".join((command(name).help or "").split()))
    assert told

    assert set(re.findall(r"\b\d\b", cell)) >= set(re.findall(r"\b\d\b", told[1]))


def test_exit_codes():
    """The table of exit codes has every code that an error ends in."""
    told = {row[0] for row in rows(section("cli.md", "Exit codes"))}

    assert {str(each.exit_code) for each in error_classes()} <= told


def test_readme_has_the_exit_codes_of_all_commands():
    """What any command can end with, the README says below its table."""
    codes = {each.exit_code for each in error_classes() if each.exit_code > backup_errors.BackupInterrupted.exit_code}

    assert codes
    assert all(re.search(rf"\b{code}\b", prose(ROOT / "README.md")) for code in codes)


# --- errors -----------------------------------------------------------------------------------------------------------


def error_classes() -> list[type[ChronikError]]:
    """Return every class of errors that names a reason of its own."""
    modules = (errors, backup_errors)
    there = [each for module in modules for each in vars(module).values()]
    found = dict.fromkeys(each for each in there if isinstance(each, type) and issubclass(each, ChronikError))
    return [each for each in (*found, NotLeading) if "reason" in vars(each) and each is not ChronikError]


def test_reasons():
    """The table of reasons has every reason, and no other."""
    assert first_names(section("troubleshooting.md", "Reasons")) == {each.reason for each in error_classes()}


def test_reasons_are_retried_as_told():
    """The table of reasons says truly how soon the operator tries again."""
    told = {name: row[-1] for row in rows(section("troubleshooting.md", "Reasons")) for name in names(row[0])}
    told.pop("ResourceConflict")  # the plan's, not an answer's: `verdict` decides

    assert told == {each.reason: each.retry_class for each in error_classes() if each.reason in told}


# --- the operator -----------------------------------------------------------------------------------------------------


def test_metrics():
    """The table of metrics has every metric of the operator's own, and no other."""
    families = [family for family in Metrics().registry.collect() if family.name.startswith("chronik_")]
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}

    assert first_names(section("operating.md", "Metrics")) == exposed


def test_phases():
    """The table of phases has every phase."""
    assert first_names(section("operating.md", "Phases")) == set(PHASES)


def test_conditions():
    """The table of conditions has every condition that status or verdict set, and no other."""
    components = {"ControllersReady", "IngestNodesReady", "SearchNodesReady", "NodesReady"}
    modules = ("status/compute", "status/assess", "status/own")
    set_somewhere = {name for module in modules for name in literals(module, "condition", 0)}

    set_somewhere |= literals("backups/cluster", "condition", 0) | literals("backups/recovery/tell", "condition", 0)
    set_somewhere |= literals("backups/archiving/slot", "condition", 0)
    set_somewhere |= literals("rollout/pending", "condition", 0)
    set_somewhere |= literals("rollout/analysis", "condition", 0)
    set_somewhere |= literals("operator/aliases/tend", "condition", 0)

    assert first_names(section("operating.md", "Conditions")) == components | set_somewhere


def test_events():
    """The table of Events has every reason that a verdict gives by name."""
    assert literals("status/events", "Announcement", 1) <= first_names(section("operating.md", "Events"))


def test_alerts():
    """The table of alerts has every alert, and no other."""
    file = yaml.safe_load((ROOT / "deploy" / "prometheusrule.yaml").read_text("utf-8"))
    there = {rule["alert"] for group in file["spec"]["groups"] for rule in group["rules"]}

    assert first_names(section("operating.md", "Alerts")) == there


def test_packages():
    """The page for contributors has a row for every package, and every module that it names is there."""
    page = text(ROOT / "docs" / "architecture.md")
    table = [row for row in rows(section("architecture.md", "Packages")) if row[0].isdigit()]
    named = {name.strip("/") for row in table for name in names(row[1])}
    packages = {str(path.parent.relative_to(ROOT / "chronik")) for path in (ROOT / "chronik").rglob("__init__.py")}
    files = {name for name in names(page) if re.fullmatch(r"[a-z_]+(/[a-z_]+)*\.py", name)}

    assert named == {package for package in packages if package != "."}
    assert {file for file in files if not any((ROOT / top / file).exists() for top in ("chronik", ""))} == set()
    for _, where, _, sought in table:
        folders = [ROOT / "chronik" / name for name in ("", *names(where))]
        modules = {name for part in sought.split(";") for name in names(part.rpartition(":")[2])}
        assert {name for name in modules if not any((folder / f"{name}.py").exists() for folder in folders)} == set()


# --- the quick start --------------------------------------------------------------------------------------------------


def quickstart() -> list[dict]:
    """Return the objects of the quick start that Kubernetes knows by itself."""
    files = [path for path in sorted(QUICKSTART.iterdir()) if path.name != "cluster.yaml"]
    return [each for path in files for each in yaml.safe_load_all(path.read_text("utf-8"))]


@pytest.mark.parametrize("manifest", quickstart(), ids=lambda manifest: manifest["kind"])
def test_quickstart_fits_kubernetes_schemas(manifest):
    """What the quick start brings beside the cluster passes the strict schema of its kind."""
    kubernetes_schemas.check(manifest)


def test_quickstart_belongs_together():
    """The cluster of the quick start finds its Secret and its PostgreSQL, in one namespace, and nobody warns of it."""
    (cluster,), problems = offline.load_clusters([str(QUICKSTART / "cluster.yaml")])
    there = {(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in quickstart()}
    connection = cluster.spec["metastore"]["connection"]

    assert not problems
    assert ("Secret", cluster.namespace, connection["credentialsSecret"]) in there
    assert ("Service", cluster.namespace, connection["host"]) in there


def test_quickstart_is_small():
    """All pods of the quick start together ask for less than a laptop's node has."""
    (cluster,), _ = offline.load_clusters([str(QUICKSTART / "cluster.yaml")])
    workloads = [
        each for each in (*offline.render_clusters([cluster]), *quickstart()) if "template" in each.get("spec", {})
    ]
    asked = {"cpu": 0, "memory": 0}
    for workload in workloads:
        for container in workload["spec"]["template"]["spec"]["containers"]:
            for resource in asked:
                amount = parse_quantity(container["resources"]["requests"][resource])
                asked[resource] += amount * workload["spec"].get("replicas", 1)

    assert asked["cpu"] <= parse_quantity("500m")
    assert asked["memory"] <= parse_quantity("1Gi")
