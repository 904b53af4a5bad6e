"""The operator's log: one line for each thing that happened, for machines in a pod and for people on a terminal.

All modules and libraries log by stdlib `logging`; structlog's processors make the lines. Every line that is written
inside `correlated` names the cluster and the pass, a library's too (S16, S35, S52).
"""

from __future__ import annotations

import logging
import re
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, plain_traceback
from structlog.processors import EventRenamer, JSONRenderer, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from chronik.operator.telemetry import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from structlog.typing import EventDict, Processor, WrappedLogger

_log = logging.getLogger("chronik.operator.logs")


# --- which cluster a line is about ------------------------------------------------------------------------------------


@contextmanager
def correlated(cluster: str) -> Iterator[str]:
    """Put a cluster and a fresh correlation id on all lines of the block; yield the id."""
    correlation_id = uuid.uuid4().hex[:12]
    with bound_contextvars(cluster=cluster, correlation_id=correlation_id):
        yield correlation_id


# --- which lines are written ------------------------------------------------------------------------------------------

_LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 10,
}
_TARGET = re.compile(r"[A-Za-z_][\w-]*(?:(?:::|\.)[A-Za-z_][\w-]*)*\Z")
_ROOTS = ("chronik", "aiohttp", "asyncio", "kubernetes", "opentelemetry", "urllib3")


@dataclass(frozen=True, slots=True)
class Levels:
    """What a variable like `info,chronik_operator=debug` says; `unknown` are the words that say nothing."""

    default: int = logging.INFO
    loggers: Mapping[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def parse_levels(text: str) -> Levels:
    """Read RUST_LOG's syntax: LEVEL, TARGET or TARGET=LEVEL, separated by commas; the last one wins.

    A target alone means all of its lines. `chronik_operator::lease` is the logger `chronik.operator.lease`.
    Source: https://docs.rs/env_logger/latest/env_logger/#enabling-logging, without its filters in brackets and regexes.
    """
    default, loggers, unknown = logging.INFO, {}, []
    for word in filter(None, (part.strip() for part in text.split(","))):
        target, equals, level = (part.strip() for part in word.partition("="))
        if not equals and target.lower() in _LEVELS:
            default = _LEVELS[target.lower()]
        elif _TARGET.match(target) and level.lower() in _LEVELS:
            loggers[_logger_name(target)] = _LEVELS[level.lower()]
        elif not equals and _TARGET.match(target) and _logger_name(target).split(".")[0] in _ROOTS:
            loggers[_logger_name(target)] = _LEVELS["trace"]
        else:
            unknown.append(word)
    return Levels(default, loggers, tuple(unknown))


def _logger_name(target: str) -> str:
    return re.sub(r"^chronik_", "chronik.", target.replace("::", "."))


# --- how a line looks -------------------------------------------------------------------------------------------------

_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"), "***"),  # a JSON Web Token
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), r"\1:***@"),
    (
        re.compile(
            r"((?:password|passwd|token|api_?key|secret_?key|secret_?access_?key)[\"']?\s*(?:=|(?<=[\"']):)\s*[\"']?)"
            r"[^\s\"',;&]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
_SECRET_KEY = re.compile(r"password|passwd|token|authorization|api_?key|secret_?(access_?)?key", re.IGNORECASE)


def mask(text: str) -> str:
    """Return a text without what looks like credentials. The last resort: none should be logged."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _add_circumstances(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Add when, in which pass and in which trace a line was written."""
    record = event["_record"]
    written = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    event.update(get_contextvars(), ts=written.replace("+00:00", "Z"))
    if trace_id := tracing.trace_id():
        event["trace_id"] = trace_id
    if stack := event.pop("stack_info", ""):
        event["exception"] = f"{event['exception']}\n{stack}" if "exception" in event else stack
    return event


def _masked(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    return {key: "***" if _SECRET_KEY.search(key) else _plain(value) for key, value in event.items()}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else mask(str(value))


_FIRST = ("ts", "level", "logger", "message", "cluster", "correlation_id", "trace_id", "exception")


def _ordered(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    return {key: event[key] for key in (*_FIRST, *event) if key in event}


_LINE: tuple[Processor, ...] = (
    EventRenamer("message"),
    ExtraAdder(),  # before all that follows: what a caller adds hides nothing
    add_log_level,
    add_logger_name,
    format_exc_info,
    _add_circumstances,
    ProcessorFormatter.remove_processors_meta,
    _masked,
    _ordered,
)
_COLOURS = {"critical": "31", "error": "31", "warning": "33", "info": "32"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _for_people(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Make a line short: only a traceback has more of them. Control characters are shown, not sent."""
    event["ts"] = event["ts"][len("2026-01-01T") : -len("Z")]
    event["logger"] = event["logger"].removeprefix("chronik.")
    event["message"] = "; ".join(filter(None, map(str.strip, event["message"].splitlines())))
    event.pop("trace_id", None)
    if "correlation_id" in event:
        event["id"] = event.pop("correlation_id")
    return {key: _CONTROL.sub(_show, str(value)) for key, value in event.items()}


def _show(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def _console(*, colour: bool) -> ConsoleRenderer:
    """Return what writes a line for people: time, level, logger, cluster, message, then what was given beside."""

    def level(key: str, value: object) -> str:  # noqa: ARG001  # as structlog calls it
        name = f"{str(value).upper():<7}"
        return f"\x1b[{_COLOURS.get(str(value), '2')}m{name}\x1b[0m" if colour else name

    def value(after: str = "") -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, "", "", str, postfix=after)

    columns = [
        Column("ts", value()),
        Column("level", level),
        Column("logger", value(after=" ")),
        Column("cluster", value(after=":")),
        Column("message", value()),
        Column("", KeyValueColumnFormatter("", "", "", str, prefix=" ")),
    ]
    return ConsoleRenderer(columns=columns, sort_keys=False, exception_formatter=plain_traceback)


# --- set up -----------------------------------------------------------------------------------------------------------


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second `setup` can tell it from others."""


def setup(environ: Mapping[str, str], stream: TextIO, log_format: str = "auto", *, colour: bool = False) -> None:
    """Write all logs to a stream: JSON if that is no terminal, or as `log_format` (auto, json, text) says.

    Text can have `colour`. Levels come from CHRONIK_LOG, else from RUST_LOG; words there that say nothing get a
    warning.
    """
    variable = "CHRONIK_LOG" if environ.get("CHRONIK_LOG") else "RUST_LOG"
    levels = parse_levels(environ.get(variable, ""))
    logging.addLevelName(_LEVELS["trace"], "TRACE")
    handler = _Handler(stream)
    handler.setFormatter(_formatter(stream, log_format, colour=colour))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(levels.default)
    for name, level in levels.loggers.items():
        logging.getLogger(name).setLevel(level)
    for word in levels.unknown:
        _log.warning("%s: %r is no level and no TARGET=LEVEL; levels are %s", variable, word, ", ".join(_LEVELS))


def _formatter(stream: TextIO, log_format: str, *, colour: bool) -> logging.Formatter:
    if log_format == "json" or (log_format == "auto" and not stream.isatty()):
        return ProcessorFormatter(processors=[*_LINE, JSONRenderer(ensure_ascii=False)])
    return ProcessorFormatter(processors=[*_LINE, _for_people, _console(colour=colour)])
