"""The state machine of a canary: from what is there, what was said last and the time, to what comes next.

A step is written into the status before anything is done for it, and whatever is done brings a partition to a number
that follows from the status: so a kill at any moment repeats nothing, and skips nothing. All but the step, its times
and what was given up is read from the cluster each time; if the status is lost, a pause begins anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.quantity import seconds_of
from chronik.rollout.blue_green import ends_at
from chronik.rollout.moves import back, goes_back, toward
from chronik.rollout.steps import Command, Move, Staged, begins_restart, pods_of_step
from chronik.rollout.trial import OPEN, Trial
from chronik.status.compute import Reason
from chronik.times import later, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chronik.api.spec import Canary
    from chronik.rollout.analysis import Question
    from chronik.rollout.blue_green import Next
    from chronik.rollout.trial import Gates

HALTED, ABORTED = "RolloutHalted", "RolloutAborted"


class Decision(NamedTuple):
    """What comes next. `failure` and `waiting` are what the cluster's status says of it; at most one is given."""

    status: dict[str, Any]
    moves: tuple[Move, ...] = ()
    again_at: str = ""
    failure: Reason | None = None
    waiting: Reason | None = None
    outside: bool = False
    """Whether what comes next waits for a restart window."""
    question: Question | None = None
    """What is to be asked of a Prometheus now."""


def is_given_up(previous: Mapping[str, Any], candidate: str) -> bool:
    """Return whether a candidate was taken back, and is not to be tried again."""
    return bool(candidate) and previous.get("aborted") == candidate


def plan_rollout(  # noqa: PLR0913, PLR0917  # all that a decision rests on
    spec: Canary,
    sets: Sequence[Staged],
    candidate: str,
    previous: Mapping[str, Any],
    command: str,
    now: str,
    gates: Gates = OPEN,
) -> Decision:
    """Return what comes next in a canary.

    `candidate` is a digest of all pod templates as the document wants them. `sets` are as the server has them after
    they were applied: with the candidate's template, or that of the stable revision once a candidate was given up.
    `previous` is `status.rollout`, `now` a time in RFC 3339. What was taken back goes back whatever the `gates` say.
    """
    return _Decider(spec, sets, candidate, previous, Command.of(command, candidate), now, gates).decide()


class _Decider:
    """One decision in the making."""

    def __init__(  # noqa: PLR0913, PLR0917  # as above
        self,
        spec: Canary,
        sets: Sequence[Staged],
        candidate: str,
        previous: Mapping[str, Any],
        command: Command,
        now: str,
        gates: Gates,
    ) -> None:
        self.sets = [each for each in sets if each.has_canary]
        self.rest = [each for each in sets if not each.has_canary]
        self.deadline = spec["progressDeadlineSeconds"]
        self.rolls_back = spec["onFailure"] == "Rollback"
        tried = spec["analysis"]
        self.aborts = self.rolls_back if tried is None else tried["onFailure"] == "Abort"
        self.steps = spec["steps"]
        self.candidate = candidate
        self.same = previous.get("candidate") == candidate
        self.previous = previous if self.same else {}
        self.stable = str(previous.get("stable", ""))
        self.command = command
        self.now = now
        self.closed = gates.closed
        about = candidate, int(self.previous.get("attempt", 1))
        self.trial = Trial(spec["analysis"], self.sets, self.previous, gates.measured, about, now)

    def decide(self) -> Decision:
        changing = [each for each in self.sets if each.changes]
        if is_given_up(self.previous, self.candidate):
            return self._taken_back(changing)
        if not changing and not any(each.changes for each in self.rest):
            done = self._status("Complete", len(self.steps), "")
            return Decision({**done, "stable": self.candidate})
        if not changing:  # what has one pod only rolls as ever, after all others
            return Decision(self._status("Promoting", len(self.steps) + 1, "single pods roll"))
        if all(goes_back(each) for each in changing):
            return self._reverted(changing)
        step = self._step(changing)
        if not self.same:
            phase = "Promoting" if step > len(self.steps) else "Progressing"
            return self._soon({**self._status(phase, step, "a new candidate"), "progressedAt": self.now})
        if self.command.verb == "abort":
            return self._given_up(step, "a person took it back")
        if self.previous.get("phase") == "Halted" and not self._is_retried():
            return self._halted(step, str(self.previous.get("message", "")))
        if self.previous.get("phase") == "Halted":
            status = self._status("Progressing", step, "is tried again", attempt=self._attempt + 1)
            return self._soon({**status, "progressedAt": self.now})
        return self._forward(step, changing)

    # --- forward -----------------------------------------------------------------------------------------------------

    def _step(self, changing: Sequence[Staged]) -> int:
        """Return which step is under way, from 1: one after the last is promotion.

        As long as a template is not written everything begins anew. If the status does not tell, the partitions do:
        it is the first step that asks for as many pods as may be new by now.
        """
        if any(each.pending or each.returns for each in changing):
            return 1
        if self.previous.get("step"):
            return int(self.previous["step"])
        held = [each for each in changing if each.facts.held]
        numbers = range(1, len(self.steps) + 1) if held else ()
        fits = (number for number in numbers if all(each.allowed <= self._target(each, number) for each in held))
        return next(fits, len(self.steps) + 1)

    def _target(self, staged: Staged, step: int) -> int:
        """Return how many pods a step asks for; no step asks for fewer than one before it."""
        if step > len(self.steps):
            return staged.facts.replicas
        return max(pods_of_step(each["pods"], staged.facts.replicas) for each in self.steps[:step])

    def _forward(self, step: int, changing: Sequence[Staged]) -> Decision:
        promotes = step > len(self.steps)
        phase = "Promoting" if promotes else "Progressing"
        crashed = self.trial.crashed()
        if crashed:
            return self._bad(step, crashed)
        if self.command.verb == "pause":
            return self._waits("Paused", step, "paused by a person", self._upkeep(changing, step))
        for each in changing:
            moves, message = self._toward(each, step)
            if self.closed and (each.pending or begins_restart(moves)):
                return self._outside(phase, step, changing)
            stays_until = ends_at(each, self._switched_at()) if promotes else ""
            if not moves and stays_until and moment(self.now) < moment(stays_until):
                return self._drains(each, step, stays_until)
            if moves or message:
                return self._on_its_way(phase, step, moves, f"{each.component}: {message}")
        if promotes:
            return self._on_its_way(phase, step, (), "the last pods become ready")
        return self._reached(step)

    def _toward(self, staged: Staged, step: int) -> Next:
        promotes = step > len(self.steps)
        return toward(staged, self._target(staged, step), promotes=promotes, drained=self._is_drained(staged))

    def _reached(self, step: int) -> Decision:
        pause = self.steps[step - 1]["pause"]
        began = str(self.previous.get("pausedAt") or self.now)
        began = min(began, self.now, key=moment)  # a clock that was set back makes a pause longer, never shorter
        promoted = self.command.verb == "promote" and self.command.number in {step, None}
        judged = self.trial.judged(step, began)
        if judged and judged.failed:
            return self._bad(step, judged.failed, judged.metrics)
        began = judged.began if judged else began
        duration = pause["duration"] if pause else None
        ends = later(began, seconds_of(duration)) if duration else ""
        over = pause is None or (ends and moment(self.now) >= moment(ends))
        if promoted or (over and (judged is None or judged.passed)):
            following = step + 1
            phase = "Promoting" if following > len(self.steps) else "Progressing"
            return self._soon(
                {**self._status(phase, following, "the step before is through"), "progressedAt": self.now}
            )
        until = "until its metrics are good" if over else f"until {ends}" if ends else "until it is promoted"
        waits = self._waits("Paused", step, until, (), began=began, again_at="" if over else ends)
        if judged is None:
            return waits
        status = {**waits.status, **({"analysis": [*judged.metrics]} if judged.metrics else {})}
        question = self.trial.question(step, judged)
        again_at = min(filter(None, (waits.again_at, judged.following if question else judged.due)), key=moment)
        return waits._replace(status=status, question=question, again_at=again_at)

    def _bad(self, step: int, message: str, metrics: Sequence[Mapping[str, Any]] = ()) -> Decision:
        """Return what becomes of a candidate that is not good enough, as the document says."""
        found = self._given_up(step, message) if self.aborts else self._halted(step, message)
        kept = metrics or self.previous.get("analysis") or ()
        return found._replace(status={**found.status, **({"analysis": [*kept]} if kept else {})})

    def _outside(self, phase: str, step: int, changing: Sequence[Staged]) -> Decision:
        """Return that the next pods wait for a window; until then no deadline runs."""
        return self._waits(phase, step, self.closed, self._upkeep(changing, step))._replace(outside=True)

    def _on_its_way(self, phase: str, step: int, moves: tuple[Move, ...], message: str) -> Decision:
        since = str(self.previous.get("progressedAt") or self.now)
        stood = self.previous.get("phase") in {"Paused", None} or self.previous.get("step") != step
        since = min(since, self.now, key=moment)
        if stood or moves or _done(self.trial.components()) > _done(self.previous.get("components") or ()):
            since = self.now  # what is only now written, since no operator ran before, gets its time
        ends = later(since, self.deadline)
        if moment(self.now) >= moment(ends):
            return self._failed(step, f"{message}; no pod has come further for {self.deadline} s")
        status = {**self._status(phase, step, message), "progressedAt": since}
        if self.previous.get("step") == step:
            status |= {each: self.previous[each] for each in ("pausedAt", "analysis") if self.previous.get(each)}
        return Decision(status, moves, again_at=ends, waiting=self._why(status))

    def _is_drained(self, staged: Staged) -> bool:
        """Return whether old pods have stayed long enough after the switch, which was told before."""
        ends = ends_at(staged, self._switched_at()) if self.previous.get("switchedAt") else ""
        return bool(ends) and moment(self.now) >= moment(ends)

    def _switched_at(self) -> str:
        """Return when clients were switched to new pods: a clock that was set back makes the wait longer."""
        return min(str(self.previous.get("switchedAt") or self.now), self.now, key=moment)

    def _drains(self, staged: Staged, step: int, until: str) -> Decision:
        decision = self._waits(
            "Promoting", step, f"{staged.component}: clients are switched; old pods stay until {until}", ()
        )
        decision.status.update(progressedAt=self.now, switchedAt=self._switched_at())
        return decision._replace(again_at=until)

    def _upkeep(self, changing: Sequence[Staged], step: int) -> tuple[Move, ...]:
        """Return what keeps a count that was scaled meanwhile from running more of the candidate than it should."""
        moves = [move for each in changing for move in self._toward(each, step)[0]]
        return tuple(
            move for move in moves if move.what == "partition" and move.partition > move.staged.facts.partition
        )

    # --- failure, and back -------------------------------------------------------------------------------------------

    def _failed(self, step: int, message: str) -> Decision:
        return self._given_up(step, message) if self.rolls_back else self._halted(step, message)

    def _halted(self, step: int, message: str) -> Decision:
        status = self._status("Halted", step, message)
        return Decision(
            status, self._upkeep([each for each in self.sets if each.changes], step), failure=self._why(status)
        )

    def _given_up(self, step: int, message: str) -> Decision:
        status = {**self._status("Aborting", step, message), "aborted": self.candidate}
        return Decision(status, again_at=self.now, failure=self._why(status))

    def _taken_back(self, changing: Sequence[Staged]) -> Decision:
        if self._is_retried():
            status = self._status("Progressing", 1, "is tried again", attempt=self._attempt + 1)
            return self._soon({**status, "progressedAt": self.now})
        message = str(self.previous.get("message", ""))
        kept = {"aborted": self.candidate}
        if not changing:
            status = {**self._status("Aborted", 0, message), **kept}
            return Decision(status, failure=self._why(status))
        status = {**self._status("Aborting", 0, message), **kept}
        return Decision(status, self._back(changing), failure=self._why(status))

    def _reverted(self, changing: Sequence[Staged]) -> Decision:
        status = self._status("Progressing", 0, "pods go back to the revision that the others run")
        return Decision(status, self._back(changing), waiting=self._why(status))

    def _back(self, changing: Sequence[Staged]) -> tuple[Move, ...]:
        """Return the next move of the first set that is not back yet: pods go one by one, those that are ill first."""
        first = changing[0]
        if first.pending or not first.facts.seen:
            return ()
        return back(first) if goes_back(first) else self._toward(first, len(self.steps) + 1)[0]

    # --- status ------------------------------------------------------------------------------------------------------

    @property
    def _attempt(self) -> int:
        return int(self.previous.get("attempt", 1))

    def _is_retried(self) -> bool:
        number = self.command.number
        return self.command.verb == "retry" and (number or 1) == self._attempt and number != 0

    def _waits(
        self, phase: str, step: int, message: str, moves: tuple[Move, ...], *, began: str = "", again_at: str = ""
    ) -> Decision:
        status = self._status(phase, step, message)
        kept = began or self.previous.get("pausedAt")
        if kept:
            status["pausedAt"] = kept
        if self.previous.get("analysis") and self.previous.get("step") == step:
            status["analysis"] = self.previous["analysis"]
        return Decision(status, moves, again_at=again_at, waiting=self._why(status))

    def _soon(self, status: dict[str, Any]) -> Decision:
        """Return that nothing is done before the status is written."""
        return Decision(status, again_at=self.now, waiting=self._why(status))

    def _status(self, phase: str, step: int, message: str, attempt: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = {"phase": phase, "candidate": self.candidate}
        if self.stable:
            found["stable"] = self.stable
        if phase != "Complete":
            found |= {"step": min(step, len(self.steps) + 1), "of": len(self.steps)}
            found["attempt"] = attempt or self._attempt
            found["components"] = self.trial.components()
        return found | ({"message": message} if message else {})

    def _why(self, status: Mapping[str, Any]) -> Reason:
        words = {"Halted": HALTED, "Aborting": ABORTED, "Aborted": ABORTED, "Paused": "RolloutPaused"}
        where = (
            f"step {status['step']} of {status['of']}"
            if 0 < status["step"] <= status["of"]
            else status["phase"].lower()
        )
        return Reason(
            words.get(status["phase"], "RolloutInProgress"),
            f"Candidate {self.candidate}, {where}: {status.get('message', '')}"[:1024],
        )


def _done(components: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(each.get("ready", 0)) + int(each.get("updated", 0)) for each in components)
