"""A pytest plugin for people who keep ChronikCluster documents or template overrides: `pip install chronik[testing]`.

    def test_production(render_cluster, assert_manifests):
        assert_manifests(render_cluster("clusters/production.yaml", templates="templates"))

The first run with `--snapshot-update` writes one YAML file per object under `__snapshots__/`; later runs fail with one
report of every object that changed, came or went, and of the pods that would restart. docs/reviews.md is the guide.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from chronik.errors import ChronikError, InputError
from chronik.testing.places import snapshot_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from os import PathLike

    from chronik.manifest import Manifest
    from chronik.report.review import Review

__all__ = ["ManifestsDiffer", "RenderCluster", "snapshot_name"]

_MOST_PROBLEMS = 50
_MARKUP = "chronik_markup"


class ManifestsDiffer(AssertionError):
    """Manifests are not what their snapshots say; as text it is the whole report."""

    def __init__(self, review: Review) -> None:
        super().__init__(review)
        self.review = review

    def __str__(self) -> str:
        return _as_text(self.review, width=None, color=False)


class RenderCluster(Protocol):
    """Render the clusters of a file or folder, as `chronik render` does."""

    def __call__(
        self,
        path: str | PathLike[str],
        *,
        templates: str | PathLike[str] | None = None,
        namespace: str | None = None,
    ) -> list[Manifest]:
        """Return the manifests in apply order; raise what `chronik render` would report."""


@pytest.fixture
def render_cluster(request: pytest.FixtureRequest) -> RenderCluster:
    """Return a function that renders the clusters of a file or folder to manifests."""
    from chronik.offline import loading as offline  # noqa: PLC0415  # loaded in every pytest run, so it stays light until it is used

    def render(
        path: str | PathLike[str],
        *,
        templates: str | PathLike[str] | None = None,
        namespace: str | None = None,
    ) -> list[Manifest]:
        __tracebackhide__ = True
        with _explained(request.node):
            clusters, _ = offline.load_clusters([str(path)], namespace=namespace)
            return offline.render_clusters(clusters, None if templates is None else str(templates))

    return render


@pytest.fixture
def manifest_snapshot(request: pytest.FixtureRequest) -> Any:
    """Give syrupy's `snapshot`, keeping one YAML file per manifest and name."""
    with _explained(request.node):
        if find_spec("syrupy") is None:
            hint = "pip install 'chronik[testing]'"
            raise InputError("snapshots need syrupy, which is not installed", hint=hint)
    from chronik.testing.snapshots import ManifestSnapshotExtension  # noqa: PLC0415  # needs syrupy, others may not have it

    return request.getfixturevalue("snapshot").use_extension(ManifestSnapshotExtension)


@pytest.fixture
def assert_manifests(request: pytest.FixtureRequest, manifest_snapshot: Any) -> Callable[[Sequence[Manifest]], None]:
    """Return a function that compares manifests with their snapshots, all of them before it fails.

    The snapshots of each call in a test are their own.
    """
    from chronik.testing.comparison import compare  # noqa: PLC0415

    snapshot = manifest_snapshot.use_extension(manifest_snapshot.extension_class)  # counts for itself
    calls = 0

    def check(manifests: Sequence[Manifest]) -> None:
        __tracebackhide__ = True
        nonlocal calls
        calls += 1
        with _explained(request.node):
            review = compare(manifests, snapshot, request.node, calls)
        if review.differing:
            raise ManifestsDiffer(review)

    return check


def pytest_configure(config: pytest.Config) -> None:
    """Look after snapshots that nobody uses, if syrupy is there to make some."""
    if hasattr(config.option, "update_snapshots"):
        from chronik.testing.leftovers import LEFTOVERS, Leftovers  # noqa: PLC0415

        config.stash[LEFTOVERS] = Leftovers(config)
        config.pluginmanager.register(config.stash[LEFTOVERS], "chronik-leftovers")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist, which has no terminal, whether there is a coloured one."""
    node.workerinput[_MARKUP] = _terminal(node.config)[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what differs, or why nothing could be rendered, instead of a traceback.

    `--full-trace` and `--tb=native` ask for one, and get it.
    """
    report = yield
    error = call.excinfo.value if call.excinfo else None
    wanted = isinstance(error, ManifestsDiffer) or (error is not None and error is item.stash.get(_ERROR, None))
    traces = item.config.getoption("fulltrace") or item.config.getoption("tbstyle") == "native"
    if wanted and not traces and call.excinfo is not None:
        report.longrepr = _report(error, call.excinfo, *_terminal(item.config))
    return report


_ERROR = pytest.StashKey[ChronikError]()
"""What a test could not render or compare."""


@contextmanager
def _explained(item: pytest.Item) -> Iterator[None]:
    """Remember an error that says by itself what is wrong, for which nobody needs chronik's own lines."""
    __tracebackhide__ = True
    try:
        yield
    except ChronikError as error:
        item.stash[_ERROR] = error
        raise


def _terminal(config: pytest.Config) -> tuple[int, bool]:
    """Return how wide the terminal is, and whether pytest colours what it writes there."""
    markup = bool(getattr(config, "workerinput", {}).get(_MARKUP))
    if not config.pluginmanager.hasplugin("terminalreporter"):
        return 80, markup
    writer = config.get_terminal_writer()
    return writer.fullwidth, markup or writer.hasmarkup


def _report(error: Any, excinfo: pytest.ExceptionInfo[Any], width: int, color: bool) -> Any:  # noqa: FBT001  # as `_terminal` returns it
    """Return a failure as pytest and pytest-xdist print it: the text alone, and the place in the test beside it."""
    if isinstance(error, ManifestsDiffer):
        text, headline = _as_text(error.review, width=width, color=color), error.review.headline
    else:
        from chronik.report.problems import error_text  # noqa: PLC0415

        # As the command writes it where there is no terminal: unwrapped, so that logs can be searched.
        text = error_text(error, width=None, color=color, most=_MOST_PROBLEMS)
        headline = error_text(error, width=10_000, color=False).partition("\n")[0]
    told = pytest.ExceptionInfo.from_exc_info((AssertionError, AssertionError(text.rstrip("\n")), excinfo.tb))
    told.traceback = _without_chronik(told)
    shown = told.getrepr(style="value")
    if shown.reprcrash is not None:
        shown.reprcrash.message = headline
    return shown


def _without_chronik(excinfo: pytest.ExceptionInfo[Any]) -> Any:
    """Return a traceback down to where chronik was called: pytest shows the place of its last line."""
    entries = excinfo.traceback
    calls = [number for number, entry in enumerate(entries) if entry.frame.code.raw.co_filename == __file__]
    return type(entries)(entries[: calls[0]]) if calls else entries


def _as_text(review: Review, *, width: int | None, color: bool) -> str:
    from chronik.report.review import as_text  # noqa: PLC0415

    return as_text(review, width=width, color=color)
