"""What commands that talk to a cluster have in common: kubectl's flags, what they read, and how they are interrupted.

`cli_apply`, `cli_diff`, `cli_status` and `cli_delete` are built on it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chronik.cli.main import domain_option, files_option, recursive_option, show_problems, templates_option
from chronik.errors import ChronikError
from chronik.kube.interface import ConnectOptions
from chronik.report.page import visible
from chronik.tasks import ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

    Command = Callable[..., Any]
    Rendered = tuple[Cluster, list[Manifest]]

T = TypeVar("T")

CLUSTERS_AT_ONCE = 8
"""How many clusters are worked on side by side; the client bounds the requests of all of them together."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", re.ASCII)


def duration(text: str) -> float:
    """Return how many seconds a text means that kubectl would take: `30s`, `5m`, `1h30m`, or a number of seconds."""
    parts = _DURATION.fullmatch(text)
    if not text or parts is None:
        raise click.BadParameter(f"{text!r} is no length of time; write 30s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds


_CLUSTER_OPTIONS = (
    click.option("--kubeconfig", default="", metavar="FILE", help="Which kubeconfig.  [default: as kubectl]"),
    click.option("--context", default="", help="Which context of the kubeconfig.  [default: the current one]"),
    click.option(
        "-n", "--namespace", default="", help="Namespace for documents that name none.  [default: the context's]"
    ),
    click.option(
        "--request-timeout",
        metavar="DURATION",
        type=duration,
        default="30s",
        show_default=True,
        help="How long one attempt of one request may take.",
    ),
)


def cluster_options(command: Command) -> Command:
    """Give a command kubectl's flags for the cluster; it gets them as one `options`, a ConnectOptions.

    Warnings of the API server go to stderr, each once.
    """

    @wraps(command)
    def connected(*, kubeconfig: str, context: str, namespace: str, request_timeout: float, **others: Any) -> Any:
        options = ConnectOptions(
            kubeconfig=kubeconfig,
            context=context,
            namespace=namespace,
            request_timeout=request_timeout or float("inf"),
            on_warning=Warnings(),
        )
        return command(options=options, **others)

    return _with(connected, _CLUSTER_OPTIONS)


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


class Warnings:
    """Writes the API server's warnings to stderr, each once, whatever they are about."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, subject: str, text: str) -> None:
        """Tell a warning, if it is new."""
        if text not in self._told:
            self._told.add(text)
            click.echo(f"warning: {visible(subject)}: {visible(text)}", err=True)


@dataclass(frozen=True, slots=True)
class Source:
    """Where clusters are described, and what they are rendered with."""

    files: tuple[str, ...]
    recursive: bool
    templates: str | None
    domain: str

    def rendered(self, namespace: str, fallback: str) -> list[Rendered]:
        """Return each cluster with its manifests, and write warnings about documents to stderr.

        `namespace` is what -n says, `fallback` is the context's.

        Raises:
            InputError: something cannot be read, parsed or rendered; nothing was sent yet.
        """
        from chronik.offline import loading as offline  # noqa: PLC0415  # `--help` stays quick

        clusters, warnings = offline.load_clusters(
            self.files,
            recursive=self.recursive,
            namespace=namespace or None,
            fallback=fallback,
            domain=self.domain,
        )
        render = offline.renderer(self.templates)
        rendered = [(cluster, render(cluster)) for cluster in clusters]
        show_problems(warnings)
        return rendered

    def owned(self, cluster: Cluster, uid: str) -> Rendered:
        """Return a cluster as its operator renders it: its objects belong to the ChronikCluster with this uid."""
        from chronik.offline import loading as offline  # noqa: PLC0415

        theirs = replace(cluster, uid=uid)
        return theirs, offline.renderer(self.templates)(theirs)

    def for_operator(self, namespace: str) -> str:
        """Return the command that hands the same documents to an operator; `namespace` is what -n says."""
        flags = [f"-f {shlex.quote(file)}" for file in self.files]
        flags += ["-R"] if self.recursive else []
        flags += [f"-n {shlex.quote(namespace)}"] if namespace else []
        return f"`kubectl apply {' '.join(flags)}`"


def source_options(command: Command) -> Command:
    """Give a command the flags of `chronik render` that say what to render; it gets them as one `source`."""

    @wraps(command)
    def sourced(
        *, files: tuple[str, ...], recursive: bool, templates: str | None, cluster_domain: str, **others: Any
    ) -> Any:
        return command(source=Source(files, recursive, templates, cluster_domain), **others)

    return _with(sourced, (files_option, recursive_option, templates_option, domain_option))


class Interrupted(Exception):
    """Somebody asked to stop while nothing was being changed."""


class Interruption:
    """What Ctrl-C and SIGTERM ask for: once, to come to an end; twice, to end at once.

    Whoever changes something looks at `asked`, finishes what is under way, and reports. Everything else is awaited
    `until_asked`. `notice` is what to say at once when somebody asks, if anything.
    """

    def __init__(self, notice: str = "") -> None:
        self.asked = asyncio.Event()
        self.signal = 0
        self.notice = notice

    async def until_asked(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what changes nothing, and give it up as soon as somebody asks to stop.

        Raises:
            Interrupted: somebody did.
        """
        if self.signal:
            work.close()
            raise Interrupted
        task, asked = asyncio.create_task(work), asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Interrupted
        finally:
            await ended(task, asked)


def run_async(main: Callable[[Interruption], Awaitable[int]]) -> int:
    """Run a command's coroutine, and return its exit code, or 128 and the signal's number if it was interrupted."""
    _load_client()
    return asyncio.run(_interruptible(main))


def _load_client() -> None:
    """Import the HTTP client without the public certificate authorities, a seventh of the time of a small command.

    aiohttp loads them twice when it is imported, for connections that bring no TLS context; all of ours do.
    """
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    import_module("chronik.kube.transport")
    if before is None:
        del os.environ["SSL_CERT_FILE"]
    else:
        os.environ["SSL_CERT_FILE"] = before


async def _interruptible(main: Callable[[Interruption], Awaitable[int]]) -> int:
    interruption = Interruption()
    _listen(interruption, asyncio.current_task())
    try:
        code = await main(interruption)
    except (asyncio.CancelledError, Interrupted):
        if not interruption.signal:
            raise
        click.echo("interrupted", err=True)
        code = 0
    except ChronikError:
        if not interruption.signal:
            raise
        code = 0  # the connection or so broke while it was given up
    return 128 + interruption.signal if interruption.signal else code


def _listen(interruption: Interruption, task: asyncio.Task[Any] | None) -> None:
    """Have signals ask: the first time to stop, the second time by cancelling, the third by ending the process."""
    loop, asked = asyncio.get_running_loop(), iter((False, True))

    def ask(number: signal.Signals) -> None:
        at_once = next(asked, None)
        if at_once is None or task is None:
            os._exit(128 + number)
        if at_once:
            task.cancel()
            return
        interruption.signal = number
        interruption.asked.set()
        if interruption.notice:
            click.echo(interruption.notice, err=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # on Windows, and in a thread that somebody runs `run` in
            loop.add_signal_handler(number, ask, number)


async def side_by_side(work: Callable[[Rendered], Awaitable[T]], rendered: Sequence[Rendered]) -> list[T]:
    """Do the same about all clusters, some at a time, and return what came of each, in order."""
    free = asyncio.Semaphore(CLUSTERS_AT_ONCE)

    async def one(each: Rendered) -> T:
        async with free:
            return await work(each)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(each)) for each in rendered]
    return [task.result() for task in tasks]


def columns(stream: Any) -> int | None:
    """Return how wide a terminal is, or None for what is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def tell(text: str) -> None:
    """Write text to stderr."""
    if text:
        sys.stdout.flush()
        click.echo(text, err=True, nl=False, color=True)
