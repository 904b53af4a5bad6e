"""How the client behaves towards a server that is well: credentials, pages, warnings, how many at a time, discovery."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl

import aiohttp
import pytest
from aiohttp import web
from support.clock import FakeClock
from support.kube_clients import ScriptedGuard, client, config_map
from support.stub_server import DeafServer, StubServer, answering, refusal, stored

from chronik.errors import ApiError, KindMissing, ServerBusy, Unauthorized, Unreachable
from chronik.kube.credentials import TOKEN_FILE_SECONDS, TokenFile
from chronik.kube.messages import RequestInfo
from chronik.kube.requests import Request
from chronik.kube.retry import LONGEST_HOLD, RetryPolicy
from chronik.kube.session import diagnose, proxy_of_environment
from chronik.kube.transport import parse
from chronik.manifest import KIND_BY_NAME, ObjectRef

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
LIVE = stored(config_map("n"))
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {}}


def page(*names: str, token: str = "", version: str = "7") -> dict:
    metadata = {"resourceVersion": version, **({"continue": token} if token else {})}
    return {
        "kind": "ConfigMapList",
        "metadata": metadata,
        "items": [stored({"metadata": {"name": name, "namespace": "n"}}) for name in names],
    }


async def test_rotated_token_is_read_again(tmp_path):
    """A token that is refused is read from its file again, and the request repeated at once, without a pause."""
    time, file = FakeClock(), tmp_path / "token"
    file.write_text("old\n")

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.json_response(LIVE) if request.headers["Authorization"] == "Bearer new" else refusal(401)

    async with StubServer(answer) as stub, client(stub.url, time, TokenFile(file, time.clock)) as kube:
        file.write_text("new\n")
        await kube.get(CONFIG_MAP, "n", "a")

    assert [header["Authorization"] for header in stub.headers] == ["Bearer old", "Bearer new"]
    assert time.slept == []


async def test_token_is_read_again_as_it_ages(tmp_path):
    """A token file is followed without any refusal, within a minute."""
    time, file = FakeClock(), tmp_path / "token"
    file.write_text("old")
    token = TokenFile(file, time.clock)
    assert await token.authorization() == "Bearer old"

    file.write_text("new")
    assert await token.authorization() == "Bearer old"
    time.time += TOKEN_FILE_SECONDS

    assert await token.authorization() == "Bearer new"


async def test_refused_credentials_are_an_error_at_once():
    """If there is no newer token, the request is not repeated."""
    async with StubServer(answering(refusal(401))) as stub, client(stub.url) as kube:
        with pytest.raises(Unauthorized, match="does not accept the credentials of a test"):
            await kube.get(CONFIG_MAP, "n", "a")

    assert len(stub.requests) == 1


async def test_list_reads_all_pages():
    """A list goes on until there is no continue token, and gives every item its apiVersion and kind."""
    async with StubServer(answering(page("a", "b", token="t/="), page("c"))) as stub, client(stub.url) as kube:
        listed = await kube.list(CONFIG_MAP, "n", label_selector="a=b,c", field_selector="x=y")

    assert [item["metadata"]["name"] for item in listed.items] == ["a", "b", "c"]
    assert {(item["apiVersion"], item["kind"]) for item in listed.items} == {("v1", "ConfigMap")}
    assert listed.resource_version == "7"
    start = "GET /api/v1/namespaces/n/configmaps?labelSelector=a%3Db%2Cc&fieldSelector=x%3Dy&limit=500"
    assert stub.requests == [start, f"{start}&continue=t%2F%3D"]


async def test_list_starts_again_when_its_pages_expire():
    """A continue token that ran out (410) restarts the list; the third time it is asked for in one piece."""
    gone = refusal(410, "Expired", "The provided continue parameter is too old")
    answers = (page("a", token="1"), gone, page("a", token="2"), refusal(410), page("a", "b", version="9"))
    async with StubServer(answering(*answers)) as stub, client(stub.url) as kube:
        listed = await kube.list(CONFIG_MAP, None)

    assert (len(listed.items), listed.resource_version) == (2, "9")
    assert stub.requests[-1] == "GET /api/v1/configmaps"


async def test_list_keeps_what_the_caller_keeps():
    """What `keep` returns is listed, so that nobody holds what nobody needs."""
    async with StubServer(answering(page("a", "b"))) as stub, client(stub.url) as kube:
        listed = await kube.list(CONFIG_MAP, None, keep=lambda item: {"name": item["metadata"]["name"]})

    assert listed.items == [{"name": "a"}, {"name": "b"}]


async def test_warnings_are_passed_on():
    """The server's warnings reach the caller with the object they are about, each of several, unquoted."""
    warnings = []
    header = r'299 - "metadata.x is deprecated", 299 - "say \"y\" instead"'
    answer = web.json_response(stored(SERVICE), headers={"Warning": header})
    async with (
        StubServer(answering(answer)) as stub,
        client(stub.url, on_warning=lambda *about: warnings.append(about)) as kube,
    ):
        await kube.apply(SERVICE)

    assert warnings == [("Service/n/a", "metadata.x is deprecated"), ("Service/n/a", 'say "y" instead')]


async def test_requests_are_bounded():
    """Never more than so many requests are in flight."""
    running = most = 0

    async def answer(_: web.BaseRequest) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return web.json_response(LIVE)

    async with StubServer(answer) as stub, client(stub.url, in_flight=4) as kube:
        await asyncio.gather(*(kube.get(CONFIG_MAP, "n", f"a{number}") for number in range(40)))

    assert most == 4


async def test_cancelled_request_gives_its_place_back():
    """A request that is cancelled while it waits for its answer does not keep others from being sent."""

    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.2 if request.path.endswith("slow") else 0)
        return web.json_response(LIVE)

    async with StubServer(answer) as stub, client(stub.url, in_flight=1) as kube:
        slow = asyncio.create_task(kube.get(CONFIG_MAP, "n", "slow"))
        await asyncio.sleep(0.05)
        slow.cancel()

        assert await asyncio.wait_for(kube.get(CONFIG_MAP, "n", "fast"), 1) == LIVE


async def test_guard_is_asked_about_writes_only():
    """Reads, watches and dry runs go by without the guard being asked."""
    guard = ScriptedGuard(ApiError("no writes"))
    answers = (LIVE, page("a"), stored(SERVICE), {}, web.Response(text=""))
    async with StubServer(answering(*answers)) as stub, client(stub.url, guard=guard) as kube:
        await kube.get(CONFIG_MAP, "n", "a")
        await kube.list(CONFIG_MAP, "n")
        await kube.apply(SERVICE, dry_run=True)
        await kube.delete(CONFIG_MAP, ObjectRef("ConfigMap", "n", "a"), dry_run=True)
        assert [event async for event in kube.watch(CONFIG_MAP, "n", resource_version="7")] == []

    assert len(stub.requests) == 5
    assert guard.log == []


@pytest.mark.parametrize("method", ["PATCH", "POST", "PUT", "DELETE"])
def test_write_has_a_body(method):
    """A write that has no body cannot be made: nothing would hold it back at the last moment."""
    info = RequestInfo("delete", CONFIG_MAP, "n", "a")

    assert Request(info, method, "/x", body=b"{}").writes
    assert not Request(info, method, "/x", dry_run=True).writes
    with pytest.raises(ValueError, match="needs a body"):
        Request(info, method, "/x")


async def test_guard_encloses_all_attempts_of_a_write():
    """A write is enclosed once, however often it is tried, and looked at before each attempt and each pause."""
    guard = ScriptedGuard()
    answers = (refusal(503, retry_after=5), refusal(500), stored(SERVICE))
    async with StubServer(answering(*answers)) as stub, client(stub.url, guard=guard) as kube:
        await kube.apply(SERVICE)

    assert len(stub.requests) == 3
    assert guard.log == ["begins", "check", "check", "check", "check", "check", "ends"]


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_held_back_write_sends_not_one_byte(kept_alive):
    """What the guard refuses at the last moment leaves no byte on the connection, be it new or in use already."""
    received, body = bytearray(), json.dumps(LIVE).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            received.extend(chunk)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    guard, refusing = ScriptedGuard(ApiError("held back")), await asyncio.start_server(answer, "127.0.0.1", 0)
    async with refusing, client(f"http://127.0.0.1:{refusing.sockets[0].getsockname()[1]}", guard=guard) as kube:
        if kept_alive:
            await kube.get(CONFIG_MAP, "n", "a")
        before = bytes(received)
        with pytest.raises(ApiError, match="held back") as caught:
            await kube.apply(SERVICE)
        await asyncio.sleep(0.05)

    assert caught.value is guard.refusal
    assert guard.log == ["begins", "check", "ends"]
    assert received == before


LARGE = config_map("n", text="x" * 500_000)
"""More than the buffers on the way take in one go."""


async def test_cut_off_write_does_not_arrive_late():
    """What a write that was cut off had not delivered yet never arrives, though the server reads on later."""
    async with DeafServer() as server, client(server.url) as kube:
        writing = asyncio.create_task(kube.apply(LARGE))
        await server.taken.wait()
        await asyncio.sleep(0.1)
        writing.cancel()
        await asyncio.wait({writing})
        assert len(await server.received()) < 500_000


async def test_write_without_an_answer_does_not_arrive_late():
    """So it is with a write that had no answer in time."""
    once = RetryPolicy(attempts=1)
    async with DeafServer() as server, client(server.url, request_timeout=1.0, retry=once) as kube:
        with pytest.raises(Unreachable):
            await kube.apply(LARGE)
        assert len(await server.received()) < 500_000


async def test_pause_of_a_day_is_a_mistake():
    """A Retry-After of a day keeps the client from asking for ten minutes, not for a day."""
    time = FakeClock()
    async with (
        StubServer(answering(refusal(503, retry_after=86400), LIVE)) as stub,
        client(stub.url, time) as kube,
    ):
        for _ in range(2):
            with pytest.raises(ServerBusy):
                await kube.get(CONFIG_MAP, "n", "a")
        time.time += LONGEST_HOLD
        await kube.get(CONFIG_MAP, "n", "a")

    assert len(stub.requests) == 2


async def test_unknown_kind_is_asked_for_once():
    """A kind that chronik does not render is discovered at its first use; the known ones never are."""
    resources = [
        {"name": "gadgets/status", "kind": "Gadget", "namespaced": True},
        {"name": "gadgetries", "kind": "Gadget", "namespaced": True},
    ]
    gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a", "namespace": "n"}}
    answers = ({"resources": resources}, stored(gadget), stored(gadget), stored(SERVICE))
    async with StubServer(answering(*answers)) as stub, client(stub.url) as kube:
        await kube.apply(gadget)
        await kube.apply(gadget)
        await kube.apply(SERVICE)

    assert [request.partition("?")[0] for request in stub.requests] == [
        "GET /apis/example.com/v1",
        "PATCH /apis/example.com/v1/namespaces/n/gadgetries/a",
        "PATCH /apis/example.com/v1/namespaces/n/gadgetries/a",
        "PATCH /api/v1/namespaces/n/services/a",
    ]


async def test_kind_that_the_group_does_not_have():
    """A kind that its group does not have is missing, as one whose group does not exist."""
    gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}}
    answers = ({"resources": []}, refusal(404, "", "404 page not found"))
    async with StubServer(answering(*answers)) as stub, client(stub.url) as kube:
        for _ in answers:
            with pytest.raises(KindMissing, match=r"does not know the kind Gadget \(example.com/v1\)"):
                await kube.apply(gadget)


@pytest.mark.parametrize(
    ("server", "proxy"),
    [
        ("https://kube.example.com:6443", "http://proxy:3128"),
        ("https://kube.internal", ""),
        ("https://127.0.0.1:6443", ""),
        ("http://localhost:8001", ""),
    ],
)
def test_proxy_of_the_environment(server, proxy, monkeypatch):
    """$HTTPS_PROXY is used, but not for what $NO_PROXY names, nor for this machine itself, as by kubectl."""
    for name, value in {"https_proxy": "http://proxy:3128", "http_proxy": "http://x", "no_proxy": ".internal"}.items():
        monkeypatch.setenv(name, value)

    assert proxy_of_environment(server) == proxy


@pytest.mark.parametrize(
    ("error", "fault", "detail"),
    [
        (ConnectionResetError(errno.ECONNRESET, "x"), "cut", "Connection reset by peer"),
        (TimeoutError(), "timeout", "no answer in time"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "cut", "Name or service not known"),
        (aiohttp.ClientPayloadError("not all of it"), "cut", "not all of it"),
        (aiohttp.ServerDisconnectedError(), "cut", "Server disconnected"),
        (ssl.SSLError(1, "alert"), "tls", "alert"),
    ],
)
def test_exceptions_are_told_apart(error, fault, detail):
    """What the network throws is one of a few faults, in the words of the operating system."""
    assert diagnose(error) == (fault, detail)


def nested(depth):
    return b'{"a": ["}", {"b": ' + b'{"a":' * depth + b"1" + b"}" * depth + b'}], "z": "\\"{"}'


@pytest.mark.parametrize(("depth", "left"), [(1, 1), (100, 100), (1000, 1000), (1100, 197), (9000, 197)])
def test_depths_do_not_hide_an_answer(depth, left):
    """An answer that is nested deeper than any parser goes is read all the same, without its depths."""
    found = parse(nested(depth))
    value, levels = found["a"][1]["b"], 0
    while isinstance(value, dict):
        value, levels = value.get("a"), levels + 1

    assert (found["a"][0], found["z"], levels) == ("}", '"{', left)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":' * 5000, b'{"a": "', b"[" * 5000 + b"]" * 4999, b"\xff"])
def test_what_is_no_json_is_refused(text):
    """What is broken beyond its depth is no answer."""
    with pytest.raises(json.JSONDecodeError):
        parse(text)
