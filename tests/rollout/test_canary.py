"""The state machine of a canary, against a played controller of StatefulSets: whatever people and machines do."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.rollout_world import BROKEN, RolloutWorld

from chronik.manifest import ObjectRef
from chronik.quantity import seconds_of
from chronik.rollout.analysis import Measured, Value
from chronik.rollout.canary import is_given_up, plan_rollout
from chronik.rollout.facts import PodFacts, SetFacts
from chronik.rollout.steps import EVERY_POD, Command, Staged, pods_of_step
from chronik.rollout.trial import Gates

STEPS = (
    [{"pods": 1, "pause": {"duration": "10m"}}, {"pods": "50%", "pause": {"duration": None}}],
    [{"pods": 1, "pause": None}],
    [{"pods": 1, "pause": {"duration": None}}, {"pods": 1, "pause": {"duration": "1h"}}, {"pods": 3, "pause": None}],
)
CRASHES_ON = "a pod: CrashLoopBackOff: back-off restarting"


def analysis(on_failure="Abort", limit=2, no_data="Wait"):
    """Return what is asked about a candidate."""
    metric = {"name": "errors", "query": "errors", "max": "0.5", "min": None}
    wanted = {"interval": "1m", "failureLimit": limit, "noData": no_data, "onFailure": on_failure}
    return {**wanted, "metrics": [metric]}


ANALYSES = (None, analysis(), analysis("Pause", 1, "Fail"))


class Set:
    """A StatefulSet as Kubernetes 1.36 rolls it. `partition` is None if nothing is held."""

    def __init__(self, component, replicas, *, votes):
        self.component, self.replicas, self.votes = component, replicas, votes
        self.current = self.update = "v0"
        self.partition = None
        self.seen = True
        self.restarts, self.trouble = {}, {}
        self.pods = {number: ["v0", True] for number in range(replicas)}

    def staged(self, pending):
        """Return what the operator sees."""
        pods = (
            PodFacts(
                f"{self.component}-{number}",
                number,
                revision,
                ready,
                False,
                self.trouble.get(number, ""),
                f"{number}",
                "1",
                self.restarts.get(number, 0),
            )
            for number, (revision, ready) in sorted(self.pods.items())
        )
        ref = ObjectRef("StatefulSet", "n", self.component)
        held, partition = self.partition is not None, self.partition or 0
        facts = SetFacts(
            ref, self.replicas, self.seen, self.current, self.update, "RollingUpdate", partition, held, tuple(pods)
        )
        return Staged(self.component, facts, self.votes, pending)

    def control(self):
        """Do what the controller does next."""
        self.seen = True
        for number in [*self.pods]:
            if number >= self.replicas:
                del self.pods[number]
        for number in range(self.replicas):
            if number not in self.pods:
                self.pods[number] = [self.revision_of(number), False]
                return
        for number in sorted(self.pods, reverse=True):
            if number < (self.partition or 0):
                break
            revision, ready = self.pods[number]
            if revision != self.update:
                self.pods[number] = [self.update, False]
            if revision != self.update or not ready:
                return
        if all(pod == [self.update, True] for pod in self.pods.values()):
            self.current = self.update

    def revision_of(self, number):
        """Return the revision that a pod of this number comes up on."""
        return self.current if number < (self.partition or 0) else self.update

    def kubelet(self):
        """Have pods ready whose revision is any good."""
        for number, pod in self.pods.items():
            pod[1] = pod[1] or not pod[0].startswith(BROKEN)
            self.trouble[number] = CRASHES_ON if pod[0] == f"{BROKEN}2" else ""


class World(RolloutWorld):
    """Two StatefulSets with a canary."""

    def __init__(self, steps, on_failure, analysis=None):
        super().__init__()
        self.sets = [Set("controller", 3, votes=True), Set("ingest", 4, votes=False)]
        self.spec = {"steps": steps, "progressDeadlineSeconds": 600, "onFailure": on_failure}
        self.spec["analysis"] = analysis
        self.metric = 0.0
        self.answers = {}

    def once(self):
        """Pass over the cluster once, as the shell does."""
        given_up = is_given_up(self.status, self.wanted)
        stable = {each["name"]: each["stable"] for each in self.status.get("components", ())}
        written, waiting = set(), set()
        for each in self.sets:
            template = stable.get(each.component, each.current) if given_up else self.wanted
            if (
                each.update != template
                and self.closed
                and not given_up
                and any(ready for _, ready in each.pods.values())
            ):
                waiting.add(each.component)
            elif each.update != template:
                if each.partition is None or each.partition < each.replicas:
                    self.write(lambda each=each: self.hold(each, EVERY_POD))
                self.write(lambda each=each, template=template: self.template(each, template))
                written.add(each.component)
        now = self.time
        staged = [each.staged(pending=each.component in {*written, *waiting}) for each in self.sets]
        gates = Gates(self.closed, self.measured)
        decision = plan_rollout(self.spec, staged, self.wanted, self.status, self.command, now, gates)
        for move in decision.moves:
            self.write(lambda move=move: self.move(move, decision.status))
        if decision.status != self.status:
            self.write(lambda: self.tell(decision.status))
        if decision.question:
            self.answer(decision.question, now)
        return decision

    def answer(self, question, now):
        """Answer a question about the metrics, as they are now: None is no answer."""
        assert all(ready for each in self.sets for _, ready in each.pods.values()), "asked before all pods were ready"
        number = self.metric
        value = Value("errors", error="away") if number is None else Value("errors", (number,))
        self.measured = Measured(question.about, now, (value,))
        self.answers[question.about] = number

    def hold(self, each, partition):
        """Set a partition."""
        each.partition, each.seen = partition, False

    def template(self, each, template):
        """Write a template: only into a set of which every pod is held."""
        assert each.partition is not None
        assert each.partition >= each.replicas
        each.update, each.seen = template, False

    def move(self, move, status):
        """Carry a move out, and hold it to what the document promises."""
        each = next(one for one in self.sets if one.component == move.staged.component)
        unready = [number for number, (_, ready) in each.pods.items() if not ready]
        if self.closed and status.get("aborted") != self.wanted and each.current != each.update:
            is_ill = move.what == "delete" and not each.pods[move.pod.number][1]
            is_held_more = move.what == "partition" and move.partition >= (each.partition or 0)
            assert is_ill or is_held_more, "a restart begins outside of a window"
        if move.what == "delete":
            assert each.votes is False or not each.pods[move.pod.number][1] or not unready, "two controllers down"
            each.pods[move.pod.number] = [each.revision_of(move.pod.number), False]
            return
        before = min(each.partition if each.partition is not None else 0, each.replicas)
        after = move.partition if move.what == "partition" else 0
        if after < before and each.current != each.update:
            assert not unready, "a pod is taken while another is down"
            assert not each.votes or before - after == 1, "voters go one by one"
            assert status["step"] == self.status["step"], "what is done is what was written before"
            if 0 < status["step"] <= status["of"]:
                assert each.replicas - after <= max(
                    pods_of_step(step["pods"], each.replicas) for step in self.spec["steps"][: status["step"]]
                )
        each.seen = False
        each.partition = move.partition if move.what == "partition" else None

    def tell(self, status):
        """Write the status, and hold its step to the one before."""
        was = self.status
        same = was.get("candidate") == status["candidate"] and was.get("attempt") == status.get("attempt")
        if same and {"step"} <= was.keys() & status.keys() and status["step"] > was["step"]:
            assert status["step"] == was["step"] + 1 or not was["step"], "no step is skipped"
            self.leaves(was, status)
        if same and was.get("step") == status.get("step"):
            self.counts(was.get("analysis") or (), status.get("analysis") or ())
        self.status = status

    def counts(self, was, now):
        """Check that a breach is counted once: with a newer answer, one at a time."""
        for before, after in zip(was, now, strict=False):
            newer = after["at"] > before["at"]
            assert newer or after == before, "an answer is counted twice, or an older one after a newer one"
            assert after["failures"] <= before["failures"] + newer, "a breach is counted more than once"

    def leaves(self, was, status):
        """Check that a pause is over, by the clock or because of a person who meant this very candidate and step."""
        if not was["step"]:
            return
        step = self.spec["steps"][was["step"] - 1]
        given = Command.of(self.command, status["candidate"])
        promoted = given.verb == "promote" and given.number in {None, was["step"]}
        if self.spec["analysis"] and not promoted:
            about = status["candidate"], status["attempt"], was["step"]
            assert self.answers.get(about) == 0, "the metrics of the step were not good when last asked for"
        if step["pause"] is not None and not promoted:
            assert step["pause"]["duration"], "only a person ends this pause"
            ends = datetime.fromisoformat(was["pausedAt"]) + timedelta(seconds=seconds_of(step["pause"]["duration"]))
            assert self.now >= ends, "the pause is not over"

    def life(self, times=1):
        """Let everybody act in turn."""
        for _ in range(times):
            self.once()
            for each in self.sets:
                each.control()
                each.kubelet()


EVENTS = st.one_of(
    st.tuples(st.just("life"), st.integers(1, 12)),
    st.tuples(st.just("edit"), st.sampled_from(["v0", "v1", "v2", f"{BROKEN}1", f"{BROKEN}2"])),
    st.tuples(st.just("ill"), st.tuples(st.integers(0, 1), st.integers(0, 6))),
    st.tuples(st.just("lost"), st.tuples(st.integers(0, 1), st.integers(0, 6))),
    st.tuples(st.just("crash"), st.tuples(st.integers(0, 1), st.integers(0, 6))),
    st.tuples(st.just("scale"), st.integers(2, 7)),
    st.tuples(st.just("clock"), st.sampled_from([-3600, 1, 60, 599, 601, 4000])),
    st.tuples(
        st.just("command"),
        st.tuples(
            st.sampled_from(["promote", "abort", "retry", "pause", "resume"]),
            st.sampled_from(["this", "v1", "v2"]),
            st.sampled_from([None, 1, 2, 3]),
        ),
    ),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("another leads"), st.none()),
    st.tuples(st.just("metric"), st.sampled_from([0.0, 1.0, None, float("nan")])),
    st.tuples(st.just("window"), st.sampled_from(["", "closed"])),
    st.tuples(st.just("hour between windows"), st.integers(1, 6)),
    st.tuples(st.just("status lost"), st.none()),
)


def happens(world, what, how):  # noqa: C901, PLR0912  # one case for each event
    """Let one thing happen."""
    match what:
        case "life":
            world.life(how)
        case "edit":
            world.wanted = how
        case "ill" | "lost":
            each = world.sets[how[0]]
            if how[1] in each.pods:
                revision = each.pods[how[1]][0] if what == "ill" else each.revision_of(how[1])
                each.pods[how[1]] = [revision, False]
        case "crash":
            each, number = world.sets[how[0]], how[1]
            if number in each.pods:
                each.pods[number][1], each.trouble[number] = False, CRASHES_ON
                each.restarts[number] = each.restarts.get(number, 0) + 1
        case "scale":
            world.sets[1].replicas = how
        case "clock":
            world.now += timedelta(seconds=how)
        case "command":
            verb, whose, number = how
            name = world.wanted if whose == "this" else whose
            world.command = f"{verb}@{name}" + ("" if number is None else f"/{number}")
        case "metric":
            world.metric = how
        case "window":
            world.closed = how
        case "hour between windows":
            world.closed = "closed"
            world.now += timedelta(hours=1)
            world.life(how)
            world.closed = ""
        case "status lost":
            world.status = {}
        case "kill":
            world.killed_after(how)
        case "another leads":
            world.another_leads()


@settings(deadline=None, max_examples=examples(400))
@given(
    st.sampled_from(STEPS),
    st.sampled_from(["Halt", "Rollback"]),
    st.sampled_from(ANALYSES),
    st.lists(EVENTS, max_size=25),
    st.booleans(),
    st.booleans(),
)
def test_whatever_happens(steps, on_failure, analysis, events, begun, gives_up):
    """No step is skipped or repeated, voters go one by one, and in the end all pods run what the document says."""
    world = World(steps, on_failure, analysis)
    if begun:  # so that what follows happens in the middle of a canary, more often than not
        world.life(3)
        world.wanted = "v1"
        world.life(20)
    for what, how in events:
        happens(world, what, how)
    world.metric = 0.0
    phase = world.to_the_end(gives_up=gives_up)

    running = {revision for each in world.sets for revision, _ in each.pods.values()}
    held = [each.component for each in world.sets if each.partition is not None]
    if phase == "Complete":
        assert (running, held) == ({world.wanted}, [])
        assert not world.wanted.startswith(BROKEN)
    elif phase == "Aborted":
        assert held == []
        assert world.status["aborted"] == world.wanted
        assert all(len({revision for revision, _ in each.pods.values()}) == 1 for each in world.sets)
    else:
        assert phase in {"Halted", "Aborting", "Promoting"}, (phase, world.status)
        assert any(revision.startswith(BROKEN) for revision in (*running, *(each.update for each in world.sets)))


def test_a_good_roll():
    """A canary goes up step by step: a pause by the clock, one by a person, then everything."""
    world = World(STEPS[0], "Halt")
    world.life(3)
    world.wanted = "v1"
    world.life(20)
    assert (world.status["phase"], world.status["step"]) == ("Paused", 1)
    assert [sorted(revision for revision, _ in each.pods.values()).count("v1") for each in world.sets] == [1, 1]
    world.now += timedelta(seconds=599)
    world.life(10)
    assert world.status["step"] == 1
    world.now += timedelta(seconds=1)
    world.life(20)
    assert (world.status["phase"], world.status["step"]) == ("Paused", 2)
    assert [sorted(revision for revision, _ in each.pods.values()).count("v1") for each in world.sets] == [2, 2]
    for strange in ("promote@v2", "promote@v1/1", "promote@v1/x", "promote", "proceed@v1"):
        world.command = strange
        world.life(5)
        assert world.status["step"] == 2
    world.command = "promote@v1/2"
    world.life(30)

    assert world.status == {"phase": "Complete", "candidate": "v1", "stable": "v1"}


@pytest.mark.parametrize("on_failure", ["Halt", "Rollback"])
def test_a_bad_image(on_failure):
    """A candidate whose pod never becomes ready takes no second pod: it halts, or goes back to what ran before."""
    world = World(STEPS[0], on_failure)
    world.life(3)
    world.wanted = f"{BROKEN}1"
    world.life(10)
    world.now += timedelta(seconds=601)
    world.life(10)
    running = [revision for revision, _ in world.sets[0].pods.values()]
    if on_failure == "Halt":
        assert world.status["phase"] == "Halted"
        assert running.count(world.wanted) == 1
        world.command = f"abort@{world.wanted}"
        world.life(20)
    assert (world.status["phase"], world.status["aborted"]) == ("Aborted", world.wanted)
    assert {revision for each in world.sets for revision, _ in each.pods.values()} == {"v0"}
    world.wanted = "v1"
    world.command = "promote@v1"
    world.life(60)
    assert world.status["phase"] == "Complete"


def test_a_roll_between_windows():
    """A step whose pods are not taken yet waits for a window, however long, and its deadline begins when that opens."""
    world = World(STEPS[0], "Halt")
    world.life(3)
    world.closed = "Restarts begin in windows"
    world.wanted = "v1"
    world.life(10)
    assert {revision for each in world.sets for revision, _ in each.pods.values()} == {"v0"}
    assert (world.status["phase"], world.status["message"]) == ("Progressing", world.closed)
    world.now += timedelta(hours=20)
    decision = world.once()
    assert decision.outside
    assert (decision.moves, world.status["phase"]) == ((), "Progressing")
    world.closed = ""
    world.life(10)
    assert (world.status["phase"], world.status["step"]) == ("Paused", 1)
    world.closed = "Restarts begin in windows"
    world.now += timedelta(hours=20)
    world.life(10)
    assert (world.status["phase"], world.status["step"]) == ("Progressing", 2)
    assert [sorted(revision for revision, _ in each.pods.values()).count("v1") for each in world.sets] == [1, 1]
    world.command = "abort@v1"
    world.life(20)
    assert world.status["phase"] == "Aborted", "what goes wrong goes back at any time"
    assert {revision for each in world.sets for revision, _ in each.pods.values()} == {"v0"}


def under_way(**how):
    """Return a world with a canary, tried by metrics, whose first step has its pods ready."""
    return paused(analysis(**how))


def paused(asked, on_failure="Halt"):
    """Return a world with a canary whose first step has its pods ready."""
    world = World(STEPS[0], on_failure, asked)
    world.life(3)
    world.wanted = "v1"
    world.life(20)
    assert (world.status["phase"], world.status["step"]) == ("Paused", 1)
    return world


def minutes(world, count):
    """Let so many minutes go by, with looks."""
    for _ in range(count):
        world.now += timedelta(minutes=1)
        world.life(3)


def test_good_metrics_let_a_step_end():
    """With good answers a step ends with its pause; one without a pause after the first good answers."""
    world = under_way()
    assert world.status["analysis"][0] | {"at": ""} == {
        "name": "errors",
        "at": "",
        "state": "Passed",
        "failures": 0,
        "value": "0",
        "message": "errors is 0",
    }
    minutes(world, 9)
    assert world.status["step"] == 1
    minutes(world, 1)
    assert world.status["step"] == 2
    world = World(STEPS[1], "Halt", analysis())
    world.life(3)
    world.wanted = "v1"
    world.metric = None
    world.life(20)
    minutes(world, 30)
    assert (world.status["step"], world.status["message"]) == (1, "until its metrics are good")
    world.metric = 0.0
    minutes(world, 12)
    assert world.status["phase"] == "Complete"


@pytest.mark.parametrize(("on_failure", "phase"), [("Abort", "Aborted"), ("Pause", "Halted")])
def test_breaches_in_a_row_fail(on_failure, phase):
    """So many breaches in a row fail a candidate; a good answer in between begins the count anew."""
    world = under_way(on_failure=on_failure)
    for metric in (1.0, 0.0, 1.0, 0.0, 1.0):
        world.metric = metric
        minutes(world, 1)
        assert (world.status["phase"], world.status["step"]) == ("Paused", 1)
    minutes(world, 1)
    assert world.status["phase"] in {phase, "Aborting"}
    world.life(20)
    assert world.status["phase"] == phase
    assert world.status["message"] == "errors is 1, more than 0.5, 2 times in a row"


@pytest.mark.parametrize("metric", [None, float("nan")])
def test_no_answer_stops_the_clock(metric):
    """Without answers a pause stands still, however long that lasts, and goes on from there with the next one."""
    world = under_way()
    minutes(world, 4)
    world.metric = metric
    minutes(world, 600)
    assert (world.status["phase"], world.status["step"], world.status["analysis"][0]["failures"]) == ("Paused", 1, 0)
    world.metric = 0.0
    minutes(world, 4)
    assert world.status["step"] == 1
    minutes(world, 4)
    assert world.status["step"] == 2


def test_no_data_as_asked_for():
    """An answer without a value is a breach, or as good as any, if the document says so."""
    assert [each["failures"] for each in _after("Fail")] == [1]
    assert [(each["state"], each["failures"]) for each in _after("Ignore")] == [("Ignored", 0)]


def _after(no_data):
    world = under_way(no_data=no_data, limit=5)
    world.metric = float("nan")
    minutes(world, 1)
    return world.status["analysis"]


def test_a_person_promotes_whatever_the_metrics_say():
    """A promotion ends a pause in which metrics are not known."""
    world = under_way()
    world.metric = None
    minutes(world, 2)
    world.command = "promote@v1/1"
    world.life(10)
    assert world.status["step"] == 2


CRASHES = {
    "with metrics": (analysis(), "Halt", "Aborting"),
    "with metrics that have it pause": (analysis("Pause"), "Rollback", "Halted"),
    "without metrics": (None, "Halt", "Halted"),
    "without metrics, and back": (None, "Rollback", "Aborting"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_fails_at_once(name):
    """A pod of the candidate that restarts after all were ready fails it; a crash of another pod does not."""
    asked, on_failure, phase = CRASHES[name]
    world = paused(asked, on_failure)
    world.sets[1].restarts[0] = 1
    minutes(world, 1)
    assert world.status["phase"] == "Paused"
    world.sets[1].restarts[3] = 1
    world.life(1)
    assert world.status["phase"] == phase
    assert world.status["message"] == "a pod of the candidate has crashed, of component ingest"


@pytest.mark.parametrize(("on_failure", "phase"), [("Halt", "Halted"), ("Rollback", "Aborting")])
@pytest.mark.parametrize("when", ["first step", "promotion"])
def test_a_crash_loop_fails_at_once(when, on_failure, phase):
    """A pod of the candidate that crashes again and again fails it long before the deadline, at any step."""
    world = World(STEPS[1], on_failure)
    world.life(3)
    world.wanted = "v1" if when == "promotion" else f"{BROKEN}1"
    while world.status["phase"] != "Promoting" if when == "promotion" else world.sets[0].update == "v0":
        world.life()
    world.life(0 if when == "promotion" else 3)
    each, number = next((each, pod) for each in world.sets for pod in each.pods if each.pods[pod][0] == world.wanted)
    each.pods[number][1] = False
    each.trouble[number] = CRASHES_ON
    world.once()
    assert (world.status["phase"], world.status["message"]) == (
        phase,
        f"pod {each.component}-{number} crashes again and again",
    )


def test_counts_of_a_step():
    """A step asks for at least one pod, and never for all; percentages round up."""
    assert [pods_of_step(pods, 4) for pods in (1, 9, "1%", "26%", "99%")] == [1, 3, 1, 2, 3]
