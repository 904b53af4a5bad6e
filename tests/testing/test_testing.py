"""The pytest plugin as its users meet it: each test runs pytest in a project of its own."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import syrupy
import yaml
from click.testing import CliRunner
from syrupy.extensions.base import SnapshotCollectionStorage

from chronik.cli import main as cli

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests/render/__snapshots__/test_examples/test_example-production/streaming"
STATEFULSET = yaml.safe_load((EXAMPLE / "statefulset-production-ingest.yaml").read_text())
CONFTEST = """
import json, pathlib, pytest

@pytest.fixture
def objects():
    return json.loads(pathlib.Path(__file__).with_name("objects.json").read_text())
"""
TEST = """
def test_cluster(objects, assert_manifests):
    assert_manifests(objects)
"""


def manifest(kind, name, namespace="ns", **fields):
    """Return a small manifest."""
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


CONFIG, SERVICE, ROLE = (
    manifest("ConfigMap", "a", data={"k": "1"}),
    manifest("Service", "b"),
    manifest("ClusterRole", "c", ""),
)


_first_snapshots: dict[str, str] = {}  # the same in each test: a run of pytest is made for them once


class Project:
    """A folder with a test of manifests, in which pytest runs."""

    def __init__(self, pytester):
        self.path = pytester.path
        self._pytester = pytester
        pytester.makeconftest(CONFTEST)
        self.test()
        self.objects(CONFIG, SERVICE)

    def test(self, text=TEST, name="test_it"):
        """Write a module of tests."""
        (self.path / f"{name}.py").write_text(text)

    def objects(self, *manifests):
        """Say what is rendered."""
        (self.path / "objects.json").write_text(json.dumps(manifests))

    def run(self, *options):
        """Run pytest, and return the exit code and all that it writes."""
        without = [f"-pno:{name}" for name in ("cacheprovider", "asyncio", "hypothesispytest", "kmock")]
        result = self._pytester.runpytest_inprocess(*without, *options)
        return int(result.ret), "\n".join([*result.outlines, *result.errlines])

    def files(self):
        """Return all snapshots, by their paths below the folder of snapshots."""
        root = self.path / "__snapshots__"
        return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def project(pytester, monkeypatch):
    """Return a project whose two objects have snapshots."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)  # the inner run is no part of the outer one
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of tests that are written twice in a second, one size each
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # nor do workers
    monkeypatch.setattr(syrupy, "_syrupy", syrupy._syrupy)  # which an inner run replaces
    monkeypatch.setattr(SnapshotCollectionStorage, "snapshot_dirname", SnapshotCollectionStorage.snapshot_dirname)
    made = Project(pytester)
    if not _first_snapshots:
        assert made.run("--snapshot-update")[0] == 0
        _first_snapshots.update(made.files())
    for name, text in _first_snapshots.items():
        path = made.path / "__snapshots__" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return made


def report(output, test="test_cluster"):
    """Return the report of a failed test."""
    pattern = rf"^_+ {re.escape(test)} _+$\n(?:\[gw\d\][^\n]*\n)?(.*?)(?=^[-=_]{{5,}})"
    [found] = re.findall(pattern, output, re.MULTILINE | re.DOTALL)
    return found


# --- the report -------------------------------------------------------------------------------------------------------


def test_names_of_files(project):
    """There is a file for each object, called by its test, namespace, kind and name."""
    assert project.files() == {
        "test_it/test_cluster/ns/configmap-a.yaml": (
            'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  namespace: ns\ndata:\n  k: "1"\n'
        ),
        "test_it/test_cluster/ns/service-b.yaml": (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: b\n  namespace: ns\n"
        ),
    }


def test_what_is_as_it_was(project):
    """A run without a difference passes, and says no more than how many snapshots there were."""
    code, output = project.run()

    assert code == 0
    assert "2 snapshots passed." in output
    assert "manifest snapshots" not in output


def test_everything_that_differs(project):
    """One report has every object that changed, came or went, and the command that accepts it all."""
    project.objects(manifest("ConfigMap", "a", data={"k": "2"}), ROLE)

    code, output = project.run()

    assert code == 1
    assert report(output).splitlines() == [
        "1 changed, 1 new, 1 removed, compared with the snapshots in",
        "  __snapshots__/test_it/test_cluster",
        "",
        "~ ConfigMap/ns/a",
        "      apiVersion: v1",
        "      kind: ConfigMap",
        "      metadata:",
        "        name: a",
        "        namespace: ns",
        "      data:",
        '    -   k: "1"',
        '    +   k: "2"',
        "",
        "+ ClusterRole/c is new: no snapshot yet",
        "- Service/ns/b is no longer rendered",
        "",
        "If all of this is as you want it, accept it with",
        "  pytest --snapshot-update test_it.py::test_cluster",
    ]
    assert "FAILED test_it.py::test_cluster - 1 changed, 1 new, 1 removed: ~ ConfigMap/" in output


@pytest.fixture
def hostile_change(project):
    """Return the project after a change in three places of a long StatefulSet, one of them `hostPID: true`."""
    project.objects(STATEFULSET, CONFIG)
    assert project.run("--snapshot-update")[0] == 0
    text = yaml.safe_dump(STATEFULSET, sort_keys=False)
    for old, new in (
        ("  updateStrategy:", "  minReadySeconds: 5\n  updateStrategy:"),
        ("      dnsPolicy:", "      hostPID: true\n      dnsPolicy:"),
        ("path: /readyz", "path: /ready"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    project.objects(yaml.safe_load(text), manifest("ConfigMap", "a", data={"k": "2"}))
    return project


def test_three_places_of_a_long_object(hostile_change):
    """A change between two harmless ones is shown like them, and so is one of another object."""
    _, output = hostile_change.run()

    signed = [line.strip() for line in report(output).splitlines() if re.match(r"    [-+] ", line)]
    assert sorted(signed) == sorted(
        [
            "+   minReadySeconds: 5",
            "+       hostPID: true",
            "-             path: /readyz",
            "+             path: /ready",
            '-   k: "1"',
            '+   k: "2"',
        ]
    )
    assert "its pods restart: spec.hostPID,\n" in output
    assert '    spec.containers[name="ingest"].readinessProbe.httpGet.path\n' in output
    assert max(map(len, report(output).splitlines())) <= 80


OPTIONS = [
    *(
        ["-q"],
        ["-v"],
        ["-vv"],
        ["-p", "no:assertion"],
        ["-n", "2"],
        pytest.param(["-n", "2", "-vv"], marks=pytest.mark.slow),
    ),
    *(["--tb=short"], ["--tb=long"], ["--tb=auto"], ["--showlocals"], ["-s"]),
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_the_same_report_with_any_options(hostile_change, options):
    """No option of verbosity, no worker and no other style of tracebacks shortens a report."""
    _, plain = hostile_change.run()
    _, output = hostile_change.run(*options)

    assert report(output) == report(plain)


@pytest.mark.parametrize("option", ["--tb=line", "--tb=no"])
def test_short_styles_name_what_differs(hostile_change, option):
    """Where pytest shows one line of a failure, it is that of the test, with counts and names."""
    _, output = hostile_change.run(option)

    line = f"{hostile_change.path / 'test_it.py'}:3: 2 changed: ~ StatefulSet/streaming/production-ingest, ~ ConfigMap/"
    assert (line in output) is (option == "--tb=line")
    assert "FAILED test_it.py::test_cluster - 2 changed: ~ StatefulSet/" in output


@pytest.mark.parametrize("option", ["--full-trace", "--tb=native"])
def test_traceback_on_request(hostile_change, option):
    """Options that ask for a traceback get one, with the report in it."""
    _, output = hostile_change.run(option)

    assert "raise ManifestsDiffer(review)" in output
    assert "hostPID: true" in output


@pytest.mark.parametrize(
    ("options", "coloured"), [([], False), (["--color=yes"], True), (["-n2", "--color=yes"], True)]
)
def test_colours_are_those_of_pytest(hostile_change, options, coloured):
    """A report is coloured if pytest colours its own, also where a worker makes it."""
    _, output = hostile_change.run(*options)

    assert ("\x1b[32m    +       hostPID: true\x1b[0m" in output) is coloured
    assert ("\x1b[" in output) is coloured


def test_report_is_an_assertion_error(project):
    """A test can catch the failure as what a failed assertion is, and has the report as its text."""
    project.objects(ROLE)
    project.test(
        "import pytest\n"
        "def test_cluster(objects, assert_manifests):\n"
        "    with pytest.raises(AssertionError, match='(?s)1 new, 2 removed.*Role/c is new.*b is no longer'):\n"
        "        assert_manifests(objects)\n"
    )

    assert "1 passed" in project.run()[1]


def test_secrets(project):
    """Values of a Secret are no part of a report, and still one sees which have changed."""
    project.objects(manifest("Secret", "s", stringData={"a": "hunter2", "b": "same"}))
    project.run("--snapshot-update")
    project.objects(manifest("Secret", "s", stringData={"a": "hunter3", "b": "same"}))

    _, output = project.run()

    assert "    -   a: '*** (before)'\n    +   a: '*** (after)'\n        b: '***'" in output
    assert "hunter" not in output


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("<<<<<<< HEAD\n", "The snapshot cannot be read as a manifest, so nobody can tell what becomes of pods."),
        (b"\xff\xfe\xff", "The snapshot cannot be read as a manifest"),
        ("kind: {a: [\n", "The snapshot cannot be read as a manifest"),
        ("", "The snapshot cannot be read as a manifest"),
    ],
)
def test_broken_snapshots(project, content, told):
    """A snapshot that is no manifest is a difference, and never an error of its own."""
    file = project.path / "__snapshots__/test_it/test_cluster/ns/configmap-a.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())

    code, output = project.run()

    assert code == 1
    assert told in " ".join(report(output).split())
    assert project.run("--snapshot-update")[0] == project.run()[0] == 0


def test_another_spelling(project):
    """A snapshot of the same data in another spelling is told as that."""
    file = project.path / "__snapshots__/test_it/test_cluster/ns/configmap-a.yaml"
    file.write_text(file.read_text().replace('"1"', "'1'"))

    _, output = project.run()

    assert "    Only the spelling differs: the snapshot was not written by chronik.\n" in output
    assert "    -   k: '1'\n    +   k: \"1\"\n" in output


def test_picture_of_the_guide(project):
    """The failing run in docs/reviews.md is one that its reader would see."""
    path = project.path
    for folder in ("clusters", "my-templates/parts", "tests"):
        (path / folder).mkdir(parents=True)
    cluster = (ROOT / "examples/standard.yaml").read_text()
    cluster = cluster.replace("name: standard", "name: events").replace("namespace: default", "namespace: demo")
    template = (ROOT / "templates/parts/pod-template.yaml.j2").read_text()
    (path / "clusters/events.yaml").write_text(cluster)
    (path / "my-templates/parts/pod-template.yaml.j2").write_text(template)
    [test] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/reviews.md").read_text(), re.DOTALL)
    project.test(test, "tests/test_clusters")
    assert project.run("--snapshot-update", "tests/test_clusters.py")[0] == 0

    before, _, _ = cluster.replace("ingest:1.4.2", "ingest:1.4.3").partition("  podDisruptionBudget")
    (path / "clusters/events.yaml").write_text(
        before + "  autoscaling:\n    searchNodes: {minReplicas: 2, maxReplicas: 6}\n"
    )
    line = "  enableServiceLinks: false\n"
    added = '{% if component.name == "ingest" %}\n  hostPID: true\n{% endif %}\n'
    (path / "my-templates/parts/pod-template.yaml.j2").write_text(template.replace(line, line + added))
    _, output = project.run("tests/test_clusters.py")

    [picture] = re.findall(r"```text\n(=+ FAILURES.*?)=+ 1 failed", (ROOT / "docs/reviews.md").read_text(), re.DOTALL)
    assert picture in output + "\n"


# --- several clusters, calls and parameters ---------------------------------------------------------------------------


def test_same_names_in_two_namespaces(project):
    """Objects that differ in their namespace alone have snapshots of their own."""
    project.objects(manifest("Service", "b", "one"), manifest("Service", "b", "two"), ROLE)
    assert project.run("--snapshot-update")[0] == project.run()[0] == 0

    assert set(project.files()) == {
        "test_it/test_cluster/_cluster/clusterrole-c.yaml",
        "test_it/test_cluster/one/service-b.yaml",
        "test_it/test_cluster/two/service-b.yaml",
    }


def test_two_that_are_one(project):
    """Two manifests of one object that differ are an error that names it, and no traceback; equal ones are one."""
    project.objects(CONFIG, CONFIG, SERVICE)
    assert project.run()[0] == 0

    project.objects(CONFIG, manifest("ConfigMap", "a", data={}))
    code, output = project.run()

    assert code == 1
    assert report(output).startswith("error: ConfigMap/ns/a: there are two of this object, and they differ\n")


TWICE = """
def test_cluster(objects, assert_manifests):
    assert_manifests(objects)
    assert_manifests([{**each, "x": 1} for each in objects])
"""


def test_two_calls(project):
    """Each call of a test has snapshots of its own, and reports of its own."""
    project.test(TWICE)
    assert project.run("--snapshot-update")[0] == project.run()[0] == 0
    assert "test_it/test_cluster+2/ns/service-b.yaml" in project.files()

    project.test(TWICE.replace('"x": 1', '"x": 2'))
    _, output = project.run()

    assert "2 changed, compared with the snapshots in __snapshots__/test_it/test_cluster+2\n" in output


def test_fewer_calls(project):
    """What a call has left that is no longer made is named, has the run fail, and goes with an update."""
    project.test(TWICE)
    project.run("--snapshot-update")
    project.test()

    code, output = project.run()

    assert code == 1
    assert "2 snapshots of no test or object any more:\n  __snapshots__/test_it/test_cluster+2/ns/  (2 files)" in output
    assert project.run("--snapshot-update")[0] == project.run()[0] == 0
    assert not (project.path / "__snapshots__/test_it/test_cluster+2").exists()


PARAMETERS = [
    "eu",
    "1.4.2",
    "a b",
    "a/b",
    "a[b]",
    "$HOME",
    "*",
    "~",
    "ü",
    "'\"",
    "-x",
    "a::b",
    "..",
    "x" * 300,
    "",
    "a\\b",
]


def test_parameters(project):
    """Whatever a parameter is, names of files are such that no shell takes them for something else."""
    project.objects(CONFIG)
    project.test(
        "import pytest\n"
        f"@pytest.mark.parametrize('p', {PARAMETERS!r}, ids={[*PARAMETERS[:-2], 'y', 'z']!r})\n"
        "class TestAll:\n"
        "    def test_one(self, p, objects, assert_manifests):\n"
        "        assert_manifests(objects)\n"
    )
    code, output = project.run("--snapshot-update")
    assert code == 0, output
    assert project.run()[0] == 0
    names = project.files()
    assert len(names) == len(PARAMETERS)
    assert all(re.fullmatch(r"[A-Za-z0-9_.,=@/-]+", name) and len(name) < 200 for name in names)
    assert {
        "test_it/TestAll.test_one-eu/ns/configmap-a.yaml",
        "test_it/TestAll.test_one-1.4.2/ns/configmap-a.yaml",
    } <= set(names)


# --- what cannot be rendered ------------------------------------------------------------------------------------------

RENDER = """
def test_cluster(render_cluster, assert_manifests):
    assert_manifests(render_cluster("cluster.yaml"{}))
"""
CLUSTER = (ROOT / "examples" / "minimal.yaml").read_text()


def said(project, *arguments, monkeypatch):
    """Return what a command of chronik writes to stderr in the project."""
    monkeypatch.chdir(project.path)
    result = CliRunner().invoke(_Run(), list(arguments))
    return result.stderr


class _Run(cli.click.Command):
    """`chronik`, from its arguments to the text of its errors."""

    def __init__(self):
        super().__init__("chronik")

    def main(self, args, **_):
        return cli.run(args)


@pytest.mark.parametrize(
    ("cluster", "templates"),
    [
        (CLUSTER.replace("spec:", "spec:\n  ingst: {}"), {}),
        (CLUSTER + "\n  x: [\n", {}),
        (CLUSTER, {"service.yaml.j2": "metadata: {{ nme }}\n"}),
        (CLUSTER, {"servce.yaml.j2": "a: b\n"}),
        (None, {}),
    ],
    ids=["invalid", "no YAML", "broken template", "unknown template", "no file"],
)
def test_what_render_says(project, monkeypatch, cluster, templates):
    """What cannot be rendered is told as `chronik render` tells it: with the excerpt, and without a traceback."""
    if cluster is not None:
        (project.path / "cluster.yaml").write_text(cluster)
    options = ["render", "-f", "cluster.yaml"]
    if templates:
        (project.path / "my").mkdir()
        options += ["--templates", "my"]
    for name, text in templates.items():
        (project.path / "my" / name).write_text(text)
    project.test(RENDER.format(", templates='my'" if templates else ""))

    code, output = project.run()
    expected = said(project, *options, monkeypatch=monkeypatch)

    assert code == 1
    assert expected.startswith("error: ")
    assert report(output) == expected.rstrip("\n") + "\n"
    first = expected.partition("\n")[0]
    assert f"FAILED test_it.py::test_cluster - {first}"[:60] in output
    assert "Traceback" not in output
    assert set(project.files()) >= {"test_it/test_cluster/ns/service-b.yaml"}


def test_what_cannot_be_rendered_updates_nothing(project):
    """A test that fails before it comes to compare leaves its snapshots as they are, also with --snapshot-update."""
    before = project.files()
    project.test(RENDER.format(""))

    assert project.run("--snapshot-update")[0] == 1
    assert project.files() == before


@pytest.mark.parametrize("option", ["--tb=short", "-n2", "-vv"])
def test_errors_of_rendering_with_options(project, option):
    """An error looks the same with any options, also where a fixture of the user's renders."""
    project.test(
        "import pytest\n"
        "@pytest.fixture\n"
        "def manifests(render_cluster):\n"
        "    return render_cluster('nowhere.yaml')\n"
        "def test_cluster(manifests):\n"
        "    pass\n"
    )

    _, output = project.run(option)

    assert report(output, "ERROR at setup of test_cluster") == (
        "error: no such file or folder\n  --> nowhere.yaml\n\n1 error\n"
    )


def test_errors_of_rendering_have_their_class(project):
    """A test can expect an error by its class."""
    project.test(
        "import pytest\n"
        "from chronik.errors import InputError\n"
        "def test_cluster(render_cluster):\n"
        "    with pytest.raises(InputError):\n"
        "        render_cluster('nowhere.yaml')\n"
    )

    assert "1 passed" in project.run()[1]


# --- snapshots that nobody uses ---------------------------------------------------------------------------------------


def test_removed_object(project):
    """With --snapshot-update the snapshot of an object that is gone is deleted and named, and its folder with it."""
    project.objects(ROLE)

    code, output = project.run("--snapshot-update", "--snapshot-details")

    assert code == 0
    assert "2 snapshots deleted:\n  __snapshots__/test_it/test_cluster/ns/configmap-a.yaml\n" in output
    assert set(project.files()) == {"test_it/test_cluster/_cluster/clusterrole-c.yaml"}
    assert not (project.path / "__snapshots__/test_it/test_cluster/ns").exists()


@pytest.mark.parametrize("workers", [[], pytest.param(["-n2"], marks=pytest.mark.slow)])
def test_removed_object_is_a_warning(project, workers):
    """With --snapshot-warn-unused an object that is gone is named, and fails neither test nor run."""
    project.objects(CONFIG)

    code, output = project.run("--snapshot-warn-unused", "--snapshot-details", *workers)

    assert code == 0
    assert (
        "1 snapshot of no test or object any more:\n  __snapshots__/test_it/test_cluster/ns/service-b.yaml\n" in output
    )
    assert "pytest --snapshot-update deletes what is not used" in output


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--snapshot-disable-unused"], 0), (["--snapshot-update", "--snapshot-no-cleanup"], 0), (["--co", "-q"], 0)],
)
def test_options_that_look_for_nothing(project, options, code):
    """Options that turn the search off, or the cleaning, are obeyed."""
    before = project.files()
    project.objects(CONFIG)

    assert project.run(*options)[0] == code
    assert project.files() == before


OTHER = TEST.replace("test_cluster", "test_other")


@pytest.fixture
def two_tests(project):
    """Return a project of two tests in one module, both with snapshots."""
    project.test(TEST + OTHER)
    assert project.run("--snapshot-update")[0] == 0
    return project


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_test_that_is_gone(two_tests, workers):
    """What a test has left that is no longer there is named, has the run fail, and goes with an update."""
    two_tests.test()

    code, output = two_tests.run(*workers)

    assert code == 1
    assert "1 passed" in output
    assert "2 snapshots of no test or object any more:\n  __snapshots__/test_it/test_other/ns/  (2 files)\n" in output
    assert two_tests.run("--snapshot-warn-unused", *workers)[0] == 0
    assert two_tests.run("--snapshot-update", *workers)[0] == 0
    assert {name.split("/")[1] for name in two_tests.files()} == {"test_cluster"}


def test_test_that_compares_nothing_any_more(two_tests):
    """A test that passed without looking at its snapshots has no use for them."""
    two_tests.test(TEST + "def test_other():\n    pass\n")

    code, output = two_tests.run()

    assert code == 1
    assert "__snapshots__/test_it/test_other/ns/  (2 files)\n" in output


@pytest.mark.parametrize("folder", [[], ["."], ["test_b.py"]])
def test_module_that_is_gone(two_tests, folder):
    """What a module has left is found by a run of its whole folder, and by no other."""
    (two_tests.path / "test_it.py").unlink()
    two_tests.test("def test_b():\n    pass\n", "test_b")

    code, output = two_tests.run(*folder)

    found = "4 snapshots of no test or object any more:" in output
    assert (code, found) == ((0, False) if folder == ["test_b.py"] else (1, True))


AMBER = "\ndef test_amber(snapshot):\n    assert snapshot == 1\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (TEST + "import pytest\n@pytest.mark.skip" + OTHER, []),
        (TEST + "import pytest\n@pytest.mark.xfail" + OTHER.replace("assert_manifests(objects)", "assert 0"), []),
        (TEST + "def test_other():\n    assert False\n", []),
        (TEST + OTHER, ["-k", "test_cluster"]),
        (TEST + OTHER, ["--deselect", "test_it.py::test_other"]),
        (TEST + OTHER, ["test_it.py::test_cluster"]),
        (TEST + "def test_new(): pass\n", ["test_it.py::test_cluster"]),
    ],
    ids=["skipped", "xfail", "failed", "-k", "--deselect", "one", "one, other gone"],
)
@pytest.mark.parametrize("amber", ["", AMBER], ids=["alone", "beside syrupy's own"])
def test_tests_that_did_not_come_to_compare(two_tests, text, options, amber):
    """What belongs to tests that were skipped, deselected or failed is not unused, whatever else is in the folder."""
    two_tests.test(TEST + OTHER + amber)
    two_tests.run("--snapshot-update")
    before = two_tests.files()
    two_tests.test(text + amber)

    assert "unused" not in two_tests.run(*options)[1]
    code, output = two_tests.run("--snapshot-update", *options)

    assert "deleted" not in output
    assert two_tests.files() == before
    assert code == int("1 failed" in output)


def test_files_of_others(project):
    """A file that chronik did not write stays, whatever its name."""
    folder = project.path / "__snapshots__/test_it"
    for path in ("test_gone/ns/notes.yaml", "test_gone/ns/configmap-b.yaml", "test_gone/values.yaml", "values[a].yaml"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(CONFIG) if "configmap" in path else "a: b\n")
    before = project.files()

    assert project.run()[0] == project.run("--snapshot-update")[0] == 0
    assert project.files() == before


# --- names with brackets ----------------------------------------------------------------------------------------------


@pytest.fixture
def bracketed(project):
    """Return a project with the snapshots of an earlier chronik, under names with brackets."""
    project.test(
        "import pytest\n@pytest.mark.parametrize('size', ['s', 'l'])\n"
        + TEST.replace("(objects,", "(size, objects,").strip()
    )
    project.objects(CONFIG, SERVICE)
    project.run("--snapshot-update")
    for name, text in project.files().items():
        _, test, _, file = name.split("/")
        path = project.path / "__snapshots__/test_it" / f"{test.replace('-', '[')}][{file.removesuffix('.yaml')}].yaml"
        path.write_text(text)
        (project.path / "__snapshots__" / name).unlink()
    assert "test_it/test_cluster[s][configmap-a].yaml" in project.files()
    return project


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_old_names_are_compared_and_named(bracketed, workers):
    """Snapshots under old names are compared as ever, and the run fails until they have their new ones."""
    code, output = bracketed.run(*workers)

    assert code == 1
    assert "2 passed" in output
    assert "4 snapshots under a name that chronik no longer gives:\n  __snapshots__/test_it/  (4 files)\n" in output

    bracketed.objects(manifest("ConfigMap", "a", data={"k": "2"}), SERVICE)
    _, output = bracketed.run(*workers)

    assert "1 changed, 1 unchanged" in output
    assert '    -   k: "1"\n    +   k: "2"\n' in report(output, "test_cluster[s]")


@pytest.mark.parametrize("workers", [[], pytest.param(["-n2"], marks=pytest.mark.slow)])
def test_old_names_are_given_up(bracketed, workers):
    """One run with --snapshot-update gives all snapshots their new names, and their content is what it was."""
    before = sorted(bracketed.files().values())
    code, output = bracketed.run("--snapshot-update", "--snapshot-details", *workers)

    assert code == 0
    assert "4 snapshots given a name without brackets, in place of:\n" in output
    assert "  __snapshots__/test_it/test_cluster[s][configmap-a].yaml\n" in output
    assert sorted(bracketed.files().values()) == before
    assert not any("[" in name for name in bracketed.files())
    assert bracketed.run(*workers)[0] == 0


def test_old_names_of_what_is_gone(bracketed):
    """An old name of an object or a test that is no longer there goes with an update, too."""
    bracketed.objects(CONFIG)
    (bracketed.path / "__snapshots__/test_it/test_gone[x][service-b].yaml").write_text(json.dumps(SERVICE))

    code, output = bracketed.run()

    assert code == 1
    assert "3 snapshots of no test or object any more:\n  __snapshots__/test_it/  (3 files)\n" in output
    assert bracketed.run("--snapshot-update")[0] == bracketed.run()[0] == 0
    assert set(bracketed.files()) == {f"test_it/test_cluster-{size}/ns/configmap-a.yaml" for size in "sl"}


# --- comparisons that a test makes itself -----------------------------------------------------------------------------

DIRECT = """
def test_cluster(objects, manifest_snapshot, assert_manifests):
    assert_manifests(objects[:1])
    assert objects[0] == manifest_snapshot(name="first [1]")
    assert objects[1] == manifest_snapshot
"""


def test_manifest_snapshot(project):
    """A comparison of one's own has a file beside those of `assert_manifests`, called as the test says."""
    project.test(DIRECT)
    assert project.run("--snapshot-update")[0] == project.run()[0] == 0

    first = next(name for name in project.files() if "first" in name)
    assert re.fullmatch(r"test_it/test_cluster/first_1_-[0-9a-f]{8}\.yaml", first)
    assert set(project.files()) == {first, "test_it/test_cluster/2.yaml", "test_it/test_cluster/ns/configmap-a.yaml"}


def test_manifest_snapshot_shows_a_true_diff(project):
    """A comparison of one's own has the same diff, as far as pytest shows it."""
    project.test(
        "def test_cluster(objects, manifest_snapshot):\n    assert objects[0] == manifest_snapshot(name='x')\n"
    )
    project.objects(STATEFULSET)
    project.run("--snapshot-update")
    changed = json.loads(json.dumps(STATEFULSET))
    changed["spec"]["template"]["spec"]["hostPID"] = True
    project.objects(changed)

    _, output = project.run("-vv")

    assert re.search(r"E +\+       hostPID: true", output)
    assert "unchanged lines, then in spec.template.spec" in output


def test_old_name_of_a_comparison(project):
    """An old name that a test gave itself is found, and given up, like the others."""
    project.test(
        "def test_cluster(objects, manifest_snapshot):\n    assert objects[0] == manifest_snapshot(name='x')\n"
    )
    project.run("--snapshot-update")
    folder = project.path / "__snapshots__/test_it"
    (folder / "test_cluster/x.yaml").rename(folder / "test_cluster[x].yaml")

    code, output = project.run()

    assert code == 1
    assert "1 snapshot under a name that chronik no longer gives:\n" in output
    assert project.run("--snapshot-update")[0] == project.run()[0] == 0
    assert set(project.files()) == {"test_it/test_cluster/x.yaml"}


def test_without_syrupy(project):
    """Where syrupy is not there, the rest of the plugin is."""
    project.test("def test_cluster(render_cluster):\n    pass\n")

    assert project.run("-p", "no:syrupy")[0] == 0
