"""The commands as somebody types them, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml
from support.cli_place import run

ROOT = Path(__file__).parents[2]
load_all = partial(yaml.load_all, Loader=yaml.CSafeLoader)  # ten times as fast, which shows in a definition
PRODUCTION = ROOT / "examples" / "production.yaml"
BROKEN = """\
apiVersion: chronik.stream/v1alpha1
kind: ChronikCluster
metadata: {name: broken}
spec:
  controllers: "three"
  ingestNods: 3
  storage: {backend: s33, size: 10Gb}
  metastore:
    database: postgres
    connection: {host: pg, port: 70000, database: chronik, credentialsSecret: x}
"""
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)


def chronik(*arguments, stdin="", env=None):
    """Run the command and return what it did."""
    return subprocess.run(
        [sys.executable, "-m", "chronik", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_render_prints_manifests_and_nothing_else():
    """Manifests go to stdout as one YAML stream in apply order; a clean run says nothing on stderr."""
    done = chronik("render", "-f", PRODUCTION)
    kinds = [manifest["kind"] for manifest in load_all(done.stdout)]

    assert done.returncode == 0
    assert done.stderr == ""
    assert len(kinds) == 22
    assert kinds[0] == "ServiceAccount"
    assert kinds[-1] == "HorizontalPodAutoscaler"


def test_render_as_json_is_a_list_of_the_same_objects():
    """-o json prints one List that holds what the YAML stream holds."""
    stream = list(load_all(chronik("render", "-f", PRODUCTION).stdout))

    assert json.loads(chronik("render", "-f", PRODUCTION, "-o", "json").stdout)["items"] == stream


def test_render_of_invalid_documents_prints_every_mistake_and_no_manifest():
    """All five mistakes are told at once, with exit code 2 and an empty stdout, even beside a valid document."""
    done = chronik("render", "-f", PRODUCTION, "-f", "-", stdin=BROKEN)

    assert (done.returncode, done.stdout) == (2, "")
    assert "5 errors in 1 file" in done.stderr
    for line in ("<stdin>:5:16", "<stdin>:6:3", "<stdin>:7:22", "<stdin>:7:33", "<stdin>:10:34"):
        assert f"--> {line}\n" in done.stderr


def test_validate_speaks_json_and_github():
    """Machines get the same problems as data, on stdout."""
    records = json.loads(chronik("validate", "-f", "-", "-o", "json", stdin=BROKEN).stdout)
    annotations = chronik("validate", "-f", "-", "-o", "github", stdin=BROKEN).stdout.splitlines()

    assert [record["path"] for record in records] == [
        "spec.controllers",
        "spec.ingestNods",
        "spec.storage.backend",
        "spec.storage.size",
        "spec.metastore.connection.port",
    ]
    assert len(annotations) == len(records)
    assert annotations[0].startswith("::error title=spec.controllers::standard input, line 5: spec.controllers: ")
    assert {record["file"] for record in records} == {"-"}


def test_validate_passes_the_examples():
    """A folder of valid documents is valid as a whole; warnings do not change that."""
    done = chronik("validate", "-f", ROOT / "examples")

    assert (done.returncode, done.stdout) == (0, f"{len([*(ROOT / 'examples').glob('*.yaml')])} clusters valid\n")


def test_the_same_cluster_twice_is_an_error():
    """Two documents of one name and namespace cannot both be meant."""
    done = chronik("render", "-f", PRODUCTION, "-f", PRODUCTION)

    assert done.returncode == 2
    assert "streaming/production was described before" in done.stderr


def test_namespace_fills_in_but_does_not_overrule():
    """--namespace is for documents that name none; a contradiction is an error."""
    minimal = chronik("render", "-f", ROOT / "examples" / "minimal.yaml", "-n", "team-a")
    contradiction = chronik("render", "-f", PRODUCTION, "-n", "team-a")

    assert {manifest["metadata"]["namespace"] for manifest in load_all(minimal.stdout)} == {"team-a"}
    assert contradiction.returncode == 2
    assert "the document says namespace streaming, and --namespace says team-a" in " ".join(
        contradiction.stderr.split()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\n\tb: 2\n", "a tab cannot indent YAML"),
        ("", "holds no document"),
        ("just text\n", "a document must be a map"),
        ("kind: Service\n", 'kind must be ChronikCluster, not "Service"'),
        ("kind: ChronikCluster\napiVersion: v1\n", "apiVersion must be chronik.stream/v1alpha1"),
        ("kind: ChronikCluster\nkind: ChronikCluster\n", "kind: set twice in one map"),
        ("[" * 3000, "nest"),
        (BOMB, "more than 100,000 values"),
        ("a\n---\n" * 3000, "and 2,950 more"),
        ("\x00\x01", "this is no text"),
    ],
    ids=["tab", "empty", "text", "kind", "version", "twice", "deep", "bomb", "many", "binary"],
)
def test_hostile_input_is_an_error_and_no_traceback(content, message):
    """Whatever comes in, the answer is a sentence, exit code 2 and nothing on stdout."""
    done = chronik("render", "-f", "-", stdin=content)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_template_mistake_names_its_line(tmp_path):
    """A misspelt name in an override is told with file, line and the nearest known name."""
    text = (
        (ROOT / "templates" / "deployment.yaml.j2")
        .read_text()
        .replace("replicas: {{ component.replicas }}", "replicas: {{ spec.searchNode }}")
    )
    (tmp_path / "deployment.yaml.j2").write_text(text)
    done = chronik("render", "-f", ROOT / "examples" / "standard.yaml", "--templates", tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no searchNode here: did you mean searchNodes?" in done.stderr
    assert "deployment.yaml.j2:7:21" in done.stderr


def test_an_override_changes_its_kind_and_no_other(tmp_path):
    """A replaced template changes the objects that it makes, and those alone."""
    text = (ROOT / "templates" / "deployment.yaml.j2").read_text().replace("maxSurge: 1", "maxSurge: 2")
    (tmp_path / "deployment.yaml.j2").write_text(text)
    example = ROOT / "examples" / "standard.yaml"
    before = list(load_all(chronik("render", "-f", example).stdout))
    after = list(load_all(chronik("render", "-f", example, "--templates", tmp_path).stdout))

    assert [a["kind"] for a, b in zip(after, before, strict=True) if a != b] == ["Deployment"]


def test_output_is_the_same_under_any_hash_seed_and_locale():
    """The same document makes the same bytes, whatever the process is started with."""
    outputs = {
        chronik("render", "-f", PRODUCTION, env={"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }

    assert len(outputs) == 1


def test_a_closed_pipe_is_no_error():
    """`chronik render | head -1` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m chronik render -f {PRODUCTION} -f {ROOT}/examples/standard.yaml | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("---\n", "")


def test_the_committed_definitions_are_fresh():
    """`chronik schema crd` prints what schema/ has committed."""
    committed = [
        each
        for file in ("chronikcluster.crd.yaml", "chronikbackup.crd.yaml", "warnings.policy.yaml")
        for each in load_all((ROOT / "schema" / file).read_text())
    ]

    assert list(load_all(chronik("schema", "crd").stdout)) == committed


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deployment.yaml", "kind: Deployment\n"),
        ("backup.yml", "{# for: cluster #}\napiVersion: batch/v1\nkind: CronJob\n"),
        ("parts/mine.yaml", "a: {{ spec.controllers }}\n"),
    ],
)
def test_a_template_without_its_ending_is_told(tmp_path, name, text):
    """A template that is not named *.yaml.j2 would be passed over: the error says how to name it."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")
    done = run("render", "-f", "examples/minimal.yaml", "--templates", str(tmp_path))

    assert done.code == 2
    assert f"{file}: would be passed over: templates end in .yaml.j2" in done.err
    assert f"Name it {name.rpartition('.')[0]}.yaml.j2" in done.err
