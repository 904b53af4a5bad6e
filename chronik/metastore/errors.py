"""What can go wrong with a backup: the branch of chronik's errors that backups and restores end in.

    BackupError                           8   a backup or a restore failed, and the same again will not help
    ├── StoreAccessDenied                 the store does not take the credentials
    ├── StoreNotFound                     no such bucket, container or folder
    ├── StoreFull                         the store has no room
    ├── BackupNotFound                    the store has no such backup
    ├── BackupDamaged                     what is in the store is not what was put there
    ├── EncryptionKeyWrong                no key that was given is the backup's
    ├── DatabaseAccessDenied              password, rights, TLS or the name of the database
    ├── DatabaseNotEmpty                  a restore would mix with what is there
    ├── ToolUnusable                      a program of PostgreSQL is absent or too old
    ├── TargetTimeNotCovered              no backup or archive reaches that time
    └── BackupInterrupted             9   cut off in the middle: the same again may help
        ├── SlotLeft                  9   an archive is on another server, and its slot may fill the old one's disk
        ├── StoreUnreachable          9   the store does not answer
        └── DatabaseUnreachable       9   the database does not answer

Exit code 8 means that the same again will not help, 9 that it may: a Job can tell them apart.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from chronik.errors import ChronikError, LibraryMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronik.errors import RetryClass


class BackupError(ChronikError):
    """A backup or a restore failed, and the same again will not help."""

    exit_code = 8
    reason = "BackupFailed"
    retry_class: ClassVar[RetryClass] = "permanent"


class StoreAccessDenied(BackupError):
    """The store does not take the credentials, or they lack a right."""

    reason = "StoreAccessDenied"


class StoreNotFound(BackupError):
    """There is no such bucket, container or folder."""

    reason = "StoreNotFound"


class StoreFull(BackupError):
    """The store has no room, or a quota of it is used up."""

    reason = "StoreFull"


class BackupNotFound(BackupError):
    """The store has no such backup, or only parts of one."""

    reason = "BackupNotFound"


class BackupDamaged(BackupError):
    """What is in the store is not what was put there: cut short, changed or out of order."""

    reason = "BackupDamaged"


class EncryptionKeyWrong(BackupError):
    """No key that was given is the one that the backup was encrypted with."""

    reason = "EncryptionKeyWrong"


class DatabaseAccessDenied(BackupError):
    """The database refuses the connection: password, rights, TLS, or no such database."""

    reason = "DatabaseAccessDenied"


class DatabaseNotEmpty(BackupError):
    """The database has objects already, which a restore would mix with."""

    reason = "DatabaseNotEmpty"


class ToolUnusable(BackupError):
    """A program of PostgreSQL is absent, or too old for the server."""

    reason = "ToolUnusable"


class TargetTimeNotCovered(BackupError):
    """No backup or archive reaches the time that is asked for."""

    reason = "TargetTimeNotCovered"


class BackupInterrupted(BackupError):
    """A run was cut off in the middle; the same again may help."""

    exit_code = 9
    reason = "BackupInterrupted"
    retry_class = "transient"


class SlotLeft(BackupInterrupted):
    """An archive is on another server than before: its slot may be left there. Once `settle` was called, it goes on.

    It ends the receiver once, so that the kubelet has its words for whoever looks at the pod.
    """

    reason = "SlotLeft"

    def __init__(self, message: str, *, subject: str, hint: str, settle: Callable[[], None]) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.settle = settle


class StoreUnreachable(BackupInterrupted):
    """The store does not answer."""

    reason = "StoreUnreachable"


class DatabaseUnreachable(BackupInterrupted):
    """The database does not answer, or went away."""

    reason = "DatabaseUnreachable"


@contextmanager
def needs(library: str) -> Iterator[None]:
    """Make an import that fails an error with a way out.

    Raises:
        LibraryMissing: the library is not installed.
    """
    try:
        yield
    except ImportError as error:
        hint = "Install it with: pip install chronik[backup]"
        raise LibraryMissing(f"backups need the library {library}, which is not installed", hint=hint) from error
