"""Receives the WAL of a server as it is written, and puts it into the store.

pg_receivewal writes segments into a folder; each goes to the store when it is whole, and the one that is being written
at intervals. The replication slot is not pg_receivewal's: it is moved on only when the store has a segment. So the
folder may be lost at any time, with the pod and its node, and the server still has what the store lacks.
"""

from __future__ import annotations

import hashlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik.metastore.archive import (
    HISTORY,
    PARTIAL,
    SEGMENT,
    Archive,
    ArchiveState,
    SlotPlace,
    SlotRecord,
    format_lsn,
    parse_lsn,
    segment_name,
    segment_start,
)
from chronik.metastore.base import Server, identify
from chronik.metastore.errors import BackupError, BackupInterrupted, SlotLeft
from chronik.metastore.tools import Session, Tool, quoted, require_version

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from chronik.metastore.encryption import Key
    from chronik.metastore.runs import Context
    from chronik.metastore.store import Store

_TICK = 0.5
"""Seconds between looks at the folder."""
_LONGEST_PAUSE = 30.0
_CATCH_UP = 10.0
"""Seconds for pg_receivewal to have what the server had a moment ago."""
_SLOT = """SELECT coalesce(restart_lsn::text, ''), wal_status
    FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot};"""
_NEW_SLOT = "SELECT lsn FROM pg_catalog.pg_create_physical_replication_slot({slot}, true);"
_READER = """SELECT coalesce((SELECT pg_catalog.min(pid) FROM pg_catalog.pg_stat_replication
        WHERE application_name = pg_catalog.left({name}, 63)), active_pid, 0)
    FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot};"""
"""A receiver reads without its slot, which it moves on by itself: so the slot does not say that it is in use."""
_DROP_SLOT = "SELECT pg_catalog.pg_drop_replication_slot({slot});"
_MOVE_SLOT = "SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance({slot}, {position});"
_POSITION = """SELECT pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.to_char(
    (pg_catalog.clock_timestamp() - interval '1 second') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');"""
"""A transaction takes the time of its commit a moment before it writes it: a second before now, all are written."""
_RECEIVED = (
    "SELECT coalesce(max(flush_lsn), '0/0') FROM pg_catalog.pg_stat_replication WHERE application_name = {name};"
)
_REMOVED = "has already been removed"


@dataclass
class Receiver:
    """A receiver for one slot. `folder` is its own; `interval` is in seconds; `stop` ends it when all is stored.

    `progress` is a file that is touched whenever the store has all that the server had written a moment ago.
    """

    store: Store
    environment: Mapping[str, str]
    keys: Sequence[Key]
    slot: str
    folder: Path
    interval: float
    context: Context
    stop: threading.Event
    progress: Path | None = None

    def run(self) -> None:
        """Receive until `stop`; when the store or the server goes away, begin anew from what the store has.

        Raises:
            BackupError: it cannot go on, and trying again would not help.
            SlotLeft: it was on another server before.
        """
        pause = 1.0
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                self._receive()
            except SlotLeft:
                raise
            except BackupInterrupted as error:
                pause = 1.0 if time.monotonic() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
                self.context.tell(f"{error.subject}: {error.message}; trying again in {pause:.0f} s")
                self.stop.wait(pause)

    def _receive(self) -> None:
        with Session(self.environment) as session:
            server = identify(session, self.environment)
            require_version("pg_receivewal", server.major, server.version)
            note_place(self.store, self.slot, SlotPlace.of(server.system, self.environment))
            stream = _Stream(self, session, server, Archive(self.store, server.system, self.keys))
            stream.open()
            name = {"PGAPPNAME": stream.name}
            arguments = ["-D", str(self.folder), "--synchronous", "--no-loop", "--no-password"]
            with Tool("pg_receivewal", arguments, {**self.environment, **name}) as receiving:
                try:
                    self._follow(stream, receiving)
                except BackupError as error:
                    if _REMOVED in error.message:
                        stream.restart_after_gap()
                        raise BackupInterrupted(error.message, subject=error.subject) from error
                    raise

    def _follow(self, stream: _Stream, receiving: Tool) -> None:
        due = 0.0
        while True:
            stopping = self.stop.wait(_TICK)
            stream.upload_whole()
            if receiving.process.poll() is not None:
                failure = receiving.failure()
                raise (
                    failure if receiving.process.returncode else BackupInterrupted("it ended", subject="pg_receivewal")
                )
            if stopping or time.monotonic() >= due:
                stream.note_progress()
                due = time.monotonic() + self.interval
            if stopping:
                receiving.process.send_signal(signal.SIGINT)
                return


def note_place(store: Store, slot: str, place: SlotPlace) -> None:
    """Note where a slot is about to be read.

    Raises:
        SlotLeft: it was on another server before, where it may still be. What proved who one is there may be gone, and
            nothing that is known now is sent to a server that is not ours any more: so a person has to drop it.
    """
    record = SlotRecord(store, slot)
    before = record.read()
    if before is None or before.system == place.system:
        if before != place:
            record.write(place)
        return
    message = (
        f"the archive is on another server than before, {place.address}: unless its slot was dropped on"
        f" {before.address} (system identifier {before.system}), it is there still, and has that server keep its log"
        " until its disk is full"
    )
    hint = f"On {before.address}: SELECT pg_drop_replication_slot('{slot}')"
    raise SlotLeft(message, subject=slot, hint=hint, settle=lambda: record.write(place))


def drop_slot(environment: Mapping[str, str], slot: str, seconds: float, context: Context) -> bool:
    """Drop a replication slot, and return whether there was one; one that is read is waited for, so many seconds.

    Raises:
        BackupInterrupted: it still is read then.
        BackupError: the server refuses.
    """
    until = time.monotonic() + seconds
    with Session(environment) as session:
        while rows := session.ask(_READER.format(slot=quoted(slot), name=quoted(_name_of(slot)))):
            if rows[0][0] == "0":
                session.ask(_DROP_SLOT.format(slot=quoted(slot)))
                return True
            if time.monotonic() >= until:
                hint = "Stop what reads it: `chronik backup receive`, or the Deployment of a cluster's archive."
                raise BackupInterrupted(f"process {rows[0][0]} of the server still reads it", subject=slot, hint=hint)
            context.tell(f"{slot} is still read; waiting")
            time.sleep(min(1.0, seconds))
    return False


def _name_of(slot: str) -> str:
    """Return the name that the receiver of a slot gives itself at the server."""
    return f"chronik-{slot}"


class _Stream:
    """One stretch of receiving: from the slot's position until something goes away."""

    def __init__(self, receiver: Receiver, session: Session, server: Server, archive: Archive) -> None:
        self._receiver, self._session, self._server, self._archive = receiver, session, server, archive
        self._slot = quoted(receiver.slot)
        self._folder = receiver.folder
        self._position = 0
        self._timeline = server.timeline
        self._sent = ("", b"")
        self.name = _name_of(receiver.slot)

    def open(self) -> None:
        """Make the slot, if there is none, and have pg_receivewal begin at what the store lacks."""
        state = self._archive.state()
        rows = self._session.ask(_SLOT.format(slot=self._slot))
        if rows and rows[0][1] == "lost":
            self._tell_gap("the server has given up the slot, as its WAL had grown too large")
            self._session.ask(_DROP_SLOT.format(slot=self._slot))
            rows, state = [], None
        if rows:
            start = parse_lsn(rows[0][0])
        else:
            ((made,),) = self._session.ask(_NEW_SLOT.format(slot=self._slot))
            start = min(parse_lsn(made), parse_lsn(state.position) if state else parse_lsn(made))
        size = self._server.segment_bytes
        self._position = start - start % size
        self._timeline = state.timeline if state else self._server.timeline
        self._seed(size)

    def _seed(self, size: int) -> None:
        """Leave nothing in the folder but an empty segment: pg_receivewal goes on after the last one that it finds."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink()
        self._last = segment_name(self._timeline, self._position - size, size)
        with (self._folder / self._last).open("wb") as file:
            file.truncate(size)

    def restart_after_gap(self) -> None:
        """Give up what the server has removed: begin at what it still has."""
        self._tell_gap("the server has removed WAL that the store lacks")
        self._session.ask(_DROP_SLOT.format(slot=self._slot))
        ((made,),) = self._session.ask(_NEW_SLOT.format(slot=self._slot))
        self._archive.save(ArchiveState(self._server.timeline, made, ""))

    def _tell_gap(self, why: str) -> None:
        self._receiver.context.tell(
            f"warning: {why}: the archive has a gap. Make a base backup now: chronik backup base"
        )

    def upload_whole(self) -> None:
        """Put every whole segment into the store, and let the server forget it."""
        for path in sorted(self._folder.iterdir()):
            if HISTORY.fullmatch(path.name):
                self._archive.put(path.name, path.read_bytes())
                path.unlink()
            elif SEGMENT.fullmatch(path.name) and path.name > self._last:
                self._archive.put(path.name, path.read_bytes())
                self._archive.delete([path.name + PARTIAL])
                size = self._server.segment_bytes
                self._position, self._timeline = segment_start(path.name, size) + size, int(path.name[:8], 16)
                self._session.ask(_MOVE_SLOT.format(slot=self._slot, position=quoted(format_lsn(self._position))))
                previous, self._last = self._last, path.name
                (self._folder / previous).unlink(missing_ok=True)  # the last one stays: it says where to go on

    def note_progress(self) -> None:
        """Put what is there of the segment that is being written into the store, and note up to when all is there."""
        ((position, now),) = self._session.ask(_POSITION)
        until = time.monotonic() + _CATCH_UP
        while self._received() < parse_lsn(position):
            if time.monotonic() > until:
                return  # it is behind; the note of the last time still holds
            time.sleep(_TICK / 10)
        self.upload_whole()
        while self._upload_partial():
            self.upload_whole()
        self._archive.save(ArchiveState(self._timeline, format_lsn(self._position), now))
        if self._receiver.progress:
            self._receiver.progress.touch()

    def _received(self) -> int:
        ((position,),) = self._session.ask(_RECEIVED.format(name=quoted(self.name)))
        return parse_lsn(position)

    def _upload_partial(self) -> bool:
        """Store the segment that is being written; True if one became whole meanwhile, so all is to be done again."""
        for path in sorted(self._folder.glob(f"*{PARTIAL}")):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return True
            sent = (path.name, hashlib.sha256(content).digest())
            if sent != self._sent:
                self._archive.put(path.name, content)
                self._sent = sent
        return any(SEGMENT.fullmatch(path.name) and path.name > self._last for path in self._folder.iterdir())
