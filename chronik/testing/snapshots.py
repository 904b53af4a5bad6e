"""How a manifest is kept as a snapshot: one readable YAML file per object, so that reviews show real diffs."""

from __future__ import annotations

from typing import Any

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from chronik.documents.writer import to_yaml


class ManifestSnapshotExtension(SingleFileSnapshotExtension):
    """A syrupy extension that writes a manifest as `chronik render` prints it."""

    file_extension = "yaml"
    _write_mode = WriteMode.TEXT

    def serialize(self, data: Any, **_: Any) -> str:
        """Return a manifest as YAML text."""
        return to_yaml(data)
