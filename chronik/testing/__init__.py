"""A pytest plugin for people who keep ChronikCluster documents or template overrides: `pip install chronik[testing]`.

    def test_production(render_cluster, assert_manifests):
        assert_manifests(render_cluster("clusters/production.yaml", templates="templates"))

The first run with `--snapshot-update` writes one YAML file per object under `__snapshots__/`; later runs fail with a
readable diff of every object that changed. chronik's own examples are tested with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from chronik.manifest import Manifest


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
def render_cluster() -> RenderCluster:
    """Return a function that renders the clusters of a file or folder to manifests."""
    from chronik.offline import loading as offline  # noqa: PLC0415  # loaded in every pytest run, so it stays light until it is used

    def render(
        path: str | PathLike[str],
        *,
        templates: str | PathLike[str] | None = None,
        namespace: str | None = None,
    ) -> list[Manifest]:
        clusters, _ = offline.load_clusters([str(path)], namespace=namespace)
        return offline.render_clusters(clusters, None if templates is None else str(templates))

    return render


@pytest.fixture
def manifest_snapshot(request: pytest.FixtureRequest) -> Any:
    """Give syrupy's `snapshot`, keeping one YAML file per manifest and name."""
    from chronik.testing.snapshots import ManifestSnapshotExtension  # noqa: PLC0415  # needs syrupy, others may not have it

    return request.getfixturevalue("snapshot").use_extension(ManifestSnapshotExtension)


@pytest.fixture
def assert_manifests(manifest_snapshot: Any) -> Callable[[Sequence[Manifest]], None]:
    """Return a function that compares manifests with their snapshots, all of them before it fails."""

    def check(manifests: Sequence[Manifest]) -> None:
        named = [(snapshot_name(manifest), manifest) for manifest in manifests]
        changed = [name for name, manifest in named if manifest != manifest_snapshot(name=name)]
        for name, manifest in named:
            if name in changed:
                assert manifest == manifest_snapshot(name=name), f"changed: {', '.join(changed)}"

    return check


def snapshot_name(manifest: Manifest) -> str:
    """Return the name of a manifest's snapshot: `statefulset-demo-controller`."""
    return f"{manifest['kind'].lower()}-{manifest['metadata']['name']}"
