"""Waiting: what counts as ready and as failed, and that watches alone, however they break, tell the right end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.clock import FakeClock
from support.kube_clients import config_map, options_for

from chronik.apply.wait import cluster_selector, wait_gone, wait_ready
from chronik.errors import Forbidden, KindMissing, Unreachable, WatchExpired
from chronik.kube import Listing, WatchEvent, connect
from chronik.kube.informer import informer
from chronik.kube.reflector import KindSelector
from chronik.manifest import CLUSTER_LABEL, COMPONENT_LABEL, KIND_BY_NAME, POD, ClusterKey, Manifest, ObjectRef
from chronik.offline import loading as offline
from chronik.status.health import Health, State
from chronik.status.readiness import Readiness, Unready, WaitState, takes_time

if TYPE_CHECKING:
    from chronik.api.spec import Cluster

EXAMPLE = Path(__file__).parents[2] / "examples" / "standard.yaml"
KEY = ClusterKey("ns", "c")
OTHER = ClusterKey("ns", "d")
GRACE = 20.0
CONFIG_MAP, STATEFUL_SET = KIND_BY_NAME["ConfigMap"], KIND_BY_NAME["StatefulSet"]


def workload(ready: int, wanted: int = 1, cluster: str = "c", component: str = "ingest") -> Manifest:
    """Return a StatefulSet that has rolled out, of whose pods some are ready."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": f"{cluster}-{component}",
            "namespace": "ns",
            "labels": {CLUSTER_LABEL: cluster, COMPONENT_LABEL: component},
        },
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready},
    }


def broken(cluster: str = "c", reason: str = "ErrImagePull", component: str = "ingest") -> Manifest:
    """Return a pod of that workload that cannot run."""
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"{cluster}-{component}-0",
            "namespace": "ns",
            "labels": {CLUSTER_LABEL: cluster, COMPONENT_LABEL: component},
        },
        "status": {"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]},
    }


def seen(*manifests: Manifest) -> dict[ObjectRef, Manifest]:
    """Return objects as a mirror holds them."""
    return {ObjectRef.of(manifest): manifest for manifest in manifests}


def readiness(*desired: Manifest, grace: float = GRACE) -> Readiness:
    """Return the readiness of the cluster `c`."""
    return Readiness({KEY: desired}, grace)


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifest", "waited_for"),
    [
        ({"kind": "StatefulSet"}, True),
        ({"kind": "Deployment"}, True),
        ({"kind": "PodDisruptionBudget"}, True),
        ({"kind": "Service", "spec": {"type": "LoadBalancer"}}, True),
        ({"kind": "Service", "spec": {"type": "NodePort"}}, False),
        ({"kind": "Service", "spec": {}}, False),
        ({"kind": "ConfigMap"}, False),
        ({"kind": "Gadget"}, True),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_what_is_waited_for(manifest, waited_for):
    """Only what becomes ready some time after its apply is waited for; of kinds of others their conditions tell."""
    assert takes_time({"metadata": {"labels": {COMPONENT_LABEL: "ingest"}}, **manifest}) == waited_for


def test_ready():
    """What is ready leaves nothing to wait for."""
    state = readiness(workload(1)).look(seen(workload(1)), now=0)

    assert state == WaitState(1, 1, ())
    assert state.done


def test_nothing_there():
    """An object that does not exist is waited for, under its name."""
    state = readiness(workload(1)).look({}, now=0)

    ref = ObjectRef("StatefulSet", "ns", "c-ingest")
    assert state.unready == (Unready(ref, Health(State.IN_PROGRESS, "does not exist")),)


def test_pods_speak_for_their_workload():
    """A workload's trouble is told in the words of its own pods, and of no other cluster's."""
    wait = readiness(workload(0))

    (mine,) = wait.look(seen(workload(0), broken()), now=0).unready
    (none,) = readiness(workload(0)).look(seen(workload(0), broken("d")), now=0).unready

    assert mine.health.message == "c-ingest-0: ErrImagePull"
    assert none.health.message == "0 of 1 pods ready"


@pytest.mark.parametrize(
    ("moments", "failed"),
    [
        ([(0, True)], False),
        ([(0, True), (19.9, True)], False),
        ([(0, True), (20, True)], True),
        ([(0, True), (5, False), (20, False)], False),
        ([(0, True), (5, False), (10, True), (20, True)], True),
        ([(0, True), (5, False), (26, True), (40, True)], False),
        ([(0, True), (5, False), (26, True), (46, True)], True),
        ([(0, True), (60, True)], True),
    ],
    ids=["at once", "almost", "lasting", "recovered", "crash loop", "new trouble", "new and lasting", "nobody looked"],
)
def test_a_failure_has_to_last(moments, failed):
    """A failure counts once it has lasted its grace; short recoveries, as between two crashes, do not make good."""
    wait = readiness(workload(0))

    states = [wait.look(seen(workload(0), *([broken()] if bad else [])), now) for now, bad in moments]

    assert [state.unready[0].failed for state in states] == [False] * (len(moments) - 1) + [failed]


def test_a_recovery_forgets():
    """What was ready in between starts its grace anew."""
    wait = readiness(workload(0))
    for now, objects in ((0, seen(workload(0), broken())), (10, seen(workload(1)))):
        wait.look(objects, now)

    (after,) = wait.look(seen(workload(0), broken()), now=20).unready

    assert not after.failed


def test_last_trouble_is_remembered():
    """Between two crashes, when its pod has nothing to say, a workload still tells what the matter was."""
    wait = readiness(workload(0))
    wait.look(seen(workload(0), broken(reason="CrashLoopBackOff")), now=0)

    (after,) = wait.look(seen(workload(0)), now=1).unready

    assert after.health == Health(State.IN_PROGRESS, "0 of 1 pods ready; last trouble: c-ingest-0: CrashLoopBackOff")


def test_one_hopeless_cluster_does_not_end_the_wait_for_others():
    """Waiting ends early only when no cluster that is not ready can still become so."""
    wait = Readiness({KEY: [workload(1)], OTHER: [workload(1, cluster="d")]}, GRACE)
    going, bad = workload(0, cluster="d"), seen(workload(0), broken())
    wait.look({**bad, **seen(going)}, now=0)

    assert not wait.is_hopeless(wait.look({**bad, **seen(going)}, now=30))
    assert wait.is_hopeless(wait.look({**bad, **seen(workload(1, cluster="d"))}, now=31))


def test_one_hopeless_object_is_enough():
    """A cluster with an object that has failed cannot become ready, whatever its other objects do."""
    search = workload(0, component="search")
    wait = readiness(workload(1), search)
    objects = seen(workload(0), broken(), search)
    wait.look(objects, now=0)

    assert wait.is_hopeless(wait.look(objects, now=20))


def test_what_fails_in_the_end_has_failed():
    """When one object's failure ends the wait, one that fails for less long has failed, too; a slow one has not."""
    search, slow = workload(0, component="search"), workload(0, component="controller")
    wait = readiness(workload(1), search, slow)
    objects = seen(workload(0), broken(), search, slow)
    wait.look(objects, now=0)
    state = wait.look({**objects, **seen(broken(component="search"))}, now=20)

    assert [(each.ref.name, each.failed) for each in wait.concluded(state)] == [
        ("c-ingest", True),
        ("c-search", True),
        ("c-controller", False),
    ]


def test_next_verdict():
    """The next moment to look again, if nothing changes, is when a failure has lasted long enough."""
    wait = readiness(workload(0))
    assert wait.next_verdict(0) == float("inf")

    wait.look(seen(workload(0), broken()), now=100)

    assert wait.next_verdict(105) == 15


# --- watches ----------------------------------------------------------------------------------------------------------


class Script:
    """A `Kube` that answers lists and watches one after the other from a script, and then for ever the last way.

    A list is an exception or the manifests found; a watch is what comes: events, and maybe an exception in the end. A
    watch beyond the script stays open and silent.
    """

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []

    async def list(self, kind: Any, namespace: Any, *, label_selector: str = "", **_: Any) -> Listing:
        """Answer the next list."""
        answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        self.asked.append(f"list {kind.plural} {namespace} {label_selector}".rstrip())
        if isinstance(answer, Exception):
            raise answer
        return Listing(answer, "10")

    async def watch(
        self, kind: Any, namespace: Any, *, resource_version: str, label_selector: str = "", **_: Any
    ) -> Any:
        """Play the next watch."""
        self.asked.append(f"watch {kind.plural} {namespace} {label_selector} from {resource_version}")
        if not self.watches:
            await asyncio.Event().wait()
        for each in self.watches.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


def event(kind: str, name: str, version: int, value: str = "") -> WatchEvent:
    """Return one event about a ConfigMap."""
    manifest = config_map("ns", name, value=value)
    manifest["metadata"]["resourceVersion"] = str(version)
    return WatchEvent(kind, manifest)  # type: ignore[arg-type]  # a literal, said by the caller


ALL = [KindSelector(CONFIG_MAP, "ns", "a=b")]


async def until(happened: Any) -> None:
    """Let everybody run until something has happened, or fail."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)


async def names_after(kube: Script) -> list[str]:
    """Return which objects a mirror holds after its first change, once everything has run that can."""
    async with informer(kube, ALL, FakeClock(frozen=True).clock) as live:  # type: ignore[arg-type]  # as much of a Kube as is asked for
        async with asyncio.timeout(5):
            await live.change(1e9)
        for _ in range(20):
            await asyncio.sleep(0)
        return [manifest["metadata"]["name"] for manifest in live.of(CONFIG_MAP)]


async def test_a_mirror_follows():
    """What a list found is brought up to date by what a watch tells; bookmarks change nothing."""
    events = [event("ADDED", "b", 11), event("BOOKMARK", "", 12), event("DELETED", "a", 13), event("ADDED", "c", 14)]
    kube = Script([[config_map("ns", "a")]], [events])

    assert await names_after(kube) == ["b", "c"]
    assert kube.asked[:2] == ["list configmaps ns a=b", "watch configmaps ns a=b from 10"]


async def test_a_broken_watch_goes_on_where_it_was():
    """A watch that breaks, or that the server ends, is taken up after the last event, without reading all again."""
    clock = FakeClock()
    kube = Script([[]], [[event("ADDED", "a", 11), Unreachable("gone")], [event("BOOKMARK", "", 15)], []])

    async with informer(kube, ALL, clock.clock) as live:
        await live.change(1)
        await until(lambda: len(kube.asked) >= 5)
        assert len(live.of(CONFIG_MAP)) == 1

    assert [asked.partition("from ")[2] for asked in kube.asked] == ["", "10", "11", "15", "15"]
    assert all(pause > 0 for pause in clock.slept)


async def test_pauses_grow():
    """A server that stays away is asked less and less often."""
    clock = FakeClock()
    kube = Script([[]], [[Unreachable("gone")] for _ in range(8)])

    async with informer(kube, ALL, clock.clock) as live:
        await live.change(0)
        await until(lambda: not kube.watches)

    pauses = [pause for pause in clock.slept if pause]  # the wait itself was for no time at all
    assert 0.25 <= pauses[0] <= 0.5
    assert pauses[5] > 4 * pauses[0]
    assert max(pauses) <= 10


async def test_an_expired_watch_reads_again():
    """After a 410 everything is read anew: what went in the meantime is gone from the mirror."""
    kube = Script([[config_map("ns", "a")], [config_map("ns", "b")]], [[WatchExpired("too old")]])

    assert await names_after(kube) == ["b"]
    assert [asked.partition(" ")[0] for asked in kube.asked] == ["list", "watch", "list", "watch"]


async def test_who_has_seen_enough_watches_nothing():
    """Watches are opened by whoever waits for a change, and by nobody else."""
    kube = Script([[config_map("ns", "a")]], [])

    async with informer(kube, ALL) as live:
        assert len(live.of(CONFIG_MAP)) == 1
        await asyncio.sleep(0)

    assert kube.asked == ["list configmaps ns a=b"]


@pytest.mark.parametrize("refusal", [Forbidden("no"), KindMissing("none")], ids=type)
async def test_what_may_not_be_read(refusal):
    """A scope that may not be read is an error, unless the picture is true without it."""
    with pytest.raises(type(refusal)):
        async with informer(Script([refusal], []), ALL):
            pass

    async with informer(Script([refusal], []), [replace(ALL[0], optional=True)]) as live:
        assert live.of(CONFIG_MAP) == []


@pytest.mark.parametrize("refusal", [Forbidden("no"), KindMissing("none")], ids=type)
async def test_what_could_not_be_read_is_asked_for_again(refusal):
    """What may be read later than the rest, or is installed later, comes in after some minutes."""
    clock = FakeClock()
    kube = Script([refusal, [config_map("ns", "a")]], [])

    async with informer(kube, [replace(ALL[0], optional=True)], clock.clock) as live:
        assert live.unknown == ({CONFIG_MAP} if isinstance(refusal, KindMissing) else set())
        async with asyncio.timeout(5):
            while not live.of(CONFIG_MAP):
                await live.change(10)
        assert live.unknown == set()
    assert clock.time > 60


async def test_what_may_be_listed_and_not_watched():
    """What is optional, may be listed and may not be watched, is listed again and again, ever less often."""
    clock = FakeClock()
    kube = Script([[config_map("ns", "a")]], [[Forbidden("list only")] for _ in range(8)])

    async with informer(kube, [replace(ALL[0], optional=True)], clock.clock) as live:
        await live.change(0)
        await until(lambda: not kube.watches)
        assert len(live.of(CONFIG_MAP)) == 1

    pauses = [pause for pause in clock.slept if pause]
    assert len([asked for asked in kube.asked if asked.startswith("list")]) >= 8
    assert pauses[5] > 4 * pauses[0]


async def test_rights_that_are_lost_underway():
    """Losing the right to watch is told to whoever waits for a change, who would wait for ever otherwise."""
    kube = Script([[]], [[Forbidden("no more")]])

    async with informer(kube, ALL, FakeClock(frozen=True).clock) as live:
        with pytest.raises(Forbidden):
            await asyncio.wait_for(live.change(1e9), 5)


# --- wait_ready and wait_gone -----------------------------------------------------------------------------------------


def cluster(name: str = "c", namespace: str = "ns") -> Cluster:
    """Return a cluster of that name."""
    return replace(_standard(), name=name, namespace=namespace)


@cache
def _standard() -> Cluster:
    return offline.load_clusters([str(EXAMPLE)])[0][0]


class Scene:
    """A `Kube` that shows workloads and pods as the test sets them, at times of a clock that the test moves."""

    def __init__(self, *manifests: Manifest) -> None:
        self.manifests = seen(*manifests)
        self.time = FakeClock(frozen=True)
        self.states: list[WaitState] = []
        self._changes: dict[str, asyncio.Queue[WatchEvent]] = {}

    async def list(self, kind: Any, _: Any, **options: Any) -> Listing:
        """Return the objects of a kind."""
        del options
        return Listing([each for each in self.manifests.values() if each["kind"] == kind.name], "1")

    async def watch(self, kind: Any, _: Any, **options: Any) -> Any:
        """Yield what the test changes."""
        del options
        queue = self._changes.setdefault(kind.name, asyncio.Queue())
        while True:
            yield await queue.get()

    async def change(self, kind: str, manifest: Manifest) -> None:
        """Tell whoever watches."""
        manifest["metadata"]["resourceVersion"] = "2"
        await self._changes.setdefault(manifest["kind"], asyncio.Queue()).put(WatchEvent(kind, manifest))  # type: ignore[arg-type]  # a literal, said by the caller
        await self.rest()

    async def pass_time(self, seconds: float) -> None:
        """Move the time on, and let everybody react."""
        await self.time.advance(seconds)
        await self.rest()

    async def rest(self) -> None:
        """Let everything run that can."""
        for _ in range(50):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def waiting(self, *desired: Manifest, timeout: float = 300) -> Any:  # noqa: ASYNC109  # what is tested
        """Wait for the cluster `c` while the block runs."""
        work = wait_ready(
            self,  # type: ignore[arg-type]  # as much of a Kube as is asked for
            [cluster()],
            {KEY: desired},
            timeout=timeout,
            grace=GRACE,
            on_change=self.states.append,
            clock=self.time.clock,
        )
        task = asyncio.create_task(work)
        await self.rest()
        yield task
        if not task.done():
            task.cancel()


async def test_ready_from_the_start():
    """What is ready already is not waited for."""
    scene = Scene(workload(1))

    async with scene.waiting(workload(1)) as task:
        assert task.result() == []
    assert scene.states == [WaitState(1, 1, ())]


async def test_becomes_ready():
    """The wait ends with the event that makes everything ready, and tells of every step to it once."""
    scene = Scene()
    async with scene.waiting(workload(1)) as task:
        await scene.change("ADDED", workload(0))
        await scene.change("MODIFIED", workload(0))
        assert not task.done()
        await scene.change("MODIFIED", workload(1))

        assert task.result() == []
    messages = [[each.health.message for each in state.unready] for state in scene.states]
    assert messages == [["does not exist"], ["0 of 1 pods ready"], []]


async def test_fails_early():
    """A pod that cannot run ends the wait when its grace is over, long before the timeout, in its own words."""
    scene = Scene(workload(0), broken())
    async with scene.waiting(workload(1)) as task:
        await scene.pass_time(GRACE - 0.5)
        assert not task.done()
        await scene.pass_time(0.5)

        (unready,) = task.result()
    assert unready.failed
    assert unready.health.message == "c-ingest-0: ErrImagePull"


async def test_trouble_that_clears_up():
    """A pod that is unschedulable for a while, and runs then, is no failure."""
    scene = Scene(workload(0), broken())
    async with scene.waiting(workload(1)) as task:
        await scene.pass_time(GRACE - 1)
        await scene.change("DELETED", broken())
        await scene.pass_time(GRACE)
        assert not task.done()
        await scene.change("MODIFIED", workload(1))

        assert task.result() == []


async def test_times_out():
    """At the end of the time every object that is not ready has its last reason, and none is called failed."""
    scene = Scene(workload(0))
    async with scene.waiting(workload(1), workload(1, component="search"), timeout=30) as task:
        await scene.pass_time(29)
        assert not task.done()
        await scene.pass_time(1)

        unready = task.result()
    assert [(each.ref.name, each.health.message, each.failed) for each in unready] == [
        ("c-ingest", "0 of 1 pods ready", False),
        ("c-search", "does not exist", False),
    ]


async def test_a_reader_without_rights_to_pods():
    """Who may not see pods still learns what is ready, though not why something is not."""
    scene = Scene(workload(0))
    readable = scene.list

    async def guarded(kind: Any, *rest: Any, **options: Any) -> Listing:
        if kind is POD:
            raise Forbidden("pods is forbidden")
        return await readable(kind, *rest, **options)

    scene.list = guarded
    async with scene.waiting(workload(1), timeout=1) as task:
        await scene.pass_time(1)

        assert [each.health.message for each in task.result()] == ["0 of 1 pods ready"]


@pytest.mark.parametrize(
    ("names", "selector"),
    [
        (["a"], f"{CLUSTER_LABEL}=a"),
        (["b", "a"], f"{CLUSTER_LABEL} in (a,b)"),
        ([], CLUSTER_LABEL),
        ([f"c{number}" for number in range(100)], CLUSTER_LABEL),
    ],
    ids=["one", "two", "none", "many"],
)
def test_selectors(names, selector):
    """A few clusters are selected by name; of many, all that bear the label are read."""
    assert cluster_selector(names) == selector


async def test_only_what_is_needed_is_watched():
    """One list and one watch for each kind that is waited for, and nothing else."""
    asked: list[str] = []
    scene = Scene(workload(1))
    readable = scene.list

    async def noted(kind: Any, namespace: Any, *, label_selector: str = "", **options: Any) -> Listing:
        asked.append(f"{kind.plural} in {namespace} by {label_selector}")
        return await readable(kind, namespace, label_selector=label_selector, **options)

    scene.list = noted
    async with scene.waiting(workload(1), config_map("ns")) as task:
        assert task.result() == []
    assert asked == [f"statefulsets in ns by {CLUSTER_LABEL}=c", f"pods in ns by {CLUSTER_LABEL}=c"]


# --- on both servers --------------------------------------------------------------------------------------------------


@pytest.fixture
async def kube(server):
    """Give admin's access to the server, on the machine's own clock."""
    async with connect(replace(options_for(server), clock=replace(FakeClock().clock, sleep=asyncio.sleep))) as access:
        yield access


def path(namespace: str, manifest: Manifest, subresource: str = "") -> str:
    """Return the path of an object."""
    kind = KIND_BY_NAME[manifest["kind"]]
    root = "apis" if "/" in kind.api_version else "api"
    name = manifest["metadata"]["name"]
    return f"/{root}/{kind.api_version}/namespaces/{namespace}/{kind.plural}/{name}{subresource}"


def finish(server, namespace: str, manifest: Manifest) -> None:
    """Do what controllers do: say that an object is as it should be."""
    count = manifest["spec"].get("replicas", 0)
    status = {"observedGeneration": 1}
    if manifest["kind"] != "PodDisruptionBudget":
        ready = {"replicas": count, "readyReplicas": count, "updatedReplicas": count, "availableReplicas": count}
        status |= ready
    else:
        status |= {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}
    answer = server.call("PATCH", path(namespace, manifest, "/status"), {"status": status}, patch="merge")
    assert answer.code == 200, answer.body


async def test_wait_on_a_server(kube, server, namespace):
    """A cluster on a real server is waited for until the last controller has said that it is as it should be."""
    mine = cluster("c", namespace)
    desired = offline.renderer()(mine)
    for manifest in desired:
        await kube.apply(manifest)
    waited_for = [manifest for manifest in desired if takes_time(manifest)]
    states: list[WaitState] = []
    task = asyncio.create_task(
        wait_ready(kube, [mine], {ClusterKey(namespace, "c"): desired}, timeout=30, on_change=states.append)
    )
    for manifest in waited_for:
        assert not task.done()
        await asyncio.to_thread(finish, server, namespace, manifest)

    assert await task == []
    assert (states[-1].ready, states[-1].total) == (len(waited_for), 6)
    reads = {request.verb for request in server.requests_of(namespace) if request.user_agent != "suite"}
    assert reads == {"patch", "list", "watch"}


async def test_wait_until_gone(kube, namespace):
    """What is deleted is waited for until it is gone; one of the same name that comes after is another object."""
    first = await kube.apply(config_map(namespace, "a"))
    await kube.apply(config_map(namespace, "b"))
    scopes = [KindSelector(CONFIG_MAP, namespace)]
    ref, uid = ObjectRef.of(first), first["metadata"]["uid"]
    task = asyncio.create_task(wait_gone(kube, scopes, {uid}, timeout=30))
    await asyncio.sleep(0.05)
    assert not task.done()

    await kube.delete(CONFIG_MAP, ref)
    await kube.apply(config_map(namespace, "a"))

    assert await task == []


async def test_what_is_not_gone_in_time(kube, namespace):
    """What a finalizer holds is still there in the end, and is told with the finalizer's name."""
    held = config_map(namespace, "a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    live = await kube.apply(held)
    await kube.delete(CONFIG_MAP, ObjectRef.of(live))

    (left,) = await wait_gone(kube, [KindSelector(CONFIG_MAP, namespace)], {live["metadata"]["uid"]}, timeout=0.1)

    assert left.health == Health(State.TERMINATING, "is being deleted; finalizer example.com/hold holds it")


async def test_a_watch_that_the_server_forgot(kube, server, namespace):
    """A cluster that becomes ready while the stand-in forgets its past is seen all the same."""
    if not hasattr(server, "compact"):
        pytest.skip("a real server compacts every five minutes only")
    mine = cluster("c", namespace)
    desired = [manifest for manifest in offline.renderer()(mine) if manifest["kind"] == "StatefulSet"]
    for manifest in desired:
        await kube.apply(manifest)
    task = asyncio.create_task(wait_ready(kube, [mine], {ClusterKey(namespace, "c"): desired}, timeout=30))
    await asyncio.sleep(0.2)
    for manifest in desired:
        server.compact()
        await asyncio.to_thread(finish, server, namespace, manifest)

    assert await task == []
    assert STATEFUL_SET.plural in {request.resource for request in server.requests_of(namespace)}
