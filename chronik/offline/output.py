"""Write rendered manifests into a folder for GitOps: one file per object in apply order, and a kustomization.yaml.

The folder may hold other files. What chronik wrote is listed in its kustomization.yaml, so a second run replaces or
removes exactly that, and never touches a file that somebody else put there. Called by `cli`, for `chronik render` and
`chronik install`, neither of which replaces what the other wrote.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chronik.documents.writer import to_yaml
from chronik.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chronik.manifest import Manifest

INDEX = "kustomization.yaml"
_MARK = "# Written by {}, which replaces the files listed here. Keep your own changes in an overlay.\n"
_FILE_NAME = re.compile(r"\d{2,}-[a-z0-9-]+\.yaml")


def file_names(manifests: Sequence[Manifest]) -> list[str]:
    """Return a file name for each manifest: `07-configmap-demo-config.yaml`, numbered in apply order."""
    width = max(2, len(str(len(manifests))))
    return [
        f"{number:0{width}}-{_slug(manifest['kind'])}-{_slug(manifest['metadata']['name'])}.yaml"
        for number, manifest in enumerate(manifests, start=1)
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", name.lower())


def write_folder(folder: Path, manifests: Sequence[Manifest], writer: str = "chronik render") -> list[str]:
    """Write the manifests and their index; return the names of the files that are no longer needed and were removed.

    `writer` is the command that the folder belongs to.

    Raises:
        InputError: the folder cannot be written, or a file in the way is not chronik's.
    """
    names = file_names(manifests)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ours = _written_before(folder, writer)
        _refuse_foreign(folder, names, ours)
        if not ours.issuperset(names):  # so that a run which is cut short can be repeated
            _write(folder / INDEX, _index(writer, sorted(ours.union(names))))
        for name, manifest in zip(names, manifests, strict=True):
            _write(folder / name, to_yaml(manifest))
        stale = sorted(ours - set(names))
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        _write(folder / INDEX, _index(writer, names))
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", subject=str(error.filename or folder)) from error
    return stale


def _index(writer: str, names: Sequence[str]) -> str:
    listed = "".join(f"- {name}\n" for name in names)
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    return f"{_MARK.format(writer)}{head}sortOptions: {{order: fifo}}\nresources:\n{listed}"


def _written_before(folder: Path, writer: str) -> set[str]:
    try:
        text = (folder / INDEX).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return set()
    if not text.startswith(_MARK.format(writer)):
        raise InputError(
            f"was not written by {writer}, and would be replaced",
            subject=str(folder / INDEX),
            hint="Choose an empty folder, and refer to it from your own kustomization.yaml.",
        )
    lines = text.splitlines()  # as `_index` wrote them
    return {name for line in lines if _FILE_NAME.fullmatch(name := line.removeprefix("- "))}


def _refuse_foreign(folder: Path, names: Sequence[str], ours: set[str]) -> None:
    for name in names:
        if name not in ours and (folder / name).exists():
            raise InputError(
                "is in the way, and chronik did not write it",
                subject=str(folder / name),
                hint="Move it, or choose another folder.",
            )


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all; leave it alone if it says so already."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
