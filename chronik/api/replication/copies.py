"""What the probe of a mirror knows of a copy.

The probe says it as JSON at /state; commands read it through the API server. What is not known is None, and is never
taken for good news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CopyState(NamedTuple):
    """How whole a copy is.

    `lag` is how far it is behind its source, in seconds. `gap` is how far it was behind when its source was last seen,
    while none of the source's brokers can be reached. `missing` are partitions of the source that are not here,
    `untranslated` consumer groups of which nothing, or not every partition, has been translated. `trouble` is why the
    last two are not known, or not known any more.
    """

    reachable: bool
    lag: float | None = None
    gap: float | None = None
    missing: tuple[str, ...] | None = None
    untranslated: tuple[str, ...] | None = None
    trouble: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return the state as JSON has it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._asdict().items()}

    @property
    def words(self) -> str:
        """What lacks, in words; empty if nothing is known to."""
        return "; ".join(self.lacks)

    @property
    def lacks(self) -> list[str]:
        """What lacks, in words, thing by thing."""
        found = ((self.missing, "partition", "not here"), (self.untranslated, "consumer group", "not translated"))
        return [
            f"{counted(len(names), what)} {'is' if len(names) == 1 else 'are'} {how}: {listed(names)}"
            for names, what, how in found
            if names
        ]


def copy_state(data: Mapping[str, Any]) -> CopyState | None:
    """Return the state that a probe answered with; None if it is no such answer, as one of an older version."""
    reachable, trouble = data.get("reachable"), data.get("trouble", "")
    numbers = [data.get(name) for name in ("lag", "gap")]
    names = [data.get(name) for name in ("missing", "untranslated")]
    if not isinstance(reachable, bool) or not isinstance(trouble, str):
        return None
    if not all(each is None or isinstance(each, int | float) for each in numbers):
        return None
    if not all(each is None or _is_texts(each) for each in names):
        return None
    missing, untranslated = (None if each is None else tuple(each) for each in names)
    return CopyState(reachable, numbers[0], numbers[1], missing, untranslated, trouble)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def best_state(states: Sequence[CopyState]) -> CopyState | None:
    """Return what is known of a copy by the pods of its mirror: by the one that knows most, and the newest.

    Each pod measures by itself, and one that has just started knows little.
    """

    def knows(state: CopyState) -> tuple[bool, int, float]:
        unknown = [state.lag, state.missing, state.untranslated].count(None) + (
            state.gap is None and not state.reachable
        )
        return not state.reachable, unknown, state.lag or 0.0

    return min(states, key=knows, default=None)
