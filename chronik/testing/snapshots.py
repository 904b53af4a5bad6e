"""How a manifest is kept as a snapshot: one readable YAML file per object, so that reviews show real diffs.

syrupy compares and writes, and is kept from looking for unused snapshots: it knows a test's by the brackets in their
names, and takes those of tests that were skipped, or failed before they compared anything, for unused. So `leftovers`
does the looking.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from syrupy.data import SnapshotCollections
from syrupy.exceptions import SnapshotDoesNotExist
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from chronik.documents.writer import to_yaml
from chronik.report.review import line_text
from chronik.report.text_diff import diff_lines
from chronik.testing.leftovers import Usage, is_file
from chronik.testing.places import SUFFIX, SnapshotPath, SnapshotPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syrupy.location import PyTestLocation
    from syrupy.types import SnapshotIndex


class ManifestSnapshotExtension(SingleFileSnapshotExtension):
    """A syrupy extension that writes a manifest as `chronik render` prints it."""

    file_extension = SUFFIX.removeprefix(".")
    _write_mode = WriteMode.TEXT

    def serialize(self, data: Any, **_: Any) -> str:
        """Return a manifest as YAML text."""
        return to_yaml(data)

    def diff_lines(self, serialized_data: Any, snapshot_data: Any) -> Iterator[str]:
        """Yield the whole diff of a comparison that a test makes itself."""
        for line in diff_lines(str(snapshot_data), str(serialized_data)):
            yield line_text(line)

    @classmethod
    def get_location(cls, *, test_location: PyTestLocation, index: SnapshotIndex) -> str:
        """Return the file of a snapshot, and take note that its test uses it."""
        file = _place(cls, test_location).file(index)
        usage = Usage.of(test_location.item)
        usage.files.add(file)
        usage.old_files.add(_old_file(cls, test_location, index))
        return str(file)

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: SnapshotIndex = 0) -> str:
        """Return what reports call a snapshot."""
        place = _place(cls, test_location)
        return place.file(index).relative_to(place.folder).with_suffix("").as_posix()

    def read_snapshot_data_from_location(self, *, snapshot_location: str, **_: Any) -> str | None:
        """Return what is in a file, and None without one; bytes that are not UTF-8 make it differ, and are no error."""
        try:
            return Path(snapshot_location).read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None

    def read_snapshot(self, *, test_location: PyTestLocation, index: SnapshotIndex, session_id: str) -> Any:
        """Return a snapshot's text, from under its old name if it has not been given the new one yet."""
        try:
            return super().read_snapshot(test_location=test_location, index=index, session_id=session_id)
        except SnapshotDoesNotExist:
            old = _old_file(type(self), test_location, index)
            if test_location.item.config.option.update_snapshots or not is_file(old):
                raise
            return old.read_text("utf-8", "surrogateescape")

    @classmethod
    def write_snapshot(cls, *, snapshot_location: str, snapshots: list[tuple[Any, Any, Any]], **_: Any) -> None:
        """Write one file; unlike syrupy's own, this does not ask whether the name has brackets."""
        path = Path(snapshot_location)
        path.parent.mkdir(parents=True, exist_ok=True)
        for text, _location, _index in snapshots:
            path.write_text(text, "utf-8")

    def discover_snapshots(self, **_: Any) -> SnapshotCollections:
        """Find nothing that syrupy could take for unused."""
        return SnapshotCollections()


def _place(extension: type[ManifestSnapshotExtension], location: PyTestLocation) -> SnapshotPlace:
    return SnapshotPlace.of(location.item, str(extension.snapshot_dirname))


def _old_file(extension: type[ManifestSnapshotExtension], location: PyTestLocation, index: SnapshotIndex) -> Path:
    """Return where chronik kept a snapshot before its names were without brackets, as syrupy names files."""
    name = index.old_name if isinstance(index, SnapshotPath) else index
    old = SingleFileSnapshotExtension.get_snapshot_name(test_location=location, index=name)
    return _place(extension, location).folder / f"{old}{SUFFIX}"
