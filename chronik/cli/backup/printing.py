"""`chronik render --backup`: what recovers a cluster from a described backup, for those who apply it themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.backups.recovery import imports
from chronik.backups.recovery.printed import printed_recovery
from chronik.cli.backup.importing import checked
from chronik.cli.backup.options import read_json
from chronik.cli.main import show_note
from chronik.manifest import CLUSTER
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest


def recovery_of(cluster: Cluster, rendered: Sequence[Manifest], file: str, templates: str | None) -> list[Manifest]:
    """Return what recovers a cluster from the backup that a file describes.

    Raises:
        InputError: the file cannot be read, or the backup does not fit.
        BackupError: the file describes no backup that can be used.
    """
    described = checked(read_json(file), file)
    namespace, name = imports.name_of(described)
    document = {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "metadata": {"name": described["spec"]["cluster"], "namespace": namespace or cluster.namespace},
        "spec": described["status"]["cluster"]["spec"],
    }
    recorded = offline.validator().validate(document, stored=True).cluster
    found = printed_recovery(cluster, rendered, described, recorded, offline.template_renderer(templates))
    if not any(each["kind"] == "VolumeSnapshot" for each in found) and described["status"]["volumes"]:
        show_note(f"the description lacks what the driver calls the snapshots, so those of {name} have to be there")
    show_note(f"apply this first; when claims are made and the Job has ended, render {cluster.key} without --backup")
    return found
