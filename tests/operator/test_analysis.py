"""What is asked of a real Prometheus, and what becomes of answers that do not come."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from support.pki import make_pair, needs_openssl
from support.prometheus import needs_prometheus, prometheus_server

from chronik.manifest import ClusterKey
from chronik.operator.analysis.analyst import Analyst
from chronik.operator.analysis.prometheus import NoAnswer, Prometheus
from chronik.rollout.analysis import Question

KEY = ClusterKey("n", "c")
ERRORS = 'sum(errors{pod=~"$canary", namespace="$namespace", cluster="$cluster"})'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Give a Prometheus that knows a few series."""
    with prometheus_server(tmp_path_factory.mktemp("prometheus")) as server:
        for number in range(3):
            server.exporter.series[f'errors{{pod="c-ingest-{number}",namespace="n",cluster="c"}}'] = number
        server.exporter.series["nothing"] = math.nan
        server.until('errors{pod="c-ingest-2"}', "2")
        yield server


async def one(prometheus, text):
    """Return the numbers of one query, or why there are none, in words."""
    (found,) = await prometheus.numbers([text])
    return str(found) if isinstance(found, NoAnswer) else found


@needs_prometheus
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(errors)", (3.0,)),
        ("scalar(sum(errors))", (3.0,)),
        ("sort(errors)", (0.0, 1.0, 2.0)),
        ("vector(1) / 0", (math.inf,)),
        ("errors{pod='none'}", ()),
        ("errors[1m]", "Prometheus answers with no number: the query has to give an instant vector or a scalar"),
        ("'text'", "Prometheus answers with no number: the query has to give an instant vector or a scalar"),
        ("sum(", 'Prometheus refuses the query: invalid parameter "query": 1:5: parse error'),
        ("rate(errors)", "Prometheus refuses the query: "),
    ],
)
async def test_answers(server, text, expected):
    """Vectors and scalars are numbers; what is none, or no query, is said in words."""
    found = await one(Prometheus(server.url), text)

    assert found == expected if isinstance(expected, tuple) else found.startswith(expected)


@needs_prometheus
async def test_not_a_number(server):
    """NaN is a number that says nothing, and comes as one."""
    server.until("nothing", "NaN")
    (found,) = await one(Prometheus(server.url), "nothing")

    assert math.isnan(found)


@needs_prometheus
async def test_pods_are_named_in_the_query(server):
    """The variables of a query stand for pods, cluster and namespace."""
    metrics = [{"name": "errors", "query": ERRORS, "max": "1", "min": None}]
    woken = asyncio.Event()
    async with Analyst(Prometheus(server.url), wake=lambda _key: woken.set(), now=lambda: "now") as analyst:
        analyst.ask(KEY, Question(("x", 1, 1), ("c-ingest-2", "c-ingest-1"), ("c-ingest-0",)), metrics)
        await asyncio.wait_for(woken.wait(), 10)
        answer = analyst.answer(KEY)

    assert (answer.about, answer.at) == (("x", 1, 1), "now")
    assert [(each.name, each.numbers, each.error) for each in answer.values] == [("errors", (3.0,), "")]


async def test_nobody_listens():
    """A Prometheus that is away is no answer, and the address is named."""
    found = await one(Prometheus("http://127.0.0.1:1"), "up")

    assert found == "Prometheus at 127.0.0.1:1 cannot be asked: Connection refused"


@asynccontextmanager
async def playing(handler, context=None):
    """Give the URL of a server that answers as `handler` does."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def before(server, token):
    """Return what stands before a Prometheus, and lets those through who have a token."""

    async def handle(request):
        if request.headers.get("Authorization") != f"Bearer {token}":
            return web.Response(status=401, text="no")
        body = await request.read()
        headers = {"Content-Type": request.headers["Content-Type"]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(server.url + request.path, data=body, headers=headers) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    return handle


@needs_prometheus
@needs_openssl
async def test_tls_and_a_token(server, tmp_path):
    """Behind TLS, a Prometheus is asked with the token of a file, which may change, and trusted by the given file."""
    certificate, key = make_pair(tmp_path, "prometheus", "127.0.0.1")
    other, _ = make_pair(tmp_path, "other", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    token = tmp_path / "token"
    token.write_text("first\n")
    async with playing(before(server, "second"), context) as url:
        asked = Prometheus(url, str(token), str(certificate))
        assert "(401): --analysis-token-file has to hold" in await one(asked, "sum(errors)")
        token.write_text("second\n")
        assert await one(asked, "sum(errors)") == (3.0,)
        assert "not trusted" in await one(Prometheus(url, str(token), str(other)), "sum(errors)")
        assert "not trusted" in await one(Prometheus(url, str(token)), "sum(errors)")
        missing = await one(Prometheus(url, str(tmp_path / "none"), str(certificate)), "sum(errors)")
        assert missing.startswith("what --analysis-url needs cannot be read: ")


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (200, "<html>", "answers 200, and no JSON of its API: is --analysis-url right?"),
        (404, "{}", "answers 404, and no JSON"),
        (302, "", "answers 302, and no JSON"),
        (503, '{"status": "error", "error": "query timed out"}', "refuses the query: query timed out"),
        (200, '{"status": "success"}', "no number"),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": [{"histogram": []}]}}', "no number"),
        (200, " " * (2 << 20), "more than 1 MiB"),
    ],
)
async def test_strange_answers(status, text, said):
    """What is no answer of a Prometheus is said, and never taken for a number; redirects are not followed."""

    async def handle(_request):
        return web.Response(status=status, text=text, headers={"Location": "http://127.0.0.1:1/"})

    async with playing(handle) as url:
        assert said in await one(Prometheus(url), "up")


async def test_a_slow_one_holds_nothing_up():
    """A Prometheus that takes its time costs its deadline, and other clusters' questions go on beside it."""
    woken = []

    async def handle(request):
        if "slow" in (await request.post())["query"]:
            await asyncio.sleep(4)  # and this long the stand-in takes to end
        result = {"resultType": "vector", "result": [{"metric": {}, "value": [0, "1"]}]}
        return web.json_response({"status": "success", "data": result})

    async with (
        playing(handle) as url,
        Analyst(Prometheus(url, deadline=2.0), wake=woken.append, now=lambda: "now") as analyst,
    ):
        began = time.monotonic()
        keys = [ClusterKey("n", f"slow-{number}") for number in range(20)]
        for key in (*keys, KEY):
            kind = "slow" if key != KEY else "quick"
            analyst.ask(key, Question((kind, 1, 1), (), ()), [{"name": "m", "query": kind, "max": "1", "min": None}])
        while len(woken) < 21:
            await asyncio.sleep(0.05)
            assert time.monotonic() - began < 30, "one after the other they would take 40 s"
        assert woken[0] == KEY
        said = {analyst.answer(key).values[0].error for key in keys}

    assert said == {"Prometheus does not answer within 2 s"}


async def test_the_same_question_is_asked_once():
    """A pass that asks again while an answer is on its way asks nothing; one for the next step gives the first up."""
    asked = []

    async def handle(request):
        asked.append((await request.post())["query"])
        await asyncio.sleep(0.3)
        return web.json_response({"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}})

    woken = asyncio.Event()
    async with (
        playing(handle) as url,
        Analyst(Prometheus(url), wake=lambda _key: woken.set(), now=lambda: "now") as analyst,
    ):
        for step in (1, 1, 2, 2):
            metrics = [{"name": "m", "query": f"{step}", "max": "1", "min": None}]
            analyst.ask(KEY, Question(("x", 1, step), (), ()), metrics)
            await asyncio.sleep(0.05)
        await asyncio.wait_for(woken.wait(), 5)
        assert analyst.answer(KEY).about == ("x", 1, 2)
        analyst.forget(KEY)
        assert analyst.answer(KEY) is None

    assert asked == ["1", "2"]


async def test_without_an_address():
    """An operator that was given no Prometheus says so, as an answer that promotes nothing."""
    woken = asyncio.Event()
    async with Analyst(None, wake=lambda _key: woken.set(), now=lambda: "now") as analyst:
        analyst.ask(KEY, Question(("x", 1, 1), (), ()), [{"name": "m", "query": "1", "max": "1", "min": None}])
        await asyncio.wait_for(woken.wait(), 5)

    assert analyst.answer(KEY).values[0].error == "this operator was started without --analysis-url"
