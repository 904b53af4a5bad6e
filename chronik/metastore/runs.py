"""One run of one backup: a name of its own, a note that it began, and the manifest at its end.

Each run writes objects of its own name, so two runs of one backup never write the same object; the first manifest
decides which of them are the backup. What a dead run leaves has no manifest, and its note says when it began.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.errors import InputError
from chronik.metastore.errors import BackupDamaged, BackupNotFound
from chronik.metastore.manifest import MANIFEST, Manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chronik.metastore.store import Store

_ID = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
WAL_FOLDER = "wal"
RECORD = "backup.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be backed up: under which id, of which cluster, and what its owner wants to be kept with it."""

    id: str
    cluster: str = ""
    description: Any = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a run works with: the time, and where it says what it does."""

    now: Callable[[], datetime]
    tell: Callable[[str], None]

    def time(self) -> str:
        """Return the time as manifests have it."""
        return rfc3339(self.now())


def rfc3339(time: datetime) -> str:
    """Return a time in UTC, to the microsecond."""
    from datetime import UTC  # noqa: PLC0415  # used here alone

    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def check_id(identity: str) -> str:
    """Return the id of a backup, if it can be one: it becomes a folder of the store.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(_ID, identity) or ".." in identity or identity == WAL_FOLDER:
        message = f"{identity!r} is no id of a backup: lower-case letters, digits, - and ., at most 253"
        raise InputError(message, subject="--id")
    return identity


def find_manifest(store: Store, identity: str) -> Manifest | None:
    """Return the manifest of a backup, None if it has none, which is to say that it is not whole."""
    name = f"{identity}/{MANIFEST}"
    try:
        return read_manifest(b"".join(store.read(name)), f"{store.url}/{name}")
    except BackupNotFound:
        return None


def get_manifest(store: Store, identity: str) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        BackupNotFound: there is none; if parts are there, the error says so.
    """
    found = find_manifest(store, identity)
    if found is None:
        parts = store.names(f"{identity}/")
        what = "only parts of a run that did not end" if parts else "nothing of that name"
        hint = f"What is there: chronik backup catalog --store {store.url}"
        raise BackupNotFound(f"there is no such backup, {what}", subject=f"{store.url}/{identity}", hint=hint)
    return found


class Run:
    """A run of one backup, from its note to its manifest."""

    def __init__(self, store: Store, identity: str, context: Context) -> None:
        self.store, self.id = store, identity
        self.name = secrets.token_hex(4)
        self._note = f"{identity}/started-{self.name}.json"
        note = {"startedAt": context.time(), "run": self.name}
        store.write(self._note, [json.dumps(note).encode() + b"\n"])

    def publish(self, manifest: Manifest) -> tuple[Manifest, bool]:
        """Write the manifest, read it back, and return it; True if another run was first, whose manifest it is then.

        Raises:
            BackupDamaged: what is read back is another text.
        """
        text = manifest.to_json()
        try:
            self.store.write(f"{self.id}/{MANIFEST}", [text], new=True)
        except FileExistsError:
            first = get_manifest(self.store, self.id)
            self.store.delete([f"{self.id}/{file.name}" for file in manifest.files])
            self.store.delete([self._note])
            return first, True
        if b"".join(self.store.read(f"{self.id}/{MANIFEST}")) != text:
            message = "the store gives back another manifest than it was given"
            raise BackupDamaged(message, subject=f"{self.store.url}/{self.id}/{MANIFEST}")
        self.store.delete([self._note])
        return manifest, False
