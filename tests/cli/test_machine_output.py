"""With -o json, yaml or github a program gets a report on stdout, whatever goes wrong, and the exit code beside it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yaml
from support.cli_place import run
from support.kube_clients import kubeconfig_for

from chronik.offline import assets

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = re.compile(r"::(error|warning) (?:(?:file|line|col|title)=[^,:]+,?)*::[^\n]+")
INVALID = "apiVersion: chronik.stream/v1alpha1\nkind: ChronikCluster\nmetadata: {name: x}\nspec: {}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of files, and work in it, without a cluster."""
    (tmp_path / "good.yaml").write_text((EXAMPLES / "standard.yaml").read_text())
    (tmp_path / "bad.yaml").write_text(INVALID)
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").mkdir()
    text = (assets.TEMPLATES / "service.yaml.j2").read_text()
    (tmp_path / "broken" / "service.yaml.j2").write_text(f"{text}{{{{ nonsense }}}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(INVALID.encode())))
    return tmp_path


VALIDATE = {
    "a missing file": (["nowhere.yaml"], "nowhere.yaml", "no such file or folder"),
    "an empty file": (["empty.yaml"], "empty.yaml", "holds no document"),
    "a dead link": (["links"], "links/gone.yaml", "is a link to nowhere, which does not exist"),
    "an empty folder": (["folder"], "folder", "no .yaml, .yml, .json file in this folder"),
    "a URL": (["https://example.com/a.yaml"], "https://example.com/a.yaml", "is a URL"),
    "an empty name": ([""], None, "a file name is empty"),
    "a document": (["bad.yaml"], "bad.yaml", "storage is required"),
    "standard input": (["-"], "-", "storage is required"),
    "no template folder": (["good.yaml", "--templates", "nowhere"], "nowhere", "no such folder of templates"),
    "no templates": (["good.yaml", "--templates", "folder"], "folder", "holds no *.yaml.j2 file"),
    "a broken template": (["good.yaml", "--templates", "broken"], "broken/service.yaml.j2", "nonsense is not defined"),
    "an unknown option": (["good.yaml", "--frob"], None, "No such option"),
    "a wrong value": (["good.yaml", "-n", "Bad_NS"], None, "'Bad_NS' is no name of a namespace"),
    "no value": (["good.yaml", "-n"], None, "requires an argument"),
    "no documents": ([], None, "say which documents"),
}

per_error = pytest.mark.parametrize(("arguments", "file", "message"), VALIDATE.values(), ids=VALIDATE)


@per_error
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("option", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"]], ids=" ".join)
def test_validate_json(arguments, file, message, option):
    """Every error of `validate -o json` is in a list on stdout, with the file if there is one; the exit code is 2."""
    done = run("validate", *option, *arguments)
    found = [each for each in done.json if each["severity"] == "error"]

    assert done.code == 2
    assert message in found[0]["message"]
    assert found[0]["file"] == file
    assert set(found[0]) == {"file", "line", "column", "path", "severity", "code", "message", "hint"}


@per_error
@pytest.mark.usefixtures("folder")
def test_validate_github(arguments, file, message):
    """Every error of `validate -o github` is an annotation on stdout, of a file if there is one."""
    done = run("validate", "-o", "github", *arguments)
    lines = done.out.splitlines()

    assert done.code == 2
    assert all(COMMAND.fullmatch(line) for line in lines), lines
    (first, *_) = [line for line in lines if line.startswith("::error ")]
    assert message in first
    assert (f"file={file}".replace(":", "%3A") in first) is (file not in {None, "-"})
    assert "stdin" not in done.out


@pytest.mark.usefixtures("folder")
def test_everything_is_in_the_report():
    """One report has what cannot be read, what is wrong with documents, and what is wrong with templates."""
    done = run("validate", "bad.yaml", "links", "good.yaml", "nowhere.yaml", "--templates", "broken", "-o", "json")

    files = {each["file"] for each in done.json if each["severity"] == "error"}
    assert files == {"bad.yaml", "links/gone.yaml", "nowhere.yaml", "broken/service.yaml.j2"}


CLUSTER_COMMANDS = {
    "apply": ["apply", "-f", "good.yaml"],
    "diff": ["diff", "-f", "good.yaml"],
    "delete": ["delete", "x", "--yes"],
    "status": ["status", "x"],
    "switch": ["switch", "x", "--to", "y", "--yes"],
    "failover": ["failover", "x", "y", "--yes"],
    "replication status": ["replication", "status"],
    "federation status": ["federation", "status", "x"],
    "rollout status": ["rollout", "--color", "never", "status", "x"],
    "rollout undo": ["rollout", "undo", "x"],
    "backup create": ["backup", "create", "x"],
    "backup list": ["backup", "list"],
    "backup describe": ["backup", "describe", "x"],
}


@pytest.mark.parametrize("command", CLUSTER_COMMANDS.values(), ids=CLUSTER_COMMANDS)
@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        ([], 2, "InvalidKubeconfig"),
        (["--context", ""], 2, "InvalidInput"),
        (["--frob"], 2, "InvalidInput"),
        (["-n", "Bad_NS"], 2, "InvalidInput"),
    ],
    ids=["no kubeconfig", "an empty value", "an unknown option", "a wrong value"],
)
@pytest.mark.usefixtures("folder")
def test_cluster_commands(command, more, code, reason):
    """An error that comes before any cluster makes a report of none, with the reason, the message and what to do."""
    done = run(*command, *more, "-o", "json")

    assert done.code == code
    assert done.json["clusters"] == done.json["problems"] == []
    assert done.json["error"]["reason"] == reason
    assert set(done.json["error"]) == {"reason", "message", "hint", "code", "subject"}
    assert done.json["error"]["message"] in " ".join(done.err.split())


@pytest.mark.parametrize("command", ["apply", "diff", "delete", "status"])
def test_documents_of_cluster_commands(folder, command):
    """The problems of documents are in the report of every command, as `validate` lists them."""
    kubeconfig = str(kubeconfig_for("http://127.0.0.1:9", folder, {}))
    more = ["--yes"] if command == "delete" else []
    done = run(command, "-f", "bad.yaml", "--kubeconfig", kubeconfig, *more, "-o", "json")

    assert done.code == 2
    assert done.json["error"]["reason"] == "InvalidSpec"
    assert done.json["problems"] == run("validate", "bad.yaml", "-o", "json").json


@pytest.mark.usefixtures("folder")
def test_a_store_that_is_not_there():
    """`backup catalog -o json` tells an error in JSON, though no cluster is asked anything."""
    done = run("backup", "catalog", "--store", "file:///nonexistent", "-o", "json")

    assert (done.code, done.json["clusters"]) == (8, [])
    assert "/nonexistent" in done.json["error"]["message"] + done.json["error"]["subject"]


@pytest.mark.usefixtures("folder")
def test_status_as_yaml(folder):
    """`status -o yaml` tells an error in YAML."""
    kubeconfig = str(kubeconfig_for("http://127.0.0.1:9", folder, {}))
    done = run("status", "x", "--kubeconfig", kubeconfig, "-o", "yaml")

    assert done.code == 3
    assert yaml.safe_load(done.out)["error"]["reason"] == "ApiServerUnreachable"
    assert yaml.safe_load(done.out)["error"]["subject"] == "http://127.0.0.1:9"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [["render", "nowhere.yaml", "-o", "json"], ["install", "-n", "Bad_NS", "-o", "json"], ["validate", "nowhere.yaml"]],
    ids=" ".join,
)
def test_what_is_no_report(arguments):
    """Manifests are no report: where there are none, nothing is on stdout for kubectl to take."""
    done = run(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err
