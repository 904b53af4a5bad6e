"""Read what `-f` names: files, folders, standard input.

The shell's half of reading: parsing is left to `documents`. Nothing in a folder is left out silently: what cannot be
read there is an error, as it is for a file that is named itself.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chronik.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STDIN = "<stdin>"
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""The file names that kubectl looks for in a folder, which can have but one of them."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
NO_FILE = f"no {', '.join(SUFFIXES)} file in this folder"

Inode = tuple[int, int]
"""What tells folders apart, whatever links lead to them."""


class Source(NamedTuple):
    """A file, by the name that messages call it, and what is in it."""

    name: str
    content: bytes


class Argument(NamedTuple):
    """What one name stands for: the files that could be read, and an error for each that could not.

    `absent` is that there is nothing under this name, and that this is no mistake.
    """

    sources: list[Source]
    errors: list[InputError]
    is_folder: bool
    absent: bool = False


def read_argument(name: str, *, recursive: bool = False) -> Argument:
    """Read the file that a name stands for; `-` is standard input, a folder all its YAML and JSON files.

    The errors say that a name leads nowhere, cannot be read, or is larger than 16 MiB.
    """
    is_folder = name not in {"", "-"} and os.path.isdir(name)  # noqa: PTH112  # Path.is_dir raises where it may not look
    found = [*walk(Path(name), recursive=recursive, wanted=_is_document)] if is_folder else [name]
    errors = [each for each in found if isinstance(each, InputError)]
    sources = []
    for path in sorted(str(each) for each in found if not isinstance(each, InputError)):
        try:
            sources.append(Source(STDIN if path == "-" else path, _read(path)))
        except InputError as error:
            errors.append(error)
    if not found:
        deeper = "" if recursive else "; -R looks into folders below it"
        errors.append(InputError(NO_FILE, subject=name, hint=f"Name a file{deeper}."))
    return Argument(sources, errors, is_folder)


def _is_document(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def walk(folder: Path, *, recursive: bool, wanted: Callable[[str], bool]) -> Iterator[Path | InputError]:
    """Yield the wanted files below a folder, links followed, and an error for whatever cannot be looked at."""
    return _Walk(recursive, wanted, set()).folder(folder, ())


class _Walk(NamedTuple):
    """One way through a folder: folders that were `seen` are not gone into again under another name."""

    recursive: bool
    wanted: Callable[[str], bool]
    seen: set[Inode]

    def folder(self, folder: Path, within: tuple[Inode, ...]) -> Iterator[Path | InputError]:
        """Yield what is in a folder that lies within others: a link back to one of them has no end."""
        try:
            here = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            yield _unreadable(folder, error)
            return
        within = (*within, (here.st_dev, here.st_ino))
        self.seen.add(within[-1])
        for entry in entries:
            yield from self._entry(entry, folder / entry.name, within)

    def _entry(self, entry: os.DirEntry[str], path: Path, within: tuple[Inode, ...]) -> Iterator[Path | InputError]:
        try:
            found = entry.stat()
        except OSError as error:
            if self.wanted(entry.name) or (self.recursive and not path.suffix):  # it may be a folder
                yield _unreadable(path, error)
            return
        inode = found.st_dev, found.st_ino
        if stat.S_ISDIR(found.st_mode):
            if self.recursive and inode in within:
                yield InputError("is a link to a folder that it lies in, which has no end", subject=str(path))
            elif self.recursive and inode not in self.seen:
                yield from self.folder(path, within)
        elif self.wanted(entry.name):
            regular = stat.S_ISREG(found.st_mode)
            yield path if regular else InputError("is no regular file: name it with -f to read it", subject=str(path))


def _unreadable(path: Path, error: OSError) -> InputError:
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return InputError(f"is a link to {path.readlink()}, which does not exist", subject=str(path))
    return InputError(f"cannot be read: {error.strerror}", subject=str(path))


def _read(source: str) -> bytes:
    if not source:
        raise InputError("a file name is empty", hint="Is the variable set that it comes from?")
    if _URL.match(source):
        raise _url(source)
    try:
        if source == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        if Path(source).is_symlink():
            raise _unreadable(Path(source), error) from error
        raise InputError("no such file or folder", subject=source, hint=_nearby(Path(source))) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", subject=source) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES >> 20} MiB, which no set of clusters needs", subject=source)
    return content


def _url(source: str) -> InputError:
    scheme, _, path = source.partition("://")
    hint = f"Fetch it: curl -fsSL {shlex.quote(source)} | chronik … -f -"
    if scheme.lower() == "file":
        hint = f"Name the file: {path}"
    elif scheme.lower() not in {"http", "https"}:
        hint = "Fetch it, and name the file, or pipe it into chronik … -f -"
    return InputError("is a URL, and chronik reads files and standard input alone", subject=source, hint=hint)


def _nearby(path: Path) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # only a wrong path pays for it

    try:
        names = [file.name for file in path.parent.iterdir()]
    except OSError:
        return f"The folder {path.parent} is not there either."
    close = get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / close[0]}?" if close else ""
