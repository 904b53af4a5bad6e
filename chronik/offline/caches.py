"""What one run may leave for the next: compiled templates and compiled rules, in the user's own cache folder.

A one-shot command spends a third of its time compiling what did not change since the last one. Everything here may be
deleted at any time, and nothing is used from a folder that others can write.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cel_expr_python import cel

from chronik import __version__

if TYPE_CHECKING:
    from jinja2.bccache import Bucket, BytecodeCache


def bytecode_cache() -> BytecodeCache | None:
    """Return a cache of compiled templates, or None where there can be none."""
    from jinja2 import FileSystemBytecodeCache  # noqa: PLC0415  # schema commands need no templates

    class Forgiving(FileSystemBytecodeCache):
        """A cache that may be full, or be taken away, without anything failing for it."""

        def load_bytecode(self, bucket: Bucket) -> None:
            with suppress(OSError):
                super().load_bytecode(bucket)

        def dump_bytecode(self, bucket: Bucket) -> None:
            with suppress(OSError):
                super().dump_bytecode(bucket)

    folder = _own_folder(f"templates-{__version__}")
    return Forgiving(str(folder)) if folder else None


class KeptRules(dict[str, bytes]):
    """Compiled rules by their text, of one version of the rule book, the runtime and chronik."""

    def __init__(self, rules_text: str) -> None:
        runtime = Path(cel.__file__).stat()  # it does not tell its version
        version = hashlib.sha256(f"{__version__} {runtime.st_mtime_ns} {runtime.st_size}\n{rules_text}".encode())
        folder = _own_folder("rules")
        self._file = folder / f"{version.hexdigest()[:16]}.json" if folder else None
        super().__init__(self._read())
        self._saved = len(self)

    def _read(self) -> dict[str, bytes]:
        if self._file is None:
            return {}
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            return {text: compiled.encode("latin-1") for text, compiled in kept.items()}
        except (OSError, ValueError, AttributeError):  # none yet, or not what we wrote
            return {}

    def save(self) -> None:
        """Write what is new since it was read; a cache that cannot be written is no error."""
        if self._file is None or len(self) == self._saved:
            return
        self._saved = len(self)
        draft = self._file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            draft.write_text(json.dumps({text: compiled.decode("latin-1") for text, compiled in self.items()}), "utf-8")
            draft.replace(self._file)


def _own_folder(name: str) -> Path | None:
    """Return a folder of the user's cache that no other user can write, made if need be; None if there is none."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        folder = base / "chronik" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    shared = found.st_mode & 0o022 or found.st_uid != getattr(os, "getuid", lambda: found.st_uid)()
    return None if shared or not os.access(folder, os.W_OK) else folder
