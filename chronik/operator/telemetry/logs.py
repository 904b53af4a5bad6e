"""The operator's log: one line for each thing that happened, for machines in a pod and for people on a terminal.

`cli_reconcile` calls `setup` once, and `operator` puts `correlated` around each pass over a cluster, so that every line
that is written meanwhile, a library's too, names the cluster and the pass (S16, S35, S52).
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from chronik.operator.telemetry import tracing as operator_tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger("chronik.operator.logs")


# --- which cluster a line is about ------------------------------------------------------------------------------------

_pass: ContextVar[tuple[str, str]] = ContextVar("pass", default=("", ""))


@contextmanager
def correlated(cluster: str) -> Iterator[str]:
    """Put a cluster and a fresh correlation id on all lines of the block; yield the id."""
    correlation_id = uuid.uuid4().hex[:12]
    token = _pass.set((cluster, correlation_id))
    try:
        yield correlation_id
    finally:
        _pass.reset(token)


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
_ALWAYS_THERE = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}


def mask(text: str) -> str:
    """Return a text without what looks like credentials. The last resort: nobody should log any."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the caller gave beside the message."""
    given = {key: value for key, value in record.__dict__.items() if key not in _ALWAYS_THERE}
    return {key: "***" if _SECRET_KEY.search(key) else _plain(value) for key, value in given.items()}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else mask(str(value))


class _Formatter(logging.Formatter):
    def _trace(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return mask("\n".join(parts))


class JsonFormatter(_Formatter):
    """One JSON object a line: ts, level, logger, message, then cluster, correlation_id and trace_id if there are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        cluster, correlation_id = _pass.get()
        line = {
            "ts": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        found = {
            "cluster": cluster,
            "correlation_id": correlation_id,
            "trace_id": operator_tracing.trace_id(),
            "exception": self._trace(record),
        }
        line |= {key: value for key, value in found.items() if value}
        return json.dumps(
            line | _extra(record) | line, ensure_ascii=False
        )  # what a caller adds comes last, and hides nothing


_COLOURS = ((logging.ERROR, "31"), (logging.WARNING, "33"), (logging.INFO, "32"), (0, "2"))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class TextFormatter(_Formatter):
    """One line for people: time, level, logger, cluster, message, extras. Control characters are shown, not sent."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; only a traceback has more of them."""
        cluster, correlation_id = _pass.get()
        message = "; ".join(filter(None, map(str.strip, mask(record.getMessage()).splitlines())))
        extra = _extra(record) | ({"id": correlation_id} if correlation_id else {})
        pairs = "".join(f"  {key}={value}" for key, value in extra.items())
        about = f"{cluster}: " if cluster else ""
        head = f"{_time(record):%H:%M:%S}.{int(record.msecs):03} {self._level(record)}"
        text = f"{record.name.removeprefix('chronik.')}  {about}{message}{pairs}"
        lines = filter(None, (text, self._trace(record)))
        return f"{head} {_CONTROL.sub(_show, chr(10).join(lines))}"

    def _level(self, record: logging.LogRecord) -> str:
        name = f"{record.levelname:<7}"
        code = next(code for level, code in _COLOURS if record.levelno >= level)
        return f"\x1b[{code}m{name}\x1b[0m" if self._colour else name


def _show(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


# --- set up -----------------------------------------------------------------------------------------------------------


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second `setup` can tell it from others."""


def setup(environ: Mapping[str, str], stream: TextIO, log_format: str = "auto") -> None:
    """Write all logs to a stream: JSON if that is no terminal, or as `log_format` (auto, json, text) says.

    Levels come from CHRONIK_LOG, else from RUST_LOG; words there that say nothing get a warning.
    """
    variable = "CHRONIK_LOG" if environ.get("CHRONIK_LOG") else "RUST_LOG"
    levels = parse_levels(environ.get(variable, ""))
    logging.addLevelName(_LEVELS["trace"], "TRACE")
    handler = _Handler(stream)
    handler.setFormatter(_formatter(environ, stream, log_format))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(levels.default)
    for name, level in levels.loggers.items():
        logging.getLogger(name).setLevel(level)
    for word in levels.unknown:
        _log.warning("%s: %r is no level and no TARGET=LEVEL; levels are %s", variable, word, ", ".join(_LEVELS))


def _formatter(environ: Mapping[str, str], stream: TextIO, log_format: str) -> logging.Formatter:
    terminal = stream.isatty()
    if log_format == "json" or (log_format == "auto" and not terminal):
        return JsonFormatter()
    return TextFormatter(colour=terminal and not environ.get("NO_COLOR"))
