"""The executor: what is sent, in which order, under which conditions, and what is said about it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.kube_clients import config_map, options_for
from support.plan_world import merged

from chronik.apply import executor
from chronik.apply.converge import converge
from chronik.apply.dry_run import simulate
from chronik.apply.executor import Execution, execute
from chronik.apply.observe import observe
from chronik.errors import (
    FieldConflict,
    Forbidden,
    InvalidObject,
    KindMissing,
    ObjectChanged,
    Unauthorized,
    Unreachable,
    UntrustedServer,
)
from chronik.kube import connect
from chronik.manifest import CLUSTER_LABEL, MANAGED_BY, KindName, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import (
    Apply,
    Conflict,
    Create,
    Deferred,
    Foreign,
    GrowClaim,
    Plan,
    Prune,
    Recreate,
    Skip,
    Stage,
    Step,
    TransferOwnership,
    Wait,
)
from chronik.plan.planner import PlanContext, manifest_digest

NS = "n"


@dataclass
class Sent:
    """One request."""

    verb: str
    ref: ObjectRef
    uid: str | None
    version: str | None
    options: dict[str, Any]


@dataclass
class Recorder:
    """A Kube that writes down what it is asked, fails as it is told, and can be held up."""

    errors: dict[str, list[Exception]] = field(default_factory=lambda: defaultdict(list))
    live: dict[ObjectRef, dict] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    changes_back: bool = False
    under_way: int = 0
    most_under_way: int = 0
    hold: asyncio.Event | None = None
    events: list[tuple[str, str]] = field(default_factory=list)
    serial: int = 100

    async def apply(self, manifest, **options):
        """Return what a server would that keeps the version and the fields' owner."""
        metadata = manifest["metadata"]
        ref = ObjectRef.of(manifest)
        self.sent.append(Sent("apply", ref, metadata.get("uid"), metadata.get("resourceVersion"), options))
        await self._busy(ref.name)
        self.serial += 1
        found = {**manifest, "metadata": {**metadata, "uid": f"u-{ref.name}", "resourceVersion": str(self.serial)}}
        data = {f"f:{key}": {} for key in manifest.get("data", {})}
        fields = {"f:data": {".": {}, **data}} if data and not self.changes_back else {}
        entry = {"manager": "chronik-operator", "operation": "Apply", "fieldsV1": fields}
        found["metadata"]["managedFields"] = [entry]
        return found

    async def merge(self, kind, ref, patch, **options):
        """Return what a server would that gives the object a new version."""
        assert kind.name == ref.kind
        self.sent.append(Sent("merge", ref, None, patch["metadata"]["resourceVersion"], options))
        self.serial += 1
        return {"metadata": {"resourceVersion": str(self.serial)}}

    async def delete(self, kind, ref, **options):
        """Forget the object."""
        assert kind.name == ref.kind
        self.sent.append(Sent("delete", ref, options.pop("uid"), options.pop("resource_version"), options))
        await self._busy(ref.name)
        if not options["dry_run"]:
            self.live.pop(ref, None)

    async def get(self, kind, namespace, name):
        """Return what is in `live`."""
        return self.live.get(ObjectRef(kind.name, namespace, name))

    async def _busy(self, name):
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.events.append(("start", name))
        if self.hold:
            await self.hold.wait()
        await asyncio.sleep(0)
        self.events.append(("end", name))
        self.under_way -= 1
        if self.errors[name]:
            raise self.errors[name].pop(0)


def ref_of(name, kind="ConfigMap"):
    return ObjectRef(kind, NS, name)


def create(name):
    return Create(ref=ref_of(name), manifest=config_map(NS, name, a="1"))


def change(name, cls=Apply, **about):
    about = {"changes": (), "uid": f"u-{name}", "resource_version": "7"} | about
    return cls(ref=ref_of(name), manifest=config_map(NS, name, a="1"), **about)


def prune(name):
    return Prune(ref=ref_of(name), uid=f"u-{name}", resource_version="7")


def stage(*steps, name="config", prunes=False):
    """Make a stage of actions, or tuples of them, each a step."""
    grouped = (step if isinstance(step, tuple) else (step,) for step in steps)
    return Stage(name, tuple(Step(actions[0].ref, actions) for actions in grouped), prunes)


def run(kube, *stages, **options):
    return execute(Plan(tuple(stages)), Execution(kube=kube, **options))


async def everything_sent():
    """Let the executor go on until it has to wait for an answer."""
    for _ in range(20):
        await asyncio.sleep(0)


def outcomes(report):
    return {result.ref.name: result.outcome for result in report.results}


# --- order and bounds -------------------------------------------------------------------------------------------------


async def test_stages_follow_each_other():
    """Nothing of a stage is sent before everything of the stage before it is through; results are in plan order."""
    kube = Recorder()
    report = await run(kube, stage(create("a"), create("b")), stage(create("c"), create("d")))

    first, second = kube.events[:4], kube.events[4:]
    assert {name for _, name in first} == {"a", "b"}
    assert {name for _, name in second} == {"c", "d"}
    assert [event for event, _ in first] == ["start", "start", "end", "end"]
    assert [result.ref.name for result in report.results] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("bound", [1, 3])
async def test_concurrency_is_bounded(bound):
    """So many objects are written at once, and never more."""
    kube = Recorder()
    await run(kube, stage(*(create(f"a{number}") for number in range(9))), concurrency=bound)

    assert kube.most_under_way == bound


async def test_actions_of_one_object_follow_each_other():
    """The actions of one step are sent one after the other, in their order."""
    kube = Recorder()
    hand = TransferOwnership(ref=ref_of("a"), manager="m", manifest=config_map(NS, "a"))
    await run(kube, stage((hand, change("a"))))

    assert [(sent.verb, sent.options.get("manager")) for sent in kube.sent] == [("apply", "m"), ("apply", None)]
    assert kube.most_under_way == 1


# --- conditions -------------------------------------------------------------------------------------------------------


async def test_create_can_not_take_over_what_is_there():
    """A Create is sent with a version that no object has, and unforced."""
    kube = Recorder()
    await run(kube, stage(create("a")))

    assert (kube.sent[0].uid, kube.sent[0].version) == (None, "1")
    assert not kube.sent[0].options.get("force")


async def test_apply_is_bound_to_the_object_and_force_to_its_version():
    """Every apply names the uid; a forced one the version, too, so that it takes no more than was planned."""
    kube = Recorder()
    await run(kube, stage(change("a"), change("b", force=True)))
    plain, forced = kube.sent

    assert (plain.uid, plain.version, plain.options["force"]) == ("u-a", None, False)
    assert (forced.uid, forced.version, forced.options["force"]) == ("u-b", "7", True)


async def test_a_step_expects_the_version_that_it_left():
    """After a hand-over, a forced apply of the same object is bound to the version that the hand-over made."""
    kube = Recorder()
    hand = TransferOwnership(ref=ref_of("a"), manager="m", manifest=config_map(NS, "a"))
    await run(kube, stage((hand, change("a", force=True))))

    assert kube.sent[1].version == "101"


async def test_deletion_is_bound_to_uid_and_version():
    """A prune deletes the object that was planned for, as it was then, in the background."""
    kube = Recorder()
    await run(kube, stage(prune("a"), prunes=True))

    (sent,) = kube.sent
    assert (sent.verb, sent.uid, sent.version) == ("delete", "u-a", "7")
    assert sent.options == {"dry_run": False}


async def test_claim_grows_by_one_field():
    """A claim is applied its size, and nothing else, on its version."""
    kube = Recorder()
    grow = GrowClaim(
        ref=ref_of("data", "PersistentVolumeClaim"), storage="2Gi", was="1Gi", uid="u", resource_version="3"
    )
    report = await run(kube, stage(grow))

    assert (kube.sent[0].uid, kube.sent[0].version, kube.sent[0].options["force"]) == ("u", "3", True)
    assert report.results[0].answer["spec"] == {"resources": {"requests": {"storage": "2Gi"}}}


async def test_recreation_waits_until_the_old_one_is_gone():
    """The new object is applied once the old one is gone, and only if nobody else was faster."""
    kube = Recorder()
    again = change("a", Recreate, propagation="Orphan")
    kube.live[again.ref] = {"metadata": {"uid": "u-a"}}
    report = await run(kube, stage(again))

    assert [(sent.verb, sent.version) for sent in kube.sent] == [("delete", "7"), ("apply", "1")]
    assert kube.sent[0].options["propagation"] == "Orphan"
    assert outcomes(report) == {"a": "recreated"}


async def test_recreation_gives_up_on_what_does_not_go(monkeypatch):
    """What is held by a finalizer is reported, with the finalizer, and nothing is created over it."""
    monkeypatch.setattr(executor, "_GONE_WITHIN", 0.05)
    kube = Recorder()
    again = change("a", Recreate, propagation="Orphan")
    kube.live[again.ref] = {"metadata": {"uid": "u-a", "finalizers": ["x/hold"]}}
    kube.delete = lambda *_, **__: asyncio.sleep(0)
    report = await run(kube, stage(again))

    assert outcomes(report) == {"a": "failed"}
    assert report.results[0].error.hint == "It waits for x/hold."
    assert kube.sent == []


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_failure_stops_its_own_step_only():
    """The rest of a step that failed is not tried; all other objects are, in later stages, too."""
    kube = Recorder()
    kube.errors["b"] = [Forbidden("no")]
    hand = TransferOwnership(ref=ref_of("b"), manager="m", manifest=config_map(NS, "b"))
    report = await run(kube, stage(create("a"), (hand, change("b"))), stage(create("c")))

    assert [result.outcome for result in report.results] == ["created", "failed", "not-tried", "created"]
    assert report.results[2].why == "because of ConfigMap/n/b"
    assert type(report.error()).__name__ == "PartialFailure"


@pytest.mark.parametrize(
    "trouble",
    [
        create("bad"),
        Conflict(ref=ref_of("bad"), owners=(), changes=()),
        Foreign(ref=ref_of("bad")),
        Wait(ref=ref_of("bad")),
    ],
    ids=lambda action: type(action).__name__,
)
async def test_nothing_is_pruned_after_trouble(trouble):
    """Whatever went wrong before, be it a failure or an obstacle, keeps objects from being deleted."""
    kube = Recorder()
    kube.errors["bad"] = [Forbidden("no")]
    report = await run(kube, stage(trouble), stage(prune("old"), prunes=True))

    assert outcomes(report)["old"] == "not-tried"
    assert report.untried[0].why == "because of ConfigMap/n/bad"
    assert all(sent.verb != "delete" for sent in kube.sent)


@pytest.mark.parametrize("error", [Unreachable, UntrustedServer, Unauthorized])
async def test_nothing_more_is_sent_to_a_server_that_is_lost(error):
    """If the server itself does not answer, or does not let us in, the rest is not tried: it would take minutes."""
    kube = Recorder()
    kube.errors["b"] = [error("no", subject="https://x")]
    report = await run(kube, stage(create("a")), stage(create("b")), stage(create("c")), concurrency=1)

    assert outcomes(report) == {"a": "created", "b": "failed", "c": "not-tried"}
    assert report.untried[0].why == "because of https://x"
    assert not report.interrupted


async def test_trouble_while_pruning_ends_pruning():
    """If a deletion fails, later stages delete nothing."""
    kube = Recorder()
    kube.errors["a"] = [Forbidden("no")]
    report = await run(kube, stage(prune("a"), prunes=True), stage(prune("b"), prunes=True))

    assert outcomes(report) == {"a": "failed", "b": "not-tried"}


async def test_what_is_left_alone_is_no_trouble():
    """Objects that are skipped, kept or held do not keep others from being pruned."""
    kube = Recorder()
    held = Deferred(ref=ref_of("h"), code="StorageShrink", hint="")
    skips = [Skip(ref=ref_of(why), why=why) for why in ("unchanged", "settled", "orphaned", "kept")]
    report = await run(kube, stage(held, *skips), stage(prune("old"), prunes=True))

    assert outcomes(report)["old"] == "pruned"
    assert report.ok


async def test_a_kind_that_went_meanwhile_is_no_trouble():
    """If an optional kind is uninstalled after it was looked for, its object is left out, and pruning goes on."""
    kube, name = Recorder(), "monitor"
    kube.errors[name] = [KindMissing("none")]
    manifest = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": name}}
    monitor = Create(ref=ObjectRef("PodMonitor", "ns", name), manifest=manifest)
    report = await run(kube, stage(monitor), stage(prune("old"), prunes=True))

    assert outcomes(report) == {name: "not-installed", "old": "pruned"}
    assert report.ok
    assert report.results[0].action.kind == KindName.of(manifest)


async def test_a_kind_that_every_server_has_is_an_error_if_it_is_missing():
    """A server that does not know a kind of Kubernetes itself is in trouble, and that is reported."""
    kube = Recorder()
    kube.errors["a"] = [KindMissing("none")]

    assert outcomes(await run(kube, stage(create("a")))) == {"a": "failed"}


async def test_stop_ends_what_is_under_way_and_sends_nothing_new():
    """Once asked to stop, requests on the wire are waited for, and everything else is reported as not tried."""
    kube, stop = Recorder(hold=asyncio.Event()), asyncio.Event()
    running = asyncio.create_task(
        run(kube, stage(*(create(f"a{n}") for n in range(4))), stage(create("later")), concurrency=2, stop=stop)
    )
    await everything_sent()
    stop.set()
    kube.hold.set()
    report = await running

    assert report.interrupted
    assert [result.outcome for result in report.results] == ["created"] * 2 + ["not-tried"] * 3
    assert {result.why for result in report.untried} == {"interrupted"}
    assert len(kube.sent) == 2


async def test_stop_that_comes_too_late_interrupts_nothing():
    """A report is only called interrupted if something was left out."""
    kube, stop = Recorder(hold=asyncio.Event()), asyncio.Event()
    running = asyncio.create_task(run(kube, stage(create("a")), stop=stop))
    await everything_sent()
    stop.set()
    kube.hold.set()

    assert not (await running).interrupted


# --- dry runs and reports ---------------------------------------------------------------------------------------------


async def test_dry_run_marks_every_request():
    """With a dry run nothing is sent that would be kept, and a recreation does not go on to create."""
    kube = Recorder()
    again = change("r", Recreate, propagation="Orphan")
    hand = TransferOwnership(ref=ref_of("h"), manager="m", manifest=config_map(NS, "h"))
    stages = (stage(create("c"), change("a"), hand, again), stage(prune("p"), prunes=True))
    report = await run(kube, *stages, dry_run=True)

    assert len(kube.sent) == 5
    assert all(sent.options["dry_run"] for sent in kube.sent)
    assert set(outcomes(report).values()) == {"created", "changed", "handed-over", "recreated", "pruned"}
    assert not report.flapping


@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_is_in_the_way_goes_first(dry_run):
    """A patch makes room, and the apply is bound to what it left; a dry run keeps none, so it leaves the ports out."""
    kube = Recorder()
    ports = {"spec": {"ports": [{"port": 1}], "type": "ClusterIP"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": NS}} | ports
    about = {"manifest": service, "changes": (), "uid": "u-s", "resource_version": "7", "force": True}
    report = await run(kube, stage(Apply(ref=ref_of("s", "Service"), clearing=ports, **about)), dry_run=dry_run)
    merge, apply = kube.sent

    assert (merge.verb, merge.version, merge.options) == ("merge", "7", {"dry_run": dry_run})
    assert apply.version == ("7" if dry_run else "101")
    assert report.results[0].answer["spec"] == ({"type": "ClusterIP"} if dry_run else ports["spec"])


async def test_difference_that_stays_is_remembered():
    """If an object differs right after its apply, the report has what the next plan needs to leave it alone."""
    kube = Recorder(changes_back=True)
    report = await run(kube, stage(create("a")))

    ((uid, manifest, _),) = report.flapping
    assert (uid, manifest) == ("u-a", manifest_digest(config_map(NS, "a", a="1")))
    assert not (await run(Recorder(), stage(create("a")))).flapping


async def test_listeners_hear_of_everything():
    """`on_start` hears of what is sent, `on_result` of every action."""
    started, ended = [], []
    kube = Recorder()
    skip = Skip(ref=ref_of("s"))
    report = await run(kube, stage(skip, create("a")), on_start=started.append, on_result=ended.append)

    assert [action.ref.name for action in started] == ["a"]
    assert sorted(result.ref.name for result in ended) == ["a", "s"]
    assert sorted(ended, key=lambda result: result.ref) == sorted(report.results, key=lambda result: result.ref)


async def test_foretold_is_what_comes():
    """What is foretold of a plan is what carrying it out reports, if nothing goes wrong."""
    skip = Skip(ref=ref_of("s"), why="kept")
    theirs = Foreign(ref=ref_of("t"))
    for trouble in ((), (theirs,)):
        todo = Plan((stage(create("a"), change("b"), skip, *trouble), stage(prune("c"), prunes=True)))
        report = await execute(todo, Execution(kube=Recorder()))

        assert outcomes(simulate(todo)) == outcomes(report)
        assert [result.why for result in simulate(todo).results] == [result.why for result in report.results]


# --- rounds -----------------------------------------------------------------------------------------------------------

SPEC = {
    "controllers": 1,
    "ingestNodes": 1,
    "storage": {"backend": "local"},
    "metastore": {
        "database": "postgres",
        "connection": {"host": "pg", "database": "d", "credentialsSecret": "s"},
    },
}


def rendered(namespace, **spec):
    """Return a small cluster and its manifests."""
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": namespace},
        "spec": {**SPEC, **spec},
    }
    cluster = offline.validator().validate(document).cluster
    return cluster, offline.renderer()(cluster)


async def converged(server, namespace, meanwhile=lambda _: None, **spec):
    """Observe, let something happen, apply; return the report and how often each object was written."""
    cluster, manifests = rendered(namespace, **spec)
    async with connect(options_for(server)) as kube:
        found = await observe(kube, cluster, manifests)
        meanwhile(manifests)
        context = PlanContext(cluster="c", namespace=namespace, claims=found.claims)
        return await converge(manifests, found.objects, context, Execution(kube=kube))


def url(namespace, plural="serviceaccounts", name="c-ingest"):
    return f"/api/v1/namespaces/{namespace}/{plural}/{name}"


async def test_what_was_created_meanwhile_is_found_and_left_alone(server, namespace):
    """An object of somebody else that appears after the reading is named, left alone, and stops nobody else."""
    metadata = {"name": "c-ingest", "annotations": {"x": "y"}}
    theirs = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    report = await converged(
        server, namespace, lambda _: server.call("PATCH", url(namespace), theirs, fieldManager="them")
    )
    results = {str(result.ref): result.outcome for result in report.results}

    assert results.pop(f"ServiceAccount/{namespace}/c-ingest") == "foreign"
    assert set(results.values()) == {"created"}
    assert server.call("GET", url(namespace)).body["metadata"]["annotations"] == {"x": "y"}


async def test_what_chronik_created_meanwhile_is_no_failure(server, namespace):
    """If another apply was faster with one object, the report says so and everything ends well."""

    def other(manifests):
        mine = next(
            each for each in manifests if ObjectRef.of(each) == ObjectRef("ServiceAccount", namespace, "c-ingest")
        )
        server.call("PATCH", url(namespace), mine, fieldManager="chronik-operator")

    report = await converged(server, namespace, other)

    assert report.ok
    assert len({result.ref for result in report.results}) == len(report.results)


async def test_what_was_replaced_meanwhile_is_planned_again(server, namespace):
    """An object that was deleted and created anew since it was read is read again, and then changed."""
    await converged(server, namespace)

    def replace(manifests):
        mine = next(
            each for each in manifests if ObjectRef.of(each) == ObjectRef("Service", namespace, "c-ingest-client")
        )
        older = merged(mine, {"metadata": {"labels": {"old": "1"}}})
        server.call("DELETE", client)
        server.call("PATCH", client, older, fieldManager="chronik-operator")

    client = url(namespace, "services", "c-ingest-client")
    report = await converged(server, namespace, replace, network={"serviceType": "NodePort"})
    live = server.call("GET", client).body

    assert report.ok
    assert (live["spec"]["type"], "old" in live["metadata"]["labels"]) == ("NodePort", False)


async def test_rounds_end():
    """An object that changes under every attempt is reported after four of them."""
    kube = Recorder()
    kube.errors["a"] = [ObjectChanged("it changed in the meantime") for _ in range(9)]
    manifest = config_map(NS, "a", x="1")
    manifest["metadata"]["labels"] = {CLUSTER_LABEL: "c", **MANAGED_BY}
    report = await converge([manifest], {}, PlanContext(cluster="c", namespace=NS), Execution(kube=kube))

    assert outcomes(report) == {"a": "failed"}
    assert len(kube.sent) == 4


async def test_create_that_conflicts_is_planned_again():
    """A conflict where nothing should be says that something is: it is read, and planned for."""
    kube = Recorder()
    kube.errors["a"] = [FieldConflict("theirs")]
    manifest = config_map(NS, "a", x="1")
    theirs = config_map(NS, "a")
    theirs["metadata"] |= {"uid": "u", "resourceVersion": "5", "managedFields": []}
    kube.live[ref_of("a")] = theirs
    report = await converge([manifest], {}, PlanContext(cluster="c", namespace=NS), Execution(kube=kube))

    assert outcomes(report) == {"a": "foreign"}
    assert len(kube.sent) == 1


@pytest.mark.parametrize("error", [Forbidden("no"), Unreachable("gone"), InvalidObject("bad")])
async def test_other_failures_are_not_tried_again(error):
    """Only what changed in the meantime is planned again."""
    kube = Recorder()
    kube.errors["a"] = [error]
    manifest = config_map(NS, "a", x="1")
    report = await converge([manifest], {}, PlanContext(cluster="c", namespace=NS), Execution(kube=kube))

    assert report.failed[0].error is error
    assert len(kube.sent) == 1
