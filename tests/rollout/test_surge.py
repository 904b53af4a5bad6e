"""Canaries and blue-green of search nodes against a played controller of Deployments, whatever happens."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.rollout_world import BROKEN, RolloutWorld

from chronik.plan.actions import ROLLOUT_MANAGER
from chronik.rollout.canary import is_given_up, plan_rollout
from chronik.rollout.steps import Pins, Staged
from chronik.rollout.surge import HASH_LABEL, deployment_facts, is_settled, may_hold, surge_of, without_surge
from chronik.rollout.trial import Gates

STEPS = [{"pods": 1, "pause": {"duration": "10m"}}, {"pods": "50%", "pause": {"duration": None}}]
GREEN = [{"pods": 1, "pause": {"duration": None}}]


class Deployment:
    """A Deployment as Kubernetes 1.36 rolls it, and the Service before it; `surge` is None if nothing is held."""

    def __init__(self, replicas):
        self.replicas, self.template, self.surge = replicas, "v0", None
        self.paused, self.generation, self.seen = 0, 1, 1
        self.sets = ["v0"]
        self.numbers = iter(range(10_000))
        self.pods = [self.pod("v0", ready=True) for _ in range(replicas)]
        self.service = self.preview = ""

    def pod(self, revision, *, ready=False):
        """Return a new pod: its revision, whether it is ready, and its number."""
        return [revision, ready, next(self.numbers)]

    @property
    def live(self):
        """The object, as the API server has it."""
        held = [{"manager": ROLLOUT_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}]
        count, new = len(self.pods), sum(pod[0] == self.template for pod in self.pods)
        return {
            "kind": "Deployment",
            "metadata": {
                "name": "search",
                "namespace": "n",
                "uid": "1",
                "generation": self.generation,
                "managedFields": held if self.surge is not None else [],
            },
            "spec": {
                "replicas": self.replicas,
                "paused": bool(self.paused),
                "template": {"v": self.template},
                "strategy": {"rollingUpdate": {"maxSurge": self.surge or 1}},
            },
            "status": {"observedGeneration": self.seen, "replicas": count, "updatedReplicas": new},
        }

    @property
    def live_pods(self):
        """Its pods, as the API server has them."""
        return [
            {
                "metadata": {
                    "name": f"search-{number:05}",
                    "uid": f"{number}",
                    "resourceVersion": "1",
                    "labels": {HASH_LABEL: revision},
                    "ownerReferences": [{"kind": "ReplicaSet", "name": f"search-{revision}"}],
                },
                "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
            }
            for revision, ready, number in self.pods
        ]

    @property
    def replica_sets(self):
        """Its ReplicaSets, as the API server has them."""
        return [
            {
                "metadata": {"name": f"search-{revision}"},
                "spec": {"template": {"metadata": {"labels": {HASH_LABEL: revision}}, "v": revision}},
            }
            for revision in self.sets
        ]

    def staged(self, stable, *, blue_green, pending, returns):
        """Return what the operator sees."""
        sets = () if is_settled(self.live, self.live_pods) else self.replica_sets
        pins = Pins(self.service, self.preview, 30) if blue_green else None
        facts = deployment_facts(self.live, self.live_pods, sets, stable, pins)
        return Staged("search", facts, False, pending, returns, pins)

    def write(self, **fields):
        """Take a write."""
        vars(self).update(fields)
        self.generation += 1

    def control(self):
        """Do what the controller does next."""
        self.seen = self.generation
        most = self.replicas + (self.surge or 1)
        if self.paused:
            if self.surge is not None and len(self.pods) > most:  # in proportion, so some of each
                raise AssertionError("what is paused has more pods than it may have, and loses old ones")
            return
        if self.template not in self.sets:
            self.sets.append(self.template)
        new = [pod for pod in self.pods if pod[0] == self.template]
        wanted = min(most - len(self.pods), self.replicas - len(new))
        self.pods += [self.pod(self.template) for _ in range(wanted)]
        available = [pod for pod in self.pods if pod[1] and self.surge is None]
        for pod in sorted((pod for pod in self.pods if pod[0] != self.template), key=lambda pod: pod[1]):
            spare = len(available) - self.replicas - (0 if pod[1] else -1)
            if self.surge is None and spare > 0:
                self.pods.remove(pod)
                available = [each for each in available if each is not pod]

    def kubelet(self):
        """Have pods ready whose revision is any good."""
        for pod in self.pods:
            pod[1] = pod[1] or not pod[0].startswith(BROKEN)

    def behind(self):
        """Return the ready pods behind the Service."""
        return [pod for pod in self.pods if pod[1] and f"search-{pod[0]}" == (self.service or f"search-{pod[0]}")]


class World(RolloutWorld):
    """One Deployment with a canary, or blue-green."""

    def __init__(self, *, blue_green=False):
        super().__init__()
        self.it = Deployment(4)
        self.blue_green = blue_green
        self.spec = {"steps": GREEN if blue_green else STEPS, "progressDeadlineSeconds": 600, "onFailure": "Halt"}
        self.spec["analysis"] = None

    def once(self):
        """Pass over the cluster once, as the shell does."""
        it, held = self.it, self.it.surge is not None
        if it.service and not held and is_settled(it.live, it.live_pods):
            self.write(lambda: it.__dict__.update(service="", preview=""))
        stable = next((each["stable"] for each in self.status.get("components", ())), "")
        facts = it.staged(stable, blue_green=self.blue_green, pending=False, returns=False).facts
        template, returns, written = self.wanted, False, False
        if is_given_up(self.status, self.wanted):
            template = (stable or facts.current).removeprefix("search-")
        elif it.template != self.wanted and any(pod.revision != facts.current for pod in facts.pods):
            returns = facts.current != f"search-{self.wanted}"
            template = facts.current.removeprefix("search-")
        waits = self.closed and not is_given_up(self.status, self.wanted) and any(pod[1] for pod in it.pods)
        waits = bool(waits) and it.template != template
        if it.template != template and not waits:
            if not it.paused:
                self.write(lambda: it.write(surge=surge_of(it.live), paused=1))
            self.write(lambda: it.write(template=template))
            written = True
        pending = written or waits
        staged = it.staged(stable, blue_green=self.blue_green, pending=pending, returns=returns and not pending)
        gates = Gates(self.closed)
        decision = plan_rollout(self.spec, [staged], self.wanted, self.status, self.command, self.time, gates)
        for move in decision.moves:
            self.write(lambda move=move: self.move(move, decision.status))
        if decision.status != self.status:
            self.write(lambda: setattr(self, "status", decision.status))

    def move(self, move, status):
        """Carry a move out, and hold it to what the document promises."""
        it = self.it
        facts = move.staged.facts
        if self.closed and status.get("aborted") != self.wanted and facts.current != facts.update:
            assert move.what != "pin" or move.revision == facts.current, "clients are switched outside of a window"
            assert move.what != "release" or it.service == facts.update, "old pods go outside of a window"
        if move.what == "partition":
            it.write(surge=max(1, it.replicas - move.partition), paused=0)
            return
        if move.what == "preview":
            it.preview = move.revision
            return
        if move.what == "pin":
            it.service = move.revision
            assert it.behind() or not any(pod[1] for pod in it.pods), "clients are sent to nobody"
            return
        back = f"search-{it.template}" == move.staged.facts.current
        through = status.get("step", 0) > status.get("of", 0)
        assert back or through, "let go before the last step, with a template that would take all old pods"
        assert it.service in {"", f"search-{it.template}"}, "clients are with pods that go"
        it.write(surge=None, paused=0)

    def life(self, times=1):
        """Let everybody act in turn."""
        for _ in range(times):
            self.once()
            old = {pod[2] for pod in self.it.pods if pod[0] != self.it.template}
            held = self.it.surge is not None
            self.it.control()
            assert not held or old <= {pod[2] for pod in self.it.pods}, "an old pod goes while all are held"
            self.it.kubelet()


EVENTS = st.one_of(
    st.tuples(st.just("life"), st.integers(1, 6)),
    st.tuples(st.just("edit"), st.sampled_from(["v0", "v1", "v2", f"{BROKEN}1"])),
    st.tuples(st.just("ill"), st.integers(0, 7)),
    st.tuples(st.just("clock"), st.sampled_from([-3600, 1, 60, 601, 4000])),
    st.tuples(
        st.just("command"),
        st.tuples(st.sampled_from(["promote", "abort", "retry", "pause"]), st.sampled_from(["this", "v1"])),
    ),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("window"), st.sampled_from(["", "closed"])),
    st.tuples(st.just("status lost"), st.none()),
)


def happens(world, what, how):
    """Let one thing happen."""
    match what:
        case "life":
            world.life(how)
        case "edit":
            world.wanted = how
        case "ill" if how < len(world.it.pods):
            world.it.pods[how][1] = False
        case "clock":
            world.now += timedelta(seconds=how)
        case "command":
            world.command = f"{how[0]}@{world.wanted if how[1] == 'this' else how[1]}"
        case "status lost":
            world.status = {}
        case "kill":
            world.killed_after(how)
        case "window":
            world.closed = how


@settings(deadline=None, max_examples=examples(300))
@given(st.booleans(), st.lists(EVENTS, max_size=25), st.booleans())
def test_whatever_happens(blue_green, events, gives_up):
    """No old pod goes before the last step, clients are never sent to nobody, and in the end all is as it should be."""
    world = World(blue_green=blue_green)
    for what, how in events:
        happens(world, what, how)
    phase, running = world.to_the_end(gives_up=gives_up), {pod[0] for pod in world.it.pods}
    if phase == "Complete":
        assert (running, world.it.surge, world.it.service) == ({world.wanted}, None, "")
        assert not world.wanted.startswith(BROKEN)
    elif phase == "Aborted":
        assert (len(running), world.it.surge, world.it.service) == (1, None, "")
        assert world.status["aborted"] == world.wanted
    else:
        assert phase in {"Halted", "Aborting", "Promoting"}, phase
        assert any(revision.startswith(BROKEN) for revision in (*running, world.it.template))


@pytest.mark.parametrize(("blue_green", "step"), [(False, 3), (True, 3), (True, 5)])
def test_status_lost_on_the_way_back(blue_green, step):
    """If the status is lost once the document is what it was before, the candidate's pods are not taken for the old."""
    world = World(blue_green=blue_green)
    world.life(3)
    world.wanted = "v1"
    world.life(step)
    assert "v1" in {pod[0] for pod in world.it.pods}
    world.wanted, world.status = "v0", {}
    world.life()
    world.status = {}
    world.life(20)
    assert (world.status["phase"], [pod[0] for pod in world.it.pods]) == ("Complete", ["v0"] * 4)


def test_a_good_roll():
    """One new pod stands beside four, then two do, and only after the last step do old ones go."""
    world = World()
    world.life(3)
    world.wanted = "v1"
    world.life(10)
    assert (world.status["phase"], sorted(pod[0] for pod in world.it.pods)) == ("Paused", ["v0"] * 4 + ["v1"])
    world.now += timedelta(seconds=600)
    world.life(10)
    assert (world.status["step"], sorted(pod[0] for pod in world.it.pods)) == (2, ["v0"] * 4 + ["v1"] * 2)
    world.command = "promote@v1/2"
    world.life(20)
    assert (world.status["phase"], [pod[0] for pod in world.it.pods]) == ("Complete", ["v1"] * 4)


def test_blue_green():
    """Clients stay with the old pods until all new ones are ready and a person says so; the old ones stay a while."""
    world = World(blue_green=True)
    world.life(3)
    world.wanted = "v1"
    world.life(10)
    assert (world.status["phase"], len(world.it.pods), world.it.service) == ("Paused", 8, "search-v0")
    assert world.it.preview == "search-v1"
    world.command = "promote@v1/1"
    world.life(6)
    assert (len(world.it.pods), world.it.service) == (8, "search-v1")
    world.now += timedelta(seconds=29)
    world.life(5)
    assert len(world.it.pods) == 8
    world.now += timedelta(seconds=2)
    world.life(10)
    assert (world.status["phase"], len(world.it.pods), world.it.service) == ("Complete", 4, "")


def test_blue_green_between_windows():
    """New pods, and the switch that was asked for, wait for a window; that old pods go after the switch does not."""
    world = World(blue_green=True)
    world.life(3)
    world.wanted, world.closed = "v1", "Restarts begin in windows"
    world.life(10)
    assert {pod[0] for pod in world.it.pods} == {"v0"}
    world.closed = ""
    world.life(10)
    world.closed, world.command = "Restarts begin in windows", "promote@v1/1"
    world.life(10)
    assert (len(world.it.pods), world.it.service, world.status["message"]) == (8, "search-v0", world.closed)
    world.closed = ""
    world.life(4)
    assert world.it.service == "search-v1"
    world.closed = "Restarts begin in windows"
    world.now += timedelta(seconds=31)
    world.life(10)
    assert (world.status["phase"], len(world.it.pods), world.it.service) == ("Complete", 4, "")


STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
SPECS = {
    "as the template has it": ({"strategy": STRATEGY}, True),
    "recreated": ({"strategy": {"type": "Recreate"}}, False),
    "may lose pods": ({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}, False),
    "has seconds of its own": ({"strategy": STRATEGY, "minReadySeconds": 5}, False),
    "is paused by a patch": ({"strategy": STRATEGY, "paused": True}, False),
}


@pytest.mark.parametrize("name", SPECS)
def test_what_a_patch_has_taken_over_is_not_held(name):
    """A Deployment is only held if all that a hold is made of is chronik's."""
    spec, ours = SPECS[name]
    assert may_hold({"kind": "Deployment", "spec": spec}) is ours


def test_a_held_one_leaves_the_surge_alone():
    """While it is held, the main manager says nothing of the surge, and all else as ever."""
    found = without_surge({"spec": {"strategy": STRATEGY, "replicas": 2}})
    assert found["spec"] == {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        "replicas": 2,
    }
