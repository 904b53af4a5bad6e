"""Keeps the specs that all pods have run, so that `chronik rollout undo` can go back to one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chronik.errors import ChronikError
from chronik.manifest import REVISION, ObjectRef
from chronik.rollout.history import history_labels, kept_spec, newest_first

if TYPE_CHECKING:
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext

_log = logging.getLogger("chronik.operator")


async def keep_spec(document: Manifest, most: int, context: ReconcileContext) -> None:
    """Keep the spec of a ChronikCluster, and let go of the oldest beyond `most`; what cannot be kept is only logged."""
    metadata = document["metadata"]
    selector = ",".join(f"{key}={value}" for key, value in history_labels(metadata["name"]).items())
    try:
        if most:
            await context.kube.apply(kept_spec(document), force=True)
        listing = await context.kube.list(REVISION, metadata["namespace"], label_selector=selector)
        for each in newest_first(listing.items, metadata["uid"])[most:]:
            ref = ObjectRef(REVISION.name, metadata["namespace"], each["metadata"]["name"])
            await context.kube.delete(REVISION, ref, uid=each["metadata"]["uid"])
    except ChronikError as error:
        _log.warning("the spec is not kept for an undo: %s", error.message)
