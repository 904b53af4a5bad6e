"""Asks about the metrics of canaries beside passes: a pass leaves a question here, and is called again for the answer.

So a Prometheus that is slow or away costs no pass more than a look, and its own cluster only. Nothing is remembered
that matters: after a restart, or with another leader, it is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple, Self

from chronik.rollout.analysis import Measured, Value, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chronik.api.sections.rollout import AnalysisMetric
    from chronik.manifest import ClusterKey
    from chronik.operator.analysis.prometheus import Prometheus
    from chronik.rollout.analysis import Question

_log = logging.getLogger("chronik.operator")

_AT_ONCE = 32
"""Clusters that are asked about at a time, at most."""
_NOT_GIVEN = "this operator was started without --analysis-url"


class _Asked(NamedTuple):
    question: Question
    task: asyncio.Task[None]


class Analyst:
    """What is asked of one Prometheus, None if the operator has none. `wake` is told of each answer.

    `count` is told how each query ended: answered, empty or failed. Leaving the context ends what is under way.
    """

    def __init__(
        self,
        prometheus: Prometheus | None,
        *,
        wake: Callable[[ClusterKey], None],
        now: Callable[[], str],
        count: Callable[[str], None] = lambda _result: None,
    ) -> None:
        self._prometheus = prometheus
        self._wake = wake
        self._now = now
        self._count = count
        self._asked: dict[ClusterKey, _Asked] = {}
        self._answers: dict[ClusterKey, Measured] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        tasks = [each.task for each in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def answer(self, key: ClusterKey) -> Measured | None:
        """Return what was last answered about a cluster."""
        return self._answers.get(key)

    def forget(self, key: ClusterKey) -> None:
        """Forget a cluster that is gone, or asks no more."""
        self._answers.pop(key, None)
        asked = self._asked.pop(key, None)
        if asked is not None:
            asked.task.cancel()

    def ask(self, key: ClusterKey, question: Question, metrics: Sequence[AnalysisMetric]) -> None:
        """Have a question asked, unless that is under way already; an older one of the cluster is given up."""
        under_way = self._asked.get(key)
        if under_way is not None and not under_way.task.done():
            if under_way.question == question:
                return
            under_way.task.cancel()
        task = asyncio.create_task(self._find_out(key, question, metrics), name=f"analysis of {key}")
        self._asked[key] = _Asked(question, task)

    async def _find_out(self, key: ClusterKey, question: Question, metrics: Sequence[AnalysisMetric]) -> None:
        async with self._turns:
            at = self._now()
            try:
                values = await self._values(key, question, metrics)
            except Exception:  # noqa: BLE001  # a bug here must look like no answer, which promotes nothing
                _log.exception("a bug in chronik stopped an analysis; please report it")
                values = tuple(Value(each["name"], error="see the operator's log") for each in metrics)
        for each in values:
            self._count("failed" if each.error else "answered" if each.numbers else "empty")
            _log.debug("%s: metric %s: %s", key, each.name, each.error or each.numbers)
        self._answers[key] = Measured(question.about, at, values)
        self._wake(key)

    async def _values(
        self, key: ClusterKey, question: Question, metrics: Sequence[AnalysisMetric]
    ) -> tuple[Value, ...]:
        if self._prometheus is None:
            return tuple(Value(each["name"], error=_NOT_GIVEN) for each in metrics)
        queries = [query(each["query"], question, key.name, key.namespace) for each in metrics]
        found = await self._prometheus.numbers(queries)
        return tuple(
            Value(each["name"], error=str(numbers)) if isinstance(numbers, Exception) else Value(each["name"], numbers)
            for each, numbers in zip(metrics, found, strict=True)
        )
