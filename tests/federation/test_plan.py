"""Who gets a change next: order, budget, soak, timeout, halt and revert, whatever happens at the members."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from chronik.federation.document import Address, Federation, Member, Rollout, revision_of, sent_document
from chronik.federation.facts import NOT_LOOKED, Seen, see
from chronik.federation.plan import FederationPlan, plan_federation
from chronik.federation.status import announcements, derive, member_phase
from chronik.status.compute import Reason
from chronik.times import later

NOW = "2026-01-01T00:00:00Z"
AWAY = Reason("ApiServerUnreachable", "connection refused")
CONFLICT = Reason("MemberConflict", "kubectl-edit owns spec.ingestNodes")
STALLED = Reason("InvalidSpec", "it is wrong")


def federation(*members: str | tuple[str, int], spec: int = 1, **rollout: Any) -> Federation:
    """Return a federation; a member may come with its wave, and `spec` is what its template says."""
    named = [(each, 0) if isinstance(each, str) else each for each in members]
    found = tuple(Member(name, Address(name, "kubeconfig", "", "ns", "orders"), wave) for name, wave in named)
    return Federation("orders", "hub", {"spec": {"controllers": spec}}, found, Rollout(**rollout))


@dataclass
class Play:
    """Members as they are, the status as it was last written, and a clock; `sent` is what was sent, in order."""

    what: Federation
    seen: dict[str, Seen] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    now: str = NOW
    sent: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def step(self, seconds: float = 0, *, kept: bool = True, paused: bool = False) -> FederationPlan:
        """Let time pass, plan, write the status and send; with `kept` False the hub dies before it writes."""
        self.now = later(self.now, seconds)
        for member in self.what.members:
            self.seen.setdefault(member.name, Seen())
        plan = plan_federation(self.what, self.status, self.seen, self.now, paused=paused)
        if not kept:
            return plan
        status = derive(plan, self.status, self.now, 1, paused=paused)
        self.events += [each.reason for each in announcements(self.status, status)]
        self.status = status
        for each in plan.members:
            found = self.seen.get(each.progress.name, Seen())
            if each.action == "apply" and each.document is not None and found.blocked is None and found.looked:
                revision = revision_of(each.document)
                if found.revision != revision:
                    self.sent.append(each.progress.name)
                    self.seen[each.progress.name] = Seen(exists=True, ours=True, revision=revision, generation=1)
        return plan

    def becomes(self, name: str, **changes: Any) -> None:
        """Change what a look at a member finds."""
        self.seen[name] = replace(self.seen[name], **changes)

    def roll(self, seconds: float = 0) -> None:
        """Let all members become ready one after the other, until nothing more is sent."""
        for _ in range(4 * len(self.what.members) + 4):
            self.step(seconds)
            for name, found in self.seen.items():
                if found.revision and not found.failure:
                    self.becomes(name, ready=True)
        self.step(seconds)

    @property
    def phases(self) -> dict[str, str]:
        """How each member is."""
        return {each["name"]: each["phase"] for each in self.status["members"]}

    @property
    def told(self) -> dict[str, tuple[str, str]]:
        """The conditions by type: status and reason."""
        return {each["type"]: (each["status"], each["reason"]) for each in self.status["conditions"]}


def test_members_get_a_change_one_after_the_other_in_their_order():
    """By default the next member gets it when the one in front is Ready with it."""
    play = Play(federation("a", "b", "c"))
    play.step()
    play.step()
    assert (play.sent, play.phases) == (["a"], {"a": "Updating", "b": "Pending", "c": "Pending"})
    play.becomes("a", ready=True)
    play.step()
    play.step()
    assert play.sent == ["a", "b"]
    play.roll()

    assert play.sent == ["a", "b", "c"]
    assert (play.status["phase"], play.status["ready"]) == ("Complete", "3/3")
    assert play.told["Ready"] == ("True", "AllMembersReady")
    assert play.events.count("RolloutComplete") == 1


def test_a_wave_begins_when_the_one_before_is_through():
    """Waves come before the order of the list, and a wave waits for all of the one before."""
    play = Play(federation(("late", 2), ("first", 0), ("second", 0), max_concurrent=3))
    play.step()
    assert play.sent == ["first", "second"]
    play.becomes("first", ready=True)
    play.step()
    assert (play.sent, play.status["wave"]) == (["first", "second"], 0)
    play.becomes("second", ready=True)
    play.step()

    assert play.sent == ["first", "second", "late"]


@pytest.mark.parametrize("lost", ["before its turn", "on its way", "failed"])
@pytest.mark.parametrize("budget", [0, 1])
def test_the_wave_is_where_the_change_is_or_was_halted(lost, budget):
    """A member that is passed lets the next wave begin; one that halts the roll leaves it at its own wave."""
    play = Play(federation(("first", 0), ("ill", 0), ("late", 1), failure_budget=budget))
    if lost == "before its turn":
        play.seen["ill"] = Seen(blocked=AWAY)
    play.step()
    assert play.status["wave"] == 0
    play.becomes("first", ready=True)
    play.step()
    if lost != "before its turn":
        play.becomes("ill", **({"blocked": AWAY} if lost == "on its way" else {"failure": STALLED}))
        play.step()

    assert (play.status["phase"], play.status["wave"]) == (("Progressing", 1) if budget else ("Halted", 0))
    assert ("late" in play.sent) == bool(budget)


def test_what_is_left_of_a_passed_wave_is_named():
    """Once all others are through, the wave is that of the member that was passed; and when it is through, none is."""
    play = Play(federation(("ill", 0), ("late", 1), failure_budget=1))
    play.seen["ill"] = Seen(blocked=AWAY)
    play.step()
    play.becomes("late", ready=True)
    play.step()
    assert (play.status["ready"], play.status["wave"]) == ("1/2", 0)
    play.becomes("ill", blocked=None)
    play.roll()

    assert (play.status["phase"], "wave" in play.status) == ("Complete", False)


def test_so_many_are_under_way_at_a_time():
    """No more members than that are under way."""
    play = Play(federation(*"abcde", max_concurrent=2))
    play.step()
    play.step()
    assert play.sent == ["a", "b"]
    play.becomes("b", ready=True)
    play.step()

    assert play.sent == ["a", "b", "c"]


def test_a_member_soaks_before_the_next_one_begins():
    """It has to be Ready for so long without a break; a break begins the time anew."""
    play = Play(federation("a", "b", soak=60))
    play.step()
    play.becomes("a", ready=True)
    plan = play.step()
    assert (play.phases["a"], plan.again_at) == ("Soaking", later(NOW, 60))
    play.step(30)
    play.becomes("a", ready=False)
    play.step(10)
    play.becomes("a", ready=True)
    play.step(10)
    play.step(30)
    assert play.sent == ["a"]
    play.step(30)

    assert play.sent == ["a", "b"]


def test_a_member_that_is_ready_with_what_it_had_is_not_through():
    """Between the status and the apply, a member is Ready with the revision before: that counts for nothing."""
    play = Play(federation("a", "b"))
    play.roll()
    old = play.seen["a"]
    play.what = federation("a", "b", spec=2)
    play.step()
    play.seen["a"] = old
    play.sent.clear()
    plan = play.step()

    assert (plan.listed[0].state, plan.begins) == ("under way", ())
    assert "readySince" not in play.status["members"][0]


def test_a_failed_member_halts_the_roll_and_a_mended_one_lets_it_go_on():
    """Beyond the budget nobody else gets the change; once the member is Ready after all, the next one does."""
    play = Play(federation("a", "b"))
    play.step()
    play.becomes("a", failure=STALLED)
    play.step()
    assert (play.status["phase"], play.phases, play.sent) == ("Halted", {"a": "Failed", "b": "Pending"}, ["a"])
    assert play.told["Stalled"] == ("True", "RolloutHalted")
    play.becomes("a", failure=None, ready=True)
    play.step()

    assert play.sent == ["a", "b"]


def test_a_member_that_is_not_ready_in_time_has_failed():
    """The timeout counts from when it was sent, soak included."""
    play = Play(federation("a", "b", timeout=60))
    plan = play.step()
    assert plan.again_at == later(NOW, 60)
    play.step(59)
    assert play.status["phase"] == "Progressing"
    play.step(1)

    assert (play.status["phase"], play.status["members"][0]["reason"]) == ("Halted", "RolloutTimedOut")


def test_the_budget_lets_others_pass_a_failed_member():
    """Within the budget a failed member is passed, and the roll goes on."""
    play = Play(federation("a", "b", "c", failure_budget=1))
    play.step()
    play.becomes("a", failure=STALLED)
    play.step()
    assert play.sent == ["a", "b"]
    play.becomes("b", failure=STALLED)
    play.step()

    assert (play.status["phase"], play.sent) == ("Halted", ["a", "b"])


@pytest.mark.parametrize("blocked", [AWAY, CONFLICT])
@pytest.mark.parametrize("budget", [0, 1])
def test_a_member_out_of_reach_costs_the_budget_when_its_turn_comes(blocked, budget):
    """Before its turn it costs nothing; then others pass it if the budget allows, and it gets the change later."""
    play = Play(federation("a", "b", "c", failure_budget=budget))
    play.seen["b"] = Seen(blocked=blocked)
    play.step()
    assert (play.sent, play.status["phase"]) == (["a"], "Progressing")
    play.becomes("a", ready=True)
    play.step()
    assert play.sent == (["a", "c"] if budget else ["a"])
    assert play.status["phase"] == ("Progressing" if budget else "Halted")
    play.becomes("b", blocked=None)
    play.roll()

    assert (sorted(play.sent), play.status["phase"]) == (["a", "b", "c"], "Complete")


def test_a_member_lost_on_its_way_halts_the_roll_until_it_is_back():
    """Nobody passes a member that was lost after it was sent the change, unless the budget allows."""
    play = Play(federation("a", "b"))
    play.step()
    play.becomes("a", blocked=AWAY)
    play.step()
    assert (play.sent, play.status["phase"], play.phases["a"]) == (["a"], "Halted", "Unreachable")
    play.becomes("a", blocked=None, ready=True)
    play.step()

    assert play.sent == ["a", "b"]


def test_a_member_that_was_not_looked_at_is_waited_for():
    """Until the first look has ended, nobody passes it, and it counts as no failure."""
    play = Play(federation("a", "b"))
    play.seen["a"] = NOT_LOOKED
    play.step()
    assert (play.status["phase"], play.sent) == ("Pending", [])


def test_a_new_change_begins_again_in_front_and_disturbs_nobody_else():
    """While a member is on its way to a superseded change, nobody else begins."""
    play = Play(federation("a", "b", "c"))
    play.step()
    play.becomes("a", ready=True)
    play.step()
    assert play.sent == ["a", "b"]
    play.what = federation("a", "b", "c", spec=2)
    play.step()
    assert play.sent == ["a", "b"], "b is on its way to what is no longer wanted"
    play.becomes("b", ready=True)
    play.step()
    assert play.sent == ["a", "b", "a"]
    play.roll()

    assert (play.sent, play.status["phase"]) == (["a", "b", "a", "b", "c"], "Complete")


def test_a_new_change_ends_a_halt():
    """A member that failed with what is no longer wanted holds nobody up."""
    play = Play(federation("a", "b"))
    play.step()
    play.becomes("a", failure=STALLED)
    play.step()
    play.what = federation("a", "b", spec=2)
    play.step()
    play.roll()

    assert (play.sent, play.status["phase"]) == (["a", "a", "b"], "Complete")


def test_a_failed_change_is_taken_back_from_those_that_got_it():
    """Revert gives them the last revision that all were through with, and says so until the template changes."""
    rollout = {"on_failure": "Revert"}
    play = Play(federation("a", "b", "c", **rollout))
    play.roll()
    good = play.seen["a"].revision
    play.what = federation("a", "b", "c", spec=2, **rollout)
    play.step()
    play.becomes("a", ready=True)
    play.step()
    play.becomes("b", failure=STALLED)
    play.sent.clear()
    play.step()
    play.roll()

    assert play.sent == ["a", "b"], "c never got it"
    assert {each.revision for each in play.seen.values()} == {good}
    assert (play.status["phase"], play.told["Stalled"]) == ("Reverted", ("True", "RolloutReverted"))
    assert play.events.count("RolloutReverted") == 1
    play.what = federation("a", "b", "c", spec=3, **rollout)
    play.roll()
    assert (play.status["phase"], "revertedFrom" in play.status) == ("Complete", False)


def test_without_a_last_good_revision_a_roll_halts():
    """What was never through anywhere cannot be gone back to."""
    play = Play(federation("a", "b", on_failure="Revert"))
    play.step()
    play.becomes("a", failure=STALLED)
    play.step()

    assert play.status["phase"] == "Halted"


def test_nothing_is_sent_while_it_is_paused():
    """A paused federation looks, and sends nothing."""
    play = Play(federation("a"))
    plan = play.step(paused=True)

    assert (play.sent, play.status["phase"], plan.members[0].action) == ([], "Paused", "observe")


def test_a_hub_that_dies_before_it_writes_has_sent_nothing():
    """What is begun is in the status before it is sent, so the next hub begins the same member."""
    play = Play(federation("a", "b"))
    dying = play.step(kept=False)
    again = play.step()

    assert dying.begins == again.begins == ("a",)


def test_a_member_that_leaves_is_let_go():
    """What becomes of it is what onDelete says; one that was never sent anything is forgotten at once."""
    play = Play(federation("a", "b", "never"))
    play.step()
    play.becomes("a", ready=True)
    play.step()
    play.what = replace(federation("a"), on_delete="Delete")
    plan = play.step()
    assert [(each.progress.name, each.action) for each in plan.members] == [("a", "apply"), ("b", "delete")]
    assert play.phases["b"] == "Removing"
    play.becomes("b", exists=False)
    play.step()

    assert play.phases == {"a": "Ready"}


def test_a_member_that_leaves_and_cannot_be_reached_stays_until_it_is_forgotten():
    """It is named with what is wrong, until it answers or a person lets go of it."""
    play = Play(federation("a", "b"))
    play.roll()
    play.becomes("b", blocked=AWAY)
    play.what = federation("a")
    play.step()
    assert play.status["members"][1]["message"] == AWAY.message
    plan = plan_federation(play.what, play.status, play.seen, play.now, forget=frozenset({"b"}))

    assert [each.progress.name for each in plan.members] == ["a"]


def test_a_member_that_comes_back_elsewhere_is_let_go_where_it_was_first():
    """Its old ChronikCluster is let go of before the new one is made."""
    play = Play(federation("a", "b"))
    play.roll()
    moved = replace(play.what.members[1], at=play.what.members[1].at._replace(namespace="new"))
    play.what = replace(play.what, members=(play.what.members[0], moved))
    plan = play.step()
    assert [(each.action, each.progress.at.namespace) for each in plan.members] == [("apply", "ns"), ("orphan", "ns")]
    play.seen["b"] = Seen()
    play.step()
    plan = play.step()

    assert [(each.action, each.progress.at.namespace) for each in plan.members] == [("apply", "ns"), ("apply", "new")]


def test_a_status_at_rest_never_changes():
    """With nothing new at any member, the next status is the same, however much later, also with one out of reach."""
    play = Play(federation("a", "b"))
    play.roll()
    play.becomes("b", blocked=AWAY)
    play.step()
    before = play.status
    play.step(3600)

    assert play.status == before
    assert play.status["members"][1]["lastSeen"]


def test_a_paused_member_gets_nothing_and_nobody_waits_for_it():
    """Others pass it at no cost, and it gets the change once it is no longer paused; only then all have it."""
    play = Play(federation("east", "west", "south"))
    east, west, south = play.what.members
    play.what = replace(play.what, members=(east, replace(west, paused=True), south))
    for _ in range(6):
        play.step(1)
        play.seen |= {name: replace(each, ready=True) for name, each in play.seen.items() if each.exists}
    status = play.status
    phases = {each["name"]: each["phase"] for each in status["members"]}

    assert phases == {"east": "Ready", "west": "Paused", "south": "Ready"}
    assert (status["phase"], status["ready"], status.get("lastGood")) == ("Complete", "2/3", None)
    assert {each["type"]: each["status"] for each in status["conditions"]}["Ready"] == "False"
    assert "paused: west" in next(each["message"] for each in status["conditions"] if each["type"] == "Progressing")
    play.what = replace(play.what, members=(east, west, south))
    for _ in range(3):
        play.step(1)
        play.seen |= {name: replace(each, ready=True) for name, each in play.seen.items() if each.exists}
    assert play.sent == ["east", "south", "west"]
    assert (play.status["ready"], bool(play.status["lastGood"])) == ("3/3", True)


def test_members_that_had_the_change_before_are_through_without_news_of_them():
    """No event comes of a member that is as it should be already, so time wakes the hub: within a second each."""
    play = Play(federation("east", "west"))
    for member in play.what.members:
        revision = revision_of(sent_document(play.what, member))
        play.seen[member.name] = Seen(exists=True, ours=True, revision=revision, generation=1, ready=True)
    plan = play.step()
    for _ in range(4):
        if plan.complete:
            break
        assert plan.again_at == later(play.now, 1)
        play.now = plan.again_at
        plan = play.step()

    assert (plan.complete, play.sent) == (True, [])


def test_a_member_that_fell_ill_later_takes_nothing_back():
    """A member that was through stays so; that it is not Ready now is told."""
    play = Play(federation("a"))
    play.roll()
    play.becomes("a", ready=False, waits="ingest: 1 of 2 ready")
    play.step()

    assert (play.phases["a"], play.told["Ready"][0], play.status["phase"]) == ("NotReady", "False", "Complete")


def test_what_a_cluster_says_of_itself():
    """A cluster is Ready only at the generation that it has, and with its own operator's word for it."""
    live = {
        "metadata": {"generation": 2, "annotations": {"chronik.stream/federation-revision": "r"}},
        "status": {
            "observedGeneration": 2,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}],
        },
    }
    stale = {**live, "metadata": {**live["metadata"], "generation": 3}}
    stalled = {"type": "Stalled", "status": "True", "reason": "InvalidSpec", "message": "no"}
    failed = {**live, "status": {"observedGeneration": 2, "conditions": [*live["status"]["conditions"], stalled]}}

    assert (see(live, "hub/orders").ready, see(live, "hub/orders").revision) == (True, "r")
    assert (see(stale, "hub/orders").ready, see(stale, "hub/orders").failure) == (False, None)
    assert see(failed, "hub/orders").failure == ("InvalidSpec", "no")
    assert see(None, "") == Seen()


RUNNING = {
    "operatorVersion": "1.2.0",
    "readyReplicas": {"controllers": 3, "ingestNodes": 2},
    "replicas": {"controllers": 3, "ingestNodes": 4},
    "images": {"ingestNodes": ["chronik/ingest:1.4.1", "chronik/ingest:1.4.2"]},
}
TOLD = {"version": "1.2.0", **{name: RUNNING[name] for name in ("readyReplicas", "replicas", "images")}}


def test_what_runs_at_a_member_is_what_its_operator_tells():
    """Version, ready pods and images are those of the member's status, without what no component is called."""
    strange = {"pigeons": 4}
    live = {
        "metadata": {"generation": 1},
        "spec": {"controllers": 5},
        "status": {**RUNNING, "replicas": RUNNING["replicas"] | strange, "readyReplicas": RUNNING["readyReplicas"]},
    }
    older = {**live, "status": {"readyReplicas": {"controllers": 3, "searchNodes": 0}}}

    assert see(live, "hub/orders").runs == TOLD
    assert see(older, "hub/orders").runs == {
        "readyReplicas": {"controllers": 3, "searchNodes": 0},
        "replicas": {"controllers": 5, "searchNodes": 0},
    }, "one that does not tell how many there should be: its spec does"
    assert see({"metadata": {}}, "hub/orders").runs == {}


@pytest.mark.parametrize("found", [NOT_LOOKED, Seen(blocked=AWAY), Seen(blocked=CONFLICT)])
def test_what_ran_at_a_member_is_kept_while_nobody_knows_better(found):
    """A new hub has it before its first look, and so has one that cannot ask; without a cluster nothing runs there."""
    play = Play(federation("a"))
    play.roll()
    play.becomes("a", runs=TOLD)
    play.step()
    before = play.status["members"][0]
    assert {name: before[name] for name in TOLD} == TOLD
    play.seen["a"] = found
    play.step()
    play.step(3600)

    assert {name: play.status["members"][0].get(name) for name in TOLD} == TOLD
    play.seen["a"] = Seen()
    play.step()
    assert not TOLD.keys() & play.status["members"][0].keys()


# --- whatever happens -------------------------------------------------------------------------------------------------

NAMES = "abcdef"
EVENT = st.one_of(
    st.tuples(st.just("ready"), st.sampled_from(NAMES)),
    st.tuples(st.just("away"), st.sampled_from(NAMES)),
    st.tuples(st.just("back"), st.sampled_from(NAMES)),
    st.tuples(st.just("fails"), st.sampled_from(NAMES)),
    st.tuples(st.just("heals"), st.sampled_from(NAMES)),
    st.tuples(st.just("template"), st.integers(1, 3)),
    st.tuples(
        st.just("members"),
        st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2)), min_size=1, unique_by=lambda each: each[0]),
    ),
    st.tuples(st.just("time"), st.sampled_from([1, 30, 60, 700])),
    st.tuples(st.just("dies"), st.none()),
    st.tuples(st.just("restarts"), st.none()),
)


def check_order(play: Play, plan: FederationPlan, before: FederationPlan | None) -> None:
    """Hold a plan to what is promised: order, concurrency and budget."""
    del before
    rollout = play.what.rollout
    listed = plan.listed
    passed = [
        each for each in listed if each.state in {"failed", "blocked"} or (each.state == "pending" and each.failure)
    ]
    if plan.begins and not plan.reverting:
        assert len([each for each in passed if each.progress.name not in plan.begins]) <= rollout.failure_budget
    under_way = [each for each in listed if each.state == "under way"]
    if plan.begins:
        assert len(under_way) <= rollout.max_concurrent
    waves = {member.name: member.wave for member in play.what.members}
    for name in plan.begins:
        place = [each.progress.name for each in listed].index(name)
        for front in listed[:place]:
            assert front.state != "pending" or front.failure or rollout.max_concurrent > 1, (name, front)
            if waves[front.progress.name] < waves[name]:
                assert front.state in {"through", "failed", "blocked"} or front.failure, (name, front)
        if rollout.max_concurrent == 1:
            assert all(front.state in {"through", "failed", "blocked"} or front.failure for front in listed[:place])


def happen(play: Play, what: str, value: Any) -> None:
    """Let something happen at a member, or to the hub."""
    found = play.seen.get(value) if isinstance(value, str) else None
    if what == "restarts":
        play.seen = {name: replace(each, looked=each.blocked is not None) for name, each in play.seen.items()}
    if found is None:
        return
    changes: dict[str, dict[str, Any]] = {
        "ready": {"ready": bool(found.revision), "looked": True},
        "away": {"blocked": AWAY, "looked": True},
        "back": {"blocked": None, "looked": True},
        "fails": {"failure": STALLED},
        "heals": {"failure": None},
    }
    play.becomes(value, **changes[what])


@settings(max_examples=examples(60))
@given(
    st.lists(EVENT, max_size=40),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([0, 60]),
    st.sampled_from(["Halt", "Revert"]),
)
def test_whatever_happens_order_and_budget_hold_and_it_ends(events, concurrent, budget, soak, on_failure):
    """Nobody is rolled before those in front are through, the budget holds, and once all is well, all have it."""
    rollout = {
        "max_concurrent": concurrent,
        "failure_budget": budget,
        "soak": soak,
        "timeout": 600,
        "on_failure": on_failure,
    }
    members: list[tuple[str, int]] = [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    spec = 1
    play = Play(federation(*members, **rollout))
    plan = None
    for what, value in events:
        spec = value if what == "template" else spec
        members = value if what == "members" else members
        happen(play, what, value)
        play.what = federation(*members, spec=spec, **rollout)
        latest = play.step(value if what == "time" else 0, kept=what != "dies")
        check_order(play, latest, plan)
        plan = latest
    for name, found in list(play.seen.items()):
        play.seen[name] = replace(found, blocked=None, looked=True, failure=None)
    play.what = federation(*members, spec=4, **rollout)
    for _ in range(6 * len(members) + 6):
        check_order(play, play.step(61), plan)
        for name, found in play.seen.items():
            if found.revision:
                play.becomes(name, ready=True)

    wanted = {each.name: revision_of(sent_document(play.what, each)) for each in play.what.members}
    assert {name: play.seen[name].revision for name in wanted} == wanted
    assert play.status["phase"] == "Complete"
    assert all(member_phase(each) == "Ready" for each in play.step().listed)
