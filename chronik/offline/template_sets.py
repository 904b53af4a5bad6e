"""Which templates there are: chronik's own, and those of a folder or a ConfigMap, that replace some or add objects.

A ConfigMap cannot have `/` in a key, so there the part `env` is the key `parts__env.yaml.j2`.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chronik.errors import InputError, TemplateError
from chronik.offline import assets
from chronik.offline.sources import walk
from chronik.problem import Location
from chronik.render.own import OwnTemplate, check_together, is_own, own_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_SUFFIX = ".yaml.j2"
_FOLDER_MARK = "__"


class TemplateSet(NamedTuple):
    """Templates to render with. `read` gives a text by name, chronik's own where none replaces it.

    `where` is where those lie that are not chronik's: a folder's path, or what people call a ConfigMap; `names` are
    those. `own` are the ones that add objects.
    """

    read: Callable[[str], str | None]
    where: str = ""
    names: frozenset[str] = frozenset()
    own: tuple[OwnTemplate, ...] = ()

    @property
    def all_names(self) -> list[str]:
        """The names of all templates, for suggestions."""
        return sorted({*assets.template_names(), *self.names})

    def locate(self, error: TemplateError) -> Location:
        """Return where a template is wrong: the line that is named, or the first with its word, or the beginning."""
        lines = (self.read(error.template) or "").splitlines()
        word = re.compile(rf"(?<![\w]){re.escape(error.word)}(?![\w])") if error.word else None
        holding = (number for number, text in enumerate(lines, start=1) if word and word.search(text))
        number = error.line or next(holding, 1)
        text = lines[number - 1] if number <= len(lines) else ""
        found = word.search(text) if word else None
        column = found.start() if found else len(text) - len(text.lstrip())
        file = f"{self.where}/{error.template}" if error.template in self.names else error.template
        return Location(file, number, column + 1, text)


def template_set(folder: str | None = None) -> TemplateSet:
    """Return chronik's templates, with those of a folder.

    Raises:
        InputError: the folder is missing or empty, or a file cannot be read.
        TemplateError: a file replaces no template, and does not say what it adds.
    """
    if folder is None:
        return TemplateSet(assets.template_text)
    top = Path(folder)
    if not os.path.isdir(top):  # noqa: PTH112  # Path.is_dir would hide that it may not be looked at
        raise InputError("no such folder of templates", subject=folder)
    names = {file.relative_to(top).as_posix() for file in _templates(top)}
    _check_suffixes(top)
    if not names:
        hint = f"A file can replace {_listed(assets.template_names())}, or add an object."
        raise InputError("holds no *.yaml.j2 file", subject=folder, hint=hint)
    return _checked(TemplateSet(_reader(top), folder, frozenset(names)))


def _check_suffixes(top: Path) -> None:
    """Raise InputError for what is a template but for the end of its name: it would be passed over without a word."""
    known = assets.template_names()
    for found in walk(top, recursive=True, wanted=lambda name: name.endswith((".yaml", ".yml"))):
        if isinstance(found, InputError):
            continue
        name = f"{found.relative_to(top).as_posix().rpartition('.')[0]}{_SUFFIX}"
        with suppress(OSError, UnicodeDecodeError):
            text = found.read_text("utf-8-sig")
            if name in known or is_own(text) or "{{" in text or "{%" in text:
                hint = f"Name it {name}, or keep it elsewhere."
                raise InputError(f"would be passed over: templates end in {_SUFFIX}", subject=str(found), hint=hint)


def configmap_templates(data: Mapping[str, str], where: str) -> TemplateSet:
    """Return chronik's templates, with those of a ConfigMap's data; `where` is what people call it.

    Raises:
        InputError: it has no template.
        TemplateError: a key replaces no template, and does not say what it adds.
    """
    texts = {
        key.replace(_FOLDER_MARK, "/", 1): text.removeprefix("\ufeff")
        for key, text in data.items()
        if key.endswith(".j2")
    }
    if not texts:
        hint = "Its keys are file names, such as deployment.yaml.j2 and parts__env.yaml.j2."
        raise InputError("has no key that ends in .yaml.j2", subject=where, hint=hint)

    def read(name: str) -> str | None:
        return texts[name] if name in texts else assets.template_text(name)

    return _checked(TemplateSet(read, where, frozenset(texts)))


def configmap_data(templates: TemplateSet) -> dict[str, str]:
    """Return the data of a ConfigMap that holds the templates that are not chronik's."""
    return {name.replace("/", _FOLDER_MARK): templates.read(name) or "" for name in sorted(templates.names)}


def template_reader(folder: str | None = None) -> Callable[[str], str | None]:
    """Return the function that reads a template by name: from a folder first, then chronik's own.

    Raises:
        InputError: as `template_set`.
    """
    return template_set(folder).read


def _checked(found: TemplateSet) -> TemplateSet:
    """Return a set with the templates that add objects; raise TemplateError for one that does nothing at all."""
    known = assets.template_names()
    own = []
    try:
        for name in sorted(found.names):
            text = found.read(name) or ""
            if name in known:
                _refuse_both(name, text)
            elif not name.startswith("parts/"):
                _check_name(name, known)
                own.append(_own(name, text, known))
        check_together(own)
    except TemplateError as error:
        error.location = found.locate(error)
        raise
    return found._replace(own=tuple(own))


def _own(name: str, text: str, known: Iterable[str]) -> OwnTemplate:
    try:
        return own_template(name, text)
    except TemplateError as error:
        from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it

        close = get_close_matches(name, known, n=1, cutoff=0.8)
        if close and not is_own(text):
            error.hint = f"Did you mean {close[0]}? {error.hint}"
        raise


def _refuse_both(name: str, text: str) -> None:
    if is_own(text):
        message = "says for what it adds an object, and has the name of a template of chronik's, so it replaces that"
        hint = "Give the file another name, or take the first line away."
        raise TemplateError(message, template=name, line=1, hint=hint)


def _check_name(name: str, known: Iterable[str]) -> None:
    if "/" in name:
        message = "replaces no template of chronik's, and what adds an object lies at the top"
        hint = f"New parts go in parts/. Known: {_listed(known)}."
        raise TemplateError(message, template=name, hint=hint)
    if not name.endswith(_SUFFIX):
        raise TemplateError(f"the name of a template ends in {_SUFFIX}", template=name)


def _reader(folder: Path) -> Callable[[str], str | None]:
    """Return what reads a template of a folder, or chronik's own where it has none of that name."""

    def read(name: str) -> str | None:
        try:
            return (folder / name).read_text("utf-8-sig")  # editors on Windows begin files with a mark
        except (FileNotFoundError, NotADirectoryError):
            return assets.template_text(name)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"cannot be read: {why}", subject=str(folder / name)) from error

    return read


def _templates(folder: Path) -> Iterator[Path]:
    """Yield the templates of a folder. One that cannot be read must not give way to chronik's own."""
    for found in walk(folder, recursive=True, wanted=lambda name: name.endswith(".j2")):
        if isinstance(found, InputError):
            raise found
        yield found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name for name in names if not name.startswith("parts/")))
