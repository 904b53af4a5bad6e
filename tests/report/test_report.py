"""How reports and diffs are worded: complete, in few words, at any width, and harmless to a terminal."""

from __future__ import annotations

import json
import re

import pytest

from chronik.errors import Answer, FieldOwner, Forbidden, InvalidObject, NamespaceMissing, Unreachable
from chronik.manifest import ClusterKey, KindName, ObjectRef
from chronik.plan.actions import (
    Adopt,
    Apply,
    Blocked,
    Conflict,
    Create,
    Deferred,
    Foreign,
    GrowClaim,
    Prune,
    Recreate,
    Skip,
    TransferOwnership,
    Wait,
    not_installed,
)
from chronik.plan.changes import Change
from chronik.plan.results import OBSTACLES, WROTE, Report, Result
from chronik.report import apply as apply_report
from chronik.report import diff as diff_report
from chronik.report.data import apply_json
from chronik.report.diff import ClusterDiff
from chronik.report.page import Page, cells
from chronik.report.summary import ClusterResult, exit_code
from chronik.status.health import Health, State
from chronik.status.readiness import Unready

KEY = ClusterKey("streaming", "orders")
WIDTHS = (40, 80, 160, None)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
OWNER = FieldOwner(".spec.replicas", "kubectl", "Update", "scale")
IMAGE = Change('spec.template.spec.containers[name="ingest"].image', "chronik/ingest:1.4.1", "chronik/ingest:1.4.2")
REPLICAS = Change("spec.replicas", 5, 3, "kubectl")
TEXT = Change("data[server.yaml]", "a: 1\nb: 2\nc: 3\nd: 4\n", "a: 1\nb: 2\nc: 3\nd: 5\n")


def ref(kind, name):
    return ObjectRef(kind, "streaming", f"orders-{name}")


def change(cls=Apply, name="ingest", kind="StatefulSet", **about):
    about = {"manifest": {}, "changes": (IMAGE,), "uid": "u", "resource_version": "1", "reason": "1 change"} | about
    return cls(ref=ref(kind, name), **about)


ACTIONS = {
    "created": Create(ref=ref("Service", "ingest"), reason="does not exist", manifest={}),
    "changed": change(restarts=(IMAGE,)),
    "taken": change(name="controller", changes=(REPLICAS,), takes=(OWNER,), force=True, reason="1 change, taken"),
    "adopted": change(Adopt, "config", "ConfigMap", changes=(TEXT,)),
    "recreated": change(Recreate, "search", propagation="Orphan", reason="its volumes grow; pods keep running"),
    "handed-over": TransferOwnership(
        ref=ref("Deployment", "search"), manager="m", manifest={}, reason="holds the count"
    ),
    "grown": GrowClaim(
        ref=ref("PersistentVolumeClaim", "0"), storage="20Gi", was="10Gi", uid="u", resource_version="1"
    ),
    "pruned": Prune(
        ref=ref("HorizontalPodAutoscaler", "hpa"), reason="is no longer part", uid="u", resource_version="1"
    ),
    "unchanged": Skip(ref=ref("Role", "ingest"), reason="is as it should be"),
    "orphaned": Skip(ref=ref("Role", "old"), why="orphaned", reason="is no longer part of the cluster"),
    "kept": Skip(ref=ref("Role", "kept"), why="kept", reason="is annotated"),
    "held": Deferred(
        ref=ref("StatefulSet", "held"), code="StorageShrink", reason="keeps 20Gi", hint="Volumes never shrink."
    ),
    "not-installed": not_installed(ref("Gadget", "g"), KindName("example.com/v1", "Gadget")),
    "conflict": Conflict(
        ref=ref("StatefulSet", "taken"), owners=(OWNER,), changes=(REPLICAS,), reason="kubectl set it", hint="Force it."
    ),
    "foreign": Foreign(ref=ref("Service", "theirs"), reason="is not chronik's", hint="Delete it."),
    "blocked": Blocked(ref=ref("Service", "stuck"), reason="spec.clusterIP cannot be changed", hint="Delete it."),
    "waiting": Wait(ref=ref("Service", "going"), reason="is being deleted"),
}
EVERYTHING = Report(
    (
        *(Result(action, "changed" if outcome == "taken" else outcome) for outcome, action in ACTIONS.items()),
        Result(
            change(name="bad"), "failed", InvalidObject("spec.x: unknown", subject="StatefulSet/streaming/orders-bad")
        ),
        Result(change(name="later"), "not-tried", why="because of StatefulSet/streaming/orders-bad"),
    )
)
ALL = ClusterResult(KEY, EVERYTHING, seconds=0.42)
UNREADY = (Unready(ref("StatefulSet", "ingest"), Health(State.IN_PROGRESS, "1 of 3 pods ready")),)
FAILED = (Unready(ref("StatefulSet", "ingest"), Health(State.FAILED, "orders-ingest-0: CrashLoopBackOff")),)
WORDINGS = {
    "report": apply_report.as_text,
    "troubles": apply_report.troubles_text,
    "diff": lambda results, **how: diff_report.as_text([ClusterDiff(each) for each in results], **how),
    "unready": lambda results, **how: apply_report.unready_text(
        [ClusterResult(each.key, unready=UNREADY, waited=300) for each in results], **how
    ),
}
wordings = pytest.mark.parametrize("words", WORDINGS.values(), ids=WORDINGS)


def plain(text):
    """Return a text without any space, to see whether wrapping has lost something."""
    return "".join(text.split())


# --- at any width -----------------------------------------------------------------------------------------------------


@wordings
@pytest.mark.parametrize("width", WIDTHS)
def test_lines_fit(words, width):
    """No line is wider than the terminal, and whatever the width, everything is said."""
    text = words([ALL], width=width, color=False)

    assert width is None or max(map(cells, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    if words is not WORDINGS["diff"]:  # which puts a change on one line or on three
        assert sorted(plain(text)) == sorted(plain(words([ALL], width=None, color=False)))


@wordings
@pytest.mark.parametrize("width", WIDTHS)
def test_colour_changes_nothing_else(words, width):
    """With colour the text is the same, and without there are no escape sequences."""
    coloured, bare = (words([ALL], width=width, color=color) for color in (True, False))

    assert ANSI.sub("", coloured) == bare
    assert "\x1b" not in bare
    assert coloured != bare


@wordings
def test_nothing_gets_to_the_terminal_raw(words):
    """Whatever names, values and messages hold, a terminal obeys none of it."""
    evil = "\x1b[2J\x07\u202e\r"
    action = Conflict(
        ref=ObjectRef("Service", "n", f"a{evil}"),
        owners=(FieldOwner(f".spec{evil}", f"me{evil}"),),
        changes=(Change(f"spec{evil}", f"old{evil}", [f"new{evil}\nline{evil}"], f"me{evil}"),),
        reason=f"because{evil}",
        hint=f"do{evil}",
    )
    failed = Result(action, "failed", Forbidden(f"no{evil}\nmore{evil}", subject=f"s{evil}", hint=f"h{evil}"))
    cluster_result = ClusterResult(ClusterKey("n", "c"), Report((Result(action, "conflict"), failed)))
    for width in WIDTHS:
        text = words([cluster_result], width=width, color=False)
        assert all(line.isprintable() for line in text.splitlines())
        assert text


def wrapped(text, room):
    """Return a paragraph as it is wrapped in so many columns."""
    page = Page(100)
    page.paragraph(text, " " * (100 - room))
    return [line.lstrip() for line in page.text.splitlines()]


@pytest.mark.parametrize(
    ("text", "room", "lines"),
    [
        ("漢字漢字 漢字漢字", 9, ["漢字漢字", "漢字漢字"]),
        ("漢字漢字漢字", 5, ["漢字", "漢字", "漢字"]),
        ("❤️❤️ ❤️❤️", 8, ["❤️❤️", "❤️❤️"]),
        ("👍🏽👍🏽 👍🏽", 7, ["👍🏽👍🏽 👍🏽"]),
        ("e\u0301e\u0301 e\u0301e\u0301", 5, ["e\u0301e\u0301 e\u0301e\u0301"]),
        ("abcdefabcdef next", 6, ["abcdef", "abcdef", "next"]),
    ],
    ids=["wide", "broken", "emoji", "skin", "marks", "long"],
)
def test_wide_characters_are_counted_as_wide(text, room, lines):
    """Wrapping counts columns, not characters: two for what is wide or an emoji, none for a mark."""
    assert wrapped(text, room) == lines


def test_what_is_written_is_no_markup():
    """What rich would take for colours, emoji or links is printed as it is."""
    page = Page(color=True)
    page.labelled("error", "red", "[red]a[/red] :smile: [link=x]y[/link] http://x 42 None")
    page.columns([("[bold]x", ":bug:")])

    assert ANSI.sub("", page.text) == (
        "error: [red]a[/red] :smile: [link=x]y[/link] http://x 42 None\n[bold]x  :bug:\n"
    )
    assert page.text.count("\x1b[") == 2


# --- the report -------------------------------------------------------------------------------------------------------


def test_report_in_columns():
    """With room, there is a line for each object that something became of, in columns, and a count."""
    text = apply_report.as_text([ALL], width=160, color=False)

    assert text.splitlines()[:9] == [
        "Service/streaming/orders-ingest               created",
        "StatefulSet/streaming/orders-ingest           changed      1 change, its pods restart",
        "StatefulSet/streaming/orders-controller       changed      1 change, taken",
        "                                              took spec.replicas from kubectl (update of scale)",
        "ConfigMap/streaming/orders-config             adopted      1 change",
        "StatefulSet/streaming/orders-search           recreated    its volumes grow; pods keep running",
        "Deployment/streaming/orders-search            handed over  holds the count",
        "PersistentVolumeClaim/streaming/orders-0      grown        10Gi -> 20Gi",
        "HorizontalPodAutoscaler/streaming/orders-hpa  pruned       is no longer part",
    ]
    assert "\nstreaming/orders: 1 created, 2 changed, 1 unchanged, 1 failed, 1 not tried, 1 conflict, " in text
    assert text.endswith(" in 0.4 s\n")


def test_report_on_a_narrow_terminal():
    """Without room for columns, what became of an object stands below it."""
    cluster_result = ClusterResult(KEY, Report((Result(ACTIONS["changed"], "changed"),)), seconds=0.4)

    assert apply_report.as_text([cluster_result], width=40, color=False) == (
        "StatefulSet/streaming/orders-ingest\n"
        "  changed  1 change, its pods restart\n"
        "streaming/orders: 0 created, 1 changed,\n"
        "  0 unchanged in 0.4 s\n"
    )


@pytest.mark.parametrize("outcome", [*ACTIONS, "failed", "not-tried"])
def test_every_outcome_has_its_word(outcome):
    """Each outcome that is no everyday one is told, on stdout or on stderr, with its object."""
    results = [result for result in EVERYTHING.results if outcome in {result.outcome, "taken"}]
    cluster_result = ClusterResult(KEY, Report(tuple(results[:1])))
    out, err = (
        words([cluster_result], width=None, color=False) for words in (apply_report.as_text, apply_report.troubles_text)
    )
    where = str(results[0].ref)

    assert (where in out) == (outcome in {*WROTE, *OBSTACLES, "taken", "not-tried"})
    assert (where in err) == (outcome in {*OBSTACLES, "orphaned", "kept", "held", "not-installed"})
    assert outcome != "failed" or "spec.x: unknown" in err


def test_same_trouble_is_told_once():
    """Several objects that fail for the same reason share one message, and many of them are not all listed."""
    results = [
        Result(Create(ref=ref("Service", str(n)), manifest={}), "failed", Forbidden("no", hint="Ask."))
        for n in range(5)
    ]
    cluster_result = ClusterResult(KEY, Report((Result(ACTIONS["created"], "created"), *results)))

    assert apply_report.troubles_text([cluster_result], width=None, color=False) == (
        "error: Service/streaming/orders-0, Service/streaming/orders-1, Service/streaming/orders-2 and 2 more: no\n"
        "  Ask.\n"
    )


def test_one_cause_for_everything_is_told_of_the_cluster():
    """If nothing could be done for one reason, that is all there is to say: no list of objects."""
    missing = NamespaceMissing("namespace streaming does not exist", subject="Service/x", hint="Create it.")
    failed = [Result(Create(ref=ref("Service", str(n)), manifest={}), "failed", missing) for n in range(3)]
    cluster_result = ClusterResult(
        KEY, Report((*failed, Result(ACTIONS["created"], "not-tried", why="because"))), seconds=1
    )

    assert apply_report.troubles_text([cluster_result], width=None, color=False) == (
        "error: streaming/orders: namespace streaming does not exist\n  Create it.\n"
    )
    assert apply_report.as_text([cluster_result], width=None, color=False) == (
        "streaming/orders: 0 created, 0 changed, 0 unchanged, 3 failed, 1 not tried in 1.0 s\n"
    )


def test_interrupted_before_anything_was_sent():
    """A cluster that nothing was done about, because somebody had enough, says so."""
    cluster_result = ClusterResult(KEY, Report((), interrupted=True))

    assert apply_report.as_text([cluster_result], width=None, color=False) == (
        "streaming/orders: interrupted before anything was sent\n"
    )


def test_object_that_is_changed_back_is_told():
    """If something on the server undoes a change at once, the report says that."""
    result = Result(ACTIONS["changed"], "changed", flapping=("u", "1", "d"))
    text = apply_report.as_text([ClusterResult(KEY, Report((result,)))], width=None, color=False)

    assert "something on the server changes it back" in text


def test_waiting_is_reported():
    """What is not ready is named with its reason; what failed for good is told apart from what takes too long."""
    late, broken, well = (ClusterResult(KEY, unready=unready, waited=300.0) for unready in (UNREADY, FAILED, ()))

    assert apply_report.unready_text([late], width=None, color=False) == (
        "error: streaming/orders: 1 object not ready after 300 s\n"
        "  StatefulSet/streaming/orders-ingest: 1 of 3 pods ready\n"
    )
    assert ": 1 object failed\n" in apply_report.unready_text([broken], width=None, color=False)
    both = ClusterResult(KEY, unready=(*UNREADY, *FAILED), waited=300.0)
    assert ": 2 objects not ready, of which 1 failed\n" in apply_report.unready_text([both], width=None, color=False)
    assert "orders-ingest-0: CrashLoopBackOff" in apply_report.unready_text([broken], width=None, color=False)
    assert apply_report.ready_text([well], width=None, color=False) == "streaming/orders: ready after 300.0 s\n"
    assert [exit_code([each]) for each in (late, broken, well)] == [6, 5, 0]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            'orders-ingest-0: CreateContainerConfigError: secret "pg" not found',
            "Create the Secret pg in namespace streaming; the pods start by themselves then.",
        ),
        (
            "orders-ingest-0: CreateContainerConfigError: couldn't find key password in Secret streaming/pg",
            "Add password to the Secret pg in namespace streaming; the pods start by themselves then.",
        ),
        (
            'orders-ingest-0: ImagePullBackOff: Back-off pulling image "a:1"',
            "Correct spec.image, or name a Secret to pull with in spec.image.pullSecrets.",
        ),
        (
            "orders-ingest-0, orders-ingest-1: CrashLoopBackOff: back-off 5m0s (last exit: Error, code 1)",
            "kubectl logs -n streaming orders-ingest-1 --previous shows why it ends.",
        ),
        (
            "orders-ingest-0: Unschedulable: pod has unbound immediate PersistentVolumeClaims.",
            "kubectl describe pvc -n streaming says why there is no volume; see spec.storage.storageClass.",
        ),
        (
            "orders-ingest-0: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
            "Ask for less in spec.resources, or add nodes.",
        ),
    ],
)
def test_what_pods_fail_on_comes_with_advice(said, advice):
    """Below what keeps pods from running stands what to do about it, once for all objects that it is said of."""
    unready = [Unready(ref("StatefulSet", name), Health(State.FAILED, said)) for name in ("ingest", "controller")]
    told = apply_report.unready_text([ClusterResult(KEY, unready=tuple(unready), waited=20)], width=None, color=False)

    assert told == (
        "error: streaming/orders: 2 objects failed\n"
        f"  StatefulSet/streaming/orders-ingest: {said}\n"
        f"  StatefulSet/streaming/orders-controller: {said}\n"
        f"  {advice}\n"
    )


WELL = ClusterResult(KEY, Report((Result(ACTIONS["created"], "created"),)))
IN_CONFLICT = ClusterResult(
    KEY, Report((Result(ACTIONS["conflict"], "conflict"), Result(ACTIONS["created"], "created")))
)
GONE = ClusterResult(KEY, error=Unreachable("gone"))
PARTIAL = ClusterResult(KEY, EVERYTHING)
LATE = ClusterResult(KEY, unready=UNREADY)


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([], 0),
        ([WELL, WELL], 0),
        ([GONE], 3),
        ([GONE, GONE], 3),
        ([GONE, WELL], 5),
        ([IN_CONFLICT], 4),
        ([IN_CONFLICT, WELL], 4),
        ([IN_CONFLICT, GONE], 5),
        ([PARTIAL], 5),
        ([LATE], 6),
        ([LATE, WELL], 6),
        ([LATE, IN_CONFLICT], 5),
    ],
)
def test_exit_codes_of_several_clusters(results, code):
    """Failures that agree keep their code; those of different sorts, or beside clusters that were applied, are 5."""
    assert exit_code(results) == code


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_is_complete():
    """Every result is an object of the JSON report, with all keys, whatever became of it."""
    (cluster,) = json.loads(apply_json([ALL], "server"))["clusters"]
    keys = {frozenset(each) for each in cluster["objects"]}
    about = ("kind", "namespace", "name", "outcome", "reason", "hint", "seconds", "error")

    assert len(cluster["objects"]) == len(EVERYTHING.results)
    assert keys == {frozenset((*about, "changes", "restarts", "owners", "taken", "removed", "additions"))}
    assert (cluster["ok"], cluster["dryRun"], cluster["seconds"]) == (False, "server", 0.42)
    assert sum(cluster["counts"].values()) == len({result.ref for result in EVERYTHING.results})


def test_json_tells_errors_of_clusters():
    """A cluster that could not be looked at has an error with reason, message, hint and HTTP code."""
    answer = Answer(code=403)
    cluster_result = ClusterResult(KEY, error=Forbidden("no", hint="Ask.", answer=answer))
    (cluster,) = json.loads(apply_json([cluster_result]))["clusters"]

    assert cluster["error"] == {"reason": "Forbidden", "message": "no", "hint": "Ask.", "code": 403}
    assert (cluster["objects"], cluster["ok"], cluster["unready"]) == ([], False, None)


# --- the diff ---------------------------------------------------------------------------------------------------------


def diffed(*actions, width=None, pods=None):
    """Return the diff of some actions."""
    outcomes = {type(action): outcome for outcome, action in ACTIONS.items() if outcome != "taken"}
    results = tuple(Result(each, each.why if isinstance(each, Skip) else outcomes[type(each)]) for each in actions)
    return diff_report.as_text([ClusterDiff(ClusterResult(KEY, Report(results)), pods or {})], width=width, color=False)


def test_change_on_one_line_or_three():
    """A change that does not fit on a line has one line for each side."""
    wide, narrow = (diffed(ACTIONS["changed"], width=width) for width in (160, 60))

    assert f"    {IMAGE.path}: {IMAGE.old} -> {IMAGE.new}\n" in wide
    assert f"    - {IMAGE.old}\n    + {IMAGE.new}\n" in narrow


def test_texts_are_compared_line_by_line():
    """Of a text of several lines, only what differs is shown, with two lines around it."""
    assert diffed(ACTIONS["adopted"]).splitlines()[1:-1] == [
        "    data[server.yaml]:",
        "      b: 2",
        "      c: 3",
        "    - d: 4",
        "    + d: 5",
    ]


def test_values_that_could_be_mistaken_are_quoted():
    """A string that looks like a number or a boolean is told from one; lists and maps are YAML."""
    scalars = change(changes=(Change("a", "3", 3), Change("b", None, True), Change("c", "", "x y")))
    structures = change(changes=(Change("d", None, [{"k": "v", "on": "yes"}]), Change("e", {}, {"k": 1})))

    assert diffed(scalars).splitlines()[1:-1] == ['    a: "3" -> 3', "    b: (nothing) -> true", '    c: "" -> x y']
    assert diffed(structures).splitlines()[1:-1] == [
        "    d:",
        "    + - k: v",
        '    +   "on": "yes"',
        "    e:",
        "    - {}",
        "    + k: 1",
    ]


def test_restarts_say_how_many_and_why():
    """The number of pods is told if it is known; a changed configuration is said in words."""
    hashed = Change("spec.template.metadata.annotations[chronik.stream/config-hash]", "a", "b")
    action = change(changes=(hashed,), restarts=(hashed,))

    assert "    its 3 pods restart: the configuration that they read changes\n" in diffed(action, pods={action.ref: 3})
    assert "    its 1 pod restarts: " in diffed(action, pods={action.ref: 1})
    assert "    its pods restart: " in diffed(action)


def test_claims_that_grow():
    """A claim that grows is shown with both sizes."""
    assert "    spec.resources.requests.storage: 10Gi -> 20Gi\n" in diffed(ACTIONS["grown"])


def test_digests_are_cut_short():
    """Of a digest, which nobody reads, a few characters are enough to see that it changes."""
    hashed = change(changes=(Change("x", "a1" * 32, "b2" * 32),))

    assert "    x: a1a1a1a1a1a1… -> b2b2b2b2b2b2…\n" in diffed(hashed)


def test_owners_are_named_once():
    """Who holds a field stands beside its change, or, where the server names another place, below."""
    elsewhere = FieldOwner(".metadata.labels.x", "helm")
    conflict = Conflict(ref=ref("Service", "x"), owners=(OWNER, elsewhere), changes=(REPLICAS,), hint="Force it.")

    assert diffed(conflict).splitlines()[1:-1] == [
        "    spec.replicas: 5 -> 3  (held by kubectl)",
        "    metadata.labels.x is held by helm (apply)",
        "    Force it.",
    ]


def test_what_differs_without_a_change():
    """A cluster differs if something would change or should but cannot; not if things are left over or held back."""

    def differs(outcome):
        return ClusterDiff(ClusterResult(KEY, Report((Result(ACTIONS[outcome], outcome),)))).differs

    assert {outcome for outcome in ACTIONS if outcome != "taken" and not differs(outcome)} == {
        "unchanged",
        "orphaned",
        "kept",
        "held",
        "not-installed",
    }


def test_a_change_of_owner_alone_is_no_change_of_value():
    """What is only taken over is summed up in one line, after the object and before what changes."""
    same = tuple(Change(f"p{number}", {"a": 1, "b": 2}, {"b": 2, "a": 1}) for number in range(10))
    shown = diffed(change(changes=(Change("automount", False, False), REPLICAS)), change(changes=same)).splitlines()

    assert "    taken over, same value: automount" in shown
    assert f"    spec.replicas: {REPLICAS.old} -> {REPLICAS.new}" in [each.partition("  (")[0] for each in shown]
    assert "false -> false" not in "".join(shown)
    assert "    taken over, same value: p0, p1, p2, p3, p4, p5, p6, p7 and 2 more" in diffed(change(changes=same))


def test_what_is_held_back_is_told():
    """What an apply leaves as it is, though something else is wanted, is shown with its reason, and counted."""
    shown = diffed(ACTIONS["held"])

    assert ACTIONS["held"].reason in shown
    assert "1 held back" in shown


def test_what_cannot_be_made_yet_is_told():
    """An object whose kind is not installed is shown with that and what to do, and counted."""
    shown = " ".join(diffed(ACTIONS["not-installed"]).split())

    assert "! Gadget/streaming/orders-g: cannot be made yet" in shown
    assert "the cluster does not know the kind Gadget (example.com/v1) Install the CustomResourceDefinition" in shown
    assert "1 not installed" in shown
