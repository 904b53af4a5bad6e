"""Where the snapshots of a test are: names that any shell, git and file system takes as they are.

    __snapshots__/test_clusters/test_production-eu/streaming/statefulset-events-controller.yaml
                  module        test and parameters namespace kind and name

A name is made of what it is of and nothing else, so it stays when other tests or objects come and go. Objects without a
namespace are in `_cluster`. A second call of `assert_manifests` in a test has a folder of its own, `…+2`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from chronik.manifest import lasting_name

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from chronik.manifest import Manifest

SUFFIX = ".yaml"
_NO_NAMESPACE = "_cluster"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.,=@-]+")
_LEADING = re.compile(r"^[.-]+|^$")
_LONGEST = 120  # file systems take 255 bytes, and a path is made of several
_DIGITS = 8


class SnapshotPath(str):
    """Where the snapshot of an object is, below its test's folder: `/streaming/statefulset-events-controller`.

    `old_name` is what chronik called it before it wrote names without brackets.
    """

    __slots__ = ("old_name",)
    old_name: str

    @classmethod
    def of(cls, manifest: Manifest, call: int) -> SnapshotPath:
        """Return the path of a manifest that the test's so-manieth call of `assert_manifests`, from 1, is about."""
        namespace = manifest["metadata"].get("namespace")
        folder = safe(str(namespace)) if namespace else _NO_NAMESPACE
        path = cls(f"{_nth(call)}/{folder}/{safe(manifest['kind'].lower())}-{safe(lasting_name(manifest))}")
        path.old_name = snapshot_name(manifest)
        return path


class SnapshotPlace(NamedTuple):
    """Where a test's snapshots are: in `folder`, that of its module, below `name`, and of its second call `name+2`."""

    folder: Path
    name: str

    @classmethod
    def of(cls, item: pytest.Item, dirname: str) -> SnapshotPlace:
        """Return the place of a test, if snapshots are in folders called `dirname`."""
        *classes, _ = item.nodeid.removesuffix(item.name).split("::")[1:]
        function, bracket, parameters = item.name.partition("[")
        name = ".".join([*classes, function])
        if bracket:
            name = f"{name}-{safe(parameters.removesuffix(']'), first=False)}"
        return cls(item.path.parent / dirname / item.path.stem, _cut(name))

    def call(self, number: int) -> Path:
        """Return the folder of the test's so-manieth call of `assert_manifests`, from 1."""
        return self.folder / f"{self.name}{_nth(number)}"

    def file(self, index: str | int) -> Path:
        """Return the file of a snapshot: of a manifest, or of a name or number that a test gave itself."""
        if not isinstance(index, SnapshotPath):
            name = safe(index) if isinstance(index, str) else str(index + 1)
            return self.folder / self.name / f"{name}{SUFFIX}"
        return self.folder / f"{self.name}{index}{SUFFIX}"


def snapshot_name(manifest: Manifest) -> str:
    """Return what a manifest is called beside the others of its namespace: `statefulset-demo-controller`."""
    return f"{manifest['kind'].lower()}-{lasting_name(manifest)}"


def safe(text: str, *, first: bool = True) -> str:
    """Return a text as part of a file name; where that loses something, a digest of the text tells it from others.

    `first` is that a name begins with it, so that no dot or dash may come first.
    """
    kept = _UNSAFE.sub("_", text)
    if first:
        kept = _LEADING.sub("_", kept)
    return _cut(kept if kept == text else f"{kept}-{_digest(text)}")


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - _DIGITS - 1]}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _nth(call: int) -> str:
    return f"+{call}" if call > 1 else ""
