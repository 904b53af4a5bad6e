"""What a canary's step is tried by, besides that its pods are ready: metrics, and that none of them crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.rollout.analysis import Question, judge
from chronik.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chronik.api.sections.rollout import Analysis
    from chronik.rollout.analysis import Judged, Measured
    from chronik.rollout.facts import PodFacts
    from chronik.rollout.steps import Staged


class Gates(NamedTuple):
    """What holds a canary up besides its pods.

    `closed` says why no restart may begin, empty if any may. `measured` is what was last answered about its metrics.
    """

    closed: str = ""
    measured: Measured | None = None


OPEN = Gates()


class Trial(NamedTuple):
    """How the candidate does; `spec` is None if nobody looks. `previous` is `status.rollout`, if it is about this one.

    `about` is the candidate and its attempt, `measured` what was last answered.
    """

    spec: Analysis | None
    sets: Sequence[Staged]
    previous: Mapping[str, Any]
    measured: Measured | None
    about: tuple[str, int]
    now: str

    def judged(self, step: int, began: str) -> Judged | None:
        """Return how the metrics of a step are whose pause began then; None if the document has none."""
        if self.spec is None:
            return None
        measured = self.measured if self.measured and self.measured.about == (*self.about, step) else None
        known = self.previous.get("analysis") or () if self.previous.get("step") == step else ()
        return judge(self.spec, known, measured, began, self.now)

    def question(self, step: int, judged: Judged) -> Question | None:
        """Return what is to be asked now, if it is due."""
        if moment(self.now) < moment(judged.due):
            return None
        pods = [*self._pods()]
        canary = tuple(pod.name for pod, _, is_new in pods if is_new)
        return Question((*self.about, step), canary, tuple(pod.name for pod, _, is_new in pods if not is_new))

    def crashed(self) -> str:
        """Return which pod has crashed after all were ready, or does so again and again; empty if none has."""
        new = [(pod, component) for pod, component, is_new in self._pods() if is_new]
        crashing = next((pod.name for pod, _ in new if "CrashLoopBackOff" in pod.trouble), "")
        if crashing:
            return f"pod {crashing} crashes again and again"
        was = {each["name"]: each.get("restarts") for each in self.previous.get("components") or ()}
        for component, before in was.items() if self.previous.get("phase") == "Paused" else ():
            restarts = sum(pod.restarts for pod, name in new if name == component)
            if before is not None and restarts > before:
                return f"a pod of the candidate has crashed, of component {component}"
        return ""

    def components(self) -> list[dict[str, Any]]:
        """Return how far each component is, as the status says it; those that never changed are left out."""
        known = {each["name"] for each in self.previous.get("components") or ()}
        found = []
        for each in self.sets:
            if each.component not in known and not each.changes:
                continue
            stable = self._stable_of(each)
            off = [pod for pod in each.facts.pods if pod.revision != stable]
            said = {"name": each.component, "stable": stable, "updated": len(off)}
            said |= {"ready": sum(pod.ready for pod in off), "of": each.facts.replicas}
            found.append({**said, "restarts": sum(pod.restarts for pod in off)})
        return found

    def _stable_of(self, staged: Staged) -> str:
        """Return the revision that a component goes back to: what ran when the candidate came."""
        known = {each["name"]: each.get("stable") for each in self.previous.get("components") or ()}
        return str(known.get(staged.component) or staged.facts.current)

    def _pods(self) -> Iterator[tuple[PodFacts, str, bool]]:
        """Yield the pods of what changes, with their component, and whether they run the candidate."""
        for each in self.sets:
            stable = self._stable_of(each)
            for pod in each.facts.pods if each.changes else ():
                yield pod, each.component, pod.revision != stable
