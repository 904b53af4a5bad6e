"""Which documents of files, folders and streams are clusters, which are passed over, and which are mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from support.cli_place import run
from support.kubectl import kubectl

from chronik.offline.loading import check

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
CASES = yaml.safe_load((HERE / "foreign.yaml").read_text("utf-8"))
CLUSTER = (EXAMPLES / "standard.yaml").read_text("utf-8")
SECRET = "{apiVersion: v1, kind: Secret, metadata: {name: s}}\n"
PATCH = "[{op: remove, path: /spec}]\n"

per_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a cluster in it, and work in it."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stdin(monkeypatch, text):
    """Put text on standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def errors(problems):
    """Return the problems that are errors."""
    return [problem for problem in problems if problem.severity == "error"]


@per_case
def test_beside_a_cluster_in_a_folder(folder, case):
    """In a folder, what belongs to others is passed over and counted; what was meant to be a cluster is an error."""
    (folder / case.get("file", "case.yaml")).write_text(case["text"])
    notes = []
    clusters, problems = check(["."], note=notes.append)

    assert [cluster.name for cluster in clusters] == ["standard"]
    assert notes == ([case["passed"]] if "passed" in case else [])
    found = errors(problems)
    assert bool(found) is ("error" in case)
    if found:
        assert found[0].message.startswith(case["error"])
        assert case.get("hint", "") in found[0].hint
        assert found[0].location.file == "case.yaml"


@per_case
def test_alone_in_a_file(tmp_path, case):
    """A file that is named itself is an error if nothing in it is for us."""
    path = tmp_path / case.get("file", "case.yaml")
    path.write_text(case["text"])
    clusters, problems = check([str(path)])

    assert clusters == []
    assert errors(problems)
    if "error" in case:
        assert errors(problems)[0].message.startswith(case["error"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no document"),
        ("# none\n", "holds no document"),
        (SECRET, "holds no ChronikCluster, but 1 other object (Secret)"),
        (SECRET + "---\n" + SECRET, "holds no ChronikCluster, but 2 other objects (Secret)"),
        ("{apiVersion: v1, kind: List, items: []}", "holds no document"),
    ],
)
def test_named_in_vain(tmp_path, monkeypatch, text, message):
    """A file, a stream or a folder with nothing for us is an error that says what it holds."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    stdin(monkeypatch, text)
    for name, shown in ((str(path), str(path)), ("-", "<stdin>"), (str(tmp_path), str(tmp_path))):
        notes = []
        _, [problem] = check([name], note=notes.append)

        assert (problem.subject, problem.message) == (shown, message)
        assert bool(problem.hint) is (name == str(tmp_path))  # -R
        assert bool(notes) is ("other object" in message)


def test_a_folder_of_nothing_for_kubernetes(tmp_path):
    """A folder in which nothing is a Kubernetes object is an error, too."""
    (tmp_path / "a.yaml").write_text(SECRET)
    (tmp_path / "b.yaml").write_text(PATCH)
    _, [problem] = check([str(tmp_path)], recursive=True)

    assert problem.message == (
        "holds no ChronikCluster, but 1 other object (Secret) and 1 document that is no Kubernetes object"
    )
    assert problem.hint == ""


def test_every_argument_counts(folder):
    """A file with nothing for us is an error even if another one has a cluster."""
    (folder / "secret.yaml").write_text(SECRET)
    clusters, problems = check(["cluster.yaml", "secret.yaml"])

    assert len(clusters) == 1
    assert [problem.subject for problem in errors(problems)] == ["secret.yaml"]


def test_all_errors_at_once(folder):
    """What cannot be read and what is wrong in what can be are told together."""
    (folder / "bad.yaml").write_text(CLUSTER.replace("controllers: ", "controllres: "))
    (folder / "gone.yaml").symlink_to("nowhere")
    _, problems = check([".", "nowhere.yaml"])

    places = [problem.location.file if problem.location else problem.subject for problem in errors(problems)]
    assert places == ["gone.yaml", "bad.yaml", "nowhere.yaml"]


def test_only_a_folder_holds_other_data(folder, monkeypatch):
    """In a file that is named, and in a stream, what is no Kubernetes object is a mistake."""
    (folder / "two.yaml").write_text(f"{CLUSTER}\n---\na: 1\n")
    stdin(monkeypatch, f"{CLUSTER}\n---\na: 1\n")

    for name in ("two.yaml", "-"):
        assert {problem.code for problem in errors(check([name])[1])} == {"kind", "apiVersion"}


COMMANDS = (["validate"], ["render"], ["validate", "-o", "github"], ["validate", "-o", "json"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_say_what_they_pass_over(folder, command):
    """Each command tells on stderr what it passes over, and does the rest."""
    (folder / "others.yaml").write_text(SECRET + "---\n" + SECRET)
    done = run(*command, "-f", ".")

    assert done.code == 0
    assert "note: 2 other objects passed over: Secret\n" in done.err
    assert "passed over" not in done.out


def test_our_own_quick_start():
    """The folder of the quick start, with its Secret and its PostgreSQL, is valid."""
    done = run("validate", "-f", str(EXAMPLES / "quickstart"), "-o", "github")

    assert (done.code, done.out) == (0, "")
    assert "other objects passed over" in done.err


def test_what_kustomize_prints(folder, monkeypatch):
    """`kubectl kustomize clusters | chronik validate -f -` is a gate for what an overlay makes of documents."""
    (folder / "secret.yaml").write_text(SECRET)
    (folder / "kustomization.yaml").write_text("resources: [cluster.yaml, secret.yaml]\nnamePrefix: eu-\n")
    built = kubectl("kustomize", str(folder))
    stdin(monkeypatch, built)
    done = run("render", "-o", "json", "-")

    assert done.code == 0, done.err
    assert "1 other object passed over: Secret" in done.err
    assert "eu-standard-controller" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["cluster.yaml", "other.yaml"],
        ["-f", "cluster.yaml", "other.yaml"],  # what a shell makes of -f *.yaml
        ["cluster.yaml", "-f", "other.yaml"],
        ["."],
        ["-R", "."],
    ],
    ids=" ".join,
)
def test_documents_are_named_with_and_without_f(folder, arguments):
    """Files and folders can be arguments, beside -f and without it."""
    (folder / "other.yaml").write_text(CLUSTER.replace("name: standard", "name: another"))
    done = run("render", *arguments, "-o", "json")

    instances = {item["metadata"]["labels"]["chronik.stream/cluster"] for item in json.loads(done.out)["items"]}
    assert (done.code, instances) == (0, {"standard", "another"})


@pytest.mark.parametrize("command", ["render", "validate", "apply", "diff"])
def test_no_documents_at_all(command):
    """Without any document a command says how to name some."""
    done = run(command)

    assert (done.code, done.out) == (2, "")
    assert "say which documents: files or folders with -f or without, - for standard input" in done.err


@pytest.mark.parametrize("command", ["status", "delete"])
@pytest.mark.parametrize("name", ["cluster.yaml", "-", "./sub/", "X.YML", "a.json"])
def test_a_file_where_a_name_is_wanted(folder, command, name):
    """Commands whose arguments are names of clusters say how a file is given to them."""
    (folder / "sub").mkdir()
    done = run(command, name, *(["--yes"] * (command == "delete")))

    assert (done.code, done.out) == (2, "")
    assert f"'{name}' names documents, and no cluster. Did you mean -f {name}?" in done.err


@pytest.mark.parametrize("command", ["render", "validate"])
def test_urls_are_fetched_by_others(command):
    """A URL is refused with the command that fetches it."""
    done = run(command, "-f", "https://example.com/x.yaml")

    assert (done.code, done.out) == (2, "")
    assert "curl -fsSL https://example.com/x.yaml | chronik … -f -" in " ".join(done.err.split())
