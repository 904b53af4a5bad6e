"""What a server answers, when it is none of Kubernetes or not well: an error that says so, never a traceback."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from support.cli_place import Place, run
from support.fault_proxy import beside
from support.garbler import DEEP, TOO_DEEP, VALUES, Garbler, garbled
from support.kube_clients import client, config_map
from support.stub_server import StubServer, answering, refusal, status, stored

from chronik.errors import ApiError, ChronikError, ConflictError, KindMissing
from chronik.kube.checks.answers import check_event, check_items, check_object, check_page, read_status
from chronik.kube.checks.shapes import ShapeError
from chronik.kube.classify import Reply, refuse
from chronik.kube.messages import RequestInfo, ServerInfo
from chronik.kube.retry import RetryPolicy
from chronik.manifest import CLUSTER, KIND_BY_NAME, POD, Kind, ObjectRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chronik.kube import Kube

CONFIG_MAP, STATEFUL_SET = KIND_BY_NAME["ConfigMap"], KIND_BY_NAME["StatefulSet"]
GADGET = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}}
LIVE = stored(config_map("n"))
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """Return a copy in which the value at a path is another one."""
    copy = json.loads(json.dumps(value))
    *parents, last = path.split(".")
    inner = copy
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = new
    return copy


STRANGE = {
    "kind must be ConfigMap": ("kind", "Secret"),
    "metadata must be a map, is a list": ("metadata", []),
    "metadata is missing": ("metadata", None),
    "metadata.uid is missing": ("metadata.uid", None),
    "metadata.name must be a string, is a number": ("metadata.name", 5),
    "metadata.resourceVersion must be a string of digits": ("metadata.resourceVersion", "x"),
    "metadata.resourceVersion must be a string, is a number": ("metadata.resourceVersion", 7),
    "metadata.labels[a] must be a string, is a boolean": ("metadata.labels", {"a": True}),
    "metadata.finalizers[0] must be a string, is a map": ("metadata.finalizers", [{}]),
    "metadata.ownerReferences[0].uid is missing": ("metadata.ownerReferences", [{"kind": "A", "name": "a"}]),
    "ownerReferences[0].controller must be true or false": (
        "metadata.ownerReferences",
        [{"kind": "A", "name": "a", "uid": "u", "controller": "false"}],
    ),
    "managedFields[0].manager is missing": ("metadata.managedFields", [{"operation": "Apply"}]),
    "managedFields[0].fieldsV1 is no tree": (
        "metadata.managedFields",
        [{"manager": "m", "operation": "Apply", "fieldsV1": {"k:[]": {}}}],
    ),
    "data must be a map, is a list": ("data", []),
    "data[a] must be a string, is a number": ("data", {"a": 1}),
    "it is nested too deeply": ("spec", TOO_DEEP),
}


@pytest.mark.parametrize("message", STRANGE)
def test_object_that_is_none(message):
    """What is wrong with an object is said with its field and both types, and without its value."""
    with pytest.raises(ShapeError) as caught:
        check_object(changed(LIVE, *STRANGE[message]), CONFIG_MAP)

    assert message in str(caught.value)


def test_null_is_absent():
    """A field that is null is as good as one that is not there, and the answer itself stays as it came."""
    answer = changed(changed(LIVE, "metadata.labels", None), "metadata.deletionTimestamp", None)
    before = json.dumps(answer)

    assert check_object(answer, CONFIG_MAP) == LIVE
    assert json.dumps(answer) == before


def test_known_parts_of_a_status():
    """What chronik reads of a status has its type; whatever else is in it is passed on."""
    workload = stored({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a", "namespace": "n"}})
    workload |= {
        "spec": {"replicas": 1, "template": {"spec": {}}, "new": DEEP},
        "status": {"readyReplicas": 1, "x": []},
    }

    assert check_object(workload, STATEFUL_SET) == workload
    with pytest.raises(ShapeError, match=r"status.readyReplicas must be a whole number, is a string"):
        check_object(changed(workload, "status.readyReplicas", "1"), STATEFUL_SET)
    with pytest.raises(ShapeError, match=r"spec.replicas is missing"):
        check_object(changed(workload, "spec", {"template": {"spec": {}}}), STATEFUL_SET)


def test_dry_run_has_no_version():
    """What a dry run would create has no version yet."""
    answer = changed(LIVE, "metadata.resourceVersion", None)

    assert check_object(answer, CONFIG_MAP, stored=False)["metadata"]["name"] == "a"
    with pytest.raises(ShapeError, match=r"metadata.resourceVersion is missing"):
        check_object(answer, CONFIG_MAP)


PAGE = {"metadata": {"resourceVersion": "7"}, "items": [LIVE]}


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ([], "it must be a map, is a list"),
        ("text", "it must be a map, is a string"),
        (None, "metadata is missing"),
        (PAGE | {"metadata": {}}, "metadata.resourceVersion is missing"),
        (PAGE | {"items": {}}, "items must be a list, is a map"),
        ({"metadata": PAGE["metadata"]}, "items is missing"),
        (
            PAGE | {"metadata": {"resourceVersion": "7", "continue": 5}},
            "metadata.continue must be a string, is a number",
        ),
        (PAGE | {"items": [LIVE, 5]}, r"items\[1\] must be a map, is a number"),
        (PAGE | {"items": [{}]}, r"items\[0\].metadata is missing"),
        (PAGE | {"items": [TOO_DEEP]}, "it is nested too deeply"),
    ],
)
def test_page_that_is_none(page, message):
    """A list's answer that is no list, or has something else in it, is refused; `items: null` is an empty one."""
    with pytest.raises(ShapeError, match=message):
        list(check_items(check_page(page)[0], CONFIG_MAP))

    assert check_page(PAGE | {"items": None}) == ([], "7", "")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "ADDED"}, "object is missing"),
        ({"type": "ADDED", "object": None}, "object is missing"),
        ({"type": "ADDED", "object": []}, "object must be a map, is a list"),
        ({"type": "ADDED", "object": {}}, "object.apiVersion is missing"),
        ({"type": "BOOKMARK", "object": {}}, "object.metadata is missing"),
        ({"type": "BORN", "object": LIVE}, "type must be ADDED or MODIFIED or DELETED or BOOKMARK or ERROR"),
        ({"object": LIVE}, "type is missing"),
        ({"type": "ERROR", "object": {"message": 5}}, "object.message must be a string, is a number"),
        (
            {"type": "ERROR", "object": {"message": "x", "code": "410"}},
            "object.code must be a whole number, is a string",
        ),
        (5, "it must be a map, is a number"),
    ],
)
def test_event_that_is_none(event, message):
    """An event of a watch without its object, or of no known type, is refused."""
    with pytest.raises(ShapeError, match=message):
        check_event(event, CONFIG_MAP)


@given(ANY_JSON)
def test_any_json_is_judged(value):
    """Any JSON is an answer or a ShapeError, whatever it is taken for."""
    for kind in (CONFIG_MAP, STATEFUL_SET, POD, CLUSTER, Kind("example.com/v1", "Gadget", "gadgets", stage=-1)):
        with suppress(ShapeError):
            check_object(value, kind)
        with suppress(ShapeError):
            check_event(value, kind)
    with suppress(ShapeError):
        check_page(value)
    assert isinstance(read_status(json.dumps(value))["message"], str)


@pytest.mark.parametrize(
    "body",
    [
        status(409, "Conflict", "x", causes="text"),
        status(429, "TooManyRequests", "x", retryAfterSeconds="1"),
        status(422, "Invalid", "x", causes=[5]),
        {"message": ["x"]},
        [],
        5,
        TOO_DEEP,
        {**status(403, "Forbidden", "x"), "details": []},
        {**status(403, "Forbidden", "x"), "reason": 5},
    ],
)
def test_refusal_that_is_no_status(body):
    """A refusal in another form than a Status is told by its code, with its body as the words."""
    reply = Reply(409, json.dumps(body))

    error = refuse(RequestInfo("patch", CONFIG_MAP, "n", "a"), reply, ServerInfo("https://s", "a test")).error

    assert isinstance(error, ConflictError)
    assert error.answer.causes == ()


# --- what callers get -------------------------------------------------------------------------------------------------


ASKED = {"ConfigMap", "StatefulSet", "Pod", "Gadget"}


async def ask_everything(kube: Kube) -> AsyncIterator[ChronikError | None]:
    """Yield what becomes of each method that a server answers."""
    ref = ObjectRef("ConfigMap", "n", "a")
    calls = (
        lambda: kube.get(CONFIG_MAP, "n", "a"),
        lambda: kube.get(STATEFUL_SET, "n", "a"),
        lambda: kube.list(CONFIG_MAP, "n"),
        lambda: kube.list(POD, None),
        lambda: kube.apply(config_map("n")),
        lambda: kube.apply(config_map("n"), dry_run=True),
        lambda: kube.merge(CONFIG_MAP, ref, {"data": {}}),
        lambda: kube.create(config_map("n")),
        lambda: kube.delete(CONFIG_MAP, ref),
        lambda: kube.kind("example.com/v1", "Gadget"),
        lambda: _all(kube.watch(CONFIG_MAP, "n", resource_version="1")),
    )
    for call in calls:
        try:
            await call()
        except (ApiError, ConflictError) as error:
            yield error
        else:
            yield None


async def _all(events: AsyncIterator[Any]) -> None:
    async for event in events:
        assert event.resource_version.isdecimal()


def servings(seed: int) -> Any:
    """Return a server's way to answer: with something of its own, or with a good answer that was garbled."""
    chance = random.Random(seed)

    async def answer(request: web.BaseRequest) -> web.Response:
        text = json.dumps(_body(request, chance))
        code = chance.choice((200, 200, 200, 200, 201, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503))
        headers = {"Retry-After": chance.choice(("1", "x", "9" * 400, "-1"))} if code in {429, 503} else {}
        return web.Response(body=text.encode(), status=code, headers=headers)

    return answer


def _body(request: web.BaseRequest, chance: random.Random) -> Any:
    """Return what to answer a request with."""
    if chance.random() < 0.3:
        return chance.choice(VALUES)
    if "watch" in request.query:
        return garbled({"type": "ADDED", "object": json.loads(json.dumps(LIVE))}, chance)
    if request.path.startswith("/apis/example.com/v1"):
        return garbled({"resources": [{"kind": "Gadget", "name": "gadgets", "namespaced": True}]}, chance)
    return garbled(json.loads(json.dumps(chance.choice((LIVE, PAGE, status(409, "Conflict", "x"))))), chance)


async def reactions(seed: int, rounds: int) -> Counter[str]:
    """Return how often which error came of answers that a server makes up."""
    found: Counter[str] = Counter()
    once = RetryPolicy(attempts=1)
    async with StubServer(servings(seed)) as stub:
        for _ in range(rounds):
            async with client(stub.url, retry=once) as kube:
                async for error in ask_everything(kube):
                    found[type(error).__name__] += 1
                    subject = error.subject.partition("/")[0] if error else ""
                    assert error is None or error.subject == stub.url or subject in ASKED, error
    return found


async def test_made_up_answers():
    """Whatever a server answers, each call returns or raises an error that names the server or the object."""
    found = await reactions(1, 40)

    assert found.total() == 440
    assert found["ApiError"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 15))
async def test_made_up_answers_often(seed):
    """So it is with thousands of answers."""
    assert (await reactions(seed, 200)).total() == 2200


async def test_same_page_for_ever():
    """A list whose next page is the same one again ends in an error, not in a loop."""
    page = PAGE | {"metadata": {"resourceVersion": "7", "continue": "t"}}
    async with StubServer(answering(page, page, page)) as stub, client(stub.url) as kube:
        with pytest.raises(ApiError, match=r"metadata.continue leads to the same page again"):
            await kube.list(CONFIG_MAP, "n")


async def test_strange_answer_names_request_and_server():
    """The error says which server answered which request how, and is raised at once: asking again is no use."""
    async with StubServer(answering([])) as stub, client(stub.url) as kube:
        with pytest.raises(ApiError) as caught:
            await kube.get(CONFIG_MAP, "n", "a")

    assert caught.value.subject == stub.url
    assert caught.value.message == "unexpected answer: get ConfigMap/n/a: it must be a map, is a list"
    assert len(stub.requests) == 1


async def test_kind_without_a_scope_is_not_namespaced():
    """A kind of which the server does not say that it is namespaced is not."""
    resources = {"resources": [{"kind": "Gadget", "name": "gadgets"}]}
    async with StubServer(answering(resources, stored(GADGET))) as stub, client(stub.url) as kube:
        await kube.apply(GADGET)

    assert stub.requests[1].startswith("PATCH /apis/example.com/v1/gadgets/a?")


async def test_refused_discovery():
    """A group that may not be looked at is an error of that kind, not of the answer."""
    async with StubServer(answering(refusal(404, "", "404 page not found"))) as stub, client(stub.url) as kube:
        with pytest.raises(KindMissing):
            await kube.apply(GADGET)


# --- what users get ---------------------------------------------------------------------------------------------------


@pytest.fixture
def place(fake_server, tmp_path):
    """Return a namespace with a cluster that an operator has, and one that was applied from the command line."""
    namespace = fake_server.new_namespace()
    Place(fake_server, namespace, tmp_path, name="operated").operate()
    place = Place(fake_server, namespace, tmp_path)
    assert place.apply().code == 0
    yield place
    fake_server.drop_namespace(namespace)


def kubeconfig_to(url: str, place: Place) -> str:
    """Write a kubeconfig like the server's, which leads to another address."""
    config = yaml.safe_load(Path(place.server.kubeconfig).read_text("utf-8"))
    for cluster in config["clusters"]:
        cluster["cluster"]["server"] = url
    path = place.folder / "garbled"
    path.write_text(json.dumps(config))
    return str(path)


def commands(place: Place) -> list[list[str]]:
    """Return what users run, most of which reads all kinds."""
    larger = place.document(ingestNodes=4, storage={"backend": "local", "size": "20Gi"})
    namespace = ["-n", place.namespace]
    return [
        ["status", *namespace],
        ["status", *namespace, "c", "-o", "json"],
        ["status", "-f", larger],
        ["diff", "-f", larger],
        ["diff", "-f", larger, "-o", "json"],
        ["apply", "-f", larger, "--dry-run=server"],
        ["apply", "-f", larger, "--prune"],
        ["delete", "c", *namespace, "--dry-run"],
    ]


def garble(place: Place, seed: int, answers: int) -> None:
    """Run commands until so many answers were garbled; each must end with a documented exit code."""
    garbler = Garbler(place.server.url, seed=seed, share=0.15)
    with beside(garbler):
        flags = ["--kubeconfig", kubeconfig_to(garbler.url, place), "--context", place.context]
        todo = commands(place)
        while garbler.garbled < answers:
            todo.append(todo.pop(0))
            done = run(*todo[0], *flags, "--request-timeout", "5s")
            assert done.code in {0, 1, 3, 4, 5}, (todo[0], garbler.last, done)
            assert done.code != 3 or garbler.url in done.err + done.out or place.namespace in done.err + done.out, done


def test_commands_over_garbled_answers(place):
    """No command ends in a traceback, however an object or a list is garbled."""
    garble(place, 1, 120)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 16))
def test_commands_over_many_garbled_answers(place, seed):
    """So it is with thousands of answers."""
    garble(place, seed, 500)
