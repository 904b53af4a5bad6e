"""Read what `-f` names: files, folders, standard input; and the templates of a `--templates` folder.

The shell's half of reading: `documents` parses what this returns. Called by `cli` and `testing`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chronik.errors import InputError
from chronik.offline import assets
from chronik.problem import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chronik.errors import TemplateError

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024


def read_inputs(names: Iterable[str], *, recursive: bool = False) -> list[tuple[str, bytes]]:
    """Return name and content of every file that the names stand for; `-` is standard input, a folder all its YAML.

    Raises:
        InputError: a name leads nowhere, cannot be read, or is larger than 16 MiB.
    """
    sources = [source for name in names for source in _files(name, recursive=recursive)]
    return [("<stdin>" if source == "-" else source, _read(source)) for source in sources]


def _files(name: str, *, recursive: bool) -> Iterator[str]:
    path = Path(name)
    if not name:
        raise InputError("a file name is empty", hint="Is the variable set that it comes from?")
    if name == "-" or not os.path.isdir(name):  # noqa: PTH112  # Path.is_dir raises where it may not look
        yield name
        return
    files = (path.rglob if recursive else path.glob)("*")
    found = sorted(str(file) for file in files if file.suffix in SUFFIXES and file.is_file())
    if not found:
        deeper = "" if recursive else "; -R looks into folders below it"
        raise InputError(f"no {', '.join(SUFFIXES)} file in this folder", subject=name, hint=f"Name a file{deeper}.")
    yield from found


def _read(source: str) -> bytes:
    try:
        if source == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError("no such file or folder", subject=source, hint=_nearby(Path(source))) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", subject=source) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES >> 20} MiB, which no set of clusters needs", subject=source)
    return content


def _nearby(path: Path) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # only a wrong path pays for it

    try:
        names = [file.name for file in path.parent.iterdir()]
    except OSError:
        return f"The folder {path.parent} is not there either."
    close = get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / close[0]}?" if close else ""


def template_reader(overrides: str | None = None) -> Callable[[str], str | None]:
    """Return the function that reads a template by name: from the overrides first, then chronik's own.

    Raises:
        InputError: the folder is missing, or holds a template under a name that chronik would never use.
    """
    folders = [assets.TEMPLATES]
    if overrides is not None:
        _check_overrides(Path(overrides))
        folders.insert(0, Path(overrides))

    def read(name: str) -> str | None:
        for folder in folders:
            try:
                return (folder / name).read_text("utf-8-sig")  # editors on Windows begin files with a mark
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"cannot be read: {error}", subject=str(folder / name)) from error
        return None

    return read


def template_names(overrides: str | None) -> list[str]:
    """Return the names of all templates, those of a folder of overrides included."""
    folders = [assets.TEMPLATES, *([Path(overrides)] if overrides is not None else ())]
    return sorted({file.relative_to(folder).as_posix() for folder in folders for file in folder.rglob("*.j2")})


def locate_in_template(error: TemplateError, overrides: str, read: Callable[[str], str | None]) -> Location:
    """Return where a template is wrong: the line that the error names, or the first with its word, or the beginning."""
    lines = (read(error.template) or "").splitlines()
    word = re.compile(rf"(?<![\w]){re.escape(error.word)}(?![\w])") if error.word else None
    holding = (number for number, text in enumerate(lines, start=1) if word and word.search(text))
    number = error.line or next(holding, 1)
    text = lines[number - 1] if number <= len(lines) else ""
    found = word.search(text) if word else None
    column = found.start() if found else len(text) - len(text.lstrip())
    own = Path(overrides) / error.template
    return Location(str(own) if own.exists() else error.template, number, column + 1, text)


def _check_overrides(folder: Path) -> None:
    if not os.path.isdir(folder):  # noqa: PTH112  # as above
        raise InputError("no such folder of templates", subject=str(folder))
    known = {file.relative_to(assets.TEMPLATES).as_posix() for file in assets.TEMPLATES.rglob("*.j2")}
    own = {file.relative_to(folder).as_posix() for file in folder.rglob("*.j2")}
    if not own:
        raise InputError("holds no *.yaml.j2 file", subject=str(folder), hint=f"It can replace {_listed(known)}.")
    unknown = sorted(name for name in own - known if not name.startswith("parts/"))
    if unknown:
        raise InputError(
            f"{unknown[0]} replaces no template of chronik's",
            subject=str(folder),
            hint=f"Known: {_listed(known)}; new parts go in parts/.",
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name for name in names if not name.startswith("parts/")))
