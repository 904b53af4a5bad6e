"""A process that plays the API servers of many members: as much of one as a hub asks for, and as quick as it gets.

The stand-in of the suite does all that server-side apply is, and takes tens of milliseconds for it: what would be
measured is the stand-in. Here each ChronikCluster is Ready with what was applied last, at once.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from typing import Any, Self

from aiohttp import web

STORE: web.AppKey[dict[str, Any]] = web.AppKey("store", dict)
WATCHES: web.AppKey[dict[str, list[asyncio.Queue[Any]]]] = web.AppKey("watches", dict)
WRITES: web.AppKey[list[Any]] = web.AppKey("writes", list)


def fields(value: Any) -> dict[str, Any]:
    """Return what a manager owns that has applied a value: maps field by field, all else whole."""
    return {f"f:{key}": fields(inner) for key, inner in value.items()} if isinstance(value, dict) else {}


async def watched(request: web.Request) -> web.StreamResponse:
    """Answer a watch of one object: what is there, and then whatever is written."""
    path = f"{request.path}/{request.query['fieldSelector'].partition('=')[2]}"
    queue: asyncio.Queue[Any] = asyncio.Queue()
    request.app[WATCHES].setdefault(path, []).append(queue)
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    if path in request.app[STORE]:
        queue.put_nowait({"type": "ADDED", "object": request.app[STORE][path]})
    while True:
        await answer.write(json.dumps(await queue.get()).encode() + b"\n")


async def read(request: web.Request) -> web.StreamResponse:
    """Answer a GET."""
    if request.query.get("watch") == "true":
        return await watched(request)
    found = request.app[STORE].get(request.path)
    if found is None:
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound"}
        named = {"name": request.path.rpartition("/")[2], "kind": "chronikclusters", "group": "chronik.stream"}
        return web.json_response(body | {"code": 404, "message": "not found", "details": named}, status=404)
    return web.json_response(found)


async def write(request: web.Request) -> web.Response:
    """Answer an apply: keep it, and be Ready with it."""
    sent = json.loads(await request.read())
    known = request.app[STORE].get(request.path)
    generation = known["metadata"]["generation"] + 1 if known else 1
    request.app[WRITES].append((request.path, request.query.get("fieldManager", ""), time.monotonic()))
    owned = {"f:metadata": {"f:annotations": fields(sent["metadata"]["annotations"])}, "f:spec": fields(sent["spec"])}
    entry = {
        "manager": request.query["fieldManager"],
        "operation": "Apply",
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
    }
    metadata = {"uid": request.path, "generation": generation, "resourceVersion": str(generation)}
    ready = {"type": "Ready", "status": "True", "observedGeneration": generation, "reason": "Played", "message": ""}
    status = {"observedGeneration": generation, "phase": "Running", "conditions": [ready]}
    live = {**sent, "metadata": {**sent["metadata"], **metadata, "managedFields": [entry]}, "status": status}
    request.app[STORE][request.path] = live
    for queue in request.app[WATCHES].get(request.path, ()):
        queue.put_nowait({"type": "MODIFIED", "object": live})
    return web.json_response(live)


async def written(request: web.Request) -> web.Response:
    """Return all that was written: path, field manager and time of each."""
    return web.json_response(request.app[WRITES])


def main() -> None:
    """Serve on a free port, which is printed first."""
    app = web.Application()
    app[STORE], app[WRITES], app[WATCHES] = {}, [], {}
    app.add_routes(
        [web.get("/written", written), web.get("/apis/{tail:.*}", read), web.patch("/apis/{tail:.*}", write)]
    )
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


class PlayedMembers:
    """The process, while the block runs."""

    ca = None
    token = "member"

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, __file__, str(self._port)])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.writes()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError("it does not answer")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def writes(self) -> list[tuple[str, str, float]]:
        """Return all that was written: path, field manager, and time by the monotonic clock."""
        with urllib.request.urlopen(f"{self.url}/written") as answer:
            return [tuple(each) for each in json.load(answer)]


if __name__ == "__main__":
    main()
