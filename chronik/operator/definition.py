"""Say in the log if the CustomResourceDefinition in the cluster is older than the operator.

The operator's image and the definition are updated by two commands, so one is easily forgotten: then spec fields of the
new version never arrive, and status fields are not kept, without a word from the API server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chronik.api.skew import outdated, unknown_fields
from chronik.errors import ChronikError, Forbidden
from chronik.manifest import API_VERSION
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from chronik.clock import Clock
    from chronik.kube import Kube

_log = logging.getLogger("chronik.operator")

EVERY = 60.0
"""Seconds between two looks at a definition that is too old, or cannot be read."""


async def watch_definition(kube: Kube, clock: Clock) -> None:
    """Log what the definition in the cluster does not know; return once it knows all, or may not be read at all."""
    logged: list[str] | None = None
    while True:
        fields = await check_definition(kube, logged)
        if fields == []:
            return
        logged = fields if fields is not None else logged
        await clock.sleep(EVERY)


async def check_definition(kube: Kube, logged: list[str] | None = None) -> list[str] | None:
    """Return what the definition in the cluster does not know, and log it unless `logged` says the same.

    Nothing is returned if it may not be read, which asking again does not change, and None if it cannot be read now.
    """
    try:
        published = await kube.openapi(API_VERSION)
    except Forbidden:
        return []
    except ChronikError as error:
        _log.debug("what the CRD in the cluster knows cannot be read: %s", error.message)
        return None
    fields = unknown_fields(offline.definitions()[0], published)
    if fields and fields != logged:
        _log.warning("%s", outdated(fields))
    if not fields and logged:
        _log.info("the CRD in the cluster knows all fields of this version now")
    return fields
