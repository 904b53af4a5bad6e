"""Passes over ChronikBackups: when to come back, and what a failure costs. They share the queue with the clusters."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chronik.errors import ChronikError
from chronik.operator.backups.reconcile import reconcile_backup
from chronik.operator.fence import NotLeading
from chronik.operator.telemetry.logs import correlated
from chronik.operator.telemetry.tracing import span
from chronik.status.assess import describe_error

if TYPE_CHECKING:
    from chronik.manifest import WorkKey
    from chronik.operator.context import ReconcileContext
    from chronik.operator.queue import WorkQueue
    from chronik.operator.telemetry.metrics import Metrics
    from chronik.status.compute import Reason

_log = logging.getLogger("chronik.operator.backups")


@dataclass(slots=True, kw_only=True)
class BackupWorker:
    """The passes over backups of one operator."""

    context: ReconcileContext
    queue: WorkQueue
    metrics: Metrics
    logged: dict[WorkKey, Reason] = field(default_factory=dict)

    async def take(self, key: WorkKey) -> None:
        """Pass over one backup, and requeue it for the next look, if it is on its way."""
        with correlated(str(key)), span("backup", backup=str(key)):
            try:
                result = await reconcile_backup(key, self.context)
            except NotLeading as error:
                _log.info("not the leader any more: %s", error.message)
                return
            except ChronikError as error:
                self._failed(key, error)
                return
        self.queue.forget(key)
        self.logged.pop(key, None)
        self.metrics.backup(key, result.phase)
        if result.ended:
            self.metrics.backup_ended(result.phase)
        if result.again is not None:
            self.queue.add_after(key, result.again)

    def _failed(self, key: WorkKey, error: ChronikError) -> None:
        """Requeue a backup whose pass failed; the same trouble is logged once."""
        self.metrics.failed(error)
        reason = describe_error(error)
        level = logging.DEBUG if self.logged.get(key) == reason else logging.WARNING
        self.logged[key] = reason
        seconds = self.queue.retry(key, error.retry_class)
        _log.log(level, "%s: %s; tries again in %.0f s", *reason, seconds)
