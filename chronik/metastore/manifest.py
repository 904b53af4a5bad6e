"""What a store says of one backup: its manifest, which is written last, so a backup that has one is whole.

Times are RFC 3339 in UTC. `bytes` and `sha256` of a file are of what lies in the store; `plain_bytes` and
`plain_sha256` are of what went in before encryption. The JSON has camelCase keys, as all of chronik's JSON has.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from chronik.metastore.errors import BackupDamaged

FORMAT = "chronik.stream/backup.v1"
MANIFEST = "manifest.json"
DUMP: Final = "Dump"
BASE: Final = "Base"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One object of a backup; `name` is its name below the backup's folder."""

    name: str
    bytes: int
    sha256: str
    plain_bytes: int
    plain_sha256: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """How the files are encrypted, and the fingerprint of the key."""

    format: str
    key_id: str


@dataclass(frozen=True, slots=True)
class WalRange:
    """The part of the WAL that makes a base backup consistent; LSNs as PostgreSQL writes them.

    `superuser` is the role that initdb made: it is there whatever else is.
    """

    system_identifier: str
    timeline: int
    start: str
    end: str
    segment_bytes: int
    superuser: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup. `cut_at` is the moment that a dump shows, or the first that a base can be recovered to."""

    id: str
    method: Literal["Dump", "Base"]
    cluster: str
    started_at: str
    cut_at: str
    completed_at: str
    chronik: str
    server: str
    tool: str
    database: str
    files: tuple[StoredFile, ...]
    encryption: Encryption | None = None
    wal: WalRange | None = None
    rows: dict[str, int] = field(default_factory=dict)
    description: Any = None
    format: str = FORMAT

    def to_json(self) -> bytes:
        """Return the manifest as it is stored."""
        return json.dumps(_camel(asdict(self)), indent=2, sort_keys=True).encode() + b"\n"

    @property
    def total_bytes(self) -> int:
        """What the backup takes in the store."""
        return sum(file.bytes for file in self.files)


def read_manifest(text: bytes, subject: str) -> Manifest:
    """Return the manifest that a text is.

    Raises:
        BackupDamaged: it is none, or of a later version than this chronik reads.
    """
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            hint = "Use the chronik that made it, or a newer one."
            message = f"its format is {data['format']!r}, and this chronik reads {FORMAT}"
            raise BackupDamaged(message, subject=subject, hint=hint)
        rows, description = data.pop("rows"), data.pop("description")
        found = _snake(data)
        found["files"] = tuple(StoredFile(**file) for file in found["files"])
        found["encryption"] = Encryption(**found["encryption"]) if found["encryption"] else None
        found["wal"] = WalRange(**found["wal"]) if found["wal"] else None
        return Manifest(**found, rows=rows, description=description)
    except (ValueError, KeyError, TypeError) as error:
        raise BackupDamaged(f"this is no manifest of a backup: {error}", subject=subject) from error


_VERBATIM = {"rows", "description"}
"""What holds names of others, which are left as they are."""


def _camel(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {_camel_name(key): each if key in _VERBATIM else _camel(each) for key, each in value.items()}


def _camel_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _snake(value: Any) -> Any:
    if isinstance(value, list):
        return [_snake(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {_snake_name(key): _snake(each) for key, each in value.items()}


def _snake_name(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
