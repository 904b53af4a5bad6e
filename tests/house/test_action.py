"""The GitHub action and the pre-commit hooks: their shell lines are run as they stand, on a repository of documents."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.cli_place import SPEC

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
HOOKS = {each["id"]: each for each in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))}
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}
EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")
COMMENT_ID = "4711"

GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$GH_LOG"
case "$*" in *--paginate*) printf '%s' "$GH_ANSWER";; esac
"""


class Done(NamedTuple):
    """What a step did."""

    code: int
    out: str
    err: str


class Job:
    """A job that runs the action's steps in a repository, as a runner does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self.temp = folder
        self.values = {f"inputs.{name}": str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
        self.values |= {"inputs.from-rev": "main", "github.event.pull_request.number": "12"}
        programs = folder / "bin"
        programs.mkdir()
        (programs / "gh").write_text(GH)
        (programs / "gh").chmod(0o755)
        (programs / "chronik").symlink_to(Path(sys.executable).with_name("chronik"))
        self.env = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_REPOSITORY": "acme/clusters",
            "GH_LOG": str(folder / "gh"),
            "GH_ANSWER": "",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def run(self, name: str) -> Done:
        """Run one step, and take note of its outputs."""
        step = STEPS[name]
        given = {key: EXPRESSION.sub(lambda found: self.values[found[1]], text) for key, text in step["env"].items()}
        done = self.command(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], given)
        output = Path(self.env["GITHUB_OUTPUT"])
        for line in output.read_text().splitlines() if output.exists() else ():
            key, _, value = line.partition("=")
            self.values[f"steps.{step.get('id')}.outputs.{key}"] = value
        return done

    def command(self, command: list[str], more: dict[str, str] | None = None) -> Done:
        """Run a command in the repository."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env | (more or {}), capture_output=True, text=True, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def git(self, *arguments: str) -> None:
        """Run git."""
        done = self.command(["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments])
        assert done.code == 0, done

    def write(self, name: str, **spec: Any) -> None:
        """Write a document of a cluster."""
        metadata = {"name": name, "namespace": "demo"}
        document = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": metadata}
        (self.folder / "clusters" / f"{name}.yaml").write_text(yaml.safe_dump({**document, "spec": SPEC | spec}))

    @property
    def asked(self) -> list[str]:
        """What gh was called with."""
        log = Path(self.env["GH_LOG"])
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def job(tmp_path):
    """Return a job in a repository with one committed cluster, of which the working tree changes the image."""
    job = Job(tmp_path)
    (job.folder / "clusters").mkdir(parents=True)
    job.write("events")
    job.git("init", "-q", "-b", "main")
    job.git("add", "-A")
    job.git("commit", "-qm", "one")
    job.write("events", image=SPEC["image"] | {"ingest": "chronik/ingest:1.5.0"})
    return job


def test_no_input_reaches_a_shell_line():
    """Inputs and events come as variables, never as text of a script, which they could end."""
    assert [name for name, step in STEPS.items() if EXPRESSION.search(step.get("run", ""))] == []
    assert {step["shell"] for step in STEPS.values() if "run" in step} == {"bash"}


def test_every_input_is_used():
    """Each input stands in a step, each step uses no input that is not declared, and each says what it is for."""
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"])))

    assert used == set(ACTION["inputs"])
    assert all(each["description"] for each in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))


def test_a_change_becomes_a_comment(job):
    """A change is in the summary of the job and in a new comment, and does not fail the job."""
    assert job.run("Validate").code == 0
    assert job.run("Diff").code == 0
    assert job.run("Comment").code == 0
    assert job.run("Result").code == 0

    markdown = Path(job.values["steps.diff.outputs.markdown"])
    assert job.values["steps.diff.outputs.changes"] == "true"
    assert "chronik/ingest:1.4.2 -> chronik/ingest:1.5.0" in markdown.read_text()
    assert Path(job.env["GITHUB_STEP_SUMMARY"]).read_text() == markdown.read_text()
    assert job.asked[-1] == f"api --silent repos/acme/clusters/issues/12/comments --field body=@{markdown}"


def test_the_comment_is_replaced(job):
    """A comment that the action made before gets the new text, so that there is one."""
    job.env["GH_ANSWER"] = f"{COMMENT_ID}\n"
    job.run("Diff")
    job.run("Comment")

    assert job.asked[-1].startswith(f"api --silent --method PATCH repos/acme/clusters/issues/comments/{COMMENT_ID} ")


def test_nothing_changes(job):
    """Where nothing changes the output says so."""
    job.git("checkout", "-q", "--", ".")
    job.run("Diff")

    assert job.values["steps.diff.outputs.changes"] == "false"
    assert job.run("Result").code == 0


def test_a_document_in_error_fails_the_job(job):
    """A mistake in a document fails the first step, with an annotation where it is."""
    job.write("events", ingestNodes=-1)
    done = job.run("Validate")

    assert done.code == 2
    assert done.out.startswith("::error file=clusters/events.yaml,line=")


def test_a_refused_change_is_told_and_fails_the_job(job):
    """What admission would refuse is in the comment, and fails the job after it was made."""
    job.write("events", storage=SPEC["storage"] | {"size": "1Gi"})
    job.run("Diff")
    job.run("Comment")

    assert "refuse" in Path(job.values["steps.diff.outputs.markdown"]).read_text()
    assert len(job.asked) == 2
    assert job.run("Result").code == 2


def test_files_are_what_they_are(job):
    """A file name is no shell, whatever is in it, and several stand in a line each."""
    odd = "clusters/$(touch owned) `touch owned`; x.yaml"
    (job.folder / "clusters" / "events.yaml").rename(job.folder / odd)
    job.values["inputs.files"] = f"{odd}\nclusters/events.yaml\n"
    done = [job.run("Validate"), job.run("Diff")]

    assert [each.code for each in done] == [0, 0], done
    assert job.values["steps.diff.outputs.changes"] == "true"
    assert not (job.folder / "owned").exists()


@pytest.mark.parametrize(("hook", "code", "text"), [("chronik-validate", 0, ""), ("chronik-diff", 1, "demo/events: ")])
def test_hooks(job, hook, code, text):
    """A hook's entry, with files behind it as pre-commit puts them, does what its name says."""
    assert re.search(HOOKS[hook]["files"], "clusters/events.yaml")
    done = job.command([*HOOKS[hook]["entry"].split(), "clusters/events.yaml"])

    assert done.code == code, done
    assert text in done.out
