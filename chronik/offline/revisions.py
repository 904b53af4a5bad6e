"""Read what `-f` names as it was in a git revision: what a pull request is compared with.

git itself is asked, and only for what it has stored: nothing is checked out, and no configuration of the repository is
run. A path that a revision does not have is no error, since a document may be new, and one that only the revision has
was removed. Links are not followed in a revision.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from chronik.errors import InputError
from chronik.offline.sources import MAX_BYTES, NO_FILE, SUFFIXES, Argument, Source, read_argument

_FILE, _LINK, _FOLDER = "blob", "120000", "tree"
_GIT = ("git", "--no-pager", "--literal-pathspecs", "--no-optional-locks")
_FIELDS = 4


class Revision:
    """A revision of the repository, or of several, that the named files lie in; `name` is as the user gave it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._commits: dict[Path, str] = {}

    def before(self, name: str, *, recursive: bool = False) -> Argument:
        """Read what a name stood for in the revision, which need not have had anything there."""
        try:
            place = _Place.of(name)
            commit = self._commit(place.top)
            entries = _entries(place, commit)
        except InputError as error:
            return Argument([], [error], is_folder=False)
        is_folder = not any(entry.path == place.path for entry in entries)
        wanted = [entry for entry in entries if _is_wanted(entry, place, is_folder=is_folder, recursive=recursive)]
        found = [self._read(entry, place, commit) for entry in wanted]
        sources = [each for each in found if isinstance(each, Source)]
        errors = [each for each in found if isinstance(each, InputError)]
        return Argument(sources, errors, is_folder, absent=True)

    def now(self, name: str, *, recursive: bool = False) -> Argument:
        """Read what a name stands for now; `absent` if its documents may be gone, since the revision has some."""
        argument = read_argument(name, recursive=recursive)
        if not self.before(name, recursive=recursive).sources:
            return argument
        gone = not os.path.lexists(name)
        errors = [] if gone else [each for each in argument.errors if each.message != NO_FILE]
        return argument._replace(errors=errors, absent=True)

    def _commit(self, top: Path) -> str:
        """Return the commit that the revision is in a repository."""
        if top not in self._commits:
            wanted = f"{self.name}^{{commit}}"
            done = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
            if done.returncode:
                hint = f"In CI, fetch it first: git fetch origin {self.name.removeprefix('origin/')}. A shallow clone"
                hint += " has no others (actions/checkout: fetch-depth: 0). `git branch -a` shows what is there."
                raise InputError(
                    f"git has no revision {self.name!r} in {top}",
                    subject="--from-rev",
                    hint=hint,
                )
            self._commits[top] = done.stdout.decode().strip()
        return self._commits[top]

    def _read(self, entry: _Entry, place: _Place, commit: str) -> Source | InputError:
        shown = f"{self.name}:{entry.path}"
        if entry.mode == _LINK:
            return InputError("is a link, and links are not followed in a revision", subject=shown)
        if entry.size > MAX_BYTES:
            return InputError(f"larger than {MAX_BYTES >> 20} MiB, which no set of clusters needs", subject=shown)
        done = _git(place.top, "cat-file", "blob", f"{commit}:{entry.path}")
        if done.returncode:
            return InputError(f"cannot be read: {_said(done)}", subject=shown)
        return Source(shown, done.stdout)


class _Place(NamedTuple):
    """Where a file lies: the top folder of its repository, and its path below that, `.` for the top itself."""

    top: Path
    path: str

    @classmethod
    def of(cls, name: str) -> _Place:
        """Return the place of a file or folder that need not be there any more.

        Raises:
            InputError: it is not in a git repository, or there is no git.
        """
        if name in {"", "-"}:
            what = "standard input" if name else "an empty file name"
            raise InputError(f"{what} has no revisions", subject="--from-rev", hint="Name files or folders with -f.")
        path = Path(os.path.abspath(name))  # noqa: PTH100  # Path.resolve would follow a link that is the file itself
        folder = next(each for each in (path, *path.parents) if each.is_dir())
        done = _git(folder, "rev-parse", "--show-toplevel")
        if done.returncode:
            hint = "--from OLD compares with files that lie anywhere."
            raise InputError(f"is in no git repository: {_said(done)}", subject=name, hint=hint)
        top = Path(os.fsdecode(done.stdout.rstrip(b"\n")))
        below = os.path.realpath(folder) / path.relative_to(folder)
        return cls(top, below.relative_to(os.path.realpath(top)).as_posix())


class _Entry(NamedTuple):
    """A file of a revision."""

    mode: str
    size: int
    path: str


def _entries(place: _Place, commit: str) -> list[_Entry]:
    done = _git(place.top, "ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", place.path)
    if done.returncode:
        raise InputError(f"cannot be read: {_said(done)}", subject=f"{commit[:12]}:{place.path}")
    found = []
    for line in filter(None, done.stdout.split(b"\0")):
        about, _, path = line.partition(b"\t")
        fields = about.decode().split()
        if len(fields) == _FIELDS and fields[1] == _FILE:
            found.append(_Entry(fields[0], int(fields[3]), os.fsdecode(path)))
    return found


def _is_wanted(entry: _Entry, place: _Place, *, is_folder: bool, recursive: bool) -> bool:
    """Return whether a file is what was named, or a document in the folder that was."""
    if not is_folder:
        return entry.path == place.path
    below = PurePosixPath(entry.path) if place.path == "." else PurePosixPath(entry.path).relative_to(place.path)
    return entry.path.lower().endswith(SUFFIXES) and (recursive or len(below.parts) == 1)


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(  # noqa: S603  # no shell, and revisions stand behind --end-of-options
            (*_GIT, "-C", str(folder), *arguments), capture_output=True, check=False, env=environment
        )
    except OSError as error:
        raise InputError(
            f"git cannot be run: {error.strerror}",
            subject="--from-rev",
            hint="Install git, or compare with files: --from OLD.",
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ").partition("\n")[0]
