"""Standard output that cannot be written, colours, widths, and what chronik itself gets wrong."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from support.cli_place import Place, environment, run

from chronik.cli import main as cli
from chronik.cli import streams
from chronik.errors import OutputError
from chronik.offline import loading
from chronik.operator import app

ROOT = Path(__file__).parents[2]
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


# --- standard output that cannot be written ---------------------------------------------------------------------------

OFFLINE = {
    "help": "--help",
    "version": "--version",
    "help-of-a-command": "apply --help",
    "completion": "",
    "render": f"render -f {EXAMPLE}",
    "validate": f"validate -f {EXAMPLE}",
    "validate-json": f"validate -f {EXAMPLE} -o json",
    "schema": "schema crd",
    "install": "install",
}
UNWRITABLE = {
    ">/dev/full": "No space left on device",
    ">&-": "Bad file descriptor",
}


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(("target", "why"), UNWRITABLE.items(), ids=["full", "closed"])
@pytest.mark.parametrize("name", OFFLINE)
def test_output_that_cannot_be_written(name, target, why):
    """Whatever writes to a full disk or a closed descriptor ends with 74 and one line that says why."""
    env = {"_CHRONIK_COMPLETE": "bash_source"} if name == "completion" else {}
    done = shell(f"chronik {OFFLINE[name]} {target}", **env)

    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr == f"error: cannot write to standard output: {why}\n"


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command",
    ["diff -f FILE", "diff -f FILE -o json", "apply -f FILE", "status c", "status -A", "delete c --yes --dry-run"],
)
def test_output_that_cannot_be_written_online(place, command):
    """Commands that talk to a cluster tell it like all others, and none calls it a difference."""
    file = place.document()
    if not command.startswith(("diff", "apply")):
        place.apply()
    flags = " ".join([*place.flags(), "-n", place.namespace] if "-A" not in command else place.flags())
    done = shell(f"chronik {command.replace('FILE', file)} {flags} >/dev/full")

    assert done.returncode == 74
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("name", [name for name in OFFLINE if name != "completion"])
def test_reader_that_has_gone(name):
    """A pipe that nobody reads any more ends every command with 141, and silently."""
    done = shell(f"chronik {OFFLINE[name]} | true; echo ${{PIPESTATUS[0]}}")

    assert (done.stdout, done.stderr) == ("141\n", "")


FAILS_AT_THE_END = """
import sys
from chronik.cli import main, streams
streams.open_streams()
sys.stdout.write("x")
sys.exit(main.run(sys.argv[1:]))
"""


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_failure_that_shows_at_the_end(tmp_path):
    """What is still in a buffer when a command is done is written before its exit code is known."""
    command = [sys.executable, "-c", FAILS_AT_THE_END, "render", "-f", EXAMPLE, "--output-dir", str(tmp_path)]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert done.returncode == 74
    assert done.stderr.endswith("\nerror: cannot write to standard output: No space left on device\n")
    assert len(done.stderr.splitlines()) == 2


def test_failure_that_shows_when_a_file_is_closed(tmp_path, monkeypatch):
    """A network drive may take everything and say on closing that it kept nothing: that is told as well."""

    def close(number):
        close_for_real(number)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    close_for_real = os.close
    with (tmp_path / "out").open("wb") as file:
        raw = streams._Stdout(file.fileno(), "wb", closefd=False)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
        streams.flush()
        monkeypatch.setattr(os, "close", close)
        with pytest.raises(OutputError, match="cannot write to standard output: Disk quota exceeded"):
            streams.flush()
        monkeypatch.undo()


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have the size they have")
def test_pipe_that_does_not_block():
    """A pipe that another process has made non-blocking gets everything, however slowly it is read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen([sys.executable, "-m", "chronik", "schema", "crd"], stdout=writer, cwd=ROOT) as process:
        os.close(writer)
        parts = []
        while part := os.read(reader, 1024):
            parts.append(part)
            time.sleep(0.002)
    os.close(reader)

    whole = subprocess.run([sys.executable, "-m", "chronik", "schema", "crd"], capture_output=True, check=True).stdout
    assert (process.returncode, b"".join(parts)) == (0, whole)
    assert len(whole) > 65536


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("target", ["2>/dev/full", "2>&-"])
def test_messages_that_cannot_be_written(broken, target):
    """Standard error that is full or closed changes no exit code."""
    assert shell(f"chronik validate -f {broken} {target}").returncode == 2
    assert shell(f"chronik validate -f {EXAMPLE} {target}").returncode == 0


def test_closed_input():
    """Standard input that the shell has closed cannot be read, which is an input error."""
    done = shell("chronik validate -f - <&-")

    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be read: Bad file descriptor" in done.stderr


PRINTS = """
import sys
from chronik.cli import streams
streams.open_streams()
print("a±…")
print("b±", file=sys.stderr)
"""


def test_characters_that_a_terminal_has_not():
    """What an encoding has no bytes for is spelled out."""
    done = subprocess.run(
        [sys.executable, "-c", PRINTS],
        capture_output=True,
        text=True,
        check=False,
        env=environment(PYTHONIOENCODING="ascii"),
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "a\\xb1\\u2026\n", "b\\xb1\n")


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
    """Every command takes --color and --debug, each once, however often it was loaded."""
    options = [name for each in command.params for name in each.opts]

    assert (options.count("--color"), options.count("--debug")) == (1, 1)


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


# --- what was not foreseen --------------------------------------------------------------------------------------------


def fail(error):
    """Return a function that raises."""

    def failing(*_arguments, **_options):
        raise error

    return failing


def endless():
    """Call itself."""
    return endless()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("spec"), "KeyError: 'spec'"),
        (RuntimeError("a\nb\x1b[2J"), "RuntimeError: a\\nb\\x1b[2J"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_what_was_not_foreseen_is_one_line(monkeypatch, error, told):
    """A fault of chronik's own is named in one line that says what to do, and ends with 70, never with 1."""
    monkeypatch.setattr(loading, "check", fail(error))
    done = run("validate", "-f", EXAMPLE)

    assert (done.code, done.out) == (70, "")
    assert done.err == (
        f"error: chronik itself failed: {told}; please report it with the output of the same command with --debug\n"
    )


@pytest.mark.parametrize("how", ["before", "after", "environment"])
def test_traceback_for_those_who_ask(monkeypatch, how):
    """With --debug, or CHRONIK_DEBUG=1, there is a traceback above that line, and nothing in it moves the cursor."""
    monkeypatch.setattr(loading, "check", fail(RuntimeError("odd \x1b[2J")))
    arguments = ["validate", "-f", EXAMPLE]
    if how == "environment":
        monkeypatch.setenv("CHRONIK_DEBUG", "1")
    done = run(*(["--debug"] if how == "before" else []), *arguments, *(["--debug"] if how == "after" else []))

    assert done.code == 70
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert 'test_cli_streams.py", line ' in done.err
    assert done.err.endswith(
        "\nerror: chronik itself failed: RuntimeError: odd \\x1b[2J; please report it with this output\n"
    )
    assert "\x1b" not in done.err
    monkeypatch.delenv("CHRONIK_DEBUG", raising=False)
    assert "Traceback" not in run(*arguments).err


def test_no_memory(monkeypatch):
    """Without memory there is nothing to report to anybody."""
    monkeypatch.setattr(loading, "check", fail(MemoryError()))
    done = run("validate", "-f", EXAMPLE)

    assert (done.code, done.err) == (70, "error: there is not enough memory\n")


def test_failure_is_part_of_a_report(monkeypatch):
    """A program that asked for a report gets one of a fault of chronik's own, too, wherever --color stands."""
    monkeypatch.setattr(loading, "check", fail(KeyError("spec")))
    done = run("--color", "always", "validate", "-f", EXAMPLE, "-o", "json")

    assert done.code == 70
    assert [each["message"].partition(";")[0] for each in done.json] == ["chronik itself failed: KeyError: 'spec'"]


def test_recursion_without_end(monkeypatch):
    """A recursion without end is a fault like another, and its traceback is short."""
    monkeypatch.setattr(loading, "check", lambda *_arguments, **_options: endless())
    done = run("validate", "-f", EXAMPLE, "--debug")

    assert done.code == 70
    assert "error: chronik itself failed: RecursionError: maximum recursion depth exceeded" in done.err
    assert len(done.err.splitlines()) < 200


def test_ctrl_c(monkeypatch):
    """Ctrl-C in a command that needs no cluster is no fault: 130."""
    monkeypatch.setattr(loading, "check", fail(KeyboardInterrupt()))
    done = run("validate", "-f", EXAMPLE)

    assert (done.code, done.out) == (130, "")
    assert done.err.strip() == "interrupted"


NO_REPORT = """
import sys
from chronik import __main__
from chronik.cli import main
{}
sys.argv = ["chronik", "--version"]
__main__.main()
"""


@pytest.mark.parametrize(
    ("broken_part", "code", "told"),
    [
        ("main.run = lambda arguments: 1 / 0", 70, "ZeroDivisionError"),
        ("del main.run", 70, "ImportError"),
        ("def run(arguments): raise KeyboardInterrupt\nmain.run = run", 130, ""),
        ("main.run = lambda arguments: sys.exit(3)", 3, ""),
    ],
)
def test_nothing_ends_with_1(broken_part, code, told):
    """Even a fault in what reports faults, or a part that is not there, ends with 70."""
    done = subprocess.run(
        [sys.executable, "-c", NO_REPORT.format(broken_part)], capture_output=True, text=True, check=False
    )

    assert done.returncode == code
    assert told in done.stderr
    assert bool(done.stderr) is bool(told)


def operator(tmp_path):
    """Run the operator in this process, and leave the loggers as they were."""
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("{}")
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        return run("reconcile", "--kubeconfig", str(kubeconfig), "--log-format", "json")
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_operator_whose_reader_has_gone(monkeypatch, tmp_path):
    """A closed pipe is no fault of the operator's either."""
    monkeypatch.setattr(app.Operator, "run", fail(streams.ReaderGone()))
    done = operator(tmp_path)

    assert (done.code, done.err) == (141, "")


def test_operator_that_fails_logs_where(monkeypatch, tmp_path):
    """An operator that fails is not run again with --debug to see why: its log has the traceback."""
    monkeypatch.setattr(app.Operator, "run", fail(RuntimeError("odd")))
    done = operator(tmp_path)

    logged, last = done.err.splitlines()
    assert done.code == 70
    assert "RuntimeError: odd" in json.loads(logged)["exception"]
    assert last.startswith("error: chronik itself failed: RuntimeError: odd; ")


def test_talk_is_wrapped_on_a_terminal_alone(monkeypatch, capsys):
    """What is said for people is wrapped to a terminal, with its indent, and is one line where there is none."""
    text = "demo/c: Aborted: errors is 0.2, more than 0.01\n  ingest: 0 of 4 pods on it, \x1b[31mall of them"
    streams.say(text)
    assert capsys.readouterr().out == text.replace("\x1b", "\\x1b") + "\n"
    monkeypatch.setattr(streams, "_columns", lambda _stream: 40)
    streams.say(text, err=True)

    assert capsys.readouterr().err.splitlines() == [
        "demo/c: Aborted: errors is 0.2, more",
        "  than 0.01",
        "  ingest: 0 of 4 pods on it, \\x1b[31mall",
        "    of them",
    ]
