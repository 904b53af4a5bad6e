"""Colours and widths."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tools.cli_place import environment, run

from chronik.cli import main as cli
from chronik.cli import streams

ROOT = Path(__file__).parents[1]
EXAMPLE = str(ROOT / "examples" / "production.yaml")
BROKEN = """\
apiVersion: chronik.stream/v1alpha1
kind: ChronikCluster
metadata: {name: broken}
spec: {controllers: "three", ingestNods: 3, storage: {backend: s33, size: 10Gb}}
"""
ANSI = re.compile(r"\x1b\[[0-9;]*m")
FULL = Path("/dev/full")
LEFT_EMPTY = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "COLUMNS", "CHRONIK_DEBUG")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    """Take out of the environment what decides about colours."""
    for name in LEFT_EMPTY:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def broken(tmp_path):
    """Return the name of a file with a document that has several mistakes."""
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    return str(file)


def shell(command, **env):
    """Run a command line of a shell, where `chronik` is ours, and return what it did."""
    script = f'chronik() {{ "{sys.executable}" -m chronik "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment(**env), timeout=60
    )


# --- colours and widths -----------------------------------------------------------------------------------------------


class Stream(io.StringIO):
    """A terminal, or none."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """Say whether it is one."""
        return self._terminal


TERMINAL, PIPE = True, False


@pytest.mark.parametrize(
    ("option", "environ", "terminal", "coloured"),
    [
        ("auto", {}, TERMINAL, True),
        ("auto", {}, PIPE, False),
        ("auto", {"TERM": "dumb"}, TERMINAL, False),
        ("auto", {"TERM": "xterm"}, TERMINAL, True),
        ("auto", {"NO_COLOR": "1"}, TERMINAL, False),
        ("auto", {"NO_COLOR": ""}, TERMINAL, True),
        ("auto", {"CLICOLOR": "0"}, TERMINAL, False),
        ("auto", {"CLICOLOR": "1"}, TERMINAL, True),
        ("auto", {"CLICOLOR": "1"}, PIPE, False),
        ("auto", {"FORCE_COLOR": "1"}, PIPE, True),
        ("auto", {"FORCE_COLOR": "0"}, PIPE, False),
        ("auto", {"FORCE_COLOR": ""}, PIPE, False),
        ("auto", {"CLICOLOR_FORCE": "1"}, PIPE, True),
        ("auto", {"CLICOLOR_FORCE": "0"}, PIPE, False),
        ("auto", {"FORCE_COLOR": "1", "TERM": "dumb"}, TERMINAL, True),
        ("auto", {"FORCE_COLOR": "1", "CLICOLOR": "0"}, TERMINAL, True),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}, TERMINAL, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, PIPE, True),
        ("never", {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}, TERMINAL, False),
    ],
)
def test_what_decides_about_colour(monkeypatch, option, environ, terminal, coloured):
    """The option comes first, then NO_COLOR, then what forces colours, then the terminal and what it is."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    streams.choose_colour(option)
    try:
        assert streams.use_colour(Stream(terminal=terminal)) is coloured
    finally:
        streams.choose_colour("auto")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--color", "always", "validate", "-f", "FILE"],
        ["validate", "-f", "FILE", "--color", "always"],
        ["--color", "never", "validate", "-f", "FILE", "--color=always"],
        ["render", "--color", "always", "-f", "FILE"],
        ["validate", "-f", "no-such-file", "--color", "always"],
    ],
)
def test_colour_option(broken, arguments):
    """--color stands before the command or after it, the last word counts, and it holds for one run only."""
    coloured = run(*(broken if each == "FILE" else each for each in arguments))
    plain = run(*(broken if each == "FILE" else each for each in arguments), "--color", "never")
    default = run("validate", "-f", broken)

    assert "\x1b[1;31merror:\x1b[0m" in coloured.err or "\x1b[31m\x1b[1merror:\x1b[0m" in coloured.err
    assert plain.err == ANSI.sub("", coloured.err)
    assert "\x1b" not in default.err


def commands(group=cli.main, context=None):
    """Yield every command, those of groups in groups included."""
    context = context or click.Context(cli.main)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        yield found
        if isinstance(found, click.Group):
            yield from commands(found, context)


@pytest.mark.parametrize("command", [cli.main, *commands()], ids=lambda command: command.name)
def test_every_command_has_the_global_options(command):
    """Every command takes --color, once, however often it was loaded."""
    options = [name for each in command.params for name in each.opts]

    assert options.count("--color") == 1


def test_nothing_is_wrapped_in_a_pipe(broken, tmp_path):
    """Where there is no terminal every message is one line, however long, so that it can be searched for."""
    folder = tmp_path / "-".join(["a-folder-with-a-long-name"] * 6)
    folder.mkdir()
    long = folder / "broken.yaml"
    long.write_text(Path(broken).read_text())
    done = run("validate", "-f", str(long))
    problems = json.loads(run("validate", "-f", str(long), "-o", "json").out)
    lines = done.err.splitlines()

    assert len(problems) > 3
    for problem in problems:
        assert f"error: {problem['path']}: {problem['message']}" in lines
        assert not problem["hint"] or f"help: {problem['hint']}" in lines
        assert any(line.endswith(f"{long}:{problem['line']}:{problem['column']}") for line in lines)


def test_errors_hold_nothing_that_a_terminal_obeys():
    """What is named in an error, a file for one, is made harmless like all that is told."""
    done = run("validate", "-f", "no\x1b[2Jfile\u202e")

    assert done.code == 2
    assert "\x1b" not in done.err
    assert "no\\x1b[2Jfile\\u202e" in done.err


@pytest.mark.parametrize(
    ("columns", "width"), [("100", 100), ("0", 80), ("", 80), ("many", 80)], ids=["set", "zero", "empty", "word"]
)
def test_width_of_a_terminal(monkeypatch, columns, width):
    """COLUMNS says how wide a terminal is; one that cannot tell is 80 columns wide."""
    monkeypatch.setenv("COLUMNS", columns)

    assert streams.look(Stream(terminal=TERMINAL))["width"] == width
    assert streams.look(Stream(terminal=PIPE))["width"] is None
