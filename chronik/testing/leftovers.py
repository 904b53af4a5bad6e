"""Snapshots of manifests that no test uses any more: found, named, and deleted with `--snapshot-update`.

What belongs to a test that was skipped, deselected or failed is never taken for unused. Nothing is deleted but what
chronik wrote: a file whose name is that of the manifest in it. The options are syrupy's, and mean what they do for its
own snapshots. All is the same in one process and with pytest-xdist, whose workers hand in what they saw.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chronik.testing.places import SUFFIX, SnapshotPath, SnapshotPlace, snapshot_name
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from chronik.manifest import Manifest

_MESSAGE = "chronik_leftovers"
_BROKEN_RUNS = {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR}


@dataclass(slots=True)
class Usage:
    """The snapshots that one test has compared with so far; `old_files` is where an earlier chronik kept them."""

    files: set[Path] = field(default_factory=set)
    old_files: set[Path] = field(default_factory=set)

    @staticmethod
    def of(item: pytest.Item) -> Usage:
        """Return the usage of a test."""
        return item.stash.setdefault(_USAGE, Usage())


@dataclass(slots=True)
class Files:
    """Snapshots to report: of no test or object, under names with brackets, deleted in this run."""

    unused: set[Path] = field(default_factory=set)
    bracketed: set[Path] = field(default_factory=set)
    deleted: set[Path] = field(default_factory=set)

    def as_message(self) -> dict[str, list[str]]:
        """Return them as what a worker of pytest-xdist can send."""
        return {name: sorted(map(str, getattr(self, name))) for name in Files.__slots__}

    def add_message(self, message: dict[str, list[str]]) -> None:
        """Add what a worker has sent."""
        for name, paths in message.items():
            getattr(self, name).update(map(Path, paths))


class Policy:
    """What the options of syrupy ask for."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.option
        self.dirname = str(option.snapshot_dirname)
        self.update = bool(option.update_snapshots)
        self.fails = not self.update and not option.warn_unused_snapshots
        self.looks = not getattr(option, "disable_unused_snapshots", False)
        self.deletes = self.update and self.looks and not getattr(option, "no_cleanup", False)
        self.details = bool(option.include_snapshot_details)


class Leftovers:
    """The plugin that watches which tests there are, which have run, and which snapshots they used."""

    def __init__(self, config: pytest.Config) -> None:
        self.files = Files()
        self.policy = Policy(config)
        self._config = config
        self._tests: defaultdict[Path, list[pytest.Item]] = defaultdict(list)

    @staticmethod
    def of(config: pytest.Config) -> Leftovers:
        """Return the plugin of this run."""
        return config.stash[LEFTOVERS]

    def remove(self, files: Iterable[Path]) -> None:
        """Delete snapshots, and the folders that are empty without them."""
        for file in files:
            file.unlink(missing_ok=True)
            self.files.deleted.add(file)
            for folder in file.parents:
                if folder.name == self.policy.dirname or any(folder.iterdir()):
                    break
                folder.rmdir()

    # --- what pytest tells ------------------------------------------------------------------------------------------

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Take note of a test before any option or plugin leaves it out."""
        if isinstance(item, pytest.Function):
            self._tests[item.path].append(item)

    def pytest_collection_finish(self) -> None:
        """Keep syrupy's hands off these snapshots: any extension of its own takes strange files for unused ones."""
        folders = [self._folder(module) for module in self._tests]
        if any(_kept_files(folder) or any(_bracketed_files(folder)) for folder in folders):
            session = getattr(self._config, "_syrupy", None)
            ignored = [*(self._config.option.ignore_file_extensions or ()), SUFFIX.removeprefix(".")]
            self._config.option.ignore_file_extensions = ignored
            if session is not None:
                session.ignore_file_extensions = ignored

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Look for what a test has left unused, once it has passed."""
        report = yield
        if call.when == "call" and report.passed and not hasattr(report, "wasxfail") and self.policy.looks:
            self._passed(item)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Find what belongs to no test, and delete it or have the run fail, as the options say."""
        if not self.policy.looks or exitstatus in _BROKEN_RUNS or self._config.option.collectonly:
            return
        self.files.unused |= set(self._of_no_test())
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_MESSAGE] = self.files.as_message()
        elif self.policy.deletes:
            self.remove(sorted(self.files.unused | self.files.bracketed))
            self.files.deleted -= self.files.bracketed
        elif self.policy.fails and (self.files.unused or self.files.bracketed):
            session.exitstatus |= pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what a worker of pytest-xdist saw."""
        self.files.add_message((getattr(node, "workeroutput", None) or {}).get(_MESSAGE, {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was found."""
        lines = list(self._lines())
        if lines:
            terminalreporter.write_sep("-", "manifest snapshots")
            for line in lines:
                terminalreporter.write_line(line)

    # --- what it finds ----------------------------------------------------------------------------------------------

    def _folder(self, module: Path) -> Path:
        return module.parent / self.policy.dirname / module.stem

    def _passed(self, item: pytest.Item) -> None:
        place = SnapshotPlace.of(item, self.policy.dirname)
        if not place.folder.is_dir():
            return
        usage = Usage.of(item)
        for file in _kept_files(place.folder):
            if _test_of(file, place.folder) == place.name and file not in usage.files and _is_ours(file, place.folder):
                self.files.unused.add(file)
        old = {file for file, test in _bracketed_files(place.folder) if test == old_test_name(item)}
        self.files.unused |= old - usage.old_files
        self.files.bracketed |= {file for file in usage.old_files if is_file(file)}

    def _of_no_test(self) -> Iterator[Path]:
        """Yield the snapshots in the folders of modules that were collected whole, and of those that are gone."""
        for module, items in self._tests.items():
            if self._is_whole(module):
                folder = self._folder(module)
                names = {SnapshotPlace.of(item, self.policy.dirname).name for item in items}
                old_names = {old_test_name(item) for item in items}
                kept = (file for file in _kept_files(folder) if _test_of(file, folder) not in names)
                yield from (file for file in kept if _is_ours(file, folder))
                yield from (file for file, test in _bracketed_files(folder) if test not in old_names)
        for parent in {module.parent for module in self._tests}:
            if self._is_named(parent):
                yield from _of_no_module(parent, self.policy.dirname)

    def _is_whole(self, module: Path) -> bool:
        """Tell whether all tests of a module were collected."""
        if self._config.getoption("lf", default=False):
            return False
        single = [argument.partition("::")[0] for argument in self._config.args if "::" in argument]
        return not any(self._config.option.pyargs or self._absolute(name) == module.resolve() for name in single)

    def _is_named(self, folder: Path) -> bool:
        """Tell whether pytest was asked for all tests of a folder."""
        named = (self._absolute(argument) for argument in self._config.args)
        return any(path.is_dir() and folder.resolve().is_relative_to(path) for path in named)

    def _absolute(self, argument: str) -> Path:
        return Path(self._config.invocation_params.dir, argument).resolve()

    # --- what it says -----------------------------------------------------------------------------------------------

    def _lines(self) -> Iterator[str]:
        if self.files.deleted:
            yield f"{counted(len(self.files.deleted), 'snapshot')} deleted:"
            yield from self._named(self.files.deleted)
        if self.policy.deletes and self.files.bracketed:
            yield f"{counted(len(self.files.bracketed), 'snapshot')} given a name without brackets, in place of:"
            yield from self._named(self.files.bracketed)
        if self.policy.deletes:
            return
        if self.files.unused:
            yield f"{counted(len(self.files.unused), 'snapshot')} of no test or object any more:"
            yield from self._named(self.files.unused)
        if self.files.bracketed:
            yield f"{counted(len(self.files.bracketed), 'snapshot')} under a name that chronik no longer gives:"
            yield from self._named(self.files.bracketed)
        if not self.policy.update and (self.files.unused or self.files.bracketed):
            yield "pytest --snapshot-update deletes what is not used, and gives new names."

    def _named(self, files: Iterable[Path]) -> Iterator[str]:
        """Yield each file with `--snapshot-details`, or else their folders and how many there are in each."""
        shown = [_shown(file, self._config.rootpath) for file in sorted(files)]
        if self.policy.details:
            yield from (f"  {name}" for name in shown)
            return
        folders = Counter(name.rpartition("/")[0] for name in shown)
        yield from (f"  {folder}/  ({counted(count, 'file')})" for folder, count in folders.items())


_USAGE = pytest.StashKey[Usage]()
LEFTOVERS = pytest.StashKey[Leftovers]()


def old_test_name(item: pytest.Item) -> str:
    """Return what a test was called in file names with brackets."""
    *classes, _ = item.nodeid.removesuffix(item.name).split("::")[1:]
    return _as_syrupy_spells(".".join([*classes, item.name]))


def is_file(path: Path) -> bool:
    """Tell whether there is a file; there is none where a name is too long for one."""
    return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises for such a name


def manifest_of(text: str) -> Manifest | None:
    """Return the manifest that a snapshot holds; None if it cannot be read as one."""
    from chronik.documents.reader import parse_documents  # noqa: PLC0415  # few runs come here, and all load this module

    documents, problems = parse_documents(text, "snapshot")
    tree = documents[0].tree if len(documents) == 1 and not problems else None
    if not isinstance(tree, dict) or not isinstance(tree.get("kind"), str) or "apiVersion" not in tree:
        return None
    metadata = tree.get("metadata")
    return tree if isinstance(metadata, dict) and isinstance(metadata.get("name"), str) else None


def manifest_in(file: Path) -> Manifest | None:
    """Return the manifest in a file; None if it cannot be read as one."""
    try:
        return manifest_of(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _kept_files(folder: Path) -> list[Path]:
    """Return what may be snapshots in the folder of a module: those of whole tests, and those that tests name."""
    return [*folder.glob(f"*/*/*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")]


def _bracketed_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the snapshots of an earlier chronik in the folder of a module, and the names of their tests."""
    for file in folder.glob(f"*[[]*]{SUFFIX}"):
        manifest = manifest_in(file)
        end = manifest and f"[{_as_syrupy_spells(snapshot_name(manifest))}]"
        if end and file.stem.endswith(end):
            yield file, file.stem.removesuffix(end)


def _of_no_module(parent: Path, dirname: str) -> Iterator[Path]:
    for folder in (parent / dirname).glob("*"):
        if folder.is_dir() and not any((parent / f"{folder.name}{end}").exists() for end in (".py", ".pyi")):
            yield from (file for file in _kept_files(folder) if _is_ours(file, folder))
            yield from (file for file, _ in _bracketed_files(folder))


def _test_of(file: Path, folder: Path) -> str:
    """Return the name that a test's folder begins with, for a snapshot in the folder of its module."""
    return re.sub(r"\+\d+$", "", file.relative_to(folder).parts[0])


def _is_ours(file: Path, folder: Path) -> bool:
    """Tell whether chronik wrote a file: it holds a manifest, and has the name of just that one."""
    manifest = manifest_in(file)
    if manifest is None:
        return False
    parts = file.relative_to(folder).with_suffix("").parts[1:]
    return len(parts) == 1 or "/".join(("", *parts)) == SnapshotPath.of(manifest, 1)


def _as_syrupy_spells(name: str) -> str:
    return "".join(each for each in name if each not in '\\/?*:|"<>' and unicodedata.category(each)[0] != "C")


def _shown(file: Path, root: Path) -> str:
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()
