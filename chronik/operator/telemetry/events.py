"""Kubernetes Events: what a person should know who looks at a cluster with `kubectl describe`.

`Recorder.record` never waits: events are queued, sent by a task of their own, and lost rather than in the way. What is
said again and again is counted, and written once in ten minutes. A namespace that is being deleted takes no Events:
once the server has said so, none are sent there.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from chronik.clock import Clock, timestamp
from chronik.errors import NamespaceTerminating
from chronik.manifest import EVENT, FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.kube import Kube
    from chronik.manifest import Manifest

_log = logging.getLogger("chronik.operator.events")

EventType = Literal["Normal", "Warning"]

WINDOW = 600.0  # seconds in which the same event is written once
BURST, REFILL = 25, 300.0  # events of one object and type at once, and seconds until one more: as client-go's
LONGEST_MESSAGE = 1024  # bytes that the API server takes
_WAITING = 1000
_REMEMBERED = 4096
_SEND_SECONDS = 15.0

T = TypeVar("T")


class _Recent(Generic[T]):
    """The entries that were used last; older ones are forgotten, so that memory has an end."""

    def __init__(self) -> None:
        self._entries: OrderedDict[object, T] = OrderedDict()

    def get(self, key: object, new: Callable[[], T]) -> T:
        """Return an entry, a new one if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = new()
            if len(self._entries) > _REMEMBERED:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return entry


@dataclass(slots=True)
class _Said:
    """When an event was last written, and how often it was wanted since, and since when."""

    written: float | None = None
    held_back: int = 0
    first: str = ""


@dataclass(slots=True)
class _Closed:
    """Until when a namespace takes no events, because it is being deleted."""

    until: float = float("-inf")


@dataclass(slots=True)
class _Allowance:
    """How many events an object may still have, at a time."""

    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + (now - self.at) / REFILL)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Recorder:
    """Writes Events in the name of one operator; `instance` is which one. Needs create on events. Run `run` beside."""

    def __init__(self, kube: Kube, instance: str, *, clock: Clock | None = None) -> None:
        self._kube, self._instance, self._clock = kube, instance, clock or Clock()
        self._queue: asyncio.Queue[Manifest] = asyncio.Queue(_WAITING)
        self._said: _Recent[_Said] = _Recent()
        self._allowances: _Recent[_Allowance] = _Recent()
        self._closing: _Recent[_Closed] = _Recent()
        self._complaint = ""

    def record(self, involved: Manifest, type: EventType, reason: str, note: str) -> None:  # noqa: A002  # the API's word
        """Record an Event about an object; returns at once, and never fails.

        `reason` is CamelCase. The same event within ten minutes is counted, and the next one written has the count.
        """
        metadata, now, when = involved["metadata"], self._clock.now(), timestamp()
        subject = metadata.get("uid") or (involved["kind"], metadata.get("namespace"), metadata["name"])
        said = self._said.get((subject, type, reason, note), _Said)
        if self._is_closed(metadata.get("namespace", "")):
            return
        said.first = said.first or when
        said.held_back += 1
        if said.written is not None and now - said.written < WINDOW:
            return
        if not self._allowances.get((subject, type), lambda: _Allowance(BURST, now)).take(now):
            return
        event = self._event(involved, type=type, reason=reason, message=shorten(note))
        event |= {"count": said.held_back, "firstTimestamp": said.first, "lastTimestamp": when}
        said.written, said.held_back, said.first = now, 0, ""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._complain("too many are waiting")

    async def run(self) -> None:
        """Send what was recorded, one after the other, for ever."""
        while True:
            event = await self._queue.get()
            try:
                if not self._is_closed(event["metadata"]["namespace"]):
                    async with asyncio.timeout(_SEND_SECONDS):
                        await self._kube.create(event)
                    self._complaint = ""
            except NamespaceTerminating:
                self._closing.get(event["metadata"]["namespace"], _Closed).until = self._clock.now() + WINDOW
            except Exception as error:  # noqa: BLE001  # whatever it is, the next event may get through
                self._complain(str(error) or type(error).__name__)
            finally:
                self._queue.task_done()

    async def flush(self, within: float) -> None:
        """Wait until everything is sent, but no more than so many seconds; `run` must be running."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), within)

    def _is_closed(self, namespace: str) -> bool:
        return self._closing.get(namespace, _Closed).until > self._clock.now()

    def _complain(self, text: str) -> None:
        """Log why events are lost, once in a row of failures."""
        level = logging.DEBUG if self._complaint else logging.WARNING
        self._complaint = text
        _log.log(level, "an event was not written: %s", text)

    def _event(self, involved: Manifest, **fields: str) -> Manifest:
        """Return an Event; every field that `kubectl describe`, `kubectl events` and client-go's own look at is set."""
        metadata = involved["metadata"]
        namespace = metadata.get("namespace", "")
        about: dict[str, Any] = {
            "apiVersion": involved["apiVersion"],
            "kind": involved["kind"],
            "name": metadata["name"],
        }
        about |= {key: metadata[key] for key in ("namespace", "uid", "resourceVersion") if metadata.get(key)}
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{metadata['name'][:200].rstrip('.-')}.{uuid.uuid4().hex[:16]}",
                "namespace": namespace or "default",
            },
            "involvedObject": about,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance[:128],
            **fields,
        }


def shorten(text: str) -> str:
    """Return a text of at most 1024 bytes in UTF-8, without cutting a character in two."""
    raw = text.encode()
    if len(raw) <= LONGEST_MESSAGE:
        return text
    return raw[: LONGEST_MESSAGE - len("…".encode())].decode("utf-8", "ignore") + "…"
