"""The write-ahead log of one server in a store: a compressed object for each segment, and how far it goes.

Objects lie in `wal/<system identifier>/`: `<segment>.gz` once a segment is whole, `<segment>.partial.gz` for the one
that is being written, `<timeline>.history.gz`, and `archive.json`, which says up to when nothing is missing. WAL is
encrypted if there is a key, and says so by its first bytes. `wal/slot-<slot>.json` says on which server the slot is
that an archive is read by, and nothing that proves who one is.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from chronik.metastore.encryption import MAGIC, decrypt, encrypt
from chronik.metastore.errors import BackupDamaged, BackupNotFound, EncryptionKeyWrong
from chronik.metastore.runs import WAL_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.metastore.encryption import Key
    from chronik.metastore.store import Store

SEGMENT = re.compile(r"[0-9A-F]{24}")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")
PARTIAL = ".partial"
_STATE = "archive.json"
_GZ = ".gz"
_WORD = 2**32


def parse_lsn(text: str) -> int:
    """Return a position in the WAL, in bytes: `1/A0` is 2³² + 160."""
    high, _, low = text.partition("/")
    return int(high, 16) * _WORD + int(low, 16)


def format_lsn(position: int) -> str:
    """Return a position in the WAL as PostgreSQL writes it."""
    return f"{position // _WORD:X}/{position % _WORD:X}"


def segment_name(timeline: int, position: int, size: int) -> str:
    """Return the name of the segment, of `size` bytes, that a position is in."""
    number, in_word = position // size, _WORD // size
    return f"{timeline:08X}{number // in_word:08X}{number % in_word:08X}"


def segment_start(name: str, size: int) -> int:
    """Return the position that a segment begins at."""
    return int(name[8:16], 16) * _WORD + int(name[16:24], 16) * size


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How far it goes: `position` is where the next whole segment begins; up to `complete_until` all is there."""

    timeline: int
    position: str
    complete_until: str


class Archive:
    """The WAL of one server, by the names that PostgreSQL has for its files."""

    def __init__(self, store: Store, system: str, keys: Sequence[Key]) -> None:
        self._store, self._keys = store, keys
        self._folder = f"{WAL_FOLDER}/{system}"

    def put(self, name: str, content: bytes) -> None:
        """Store a file; one of that name is replaced."""
        path = f"{self._folder}/{name}{_GZ}"
        packed = gzip.compress(content, compresslevel=1, mtime=0)
        self._store.write(path, encrypt([packed], self._keys[0], path) if self._keys else [packed])

    def get(self, name: str) -> bytes | None:
        """Return a file, None if there is none.

        Raises:
            EncryptionKeyWrong: no key opens it.
            BackupDamaged: it is not what was stored.
        """
        path = f"{self._folder}/{name}{_GZ}"
        try:
            raw = b"".join(self._store.read(path))
        except BackupNotFound:
            return None
        try:
            return gzip.decompress(self._opened(raw, path) if raw.startswith(MAGIC) else raw)
        except (OSError, EOFError, zlib.error) as error:
            raise BackupDamaged(f"it cannot be unpacked: {error}", subject=path) from error

    def _opened(self, raw: bytes, path: str) -> bytes:
        for key in self._keys:
            try:
                return b"".join(decrypt([raw], key, path))
            except BackupDamaged:
                continue
        hint = "Give the key that the archive was encrypted with, with --encryption-key or CHRONIK_BACKUP_KEY."
        raise EncryptionKeyWrong("no key that was given opens it, or it was changed", subject=path, hint=hint)

    def names(self) -> set[str]:
        """Return the files that there are."""
        return {name.rpartition("/")[2].removesuffix(_GZ) for name in self._store.names(f"{self._folder}/")} - {_STATE}

    def delete(self, names: Sequence[str]) -> None:
        """Remove files."""
        self._store.delete([f"{self._folder}/{name}{_GZ}" for name in names])

    def state(self) -> ArchiveState | None:
        """Return how far the archive goes, None if nothing was ever received."""
        try:
            return ArchiveState(**json.loads(b"".join(self._store.read(f"{self._folder}/{_STATE}"))))
        except BackupNotFound:
            return None
        except (ValueError, TypeError) as error:
            raise BackupDamaged(f"this is no state of an archive: {error}", subject=_STATE) from error

    def save(self, state: ArchiveState) -> None:
        """Note how far the archive goes."""
        self._store.write(f"{self._folder}/{_STATE}", [json.dumps(asdict(state)).encode() + b"\n"])

    def prune(self, before: int | None, size: int) -> int:
        """Remove whole segments that end before a position, or all but the newest; return how many."""
        segments = sorted(name for name in self.names() if SEGMENT.fullmatch(name))
        limit = segment_start(segments[-1], size) if before is None and segments else before or 0
        gone = [name for name in segments if segment_start(name, size) + size <= limit]
        self.delete(gone)
        return len(gone)


@dataclass(frozen=True, slots=True)
class SlotPlace:
    """Where a replication slot is: the server's identifier, and by which name and port it was reached."""

    system: str
    host: str
    port: str

    @classmethod
    def of(cls, system: str, environment: Mapping[str, str]) -> SlotPlace:
        """Return where a slot is that is made by way of an environment."""
        return cls(system, environment.get("PGHOST", ""), environment.get("PGPORT") or "5432")

    @property
    def address(self) -> str:
        """By what the server was reached."""
        return f"{self.host}:{self.port}"


class SlotRecord:
    """What a store knows of where a slot is. Whoever reads it anew finds by it that the server is another one."""

    def __init__(self, store: Store, slot: str) -> None:
        self._store, self._name = store, f"{WAL_FOLDER}/slot-{slot}.json"

    def read(self) -> SlotPlace | None:
        """Return where the slot is, None if that was never noted, or not in a way that can be read."""
        try:
            return SlotPlace(**json.loads(b"".join(self._store.read(self._name))))
        except (BackupNotFound, ValueError, TypeError):
            return None

    def write(self, place: SlotPlace) -> None:
        """Note where the slot is."""
        self._store.write(self._name, [json.dumps(asdict(place)).encode() + b"\n"])

    def forget(self, environment: Mapping[str, str]) -> None:
        """Note that there is no slot any more on the server that an environment leads to."""
        place = self.read()
        if place is not None and place.address == SlotPlace.of("", environment).address:
            self._store.delete([self._name])
