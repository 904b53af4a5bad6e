"""Runs `chronik reconcile` as a process of its own, so that a test can kill it, stop it and wake it as machines do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from support.api import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

LOOPBACK = ("--host", "127.0.0.1", "--health-port", "0", "--metrics-port", "0")
RESYNC = ("--resync", "600")
"""Far longer than a test waits, so that what a test waits for has to come by an event."""


class Page(NamedTuple):
    """What one of the operator's HTTP ports answered."""

    code: int
    text: str


class OperatorProcess:
    """One run of `chronik reconcile`; as a context manager it is killed at the end, if it still runs.

    `user` is the context of the kubeconfig, and so the user in the server's request log. `log` is a file that all
    runs with the same name append to; `lines` reads those of this run only.
    """

    def __init__(
        self,
        kubeconfig: Path | str,
        log: Path,
        *arguments: str,
        user: str = ADMIN,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.log = log
        self._ports: dict[str, int] = {}
        self._pages: list[str] = []
        command = [sys.executable, "-m", "chronik", "reconcile", "--kubeconfig", str(kubeconfig), "--context", user]
        with log.open("ab") as stream:
            self._offset = stream.tell()
            self.process = subprocess.Popen(
                [*command, *LOOPBACK, *RESYNC, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "OPERATOR_NAME": user, **(environ or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def text(self) -> str:
        """All that this run has written to stdout and stderr."""
        with self.log.open("rb") as stream:
            stream.seek(self._offset)
            return stream.read().decode()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines; the last one may still be in the writing. Fails on a line that is no JSON."""
        return [json.loads(line) for line in self.text.rpartition("\n")[0].splitlines()]

    def messages(self) -> list[str]:
        """Return the messages of the log."""
        return [line["message"] for line in self.lines()]

    def said(self, pattern: str) -> bool:
        """Tell whether a message of the log matches."""
        return any(re.search(pattern, message) for message in self.messages())

    def kill(self) -> None:
        """End the process at once, as the kernel does when memory is short. Does nothing if it has ended."""
        if self.runs:
            self.process.kill()
        self.process.wait()

    def terminate(self, within: float = 30.0, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask the process to end, and return how many seconds it took to."""
        asked = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(within)
        return time.monotonic() - asked

    def pause(self) -> None:
        """Stop the process where it is, as a suspended machine does."""
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let a process that was paused go on."""
        self.process.send_signal(signal.SIGCONT)

    def wait_said(self, pattern: str, seconds: float = 90.0) -> None:
        """Wait until a message of the log matches."""
        until(lambda: self.said(pattern) or self._ended(pattern), seconds, lambda: f"{pattern!r} in:\n{self.text}")

    def ready(self) -> Page:
        """Ask whether it is ready."""
        return self._ask("health_port", "/ready")

    def metrics(self) -> dict[str, float]:
        """Return the samples of its metrics, by name and labels."""
        page = self._ask("metrics_port", "/metrics")
        samples = (line.rpartition(" ") for line in page.text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def _ended(self, pattern: str) -> bool:
        assert self.runs, f"it ended with {self.process.returncode} before it said {pattern!r}:\n{self.text}"
        return False

    def _ask(self, port: str, path: str) -> Page:
        if not self._ports:
            until(lambda: any("health_port" in line for line in self.lines()), 90, lambda: f"ports in:\n{self.text}")
            self._ports = next(line for line in self.lines() if "health_port" in line)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[port]}{path}", timeout=10) as answer:
                return Page(answer.status, answer.read().decode())
        except urllib.error.HTTPError as refused:
            with refused:
                return Page(refused.code, refused.read().decode())


def until(holds: Callable[[], Any], seconds: float = 90.0, what: Callable[[], str] = lambda: "") -> Any:
    """Wait until a question is answered with something true, and return that."""
    for _ in _ticks(seconds):
        found = holds()
        if found:
            return found
    raise AssertionError(f"not within {seconds:.0f} s: {what()}")


def _ticks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
    yield
