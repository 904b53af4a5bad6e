"""What options and arguments take: each value is checked when it is read, as a document's field of that kind would be.

Nothing that ends up in a manifest, a name, a label or a URL is just any text. An empty value is refused everywhere: it
comes from a variable that is not set, and would mean everything, or the cluster that happens to be the current one.
"""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING, Any

import click

from chronik.api import names
from chronik.manifest import FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from chronik.manifest import ObjectRef

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = f"(?a:(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?|{_NUMBER})"  # compiled if one is given
_SECONDS = (3600.0, 60.0, 1.0, 0.001, 1.0)
_LONGEST_DURATION = (2**63 - 1) / 1e9
"""In seconds: the longest that kubectl takes, 292 years."""
_CONTROL = "[\0-\x1f\x7f]"
_DOCUMENT = r"(?is:-|.*\.(?:ya?ml|json))"
MOST_REPLICAS = 2**31 - 1
COMPLETE_WITHIN = 0.28
"""Seconds from the start of the process after which nothing is looked up any more: the shell has its answer by 0.3."""


class Text(click.ParamType[str]):
    """A text that is not empty and passes a check, which returns what is wrong with it, or ""."""

    def __init__(self, name: str, check: Callable[[str], str], *, completes: str = "plain") -> None:
        self.name = name
        self._check = check
        self._completes = completes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        text = str(value)
        error = self._check(text) if text.strip() else "it is empty. Is the variable set that it comes from?"
        if error:
            self.fail(error, param, ctx)
        return text

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a name that is looked up; files and folders the shell completes by itself."""
        del param
        if self._completes in {"file", "dir"}:
            return [_completed(incomplete, self._completes)]
        names = [] if self._completes == "plain" else _looked_up(self._completes, ctx)
        return [_completed(name, "plain") for name in names if name.startswith(incomplete)]


def _looked_up(what: Any, ctx: click.Context) -> list[str]:
    """Return the names that there are of something, by the options before it, in what is left of the time."""
    from chronik.kube import ConnectOptions  # noqa: PLC0415  # only completion looks anything up
    from chronik.kube.lookup import names_within  # noqa: PLC0415

    kubeconfig, context, namespace = (ctx.params.get(name) or "" for name in ("kubeconfig", "context", "namespace"))
    options = ConnectOptions(kubeconfig=kubeconfig, context=context, namespace=namespace)
    return names_within(COMPLETE_WITHIN - time.process_time(), what, options)


def form(name: str, wanted: names.Form, what: str, *, completes: str = "plain") -> Text:
    """Return the type of options that take a text of a form; `what` says what that is."""

    def check(text: str) -> str:
        return "" if wanted.fits(text) else f"{text!r} is no {what}: {wanted.allowed}"

    return Text(name, check, completes=completes)


def _cluster_name(text: str) -> str:
    if names.CLUSTER_NAME.fits(text):
        return ""
    if re.fullmatch(_DOCUMENT, text) or os.path.exists(text):  # noqa: PTH110  # Path.exists raises where it may not look
        import shlex  # noqa: PLC0415  # only a mistake needs it

        return f"{text!r} names documents, and no cluster. Did you mean -f {shlex.quote(text)}?"
    allowed = "; its namespace is given with -n" if "/" in text else f": {names.CLUSTER_NAME.allowed}"
    return f"{text!r} is no name of a cluster{allowed}"


def _printable(text: str) -> str:
    return f"{text!r} holds a control character" if re.search(_CONTROL, text) else ""


def _url_error(text: str) -> str:
    found = re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text)
    return "" if found else f"{text!r} is no URL such as http://prometheus.monitoring:9090, without user, query and #"


NAMESPACE = form("namespace", names.NAMESPACE, "name of a namespace", completes="namespaces")
OBJECT_NAME = form("name", names.OBJECT_NAME, "name of an object")
DNS_DOMAIN = form("domain", names.DNS_DOMAIN, "DNS domain, such as cluster.local")
IMAGE = form("image", names.IMAGE, "image reference")
ADDRESS = form("address", names.ADDRESS, "address of this machine")
URL = Text("url", _url_error)
SOURCE_NAME = form("name", names.SOURCE_NAME, "name of a source")
SERVER = form("server", names.SERVER, "broker's host and port")
CLUSTER_NAME = Text("name", _cluster_name, completes="clusters")
SELECTOR = Text("selector", names.selector_error)
REVISION = Text("revision", _printable)
FIELD = Text("field", _printable)
_PLAIN = Text("object", _printable)
CONTEXT = Text("context", _printable, completes="contexts")
FILE = Text("file", _printable, completes="file")
FOLDER = Text("folder", _printable, completes="dir")


class NamespacedName(click.ParamType[tuple[str, str]]):
    """An object by namespace and name: `chronik/templates`."""

    name = "object"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Take it apart."""
        if isinstance(value, tuple):
            return value
        namespace, slash, name = _PLAIN.convert(value, param, ctx).partition("/")
        if not slash:
            self.fail(f"{value!r} does not say which namespace: write NAMESPACE/NAME", param, ctx)
        return NAMESPACE.convert(namespace, param, ctx), OBJECT_NAME.convert(name, param, ctx)


class Source(click.ParamType[str]):
    """What `-f` takes. It is read later, with all others, so that whatever is wrong with them is told at once."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Have the shell complete files by itself."""
        del ctx, param
        return [_completed(incomplete, "file")]


class Object(click.ParamType["ObjectRef"]):
    """A rendered object: `service/events`, or with its namespace, as `chronik diff` names it."""

    name = "object"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ObjectRef:
        """Return what a text names."""
        from chronik.manifest import ObjectRef  # noqa: PLC0415  # only `explain` names objects

        if isinstance(value, ObjectRef):
            return value
        text = _PLAIN.convert(value, param, ctx)
        kind, *namespace, name = text.split("/") if "/" in text else ("", "")
        if not kind or not name or len(namespace) > 1:
            self.fail(f"{value!r} names no object; write KIND/NAME, as in service/events", param, ctx)
        return ObjectRef(kind, "".join(namespace), name)


def _completed(incomplete: str, what: str) -> CompletionItem:
    from click.shell_completion import CompletionItem  # noqa: PLC0415  # commands that run do not need it

    return CompletionItem(incomplete, type=what)


class Duration(click.ParamType[float]):
    """A length of time as kubectl takes it: `30s`, `5m`, `1h30m`, `500ms`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return how many seconds a text means."""
        if isinstance(value, float):  # converted before
            return value
        parts = re.fullmatch(_DURATION, value)
        if not value or parts is None:
            self.fail(f"{value!r} is no length of time; write 30s, 5m or 1h30m", param, ctx)
        seconds = sum(float(part or 0) * unit for part, unit in zip(parts.groups(), _SECONDS, strict=True))
        if seconds > _LONGEST_DURATION:
            self.fail(f"{value!r} is too long; write 30s, 5m or 1h30m", param, ctx)
        return seconds


class Choices(click.ParamType[tuple[str, ...]]):
    """Some of several words, with commas between them."""

    name = "words"

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words, each once."""
        if isinstance(value, tuple):  # converted before
            return value
        found = tuple(dict.fromkeys(str(value).split(",")))
        for word in found:
            if word not in self._words:
                self.fail(f"{word!r} is none of {', '.join(self._words)}", param, ctx)
        return found

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the last word."""
        del ctx, param
        before, comma, last = incomplete.rpartition(",")
        return [_completed(f"{before}{comma}{word}", "plain") for word in self._words if word.startswith(last)]


def together(ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return what an option with commas was given in all, each once: `--members a --members b` is `--members a,b`."""
    del ctx, param
    return tuple(dict.fromkeys(each for given in value for each in given))


def features_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that names features; `text` says what a command does with them."""
    return click.option(
        "--features",
        type=Choices(FEATURES),
        metavar="FEATURE,…",
        multiple=True,
        callback=together,
        help=text,
    )


class Names(click.ParamType[tuple[str, ...]]):
    """Some names, with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names, each once."""
        if isinstance(value, tuple):  # converted before
            return value
        if not str(value).strip():
            self.fail("it is empty. Is the variable set that it comes from?", param, ctx)
        found = tuple(dict.fromkeys(each.strip() for each in str(value).split(",")))
        if not all(found):
            self.fail("a name is empty", param, ctx)
        return found


class Seconds(click.FloatRange):
    """A number of seconds in a range; what is no number, `nan`, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number", param, ctx)
        return seconds


def with_options(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command several options."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
