"""The Dockerfile, as far as it can be checked without a container engine."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
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


# --- the image of the Jobs of backups ---------------------------------------------------------------------------------

BACKUP = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile.backup").read_text("utf-8").replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
OF_SERVER = {"initdb", "postgres", "pg_waldump"}
OF_CLIENT = {"pg_basebackup", "pg_dump", "pg_isready", "pg_receivewal", "pg_restore", "psql"}
"""PostgreSQL's programs by Debian's package: postgresql-N and postgresql-client-N. The image postgres:N has both."""


def of_backup(name):
    """Return what follows each of the instructions of that name in Dockerfile.backup."""
    return [words for instruction, words in BACKUP if instruction == name]


def test_the_image_of_backups_has_the_programs_that_are_called():
    """Each program that the code starts comes with PostgreSQL's own image, server programs for restore tests too."""
    called = {
        node.args[0].value
        for path in (ROOT / "chronik" / "metastore").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"Tool", "find"}
        if isinstance(node.args[0], ast.Constant)
    }

    assert called == OF_CLIENT | OF_SERVER
    assert of_backup("FROM") == ["postgres:${POSTGRES}-bookworm AS python", "python AS build", "python"]
    assert of_backup("ARG") == ["POSTGRES=16"]
    installed = next(words for words in of_backup("RUN") if "libnss-wrapper" in words)
    assert {"python3", "libnss-wrapper"} <= {*installed.split()}


def test_the_image_of_backups_has_the_libraries_that_are_imported():
    """The extra that it installs has what the data plane imports, and its Python, bookworm's 3.11, may have chronik."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for path in (ROOT / "chronik" / "metastore").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom | ast.Import)
    } - {*sys.stdlib_module_names, "chronik"}
    extra = {each.partition(">")[0] for each in project["optional-dependencies"]["backup"]}

    assert any('".[backup]"' in words for words in of_backup("RUN"))
    assert wanted <= extra
    assert project["requires-python"] == ">=3.11"


def test_the_image_of_backups_is_unprivileged_and_built_of_what_is_there():
    """Its process is no root, chronik is its command, and what is copied exists and is let in."""
    last = BACKUP[max(i for i, (instruction, _) in enumerate(BACKUP) if instruction == "FROM") :]
    copied = [source for words in of_backup("COPY") if "--from" not in words for source in words.split()[:-1]]

    assert ["USER", "65534:65534"] in last
    assert ["ENTRYPOINT", '["chronik"]'] in last
    assert "RUN" not in [instruction for instruction, _ in last]
    assert sorted(copied) == sorted(ALLOWED)
    assert "PATH=/opt/chronik/bin:$PATH" in of_backup("ENV")[0]
    receiver = (ROOT / "templates" / "backup-receiver.yaml.j2").read_text("utf-8")
    assert "- sh\n" in receiver, "the probe is a line of shell, which Debian's images have"


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
