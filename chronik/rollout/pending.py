"""What is told of restarts that wait for a window: a condition, a part of the status, what the cluster waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.plan.actions import Deferred
from chronik.status.compute import RESTART_PENDING, Reason, condition
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from chronik.manifest import ObjectRef
    from chronik.plan.results import Report
    from chronik.rollout.windows import Standing
    from chronik.status.compute import Condition

_MOST = 32
"""Workloads that the status names, as the schema has it."""


class Pending(NamedTuple):
    """What waits for a window. `waiting` is what the spec waits for: changed Secrets are no part of it."""

    conditions: tuple[Condition, ...] = ()
    status: dict[str, Any] = {}  # noqa: RUF012  # never changed
    waiting: Reason | None = None
    again_at: str = ""


NOTHING_PENDING = Pending()


def deferred(report: Report) -> list[ObjectRef]:
    """Return the workloads whose pods a plan would have restarted, or that it would have created anew."""
    return [each.ref for each in report.results if _waits(each.action)]


def _waits(action: object) -> bool:
    return isinstance(action, Deferred) and action.code == "RestartPending"


def pending(by_spec: Iterable[ObjectRef], by_secret: Collection[ObjectRef], windows: Standing) -> Pending:
    """Return what is to be told. `by_spec` waits since templates have changed, `by_secret` since Secrets have."""
    broken = [_unusable(windows)] if windows.troubles else []
    spec = [*dict.fromkeys(by_spec)]
    refs = [*dict.fromkeys((*spec, *by_secret))]
    if not refs or windows.is_open:
        return Pending(tuple(broken))
    message = f"{listed([str(ref) for ref in refs], 5)} {'waits' if len(refs) == 1 else 'wait'}. {windows.closed}"
    told = condition("RestartPending", met=True, reason="OutsideWindow", message=message)
    status: dict[str, Any] = {"opensAt": windows.opens} if windows.opens else {}
    status["workloads"] = [ref.name for ref in refs][:_MOST]
    return Pending((*broken, told), status, Reason(RESTART_PENDING, message) if spec else None, windows.opens)


def _unusable(windows: Standing) -> Condition:
    return condition("WindowsUsable", met=False, reason="InvalidWindow", message="; ".join(windows.troubles))
