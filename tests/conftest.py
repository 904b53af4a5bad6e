"""The servers that integration tests run against.

`server` is both of them in turn, so a test that takes it runs unchanged on the stand-in, always, and on a real
kube-apiserver whenever its binaries are found. Either one lives for the whole session and is shared: keep tests apart
by `namespace`, a fresh one for each test, and count requests with `server.requests_of(namespace)`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; this is where they find `tools`

from tools import real_server as real

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.api import ApiServer

IN_PROCESS, REAL = "in-process", "kube-apiserver"


@pytest.fixture(scope="session")
def real_server() -> Iterator[ApiServer]:
    """Yield a real kube-apiserver without controllers: nothing acts but the test itself."""
    yield from _running_real_server(controllers=False)


@pytest.fixture(scope="session")
def real_cluster() -> Iterator[ApiServer]:
    """Yield a real kube-apiserver with kube-controller-manager: garbage collection, StatefulSets, HPA and so on."""
    if not real.find_binary("kube-controller-manager"):
        pytest.skip("no kube-controller-manager found: put it beside kube-apiserver")
    yield from _running_real_server(controllers=True)


def _running_real_server(*, controllers: bool) -> Iterator[ApiServer]:
    if not real.available():
        pytest.skip(real.MISSING)
    server = real.RealServer.start(controllers=controllers)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def fake_server() -> Iterator[ApiServer]:
    """Yield the in-process stand-in of kube-apiserver."""
    from tools.fake_server import FakeServer

    server = FakeServer.start()
    yield server
    server.stop()


@pytest.fixture(scope="session", params=[IN_PROCESS, REAL])
def server(request: pytest.FixtureRequest) -> ApiServer:
    """Return an API server to talk to: the stand-in in one run of the test, kube-apiserver in the other."""
    return request.getfixturevalue("fake_server" if request.param == IN_PROCESS else "real_server")


@pytest.fixture
def namespace(server: ApiServer) -> str:
    """Return the name of a fresh, empty namespace on `server`."""
    return server.new_namespace()
