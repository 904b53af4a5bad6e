"""Encryption of a stream of any length: AES-256-GCM in chunks, in the STREAM construction, as age and Tink have it.

    object   = "CHRONIK" 0x01, salt (32 bytes), chunk*
    file key = HKDF-SHA256(key, salt, info = "chronik backup " + name of the object)
    chunk    = AES-256-GCM(file key, nonce, up to 65,536 bytes), followed by its tag of 16 bytes
    nonce    = number of the chunk (11 bytes, big endian), 0x01 if it is the last, else 0x00

The number in the nonce makes a chunk that was moved, repeated or left out fail; the last byte makes an object fail that
was cut off at a chunk's end, or that something was added to. The name in the key makes one object in place of another
fail. A chunk is handed on only after its tag was checked. All cryptography is the library's; only the counting is not.
The construction: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption", 2015.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chronik.errors import InputError
from chronik.metastore.errors import BackupDamaged, EncryptionKeyWrong, needs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "chronik-aes256gcm-stream-v1"
MAGIC = b"CHRONIK\x01"
_SALT, _CHUNK, _TAG, _KEY = 32, 65_536, 16, 32
_SEALED = _CHUNK + _TAG


@dataclass(frozen=True, slots=True)
class Key:
    """A key of 32 bytes; `id` tells keys apart and says nothing of them."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of a hash of the key."""
        return hashlib.sha256(b"chronik backup key id" + self.secret).hexdigest()[:16]


def read_key(path: Path) -> Key:
    """Return the key in a file: 32 bytes, as hexadecimal digits, as base64 or raw.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"the encryption key cannot be read: {error.strerror}", subject=str(path)) from error
    for reading in (bytes.fromhex, lambda line: base64.b64decode(line, validate=True)):
        try:
            secret = reading(text.decode("ascii").strip())
        except (ValueError, binascii.Error):
            continue
        if len(secret) == _KEY:
            return Key(secret)
    if len(text) == _KEY:
        return Key(text)
    hint = "Make one with: openssl rand -hex 32"
    message = "this is no encryption key: it has to be 32 bytes, in hexadecimal or base64"
    raise InputError(message, subject=str(path), hint=hint)


def choose_key(keys: Sequence[Key], key_id: str, subject: str) -> Key:
    """Return the key that a backup was encrypted with.

    Raises:
        EncryptionKeyWrong: it is not among those that were given.
    """
    found = next((key for key in keys if key.id == key_id), None)
    if found is None:
        given = f"the keys given are {', '.join(key.id for key in keys)}" if keys else "no key was given"
        hint = "Give the key that was used when the backup was made, with --encryption-key or CHRONIK_BACKUP_KEY."
        raise EncryptionKeyWrong(f"it is encrypted with the key {key_id}, and {given}", subject=subject, hint=hint)
    return found


def encrypt(plain: Iterable[bytes], key: Key, name: str) -> Iterator[bytes]:
    """Yield the encrypted object of that name, whatever the sizes of the pieces of plain text."""
    salt = os.urandom(_SALT)
    cipher = _cipher(key, salt, name)
    yield MAGIC + salt
    number, waiting = 0, bytearray()
    for piece in plain:
        waiting += piece
        whole = max(0, len(waiting) - 1) // _CHUNK  # what may be the last chunk waits for what follows
        if whole:
            view = memoryview(waiting)  # each byte is copied once on its way in, and never again
            sealed = [
                cipher.encrypt(_nonce(number + at, last=False), view[at * _CHUNK : (at + 1) * _CHUNK], None)
                for at in range(whole)
            ]
            waiting = bytearray(view[whole * _CHUNK :])
            number += whole
            yield b"".join(sealed)
    yield cipher.encrypt(_nonce(number, last=True), waiting, None)


def decrypt(sealed: Iterable[bytes], key: Key, name: str) -> Iterator[bytes]:
    """Yield the plain text of the encrypted object of that name.

    Raises:
        BackupDamaged: a chunk was changed, moved, or is missing; or the object is another one.
    """
    pieces = iter(sealed)
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= len(MAGIC) + _SALT:
            break
    header, waiting = bytes(waiting[: len(MAGIC) + _SALT]), waiting[len(MAGIC) + _SALT :]
    if len(header) < len(MAGIC) + _SALT or not header.startswith(MAGIC):
        raise BackupDamaged("this is no object that chronik encrypted", subject=name)
    cipher, number = _cipher(key, header[len(MAGIC) :], name), 0
    for piece in pieces:
        waiting += piece
        while len(waiting) > _SEALED:  # more follows, so this chunk is not the last
            yield _opened(cipher, bytes(waiting[:_SEALED]), number, name, last=False)
            del waiting[:_SEALED]
            number += 1
    while len(waiting) > _SEALED:
        yield _opened(cipher, bytes(waiting[:_SEALED]), number, name, last=False)
        del waiting[:_SEALED]
        number += 1
    yield _opened(cipher, bytes(waiting), number, name, last=True)


def _opened(cipher: AESGCM, chunk: bytes, number: int, name: str, *, last: bool) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # loaded only where something is encrypted

    try:
        return cipher.decrypt(_nonce(number, last=last), chunk, None)
    except (InvalidTag, ValueError) as error:
        where = f"chunk {number + 1} does not pass its check: it was changed, moved or cut short"
        hint = "Restore another backup; this object cannot be trusted from there on."
        raise BackupDamaged(where, subject=name, hint=hint) from error


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _cipher(key: Key, salt: bytes, name: str) -> AESGCM:
    with needs("cryptography"):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    info = b"chronik backup " + name.encode()
    return AESGCM(HKDF(SHA256(), _KEY, salt, info).derive(key.secret))
