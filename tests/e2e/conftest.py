"""What tests of recoveries share: a namespace that knows snapshots, and what plays them. Many files have their own."""

from __future__ import annotations

import pytest
from support.operators import Namespace
from support.snapshots import Played, install_snapshots
from support.volumes import Volumes


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace on a server that knows snapshots."""
    install_snapshots(server)
    return Namespace(server, namespace)


@pytest.fixture
def played(place) -> Played:
    """Return what makes snapshots and runs Jobs."""
    return Played(place)


@pytest.fixture
def volumes(place, played, tmp_path) -> Volumes:
    """Return what binds claims; it has what is cut."""
    found = Volumes(place, tmp_path)
    played.on_cut = found.cut
    return found
