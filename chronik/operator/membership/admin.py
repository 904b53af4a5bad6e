"""The admin API of Chronik Stream's nodes: who votes, who leads, and how a node joins or leaves.

Every request has a deadline, and none is repeated here: the next pass looks again, and decides by what it finds.
Source: crates/chronik-server/src/admin_api.rs of chronik-stream b652721. Its answers have the status 200 even where
they refuse; `success` tells.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from chronik.kube.session import proxy_of_environment
from chronik.status.membership import Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.api.components import Member

SECONDS = 5.0
"""The deadline of a request. Upstream only proposes a change, and does not wait until it is agreed upon."""


class Refused(Exception):
    """A node refused, could not be reached, or said what nobody understands."""


class AdminClient:
    """Speaks to the nodes of one cluster; `key` is what they ask of those who change something, empty if nothing."""

    def __init__(self, session: aiohttp.ClientSession, key: str = "") -> None:
        self._session = session
        self._headers = {"X-API-Key": key} if key else {}

    async def group(self, members: Iterable[Member]) -> tuple[Group, Member] | None:
        """Return what the leader says, and which member it is; None if none of these says that it leads.

        Of two that say so, as the old and the new leader may for a moment, neither is believed.
        """
        asked = list(members)
        answers = await asyncio.gather(*(self._health(each) for each in asked))
        leading = [
            (Group(voters, each.id), each) for each, voters in zip(asked, answers, strict=True) if voters is not None
        ]
        return leading[0] if len(leading) == 1 else None

    async def add(self, leader: Member, joins: Member, addresses: dict[str, str]) -> None:
        """Have a node join.

        Raises:
            Refused: it was not done, or nobody knows whether it was.
        """
        await self._post(leader, "add-node", {"node_id": joins.id, **addresses})

    async def remove(self, leader: Member, node: int) -> None:
        """Have a node leave. A leader lets itself out only by force, which skips upstream's checks: do them before.

        Raises:
            Refused: it was not done, or nobody knows whether it was.
        """
        await self._post(leader, "remove-node", {"node_id": node, "force": node == leader.id})

    async def _health(self, member: Member) -> frozenset[int] | None:
        """Return the voters that a node knows of if it says that it leads, else None."""
        try:
            answer = await self._request("GET", member, "health", None)
            if answer["is_leader"] is not True or answer["node_id"] != member.id:
                return None
            return frozenset(int(each) for each in answer["cluster_nodes"]) or None
        except (Refused, KeyError, TypeError, ValueError):
            return None

    async def _post(self, leader: Member, action: str, body: dict[str, Any]) -> None:
        answer = await self._request("POST", leader, action, body)
        if answer.get("success") is not True:
            raise Refused(str(answer.get("message") or "no reason was given"))

    async def _request(self, method: str, member: Member, action: str, body: dict[str, Any] | None) -> dict[str, Any]:
        url = f"{member.api}/admin/{action}"
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._session.request(
                    method,
                    url,
                    json=body,
                    headers=self._headers,
                    proxy=proxy_of_environment(url) or None,
                    allow_redirects=False,  # a redirect would take the key elsewhere
                ) as response,
            ):
                text = await response.content.read(_LONGEST)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Refused(f"node {member.id} does not answer: {error or 'no answer in time'}") from error
        try:
            answer = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Refused(f"node {member.id} answered {response.status} and no JSON") from error
        if not isinstance(answer, dict) or response.status != _OK:
            words = answer.get("error") or answer.get("message") if isinstance(answer, dict) else ""
            raise Refused(f"node {member.id} answered {response.status}: {words}")
        return answer


_OK = 200
_LONGEST = 1 << 20
