"""An API server that answers in JSON, but not in Kubernetes' own: something in every answer may be something else."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from aiohttp import web
from support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp


def nested(levels: int) -> Any:
    """Return maps and lists in each other."""
    value: Any = None
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


DEEP, TOO_DEEP = nested(200), nested(900)

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3.5, 2**70, 1e300, "", "x", "0", "true", "\0", "\x1b[31m", "ü" * 400, "None"),
    *([], {}, [None], [1], ["a"], [[]], [{}], {"a": 1}, {"a": {"b": []}}, {"": ""}, [{"name": "a"}], DEEP, TOO_DEEP),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a value: what it is in, and under which key or number."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places(item)


def garbled(value: Any, chance: random.Random) -> Any:
    """Return a value in which one place is gone, doubled or holds something else; it may be the whole."""
    found = list(places(value))
    if not found or chance.random() < 0.03:
        return chance.choice(VALUES)
    # Small things are many: half of the time, a place near the top.
    near = [place for place in found if place[0] is value or any(place[0] is part for part in _parts(value))]
    parent, key = chance.choice(near if chance.random() < 0.5 else found)
    what = chance.randrange(10)
    if what < 2:
        del parent[key]
    elif what == 2 and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = chance.choice(VALUES)
    return value


def _parts(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


class Garbler(FaultProxy):
    """Forwards to a server, and garbles its answers at a rate; `last` is what the last garbled one was about."""

    def __init__(self, upstream: str, *, seed: int, share: float = 0.5) -> None:
        super().__init__(upstream)
        self._chance = random.Random(seed)
        self._share = share
        self.garbled = 0
        self.last = ""

    async def _forward(self, request: web.BaseRequest, fault: Any) -> web.StreamResponse:
        if "watch" in request.query:
            return await super()._forward(request, fault)
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        url = self._upstream + request.rel_url.raw_path_qs
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as upstream:
            return await self._told(request, upstream)

    async def _told(self, request: web.BaseRequest, upstream: aiohttp.ClientResponse) -> web.Response:
        text, code = await upstream.read(), upstream.status
        if self._chance.random() < self._share:
            self.garbled += 1
            value = garbled(json.loads(text), self._chance)
            if self._chance.random() < 0.1:
                code = self._chance.choice((200, 201, 400, 403, 404, 409, 422, 429, 500, 503))
            self.last = f"{request.method} {request.rel_url} {code}"
            text = json.dumps(value).encode()
        return web.Response(body=text, status=code, headers={"Content-Type": "application/json"})
