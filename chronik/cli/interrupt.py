"""Runs a command's coroutine, and ends it in good order when a signal asks for that."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chronik.errors import ChronikError
from chronik.tasks import ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")


class Interrupted(Exception):
    """A signal asked to stop while nothing was being changed."""


class Interruption:
    """What Ctrl-C and SIGTERM ask for: once, to come to an end; twice, to end at once.

    Code that changes something looks at `asked`, finishes what is under way, and reports. Everything else is awaited
    `until_asked`. `notice`, if any, is printed at the first signal.
    """

    def __init__(self, notice: str = "") -> None:
        self.asked = asyncio.Event()
        self.signal = 0
        self.notice = notice

    async def until_asked(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what changes nothing, and give it up at the first signal.

        Raises:
            Interrupted: a signal came.
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
        with suppress(NotImplementedError, RuntimeError):  # on Windows, and where `run` is called in a thread
            loop.add_signal_handler(number, ask, number)
