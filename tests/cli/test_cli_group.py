"""Commands in modules of their own: listed and completed without being loaded, loaded when they are run."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from chronik.cli import main as cli

LOADED = """
import sys
SHARED = {{"chronik.cli.main", "chronik.cli.parameters", "chronik.cli.streams"}}
from chronik.cli.main import main
try:
    main.main({arguments!r}, prog_name="chronik")
finally:
    print(*sorted(name for name in {{*sys.modules}} - SHARED if name.startswith("chronik.cli.")), file=sys.stderr)
"""


def modules_loaded_by(*arguments, env=None):
    """Run a command, and return its exit code, its output, and which modules of commands it loaded."""
    command = [sys.executable, "-c", LOADED.format(arguments=list(arguments))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | (env or {}))
    return done.returncode, done.stdout, done.stderr.splitlines()[-1]


def test_help_lists_every_command_and_loads_none():
    """`chronik --help` names each command with what it does, and imports no module of any."""
    code, out, loaded = modules_loaded_by("--help")

    assert (code, loaded) == (0, "")
    for name, (_, words) in cli.LAZY_COMMANDS.items():
        assert f" {name} {words} " in " ".join([*out.split(), ""])
    assert "render        Print every Kubernetes object of the clusters.\n" in out


def test_completion_lists_every_command_and_loads_none():
    """The shell completes the name of a command without loading it."""
    words = {"_CHRONIK_COMPLETE": "bash_complete", "COMP_WORDS": "chronik re", "COMP_CWORD": "1"}
    code, out, loaded = modules_loaded_by(env=words)

    assert (code, loaded) == (0, "")
    assert out.splitlines() == ["plain,reconcile", "plain,render", "plain,replication", "plain,restore"]


def test_completion_knows_options():
    """The group's own options are completed as well."""
    words = {"_CHRONIK_COMPLETE": "bash_complete", "COMP_WORDS": "chronik --ver", "COMP_CWORD": "1"}

    assert modules_loaded_by(env=words)[1] == "plain,--version\n"


def test_a_command_loads_its_own_module():
    """The module of a command is loaded for that command, and no other's is."""
    code, out, loaded = modules_loaded_by("install", "--help")

    assert code == 0
    assert out.startswith("Usage: chronik install [OPTIONS]")
    assert loaded == "chronik.cli.install"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["instal"], "Did you mean 'install'?"),
        (["aply", "-f", "x.yaml"], "Did you mean 'apply'?"),
        (["vaildate"], "Did you mean 'validate'?"),
        (["schema", "crds"], "Did you mean 'crd'?"),
        (["frobnicate"], ""),
        (["render", "--recursiv"], "--recursive"),
    ],
)
def test_an_unknown_command_is_a_usage_error(capsys, arguments, meant):
    """A name that is no command or option ends with 2, says so, and says what may have been meant."""
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err
    assert "No such" in error
    assert meant in error
    assert ("Did you mean" in error) is bool(meant)


@pytest.mark.parametrize("name", cli.LAZY_COMMANDS)
def test_the_table_says_what_the_command_says(name):
    """The table's words about a command are the first sentence of the command's own help."""
    where, words = cli.LAZY_COMMANDS[name]
    if find_spec(where.partition(":")[0]) is None:
        pytest.skip(f"{where} is not written yet")
    command = cli.main.get_command(click.Context(cli.main), name)

    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=200) == words


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["install", "--features", "rollouts", "--features", "backups"], "--features=rollouts,backups"),
        (["install", "--features", "rollouts,backups", "--features", "rollouts"], "--features=rollouts,backups"),
    ],
)
def test_options_with_commas_add_up(capsys, arguments, wanted):
    """An option that takes several with commas between them takes them one by one as well: the last is not all."""
    assert cli.run(arguments) == 0

    assert wanted in capsys.readouterr().out


def test_members_add_up(capsys):
    """So do members of a federation."""
    file = Path(__file__).parents[2] / "examples" / "federation" / "orders.yaml"
    assert cli.run(["render", "-f", str(file), "--members", "east", "--members", "west", "-o", "json"]) == 0

    assert capsys.readouterr().out.count('"chronik.stream/federation-member":') == 2


def test_help_of_groups_is_whole(capsys):
    """The list of a group's commands has whole sentences, none that ends in three dots."""
    for group in ("backup", "federation", "replication", "restore", "rollout", "schema"):
        assert cli.run([group, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
