"""Whether a canary's metrics are good: what a Prometheus answered, held to the bounds of the spec.

A breach counts, and so many in a row fail a step. No answer, or an answer without a value, says nothing: the pause of
the step then stands still, so that nothing is promoted, or taken back, because a Prometheus is ill.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.quantity import seconds_of
from chronik.status.compute import condition
from chronik.times import elapsed, later, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.sections.rollout import Analysis, AnalysisMetric
    from chronik.status.compute import Condition

_LONGEST = 256
"""Characters of a message in the status, as the schema has it."""


class Question(NamedTuple):
    """What is to be asked, for which candidate, attempt and step; `canary` and `stable` are names of pods."""

    about: tuple[str, int, int]
    canary: tuple[str, ...]
    stable: tuple[str, ...]


class Value(NamedTuple):
    """What was answered to one query: a number for each series, or why there is no answer."""

    name: str
    numbers: tuple[float, ...] = ()
    error: str = ""


class Measured(NamedTuple):
    """What was answered to a question, and when, in RFC 3339."""

    about: tuple[str, int, int]
    at: str
    values: tuple[Value, ...]


class Judged(NamedTuple):
    """How a step's metrics are by now.

    `failed` says what failed the step. `passed` tells whether the last answers were all good. `began` is when the pause
    of the step began, moved on by what was not known; `due` is when to ask, and `following` when to look again if that
    is now.
    """

    metrics: tuple[dict[str, Any], ...]
    failed: str
    passed: bool
    began: str
    due: str
    following: str


def judge(
    spec: Analysis, known: Sequence[Mapping[str, Any]], measured: Measured | None, began: str, now: str
) -> Judged:
    """Return how a step's metrics are. `known` is what the status says of this very step, `measured` what is new."""
    before = {each["name"]: each for each in known}
    last = max((each["at"] for each in known), default="")
    if measured is None or measured.at <= last:
        metrics = tuple(dict(each) for each in known)
    else:
        answers = {each.name: each for each in measured.values}
        metrics = tuple(
            _held_to(each, answers.get(each["name"]), before.get(each["name"], {}), spec["noData"], measured.at)
            for each in spec["metrics"]
        )
        if any(each["state"] in {"Error", "NoData"} for each in metrics):
            began = min(later(began, elapsed(max(last, began), measured.at)), now, key=moment)
        last = measured.at
    failed = [each for each in metrics if each["failures"] >= spec["failureLimit"]]
    following = later(now, seconds_of(spec["interval"]))
    due = later(last, seconds_of(spec["interval"])) if last else now
    return Judged(
        metrics,
        "; ".join(f"{each['message']}, {_times(each['failures'])}" for each in failed),
        bool(metrics) and all(each["state"] in {"Passed", "Ignored"} for each in metrics),
        began,
        min(due, following, key=moment),  # a clock that was set back stops nothing
        following,
    )


def _held_to(
    metric: AnalysisMetric, answer: Value | None, before: Mapping[str, Any], no_data: str, at: str
) -> dict[str, Any]:
    """Return how one metric is, by its newest answer."""
    failures, name = int(before.get("failures", 0)), metric["name"]
    error = answer.error if answer else "was not asked for"
    numbers = [each for each in answer.numbers if not math.isnan(each)] if answer else []
    found: dict[str, Any] = {"name": name, "at": at}
    if error:
        return {**found, "state": "Error", "failures": failures, "message": f"{name}: {error}"[:_LONGEST]}
    if not numbers:
        state, failures = {"Wait": ("NoData", failures), "Fail": ("Breached", failures + 1)}.get(
            no_data, ("Ignored", 0)
        )
        return {**found, "state": state, "failures": failures, "message": f"{name} has no data"}
    number, said = _worst(metric, numbers)
    found["value"] = _text(number)
    if said:
        return {**found, "state": "Breached", "failures": failures + 1, "message": f"{name} is {_text(number)}, {said}"}
    return {**found, "state": "Passed", "failures": 0, "message": f"{name} is {_text(number)}"}


def _worst(metric: AnalysisMetric, numbers: Iterable[float]) -> tuple[float, str]:
    """Return the number that is furthest out of bounds, and which bound that is; any number if none is."""
    low, high = min(numbers), max(numbers)
    if metric["max"] is not None and high > float(metric["max"]):
        return high, f"more than {metric['max']}"
    if metric["min"] is not None and low < float(metric["min"]):
        return low, f"less than {metric['min']}"
    return (high, "") if metric["max"] is not None else (low, "")


def _text(number: float) -> str:
    """Return a number as Prometheus writes it, in few digits."""
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return f"{number:.6g}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times in a row"


def query(text: str, question: Question, cluster: str, namespace: str) -> str:
    """Return a query with what its variables stand for; pods as a regular expression of their names."""
    values = {
        "canary": f"^({'|'.join(question.canary)})$",
        "stable": f"^({'|'.join(question.stable)})$",
        "cluster": cluster,
        "namespace": namespace,
    }
    return re.sub(r"\$(canary|stable|cluster|namespace)\b", lambda found: values[found[1]], text)


def analysis_conditions(rollout: Mapping[str, Any]) -> list[Condition]:
    """Return the condition that says that a canary waits for a Prometheus, if it does."""
    if rollout.get("phase") != "Paused":
        return []
    silent = [each for each in rollout.get("analysis") or () if each["state"] in {"Error", "NoData"}]
    if not silent:
        return []
    reason = "NoAnswer" if any(each["state"] == "Error" for each in silent) else "NoData"
    message = "; ".join(each["message"] for each in silent)
    return [condition("AnalysisConclusive", met=False, reason=reason, message=message)]
