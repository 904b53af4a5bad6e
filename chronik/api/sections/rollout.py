"""The shape of what `spec.rollout` has beside the steps of a canary, with all defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict


class RestartWindow(TypedDict):
    """An item of `spec.rollout.windows`."""

    schedule: str
    duration: str
    timeZone: str
