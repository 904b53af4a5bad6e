"""The Dockerfile, as far as it can be checked without a container engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
ALLOWED = [
    line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
]


def arguments(name):
    """Return what follows each of the instructions of that name."""
    return [words for instruction, words in INSTRUCTIONS if instruction == name]


def test_bases_are_pinned():
    """Both stages begin with a Python of the minor version that chronik is tested with."""
    assert [words.split()[0] for words in arguments("FROM")] == ["python:3.11-slim"] * 2


def test_the_last_stage_is_unprivileged():
    """The operator's process is neither root nor a user by name, which Kubernetes could not check."""
    last = INSTRUCTIONS[max(i for i, (instruction, _) in enumerate(INSTRUCTIONS) if instruction == "FROM") :]

    assert ["USER", "65534:65534"] in last
    assert ["ENTRYPOINT", '["chronik"]'] in last
    assert ["CMD", '["reconcile"]'] in last
    assert "RUN" not in [instruction for instruction, _ in last]
    assert "PYTHONDONTWRITEBYTECODE=1" in arguments("ENV")[0]


def test_what_is_copied_exists_and_is_let_in():
    """Each file and folder that is copied is in the repository, and .dockerignore lets in just these."""
    copied = [source for words in arguments("COPY") if "--from" not in words for source in words.split()[:-1]]

    assert sorted(copied) == sorted(ALLOWED)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert (ROOT / ".dockerignore").read_text("utf-8").splitlines()[1] == "*"


INSTALL = """
import sys, chronik
from chronik.cli.main import run
print(chronik.__file__, file=sys.stderr)
sys.exit(run(["install", "--service-monitor"]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built from a copy of what .dockerignore lets in and of nothing else."""
    if find_spec("build") is None or find_spec("hatchling") is None:
        pytest.skip("the wheel can only be built where build and hatchling are installed")
    source = tmp_path_factory.mktemp("source")
    for name in ALLOWED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = (source / "dist").glob("*.whl")
    return found


def test_wheel_holds_all_that_install_needs(wheel, tmp_path):
    """The wheel alone, without the repository and with nowhere to write, prints what the checkout prints."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    env = {**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", INSTALL]
    run = [
        subprocess.run(command, capture_output=True, text=True, check=False, env=env | {"PYTHONPATH": str(path)})
        for path in (tmp_path, ROOT)
    ]

    assert (tmp_path / "chronik" / "_data" / "templates" / "install" / "role.yaml.j2").is_file()
    assert [each.returncode for each in run] == [0, 0]
    assert run[0].stdout == run[1].stdout
    assert run[0].stderr == f"{tmp_path / 'chronik' / '__init__.py'}\n"
