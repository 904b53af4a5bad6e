"""Streams of bytes on their way: counted, summed, sealed and opened, a piece at a time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from chronik.metastore import encryption
from chronik.metastore.errors import BackupDamaged
from chronik.metastore.manifest import StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chronik.metastore.encryption import Key
    from chronik.metastore.store import Store


class Meter:
    """Counts and sums what passes through."""

    def __init__(self) -> None:
        self.bytes = 0
        self._sum = hashlib.sha256()

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces as they are."""
        for piece in pieces:
            self.bytes += len(piece)
            self._sum.update(piece)
            yield piece

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that passed, in hexadecimal."""
        return self._sum.hexdigest()


def write_file(store: Store, folder: str, name: str, pieces: Iterable[bytes], key: Key | None) -> StoredFile:
    """Stream pieces into an object of a backup, encrypted if there is a key; return what is known of it then."""
    plain, stored = Meter(), Meter()
    path = f"{folder}/{name}"
    counted = plain.through(pieces)
    store.write(path, stored.through(encryption.encrypt(counted, key, path) if key else counted))
    return StoredFile(name, stored.bytes, stored.sha256, plain.bytes, plain.sha256)


def read_file(store: Store, folder: str, file: StoredFile, key: Key | None) -> Iterator[bytes]:
    """Yield an object of a backup in plain; at its end, its sums have been held to the manifest's.

    Raises:
        BackupDamaged: it is not what was stored; what was yielded before must not be used.
    """
    plain, stored = Meter(), Meter()
    path = f"{folder}/{file.name}"
    raw = stored.through(store.read(path))
    yield from plain.through(encryption.decrypt(raw, key, path) if key else raw)
    if (stored.bytes, stored.sha256) != (file.bytes, file.sha256):
        found = f"it has {stored.bytes:,} bytes with SHA-256 {stored.sha256}"
        wanted = f"the manifest says {file.bytes:,} bytes with SHA-256 {file.sha256}"
        raise BackupDamaged(f"{found}; {wanted}", subject=f"{store.url}/{path}", hint="Restore another backup.")
    if plain.sha256 != file.plain_sha256:
        raise BackupDamaged("it does not decrypt to what was encrypted", subject=f"{store.url}/{path}")
