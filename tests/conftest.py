"""The servers that integration tests run against.

`server` is either of two, so a test that takes it runs unchanged on the stand-in and on a real kube-apiserver. Either
one has chronik's definitions installed, lives for the whole session and is shared: keep tests apart by `namespace`, a
fresh one for each test, and count requests with `server.requests_of(namespace)`. A test that breaks things starts a
stand-in of its own: `FakeServer.start()`.

**Which of the two.** Where the binaries of a real kube-apiserver are found, it is the one by default; for tests that
are marked `stand_in`, because they take long on it, the stand-in is. The run on the other server is marked `slow`:
`nox -s proof` runs it. Tests marked `both` run on both, such as those of tests/stand_in, which hold the stand-in to
what the real server answers. `--servers` says otherwise. Where no binaries are found, all runs on the stand-in, and
what cannot is skipped with a word.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; this is where they find `support`

from support import real_server as real

from chronik.manifest import BACKUP, CLUSTER, FEATURES, FEDERATION
from chronik.offline import loading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import ApiServer
    from support.fake_server.server import FakeServer

    from chronik.manifest import Manifest

for _name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CHRONIK_DEBUG", "COLUMNS", "LINES"):
    os.environ.pop(_name, None)  # what decides how output looks is for each test to say
for _name in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS"):
    os.environ.pop(_name, None)  # pytest shortens no line where these say that a machine reads; tests start pytests too
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of Pythons are started: each would compile chronik anew
sys.dont_write_bytecode = False  # nor does each worker rewrite the asserts of all tests anew in every run

MOST_WORKERS = 4  # each may start servers of its own

COLLECTIONS = (5_000, 10, 10)  # of the youngest when there are so many, of the middle and of all every so often
"""What Python's collector waits for: its own 700 is for small programs, and takes a tenth of the suite's CPU."""

LONGEST_FIRST = (
    "e2e/test_operator_analysis.py",
    "metastore/test_archive.py",
    "metastore/test_dump.py",
    "e2e/test_operator_recovery.py",
    "testing/test_testing.py",
    "e2e/test_operator_rights.py",
    "e2e/test_operator_backups.py",
    "e2e/test_operator_search_canary.py",
    "e2e/test_operator_definitions.py",
    "cli/test_reconcile_command.py",
    "e2e/test_operator_federation.py",
    "e2e/test_cli_delete.py",
    "render/test_install.py",
    "e2e/test_operator_canary.py",
    "e2e/test_operator_members.py",
    "e2e/test_operator_blue_green.py",
    "e2e/test_operator_replacing.py",
    "e2e/test_operator_chaos.py",
    "operator/test_operator_lease.py",
    "e2e/test_cli_status.py",
    "api/test_server_agrees.py",
    "e2e/test_cli_apply.py",
    "e2e/test_operator_basics.py",
    "cli/test_cli_streams.py",
    "stand_in/test_fake_server.py",
    "e2e/test_operator_upgrade.py",
    "e2e/test_operator_drift.py",
    "e2e/test_recovery_real.py",
    "e2e/test_operator_configuration.py",
    "e2e/test_operator_bad_moments.py",
    "plan/test_planner_real.py",
    "plan/test_plan_cleared.py",
)
"""Files that take ten seconds and more: those who begin with them end together. Others follow, the largest first."""

# A busy machine is no failure. What one run finds, the next has to find again: new examples are for proof.
settings.register_profile("quick", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile("quick")

IN_PROCESS, REAL, BOTH = "in-process", "kube-apiserver", "both"
CLUSTERS = f"/apis/{CLUSTER.api_version}/{CLUSTER.plural}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says which servers integration tests run against."""
    parser.addoption(
        "--servers",
        choices=[IN_PROCESS, REAL, BOTH],
        help="what integration tests run against, instead of one of the two for each",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the run on a server that is not the one of the test as slow."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    other = {IN_PROCESS: REAL, REAL: IN_PROCESS}.get(_chosen(item))
    if other in {each for each in parameters if isinstance(each, str)}:
        item.add_marker("slow")


def _chosen(item: pytest.Item) -> str:
    marked = {name for name in ("both", "stand_in") if item.get_closest_marker(name)}
    if "both" in marked or not _real_available():
        return BOTH
    return item.config.getoption("servers") or (IN_PROCESS if "stand_in" in marked else REAL)


@cache
def _real_available() -> bool:
    return real.available()  # thirteen thousand tests ask, and each answer is a search of folders


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes share the suite: one more than there are CPUs, as tests wait, and each starts servers.

    None do if files were named, or if snapshots are written anew: those left over are found by one who sees all tests.
    """
    alone = config.args_source is pytest.Config.ArgsSource.ARGS or config.getoption("update_snapshots")
    return 0 if alone else min((os.cpu_count() or 1) + 1, MOST_WORKERS)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector, and have it never look at what was collected.

    That is a half million objects, which live until the end, and each full collection would go through all of them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(*COLLECTIONS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, where the suite is shared: workers take file by file in the order of collection.

    Left to itself, xdist takes a file of four tests last, which may run for a minute when the other workers have ended.
    """
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: (place.get(item.path, len(place)), -tests[item.path], item.path))


def _definitions() -> list[Manifest]:
    return loading.definitions(FEATURES)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of this run: all processes that share the suite have the same one."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def _real(shared: Path, controllers: str | None) -> Iterator[ApiServer]:
    """Yield a real server with chronik's definitions, or skip.

    To take in the definitions costs a server as much as its start, so one process of the run has it done, and the other
    servers start with what that one has saved. The definitions come before the controllers, because the garbage
    collector looks for new kinds only twice a minute.
    """
    if not real.available():
        pytest.skip(real.MISSING)
    saved = shared / "definitions"
    with (shared / "definitions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = real.RealServer.start(objects=saved if saved.exists() else None)
        server.install(_definitions())
        for plural in (CLUSTER.plural, BACKUP.plural, FEDERATION.plural):
            server.wait_served(CLUSTERS.replace(CLUSTER.plural, plural))
        if not saved.exists():
            server.save(saved.with_suffix(".part"))
            saved.with_suffix(".part").rename(saved)
    if controllers and real.find_binary("kube-controller-manager"):
        server.start_controllers(controllers)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def real_server(shared_folder: Path) -> Iterator[ApiServer]:
    """Yield a real kube-apiserver where nothing acts but the test itself and, if found, garbage collection."""
    yield from _real(shared_folder, real.GARBAGE_COLLECTION)


@pytest.fixture(scope="session")
def real_cluster(shared_folder: Path) -> Iterator[ApiServer]:
    """Yield a real kube-apiserver with all of kube-controller-manager: StatefulSets, HPA and so on, but no node."""
    if real.available() and not real.find_binary("kube-controller-manager"):
        pytest.skip("no kube-controller-manager found beside kube-apiserver")
    yield from _real(shared_folder, real.ALL_CONTROLLERS)


@pytest.fixture(scope="session")
def fake_server() -> Iterator[FakeServer]:
    """Yield the in-process stand-in of kube-apiserver."""
    server = _stand_in()
    server.install(_definitions())
    yield server
    server.stop()


def _stand_in() -> FakeServer:
    from support.fake_server.server import FakeServer  # noqa: PLC0415  # 0.3 s that unit tests do without

    return FakeServer.start()


@pytest.fixture(scope="session", params=[IN_PROCESS, REAL])
def server(request: pytest.FixtureRequest) -> ApiServer:
    """Return an API server to talk to: the stand-in in one run of the test, kube-apiserver in the other."""
    return request.getfixturevalue("fake_server" if request.param == IN_PROCESS else "real_server")


@pytest.fixture(scope="session", params=[IN_PROCESS, REAL])
def bare_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """Yield an API server, of each sort in turn, that has never heard of chronik's kinds."""
    if request.param == REAL and not real.available():
        pytest.skip(real.MISSING)
    server = _stand_in() if request.param == IN_PROCESS else real.RealServer.start()
    yield server
    server.stop()


@pytest.fixture
def namespace(server: ApiServer) -> Iterator[str]:
    """Yield the name of a fresh, empty namespace on `server`."""
    name = server.new_namespace()
    yield name
    server.drop_namespace(name)
