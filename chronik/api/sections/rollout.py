"""The shape of what `spec.rollout` has beside the steps of a canary, with all defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict


class RestartWindow(TypedDict):
    """An item of `spec.rollout.windows`."""

    schedule: str
    duration: str
    timeZone: str


class AnalysisMetric(TypedDict):
    """An item of `spec.rollout.canary.analysis.metrics`."""

    name: str
    query: str
    max: str | None
    min: str | None


class Analysis(TypedDict):
    """`spec.rollout.canary.analysis`."""

    interval: str
    failureLimit: int
    noData: Literal["Wait", "Fail", "Ignore"]
    onFailure: Literal["Abort", "Pause"]
    metrics: list[AnalysisMetric]
