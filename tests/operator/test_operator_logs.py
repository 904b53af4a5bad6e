"""Logs: which lines are written, how they look, whom they are about, and what is never in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re

import pytest

from chronik.operator.telemetry import logs, tracing
from chronik.operator.telemetry.logs import correlated, parse_levels

log = logging.getLogger("chronik.operator.test")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """Put levels and handlers back, which are the process's."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("chronik", "chronik.operator", "chronik.operator.lease")}
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def logging_to(stream: io.StringIO, log_format: str = "auto", *, colour: bool = False, **environ: str) -> io.StringIO:
    logs.setup(environ, stream, log_format, colour=colour)
    return stream


def json_lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(error: Exception) -> None:
    raise error


def test_lines_are_json_in_a_pod():
    """Where nobody watches, a line is a JSON object with time, level, logger and message, and what was given beside."""
    out = logging_to(io.StringIO())
    log.warning("wrote %d objects", 3, extra={"seconds": 0.25, "kinds": ["Service"], "more": None})

    (line,) = json_lines(out)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {
        "level": "warning",
        "logger": "chronik.operator.test",
        "message": "wrote 3 objects",
        "seconds": 0.25,
        "kinds": "['Service']",
        "more": None,
    }


def test_extras_replace_nothing():
    """What is given beside a message cannot take the place of what the line is made of."""
    out = logging_to(io.StringIO())
    with correlated("n/a"):
        log.info("x", extra={"cluster": "other", "level": "debug", "ts": "never"})

    (line,) = json_lines(out)
    assert (line["cluster"], line["level"]) == ("n/a", "info")
    assert line["ts"] != "never"


def test_text_on_a_terminal():
    """On a terminal a line is for people, with a coloured level."""
    out = logging_to(Terminal(), colour=True)
    log.info("wrote %d objects", 3, extra={"seconds": 0.25})

    expected = r"\d\d:\d\d:\d\d\.\d{3} \x1b\[32mINFO   \x1b\[0m operator\.test  wrote 3 objects  seconds=0\.25\n"
    assert re.fullmatch(expected, out.getvalue())


@pytest.mark.parametrize(
    ("stream", "log_format", "colour", "is_json", "coloured"),
    [
        (io.StringIO, "auto", False, True, False),
        (io.StringIO, "auto", True, True, False),
        (io.StringIO, "text", False, False, False),
        (io.StringIO, "text", True, False, True),
        (io.StringIO, "json", False, True, False),
        (Terminal, "auto", True, False, True),
        (Terminal, "text", False, False, False),
        (Terminal, "json", True, True, False),
    ],
)
def test_format_and_colour(stream, log_format, colour, is_json, coloured):
    """The format follows the option, else the terminal; text is coloured if the command line says so, JSON never."""
    out = logging_to(stream(), log_format, colour=colour)
    log.info("x")

    assert out.getvalue().startswith("{") == is_json
    assert ("\x1b[" in out.getvalue()) == coloured


def test_text_shows_control_characters():
    """Nothing that is logged moves the cursor, and a message with several lines is one line."""
    out = logging_to(Terminal())
    log.info("first\nsecond \x1b[2J", extra={"name_of_it": "a\rb"})

    assert out.getvalue().endswith("operator.test  first; second \\x1b[2J  name_of_it=a\\x0db\n")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_tracebacks_are_told(log_format):
    """An exception comes with its traceback, in JSON in the same line."""
    out = logging_to(io.StringIO(), log_format)
    try:
        fail(KeyError("spec"))
    except KeyError:
        log.exception("failed")

    text = json_lines(out)[0]["exception"] if log_format == "json" else out.getvalue()
    assert "Traceback" in text
    assert text.rstrip().endswith("KeyError: 'spec'")


async def test_every_line_of_a_pass_has_its_id():
    """All lines of a pass, a library's and those of its tasks too, have its cluster and its id, and no other's."""
    out = logging_to(io.StringIO())

    async def reconcile(name: str) -> str:
        with correlated(f"n/{name}") as correlation_id:
            log.info("%s begins", name)
            await asyncio.sleep(0)
            await asyncio.create_task(library(name))
            return correlation_id

    async def library(name: str) -> None:
        logging.getLogger("aiohttp.client").warning("%s goes on", name)

    first, second = await asyncio.gather(reconcile("a"), reconcile("b"))
    log.info("idle")

    lines = [(line.get("cluster"), line.get("correlation_id"), line["message"]) for line in json_lines(out)]
    assert sorted(lines[:-1]) == [
        ("n/a", first, "a begins"),
        ("n/a", first, "a goes on"),
        ("n/b", second, "b begins"),
        ("n/b", second, "b goes on"),
    ]
    assert lines[-1] == (None, None, "idle")
    assert first != second


def test_text_names_cluster_and_id():
    """People see the cluster before the message and the id at the end."""
    out = logging_to(Terminal())
    with correlated("n/a") as correlation_id:
        log.info("x")

    assert out.getvalue().endswith(f"operator.test  n/a: x  id={correlation_id}\n")


# --- levels -----------------------------------------------------------------------------------------------------------

OPERATOR, LEASE = "chronik.operator", "chronik.operator.lease"


@pytest.mark.parametrize(
    ("text", "default", "loggers", "unknown"),
    [
        ("", 20, {}, ()),
        ("debug", 10, {}, ()),
        ("WARN", 30, {}, ()),
        ("trace", 5, {}, ()),
        ("off", 60, {}, ()),
        ("info,chronik_operator=debug", 20, {OPERATOR: 10}, ()),
        (" error , chronik_operator::lease = trace ", 40, {LEASE: 5}, ()),
        ("chronik.operator.lease=warning", 20, {LEASE: 30}, ()),
        ("chronik_operator", 20, {OPERATOR: 5}, ()),
        ("aiohttp=off,hyper=warn", 20, {"aiohttp": 60, "hyper": 30}, ()),
        ("info,debug", 10, {}, ()),
        (",,info,", 20, {}, ()),
        ("loud", 20, {}, ("loud",)),
        ("warn,chronik_operator=loud", 30, {}, ("chronik_operator=loud",)),
        ("=debug", 20, {}, ("=debug",)),
        ("chronik[span{a=1}]=debug,warn", 30, {}, ("chronik[span{a=1}]=debug",)),
        ("info/regex", 20, {}, ("info/regex",)),
    ],
)
def test_levels(text, default, loggers, unknown):
    """RUST_LOG's syntax is read: a level, a target, or both; what says nothing is kept to be named."""
    levels = parse_levels(text)

    assert (levels.default, levels.loggers, levels.unknown) == (default, loggers, unknown)


def test_unknown_words_get_a_warning():
    """A word that says nothing is named in a warning, and the rest of the variable counts."""
    out = logging_to(io.StringIO(), RUST_LOG="warn,loud")
    log.info("unseen")

    (line,) = json_lines(out)
    assert line["level"] == "warning"
    assert line["message"].startswith("RUST_LOG: 'loud' is no level and no TARGET=LEVEL; levels are trace, debug, info")


def test_chronik_log_wins():
    """CHRONIK_LOG is asked before RUST_LOG; an empty one is none."""
    out = logging_to(io.StringIO(), CHRONIK_LOG="error", RUST_LOG="debug")
    log.warning("unseen")
    assert out.getvalue() == ""

    out = logging_to(io.StringIO(), CHRONIK_LOG="", RUST_LOG="info,chronik_operator=debug")
    log.debug("seen")
    logging.getLogger("aiohttp").debug("unseen")
    assert [line["message"] for line in json_lines(out)] == ["seen"]


def test_second_setup_replaces_the_first():
    """Set up twice, every line is still written once."""
    before, after = logging_to(io.StringIO()), logging_to(io.StringIO())
    log.info("x")

    assert (before.getvalue(), len(json_lines(after))) == ("", 1)


# --- secrets ----------------------------------------------------------------------------------------------------------

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "leak",
    [
        "Authorization: Bearer hunter2hunter2",
        "authorization: basic aHVudGVyMmh1bnRlcjI=hunter2",
        f"a token {TOKEN} of hunter2".replace(" of hunter2", ""),
        "postgres://chronik:hunter2@db:5432/x",
        "password=hunter2",
        '{"password": "hunter2", "user": "chronik"}',
        "DATABASE_PASSWORD=hunter2",
        "AWS_SECRET_ACCESS_KEY='hunter2'",
    ],
)
def test_secrets_are_masked(leak, log_format):
    """What looks like credentials is masked: in the message, in what is given beside, and in a traceback."""
    out = logging_to(io.StringIO(), log_format)
    try:
        fail(ValueError(leak))
    except ValueError:
        log.exception("said %s", leak, extra={"reply": leak, "api_token": "hunter2"})

    assert "***" in out.getvalue()
    assert "hunter2" not in out.getvalue()
    assert TOKEN not in out.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "Secret/n/chronik-postgres-secret: key password is missing",
        "the credentials are not accepted: token expired",
        "https://10.0.0.1:6443 refused: see ConfigMap/n/a-config",
        "metastore.connection.credentialsSecret: chronik-postgres-secret",
    ],
)
def test_names_of_secrets_stay(text):
    """The name of a Secret, or of a key in it, is no secret."""
    assert logs.mask(text) == text


def test_lines_name_the_trace():
    """Within a span, a line has the id of its trace."""
    exporting = pytest.importorskip(
        "opentelemetry.sdk.trace.export", reason="opentelemetry-sdk is not installed: chronik[tracing] has it"
    )
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    out, spans = logging_to(io.StringIO()), memory.InMemorySpanExporter()
    tracing.send_to(exporting.SimpleSpanProcessor(spans))
    try:
        with tracing.span("reconcile"):
            log.info("x")
    finally:
        tracing.shutdown()
    log.info("y")

    first, second = json_lines(out)
    assert int(first["trace_id"], 16) == spans.get_finished_spans()[0].context.trace_id
    assert "trace_id" not in second
