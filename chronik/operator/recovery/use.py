"""Which clusters are being made from a backup: a schedule lets go of none of those."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.backups.recovery.plan import is_over
from chronik.manifest import ObjectRef
from chronik.operator.context import status_of

if TYPE_CHECKING:
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext


def made_from(backup: Manifest, context: ReconcileContext) -> list[ObjectRef]:
    """Return the clusters that are being recovered from a backup, and have not all of it yet."""
    metadata = backup["metadata"]
    keys = [key for key in context.cache.clusters() if key.namespace == metadata["namespace"]]
    found = [document for key in keys if (document := context.cache.cluster(key)) is not None]
    recoveries = ((document, status_of(document).get("recovery") or {}) for document in found)
    return [
        ObjectRef.of(document)
        for document, known in recoveries
        if known.get("backupUID") == metadata["uid"] and not is_over(known)
    ]
