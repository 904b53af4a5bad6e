from __future__ import annotations

import time

import aiohttp
import pytest
from support.played_nodes import PlayedNodes

from chronik.api.components import Member
from chronik.operator.membership.admin import AdminClient, Refused
from chronik.operator.membership.members import addresses


def member(number):
    host = f"u-node-{number}.ns.svc.cluster.local"
    return Member(number, f"u-node-{number}", host, f"{host}:9092", f"http://{host}:6092")


MEMBERS = [member(number) for number in range(1, 6)]


@pytest.fixture
def nodes(monkeypatch):
    """Yield played nodes, all of which are there, behind the proxy of the environment."""
    played = PlayedNodes(5, leader=2, key="k", lag=0.01)
    played.see({1, 2, 3, 4, 5})
    with played.playing() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        yield played


async def group(key="k", asked=MEMBERS):
    async with aiohttp.ClientSession() as session:
        return await AdminClient(session, key).group(asked)


async def test_the_leader_is_believed(nodes):
    """Of all nodes the one that leads tells who votes; nodes that do not answer are passed over."""
    nodes.up = {2, 3, 4}
    told, leader = await group()

    assert (told.voters, told.leader, leader) == (frozenset({1, 2, 3, 4, 5}), 2, MEMBERS[1])


@pytest.mark.parametrize("up", [set(), {1, 3}, {1, 3, 4, 5}])
async def test_without_a_leader_nobody_is_believed(nodes, up):
    """Where no node says that it leads, nothing is known."""
    nodes.up = up

    assert await group() is None


async def test_two_leaders_are_not_believed(nodes, monkeypatch):
    """Of an old and a new leader it is not known which is right."""
    health = nodes._health
    monkeypatch.setattr(nodes, "_health", lambda me: health(me) | {"is_leader": me in {2, 3}})

    assert await group() is None


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (lambda client: client.remove(MEMBERS[1], 9), "k", "Node 9 does not exist"),
        (lambda client: client.remove(MEMBERS[0], 5), "k", "this node (id=1) is not the leader"),
        (lambda client: client.remove(MEMBERS[1], 5), "wrong", "node 2 answered 401: invalid X-API-Key"),
        (lambda client: client.remove(MEMBERS[1], 5), "", "node 2 answered 401: missing X-API-Key header"),
        (lambda client: client.add(MEMBERS[1], MEMBERS[4], addresses(MEMBERS[4])), "k", "Node 5 already exists"),
        (lambda client: client.remove(member(8), 5), "k", "node 8 answered 502: nobody at"),
    ],
)
@pytest.mark.usefixtures("nodes")
async def test_refusals_are_told_in_the_nodes_words(change, key, words):
    """Upstream answers 200 where it refuses, so what it says counts, and not only the status code."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(Refused) as refused:
            await change(AdminClient(session, key))

    assert words in str(refused.value)


async def test_a_node_that_is_silent_has_a_deadline(nodes, monkeypatch):
    """A node that never answers costs some seconds, not a pass that never ends."""
    monkeypatch.setattr("chronik.operator.membership.admin.SECONDS", 0.05)
    nodes.before = lambda _action, _node: time.sleep(0.3)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(Refused, match="node 2 does not answer"):
            await AdminClient(session, "k").remove(MEMBERS[1], 5)


async def test_a_leader_is_forced_to_let_itself_out(nodes):
    """Only the leader itself leaves by force."""
    async with aiohttp.ClientSession() as session:
        await AdminClient(session, "k").remove(MEMBERS[1], 2)

    assert nodes.calls == [("remove-node", 2)]
